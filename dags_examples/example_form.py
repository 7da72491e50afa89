"""A form in the Airflow UI that creates a video: for people who do not write DAGs.

The form's first values cost 37.5 credits (about 0.20 US dollars) by the vendor's price list.

### What it shows

- `Param` becomes a form with choices, limits and help, checked before the run starts and anything is charged.
- The values reach the API with their types: `inputs` may be a string that renders to a JSON object, and `tojson` keeps
  5 a number, false a boolean and every prompt a string. (`render_template_as_native_obj=True` on the DAG would keep the
  types too, but turn the prompt "1984" into a number, which the API refuses.)
- The limits of the form and `max_credits` cap the price.

### What it costs

Credits per second of video, by the vendor's price list; nothing with the emulator:

| Model | 480p | 720p | 1080p |
|:--|--:|--:|--:|
| Mini | 7.5 | 20 | |
| Fast | 14 | 28 | |
| Pro | 15 | 40 | 90 |

So a run costs 30 to 1,350 credits (about 0.15 to 7 US dollars).

### What to look at in the UI

The "Trigger" dialog, and "Rendered Templates" of `create_video` for what was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Param

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

with DAG(
    dag_id="seedance_form",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    params={
        "prompt": Param(
            "A paper boat on a stream, seen from above",
            type="string",
            format="multiline",
            minLength=1,
            maxLength=4000,
            title="Prompt",
            description_md="What happens, where, and how the camera sees it. **No personal data**: it is sent to a "
            "third party. As the form stands, the video costs about **37.5 credits** (0.20 US dollars).",
        ),
        "model": Param(
            "seedance2.0-mini",
            type="string",
            enum=["seedance2.0-mini", "seedance2-fast", "seedance-20"],
            values_display={
                "seedance2.0-mini": "Mini: cheapest",
                "seedance2-fast": "Fast",
                "seedance-20": "Pro: best",
            },
            title="Model",
        ),
        "duration": Param(
            5,
            type="integer",
            minimum=4,
            maximum=15,
            title="Seconds",
            description_md="4 to 15. Each costs 7.5 to 90 credits, see **Docs**.",
        ),
        "resolution": Param(
            "480p",
            type="string",
            enum=["480p", "720p", "1080p"],
            title="Resolution",
            description_md="`1080p` needs the model **Pro**; with another one the task fails, and nothing is charged.",
        ),
        "aspect_ratio": Param("16:9", type="string", enum=["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"], title="Shape"),
        "sound": Param(True, type="boolean", title="With sound"),
    },
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):
    create_video = SeedanceCreateTaskOperator(
        task_id="create_video",
        model="{{ params.model }}",
        max_credits=1350,
        inputs="""{{ {
            "prompt": params.prompt,
            "duration": params.duration,
            "outputResolution": params.resolution,
            "aspectRatio": params.aspect_ratio,
            "generate_audio": params.sound,
        } | tojson }}""",
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
    )
