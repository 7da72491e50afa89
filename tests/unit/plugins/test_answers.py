"""What follows from a signed callback: only what the vendor's API itself says of the task, and never more than once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no receiver
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow 3.1 and later have the receiver", allow_module_level=True)

import requests
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import scoped_session, sessionmaker

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceError
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Outcome, Receipt, Stage, fingerprint
from seedance_provider.execution.signing import Claim, sign, signing_key
from seedance_provider.execution.stores import Facts, LedgerStore, Owner
from seedance_provider.hooks.ledger_files import Folder
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.plugins import answers
from seedance_provider.plugins.answers import Verdict
from seedance_provider.plugins.callbacks import Receiver
from tests.support.airflow import hurry
from tests.support.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seedance_provider.testing import Emulator

OWNER = Owner("dag", "run", "task", -1)
REQUEST = fingerprint("seedance-20", {"prompt": "a fox"}, conn_id="seedance_default", base_url="https://example.com")
CLAIM = Claim.of("seedance_default", OWNER, REQUEST, None)
INTENT = Receipt(REQUEST, 1, 1, unknown=1, called_back=True)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seedance_emulator: Emulator) -> Folder:
    """The ledger's folder of the task instance."""
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "CALLBACK_SECONDS", 3.0)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    return Folder(f"file://{tmp_path}/ledger") / OWNER.path


def receipts(folder: Folder) -> Receipts:
    return Receipts(LedgerStore(folder, OWNER), OWNER, Facts("seedance-20", "seedance_default"))


def intend(folder: Folder, receipt: Receipt = INTENT) -> Receipts:
    """What a worker leaves behind that dies during createTask."""
    worker = receipts(folder)
    worker.begin()
    worker.save(receipt)
    return worker


def create(prompt: str = "a fox", conn_id: str = "seedance_default") -> str:
    return SeedanceHook(conn_id).create_task("seedance-20", {"prompt": prompt, "duration": 5})


def wait_for_end(task: str) -> None:
    SeedanceHook().wait_for_task(task, poll_interval=0.05, timeout=60)


def polls(emulator: Emulator) -> int:
    return len(emulator.requests("recordInfo"))


def stored(folder: Folder) -> Receipt:
    receipt = receipts(folder).load()
    assert receipt is not None
    return receipt


def test_the_task_of_a_lost_answer_becomes_that_of_the_receipt(folder: Folder) -> None:
    intend(folder)
    task = create()
    wait_for_end(task)
    assert answers.take(CLAIM, task) is Verdict.DONE
    receipt = stored(folder)
    assert (receipt.stage, receipt.outcome, receipt.seedance_task_id) == (Stage.ENDED, Outcome.SUCCESS, task)
    assert abs(time.time() - (receipt.submitted_at or 0)) < 30
    (told,) = SeedanceLedger().orphans()
    assert (told.seedance_task_id, told.dag_id, told.task_id) == (task, "dag", "task")


def test_a_callback_of_a_task_that_still_runs_is_believed_only_that_far(folder: Folder) -> None:
    intend(folder)
    task = create("a fox [[generating:60]]")
    assert answers.take(CLAIM, task) is Verdict.DONE
    assert (stored(folder).stage, stored(folder).seedance_task_id) == (Stage.SUBMITTED, task)


def test_a_failed_generation_is_found_as_one(folder: Folder) -> None:
    intend(folder)
    task = create("a fox [[fail]]")
    time.sleep(0.5)
    assert answers.take(CLAIM, task) is Verdict.DONE
    assert (stored(folder).stage, stored(folder).outcome) == (Stage.ENDED, Outcome.FAIL)
    assert SeedanceLedger().orphans() == []


def test_what_comes_again_changes_nothing_and_asks_nobody(folder: Folder, seedance_emulator: Emulator) -> None:
    intend(folder)
    task = create()
    wait_for_end(task)
    answers.take(CLAIM, task)
    before, asked = folder.names(), polls(seedance_emulator)
    for _ in range(3):
        assert answers.take(CLAIM, task) is Verdict.DONE
    assert (folder.names(), polls(seedance_emulator)) == (before, asked)


@pytest.mark.parametrize("stage", [Stage.SUBMITTED, Stage.ENDED, Stage.DELIVERED])
def test_a_callback_of_a_known_task_costs_no_poll(folder: Folder, seedance_emulator: Emulator, stage: Stage) -> None:
    receipt = INTENT.submitted("task_known", time.time())
    intend(folder, replace(receipt, stage=stage, outcome=Outcome.SUCCESS if stage is not Stage.SUBMITTED else None))
    assert answers.take(CLAIM, "task_known") is Verdict.DONE
    assert polls(seedance_emulator) == 0


