"""Two DAGs: one generates videos, the other starts by itself when there is one, and stores it.

Unpause both, then trigger `seedance_assets_generate`.

### What it shows

An `Asset` as an outlet of `SeedanceGenerateVideoOperator`. Each video is an event of the asset; its `extra` has
`seedance_task_id`, `model`, `urls`, `paths`, `credits` and `seconds`. The second DAG is scheduled on the asset.

It takes an event as a call to look at all of the latest, not only at those that started the run: of two videos that end
in the same second, Airflow may start a run for the first and keep the second for the run after the next event. So what
handles a video must be repeatable. `SeedanceToObjectStorageOperator` is: what is stored is not fetched again.

If storing is all you want, `output_path` of the first DAG's task does it with less. Put here what is a matter of
another team, or of another schedule.

### What it costs

| | Credits |
|:--|--:|
| two videos of 5 seconds at 720p with `seedance2-fast`, by the vendor's price list | 280 |
| with the emulator, and the second DAG | 0 |

### What to look at in the UI

Under Assets, `seedance_videos` shows the events, each with its `extra`, and the runs that they started.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator

VIDEOS = Asset("seedance_videos")
LATEST = 100  # more than can end while a run waits to be started
COMMON: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "tags": ["seedance", "example"],
    "doc_md": __doc__,
}

with DAG(
    dag_id="seedance_assets_generate",
    description="Generates two videos; each is an event of the asset seedance_videos.",
    schedule=None,
    **COMMON,
):
    SeedanceGenerateVideoOperator.partial(task_id="make_video", model="seedance2-fast", outlets=[VIDEOS]).expand(
        inputs=[
            {"prompt": prompt, "duration": 5, "outputResolution": "720p", "aspectRatio": "9:16"}
            for prompt in ("A paper boat in the rain", "A paper plane over the sea")
        ]
    )

with DAG(
    dag_id="seedance_assets_store",
    description="Starts when there is a video, and stores it.",
    schedule=[VIDEOS],
    max_active_runs=1,  # two runs would store the same
    params={"folder": f"file://{Path.home()}/seedance-videos"},
    **COMMON,
):

    @task(inlets=[VIDEOS])
    def list_videos(**context: Any) -> list[str]:
        """The ids of the latest events, each once. An event that somebody made by hand in the UI has none."""
        extras = [event.extra for event in context["inlet_events"][VIDEOS][-LATEST:]]
        return sorted({extra["seedance_task_id"] for extra in extras if extra.get("seedance_task_id")})

    SeedanceToObjectStorageOperator.partial(
        task_id="store_video",
        output_path="{{ params.folder }}/{seedance_task_id}.{ext}",
        map_index_template="{{ task.seedance_task_id }}",
    ).expand(seedance_task_id=list_videos())
