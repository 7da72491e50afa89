"""A function writes the prompt, its task makes the video: @task.seedance.

Here the function throws dice; one that asks a language model, or a database, looks the same.

### What it shows

- The function returns a prompt, or a dict with more inputs; those of the decorator (`inputs=`) fill in the rest.
- The task takes the parameters of `SeedanceGenerateVideoOperator`, is mapped like any other task, and returns the URLs.
- Where no video is wanted, the function raises `AirflowSkipException`.
- The function is called once for each video that is submitted. A retry that continues with a video (Airflow 3.3 and
  later, or with a ledger) does not call it, so no second prompt of a language model is charged.

### What it costs

One video per city that is not skipped, here two of 5 seconds at 720p with `seedance2-fast`, 140 credits each by the
vendor's price list; nothing with the emulator. `max_credits` refuses a function that asks for more.

### What to look at in the UI

The XCom `seedance_inputs` of `film` has what was sent; so have the rendered templates, after a success. Each mapped
instance is named by its city until it has a prompt.
"""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, TriggerRule, task

log = logging.getLogger(__name__)

LANDMARKS = {"Lisbon": "the yellow tram", "Kyoto": "the red gate", "Nowhere": None}

with DAG(
    dag_id="seedance_decorator",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):

    @task.seedance(
        model="seedance2-fast",
        inputs={"duration": 5, "outputResolution": "720p", "aspectRatio": "9:16"},
        max_credits=140,
        submit_policy="safe",
    )
    def film(city: str) -> str:
        """A placeholder for a language model, or a query."""
        landmark = LANDMARKS[city]
        if landmark is None:
            raise AirflowSkipException(f"Nothing to film in {city}")
        light = random.choice(("at dawn", "in the rain", "under a full moon"))
        return f"{city}: {landmark} {light}, the camera walks by"

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def list_videos(videos: Any) -> list[str]:
        """List the videos; cities that were skipped or failed are missing."""
        found = [url for urls in videos for url in urls]
        log.info("%d videos", len(found))
        for url in found:
            log.info("%s", url)
        return found

    list_videos(film.expand(city=list(LANDMARKS)))
