"""The example on a real scheduler, triggerer, API server and DAG processor, driven over Airflow's REST API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import API_KEY

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator
    from tests.integration.conftest import RealAirflow
    from tools.local_airflow import LocalAirflow

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "seedance_create_and_wait"


def run_and_watch(airflow: LocalAirflow, dag_id: str) -> tuple[str, set[tuple[str, str | None]]]:
    """Run a DAG; return the id of its run and every pair of task and state that was seen."""
    seen: set[tuple[str, str | None]] = set()

    def watch(tasks: list[dict[str, Any]]) -> None:
        seen.update((task["task_id"], task["state"]) for task in tasks)

    run_id = airflow.trigger_dag(dag_id)
    state = airflow.wait_for_run(dag_id, run_id, timeout=90, watch=watch, poll=0.2)
    assert state == "success", airflow.task_log(dag_id, run_id, "wait_for_video")
    return run_id, seen


def assert_paid_once(emulator: Emulator) -> None:
    assert emulator.bill()["tasks_created"] == 1
    assert emulator.counts("createTask") == {"created": 1}


@pytest.fixture(scope="module")
def example_run(real_airflow: RealAirflow) -> tuple[str, set[tuple[str, str | None]]]:
    return run_and_watch(real_airflow.airflow, EXAMPLE)


def test_the_example_waits_deferred_and_hands_on_the_urls_of_one_paid_video(
    real_airflow: RealAirflow, example_run: tuple[str, set[tuple[str, str | None]]]
) -> None:
    airflow, emulator, _ = real_airflow
    run_id, seen = example_run
    assert ("wait_for_video", "deferred") in seen
    seedance_task_id = airflow.xcom(EXAMPLE, run_id, "create_video")
    assert seedance_task_id.startswith("task_")
    urls = airflow.xcom(EXAMPLE, run_id, "wait_for_video")
    assert urls
    assert all(url.startswith(emulator.url) and url.endswith(".mp4") for url in urls)
    record = airflow.xcom(EXAMPLE, run_id, "wait_for_video", "seedance_task")
    assert record["seedance_task_id"] == seedance_task_id
    assert record["status"] == "success"
    assert_paid_once(emulator)
    assert record["credits_used"] == emulator.bill()["credits_spent"]


def test_the_task_logs_tell_the_story_of_the_video(
    real_airflow: RealAirflow, example_run: tuple[str, set[tuple[str, str | None]]]
) -> None:
    airflow = real_airflow.airflow
    run_id, _ = example_run
    seedance_task_id = airflow.xcom(EXAMPLE, run_id, "create_video")
    created = airflow.task_log(EXAMPLE, run_id, "create_video")
    assert f"Created task {seedance_task_id} with model seedance-20" in created
    waited = airflow.task_log(EXAMPLE, run_id, "wait_for_video")
    assert seedance_task_id in waited
    assert "generating" in waited
    assert "credits" in waited


def test_a_run_in_the_seed_dialect_ends_the_same(real_airflow: RealAirflow) -> None:
    airflow, _, emulator = real_airflow
    run_id, seen = run_and_watch(airflow, "seed_dialect")
    assert ("wait_for_video", "deferred") in seen
    urls = airflow.xcom("seed_dialect", run_id, "wait_for_video")
    assert urls
    assert all(url.startswith(emulator.url) for url in urls)
    assert_paid_once(emulator)


def test_the_api_key_is_written_nowhere(
    real_airflow: RealAirflow, example_run: tuple[str, set[tuple[str, str | None]]]
) -> None:
    airflow = real_airflow.airflow
    run_id, _ = example_run
    files = [path for path in airflow.home.rglob("*") if path.is_file()]
    assert {"airflow.db", "scheduler.log", "triggerer.log"} <= {path.name for path in files}
    assert [path for path in files if API_KEY.encode() in path.read_bytes()] == []

    answers: list[Any] = [airflow.api("GET", f"dags/{EXAMPLE}/dagRuns/{run_id}"), airflow.api("GET", "connections")]
    for task in airflow.task_instances(EXAMPLE, run_id):
        answers.append(task)  # holds the rendered fields
        answers.append(airflow.task_log(EXAMPLE, run_id, task["task_id"]))
        keys = airflow.xcom_keys(EXAMPLE, run_id, task["task_id"])
        answers.append({key: airflow.xcom(EXAMPLE, run_id, task["task_id"], key) for key in keys})
    assert API_KEY not in json.dumps(answers)
