"""One video every day, with the day in its prompt, and no way to spend more by accident.

What it shows: a schedule; a templated prompt; and the settings that keep a scheduled DAG from spending more than it
should:

- ``catchup=False``: unpausing the DAG makes today's video, not one for every day since ``start_date``.
- ``max_active_runs=1``: a day that is late does not pile up on the next.
- ``submit_policy="safe"`` with ``retries``: Airflow tries ``create_video`` again only after errors that certainly
  bought nothing (no connection). A request of unknown fate fails the task at once, and its message says where to look.
  With the default policy, "vendor", a retry after a server error might buy a second video. A worker that dies is
  retried too: Airflow 3.3 and later remember the request over that; older versions do not, so take ``retries=0`` for
  ``create_video`` there if a second video is worse than none.
- ``retries`` on ``wait_for_video`` are always free: a sensor only reads, and the id is still there.

What it costs: 200 credits (about one US dollar) a day on the vendor's public price list; nothing against the emulator.
A backfill makes, and bills, one video per day of its range.

What to look at in the UI: "Rendered Templates" of ``create_video`` shows the prompt that was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

# Not "{{ ds }}": on Airflow 3 a manual run may have no logical date, and "ds" is undefined then. The second half is
# evaluated only there.
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
            # Always say these: their defaults differ between versions of the API, and so does the price.
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
