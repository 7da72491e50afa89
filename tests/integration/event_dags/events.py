"""Tasks of every kind and mode with asset outlets, and what starts from them; for tests/integration/test_events.py."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, PartitionedAssetTimetable, task

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

COMMON: dict[str, Any] = {"start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}
MODES: dict[str, dict[str, Any]] = {
    "deferred": {},
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
}
PARTITIONED = Asset("tested_partitioned")
STORED = AssetAlias("tested_stored")
SECRET = "nobody else may read this prompt"


def one_partition_per_video(context: Any, result: Any = None) -> None:
    """As docs/events.md has it."""
    event = context["outlet_events"][PARTITIONED]
    event.add_partitions(event.extra["seedance_task_id"])


with DAG("events_made", schedule=None, **COMMON):
    create = SeedanceCreateTaskOperator(
        task_id="create",
        inputs={
            "prompt": SECRET,
            "duration": 5,
            "outputResolution": "720p",
            "imageUrls": ["https://media.example.com/shop/morning.png?X-Amz-Signature=f00d"],
            "mode": "keyframe",
        },
        outlets=[Asset("tested_create")],
    )
    for name, mode in MODES.items():
        SeedanceTaskSensor(
            task_id=f"wait_{name}", seedance_task_id=create.output, outlets=[Asset(f"tested_{name}")], **mode
        )
    SeedanceGenerateVideoOperator(
        task_id="fail",
        inputs={"prompt": f"{SECRET} [[fail:2038]]", "duration": 5},
        outlets=[Asset("tested_fail"), AssetAlias("tested_clips")],
    )
    SeedanceGenerateVideoOperator(
        task_id="stored",
        inputs={"prompt": "a fox", "duration": 5},
        output_path=f"file://{Path.home()}/tested/fox #1.{{ext}}",
        outlets=[STORED, Asset("tested_file")],
    )
    SeedanceGenerateVideoOperator.partial(
        task_id="each", outlets=[PARTITIONED], post_execute=one_partition_per_video
    ).expand(inputs=[{"prompt": prompt, "duration": 5} for prompt in ("a paper boat", "a paper plane")])

with DAG("events_by_partition", schedule=PartitionedAssetTimetable(assets=PARTITIONED), **COMMON):

    @task
    def show(**context: Any) -> Any:
        """Tell which video the run is for."""
        return context["dag_run"].partition_key

    show()

with DAG("events_by_alias", schedule=[STORED], **COMMON):

    @task
    def read(**context: Any) -> list[Any]:
        """Tell which files the run is for."""
        return [event.extra["paths"] for event in context["triggering_asset_events"][STORED]]

    read()
