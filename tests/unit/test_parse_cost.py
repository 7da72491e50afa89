"""What a DAG file that uses this provider makes Airflow import: names of modules, no stopwatch."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

from tests.support.imports import modules

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


@cache
def added_modules() -> frozenset[str]:
    """What this provider's operators and sensor import beyond what Airflow's own have."""
    printed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    return frozenset(json.loads(printed.splitlines()[-1]))


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
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(printed) <= 2  # with __future__
