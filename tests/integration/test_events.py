"""Asset events that start other DAGs, and the lineage of the same runs, on a real Airflow with a real OpenLineage."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from devtools.local_airflow import LocalAirflow, LocalAirflowError
from seedance_provider.testing import Emulator
from tests.conftest import EXAMPLES, ROOT
from tests.integration.conftest import API_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.airflow_processes

SIGNATURES = ("X-Amz-Signature", "f00d", "s1gned")


class Running(NamedTuple):
    """An Airflow, its vendor, and the file that OpenLineage writes."""

    airflow: LocalAirflow
    emulator: Emulator
    lineage: Path
    videos: Path  # where the example stores them

    def events(self, asset: str) -> list[dict[str, Any]]:
        """The events of an asset, oldest first."""
        # An asset that an alias made is not active: no DAG names it.
        assets = self.airflow.api("GET", "assets", params={"limit": 100, "only_active": False})["assets"]
        (found,) = [each["id"] for each in assets if each["name"] == asset]
        query = {"asset_id": found, "order_by": "timestamp"}
        deadline = time.monotonic() + 60
        while True:
            try:
                return list(self.airflow.api("GET", "assets/events", params=query)["asset_events"])
            except LocalAirflowError:  # Airflow answers 500 while a run that an event starts waits for its start
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def runs(self, dag_id: str, count: int, timeout: float = 60) -> list[dict[str, Any]]:
        """The first runs of a DAG that starts by itself, ended."""
        deadline = time.monotonic() + timeout
        while True:
            runs = self.airflow.api("GET", f"dags/{dag_id}/dagRuns", params={"order_by": "run_after"})["dag_runs"]
            if len(runs) >= count and all(run["state"] in ("success", "failed") for run in runs):
                return runs
            assert time.monotonic() < deadline, runs
            time.sleep(0.3)

    def told(self, job: str, event_type: str) -> list[dict[str, Any]]:
        """What OpenLineage was told of a job; the listener writes before the task ends."""
        events = [json.loads(line) for line in self.lineage.read_text().splitlines()]
        return [event for event in events if event["job"]["name"] == job and event["eventType"] == event_type]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(EXAMPLES / "example_assets.py", dags)
    shutil.copy(ROOT / "tests" / "integration" / "event_dags" / "events.py", dags)
    lineage = tmp_path_factory.mktemp("lineage") / "events.json"
    transport = {"type": "file", "log_file_path": str(lineage), "append": True}
    home = tmp_path_factory.mktemp("home")
    env = {
        "HOME": str(home),
        "AIRFLOW__SEEDANCE__POLL_INTERVAL": "1",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
    }
    emulator = Emulator(api_key=API_KEY, waiting_seconds=1, generating_seconds=2, concurrency_limit=None)
    with emulator, LocalAirflow(dags, env=env) as airflow:
        output = {"url": f"{emulator.url}/videos/fox.mp4?sig=s1gned", "seed": 7}
        emulator.add_fault("members", set={"output": [output]}, times=None, match={"prompt": "nobody"})
        airflow.add_connection("seedance_default", emulator.connection_json)
        for dag_id in ("seedance_assets_store", "events_by_partition", "events_by_alias"):
            airflow.wait_for_dag(dag_id)
            airflow.api("PATCH", f"dags/{dag_id}", json={"is_paused": False})
        yield Running(airflow, emulator, lineage, home / "seedance-videos")


@pytest.fixture(scope="module")
def run_id(running: Running) -> str:
    """A run of the DAG with every kind of task; its task ``fail`` fails."""
    run_id = running.airflow.trigger_dag("events_made")
    assert running.airflow.wait_for_run("events_made", run_id, timeout=120) == "failed"
    states = {ti["task_id"]: ti["state"] for ti in running.airflow.task_instances("events_made", run_id)}
    assert states.pop("fail") == "failed"
    assert set(states.values()) == {"success"}, states
    return run_id


# Assets.


def test_each_video_of_the_example_is_stored_once_by_the_dag_that_it_starts(running: Running) -> None:
    airflow, emulator = running.airflow, running.emulator
    run_id = airflow.trigger_dag("seedance_assets_generate")
    assert airflow.wait_for_run("seedance_assets_generate", run_id, timeout=90) == "success"
    made = {
        airflow.xcom("seedance_assets_generate", run_id, "make_video", "seedance_task_id", map_index=n) for n in (0, 1)
    }
    extras = [event["extra"] for event in running.events("seedance_videos")]
    assert {extra["seedance_task_id"] for extra in extras} == made
    for extra in extras:
        assert extra["model"] == "seedance2-fast"
        assert extra["urls"] == [f"{emulator.url}/videos/{extra['seedance_task_id']}.mp4"]
        assert (extra["paths"], extra["credits"]) == ([], 140)
        assert extra["seconds"] > 0

    wanted = {f"{task_id}.mp4" for task_id in made}
    deadline = time.monotonic() + 90
    while {path.name for path in running.videos.glob("*.mp4")} != wanted:
        assert time.monotonic() < deadline, running.runs("seedance_assets_store", 1)
        time.sleep(0.5)
    runs = running.runs("seedance_assets_store", 1)
    assert {run["state"] for run in runs} == {"success"}
    downloads = [request["path"] for request in emulator.requests() if "/videos/" in request["path"]]
    assert sorted(downloads) == sorted(f"/videos/{name}" for name in wanted), "each was fetched once"


@pytest.mark.parametrize("mode", ["deferred", "poke", "reschedule"])
def test_a_sensor_tells_its_outlet_the_video_in_every_mode(running: Running, run_id: str, mode: str) -> None:
    (event,) = running.events(f"tested_{mode}")
    extra = event["extra"]
    assert extra["seedance_task_id"] == running.airflow.xcom("events_made", run_id, "create")
    assert extra["urls"] == [f"{running.emulator.url}/videos/fox.mp4"]
    assert extra["credits"] > 0


def test_a_submission_tells_its_outlet_the_id(running: Running, run_id: str) -> None:
    (event,) = running.events("tested_create")
    seedance_task_id = running.airflow.xcom("events_made", run_id, "create")
    assert event["extra"] == {"seedance_task_id": seedance_task_id, "model": "seedance-20"}


def test_a_failed_video_is_no_event(running: Running, run_id: str) -> None:
    assert running.events("tested_fail") == []


@pytest.mark.differs(
    "one run per video by partition keys, see [Events](events.md#one-run-per-video)", "no", "no", "yes"
)
def test_one_partition_key_per_video_is_one_run_per_video(running: Running, run_id: str) -> None:
    made = {running.airflow.xcom("events_made", run_id, "each", "seedance_task_id", map_index=n) for n in (0, 1)}
    runs = running.runs("events_by_partition", 2)
    assert {run["state"] for run in runs} == {"success"}
    assert {running.airflow.xcom("events_by_partition", run["dag_run_id"], "show") for run in runs} == made
    assert len(runs) == 2


def test_a_stored_file_is_an_event_of_its_own_asset_and_starts_what_waits_for_the_alias(
    running: Running, run_id: str
) -> None:
    (path,) = running.airflow.xcom("events_made", run_id, "stored")
    (event,) = running.events("tested_file")
    assert event["extra"]["paths"] == [path]
    (of_alias,) = running.events(path.replace(" #", "%20%23"))
    assert of_alias["extra"] == event["extra"]
    (run,) = running.runs("events_by_alias", 1)
    assert running.airflow.xcom("events_by_alias", run["dag_run_id"], "read") == [[path]]


# Lineage.


def names(datasets: Any) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def test_a_wait_that_was_deferred_has_lineage(running: Running, run_id: str) -> None:
    seedance_task_id = running.airflow.xcom("events_made", run_id, "create")
    for mode in ("deferred", "poke", "reschedule"):
        (event,) = running.told(f"events_made.wait_{mode}", "COMPLETE")
        assert names(event["outputs"]) == [(running.emulator.url, "/videos/fox.mp4")]
        facet = event["run"]["facets"]["seedance_task"]
        assert (facet["taskId"], facet["status"], facet["seeds"]) == (seedance_task_id, "success", [7])
        assert facet["creditsUsed"] > 0


def test_a_submission_has_its_references_and_its_price(running: Running, run_id: str) -> None:
    (event,) = running.told("events_made.create", "COMPLETE")
    assert names(event["inputs"]) == [("https://media.example.com", "/shop/morning.png")]
    facet = event["run"]["facets"]["seedance_task"]
    assert facet["taskId"] == running.airflow.xcom("events_made", run_id, "create")
    assert facet["creditsExpectedLow"] == facet["creditsExpectedHigh"] == 200


def test_each_mapped_video_has_lineage_of_its_own(running: Running, run_id: str) -> None:
    made = {running.airflow.xcom("events_made", run_id, "each", "seedance_task_id", map_index=n) for n in (0, 1)}
    facets = [event["run"]["facets"]["seedance_task"] for event in running.told("events_made.each", "COMPLETE")]
    assert {facet["taskId"] for facet in facets} == made
    assert all(facet["creditsUsed"] == facet["creditsExpectedHigh"] for facet in facets)


def test_a_stored_video_has_lineage_with_its_size(running: Running, run_id: str) -> None:
    (path,) = running.airflow.xcom("events_made", run_id, "stored")
    (event,) = running.told("events_made.stored", "COMPLETE")
    assert names(event["outputs"])[1] == ("file", path.removeprefix("file://"))
    size = event["outputs"][1]["outputFacets"]["outputStatistics"]["size"]
    assert size == Path(path.removeprefix("file://")).stat().st_size


def test_a_failed_video_has_lineage_too(running: Running, run_id: str) -> None:
    (event,) = running.told("events_made.fail", "FAIL")
    facet = event["run"]["facets"]["seedance_task"]
    assert (facet["taskId"], facet["status"], facet["failureCode"]) == (
        running.airflow.xcom("events_made", run_id, "fail", "seedance_task_id"),
        "fail",
        "2038",
    )


def test_neither_events_nor_lineage_hold_a_key_a_signature_or_a_prompt(running: Running, run_id: str) -> None:
    written = running.lineage.read_text()
    events = json.dumps(running.airflow.api("GET", "assets/events", params={"limit": 100}))
    assert "tested_deferred" in written
    for secret in (API_KEY, *SIGNATURES, "nobody else may read"):
        assert secret not in written
        assert secret not in events
