"""For whom the pages can be used: with a keyboard, a screen reader, a narrow screen, in the dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.ui.rig import DAG_ID, Rig

if TYPE_CHECKING:
    from tests.ui.conftest import Visitor

Visit = Callable[..., "Visitor"]
PAGES: dict[str, dict[str, Any]] = {
    "the gallery of a run": {"view": "gallery", "dag_id": DAG_ID, "run_id": "RUN"},
    "a comparison": {"view": "gallery", "dag_id": DAG_ID, "run_id": "RUN", "hash": "compare=clips[0]+picture"},
    "the runs with videos": {"view": "gallery"},
    "spending": {"view": "spending"},
    "a video": {"view": "video", "dag_id": DAG_ID, "run_id": "RUN", "task_id": "clips", "map_index": "0"},
    "a failure": {"view": "video", "dag_id": DAG_ID, "run_id": "RUN", "task_id": "clips", "map_index": "3"},
    "an unknown outcome": {"view": "video", "dag_id": DAG_ID, "run_id": "RUN", "task_id": "unknown"},
    "a video that is made": {"view": "video", "dag_id": DAG_ID, "run_id": "RUN", "task_id": "clips", "map_index": "7"},
    "a refusal": {"view": "gallery", "dag_id": "no_such_dag", "run_id": "RUN"},
}


def show(visitor: Visitor, rig: Rig, page: str) -> None:
    query = {name: rig.run_id if value == "RUN" else value for name, value in PAGES[page].items()}
    fragment = query.pop("hash", "")
    visitor.open(query.pop("view"), **query)
    if fragment:
        visitor.page.evaluate("fragment => { location.hash = fragment; }", fragment)
        expect(visitor.page.get_by_role("article")).to_have_count(2)


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious(visit: Visit, rig: Rig, page: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for theme in ("light", "dark"):
        visitor = visit(theme=theme)
        show(visitor, rig, page)
        found = axe.run(visitor.page).response["violations"]
        told = [
            (theme, each["id"], node["target"], node.get("failureSummary"))
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        assert told == []


@pytest.mark.parametrize("page", PAGES)
def test_a_narrow_screen_needs_no_scrolling_sideways(visit: Visit, rig: Rig, page: str) -> None:
    visitor = visit(width=360)
    show(visitor, rig, page)
    visitor.page.wait_for_timeout(300)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_theme_follows_the_switch_of_airflow(visit: Visit) -> None:
    visitor = visit(theme="light")
    visitor.page.goto(f"{visitor.url}/plugin/seedance-videos")
    inside = visitor.page.frame_locator("iframe")
    expect(inside.get_by_role("heading", name="Videos")).to_be_visible()
    for theme in ("dark", "light"):
        visitor.page.evaluate("theme => { document.documentElement.className = theme; }", theme)
        expect(inside.locator("html")).to_have_attribute("data-theme", theme)
