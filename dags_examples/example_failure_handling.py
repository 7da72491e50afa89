"""What to do when there is no video: a message that says why, and a branch that goes on without.

What it shows: two ways to react, and which errors come to you at all.

- ``on_failure_callback`` gets the exception. Its class says what went wrong and its attributes carry the numbers; all
  classes derive from ``SeedanceError``. Here it prints what you would send to a channel.
- Trigger rules choose the way on: ``publish_video`` runs if there is a video, ``use_stock_video`` if not, and
  ``finish`` follows either. The run ends in success both ways, since its last task does.

Which errors Airflow retries (``retries=2`` here):

- Never: a failed generation (``fail``), 400, 401, 402, 403, 404, a createTask of unknown fate, a wait that reached its
  timeout. Trying again cannot help or might pay twice, so the task fails at once and no retry is spent.
- Yes: no connection at all, after three tries of the provider's own; that bought nothing. With the default
  ``submit_policy``, "vendor", also 5xx, timeouts and resets: those are sent again, which might buy a second video.
  "safe", as used here, ends them at once as "of unknown fate".
- Not an error: 429 (no free slot: the task waits for one), and a failed look at a running task (the wait goes on).

What it costs: 200 credits (about one US dollar) on the vendor's public price list if all goes well. The vendor refunds
failed tasks; a refused request (4xx) is not charged. Nothing against the emulator, which fails on request. Trigger the
DAG with one of these as prompt:

- ``A sunset [[fail:2038]]``: the generation fails, as if the text broke the vendor's rules.
- ``A sunset [[createTask:403]]``: the request is refused.
- ``A sunset [[createTask:500]]``: nobody knows whether a video was bought.

or start the emulator with ``--credits 100`` to meet a 402.

What to look at in the UI: the last lines in the log of the failed task, and which of the two branches is pink (skipped)
or orange (upstream failed).
"""

from __future__ import annotations

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


def advice(error: object) -> str:
    """Say who should do what."""
    match error:
        case SeedanceInsufficientCreditsError(required=required, available=available):
            return f"Ask for credits: {required} needed, {available} there. Then clear the task"
        case SeedanceTaskFailedError(code=code, message=message):
            return f"Change the prompt or the media: {message} (code {code})"
        case SeedanceInvalidRequestError(errors=errors):
            return f"Change the inputs: {errors or error}"
        case SeedanceTaskTimeoutError(seedance_task_id=seedance_task_id):
            return f"Clear the sensor only: task {seedance_task_id} still runs and is paid"
        case SeedanceError():
            return str(error)
        case None:  # Airflow 3.0, and dag.test() up to 3.2, do not tell a callback
            return "Look at the log"
        case _:  # not ours: a worker that died, a mistake in the DAG
            return f"Look at the log: {error}"


def tell(context: Context) -> None:
    """Stand in for a message to a channel."""
    ti = context["ti"]
    print(f"{ti.dag_id}.{ti.task_id} failed. {advice(context.get('exception'))}")


with DAG(
    dag_id="seedance_failure_handling",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={"prompt": Param("A sunset over the ocean", type="string", minLength=1, title="Prompt")},
    tags=["seedance", "example"],
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
        on_failure_callback=tell,
    )

    wait_for_video = SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_task_id=create_video.output,
        on_failure_callback=tell,
    )

    @task
    def publish_video(urls: list[str]) -> str:
        """Go on with the video."""
        return urls[0]

    # A creation that failed leaves the sensor "upstream failed", which counts as failed here.
    @task(trigger_rule=TriggerRule.ONE_FAILED)
    def use_stock_video() -> str:
        """Go on without."""
        return "https://media.example.com/stock/sunset.mp4"

    @task(trigger_rule=TriggerRule.ONE_SUCCESS)
    def finish() -> None:
        """Go on with the rest: it runs either way."""

    published, stock_video = publish_video(wait_for_video.output), use_stock_video()
    wait_for_video >> stock_video
    [published, stock_video] >> finish()
