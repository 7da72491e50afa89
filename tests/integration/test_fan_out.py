"""More videos than the account runs at once: each is made once, and no Airflow retry is used."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.airflow_processes

VIDEOS, LIMIT = 12, 3


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "devtools" / "fan_out.py"), "--json", "--generation", "15"]
    command += ["--poll-interval", "1", "--videos", str(VIDEOS), "--limit", str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout, done.stderr
    fields: dict[str, Any] = json.loads(done.stdout)
    return fields


def test_every_video_is_made_exactly_once(report: dict[str, Any]) -> None:
    assert (report["state"], report["made_once"], report["created"]) == ("success", VIDEOS, VIDEOS)


def test_no_airflow_retry_is_used(report: dict[str, Any]) -> None:
    assert report["tries"] == 1


def test_refusals_are_few(report: dict[str, Any]) -> None:
    """Whether a newcomer takes the slot that a waiter was woken for is chance; that all ask in vain is not."""
    assert report["posts"] == VIDEOS + report["refusals"]
    assert report["avoidable"] <= VIDEOS


def test_each_idle_second_of_a_slot_has_a_reason(report: dict[str, Any]) -> None:
    idle = LIMIT * report["wall"] - VIDEOS * report["generation"]
    assert sum(report["idle"].values()) == pytest.approx(idle, abs=1)
    assert min(report["idle"].values()) >= 0
