"""Two DAGs: one generates videos, the other starts by itself and handles each of them.

What it shows: an ``Asset`` as an outlet of ``SeedanceGenerateVideoOperator``. Each video is an event of the asset; its
``extra`` has ``seedance_task_id``, ``model``, ``urls``, ``paths``, ``credits`` and ``seconds``. The second DAG is
scheduled on the asset. Airflow may put several events into one run, so it loops over all of them, by a mapped task.

Make what handles a video repeatable, for instance by writing to a path made of its ``seedance_task_id``: a clear runs
it again, and on some versions of Airflow one event has started two runs.

``urls`` come without their query: an event is no place for a signature. Where the vendor signs its URLs, take the file
from ``paths`` (with ``output_path``), or a fresh URL from ``SeedanceHook().get_task(seedance_task_id).urls``.

What it costs: two videos of 5 seconds at 720p with ``seedance2-fast``, 140 credits each by the vendor's price list;
nothing with the emulator. The second DAG costs nothing.

What to look at in the UI: unpause both DAGs and trigger ``seedance_assets_generate``. Under Assets, ``seedance_videos``
shows the events, each with its ``extra``, and the runs that they started.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

VIDEOS = Asset("seedance_videos")
COMMON: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "tags": ["seedance", "example"],
    "doc_md": __doc__,
}

with DAG(dag_id="seedance_assets_generate", schedule=None, **COMMON):
    SeedanceGenerateVideoOperator.partial(task_id="make_video", model="seedance2-fast", outlets=[VIDEOS]).expand(
        inputs=[
            {"prompt": prompt, "duration": 5, "outputResolution": "720p", "aspectRatio": "9:16"}
            for prompt in ("A paper boat in the rain", "A paper plane over the sea")
        ]
    )

with DAG(dag_id="seedance_assets_handle", schedule=[VIDEOS], **COMMON):

    @task
    def list_videos(**context: Any) -> list[dict[str, Any]]:
        """One item per event. An event that somebody made by hand in the UI has no video."""
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        extras = [event.extra for of_asset in events.values() for event in of_asset]
        return [extra for extra in extras if extra.get("seedance_task_id")]

    @task(map_index_template="{{ task.op_kwargs['video']['seedance_task_id'] }}")
    def transcode(video: dict[str, Any]) -> str:
        """A placeholder for ffmpeg: this one names the file that it would write."""
        print(f"Transcoding {video['urls'][0]}")
        return f"{video['seedance_task_id']}_480p.mp4"

    transcode.expand(video=list_videos())
