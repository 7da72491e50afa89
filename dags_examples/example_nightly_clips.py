"""Every night, one vertical clip per product of a CSV file: stored, listed and summed up.

A night costs 3,000 credits at most. **Trigger it while it is paused and two runs start**; the second is free, since
each clip has an `idempotency_key`.

### Before the first run

On every Airflow version: a ledger, which keys and budgets need, and a pool as large as the account's limit:

```
export AIRFLOW__SEEDANCE__LEDGER_PATH=file:///var/seedance/ledger    # or s3://aws_default@bucket/ledger
airflow pools set seedance 5 "Seedance slots" --include-deferred
```

### What it shows

A pipeline that may run unattended.

- One bad product stops nothing: each is a mapped task instance, and `report` runs whatever became of them.
- Running the night again is free for what exists: an `idempotency_key` names each clip, so a clear, a second run and a
  retry find it. Only what failed is submitted again.
- The night has a ceiling: a clip that may exceed `budget_credits` fails before its request.
- `report` writes `manifest.csv` beside the clips and posts a summary to the webhook in the Airflow variable
  `summary_webhook`, if there is one.

A test of this DAG for your CI is in `docs/testing-your-dags.md`.

### What it costs

140 credits per product by the vendor's price list; nothing with the emulator.

### What to look at in the UI

The mapped instances of `make_clip`, named by their prompts; the XCom of `report`.
"""

import csv
from datetime import UTC, datetime
from pathlib import Path

import requests
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, TriggerRule, Variable, task

from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

FOLDER = "{{ params.folder }}/{{ (logical_date | default(none) or dag_run.run_after) | ds }}"
CLIP = {"mode": "keyframe", "duration": 5, "outputResolution": "720p", "aspectRatio": "9:16"}
RESULTS = ("seedance_files", "seedance_task", "seedance_error")

with DAG(
    dag_id="seedance_nightly_clips",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule="0 2 * * *",
    catchup=False,
    default_args={"retries": 2},
    params={"shop": f"{Path(__file__).parent}/shop", "folder": f"file://{Path.home()}/seedance-clips"},
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
) as dag:

    @task
    def read_products(shop: str, folder: str) -> list[dict]:
        with Path(shop, "products.csv").open(encoding="utf-8-sig", newline="") as file:
            return [
                {
                    "inputs": {"prompt": row["description"], "imageUrls": [f"{shop}/{row['picture']}"], **CLIP},
                    "idempotency_key": f"{folder}/{row['name']}",
                    "output_path": f"{folder}/{row['name']}.{{ext}}",
                }
                for row in csv.DictReader(file, restval="")
            ]

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report(clips: list[dict], folder: str, ti=None) -> str:
        made, failed = [], []
        for index, clip in enumerate(clips):
            product = clip["idempotency_key"].removeprefix(f"{folder}/")
            files, video, error = (ti.xcom_pull("make_clip", key=key, map_indexes=index) for key in RESULTS)
            if files:
                made.append([product, files[0]["path"], video["credits_used"], video["outputs"][0]["seed"]])
            else:
                failed.append(f"{product}: {error['message'] if error else 'see the log'}")
        ObjectStoragePath(folder).mkdir(parents=True, exist_ok=True)  # nothing may have been stored
        with ObjectStoragePath(f"{folder}/manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["product", "file", "credits", "seed"], *made])
        text = "\n".join([f"{len(made)} made, {len(failed)} failed, {SeedanceLedger().spent(folder)} credits", *failed])
        if webhook := Variable.get("summary_webhook", None):
            requests.post(webhook, json={"text": text}, timeout=30).raise_for_status()
        return text

    clips = read_products("{{ params.shop }}", FOLDER)
    make_clip = SeedanceGenerateVideoOperator.partial(
        task_id="make_clip",
        model="seedance2-fast",
        submit_policy="safe",
        upload_media=True,
        budget=FOLDER,
        budget_credits=3000,
        pool="seedance",
    ).expand_kwargs(clips)
    make_clip >> report(clips, FOLDER)
