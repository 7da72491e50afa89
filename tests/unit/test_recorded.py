"""What an earlier release wrote to the database or the ledger is read by this one.

``tests/recorded`` holds one example of each. A file there is never changed and never deleted; what is written in a new
form gets a new file beside it.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedance_provider.api.records import TaskStatus
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import SeedanceTaskFailedError
from seedance_provider.execution.receipts import Outcome, Receipt, Stage

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
TASK = "task_b7n3m9q1w5e8r2t6y0u4i7o3"
STATE = ResumeState(
    resubmitted=1,
    slot_since=1763990000.5,
    uploads={"/data/fox.png": "https://static.example.com/temp-uploads/fox.png"},
    uploaded_at=1763989990.25,
)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["task_trigger", "slot_trigger", "ledger_trigger", "pause_trigger"])
def test_a_trigger_starts_from_its_arguments(name: str) -> None:
    example = recorded(name)
    module, _, kind = example["classpath"].rpartition(".")
    trigger = getattr(importlib.import_module(module), kind)(**example["kwargs"])
    classpath, kwargs = trigger.serialize()
    assert classpath == example["classpath"]
    assert kwargs | example["kwargs"] == kwargs
    assert ResumeState.from_json(kwargs["state"]) == STATE


def test_an_event_of_a_success_brings_its_record() -> None:
    event = TaskEvent.from_json(recorded("event_success"))
    assert (event.status, event.seedance_task_id, event.error, event.state) == ("success", TASK, None, STATE)
    assert event.record is not None
    assert event.record.status is TaskStatus.SUCCESS
    assert event.record.urls == ["https://static.example.com/videos/b7.mp4"]
    assert str(event.record.credits_used) == "99.80000000000001"
    assert event.record.generation_seconds == 197


def test_an_event_of_a_failure_brings_its_error() -> None:
    event = TaskEvent.from_json(recorded("event_error"))
    assert (event.status, event.seedance_task_id, event.record, event.state) == ("error", TASK, None, STATE)
    error = event.error
    assert type(error) is SeedanceTaskFailedError
    assert (error.code, error.seedance_task_id, error.charged) == ("1001", TASK, "no")
    assert error.record is not None
    assert error.record.credits_used == 200


def test_an_event_of_a_free_slot_brings_its_state() -> None:
    event = TaskEvent.from_json(recorded("event_slot"))
    assert (event.status, event.record, event.error, event.state) == ("slot", None, None, STATE)


def test_an_event_of_a_free_slot_brings_the_inputs_that_a_function_wrote() -> None:
    event = TaskEvent.from_json(recorded("event_slot_inputs"))
    assert event.state == replace(STATE, inputs={"prompt": "A fox at dawn", "duration": 5})


def test_a_receipt_of_an_intent_tells_what_is_unknown() -> None:
    receipt = Receipt.from_json(recorded("receipt_intent"))
    assert (receipt.stage, receipt.unknown, receipt.seedance_task_id) == (Stage.INTENT, 1, None)
    assert (receipt.max_tries, receipt.try_number, receipt.retries) == (2, 1, 2)


def test_a_receipt_of_a_task_that_ended_names_it() -> None:
    receipt = Receipt.from_json(recorded("receipt_ended"))
    assert (receipt.stage, receipt.outcome, receipt.seedance_task_id) == (Stage.ENDED, Outcome.SUCCESS, TASK)
    assert receipt.submitted_at == 1763990003


def test_a_receipt_whose_end_is_called_back_names_the_tasks_of_former_videos() -> None:
    receipt = Receipt.from_json(recorded("receipt_called_back"))
    assert (receipt.called_back, receipt.former) == (True, (TASK,))
    assert not Receipt.from_json(recorded("receipt_intent")).called_back


@pytest.mark.parametrize("name", ["receipt_intent", "receipt_ended", "receipt_called_back"])
def test_a_receipt_is_written_with_all_that_it_was_read_from(name: str) -> None:
    written = Receipt.from_json(recorded(name)).to_json()
    assert written | recorded(name) == written
