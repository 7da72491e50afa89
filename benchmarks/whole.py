"""CPU time of a whole Airflow for a mapped Generate, beside operators that do less and defer once, for as long.

Counted is what all processes of Airflow use (devtools/local_airflow.py), those that have ended included: scheduler, API
server, triggerer, DAG processor, and what runs tasks; less what they use at rest for as long. Runs of both take turns.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Result, Row
from seedance_provider.testing import Emulator

if TYPE_CHECKING:
    from devtools.local_airflow import LocalAirflow

SECTION = "Whole Airflow"
LEAST, POSTS, OURS = "bench_defers", "bench_posts", "bench_generates"
LABELS = {
    LEAST: "an operator that defers once",
    POSTS: "one that also POSTs by requests and pushes what comes back",
    OURS: "Generate",
}
TARGET = 1.2
SECONDS = 20.0


def run(*, quick: bool = False) -> Result:
    """Measure."""
    from devtools.local_airflow import LocalAirflow

    result = Result()
    tasks, turns = (10, 2) if quick else (20, 5)
    with Emulator(waiting_seconds=0, generating_seconds=SECONDS, concurrency_limit=None) as emulator:
        env = {
            "AIRFLOW_CONN_SEEDANCE_DEFAULT": emulator.connection_json,
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            "BENCH_TASKS": str(tasks),
            "BENCH_SECONDS": str(SECONDS),
        }
        with LocalAirflow(Path(__file__).parent / "dags", env=env) as airflow:
            at_rest = _at_rest(airflow)
            took = _turns(airflow, turns, at_rest)
    seconds = {name: [sum(one.values()) / tasks for one in each] for name, each in took.items()}
    for name, label in LABELS.items():
        parts = {part: statistics.median(one[part] / tasks for one in took[name]) for part in at_rest}
        result.data[name] = {"cpu_seconds": seconds[name], "parts": parts}
        spread = f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f}, {turns} runs of {tasks}"
        told = ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
        text = f"{statistics.median(seconds[name]):.2f} s ({spread}): {told}"
        result.rows.append(Row(SECTION, f"CPU of a mapped task, {label}", text))
    ratio, to_one_that_posts = (
        statistics.median(seconds[OURS]) / statistics.median(seconds[other]) for other in (LEAST, POSTS)
    )
    result.data |= {"ratio": ratio, "to_one_that_posts": to_one_that_posts, "at_rest": at_rest}
    result.rows += [
        Row(SECTION, f"Generate, of {LABELS[LEAST]}", f"{ratio:.2f}", f"≤ {TARGET}", ratio <= TARGET),
        Row(SECTION, f"Generate, of {LABELS[POSTS]}", f"{to_one_that_posts:.2f}"),
        Row(SECTION, "all processes at rest", f"{sum(at_rest.values()):.2f} s of CPU a second"),
    ]
    return result


def _turns(airflow: LocalAirflow, turns: int, at_rest: dict[str, float]) -> dict[str, list[dict[str, float]]]:
    took: dict[str, list[dict[str, float]]] = {name: [] for name in LABELS}
    for turn in range(turns + 1):
        for dag_id in LABELS:
            began, before = time.monotonic(), _used(airflow)
            run_id = airflow.trigger_dag(dag_id)
            # Seldom: each look costs the API server.
            if airflow.wait_for_run(dag_id, run_id, timeout=600, poll=3) != "success":
                raise RuntimeError(f"{dag_id} {run_id} failed")
            after, lasted = _used(airflow), time.monotonic() - began
            if turn:  # the first one warms everything up
                took[dag_id].append({part: after[part] - before[part] - lasted * at_rest[part] for part in after})
    return took


def _used(airflow: LocalAirflow) -> dict[str, float]:
    """Seconds of CPU that each component has used so far, with the processes that it started and that have ended."""
    return {
        name: sum(sum(process.cpu_times()[:4]) for process in airflow.processes(name)) for name in airflow.components
    }


def _at_rest(airflow: LocalAirflow) -> dict[str, float]:
    """Seconds of CPU that each component uses in a second in which nothing is to be done."""
    for dag_id in LABELS:
        airflow.wait_for_dag(dag_id)
    began, before = time.monotonic(), _used(airflow)
    time.sleep(30)
    after, lasted = _used(airflow), time.monotonic() - began
    return {part: (after[part] - before[part]) / lasted for part in after}
