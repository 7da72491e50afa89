"""What tests of the hook, the operators, the sensor and the trigger share.

A DAG written in a test and run through ``dag.test()``; the sensor in each of its modes, driven as Airflow drives it but
without Airflow's database; and the lines of the task log.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import runpy
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred, redact

from seedance_provider import defaults
from seedance_provider.execution.stores import STATE_KEY
from seedance_provider.sensors.seedance import SeedanceTaskSensor

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2.11
    from airflow.exceptions import AirflowRescheduleException

MODES = ("deferred", "poke", "reschedule")
PREAMBLE = """\
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

with DAG("{dag_id}", start_date=datetime(2026, 1, 1), schedule=None, template_searchpath=[{folder!r}]) as dag:
"""
GENERATE = """\
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

def generate(task_id="video", prompt="a fox", **arguments):
    inputs = {"prompt": prompt, "outputResolution": "720p"}
    common = {"poll_interval": 0.1, "retries": 1, "retry_delay": timedelta(0)}
    return SeedanceGenerateVideoOperator(task_id=task_id, inputs=inputs, **common | arguments)
"""
_numbers = itertools.count(1)


# Real DAG runs.


@dataclass(frozen=True)
class Outcome:
    """What became of a task instance."""

    state: str
    try_number: int
    xcoms: dict[str, Any]
    name: str | None = None
    """What a mapped one is called in the UI; None for its map index."""

    @property
    def returned(self) -> Any:
        return self.xcoms.get("return_value")


class DagOutcome:
    """What became of a DAG run: a task instance by its task id, a mapped one by task id and map index."""

    def __init__(self, dag_id: str, run_id: str) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        try:
            from airflow.models.xcom import XComModel
        except ImportError:  # Airflow 2.11
            from airflow.models.xcom import BaseXCom as XComModel

        self.dag_id, self.run_id = dag_id, run_id
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        with create_session() as session:
            for ti in session.query(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id):
                rows = session.query(XComModel).filter_by(
                    dag_id=dag_id, run_id=run_id, task_id=ti.task_id, map_index=ti.map_index
                )
                xcoms = {row.key: _loaded(row.value) for row in rows}
                self._outcomes[ti.task_id, ti.map_index] = Outcome(str(ti.state), ti.try_number, xcoms, _name_of(ti))

    def __getitem__(self, key: str | tuple[str, int]) -> Outcome:
        return self._outcomes[key if isinstance(key, tuple) else (key, -1)]


def _name_of(ti: Any) -> Any:
    """The name that was rendered; Airflow 3's public one is the map index where there is none."""
    return ti._rendered_map_index if hasattr(ti, "_rendered_map_index") else ti.rendered_map_index


