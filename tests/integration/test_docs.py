"""The DAGs in the pages run as they are, on every Airflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.airflow import only_bundle
from tests.support.examples import load_examples, run_example

if TYPE_CHECKING:
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
