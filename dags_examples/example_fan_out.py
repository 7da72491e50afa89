"""One video per prompt, in parallel, for any number of prompts.

A refused prompt fails one task instance and no other. The last task always runs and lists the videos that exist.

### What it shows

Dynamic task mapping with `SeedanceGenerateVideoOperator`, which creates a video and waits for it in one task instance.
Each instance is named by the first words of its prompt; `map_index_template` gives it another name.

### Many prompts

An account runs only so many tasks at once (3 or 5 in the vendor's samples). One more is refused, not queued and not
charged; the instance then waits for a slot, deferred, for up to `slot_timeout`. A pool avoids most refusals. Make it as
large as your limit, let deferred tasks keep their pool slots, and add `pool="seedance"` to `partial(...)`:

```
airflow pools set seedance 5 "Seedance slots" --include-deferred
```

### What it costs

One video per prompt, here three of 5 seconds at 720p with `seedance2-fast`, 140 credits each by the vendor's price
list; nothing with the emulator.

### What to look at in the UI

The mapped instances of `make_video`, named by their prompts.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, TriggerRule, task

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

log = logging.getLogger(__name__)

with DAG(
    dag_id="seedance_fan_out",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):

    @task
    def list_shots() -> list[dict[str, Any]]:
        """A placeholder for a query: the inputs of each video. Each item of this list is charged."""
        prompts = ("A lighthouse at dawn", "A tram in the rain", "A kite over dunes")
        return [
            {"prompt": prompt, "duration": 5, "outputResolution": "720p", "aspectRatio": "16:9"} for prompt in prompts
        ]

    # To choose the model per shot, use .expand_kwargs(...) over dicts with "inputs" and "model".
    make_video = SeedanceGenerateVideoOperator.partial(
        task_id="make_video",
        model="seedance2-fast",
        submit_policy="safe",
        # From Airflow 3.3 on a retry continues with the same video. Older versions would submit another; there a
        # scheduler that dies starts the task again even with retries=0, and "safe" then fails it for manual review.
        retries=0,
    ).expand(inputs=list_shots())

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def list_videos(videos: Any) -> list[str]:
        """List the videos; shots that failed are missing."""
        found = [url for urls in videos for url in urls]
        log.info("%d videos", len(found))
        for url in found:
            log.info("%s", url)
        return found

    list_videos(make_video.output)
