"""What triggers share, when they fire, and what of an event can be read in a log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers import base
from pydantic import TypeAdapter

from seedance_provider import connection, defaults
from seedance_provider.api.records import parse_task
from seedance_provider.events import TaskEvent
from seedance_provider.exceptions import SeedanceServerError, SeedanceTaskFailedError, SeedanceTaskTimeoutError
from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from seedance_provider.triggers.shared import SeedanceTriggerEvent, Shared, shared_by

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

RECORD = parse_task(
    {
        "taskId": "task_1",
        "status": "success",
        "output": [{"url": "https://cdn.example.com/v.mp4?sig=s3cret", "lastFrameImage": "https://cdn.example.com/f"}],
    },
    seedance_task_id="task_1",
)


def trigger(task_id: str = "demo_task_t2v_success", *, timeout: float = 20.0) -> SeedanceTaskTrigger:
    return SeedanceTaskTrigger("seedance_default", task_id, 0.05, time.time() + timeout)


def test_each_connection_has_one_object_on_each_event_loop() -> None:
    async def three() -> tuple[Shared, Shared, Shared]:
        return shared_by("a"), shared_by("a"), shared_by("b")

    first, again, other = asyncio.run(three())
    assert first is again
    assert first is not other
    assert asyncio.run(three())[0] is not first


# The event in a log.


@pytest.mark.parametrize(
    "event",
    [
        TaskEvent("success", "task_1", record=RECORD),
        TaskEvent("error", "task_1", error=SeedanceTaskFailedError("no", record=RECORD, seedance_task_id="task_1")),
        TaskEvent("error", "task_1", error=SeedanceServerError("see https://cdn.example.com/x")),
        TaskEvent("slot"),
    ],
    ids=lambda event: event.status,
)
def test_an_event_shows_its_status_and_task_and_no_url(event: TaskEvent) -> None:
    fired = SeedanceTriggerEvent(event)
    for shown in (str(fired), repr(fired), f"{fired}", repr([fired])):
        assert event.status in shown
        assert event.seedance_task_id in shown
        assert "://" not in shown
    assert TaskEvent.from_json(json.loads(json.dumps(fired.payload))).status == event.status


def test_an_event_leaves_the_triggerer_whole() -> None:
    if not hasattr(base, "DiscrimatedTriggerEvent"):
        pytest.skip("Airflow 2 hands events over within one process")
    sent_as: TypeAdapter[base.TriggerEvent] = TypeAdapter(base.DiscrimatedTriggerEvent)
    fired = SeedanceTriggerEvent(TaskEvent("success", "task_1", record=RECORD))
    assert sent_as.validate_json(sent_as.dump_json(fired, warnings="error")).payload == fired.payload


# Airflow's scheduler needs time to note a deferral.


def test_in_a_triggerer_it_fires_no_earlier_than_airflow_allows(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "RESUME_SECONDS", 0.6)
    waiting = trigger()
    waiting.trigger_id = 7
    asyncio.run(anext(aiter(waiting.run())))
    assert time.time() >= waiting.deferred_at + 0.6


def test_the_time_counts_from_the_deferral_not_from_a_restart_of_the_triggerer(seedance_emulator: Emulator) -> None:
    waiting = trigger()
    waiting.deferred_at -= 60
    waiting.trigger_id = 7
    started = time.monotonic()
    asyncio.run(anext(aiter(waiting.run())))
    assert time.monotonic() - started < 5 < defaults.RESUME_SECONDS


def test_outside_of_a_triggerer_nothing_is_waited_for(seedance_emulator: Emulator) -> None:
    started = time.monotonic()
    asyncio.run(anext(aiter(trigger().run())))
    assert time.monotonic() - started < 5 < defaults.RESUME_SECONDS


# The lookup of the connection.


class Lookups:
    """Airflow's lookup of connections, which fails as often as it is told to.

    :param error: What it fails with.
    :param failures: How often; -1 for ever.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, failures: int) -> None:
        self.count = self.running = self.most = 0
        original = connection.get_async_connection

        async def get_async_connection(conn_id: str, **arguments: Any) -> Any:
            self.count += 1
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.02)
            self.running -= 1
            if self.count <= failures or failures < 0:
                raise error
            return await original(conn_id, **arguments)

        monkeypatch.setattr(connection, "get_async_connection", get_async_connection)


def run_together(waiting: list[SeedanceTaskTrigger]) -> list[TaskEvent]:
    async def run() -> list[Any]:
        return await asyncio.gather(*(anext(aiter(each.run())) for each in waiting))

    return [TaskEvent.from_json(event.payload) for event in asyncio.run(run())]


@pytest.mark.parametrize("error", [ConnectionError("the API server restarts"), RuntimeError("comms"), TimeoutError()])
def test_a_lookup_that_fails_for_a_moment_is_retried_once_for_all_who_wait(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    lookups = Lookups(monkeypatch, error, failures=3)
    events = run_together([trigger() for _ in range(60)])
    assert [event.status for event in events] == ["success"] * 60
    assert lookups.most == 1
    assert lookups.count == 4


def test_a_lookup_that_fails_until_the_deadline_ends_the_wait_with_an_error_that_names_the_task(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedance_provider.transport.pool.LAST_LOOKUP_SECONDS", 0.1)
    Lookups(monkeypatch, ConnectionError("the API server is gone"), failures=-1)
    for event in run_together([trigger(f"task_{number}", timeout=0.4) for number in range(3)]):
        assert isinstance(event.error, SeedanceTaskTimeoutError)
        assert event.error.charged == "yes"
        assert f"SeedanceTaskSensor(seedance_task_id={event.seedance_task_id!r})" in str(event.error)


def test_a_connection_that_cannot_be_used_ends_the_wait_at_once(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps({"conn_type": "seedance", "password": ""}))
    (event,) = run_together([trigger()])
    assert event.error is not None
    assert not event.error.retryable


def test_the_key_is_masked_in_the_logs_of_the_triggerer(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[str] = []

    async def amask_secret(secret: str, name: str | None = None) -> None:
        masked.append(secret)

    if connection.amask_secret is None:
        monkeypatch.setattr(connection, "mask_secret", masked.append)
    else:
        monkeypatch.setattr(connection, "amask_secret", amask_secret)
    run_together([trigger()])
    assert masked == [seedance_emulator.api_key]


def test_no_logger_of_its_own_is_kept_for_each_waiter() -> None:
    assert trigger().log is trigger().log
    assert not isinstance(trigger().__dict__.get("_log"), logging.Logger)
