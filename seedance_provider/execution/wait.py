"""Waiting for the end of a task: in the triggerer, on the worker, or by one poll at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.api import flows
from seedance_provider.api.failures import may_resubmit_help
from seedance_provider.config import command, default_poll_interval, default_wait_timeout
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceOutputMissingError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.execution import spending, submit
from seedance_provider.execution.receipts import Outcome, Stage
from seedance_provider.execution.results import report
from seedance_provider.triggers.seedance import SeedanceTaskTrigger

if TYPE_CHECKING:
    from seedance_provider.api.records import TaskRecord
    from seedance_provider.exceptions import FailedRecord
    from seedance_provider.execution.job import Job
    from seedance_provider.execution.submit import Submission
    from seedance_provider.hooks.seedance import SeedanceHook


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for one task.

    :param hook: The connection.
    :param seedance_task_id: The task's id.
    :param poll_interval: Seconds between polls; None for Airflow's ``[seedance] poll_interval``, else adaptive.
    :param started_at: When waiting began, epoch seconds.
    :param timeout: Seconds from then to the deadline; None for Airflow's ``[seedance] timeout``.
    :param alive: Whether the task was seen to exist.
    :param urgent: Whether its slot is wanted as soon as it is free.
    """

    hook: SeedanceHook
    seedance_task_id: str
    poll_interval: float | None
    started_at: float
    timeout: float | None
    alive: bool = False
    urgent: bool = False

    @property
    def deadline(self) -> float:
        """When to give up, epoch seconds."""
        return self.started_at + (self.timeout or default_wait_timeout())

    def watch(self) -> flows.Watch:
        """The wait as flows take it."""
        watch = self.hook.watch(
            self.seedance_task_id,
            poll_interval=self.poll_interval or default_poll_interval(),
            started_at=self.started_at,
            deadline=self.deadline,
        )
        watch.alive = self.alive
        watch.urgent = lambda: self.urgent
        return watch

    def block(self) -> TaskRecord:
        """Wait on the worker.

        :return: The record of the success.
        """
        return self.hook.run(flows.wait(self.watch()))

    def poll(self) -> tuple[TaskRecord | None, flows.Watch]:
        """Poll once.

        :return: The record of a success, None if the task still runs; and what is known of it then.
        """
        watch = self.watch()
        return self.hook.run(flows.poll(watch)), watch

    def defer(self, watch: flows.Watch, state: ResumeState | None = None) -> NoReturn:
        """Hand the wait to the triggerer; ``execute_complete`` of the operator gets the event.

        :raises TaskDeferred: always.
        """
        self.hook.log.info(
            "Waiting deferred, until %s UTC at the latest (task %s)",
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(watch.deadline)),
            self.seedance_task_id,
        )
        raise TaskDeferred(
            trigger=SeedanceTaskTrigger(
                self.hook.seedance_conn_id,
                self.seedance_task_id,
                watch.poll_interval,
                watch.deadline,
                started_at=self.started_at,
                last_status=watch.last_status,
                alive=watch.alive,
                state=(state or ResumeState()).to_json(),
                urgent=self.urgent,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(watch.deadline - time.time(), 0) + defaults.BACKSTOP_SECONDS),
        )


def of_a_slot(job: Job, error: SeedanceError) -> SeedanceError:
    """The error to fail with when no slot was found in time.

    :param job: What is wanted.
    :param error: What the wait ended with.
    """
    return submit.outcome(job, error) if job.state.unknown else error


def outcome(event: TaskEvent) -> TaskRecord:
    """Read the end of a wait.

    :return: The record of a success.
    :raises SeedanceError: what the wait ended with.
    """
    if event.error is not None:
        raise event.error
    if event.record is None:
        raise SeedanceError(
            f"The trigger fired an event of status {event.status!r} where the end of a task was expected"
        )
    return event.record


