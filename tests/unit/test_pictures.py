"""The pictures in the pages: each is there, is small, and is made by a browser test, so that it cannot go stale."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = {
    name for page in PAGES for name in re.findall(r"!\[[^]]*\]\([^)]*images/([\w-]+)\.png\)", page.read_text("utf-8"))
}
MADE = {
    name
    for test in sorted((ROOT / "tests" / "ui").glob("test_*.py"))
    for name in re.findall(r"screenshot\([^\n]*\"([\w-]+)\"\)", test.read_text("utf-8"))
}
LIMIT = 200_000
"""Bytes: a page of the documentation has several."""


def test_every_picture_that_is_shown_is_made_by_a_browser_test_and_the_other_way_round() -> None:
    assert SHOWN == MADE
    assert {path.stem for path in (ROOT / "docs" / "images").glob("*.png")} == SHOWN


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_picture_is_a_small_png(name: str) -> None:
    content = (ROOT / "docs" / "images" / f"{name}.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < LIMIT
