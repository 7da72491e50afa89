"""Two DAGs of one shape: a video, and nothing but sleep with Airflow's own deferrable sensor."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor


class SleepSensor(TimeDeltaSensor):
    """Airflow's sensor, counting from its own start: its own base time is the start of the run."""

    def _derive_base_time(self, context: Any) -> datetime:
        del context
        return datetime.now(UTC)


def nothing() -> None:
    """A task that runs on a worker, as creating does."""


with DAG("bench_video", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), max_active_runs=100):
    create = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "A sunset", "duration": 5})
    SeedanceTaskSensor(task_id="wait", seedance_task_id=create.output)

with DAG("bench_sleep", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), max_active_runs=100):
    PythonOperator(task_id="create", python_callable=nothing) >> SleepSensor(
        task_id="wait", delta=timedelta(seconds=float(os.environ.get("BENCH_SECONDS", "60"))), deferrable=True
    )
