"""The gallery of 1,000 videos under 20 readers, beside Airflow's own page of a task in the same run.

Chromium opens each page once, which tells what the page asks Airflow's API server for. Then 20 readers ask for the
same, six requests at a time as browsers do, and open the page anew every ten seconds; an API server of Airflow, in one
process on SQLite, answers. Files that a browser keeps are left out.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import requests

from benchmarks.harness import Result, Row, quantile
from tests.ui.rig import running

if TYPE_CHECKING:
    from playwright.sync_api import Page

SECTION = "Pages"
READERS = 20
PAUSE = 10.0
AT_ONCE = 6
TARGET_MS = 300


def run(*, quick: bool = False) -> Result:
    """Measure."""
    result = Result()
    with running(lambda _line: None) as rig:
        run_id = rig.filled_run("ui_thousand")
        ours = f"{rig.url}/seedance/ui"
        which = f"dag_id=ui_thousand&run_id={run_id}"
        theirs = f"{rig.url}/dags/ui_thousand/runs/{run_id}/tasks"
        pages = {
            "gallery of 1,000 videos": f"{ours}/gallery?{which}",
            "page of one video": f"{ours}/video?{which}&task_id=clips&map_index=7",
            "Airflow's page of a mapped task": f"{theirs}/clips/mapped",
            "Airflow's page of a task instance": f"{theirs}/clips/mapped/7",
        }
        asked = _requests_of(rig.url, pages)
        token = requests.get(f"{rig.url}/auth/token", timeout=30).json()["access_token"]
        for name, urls in asked.items():
            times, views = asyncio.run(_read(urls, token, seconds=30 if quick else 120))
            p95 = 1000 * quantile(times, 0.95)
            is_ours = not name.startswith("Airflow")
            result.data[name] = {"requests": len(urls), "p50": quantile(times, 0.5), "p95": p95 / 1000, "views": views}
            text = f"p50 {1000 * quantile(times, 0.5):.0f} ms, p95 {p95:.0f} ms"
            page = f"{len(urls)} for the page, which takes {quantile(views, 0.5):.1f} s"
            what = f"{name}, {READERS} readers: a request"
            row = Row(SECTION, what, f"{text} ({page})")
            if is_ours:
                row = replace(row, target=f"p95 ≤ {TARGET_MS} ms", met=p95 <= TARGET_MS)
            result.rows.append(row)
    return result


def _requests_of(server: str, pages: dict[str, str]) -> dict[str, list[str]]:
    """What each page asks the server for when somebody opens it who has its files."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server}/auth/token/login", wait_until="commit")
        return {name: _requests_of_one(page, server, url) for name, url in pages.items()}


def _requests_of_one(page: Page, server: str, url: str) -> list[str]:
    page.goto(url)
    page.wait_for_timeout(8000)  # the first time fills the browser's cache
    urls: list[str] = []

    def note(request: Any) -> None:
        if request.method == "GET" and request.url.startswith(server) and "/static/" not in request.url:
            urls.append(request.url)

    page.on("request", note)
    page.goto(url)
    page.wait_for_timeout(8000)
    page.remove_listener("request", note)
    return urls


async def _read(urls: list[str], token: str, seconds: float) -> tuple[list[float], list[float]]:
    times: list[float] = []
    views: list[float] = []
    end = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(url: str, gate: asyncio.Semaphore) -> None:
            async with gate:
                began = time.monotonic()
                async with session.get(url) as answer:
                    await answer.read()
                    answer.raise_for_status()
                times.append(time.monotonic() - began)

        async def reader(number: int) -> None:
            await asyncio.sleep(PAUSE * number / READERS)
            while time.monotonic() < end:
                began = time.monotonic()
                gate = asyncio.Semaphore(AT_ONCE)
                await asyncio.gather(*(one(url, gate) for url in urls))
                views.append(time.monotonic() - began)
                await asyncio.sleep(max(0.0, PAUSE - views[-1]))

        await asyncio.gather(*(reader(number) for number in range(READERS)))
    return times, views
