"""How far it is, in clicks, through Airflow's own UI from its first page to what one wants to know."""

from __future__ import annotations

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
