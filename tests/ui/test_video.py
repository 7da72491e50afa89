"""The page of one video in a browser: made, being made, failed or unknown, whoever opens it and whatever it shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.ui.rig import DAG_ID, DERIVED_DAG_ID, HIDDEN_DAG_ID, RUNNING, Rig

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Locator, Page

    from tests.ui.conftest import Visitor

Visit = Callable[..., "Visitor"]


def show(visitor: Visitor, task_id: str, map_index: int = -1) -> Page:
    visitor.open("video", dag_id=DAG_ID, run_id=quote(visitor.run_id), task_id=task_id, map_index=str(map_index))
    return visitor.page


def fact(page: Page, name: str) -> Locator:
    return page.locator(f"dt:text-is('{name}') + dd").first


def framed(visitor: Visitor) -> FrameLocator:
    """Our page within Airflow's."""
    return visitor.page.frame_locator("iframe")


@pytest.fixture
def edited(rig: Rig) -> Iterator[Callable[..., None]]:
    """Puts another value into an XCom, and the former one back."""
    before: list[tuple[str, Any]] = []

    def edit(task_id: str, map_index: int, key: str, value: Any) -> None:
        path = f"dags/{DAG_ID}/dagRuns/{quote(rig.run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        former = rig.airflow.xcom(DAG_ID, rig.run_id, task_id, key, map_index=map_index)
        before.append((path, {"map_index": map_index, "value": former}))
        rig.airflow.api("PATCH", path, json={"map_index": map_index, "value": value})

    yield edit
    for path, body in reversed(before):
        rig.airflow.api("PATCH", path, json=body)


def expect_to_play(page: Page) -> None:
    """The browser has decoded a frame: wait_for_function is against the page's policy."""
    for too_little in (0, 1):
        expect(page.locator("video")).not_to_have_js_property("readyState", too_little)


@pytest.mark.parametrize("task_id", ["create", "wait"])
def test_who_submitted_and_who_waited_show_the_same_stored_video(
    visit: Visit, task_id: str, screenshot: Callable[[Page, str], None]
) -> None:
    page = show(visit(), task_id)
    expect(page.locator("video")).to_have_attribute("src", re.compile(r"/seedance/ui/stored/ui_videos\?.*task_id=wait"))
    expect_to_play(page)
    expect(page.locator("figcaption").first).to_contain_text("Stored copy")
    expect(page.get_by_text("A sunset over the ocean")).to_be_visible()
    expect(fact(page, "Credits")).to_have_text("200")
    expect(fact(page, "Estimate")).to_contain_text("200 credits")
    if task_id == "wait":
        screenshot(page, "video")


def test_where_the_copy_cannot_be_read_the_file_of_the_vendor_is_shown(visit: Visit) -> None:
    visitor = visit()
    visitor.page.route("**/seedance/ui/stored/**", lambda route: route.abort())
    page = show(visitor, "wait")
    expect(page.locator("video")).to_have_attribute("src", re.compile("/videos/"))
    visitor.page.route("**/videos/**", lambda route: route.abort())
    page = show(visitor, "wait")
    expect(page.locator(".outputs .notice")).to_contain_text("cannot be loaded")


def test_a_picture_is_shown_as_one(visit: Visit) -> None:
    page = show(visit(), "picture")
    picture = page.locator(".outputs img")
    expect(picture).to_be_visible()
    expect(picture).not_to_have_js_property("naturalWidth", 0)
    assert page.locator("video").count() == 0


def test_a_failure_says_why_then_what_to_do_then_the_ids(visit: Visit, screenshot: Callable[[Page, str], None]) -> None:
    page = show(visit(), "clips", 3)
    told = page.get_by_role("alert").inner_text()
    places = [told.index(each) for each in ("violate our content policy", "Change the prompt", "Nothing was", "task_")]
    assert places == sorted(places)
    assert page.get_by_role("button", name="Copy sensor line").count() == 0, "there is no video to be collected"
    screenshot(page, "video-failed")


def test_an_unknown_outcome_says_what_to_check_before_anything_is_sent_again(visit: Visit) -> None:
    alert = show(visit(), "unknown").get_by_role("alert")
    expect(alert).to_contain_text("may have been charged")
    expect(alert.locator("ol li")).to_have_count(3)


