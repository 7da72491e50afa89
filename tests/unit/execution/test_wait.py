"""Waiting as the operators and the sensor use it: one poll, a deferral, its event, and a deferral without one."""

from __future__ import annotations

import time
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.api.records import TaskFailure, TaskOutput, TaskRecord, TaskStatus
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceServerError,
    SeedanceTaskFailedError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.execution import wait
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Receipt, Stage
from seedance_provider.execution.stores import TaskStateStore
from seedance_provider.execution.wait import Wait
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from tests.support.airflow import FakeTaskInstance, StateStore, hurry

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedance_provider.testing import Emulator

RECORD = TaskRecord(
    seedance_task_id="task_1",
    status=TaskStatus.SUCCESS,
    credits_used=Decimal("199.5"),
    outputs=(TaskOutput(url="https://cdn.example.com/1.mp4?sig=x"),),
)
FAILED = SeedanceTaskFailedError(
    "no",
    code="1001",
    message="Service temporarily unavailable.",
    record=TaskRecord(
        seedance_task_id="task_1",
        status=TaskStatus.FAIL,
        failure=TaskFailure(code="1001", message="Service temporarily unavailable."),
    ),
    seedance_task_id="task_1",
)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def wait_for(task_id: str, **changes: Any) -> Wait:
    arguments = {"poll_interval": 7, "started_at": time.time(), "timeout": 60.0}
    return Wait(SeedanceHook(), task_id, **arguments | changes)


def create(prompt: str) -> str:
    return SeedanceHook().create_task("seedance-20", {"prompt": prompt})


def job(**changes: Any) -> Any:
    members: dict[str, Any] = {
        "log": SeedanceHook().log,
        "task_id": "video",
        "state": ResumeState(),
        "receipts": Receipts(None),
        "context": {"ti": FakeTaskInstance()},
    }
    return SimpleNamespace(**members | changes)


def remembering(receipt: Receipt | None, broken: str = "") -> Receipts:
    return Receipts(TaskStateStore(StateStore(receipt and receipt.to_json(), broken)))


# One poll.


def test_the_deadline_counts_from_the_start_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait_for("task_1", started_at=100.0, timeout=30.0).deadline == 130.0
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", "600")
    assert wait_for("task_1", started_at=100.0, timeout=None).deadline == 700.0
    assert wait_for("task_1", started_at=100.0, timeout=1800.0).deadline == 1900.0


def test_a_poll_of_a_running_task_says_how_long_to_pause(seedance_emulator: Emulator) -> None:
    record, watch = wait_for(create("[[waiting:60]]")).poll()
    assert record is None
    assert (watch.pause, watch.last_status, watch.alive) == (7, "waiting", True)
    assert len(seedance_emulator.requests("recordInfo")) == 1


def test_a_poll_of_a_task_that_has_ended_gives_its_record(seedance_emulator: Emulator) -> None:
    record, _ = wait_for("demo_task_t2v_success").poll()
    assert record is not None
    assert record.urls
    with pytest.raises(SeedanceTaskFailedError):
        wait_for("demo_task_fail_server_error").poll()


def test_on_the_worker_it_blocks_until_the_end(seedance_emulator: Emulator) -> None:
    task_id = create("[[generating:0.2]]")
    assert wait_for(task_id, poll_interval=0.05).block().seedance_task_id == task_id


