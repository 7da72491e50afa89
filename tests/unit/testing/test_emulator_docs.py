"""docs/emulator.md and docs/testing-your-dags.md, held to the code: its tables, and what it tells a user to write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from seedance_provider.testing.emulator import script
from seedance_provider.testing.emulator.faults import FAULTS
from seedance_provider.testing.emulator.settings import Settings

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "emulator.md").read_text()


def code_block(page: str, first_line: str) -> str:
    text = (DOCS / page).read_text()
    found = re.search(rf"```python\n{re.escape(first_line)}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_on_the_page_with_its_parameters(name: str) -> None:
    (described,) = {line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")} or {PAGE}
    assert f"`{name}`" in described
    for parameter in set(FAULTS[name].parameters()) - {"accept"}:
        assert f"`{parameter}`" in described or described.startswith("| `chunk_cut`")


def test_every_fault_on_the_page_exists() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\|$", PAGE.partition("## Faults")[2], re.MULTILINE)
    assert len(rows) > 15
    assert set(rows) <= set(FAULTS)


@pytest.mark.parametrize("accepts", [name for name, kind in FAULTS.items() if kind.kind == "reply"])
def test_faults_that_accept_by_default_say_so(accepts: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{accepts}` |")]
    default = script.parse({"fault": accepts}).to_json()["accept"]
    assert ("`accept` true" in row or accepts == "chunk_cut") == default


def test_every_directive_on_the_page_can_be_written() -> None:
    table = PAGE.partition("### Directives")[2].partition("##")[0]
    written = re.findall(r"`(\[\[.*?\]\])`", table)
    assert len(written) > 20
    for directive in written:
        found = script.directives(directive)
        assert len(found.on_create) + len(found.on_task) == 1, directive
    for word in (word for kind in FAULTS.values() for word in kind.short):
        assert f"[[{word}" in table


def test_every_setting_is_on_the_page() -> None:
    for setting in fields(Settings):
        assert f"`{setting.name}`" in PAGE


USERS_DAG = """
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

with DAG("clips", schedule=None) as my_dag:
    create = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox"})
    SeedanceTaskSensor(task_id="wait", seedance_task_id=create.output)
"""

USERS_TEST = """
def test_my_dag(seedance_emulator):
    from dags.my_dags import my_dag
    assert my_dag.test().state == "success"
    bill = seedance_emulator.bill()
    assert (bill["tasks_created"], bill["credits_spent"]) == (1, 200)
"""


def test_a_users_dag_runs_with_the_conftest_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "my_dags.py").write_text(USERS_DAG)
    (tmp_path / "conftest.py").write_text(code_block("testing-your-dags.md", "# conftest.py"))
    (tmp_path / "test_clips.py").write_text(USERS_TEST)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    plugin = ["-p", "seedance_provider.testing.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, str(tmp_path)]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert not (tmp_path / "airflow").exists()
