from __future__ import annotations

import pytest

from seedance_provider.hooks.seedance import SeedanceHook
from tests.support.airflow import TaskLog, hurry


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceHook)
