"""The sensor in a real DAG run through ``dag.test()``: one run for all tests, as the first costs some seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seedance_provider.testing import Emulator
from tests.support.airflow import MODES, DagOutcome, hurry, run_dag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

in_every_mode = pytest.mark.parametrize("mode", MODES)
TASKS = """
    MODES = {
        "deferred": {},
        "poke": {"deferrable": False},
        "reschedule": {"deferrable": False, "mode": "reschedule"},
    }
    RETRIES = {"retries": 1, "retry_delay": timedelta(0)}
    create = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox [[waiting:0.3]]"})
    fail = SeedanceCreateTaskOperator(task_id="fail", inputs={"prompt": "[[fail:2038]]"})
    hang = SeedanceCreateTaskOperator(task_id="hang", inputs={"prompt": "[[waiting:600]]"})
    for name, mode in MODES.items():
        common = {"poll_interval": 0.1, **RETRIES, **mode}
        SeedanceTaskSensor(task_id=f"success_{name}", seedance_task_id=create.output, **common)
        SeedanceTaskSensor(task_id=f"failure_{name}", seedance_task_id=fail.output, **common)
        SeedanceTaskSensor(task_id=f"timeout_{name}", seedance_task_id=hang.output, timeout=0.5, **common)
        SeedanceTaskSensor(task_id=f"skipped_{name}", seedance_task_id=fail.output, soft_fail=True, **common)
        SeedanceTaskSensor(task_id=f"nowhere_{name}", seedance_task_id="task_1", seedance_conn_id="nowhere", **common)
    SeedanceTaskSensor(
        task_id="templated",
        seedance_task_id="{{ ti.xcom_pull(task_ids='create', key='seedance_task_id') }}",
        seedance_conn_id="seedance_{{ 'default' }}",
        poll_interval=0.1,
    ).set_upstream(create)
    create_two = SeedanceCreateTaskOperator.partial(task_id="create_two").expand(
        inputs=[{"prompt": "a fox"}, {"prompt": "[[fail]]"}]
    )
    SeedanceTaskSensor.partial(task_id="wait_two", poll_interval=0.1).expand(seedance_task_id=create_two.output)
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(waiting_seconds=0.05, generating_seconds=0.1, concurrency_limit=None) as running:
        yield running


@pytest.fixture(scope="module")
def run(emulator: Emulator, airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> DagOutcome:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        hurry(monkeypatch)
        return run_dag(tmp_path_factory.mktemp("dags"), TASKS)


@in_every_mode
def test_a_success_hands_the_urls_downstream(run: DagOutcome, emulator: Emulator, mode: str) -> None:
    task_id, done = run["create"].returned, run[f"success_{mode}"]
    assert (done.state, done.try_number) == ("success", 1)
    assert done.returned == [f"{emulator.url}/videos/{task_id}.mp4"]
    assert done.xcoms["seedance_task"]["seedance_task_id"] == task_id


@in_every_mode
def test_a_failed_video_fails_without_a_retry(run: DagOutcome, mode: str) -> None:
    assert (run[f"failure_{mode}"].state, run[f"failure_{mode}"].try_number) == ("failed", 1)


@in_every_mode
def test_a_timeout_fails_without_a_retry(run: DagOutcome, mode: str) -> None:
    assert (run[f"timeout_{mode}"].state, run[f"timeout_{mode}"].try_number) == ("failed", 1)


@in_every_mode
def test_soft_fail_skips(run: DagOutcome, mode: str) -> None:
    assert (run[f"skipped_{mode}"].state, run[f"skipped_{mode}"].try_number) == ("skipped", 1)


@in_every_mode
def test_a_transient_error_is_retried(run: DagOutcome, mode: str) -> None:
    assert (run[f"nowhere_{mode}"].state, run[f"nowhere_{mode}"].try_number) == ("failed", 2)


def test_the_id_and_the_connection_may_be_templates(run: DagOutcome) -> None:
    assert run["templated"].returned == run["success_poke"].returned


def test_a_mapped_sensor_waits_for_each_task(run: DagOutcome) -> None:
    assert [run["wait_two", index].state for index in (0, 1)] == ["success", "failed"]
    assert len(run["wait_two", 0].returned) == 1


def test_a_failure_leaves_its_record_and_a_summary_for_later_tasks(run: DagOutcome) -> None:
    failed = run["failure_deferred"]
    assert failed.xcoms["seedance_task"]["status"] == "fail"
    assert failed.xcoms["seedance_error"]["code"] == "2038"
    assert failed.xcoms["seedance_error"]["charged"] == "no"
    assert run["timeout_deferred"].xcoms["seedance_error"]["seedance_task_id"] == run["hang"].returned


def test_no_secret_is_in_any_xcom(run: DagOutcome, emulator: Emulator) -> None:
    assert emulator.api_key not in repr(vars(run))


@in_every_mode
def test_no_signature_of_a_url_is_in_what_airflow_prints(
    seedance_emulator: Emulator,
    airflow_database: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    signed = "https://cdn.example.com/video.mp4?X-Tos-Signature=s1gnature"
    seedance_emulator.add_fault("status_word", on="recordInfo", word="generating")
    seedance_emulator.add_fault(
        "members", set={"output": [{"url": signed, "lastFrameImage": signed}], "status": "success"}, times=None
    )
    settings = {"deferred": "", "poke": ", deferrable=False", "reschedule": ", deferrable=False, mode='reschedule'"}
    run = run_dag(
        tmp_path,
        f"""
        create = SeedanceCreateTaskOperator(task_id="create", inputs={{"prompt": "a fox"}})
        SeedanceTaskSensor(
            task_id="wait", seedance_task_id=create.output, poll_interval=0.1{settings[mode]}
        )
        """,
    )
    assert run["wait"].returned == [signed]
    assert seedance_emulator.counts("recordInfo")["fault:status_word"] == 1
    captured = capfd.readouterr()
    lines = (captured.out + captured.err).splitlines()
    # Airflow 3.0's dag.test() prints, at level debug, each message to the supervisor: here the record in XCom.
    printed = caplog.text + "\n".join(line for line in lines if "[debug" not in line)
    assert run["create"].returned in printed
    assert "s1gnature" not in printed


def test_every_video_was_charged_once(run: DagOutcome, emulator: Emulator) -> None:
    assert emulator.bill()["tasks_created"] == 5
