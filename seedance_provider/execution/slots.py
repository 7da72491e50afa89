"""Waiting for a free slot of the account, holding neither a worker nor a retry."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.triggers.slots import SeedanceSlotTrigger, no_slot

if TYPE_CHECKING:
    from seedance_provider.exceptions import SeedanceConcurrencyLimitError
    from seedance_provider.execution.job import Job


def wait_for_slot(job: Job, refusal: SeedanceConcurrencyLimitError) -> None:
    """Wait until it is worth submitting again; returns only where the task must not defer.

    :param job: What is wanted.
    :param refusal: The 429.
    :raises SeedanceConcurrencyLimitError: after ``slot_timeout``, counted from the first refusal of this submission.
    :raises TaskDeferred: to wait in the triggerer.
    """
    now = time.time()
    since = now if job.state.slot_since is None else job.state.slot_since
    deadline = since + job.slot_timeout
    if now >= deadline:
        raise no_slot(job.slot_timeout, refusal)
    job.state = replace(job.state, slot_since=since)
    in_use = (
        "" if refusal.limit is None or refusal.current is None else f" ({refusal.current} of {refusal.limit} in use)"
    )
    job.log.info(
        "No free slot%s%s. Waiting %s, until %s UTC at the latest",
        in_use,
        "; nothing was charged" if refusal.charged == "no" else "",
        "deferred" if job.deferrable else "on the worker",
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(deadline)),
    )
    if job.follows and since == now:
        job.log.info("A pool avoids refusals: add pool='seedance' to the task, and make it with")
        job.log.info("airflow pools set seedance %d slots --include-deferred", refusal.limit or 5)
    if not job.deferrable:
        time.sleep(min(job.slot_poll_interval, deadline - now))
        return
    raise TaskDeferred(
        trigger=SeedanceSlotTrigger(
            job.seedance_conn_id,
            since=since,
            refused_at=now,
            poll_interval=max(job.slot_poll_interval, refusal.retry_after or 0),
            deadline=deadline,
            limit=refusal.limit,
            state=job.state.to_json(),
        ),
        method_name="execute_complete",
        timeout=timedelta(seconds=deadline - now + defaults.BACKSTOP_SECONDS),
    )
