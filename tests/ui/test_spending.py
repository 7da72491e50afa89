"""The page of spending in a browser: what the ledger has, and nobody asks the vendor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.ui.rig import DAG_ID, DERIVED_DAG_ID, HIDDEN_DAG_ID, Rig

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.ui.conftest import Visitor

Visit = Callable[..., "Visitor"]


def cells(table: Locator) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]
    return {name: rest for name, *rest in rows}


def totals(rows: dict[str, list[str]]) -> list[int]:
    """Videos and credits of all rows of a table."""
    return [sum(int(row[column].replace(",", "")) for row in rows.values()) for column in range(2)]


def test_credits_are_told_by_day_dag_and_model(visit: Visit, rig: Rig, screenshot: Callable[[Page, str], None]) -> None:
    asked = {name: len(rig.emulator.requests(name)) for name in ("createTask", "uploads")}
    visitor = visit()
    visitor.open("spending")
    page = visitor.page
    dags = cells(page.get_by_role("region", name="DAG"))
    assert dags[DAG_ID][:3] == ["9", "1,195", "280"]
    assert dags[HIDDEN_DAG_ID][:2] == ["1", "140"]
    assert dags[DERIVED_DAG_ID][:2] == ["2", "280"]
    # Other tests may have started DAGs of the examples.
    models, days = (cells(page.get_by_role("region", name=name)) for name in ("model", "Day"))
    assert len(days) == 1
    assert totals(models) == totals(days) == totals(dags) >= [12, 1615]
    assert page.locator("svg rect.charged").count() == 1
    screenshot(page, "spending")
    assert {name: len(rig.emulator.requests(name)) for name in asked} == asked


def test_a_ceiling_tells_what_is_left(visit: Visit) -> None:
    visitor = visit()
    visitor.open("spending")
    row = visitor.page.get_by_role("region", name="Ceilings").locator("tbody tr").all_inner_texts()
    assert len(row) == 1
    assert row[0].split() == ["Budget", "campaign", "840", "5,000", "4,160"]


def test_a_video_that_nobody_took_comes_with_what_collects_it(visit: Visit, rig: Rig) -> None:
    visitor = visit()
    visitor.open("spending")
    region = visitor.page.get_by_role("region", name="Videos that nobody took")
    running = rig.airflow.xcom(DAG_ID, rig.run_id, "clips", "seedance_task_id", map_index=7)
    expect(region.locator("code", has_text=f"SeedanceTaskSensor(seedance_task_id='{running}')")).to_be_visible()


def test_another_period_is_in_the_address(visit: Visit) -> None:
    visitor = visit()
    visitor.open("spending")
    visitor.page.get_by_label("Videos of the").select_option("30")
    expect(visitor.page.get_by_role("img", name="Credits by day")).to_be_visible()
    visitor.page.wait_for_url("**#days=30")
    visitor.page.reload()
    expect(visitor.page.get_by_label("Videos of the")).to_have_value("30")


def test_without_a_ledger_the_page_says_how_to_have_one(visit: Visit) -> None:
    visitor = visit()
    visitor.page.route(
        "**/seedance/ui/ledger?*", lambda route: route.fulfill(body="null", content_type="application/json")
    )
    visitor.open("spending")
    expect(visitor.page.locator("pre")).to_contain_text("ledger_path")
