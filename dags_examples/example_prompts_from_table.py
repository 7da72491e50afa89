"""Prompts from a database table to videos in a bucket, sorted by day, with a manifest of all that was wanted.

A row is charged once, also if the day is run twice or cleared: its `idempotency_key` is made of its day and name.

### Before the first run

The Airflow connections `shots_db` (any database that Airflow has a provider for) and `aws_default`, a ledger, the pool,
and a ceiling for all DAGs of the connection together:

```
CREATE TABLE shots (day DATE, name VARCHAR(40), prompt VARCHAR(4000), seconds INTEGER);
export AIRFLOW__SEEDANCE__LEDGER_PATH=s3://aws_default@my-videos/ledger
airflow pools set seedance 5 "Seedance slots" --include-deferred
airflow connections add seedance_default ... --conn-extra '{"max_credits_per_day": 2000}'
```

### What it shows

- `SQLExecuteQueryOperator` selects the day's prompts; each row is one mapped `make_video` under a pool.
- `write_manifest` reads the ledger: what was wanted, what it cost, where it is, and why not. Videos beyond the day's
  ceiling are refused before their request and are in the manifest too.

### What it costs

28 credits per second and row by the vendor's price list, 2,000 a day at most; nothing with the emulator.

### What to look at in the UI

The XCom of `write_manifest`, the path of the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, TriggerRule, task
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

# Not "{{ ds }}": a manual run of Airflow 3 may have no logical date.
DAY = "{{ (logical_date | default(none) or dag_run.run_after) | ds }}"
FOLDER = f"{{{{ params.bucket }}}}/{DAY}"


def to_video(row: Sequence[Any]) -> dict[str, Any]:
    """The arguments of ``make_video`` for a row."""
    day, name, prompt, seconds = row
    return {
        "inputs": {"prompt": prompt, "duration": seconds, "outputResolution": "720p", "aspectRatio": "16:9"},
        "idempotency_key": f"shots/{day}/{name}",
    }


with DAG(
    dag_id="seedance_prompts_from_table",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule="@daily",
    catchup=False,
    params={"bucket": "s3://aws_default@my-videos"},
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):
    find_shots = SQLExecuteQueryOperator(
        task_id="find_shots",
        conn_id="shots_db",
        sql="SELECT day, name, prompt, seconds FROM shots WHERE day = :day ORDER BY name",  # %(day)s in PostgreSQL
        parameters={"day": DAY},
    )

    make_video = SeedanceGenerateVideoOperator.partial(
        task_id="make_video",
        model="seedance2-fast",
        submit_policy="safe",
        retries=2,
        output_path=f"{FOLDER}/{{seedance_task_id}}.{{ext}}",
        pool="seedance",
        map_index_template="{{ task.idempotency_key }}",
    ).expand_kwargs(find_shots.output.map(to_video))

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def write_manifest(shots: list[Sequence[Any]], folder: str, dag_run: Any = None) -> str:
        """List the videos of this run. A row without a receipt was refused for its inputs: its log says why."""
        receipts = SeedanceLedger().receipts(dag_id=dag_run.dag_id, run_id=dag_run.run_id)
        videos = {receipt.map_index: receipt for receipt in receipts}
        lines = []
        for index, (_, name, *_) in enumerate(shots):
            video = videos.get(index)
            line = {"name": name, "status": "refused", "files": [], "credits": "0", "reason": "see the log"}
            if video is not None:
                line |= {"status": video.status, "files": video.paths, "reason": video.reason}
                line["credits"] = str(video.counted_credits)
            lines.append(json.dumps(line))
        path = ObjectStoragePath(f"{folder}/manifest.jsonl")
        path.write_text("\n".join(lines))
        return str(path)

    make_video >> write_manifest(find_shots.output, FOLDER)
