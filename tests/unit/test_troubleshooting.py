"""What the docs quote is what the package says, so that a search for a line of log finds its row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "seedance_provider"
DOCS = ROOT / "docs"
README = ROOT / "README.md"
VARIES = "…"
PLACEHOLDER = re.compile(r"%(?:\.\d+)?[sdrfg]")


def templates_in(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, with what varies in it replaced."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield PLACEHOLDER.sub(VARIES, node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (
                str(part.value) if isinstance(part, ast.Constant) else VARIES  # implicit concatenation is joined too
                for part in node.values
            )
            yield "".join(parts)


@cache
def templates() -> frozenset[str]:
    # The emulator speaks for the vendor.
    modules = (path for path in PACKAGE.rglob("*.py") if "testing" not in path.parts)
    return frozenset(template for path in modules for template in templates_in(ast.parse(path.read_text("utf-8"))))


def quoted_symptoms() -> list[str]:
    rows = re.findall(r"^\| (.*?) \|", (DOCS / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    return [quote for row in rows[1:] for quote in re.findall(r'"([^"]+)"', re.sub(r"`[^`]*`", "", row))]


def quoted_lines() -> list[str]:
    page = (DOCS / "money-measured.md").read_text("utf-8")
    return [line.strip() for line in re.findall(r"^> (.*)$", page, re.MULTILINE)]


def lines_that_ask_for_action() -> list[str]:
    chapter = (DOCS / "operating.md").read_text("utf-8").partition("## Lines that ask for action")[2].partition("##")[0]
    return re.findall(r'"([^"]+)"', chapter)


@pytest.mark.parametrize("quote", [*quoted_symptoms(), *quoted_lines(), *lines_that_ask_for_action()])
def test_a_quote_in_the_docs_is_a_text_of_the_package(quote: str) -> None:
    assert any(quote in template for template in templates())


def lines_of_log() -> list[str]:
    page = (DOCS / "operators-and-sensor.md").read_text("utf-8")
    (block,) = re.findall(r"## What the log shows\n\n```\n(.*?)```", page, re.DOTALL)
    return str(block).splitlines()


def as_pattern(template: str) -> str:
    return ".*".join(map(re.escape, template.split(VARIES)))


@pytest.mark.parametrize("line", lines_of_log())
def test_a_line_of_log_in_the_docs_is_one_that_the_package_writes(line: str) -> None:
    # A line begins with fixed words, or with a status word of the vendor's.
    telling = (
        template
        for template in templates()
        if len(template.partition(VARIES)[0]) >= len("About ") or "after its creation" in template
    )
    assert any(re.fullmatch(as_pattern(template), line) for template in telling)


def test_texts_are_joined_as_python_joins_them() -> None:
    (statement,) = ast.parse('f"Not found: {said}. " "Check it" f" (task {task})"').body
    assert "Not found: …. Check it (task …)" in templates_in(statement)
    (statement,) = ast.parse('"Status %s after %.0f s"').body
    assert "Status … after … s" in templates_in(statement)


def test_the_dag_of_the_readme_is_one_on_every_airflow() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    if airflow_version.startswith("2."):
        code, changes = re.subn(r"^.*# on Airflow 2.11: ", "", code, flags=re.MULTILINE)
        assert changes == 1
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["wait"].upstream_task_ids == {"create"}


REPOSITORY = "https://github.com/seedance-airflow/airflow-provider-seedance/"


def links_in(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def anchors_in(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), README], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_in(page):
        path, _, anchor = link.partition("#")
        if path.startswith(REPOSITORY):
            target = ROOT / re.sub(r"^(?:blob|tree|raw)/main/", "", path.removeprefix(REPOSITORY))
        elif "://" in path:
            continue
        else:
            assert page != README, "a package index shows the README without the repository around it"
            target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_in(target), link
