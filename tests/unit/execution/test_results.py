"""How a wait ends: the log, XCom, and the metrics as a statsd client would get them."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider.api.records import TaskFailure, TaskOutput, TaskRecord, TaskStatus
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceInsufficientCreditsError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.execution import results
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from tests.support.airflow import FakeTaskInstance, TaskLog, fire, hurry

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

TRANSIENT = "Service temporarily unavailable."


class StatsdClient:
    """What Airflow uses of a statsd client; tags arrive in the name."""

    def __init__(self) -> None:
        self.counted: dict[str, list[float]] = {}
        self.timed: dict[str, list[timedelta]] = {}

    def incr(self, stat: str, count: float = 1, rate: float = 1) -> None:
        if stat.startswith("seedance."):
            self.counted.setdefault(stat, []).append(count)

    def timing(self, stat: str, delta: timedelta) -> None:
        if stat.startswith("seedance."):
            self.timed.setdefault(stat, []).append(delta)


def use_backend(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    """Make a client that of Airflow's own statsd logger, which checks and writes names and tags."""
    from airflow.providers.common.compat.sdk import Stats

    try:
        from airflow.sdk._shared.observability.metrics.statsd_logger import SafeStatsdLogger
    except ImportError:  # before Airflow 3.2
        from airflow.metrics.statsd_logger import SafeStatsdLogger
    options = {"influxdb_tags_enabled": True, "statsd_influxdb_enabled": True}
    known = inspect.signature(SafeStatsdLogger).parameters
    logger = SafeStatsdLogger(client, **{option: on for option, on in options.items() if option in known})
    module = sys.modules[Stats.__module__]
    if hasattr(module, "_backend"):
        monkeypatch.setattr(module, "_backend", logger)
        return
    # Before Airflow 3.3. From 3.1 on a logger that another process made is replaced.
    monkeypatch.setattr(Stats, "instance", logger)
    monkeypatch.setattr(Stats, "_instance_pid", os.getpid(), raising=False)


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> StatsdClient:
    hurry(monkeypatch)
    client = StatsdClient()
    use_backend(monkeypatch, client)
    return client


def record(**changes: Any) -> TaskRecord:
    members: dict[str, Any] = {
        "seedance_task_id": "task_1",
        "status": TaskStatus.SUCCESS,
        "model": "seedance-20",
        "credits_used": Decimal(200),
        "create_time": 1_000_000,
        "complete_time": 1_197_250,
    }
    return TaskRecord(**members | changes)


class Operator:
    """An operator at the end of its wait."""

    do_xcom_push = True
    video_url = ""
    outlets = ()
    log: Any = None


def waiting(ti: FakeTaskInstance | None = None, *, push: bool = True) -> tuple[Any, Any]:
    """An operator and its context."""
    operator = Operator()
    operator.do_xcom_push = push
    return operator, {"ti": ti or FakeTaskInstance()}


# A success.

SUCCESS = record(
    credits_used=Decimal("199.5"),
    outputs=(TaskOutput(url="https://cdn.example.com/1.mp4?sig=x"), TaskOutput(url="https://cdn.example.com/2.mp4")),
)


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any, list[str]]]:
    """End a wait with a record; return the operator, its XComs and the lines of the log."""
    log = TaskLog(monkeypatch, Operator)

    def end(ended: TaskRecord, *, push: bool = True) -> tuple[Any, Any, list[str]]:
        operator, context = waiting(push=push)
        assert results.finish(ended, operator, context, operator.log) == ended.urls
        return operator, context["ti"].xcoms, log.lines

    return end


def test_a_success_is_logged_with_its_numbers_and_unsigned_urls(end: Any) -> None:
    operator, _, lines = end(SUCCESS)
    assert all(part in lines[0] for part in ("task_1", "199.5 credits", "197 s"))
    assert [line.rpartition(" ")[2] for line in lines[1:]] == [
        "https://cdn.example.com/1.mp4",
        "https://cdn.example.com/2.mp4",
    ]
    assert operator.video_url == SUCCESS.urls[0]


def test_what_a_sparse_record_lacks_is_logged_as_unknown(end: Any) -> None:
    _, _, lines = end(record(outputs=SUCCESS.outputs, credits_used=None, create_time=None))
    assert lines[0].count("unknown") == 2


def test_the_record_reaches_xcom_whole(end: Any) -> None:
    _, xcoms, _ = end(SUCCESS)
    assert TaskRecord.model_validate(xcoms["seedance_task"]) == SUCCESS


def test_nothing_is_pushed_where_that_is_switched_off(end: Any) -> None:
    assert end(SUCCESS, push=False)[1] == {}


# A failure.


