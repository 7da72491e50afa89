"""Create and sensor: the sensor, which knows only the id, tells the ledger how the video ended and what it cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.exceptions import (
    SeedanceOutputMissingError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
)
from seedance_provider.execution.ledger import LedgerReceipt, SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from tests.support.airflow import MODES, FakeTaskInstance, TaskLog, hurry, run_sensor
from tests.support.crashes import CrashError, crash
from tests.support.stores import BareStore, bare_ledger
from tests.support.tries import FOX, FOX_CREDITS, Instance

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator


@pytest.fixture
def seedance_emulator_settings() -> dict[str, Any]:
    return {"concurrency_limit": None}


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    hurry(monkeypatch)
    return bare_ledger(monkeypatch)


def creating(run: str = "monday", **arguments: Any) -> Instance:
    """A task instance that only creates."""
    budget = {"budget": "promo", "budget_credits": 1000}
    return Instance(run, wait_for_completion=False, **budget | arguments)


def collect(seedance_task_id: str, mode: str = "deferred", **arguments: Any) -> list[str]:
    return run_sensor(mode, seedance_task_id=seedance_task_id, poll_interval=0.05, **arguments)


def told() -> LedgerReceipt:
    (receipt,) = SeedanceLedger().receipts()
    return receipt


def spent() -> Decimal:
    return SeedanceLedger().spent("promo")


@pytest.mark.parametrize("mode", MODES)
def test_a_success_is_told_with_what_it_cost(seedance_emulator: Emulator, mode: str) -> None:
    collect(creating().run(), mode)
    assert (told().status, told().credits, told().task_id) == ("delivered", FOX_CREDITS, "task")
    assert told().credits == seedance_emulator.bill()["credits_spent"]


def test_the_paths_of_stored_outputs_are_told(seedance_emulator: Emulator, tmp_path: Path) -> None:
    stored = collect(creating().run(), output_path=f"{tmp_path}/")
    assert list(told().paths) == stored
    assert all(Path(path).stat().st_size for path in stored)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_gives_the_reservation_back_and_tells_why(seedance_emulator: Emulator, mode: str) -> None:
    seedance_emulator.add_fault("fail", code="2038", message="Blocked")
    seedance_task_id = creating().run()
    assert spent() == FOX_CREDITS
    with pytest.raises(SeedanceTaskFailedError):
        collect(seedance_task_id, mode)
    assert (told().status, told().reason, told().counted_credits) == ("fail", "Blocked", 0)
    assert spent() == 0 == seedance_emulator.bill()["credits_spent"]
    assert SeedanceLedger().spend() == []


def test_what_was_charged_takes_the_place_of_what_was_reserved(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TaskLog(monkeypatch, SeedanceTaskSensor)
    seedance_emulator.add_fault("settle", credits=150, seconds=0)
    collect(creating().run())
    assert spent() == told().credits == 150
    assert any("150 credits were charged" in line for line in log.warnings)


def test_a_success_without_output_is_charged(seedance_emulator: Emulator) -> None:
    seedance_task_id = creating(inputs=FOX | {"prompt": "a fox [[null_output]]"}).run()
    with pytest.raises(SeedanceOutputMissingError):
        collect(seedance_task_id)
    assert spent() == FOX_CREDITS
    assert told().status == "delivered"


def test_a_retry_of_the_sensor_writes_nothing_again(seedance_emulator: Emulator, store: BareStore) -> None:
    seedance_task_id = creating().run()
    first = collect(seedance_task_id)
    written = list(store.store)
    assert collect(seedance_task_id) == first
    assert list(store.store) == written


def test_the_end_of_a_former_video_is_not_told_of_a_newer_one(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="2038", message="Blocked")
    instance = creating()
    former = instance.run()
    instance.clear()
    with pytest.raises(SeedanceTaskFailedError):
        collect(former)
    assert spent() == FOX_CREDITS, "of the newer one alone"
    assert [receipt.status for receipt in SeedanceLedger().receipts()] == ["delivered", "delivered"]


def test_the_intent_of_a_clear_is_not_hidden_by_the_end_of_the_former_video(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = creating()
    former = instance.run()
    find = Receipts.find

    def interrupted(receipts: Receipts) -> Any:
        found = find(receipts)
        monkeypatch.setattr(Receipts, "find", find)
        with monkeypatch.context() as patch:
            crash(patch, SeedanceHook, "create_task", "after")
            with pytest.raises(CrashError):
                instance.clear()
        return found

    monkeypatch.setattr(Receipts, "find", interrupted)
    collect(former)
    assert seedance_emulator.bill()["tasks_created"] == 2
    with pytest.raises(SeedanceSubmitUncertainError):
        instance.run(submit_policy="safe")
    assert seedance_emulator.bill()["tasks_created"] == 2


def test_a_create_that_died_after_the_id_was_stored_is_found_after_its_retry(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = creating()
    with monkeypatch.context() as patch:
        crash(patch, Receipts, "point", "before")
        with pytest.raises(CrashError):
            instance.run()
    collect(instance.run())
    assert told().credits == FOX_CREDITS
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_key_whose_video_failed_is_free_for_another(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="2038", message="Blocked")
    first = creating(idempotency_key="hero").run()
    assert creating("tuesday", idempotency_key="hero").run() == first
    with pytest.raises(SeedanceTaskFailedError):
        collect(first)
    assert creating("wednesday", idempotency_key="hero").run() != first
    assert seedance_emulator.bill()["tasks_created"] == 2
    assert spent() == FOX_CREDITS


def test_what_another_task_of_the_key_has_stored_stays_told(seedance_emulator: Emulator, tmp_path: Path) -> None:
    created = creating(idempotency_key="hero").run()
    stored = Instance("tuesday", idempotency_key="hero", output_path=f"{tmp_path}/").run()
    collect(created)
    by_run = {receipt.run_id: receipt for receipt in SeedanceLedger().receipts()}
    assert list(by_run["tuesday"].paths) == stored
    assert by_run["tuesday"].credits == FOX_CREDITS


@pytest.mark.parametrize("broken", ["list", "read", "write"])
def test_a_ledger_that_fails_does_not_fail_the_sensor(
    seedance_emulator: Emulator, store: BareStore, broken: str
) -> None:
    seedance_task_id = creating().run()
    store.broken = {broken}
    assert collect(seedance_task_id)


def test_a_pointer_that_cannot_be_written_does_not_fail_the_create(
    seedance_emulator: Emulator, store: BareStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedance_provider.execution.stores.LedgerStore.point", denied)
    assert collect(creating().run())
    assert told().credits is None


def denied(*_: Any) -> None:
    raise PermissionError("denied")


def test_it_costs_two_lists_two_reads_and_a_write_and_a_list_where_there_is_nothing_to_tell(
    seedance_emulator: Emulator, store: BareStore
) -> None:
    created, generated = creating(budget=None, budget_credits=None).run(), Instance("tuesday")
    generated.run()
    store.calls.clear()
    collect(created)
    assert sorted(store.calls) == ["list", "list", "read", "read", "write"]
    store.calls.clear()
    collect(generated.ti.xcoms["seedance_task_id"])
    assert store.calls == ["list"]


def test_what_leads_to_a_receipt_is_pruned_like_it(seedance_emulator: Emulator, store: BareStore) -> None:
    collect(creating().run())
    assert any("/v1/id/" in path for path in store.store)
    SeedanceLedger().prune(timedelta(seconds=-5))
    assert not store.store


def test_without_a_ledger_nothing_is_told(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
    ti = FakeTaskInstance()
    assert run_sensor("deferred", ti, seedance_task_id=creating(budget=None, budget_credits=None).run())
    assert "seedance_task" in ti.xcoms