def test_a_video_that_is_made_shows_how_far_it_is(visit: Visit) -> None:
    page = show(visit(), *RUNNING)
    status = page.get_by_role("status").first
    expect(status).to_contain_text("this model usually takes 2 min")
    before = status.inner_text()
    expect(status).not_to_have_text(before)
    assert 0 < float(page.locator("progress").get_attribute("value") or 0) < 100


def test_the_end_appears_by_itself(visit: Visit) -> None:
    visitor = visit()
    path = f"**/taskInstances/{RUNNING[0]}/{RUNNING[1]}?*"
    page = show(visitor, *RUNNING)
    expect(page.locator(".badge")).to_have_text("deferred")

    def failed(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"state": "failed"})

    page.route(path, failed)
    expect(page.locator(".badge")).to_have_text("failed", timeout=15_000)


def test_what_a_dag_needs_can_be_copied(visit: Visit, rig: Rig) -> None:
    visitor = visit()
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = show(visitor, "wait")
    record = rig.airflow.xcom(DAG_ID, rig.run_id, "wait", "seedance_task")
    (file,) = rig.airflow.xcom(DAG_ID, rig.run_id, "wait", "seedance_files")
    task, url = record["seedance_task_id"], record["outputs"][0]["url"]
    line = f'SeedanceTaskSensor(task_id="collect", seedance_task_id="{task}")'
    for what, text in {"id": task, "URL": url, "path": file["path"], "sensor line": line}.items():
        page.get_by_role("button", name=f"Copy {what}", exact=True).click()
        expect(page.get_by_role("status").last).to_have_text(f"{what} copied")
        assert page.evaluate("navigator.clipboard.readText()") == text


def test_a_video_of_another_account_is_collected_from_that_account(visit: Visit) -> None:
    visitor = visit()

    def elsewhere(route: Any) -> None:
        answer = route.fetch()
        instance = answer.json()
        instance["rendered_fields"]["seedance_conn_id"] = "seedance_of_'films'"
        route.fulfill(response=answer, json=instance)

    visitor.page.route("**/taskInstances/wait?*", elsewhere)
    line = show(visitor, "wait").locator("dt:text-is('Collect with') + dd")
    expect(line).to_contain_text(re.compile(r"""seedance_task_id="\w+", seedance_conn_id="seedance_of_'films'"\)$"""))


def test_the_link_on_details_opens_the_page_within_airflow_and_leads_to_its_neighbours(visit: Visit) -> None:
    visitor = visit()
    where = f"dags/{DAG_ID}/runs/{quote(visitor.run_id)}/tasks/clips/mapped"
    visitor.page.goto(f"{visitor.url}/{where}/0/details")
    visitor.page.get_by_role("link", name="Video page").click()
    framed(visitor).get_by_role("link", name="Next").click()
    visitor.page.wait_for_url(re.compile("/plugin/seedance-videos/seedance/ui/video.*map_index=1"))
    expect(framed(visitor).get_by_role("link", name="Previous")).to_be_visible()
    framed(visitor).get_by_role("link", name="Task in Airflow").click()
    visitor.page.wait_for_url(f"{visitor.url}/{where}/1")


@pytest.mark.parametrize("where", ["styled", "many/mapped/0"])
def test_a_class_that_somebody_derived_has_the_link_too(visit: Visit, rig: Rig, where: str) -> None:
    visitor = visit()
    run = f"dags/{DERIVED_DAG_ID}/runs/{quote(rig.derived_run_id)}"
    visitor.page.goto(f"{visitor.url}/{run}/tasks/{where}/details")
    visitor.page.get_by_role("link", name="Video page").click()
    expect(framed(visitor).locator("video")).to_be_visible()
    expect(framed(visitor).get_by_text("in style").first).to_be_visible()


def test_a_tab_shows_the_video_of_a_task_that_is_not_mapped(visit: Visit) -> None:
    visitor = visit()
    visitor.page.goto(f"{visitor.url}/dags/{DAG_ID}/runs/{quote(visitor.run_id)}/tasks/picture")
    visitor.page.locator("a[href$='/plugin/seedance-video']").click()
    expect(framed(visitor).locator(".outputs img")).to_be_visible()


