"""One idempotency key is one video: whoever asks by it, whenever, and on stores where nothing is atomic."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.exceptions import (
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInsufficientCreditsError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
)
from seedance_provider.execution import keys
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Stage
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from seedance_provider.triggers.ledger import SeedanceLedgerTrigger
from tests.support.airflow import TaskLog, fire, hurry
from tests.support.crashes import CrashError, crash
from tests.support.stores import BareStore, bare_ledger, bare_store
from tests.support.tries import FOX, Instance

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

TRANSIENT = "Service temporarily unavailable. Please try again later."
KEY = "promo/2026-11-24/7"


@pytest.fixture
def seedance_emulator_settings() -> dict[str, Any]:
    return {"concurrency_limit": None}


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "LEDGER_POLL_INTERVAL", 0.1)
    return bare_ledger(monkeypatch)


def asking(run: str = "monday", key: str = KEY, **arguments: Any) -> Instance:
    return Instance(run, idempotency_key=key, **arguments)


def die_after_the_intent(monkeypatch: pytest.MonkeyPatch, instance: Instance) -> None:
    """Make a try die with its intent stored; the next one goes through."""
    with monkeypatch.context() as patch:
        crash(patch, Receipts, "save", "after")
        with pytest.raises(CrashError):
            instance.run()


# The same video.


def test_another_run_gets_the_same_video(seedance_emulator: Emulator) -> None:
    assert asking("monday").run() == asking("tuesday").run()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_other_keys_are_other_videos(seedance_emulator: Emulator) -> None:
    assert asking(key="a").run() != asking(key="b").run()
    assert seedance_emulator.bill()["tasks_created"] == 2


def test_a_clear_of_a_success_gets_the_same_video(seedance_emulator: Emulator) -> None:
    instance = asking()
    assert instance.run() == instance.clear()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_map_whose_positions_moved_gets_the_same_videos(seedance_emulator: Emulator) -> None:
    first = [asking(key=f"item {number}", map_index=number).run() for number in range(3)]
    moved = [asking(key=f"item {number}", map_index=2 - number).run() for number in range(3)]
    assert first == moved
    assert seedance_emulator.bill()["tasks_created"] == 3


def test_a_video_of_another_run_that_still_runs_is_waited_for(seedance_emulator: Emulator) -> None:
    created = asking("monday", wait_for_completion=False).run()
    urls = asking("tuesday").run()
    assert created in urls[0]
    assert seedance_emulator.bill()["tasks_created"] == 1


# Another video.


def test_a_key_whose_video_failed_can_be_used_again(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="2038", message="Blocked")
    with pytest.raises(SeedanceTaskFailedError):
        asking("monday").run()
    assert asking("tuesday").run()
    assert seedance_emulator.bill()["tasks_created"] == 2


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_failure_of_anothers_video_is_submitted_again_only_where_resubmits_allow_it(
    seedance_emulator: Emulator, deferrable: bool
) -> None:
    seedance_emulator.add_fault("fail", code="1001", message=TRANSIENT)
    asking("monday", wait_for_completion=False).run()
    with pytest.raises(SeedanceTaskFailedError):
        asking("tuesday", deferrable=deferrable, retries=0).run()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_key_whose_video_the_vendor_has_forgotten_is_told_how_to_get_a_new_one(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking("monday").run()
    seedance_emulator.add_fault("not_found", on="recordInfo", times=None)
    task_log = TaskLog(monkeypatch, SeedanceGenerateVideoOperator)
    with pytest.raises(SeedanceTaskNotFoundError):
        asking("tuesday").run()
    assert any(f"forget {KEY}" in line for line in task_log.warnings)
    assert not any("will be billed" in line for line in task_log.lines)


def test_a_key_whose_own_video_is_not_found_is_not_told_to_forget_it(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seedance_emulator.add_fault("not_found", on="recordInfo", times=None)
    task_log = TaskLog(monkeypatch, SeedanceGenerateVideoOperator)
    with pytest.raises(SeedanceTaskNotFoundError):
        asking().run()
    assert any("continues with it, free" in line for line in task_log.warnings)
    assert not any(f"forget {KEY}" in line for line in task_log.lines)


def test_a_key_whose_request_was_refused_can_be_used_again(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", status=402)
    with pytest.raises(SeedanceInsufficientCreditsError):
        asking("monday").run()
    assert asking("tuesday").run()
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.parametrize("change", [{"inputs": FOX | {"prompt": "a cat"}}, {"model": "seedance-20-fast"}])
def test_a_key_with_other_inputs_is_an_error_that_says_how_to_go_on(
    seedance_emulator: Emulator, change: dict[str, Any]
) -> None:
    asking("monday").run()
    with pytest.raises(SeedanceConfigurationError, match=f"seedance[a-z_]* forget {KEY}") as raised:
        asking("tuesday", **{"validation": "warn", **change}).run()
    assert not raised.value.retryable
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_key_whose_video_failed_can_be_used_with_other_inputs(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="2038", message="Blocked")
    instance = asking()
    with pytest.raises(SeedanceTaskFailedError):
        instance.run()
    assert instance.clear(inputs=FOX | {"prompt": "a cat"})


def test_a_forgotten_key_is_a_new_video(seedance_emulator: Emulator) -> None:
    instance = asking()
    first = instance.run()
    SeedanceLedger().forget(KEY)
    assert instance.clear() != first
    assert seedance_emulator.bill()["tasks_created"] == 2


def test_a_transient_failure_that_two_saw_is_submitted_again_once(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="1001", message=TRANSIENT)

    def ask(run: str) -> Any:
        return asking(run, resubmits=1).run()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, ("monday", "tuesday"))
    assert first == second
    assert seedance_emulator.bill()["tasks_created"] == 2


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_an_error(seedance_emulator: Emulator, key: str) -> None:
    with pytest.raises(SeedanceConfigurationError, match="idempotency_key"):
        asking(key=key).run()
    assert seedance_emulator.bill()["tasks_created"] == 0


def test_a_key_without_a_ledger_sends_nothing(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
    with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
        asking().run()
    assert seedance_emulator.bill()["tasks_created"] == 0


# At the same moment.


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
def test_of_twenty_who_ask_at_once_one_submits(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    url, _ = bare_store(0.05)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", url)

    def ask(number: int) -> Any:
        return asking("monday", map_index=number, deferrable=deferrable).run()

    with ThreadPoolExecutor(20) as pool:
        urls = list(pool.map(ask, range(20)))
    assert seedance_emulator.bill()["tasks_created"] == len(seedance_emulator.requests("createTask")) == 1
    assert all(each == urls[0] for each in urls)


def intend(run: str, age: float = 0.0, **members: Any) -> None:
    """What another task leaves behind that has not got an answer."""
    other = asking(run)
    other.ti.try_number = 1
    job = other.operator()._job({"ti": other.ti})  # type: ignore[typeddict-item]
    job.receipts.find()
    job.receipts.begin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seedance_provider.execution.stores.now_ms", lambda: int((time.time() - age) * 1000))
        job.receipts.save(replace(job.wanted, unknown=1, **members))


def test_who_finds_another_submitting_waits_deferred_for_the_outcome(seedance_emulator: Emulator) -> None:
    intend("monday")
    later = asking("tuesday")
    with pytest.raises(TaskDeferred) as deferral:
        later.operator().execute({"ti": later.ti})  # type: ignore[typeddict-item]
    trigger = deferral.value.trigger
    assert isinstance(trigger, SeedanceLedgerTrigger)
    assert trigger.deadline == pytest.approx(time.time() + defaults.INTENT_SECONDS, abs=5)
    monday = asking("monday").operator()._job({"ti": asking("monday").ti})  # type: ignore[typeddict-item]
    monday.receipts.find()
    monday.receipts.save(monday.wanted.submitted("task_1", time.time()))
    event = fire(trigger)
    with pytest.raises(TaskDeferred) as waiting:
        later.operator().execute_complete({"ti": later.ti}, event)  # type: ignore[typeddict-item]
    assert waiting.value.trigger.seedance_task_id == "task_1"
    assert seedance_emulator.bill()["tasks_created"] == 0


def test_an_intent_of_another_that_is_too_old_is_of_unknown_outcome(seedance_emulator: Emulator) -> None:
    intend("monday", age=defaults.INTENT_SECONDS + 1)
    with pytest.raises(SeedanceSubmitUncertainError):
        asking("tuesday", submit_policy="safe").run()
    assert seedance_emulator.bill()["tasks_created"] == 0
    assert asking("wednesday", submit_policy="vendor").run()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_after_manual_review_a_clear_submits(seedance_emulator: Emulator) -> None:
    intend("monday", age=defaults.INTENT_SECONDS + 1)
    instance = asking("tuesday", submit_policy="safe")
    with pytest.raises(SeedanceSubmitUncertainError):
        instance.run()
    assert instance.clear()
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_an_outcome_that_was_said_to_be_unknown_is_not_waited_for(seedance_emulator: Emulator) -> None:
    intend("monday", told=True)
    with pytest.raises(SeedanceSubmitUncertainError):
        asking("tuesday", submit_policy="safe").run()
    assert seedance_emulator.bill()["tasks_created"] == 0


def test_ones_own_intent_is_not_waited_for(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = asking()
    die_after_the_intent(monkeypatch, instance)
    assert instance.run()
    assert seedance_emulator.bill()["tasks_created"] == 1
    assert instance.deferrals[0].trigger.__class__.__name__ == "SeedanceTaskTrigger"


def test_a_withdrawal_that_cannot_be_stored_sends_nothing(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, store: BareStore
) -> None:
    def contested(_: Any) -> bool:
        store.broken = {"write", "list"}
        return True

    monkeypatch.setattr(keys, "is_contested", contested)
    with pytest.raises(SeedanceError) as raised:
        asking().run()
    assert raised.value.retryable
    assert seedance_emulator.bill()["tasks_created"] == 0


def test_a_list_that_fails_after_the_intent_sends_nothing(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Any) -> bool:
        raise SeedanceError("The ledger cannot be listed", charged="no")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "is_contested", failing)
        with pytest.raises(SeedanceError, match="listed"):
            asking("monday").run()
    assert seedance_emulator.bill()["tasks_created"] == 0
    assert [receipt.status for receipt in SeedanceLedger().receipts()] == [Stage.REFUSED]
    assert asking("tuesday").run()


def test_a_key_costs_one_list_more(seedance_emulator: Emulator, store: BareStore) -> None:
    assert asking().run(to_the_end=False)
    assert store.calls == ["list", "write", "list", "write"]
    assert seedance_emulator.bill()["tasks_created"] == 1