def _loaded(value: Any) -> Any:
    """A stored XCom; some versions of Airflow store it as JSON inside JSON."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def run_dag(folder: Path, tasks: str) -> DagOutcome:
    """Run a DAG to its end through ``dag.test()``.

    :param folder: Becomes Airflow's only bundle while it runs; also the DAG's ``template_searchpath``.
    :param tasks: Python that defines the tasks inside the DAG's ``with`` block.
    """
    dag_id = f"tested_{next(_numbers)}"
    path = folder / f"{dag_id}.py"
    head = PREAMBLE.format(dag_id=dag_id, folder=str(folder))
    path.write_text(head + textwrap.indent(textwrap.dedent(tasks), "    "))
    with only_bundle(folder):
        dag = runpy.run_path(str(path))["dag"]
        dag.resolve_template_files()  # as Airflow does when it has parsed a DAG file
        run = dag.test()
    path.unlink()  # or the next DAG of this folder would be parsed together with this one
    return DagOutcome(dag_id, run.run_id)


@contextmanager
def only_bundle(folder: Path) -> Iterator[None]:
    """Make a folder Airflow's only bundle of DAGs."""
    bundle = {
        "name": "tests",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        _forget_bundles()
        yield
    _forget_bundles()


def _forget_bundles() -> None:
    """Airflow 3.4 reads the configuration of its bundles once per process."""
    try:
        from airflow.dag_processing.bundles.manager import _load_bundle_config_snapshot
    except ImportError:
        return
    _load_bundle_config_snapshot.cache_clear()


# The sensor, driven without a database.


@dataclass
class FakeTaskInstance:
    """What the sensor and the operators use of Airflow's task instance."""

    xcoms: dict[str, Any] = field(default_factory=dict)
    first_reschedule: Any = None
    try_number: int = 1
    max_tries: int = 0
    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "task"
    map_index: int = -1

    def xcom_push(self, key: str, value: Any) -> None:
        assert key not in self.xcoms, "pushing a key twice in one try is a conflict on some versions of Airflow"
        self.xcoms[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, _context: Any) -> Any:
        return self.first_reschedule


def make_sensor(mode: str, **arguments: Any) -> SeedanceTaskSensor:
    """A sensor in one of the three modes."""
    return SeedanceTaskSensor(
        task_id="wait",
        deferrable=mode == "deferred",
        mode="reschedule" if mode == "reschedule" else "poke",
        **arguments,
    )


def run_sensor(
    mode: str, ti: FakeTaskInstance | None = None, on_pause: Callable[[], None] = lambda: None, **arguments: Any
) -> list[str]:
    """Run a sensor to its end as Airflow would.

    :param mode: ``deferred``, ``poke`` or ``reschedule``.
    :param ti: The task instance.
    :param on_pause: Called whenever the sensor gives up its worker.
    :param arguments: Of the sensor.
    """
    ti = ti or FakeTaskInstance()
    context: Any = {"ti": ti}
    while True:
        sensor = make_sensor(mode, **arguments)  # each execution is a new process
        try:
            return sensor.execute(context)
        except AirflowRescheduleException as rescheduled:
            ti.first_reschedule = ti.first_reschedule or datetime.now(UTC)
            on_pause()
            time.sleep(max((rescheduled.reschedule_date - datetime.now(UTC)).total_seconds(), 0))
        except TaskDeferred as deferred:
            on_pause()
            resumed: list[str] = make_sensor(mode, **arguments).resume_execution(
                deferred.method_name, {"event": fire(deferred.trigger)}, context
            )
            return resumed


def fire(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does, made anew from its arguments; return its only event as the task gets it."""
    _, arguments = trigger.serialize()

    async def events() -> list[Any]:
        return [event async for event in type(trigger)(**json.loads(json.dumps(arguments))).run()]

    (event,) = asyncio.run(events())
    payload: dict[str, Any] = json.loads(json.dumps(event.payload))
    return payload


# The task log.


class TaskLog(logging.Handler):
    """The lines that an operator, hook or trigger logs, on every version of Airflow.

    :param classes: Whose lines.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *classes: type) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        logger = logging.getLogger(f"tests.task_log.{next(_numbers)}")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)
        for each in classes:
            monkeypatch.setattr(each, "log", logger)

    def emit(self, record: logging.LogRecord) -> None:
        record.args = redact(record.args)  # as Airflow masks secrets: a tuple with names becomes one without
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno >= logging.WARNING]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything that takes seconds or minutes take hundredths of a second."""
    monkeypatch.setattr(defaults, "BACKOFF_BASE", 0.02)
    monkeypatch.setattr(defaults, "BACKOFF_CAP", 0.1)
    monkeypatch.setattr(defaults, "NOT_FOUND_GRACE", 0.3)
    monkeypatch.setattr(defaults, "DENIAL_SECONDS", 0.3)
    monkeypatch.setattr(defaults, "OUTPUT_GRACE", 0.3)
    monkeypatch.setattr(defaults, "OUTPUT_GRACE_INTERVAL", 0.05)


# Airflow's task state store.


class StateStore:
    """Airflow's task state store in memory: keeps JSON, and fails where it is told to.

    :param state: What an earlier try left behind.
    :param broken: A method that fails, such as ``set``; with a number, such as ``set 2``, only that call of it.
    """

    def __init__(self, state: Any = None, broken: str = "") -> None:
        self.states = {} if state is None else {STATE_KEY: json.dumps(state)}
        self.broken = broken
        self.calls: list[str] = []
        self.written: list[Any] = []
        self.retentions: list[Any] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.broken in (name, f"{name} {self.calls.count(name)}"):
            raise ConnectionError(f"{name} does not answer")

    @property
    def receipt(self) -> Any:
        """The receipt as stored, if any."""
        return json.loads(self.states[STATE_KEY]) if STATE_KEY in self.states else None

    def get(self, key: str, default: Any = None) -> Any:
        self._called("get")
        return json.loads(self.states[key]) if key in self.states else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self._called("set")
        self.states[key] = json.dumps(value)
        self.written.append(value)
        self.retentions.append(retention)

    def delete(self, key: str) -> None:
        self._called("delete")
        self.states.pop(key, None)
