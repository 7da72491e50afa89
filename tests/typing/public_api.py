"""The public surface as a DAG author and a Python author use it; checked by mypy, never run.

If a line of this file no longer type-checks, somebody else's code no longer does either.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, assert_type

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath

from seedance_provider.api.records import TaskFailure, TaskOutput, TaskRecord, TaskStatus, parse_webhook
from seedance_provider.decorators.seedance import seedance_task
from seedance_provider.exceptions import (
    Charged,
    FailedRecord,
    SeedanceConcurrencyLimitError,
    SeedanceError,
    SeedanceInsufficientCreditsError,
    SeedanceInvalidRequestError,
    SeedanceTaskFailedError,
    SeedanceTaskTimeoutError,
    SeedanceTransferError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from seedance_provider.testing import Emulator
from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator
from seedance_provider.triggers.seedance import SeedanceTaskTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def dag(context: Context) -> None:
    create = SeedanceCreateTaskOperator(
        task_id="create",
        model="seedance-20",
        inputs={"prompt": "a fox", "duration": 5, "imageUrls": ["https://example.com/fox.png"]},
        callback_url="https://example.com/hook",
        seedance_conn_id="seedance_default",
        submit_policy="safe",
        validation="warn",
        slot_timeout=timedelta(hours=1),
        slot_poll_interval=30,
        durable=False,
        retries=2,
    )
    SeedanceCreateTaskOperator(task_id="from_file", inputs="inputs.json")
    SeedanceCreateTaskOperator(
        task_id="announce", inputs="inputs.json", use_callback=True, on_completion=Asset("videos")
    )
    wait = SeedanceTaskSensor(
        task_id="wait",
        seedance_task_id="task_1",
        poll_interval=10,
        timeout=timedelta(minutes=30),
        deferrable=False,
        mode="reschedule",
        soft_fail=True,
    )
    generate = SeedanceGenerateVideoOperator(
        task_id="generate", inputs={"prompt": "a fox"}, wait_for_completion=True, resubmits=1, timeout=1800
    )
    assert_type(create.execute(context), str)
    assert_type(wait.execute(context), list[str])
    assert_type(generate.execute(context), list[str] | str)


def decorators() -> None:
    @seedance_task(model="seedance-20", inputs={"duration": 5}, max_credits=200)
    def scene(animal: str) -> str:
        return animal

    @seedance_task
    def inputs() -> dict[str, object]:
        return {"prompt": "a fox"}

    scene("fox")
    inputs()
    scene.partial().expand(animal=["fox", "owl"])
    scene.override(task_id="other")("owl")
    assert_type(scene.function("fox"), str)


def hook() -> None:
    talk = SeedanceHook("seedance_default", submit_policy="vendor")
    task_id = talk.create_task("seedance-20", {"prompt": "a fox"}, callback_url=None)
    assert_type(task_id, str)
    record = talk.wait_for_task(task_id, poll_interval=2.5, timeout=timedelta(minutes=5))
    assert_type(record, TaskRecord)
    assert_type(talk.get_task(task_id), TaskRecord)
    assert_type(talk.test_connection(), tuple[bool, str])
    assert_type(talk.upload("fox.png"), str)
    assert_type(talk.download(record, "fox.mp4"), str)
    assert_type(talk.download(record.urls[0], ObjectStoragePath("s3://aws_default@bucket/fox.mp4")), str)


def files(context: Context) -> None:
    folder = ObjectStoragePath("s3://aws_default@bucket/")
    SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1", output_path=folder, overwrite=True, last_frame=True)
    SeedanceGenerateVideoOperator(task_id="generate", inputs={"prompt": "a fox"}, output_path="/videos/{index}.{ext}")
    SeedanceToObjectStorageOperator(task_id="by_record", record={"seedance_task_id": "task_1"}, output_path=folder)
    SeedanceToObjectStorageOperator(task_id="by_urls", urls=["https://example.com/fox.mp4"], output_path="/videos/")
    store = SeedanceToObjectStorageOperator(task_id="store", seedance_task_id="task_1", output_path="/videos/{{ ds }}/")
    assert_type(store.execute(context), list[str])


def record(found: TaskRecord) -> None:
    assert_type(found.seedance_task_id, str)
    assert_type(found.status, TaskStatus)
    assert_type(found.urls, list[str])
    assert_type(found.outputs, tuple[TaskOutput, ...])
    assert_type(found.credits_used, Decimal | None)
    assert_type(found.failure, TaskFailure | None)
    assert_type(found.outputs[0].last_frame_image, str | None)
    assert_type(parse_webhook(b"{}"), TaskRecord)


def errors() -> None:
    try:
        SeedanceHook().create_task("seedance-20", {})
    except SeedanceInsufficientCreditsError as error:
        assert_type(error.required, Decimal | None)
    except SeedanceConcurrencyLimitError as error:
        assert_type(error.limit, int | None)
    except SeedanceInvalidRequestError as error:
        assert_type(error.errors, list[dict[str, str]])
    except SeedanceTaskFailedError as error:
        assert_type(error.code, str | None)
        assert_type(error.record, FailedRecord | None)
    except SeedanceTaskTimeoutError as error:
        assert_type(error.seedance_task_id, str | None)
    except SeedanceTransferError as error:
        assert_type(error.url, str | None)
        assert_type(error.path, str | None)
    except SeedanceError as error:
        assert_type(error.status_code, int | None)
        assert_type(error.message, str)
        assert_type(error.charged, Charged)
        assert_type(error.retryable, bool)


def trigger() -> None:
    SeedanceTaskTrigger("seedance_default", "task_1", None, 1.0)
    SeedanceTaskTrigger(seedance_conn_id="x", seedance_task_id="task_1", poll_interval=10, deadline=1.0)


def emulator() -> None:
    with Emulator(waiting_seconds=0.1, dialect="seed") as running:
        assert_type(running.url, str)
        running.add_fault("http", status=500)


def mistakes() -> None:
    # Each of these must be an error: mypy reports an ignore that is not needed.
    SeedanceHook().create_task("seedance-20")  # type: ignore[call-arg]
    SeedanceHook().create_task("seedance-20", "a fox")  # type: ignore[arg-type]
    SeedanceTaskTrigger("seedance_default", "task_1", None)  # type: ignore[call-arg]
    SeedanceTaskSensor(task_id="wait")  # type: ignore[call-arg]
    SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1", poll_interval="10")  # type: ignore[arg-type]

    @seedance_task  # type: ignore[type-var]
    def nothing() -> None: ...

    @seedance_task(model="seedance-20")  # type: ignore[type-var]
    def a_list() -> list[str]:
        return []
