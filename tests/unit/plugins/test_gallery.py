"""What the gallery and the page of spending are told: real runs and a real ledger, over HTTP, to who may read them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no pages
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow 3.1 and later have the pages", allow_module_level=True)

import requests

from seedance_provider import defaults
from seedance_provider.plugins import serve_pages, spending, videos
from seedance_provider.plugins.shared import Shared
from seedance_provider.testing import Emulator
from tests.support.airflow import DagOutcome, run_dag
from tests.support.pages import reader, replace_xcom
from tests.support.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
from airflow.providers.standard.operators.empty import EmptyOperator

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

options = {{"poll_interval": 0.05, "deferrable": False, "model": "seedance2-fast"}}
wanted = {{"duration": 5, "outputResolution": "720p"}}
SeedanceGenerateVideoOperator(
    task_id="good", inputs={{"prompt": "a fox", **wanted}}, output_path="{folder}/clip.{{ext}}", budget="campaign",
    budget_credits=1000, **options,
)
SeedanceGenerateVideoOperator(
    task_id="bad", inputs={{"prompt": "a fox [[fail:1001:Not allowed]]", **wanted}}, **options
)
lost = {{"prompt": "a cat [[createTask:reset:accept=true]]", **wanted}}
SeedanceGenerateVideoOperator(task_id="lost", inputs=lost, submit_policy="safe", **options)
EmptyOperator(task_id="other")
"""


class Told(NamedTuple):
    """A run that is over, and the server that tells of it."""

    url: str
    run: DagOutcome

    def get(self, path: str, session: requests.Session | None = None, **query: Any) -> requests.Response:
        return (session or reader()).get(f"{self.url}/{path}", params=query, timeout=30)

    def records(self) -> dict[str, Any]:
        answer = self.get(f"records/{self.run.dag_id}", run_id=self.run.run_id).json()
        return {record["task_id"]: record for record in answer["records"]}


