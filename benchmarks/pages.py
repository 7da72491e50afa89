"""The gallery of 1,000 videos under 20 readers, beside Airflow's own page of a task in the same run.

Chromium opens each page once, which tells what the page asks Airflow's API server for, and how much of it at a time.
Then 20 readers ask for the same in that way, and open the page anew every ten seconds; an API server of Airflow, in one
process on SQLite, answers. Files that a browser keeps are left out. Answers of 500, and those that do not come, are
counted, not timed.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import requests

from benchmarks.harness import Result, Row, quantile
from tests.ui.rig import running

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

SECTION = "Pages"
READERS = 20
PAUSE = 10.0
TARGET_MS = 300
PATIENCE = 20.0
"""Seconds after which an answer counts as failed."""
ENV = {"AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "200"}
"""With the usual 15 connections Airflow 3.3.2 stands still under these readers: an answer of its own pages waits for a
free one in the event loop, for which those wait who have one."""
CONNECTIONS = 6
"""What Chromium opens to one server at most; the requests that it knows of beyond wait."""


class Asked(NamedTuple):
    """What opening a page asks the server for, in this order, and how many requests are under way at most."""

    urls: list[str]
    at_once: int


def run(*, quick: bool = False) -> Result:
    """Measure."""
    result = Result()
    with running(lambda _line: None, env=ENV) as rig:
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
        for name, page in asked.items():
            read = asyncio.run(_read(page, token, seconds=30 if quick else 120))
            median, p95 = (1000 * quantile(read.requests, q) for q in (0.5, 0.95))
            whole = 1000 * quantile(read.pages, 0.95)
            result.data[name] = {
                "requests": len(page.urls),
                "at_once": page.at_once,
                "request_ms": {"p50": median, "p95": p95},
                "page_ms": {"p50": 1000 * quantile(read.pages, 0.5), "p95": whole},
                "failed": read.failed,
            }
            text = f"p50 {median:.0f} ms, p95 {p95:.0f} ms; all {len(page.urls)} of the page: p95 {whole:.0f} ms"
            if read.failed:
                text += f"; {read.failed} of {read.failed + len(read.requests)} failed"
            row = Row(SECTION, f"{name}, {READERS} readers: a request", text)
            if not name.startswith("Airflow"):
                row = replace(row, target=f"p95 of a page ≤ {TARGET_MS} ms", met=whole <= TARGET_MS and not read.failed)
            result.rows.append(row)
    return result


def _requests_of(server: str, pages: dict[str, str]) -> dict[str, Asked]:
    """What each page asks the server for when somebody opens it who has its files."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        reader = browser.new_context()
        reader.new_page().goto(f"{server}/auth/token/login", wait_until="commit")
        return {name: _requests_of_one(reader.new_page(), server, url) for name, url in pages.items()}


def _requests_of_one(page: Page, server: str, url: str) -> Asked:
    page.goto(url)
    page.wait_for_timeout(8000)  # the first time fills the browser's cache
    urls: list[str] = []
    under_way: set[Request] = set()
    most = 1

    def begin(request: Request) -> None:
        nonlocal most
        if request.method == "GET" and request.url.startswith(server) and "/static/" not in request.url:
            urls.append(request.url)
            under_way.add(request)
            most = max(most, len(under_way))

    page.on("request", begin)
    page.on("requestfinished", lambda request: under_way.discard(request))
    page.on("requestfailed", lambda request: under_way.discard(request))
    page.goto(url)
    page.wait_for_timeout(8000)
    page.close()
    return Asked(urls, min(most, CONNECTIONS))


class Read(NamedTuple):
    """Seconds that each answer and each page took, and how many requests the server failed to answer."""

    requests: list[float]
    pages: list[float]
    failed: int


async def _read(page: Asked, token: str, seconds: float) -> Read:
    requests_took: list[float] = []
    pages_took: list[float] = []
    failed = 0
    end = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:

        async def one(url: str, gate: asyncio.Semaphore) -> None:
            nonlocal failed
            async with gate:
                began = time.monotonic()
                try:
                    async with session.get(url) as answer:
                        await answer.read()
                    has_failed = answer.status >= 500
                except TimeoutError:
                    has_failed = True
                if has_failed:
                    failed += 1
                    return
                answer.raise_for_status()
                requests_took.append(time.monotonic() - began)

        async def reader(number: int) -> None:
            await asyncio.sleep(PAUSE * number / READERS)
            while time.monotonic() < end:
                began = time.monotonic()
                gate = asyncio.Semaphore(page.at_once)
                await asyncio.gather(*(one(url, gate) for url in page.urls))
                pages_took.append(time.monotonic() - began)
                await asyncio.sleep(max(0.0, PAUSE - pages_took[-1]))

        await asyncio.gather(*(reader(number) for number in range(READERS)))
    return Read(requests_took, pages_took, failed)
