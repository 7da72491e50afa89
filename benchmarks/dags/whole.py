"""Three DAGs of mapped tasks that defer once for as long: videos, a trigger that sleeps, and that after a POST."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseHook, BaseOperator

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

TASKS = int(os.environ.get("BENCH_TASKS", "20"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))


class DefersOnce(BaseOperator):
    """The least that a deferrable operator does: it defers, and returns something."""

    def __init__(self, *, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> None:
        """Defer."""
        del context
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=SECONDS)), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> int:
        """Return what goes into XCom."""
        del context, event
        return self.number


class PostsAndDefers(DefersOnce):
    """What any operator does that starts something elsewhere: a POST to a connection, an id in XCom, a deferral."""

    def execute(self, context: Any) -> None:
        """POST, push the id, and defer."""
        import requests

        connection = BaseHook.get_connection("seedance_default")
        task = {"model": "seedance-20", "inputs": {"prompt": f"Shot {self.number:03}", "duration": 5}}
        key = {"Authorization": f"Bearer {connection.password}", "User-Agent": "bench"}
        url = f"{connection.host}:{connection.port}/api/v1/jobs/createTask"
        answer = requests.post(url, json=task, headers=key, timeout=30)
        context["ti"].xcom_push(key="task_id", value=answer.json()["taskId"])
        super().execute(context)


with DAG("bench_defers", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), max_active_tasks=1000):
    DefersOnce.partial(task_id="task").expand(number=list(range(TASKS)))

with DAG("bench_posts", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), max_active_tasks=1000):
    PostsAndDefers.partial(task_id="task").expand(number=list(range(TASKS)))

with DAG("bench_generates", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), max_active_tasks=1000):
    SeedanceGenerateVideoOperator.partial(task_id="task", poll_interval=5).expand(
        inputs=[{"prompt": f"Shot {number:03}", "duration": 5} for number in range(TASKS)]
    )
