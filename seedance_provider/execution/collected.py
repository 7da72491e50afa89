"""The end of a task that another task instance submitted: what a sensor, which knows only its id, tells the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from seedance_provider.config import ledger_path
from seedance_provider.execution import spending
from seedance_provider.execution.budgets import settle_reservations
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Outcome
from seedance_provider.execution.stores import LedgerStore, Owner, read_pointer
from seedance_provider.hooks.ledger_files import Folder

if TYPE_CHECKING:
    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.exceptions import FailedRecord


def note_end(
    record: FailedRecord | None,
    outcome: Outcome,
    log: AnyLogger,
    *,
    reason: str | None = None,
    paths: Iterable[str] = (),
) -> None:
    """Tell the ledger how a task ended; what fails here does not fail the task that waited for it.

    Two lists, two reads and one write, and one write for each budget whose reservation is corrected. One list for a
    task that a Generate task submitted: that one tells the ledger itself. Nothing without a ledger.

    :param record: The task's record.
    :param outcome: How it ended.
    :param log: The task's log.
    :param reason: Why it failed.
    :param paths: Where its outputs were stored.
    """
    try:
        if record is not None:
            _note_end(record, outcome, log, reason, list(paths))
    except Exception:
        log.exception("The end is not in the ledger (task %s)", record and record.seedance_task_id)


def _note_end(record: FailedRecord, outcome: Outcome, log: AnyLogger, reason: str | None, paths: list[str]) -> None:
    root = ledger_path()
    pointer = None if root is None else read_pointer(Folder(root), record.seedance_task_id)
    if pointer is None:
        return
    charged = Decimal(0) if outcome is Outcome.FAIL else record.credits_used  # the vendor refunds what fails
    if charged is not None:
        settle_reservations(pointer.reserved, charged, log)
    receipts = Receipts(LedgerStore(pointer.folder, Owner()))
    found = receipts.find()
    # By now the folder may be about another video, of a clear; and a retry of the sensor has nothing new to tell.
    if found is None or found.receipt.seedance_task_id != record.seedance_task_id or found.receipt.outcome is not None:
        return
    facts = receipts.facts
    if outcome is Outcome.SUCCESS:
        spending.compare_with(facts.estimate, record, log)
    facts.credits, facts.reason, facts.paths = charged, reason, paths or facts.paths
    receipts.note_outcome(found, outcome)
