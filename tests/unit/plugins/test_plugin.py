"""What Airflow loads in every process: next to nothing, and nothing that serves unless it is wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider import defaults

SCRIPT = """
import json, sys
from airflow.providers.common.compat.sdk import AirflowPlugin, BaseOperator, conf
before = set(sys.modules)
from seedance_provider.plugins import SeedancePlugin
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "apps": [app["url_prefix"] for app in SeedancePlugin.fastapi_apps],
}))
"""


def load(url: str | None) -> dict[str, list[str]]:
    """What a process has once it has imported the plugin."""
    environment = {**os.environ, "AIRFLOW__SEEDANCE__CALLBACK_BASE_URL": url or ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment)
    loaded: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_airflow_finds_the_plugin() -> None:
    (point,) = entry_points(group="airflow.plugins", name="seedance")
    assert point.load().name == "seedance"


def test_without_a_url_nothing_is_served() -> None:
    assert load(None)["apps"] == []


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="nothing is served before Airflow 3.1")
def test_with_a_url_the_receiver_is_served() -> None:
    assert load("https://airflow.example.com")["apps"] == [defaults.CALLBACK_PATH]


@pytest.mark.skipif(AIRFLOW_V_3_1_PLUS, reason="from Airflow 3.1 on the receiver is served")
def test_before_airflow_3_1_nothing_is_served() -> None:
    assert load("https://airflow.example.com")["apps"] == []


def test_every_process_imports_it_for_next_to_nothing() -> None:
    loaded = load("https://airflow.example.com")["modules"]
    foreign = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    ours = {name for name in foreign if name.startswith("seedance_provider")}
    assert ours <= {"seedance_provider", "seedance_provider.defaults", "seedance_provider.plugins"}
    assert {name.partition(".")[0] for name in foreign - ours} <= {"airflow", "packaging"}
    assert len(foreign - ours) <= 20, sorted(foreign - ours)