def test_a_failure_leaves_its_record_and_a_summary(statsd: StatsdClient) -> None:
    failed = record(status=TaskStatus.FAIL, failure=TaskFailure(code="2038", message="no"))
    error = SeedanceTaskFailedError("x", code="2038", message="no", record=failed, seedance_task_id="task_1")
    ti = FakeTaskInstance()
    with pytest.raises(SeedanceTaskFailedError), results.reporting_failures(*waiting(ti)):
        raise error
    assert TaskRecord.model_validate(ti.xcoms["seedance_task"]) == failed
    assert ti.xcoms["seedance_error"] == {
        "text": "SeedanceTaskFailedError: x. Charged: no (task task_1)",
        "type": "SeedanceTaskFailedError",
        "message": "no",
        "code": "2038",
        "status_code": None,
        "charged": "no",
        "seedance_task_id": "task_1",
    }


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (SeedanceInsufficientCreditsError("x", status_code=402), "no"),
        (SeedanceSubmitUncertainError("x"), "unknown"),
        (SeedanceServerError("x", status_code=502), "unknown"),
        (SeedanceTaskTimeoutError("x", seedance_task_id="task_1"), "yes"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_any_other_error_leaves_a_summary(statsd: StatsdClient, error: SeedanceError, charged: str) -> None:
    ti = FakeTaskInstance()
    with pytest.raises(SeedanceError), results.reporting_failures(*waiting(ti)):
        raise error
    assert list(ti.xcoms) == ["seedance_error"]
    assert ti.xcoms["seedance_error"]["charged"] == charged
    assert ti.xcoms["seedance_error"]["status_code"] == error.status_code


def test_a_failure_pushes_nothing_where_that_is_switched_off(statsd: StatsdClient) -> None:
    ti = FakeTaskInstance()
    with pytest.raises(SeedanceServerError), results.reporting_failures(*waiting(ti, push=False)):
        raise SeedanceServerError("x")
    assert ti.xcoms == {}


def test_an_xcom_backend_that_fails_does_not_hide_the_error(statsd: StatsdClient) -> None:
    class Broken(FakeTaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            raise ConnectionError("no backend")

    with pytest.raises(SeedanceTaskFailedError), results.reporting_failures(*waiting(Broken())):
        raise SeedanceTaskFailedError("x", record=record())


# One report.


def test_a_success_is_a_task_its_credits_and_its_seconds(statsd: StatsdClient) -> None:
    results.report("success", record())
    tags = "model=seedance-20,outcome=success"
    assert statsd.counted == {f"seedance.tasks,{tags}": [1], f"seedance.credits_used,{tags}": [200]}
    assert statsd.timed == {f"seedance.generation_seconds,{tags}": [timedelta(seconds=197.25)]}


@pytest.mark.parametrize(
    ("credits_used", "count"),
    [
        (Decimal(200), 200),
        (Decimal("200.0"), 200),
        (Decimal("7.5"), 7.5),
        (Decimal("99.80000000000001"), 99.80000000000001),
        (Decimal(0), 0),
    ],
)
def test_credits_are_counted_to_the_last_digit(statsd: StatsdClient, credits_used: Decimal, count: float) -> None:
    results.report("success", record(credits_used=credits_used))
    (counted,) = statsd.counted["seedance.credits_used,model=seedance-20,outcome=success"]
    assert counted == count
    assert type(counted) is type(count)  # a statsd line of 200 is 200|c, not 200.0|c


@pytest.mark.parametrize("credits_used", [None, Decimal(-5)])
def test_credits_that_are_none_are_not_counted(statsd: StatsdClient, credits_used: Decimal | None) -> None:
    results.report("success", record(credits_used=credits_used))
    assert list(statsd.counted) == ["seedance.tasks,model=seedance-20,outcome=success"]


def test_a_failed_task_costs_nothing(statsd: StatsdClient) -> None:
    results.report("fail", record(status=TaskStatus.FAIL, failure=TaskFailure(message="no")))
    assert statsd.counted == {"seedance.tasks,model=seedance-20,outcome=fail": [1]}
    assert list(statsd.timed) == ["seedance.generation_seconds,model=seedance-20,outcome=fail"]


@pytest.mark.parametrize("changes", [{"create_time": None}, {"complete_time": None}])
def test_without_both_times_there_are_no_seconds(statsd: StatsdClient, changes: dict[str, Any]) -> None:
    results.report("success", record(**changes))
    assert statsd.timed == {}


@pytest.mark.parametrize("unnamed", [None, record(model=None)])
def test_an_unknown_model_is_called_so(statsd: StatsdClient, unnamed: TaskRecord | None) -> None:
    results.report("timeout", unnamed)
    assert statsd.counted == {"seedance.tasks,model=unknown,outcome=timeout": [1]}


def test_a_backend_that_fails_fails_no_task(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(StatsdClient):
        def incr(self, stat: str, count: float = 1, rate: float = 1) -> None:
            raise ConnectionError("no backend")

    use_backend(monkeypatch, Broken())
    with caplog.at_level(logging.ERROR, results.__name__):
        results.report("success", record())
        with pytest.raises(SeedanceTaskFailedError, match="it failed"), results.reporting_failures(*waiting()):
            raise SeedanceTaskFailedError("it failed", record=record())
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (SeedanceTaskFailedError("x", record=record()), ["seedance.tasks,model=seedance-20,outcome=fail"]),
        (SeedanceTaskFailedError("x"), ["seedance.tasks,model=unknown,outcome=fail"]),
        (SeedanceTaskTimeoutError("x"), ["seedance.tasks,model=unknown,outcome=timeout"]),
        (SeedanceTaskNotFoundError("x"), []),
        (KeyError("x"), []),
    ],
)
def test_only_an_end_is_counted_and_every_error_is_raised(
    statsd: StatsdClient, error: Exception, counted: list[str]
) -> None:
    with pytest.raises(type(error)) as caught, results.reporting_failures(*waiting()):
        raise error
    assert caught.value is error
    assert list(statsd.counted) == counted


# Of tasks.


def run(operator_class: Any, **arguments: Any) -> Any:
    """One try, over all its deferrals; an error is the result."""
    ti = FakeTaskInstance()
    ti.xcom_push = lambda key, value: ti.xcoms.update({key: value})  # type: ignore[method-assign]
    context: Any = {"ti": ti}
    turn: Callable[[Any], Any] = lambda operator: operator.execute(context)  # noqa: E731
    while True:
        try:
            return turn(operator_class(task_id="video", **arguments))
        except TaskDeferred as deferred:
            event = fire(deferred.trigger)
            turn = lambda operator, event=event: operator.execute_complete(context, event)  # noqa: E731
        except SeedanceError as error:
            return error


def tasks(statsd: StatsdClient) -> dict[str, int]:
    """Counts of ended tasks by outcome."""
    name = "seedance.tasks,model="
    counts: dict[str, int] = {}
    for stat, counted in statsd.counted.items():
        if stat.startswith(name):
            outcome = stat.rpartition("outcome=")[2]
            counts[outcome] = counts.get(outcome, 0) + len(counted)
    return counts


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
@pytest.mark.parametrize("tool", ["generate", "sensor"])
@pytest.mark.parametrize(
    ("prompt", "outcome"),
    [("a fox", "success"), ("[[fail:2038]]", "fail"), ("[[waiting:60]]", "timeout")],
    ids=lambda value: value.strip("[]"),
)
def test_each_ended_task_is_counted_once(
    seedance_emulator: Emulator, statsd: StatsdClient, deferrable: bool, tool: str, prompt: str, outcome: str
) -> None:
    common = {"poll_interval": 0.05, "timeout": 0.6 if outcome == "timeout" else 20, "deferrable": deferrable}
    if tool == "generate":
        run(SeedanceGenerateVideoOperator, inputs={"prompt": prompt}, **common)
    else:
        task_id = SeedanceHook().create_task("seedance-20", {"prompt": prompt})
        run(SeedanceTaskSensor, seedance_task_id=task_id, **common)
    assert tasks(statsd) == {outcome: 1}
    credits_used = statsd.counted.get("seedance.credits_used,model=seedance-20,outcome=success", [])
    assert sum(credits_used) == seedance_emulator.bill()["credits_spent"] * (outcome == "success")


def test_creating_alone_ends_nothing(seedance_emulator: Emulator, statsd: StatsdClient) -> None:
    run(SeedanceCreateTaskOperator, inputs={"prompt": "a fox"})
    run(SeedanceGenerateVideoOperator, inputs={"prompt": "a fox"}, wait_for_completion=False)
    assert seedance_emulator.bill()["tasks_created"] == 2
    assert statsd.counted == {}


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
def test_a_resubmitted_task_is_a_task_of_its_own(
    seedance_emulator: Emulator, statsd: StatsdClient, deferrable: bool
) -> None:
    seedance_emulator.add_fault("fail", code="1001", message=TRANSIENT)
    arguments = {"resubmits": 1, "poll_interval": 0.05, "deferrable": deferrable}
    assert isinstance(run(SeedanceGenerateVideoOperator, inputs={"prompt": "a fox"}, **arguments), list)
    assert tasks(statsd) == {"fail": 1, "success": 1}
    assert seedance_emulator.bill()["tasks_created"] == 2


def test_the_credits_that_are_counted_are_the_settled_ones(
    seedance_emulator: Emulator, statsd: StatsdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedance_provider.defaults.SETTLEMENT_DELAY", 0.4)
    inputs = {"prompt": "a fox [[settle:99.5:0.3]]", "outputResolution": "720p"}
    run(SeedanceGenerateVideoOperator, model="seedance2-5", inputs=inputs, poll_interval=0.05)
    assert statsd.counted["seedance.credits_used,model=seedance2-5,outcome=success"] == [99.5]
    assert seedance_emulator.bill()["credits_spent"] == 99.5