def test_a_late_callback_of_a_former_video_is_not_the_present_one(folder: Folder, seedance_emulator: Emulator) -> None:
    task = create()
    intend(folder, replace(INTENT, former=(task,)))
    assert answers.take(CLAIM, task) is Verdict.DONE
    assert stored(folder).stage is Stage.INTENT
    assert polls(seedance_emulator) == 0


def test_a_task_from_before_the_createtask_is_not_its_outcome(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    task = create()
    now = time.time() + 2 * defaults.CLOCK_SKEW_SECONDS
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: now)
        intend(folder)
    assert answers.take(CLAIM, task) is Verdict.DONE
    assert stored(folder).stage is Stage.INTENT


def test_a_task_of_another_account_is_none(
    folder: Folder, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend(folder)
    seedance_emulator.put_account(name="other", key="sk-other")
    other = {"conn_type": "seedance", "host": seedance_emulator.url, "password": "sk-other"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(other))
    assert answers.take(CLAIM, create(conn_id="other")) is Verdict.UNKNOWN
    assert answers.take(CLAIM, "task_made_up") is Verdict.UNKNOWN
    assert stored(folder).stage is Stage.INTENT


def test_while_the_vendor_does_not_answer_nothing_is_believed(folder: Folder, seedance_emulator: Emulator) -> None:
    intend(folder)
    task = create()
    seedance_emulator.add_fault("http", on="recordInfo", status=500, times=1)
    with pytest.raises(SeedanceError):
        answers.take(CLAIM, task)
    assert stored(folder).stage is Stage.INTENT
    assert answers.take(CLAIM, task) is Verdict.DONE
    assert stored(folder).seedance_task_id == task


def test_a_vendor_that_does_not_come_to_an_end_is_given_up_in_time(folder: Folder, seedance_emulator: Emulator) -> None:
    intend(folder)
    task = create()
    seedance_emulator.add_fault("slow", on="recordInfo", seconds=20, times=1)
    began = time.monotonic()
    with pytest.raises(SeedanceError):
        answers.take(CLAIM, task)
    assert time.monotonic() - began < 5


def test_a_key_that_the_vendor_refuses_for_now_says_nothing_of_the_task(
    folder: Folder, seedance_emulator: Emulator
) -> None:
    intend(folder)
    task = create()
    seedance_emulator.add_fault("http", on="recordInfo", status=401, times=1)
    with pytest.raises(SeedanceError):
        answers.take(CLAIM, task)
    assert answers.take(CLAIM, task) is Verdict.DONE


def test_an_event_waits_for_the_end_and_is_asked_for_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, airflow_database: Path
) -> None:
    monkeypatch.setattr(defaults, "CALLBACK_SECONDS", 1.0)
    worker = Receipts(
        LedgerStore(folder, OWNER), OWNER, Facts("seedance-20", "seedance_default", on_completion=("videos", "videos"))
    )
    worker.begin()
    worker.save(INTENT)
    task = create("a fox [[generating:60]]")
    for _ in range(2):
        assert answers.take(CLAIM, task) is Verdict.LATER
    assert stored(folder).seedance_task_id == task


def test_a_task_that_another_task_instance_has_submitted_is_not_taken(folder: Folder) -> None:
    intend(folder)
    task = create()
    other = Owner("dag", "run", "other", 3)
    LedgerStore(folder.root / other.path, other).point(task, {})
    assert answers.take(CLAIM, task) is Verdict.DONE
    assert (stored(folder).stage, stored(folder).seedance_task_id) == (Stage.INTENT, None)


@pytest.mark.parametrize("asset", [None, ("videos", "seedance://videos")])
def test_the_key_of_another_connection_has_no_say(
    folder: Folder, seedance_emulator: Emulator, asset: tuple[str, str] | None
) -> None:
    worker = Receipts(LedgerStore(folder, OWNER), OWNER, Facts("seedance-20", "seedance_default", on_completion=asset))
    worker.begin()
    worker.save(INTENT)
    task = create()
    wait_for_end(task)
    before, asked = folder.names(), polls(seedance_emulator)
    assert answers.take(CLAIM._replace(conn_id="somebody_else"), task) is Verdict.UNKNOWN
    assert (folder.names(), polls(seedance_emulator)) == (before, asked)


def test_without_a_receipt_there_is_nobody_to_tell(folder: Folder, seedance_emulator: Emulator) -> None:
    assert answers.take(CLAIM, "task_1") is Verdict.UNKNOWN
    assert polls(seedance_emulator) == 0


def test_without_any_place_for_receipts_there_is_nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
    monkeypatch.setattr(answers, "TaskScope", None)
    assert answers.take(CLAIM, "task_1") is Verdict.UNKNOWN


def test_a_receipt_that_cannot_be_read_is_left_alone(folder: Folder, seedance_emulator: Emulator) -> None:
    worker = LedgerStore(folder, OWNER)
    worker.begin()
    worker.write({"schema": 1, "stage": "intent"}, is_open=True)
    assert answers.take(CLAIM, "task_1") is Verdict.DONE
    assert polls(seedance_emulator) == 0


