"""SeedanceTaskTrigger: what it carries, that it fires exactly once whatever happens, and that waiting stays cheap."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.transport import aio
from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from seedance_provider.waiting import outcome
from tests.support.airflow import TaskLog, fire, hurry

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceTaskTrigger)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every aiohttp session that is opened."""
    opened: list[Any] = []
    original = aio._open_session

    async def open_session(base_url: str) -> Any:
        opened.append(await original(base_url))
        return opened[-1]

    monkeypatch.setattr(aio, "_open_session", open_session)
    return opened


def create(prompt: str = "a fox") -> str:
    return SeedanceHook().create_task("seedance-20", {"prompt": prompt, "duration": 5})


def trigger(task_id: str = "task_1", *, timeout: float = 10, poll_interval: float | None = 0.05) -> SeedanceTaskTrigger:
    return SeedanceTaskTrigger("seedance_default", task_id, poll_interval, time.time() + timeout)


# What it carries.


def test_it_is_made_anew_from_its_arguments() -> None:
    original = SeedanceTaskTrigger("seedance_default", "task_1", 7.0, 1e9, started_at=5e8, last_status="waiting")
    path, arguments = original.serialize()
    assert path == "seedance_provider.triggers.seedance.SeedanceTaskTrigger"
    again = SeedanceTaskTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == original.serialize()
    assert set(arguments) == set(inspect.signature(SeedanceTaskTrigger).parameters), "nothing is forgotten"


def test_airflow_can_store_its_arguments() -> None:
    from airflow.models.trigger import Trigger

    original = trigger(poll_interval=None)
    _, arguments = original.serialize()
    stored = Trigger.from_object(original)
    assert stored.classpath == "seedance_provider.triggers.seedance.SeedanceTaskTrigger"
    assert SeedanceTaskTrigger(**stored.kwargs).serialize() == (stored.classpath, arguments)


def test_it_carries_no_secret(seedance_emulator: Emulator) -> None:
    waiting = trigger()
    assert seedance_emulator.api_key not in repr(waiting.serialize())
    assert seedance_emulator.api_key not in repr(waiting)


def test_it_waits_from_now_unless_said_otherwise() -> None:
    assert trigger().serialize()[1]["started_at"] == pytest.approx(time.time(), abs=5)


# One event, whatever happens; `fire` checks that there is exactly one.


def test_a_success_fires_its_record(seedance_emulator: Emulator) -> None:
    task_id = create()
    event = fire(trigger(task_id))
    assert (event["status"], event["seedance_task_id"]) == ("success", task_id)
    assert outcome(event).urls == [f"{seedance_emulator.url}/videos/{task_id}.mp4"]
    assert seedance_emulator.api_key not in json.dumps(event)


def test_a_failure_fires_its_error(seedance_emulator: Emulator) -> None:
    task_id = create("[[fail:2038]]")
    event = fire(trigger(task_id))
    assert (event["status"], event["seedance_task_id"]) == ("error", task_id)
    with pytest.raises(SeedanceTaskFailedError, match="content rules") as caught:
        outcome(event)
    assert caught.value.code == "2038"
    assert caught.value.record is not None
    assert caught.value.record.credits_used == 200


def test_a_timeout_fires_its_error(seedance_emulator: Emulator) -> None:
    task_id = create("[[waiting:60]]")
    started = time.monotonic()
    with pytest.raises(SeedanceTaskTimeoutError, match=task_id):
        outcome(fire(trigger(task_id, timeout=0.3)))
    assert time.monotonic() - started < 3


def test_a_refused_key_fires_its_error(seedance_emulator: Emulator) -> None:
    seedance_emulator.put_account(key="another-key")
    with pytest.raises(SeedanceAuthenticationError):
        outcome(fire(trigger()))


def test_an_unknown_task_fires_its_error_after_a_grace(seedance_emulator: Emulator) -> None:
    with pytest.raises(SeedanceTaskNotFoundError):
        outcome(fire(trigger("task_nobody")))
    assert len(seedance_emulator.requests("recordInfo")) > 1


