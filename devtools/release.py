"""Print a release's notes: ``python devtools/release.py v0.1.0``. Fails where tag, version and changelog differ."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import seedance_provider

ROOT = Path(__file__).resolve().parent.parent


def notes(tag: str, version: str, changelog: str) -> str:
    """The section of a version, without its heading.

    :raises SystemExit: if the tag names another version, or the section is missing or not dated.
    """
    if tag != f"v{version}":
        raise SystemExit(f"The tag is {tag}, the version of seedance_provider {version}: change __version__ or the tag")
    found = re.search(
        rf"^## {re.escape(version)} \((?P<date>[^)]*)\)\n(?P<text>.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise SystemExit(f"CHANGELOG.md has no section '## {version} (date)'")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found["date"]):
        raise SystemExit(f"CHANGELOG.md says '## {version} ({found['date']})': put the date of the release there")
    return found["text"].strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(notes(sys.argv[1], seedance_provider.__version__, (ROOT / "CHANGELOG.md").read_text()))
