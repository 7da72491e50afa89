"""The link to the page of a video: made by the API server, for every try of every task of ours, without any request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider.links.page import SeedanceVideoPageLink
from seedance_provider.links.seedance import SeedanceVideoLink
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator

KEY: Any = SimpleNamespace(
    dag_id="dag", task_id="group.make it", run_id="manual__2026-11-28T13:00:00+00:00", map_index=3, try_number=2
)


def link(monkeypatch: pytest.MonkeyPatch, base_url: str | None) -> str:
    if base_url is not None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    return SeedanceVideoPageLink().get_link(SimpleNamespace(), ti_key=KEY)  # type: ignore[arg-type]


def test_it_opens_the_page_within_the_frame_and_quotes_the_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    address = urlsplit(link(monkeypatch, "http://localhost:8080"))
    assert address.path == "/plugin/seedance-videos/seedance/ui/video"
    assert {name: value for name, (value,) in parse_qs(address.query).items()} == {
        "dag_id": KEY.dag_id,
        "run_id": KEY.run_id,
        "task_id": KEY.task_id,
        "map_index": "3",
    }


@pytest.mark.parametrize("base_url", ["https://example.com/air/flow", "https://example.com/air/flow/"])
def test_a_sub_path_of_airflow_is_kept_in_both_places(monkeypatch: pytest.MonkeyPatch, base_url: str) -> None:
    assert urlsplit(link(monkeypatch, base_url)).path == "/air/flow/plugin/seedance-videos/air/flow/seedance/ui/video"


@pytest.mark.parametrize("base_url", [None, "", "https://example.com"])
def test_it_names_no_host(monkeypatch: pytest.MonkeyPatch, base_url: str | None) -> None:
    assert link(monkeypatch, base_url).startswith("/plugin/")


OURS = [
    SeedanceCreateTaskOperator,
    SeedanceGenerateVideoOperator,
    SeedanceTaskSensor,
    SeedanceToObjectStorageOperator,
]


def names(operator: Any) -> list[str]:
    return [link.name for link in operator.operator_extra_links]


@pytest.mark.parametrize("base", OURS)
def test_a_derived_class_brings_the_link_that_airflow_adds_to_ours_only(base: Any) -> None:
    derived: Any = type("Derived", (base,), {"__module__": "somebody.s"})
    further: Any = type("Further", (derived,), {"__module__": "somebody.s"})
    assert SeedanceVideoPageLink.name not in names(base)
    wanted = [*names(base), *([SeedanceVideoPageLink.name] if AIRFLOW_V_3_1_PLUS else [])]
    assert names(derived) == names(further) == wanted


def test_links_of_the_authors_own_are_kept() -> None:
    own = {"__module__": "somebody.s", "operator_extra_links": (SeedanceVideoLink(),)}
    derived: Any = type("Derived", (SeedanceCreateTaskOperator,), own)
    assert names(derived)[0] == "Video"
    computed = {"__module__": "somebody.s", "operator_extra_links": property(lambda _self: ())}
    kept: Any = type("Derived", (SeedanceCreateTaskOperator,), computed)
    assert isinstance(kept.operator_extra_links, property)
