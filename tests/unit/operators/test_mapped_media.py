"""A mapped upstream's results as media: Airflow hands a lazy sequence, which must be sent as a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.airflow import run_dag

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

TASKS = """
    @task
    def publish(name):
        return f"https://media.example.com/{name}.png"

    images = publish.expand(name=["first", "last"])
    SeedanceCreateTaskOperator(
        task_id="create", inputs={"prompt": "a fox", "imageUrls": images, "duration": 5.0, "mode": "keyframe"}
    )
"""


@pytest.mark.usefixtures("airflow_database")
def test_what_a_mapped_upstream_returned_is_sent_as_a_list(seedance_emulator: Emulator, tmp_path: Path) -> None:
    outcome = run_dag(tmp_path, TASKS)
    assert outcome["create"].state == "success"
    (made,) = seedance_emulator.server.ledger.tasks.values()
    inputs = made.order.inputs
    assert inputs["imageUrls"] == ["https://media.example.com/first.png", "https://media.example.com/last.png"]
    assert repr(inputs["duration"]) == "5"
