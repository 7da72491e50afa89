"""A createTask whose answer was lost is one video: what was found in the vendor's list is told to the ledger."""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.cli.definition import make_parser
from seedance_provider.exceptions import SeedanceError, SeedanceSubmitUncertainError, SeedanceTaskFailedError
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.hooks.seedance import SeedanceHook
from tests.support.airflow import hurry
from tests.support.crashes import CrashError, crash
from tests.support.stores import BareStore, bare_ledger
from tests.support.tries import FOX, FOX_CREDITS, Instance

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

VIDEO = {"dag_id": "dag", "run_id": "monday", "task_id": "task"}


@pytest.fixture
def seedance_emulator_settings() -> dict[str, Any]:
    return {"concurrency_limit": None}


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    hurry(monkeypatch)
    return bare_ledger(monkeypatch)


def lose_the_answer(emulator: Emulator, instance: Instance) -> tuple[str, SeedanceError]:
    """The vendor's only task and the error of a try that was not told of it."""
    emulator.add_fault("reset", accept=True)
    with pytest.raises(SeedanceSubmitUncertainError) as raised:
        instance.run(submit_policy="safe")
    (created,) = emulator.bill()["tasks"]
    return created["taskId"], raised.value


@pytest.mark.parametrize(
    "who",
    [{}, {"map_index": 7}, {"run": "scheduled__2026-11-28T02:00:00+00:00"}, {"idempotency_key": "the hero's shot"}],
    ids=["a task", "a mapped task", "a run whose id needs quotes", "a key"],
)
@pytest.mark.parametrize("policy", ["safe", "vendor"])
def test_the_command_of_the_message_makes_a_clear_continue_with_the_video(
    seedance_emulator: Emulator, who: dict[str, Any], policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = Instance(**who)
    seedance_task_id, error = lose_the_answer(seedance_emulator, instance)
    command = re.search(r"(airflow seedance|python -m seedance_provider) (adopt .*)$", str(error))
    assert command is not None

    arguments = make_parser().parse_args(shlex.split(command[2].replace(" ID ", f" {seedance_task_id} ")))
    arguments.func(arguments)

    assert seedance_task_id in capsys.readouterr().out
    assert instance.clear(submit_policy=policy)
    assert seedance_emulator.bill()["tasks_created"] == 1
    (told,) = SeedanceLedger().receipts()
    assert (told.seedance_task_id, told.status, told.run_id) == (seedance_task_id, "delivered", instance.ti.run_id)


def test_an_answer_that_names_no_task_names_the_command_too(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("no_task_id")
    with pytest.raises(SeedanceSubmitUncertainError, match=r"without a usable taskId .* adopt ID --dag-id "):
        Instance().run()


def test_a_retry_after_a_crash_continues_with_it_too(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance()
    with monkeypatch.context() as patch:
        crash(patch, SeedanceHook, "create_task", "after")
        with pytest.raises(CrashError):
            instance.run()
    (created,) = seedance_emulator.bill()["tasks"]
    SeedanceLedger().adopt(created["taskId"], **VIDEO)
    instance.run()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_the_reservation_stands_until_the_end_is_known(seedance_emulator: Emulator) -> None:
    instance = Instance(budget="promo", budget_credits=1000)
    seedance_task_id, _ = lose_the_answer(seedance_emulator, instance)
    SeedanceLedger().adopt(seedance_task_id, **VIDEO)
    assert SeedanceLedger().spent("promo") == FOX_CREDITS
    instance.clear()
    assert SeedanceLedger().spent("promo") == FOX_CREDITS == seedance_emulator.bill()["credits_spent"]


def test_an_adopted_video_that_failed_is_submitted_again_and_holds_nothing_of_a_budget(
    seedance_emulator: Emulator,
) -> None:
    seedance_emulator.add_fault("fail", code="2038", message="Blocked")
    instance = Instance(budget="promo", budget_credits=1000)
    seedance_task_id, _ = lose_the_answer(seedance_emulator, instance)
    with pytest.raises(SeedanceTaskFailedError):
        SeedanceHook().wait_for_task(seedance_task_id, poll_interval=0.05)
    SeedanceLedger().adopt(seedance_task_id, **VIDEO)
    (told,) = SeedanceLedger().receipts()
    assert (told.status, told.reason, SeedanceLedger().spent("promo")) == ("fail", "Blocked", 0)
    instance.clear()
    assert seedance_emulator.bill()["tasks_created"] == 2
    assert SeedanceLedger().spent("promo") == FOX_CREDITS


@pytest.mark.parametrize("create_time", [-(10**15), 0, 10**15, 10**18, 10**30], ids=lambda value: f"{value:.0e}")
def test_a_task_with_an_odd_time_is_adopted_and_told_of(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, create_time: int
) -> None:
    instance = Instance()
    seedance_task_id, _ = lose_the_answer(seedance_emulator, instance)
    read = SeedanceHook.get_task
    with monkeypatch.context() as patch:
        patch.setattr(
            SeedanceHook, "get_task", lambda *args: read(*args).model_copy(update={"create_time": create_time})
        )
        SeedanceLedger().adopt(seedance_task_id, **VIDEO)
    (told,) = SeedanceLedger().receipts()
    assert told.submitted_at is not None
    assert abs(told.submitted_at.timestamp() - time.time()) < 600
    assert instance.clear()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_no_task_is_adopted_twice(seedance_emulator: Emulator) -> None:
    seedance_task_id, _ = lose_the_answer(seedance_emulator, Instance())
    other = Instance("tuesday")
    seedance_emulator.add_fault("reset")  # of this one no task came
    with pytest.raises(SeedanceSubmitUncertainError):
        other.run(submit_policy="safe")
    SeedanceLedger().adopt(seedance_task_id, **VIDEO)
    SeedanceLedger().adopt(seedance_task_id, **VIDEO)
    with pytest.raises(SeedanceError, match="monday"):
        SeedanceLedger().adopt(seedance_task_id, **VIDEO | {"run_id": "tuesday"})
    other.clear()
    assert seedance_emulator.bill()["tasks_created"] == 2


@pytest.mark.parametrize(
    ("which", "task", "named"),
    [
        (VIDEO | {"task_id": "other"}, "its own", "dag.other"),
        ({"key": "none"}, "its own", "none"),
        (VIDEO, "task_none", "task_none"),
        (VIDEO, "another model's", "seedance2-fast"),
    ],
    ids=["nobody wanted it", "nobody asked by this key", "there is no such task", "another model"],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    seedance_emulator: Emulator, store: BareStore, which: dict[str, Any], task: str, named: str
) -> None:
    own, _ = lose_the_answer(seedance_emulator, Instance())
    ids = {"its own": own, "another model's": SeedanceHook().create_task("seedance2-fast", FOX)}
    written = list(store.store)
    with pytest.raises(SeedanceError, match=named):
        SeedanceLedger().adopt(ids.get(task, task), **which)
    assert list(store.store) == written


def test_the_video_of_a_known_outcome_is_left_alone(seedance_emulator: Emulator) -> None:
    instance = Instance()
    instance.run(to_the_end=False)
    with pytest.raises(SeedanceError, match="is not adopted"):
        SeedanceLedger().adopt(SeedanceHook().create_task("seedance-20", FOX), **VIDEO)


@pytest.mark.usefixtures("seedance_emulator")
def test_without_a_ledger_the_sensor_is_advised(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
    seedance_task_id, error = lose_the_answer(seedance_emulator, Instance())
    assert "SeedanceTaskSensor(seedance_task_id=" in str(error)
    arguments = make_parser().parse_args(
        ["adopt", seedance_task_id, "--dag-id", "dag", "--run-id", "monday", "--task-id", "task"]
    )
    with pytest.raises(SystemExit, match=re.escape(f"SeedanceTaskSensor(seedance_task_id={seedance_task_id!r})")):
        arguments.func(arguments)
