"""The sensor in its three modes, driven without a database; test_dag_runs.py has real DAG runs."""

from __future__ import annotations

import itertools
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    TaskDeferred,
)

from seedance_provider import defaults
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceOutputMissingError,
    SeedancePermissionError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from tests.support.airflow import MODES, FakeTaskInstance, fire, make_sensor, run_sensor

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator
    from tests.support.airflow import TaskLog

in_every_mode = pytest.mark.parametrize("mode", MODES)
SOON = {"poll_interval": 0.05}
TIMEOUT = "Trigger timeout"  # Airflow's word for a deferral that took too long


def create(prompt: str = "a fox", model: str = "seedance-20") -> str:
    return SeedanceHook().create_task(model, {"prompt": prompt, "duration": 5})


def context(ti: FakeTaskInstance | None = None) -> Any:
    return {"ti": ti or FakeTaskInstance()}


def deferral(**arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        make_sensor("deferred", **arguments).execute(context())
    return caught.value


# All modes end alike.


@in_every_mode
def test_a_success_returns_the_urls_and_pushes_the_record(seedance_emulator: Emulator, mode: str) -> None:
    ti, task_id = FakeTaskInstance(), create()
    urls = run_sensor(mode, ti, seedance_task_id=task_id, **SOON)
    assert urls == [f"{seedance_emulator.url}/videos/{task_id}.mp4"]
    record = ti.xcoms["seedance_task"]
    assert record["seedance_task_id"] == task_id
    assert record["status"] == "success"
    assert [output["url"] for output in record["outputs"]] == urls


@in_every_mode
@pytest.mark.parametrize("dialect", ["seed", "g2", "envelope"])
def test_older_dialects_end_alike(seedance_emulator: Emulator, mode: str, dialect: str) -> None:
    seedance_emulator.settings.update({"dialect": dialect})
    assert len(run_sensor(mode, seedance_task_id=create(), **SOON)) == 1
    with pytest.raises(SeedanceTaskFailedError):
        run_sensor(mode, seedance_task_id=create("[[fail:2038]]"), **SOON)


@in_every_mode
def test_a_failure_raises_the_vendors_reason_and_is_not_retried(seedance_emulator: Emulator, mode: str) -> None:
    ti, task_id = FakeTaskInstance(), create("[[fail:2038]]")
    with pytest.raises(SeedanceTaskFailedError) as caught:
        run_sensor(mode, ti, seedance_task_id=task_id, **SOON)
    error = caught.value
    assert (error.code, error.seedance_task_id, error.retryable) == ("2038", task_id, False)
    assert error.record is not None
    assert error.record.credits_used == 200
    assert error.record.failure is not None
    assert error.message == error.record.failure.message
    assert ti.xcoms["seedance_task"] == error.record.model_dump(mode="json")
    about = f" (task {task_id})"
    assert ti.xcoms["seedance_error"] == {
        "text": f"SeedanceTaskFailedError: {str(error).removesuffix(about)}. Charged: no{about}",
        "type": "SeedanceTaskFailedError",
        "message": error.message,
        "code": "2038",
        "status_code": None,
        "charged": "no",
        "seedance_task_id": task_id,
    }


@in_every_mode
@pytest.mark.parametrize("word", ["waiting", "queued"])
def test_a_task_that_keeps_running_ends_in_a_timeout_that_names_the_call_to_collect_it(
    seedance_emulator: Emulator, mode: str, word: str
) -> None:
    ti, task_id = FakeTaskInstance(), create("[[waiting:60]] [[status:" + word + ":99]]")
    started = time.monotonic()
    with pytest.raises(SeedanceTaskTimeoutError) as caught:
        run_sensor(mode, ti, seedance_task_id=task_id, timeout=0.4, poll_interval=0.1)
    assert time.monotonic() - started < 30
    assert "0.4 s" in str(caught.value)
    assert repr(word) in str(caught.value)
    assert f"SeedanceTaskSensor(seedance_task_id={task_id!r})" in str(caught.value)
    assert (caught.value.seedance_task_id, caught.value.charged) == (task_id, "yes")
    assert (ti.xcoms["seedance_error"]["seedance_task_id"], ti.xcoms["seedance_error"]["charged"]) == (task_id, "yes")


@in_every_mode
def test_an_unknown_id_is_polled_again_for_a_short_grace_only(seedance_emulator: Emulator, mode: str) -> None:
    with pytest.raises(SeedanceTaskNotFoundError, match="task_nobody") as caught:
        run_sensor(mode, seedance_task_id="task_nobody", **SOON)
    assert isinstance(caught.value, AirflowFailException)
    assert len(seedance_emulator.requests("recordInfo")) > 2


@in_every_mode
def test_a_fresh_id_may_be_unknown_for_a_moment(seedance_emulator: Emulator, mode: str) -> None:
    assert run_sensor(mode, seedance_task_id=create("[[not_found:2]]"), **SOON)


@in_every_mode
def test_a_success_whose_output_comes_late_is_a_success(seedance_emulator: Emulator, mode: str) -> None:
    assert run_sensor(mode, seedance_task_id=create("[[null_output:2]]"), **SOON)


@in_every_mode
def test_a_success_without_output_is_a_failure_of_its_own(seedance_emulator: Emulator, mode: str) -> None:
    task_id = create("[[null_output]]")
    with pytest.raises(SeedanceOutputMissingError) as caught:
        run_sensor(mode, seedance_task_id=task_id, **SOON)
    assert (caught.value.seedance_task_id, caught.value.charged, caught.value.retryable) == (task_id, "yes", False)
    assert f"SeedanceTaskSensor(seedance_task_id={task_id!r})" in str(caught.value)


@in_every_mode
def test_polls_that_fail_never_lose_a_task(seedance_emulator: Emulator, mode: str, task_log: TaskLog) -> None:
    task_id = create()
    faults = ("html", "reset", "empty", "truncated", "rate_limit", "http", "envelope_error")
    for fault in faults:
        seedance_emulator.add_fault(fault, on="recordInfo")
    assert run_sensor(mode, seedance_task_id=task_id, **SOON)
    # aiohttp sends a GET again by itself if the connection it had kept was reset.
    assert len([line for line in task_log.warnings if task_id in line]) in (len(faults), len(faults) - 1)
    assert sum(seedance_emulator.counts("recordInfo")[f"fault:{fault}"] for fault in set(faults)) == len(faults)


@in_every_mode
def test_an_api_that_is_down_until_the_deadline_ends_in_a_timeout_that_says_so(
    seedance_emulator: Emulator, mode: str
) -> None:
    task_id = create()
    seedance_emulator.add_fault("html", on="recordInfo", status=502, times=None)
    with pytest.raises(SeedanceTaskTimeoutError, match="502") as caught:
        run_sensor(mode, seedance_task_id=task_id, timeout=0.4, **SOON)
    assert caught.value.seedance_task_id == task_id


@in_every_mode
def test_a_key_that_is_refused_at_the_first_poll_fails_at_once(seedance_emulator: Emulator, mode: str) -> None:
    task_id = create()
    seedance_emulator.put_account(key="another-key")
    with pytest.raises(SeedanceAuthenticationError):
        run_sensor(mode, seedance_task_id=task_id, **SOON)
    assert len(seedance_emulator.requests("recordInfo")) == 1


# A wait that has seen its task alive.

ODD = [
    *({"status": status} for status in (302, 400, 401, 403, 404, 408, 421, 425, 460)),
    {"fault": "html", "status": 404},
    {"fault": "html", "status": 403},
    {"fault": "redirect"},
    {"fault": "wrong_task"},
]


@in_every_mode
@pytest.mark.parametrize("odd", ODD, ids=str)
def test_one_odd_poll_does_not_end_it(seedance_emulator: Emulator, mode: str, odd: dict[str, Any]) -> None:
    seedance_emulator.add_fault(**{"fault": "http", "on": "recordInfo", "skip": 1, **odd})
    assert run_sensor(mode, seedance_task_id=create(), **SOON)
    assert sum(count for what, count in seedance_emulator.counts("recordInfo").items() if "fault:" in what) == 1


@in_every_mode
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, SeedanceAuthenticationError), (403, SeedancePermissionError), (404, SeedanceTaskNotFoundError)],
    ids=str,
)
def test_a_denial_that_persists_ends_it(
    seedance_emulator: Emulator, mode: str, status: int, kind: type[SeedanceError]
) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=status, skip=1, times=None)
    task_id, started = create("[[waiting:60]]"), time.monotonic()
    with pytest.raises(kind) as caught:
        run_sensor(mode, seedance_task_id=task_id, timeout=20, **SOON)
    assert defaults.DENIAL_SECONDS <= time.monotonic() - started < 10
    assert len(seedance_emulator.requests("recordInfo")) > defaults.DENIALS
    assert (caught.value.seedance_task_id, caught.value.charged) == (task_id, "yes")


