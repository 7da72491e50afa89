"""Some points of the crash harness: what is killed there is charged once, wherever that can be decided."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.airflow_processes

TASK_ID = re.compile(r"task_[a-z0-9]{24}")
# One Airflow for all of them, by the tool itself: it wants settings under which a lost worker is noticed in seconds.
FREE = ("before_intent", "id_stored", "deferred", "resuming", "success_taken", "clear_failed", "clear_deferred")
UNKNOWN = {"after_intent": 0, "reply": 1, "clear_unknown": 1, "changed_unknown": 1}
"""Where nobody can know whether a video was charged, and how many were."""
POINTS = (*FREE, *UNKNOWN)


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


@pytest.mark.parametrize("point", FREE)
@pytest.mark.differs(
    "a retry after a crash continues with the same video", "with a [ledger](ledger.md)", "with a ledger", "yes"
)
@pytest.mark.differs(
    "a clear of a waiting task continues with the same video",
    "with a ledger",
    "with a ledger",
    "yes; 3.4 deletes the task state, so with a ledger, or by `keep_task_state` in the REST API",
)
def test_a_crash_or_a_clear_costs_nothing_where_the_next_try_can_know(
    results: dict[str, dict[str, Any]], point: str
) -> None:
    result = results[point]
    assert (result["state"], result["posts"], result["bills"]) == ("success", 1, 1), result["lines"]


def test_a_retry_names_the_task_that_it_continues_with(results: dict[str, dict[str, Any]]) -> None:
    (line,) = results["id_stored"]["lines"]
    assert TASK_ID.search(line)


@pytest.mark.parametrize(("point", "bills"), UNKNOWN.items())
def test_safe_fails_for_manual_review_where_nobody_can_know(
    results: dict[str, dict[str, Any]], point: str, bills: int
) -> None:
    result = results[point]
    assert (result["state"], result["posts"], result["bills"]) == ("failed", bills, bills), result["lines"]
    # No retry is used after the try that says so: of three, or of two where a user's clear made the second.
    assert result["tries"] == 2
    assert "SeedanceSubmitUncertainError" in result["lines"][-1]


@pytest.mark.differs("stopping a deferred task says in the log that the video keeps running", "no", "no", "yes")
def test_a_clear_of_a_deferred_task_keeps_its_video_and_names_it(results: dict[str, dict[str, Any]]) -> None:
    # The first is the trigger's: on_kill.
    stopped, kept = (TASK_ID.search(line) for line in results["clear_deferred"]["lines"])
    assert stopped
    assert kept
    assert stopped[0] == kept[0]
