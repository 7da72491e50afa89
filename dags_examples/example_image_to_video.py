"""Animate an image: the video opens with one image and closes with another.

The vendor fetches the images, so they must be readable without a login.

### What it shows

The field names of today's API. `imageUrls` lists the images, `mode` says what they are for:

| `mode` | Meaning |
|:--|:--|
| `keyframe` | the first one is the opening and the second one the closing frame; others are ignored |
| `reference` | only their style or subject is taken |

Always set it: with three or more images the defaults of the models differ.

The API ignores a field that it does not know and charges for the default. Old names (`resolution`, `ratio`, `urls`,
`imageUrl`) are such fields today.

### What it costs

200 credits (about one US dollar) for 5 seconds at 720p by the vendor's price list, with or without images; nothing with
the emulator, which does not fetch them. If an image cannot be fetched or fails the vendor's review, the task ends in
`fail` with the code `asset_review_failed` within seconds.

### What to look at in the UI

The record in the XCom `seedance_task` of `wait_for_video` has size, seed and last frame.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

with DAG(
    dag_id="seedance_image_to_video",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):
    create_video = SeedanceCreateTaskOperator(
        task_id="create_video",
        model="seedance-20",
        inputs={
            "prompt": "The shop fills with people during the day, then empties; the camera does not move",
            "imageUrls": [
                "https://media.example.com/shop/morning.png",
                "https://media.example.com/shop/evening.png",
            ],
            "mode": "keyframe",
            "duration": 5,
            "outputResolution": "720p",
            "aspectRatio": "16:9",
            "generate_audio": False,
        },
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
    )
