"""How far it is, in clicks, through Airflow's own UI from its first page to what one wants to know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.ui.conftest import Visitor
    from tests.ui.rig import Rig

Visit = Callable[..., "Visitor"]
Screenshot = Callable[["Page | Locator", str], None]
FIRST_DAG = "seedance_create_and_wait"
SOON = 90_000
"""Milliseconds: a busy machine takes its time for a run."""


def open_videos(visitor: Visitor) -> None:
    visitor.click(visitor.page.get_by_role("button", name="Browse"), "Browse")
    visitor.click(visitor.page.get_by_role("menuitem", name="Videos", exact=True), "Videos")


def test_which_of_60_videos_failed_and_why_takes_three_clicks(visit: Visit, rig: Rig, screenshot: Screenshot) -> None:
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


@pytest.fixture
def without_connection(rig: Rig) -> Iterator[None]:
    """Airflow as it is before anybody has set up anything; what waits has read its connection before."""
    rig.airflow.api("DELETE", "connections/seedance_default")
    yield
    if all(
        each["connection_id"] != "seedance_default" for each in rig.airflow.api("GET", "connections")["connections"]
    ):
        rig.airflow.add_connection("seedance_default", rig.emulator.connection_json)


def fill_in_connection(page: Page, connection_json: str) -> None:
    """With the keyboard only."""
    connection = json.loads(connection_json)
    host, key, port = connection["host"], connection["password"], str(connection["port"])
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("input[name=connection_id]")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.type("seedance_default")
    page.keyboard.press("Tab")
    page.keyboard.type("Seedance")
    page.keyboard.press("Enter")
    expect(dialog.locator("input[name=password]")).to_be_visible()
    for name, value in (("host", host), ("password", key), ("port", port)):
        tab_to(page, name)
        page.keyboard.type(value)


def tab_to(page: Page, name: str) -> None:
    """Versions of Airflow differ in what comes between the fields."""
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == name:
            return
    raise AssertionError(f"Tab does not come to {name}")


@pytest.mark.usefixtures("without_connection")
def test_from_an_empty_airflow_to_a_watched_video_takes_nine_clicks(
    visit: Visit, rig: Rig, screenshot: Screenshot
) -> None:
    visitor = visit()
    page = visitor.page
    page.goto(visitor.url)
    visitor.click(page.get_by_role("button", name="Admin"), "Admin")
    visitor.click(page.get_by_role("menuitem", name="Connections"), "Connections")
    visitor.click(page.get_by_role("button", name="Add Connection"), "Add Connection")
    fill_in_connection(page, rig.emulator.connection_json)
    screenshot(page.get_by_role("dialog"), "connection-form")
    visitor.click(page.get_by_role("dialog").get_by_role("button", name="Save"), "Save")
    expect(page.get_by_role("dialog")).to_have_count(0)

    visitor.click(page.get_by_role("link", name="Dags").or_(page.get_by_role("button", name="Dags")), "Dags")
    in_menu = page.get_by_role("menuitem")
    trigger = page.get_by_role("button", name="Trigger Dag")
    expect(in_menu.or_(trigger).first).to_be_visible()
    if in_menu.first.is_visible():  # Airflow 3.4
        expect(in_menu.first).to_have_text("Dags")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
    name = page.get_by_role("link", name=FIRST_DAG, exact=True)
    visitor.click(
        page.locator("div").filter(has=name).filter(has=trigger).last.get_by_role("button", name="Trigger Dag"),
        "Trigger",
    )
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(FIRST_DAG)
    visitor.click(dialog.get_by_role("button", name="Trigger", exact=True), "Trigger")
    expect(dialog).to_have_count(0)

    open_videos(visitor)
    newest = page.frame_locator("iframe").get_by_role("region", name="The newest run")
    expect(newest).to_contain_text(FIRST_DAG, timeout=SOON)
    expect(newest.locator("video")).to_be_visible(timeout=SOON)
    expect(newest.locator("video")).not_to_have_js_property("currentTime", 0)
    assert len(visitor.clicks) == 9


def test_the_form_of_a_dag_has_widgets_bounds_and_the_price(visit: Visit, screenshot: Screenshot) -> None:
    visitor = visit()
    page = visitor.page
    page.goto(f"{visitor.url}/dags/seedance_form")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("textarea").first).to_have_value(re.compile("paper boat"))
    expect(dialog).to_contain_text("37.5 credits")
    expect(dialog).to_contain_text("Mini: cheapest")
    screenshot(page, "trigger-form")
    seconds = dialog.get_by_role("spinbutton").first
    seconds.fill("99")
    seconds.blur()
    expect(seconds).to_have_value("15")


def test_mapped_tasks_are_called_by_their_prompts(visit: Visit, screenshot: Screenshot) -> None:
    visitor = visit()
    visitor.page.goto(f"{visitor.url}/dags/ui_videos/runs/{visitor.run_id}/tasks/clips/mapped")
    expect(visitor.page.get_by_role("link", name=re.compile("A lighthouse at dawn"))).to_be_visible()
    expect(visitor.page.get_by_role("link", name=re.compile("A tram in the rain"))).to_be_visible()
    screenshot(visitor.page, "mapped-list")


def test_the_log_of_a_deferred_task_tells_its_story_without_a_group_to_be_opened(
    visit: Visit, screenshot: Screenshot
) -> None:
    visitor = visit()
    visitor.page.goto(f"{visitor.url}/dags/ui_videos/runs/{visitor.run_id}/tasks/clips/mapped/0")
    expect(visitor.page.get_by_text("Output: ")).to_be_visible(timeout=SOON)
    shown = visitor.page.locator("code").first.inner_text()
    story = ["About 140 credits", "Created task", "Waiting deferred", "Success: 140 credits", "Output: "]
    places = [shown.index(line) for line in story]
    assert places == sorted(places)
    screenshot(visitor.page, "task-log")
