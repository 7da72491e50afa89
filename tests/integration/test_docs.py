"""The DAGs in the pages run as they are, on every Airflow."""

from __future__ import annotations

import ast
import inspect
import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT
from tests.support.airflow import only_bundle
from tests.support.examples import load_examples, run_example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = {
    name: code
    for page in PAGES
    for code, name in re.findall(r"```python\n(# dags/(\w+)\.py\n.*?)```", page.read_text("utf-8"), re.DOTALL)
}


KINDS = ("CreateTaskOperator", "TaskSensor", "GenerateVideoOperator", "ToObjectStorageOperator", "Hook", "Ledger")


@pytest.mark.parametrize("kind", [*(f"Seedance{name}" for name in KINDS), "@task.seedance"])
def test_each_kind_of_task_has_a_dag_in_the_pages(kind: str) -> None:
    assert any(re.search(rf"{kind}(\.partial)?\(", code) for code in FILES.values())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.seedance_emulator(waiting_seconds=0.05, generating_seconds=0.1)
@pytest.mark.usefixtures("airflow_database", "seedance_emulator")
def test_a_dag_in_the_pages_runs_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__POLL_INTERVAL", "0.1")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    dags = tmp_path / "dags"
    dags.mkdir()
    # The pages are written for Airflow 3, and say what is imported otherwise before.
    code = FILES[name].replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    (dags / f"{name}.py").write_text(code.replace("file:///tmp/", f"file://{tmp_path}/"))
    with only_bundle(dags):
        bag = load_examples(dags)
        assert bag.import_errors == {}
        (dag,) = bag.dags.values()
        assert run_example(dag).state == "success"


def blocks(language: str) -> list[Any]:
    found = (
        (page.name, code)
        for page in PAGES
        for code in re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    )
    return [pytest.param(code, id=f"{name}-{number}") for number, (name, code) in enumerate(found)]


def parameters(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]


def calls(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Each call of a class of ours, ``partial`` included, with its keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr == "partial":
                called = called.value
            if isinstance(called, ast.Name):
                yield called.id, [keyword.arg for keyword in node.keywords if keyword.arg is not None]


PUBLIC = {
    "SeedanceCreateTaskOperator": "seedance_provider.operators.seedance",
    "SeedanceGenerateVideoOperator": "seedance_provider.operators.seedance",
    "SeedanceTaskSensor": "seedance_provider.sensors.seedance",
    "SeedanceToObjectStorageOperator": "seedance_provider.transfers.seedance_to_object_storage",
    "SeedanceHook": "seedance_provider.hooks.seedance",
    "SeedanceLedger": "seedance_provider.execution.ledger",
    "SeedanceNotifier": "seedance_provider.notifications.seedance",
}


@pytest.mark.parametrize("code", blocks("python"))
def test_python_in_the_pages_imports_what_exists_and_gives_parameters_that_exist(code: str) -> None:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seedance_provider"):
            if node.module == "seedance_provider.retries":
                pytest.importorskip(node.module, reason="Airflow 3.3 and later", exc_type=ImportError)
            module = import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    for name, keywords in calls(tree):
        if name in PUBLIC:
            assert set(keywords) <= parameters(getattr(import_module(PUBLIC[name]), name)), name


@pytest.mark.parametrize("text", blocks("json"))
def test_json_in_the_pages_can_be_read(text: str) -> None:
    json.loads(text)
