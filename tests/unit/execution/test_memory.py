"""Taking a task for the outcome of a createTask whose answer was lost, wherever receipts are kept."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider import defaults
from seedance_provider.api.records import TaskRecord, TaskStatus
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Outcome, Receipt, Stage, decide
from seedance_provider.execution.stores import Facts
from tests.support.airflow import StateStore
from tests.support.stores import bare_ledger

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = Receipt("f" * 64, max_tries=1, try_number=1, retries=1)


@pytest.fixture(params=["ledger", "key", "task state"])
def open_receipts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Receipts]:
    """Opens the receipt of one video, as each process does; by ``run`` for another task instance of the same key."""
    state = StateStore()
    if request.param != "task state":
        bare_ledger(monkeypatch)

    def opened(run: str = "monday") -> Receipts:
        ti = SimpleNamespace(dag_id="promo", run_id=run, task_id="video", map_index=-1)
        context: Any = {"ti": ti, "task_state_store": state}
        key = "hero" if request.param == "key" else None
        return Receipts.of(context, durable=True, facts=Facts("seedance-20", "seedance_default", key))

    return opened


def intend(receipts: Receipts, unknown: int = 1) -> Receipts:
    """Leave behind what a worker does that dies during createTask."""
    receipts.find()
    receipts.begin()
    receipts.save(replace(WANTED, unknown=unknown))
    return receipts


def record(seedance_task_id: str = "task_1", age: float = 0.0, model: str | None = "seedance-20") -> TaskRecord:
    created = int((time.time() - age) * 1000)
    return TaskRecord(seedance_task_id=seedance_task_id, status=TaskStatus.GENERATING, model=model, create_time=created)


def test_a_retry_continues_with_the_task_that_was_adopted(open_receipts: Callable[..., Receipts]) -> None:
    intend(open_receipts())
    adopted = record()
    assert open_receipts().adopt(adopted).refusal == ""
    saved = open_receipts().load()
    assert saved is not None
    assert (saved.stage, saved.seedance_task_id, saved.unknown) == (Stage.SUBMITTED, "task_1", 0)
    assert saved.submitted_at == (adopted.create_time or 0) / 1000
    assert "task_1" in decide(saved, replace(WANTED, try_number=2)).reason


def test_to_adopt_the_same_task_twice_changes_nothing(open_receipts: Callable[..., Receipts]) -> None:
    intend(open_receipts())
    first = open_receipts().adopt(record())
    assert open_receipts().adopt(record()) == first


@pytest.mark.parametrize("age", [0.0, defaults.CLOCK_SKEW_SECONDS - 60], ids=["later", "by another clock"])
@pytest.mark.parametrize("model", ["seedance-20", None, "internal-id-7"])
def test_what_a_record_does_not_tell_is_no_reason_to_refuse_it(
    open_receipts: Callable[..., Receipts], age: float, model: str | None
) -> None:
    intend(open_receipts())
    assert open_receipts().adopt(record(age=age, model=model)).refusal == ""


@pytest.mark.parametrize(
    ("other", "named"),
    [(record(age=3600), "task_1 was created at"), (record(model="seedance2-fast"), "seedance2-fast")],
    ids=["an older one", "one of another model"],
)
def test_a_task_that_cannot_be_the_one_is_refused(
    open_receipts: Callable[..., Receipts], other: TaskRecord, named: str
) -> None:
    intend(open_receipts())
    assert named in open_receipts().adopt(other).refusal
    saved = open_receipts().load()
    assert saved is not None
    assert saved.stage is Stage.INTENT


def test_the_video_of_an_earlier_createtask_counts_too(
    open_receipts: Callable[..., Receipts], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as past:
        past.setattr("seedance_provider.execution.memory.time.time", lambda now=time.time: now() - 3600)  # type: ignore[misc]
        intend(open_receipts())
    retry = intend(open_receipts(), unknown=2)
    retry.begin()  # after a wait for a slot
    retry.save(replace(WANTED, unknown=3))
    assert open_receipts().adopt(record(age=3590)).refusal == ""


def test_a_submission_whose_predecessor_was_refused_has_a_time_of_its_own(
    open_receipts: Callable[..., Receipts], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as past:
        past.setattr("seedance_provider.execution.memory.time.time", lambda now=time.time: now() - 3600)  # type: ignore[misc]
        intend(open_receipts()).save(replace(WANTED, stage=Stage.REFUSED))
    intend(open_receipts())
    assert open_receipts().adopt(record(age=3590)).refusal != ""


@pytest.mark.parametrize(
    ("saved", "named"),
    [
        (replace(WANTED, stage=Stage.REFUSED), "refused"),
        (WANTED.submitted("task_other", 1.5), "task_other"),
        (replace(WANTED.submitted("task_other", 1.5), stage=Stage.ENDED, outcome=Outcome.FAIL), "fail"),
        (replace(WANTED.submitted("task_other", 1.5), stage=Stage.DELIVERED), "delivered"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_receipt_whose_outcome_is_known_is_left_alone(
    open_receipts: Callable[..., Receipts], saved: Receipt, named: str
) -> None:
    intend(open_receipts()).save(saved)
    adoption = open_receipts().adopt(record())
    assert named in adoption.refusal
    assert open_receipts().load() == saved == adoption.receipt


def test_where_nothing_was_wanted_nothing_is_adopted(open_receipts: Callable[..., Receipts]) -> None:
    assert open_receipts().adopt(record()).receipt is None


@pytest.mark.parametrize("open_receipts", ["ledger", "key"], indirect=True)
def test_the_ledger_still_tells_who_wanted_it(open_receipts: Callable[..., Receipts]) -> None:
    intend(open_receipts())
    (told,) = SeedanceLedger().receipts()
    someone_else = open_receipts("tuesday") if told.key else open_receipts()
    someone_else.adopt(record())
    (told,) = SeedanceLedger().receipts()
    assert (told.run_id, told.status, told.seedance_task_id) == ("monday", "submitted", "task_1")


@pytest.mark.parametrize("open_receipts", ["ledger", "key"], indirect=True)
def test_a_resend_that_is_noted_at_the_same_moment_does_not_undo_it(open_receipts: Callable[..., Receipts]) -> None:
    sender = intend(open_receipts())
    open_receipts().adopt(record())
    sender.save(replace(WANTED, unknown=2))
    sender.note(replace(WANTED, unknown=2, told=True))
    saved = open_receipts().load()
    assert saved is not None
    assert saved.seedance_task_id == "task_1"


@pytest.mark.parametrize("amount", ["1e999999999", "1e-999999999", "-1e50", "NaN", "Infinity", "x", None])
def test_an_amount_that_no_sum_can_take_is_as_if_it_were_not_there(amount: Any) -> None:
    facts = Facts.from_json({"credits": amount, "estimate": [amount, amount, "2026-09"], "limits": {"day": amount}})
    assert (facts.credits, facts.estimate, facts.limits) == (None, None, {})
