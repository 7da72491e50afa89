from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import seedance_provider.testing

if TYPE_CHECKING:
    from pathlib import Path

USERS_TESTS = """
import json, os, time, urllib.request
import pytest

def create(url):
    body = json.dumps({"model": "seedance-20", "inputs": {"prompt": "a"}}).encode()
    headers = {"Authorization": "Bearer emulator-key", "User-Agent": "tests"}
    return json.load(urllib.request.urlopen(urllib.request.Request(url + "/api/v1/jobs/createTask", body, headers)))

def test_the_connection_points_at_the_running_emulator(seedance_emulator):
    connection = json.loads(os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"])
    url = f"{connection['host']}:{connection['port']}"
    assert url == seedance_emulator.url
    assert create(url)["taskId"]
    assert seedance_emulator.bill()["tasks_created"] == 1

def test_each_test_has_a_fresh_one(seedance_emulator):
    assert seedance_emulator.bill()["tasks_created"] == 0
    assert seedance_emulator.settings.generating_seconds == 0.1

@pytest.mark.seedance_emulator(dialect="seed", credits=10)
def test_the_marker_sets_options(seedance_emulator):
    assert seedance_emulator.settings.dialect == "seed"
    assert seedance_emulator.bill()["credits_left"] == 10

class TestOverridden:
    @pytest.fixture
    def seedance_emulator_settings(self):
        return {"concurrency_limit": 1, "waiting_seconds": 9}

    @pytest.mark.seedance_emulator(waiting_seconds=2)
    def test_the_settings_fixture_sets_options_and_the_marker_wins(self, seedance_emulator):
        assert seedance_emulator.settings.concurrency_limit == 1
        assert seedance_emulator.settings.waiting_seconds == 2

def test_the_start_is_quick(seedance_emulator):
    from seedance_provider.testing import Emulator
    def start():
        started = time.perf_counter()
        with Emulator():
            return time.perf_counter() - started
    assert min(start() for _ in range(5)) < 0.05
"""


def test_the_fixture_in_a_users_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", raising=False)
    plugin = ["-p", "seedance_provider.testing.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", *plugin, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "5 passed" in finished.stdout, finished.stdout + finished.stderr


def modules_after(imports: str) -> set[str]:
    code = f"import {imports}; import sys; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(finished.stdout.split())


def test_importing_the_plugin_and_the_package_loads_no_server() -> None:
    loaded = modules_after("seedance_provider.testing.pytest_plugin, seedance_provider.testing")
    assert not loaded & {"aiohttp", "airflow", "requests", "pydantic", "seedance_provider.testing.emulator"}


def test_the_emulator_shares_nothing_with_the_provider() -> None:
    loaded = modules_after("seedance_provider.testing.emulator.__main__")
    own = {name for name in loaded if name.startswith("seedance_provider.")}
    assert {name for name in own if not name.startswith("seedance_provider.testing")} == set()
    assert not loaded & {"airflow", "requests", "pydantic"}


def test_the_package_offers_the_emulator_and_nothing_else() -> None:
    assert seedance_provider.testing.Emulator.__name__ == "Emulator"
    with pytest.raises(AttributeError, match="Simulator"):
        _ = seedance_provider.testing.Simulator
