"""Some points of the crash harness: what is killed there is paid once, wherever that can be decided."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.airflow_processes

# One Airflow for all of them, by the tool itself: it wants settings under which a lost worker is noticed in seconds.
POINTS = ("before_intent", "after_intent", "reply", "id_stored", "deferred", "resuming", "clear_deferred")


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    command = [sys.executable, str(ROOT / "devtools" / "crash_harness.py"), "--json", "--way", "generate"]
    command += ["--policy", "safe"]
    for point in POINTS:
        command += ["--point", point]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout, done.stderr
    return {result["case"]["point"]: result for result in json.loads(done.stdout)}


@pytest.mark.parametrize("point", [point for point in POINTS if point != "clear_deferred"])
def test_the_kill_happened(results: dict[str, dict[str, Any]], point: str) -> None:
    assert results[point]["killed"]


@pytest.mark.parametrize("point", ["before_intent", "id_stored", "deferred", "resuming"])
def test_a_crash_costs_nothing_where_the_retry_can_know(results: dict[str, dict[str, Any]], point: str) -> None:
    result = results[point]
    assert (result["state"], result["posts"], result["bills"]) == ("success", 1, 1), result["lines"]


def test_a_retry_says_that_it_continues_with_the_same_video(results: dict[str, dict[str, Any]]) -> None:
    (line,) = results["id_stored"]["lines"]
    assert "Continuing with task task_" in line


@pytest.mark.parametrize(("point", "bills"), [("after_intent", 0), ("reply", 1)])
def test_safe_asks_a_person_where_nobody_can_know(results: dict[str, dict[str, Any]], point: str, bills: int) -> None:
    result = results[point]
    assert (result["state"], result["posts"], result["bills"]) == ("failed", bills, bills)
    # The second of three tries: no retry is burnt on it.
    assert result["tries"] == 2
    error = result["lines"][-1]
    assert "SeedanceSubmitUncertainError" in error
    assert "a video may have been bought" in error


def test_a_clear_of_a_deferred_task_keeps_its_video_and_says_so(results: dict[str, dict[str, Any]]) -> None:
    result = results["clear_deferred"]
    assert (result["state"], result["posts"], result["bills"]) == ("success", 1, 1), result["lines"]
    # The first is the trigger's: on_kill.
    stopped, kept = result["lines"]
    assert "cannot be cancelled: it goes on and is billed" in stopped
    assert "it is kept, nothing is bought" in kept