def known_task_id(job: Job) -> str | None:
    """The task that a deferred task instance waits for, after a deferral that ended without an event."""
    try:
        saved = job.receipts.load()
        if saved is not None:
            return saved.seedance_task_id
        # XCom is kept over a deferral, other than over a retry.
        ti: Any = job.context["ti"]
        pulled = ti.xcom_pull(
            task_ids=job.task_id, key=submit.XCOM_TASK_ID_KEY, map_indexes=getattr(ti, "map_index", -1)
        )
    except Exception:
        job.log.exception("The task that was waited for is not known here; its id is in the log above")
        return None
    return pulled if isinstance(pulled, str) else None


def last_poll(hook: SeedanceHook, seedance_task_id: str, reason: str) -> TaskRecord:
    """Poll once, free, after a deferral that Airflow itself ended: a finished video is not given up.

    :param hook: The connection.
    :param seedance_task_id: The task's id.
    :param reason: Why Airflow ended the deferral.
    :return: The record of a success.
    :raises SeedanceTaskTimeoutError: if it still runs, and Airflow's reason is that the deadline passed.
    :raises SeedanceError: if it still runs, ended otherwise, or could not be polled.
    """
    hook.log.warning("Airflow ended the deferral (%s); polling once (task %s)", reason, seedance_task_id)
    record = hook.get_task(seedance_task_id)
    if record.failure is not None:
        raise flows.task_failed(record)
    if record.outputs:
        return record
    # Its word is "Trigger timeout"; "Trigger failure" says nothing of the deadline.
    kind = SeedanceTaskTimeoutError if "timeout" in reason.lower() else SeedanceError
    raise kind(
        f"Airflow ended the deferral ({reason}) while the status was {record.raw_status!r}. {flows.CLEAR_TO_WAIT}. "
        f"{flows.keeps_running(seedance_task_id)}",
        seedance_task_id=seedance_task_id,
        charged="yes",
    )


def follow(
    job: Job, submission: Submission, *, poll_interval: float | None, timeout: float | None, resubmits: int
) -> TaskRecord:
    """Wait for a task, and for those that replace it if it fails for a transient reason.

    :param job: What is wanted.
    :param submission: The task.
    :param poll_interval: Seconds between polls; None for the default.
    :param timeout: Seconds to wait from the submission; None for the default.
    :param resubmits: How often a task that failed for a transient reason is submitted again.
    :return: The record of the success.
    :raises SeedanceError: what the wait ends with.
    :raises TaskDeferred: to wait in the triggerer.
    """
    while True:
        try:
            return noting_the_end(
                job, submission.seedance_task_id, partial(_wait, job, submission, poll_interval, timeout)
            )
        except SeedanceTaskFailedError as failure:
            # Of an earlier try's task, the retry itself, which the DAG author granted, is the permission.
            if not (submission.is_earlier and submission.is_own and _may_help(failure)):
                job.state = resubmitting(job, failure, resubmits)
        submission = submit.resubmit(job, submission.seedance_task_id)


def resubmitting(job: Job, failure: SeedanceTaskFailedError, resubmits: int) -> ResumeState:
    """Decide whether a failed task is submitted again.

    :return: The state for that submission.
    :raises SeedanceTaskFailedError: if it is not.
    """
    if job.state.resubmitted >= resubmits or not _may_help(failure):
        raise failure
    report("fail", failure.record)
    state = job.state.next_submission()
    job.log.warning(
        "Transient failure: %s. Submitting again, %d of %d resubmits (former task %s)",
        failure.message,
        state.resubmitted,
        resubmits,
        failure.seedance_task_id,
    )
    return state


def _may_help(failure: SeedanceTaskFailedError) -> bool:
    return (
        failure.record is not None and failure.record.failure is not None and may_resubmit_help(failure.record.failure)
    )


