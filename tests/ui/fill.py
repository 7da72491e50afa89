"""Give a run of mapped tasks, none of which has run, the look of one with many videos: ``python -m tests.ui.fill``.

A thousand real tasks would take half an hour. What this writes into Airflow's database is what they would leave behind:
states, rendered fields and XComs. Runs in the environment of that Airflow.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import insert, select

PLACES = ("harbour", "market", "desert", "forest", "station", "glacier", "rooftop")
REASONS = ("Your inputs were found to violate our content policy", "Task execution failed", "A face was detected")
FAILS_EVERY = 12


def fill(dag_id: str, run_id: str, video_url: str) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one()
        tasks = session.scalars(
            select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        ).all()
        for task in tasks:
            number = task.map_index
            is_failed = number % FAILS_EVERY == FAILS_EVERY - 1
            task.state = "failed" if is_failed else "success"
            task.try_number = 1
            task.start_date = began + timedelta(seconds=number)
            task.end_date = task.start_date + timedelta(seconds=95)
            task._rendered_map_index = prompt(number)[:40]
            session.execute(
                insert(RenderedTaskInstanceFields).values(**_owner(task), rendered_fields=_rendered(number))
            )
            for key, value in _left_behind(number, is_failed, video_url).items():
                XComModel.set(
                    key=key,
                    value=value,
                    dag_id=dag_id,
                    task_id=task.task_id,
                    run_id=run_id,
                    map_index=number,
                    session=session,
                )
        run.state = "failed"


def prompt(number: int) -> str:
    return f"Shot {number}: a {PLACES[number % len(PLACES)]} in the evening light, slow pan"


def _owner(task: TaskInstance) -> dict[str, Any]:
    if hasattr(RenderedTaskInstanceFields, "task_instance_id"):  # Airflow 3.4
        return {"task_instance_id": task.id}
    return {name: getattr(task, name) for name in ("dag_id", "task_id", "run_id", "map_index")}


def _rendered(number: int) -> dict[str, Any]:
    inputs = {"prompt": prompt(number), "duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"}
    return {"model": "seedance2-fast", "inputs": inputs, "seedance_conn_id": "seedance_default"}


def _left_behind(number: int, is_failed: bool, video_url: str) -> dict[str, Any]:
    task_id = f"task_{number:06d}"
    record = {
        "seedance_task_id": task_id,
        "status": "fail" if is_failed else "success",
        "raw_status": "fail" if is_failed else "success",
        "model": "seedance2-fast",
        "credits_used": "140",
        "outputs": [] if is_failed else [{"url": video_url, "width": 1280, "height": 720, "last_frame_image": None}],
        "failure": {"message": REASONS[number // FAILS_EVERY % len(REASONS)], "code": "1001"} if is_failed else None,
        "create_time": 1_790_000_000_000,
        "complete_time": 1_790_000_060_000 + 1000 * (number % 90),
    }
    return {"seedance_task_id": task_id, "seedance_task": record}


if __name__ == "__main__":
    fill(*sys.argv[1:])
