"""SeedanceSlotTrigger: what it carries, and that it fires once, when a slot is likely or the deadline has come."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import Any

import pytest

from seedance_provider import defaults
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import SeedanceConcurrencyLimitError
from seedance_provider.triggers.shared import shared_by
from seedance_provider.triggers.slots import SeedanceSlotTrigger, no_slot
from tests.support.airflow import fire
from tests.support.virtual_time import turns

LONG = 3600.0
STATE = ResumeState(resubmitted=1, slot_since=5e8, refused=True)


def make_trigger(**changes: Any) -> SeedanceSlotTrigger:
    at = time.time()
    arguments: dict[str, Any] = {
        "seedance_conn_id": "seedance_default",
        "since": at - 10,
        "refused_at": at,
        "poll_interval": 0.01,
        "deadline": at + 60,
        "state": STATE.to_json(),
    }
    return SeedanceSlotTrigger(**arguments | changes)


async def event_of(trigger: SeedanceSlotTrigger) -> TaskEvent:
    (event,) = [event async for event in trigger.run()]
    return TaskEvent.from_json(event.payload)


# What it carries.


def test_it_is_made_again_from_its_arguments() -> None:
    original = make_trigger(limit=3)
    path, arguments = original.serialize()
    assert path == f"{SeedanceSlotTrigger.__module__}.{SeedanceSlotTrigger.__qualname__}"
    assert SeedanceSlotTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
    assert set(arguments) == set(inspect.signature(SeedanceSlotTrigger).parameters), "nothing is forgotten"


def test_without_a_state_it_carries_the_state_of_a_start() -> None:
    assert TaskEvent.from_json(fire(make_trigger(state=None))).state == ResumeState()


# One event.


def test_it_fires_when_it_is_time_to_guess_and_gives_the_state_back() -> None:
    event = TaskEvent.from_json(fire(make_trigger()))
    assert (event.status, event.error, event.state) == ("slot", None, STATE)


def test_it_fires_when_a_video_of_its_connection_ends_and_of_no_other() -> None:
    async def run() -> TaskEvent:
        waiting = asyncio.create_task(event_of(make_trigger(poll_interval=LONG)))
        await turns()
        shared_by("another").slots.release()
        await turns()
        assert not waiting.done()
        shared_by("seedance_default").slots.release()
        return await asyncio.wait_for(waiting, 2)

    assert asyncio.run(run()).status == "slot"


def test_at_the_deadline_it_fires_an_error_that_a_retry_may_cure() -> None:
    event = TaskEvent.from_json(fire(make_trigger(poll_interval=LONG, deadline=time.time() + 0.05)))
    assert (event.status, event.state) == ("error", STATE)
    assert type(event.error) is SeedanceConcurrencyLimitError
    assert event.error.retryable
    assert event.error.charged == "no"
    assert " 10 s" in str(event.error)
    assert "slot_timeout" in str(event.error)


def test_a_deadline_that_passed_while_no_triggerer_ran_fires_at_once() -> None:
    event = TaskEvent.from_json(fire(make_trigger(poll_interval=LONG, deadline=time.time() - 60)))
    assert event.status == "error"


@pytest.mark.parametrize("charged", ["no", "unknown"])
def test_the_error_says_that_nothing_was_charged_only_where_that_is_known(charged: Any) -> None:
    error = no_slot(600, SeedanceConcurrencyLimitError("No free slot", limit=5, current=5, charged=charged))
    assert (error.charged, error.limit) == (charged, 5)
    assert ("nothing was charged" in str(error)) is (charged == "no")


# Airflow's scheduler needs time to note a deferral.


@pytest.mark.parametrize("deadline", [60.0, 0.0], ids=["slot", "deadline"])
def test_in_a_triggerer_it_fires_no_earlier_than_airflow_allows(
    monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    monkeypatch.setattr(defaults, "RESUME_SECONDS", 0.3)
    trigger = make_trigger(deadline=time.time() + deadline)
    trigger.trigger_id = 7
    asyncio.run(event_of(trigger))
    assert time.time() >= trigger.refused_at + 0.3


def test_a_slot_is_passed_on_if_the_trigger_is_cancelled_before_it_may_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "RESUME_SECONDS", 60.0)

    async def run() -> TaskEvent:
        first = make_trigger(since=1.0, poll_interval=LONG)
        first.trigger_id = 7
        held = asyncio.create_task(event_of(first))
        await turns()
        waiting = asyncio.create_task(event_of(make_trigger(since=2.0, poll_interval=LONG)))
        await turns()
        shared_by("seedance_default").slots.release()
        await turns()
        assert not waiting.done()
        held.cancel()
        await asyncio.wait({held})
        return await asyncio.wait_for(waiting, 2)

    assert asyncio.run(run()).status == "slot"