@contextmanager
def caught(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    lines: list[str] = []
    with caplog.at_level("INFO", logger="seedance_provider.plugins.answers"):
        yield lines
    lines += [record.getMessage() for record in caplog.records if "plugins.answers" in record.name]


def test_a_failed_task_that_nobody_waits_for_cost_nothing_and_is_no_warning(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    task = create("a fox [[fail]]")
    time.sleep(0.5)
    intend(folder, INTENT.submitted("task_other", time.time()))
    with caught(caplog) as lines:
        assert answers.take(CLAIM, task) is Verdict.DONE
    assert not any("SeedanceTaskSensor" in line for line in lines)


@pytest.mark.parametrize("why", ["another task is known", "other inputs are wanted"])
def test_a_paid_task_that_nobody_waits_for_is_named_in_the_log(
    folder: Folder, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    task = create()
    wait_for_end(task)
    receipt = INTENT.submitted("task_other", time.time())
    intend(folder, receipt if why == "another task is known" else replace(INTENT, fingerprint="0" * 64))
    before = stored(folder)
    with caught(caplog) as lines:
        assert answers.take(CLAIM, task) is Verdict.DONE
    assert any(f"SeedanceTaskSensor(seedance_task_id={task!r})" in line for line in lines)
    assert stored(folder) == before


def test_what_the_task_itself_writes_meanwhile_rules(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply arrives, or the retry goes further, while the API server asks the vendor."""
    worker = intend(folder)
    one, other = create(), create("another fox")
    ask = answers._ask

    def slowly(*args: Any, **options: Any) -> Any:
        record = ask(*args, **options)
        worker.save(INTENT.submitted(other, time.time()))
        return record

    monkeypatch.setattr(answers, "_ask", slowly)
    answers.take(CLAIM, one)
    assert stored(folder).seedance_task_id == other


def test_what_the_task_itself_writes_afterwards_rules(folder: Folder) -> None:
    worker = intend(folder)
    one, other = create(), create("another fox")
    answers.take(CLAIM, one)
    assert stored(folder).seedance_task_id == one
    worker.save(INTENT.submitted(other, time.time()))
    assert stored(folder).seedance_task_id == other


def test_a_clock_of_the_api_server_that_is_behind_hides_no_answer(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend(folder)
    task = create()
    monkeypatch.setattr("seedance_provider.execution.stores.now_ms", lambda: int((time.time() - 3600) * 1000))
    answers.take(CLAIM, task)
    assert stored(folder).seedance_task_id == task


def test_many_api_servers_may_take_the_same_callback(folder: Folder) -> None:
    intend(folder)
    task = create()
    with ThreadPoolExecutor(8) as servers:
        assert set(servers.map(lambda _: answers.take(CLAIM, task), range(8))) == {Verdict.DONE}
    assert stored(folder).seedance_task_id == task


def test_a_receipt_of_a_key_is_found_by_its_digest(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    claim = Claim.of("seedance_default", OWNER, REQUEST, "launch")
    key_folder = Folder(f"file://{tmp_path}/ledger") / claim.ledger_path
    intend(key_folder)
    task = create()
    assert answers.take(claim, task) is Verdict.DONE
    assert stored(key_folder).seedance_task_id == task


# Connections.


def test_the_key_of_a_connection_signs(seedance_emulator: Emulator) -> None:
    assert answers.signing_key_of("seedance_default") == signing_key(SeedanceHook().settings.api_key)


def test_no_connection_and_one_without_a_key_sign_nothing(
    monkeypatch: pytest.MonkeyPatch, airflow_database: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_KEYLESS", '{"conn_type": "seedance"}')
    assert answers.signing_key_of("keyless") is None
    assert answers.signing_key_of("made_up") is None


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Airflow's database does not answer until this is undone."""
    from airflow import settings

    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder/airflow.db")
    monkeypatch.setattr(settings, "Session", scoped_session(sessionmaker(bind=engine)))
    return monkeypatch


def test_a_database_that_is_down_is_not_a_missing_connection(
    airflow_database: Path, no_database: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OperationalError):
        answers.signing_key_of("made_up")


def test_while_the_database_is_down_callbacks_are_asked_for_again(
    airflow_database: Path, no_database: pytest.MonkeyPatch
) -> None:
    path = sign(CLAIM._replace(conn_id="made_up"), b"key")
    with serving(Receiver()) as url:
        down = requests.post(f"{url}{defaults.CALLBACK_PATH}/{path}", json={"taskId": "task_1"}, timeout=30)
        no_database.undo()
        up = requests.post(f"{url}{defaults.CALLBACK_PATH}/{path}", json={"taskId": "task_1"}, timeout=30)
    assert (down.status_code, down.headers["Retry-After"]) == (503, "5")
    assert (up.status_code, up.content) == (404, b"")
