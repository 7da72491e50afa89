"""What the pages are shown with: each way a video can end, stored copies, and a DAG that not everybody may read."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

SHOTS = [
    "A lighthouse at dawn, waves against the rocks, slow aerial shot",
    "A tram in the rain, neon signs mirrored on the street",
    "A kite over dunes, handheld, warm evening light",
    "A fox in the snow turns its head [[fail:1001:Your inputs were found to violate our content policy]]",
    "A portrait of a violinist [[fail:1002]]",
    "<img src=x onerror=\"document.title='harmed'\"><script>document.title='harmed'</script> \u202egnp.exe",
    "A market at night, crowds and steam",
    "A river delta from above, golden hour [[generating:3600]]",
]
START = datetime(2026, 1, 1, tzinfo=UTC)
STORED = os.environ.get("SEEDANCE_UI_STORED", "file:///tmp/seedance-ui")


def inputs(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"}


with DAG("ui_videos", start_date=START, schedule=None, description="Videos in every state"):
    SeedanceGenerateVideoOperator.partial(
        task_id="clips",
        model="seedance2-fast",
        retries=0,
        budget="campaign",
        budget_credits=5000,
    ).expand(inputs=[inputs(shot) for shot in SHOTS])
    SeedanceGenerateVideoOperator(
        task_id="unknown",
        model="seedance2-fast",
        submit_policy="safe",
        retries=0,
        inputs=inputs("A storm over the sea [[createTask:reset:accept=true]]"),
    )
    SeedanceGenerateVideoOperator(
        task_id="picture",
        model="nanobanana2",
        retries=0,
        deferrable=False,
        inputs={"prompt": "A poster of a lighthouse"},
    )
    create = SeedanceCreateTaskOperator(task_id="create", model="seedance-20", inputs=inputs("A sunset over the ocean"))
    SeedanceTaskSensor(
        task_id="wait",
        seedance_task_id=create.output,
        deferrable=False,
        output_path=STORED + "/{seedance_task_id}-{index}.{ext}",
    )

with DAG("ui_hidden", start_date=START, schedule=None, description="Not everybody may read it"):
    SeedanceGenerateVideoOperator(
        task_id="secret", model="seedance2-fast", deferrable=False, retries=0, inputs=inputs("A secret product launch")
    )


class HouseStyle(SeedanceGenerateVideoOperator):
    """A class that somebody derived from one of ours."""


with DAG("ui_derived", start_date=START, schedule=None, description="Of a class derived from an operator"):
    HouseStyle(
        task_id="styled", model="seedance2-fast", deferrable=False, retries=0, inputs=inputs("A tower, in style")
    )
    EmptyOperator(task_id="of_others")
    HouseStyle.partial(task_id="many", model="seedance2-fast", deferrable=False, retries=0).expand(
        inputs=[inputs("A bridge, in style")]
    )

# Never unpaused: tests/ui/fill.py writes what their tasks would leave behind.
for dag_id, count in (("ui_sixty", 60), ("ui_thousand", 1000)):
    with DAG(dag_id, start_date=START, schedule=None, description=f"{count} videos"):
        SeedanceGenerateVideoOperator.partial(task_id="clips", model="seedance2-fast").expand(
            inputs=[inputs(f"Shot {number}") for number in range(count)]
        )