def test_blips_fire_nothing(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    task_id = create()
    for blip in ("html", "reset", "empty", "http", "rate_limit"):
        seedance_emulator.add_fault(blip, on="recordInfo")
    assert fire(trigger(task_id))["status"] == "success"
    assert all(task_id in line for line in task_log.warnings)
    assert task_log.warnings


def test_a_missing_connection_fires_an_error_that_a_retry_may_cure(
    task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", raising=False)
    event = fire(trigger("task_7"))
    assert event["status"] == "error"
    with pytest.raises(SeedanceError, match=r"task_7 broke off .*seedance_default") as caught:
        outcome(event)
    assert type(caught.value) is SeedanceError
    assert "SeedanceTaskSensor(seedance_task_id='task_7')" in str(caught.value)


@pytest.mark.parametrize("error", [ImportError("no module named yarl"), ValueError("odd"), KeyError("x"), OSError(24)])
def test_an_unexpected_error_fires_an_event_that_says_how_to_go_on(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog, error: Exception
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("seedance_provider.api.flows.wait", explode)
    with pytest.raises(SeedanceError, match="Waiting for task task_7 broke off") as caught:
        outcome(fire(trigger("task_7")))
    assert type(error).__name__ in str(caught.value)
    assert any(record.exc_info for record in task_log.records if record.levelno == logging.ERROR)


def test_the_deadline_survives_a_restart_of_the_triggerer(seedance_emulator: Emulator) -> None:
    first = trigger(create("[[waiting:60]]"), timeout=0.6)

    async def run_and_die() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(first.run())), 0.3)

    asyncio.run(run_and_die())
    again = SeedanceTaskTrigger(**first.serialize()[1])
    with pytest.raises(SeedanceTaskTimeoutError, match=r"did not end within 0\.(6|59)"):
        outcome(fire(again))
    assert again.deadline == first.deadline


def test_a_deadline_that_passed_while_no_triggerer_ran_still_gets_one_look(seedance_emulator: Emulator) -> None:
    assert fire(trigger("demo_task_t2v_success", timeout=-60))["status"] == "success"
    assert fire(trigger(create("[[waiting:60]]"), timeout=-60))["status"] == "error"


# Waiting costs nothing.


def test_it_only_ever_reads(seedance_emulator: Emulator) -> None:
    task_id = create()
    seedance_emulator.reset()
    seedance_emulator.add_fault("http", on="recordInfo", status=500, times=3)
    fire(trigger(task_id, timeout=0.5))
    assert {request["method"] for request in seedance_emulator.requests()} == {"GET"}
    assert {request["endpoint"] for request in seedance_emulator.requests()} == {"recordInfo"}


def test_many_share_one_session_and_all_fire(
    seedance_emulator: Emulator, sessions: list[Any], task_log: TaskLog
) -> None:
    seedance_emulator.settings.update({"concurrency_limit": None})
    ids = [create() for _ in range(20)]

    async def events() -> list[Any]:
        waiting = [trigger(ids[number % 20], timeout=30) for number in range(200)]
        return await asyncio.gather(*(anext(aiter(each.run())) for each in waiting))

    payloads = [event.payload for event in asyncio.run(events())]
    assert [payload["status"] for payload in payloads] == ["success"] * 200
    assert [payload["seedance_task_id"] for payload in payloads] == ids * 10
    assert len(sessions) == 1
    assert sessions[0].closed


@pytest.mark.parametrize("others", [0, 1])
def test_a_cancelled_trigger_fires_nothing_and_leaves_the_session(
    seedance_emulator: Emulator, sessions: list[Any], others: int
) -> None:
    running, quick = create("[[waiting:60]]"), create("[[generating:0.5]]")

    async def cancel_one() -> list[Any]:
        one = asyncio.ensure_future(anext(aiter(trigger(running, poll_interval=0.02).run())))
        rest = [asyncio.ensure_future(anext(aiter(trigger(quick).run()))) for _ in range(others)]
        await asyncio.sleep(0.2)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert sessions[0].closed is (others == 0), "those that stay keep it"
        return await asyncio.gather(*rest)

    assert [event.payload["status"] for event in asyncio.run(cancel_one())] == ["success"] * others
    assert len(sessions) == 1
    assert sessions[0].closed


def test_a_waiter_that_comes_after_the_last_has_left_gets_a_session_of_its_own(
    seedance_emulator: Emulator, sessions: list[Any]
) -> None:
    for _ in range(2):
        assert fire(trigger("demo_task_t2v_success"))["status"] == "success"
    assert len(sessions) == 2
    assert all(session.closed for session in sessions)


def test_the_connection_is_looked_up_once_however_often_it_looks(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.compat import connection

    looked_up: list[str] = []
    original = connection.get_async_connection

    async def get_async_connection(conn_id: str, **arguments: Any) -> Any:
        looked_up.append(conn_id)
        return await original(conn_id, **arguments)

    monkeypatch.setattr(connection, "get_async_connection", get_async_connection)
    assert fire(trigger(create("[[generating:0.5]]")))["status"] == "success"
    assert len(seedance_emulator.requests("recordInfo")) > 3
    assert looked_up == ["seedance_default"]


def test_a_key_that_was_rotated_while_waiting_is_picked_up(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = trigger(create("[[generating:0.6]]"))

    async def rotate_meanwhile() -> Any:
        event = asyncio.ensure_future(anext(aiter(waiting.run())))
        await asyncio.sleep(0.2)
        seedance_emulator.put_account(key="rotated-key")
        rotated = json.loads(seedance_emulator.connection_json) | {"password": "rotated-key"}
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(rotated))
        return await event

    assert asyncio.run(rotate_meanwhile()).payload["status"] == "success"


def test_waiters_that_start_together_do_not_look_together(seedance_emulator: Emulator) -> None:
    task_id = create("[[waiting:60]]")

    async def start_together() -> None:
        waiting = [trigger(task_id, timeout=0.8, poll_interval=1.0) for _ in range(20)]
        await asyncio.gather(*(anext(aiter(each.run())) for each in waiting))

    asyncio.run(start_together())
    looks = sorted(request["time"] for request in seedance_emulator.requests("recordInfo"))
    assert looks[10] - looks[0] > 0.1


# What a user reads.


def test_a_status_that_is_in_the_log_is_not_repeated(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    task_id = create("[[waiting:0]] [[generating:0.4]]")
    _, arguments = trigger(task_id).serialize()
    fire(SeedanceTaskTrigger(**(arguments | {"last_status": "generating"})))
    assert [line.partition(" after ")[0] for line in task_log.lines if " -> " in line] == [
        f"Task {task_id}: generating -> success"
    ]


def test_a_clear_says_that_the_video_goes_on(task_log: TaskLog) -> None:
    asyncio.run(trigger("task_7").on_kill())
    assert "task_7" in task_log.lines[-1]
    assert "cannot be cancelled" in task_log.lines[-1]
