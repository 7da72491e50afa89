"""What a submission may cost: its ceilings, compared and reserved before the createTask, and corrected at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from seedance_provider.api import pricing
from seedance_provider.config import ledger_path
from seedance_provider.connection import where_in_extra
from seedance_provider.exceptions import SeedanceConfigurationError
from seedance_provider.execution.budgets import Budget, settle_reservations
from seedance_provider.hooks.ledger_files import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.api.pricing import CreditEstimate
    from seedance_provider.exceptions import FailedRecord
    from seedance_provider.execution.job import Job


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that may be spent on one task, or on all tasks of a budget.

    :param limit: In credits.
    :param where: What sets it, for messages.
    :param budget: Its name; None for a ceiling of one task.
    """

    limit: Decimal
    where: str
    budget: str | None = None


_OF_CONNECTION = "conn/"


def today() -> str:
    """The day (UTC) whose budget counts now."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def budget_of_day(conn_id: str, day: str) -> str:
    """The name of the budget that holds what a connection spends on a day."""
    return f"{_OF_CONNECTION}{conn_id}/{day}"


def read_budget_of_day(budget: str) -> tuple[str, str] | None:
    """The connection and the day of such a name; None for any other budget."""
    if not budget.startswith(_OF_CONNECTION):
        return None
    conn_id, _, day = budget.removeprefix(_OF_CONNECTION).rpartition("/")
    return conn_id, day


def ceilings(job: Job) -> Iterator[Ceiling]:
    """The ceilings of a task instance, those of one task first."""
    settings = job.hook.settings
    if job.max_credits is not None:
        yield Ceiling(job.max_credits, "max_credits")
    if settings.max_credits_per_task is not None:
        yield Ceiling(settings.max_credits_per_task, where_in_extra("max_credits_per_task", job.seedance_conn_id))
    if settings.max_credits_per_day is not None:
        budget = budget_of_day(job.seedance_conn_id, today())
        where = where_in_extra("max_credits_per_day", job.seedance_conn_id)
        yield Ceiling(settings.max_credits_per_day, where, budget)
    if job.budget is not None and job.budget_credits is not None:
        yield Ceiling(job.budget_credits, "budget_credits", job.budget)


def reserve(job: Job, reservation_id: str) -> None:
    """Compare what a task will cost with its ceilings, and reserve it in its budgets, before it is submitted.

    :param job: What is wanted.
    :param reservation_id: Names the submission.
    :raises SeedanceBudgetExceededError: if it may cost more than a ceiling allows, or its price is not known.
    :raises SeedanceConfigurationError: for a budget without a ledger.
    :raises SeedanceError: if a budget cannot be read or written; retryable.
    """
    if job.estimate is not None:
        job.log.info("About %s", str(job.estimate))  # Airflow's masking of arguments makes it a bare tuple
    job.receipts.facts.estimate = job.estimate
    try:
        for ceiling in ceilings(job):
            _hold(job, ceiling, job.estimate, reservation_id)
    except Exception:
        settle(job, Decimal(0))
        raise


def _hold(job: Job, ceiling: Ceiling, estimate: CreditEstimate | None, reservation_id: str) -> None:
    if ceiling.budget is not None:
        job.receipts.facts.reserved[ceiling.budget] = ""  # also what is refused counts among its videos
        job.receipts.facts.limits[ceiling.budget] = pricing.amount(ceiling.limit)
        known = pricing.known(estimate, job.model, ceiling.limit, ceiling.where)
        budget, fix = Budget(_root(ceiling), ceiling.budget), pricing.raise_or_choose(ceiling.where)
        job.receipts.facts.reserved[ceiling.budget] = budget.reserve(reservation_id, known, ceiling.limit, fix)
    else:
        pricing.hold(estimate, job.model, ceiling.limit, ceiling.where)


def _root(ceiling: Ceiling) -> Folder:
    root = ledger_path()
    if root is None:
        raise SeedanceConfigurationError(
            f"{ceiling.where} needs a ledger: set [seedance] ledger_path of Airflow's configuration, such as "
            "s3://aws_default@bucket/seedance. No request was sent"
        )
    return Folder(root)


def settle(job: Job, credits: Decimal) -> None:  # noqa: A002 - the vendor's word
    """Correct what was reserved by what was charged; a budget that cannot be written keeps the reservation.

    :param job: What is wanted.
    :param credits: What was charged; 0 gives the reservation back.
    """
    settle_reservations(job.receipts.facts.reserved, credits, job.log)


def has_budget(job: Job) -> bool:
    """Whether a task instance reserves anything in the ledger."""
    return any(ceiling.budget is not None for ceiling in ceilings(job))


def compare(job: Job, record: FailedRecord) -> None:
    """Say it when a task was charged otherwise than estimated."""
    compare_with(job.expected, record, job.log)


def compare_with(estimate: CreditEstimate | None, record: FailedRecord, log: AnyLogger) -> None:
    """Say it when a task was charged otherwise than an estimate."""
    charged = record.credits_used
    if charged is None or estimate is None or estimate.low <= charged <= estimate.high:
        return
    log.warning(
        "%s credits were charged, %s were expected. [seedance] price_list can hold the rates of your account (task %s)",
        pricing.amount(charged),
        str(estimate),
        record.seedance_task_id,
    )
