"""One Airflow, one emulator and one Chromium for all browser tests; screenshots where they are asked for."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.conftest import ROOT
from tests.ui.rig import DAG_ID, Rig, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page

IMAGES = ROOT / "docs" / "images"
Theme = Literal["light", "dark"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "ui" in item.path.parts:
            item.add_marker(pytest.mark.airflow_processes)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    api.expect.set_options(timeout=20_000)  # a busy machine must not fail a test
    with api.sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that root in a container has not; it opens pages of this machine only.
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def rig(browser: Browser) -> Iterator[Rig]:
    """A running Airflow with videos; nothing is started where there is no browser to look at it.

    ``SEEDANCE_UI_PYTHON`` names the interpreter of another environment, whose Airflow is taken.
    """
    with running(lambda _line: None, os.environ.get("SEEDANCE_UI_PYTHON") or sys.executable) as started:
        yield started


class Visitor:
    """Somebody with a browser, signed in.

    :param page: The browser's page.
    :param url: The Airflow that is visited.
    :param run_id: The run of ``ui_videos``.
    """

    def __init__(self, page: Page, url: str, run_id: str) -> None:
        self.page = page
        self.url = url
        self.run_id = run_id
        self.clicks: list[str] = []
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if "Security" in message.text else None)

    def sign_in(self) -> None:
        self.page.goto(f"{self.url}/auth/token/login", wait_until="commit")

    def open(self, view: str, **query: str) -> None:
        """Open one of our pages on its own, and wait until it has something to show."""
        pairs = "&".join(f"{name}={value}" for name, value in query.items())
        self.page.goto(f"{self.url}/seedance/ui/{view}?{pairs}")
        self.page.wait_for_selector("main:not([aria-busy])")

    def gallery(self, count: int) -> None:
        """Open the gallery of the run, and wait until it has all of its videos."""
        from playwright.sync_api import expect

        self.open("gallery", dag_id=DAG_ID, run_id=self.run_id)
        expect(self.page.locator(".tile")).to_have_count(count)  # wait_for_function is against the page's policy

    def click(self, what: Any, name: str) -> None:
        """Click, and count it."""
        what.click()
        self.clicks.append(name)


@pytest.fixture
def visit(browser: Browser, rig: Rig) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors; whatever they did, no page of theirs had an error in its script or met its own policy."""
    visitors = []
    contexts = []

    def make(*, reader: bool = False, theme: Theme = "light", width: int = 1440, signed_in: bool = True) -> Visitor:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, locale="en")
        context.set_default_timeout(30_000)
        contexts.append(context)
        visitor = Visitor(context.new_page(), rig.reader_url if reader else rig.url, rig.run_id)
        visitors.append(visitor)
        if signed_in:
            visitor.sign_in()
        return visitor

    yield make
    for visitor in visitors:
        visitor.page.unroute_all(behavior="wait")  # a page asks again and again; an answer under way is another test's
    for context in contexts:
        context.close()
    assert [error for visitor in visitors for error in visitor.errors] == []


@pytest.fixture
def screenshot() -> Callable[[Page | Locator, str], None]:
    """Writes a picture for the documentation if SEEDANCE_SCREENSHOTS is set; else the checkout stays as it is."""

    def take(what: Page | Locator, name: str) -> None:
        if os.environ.get("SEEDANCE_SCREENSHOTS"):
            IMAGES.mkdir(exist_ok=True)
            what.screenshot(path=IMAGES / f"{name}.png")

    return take
