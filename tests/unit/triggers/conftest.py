from __future__ import annotations

import pytest

from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from seedance_provider.triggers.slots import SeedanceSlotTrigger
from tests.support.airflow import TaskLog, hurry


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    """What the triggers write into the task's log."""
    return TaskLog(monkeypatch, SeedanceTaskTrigger, SeedanceSlotTrigger)
