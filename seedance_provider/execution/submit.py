"""Submitting: receipt, createTask, id, so that one wanted video is one createTask wherever that can be decided."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from seedance_provider import defaults
from seedance_provider.api import schedule
from seedance_provider.api.errors import CHECK_MANUALLY
from seedance_provider.api.validation import MEDIA_FIELDS, is_local_media
from seedance_provider.config import SubmitPolicy, command
from seedance_provider.exceptions import (
    SeedanceConcurrencyLimitError,
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceSubmitUncertainError,
)
from seedance_provider.execution import callbacks, keys, slots, spending
from seedance_provider.execution.receipts import Decision, Receipt, Ruling, Stage, decide, decide_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seedance_provider.execution.job import Job
    from seedance_provider.execution.memory import Found

XCOM_TASK_ID_KEY = "seedance_task_id"
XCOM_INPUTS_KEY = "seedance_inputs"
"""The inputs that the function of a decorated task wrote."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A task that exists.

    :param receipt: Its receipt, with the id.
    :param seedance_task_id: The id.
    :param is_earlier: Whether it was submitted before this try.
    :param is_own: Whether this task instance submitted it, and not another one by its idempotency key.
    """

    receipt: Receipt
    seedance_task_id: str
    is_earlier: bool = False
    is_own: bool = True

    @property
    def submitted_at(self) -> float:
        """When it was accepted, epoch seconds."""
        return self.receipt.submitted_at or time.time()


def obtain(job: Job, *, failed: str | None = None) -> Submission:
    """Submit the wanted task, or find it if an earlier try, or another task of the same idempotency key, did.

    :param job: What is wanted.
    :param failed: A task that is known to have failed.
    :raises SeedanceSubmitUncertainError: if a task may exist whose id is unknown.
    :raises SeedanceError: any other row of the error table.
    :raises TaskDeferred: to wait for a slot, or for the outcome of another task's createTask.
    """
    while True:
        found = job.receipts.find()
        ruling = _rule(job, found, failed)
        if ruling.decision is Decision.WAIT:
            assert found is not None  # noqa: S101 - nothing else can be waited for
            keys.wait_for_outcome(job, found)
            continue
        if ruling.decision is Decision.UNCERTAIN and callbacks.wait_for_callback(job, found):
            continue
        if ruling.decision is Decision.CONTINUE:
            assert found is not None  # noqa: S101 - nothing else can be continued with
            return _continue(job, found, ruling.reason)
        is_safe = job.hook.effective_submit_policy is SubmitPolicy.SAFE
        if ruling.decision is Decision.UNCERTAIN and (is_safe or job.state.review):
            _note_told(job, found and found.receipt, ruling.unknown)
            charged = "so a video may have been charged"
            if is_safe:
                charged = "so a video may have been charged; submit_policy='safe' does not send it again"
            raise SeedanceSubmitUncertainError(f"{ruling.reason}, {charged}. {job.receipts.manual_review}")
        if ruling.decision is Decision.UNCERTAIN and ruling.unknown < defaults.MAX_UNKNOWN_OUTCOMES:
            job.log.warning(
                "%s. Sending it again, as submit_policy='vendor' says: it may be charged twice", ruling.reason
            )
        elif ruling.reason and ruling.decision is Decision.SUBMIT:
            job.log.warning("%s", ruling.reason)
        try:
            return _submit(job, ruling.unknown, saved=found and found.receipt, failed=failed)
        except _UndecidedError:
            continue


def resubmit(job: Job, failed: str) -> Submission:
    """Submit again what has failed; with an idempotency key, unless somebody else did.

    :param job: What is wanted.
    :param failed: The failed task.
    :raises SeedanceError: any row of the error table.
    :raises TaskDeferred: to wait for a slot, or for the outcome of another task's createTask.
    """
    if job.key is not None:
        return obtain(job, failed=failed)
    try:
        return _submit(job, saved=job.wanted, failed=failed)
    except _UndecidedError:
        return obtain(job, failed=failed)


def _rule(job: Job, found: Found | None, failed: str | None) -> Ruling:
    saved = found and found.receipt
    if saved is None and job.state.unknown:
        return Ruling(
            Decision.UNCERTAIN,
            "This try sent createTask before it waited for a slot, and its outcome is unknown",
            job.state.unknown,
        )
    if job.key is None:
        return decide(saved, job.wanted, remembers=job.receipts.remembers, refused=job.state.refused)
    ruling = decide_shared(
        saved,
        job.wanted,
        is_own=found is None or found.is_own,
        is_recent=found is not None and found.age < keys.intent_seconds(job),
        refused=job.state.refused,
        failed=failed,
    )
    if ruling.decision is Decision.MISMATCH:
        raise SeedanceConfigurationError(
            f"idempotency_key={job.key!r} stands for a video of another model or other inputs. No request was sent. "
            f"Change the key, or forget it: {command('forget', job.key, '--conn-id', job.seedance_conn_id)}"
        )
    return ruling


def _continue(job: Job, found: Found, reason: str) -> Submission:
    saved = found.receipt
    assert saved.seedance_task_id is not None  # noqa: S101 - nothing else can be continued with
    job.log.info("%s", reason)
    receipt = saved.written_by(job.stamp)
    job.receipts.note(receipt)
    job.push(XCOM_TASK_ID_KEY, receipt.seedance_task_id)
    if not job.follows:
        job.receipts.point(saved.seedance_task_id)
    return Submission(receipt, saved.seedance_task_id, is_earlier=True, is_own=found.is_own)


def _note_told(job: Job, saved: Receipt | None, unknown: int) -> None:
    # Other inputs may be wanted by now: the receipt is of the request whose outcome is unknown.
    receipt = job.wanted if saved is None else saved.written_by(job.stamp)
    job.receipts.note(replace(receipt, stage=Stage.INTENT, unknown=unknown, told=True))


class _UndecidedError(Exception):
    """Others may have submitted by the same idempotency key meanwhile: decide again."""


def _submit(job: Job, unknown: int = 0, *, saved: Receipt | None = None, failed: str | None = None) -> Submission:
    """Send createTask, with its receipt before and its id after; wait for a slot if there is none."""
    job.check()
    base_url = job.hook.settings.base_url
    receiver_url = callbacks.receiver_url(job)
    job.wanted = job.wanted.after(saved, failed, called_back=receiver_url is not None)
    while True:
        inputs = _with_public_media(job) if job.upload_media else job.inputs
        memory = _Memory(job, unknown)
        try:
            spending.reserve(job, job.receipts.begin())
            seedance_task_id = job.hook.create_task(
                job.model,
                inputs,
                callback_url=receiver_url or job.callback_url,
                # What the vendor accepted it will call back about: that is waited for before anything is sent again.
                submit_policy=SubmitPolicy.SAFE if receiver_url else None,
                unknown=unknown,
                remember=memory.remember,
            )
        except _UndecidedError:
            keys.withdraw(job)
            raise
        except SeedanceConcurrencyLimitError as refusal:
            unknown = memory.unknown
            memory.end(refusal)
            is_told = memory.is_stored and job.receipts.remembers
            job.state = replace(job.state, refused=not unknown and not is_told, unknown=unknown)
            try:
                slots.wait_for_slot(job, refusal)
            except SeedanceConcurrencyLimitError as error:
                raise outcome(job, error) from refusal
            if job.key is not None:
                raise _UndecidedError from refusal
            continue
        except SeedanceError as error:
            memory.end(error)
            job.state = replace(job.state, unknown=memory.unknown)
            if receiver_url and memory.is_unknown:
                job.log.warning("%s", callbacks.lost_answer(error))
                job.state = replace(job.state, review=error.status_code is not None and error.status_code < 300)
                raise _UndecidedError from error
            raise outcome(job, error) from error
        break
    # In this order: a line of log is the quickest memory, the receipt the one that a retry reads.
    job.log.info("Created task %s with model %s on %s", seedance_task_id, job.model, base_url)
    receipt = job.wanted.submitted(seedance_task_id, time.time())
    stored = job.receipts.note(receipt)
    job.push(XCOM_TASK_ID_KEY, seedance_task_id)
    for attempt in range(1, defaults.ATTEMPTS):
        if stored:
            break
        time.sleep(schedule.backoff(attempt, random.random()))
        stored = job.receipts.note(receipt)
    if not job.follows:
        job.receipts.point(seedance_task_id)
    job.state = replace(job.state, unknown=0, unstored=not stored)
    return Submission(receipt, seedance_task_id)


def store_again(job: Job, seedance_task_id: str) -> None:
    """Store the id that could not be stored when it arrived, before anything else can end the try.

    :param job: What is wanted.
    :param seedance_task_id: The id.
    """
    if not job.state.unstored or not seedance_task_id:
        return
    try:
        found = job.receipts.find()
    except Exception:
        job.log.exception("The receipt could not be read; a retry would not know the task (task %s)", seedance_task_id)
        return
    # Another task's intent, of the same idempotency key, or another submission is not this one's.
    if found is None or not found.is_own or found.receipt.stage is not Stage.INTENT:
        return
    receipt = found.receipt.written_by(job.stamp).submitted(seedance_task_id, time.time())
    job.state = replace(job.state, unstored=not job.receipts.note(receipt))


class _Memory:
    """Keeps count of the createTasks of unknown outcome, and the receipt in step with it."""

    def __init__(self, job: Job, unknown: int) -> None:
        self._job = job
        self._is_asked = False
        self._before = unknown
        self.unknown = unknown
        self.is_stored = False

    def remember(self, unknown: int) -> None:
        """Store the count: what comes before a createTask must be stored, what comes after a refusal need not be.

        :raises _UndecidedError: if another task is submitting by the same idempotency key.
        """
        receipt = replace(self._job.wanted, unknown=unknown, stage=Stage.INTENT if unknown else Stage.REFUSED)
        if unknown <= self.unknown:
            self.unknown = unknown
            self.is_stored = self._job.receipts.note(receipt)
            return
        self._job.receipts.save(receipt)
        if not self._is_asked:
            self._is_asked = True
            may_be_decided = self._job.key is not None or (self._before and self._job.wanted.called_back)
            if may_be_decided and keys.is_contested(self._job):
                raise _UndecidedError
        self.unknown = unknown
        # Of the createTask that is sent now nothing is known yet.
        self._job.state = replace(self._job.state, refused=False)

    @property
    def is_unknown(self) -> bool:
        """Whether a createTask was sent whose outcome is unknown."""
        return self.unknown > self._before

    def end(self, error: SeedanceError) -> None:
        """Give back what was reserved for a createTask that was not charged for certain, and note why."""
        if self.is_unknown:
            return
        spending.settle(self._job, Decimal(0))
        is_final = not isinstance(error, SeedanceConcurrencyLimitError)  # of these there may be hundreds
        if is_final and not self.unknown and self._job.receipts.ledger is not None:
            self._job.receipts.facts.reason = error.message
            self._job.receipts.note(replace(self._job.wanted, stage=Stage.REFUSED))


def outcome(job: Job, error: SeedanceError) -> SeedanceError:
    """The error to fail with; what a person was told of an unknown outcome is noted.

    :param job: What is wanted; its state counts the createTasks of unknown outcome.
    :param error: What a submission, or its wait for a slot, ended with.
    """
    unknown = job.state.unknown
    if unknown and error.charged == "no":
        error = error.retold(
            f"{error}. The outcome of {unknown} earlier createTask(s) for this video is unknown. {CHECK_MANUALLY}",
            charged="unknown",
        )
    if error.charged != "unknown":
        return error
    # A flow knows of no ledger.
    error = error.retold(
        str(error).replace(CHECK_MANUALLY, job.receipts.manual_review),
        message=error.message.replace(CHECK_MANUALLY, job.receipts.manual_review),
    )
    if error.retryable and job.will_be_retried and not job.receipts.remembers:
        # A retry would not know of it, and send as many again.
        error = SeedanceSubmitUncertainError(str(error), status_code=error.status_code, message=error.message)
    if not (error.retryable and job.will_be_retried):
        job.receipts.note(replace(job.wanted, unknown=max(unknown, 1), told=True))
    return error


def _with_public_media(job: Job) -> dict[str, Any]:
    """The inputs with files uploaded; uploads are used again after a wait for a slot, while the vendor keeps them."""
    if time.time() - job.state.uploaded_at > defaults.UPLOAD_REUSE_SECONDS:
        job.state = replace(job.state, uploads={}, uploaded_at=time.time())
    return replace_media(job.inputs, job.hook.upload, job.state.uploads)


def replace_media(inputs: Mapping[str, Any], upload: Callable[[Any], str], uploaded: dict[str, str]) -> dict[str, Any]:
    """Put public URLs in the place of files.

    :param inputs: The inputs; not changed.
    :param upload: Uploads one file and returns its public URL.
    :param uploaded: The URLs of files uploaded before, by path; added to.
    :return: The inputs with every file of the media fields replaced.
    """

    def public_url(item: Any) -> Any:
        if not is_local_media(item):
            return item
        key = str(item)
        if key not in uploaded:
            uploaded[key] = upload(item)
        return uploaded[key]

    return {
        name: list(map(public_url, value)) if name in MEDIA_FIELDS and isinstance(value, (list, tuple)) else value
        for name, value in inputs.items()
    }
