"""A film of several shots: the last frame of each opens the next.

The shots are created one after the other, here two of them.

### What it shows

The record that `SeedanceTaskSensor` leaves under the XCom key `seedance_task`. Its `outputs` list has, for each file,
`url`, `width`, `height`, `media_type`, `seed` and `last_frame_image`: an image for `imageUrls` of the next shot.

Use the image at once, as here. Do not store its URL: for the 2.5 models it works for 24 hours only.

### What it costs

200 credits (about one US dollar) per shot of 5 seconds at 720p by the vendor's price list; nothing with the emulator.
If the second shot fails, clear `create_shot_2` and its downstream tasks: the first shot is not charged again.

### What to look at in the UI

"Rendered Templates" of `create_shot_2` shows the image that was passed on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

SHOTS = (
    "A red canoe glides over a still lake at dawn, seen from the shore",
    "The canoe reaches the far bank and a fox looks up, the camera follows",
)
SETTINGS = {"duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"}

with DAG(
    dag_id="seedance_chain_shots",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):

    @task
    def last_frame(record: dict[str, Any]) -> str:
        """Take the last frame out of a record. Not every model gives one, and a video without it costs the same."""
        image = record["outputs"][0]["last_frame_image"]
        if not image:
            raise AirflowFailException(
                f"Task {record['seedance_task_id']} has no last frame, so the next shot is not created"
            )
        return image

    image: Any = None
    for number, prompt in enumerate(SHOTS, start=1):
        opening = {} if image is None else {"imageUrls": [image], "mode": "keyframe"}
        create_shot = SeedanceCreateTaskOperator(
            task_id=f"create_shot_{number}",
            model="seedance-20",
            inputs={"prompt": prompt, **SETTINGS, **opening},
        )
        wait_for_shot = SeedanceTaskSensor(
            task_id=f"wait_for_shot_{number}",
            seedance_task_id=create_shot.output,
        )
        if number < len(SHOTS):
            image = last_frame.override(task_id=f"last_frame_{number}")(wait_for_shot.output["seedance_task"])
