"""One video every day, with the day in its prompt, and no second charge by accident.

What it shows: a schedule; a templated prompt; and the settings that keep a scheduled DAG from spending too much:

- ``catchup=False``: unpausing the DAG creates today's video, not one for every day since ``start_date``.
- ``max_active_runs=1``: a run that is late does not overlap with the next.
- ``submit_policy="safe"`` with ``retries``: Airflow retries ``create_video`` only after errors that charged nothing for
  certain (no connection). A createTask of unknown outcome fails the task at once, for manual review. With the default
  policy, "vendor", it is sent again and may be charged twice. A worker that dies is retried too: Airflow 3.3 and later
  then know what was submitted. Older versions do not, so set ``retries=0`` for ``create_video`` there.
- ``retries`` of ``wait_for_video`` are always free: a sensor only polls, and the id is still there.

What it costs: 200 credits (about one US dollar) a day by the vendor's price list; nothing with the emulator. A backfill
creates, and charges, one video per day of its range.

What to look at in the UI: "Rendered Templates" of ``create_video`` shows the prompt that was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

# Not "{{ ds }}": on Airflow 3 a manual run may have no logical date, and "ds" is undefined then. Only there the part
# after "or" is evaluated.
DAY = "{{ (logical_date | default(none) or dag_run.run_after) | ds }}"

with DAG(
    dag_id="seedance_daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule="@daily",
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
    tags=["seedance", "example"],
    doc_md=__doc__,
):
    create_video = SeedanceCreateTaskOperator(
        task_id="create_video",
        model="seedance-20",
        inputs={
            "prompt": f"A calendar page that reads {DAY} turns over, soft morning light",
            # Always set these: their defaults differ between versions of the API, and so does the price.
            "duration": 5,
            "outputResolution": "720p",
            "aspectRatio": "16:9",
        },
        submit_policy="safe",
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
        timeout=timedelta(hours=1),
    )