@pytest.fixture(scope="module")
def told(airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{folder}/ledger")
        patch.setattr(videos, "_tasks", Shared(videos._read_tasks, 0))
        patch.setattr(videos, "_records", Shared(videos._read_records, 0))
        patch.setattr(videos, "_runs", Shared(videos._read_runs, 0))
        patch.setattr(spending, "_receipts", Shared(spending._read, 0))
        with Emulator(waiting_seconds=0.05, generating_seconds=0.1, concurrency_limit=None) as emulator:
            patch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
            run = run_dag(folder, TASKS.format(folder=folder))
        with serving(serve_pages, prefix=defaults.PAGES_PATH) as server:
            yield Told(f"{server}{defaults.PAGES_PATH}", run)


def test_the_tasks_of_a_run_that_make_videos_are_told_and_no_others(told: Told) -> None:
    answer = told.get(f"tasks/{told.run.dag_id}", run_id=told.run.run_id).json()
    tasks = {task["task_id"]: task for task in answer["task_instances"]}
    assert (answer["total_entries"], [*tasks]) == (3, ["bad", "good", "lost"])
    good = tasks["good"]
    assert (good["state"], good["map_index"], good["dag_run_id"]) == ("success", -1, told.run.run_id)
    assert good["operator"] == "SeedanceGenerateVideoOperator"
    assert good["rendered_fields"].keys() == {"inputs", "model"}
    assert "a fox" in str(good["rendered_fields"]["inputs"])
    assert datetime.fromisoformat(good["start_date"]).tzinfo is not None


def test_tasks_are_told_part_by_part(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "TASKS_AT_ONCE", 2)

    def part(offset: int) -> list[str]:
        answer = told.get(f"tasks/{told.run.dag_id}", run_id=told.run.run_id, offset=offset).json()
        assert answer["total_entries"] == 3
        return [task["task_id"] for task in answer["task_instances"]]

    assert [part(0), part(2), part(4)] == [["bad", "good"], ["lost"], []]


def test_a_run_that_is_not_there_is_told_from_an_empty_one(told: Told) -> None:
    assert told.get(f"tasks/{told.run.dag_id}", run_id="no such run").status_code == 404
    assert told.get(f"tasks/{told.run.dag_id}").status_code == 422


def test_a_task_tells_all_of_its_xcoms_and_which_others_there_are(told: Told) -> None:
    answer = told.get(f"xcoms/{told.run.dag_id}", run_id=told.run.run_id, task_id="good").json()
    own = answer["own"]
    assert own.keys() == {"seedance_task_id", "seedance_task", "seedance_files"}
    assert own["seedance_task"]["value"]["seedance_task_id"] == own["seedance_task_id"]["value"]
    assert datetime.fromisoformat(own["seedance_task_id"]["timestamp"]).tzinfo is not None
    assert {(other["task_id"], other["map_index"]) for other in answer["others"]} == {("bad", -1), ("lost", -1)}
    assert "value" not in answer["others"][0]


def test_of_a_mapped_task_the_tasks_that_are_not_mapped_may_know_more(told: Told) -> None:
    answer = told.get(f"xcoms/{told.run.dag_id}", run_id=told.run.run_id, task_id="clips", map_index=3).json()
    assert answer["own"] == {}
    assert {other["task_id"] for other in answer["others"]} == {"good", "bad", "lost"}


def test_a_number_that_no_browser_reads_is_told_as_none(told: Told) -> None:
    before = told.run["good"].xcoms["seedance_task"]
    replace_xcom(told.run.dag_id, "good", "seedance_task", before | {"credits_used": float("nan")})
    try:
        answer = told.get(f"xcoms/{told.run.dag_id}", run_id=told.run.run_id, task_id="good")
        records = told.get(f"records/{told.run.dag_id}", run_id=told.run.run_id)
    finally:
        replace_xcom(told.run.dag_id, "good", "seedance_task", before)
    assert answer.json()["own"]["seedance_task"]["value"]["credits_used"] is None
    assert "NaN" not in answer.text + records.text


def test_each_task_of_a_run_tells_of_its_video(told: Told) -> None:
    records = told.records()
    good = told.run["good"].xcoms["seedance_task"]
    assert (
        records["good"].items()
        >= {
            "id": good["seedance_task_id"],
            "status": "success",
            "credits": good["credits_used"],
            "url": good["outputs"][0]["url"],
            "outputs": 1,
            "stored": 0,
        }.items()
    )
    assert records["bad"].items() >= {"status": "fail", "reason": "Not allowed", "charged": "no"}.items()
    assert records["lost"].items() >= {"error": "SeedanceSubmitUncertainError", "charged": "unknown"}.items()
    assert "id" not in records["lost"]


@pytest.mark.parametrize(
    "record",
    [
        "s3://bucket/of/a/backend.json",
        "{no json",
        ["no record"],
        None,
        7,
        {"outputs": "x", "failure": "x", "credits_used": {"a": 1}, "seedance_task_id": ["x"]},
        {"outputs": [None, 1, {"url": {"a": 1}, "last_frame_image": 7}], "status": None},
    ],
)
def test_what_is_no_record_is_left_out(told: Told, record: Any) -> None:
    before = told.run["good"].xcoms["seedance_task"]
    replace_xcom(told.run.dag_id, "good", "seedance_task", record)
    try:
        found = told.records()["good"]
    finally:
        replace_xcom(told.run.dag_id, "good", "seedance_task", before)
    assert found["id"] == before["seedance_task_id"]  # of the other XCom
    assert "credits" not in found
    assert all(isinstance(value, (str, int, float)) for value in found.values())


@pytest.mark.parametrize("files", ["no list", [], [None], [{"path": 7}], {"path": "a"}])
def test_what_is_no_list_of_files_is_left_out(told: Told, files: Any) -> None:
    before = told.run["good"].xcoms["seedance_files"]
    replace_xcom(told.run.dag_id, "good", "seedance_files", files)
    try:
        assert "stored" not in told.records()["good"]
    finally:
        replace_xcom(told.run.dag_id, "good", "seedance_files", before)


def test_the_stored_picture_is_told_apart_from_the_stored_video() -> None:
    files = [{"path": "s3://b/a.png"}, {"path": "s3://b/a.mp4"}]
    assert videos._of_files(files) == {"stored": 1, "stored_picture": 0}


def test_what_a_function_wrote_is_the_prompt() -> None:
    assert videos._of_inputs({"prompt": "x" * 10_000}) == {"prompt": "x" * 4096}
    assert videos._of_inputs({"prompt": 7}) == videos._of_inputs("x") == {}


def test_the_runs_with_videos_are_listed_with_their_states(told: Told) -> None:
    runs = told.get("runs").json()["runs"]
    (mine,) = (run for run in runs if run["dag_id"] == told.run.dag_id)
    assert mine["run_id"] == told.run.run_id
    assert mine["tasks"] == {"success": 1, "failed": 2}


def test_the_ledger_tells_what_was_spent_what_is_left_and_what_nobody_took(told: Told) -> None:
    answer = told.get("ledger", days=7).json()
    (row,) = answer["spend"]["dag"]
    assert (row["group"], row["videos"], row["credits"], row["estimated"]) == (told.run.dag_id, 2, 280, 140)
    assert answer["ceilings"] == [{"budget": "campaign", "spent": 140, "limit": 1000}]
    assert [row["group"] for row in answer["spend"]["model"]] == ["seedance2-fast"]


def test_an_outcome_that_stays_unknown_comes_with_what_to_do(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "INTENT_SECONDS", 0.0)
    answer = told.get("ledger").json()
    (orphan,) = answer["orphans"]
    assert (orphan["task_id"], orphan["id"], answer["orphans_in_all"]) == ("lost", None, 1)
    assert f"adopt ID --dag-id {told.run.dag_id}" in orphan["collect"]


def test_the_day_of_a_connection_is_named_and_a_day_that_is_over_does_not_count() -> None:
    assert spending._name("conn/a/b/2026-01-02") == {"connection": "a/b", "day": "2026-01-02"}
    assert not spending._still_counts("conn/a/2020-01-02")
    assert spending._still_counts("campaign")


def test_without_a_ledger_there_is_nothing_to_tell(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
    assert told.get("ledger").json() is None


def test_a_ledger_that_cannot_be_read_is_no_empty_one(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", "nosuchstore://bucket/ledger")
    assert told.get("ledger").status_code == 502


@pytest.mark.parametrize(
    "path",
    [
        "tasks/{dag}?run_id={run}",
        "records/{dag}?run_id={run}",
        "xcoms/{dag}?run_id={run}&task_id=bad",
        "runs",
        "ledger",
    ],
)
def test_only_who_may_read_the_dag_is_told(told: Told, path: str) -> None:
    asked = path.format(dag=told.run.dag_id, run=quote(told.run.run_id))
    assert told.get(asked, requests.Session()).status_code == 401
    assert told.get(asked, reader(None)).status_code == 403
    seen = told.get(asked, reader("VIEWER")).text
    assert '"good"' in seen or told.run.dag_id in seen


def test_of_dags_that_one_may_not_read_nothing_is_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(user: Any) -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(videos, "readable_dags", none)
    monkeypatch.setattr(spending, "readable_dags", none)
    assert told.get("runs").json()["runs"] == []
    answer = told.get("ledger").json()
    assert (answer["spend"], answer["ceilings"], answer["orphans"]) == ({"dag": [], "model": [], "day": []}, [], [])
    assert told.run.dag_id not in json.dumps(answer)
