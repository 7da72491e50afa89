"""The notes of a release, from the changelog."""

from __future__ import annotations

import pytest

from devtools.release import notes

CHANGELOG = """# Changelog

## 1.2.0 (2026-12-01)

- New.

## 1.1.0 (unreleased)

- Old.
"""


def test_the_notes_are_the_section_of_the_version() -> None:
    assert notes("v1.2.0", "1.2.0", CHANGELOG) == "- New."


@pytest.mark.parametrize(
    ("tag", "version", "why"),
    [
        ("v1.2.1", "1.2.0", "v1.2.1"),
        ("v1.3.0", "1.3.0", "no section"),
        ("v1.1.0", "1.1.0", "unreleased"),
        ("v1.2", "1.2", "no section"),
    ],
)
def test_a_release_that_does_not_match_its_changelog_is_refused(tag: str, version: str, why: str) -> None:
    with pytest.raises(SystemExit, match=why):
        notes(tag, version, CHANGELOG)
