"""Callbacks, the whole way: createTask loses its answer, the vendor posts, the receiver asks, the task goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no receiver
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow 3.1 and later have the receiver", allow_module_level=True)

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceSubmitUncertainError, SeedanceTransportError
from seedance_provider.execution import spending
from seedance_provider.execution.callbacks import receiver_url
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.signing import read_claim
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.plugins.answers import Verdict, take
from seedance_provider.plugins.callbacks import Receiver
from tests.support.airflow import hurry
from tests.support.crashes import CrashError, crash
from tests.support.receiver import serving
from tests.support.tries import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from seedance_provider.execution.job import Job
    from seedance_provider.testing import Emulator

LOST = "a fox [[createTask:reset:accept=true]] [[waiting:0]] [[generating:{seconds}]]"


def inputs(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "duration": 5, "outputResolution": "720p"}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "RESUME_SECONDS", 0.0)
    monkeypatch.setattr(defaults, "LEDGER_POLL_INTERVAL", 0.1)


@pytest.fixture(params=["ledger"])
def api_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seedance_emulator: Emulator) -> Iterator[str]:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    with serving(Receiver()) as url:
        monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL", url)
        monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "20")
        yield url


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("policy", ["vendor", "safe"])
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.differs(
    "[callbacks](callbacks.md): a lost answer is found; `on_completion`", "no", "from 3.1, with a ledger", "yes"
)
def test_the_same_try_finds_the_video_whose_answer_was_lost(
    api_server: str, seedance_emulator: Emulator, policy: str, deferrable: bool
) -> None:
    instance = Instance(retries=0, submit_policy=policy, deferrable=deferrable, inputs=inputs(LOST.format(seconds=1)))
    (url,) = instance.run()
    assert url.startswith("http")
    assert seedance_emulator.bill()["tasks_created"] == 1
    assert len(seedance_emulator.requests("createTask")) == 1


@pytest.mark.parametrize("policy", ["vendor", "safe"])
def test_a_retry_after_a_crash_finds_the_video(
    api_server: str, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    crash(monkeypatch, SeedanceHook, "create_task", "after")
    instance = Instance(retries=1, submit_policy=policy, inputs=inputs("a fox [[waiting:0]] [[generating:1]]"))
    with pytest.raises(CrashError):
        instance.run()
    wait_for(lambda: [delivery["status"] for delivery in seedance_emulator.deliveries()] == [200])
    (url,) = instance.run()
    assert url.startswith("http")
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_safe_fails_for_review_where_no_callback_comes(
    api_server: str, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.5")
    crash(monkeypatch, Receipts, "save", "after")
    instance = Instance(retries=1, submit_policy="safe")
    with pytest.raises(CrashError):
        instance.run()
    with pytest.raises(SeedanceSubmitUncertainError):
        instance.run()
    assert seedance_emulator.bill()["tasks_created"] == 0


def test_a_callback_after_the_failure_for_review_gives_its_video_to_the_clear(
    api_server: str, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.2")
    instance = Instance(retries=0, submit_policy="safe", inputs=inputs(LOST.format(seconds=3)))
    with pytest.raises(SeedanceSubmitUncertainError):
        instance.run()
    wait_for(lambda: [delivery["status"] for delivery in seedance_emulator.deliveries()] == [200])
    (url,) = instance.clear()
    assert url.startswith("http")
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.parametrize("policy", ["vendor", "safe"])
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("answer", ["reset", "no_task_id"])
def test_after_a_wait_for_a_slot_a_lost_answer_is_waited_for_like_any_other(
    api_server: str,
    seedance_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    deferrable: bool,
    answer: str,
) -> None:
    accepted = {"accept": True} if answer == "reset" else {}
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.3")
    seedance_emulator.settings.update({"webhook_copies": 0})
    seedance_emulator.add_fault("rate_limit", limit=1, current=1)
    seedance_emulator.add_fault(answer, times=6, **accepted)
    instance = Instance(retries=0, submit_policy=policy, deferrable=deferrable, slot_poll_interval=0.2)
    with pytest.raises((SeedanceSubmitUncertainError, SeedanceTransportError)):
        instance.run()
    at_most = 1 if policy == "safe" or answer == "no_task_id" else defaults.MAX_UNKNOWN_OUTCOMES
    assert seedance_emulator.bill()["tasks_created"] <= at_most


@pytest.mark.parametrize("copies", [0, 2])
def test_polling_does_not_need_a_callback_and_is_not_disturbed_by_one(
    api_server: str, seedance_emulator: Emulator, copies: int
) -> None:
    seedance_emulator.settings.update({"webhook_copies": copies})
    instance = Instance(inputs=inputs("a fox"))
    (first,) = instance.run()
    (second,) = instance.clear()
    assert first != second
    assert seedance_emulator.bill()["tasks_created"] == 2


@pytest.mark.seedance_emulator(webhook_copies=0)
def test_an_answer_that_arrives_when_a_retry_is_about_to_send_again_is_used(
    api_server: str, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.1")
    crash(monkeypatch, SeedanceHook, "create_task", "after")
    instance = Instance(retries=1, submit_policy="vendor", inputs=inputs("a fox"))
    with pytest.raises(CrashError):
        instance.run()
    (lost,) = seedance_emulator.bill()["tasks"]
    time.sleep(0.2)
    reserve = spending.reserve

    def answered_meanwhile(job: Job, reservation_id: str) -> None:
        claim = read_claim((receiver_url(job) or "").rpartition("/")[2])
        assert claim is not None
        assert take(claim, lost["taskId"]) is Verdict.DONE
        reserve(job, reservation_id)

    monkeypatch.setattr(spending, "reserve", answered_meanwhile)
    (url,) = instance.run()
    assert url.startswith("http")
    assert seedance_emulator.bill()["tasks_created"] == 1
