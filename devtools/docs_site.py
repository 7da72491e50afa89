"""What the documentation site has beyond docs/: the examples, the Python reference and the changelog. A hook of mkdocs.

They are made anew at each build and have no file in docs/: whoever reads the pages in the repository follows the same
links to the sources.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "dags_examples"
SOURCES = re.compile(r"https://github\.com/seedance-airflow/airflow-provider-seedance/blob/main/([\w/.-]+)")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|exc):<code>~?(?:[\w.]+\.)?(\w+)</code>")


class Reference(NamedTuple):
    """A page of the Python reference."""

    title: str
    intro: str
    objects: dict[str, str]
    """The path of each public object, and which of its members are shown: ``all``, ``none`` or names."""


def error_classes() -> list[str]:
    """The names of the public error classes, in the order of their module."""
    tree = ast.parse((ROOT / "seedance_provider" / "exceptions.py").read_text("utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Error")]


REFERENCE = {
    "operators": Reference(
        "Operators and sensor",
        "What each is for, with examples: [Operators and sensor](../operators-and-sensor.md).",
        {
            "seedance_provider.operators.seedance.SeedanceCreateTaskOperator": "none",
            "seedance_provider.operators.seedance.SeedanceGenerateVideoOperator": "none",
            "seedance_provider.sensors.seedance.SeedanceTaskSensor": "none",
            "seedance_provider.transfers.seedance_to_object_storage.SeedanceToObjectStorageOperator": "none",
            "seedance_provider.decorators.seedance.seedance_task": "none",
        },
    ),
    "hook": Reference(
        "Hook and record",
        "For tasks of your own.",
        {
            "seedance_provider.hooks.seedance.SeedanceHook": (
                "create_task get_task wait_for_task estimate_credits download upload test_connection"
            ),
            "seedance_provider.api.records.TaskRecord": "all",
            "seedance_provider.api.records.TaskOutput": "all",
            "seedance_provider.api.records.TaskFailure": "all",
            "seedance_provider.api.records.TaskStatus": "all",
            "seedance_provider.api.pricing.CreditEstimate": "all",
        },
    ),
    "trigger": Reference(
        "Trigger",
        "What the sensor and Generate defer to. You need it only for operators of your own.",
        {"seedance_provider.triggers.seedance.SeedanceTaskTrigger": "none"},
    ),
    "ledger": Reference(
        "Ledger",
        "How to switch it on: [Ledger](../ledger.md).",
        {
            "seedance_provider.execution.ledger.SeedanceLedger": "all",
            "seedance_provider.execution.ledger.LedgerReceipt": "none",
            "seedance_provider.execution.ledger.Spend": "all",
        },
    ),
    "failures": Reference(
        "Retry policy and notifier",
        "See [Errors](../errors.md#a-retry-policy).",
        {
            "seedance_provider.retries.SeedanceRetryPolicy": "none",
            "seedance_provider.notifications.seedance.SeedanceNotifier": "none",
            "seedance_provider.notifications.seedance.Failure": "all",
        },
    ),
    "errors": Reference(
        "Errors",
        "As a table, with what to do: [Errors](../errors.md).",
        {f"seedance_provider.exceptions.{name}": "none" for name in error_classes()},
    ),
    "testing": Reference(
        "Emulator and fixture",
        "How to use them: [Testing your DAGs](../testing-your-dags.md) and [Emulator](../emulator.md).",
        {
            "seedance_provider.testing.Emulator": "all",
            "seedance_provider.testing.pytest_plugin": "seedance_emulator seedance_emulator_settings",
        },
    ),
}

REFERENCED = {
    path.rpartition(".")[0].replace(".", "/") + ".py": f"reference/{name}.md"
    for name, page in REFERENCE.items()
    for path in page.objects
}
"""The source of a module, and the page that has its reference."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/."""
    pages = {"changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8")}
    pages |= {f"reference/{name}.md": reference_page(page) for name, page in REFERENCE.items()}
    pages |= {f"examples/{path.stem}.md": example_page(path) for path in sorted(EXAMPLES.glob("example_*.py"))}
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to a source that the site has as a page lead to that page."""

    def page_of(link: re.Match[str]) -> str:
        stem = link[1].removesuffix(".py").removesuffix(".md").replace("dags_examples/", "examples/").lower()
        uri = REFERENCED.get(link[1], f"{stem}.md")
        if files.get_file_from_path(uri) is None:
            return link[0]
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri))

    return SOURCES.sub(page_of, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the roles of Sphinx, which docstrings have for editors, as the name that they name."""
    return ROLE.sub(r"<code>\1</code>", html)


def example_page(path: Path) -> str:
    """An example: its docstring as text, the rest as code."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    described = ast.get_docstring(tree) or ""
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno or 0 :]).strip()
    title = path.stem.removeprefix("example_").replace("_", " ").capitalize()
    return f"# {title}\n\n`dags_examples/{path.name}`\n\n{described}\n\n```python\n{code}\n```\n"


def reference_page(page: Reference) -> str:
    """Directives of mkdocstrings, which reads the docstrings."""
    parts = [f"# {page.title}", page.intro]
    for path, members in page.objects.items():
        shown = {"all": "null", "none": "false"}.get(members, "[" + ", ".join(members.split()) + "]")
        parts.append(f"::: {path}\n    options:\n      members: {shown}\n")
    return "\n\n".join(parts) + "\n"
