"""A person watches each video and accepts it, rejects it, or has it submitted again: at most twice.

Needs Airflow 3.1 or later, for its forms.

### What it shows

- A form of Airflow's own for each video (`HITLOperator`). The reviewer may enter another prompt.
- The rounds are written out by a `for` when the DAG is parsed, so there cannot be more; one that is not needed is
  skipped. In the last round there is nothing left to choose but "Accept" and "Reject".
- The videos are mapped as a task group, so each goes through its rounds by itself. A resubmitted video is a task of its
  own, with a ceiling of its own (`max_credits`).

### What it costs

| Two videos, by the vendor's price list | Credits |
|:--|--:|
| one round each | 280 (about 1.40 US dollars) |
| three rounds each | 840 (about 4.20 US dollars) |
| with the emulator | 0 |

### What to look at in the UI

"Required Actions" of the run: the forms. `accepted` returns the URLs of what was accepted, and is skipped for what was
not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowOptionalProviderFeatureException,
    AirflowSkipException,
    Param,
    TriggerRule,
    dag,
    task,
    task_group,
)

try:
    from airflow.providers.standard.operators.hitl import HITLOperator
except (ImportError, AirflowOptionalProviderFeatureException):  # before Airflow 3.1
    HITLOperator = None

PROMPTS = ["A lighthouse at dawn", "A tram in the rain"]
ROUNDS = 3  # one video and two resubmitted ones
CREDITS = 140  # the most that each of them may cost

ACCEPT, RESUBMIT, REJECT = "Accept", "Resubmit", "Reject"


@dag(
    dag_id="seedance_review_videos",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
)
def review_videos() -> None:
    @task.seedance(
        model="seedance2-fast",
        inputs={"duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"},
        max_credits=CREDITS,
        submit_policy="safe",
    )
    def make(prompt: str, answer: dict[str, Any] | None = None) -> str:
        """The prompt of a round; the reviewer may have changed it."""
        if answer is None:
            return prompt
        if answer["chosen_options"] != [RESUBMIT]:
            raise AirflowSkipException(f"The answer was {answer['chosen_options']}")
        return answer["params_input"].get("prompt") or prompt

    @task
    def describe(record: dict[str, Any], prompt: str) -> str:
        """What the form shows: Markdown."""
        video = record["outputs"][0]
        picture = f"\n\n![The last frame]({video['last_frame_image']})" if video["last_frame_image"] else ""
        return f"{prompt}\n\n[Watch the video]({video['url']}). Another one costs up to {CREDITS} credits.{picture}"

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def accepted(videos: list[Any], answers: list[Any]) -> list[str]:
        """The URLs of the round that was accepted."""
        for urls, answer in zip(videos, answers, strict=True):
            if answer and answer["chosen_options"] == [ACCEPT]:
                return urls
        raise AirflowSkipException("No video was accepted")

    @task_group
    def clip(prompt: Any) -> Any:
        videos, answers = [], []
        for number in range(1, ROUNDS + 1):
            video = make.override(task_id=f"make_{number}")(prompt, *answers[-1:])
            review = HITLOperator(
                task_id=f"review_{number}",
                subject=f"Video {number} of at most {ROUNDS}",
                body=describe.override(task_id=f"describe_{number}")(video["seedance_task"], prompt),
                options=[ACCEPT, RESUBMIT, REJECT] if number < ROUNDS else [ACCEPT, REJECT],
                params={"prompt": Param("", type="string", title="Another prompt, to resubmit with (empty: the same)")},
            )
            videos.append(video)
            answers.append(review.output)
        return accepted(videos, answers)

    clip.expand(prompt=PROMPTS)


if HITLOperator is None:
    print(f"{__file__} needs Airflow 3.1 or later, for its forms: no DAG is defined")
else:
    review_videos()
