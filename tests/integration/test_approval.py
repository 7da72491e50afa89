"""The examples that ask a person, on real Airflow processes: the test fills in their forms over the REST API."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devtools.local_airflow import LocalAirflow
    from tests.integration.conftest import RealAirflow

pytestmark = [
    pytest.mark.airflow_processes,
    pytest.mark.slow,
    pytest.mark.skipif(Version(airflow_version) < Version("3.1"), reason="Airflow 3.1 brought the forms"),
]

PLAN = "seedance_approve_plan"
REVIEW = "seedance_review_videos"
LIGHTHOUSE, TRAM = 0, 1  # map indexes


class Person:
    """Somebody who answers the forms of one run; the emulator's clock runs while they wait for one."""

    def __init__(self, real_airflow: RealAirflow, dag_id: str) -> None:
        self.airflow: LocalAirflow = real_airflow.airflow
        self.vendor = real_airflow.current
        self.dag_id = dag_id
        self.run_id = self.airflow.trigger_dag(dag_id)

    def answer(self, task_id: str, *options: str, map_index: int = -1, **params: str) -> dict[str, Any]:
        """Answer a form when it is there, and return what it showed."""
        path = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}/{map_index}/hitlDetails"
        deadline = time.monotonic() + 180
        while not self._is_asked(task_id, map_index):
            assert time.monotonic() < deadline, self.states()
            self.vendor.turn_clock(120)
            time.sleep(0.3)
        form: dict[str, Any] = self.airflow.api("GET", path)
        self.airflow.api("PATCH", path, json={"chosen_options": list(options), "params_input": params})
        return form

    def _is_asked(self, task_id: str, map_index: int) -> bool:
        """Whether the form is there, and the scheduler knows: it fails a task that is answered before (issue 66374)."""
        key = (task_id, map_index)
        instances = self.airflow.task_instances(self.dag_id, self.run_id)
        for ti in (ti for ti in instances if (ti["task_id"], ti["map_index"]) == key):
            # Before Airflow 3.3 the triggerer waits for the answer.
            if ti["state"] in ("awaiting_input", "deferred"):
                where = f"run_id='{self.run_id}', try_number={ti['try_number']}, map_index={map_index})"
                noted = f"executor event with state success for task instance TaskInstanceKey(dag_id='{self.dag_id}', "
                return f"{noted}task_id='{task_id}', {where}" in self.airflow.process_log_path("scheduler").read_text()
        return False

    def wait(self) -> str:
        """Wait for the end of the run."""
        return self.airflow.wait_for_run(
            self.dag_id, self.run_id, timeout=240, watch=lambda _tasks: self.vendor.turn_clock(120)
        )

    def clear(self, *task_ids: str) -> None:
        """Clear tasks and what is downstream of them, as the UI does."""
        body = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": list(task_ids), "include_downstream": True}
        self.airflow.api("POST", f"dags/{self.dag_id}/clearTaskInstances", json={**body, "only_failed": False})

    def states(self) -> dict[str, Counter[str]]:
        """How many instances of each task are in which state."""
        found: dict[str, Counter[str]] = {}
        for ti in self.airflow.task_instances(self.dag_id, self.run_id):
            found.setdefault(ti["task_id"].removeprefix("clip."), Counter())[str(ti["state"])] += 1
        return found

    def submitted(self) -> list[str]:
        """The prompts that were charged."""
        return sorted(task["prompt"] for task in self.vendor.emulator.bill()["tasks"])


@pytest.fixture(autouse=True)
def _own_bill(real_airflow: RealAirflow) -> Iterator[None]:
    real_airflow.current.emulator.reset()
    yield
    real_airflow.current.emulator.reset()


