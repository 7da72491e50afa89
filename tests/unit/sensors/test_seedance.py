"""The sensor in its three modes, driven without a database; test_dag_runs.py has real DAG runs."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException, TaskDeferred

from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceOutputMissingError,
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


def create(prompt: str = "a fox", model: str = "seedance-20") -> str:
    return SeedanceHook().create_task(model, {"prompt": prompt, "duration": 5})


def deferral(**arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        make_sensor("deferred", **arguments).execute({"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
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
    with pytest.raises(SeedanceTaskFailedError, match="content rules"):
        run_sensor(mode, seedance_task_id=create("[[fail:2038]]"), **SOON)


@in_every_mode
def test_a_failure_raises_the_vendors_reason_and_is_not_retried(seedance_emulator: Emulator, mode: str) -> None:
    ti, task_id = FakeTaskInstance(), create("[[fail:2038]]")
    with pytest.raises(
        SeedanceTaskFailedError, match=rf"Task {task_id} failed with code \w+: .*content rules"
    ) as caught:
        run_sensor(mode, ti, seedance_task_id=task_id, **SOON)
    error = caught.value
    assert isinstance(error, AirflowFailException)
    assert (error.code, error.seedance_task_id) == ("2038", task_id)
    assert error.record is not None
    assert error.record.credits_used == 200
    assert "seedance_task" not in ti.xcoms


@in_every_mode
@pytest.mark.parametrize("word", ["waiting", "queued"])
def test_a_task_that_runs_on_ends_in_a_timeout_that_carries_the_id(
    seedance_emulator: Emulator, mode: str, word: str
) -> None:
    task_id = create("[[waiting:60]] [[status:" + word + ":99]]")
    started = time.monotonic()
    with pytest.raises(SeedanceTaskTimeoutError) as caught:
        run_sensor(mode, seedance_task_id=task_id, timeout=0.4, poll_interval=0.1)
    assert time.monotonic() - started < 3
    assert f"Task {task_id} did not end within 0.4 s; it was still {word!r}" in str(caught.value)
    assert f"SeedanceTaskSensor(seedance_task_id='{task_id}')" in str(caught.value)
    assert caught.value.seedance_task_id == task_id


@in_every_mode
def test_an_unknown_id_is_looked_at_again_for_a_short_grace_only(seedance_emulator: Emulator, mode: str) -> None:
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
    with pytest.raises(SeedanceOutputMissingError, match="lists no usable URL") as caught:
        run_sensor(mode, seedance_task_id=task_id, **SOON)
    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.seedance_task_id == task_id


@in_every_mode
def test_blips_never_lose_a_task(seedance_emulator: Emulator, mode: str, task_log: TaskLog) -> None:
    task_id = create()
    blips = ("html", "reset", "empty", "truncated", "rate_limit", "http", "envelope_error")
    for blip in blips:
        seedance_emulator.add_fault(blip, on="recordInfo")
    assert run_sensor(mode, seedance_task_id=task_id, **SOON)
    told = [line for line in task_log.warnings if f"Looking at task {task_id} failed, it is not lost" in line]
    # aiohttp sends a GET again by itself if the connection it had kept was reset.
    assert len(told) in (len(blips), len(blips) - 1)
    assert sum(seedance_emulator.counts("recordInfo")[f"fault:{blip}"] for blip in set(blips)) == len(blips)


@in_every_mode
def test_an_api_that_is_down_until_the_deadline_ends_in_a_timeout_that_says_so(
    seedance_emulator: Emulator, mode: str
) -> None:
    task_id = create()
    seedance_emulator.add_fault("html", on="recordInfo", status=502, times=None)
    with pytest.raises(SeedanceTaskTimeoutError, match=r"the last look failed: .*502") as caught:
        run_sensor(mode, seedance_task_id=task_id, timeout=0.4, **SOON)
    assert caught.value.seedance_task_id == task_id


@in_every_mode
def test_a_refused_key_fails_at_once(seedance_emulator: Emulator, mode: str) -> None:
    task_id = create()
    seedance_emulator.put_account(key="another-key")
    with pytest.raises(SeedanceAuthenticationError, match="Check the password"):
        run_sensor(mode, seedance_task_id=task_id, **SOON)
    assert len(seedance_emulator.requests("recordInfo")) == 1


@in_every_mode
def test_a_key_refused_while_waiting_fails_at_once_too(seedance_emulator: Emulator, mode: str) -> None:
    seedance_emulator.settings.update({"generating_seconds": 60.0})
    seedance_emulator.add_fault("http", on="recordInfo", status=401, skip=1, times=None)
    with pytest.raises(SeedanceAuthenticationError):
        run_sensor(mode, seedance_task_id=create(), timeout=5, **SOON)
    assert len(seedance_emulator.requests("recordInfo")) == 2


@in_every_mode
def test_waiting_costs_nothing(seedance_emulator: Emulator, mode: str) -> None:
    task_id = create()
    run_sensor(mode, seedance_task_id=task_id, **SOON)
    assert len(seedance_emulator.requests("createTask")) == 1
    assert seedance_emulator.bill()["tasks_created"] == 1


@in_every_mode
@pytest.mark.parametrize("value", [None, "", ["task_1", "task_2"]])
def test_what_is_not_an_id_says_the_fix(seedance_emulator: Emulator, mode: str, value: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        run_sensor(mode, seedance_task_id=value)
    assert f"seedance_task_id={value!r} is not a task id" in str(caught.value)
    assert "the output of SeedanceCreateTaskOperator (for a list of ids, use .expand())" in str(caught.value)
    assert seedance_emulator.requests() == []


# The first look.


@in_every_mode
def test_a_finished_task_is_taken_at_the_first_look(seedance_emulator: Emulator, mode: str) -> None:
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


def test_a_failed_first_look_defers(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=503)
    assert deferral(seedance_task_id=create()).trigger is not None


# soft_fail and never_fail.


@in_every_mode
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("when", ["at the first look", "while waiting"])
def test_a_failure_is_skipped_on_request_and_says_why(
    seedance_emulator: Emulator, mode: str, option: str, when: str
) -> None:
    task_id = create("[[fail:2038]]") if when == "while waiting" else "demo_task_fail_text_moderation"
    with pytest.raises(AirflowSkipException) as caught:
        run_sensor(mode, seedance_task_id=task_id, **SOON, **{option: True})
    assert str(caught.value).startswith(f"Skipped instead of failing: Task {task_id} failed")


@in_every_mode
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_timeout_is_skipped_on_request_and_says_why(seedance_emulator: Emulator, mode: str, option: str) -> None:
    task_id = create("[[waiting:60]]")
    with pytest.raises(AirflowSkipException) as caught:
        run_sensor(mode, seedance_task_id=task_id, timeout=0.3, **SOON, **{option: True})
    assert f"Skipped instead of failing: Task {task_id} did not end within" in str(caught.value)


@in_every_mode
def test_soft_fail_lets_a_success_pass(seedance_emulator: Emulator, mode: str) -> None:
    assert run_sensor(mode, seedance_task_id=create(), soft_fail=True, **SOON)


# Durations.


def test_the_timeout_is_half_an_hour_unless_said_otherwise(
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
    assert deadline(timeout=timedelta(minutes=2)) == pytest.approx(120, abs=5)


def test_the_poll_interval_is_adaptive_unless_said_otherwise(
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
        sensor.execute({"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
    assert caught.value.trigger.poll_interval == 9


@in_every_mode
def test_the_poll_interval_is_obeyed(seedance_emulator: Emulator, mode: str) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 0.0, "generating_seconds": 1.0})
    run_sensor(mode, seedance_task_id=create(), poll_interval=0.3)
    times = [request["time"] for request in seedance_emulator.requests("recordInfo")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # After a deferral the first pause is jittered, so that many waiters do not look at once.
    assert all(0.29 <= gap < 0.6 for gap in (gaps[1:] if mode == "deferred" else gaps)), gaps


@pytest.mark.parametrize("argument", ["poll_interval", "poke_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, "10", True, float("nan"), float("inf"), timedelta(0)])
def test_a_bad_duration_is_named_when_the_dag_is_parsed(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{argument}=.* is not a duration: give a number of seconds above 0"):
        SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1", **{argument: value})


@in_every_mode
@pytest.mark.parametrize("option", ["timeout", "poll_interval"])
def test_a_bad_duration_in_the_configuration_is_named_before_anything_is_asked(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, mode: str, option: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__SEEDANCE__{option.upper()}", "soon")
    with pytest.raises(SeedanceConfigurationError, match=rf"\[seedance\] {option} of .* configuration is 'soon'"):
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
    ],
)
def test_only_a_known_success_passes(event: Any) -> None:
    sensor = make_sensor("deferred", seedance_task_id="task_1")
    with pytest.raises(SeedanceError, match="cannot be read"):
        sensor.execute_complete({"ti": FakeTaskInstance()}, event)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger failure"])
def test_a_deferral_that_breaks_off_says_how_to_go_on(task_log: TaskLog, reason: str) -> None:
    sensor = make_sensor("deferred", seedance_task_id="task_1")
    with pytest.raises(Exception, match=reason):
        sensor.resume_execution("__fail__", {"error": reason}, {"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
    (line,) = (line for line in task_log.warnings if "task_1" in line)
    assert "do not create it anew" in line


def test_an_event_of_the_trigger_is_small_and_free_of_secrets(seedance_emulator: Emulator) -> None:
    event = json.dumps(fire(deferral(seedance_task_id=create("[[waiting:0.5]]"), **SOON).trigger))
    assert len(event) < 1500
    assert seedance_emulator.api_key not in event


# XCom and the task log.


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
    changes = [line for line in task_log.lines if " -> " in line]
    assert [line.partition(" after ")[0] for line in changes] == [
        f"Task {task_id}: created -> waiting",
        f"Task {task_id}: waiting -> generating",
        f"Task {task_id}: generating -> success",
    ]
    assert changes[0].endswith(" after 0 s")
    assert changes[2].endswith((" after 1 s", " after 2 s"))


@in_every_mode
def test_the_log_ends_with_the_credits_and_the_urls_without_their_signatures(
    seedance_emulator: Emulator, mode: str, task_log: TaskLog
) -> None:
    task_id = create()
    signed = {"url": "https://cdn.example.com/video.mp4?X-Tos-Signature=s3cret"}
    seedance_emulator.add_fault("members", match={"taskId": task_id}, set={"output": [signed]}, times=None)
    assert run_sensor(mode, seedance_task_id=task_id, **SOON) == [signed["url"]]
    assert task_log.lines[-1].startswith(f"Task {task_id} succeeded after 0 s of generation, 200 credits: ")
    assert task_log.lines[-1].endswith(": https://cdn.example.com/video.mp4")
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
    assert f"Waiting for task {task_id} in the triggerer, until 20" in task_log.lines[-1]


def test_the_log_says_that_a_mode_has_no_effect_while_deferrable(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    sensor = SeedanceTaskSensor(task_id="wait", seedance_task_id="demo_task_t2v_success", mode="reschedule")
    assert sensor.execute({"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
    assert "mode='reschedule' has no effect while deferrable is True" in task_log.lines


# Airflow's own interface of a sensor.


def test_poke_looks_once(seedance_emulator: Emulator) -> None:
    context: Any = {"ti": FakeTaskInstance()}
    running = make_sensor("poke", seedance_task_id=create("[[waiting:60]]")).poke(context)
    assert not running
    done = make_sensor("poke", seedance_task_id="demo_task_t2v_success").poke(context)
    assert done
    assert len(done.xcom_value) == 1
    assert len(seedance_emulator.requests("recordInfo")) == 2


def test_a_rescheduled_sensor_counts_from_its_first_look(seedance_emulator: Emulator) -> None:
    ti = FakeTaskInstance(first_reschedule=(datetime.now().astimezone() - timedelta(seconds=60)).isoformat())
    with pytest.raises(SeedanceTaskTimeoutError):
        make_sensor("reschedule", seedance_task_id=create("[[waiting:60]]"), timeout=30).execute({"ti": ti})  # type: ignore[typeddict-item]


def test_the_template_fields_cover_what_a_dag_author_computes() -> None:
    assert set(SeedanceTaskSensor.template_fields) >= {"seedance_task_id", "seedance_conn_id"}
