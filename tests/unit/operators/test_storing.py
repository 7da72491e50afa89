"""Generate with ``output_path``: end and file are one task, and no failure to store pays for a second video."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceTransferError,
    SeedanceTransferRefusedError,
)
from seedance_provider.execution import results
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.storage import Transfer
from seedance_provider.hooks.output_files import Place
from tests.support.airflow import FakeTaskInstance, hurry, run_sensor
from tests.support.tries import Instance

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

in_both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "worker"])


class Killed(BaseException):
    """Stands for a worker that dies: nothing catches it."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeedanceLedger:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    return SeedanceLedger(f"file://{tmp_path}/ledger")


def created(emulator: Emulator) -> int:
    count: int = emulator.bill()["tasks_created"]
    return count


def status(ledger: SeedanceLedger) -> list[tuple[str, tuple[str, ...]]]:
    return [(receipt.status, receipt.paths) for receipt in ledger.receipts()]


@in_both_ways
def test_the_paths_are_returned_and_told_to_the_ledger(
    seedance_emulator: Emulator, ledger: SeedanceLedger, tmp_path: Path, deferrable: bool
) -> None:
    instance = Instance(output_path=f"{tmp_path}/clip.mp4", deferrable=deferrable)
    assert instance.run() == [f"{tmp_path}/clip.mp4"]
    assert status(ledger) == [("delivered", (f"{tmp_path}/clip.mp4",))]
    assert ledger.receipts()[0].credits == Decimal(200)


@in_both_ways
@pytest.mark.parametrize(
    ("where", "name", "after"),
    [
        (Transfer, "store", False),
        (Place, "save", False),
        (Place, "save", True),
        (Place, "note", False),
        (Place, "note", True),
        (Transfer, "store", True),
        (results, "finish", False),
        (results, "finish", True),
    ],
)
def test_a_kill_between_the_end_and_the_delivery_loses_neither(
    seedance_emulator: Emulator,
    ledger: SeedanceLedger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    after: bool,
    deferrable: bool,
) -> None:
    real = getattr(where, name)

    def die(*args: Any, **options: Any) -> Any:
        if after:
            real(*args, **options)
        raise Killed

    instance = Instance(output_path=f"{tmp_path}/clip.mp4", deferrable=deferrable)
    with monkeypatch.context() as killing:
        killing.setattr(where, name, die)
        with pytest.raises(Killed):
            instance.run()
    assert status(ledger) == [("success", ())], "the receipt says that the video has ended"
    assert instance.run() == [f"{tmp_path}/clip.mp4"]
    assert created(seedance_emulator) == 1
    assert status(ledger) == [("delivered", (f"{tmp_path}/clip.mp4",))]
    assert sorted(path.name for path in tmp_path.glob("*clip*")) == ["clip.mp4", "clip.mp4.json"]
    # Only after a kill between the file and its sidecar is it fetched again, to be compared.
    twice = (where, name, after) in [(Place, "save", True), (Place, "note", False)]
    # `save` dies before it reads on, but the download has begun.
    begun = (where, name, after) == (Place, "save", False)
    assert len(seedance_emulator.requests("media")) == (2 if twice or begun else 1)


@in_both_ways
def test_a_store_that_fails_is_retried_and_nothing_is_charged(
    seedance_emulator: Emulator, ledger: SeedanceLedger, tmp_path: Path, deferrable: bool
) -> None:
    instance = Instance(output_path=f"{tmp_path}/clip.mp4", deferrable=deferrable)
    seedance_emulator.add_fault("http", on="media", status=503, times=None)
    with pytest.raises(SeedanceTransferError) as raised:
        instance.run()
    error = raised.value
    assert (error.retryable, error.charged) == (True, "yes")
    assert error.seedance_task_id == seedance_emulator.bill()["tasks"][0]["taskId"]
    assert instance.ti.xcoms["seedance_error"]["charged"] == "yes"
    seedance_emulator.clear_faults()
    assert instance.run() == [f"{tmp_path}/clip.mp4"]
    assert created(seedance_emulator) == 1


@in_both_ways
def test_without_memory_a_store_that_fails_ends_the_task_rather_than_pay_twice(
    seedance_emulator: Emulator, tmp_path: Path, deferrable: bool
) -> None:
    instance = Instance(output_path=f"{tmp_path}/clip.mp4", durable=False, deferrable=deferrable)
    seedance_emulator.add_fault("http", on="media", status=503, times=None)
    with pytest.raises(SeedanceTransferRefusedError, match="SeedanceToObjectStorageOperator") as raised:
        instance.run()
    assert (raised.value.retryable, raised.value.charged) == (False, "yes")
    assert raised.value.seedance_task_id == seedance_emulator.bill()["tasks"][0]["taskId"]


def test_without_memory_a_store_that_fails_for_a_while_is_waited_for(
    seedance_emulator: Emulator, tmp_path: Path
) -> None:
    instance = Instance(output_path=f"{tmp_path}/clip.mp4", durable=False)
    seedance_emulator.add_fault("http", on="media", status=503, times=5)
    assert instance.run() == [f"{tmp_path}/clip.mp4"]


def test_a_clear_of_a_success_makes_a_new_video_whose_file_needs_a_path_of_its_own(
    seedance_emulator: Emulator, ledger: SeedanceLedger, tmp_path: Path
) -> None:
    instance = Instance(output_path=f"{tmp_path}/clip.mp4")
    instance.run()
    with pytest.raises(SeedanceTransferRefusedError, match="overwrite=True"):
        instance.clear()
    assert created(seedance_emulator) == 2
    assert instance.run(overwrite=True) == [f"{tmp_path}/clip.mp4"]
    assert created(seedance_emulator) == 2, "the video that could not be stored is stored by the next try"


def test_a_configuration_that_cannot_be_used_is_told_before_anything_is_charged(
    seedance_emulator: Emulator, tmp_path: Path
) -> None:
    for changes in ({"output_path": "nonsense://bucket/"}, {"output_path": f"{tmp_path}/", "last_frame": True}):
        instance = Instance(**({"model": "midjourney-v8", "inputs": {"prompt": "a fox"}} | changes))
        with pytest.raises(SeedanceError, match=r"output_path|last_frame") as raised:
            instance.run()
        assert raised.value.charged == "no"
    assert created(seedance_emulator) == 0


@pytest.mark.parametrize("mode", ["deferred", "poke", "reschedule"])
def test_a_sensor_that_cannot_store_is_retried(seedance_emulator: Emulator, tmp_path: Path, mode: str) -> None:
    from seedance_provider.hooks.seedance import SeedanceHook

    task_id = SeedanceHook().create_task("seedance-20", {"prompt": "a fox", "duration": 5})
    arguments = {"seedance_task_id": task_id, "poll_interval": 0.05, "output_path": f"{tmp_path}/clip.mp4"}
    seedance_emulator.add_fault("http", on="media", status=503, times=None)
    ti = FakeTaskInstance()
    with pytest.raises(SeedanceTransferError) as raised:
        run_sensor(mode, ti, **arguments)
    assert raised.value.retryable
    assert ti.xcoms["seedance_error"]["type"] == "SeedanceTransferError"
    assert "seedance_files" not in ti.xcoms
    seedance_emulator.clear_faults()
    ti = FakeTaskInstance()
    assert run_sensor(mode, ti, **arguments) == [f"{tmp_path}/clip.mp4"]
    assert ti.xcoms["seedance_files"][0]["path"] == f"{tmp_path}/clip.mp4"
