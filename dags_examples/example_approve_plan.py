"""A person approves the plan, with the price of each video and in all, before anything is charged.

Needs Airflow 3.1 or later, for its form. Until somebody answers, the run waits and holds no worker.

### What it shows

- `write_plan` estimates each video with `SeedanceHook.estimate_credits`, which sends no request.
- `approve` shows the plan in a form of Airflow's own (`airflow.providers.standard.operators.hitl`).
- "Approve" makes the videos, each with its approved price as its ceiling; "Reject" skips them.

`response_timeout` and `defaults` of the form set an answer after some time, `assigned_users` who may answer,
`notifiers` who is told.

Two precautions for clears:

- Up to Airflow 3.3 a form that is shown again after a clear still shows its first text. So that nobody approves another
  plan than the one they read, `write_plan` fails when it is cleared: trigger a new run instead.
- On Airflow 3.1 a "Reject" after a clear does not skip mapped tasks that were expanded before, if they are right below
  the form; so `approved` stands between.

### What it costs

Nothing before the approval; then what the form says, here 380 credits (about 1.90 US dollars) by the vendor's price
list. Nothing with the emulator.

### What to look at in the UI

"Required Actions" of the run: the form with its two buttons.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowOptionalProviderFeatureException,
    AirflowSkipException,
    dag,
    task,
)

from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):  # before Airflow 3.1
    ApprovalOperator = None

WANTED = (
    ("seedance2-fast", "A lighthouse at dawn"),
    ("seedance2-fast", "A tram in the rain"),
    ("seedance2.0-mini", "A kite over dunes"),
)
SETTINGS = {"duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"}


@dag(
    dag_id="seedance_approve_plan",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
)
def approve_plan() -> None:
    @task
    def write_plan(ti: Any = None) -> list[dict[str, Any]]:
        """A placeholder for a query: the arguments of each video, with its price as its ceiling."""
        if ti.try_number > 1:
            raise AirflowFailException("The form may still show the former plan: trigger a new run instead")
        plan = []
        for model, prompt in WANTED:
            inputs = {"prompt": prompt, **SETTINGS}
            estimate = SeedanceHook().estimate_credits(model, inputs)
            if estimate is None:
                raise AirflowFailException(f"The price of model {model} is not known: nobody could approve it")
            plan.append({"model": model, "inputs": inputs, "max_credits": float(estimate.high)})
        return plan

    @task
    def describe(plan: list[dict[str, Any]]) -> str:
        """The plan as a Markdown table; a prompt with a line break or a bar in it stays in its cell."""
        rows = []
        for video in plan:
            prompt = " ".join(video["inputs"]["prompt"].split()).replace("|", "\\|")
            rows.append(f"| {prompt} | {video['model']} | {video['max_credits']:g} |")
        total = sum(video["max_credits"] for video in plan)
        return "\n".join(["| Prompt | Model | Credits |", "|:--|:--|--:|", *rows, f"| **In all** | | **{total:g}** |"])

    @task
    def approved(plan: list[dict[str, Any]], answer: dict[str, Any]) -> list[dict[str, Any]]:
        """The plan, if it was approved. Do not map right below the form: see the top of this file."""
        if answer["chosen_options"] != [ApprovalOperator.APPROVE]:
            raise AirflowSkipException("The plan was rejected")
        return plan

    plan = write_plan()
    approve = ApprovalOperator(task_id="approve", subject="Make these videos?", body=describe(plan))
    SeedanceGenerateVideoOperator.partial(task_id="make_video", submit_policy="safe").expand_kwargs(
        approved(plan, approve.output)
    )


if ApprovalOperator is None:
    print(f"{__file__} needs Airflow 3.1 or later, for its form: no DAG is defined")
else:
    approve_plan()
