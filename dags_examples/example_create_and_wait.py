"""Create a video, wait for it, use its URL: the shortest useful DAG.

It is the one that `make demo` runs. Trigger it: nothing is charged before.

### What it shows

- `SeedanceCreateTaskOperator` submits the task, which is charged, and returns its id at once.
- `SeedanceTaskSensor` waits for that id in the triggerer, where it holds no worker, and returns the URLs.
- An ordinary task uses them. The inputs are those of the vendor's own first example.

### What it costs

| | Credits |
|:--|--:|
| one video of 5 seconds, by the vendor's price list | 200 (about one US dollar) |
| with the emulator | 0 |

A clear of `create_video` creates, and charges, a new video; a clear of `wait_for_video` is free.

### What to look at in the UI

`wait_for_video` turns purple (deferred) until the video is finished. Its log shows each change of status and the
credits, its XCom the URLs and, under `seedance_task`, the record. The "Video" link opens the result.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

log = logging.getLogger(__name__)

with DAG(
    dag_id="seedance_create_and_wait",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,  # nothing is charged until somebody triggers it
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):
    create_video = SeedanceCreateTaskOperator(
        task_id="create_video",
        model="seedance-20",
        inputs={
            "prompt": "A sunset over the ocean",
            # The names of API v1, as in the vendor's example. Today's are outputResolution, aspectRatio and an integer
            # duration: see example_image_to_video.py.
            "resolution": "1280x720",
            "duration": "5s",
        },
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
    )

    @task
    def show_video_urls(urls: list[str]) -> list[str]:
        """A placeholder for what you do with a video. Download it soon: the vendor does not promise to keep it."""
        for url in urls:
            log.info("Video: %s", url)
        return urls

    show_video_urls(wait_for_video.output)