@pytest.mark.parametrize("timeout", [1800, 60])
def test_a_timeout_that_is_written_out_wins_over_the_configuration(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", "600")

    def seconds(**arguments: Any) -> float:
        operator = SeedanceGenerateVideoOperator(task_id="video", inputs={"prompt": "[[waiting:60]]"}, **arguments)
        with pytest.raises(TaskDeferred) as caught:
            operator.execute({"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
        trigger: Any = caught.value.trigger
        waited: float = trigger.deadline - trigger.started_at
        return waited

    assert seconds() == pytest.approx(600, abs=5)
    assert seconds(timeout=timeout) == pytest.approx(timeout, abs=5)


# A deferral, and its event.


def test_a_deferral_carries_all_that_is_known(seedance_emulator: Emulator) -> None:
    state = ResumeState(resubmitted=1)
    waiting = wait_for(create("[[waiting:60]]"), started_at=time.time() - 10)
    _, watch = waiting.poll()
    with pytest.raises(TaskDeferred) as caught:
        waiting.defer(watch, state)
    _, arguments = caught.value.trigger.serialize()
    assert arguments == {
        "seedance_conn_id": "seedance_default",
        "seedance_task_id": waiting.seedance_task_id,
        "poll_interval": 7,
        "deadline": waiting.deadline,
        "started_at": waiting.started_at,
        "last_status": "waiting",
        "alive": True,
        "state": state.to_json(),
        "deferred_at": pytest.approx(time.time(), abs=5),
        "urgent": False,
    }
    assert caught.value.method_name == "execute_complete"
    assert caught.value.timeout is not None
    assert caught.value.timeout.total_seconds() == pytest.approx(50 + defaults.BACKSTOP_SECONDS, abs=5)


def test_the_event_gives_back_the_record_or_raises_the_error() -> None:
    def arrived(event: TaskEvent) -> TaskEvent:
        return TaskEvent.from_json(event.to_json())

    assert wait.outcome(arrived(TaskEvent("success", "task_1", record=RECORD))) == RECORD
    with pytest.raises(SeedanceTaskFailedError) as caught:
        wait.outcome(arrived(TaskEvent("error", "task_1", error=FAILED)))
    assert vars(caught.value) == vars(FAILED)


@pytest.mark.parametrize("event", [None, 7, [], {"status": "success"}, {"status": "success", "record": {}}, {"x": 1}])
def test_an_event_that_cannot_be_read_is_an_error_of_ours(event: Any) -> None:
    with pytest.raises(SeedanceError):
        wait.outcome(TaskEvent.from_json(event))


# Submitting again.


def test_a_resubmission_starts_with_a_slot_wait_of_its_own() -> None:
    state = ResumeState(slot_since=5.0, refused=True, uploads={"a.png": "https://up/1"}, uploaded_at=4.0)
    assert wait.resubmitting(job(state=state), FAILED, 1) == ResumeState(
        resubmitted=1, uploads={"a.png": "https://up/1"}, uploaded_at=4.0
    )


@pytest.mark.parametrize(("resubmitted", "resubmits"), [(0, 0), (1, 1), (2, 1)])
def test_no_more_is_submitted_again_than_was_allowed(resubmitted: int, resubmits: int) -> None:
    with pytest.raises(SeedanceTaskFailedError):
        wait.resubmitting(job(state=ResumeState(resubmitted=resubmitted)), FAILED, resubmits)


# A deferral that Airflow ended itself.


@pytest.mark.parametrize(
    ("receipt", "known"),
    [
        (Receipt("f", 0, 1).submitted("task_1", 5.0), "task_1"),
        (Receipt("f", 0, 1), None),
        (Receipt("f", 0, 1, stage=Stage.REFUSED), None),
    ],
    ids=["submitted", "intent", "refused"],
)
def test_the_receipt_tells_what_was_waited_for(receipt: Receipt, known: str | None) -> None:
    assert wait.known_task_id(job(receipts=remembering(receipt))) == known


@pytest.mark.parametrize(
    ("pull", "known"),
    [(lambda: "task_2", "task_2"), (lambda: None, None), (lambda: ["task_2"], None)],
    ids=["an id", "nothing", "a list"],
)
def test_without_a_receipt_xcom_tells(pull: Callable[[], Any], known: str | None) -> None:
    ti = SimpleNamespace(xcom_pull=lambda *, key, **_: pull() if key == "seedance_task_id" else None)
    assert wait.known_task_id(job(context={"ti": ti})) == known
    assert wait.known_task_id(job(context={"ti": ti}, receipts=remembering(None))) == known


def test_a_store_that_fails_leaves_it_unknown() -> None:
    assert wait.known_task_id(job(receipts=remembering(None, broken="get"))) is None


def test_the_last_poll_delivers_a_video_that_has_ended(seedance_emulator: Emulator) -> None:
    assert wait.last_poll(SeedanceHook(), "demo_task_t2v_success", "Trigger timeout").urls
    with pytest.raises(SeedanceTaskFailedError):
        wait.last_poll(SeedanceHook(), "demo_task_fail_server_error", "Trigger timeout")
    assert len(seedance_emulator.requests("recordInfo")) == 2


@pytest.mark.parametrize(
    ("reason", "kind"), [("Trigger timeout", SeedanceTaskTimeoutError), ("Trigger failure", SeedanceError)]
)
@pytest.mark.parametrize("prompt", ["[[waiting:60]]", "[[null_output]]"])
def test_the_last_poll_of_any_other_task_names_the_call_to_collect_it(
    seedance_emulator: Emulator, prompt: str, reason: str, kind: type[SeedanceError]
) -> None:
    task_id = create(prompt)
    with pytest.raises(SeedanceError) as caught:
        wait.last_poll(SeedanceHook(), task_id, reason)
    assert type(caught.value) is kind
    assert (caught.value.seedance_task_id, caught.value.charged) == (task_id, "yes")
    assert f"SeedanceTaskSensor(seedance_task_id={task_id!r})" in str(caught.value)


def test_a_last_poll_that_fails_is_tried_three_times_and_may_be_retried(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=500, times=None)
    with pytest.raises(SeedanceServerError) as caught:
        wait.last_poll(SeedanceHook(), "demo_task_t2v_success", "Trigger timeout")
    assert caught.value.retryable
    assert len(seedance_emulator.requests("recordInfo")) == 3
