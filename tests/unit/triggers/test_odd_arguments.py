"""Rows of the database that hold what no release has written: such a trigger says so, and disturbs no other."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.execution.stores import Facts
from seedance_provider.triggers.slots import SeedanceSlotTrigger
from tests.support.airflow import fire

if TYPE_CHECKING:
    from seedance_provider.triggers.shared import SeedanceTrigger

RECORDED = Path(__file__).resolve().parents[2] / "recorded"
NUMBERS = [
    ("task_trigger", "deadline"),
    ("task_trigger", "poll_interval"),
    ("task_trigger", "started_at"),
    ("slot_trigger", "since"),
    ("slot_trigger", "refused_at"),
    ("slot_trigger", "poll_interval"),
    ("slot_trigger", "limit"),
    ("ledger_trigger", "deadline"),
    ("pause_trigger", "until"),
    ("pause_trigger", "deferred_at"),
]
TEXTS = [
    ("task_trigger", "seedance_task_id"),
    ("slot_trigger", "seedance_conn_id"),
    ("ledger_trigger", "folder"),
    ("ledger_trigger", "waited_for"),
]


def started(name: str, **changes: Any) -> SeedanceTrigger:
    example = json.loads((RECORDED / f"{name}.json").read_text())
    module, _, kind = example["classpath"].rpartition(".")
    trigger: SeedanceTrigger = getattr(importlib.import_module(module), kind)(**example["kwargs"] | changes)
    return trigger


@pytest.mark.parametrize("odd", ["soon", math.nan, math.inf, 10**400, [], True], ids=repr)
@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_a_number_that_is_none_is_an_error_that_names_it(name: str, argument: str, odd: Any) -> None:
    event = TaskEvent.from_json(fire(started(name, **{argument: odd})))
    assert event.error is not None
    assert argument in str(event.error)
    assert event.error.retryable
    assert event.state.resubmitted == 1


@pytest.mark.parametrize("odd", [None, 5, []], ids=repr)
@pytest.mark.parametrize(("name", "argument"), TEXTS)
def test_a_text_that_is_none_is_an_error_that_names_it(name: str, argument: str, odd: Any) -> None:
    event = TaskEvent.from_json(fire(started(name, **{argument: odd})))
    assert event.error is not None
    assert argument in str(event.error)


@pytest.mark.parametrize("odd", ["x", 5, [1], {"uploads": 3, "resubmitted": math.nan}], ids=repr)
def test_a_state_that_is_none_is_that_of_a_start(odd: Any) -> None:
    assert TaskEvent.from_json(fire(started("pause_trigger", state=odd))).state == ResumeState()


@pytest.mark.parametrize(
    "odd",
    [{"since": "x"}, {"since": math.nan}, {"poll_interval": math.nan}, {"limit": "x"}, {"deadline": math.nan}],
    ids=repr,
)
def test_others_in_the_queue_get_their_slot_all_the_same(odd: dict[str, Any]) -> None:
    def waiting(**changes: Any) -> SeedanceSlotTrigger:
        at = time.time()
        arguments = {"seedance_conn_id": "c", "since": at, "refused_at": at, "poll_interval": 0.01, "deadline": at + 5}
        return SeedanceSlotTrigger(**arguments | changes)

    async def event_of(trigger: SeedanceSlotTrigger) -> TaskEvent:
        (event,) = [event async for event in trigger.run()]
        return TaskEvent.from_json(event.payload)

    async def run() -> list[TaskEvent]:
        return await asyncio.gather(*map(event_of, [waiting(), waiting(**odd), waiting(), waiting()]))

    assert [event.status for event in asyncio.run(run())] == ["slot", "error", "slot", "slot"]


@pytest.mark.parametrize("odd", [10**400, math.nan, "x", None], ids=["huge", "nan", "text", "none"])
def test_a_time_that_is_none_is_left_out_of_the_facts(odd: Any) -> None:
    assert Facts.from_json({"intended_at": odd, "model": "seedance-20"}) == Facts("seedance-20")
