"""What the provider adds to parsing: its imports, and a DAG file of 500 tasks as the DAG processor parses it.

A DAG file is parsed by the DAG processor's own function, imports and serialization included, in a process that is fresh
but has loaded what the processor loads before it forks.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Result, Row, median_ratio, timed_runs

SECTION = "Parsing"
TASKS = 500

_SDK = "from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook, task; import airflow.sdk"
_IMPORTS = {
    "seedance": (
        "from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator; "
        "from seedance_provider.sensors.seedance import SeedanceTaskSensor"
    ),
    "empty": "from airflow.providers.standard.operators.empty import EmptyOperator",
}
_BASH = "from airflow.providers.standard.operators.bash import BashOperator"
_TIMED_IMPORT = """
import time
{sdk}
began = time.perf_counter()
{imports}
print((time.perf_counter() - began) * 1000)
"""
_TIMED_PARSE = """
import gc, sys, time
import structlog
from airflow.dag_processing.processor import DagFileParseRequest, _parse_file
from pathlib import Path
import airflow.sdk
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task
path = Path(sys.argv[1])
request = DagFileParseRequest(file=str(path), bundle_path=path.parent, bundle_name="bench")
log = structlog.get_logger()
began = time.process_time()
result = _parse_file(request, log)
took = (time.process_time() - began) * 1000
assert not result.import_errors, result.import_errors
assert sum(len(dag.data["dag"]["tasks"]) for dag in result.serialized_dags) == {tasks}
print(took)
"""
_HEAD = """
from datetime import datetime
from airflow.sdk import DAG
{imports}
with DAG("bench", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    for number in range({count}):
"""
# The same template fields on Airflow's own base classes, and nothing else: what a share of the cost is Airflow's.
_PLAIN = """
from airflow.sdk import BaseOperator, BaseSensorOperator
class PlainOperator(BaseOperator):
    template_fields = ("model", "inputs", "callback_url", "seedance_conn_id")
    template_fields_renderers = {"inputs": "json"}
    def __init__(self, *, inputs, model="seedance-20", callback_url=None, seedance_conn_id="default", **kwargs):
        super().__init__(**kwargs)
        self.model, self.inputs = model, inputs
        self.callback_url, self.seedance_conn_id = callback_url, seedance_conn_id
class PlainSensor(BaseSensorOperator):
    template_fields = ("seedance_task_id", "seedance_conn_id")
    def __init__(self, *, seedance_task_id, seedance_conn_id="seedance_default", **kwargs):
        super().__init__(**kwargs)
        self.seedance_task_id, self.seedance_conn_id = seedance_task_id, seedance_conn_id
"""
_INPUTS = (
    'inputs={"prompt": f"Scene {number}: a sunset", "duration": 5, "aspectRatio": "16:9", "outputResolution": "720p"}'
)
_BODIES = {
    "empty": (1, 'EmptyOperator(task_id=f"task_{number}")'),
    "create": (1, 'SeedanceCreateTaskOperator(task_id=f"task_{number}", ' + _INPUTS + ")"),
    "generate": (1, 'SeedanceGenerateVideoOperator(task_id=f"task_{number}", ' + _INPUTS + ")"),
    "sensor": (1, 'SeedanceTaskSensor(task_id=f"task_{number}", seedance_task_id=f"task_{number}")'),
    "pairs": (
        2,
        'SeedanceTaskSensor(task_id=f"wait_{number}", seedance_task_id=SeedanceCreateTaskOperator('
        'task_id=f"create_{number}", ' + _INPUTS + ").output)",
    ),
    "empty-pairs": (2, 'EmptyOperator(task_id=f"a_{number}") >> EmptyOperator(task_id=f"b_{number}")'),
    "bash": (1, 'BashOperator(task_id=f"task_{number}", bash_command=f"echo Scene {number}: a sunset")'),
    "plain": (1, 'PlainOperator(task_id=f"task_{number}", ' + _INPUTS + ")"),
    "plain-sensor": (1, 'PlainSensor(task_id=f"task_{number}", seedance_task_id=f"task_{number}")'),
}
LABELS = {
    "empty": "EmptyOperator",
    "create": "SeedanceCreateTaskOperator",
    "generate": "SeedanceGenerateVideoOperator",
    "sensor": "SeedanceTaskSensor",
    "pairs": "Create >> Sensor, 250 pairs",
    "empty-pairs": "EmptyOperator >> EmptyOperator, 250 pairs",
    "bash": "BashOperator, to compare",
    "plain": "BaseOperator with Create's template fields, to compare",
    "plain-sensor": "BaseSensorOperator with the sensor's template fields, to compare",
}


def run(*, quick: bool = False) -> Result:
    """Measure both."""
    result = Result()
    with tempfile.TemporaryDirectory() as folder:
        env = {"AIRFLOW__CORE__DAGS_FOLDER": folder, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        _imports(result, env, runs=5 if quick else 21)
        _dag_files(result, Path(folder), env, runs=3 if quick else 11)
    return result


def _imports(result: Result, env: dict[str, str], *, runs: int) -> None:
    commands = {name: ["-c", _TIMED_IMPORT.format(sdk=_SDK, imports=imports)] for name, imports in _IMPORTS.items()}
    took = timed_runs(commands, runs=runs, env=env)
    for name, label in (("seedance", "operators and sensor"), ("empty", "EmptyOperator's module, to compare")):
        value = statistics.median(took[name])
        result.data[f"import {name}"] = {"ms": value, "least": min(took[name])}
        target, met = ("≤ 15 ms", value <= 15) if name == "seedance" else (None, None)
        what = f"import of {label} after airflow.sdk"
        result.rows.append(Row(SECTION, what, f"{value:.1f} ms (least {min(took[name]):.1f})", target, met))


def _dag_files(result: Result, folder: Path, env: dict[str, str], *, runs: int) -> None:
    commands = {}
    for name, (tasks, body) in _BODIES.items():
        path = folder / f"{name.replace('-', '_')}.py"
        imports = _IMPORTS["empty"] + "\n" + (_IMPORTS["seedance"] if "Seedance" in body else "")
        if name.startswith("plain"):
            imports = _PLAIN
        if name == "bash":
            imports = _BASH
        path.write_text(_HEAD.format(imports=imports, count=TASKS // tasks) + f"        {body}\n")
        commands[name] = ["-c", _TIMED_PARSE.format(tasks=TASKS), os.fspath(path)]
    took = timed_runs(commands, runs=runs, env=env)
    for name, label in LABELS.items():
        floor = "empty-pairs" if name.endswith("pairs") else "empty"
        ratio = median_ratio(took[name], took[floor])
        data: dict[str, Any] = {"cpu_ms": statistics.median(took[name]), "of_empty": ratio}
        result.data[f"file {name}"] = data
        target, met = (
            ("≤ 1.15 of EmptyOperator", ratio <= 1.15)
            if name in ("create", "generate", "sensor", "pairs")
            else (None, None)
        )
        value = f"{data['cpu_ms']:.0f} ms CPU ({ratio:.2f} of EmptyOperator)"
        result.rows.append(Row(SECTION, f"DAG file of {TASKS} tasks: {label}", value, target, met))
