from __future__ import annotations

import pytest

from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from tests.support.airflow import TaskLog, hurry


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    """What a user reads in the task's log: the worker's lines and, as they appear there too, the trigger's."""
    return TaskLog(monkeypatch, SeedanceHook, SeedanceTaskSensor, SeedanceTaskTrigger)