def _wait(job: Job, submission: Submission, poll_interval: float | None, timeout: float | None) -> TaskRecord:
    now = time.time()
    timeout = timeout or default_wait_timeout()
    wait = Wait(
        job.hook,
        submission.seedance_task_id,
        poll_interval,
        started_at=submission.submitted_at,
        # A retry that continues with a task waits its full time again, like any other waiting of a new try.
        timeout=timeout + max(now - submission.submitted_at, 0),
        alive=submission.is_earlier,
        urgent=job.has_pool,
    )
    if not job.deferrable:
        return wait.block()
    if now - submission.submitted_at < 1:  # one just created need not be polled
        wait.defer(wait.watch(), job.state)
    record, watch = wait.poll()
    return record or wait.defer(watch, job.state)


def noting_the_end(job: Job, seedance_task_id: str, outcome: Callable[[], TaskRecord]) -> TaskRecord:
    """Remember how a wait ends; say, where it breaks off, how to get the video all the same.

    :param job: What is wanted.
    :param seedance_task_id: The task.
    :param outcome: The wait.
    :return: The record of the success.
    :raises SeedanceError: what the wait ends with.
    """
    submit.store_again(job, seedance_task_id)
    try:
        record = outcome()
    except SeedanceOutputMissingError as error:
        _tell_how_to_continue(job, seedance_task_id, error)
        raise
    except SeedanceTaskFailedError as failure:
        _note_end(job, seedance_task_id, Outcome.FAIL, failure.record, failure.message)
        raise
    except SeedanceError as error:
        if seedance_task_id:
            _tell_how_to_continue(job, seedance_task_id, error)
            if flows.CLEAR_TO_WAIT in str(error) and not job.receipts.remembers:
                do_not = "Do not clear this task, which would submit another"
                raise error.retold(str(error).replace(flows.CLEAR_TO_WAIT, do_not)) from error
            raise
        raise of_a_slot(job, error) from error
    _note_end(job, seedance_task_id, Outcome.SUCCESS, record)
    return record


def _note_end(
    job: Job, seedance_task_id: str, ending: Outcome, record: FailedRecord | None, reason: str | None = None
) -> None:
    try:
        charged = None if record is None else record.credits_used
        if ending is Outcome.FAIL:
            charged = Decimal(0)  # the vendor refunds it
        if ending is Outcome.SUCCESS and record is not None:
            spending.compare(job, record)
        # The delivery tells of a success; until then another poll gives the same answer, free. Storing takes its time:
        # who looks meanwhile shall see that the video is there.
        is_told_later = ending is Outcome.SUCCESS and not job.stores
        if is_told_later and not spending.has_budget(job):
            return
        saved = job.receipts.load()
        if saved is None or saved.seedance_task_id != seedance_task_id:
            return
        if charged is not None:
            spending.settle(job, charged)
        job.receipts.facts.credits, job.receipts.facts.reason = charged, reason
    except Exception:
        job.log.exception("The end could not be stored (task %s)", seedance_task_id)
        return
    was_delivered = saved.stage is Stage.DELIVERED and ending is Outcome.SUCCESS  # found by its idempotency key
    if not (is_told_later or was_delivered):
        job.receipts.note(replace(saved.written_by(job.stamp), stage=Stage.ENDED, outcome=ending))


def _was_delivered(job: Job) -> bool:
    try:
        saved = job.receipts.load()
    except Exception:
        job.log.exception("The receipt could not be read")
        return False
    return saved is not None and saved.stage is Stage.DELIVERED


def _tell_how_to_continue(job: Job, seedance_task_id: str, error: SeedanceError) -> None:
    if job.key is not None and isinstance(error, SeedanceTaskNotFoundError) and _was_delivered(job):
        forget = command("forget", job.key, "--conn-id", job.seedance_conn_id)
        job.log.warning("Everybody who asks by this idempotency key fails alike. For a new video: %s", forget)
        return
    clear = "A clear of this task would submit another"
    if job.receipts.remembers:
        clear = "A clear of this task continues with it, free (with other inputs, or durable=False, it submits another)"
    if job.key is not None:
        clear = "Whoever asks by the same idempotency key continues with it, free"
    job.log.warning("%s. %s", clear, flows.keeps_running(seedance_task_id))