@in_every_mode
@pytest.mark.parametrize("odd", [{"status": 302}, {"status": 400}, {"fault": "html", "status": 404}], ids=str)
def test_what_is_no_denial_is_polled_over_until_the_deadline(
    seedance_emulator: Emulator, mode: str, odd: dict[str, Any]
) -> None:
    seedance_emulator.add_fault(**{"fault": "http", "on": "recordInfo", "skip": 1, "times": None, **odd})
    with pytest.raises(SeedanceTaskTimeoutError):
        run_sensor(mode, seedance_task_id=create("[[waiting:60]]"), timeout=1, **SOON)


# What it takes, and what it costs.


@in_every_mode
def test_waiting_costs_nothing(seedance_emulator: Emulator, mode: str) -> None:
    task_id = create()
    run_sensor(mode, seedance_task_id=task_id, **SOON)
    assert len(seedance_emulator.requests("createTask")) == 1
    assert seedance_emulator.bill()["tasks_created"] == 1


@in_every_mode
@pytest.mark.parametrize("value", [None, "", ["task_1", "task_2"]])
def test_what_is_not_an_id_is_refused_without_a_request(seedance_emulator: Emulator, mode: str, value: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        run_sensor(mode, seedance_task_id=value)
    assert f"seedance_task_id={value!r}" in str(caught.value)
    assert ".expand(" in str(caught.value)
    assert seedance_emulator.requests() == []


# The first poll.


@in_every_mode
def test_a_finished_task_is_taken_at_the_first_poll(seedance_emulator: Emulator, mode: str) -> None:
    def gave_up_its_worker() -> None:
        raise AssertionError("a finished task needs no waiting")

    assert run_sensor(mode, on_pause=gave_up_its_worker, seedance_task_id="demo_task_t2v_success")
    with pytest.raises(SeedanceTaskFailedError):
        run_sensor(mode, on_pause=gave_up_its_worker, seedance_task_id="demo_task_fail_server_error")
    assert len(seedance_emulator.requests("recordInfo")) == 2


@pytest.mark.parametrize("mode", ["deferred", "reschedule"])
def test_a_running_task_holds_no_worker(seedance_emulator: Emulator, mode: str) -> None:
    pauses: list[bool] = []
    run_sensor(mode, on_pause=lambda: pauses.append(True), seedance_task_id=create(), **SOON)
    assert pauses


def test_a_first_poll_that_fails_defers(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=503)
    assert deferral(seedance_task_id=create()).trigger is not None


# soft_fail and never_fail.


@in_every_mode
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("when", ["at the first poll", "while waiting"])
def test_a_failure_is_skipped_on_request_and_says_why(
    seedance_emulator: Emulator, mode: str, option: str, when: str
) -> None:
    task_id = create("[[fail:2038]]") if when == "while waiting" else "demo_task_fail_text_moderation"
    ti = FakeTaskInstance()
    with pytest.raises(AirflowSkipException, match=task_id) as caught:
        run_sensor(mode, ti, seedance_task_id=task_id, **SOON, **{option: True})
    assert "2038" in str(caught.value)
    assert ti.xcoms["seedance_error"]["code"] == "2038"


@in_every_mode
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_timeout_is_skipped_on_request_and_says_why(seedance_emulator: Emulator, mode: str, option: str) -> None:
    task_id = create("[[waiting:60]]")
    with pytest.raises(AirflowSkipException, match=task_id):
        run_sensor(mode, seedance_task_id=task_id, timeout=0.3, **SOON, **{option: True})


@in_every_mode
def test_soft_fail_lets_a_success_pass(seedance_emulator: Emulator, mode: str) -> None:
    assert run_sensor(mode, seedance_task_id=create(), soft_fail=True, **SOON)


# Durations.


def test_the_timeout_is_half_an_hour_unless_told_otherwise(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = create("[[waiting:60]]")

    def deadline(**arguments: Any) -> float:
        seconds: float = deferral(seedance_task_id=task_id, **arguments).trigger.deadline - time.time()
        return seconds

    assert deadline() == pytest.approx(1800, abs=5)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", "600")
    assert deadline() == pytest.approx(600, abs=5)
    assert deadline(timeout=60) == pytest.approx(60, abs=5)
    assert deadline(timeout=1800) == pytest.approx(1800, abs=5), "the default's number, written out"
    assert deadline(timeout=timedelta(minutes=2)) == pytest.approx(120, abs=5)


def test_the_poll_interval_is_adaptive_unless_told_otherwise(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = create("[[waiting:60]]")

    def interval(**arguments: Any) -> float | None:
        seconds: float | None = deferral(seedance_task_id=task_id, **arguments).trigger.poll_interval
        return seconds

    assert interval() is None
    monkeypatch.setenv("AIRFLOW__SEEDANCE__POLL_INTERVAL", "12")
    assert interval() == 12
    assert interval(poll_interval=7) == 7
    assert interval(poll_interval=timedelta(minutes=1)) == 60
    assert interval(poke_interval=8) == 8, "Airflow's own name means the same"
    assert interval(poll_interval=7, poke_interval=8) == 7


def test_a_poke_interval_of_the_dags_default_args_counts(seedance_emulator: Emulator) -> None:
    with DAG(
        "with_defaults", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args={"poke_interval": 9}
    ):
        sensor = SeedanceTaskSensor(task_id="wait", seedance_task_id=create("[[waiting:60]]"))
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(context())
    assert caught.value.trigger.poll_interval == 9


@in_every_mode
def test_the_poll_interval_is_kept(seedance_emulator: Emulator, mode: str) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 0.0, "generating_seconds": 1.0})
    run_sensor(mode, seedance_task_id=create(), poll_interval=0.3)
    times = [request["time"] for request in seedance_emulator.requests("recordInfo")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # After a deferral the first pause is jittered, so that many waiters do not poll at once.
    assert all(0.29 <= gap < 3 for gap in (gaps[1:] if mode == "deferred" else gaps)), gaps


@pytest.mark.parametrize("argument", ["poll_interval", "poke_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, "10", True, float("nan"), float("inf"), timedelta(0)])
def test_a_bad_duration_is_named_when_the_dag_is_parsed(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{argument}={re.escape(repr(value))} "):
        SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1", **{argument: value})


@in_every_mode
@pytest.mark.parametrize("option", ["timeout", "poll_interval"])
def test_a_bad_duration_in_the_configuration_is_named_before_anything_is_sent(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, mode: str, option: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__SEEDANCE__{option.upper()}", "soon")
    with pytest.raises(SeedanceConfigurationError, match=rf"\[seedance\] {option} .*'soon'"):
        run_sensor(mode, seedance_task_id="demo_task_t2v_success")
    assert seedance_emulator.requests() == []


# The deferral.


def test_airflows_own_limit_on_the_deferral_is_later_than_the_deadline(seedance_emulator: Emulator) -> None:
    deferred = deferral(seedance_task_id=create("[[waiting:60]]"), timeout=60)
    assert deferred.method_name == "execute_complete"
    assert deferred.timeout > timedelta(seconds=deferred.trigger.deadline - time.time() + 60)


def test_the_status_that_is_in_the_log_already_travels_to_the_trigger(seedance_emulator: Emulator) -> None:
    assert deferral(seedance_task_id=create("[[waiting:60]]")).trigger.last_status == "waiting"


@pytest.mark.parametrize(
    "event",
    [
        None,
        "success",
        {},
        {"status": "success"},
        {"status": "cancelled", "seedance_task_id": "task_1", "record": {"status": "success"}},
        {"status": "error", "seedance_task_id": "task_1", "error": None},
        {"status": "slot", "seedance_task_id": "task_1"},
    ],
)
def test_only_a_known_success_passes(event: Any) -> None:
    sensor = make_sensor("deferred", seedance_task_id="task_1")
    with pytest.raises(SeedanceError) as caught:
        sensor.execute_complete(context(), event)
    assert caught.value.retryable


# A deferral that Airflow ended itself: no event, and a triggerer that was down.


def resume(task_id: str, reason: str, ti: FakeTaskInstance | None = None, **arguments: Any) -> list[str]:
    sensor = make_sensor("deferred", seedance_task_id=task_id, **arguments)
    urls: list[str] = sensor.resume_execution("__fail__", {"error": reason}, context(ti))
    return urls


REASONS = pytest.mark.parametrize("reason", [TIMEOUT, "Trigger failure"], ids=str)


@REASONS
def test_a_video_that_finished_meanwhile_is_delivered(
    seedance_emulator: Emulator, task_log: TaskLog, reason: str
) -> None:
    ti = FakeTaskInstance()
    urls = resume("demo_task_t2v_success", reason, ti)
    assert len(urls) == 1
    assert ti.xcoms["seedance_task"]["seedance_task_id"] == "demo_task_t2v_success"
    assert len(seedance_emulator.requests("recordInfo")) == 1
    assert any(reason in line and "demo_task_t2v_success" in line for line in task_log.warnings)


@REASONS
def test_a_video_that_failed_meanwhile_is_a_failure(seedance_emulator: Emulator, reason: str) -> None:
    with pytest.raises(SeedanceTaskFailedError):
        resume("demo_task_fail_text_moderation", reason)


@pytest.mark.parametrize(("reason", "kind"), [(TIMEOUT, SeedanceTaskTimeoutError), ("Trigger failure", SeedanceError)])
def test_a_video_that_still_runs_ends_the_wait_with_the_call_to_collect_it(
    seedance_emulator: Emulator, reason: str, kind: type[SeedanceError]
) -> None:
    task_id = create("[[waiting:60]]")
    with pytest.raises(SeedanceError) as caught:
        resume(task_id, reason)
    assert type(caught.value) is kind
    assert reason in str(caught.value)
    assert f"SeedanceTaskSensor(seedance_task_id={task_id!r})" in str(caught.value)
    assert (caught.value.seedance_task_id, caught.value.charged) == (task_id, "yes")
    assert len(seedance_emulator.requests("recordInfo")) == 1


@REASONS
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_its_failures_are_skipped_on_request_too(seedance_emulator: Emulator, reason: str, option: str) -> None:
    with pytest.raises(AirflowSkipException):
        resume(create("[[waiting:60]]"), reason, **{option: True})


def test_the_reason_is_in_the_log_even_if_nothing_can_be_polled(task_log: TaskLog) -> None:
    with pytest.raises(AirflowNotFoundException):
        resume("task_1", "Trigger failure")
    assert any("Trigger failure" in line and "task_1" in line for line in task_log.warnings)


# Events, XCom and the task log.


def test_an_event_of_the_trigger_is_small_and_free_of_secrets(seedance_emulator: Emulator) -> None:
    event = json.dumps(fire(deferral(seedance_task_id=create("[[waiting:0.5]]"), **SOON).trigger))
    assert len(event) < 1500
    assert seedance_emulator.api_key not in event


@in_every_mode
def test_the_xcom_is_small_json_without_secrets(seedance_emulator: Emulator, mode: str) -> None:
    ti = FakeTaskInstance()
    run_sensor(mode, ti, seedance_task_id=create("a fox " * 300), **SOON)
    assert list(ti.xcoms) == ["seedance_task"]
    text = json.dumps(ti.xcoms)
    assert len(text) < 1000
    assert seedance_emulator.api_key not in text


@in_every_mode
def test_without_xcom_push_nothing_is_pushed(seedance_emulator: Emulator, mode: str) -> None:
    ti = FakeTaskInstance()
    assert run_sensor(mode, ti, seedance_task_id=create(), do_xcom_push=False, **SOON)
    assert ti.xcoms == {}


@pytest.mark.parametrize("mode", ["deferred", "poke"])
def test_the_log_has_each_change_of_status_once_with_the_elapsed_time(
    seedance_emulator: Emulator, mode: str, task_log: TaskLog
) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 0.6, "generating_seconds": 0.6})
    task_id = create()
    run_sensor(mode, seedance_task_id=task_id, **SOON)
    changes = [
        found
        for line in task_log.lines
        if task_id in line and (found := re.search(r"^(waiting|generating|Success)\b.* (\d+) s\b", line))
    ]
    assert [change[1] for change in changes] == ["waiting", "generating", "Success"]
    assert changes[0][2] == "0"
    assert changes[2][2] in ("1", "2")


@in_every_mode
def test_the_log_ends_with_the_credits_and_the_urls_without_their_signatures(
    seedance_emulator: Emulator, mode: str, task_log: TaskLog
) -> None:
    task_id = create()
    signed = {"url": "https://cdn.example.com/video.mp4?X-Tos-Signature=s3cret"}
    seedance_emulator.add_fault("members", match={"taskId": task_id}, set={"output": [signed]}, times=None)
    assert run_sensor(mode, seedance_task_id=task_id, **SOON) == [signed["url"]]
    assert task_id in task_log.lines[-2]
    assert "200 credits" in task_log.lines[-2]
    assert task_log.lines[-1].endswith(" https://cdn.example.com/video.mp4")
    assert "s3cret" not in "\n".join(task_log.lines)


@in_every_mode
def test_the_key_is_in_no_line_of_the_log(seedance_emulator: Emulator, mode: str, task_log: TaskLog) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=500, message=f"bad key {seedance_emulator.api_key}")
    run_sensor(mode, seedance_task_id=create(), **SOON)
    text = "\n".join(task_log.lines)
    assert "bad key ***" in text
    assert seedance_emulator.api_key not in text


def test_the_log_says_until_when_the_triggerer_waits(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    task_id = create("[[waiting:60]]")
    deferral(seedance_task_id=task_id, timeout=60)
    assert task_id in task_log.lines[-1]
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", task_log.lines[-1])


def test_the_log_says_that_a_mode_has_no_effect_while_deferrable(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    sensor = SeedanceTaskSensor(task_id="wait", seedance_task_id="demo_task_t2v_success", mode="reschedule")
    assert sensor.execute(context())
    assert any("mode='reschedule'" in line for line in task_log.lines)


# Airflow's own interface of a sensor.


def test_poke_polls_once(seedance_emulator: Emulator) -> None:
    running = make_sensor("poke", seedance_task_id=create("[[waiting:60]]")).poke(context())
    assert not running
    done = make_sensor("poke", seedance_task_id="demo_task_t2v_success").poke(context())
    assert done
    assert len(done.xcom_value) == 1
    assert len(seedance_emulator.requests("recordInfo")) == 2


def test_a_rescheduled_sensor_counts_from_its_first_poll(seedance_emulator: Emulator) -> None:
    ti = FakeTaskInstance(first_reschedule=(datetime.now().astimezone() - timedelta(seconds=60)).isoformat())
    with pytest.raises(SeedanceTaskTimeoutError):
        make_sensor("reschedule", seedance_task_id=create("[[waiting:60]]"), timeout=30).execute(context(ti))


def test_the_template_fields_cover_what_a_dag_author_computes() -> None:
    assert set(SeedanceTaskSensor.template_fields) >= {"seedance_task_id", "seedance_conn_id"}
