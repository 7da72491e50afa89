"""What Airflow's stats are told of ended tasks, seen where a statsd client would get it."""

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

from seedance_provider import metrics
from seedance_provider.api.models import TaskFailure, TaskRecord, TaskStatus
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from tests.support.airflow import FakeTaskInstance, fire, hurry

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

PASSING = "Service temporarily unavailable."


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


# One report.


def test_a_success_is_a_task_its_credits_and_its_seconds(statsd: StatsdClient) -> None:
    metrics.report("success", record())
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
    metrics.report("success", record(credits_used=credits_used))
    (counted,) = statsd.counted["seedance.credits_used,model=seedance-20,outcome=success"]
    assert counted == count
    assert type(counted) is type(count)  # a statsd line of 200 is 200|c, not 200.0|c


@pytest.mark.parametrize("credits_used", [None, Decimal(-5)])
def test_credits_that_are_none_are_not_counted(statsd: StatsdClient, credits_used: Decimal | None) -> None:
    metrics.report("success", record(credits_used=credits_used))
    assert list(statsd.counted) == ["seedance.tasks,model=seedance-20,outcome=success"]


def test_a_failed_task_costs_nothing(statsd: StatsdClient) -> None:
    metrics.report("fail", record(status=TaskStatus.FAIL, failure=TaskFailure(message="no")))
    assert statsd.counted == {"seedance.tasks,model=seedance-20,outcome=fail": [1]}
    assert list(statsd.timed) == ["seedance.generation_seconds,model=seedance-20,outcome=fail"]


@pytest.mark.parametrize("changes", [{"create_time": None}, {"complete_time": None}])
def test_without_both_times_there_are_no_seconds(statsd: StatsdClient, changes: dict[str, Any]) -> None:
    metrics.report("success", record(**changes))
    assert statsd.timed == {}


@pytest.mark.parametrize("unnamed", [None, record(model=None)])
def test_an_unknown_model_is_called_so(statsd: StatsdClient, unnamed: TaskRecord | None) -> None:
    metrics.report("timeout", unnamed)
    assert statsd.counted == {"seedance.tasks,model=unknown,outcome=timeout": [1]}


def test_a_backend_that_fails_fails_no_task(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(StatsdClient):
        def incr(self, stat: str, count: float = 1, rate: float = 1) -> None:
            raise ConnectionError("no backend")

    use_backend(monkeypatch, Broken())
    with caplog.at_level(logging.ERROR, metrics.__name__):
        metrics.report("success", record())
        with pytest.raises(SeedanceTaskFailedError, match="it failed"), metrics.reporting_failures():
            raise SeedanceTaskFailedError("it failed", record=record())
    assert caplog.text.count("The metrics of a task could not be reported") == 2


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
def test_only_an_end_is_counted_and_every_error_goes_on(
    statsd: StatsdClient, error: Exception, counted: list[str]
) -> None:
    with pytest.raises(type(error)) as caught, metrics.reporting_failures():
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
    seedance_emulator.add_fault("fail", code="1001", message=PASSING)
    arguments = {"resubmits": 1, "poll_interval": 0.05, "deferrable": deferrable}
    assert isinstance(run(SeedanceGenerateVideoOperator, inputs={"prompt": "a fox"}, **arguments), list)
    assert tasks(statsd) == {"fail": 1, "success": 1}
    assert seedance_emulator.bill()["tasks_created"] == 2


def test_the_credits_that_are_counted_are_the_settled_ones(
    seedance_emulator: Emulator, statsd: StatsdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedance_provider.api.policy.SETTLEMENT_DELAY", 0.4)
    inputs = {"prompt": "a fox [[settle:99.5:0.3]]", "outputResolution": "720p"}
    run(SeedanceGenerateVideoOperator, model="seedance2-5", inputs=inputs, poll_interval=0.05)
    assert statsd.counted["seedance.credits_used,model=seedance2-5,outcome=success"] == [99.5]
    assert seedance_emulator.bill()["credits_spent"] == 99.5
