"""Two real API servers behind a proxy with a sub-path: each video is announced once, a lost answer is found, a flood
is turned away.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.airflow_processes,
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 and later have the receiver"),
]
VIDEOS = 8
REQUESTS = 500


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "devtools" / "callbacks.py"), "--json", "--place", "ledger"]
    command += ["--requests", str(REQUESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout, done.stderr
    (results,) = json.loads(done.stdout)
    return dict(results)


def test_each_video_is_announced_once_though_each_callback_comes_twice(measured: dict[str, Any]) -> None:
    assert measured["deliveries"] == 2 * VIDEOS
    assert measured["announced"] == len(measured["consumed"]) == len(set(measured["consumed"])) == VIDEOS


def test_no_task_polls_and_the_receiver_asks_once_for_each_video(measured: dict[str, Any]) -> None:
    assert measured["polls"] == VIDEOS


def test_the_next_dag_starts_seconds_after_the_video(measured: dict[str, Any]) -> None:
    assert max(measured["run_seconds"]) < 60


@pytest.mark.parametrize("policy", ["vendor", "safe"])
def test_a_lost_answer_is_found_and_charged_once(measured: dict[str, Any], policy: str) -> None:
    assert measured["lost"][policy] == ["success", 1, 1]


def test_a_flood_gets_nowhere_and_keeps_nobody_out(measured: dict[str, Any]) -> None:
    flood = measured["flood"]
    assert set(flood["statuses"]) <= {"404", "429", "hung up"}
    assert sum(flood["statuses"].values()) == REQUESTS
    assert flood["polls"] == 1  # of the genuine callback
    assert flood["genuine_event_seconds"] < 30
    assert flood["memory_after"] - flood["memory_before"] < 100
