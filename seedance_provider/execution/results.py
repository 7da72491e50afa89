"""How a wait ends: the log, XCom and metrics of a success and of a failure, alike for every operator and mode."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseSensorOperator, Stats

from seedance_provider.exceptions import SeedanceError, SeedanceTaskFailedError, SeedanceTaskTimeoutError
from seedance_provider.execution import assets, collected
from seedance_provider.execution.receipts import Outcome
from seedance_provider.links.seedance import XCOM_RECORD_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.api.records import TaskRecord
    from seedance_provider.exceptions import FailedRecord
    from seedance_provider.execution.job import Job
    from seedance_provider.execution.storage import StoredFile

log = logging.getLogger(__name__)

XCOM_ERROR_KEY = "seedance_error"
"""The XCom key that holds what a later task needs of a failure for a summary."""
XCOM_FILES_KEY = "seedance_files"
"""The XCom key that holds the path, size, digest and source of each stored file."""


def finish(
    record: TaskRecord,
    operator: BaseOperator,
    context: Context,
    task_log: AnyLogger,
    files: Sequence[StoredFile] | None = None,
    job: Job | None = None,
) -> list[str]:
    """End a wait well: say so in the log, push the record, and tell the task's asset outlets.

    :param record: The record of the success.
    :param operator: The waiting task.
    :param context: Its context.
    :param task_log: The task's log.
    :param files: Where its outputs were stored; None if nobody asked for that.
    :param job: What was wanted, if the task instance submitted it.
    :return: The output URLs, or the paths of the files.
    """
    seconds = record.generation_seconds
    task_log.info(
        "Success: %s credits, generated in %s (task %s)",
        "an unknown number of" if record.credits_used is None else record.credits_used,
        "an unknown time" if seconds is None else f"{seconds:.0f} s",
        record.seedance_task_id,
    )
    for url in record.urls:
        # Some are signed: who reads the log must not get access with it.
        task_log.info("Output: %s", url.partition("?")[0])
    _push(operator, context, XCOM_RECORD_KEY, record.model_dump(mode="json"), must=True)
    report("success", record)
    if isinstance(operator, BaseSensorOperator):  # who submits a task and follows it tells of its end itself
        collected.note_end(record, Outcome.SUCCESS, task_log, paths=[file.path for file in files or ()])
    _link(operator, record.urls[0], files)
    delivery = assets.Delivery(record.seedance_task_id, record.model, record, files or ())
    if job is not None:
        delivery = replace(delivery, model=job.model, inputs=job.known_inputs, estimate=job.expected)
    assets.deliver(delivery, operator, context, task_log)
    return record.urls if files is None else _push_files(files, operator, context)


def finish_transfer(
    files: Sequence[StoredFile], operator: BaseOperator, context: Context, record: TaskRecord | None = None
) -> list[str]:
    """End a transfer well: push what was stored, and tell the task's asset outlets.

    :param files: The files.
    :param operator: The task that stored them.
    :param context: Its context.
    :param record: The record of the task that made them; None if that is not known.
    :return: Their paths.
    """
    delivery = assets.Delivery(None, files=files)
    _link(operator, "" if record is None else record.urls[0], files)
    if record is not None:
        delivery = replace(delivery, seedance_task_id=record.seedance_task_id, model=record.model, record=record)
    assets.deliver(delivery, operator, context, operator.log)
    return _push_files(files, operator, context)


def _link(operator: BaseOperator, url: str, files: Sequence[StoredFile] | None) -> None:
    """Tell the extra link where the first output is."""
    operator.video_url = url
    operator.stored_at = files[0].path if files else None


def _push_files(files: Sequence[StoredFile], operator: BaseOperator, context: Context) -> list[str]:
    _push(operator, context, XCOM_FILES_KEY, [file._asdict() for file in files], must=True)
    return [file.path for file in files]


@contextmanager
def reporting_failures(operator: BaseOperator, context: Context) -> Iterator[None]:
    """Push and count a task that ends in an error; a success is counted where it is finished."""
    try:
        yield
    except SeedanceError as error:
        if isinstance(error, SeedanceTaskFailedError):
            report("fail", error.record)
            if isinstance(operator, BaseSensorOperator) and error.charged == "no":
                collected.note_end(error.record, Outcome.FAIL, log, reason=error.message)
            if error.record is not None:
                _push(operator, context, XCOM_RECORD_KEY, error.record.model_dump(mode="json"))
        elif isinstance(error, SeedanceTaskTimeoutError):
            report("timeout", None)
        assets.fail(error, operator)
        _push(operator, context, XCOM_ERROR_KEY, summary(error))
        raise


def summary(error: SeedanceError) -> dict[str, Any]:
    """What a later task needs of a failure: ``type``, ``message``, ``code``, ``status_code``, ``charged``,
    ``seedance_task_id``, and as ``text`` all of it in one paragraph, with what to do.
    """
    return {
        "text": told(type(error).__name__, str(error), error.charged, error.seedance_task_id),
        "type": type(error).__name__,
        "message": error.message,
        "code": getattr(error, "code", None),
        "status_code": error.status_code,
        "charged": error.charged,
        "seedance_task_id": error.seedance_task_id,
    }


def told(kind: str, said: str, charged: str, seedance_task_id: str | None) -> str:
    """Put a failure into words, with the id at the end.

    :param kind: The class of the error.
    :param said: What the error says.
    :param charged: ``no``, ``unknown`` or ``yes``.
    :param seedance_task_id: The vendor's task, if known.
    """
    about = f" (task {seedance_task_id})" if seedance_task_id else ""
    happened = ": ".join(filter(None, (kind, said.removesuffix(about))))
    return f"{happened.rstrip('.')}. Charged: {charged}{about}"


def _push(operator: BaseOperator, context: Context, key: str, value: Any, *, must: bool = False) -> None:
    if not operator.do_xcom_push:
        return
    try:
        context["ti"].xcom_push(key=key, value=value)
    except Exception:
        if must:
            raise
        log.exception("Pushing %s to XCom failed", key)


Ending = Literal["success", "fail", "timeout"]


def report(ending: Ending, record: FailedRecord | None) -> None:
    """Count one ended task: ``seedance.tasks``, ``seedance.credits_used`` and ``seedance.generation_seconds``.

    :param ending: How it ended.
    :param record: Its record, if there is one. Credits are counted for a success only: failed tasks are refunded.
    """
    try:
        _report(ending, record)
    except Exception:
        # A backend of the user's that fails must not fail a task whose video is charged.
        log.exception("The metrics of a task could not be reported")


def _report(ending: Ending, record: FailedRecord | None) -> None:
    tags = {"model": (record and record.model) or "unknown", "outcome": ending}
    Stats.incr("seedance.tasks", tags=tags)
    if record is None:
        return
    if ending == "success" and record.credits_used is not None and record.credits_used >= 0:
        # A float where the amount has a fraction, which all backends take: rounding would add up to a wrong bill.
        Stats.incr("seedance.credits_used", assets.number(record.credits_used), tags=tags)  # type: ignore[arg-type]
    if record.generation_seconds is not None:
        Stats.timing("seedance.generation_seconds", timedelta(seconds=record.generation_seconds), tags=tags)
