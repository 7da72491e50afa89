"""The ledger in real DAG runs, alike on every version of Airflow."""

from __future__ import annotations

import json
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from packaging.version import Version

from seedance_provider import defaults
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from tests.support.airflow import GENERATE, DagOutcome, hurry, run_dag
from tests.support.crashes import crash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seedance_provider.testing import Emulator

CLEAR = textwrap.dedent("""
    @task(trigger_rule="all_done")
    def clear_once():
        from airflow.models.taskinstance import TaskInstance, clear_task_instances
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.query(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="video").one()
            if found.try_number < 2 and found.state in ("success", "failed"):
                clear_task_instances([found], session, dag_run_state=False)
                found.max_tries = found.try_number + 1  # some versions look for the DAG in the database

    cleared = clear_once()
    video >> cleared
""")
ADOPT = textwrap.dedent("""
    @task(trigger_rule="all_done")
    def adopt():
        import requests

        from seedance_provider.execution.ledger import SeedanceLedger

        (created,) = requests.get("{url}/_admin/bill", timeout=10).json()["tasks"]
        run_id = get_current_context()["run_id"]
        SeedanceLedger().adopt(created["taskId"], dag_id=dag.dag_id, run_id=run_id, task_id="video")

    video >> adopt() >> cleared
""")


@pytest.fixture
def run(
    airflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seedance_emulator: Emulator
) -> Callable[[str], DagOutcome]:
    hurry(monkeypatch)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    (tmp_path / "dags").mkdir()
    return lambda tasks: run_dag(tmp_path / "dags", GENERATE + textwrap.dedent(tasks))


@pytest.mark.parametrize(
    ("where", "name", "when", "created"),
    [
        (Receipts, "save", "before", 1),
        (Receipts, "save", "after", 1),
        (SeedanceHook, "create_task", "after", 2),  # unknown: the vendor's rule is to send it again
        (Receipts, "note", "after", 1),
        (SeedanceGenerateVideoOperator, "execute_complete", "before", 1),
        (SeedanceGenerateVideoOperator, "execute_complete", "after", 1),
    ],
    ids=["before the intent", "after the intent", "before the id", "after the id", "while resuming", "after all"],
)
def test_a_retry_after_a_crash_continues_with_the_same_video(
    run: Callable[[str], DagOutcome],
    monkeypatch: pytest.MonkeyPatch,
    seedance_emulator: Emulator,
    where: Any,
    name: str,
    when: str,
    created: int,
) -> None:
    crash(monkeypatch, where, name, when)
    done = run("generate()")["video"]
    assert (done.state, done.try_number) == ("success", 2)
    assert seedance_emulator.bill()["tasks_created"] == created


def test_a_success_is_told_with_what_it_cost_and_who_wanted_it(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator
) -> None:
    done = run("generate(budget='{{ dag.dag_id }}', budget_credits=1000)")
    (told,) = SeedanceLedger().receipts(dag_id=done.dag_id, run_id=done.run_id)
    if told.status == "submitted" and Version(airflow_version) < Version("3.3"):
        pytest.skip("dag.test() of this Airflow runs no callbacks")
    assert (told.status, told.task_id, told.map_index) == ("delivered", "video", -1)
    assert told.seedance_task_id == done["video"].xcoms["seedance_task_id"]
    assert told.credits == Decimal(200) == seedance_emulator.bill()["credits_charged"]
    assert told.budgets == (done.dag_id,)
    assert SeedanceLedger().orphans() == []


@pytest.mark.parametrize(
    ("arguments", "created"),
    [
        ("", 2),
        ("prompt='a fox [[fail:2038]]'", 2),
        ("prompt='a fox [[generating:3]]', timeout=0.5", 1),
        ("idempotency_key='{{ dag.dag_id }}'", 1),
        ("idempotency_key='{{ dag.dag_id }}', wait_for_completion=False", 1),
    ],
    ids=["of a finished one", "of a failed one", "of one that still runs", "of a key's", "of a key's created one"],
)
def test_a_clear_submits_again_unless_the_video_runs_or_has_a_key(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, arguments: str, created: int
) -> None:
    assert run(f"video = generate({arguments})" + CLEAR)["video"].try_number == 2
    assert seedance_emulator.bill()["tasks_created"] == created


@pytest.mark.parametrize("policy", ["safe", "vendor"])
def test_a_clear_continues_with_what_was_adopted(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, policy: str
) -> None:
    lost = f"prompt='a fox [[createTask:no_task_id:accept=true]]', submit_policy={policy!r}"
    imports = "from airflow.providers.common.compat.sdk import get_current_context\n"
    done = run(f"{imports}video = generate({lost})" + CLEAR + ADOPT.format(url=seedance_emulator.url))["video"]
    assert (done.state, done.try_number) == ("success", 2)
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_mapped_tasks_share_a_video_by_their_keys(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator
) -> None:
    tasks = """
    SeedanceGenerateVideoOperator.partial(task_id="video", poll_interval=0.1, inputs={{"prompt": "a fox"}}).expand(
        idempotency_key={keys}
    )
    """
    first = run(tasks.format(keys=["a", "b"]))
    second = run(tasks.format(keys=["c", "a"]))
    assert first["video", 0].returned == second["video", 1].returned
    assert seedance_emulator.bill()["tasks_created"] == 3
    told = SeedanceLedger().receipts(dag_id=second.dag_id)
    assert {(receipt.map_index, receipt.key) for receipt in told} == {(0, "c"), (1, "a")}


@pytest.mark.usefixtures("seedance_emulator")
def test_a_stored_video_that_a_later_run_finds_by_its_key_is_told_as_delivered_to_it_too(
    run: Callable[[str], DagOutcome], tmp_path: Path
) -> None:
    tasks = f"""
    SeedanceGenerateVideoOperator(
        task_id="video", poll_interval=0.1, inputs={{"prompt": "a fox"}}, idempotency_key="fox",
        output_path="file://{tmp_path}/fox.mp4",
    )
    """
    runs = [run(tasks), run(tasks)]
    told = SeedanceLedger().receipts()
    assert {receipt.dag_id for receipt in told} == {done.dag_id for done in runs}
    assert {(receipt.status, receipt.paths) for receipt in told} == {("delivered", (f"file://{tmp_path}/fox.mp4",))}


WANTED = 12


@pytest.mark.seedance_emulator(concurrency_limit=None)
def test_a_day_of_1000_credits_is_five_of_many_mapped_videos_of_200(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "BUDGET_SETTLES_SECONDS", 0.0)
    connection = json.loads(seedance_emulator.connection_json) | {"extra": {"max_credits_per_day": 1000}}
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(connection))
    done = run(f"""
    SeedanceGenerateVideoOperator.partial(task_id="video", poll_interval=0.1).expand(
        inputs=[{{"prompt": f"fox {{number}}", "duration": 5}} for number in range({WANTED})]
    )
    """)
    states = [done["video", number].state for number in range(WANTED)]
    assert (states.count("success"), states.count("failed")) == (5, WANTED - 5)
    assert len(seedance_emulator.requests("createTask")) == 5
    assert seedance_emulator.bill()["credits_spent"] == 1000
    (day,) = SeedanceLedger().spend(by="day")
    assert (day.videos, day.credits) == (5, 1000)
    refused = [told for told in SeedanceLedger().receipts() if told.status == "refused"]
    assert len(refused) == WANTED - 5
    assert all(told.reason for told in refused)
