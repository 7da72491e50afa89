"""What the sources cite as "contract 4.3" stands in docs/api-contract.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"\d+(?:\.\d+)?"
CITATION = re.compile(rf"\bcontract ({NUMBER}(?:(?:, | and | to ){NUMBER})*)", re.IGNORECASE)
SECTION = re.compile(rf"^(?:#+ (?={NUMBER})|\| (?=13\.))({NUMBER})", re.MULTILINE)  # a heading, or a row of section 13


def citations() -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(ROOT)), number)
        for folder in ("seedance_provider", "tests/contract", "tests/unit", "benchmarks", "devtools")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".json") and path != Path(__file__)
        for cited in dict.fromkeys(CITATION.findall(path.read_text()))
        for number in re.findall(NUMBER, cited)
    ]


@pytest.fixture(scope="module")
def sections() -> set[str]:
    return set(SECTION.findall((ROOT / "docs" / "api-contract.md").read_text()))


@pytest.mark.parametrize(("path", "number"), citations())
def test_what_is_cited_is_there(sections: set[str], path: str, number: str) -> None:
    assert number in sections
