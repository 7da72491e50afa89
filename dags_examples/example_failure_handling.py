"""What to do when there is no video: a message that says why, and a branch that continues without it.

Trigger it with one of these prompts; the emulator fails as they ask:

| Prompt | What happens |
|:--|:--|
| `A sunset [[fail:2038]]` | the generation fails, as if the prompt violated the vendor's rules |
| `A sunset [[createTask:403]]` | the request is refused |
| `A sunset [[createTask:500]]` | the outcome is unknown |

An emulator that was started with `--credits 100` answers 402.

### What it shows

- `on_failure_callback` gets the exception. Its class says what went wrong and its attributes have the numbers; all
  classes derive from `SeedanceError`. `charged` says whether the video is charged: no, unknown or yes. Here the
  callback logs what you would send to a channel.
- Trigger rules choose the branch: `publish_video` runs if there is a video, `use_stock_video` if not, and `finish`
  follows either. The run succeeds both ways, since its last task does.

Which errors Airflow retries (`retries=2` here):

| Error | Retried |
|:--|:--|
| a failed generation (`fail`), 400, 401, 402, 403, 404, a wait that reached its timeout | never: a retry cannot help |
| a createTask of unknown outcome: 5xx, a timeout, a reset | not with "safe", as here; "vendor" sends it again |
| no connection, after three attempts of the provider's own | yes; nothing is charged |
| 429, no free slot | not an error: the task waits for one |
| a failed poll of a running task | not an error: it is polled again |

### What it costs

200 credits (about one US dollar) by the vendor's price list if nothing fails. The vendor refunds failed tasks; a
refused request (4xx) is not charged. Nothing with the emulator.

### What to look at in the UI

The last lines in the log of the failed task; which of the two branches is pink (skipped) or orange (upstream failed);
the XCom `seedance_error` of the failed task.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import DAG, Param, TriggerRule, task

from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceInsufficientCreditsError,
    SeedanceInvalidRequestError,
    SeedanceTaskFailedError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


log = logging.getLogger(__name__)


def advice(error: object) -> str:
    """What to do about an error."""
    match error:
        case SeedanceInsufficientCreditsError(required=None):
            return f"Add credits, then clear the task: {error.message}"
        case SeedanceInsufficientCreditsError(required=required, available=available):
            return f"Add credits: required {required}, available {available}. Then clear the task"
        case SeedanceTaskFailedError(code=code, message=message):
            return f"Change the prompt or the media: {message} (code {code})"
        case SeedanceInvalidRequestError(errors=errors):
            return f"Change the inputs: {errors or error}"
        case SeedanceTaskTimeoutError(seedance_task_id=seedance_task_id):
            return f"Clear the sensor only: task {seedance_task_id} keeps running and will be billed"
        case SeedanceError():
            return str(error)
        case None:  # Airflow 3.0, and dag.test() up to 3.2, pass no exception to a callback
            return "See the log"
        case _:  # not of this provider: a worker that died, a mistake in the DAG
            return f"See the log: {error}"


def notify(context: Context) -> None:
    """A placeholder for a message to a channel."""
    ti = context["ti"]
    # Not print(): an error is found by its level, in a log in which the UI folds away what a callback writes.
    log.error("%s.%s failed. %s", ti.dag_id, ti.task_id, advice(context.get("exception")))


with DAG(
    dag_id="seedance_failure_handling",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "prompt": Param(
            "A sunset over the ocean", type="string", format="multiline", minLength=1, maxLength=4000, title="Prompt"
        )
    },
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):
    create_video = SeedanceCreateTaskOperator(
        task_id="create_video",
        model="seedance-20",
        inputs={
            "prompt": "{{ params.prompt }}",
            "duration": 5,
            "outputResolution": "720p",
            "aspectRatio": "16:9",
        },
        submit_policy="safe",
        on_failure_callback=notify,
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
        on_failure_callback=notify,
    )

    @task
    def publish_video(urls: list[str]) -> str:
        """Continue with the video."""
        return urls[0]

    # If create_video fails, the sensor is "upstream failed", which counts as failed here.
    @task(trigger_rule=TriggerRule.ONE_FAILED)
    def use_stock_video() -> str:
        """Continue without it."""
        return "https://media.example.com/stock/sunset.mp4"

    @task(trigger_rule=TriggerRule.ONE_SUCCESS)
    def finish() -> None:
        """The rest, which runs either way."""

    published, stock_video = publish_video(wait_for_video.output), use_stock_video()
    wait_for_video >> stock_video
    [published, stock_video] >> finish()
