"""The example pipelines on a real Airflow: what a pool, a scheduler and an asset do with them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from devtools.local_airflow import LocalAirflow
from seedance_provider.testing import Emulator
from tests.conftest import EXAMPLES
from tests.support.media import needs_ffmpeg, probe

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.airflow_processes, needs_ffmpeg]

CLIPS, TRANSCODE, TABLE = "seedance_make_clips", "seedance_transcode", "seedance_prompts_from_table"
SLOTS = 2
ROWS = (("dawn", "A lighthouse at dawn"), ("rain", "A market in the rain"), ("wind", "A kite over a beach"))


class Running(NamedTuple):
    """An Airflow that has run both examples at once, and where their files are."""

    airflow: LocalAirflow
    emulator: Emulator
    clips: Path
    videos: Path
    table_run: str

    def previews(self, timeout: float = 90) -> list[str]:
        """What the runs of the DAG that starts by itself have made, once it is two."""
        deadline = time.monotonic() + timeout
        while True:
            runs = self.airflow.api("GET", f"dags/{TRANSCODE}/dagRuns")["dag_runs"]
            if all(run["state"] == "success" for run in runs):
                made = {path for run in runs for path in self._made(run["dag_run_id"])}
                if len(made) >= 2:
                    return sorted(made)
            assert time.monotonic() < deadline, runs
            time.sleep(0.5)

    def _made(self, run_id: str) -> list[str]:
        clips = self.airflow.xcom(TRANSCODE, run_id, "new_clips")
        return [self.airflow.xcom(TRANSCODE, run_id, "make_preview", map_index=index) for index in range(len(clips))]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("pipelines")
    (folder / "dags").mkdir()
    for name in ("example_transcode.py", "example_prompts_from_table.py"):
        shutil.copy(EXAMPLES / name, folder / "dags")
    today = datetime.now(UTC).date().isoformat()
    with sqlite3.connect(folder / "shots.db") as database:
        database.execute("CREATE TABLE shots (day DATE, name VARCHAR(40), prompt VARCHAR(4000), seconds INTEGER)")
        database.executemany("INSERT INTO shots VALUES (?, ?, ?, 5)", [(today, *row) for row in ROWS])
    env = {
        "AIRFLOW__SEEDANCE__POLL_INTERVAL": "1",
        "AIRFLOW__SEEDANCE__LEDGER_PATH": f"file://{folder}/ledger",
        # The run that the schedule adds when the DAG is unpaused is about yesterday, for which there are no rows.
        "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True",
        "AIRFLOW_CONN_SHOTS_DB": json.dumps({"conn_type": "sqlite", "host": f"{folder}/shots.db"}),
    }
    emulator = Emulator(waiting_seconds=1, generating_seconds=8, concurrency_limit=None)
    with emulator, LocalAirflow(folder / "dags", env=env, split_api=True) as airflow:
        airflow.add_connection("seedance_default", emulator.connection_json)
        airflow.api("POST", "pools", json={"name": "seedance", "slots": SLOTS, "include_deferred": True})
        airflow.wait_for_dag(TRANSCODE)
        airflow.api("PATCH", f"dags/{TRANSCODE}", json={"is_paused": False})
        clips = airflow.trigger_dag(CLIPS, {"folder": f"file://{folder}/clips"})
        table = airflow.trigger_dag(TABLE, {"bucket": f"file://{folder}/videos"})
        for dag_id, run_id in ((CLIPS, clips), (TABLE, table)):
            assert airflow.wait_for_run(dag_id, run_id, timeout=180) == "success"
        yield Running(airflow, emulator, folder / "clips", folder / "videos", table)


def test_transcode_starts_by_itself_and_makes_one_preview_of_each_clip(running: Running) -> None:
    previews = running.previews()

    clips = sorted(path for path in running.clips.glob("*.mp4") if "preview" not in path.name)
    assert len(clips) == 2
    assert previews == [f"file://{path.with_suffix('')}-preview.mp4" for path in clips]
    for path in running.clips.glob("*-preview.mp4"):
        assert (probe(path).streams, probe(path).width) == (["h264"], 160)
    assert [probe(path).streams for path in clips] == [["h264", "aac"]] * 2


def test_transcode_makes_no_preview_twice_when_its_run_is_cleared(running: Running) -> None:
    previews = running.previews()
    written = {path: path.stat().st_mtime_ns for path in running.clips.glob("*-preview.mp4")}
    runs = running.airflow.api("GET", f"dags/{TRANSCODE}/dagRuns")["dag_runs"]
    for run in runs:
        path = f"dags/{TRANSCODE}/dagRuns/{run['dag_run_id']}/clear"
        running.airflow.api("POST", path, json={"dry_run": False})
        running.airflow.wait_for_run(TRANSCODE, run["dag_run_id"], timeout=60)

    assert running.previews() == previews
    assert {path: path.stat().st_mtime_ns for path in running.clips.glob("*-preview.mp4")} == written


def test_prompts_from_table_never_has_more_videos_than_the_pool_has_slots(running: Running) -> None:
    prompts = {prompt for _, prompt in ROWS}
    tasks = [task for task in running.emulator.server.ledger.tasks.values() if task.order.prompt in prompts]
    spans = [(task.created, task.created + task.waiting + task.generating) for task in tasks]
    assert len(spans) == len(ROWS)
    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(at_once) <= SLOTS

    manifest = [json.loads(line) for line in next(running.videos.glob("*/manifest.jsonl")).read_text().splitlines()]
    assert [(line["name"], line["status"]) for line in manifest] == [(name, "delivered") for name, _ in ROWS]
    stored = {str(path) for path in running.videos.glob("*/*.mp4")}
    assert {line["files"][0].removeprefix("file://") for line in manifest} == stored
    assert all(probe(Path(path)).streams == ["h264", "aac"] for path in stored)


def test_both_pipelines_together_were_charged_once_per_video(running: Running) -> None:
    bill: dict[str, Any] = running.emulator.bill()
    assert (bill["tasks_created"], bill["credits_spent"]) == (5, 700)
