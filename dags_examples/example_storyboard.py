"""A storyboard becomes a film: shots that continue each other, joined by ffmpeg and published as one file.

Needs ffmpeg on the worker.

### What it shows

A pipeline from text to a finished file.

- Each shot opens with the last frame of the one before, taken from its record, so the shots are made one by one.
- `output_path` stores each shot when it is finished: the links of the vendor expire, the files stay.
- `publish` reads the shots from object storage, joins them without encoding them again, and uploads the film.

A shot whose predecessor has no last frame fails before its request. If a shot fails, clear it with "Downstream": the
shots before it are not charged again.

### What it costs

200 credits (about one US dollar) per shot of 5 seconds at 720p by the vendor's price list, here three shots; nothing
with the emulator.

### What to look at in the UI

"Rendered Templates" of `shot_2` shows the frame that it opens with; the XCom of `publish` is the path of the film.
"""

from __future__ import annotations

import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

STORYBOARD = (
    "A red canoe glides over a still lake at dawn, seen from the shore",
    "The canoe reaches the far bank and a fox looks up, the camera follows",
    "The fox runs into the woods, the camera stays with the empty canoe",
)
SETTINGS = {"duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"}
FOLDER = "{{ params.folder }}/{{ run_id }}"

with DAG(
    dag_id="seedance_storyboard",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    params={"folder": f"file://{Path.home()}/seedance-films"},
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):

    @task
    def publish(shots: list[list[str]], film: str) -> str:
        """Join the shots in their order. They have the same size and codec, so their streams are copied."""
        with tempfile.TemporaryDirectory() as folder:
            for number, (shot,) in enumerate(shots):
                stored = ObjectStoragePath(shot)
                stored.fs.get_file(stored.path, f"{folder}/{number}.mp4")
            Path(folder, "shots.txt").write_text("".join(f"file {number}.mp4\n" for number in range(len(shots))))
            join = "ffmpeg -v error -f concat -i shots.txt -c copy -movflags +faststart film.mp4"
            subprocess.run(join.split(), cwd=folder, check=True)
            published = ObjectStoragePath(film)
            published.fs.put_file(f"{folder}/film.mp4", published.path)
        return film

    shots = []
    for number, prompt in enumerate(STORYBOARD, start=1):
        record = f"ti.xcom_pull('shot_{number - 1}', key='seedance_task')"
        opening = {"imageUrls": [f"{{{{ {record}.outputs[0].last_frame_image }}}}"], "mode": "keyframe"}
        shot = SeedanceGenerateVideoOperator(
            task_id=f"shot_{number}",
            model="seedance-20",
            inputs={"prompt": prompt, **SETTINGS, **(opening if shots else {})},
            submit_policy="safe",
            output_path=f"{FOLDER}/shot-{number}.{{ext}}",
        )
        if shots:
            shots[-1] >> shot
        shots.append(shot)

    publish([shot.output for shot in shots], f"{FOLDER}/film.mp4")
