"""Idempotency keys: of all who name one, one submits, and the others wait for its outcome.

Of two who write an intent and then list, at least one sees the other's: whoever sees another's withdraws.
"""

from __future__ import annotations

import random
import time
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.api.schedule import in_words
from seedance_provider.exceptions import SeedanceError
from seedance_provider.execution import spending
from seedance_provider.triggers.ledger import SeedanceLedgerTrigger

if TYPE_CHECKING:
    from seedance_provider.execution.job import Job
    from seedance_provider.execution.memory import Found


def intent_seconds(job: Job) -> float:
    """For how long another task's createTask may still be under way: each attempt writes an intent of its own."""
    settings = job.hook.settings
    return max(defaults.INTENT_SECONDS, 2 * (settings.connect_timeout + settings.read_timeout))


def is_contested(job: Job) -> bool:
    """Whether another task has begun to submit by the same key since this one decided to. One list.

    :raises SeedanceError: if the ledger cannot be listed.
    """
    return job.receipts.ledger is not None and job.receipts.ledger.is_contested()


def withdraw(job: Job) -> None:
    """Give up a submission whose request was not sent, and let chance decide who is first now."""
    spending.settle(job, Decimal(0))
    try:
        job.receipts.withdraw(job.wanted)
    except SeedanceError:
        job.log.exception(
            "The intent could not be withdrawn: others wait for it, %s at most", in_words(intent_seconds(job))
        )
    time.sleep(random.uniform(0.2, 2))


def wait_for_outcome(job: Job, found: Found) -> None:
    """Wait until another task's createTask has an outcome; returns only where the task must not defer.

    :param job: What is wanted.
    :param found: The other task's intent.
    :raises TaskDeferred: to wait in the triggerer.
    """
    ledger = job.receipts.ledger
    assert ledger is not None  # noqa: S101 - there is no key without one
    seconds = min(max(intent_seconds(job) - found.age, 1.0), job.slot_timeout)
    job.log.info(
        "Another task is submitting by idempotency_key=%r. Waiting %s for its outcome, %s at most",
        job.key,
        "deferred" if job.deferrable else "on the worker",
        in_words(seconds),
    )
    if not job.deferrable:
        time.sleep(min(defaults.LEDGER_POLL_INTERVAL, seconds))
        return
    now = time.time()
    raise TaskDeferred(
        trigger=SeedanceLedgerTrigger(
            ledger.folder.url,
            str(ledger.standing),
            deadline=now + seconds,
            state=job.state.to_json(),
            deferred_at=now,
        ),
        method_name="execute_complete",
        timeout=timedelta(seconds=seconds + defaults.BACKSTOP_SECONDS),
    )
