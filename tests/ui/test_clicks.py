"""How far it is, in clicks, through Airflow's own UI from its first page to what one wants to know."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.ui.conftest import Visitor
    from tests.ui.rig import Rig

Visit = Callable[..., "Visitor"]
DAG_ID = "seedance_create_and_wait"


def open_videos(visitor: Visitor) -> None:
    visitor.click(visitor.page.get_by_role("button", name="Browse"), "Browse")
    visitor.click(visitor.page.get_by_role("menuitem", name="Videos", exact=True), "Videos")


def test_which_of_60_videos_failed_and_why_takes_three_clicks(
    visit: Visit, rig: Rig, screenshot: Callable[[Page, str], None]
) -> None:
    run_id = rig.filled_run("ui_sixty")
    visitor = visit()
    visitor.page.goto(visitor.url)
    open_videos(visitor)
    inside = visitor.page.frame_locator("iframe")
    visitor.click(inside.get_by_role("row").filter(has_text="ui_sixty").get_by_role("link", name=run_id), "the run")
    why = inside.get_by_role("region", name="Why videos failed")
    expect(why.get_by_role("listitem")).to_have_count(3)
    assert [int(text.split()[0]) for text in why.get_by_role("listitem").all_inner_texts()] == [2, 2, 1]
    expect(why.get_by_role("link")).to_have_text(["clips[11]", "clips[47]", "clips[23]", "clips[59]", "clips[35]"])
    assert len(visitor.clicks) == 3
    screenshot(visitor.page, "why-videos-failed")


def test_from_a_dag_that_never_ran_to_a_video_that_plays_takes_fewer_than_ten_clicks(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    page.goto(visitor.url)
    visitor.click(page.get_by_role("link", name="Dags", exact=True), "Dags")
    visitor.click(page.get_by_role("link", name=DAG_ID, exact=True), "the DAG")
    expect(page.get_by_role("button", name="Trigger Dag")).to_have_count(1)  # the list with its many is gone
    visitor.click(page.get_by_role("button", name="Trigger Dag"), "Trigger")
    visitor.click(page.get_by_role("dialog").get_by_role("button", name=re.compile("^Trigger")), "Trigger, in the form")
    expect(page.get_by_role("dialog")).to_have_count(0)
    open_videos(visitor)
    inside = page.frame_locator("iframe")
    row = inside.get_by_role("row").filter(has=inside.get_by_role("link", name=DAG_ID, exact=True))
    visitor.click(row.get_by_role("link").first, "the run")
    tile = inside.locator(".tile").filter(has_text="success")
    expect(tile).to_have_count(1, timeout=90_000)  # it follows the run by itself
    visitor.click(tile.get_by_role("link"), "the video")
    player = inside.locator("video").first
    visitor.click(player, "play")
    expect(player).to_have_js_property("paused", False)
    assert len(visitor.clicks) < 10
