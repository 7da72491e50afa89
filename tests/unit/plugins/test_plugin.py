"""What Airflow loads in every process: next to nothing, and nothing that serves unless it is wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, get_base_airflow_version_tuple

from seedance_provider import defaults
from seedance_provider.decorators import seedance as decorators
from seedance_provider.operators import seedance as operators
from seedance_provider.sensors import seedance as sensors
from seedance_provider.transfers import seedance_to_object_storage as transfers

SCRIPT = """
import json, os, sys
from airflow.providers.common.compat.sdk import AirflowPlugin, BaseOperator, conf
before = set(sys.modules)
for line in sys.stdin:
    if os.fork():
        if os.wait()[1]:
            sys.exit("the plugin cannot be imported")
        continue
    os.environ.update(json.loads(line))
    from seedance_provider.plugins import SeedancePlugin
    print(json.dumps({
        "modules": sorted(set(sys.modules) - before),
        "apps": [app["url_prefix"] for app in SeedancePlugin.fastapi_apps],
        "views": SeedancePlugin.external_views,
        "links": [link.name for link in SeedancePlugin.operator_extra_links],
    }), flush=True)
    os._exit(0)
"""
Load = Callable[..., dict[str, Any]]
has_pages = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="nothing is served before Airflow 3.1")


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Tells what a process has once it has imported the plugin with such options; Airflow is imported once for all."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__SEEDANCE__")}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        told = process.stdout

        def load(**options: str) -> dict[str, Any]:
            asked = {f"AIRFLOW__SEEDANCE__{option.upper()}": value for option, value in options.items()}
            print(json.dumps(asked), file=process.stdin, flush=True)
            # Airflow may say something of its own before.
            line = next(line for line in told if line.startswith('{"modules"'))
            loaded: dict[str, Any] = json.loads(line)
            return loaded

        yield load
        process.stdin.close()


def places(loaded: dict[str, Any]) -> set[tuple[str, str]]:
    return {(view["destination"], view["name"]) for view in loaded["views"]}


def test_airflow_finds_the_plugin() -> None:
    (point,) = entry_points(group="airflow.plugins", name="seedance")
    assert point.load().name == "seedance"


@pytest.mark.skipif(AIRFLOW_V_3_1_PLUS, reason="from Airflow 3.1 on there is something")
def test_before_airflow_3_1_nothing_is_served(load: Load) -> None:
    loaded = load(callback_base_url="https://airflow.example.com", video_tab="True")
    assert (loaded["apps"], loaded["views"], loaded["links"]) == ([], [], [])


@has_pages
@pytest.mark.parametrize("value", ["", "  "])
def test_without_a_url_there_is_no_receiver(load: Load, value: str) -> None:
    assert load(callback_base_url=value)["apps"] == [defaults.PAGES_PATH]


@has_pages
def test_with_a_url_there_is_one_that_the_pages_do_not_swallow(load: Load) -> None:
    apps = load(callback_base_url="https://airflow.example.com")["apps"]
    assert sorted(apps) == sorted([defaults.PAGES_PATH, defaults.CALLBACK_PATH])
    assert not any(one != other and f"{one}/".startswith(f"{other}/") for one in apps for other in apps)


@has_pages
def test_the_menu_has_the_videos_and_with_a_ledger_the_spending(load: Load) -> None:
    assert {place for place in places(load()) if place[0] == "nav"} == {("nav", "Videos")}
    with_ledger = places(load(ledger_path="/ledger"))
    assert {place for place in with_ledger if place[0] == "nav"} == {("nav", "Videos"), ("nav", "Spending on videos")}


@has_pages
@pytest.mark.differs(
    "a tab for them",
    "no",
    "from 3.1 by `[seedance] video_tab`, on every task",
    "the same; 3.4 on tasks of this provider, and of classes derived from its operators, by itself",
)
def test_a_tab_is_on_our_tasks_only_or_asked_for(load: Load) -> None:
    tabs = [view for view in load()["views"] if view["destination"] != "nav"]
    if get_base_airflow_version_tuple() >= (3, 4, 0):
        assert [view["applies_to"] for view in tabs] == [{"task.template_fields": ["seedance_conn_id"]}]
    else:
        assert tabs == []


@has_pages
@pytest.mark.parametrize("value", ["True", "1", " yes "])
def test_tabs_that_are_asked_for_are_there(load: Load, value: str) -> None:
    assert {("task_instance", "Video"), ("dag_run", "Videos"), ("dag", "Videos")} <= places(load(video_tab=value))


@has_pages
@pytest.mark.parametrize("value", ["False", "no", "what"])
def test_a_value_that_is_no_yes_costs_nobody_anything(load: Load, value: str) -> None:
    assert places(load(video_tab=value)) == places(load())


@has_pages
def test_views_work_under_a_sub_path_and_have_routes_of_their_own(load: Load) -> None:
    views = load(ledger_path="/ledger", video_tab="True")["views"]
    assert not any(view["href"].startswith("/") or "://" in view["href"] for view in views)
    assert len({view["url_route"] for view in views}) == len(views)


@pytest.mark.skipif(get_base_airflow_version_tuple() < (3, 4, 0), reason="Airflow 3.4 and later check it")
def test_airflow_understands_whom_the_tab_applies_to(load: Load) -> None:
    from airflow.plugins_manager import _validate_applies_to

    (view,) = (view for view in load()["views"] if "applies_to" in view)
    wanted = dict(view["applies_to"])
    assert _validate_applies_to("seedance", view, "external view")
    assert view["applies_to"] == wanted


def test_whoever_makes_or_stores_a_video_has_the_tab_and_the_link() -> None:
    classes = [
        operators.SeedanceCreateTaskOperator,
        operators.SeedanceGenerateVideoOperator,
        sensors.SeedanceTaskSensor,
        transfers.SeedanceToObjectStorageOperator,
        decorators._SeedanceDecoratedOperator,
    ]
    assert {each.__name__: each.__module__ for each in classes} == defaults.OPERATORS_WITH_VIDEO
    assert all("seedance_conn_id" in each.template_fields for each in classes)


def test_every_process_imports_it_for_next_to_nothing(load: Load) -> None:
    loaded = load(callback_base_url="https://airflow.example.com", video_tab="True")["modules"]
    foreign = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    ours = {name for name in foreign if name.startswith("seedance_provider")}
    allowed = ("defaults", "links", "links.page", "plugins")
    assert ours <= {"seedance_provider", *(f"seedance_provider.{name}" for name in allowed)}
    assert {name.partition(".")[0] for name in foreign - ours} <= {"airflow", "packaging"}
    assert len(foreign - ours) <= 20, sorted(foreign - ours)
