"""The link to the video. On Airflow 3 the worker asks it after every segment, on 2.11 the webserver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider.links.seedance import SeedanceVideoLink
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator
from tests.support.airflow import FakeTaskInstance, make_sensor, run_dag

if TYPE_CHECKING:
    from pathlib import Path

    from seedance_provider.testing import Emulator

KEY: Any = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=-1, try_number=1)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What XCom has; tests of the link as the webserver of Airflow 2.11 asks it, with a serialized operator."""
    values: dict[str, Any] = {}

    def get_value(*, key: str, ti_key: Any) -> Any:
        assert ti_key is KEY
        return values.get(key)

    monkeypatch.setattr("seedance_provider.links.seedance.XCom.get_value", get_value, raising=False)
    return values


def webserver_link() -> str:
    return SeedanceVideoLink().get_link(SimpleNamespace(), ti_key=KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "operator", [SeedanceTaskSensor, SeedanceGenerateVideoOperator, SeedanceToObjectStorageOperator]
)
def test_what_waits_for_a_video_has_the_link(operator: type) -> None:
    (link,) = operator.operator_extra_links  # type: ignore[attr-defined]
    assert isinstance(link, SeedanceVideoLink)
    assert link.name == "Video"


def test_there_is_no_link_before_the_end() -> None:
    sensor = make_sensor("deferred", seedance_task_id="task_1")
    assert SeedanceVideoLink().get_link(sensor, ti_key=KEY) == ""


def test_after_the_end_it_is_the_first_output(seedance_emulator: Emulator) -> None:
    sensor = make_sensor("deferred", seedance_task_id="demo_task_t2v_success")
    urls = sensor.execute({"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
    assert SeedanceVideoLink().get_link(sensor, ti_key=KEY) == urls[0]


def done(stored_at: str | None) -> Any:
    return SimpleNamespace(video_url="https://cdn.example.com/one.mp4", stored_at=stored_at)


@pytest.mark.parametrize("path", [None, "/data/clip.mp4", "file:///data/clip.mp4"])
def test_what_is_not_stored_where_the_api_server_has_it_too_is_opened_at_the_vendor(path: str | None) -> None:
    assert SeedanceVideoLink().get_link(done(path), ti_key=KEY) == "https://cdn.example.com/one.mp4"


@pytest.mark.differs("[pages](ui.md) of videos", 'no; the link "Video"', "from 3.1", "yes")
def test_a_copy_in_a_bucket_is_opened_by_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow")
    link = SeedanceVideoLink().get_link(done("s3://aws@bucket/clip.mp4"), ti_key=KEY)
    if AIRFLOW_V_3_1_PLUS:
        assert link == "/airflow/seedance/ui/stored/dag?run_id=run&task_id=wait&map_index=-1"
    else:
        assert link == "https://cdn.example.com/one.mp4"


def test_a_transfer_opens_what_it_has_stored(
    seedance_emulator: Emulator, airflow_database: Path, tmp_path: Path
) -> None:
    task = f"""
    from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator
    SeedanceToObjectStorageOperator(
        task_id="store", seedance_task_id="demo_task_t2v_success", output_path="{tmp_path}/clip.{{ext}}"
    )
    """
    xcoms = run_dag(tmp_path, task)["store"].xcoms
    if "_link_SeedanceVideoLink" in xcoms:  # Airflow 3
        assert xcoms["_link_SeedanceVideoLink"].endswith(".mp4")


def test_the_webserver_reads_it_from_the_record(stored: dict[str, Any]) -> None:
    stored["seedance_task"] = {"outputs": [{"url": "https://cdn.example.com/one.mp4"}, {"url": "https://x.example/2"}]}
    assert webserver_link() == "https://cdn.example.com/one.mp4"


@pytest.mark.parametrize(
    "value", [None, "text", [], {}, {"outputs": None}, {"outputs": []}, {"outputs": [{}]}, {"outputs": ["x"]}]
)
def test_whatever_is_stored_it_never_raises(stored: dict[str, Any], value: Any) -> None:
    stored["seedance_task"] = value
    assert webserver_link() == ""


def test_a_store_that_fails_hides_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_value(**_: Any) -> Any:
        raise RuntimeError("no database")

    monkeypatch.setattr("seedance_provider.links.seedance.XCom.get_value", get_value, raising=False)
    assert webserver_link() == ""


def test_in_a_real_run_the_link_is_there(seedance_emulator: Emulator, airflow_database: Path, tmp_path: Path) -> None:
    run = run_dag(tmp_path, 'SeedanceTaskSensor(task_id="wait", seedance_task_id="demo_task_t2v_success")')
    done = run["wait"]
    url = done.returned[0]
    if "_link_SeedanceVideoLink" in done.xcoms:  # Airflow 3: made by the worker
        assert done.xcoms["_link_SeedanceVideoLink"] == url
    else:  # Airflow 2.11: made by the webserver
        from airflow.models.taskinstancekey import TaskInstanceKey

        key: Any = TaskInstanceKey(run.dag_id, "wait", run.run_id)
        assert SeedanceVideoLink().get_link(SimpleNamespace(), ti_key=key) == url  # type: ignore[arg-type]
