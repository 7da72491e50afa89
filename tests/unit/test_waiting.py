from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.api.models import TaskOutput, TaskRecord, TaskStatus
from seedance_provider.events import TaskEvent, error_to_json
from seedance_provider.exceptions import SeedanceError, SeedanceTaskFailedError
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.waiting import Paused, Wait, finish, goes_on, outcome
from tests.support.airflow import FakeTaskInstance, TaskLog

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

RECORD = TaskRecord(
    seedance_task_id="task_1",
    status=TaskStatus.SUCCESS,
    credits_used=Decimal("199.5"),
    outputs=(TaskOutput(url="https://cdn.example.com/1.mp4?sig=x"), TaskOutput(url="https://cdn.example.com/2.mp4")),
    create_time=1_000_000,
    complete_time=1_190_400,
)


def wait_for(task_id: str, timeout: float = 60) -> Wait:
    return Wait(seedance_task_id=task_id, poll_interval=7, started_at=time.time(), timeout=timeout)


class Waiting:
    """An operator at the end of its wait."""

    do_xcom_push = True
    video_url = ""
    log: Any = None


def end(record: TaskRecord, monkeypatch: pytest.MonkeyPatch, *, push: bool = True) -> tuple[list[str], Any, Any, str]:
    operator, ti = Waiting(), FakeTaskInstance()
    operator.do_xcom_push = push
    log = TaskLog(monkeypatch, Waiting)
    urls = finish(record, operator, {"ti": ti}, operator.log)  # type: ignore[arg-type, typeddict-item]
    return urls, operator, ti, log.lines[-1]


def test_the_deadline_counts_from_the_start_of_waiting() -> None:
    assert Wait(seedance_task_id="task_1", poll_interval=None, started_at=100.0, timeout=30.0).deadline == 130.0


def test_a_look_at_a_running_task_says_how_long_to_pause(seedance_emulator: Emulator) -> None:
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", {"prompt": "[[waiting:60]]"})
    with pytest.raises(Paused) as caught:
        wait_for(task_id).look(hook, hook.log)
    assert caught.value.pause.seconds == 7
    assert caught.value.pause.status == "waiting"
    assert len(seedance_emulator.requests("recordInfo")) == 1


def test_a_look_at_a_finished_task_gives_its_record(seedance_emulator: Emulator) -> None:
    hook = SeedanceHook()
    assert wait_for("demo_task_t2v_success").look(hook, hook.log).urls
    with pytest.raises(SeedanceTaskFailedError):
        wait_for("demo_task_fail_server_error").look(hook, hook.log)


def test_the_end_says_what_the_video_took_and_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    urls, operator, ti, line = end(RECORD, monkeypatch)
    assert urls == RECORD.urls
    assert operator.video_url == RECORD.urls[0]
    assert ti.xcoms["seedance_task"]["credits_used"] == "199.5"
    assert line == (
        "Task task_1 succeeded after 190 s of generation, 199.5 credits: "
        "https://cdn.example.com/1.mp4, https://cdn.example.com/2.mp4"
    )


def test_the_end_of_a_sparse_record_says_what_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = TaskRecord(seedance_task_id="task_1", status=TaskStatus.SUCCESS, outputs=RECORD.outputs)
    assert "succeeded after an unknown time of generation, unknown credits" in end(sparse, monkeypatch)[3]


def test_the_end_pushes_nothing_if_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert end(RECORD, monkeypatch, push=False)[2].xcoms == {}


def test_a_record_travels_through_xcom_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TaskRecord.model_validate(end(RECORD, monkeypatch)[2].xcoms["seedance_task"]) == RECORD


def test_an_event_gives_back_the_record_or_raises_the_error() -> None:
    assert outcome(TaskEvent("success", "task_1", record=RECORD.model_dump(mode="json")).to_json()) == RECORD
    failed = SeedanceTaskFailedError("no", code="2038", record=RECORD, seedance_task_id="task_1")
    with pytest.raises(SeedanceTaskFailedError, match=r"^no$") as caught:
        outcome(TaskEvent("error", "task_1", error=error_to_json(failed)).to_json())
    assert vars(caught.value) == vars(failed)


@pytest.mark.parametrize("event", [None, 7, [], {"status": "success"}, {"status": "success", "record": {}}, {"x": 1}])
def test_an_event_that_cannot_be_read_is_an_error_of_ours(event: Any) -> None:
    with pytest.raises(SeedanceError):
        outcome(event)


def test_who_stops_a_waiting_task_learns_that_the_video_goes_on() -> None:
    assert "Task task_1 cannot be cancelled: it goes on and is billed" in goes_on("task_1")
    assert "SeedanceTaskSensor(seedance_task_id='task_1')" in goes_on("task_1")
