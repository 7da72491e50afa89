"""One video every day, with the day in its prompt, and no second charge by accident.

**To trigger it while it is paused starts two runs**: yours and that of the schedule, since the dialog unpauses the DAG.
With a ledger (`[seedance] ledger_path`) both get one video; without one, both are charged. Unpause it instead: that
creates today's video.

### What it shows

A schedule, a templated prompt, and the settings that keep a scheduled DAG from spending too much:

| Setting | Why |
|:--|:--|
| `idempotency_key` | one video a day: a second run, a retry and a clear get the same one. Needs a ledger |
| `catchup=False` | unpausing creates today's video, not one for every day since `start_date` |
| `max_active_runs=1` | a run that is late does not overlap with the next |
| `submit_policy="safe"` | a createTask of unknown outcome fails, for manual review; "vendor" sends it again |
| `retries` of `create_video` | with "safe", Airflow retries only what was not charged for certain |
| `retries` of `wait_for_video` | always free: a sensor only polls, and the id is still there |

A worker that dies is retried too. Airflow 3.3 and later, or a ledger, know then what was submitted. Without either, set
`retries=0` for `create_video`.

### What it costs

200 credits (about one US dollar) a day by the vendor's price list; nothing with the emulator. A backfill creates, and
charges, one video per day of its range.

### What to look at in the UI

"Rendered Templates" of `create_video` shows the prompt that was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, conf

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

# The day on which a run is due, the same for one of the schedule and one that somebody triggers. Not "{{ ds }}", which
# is the day before on Airflow 2 and undefined where a run of Airflow 3 has no logical date.
DAY = "{{ (data_interval_end | default(none) or dag_run.run_after) | ds }}"
HAS_LEDGER = bool(conf.get("seedance", "ledger_path", fallback=None))

with DAG(
    dag_id="seedance_daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule="@daily",
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
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
        idempotency_key=f"seedance_daily/{DAY}" if HAS_LEDGER else None,
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
        timeout=timedelta(hours=1),
    )
