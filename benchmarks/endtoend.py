"""In real Airflow: what a run of create and sensor takes beyond the video's own generation time.

All of Airflow's components run as processes (devtools/local_airflow.py); the API is the emulator.
Beside it runs a DAG of the same shape that only sleeps, with Airflow's own deferrable TimeDeltaSensor.
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from benchmarks.harness import Result, Row
from seedance_provider.testing import Emulator

if TYPE_CHECKING:
    from devtools.local_airflow import LocalAirflow

SECTION = "End to end"
VIDEO, SLEEP = "bench_video", "bench_sleep"


def run(*, quick: bool = False) -> Result:
    """Measure."""
    from devtools.local_airflow import LocalAirflow

    result = Result()
    seconds, runs = (20.0, 2) if quick else (200.0, 8)
    with Emulator(port=0, waiting_seconds=2, generating_seconds=seconds - 2, concurrency_limit=None) as emulator:
        env = {"AIRFLOW_CONN_SEEDANCE_DEFAULT": emulator.connection_json, "BENCH_SECONDS": str(seconds)}
        with LocalAirflow(Path(__file__).parent / "dags", env=env) as airflow:
            over = _overheads(airflow, seconds, runs)
        notices = _notices(emulator)
    for name, label in ((SLEEP, "sleep of as many seconds with TimeDeltaSensor"), (VIDEO, "create and sensor")):
        result.data[name] = over[name]
        text = (
            f"{statistics.median(over[name]):.1f} s (from {min(over[name]):.1f} to {max(over[name]):.1f}, {runs} runs)"
        )
        result.rows.append(Row(SECTION, f"beyond {seconds:.0f} s, {label}", text))
    mean = statistics.fmean(notices)
    result.data["notice"] = notices
    difference = statistics.fmean(over[VIDEO]) - statistics.fmean(over[SLEEP])
    result.rows += [
        Row(SECTION, "of that, from the end of the video to the poll that sees it", f"{mean:.1f} s on average"),
        Row(
            SECTION,
            "create and sensor, beyond the sleeping DAG (means)",
            f"{difference:+.1f} s, {difference - mean:+.1f} s without the delay of notice",
            "≤ 1 s without the delay of notice",
            difference - mean <= 1,
        ),
    ]
    return result


def _overheads(airflow: LocalAirflow, seconds: float, runs: int) -> dict[str, list[float]]:
    # One of each first, which warms everything up and is not counted.
    started = [(dag_id, airflow.trigger_dag(dag_id)) for dag_id in (VIDEO, SLEEP)]
    time.sleep(15)
    for _ in range(runs):
        for dag_id in (VIDEO, SLEEP):
            started.append((dag_id, airflow.trigger_dag(dag_id)))
            time.sleep(6)  # each on its own: what is measured is no queue
    over: dict[str, list[float]] = {VIDEO: [], SLEEP: []}
    for number, (dag_id, run_id) in enumerate(started):
        if airflow.wait_for_run(dag_id, run_id, timeout=seconds + 120) != "success":
            raise RuntimeError(f"{dag_id} {run_id} failed")
        if number >= 2:
            described: dict[str, Any] = airflow.api("GET", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")
            over[dag_id].append((_when(described["end_date"]) - _when(described["start_date"])) - seconds)
    return over


def _notices(emulator: Emulator) -> list[float]:
    """From each video's end to the poll that saw it."""
    settings = emulator.settings
    takes = settings.waiting_seconds + settings.generating_seconds
    created = {entry["taskId"]: entry["time"] for entry in emulator.requests("createTask")}
    seen: dict[str, float] = {entry["taskId"]: entry["time"] for entry in emulator.requests("recordInfo")}
    return [seen[task_id] - at - takes for task_id, at in created.items()]


def _when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
