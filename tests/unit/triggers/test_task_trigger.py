"""SeedanceTaskTrigger: what it carries, that it fires exactly once whatever happens, and that waiting stays cheap."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider import connection, defaults
from seedance_provider.api import schedule
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.transport import pool
from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from seedance_provider.triggers.shared import shared_by
from tests.support.airflow import fire
from tests.support.virtual_time import turns

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator
    from tests.support.airflow import TaskLog


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[pool.Sessions]:
    """The sessions that are opened."""
    opened: list[pool.Sessions] = []
    original = pool.open_sessions

    async def open_sessions(base_url: str) -> pool.Sessions:
        opened.append(await original(base_url))
        return opened[-1]

    monkeypatch.setattr(pool, "open_sessions", open_sessions)
    return opened


def create(prompt: str = "a fox") -> str:
    return SeedanceHook().create_task("seedance-20", {"prompt": prompt, "duration": 5})


def trigger(
    task_id: str = "task_1", *, timeout: float = 10, poll_interval: float | None = 0.05, **arguments: Any
) -> SeedanceTaskTrigger:
    return SeedanceTaskTrigger("seedance_default", task_id, poll_interval, time.time() + timeout, **arguments)


def event_of(waiting: SeedanceTaskTrigger) -> TaskEvent:
    """The only event of a trigger, as the task reads it."""
    return TaskEvent.from_json(fire(waiting))


# What it carries.


def test_it_is_made_again_from_its_arguments() -> None:
    original = SeedanceTaskTrigger(
        "seedance_default", "task_1", 7.0, 1e9, 5e8, "waiting", alive=True, state={"resubmitted": 1}, deferred_at=6e8
    )
    path, arguments = original.serialize()
    assert path == "seedance_provider.triggers.seedance.SeedanceTaskTrigger"
    assert SeedanceTaskTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
    assert set(arguments) == set(inspect.signature(SeedanceTaskTrigger).parameters), "nothing is forgotten"


def test_airflow_can_store_its_arguments() -> None:
    from airflow.models.trigger import Trigger

    original = trigger(poll_interval=None)
    stored = Trigger.from_object(original)
    assert SeedanceTaskTrigger(**stored.kwargs).serialize() == (stored.classpath, original.serialize()[1])


def test_it_carries_no_secret(seedance_emulator: Emulator) -> None:
    waiting = trigger()
    assert seedance_emulator.api_key not in repr(waiting.serialize())
    assert seedance_emulator.api_key not in repr(waiting)


def test_it_waits_from_now_unless_told_otherwise() -> None:
    arguments = trigger().serialize()[1]
    assert arguments["started_at"] == pytest.approx(time.time(), abs=5)
    assert arguments["deferred_at"] == pytest.approx(time.time(), abs=5)


# One event, whatever happens; `fire` checks that there is exactly one.


def test_a_success_fires_its_record(seedance_emulator: Emulator) -> None:
    task_id, state = create(), ResumeState(resubmitted=1)
    payload = fire(trigger(task_id, state=state.to_json()))
    event = TaskEvent.from_json(payload)
    assert (event.status, event.seedance_task_id, event.state) == ("success", task_id, state)
    assert event.record is not None
    assert event.record.urls == [f"{seedance_emulator.url}/videos/{task_id}.mp4"]
    assert seedance_emulator.api_key not in json.dumps(payload)
    assert len(json.dumps(payload)) < 1500


def test_a_failure_fires_its_error(seedance_emulator: Emulator) -> None:
    task_id, state = create("[[fail:2038]]"), ResumeState(resubmitted=1)
    event = event_of(trigger(task_id, state=state.to_json()))
    assert (event.status, event.seedance_task_id, event.state) == ("error", task_id, state)
    assert isinstance(event.error, SeedanceTaskFailedError)
    assert event.error.code == "2038"
    assert event.error.record is not None
    assert event.error.record.credits_used == 200


def test_a_timeout_fires_its_error(seedance_emulator: Emulator) -> None:
    task_id = create("[[waiting:60]]")
    started = time.monotonic()
    error = event_of(trigger(task_id, timeout=0.3)).error
    assert isinstance(error, SeedanceTaskTimeoutError)
    assert error.seedance_task_id == task_id
    assert time.monotonic() - started < 30


def test_a_refused_key_fires_its_error(seedance_emulator: Emulator) -> None:
    seedance_emulator.put_account(key="another-key")
    assert isinstance(event_of(trigger()).error, SeedanceAuthenticationError)


def test_an_unknown_task_fires_its_error_after_a_grace(seedance_emulator: Emulator) -> None:
    assert isinstance(event_of(trigger("task_nobody")).error, SeedanceTaskNotFoundError)
    assert len(seedance_emulator.requests("recordInfo")) > 1


def test_polls_that_fail_fire_nothing(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    task_id = create()
    for fault in ("html", "reset", "empty", "http", "rate_limit"):
        seedance_emulator.add_fault(fault, on="recordInfo")
    assert event_of(trigger(task_id)).status == "success"
    assert task_log.warnings
    assert all(task_id in line for line in task_log.warnings)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 408, 421, 425, 460])
def test_one_odd_poll_of_a_task_that_was_seen_alive_fires_nothing(seedance_emulator: Emulator, status: int) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=status)
    assert event_of(trigger(create(), alive=True)).status == "success"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, SeedanceAuthenticationError), (404, SeedanceTaskNotFoundError)], ids=str
)
def test_a_denial_that_persists_fires_its_error(
    seedance_emulator: Emulator, status: int, kind: type[SeedanceError]
) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=status, times=None)
    started = time.monotonic()
    error = event_of(trigger(create("[[waiting:60]]"), alive=True)).error
    assert type(error) is kind
    assert error.charged == "yes"
    assert time.monotonic() - started >= defaults.DENIAL_SECONDS
    assert len(seedance_emulator.requests("recordInfo")) >= defaults.DENIALS


def test_a_missing_connection_fires_an_error_that_a_retry_may_cure(
    task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", raising=False)
    error = event_of(trigger("task_7")).error
    assert error is not None
    assert error.retryable
    assert "seedance_default" in str(error)
    assert "SeedanceTaskSensor(seedance_task_id='task_7')" in str(error)


@pytest.mark.parametrize("cause", [ImportError("no module named yarl"), ValueError("odd"), KeyError("x"), OSError(24)])
def test_an_unexpected_error_fires_one_that_names_the_call_to_collect_the_video(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog, cause: Exception
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise cause

    monkeypatch.setattr("seedance_provider.api.flows.wait", explode)
    error = event_of(trigger("task_7")).error
    assert error is not None
    assert (error.retryable, error.charged, error.seedance_task_id) == (True, "yes", "task_7")
    assert type(cause).__name__ in str(error)
    assert "SeedanceTaskSensor(seedance_task_id='task_7')" in str(error)
    assert any(record.exc_info for record in task_log.records if record.levelno == logging.ERROR)


def test_the_deadline_survives_a_restart_of_the_triggerer(seedance_emulator: Emulator) -> None:
    first = trigger(create("[[waiting:60]]"), timeout=0.6)

    async def run_and_die() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(first.run())), 0.3)

    asyncio.run(run_and_die())
    again = SeedanceTaskTrigger(**first.serialize()[1])
    assert again.deadline == first.deadline
    assert isinstance(event_of(again).error, SeedanceTaskTimeoutError)
    assert time.time() < first.deadline + 2


def test_a_deadline_that_passed_while_no_triggerer_ran_still_gets_one_poll(seedance_emulator: Emulator) -> None:
    assert event_of(trigger("demo_task_t2v_success", timeout=-60)).status == "success"
    assert event_of(trigger(create("[[waiting:60]]"), timeout=-60)).status == "error"


# The slot that it holds.


@pytest.mark.parametrize(
    ("prompt", "woken"), [("a fox", True), ("[[fail:2038]]", True), ("[[waiting:60]]", False)], ids=str
)
def test_the_end_of_a_video_wakes_one_that_waits_for_a_slot(
    seedance_emulator: Emulator, prompt: str, woken: bool
) -> None:
    task_id = create(prompt)

    async def run() -> list[bool]:
        queue, now = shared_by("seedance_default").slots, time.time()
        waiting = [
            asyncio.create_task(queue.wait(since=now + place, refused_at=now, poll_interval=600, deadline=now + 600))
            for place in range(2)
        ]
        await turns()
        await anext(aiter(trigger(task_id, timeout=0.8).run()))
        await turns()
        woken = [each.done() for each in waiting]
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        return woken

    assert asyncio.run(run()) == [woken, False]


def test_a_restarted_trigger_wakes_nobody(seedance_emulator: Emulator) -> None:
    task_ids = [create("[[waiting:60]]") for _ in range(2)]
    waiting_since = time.time() - 60

    async def run() -> int:
        queue, now = shared_by("seedance_default").slots, time.time()
        slot_waiters = [
            asyncio.create_task(queue.wait(since=now + place, refused_at=now, poll_interval=0.1, deadline=now + 600))
            for place in range(9)
        ]
        await asyncio.wait(slot_waiters, return_when=asyncio.FIRST_COMPLETED)  # a guess
        restarted = [
            asyncio.create_task(anext(aiter(trigger(task_id, started_at=waiting_since).run()))) for task_id in task_ids
        ]
        await turns()
        woken = sum(each.done() for each in slot_waiters)
        for each in [*slot_waiters, *restarted]:
            each.cancel()
        await asyncio.wait([*slot_waiters, *restarted])
        return woken

    assert asyncio.run(run()) == 1


def test_a_video_is_polled_more_often_while_somebody_waits_for_its_slot(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "URGENT_INTERVAL", 0.05)
    task_id = create("[[generating:0.5]]")

    async def run() -> Any:
        queue, now = shared_by("seedance_default").slots, time.time()
        waiting = asyncio.create_task(queue.wait(since=now, refused_at=now, poll_interval=600, deadline=now + 600))
        await turns()
        event = await anext(aiter(trigger(task_id, timeout=20, poll_interval=None).run()))
        await waiting
        return event

    started = time.monotonic()
    assert asyncio.run(run()).payload["status"] == "success"
    assert time.monotonic() - started < schedule.ADAPTIVE_SCHEDULE[0].interval


def test_a_video_in_a_pool_is_polled_more_often_too(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "URGENT_INTERVAL", 0.05)
    started = time.monotonic()
    fire(trigger(create("[[generating:0.5]]"), timeout=20, poll_interval=None, urgent=True))
    assert time.monotonic() - started < schedule.ADAPTIVE_SCHEDULE[0].interval


# Waiting costs nothing.


def test_it_only_ever_reads(seedance_emulator: Emulator) -> None:
    task_id = create()
    seedance_emulator.reset()
    seedance_emulator.add_fault("http", on="recordInfo", status=500, times=3)
    fire(trigger(task_id, timeout=0.5))
    assert {request["method"] for request in seedance_emulator.requests()} == {"GET"}
    assert {request["endpoint"] for request in seedance_emulator.requests()} == {"recordInfo"}


def test_many_share_one_session_and_all_fire(
    seedance_emulator: Emulator, sessions: list[pool.Sessions], task_log: TaskLog
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
    assert sessions[0].kept.closed


@pytest.mark.parametrize("others", [0, 1])
def test_a_cancelled_trigger_fires_nothing_and_leaves_the_session(
    seedance_emulator: Emulator, sessions: list[pool.Sessions], others: int
) -> None:
    running, quick = create("[[waiting:60]]"), create("[[generating:2]]")

    async def cancel_one() -> list[Any]:
        one = asyncio.ensure_future(anext(aiter(trigger(running, poll_interval=0.02).run())))
        rest = [asyncio.ensure_future(anext(aiter(trigger(quick).run()))) for _ in range(others)]
        async with asyncio.timeout(60):
            while sum(seedance_emulator.counts("recordInfo").values()) < 1 + others:  # noqa: ASYNC110 - of a thread
                await asyncio.sleep(0.01)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert sessions[0].kept.closed is (others == 0), "those that stay keep it"
        return await asyncio.gather(*rest)

    assert [event.payload["status"] for event in asyncio.run(cancel_one())] == ["success"] * others
    assert len(sessions) == 1
    assert sessions[0].kept.closed


def test_a_waiter_that_comes_after_the_last_has_left_gets_a_session_of_its_own(
    seedance_emulator: Emulator, sessions: list[pool.Sessions]
) -> None:
    for _ in range(2):
        assert fire(trigger("demo_task_t2v_success"))["status"] == "success"
    assert len(sessions) == 2
    assert all(session.kept.closed and session.fresh.closed for session in sessions)


def test_the_connection_is_looked_up_once_however_often_it_polls(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_waiters_that_start_together_do_not_poll_together(seedance_emulator: Emulator) -> None:
    task_id = create("[[waiting:60]]")

    async def start_together() -> None:
        waiting = [trigger(task_id, timeout=0.8, poll_interval=1.0) for _ in range(20)]
        await asyncio.gather(*(anext(aiter(each.run())) for each in waiting))

    asyncio.run(start_together())
    polls = sorted(request["time"] for request in seedance_emulator.requests("recordInfo"))
    assert polls[10] - polls[0] > 0.1


# What a user reads.


def test_a_status_that_is_in_the_log_is_not_repeated(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    fire(trigger(create("[[waiting:0]] [[generating:0.4]]"), last_status="generating"))
    assert task_log.lines == []
    fire(trigger(create("[[waiting:0]] [[generating:0.4]]"), last_status="waiting"))
    assert [line.partition(",")[0] for line in task_log.lines] == ["generating"]


def test_a_clear_says_how_to_collect_the_video_that_keeps_running(task_log: TaskLog) -> None:
    asyncio.run(trigger("task_7").on_kill())
    assert "SeedanceTaskSensor(seedance_task_id='task_7')" in task_log.lines[-1]
