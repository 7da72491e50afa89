"""What goes from the trigger to the task arrives as it was; what cannot be read never passes for a success."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import exceptions
from seedance_provider.api.records import TaskRecord, TaskStatus, parse_task
from seedance_provider.events import ResumeState, TaskEvent
from tests.support import wild
from tests.unit.test_exceptions import TABLE, example_of

RECORD = parse_task(
    {"taskId": "task_a", "status": "success", "creditsUsed": 200, "output": ["https://a.example/v.mp4"]}
)
STATE = ResumeState(
    resubmitted=1,
    slot_since=5.5,
    refused=True,
    uploads={"/a.png": "https://a.example/"},
    uploaded_at=4,
    inputs={"prompt": "a fox"},
)
SUCCESS = {"status": "success", "seedance_task_id": "task_a", "record": RECORD.model_dump(mode="json")}


def through_the_database(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


class TestResumeState:
    def test_starts_with_nothing_known(self) -> None:
        assert ResumeState.from_json(None) == ResumeState()

    @given(
        st.builds(
            ResumeState,
            resubmitted=st.integers(0, 1000),
            slot_since=st.none() | st.floats(0, 1e11),
            refused=st.booleans(),
            uploads=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
            uploaded_at=st.floats(0, 1e11),
            inputs=st.none()
            | st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.none(), max_size=3),
        )
    )
    def test_arrives_as_it_left(self, state: ResumeState) -> None:
        assert ResumeState.from_json(through_the_database(state.to_json())) == state

    def test_of_the_next_submission_has_nothing_of_the_formers_slot(self) -> None:
        following = STATE.next_submission()
        assert (following.resubmitted, following.slot_since, following.refused) == (2, None, False)
        assert (following.uploads, following.uploaded_at) == (STATE.uploads, STATE.uploaded_at)
        assert following.inputs == STATE.inputs

    @pytest.mark.parametrize("member", [member.name for member in fields(ResumeState)])
    @pytest.mark.parametrize(
        "value",
        ["x", [], ["a"], math.nan, math.inf, -math.inf, 10**400, {"a": 1}, {"a": None}, {"a": [math.nan]}, object],
        ids=lambda value: repr(value)[:12],
    )
    def test_takes_a_member_that_makes_no_sense_as_at_the_start(self, member: str, value: Any) -> None:
        members = STATE.to_json() | {member: value}
        read = ResumeState.from_json(members)
        makes_sense = member == "inputs" and value in ({"a": 1}, {"a": None})
        assert getattr(read, member) == (value if makes_sense else getattr(ResumeState(), member))
        for other in fields(ResumeState):
            if other.name != member:
                assert getattr(read, other.name) == getattr(STATE, other.name)

    def test_does_not_take_a_number_for_a_flag_nor_a_flag_for_a_number(self) -> None:
        assert ResumeState.from_json({"refused": 1}) == ResumeState()
        assert ResumeState.from_json({"resubmitted": True, "slot_since": True, "uploaded_at": True}) == ResumeState()

    def test_of_a_later_version_may_hold_more(self) -> None:
        assert ResumeState.from_json({**STATE.to_json(), "new": 1}) == STATE

    @given(
        wild.values | st.fixed_dictionaries({}, optional={member.name: wild.values for member in fields(ResumeState)})
    )
    def test_is_read_from_anything(self, payload: Any) -> None:
        through_the_database(ResumeState.from_json(payload).to_json())


class TestTaskEvent:
    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(TaskEvent("success", "task_a", record=RECORD, state=STATE), id="success"),
            pytest.param(TaskEvent("slot", state=STATE), id="slot"),
            pytest.param(TaskEvent("slot"), id="slot-with-nothing-known"),
        ],
    )
    def test_arrives_as_it_left(self, event: TaskEvent) -> None:
        assert TaskEvent.from_json(through_the_database(event.to_json())) == event

    @pytest.mark.parametrize("name", TABLE)
    def test_brings_any_error(self, name: str) -> None:
        error = example_of(name)
        event = TaskEvent("error", "task_a", error=error, state=STATE)
        arrived = TaskEvent.from_json(through_the_database(event.to_json()))
        assert (arrived.status, arrived.seedance_task_id, arrived.state) == ("error", "task_a", STATE)
        assert type(arrived.error) is type(error)
        assert str(arrived.error) == str(error)
        assert vars(arrived.error) == vars(error)

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
            {"status": "success", "record": {"seedance_task_id": "task_a", "status": "generating"}},
            {"status": "success", "record": {"seedance_task_id": "task_a", "status": "fail"}},
            {"status": "success", "record": {"taskId": "task_a", "status": "success"}},
            {"status": "error"},
            {"status": "error", "error": None},
            {"status": "error", "error": "boom"},
        ],
        ids=repr,
    )
    def test_that_cannot_be_read_becomes_an_error(self, payload: Any) -> None:
        event = TaskEvent.from_json(payload)
        assert event.status == "error"
        assert event.record is None
        assert type(event.error) is exceptions.SeedanceError
        assert event.error.retryable, "another worker may have the right version"

    def test_that_cannot_be_read_names_its_task_and_is_not_repeated_at_length(self) -> None:
        event = TaskEvent.from_json({"status": "x" * 10_000, "seedance_task_id": "task_a"})
        assert event.error is not None
        assert event.error.seedance_task_id == "task_a"
        assert len(str(event.error)) < 700

    @pytest.mark.parametrize("stray", ["x", 5, [], {"type": "SeedanceServerError", "text": "x"}], ids=repr)
    def test_of_a_success_brings_no_error(self, stray: Any) -> None:
        event = TaskEvent.from_json({**SUCCESS, "error": stray})
        assert (event.status, event.error) == ("success", None)

    @pytest.mark.parametrize("state", [None, "x", 5, ["a"]], ids=repr)
    def test_starts_anew_where_the_state_cannot_be_read(self, state: Any) -> None:
        event = TaskEvent.from_json({**SUCCESS, "state": state})
        assert (event.status, event.state) == ("success", ResumeState())

    def test_of_a_later_version_may_hold_more(self) -> None:
        event = TaskEvent.from_json({**SUCCESS, "new": 1, "record": {**SUCCESS["record"], "new": 1}})  # type: ignore[dict-item]
        assert (event.status, event.record) == ("success", RECORD)

    @given(
        st.one_of(
            wild.values,
            st.fixed_dictionaries(
                {"status": st.one_of(st.sampled_from(["success", "error", "slot"]), wild.values)},
                optional={
                    "seedance_task_id": st.one_of(wild.values, st.just(10**5000)),
                    "record": st.one_of(wild.values, wild.records, st.just(SUCCESS["record"])),
                    "error": wild.values,
                    "state": wild.values,
                },
            ),
        )
    )
    def test_of_any_content_can_be_handled(self, payload: Any) -> None:
        event = TaskEvent.from_json(payload)
        assert isinstance(event.seedance_task_id, str)
        assert isinstance(event.state, ResumeState)
        assert (event.error is not None) == (event.status == "error")
        assert (event.record is not None) == (event.status == "success")
        if event.record is not None:
            assert isinstance(event.record, TaskRecord)
            assert event.record.status is TaskStatus.SUCCESS
        event.to_json()
