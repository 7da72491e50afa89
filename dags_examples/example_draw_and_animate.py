"""Draw a picture, then animate it: an image model makes the opening frame of a video.

Image models run with the same operators.

### What it shows

- The fields of an image model have names of their own (`uploadedUrls`, `resolution`), and a wrong one fails when the
  DAG is parsed, as for videos.
- The output of `draw` is a list of URLs, which is what `imageUrls` takes, so the picture is passed on as it is; `mode`
  "keyframe" makes it the first frame.

### What it costs

| | Credits, by the vendor's price list |
|:--|--:|
| the picture | 24 |
| 5 seconds of video at 720p | 200 (about one US dollar) |
| with the emulator | 0 |

If `animate` fails, clear it alone: the picture is not charged again.

### What to look at in the UI

"Rendered Templates" of `animate` shows the URL of the picture.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

with DAG(
    dag_id="seedance_draw_and_animate",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):
    draw = SeedanceGenerateVideoOperator(
        task_id="draw",
        model="seedream-5.0-pro",
        inputs={"prompt": "A lighthouse on a cliff, oil on canvas", "aspectRatio": "16:9", "resolution": "2k"},
        submit_policy="safe",
    )

    animate = SeedanceGenerateVideoOperator(
        task_id="animate",
        model="seedance-20",
        inputs={
            "prompt": "Waves break below the lighthouse and its lamp begins to turn; the camera does not move",
            "imageUrls": draw.output,
            "mode": "keyframe",
            "duration": 5,
            "outputResolution": "720p",
            "aspectRatio": "16:9",
        },
        submit_policy="safe",
    )
