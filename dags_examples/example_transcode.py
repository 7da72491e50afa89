"""Two DAGs that know nothing of each other: one makes clips, the other makes a preview of each as soon as it is there.

Needs ffmpeg on the worker. Unpause both, then trigger `seedance_make_clips`.

### What it shows

`outlets`. When `make_clip` has stored its file, the asset `seedance-clips` changes, and Airflow starts every DAG that
is scheduled on it. The event of the change carries what the video is, `paths` among it.

The second DAG looks at the latest events, not only at those that started its run: of two clips that end in the same
second, Airflow may start a run for the first and keep the second for the run after the next event. A preview that
exists is not made again: each clip is transcoded once, also when a run is cleared.

### What it costs

140 credits per clip of 5 seconds at 720p by the vendor's price list; nothing with the emulator. The second DAG costs
nothing.

### What to look at in the UI

The asset's page shows both DAGs and the events with their `extra`.
"""

from __future__ import annotations

import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, ObjectStoragePath, task

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

CLIPS = Asset("seedance-clips")
LATEST = 100  # more than can end while a run waits to be started
PROMPTS = ("A kite over dunes", "A tram in the rain")

with DAG(
    dag_id="seedance_make_clips",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    params={"folder": f"file://{Path.home()}/seedance-clips"},
    tags=["seedance", "example"],
    description="Makes clips; each changes the asset seedance-clips.",
    doc_md=__doc__,
):
    SeedanceGenerateVideoOperator.partial(
        task_id="make_clip",
        model="seedance2-fast",
        submit_policy="safe",
        output_path="{{ params.folder }}/{seedance_task_id}.{ext}",
        outlets=[CLIPS],
    ).expand(
        inputs=[
            {"prompt": prompt, "duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"} for prompt in PROMPTS
        ]
    )

with DAG(
    dag_id="seedance_transcode",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=[CLIPS],
    catchup=False,
    max_active_runs=1,  # two runs would transcode the same
    tags=["seedance", "example"],
    description="Makes a preview of each clip as soon as it is there.",
    doc_md=__doc__,
):

    @task(inlets=[CLIPS])
    def new_clips(**context: Any) -> list[str]:
        """The files of the latest events, each once."""
        extras = [event.extra for event in context["inlet_events"][CLIPS][-LATEST:]]
        return sorted({path for extra in extras for path in extra.get("paths") or ()})

    @task(map_index_template="{{ clip }}")
    def make_preview(clip: str) -> str:
        """A small picture-only copy beside the clip."""
        source = ObjectStoragePath(clip)
        preview = source.with_name(f"{source.stem}-preview.mp4")
        if not preview.exists():
            with tempfile.TemporaryDirectory() as folder:
                source.fs.get_file(source.path, f"{folder}/clip.mp4")
                convert = "ffmpeg -v error -i clip.mp4 -an -vf scale=160:-2 -movflags +faststart preview.mp4"
                subprocess.run(convert.split(), cwd=folder, check=True)
                preview.fs.put_file(f"{folder}/preview.mp4", preview.path)
        return str(preview)

    make_preview.expand(clip=new_clips())
