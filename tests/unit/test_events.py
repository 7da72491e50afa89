"""What goes from the trigger to the task arrives as it was; what cannot be read never passes for a success."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import events, exceptions
from seedance_provider.api.models import TaskRecord, parse_task
from seedance_provider.events import TaskEvent
from tests.unit.api import wild
from tests.unit.test_exceptions import COMMON, TABLE, kind_of

RECORD = parse_task(
    {"taskId": "task_a", "status": "success", "creditsUsed": 200, "output": ["https://a.example/v.mp4"]}
)


def through_the_database(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("name", TABLE)
class TestEveryError:
    def test_arrives_as_it_left(self, name: str) -> None:
        details = {**COMMON, **TABLE[name][1]}
        error = kind_of(name)("What happened. What to do", **details)

        arrived = events.error_from_json(through_the_database(events.error_to_json(error)))

        assert type(arrived) is type(error)
        assert str(arrived) == "What happened. What to do"
        assert vars(arrived) == details

    def test_arrives_without_details_too(self, name: str) -> None:
        error = kind_of(name)("text")
        arrived = events.error_from_json(through_the_database(events.error_to_json(error)))
        assert type(arrived) is type(error)
        assert vars(arrived) == vars(error)

    def test_arrives_with_the_notes_of_a_traceback_left_behind(self, name: str) -> None:
        error = kind_of(name)("text")
        error.add_note("seen in the triggerer")
        arrived = events.error_from_json(through_the_database(events.error_to_json(error)))
        assert str(arrived) == "text"


@given(st.sampled_from(sorted(TABLE)), wild.values)
def test_every_error_is_rebuilt_from_details_that_make_no_sense(name: str, value: Any) -> None:
    details = dict.fromkeys([*COMMON, *TABLE[name][1], "unknown"], value)
    arrived = events.error_from_json({"type": name, "text": "text", "details": details})
    assert type(arrived) is kind_of(name)
    assert str(arrived) == "text"
    assert not hasattr(arrived, "unknown")


@pytest.mark.parametrize(
    "kind", ["Decimal", "AirflowFailException", "SystemExit", "annotations", "__doc__", "New", None, 5]
)
def test_an_unknown_class_becomes_the_common_base_and_nothing_else(kind: Any) -> None:
    assert type(events.error_from_json({"type": kind, "text": "text"})) is exceptions.SeedanceError


@given(wild.values)
def test_any_mapping_gives_an_error_to_raise(value: Any) -> None:
    for payload in ({}, {"type": value, "text": value, "details": value}, {"details": {"message": value}}):
        assert isinstance(events.error_from_json(payload), exceptions.SeedanceError)


class TestEvent:
    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(
                TaskEvent("success", "task_a", record=RECORD.model_dump(mode="json"), carry={"since": 5.0}),
                id="success",
            ),
            pytest.param(
                TaskEvent("error", "task_a", error=events.error_to_json(exceptions.SeedanceServerError("x"))),
                id="error",
            ),
            pytest.param(TaskEvent("slot", carry={"model": "seedance-20"}), id="slot"),
            pytest.param(TaskEvent("slot"), id="slot-that-carries-nothing"),
        ],
    )
    def test_arrives_as_it_left(self, event: TaskEvent) -> None:
        assert TaskEvent.from_json(through_the_database(event.to_json())) == event

    def test_brings_the_record_of_a_success(self) -> None:
        event = TaskEvent("success", "task_a", record=RECORD.model_dump(mode="json"))
        arrived = TaskEvent.from_json(through_the_database(event.to_json()))
        assert TaskRecord.model_validate(arrived.record) == RECORD

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            "success",
            [],
            {},
            {"status": None},
            {"status": "done", "record": {}},
            {"status": ["success"], "record": {"seedance_task_id": "task_a"}},
            {"status": "success"},
            {"status": "success", "record": None},
            {"status": "success", "record": {}},
            {"status": "success", "record": "task_a"},
            {"status": "success", "record": {"seedance_task_id": "task_a"}},
            {"status": "success", "record": {"seedance_task_id": "task_a", "status": "finished"}},
            {"status": "error"},
            {"status": "error", "error": None},
            {"status": "error", "error": "boom"},
            {"status": "slot", "carry": None},
            {"status": "slot", "carry": "x"},
            {"status": "slot"},
        ],
        ids=repr,
    )
    def test_that_cannot_be_read_becomes_an_error(self, payload: Any) -> None:
        event = TaskEvent.from_json(payload)
        assert event.status == "error"
        assert event.record is None
        assert event.error is not None
        error = events.error_from_json(event.error)
        assert "cannot be read" in str(error)

    @pytest.mark.parametrize("stray", ["x", 5, [], {"type": "SeedanceServerError", "text": "x"}], ids=repr)
    def test_of_a_success_brings_no_error(self, stray: Any) -> None:
        payload = {"status": "success", "seedance_task_id": "task_a", "record": RECORD.model_dump(mode="json")}
        event = TaskEvent.from_json({**payload, "error": stray})
        assert (event.status, event.error) == ("success", None)

    @pytest.mark.parametrize("carry", [None, "x", 5, ["a"]], ids=repr)
    def test_carries_nothing_where_that_cannot_be_read(self, carry: Any) -> None:
        payload = {"status": "success", "record": RECORD.model_dump(mode="json"), "carry": carry}
        event = TaskEvent.from_json(payload)
        assert event.status == "success"
        assert event.carry == {}

    def test_of_a_later_version_may_hold_more(self) -> None:
        payload = {**TaskEvent("success", "task_a", record=RECORD.model_dump(mode="json")).to_json(), "new": 1}
        payload["record"] = {**payload["record"], "new": 1}
        event = TaskEvent.from_json(payload)
        assert event.status == "success"
        assert TaskRecord.model_validate(event.record) == RECORD

    @given(
        st.one_of(
            wild.values,
            st.fixed_dictionaries(
                {"status": st.one_of(st.sampled_from(["success", "error", "slot"]), wild.values)},
                optional={
                    "seedance_task_id": wild.values,
                    "record": st.one_of(wild.values, wild.records),
                    "error": wild.values,
                    "carry": wild.values,
                },
            ),
        )
    )
    def test_of_any_content_can_be_handled(self, payload: Any) -> None:
        event = TaskEvent.from_json(payload)
        assert isinstance(event.seedance_task_id, str)
        assert isinstance(event.carry, dict)
        if event.status == "success":
            TaskRecord.model_validate(event.record)
        elif event.status == "error":
            assert event.error is not None
            assert isinstance(events.error_from_json(event.error), exceptions.SeedanceError)

    def test_that_cannot_be_read_is_not_repeated_at_length(self) -> None:
        event = TaskEvent.from_json({"status": "x" * 10_000})
        assert event.error is not None
        assert len(event.error["text"]) < 700
