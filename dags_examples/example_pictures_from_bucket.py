"""A clip for every picture in a bucket; what the vendor's moderation rejects is skipped and reported.

A picture is charged once a night, also if the night is run twice or cleared: that is what its `idempotency_key` is for.

### Before the first run

A ledger, which keys need:

```
export AIRFLOW__SEEDANCE__LEDGER_PATH=s3://aws_default@my-shop/ledger
```

### What it shows

A mapped task group of Create and sensor, one per picture.

- `upload_media=True` uploads each picture from the bucket to the vendor, who needs a public URL; the bucket stays
  private. A file that is no picture fails before any request, and fails alone.
- `soft_fail=True` skips a sensor instead of failing it: pink in the grid, and the run succeeds. A rejected picture is
  no accident that somebody must be woken for, and the vendor refunds it.
- `report` lists every picture with its file, or with the vendor's reason from the XCom `seedance_error`.

### What it costs

| | Credits |
|:--|--:|
| per picture, by the vendor's price list | 140 |
| one that is rejected, the uploads, the emulator | 0 |

### What to look at in the UI

The skipped instances of `clip.wait`, and the XCom of `report`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, TriggerRule, task, task_group

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

# Not "{{ ds }}": a manual run of Airflow 3 may have no logical date.
NIGHT = "{{ (logical_date | default(none) or dag_run.run_after) | ds }}"

with DAG(
    dag_id="seedance_pictures_from_bucket",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule="0 3 * * *",
    catchup=False,
    params={"pictures": "s3://aws_default@my-shop/pictures", "clips": "s3://aws_default@my-shop/clips"},
    tags=["seedance", "example"],
    description=__doc__.partition("\n")[0],
    doc_md=__doc__,
):

    @task
    def list_pictures(folder: str, night: str) -> list[dict[str, str]]:
        """Each file of the folder. Each is charged."""
        pictures = sorted(str(path) for path in ObjectStoragePath(folder).iterdir() if path.is_file())
        return [{"picture": picture, "key": f"{night}/{picture}"} for picture in pictures]

    @task
    def to_inputs(picture: str) -> dict[str, Any]:
        """The picture gives the subject and its style, not the first frame."""
        return {
            "prompt": "The product turns slowly on a white table, soft light from the left",
            "imageUrls": [picture],
            "mode": "reference",
            "duration": 5,
            "outputResolution": "720p",
            "aspectRatio": "9:16",
        }

    @task_group
    def clip(picture: str, key: str) -> None:
        """One clip."""
        create = SeedanceCreateTaskOperator(
            task_id="create",
            model="seedance2-fast",
            inputs=to_inputs(picture),
            submit_policy="safe",
            upload_media=True,
            idempotency_key=key,
        )
        SeedanceTaskSensor(
            task_id="wait",
            seedance_task_id=create.output,
            output_path=f"{{{{ params.clips }}}}/{NIGHT}/{{seedance_task_id}}.{{ext}}",
            soft_fail=True,
        )

    # One XCom, where the return type would make one of each key.
    @task(trigger_rule=TriggerRule.ALL_DONE, multiple_outputs=False)
    def report(pictures: list[dict[str, str]], ti: Any = None) -> dict[str, str]:
        """What became of each picture."""
        outcome = {}
        for index, item in enumerate(pictures):
            files = ti.xcom_pull("clip.wait", key="seedance_files", map_indexes=index)
            errors = [
                ti.xcom_pull(f"clip.{task_id}", key="seedance_error", map_indexes=index)
                for task_id in ("create", "wait")
            ]
            reasons = [error["message"] for error in errors if error]
            outcome[item["picture"]] = files[0]["path"] if files else ". ".join(reasons) or "See the log"
        return outcome

    pictures = list_pictures("{{ params.pictures }}", NIGHT)
    clip.expand_kwargs(pictures) >> report(pictures)
