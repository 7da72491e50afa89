"""What Airflow's stats are told at the end of each task: ``seedance.tasks``, ``seedance.credits_used`` and
``seedance.generation_seconds``, tagged with the model and the outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from seedance_provider.exceptions import SeedanceTaskFailedError, SeedanceTaskTimeoutError

if TYPE_CHECKING:
    from seedance_provider.api.models import TaskRecord

log = logging.getLogger(__name__)

Outcome = Literal["success", "fail", "timeout"]


def report(outcome: Outcome, record: TaskRecord | None) -> None:
    """Count one ended task.

    :param outcome: How it ended.
    :param record: Its record, if there is one. Credits are counted for a success only: failed tasks are refunded.
    """
    try:
        _report(outcome, record)
    except Exception:
        # A backend of the user's that fails must not fail a task whose video is paid for.
        log.exception("The metrics of a task could not be reported")


def _report(outcome: Outcome, record: TaskRecord | None) -> None:
    from airflow.providers.common.compat.sdk import Stats

    tags = {"model": (record and record.model) or "unknown", "outcome": outcome}
    Stats.incr("seedance.tasks", tags=tags)
    if record is None:
        return
    if outcome == "success" and record.credits_used is not None and record.credits_used >= 0:
        # A float where the amount has a fraction, which all backends take: rounding would add up to a wrong bill.
        used = record.credits_used
        count = int(used) if used == int(used) else float(used)
        Stats.incr("seedance.credits_used", count, tags=tags)  # type: ignore[arg-type]
    if record.generation_seconds is not None:
        Stats.timing("seedance.generation_seconds", timedelta(seconds=record.generation_seconds), tags=tags)


@contextmanager
def reporting_failures() -> Iterator[None]:
    """Count a task whose wait ends in an error; a success is counted where it is finished."""
    try:
        yield
    except SeedanceTaskFailedError as error:
        report("fail", error.record)
        raise
    except SeedanceTaskTimeoutError:
        report("timeout", None)
        raise