@pytest.mark.differs("forms for [approval](spending.md#approval)", "no", "from 3.1", "yes")
def test_approve_plan_submits_what_was_approved_and_charges_each_video_once(real_airflow: RealAirflow) -> None:
    person = Person(real_airflow, PLAN)
    form = person.answer("approve", "Approve")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in form["body"].splitlines()[2:]]
    assert rows == [
        ["A lighthouse at dawn", "seedance2-fast", "140"],
        ["A tram in the rain", "seedance2-fast", "140"],
        ["A kite over dunes", "seedance2.0-mini", "100"],
        ["**In all**", "", "**380**"],
    ]
    assert person.wait() == "success"
    assert person.states()["make_video"] == {"success": 3}
    assert person.submitted() == ["A kite over dunes", "A lighthouse at dawn", "A tram in the rain"]
    assert person.vendor.emulator.bill()["credits_spent"] == 380


def test_approve_plan_submits_nothing_after_a_rejection_also_if_it_was_approved_before(
    real_airflow: RealAirflow,
) -> None:
    person = Person(real_airflow, PLAN)
    person.answer("approve", "Reject")
    assert person.wait() == "success"
    assert person.states()["make_video"] == {"skipped": 1}
    assert person.submitted() == []

    person.clear("approve")
    person.answer("approve", "Approve")
    assert person.wait() == "success"
    assert len(person.submitted()) == 3

    person.clear("approve")
    person.answer("approve", "Reject")
    assert person.wait() == "success"
    assert len(person.submitted()) == 3
    assert "success" not in person.states()["make_video"]


def test_approve_plan_lets_nobody_approve_a_new_plan_by_its_old_form(real_airflow: RealAirflow) -> None:
    person = Person(real_airflow, PLAN)
    person.answer("approve", "Reject")
    assert person.wait() == "success"
    person.clear("write_plan")
    assert person.wait() == "failed"
    assert person.states()["approve"] == {"upstream_failed": 1}
    assert person.submitted() == []


def test_review_videos_accepts_a_video_or_resubmits_it_until_no_round_is_left(real_airflow: RealAirflow) -> None:
    person = Person(real_airflow, REVIEW)
    form = person.answer("clip.review_1", "Accept", map_index=LIGHTHOUSE)
    assert f"({person.vendor.emulator.url}/videos/" in form["body"]
    person.answer("clip.review_1", "Resubmit", map_index=TRAM, prompt="A tram in the snow")
    person.answer("clip.review_2", "Resubmit", map_index=TRAM, prompt="")
    last = person.answer("clip.review_3", "Reject", map_index=TRAM)
    assert last["options"] == ["Accept", "Reject"]
    assert person.wait() == "success"
    prompts = ["A lighthouse at dawn", "A tram in the rain", "A tram in the rain", "A tram in the snow"]
    assert person.submitted() == prompts
    assert person.vendor.emulator.bill()["credits_spent"] == 4 * 140
    (first,) = [task for task in person.vendor.emulator.bill()["tasks"] if "lighthouse" in task["prompt"]]
    accepted = person.airflow.xcom(REVIEW, person.run_id, "clip.accepted", map_index=LIGHTHOUSE)
    assert accepted == [f"{person.vendor.emulator.url}/videos/{first['taskId']}.mp4"]
    assert person.states()["accepted"] == {"success": 1, "skipped": 1}


def test_review_videos_takes_a_resubmitted_video_and_a_rejection(real_airflow: RealAirflow) -> None:
    person = Person(real_airflow, REVIEW)
    person.answer("clip.review_1", "Reject", map_index=LIGHTHOUSE)
    person.answer("clip.review_1", "Resubmit", map_index=TRAM)
    person.answer("clip.review_2", "Accept", map_index=TRAM)
    assert person.wait() == "success"
    assert person.submitted() == ["A lighthouse at dawn", "A tram in the rain", "A tram in the rain"]
    second = person.vendor.emulator.bill()["tasks"][-1]
    accepted = person.airflow.xcom(REVIEW, person.run_id, "clip.accepted", map_index=TRAM)
    assert accepted == [f"{person.vendor.emulator.url}/videos/{second['taskId']}.mp4"]
    assert person.states()["accepted"] == {"success": 1, "skipped": 1}
    assert person.states()["make_3"] == {"skipped": 2}
