from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_public_surface_has_the_types_its_users_rely_on() -> None:
    pytest.importorskip("mypy")
    pytest.importorskip("airflow.sdk", reason="types are checked against Airflow 3")
    # With the repository's settings (strict) and cache, so that after the gate's own run it takes seconds.
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--warn-unused-ignores", "tests/typing/public_api.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "seedance_provider" / "py.typed").is_file()