def test_from_airflow_3_4_on_the_tab_is_on_our_tasks_only(visit: Visit, rig: Rig) -> None:
    visitor = visit()
    run = f"{visitor.url}/dags/{DERIVED_DAG_ID}/runs/{quote(rig.derived_run_id)}/tasks"
    tab = visitor.page.locator("a[href$='/plugin/seedance-video']")
    for task, is_ours in (("styled", True), ("many/mapped/0", True), ("of_others", False)):
        visitor.page.goto(f"{run}/{task}")
        expect(visitor.page.locator("a[href$='/details']").first).to_be_visible()
        has_tab = is_ours or not rig.airflow.version.startswith("3.4")  # before, video_tab puts it on every task
        expect(tab).to_have_count(1 if has_tab else 0)


def test_times_are_those_of_the_zone_that_was_chosen_in_airflow(visit: Visit) -> None:
    visitor = visit()
    zones = {}
    for zone in ("UTC", "Asia/Tokyo"):
        visitor.page.evaluate("zone => localStorage.setItem('timezone', JSON.stringify(zone))", zone)
        zones[zone] = fact(show(visitor, "wait"), "Ended").inner_text()
    assert zones["UTC"] != zones["Asia/Tokyo"]
    assert zones["UTC"][-6:] == zones["Asia/Tokyo"][-6:]


def test_who_may_not_read_the_dag_sees_nothing(visit: Visit, rig: Rig) -> None:
    reader = visit(reader=True)
    query = {"run_id": quote(rig.hidden_run_id), "task_id": "secret"}
    reader.open("video", dag_id=HIDDEN_DAG_ID, **query)
    expect(reader.page.get_by_role("alert")).to_contain_text("may not read")
    assert reader.page.locator("main > *").count() == 1
    assert "product launch" not in reader.page.content()
    stored = f"{rig.reader_url}/seedance/ui/stored/{HIDDEN_DAG_ID}"
    assert reader.page.request.get(stored, params={**query, "run_id": rig.hidden_run_id}).status == 403


def test_below_a_sub_path_the_copy_is_found(visit: Visit) -> None:
    page = show(visit(reader=True), "wait")
    expect(page.locator("video")).to_have_attribute("src", re.compile("/airflow/seedance/ui/stored/"))
    expect_to_play(page)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_all_that_is_shown(visit: Visit, status: int) -> None:
    visitor = visit()
    visitor.page.route("**/api/v2/**", lambda route: route.fulfill(status=status))
    page = show(visitor, "wait")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.locator("main > *").count() == 1


SCRIPT = "javascript:document.title='harmed'"
TAGS = "</p><script>document.title='harmed'</script><img src=x onerror=\"document.title='harmed'\">"


@pytest.mark.parametrize(
    "value",
    [
        {"outputs": [{"url": SCRIPT, "last_frame_image": SCRIPT, "width": TAGS, "height": TAGS}], "credits_used": TAGS},
        {"outputs": [{"url": "data:text/html,<script>1</script>"}], "model": [TAGS], "status": {"a": TAGS}},
        {"outputs": [{"url": "https://user:secret@example.com/x.mp4"}, None, 3], "create_time": TAGS},
        {"outputs": TAGS, "seedance_task_id": SCRIPT},
        [TAGS],
        TAGS + "\x07\u202e" + "x" * 1_000_000,
    ],
    ids=["scripts", "data", "credentials", "ids", "a list", "a long text"],
)
def test_a_hostile_record_is_shown_as_text(visit: Visit, edited: Callable[..., None], value: Any) -> None:
    edited("clips", 0, "seedance_task", value)
    visitor = visit()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    page = show(visitor, "clips", 0)
    page.wait_for_timeout(500)
    assert "harmed" not in page.title()
    assert not [url for url in asked if not url.startswith(visitor.url) and "/videos/" not in url]
    assert page.locator("main script, main iframe, main [onerror], main a[href^='javascript']").count() == 0


def test_a_hostile_failure_is_shown_as_text(visit: Visit, edited: Callable[..., None]) -> None:
    text = TAGS + "\x07\u202e" + "x" * 1_000_000
    edited("clips", 4, "seedance_error", {"message": text, "type": {}, "code": [TAGS], "charged": TAGS, "text": text})
    page = show(visit(), "clips", 4)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("\\u0007\\u202e")
    expect(alert.get_by_role("button", name=re.compile("Show all 1,000"))).to_be_visible()
    assert "harmed" not in page.title()
