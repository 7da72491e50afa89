"""``on_completion``: one event for each video, registered by the API server, with nobody waiting and no poll."""

from __future__ import annotations

import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no receiver
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, get_base_airflow_version_tuple

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow 3.1 and later have the receiver", allow_module_level=True)

from airflow.models.asset import AssetEvent, AssetModel
from airflow.utils.session import create_session
from sqlalchemy import select

from seedance_provider import defaults
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.stores import Owner
from seedance_provider.plugins.callbacks import Receiver
from seedance_provider.plugins.events import register
from tests.support.airflow import DagOutcome, hurry, run_dag
from tests.support.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seedance_provider.testing import Emulator

INPUTS = '{"prompt": "a fox [[waiting:0]] [[generating:%s]]", "duration": 5, "outputResolution": "720p"}'
CREATE = """
    from airflow.providers.common.compat.sdk import Asset

    SeedanceCreateTaskOperator(task_id="create", on_completion=Asset("%s"), inputs=%s)
"""


@pytest.fixture(params=["ledger", pytest.param("task state", marks=pytest.mark.skipif(
    get_base_airflow_version_tuple() < (3, 3, 0), reason="Airflow 3.3 and later have a task state store"
))])  # fmt: skip
def api_server(
    request: pytest.FixtureRequest,
    airflow_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seedance_emulator: Emulator,
) -> Iterator[None]:
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "CALLBACK_PAUSES", (0.5, 1.0))
    if request.param == "ledger":
        monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    with serving(Receiver()) as url:
        monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL", url)
        yield


def run(folder: Path, tasks: str) -> DagOutcome:
    (folder / "dags").mkdir(exist_ok=True)
    return run_dag(folder / "dags", textwrap.dedent(tasks))


def events(asset: str) -> list[AssetEvent]:
    found = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id).where(AssetModel.name == asset)
    with create_session() as session:
        return list(session.scalars(found))


def wait_for_deliveries(emulator: Emulator, count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(emulator.deliveries()) < count:
        assert time.monotonic() < deadline, emulator.deliveries()
        time.sleep(0.05)
    return [delivery["status"] for delivery in emulator.deliveries()]


@pytest.mark.usefixtures("api_server")
@pytest.mark.seedance_emulator(webhook_copies=3)
def test_a_finished_video_is_one_event_without_a_poll_by_any_task(
    request: pytest.FixtureRequest, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    asset = f"videos of {request.node.name}"
    done = run(tmp_path, CREATE % (asset, INPUTS % 1))
    assert done["create"].state == "success"
    assert wait_for_deliveries(seedance_emulator, 3) == [200, 200, 200]
    (event,) = events(asset)
    extra = event.extra
    assert extra["seedance_task_id"] == done["create"].returned
    assert (event.source_dag_id, event.source_run_id) == (done.dag_id, done.run_id)
    assert (event.source_task_id, event.source_map_index) == ("create", -1)
    assert (extra["model"], extra["paths"], extra["seconds"]) == ("seedance-20", [], 1)
    assert extra["credits"] > 0
    assert len(extra["urls"]) == 1


@pytest.mark.usefixtures("api_server")
def test_a_failed_video_is_no_event(
    request: pytest.FixtureRequest, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    asset = f"videos of {request.node.name}"
    run(tmp_path, CREATE % (asset, (INPUTS % 1).replace("fox", "fox [[fail]]")))
    assert wait_for_deliveries(seedance_emulator, 1) == [200]
    assert events(asset) == []


@pytest.mark.parametrize("api_server", ["ledger"], indirect=True)
@pytest.mark.parametrize(("directive", "status", "charged"), [("", "delivered", 200), ("[[fail]]", "fail", 0)])
@pytest.mark.usefixtures("api_server")
def test_the_callback_corrects_what_was_reserved(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    seedance_emulator: Emulator,
    directive: str,
    status: str,
    charged: int,
) -> None:
    done = run(
        tmp_path,
        f"""
        from airflow.providers.common.compat.sdk import Asset

        SeedanceCreateTaskOperator(
            task_id="create",
            inputs={(INPUTS % 1).replace("fox", f"fox {directive}")},
            on_completion=Asset("videos of {request.node.name}"),
            budget="{{{{ dag.dag_id }}}}",
            budget_credits=1000,
        )
        """,
    )
    wait_for_deliveries(seedance_emulator, 1)
    assert SeedanceLedger().spent(done.dag_id) == charged == seedance_emulator.bill()["credits_spent"]
    (told,) = SeedanceLedger().receipts(dag_id=done.dag_id)
    assert (told.credits, told.reason is None) == (charged, not directive)
    assert told.estimate is not None
    assert (told.estimate.high, told.budgets) == (200, (done.dag_id,)), "what was reserved"
    if get_base_airflow_version_tuple() >= (3, 3, 0):  # dag.test() of older versions runs no callbacks
        assert told.status == status


@pytest.mark.usefixtures("api_server")
def test_mapped_tasks_have_an_event_each(
    request: pytest.FixtureRequest, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    asset = f"videos of {request.node.name}"
    run(
        tmp_path,
        f"""
        from airflow.providers.common.compat.sdk import Asset

        SeedanceCreateTaskOperator.partial(task_id="create", on_completion=Asset("{asset}")).expand(
            inputs=[{INPUTS % 1}, {INPUTS % 1.1}]
        )
        """,
    )
    assert wait_for_deliveries(seedance_emulator, 2) == [200, 200]
    assert sorted(event.source_map_index for event in events(asset)) == [0, 1]


@pytest.mark.usefixtures("api_server")
def test_an_answer_that_was_lost_costs_no_second_video_and_no_event(
    request: pytest.FixtureRequest, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    asset = f"videos of {request.node.name}"
    inputs = (INPUTS % 1).replace("fox", "fox [[createTask:reset:accept=true]]")
    done = run(tmp_path, CREATE % (asset, inputs))
    assert done["create"].state == "success"
    assert seedance_emulator.bill()["tasks_created"] == 1
    (event,) = events(asset)
    assert event.extra["seedance_task_id"] == done["create"].returned


def test_servers_that_register_at_the_same_moment_make_one_event(
    airflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seedance_emulator: Emulator
) -> None:
    hurry(monkeypatch)
    done = run(tmp_path, "SeedanceCreateTaskOperator(task_id='create', inputs=%s)" % (INPUTS % 0))
    extra = {"seedance_task_id": done["create"].returned}
    owner, asset = Owner(done.dag_id, done.run_id, "create", -1), ("at once", "at once")
    with ThreadPoolExecutor(4) as servers:
        list(servers.map(lambda _: register(owner, asset, extra), range(8)))
    assert len(events("at once")) == 1


def test_a_task_instance_that_was_deleted_gets_no_event(airflow_database: Path) -> None:
    register(Owner("gone", "gone", "gone", -1), ("of nobody", "of nobody"), {"seedance_task_id": "task_1"})
    assert events("of nobody") == []
