"""Files of real DAG runs through ``dag.test()``: every operator and mode, templated, mapped; one run for all tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import seedance_provider.testing
from seedance_provider.testing import Emulator
from tests.support.airflow import DagOutcome, hurry, run_dag

if TYPE_CHECKING:
    from collections.abc import Iterator

VIDEO = (Path(seedance_provider.testing.__file__).parent / "media" / "video.mp4").read_bytes()
TASKS = """
    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg

    from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
    from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator

    ROOT = FOLDER
    FOX = {"prompt": "a fox", "duration": 5}
    MODES = {
        "deferred": {},
        "poke": {"deferrable": False},
        "reschedule": {"deferrable": False, "mode": "reschedule"},
    }
    create = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox [[waiting:0.3]]", "duration": 5})
    for name, mode in MODES.items():
        SeedanceTaskSensor(
            task_id=f"wait_{name}",
            seedance_task_id=create.output,
            poll_interval=0.1,
            output_path=f"file://{ROOT}/{{{{ dag.dag_id }}}}/{name}/",
            last_frame=True,
            **mode,
        )
    common = {"inputs": FOX, "poll_interval": 0.1}
    SeedanceGenerateVideoOperator(
        task_id="generate", output_path=ROOT + "/generate/{{ ti.task_id }}-{model}-{seed}.{ext}", **common
    )
    SeedanceGenerateVideoOperator(
        task_id="on_worker",
        output_path=ObjectStoragePath(f"file://{ROOT}") / "worker.mp4",
        deferrable=False,
        **common,
    )
    mapped = SeedanceGenerateVideoOperator.partial(task_id="mapped", **common).expand(
        output_path=[f"{ROOT}/a.mp4", f"{ROOT}/b.mp4"]
    )
    plain = SeedanceGenerateVideoOperator(task_id="plain", **common)
    pair = SeedanceGenerateVideoOperator.partial(task_id="pair", poll_interval=0.1).expand(inputs=[FOX, FOX])
    to = {"output_path": f"{ROOT}/{{{{ ti.task_id }}}}/"}
    task_id = XComArg(plain, key="seedance_task_id")
    SeedanceToObjectStorageOperator(task_id="by_id", seedance_task_id=task_id, last_frame=True, **to)
    SeedanceToObjectStorageOperator(task_id="by_record", record=XComArg(plain, key="seedance_task"), **to)
    SeedanceToObjectStorageOperator(task_id="by_urls", urls=plain.output, **to)
    SeedanceToObjectStorageOperator(task_id="by_mapped_urls", urls=pair.output, **to)
    SeedanceToObjectStorageOperator.partial(task_id="each", **to).expand(urls=pair.output)
    SeedanceToObjectStorageOperator(
        task_id="by_template", seedance_task_id="{{ ti.xcom_pull(task_ids='plain', key='seedance_task_id') }}", **to
    ).set_upstream(plain)
    SeedanceToObjectStorageOperator(task_id="rendered_list", urls="{{ ti.xcom_pull(task_ids='plain') }}", **to)
    unknown = {"seedance_task_id": "task_unknown0123456789abcdef", "retries": 1, "retry_delay": timedelta(0)}
    SeedanceToObjectStorageOperator(task_id="unknown_task", **unknown, **to)
"""
FIRST = ["wait_deferred", "wait_poke", "wait_reschedule", "by_id"]
"""Tasks that store a video and its last frame."""
REST = ["generate", "on_worker", "by_record", "by_urls", "by_template"]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(waiting_seconds=0.05, generating_seconds=0.1, concurrency_limit=None) as running:
        yield running


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def run(emulator: Emulator, airflow_database: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> DagOutcome:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        hurry(monkeypatch)
        return run_dag(tmp_path_factory.mktemp("dags"), TASKS.replace("FOLDER", repr(str(root))))


def local(path: str) -> Path:
    return Path(path.removeprefix("file://"))


@pytest.mark.parametrize("task_id", FIRST + REST)
def test_the_paths_are_returned_and_the_files_are_there(run: DagOutcome, root: Path, task_id: str) -> None:
    done = run[task_id]
    assert done.state == "success"
    paths = [local(path) for path in done.returned]
    assert len(paths) == (2 if task_id in FIRST else 1)
    assert all(path.is_relative_to(root) for path in paths)
    assert paths[0].read_bytes() == VIDEO
    assert [path.suffix for path in paths[1:]] == [".png"] * (len(paths) - 1)
    assert json.loads(Path(f"{paths[0]}.json").read_text())["bytes"] == len(VIDEO)


@pytest.mark.parametrize("task_id", FIRST + REST)
def test_the_files_are_told_in_xcom(run: DagOutcome, task_id: str) -> None:
    files = run[task_id].xcoms["seedance_files"]
    assert [set(file) for file in files] == [{"path", "bytes", "sha256", "source"}] * len(files)
    assert [file["path"] for file in files] == run[task_id].returned
    assert files[0]["bytes"] == len(VIDEO)
    assert files[0]["source"].startswith("http://127.0.0.1")


@pytest.mark.parametrize("task_id", ["wait_deferred", "wait_poke", "wait_reschedule", "generate", "on_worker"])
def test_the_record_is_told_as_without_files(run: DagOutcome, task_id: str) -> None:
    assert run[task_id].xcoms["seedance_task"]["status"] == "success"


def test_airflow_renders_the_path_before_we_do(run: DagOutcome, root: Path) -> None:
    record = run["generate"].xcoms["seedance_task"]
    name = f"generate-seedance-20-{record['outputs'][0]['seed']}.mp4"
    assert run["generate"].returned == [f"{root}/generate/{name}"]
    assert local(run["wait_poke"].returned[0]).parent == root / run.dag_id / "poke"


def test_a_mapped_path_is_used_by_its_own_task(run: DagOutcome, root: Path) -> None:
    assert [run["mapped", index].returned for index in range(2)] == [[f"{root}/a.mp4"], [f"{root}/b.mp4"]]
    assert [run["each", index].state for index in range(2)] == ["success", "success"]
    assert len({run["each", index].returned[0] for index in range(2)}) == 2


def test_the_urls_of_mapped_tasks_come_as_one_list(run: DagOutcome) -> None:
    assert len(run["by_mapped_urls"].returned) == 2


def test_a_list_that_a_template_made_a_text_of_fails_without_a_retry(run: DagOutcome) -> None:
    done = run["rendered_list"]
    assert (done.state, done.try_number) == ("failed", 1)
    assert done.xcoms["seedance_error"]["type"] == "SeedanceConfigurationError"


def test_a_task_that_is_unknown_fails_without_a_retry(run: DagOutcome) -> None:
    done = run["unknown_task"]
    assert (done.state, done.try_number) == ("failed", 1)
    assert done.xcoms["seedance_error"]["type"] == "SeedanceTaskNotFoundError"


def test_every_video_was_charged_once(run: DagOutcome, emulator: Emulator) -> None:
    assert emulator.bill()["tasks_created"] == 8
