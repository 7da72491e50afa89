"""The example on a real scheduler, triggerer, API server and DAG processor, driven over Airflow's REST API."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from devtools.fault_proxy import FaultProxy
from tests.integration.conftest import API_KEY, Vendor

if TYPE_CHECKING:
    from devtools.local_airflow import LocalAirflow
    from seedance_provider.testing import Emulator
    from tests.integration.conftest import RealAirflow

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "seedance_create_and_wait"


def run_with_video(airflow: LocalAirflow, vendor: Vendor, dag_id: str) -> str:
    """Run a DAG, let its video be made once the sensor is seen deferred, and return the id of the run."""
    run_id = airflow.trigger_dag(dag_id)
    airflow.wait_for_task(dag_id, run_id, "wait_for_video", states={"deferred"}, timeout=180)
    vendor.wait_for_polls(2)  # by the triggerer: a worker polls once, before it defers
    vendor.turn_clock(900)
    vendor.wait_for_polls(2)
    vendor.turn_clock(600)
    state = airflow.wait_for_run(dag_id, run_id, timeout=180)
    assert state == "success", airflow.task_log(dag_id, run_id, "wait_for_video")
    return run_id


def assert_charged_once(emulator: Emulator) -> None:
    assert emulator.bill()["tasks_created"] == 1
    assert emulator.counts("createTask") == {"created": 1}


@pytest.fixture(scope="module")
def example_run(real_airflow: RealAirflow) -> str:
    return run_with_video(real_airflow.airflow, real_airflow.current, EXAMPLE)


def test_the_example_waits_deferred_and_hands_on_the_urls_of_one_charged_video(
    real_airflow: RealAirflow, example_run: str
) -> None:
    airflow, emulator = real_airflow.airflow, real_airflow.current.emulator
    seedance_task_id = airflow.xcom(EXAMPLE, example_run, "create_video")
    assert seedance_task_id.startswith("task_")
    urls = airflow.xcom(EXAMPLE, example_run, "wait_for_video")
    assert urls
    assert all(url.startswith(emulator.url) and url.endswith(".mp4") for url in urls)
    assert airflow.xcom(EXAMPLE, example_run, "show_video_urls") == urls
    record = airflow.xcom(EXAMPLE, example_run, "wait_for_video", "seedance_task")
    assert record["seedance_task_id"] == seedance_task_id
    assert record["status"] == "success"
    assert_charged_once(emulator)
    assert Decimal(record["credits_used"]) == emulator.bill()["credits_spent"]


def test_the_task_logs_tell_the_story_of_the_video(real_airflow: RealAirflow, example_run: str) -> None:
    airflow, run_id = real_airflow.airflow, example_run
    seedance_task_id = airflow.xcom(EXAMPLE, run_id, "create_video")
    created = airflow.task_log(EXAMPLE, run_id, "create_video")
    assert any(seedance_task_id in line and "seedance-20" in line for line in created.splitlines())
    waited = airflow.task_log(EXAMPLE, run_id, "wait_for_video")
    assert seedance_task_id in waited
    assert "generating" in waited
    assert "credits" in waited


def test_the_event_of_the_trigger_shows_the_task_and_no_url(real_airflow: RealAirflow, example_run: str) -> None:
    airflow = real_airflow.airflow
    logs = (path.read_text(errors="replace") for path in airflow.home.rglob("*") if ".log" in path.name)
    fired = [line for log in logs for line in log.splitlines() if "Trigger fired event" in line]
    seedance_task_id = airflow.xcom(EXAMPLE, example_run, "create_video")
    assert any(seedance_task_id in line for line in fired)
    assert [line for line in fired if "://" in line] == []


def test_a_run_in_the_seed_dialect_ends_the_same(real_airflow: RealAirflow) -> None:
    airflow, emulator = real_airflow.airflow, real_airflow.seed.emulator
    run_id = run_with_video(airflow, real_airflow.seed, "seed_dialect")
    urls = airflow.xcom("seed_dialect", run_id, "wait_for_video")
    assert urls
    assert all(url.startswith(emulator.url) for url in urls)
    assert_charged_once(emulator)


def test_a_killed_triggerer_and_an_api_that_resets_every_connection_cost_nothing(real_airflow: RealAirflow) -> None:
    airflow, vendor = real_airflow.airflow, Vendor(dialect="seed")
    with vendor.emulator as emulator, FaultProxy(emulator.port) as proxy:
        airflow.add_connection("proxied", json.loads(emulator.connection_json) | {"port": proxy.port})
        run_id = airflow.trigger_dag("seed_dialect", {"connection": "proxied"})
        airflow.wait_for_task("seed_dialect", run_id, "wait_for_video", states={"deferred"}, timeout=180)
        vendor.wait_for_polls(2)
        airflow.kill("triggerer")
        proxy.fault = "reset"
        airflow.start_process("triggerer")
        proxy.wait_for_resets(3, timeout=180)
        proxy.fault = None
        vendor.wait_for_polls(2)
        vendor.turn_clock(1500)
        state = airflow.wait_for_run("seed_dialect", run_id, timeout=180)
        assert state == "success", airflow.task_log("seed_dialect", run_id, "wait_for_video")
        assert airflow.xcom("seed_dialect", run_id, "wait_for_video")
        assert_charged_once(emulator)


def test_the_api_key_is_written_nowhere(real_airflow: RealAirflow, example_run: str) -> None:
    airflow, run_id = real_airflow.airflow, example_run
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
