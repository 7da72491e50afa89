"""The gallery in a browser: every video once, found by what is known of it, and nothing loaded before it is seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.ui.rig import DAG_ID, DERIVED_DAG_ID, HIDDEN_DAG_ID, Rig

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.ui.conftest import Visitor

Visit = Callable[..., "Visitor"]
VIDEOS = 11
"""Eight clips, one of unknown outcome, a picture, and one that a Create task and a sensor share."""


@pytest.fixture
def gallery(visit: Visit) -> Visitor:
    visitor = visit()
    visitor.gallery(VIDEOS)
    return visitor


@pytest.fixture
def edited(rig: Rig) -> Any:
    """Edits an XCom of a clip, and puts it back."""
    before: list[tuple[str, Any]] = []

    def edit(map_index: int, **changes: Any) -> None:
        path = f"dags/{DAG_ID}/dagRuns/{quote(rig.run_id)}/taskInstances/clips/xcomEntries/seedance_task"
        record = rig.airflow.xcom(DAG_ID, rig.run_id, "clips", "seedance_task", map_index=map_index)
        before.append((path, {"map_index": map_index, "value": record}))
        rig.airflow.api("PATCH", path, json={"map_index": map_index, "value": record | changes})

    yield edit
    for path, body in before:
        rig.airflow.api("PATCH", path, json=body)


def titles(page: Page) -> list[str]:
    return page.locator(".tile .title").all_inner_texts()


def test_each_video_of_a_run_is_there_once_with_what_it_cost(
    gallery: Visitor, rig: Rig, screenshot: Callable[[Page, str], None]
) -> None:
    page = gallery.page
    assert sorted(title for title in titles(page) if "sunset" in title) == ["A sunset over the ocean"]
    counts = {
        re.sub(r"\s*\d+$", "", text): int(text.split()[-1]) for text in page.locator("button.state").all_inner_texts()
    }
    assert counts == {"failed": 3, "deferred": 1, "success": 7}
    charged = [
        rig.airflow.xcom(DAG_ID, rig.run_id, task, "seedance_task", map_index=index)["credits_used"]
        for task, index in [*(("clips", index) for index in (0, 1, 2, 5, 6)), ("picture", -1), ("wait", -1)]
    ]
    assert page.locator(".credits").inner_text() == f"{sum(map(int, charged)):,} credits charged"
    page.wait_for_timeout(1000)
    screenshot(page, "gallery-of-a-run")


def test_the_state_the_model_the_task_and_the_text_of_the_prompt_filter(gallery: Visitor) -> None:
    page = gallery.page
    page.locator("button.state", has_text="failed").click()
    expect(page.locator(".tile")).to_have_count(3)
    assert page.locator(".tile .reason").count() == 3
    page.get_by_role("button", name="All videos").click()
    page.get_by_label("Model", exact=True).select_option("nanobanana2")
    expect(page.locator(".tile .title")).to_have_text(["A poster of a lighthouse"])
    page.get_by_label("Model", exact=True).select_option("")
    page.get_by_label("Task", exact=True).select_option("clips")
    expect(page.locator(".tile")).to_have_count(8)
    page.get_by_label("Prompt has").fill("TRAM rain")
    expect(page.locator(".tile .title")).to_have_text(["A tram in the rain, neon signs mirrored on the street"])


def test_back_returns_to_what_was_chosen_before(gallery: Visitor) -> None:
    page = gallery.page
    page.locator("button.state", has_text="failed").click()
    expect(page.locator(".tile")).to_have_count(3)
    page.locator(".tile a").first.click()
    page.wait_for_url("**/seedance/ui/video?*")
    page.go_back()
    expect(page.locator(".tile")).to_have_count(3)
    page.go_back()
    expect(page.locator(".tile")).to_have_count(VIDEOS)


def test_sorting_puts_what_failed_or_cost_most_first(gallery: Visitor) -> None:
    page = gallery.page
    page.get_by_label("Sort").select_option("credits")
    assert titles(page)[0] == "A sunset over the ocean"
    page.get_by_label("Sort").select_option("failed")
    assert page.locator(".tile .badge").all_inner_texts()[:3] == ["failed", "failed", "failed"]


def test_arrows_move_between_videos_and_enter_opens_one(gallery: Visitor) -> None:
    page = gallery.page
    expect(page.locator(".tile a[tabindex='0']")).to_have_count(1)
    page.locator(".tile a").first.focus()
    columns = page.evaluate(
        "() => { const all = [...document.querySelectorAll('.tile')];"
        " return all.filter(tile => tile.offsetTop === all[0].offsetTop).length; }"
    )
    focused = "() => [...document.querySelectorAll('.tile')].indexOf(document.activeElement.closest('.tile'))"
    places = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "Home"):
        page.keyboard.press(key)
        places.append(page.evaluate(focused))
    assert places == [1, 1 + columns, columns, 0, VIDEOS - 1, 0]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "checkbox"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/seedance/ui/video?*map_index=0*")


def test_two_videos_are_compared_beside_each_other(gallery: Visitor) -> None:
    page = gallery.page
    page.get_by_label("Compare clips[0]").check()
    page.get_by_label("Compare clips[1]").check()
    columns = page.get_by_role("region", name="Comparison").get_by_role("article")
    expect(columns).to_have_count(2)
    players = page.locator("article video")
    expect(players).to_have_count(2)
    for player in players.all():
        expect(player).not_to_have_js_property("readyState", 0)
    page.get_by_role("button", name="Play both").click()
    for player in players.all():
        expect(player).not_to_have_js_property("currentTime", 0)
    page.get_by_label("Compare picture").check()
    expect(page.get_by_role("article", name="clips[0]")).to_have_count(0)
    expect(columns).to_have_count(2)
    page.get_by_role("button", name="Close").click()
    expect(columns).to_have_count(0)


def test_a_picture_that_another_task_stored_is_read_where_that_task_has_it(visit: Visit) -> None:
    visitor = visit()

    def stored_by_create(route: Any) -> None:
        answer = route.fetch()
        content = answer.json()
        (create,) = (record for record in content["records"] if record["task_id"] == "create")
        create["stored_picture"] = 5
        route.fulfill(response=answer, json=content)

    visitor.page.route("**/seedance/ui/records/**", stored_by_create)
    with visitor.page.expect_request("**/stored/**index=5") as asked:  # at once, where the window shows the tile
        visitor.gallery(VIDEOS)
        visitor.page.locator(".tile", has_text="sunset").scroll_into_view_if_needed()
    assert "task_id=create" in asked.value.url


def test_nothing_is_loaded_before_it_is_seen_and_pages_divide_many(visit: Visit, rig: Rig) -> None:
    run_id = rig.filled_run("ui_sixty")
    visitor = visit(width=360)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.open("gallery", dag_id="ui_sixty", run_id=run_id)
    expect(visitor.page.get_by_text("60 of 60 videos")).to_be_visible()
    visitor.page.wait_for_timeout(1000)
    assert visitor.page.locator(".tile").count() == 24
    assert 0 <= len({url for url in asked if "/videos/" in url or "/stored/" in url}) < 10
    assert len([url for url in asked if "/records/" in url]) == 1
    visitor.page.get_by_role("button", name="Next page").click()
    expect(visitor.page.get_by_text("Page 2 of 3")).to_be_visible()
    assert titles(visitor.page)[0].startswith("Shot 24")


def test_the_newest_run_can_be_watched_at_once(visit: Visit, rig: Rig) -> None:
    visitor = visit()

    told = visitor.page.request.get(f"{visitor.url}/seedance/ui/runs").json()
    told["runs"].sort(key=lambda run: run["run_id"] != rig.derived_run_id)
    visitor.page.route("**/seedance/ui/runs?*", lambda route: route.fulfill(json=told))
    visitor.open("gallery")
    newest = visitor.page.get_by_role("region", name="The newest run")
    players = newest.get_by_role("article").locator("video[controls]")
    expect(players.first).to_be_visible()
    expect(newest.get_by_role("article")).to_have_count(2)


def test_videos_of_a_derived_class_are_listed_like_ours(visit: Visit, rig: Rig) -> None:
    visitor = visit()
    visitor.open("gallery")
    row = visitor.page.get_by_role("row").filter(has_text=DERIVED_DAG_ID)
    expect(row.get_by_role("cell").last).to_have_text(re.compile(r"success\s+2"))
    row.get_by_role("link", name=rig.derived_run_id).click()
    expect(visitor.page.locator(".tile .title")).to_have_text(["A bridge, in style", "A tower, in style"])
    expect(visitor.page.locator(".tile .badge")).to_have_text(["success", "success"])


def test_a_dag_has_the_videos_of_all_its_runs(visit: Visit, rig: Rig) -> None:
    visitor = visit()
    visitor.open("gallery", dag_id=DAG_ID)
    expect(visitor.page.locator(".tile")).to_have_count(VIDEOS)
    assert visitor.page.locator(".tile").first.get_by_text(rig.run_id).count() == 1


def test_a_stored_copy_stands_for_its_video_where_the_vendor_has_it_no_longer(visit: Visit) -> None:
    gallery = visit()
    gallery.page.route("**/videos/**", lambda route: route.abort())
    gallery.gallery(VIDEOS)
    tile = gallery.page.locator(".tile", has_text="A sunset over the ocean")
    tile.scroll_into_view_if_needed()
    expect(tile.locator(".poster video")).to_have_attribute("src", re.compile("/seedance/ui/stored/"))
    expect(gallery.page.locator(".tile", has_text="A lighthouse at dawn").locator(".poster")).to_have_text("no preview")


def test_hostile_records_are_shown_as_text(visit: Visit, edited: Callable[..., None]) -> None:
    script = "javascript:document.title='harmed'"
    edited(0, outputs=[{"url": script, "last_frame_image": script}], credits_used="<b>9</b>")
    edited(1, outputs=[{"url": "data:text/html,<script>1</script>", "last_frame_image": "//evil.example/x.png"}])
    edited(2, outputs="no list", credits_used={"a": 1}, model=["x"])
    edited(4, failure={"message": "</li><script>document.title='harmed'</script>\u0007\u202e" + "x" * 1_000_000})
    visitor = visit()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.gallery(VIDEOS)
    visitor.page.wait_for_timeout(1500)
    assert visitor.page.title() == "Videos"
    assert not [url for url in asked if "evil.example" in url or not url.startswith("http")]
    assert visitor.page.locator("main script, main iframe, main a[href^='javascript']").count() == 0
    assert visitor.page.locator(".tile img[onerror]").count() == 0
    assert any(title.startswith("<img src=x onerror=") for title in titles(visitor.page))


def test_who_may_not_read_a_dag_sees_nothing_of_it(visit: Visit, rig: Rig) -> None:
    reader = visit(reader=True)
    reader.open("gallery", dag_id=HIDDEN_DAG_ID, run_id=rig.hidden_run_id)
    expect(reader.page.get_by_role("alert")).to_contain_text("may not read")
    reader.open("gallery")
    expect(reader.page.get_by_role("link", name=DAG_ID, exact=True)).to_be_visible()
    assert HIDDEN_DAG_ID not in reader.page.content()
    reader.open("spending")
    expect(reader.page.get_by_role("heading", name="By DAG")).to_be_visible()
    assert HIDDEN_DAG_ID not in reader.page.content()
    asked = f"{rig.reader_url}/seedance/ui/records/{HIDDEN_DAG_ID}?run_id={quote(rig.hidden_run_id)}"
    assert reader.page.request.get(asked).status == 403
    assert visit().page.request.get(asked.replace(rig.reader_url, rig.url)).status == 200


@pytest.mark.parametrize(("status", "words"), [(401, "not signed in"), (403, "may not read"), (500, "HTTP 500")])
def test_a_refusal_is_told_in_plain_words_and_nothing_else(visit: Visit, rig: Rig, status: int, words: str) -> None:
    visitor = visit()
    visitor.page.route("**/seedance/ui/tasks/**", lambda route: route.fulfill(status=status))
    visitor.open("gallery", dag_id=DAG_ID, run_id=rig.run_id)
    expect(visitor.page.get_by_role("alert")).to_contain_text(words)
    assert visitor.page.locator("main > *").count() == 1


def test_below_a_sub_path_everything_is_found(visit: Visit) -> None:
    reader = visit(reader=True)
    asked: list[str] = []
    reader.page.on("response", lambda response: asked.append(f"{response.status} {response.url}"))
    reader.gallery(VIDEOS)
    reader.page.locator(".tile a").first.click()
    reader.page.wait_for_url("**/airflow/seedance/ui/video?*")
    reader.page.wait_for_selector("main:not([aria-busy])")
    assert not [line for line in asked if line.startswith(("404", "500"))]
