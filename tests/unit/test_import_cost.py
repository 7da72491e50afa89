"""What a DAG file that uses this provider, and its tasks, make Airflow import: names of modules, no stopwatch."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from tests.support.airflow import fire
from tests.support.imports import modules

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

SCRIPT = """
import json, sys
from datetime import datetime

from airflow.providers.common.compat.sdk import (
    DAG, AirflowFailException, AirflowSensorTimeout, AirflowSkipException, BaseOperator, BaseOperatorLink,
    BaseSensorOperator, PokeReturnValue, XCom,
)

class AnyOperator(BaseOperator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)

def parse(name, define):
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1)):
        define()

parse("without", lambda: AnyOperator(task_id="any") and BaseSensorOperator(task_id="sensor"))
before = set(sys.modules)

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

def define():
    create = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox", "duration": 5})
    SeedanceTaskSensor(task_id="wait", seedance_task_id=create.output)
    SeedanceGenerateVideoOperator(task_id="generate", inputs={"prompt": "a fox"})

parse("with", define)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def printed_at_last(script: str, *arguments: str) -> Any:
    """Run a script in a process of its own; the JSON of its last line."""
    command = [sys.executable, "-c", script, *arguments]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


@cache
def added_modules() -> frozenset[str]:
    """What this provider's operators and sensor import beyond what Airflow's own have."""
    return frozenset(printed_at_last(SCRIPT))


@pytest.mark.parametrize("library", ["requests", "urllib3", "aiohttp", "yarl", "pydantic", "pydantic_core", "certifi"])
def test_parsing_a_dag_loads_no_further_library(library: str) -> None:
    assert not {name for name in added_modules() if name.partition(".")[0] == library}


@pytest.mark.parametrize(
    "name",
    [
        "api.records",
        "api.calls",
        "api.flows",
        "connection",
        "events",
        "execution",
        "hooks.media",
        "hooks.seedance",
        "transport",
        "triggers",
    ],
)
def test_parsing_a_dag_loads_nothing_that_only_a_run_needs(name: str) -> None:
    assert f"seedance_provider.{name}" in modules()
    assert not {module for module in added_modules() if f"{module}.".startswith(f"seedance_provider.{name}.")}


def test_parsing_a_dag_loads_only_this_provider_and_the_standard_library() -> None:
    others = {name for name in added_modules() if not name.startswith("seedance_provider")}
    assert {name for name in others if name.partition(".")[0] not in sys.stdlib_module_names} == set()


def test_the_package_itself_is_nothing_but_its_version() -> None:
    script = "import sys; before = set(sys.modules); import seedance_provider; print(len(set(sys.modules) - before))"
    assert printed_at_last(script) <= 2  # with __future__


# One process submits and defers, another one resumes; it has the end of the video in the trigger's event.
TASK = """
import json, sys
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink, TaskDeferred
try:
    from airflow.sdk.bases.operator import ExecutorSafeguard
except ImportError:  # Airflow 2.11
    from airflow.models.baseoperator import ExecutorSafeguard
ExecutorSafeguard.test_mode = True

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

BaseHook.get_connection("seedance_default")  # Airflow 3.0 itself imports aiohttp for it where no supervisor runs
before = set(sys.modules)
ti = SimpleNamespace(
    dag_id="dag", run_id="run", task_id="make", map_index=-1, max_tries=0, try_number=1, xcom_push=lambda **_: None
)
operator = SeedanceGenerateVideoOperator(task_id="make", inputs={"prompt": "a fox", "duration": 5}, durable=False)
event = json.loads(sys.argv[1])
if event:
    operator.resume_execution("execute_complete", {"event": event}, {"ti": ti, "task": operator})
else:
    try:
        operator.execute({"ti": ti, "task": operator})
    except TaskDeferred as deferral:
        event = deferral.trigger.serialize()[1]
print(json.dumps({"event": event, "modules": sorted(set(sys.modules) - before)}))
"""


def run_in_a_process(event: dict[str, Any] | None = None) -> tuple[dict[str, Any], set[str]]:
    """Run a task as far as a process does; what it defers with, and the libraries that it loads."""
    printed = printed_at_last(TASK, json.dumps(event))
    return printed["event"], {name.partition(".")[0] for name in printed["modules"]}


def test_a_task_loads_no_more_than_its_process_needs(seedance_emulator: Emulator) -> None:
    trigger, loaded = run_in_a_process()
    assert "seedance_provider" in loaded
    assert not {"aiohttp", "yarl"} & loaded, "it makes a trigger, which another process runs"
    event = fire(SeedanceTaskTrigger(**trigger | {"poll_interval": 0.05}))
    assert event["status"] == "success"
    assert not {"aiohttp", "yarl", "requests", "urllib3"} & run_in_a_process(event)[1], "it sends nothing"
