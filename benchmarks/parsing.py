"""What the provider adds to parsing: its imports, and a DAG file of 500 tasks as the DAG processor parses it.

Each parse is the DAG processor's own function, imports and serialization included, in a process that is forked for it
from one that has loaded what the processor has, and has frozen it, as the processor does.
``python -m benchmarks.parsing --profile create`` says where the time goes.
"""

from __future__ import annotations

import argparse
import compileall
import cProfile
import gc
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import seedance_provider
from benchmarks.harness import Result, Row, timed_runs

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
_HEAD = """
from datetime import datetime
from airflow.sdk import DAG
{imports}
with DAG("bench", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    for number in range({count}):
"""
# The same template fields on Airflow's own base classes, and nothing else: the share of the cost that is Airflow's.
_PLAIN = """
from airflow.sdk import BaseOperator, BaseSensorOperator
class PlainOperator(BaseOperator):
    template_fields = ("model", "inputs", "callback_url", "seedance_conn_id", "idempotency_key", "budget")
    template_fields_renderers = {"inputs": "json"}
    def __init__(self, *, inputs, model="seedance-20", callback_url=None, seedance_conn_id="default", **kwargs):
        super().__init__(**kwargs)
        self.model, self.inputs = model, inputs
        self.callback_url, self.seedance_conn_id = callback_url, seedance_conn_id
        self.idempotency_key = self.budget = None
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
BASES = {"create": "plain", "generate": "plain", "sensor": "plain-sensor"}


def run(*, quick: bool = False) -> Result:
    """Measure both."""
    result = Result()
    # As pip leaves an installed package, whatever the environment says of writing bytecode.
    compileall.compile_dir(Path(seedance_provider.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        env = {"AIRFLOW__CORE__DAGS_FOLDER": folder, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        _imports(result, env, runs=5 if quick else 21)
        _dag_files(result, Path(folder), env, runs=7 if quick else 61)
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


def _write_dag_files(folder: Path) -> None:
    for name, (tasks, body) in _BODIES.items():
        imports = _IMPORTS["empty"] + "\n" + (_IMPORTS["seedance"] if "Seedance" in body else "")
        if name.startswith("plain"):
            imports = _PLAIN
        if name == "bash":
            imports = _BASH
        (folder / f"{name}.py").write_text(_HEAD.format(imports=imports, count=TASKS // tasks) + f"        {body}\n")


def _dag_files(result: Result, folder: Path, env: dict[str, str], *, runs: int) -> None:
    _write_dag_files(folder)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parsing", os.fspath(folder), str(runs)],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    took: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    # The work is the same every time, and other work on the machine only adds to it.
    least = {name: min(times) for name, times in took.items()}
    for name, label in LABELS.items():
        ratio = least[name] / least["empty-pairs" if name.endswith("pairs") else "empty"]
        result.data[f"file {name}"] = {
            "cpu_ms": least[name],
            "median_cpu_ms": statistics.median(took[name]),
            "of_empty": ratio,
        }
        value = f"{least[name]:.0f} ms CPU ({ratio:.2f} of EmptyOperator"
        if name in BASES:
            value += f", {least[name] / least[BASES[name]]:.2f} of Airflow's base class with the same template fields"
        is_ours = "Seedance" in _BODIES[name][1]
        target, met = ("≤ 1.15 of EmptyOperator", ratio <= 1.15) if is_ours else (None, None)
        result.rows.append(Row(SECTION, f"DAG file of {TASKS} tasks: {label}", value + ")", target, met))


def parse_in_turns(folder: Path, runs: int) -> dict[str, list[float]]:
    """Parse all files of a folder, one after the other, many times.

    :return: For each file the milliseconds of CPU time of each parse.
    """
    import airflow.sdk  # noqa: F401 - the processor has it loaded
    from airflow.dag_processing import manager  # noqa: F401
    from airflow.dag_processing.processor import _pre_import_airflow_modules
    from structlog import get_logger

    files = {name: folder / f"{name}.py" for name in _BODIES}
    for file in files.values():
        _pre_import_airflow_modules(os.fspath(file), get_logger())
    gc.freeze()
    took: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(runs):
        for name, file in files.items():
            took[name].append(_in_fork(file))
    return took


def _in_fork(file: Path) -> float:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        began = time.process_time()
        parsed = _parse(file)
        took = (time.process_time() - began) * 1000
        tasks = sum(len(dag.data["dag"]["tasks"]) for dag in parsed.serialized_dags) if parsed else 0
        os.write(writing, str(took if tasks == TASKS else f"{tasks} tasks").encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        took = float(answer.read())
    os.waitpid(child, 0)
    return took


def _parse(file: Path) -> Any:
    from airflow.dag_processing.processor import DagFileParseRequest, _parse_file
    from structlog import get_logger

    return _parse_file(
        DagFileParseRequest(file=os.fspath(file), bundle_path=file.parent, bundle_name="bench"), get_logger()
    )


def profile(name: str) -> None:
    """Print where the time of a parse goes."""
    with tempfile.TemporaryDirectory() as folder:
        _write_dag_files(Path(folder))
        _parse(Path(folder) / "empty.py")  # what only the first parse of a process does
        with cProfile.Profile() as measured:
            _parse(Path(folder) / f"{name}.py")
    pstats.Stats(measured).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("runs", type=int, nargs="?")
    parser.add_argument("--profile", choices=_BODIES)
    options = parser.parse_args()
    if options.profile:
        profile(options.profile)
    else:
        print(json.dumps(parse_in_turns(options.folder, options.runs)))
