"""What follows from a callback: its task is asked for by the connection's key, and only that answer counts.

Runs in threads of the API server, beside tasks and other API servers that may do the same: what is done twice has the
effect of once.
"""

from __future__ import annotations

import enum
import json
import logging
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select, text

from seedance_provider import defaults
from seedance_provider.api import flows
from seedance_provider.api.records import TaskStatus
from seedance_provider.config import ledger_path
from seedance_provider.connection import read_settings
from seedance_provider.exceptions import SeedanceError, SeedanceSubmitUncertainError
from seedance_provider.execution import collected
from seedance_provider.execution.assets import Delivery, extra_of
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Outcome
from seedance_provider.execution.signing import signing_key
from seedance_provider.execution.stores import LedgerStore, TaskStateStore
from seedance_provider.hooks.ledger_files import Folder
from seedance_provider.plugins.events import is_registered, register
from seedance_provider.transport.sync import SyncTransport

try:
    from airflow.state import TaskScope, get_state_backend
except ImportError:  # before Airflow 3.3
    TaskScope = get_state_backend = None  # type: ignore[assignment,misc,unused-ignore]

if TYPE_CHECKING:
    from seedance_provider.api.records import TaskRecord
    from seedance_provider.execution.signing import Claim
    from seedance_provider.execution.stores import Owner, Store

log = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What became of a callback."""

    DONE = "done"
    """There is nothing more to do, also if it comes again."""
    UNKNOWN = "unknown"
    """There is nobody whom it is for, or no such task."""
    LATER = "later"
    """It should come again."""


def signing_key_of(conn_id: str) -> bytes | None:
    """Look up what signs the paths of a connection; None if there is no such connection, or no key in it.

    :param conn_id: The connection's id, from whoever sent a request.
    :raises Exception: if the database cannot be reached.
    """
    try:
        return signing_key(read_settings(conn_id).api_key)
    except Exception as error:  # noqa: BLE001 - Airflow says "not found" also where its database does not answer
        with create_session() as session:
            session.execute(text("SELECT 1"))
        if isinstance(error, SeedanceError):
            log.warning("The connection of a callback cannot be used: %s", error)
        return None


def take(claim: Claim, seedance_task_id: str) -> Verdict:
    """Do what follows from a callback whose path is signed.

    :param claim: Whom it is for.
    :param seedance_task_id: The task that it names.
    :raises Exception: if something is out of reach: the callback should come again.
    """
    receipts = _receipts_of(claim)
    try:
        found = None if receipts is None else receipts.find()
    except SeedanceSubmitUncertainError as error:
        log.warning("A callback for task %s: %s", seedance_task_id, error)
        return Verdict.DONE
    if receipts is None or found is None:
        return Verdict.UNKNOWN
    if receipts.facts.conn_id != claim.conn_id:
        return Verdict.UNKNOWN  # signed with the password of a connection that has no part in this video
    receipt = found.receipt
    if seedance_task_id in receipt.former:
        return Verdict.DONE
    is_its_own = receipt.seedance_task_id == seedance_task_id
    asset = receipts.facts.on_completion
    if is_its_own and (asset is None or is_registered(claim.owner, asset, seedance_task_id)):
        return Verdict.DONE  # of a video without an event, polling finds out
    record = _ask(claim, seedance_task_id, until_the_end=asset is not None)
    if record is None:
        return Verdict.UNKNOWN
    if not is_its_own:
        if not claim.is_about(receipt.fingerprint):
            refusal = "other inputs are wanted there by now"
        else:
            refusal = receipts.adopt(record).refusal
        if refusal:
            _tell_of_another(claim, record, refusal)
            return Verdict.DONE
        log.info("The lost answer of a createTask is found: task %s, of %s", seedance_task_id, claim.owner.path)
    return _complete(claim, receipts, record)


def _receipts_of(claim: Claim) -> Receipts | None:
    """The receipts of a task instance, from outside of it; None where there is no place for them."""
    root = ledger_path()
    store: Store
    if root is not None:
        store = LedgerStore(Folder(root) / claim.ledger_path, claim.owner)
    elif TaskScope is not None and not claim.key:
        store = TaskStateStore(_ServerStates(claim.owner))
    else:
        return None
    return Receipts(store, claim.owner)


class _ServerStates:
    """Airflow's task state store of one task instance, as a task sees it, from the API server.

    :param owner: The task instance.
    """

    def __init__(self, owner: Owner) -> None:
        self._scope = TaskScope(**owner._asdict(), **_region(owner))

    def get(self, key: str) -> Any:
        """The stored JSON value; None if there is none."""
        value = get_state_backend().get(self._scope, key)
        return None if value is None else json.loads(value)

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value for as long as Airflow keeps those of tasks."""
        days = conf.getint("state_store", "default_retention_days", fallback=30)
        expires_at = datetime.now(UTC) + timedelta(days=days) if days > 0 else None
        get_state_backend().set(self._scope, key, json.dumps(value, default=str), expires_at=expires_at)


def _region(owner: Owner) -> dict[str, Any]:
    """Where Airflow 3.4 keeps the state of a mapped task; nothing before."""
    column = getattr(TaskInstance, "region_id", None)
    if column is None:
        return {}
    this = (getattr(TaskInstance, name) == value for name, value in owner._asdict().items())
    with create_session() as session:
        regions = set(session.scalars(select(column).where(*this)))
    return {"region_id": regions.pop()} if len(regions) == 1 else {}


def _ask(claim: Claim, seedance_task_id: str, *, until_the_end: bool) -> TaskRecord | None:
    """Ask the API for a task, free; None if it has no such task for this connection.

    :param until_the_end: Whether to ask again, for some seconds, until the record is that of an end.
    :raises SeedanceError: if it does not answer in time.
    """
    deadline = time.monotonic() + defaults.CALLBACK_SECONDS
    settings = read_settings(claim.conn_id)
    seconds = defaults.CALLBACK_SECONDS / 2
    settings = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, seconds),
        read_timeout=min(settings.read_timeout, seconds),
    )
    transport = SyncTransport(settings, lambda: settings)
    while True:
        try:
            record = transport.drive(flows.get(seedance_task_id, log, jitter=random.random, attempts=1))
        except SeedanceError as error:
            if error.status_code == 400 or (error.denial and error.status_code != 401):
                log.warning("A callback names a task that cannot be read: %s", error)
                return None
            raise
        if not until_the_end or _is_over(record) or time.monotonic() + 1 > deadline:
            return record
        time.sleep(1)


def _is_over(record: TaskRecord) -> bool:
    return record.status is TaskStatus.FAIL or bool(record.outputs)


def _tell_of_another(claim: Claim, record: TaskRecord, reason: str) -> None:
    """Say which task nobody waits for: of two createTasks of one video, both may have been accepted."""
    task = record.seedance_task_id
    if record.status is TaskStatus.FAIL:
        log.info("The callback for %s changes nothing: task %s failed", claim.owner.path, task)
        return
    log.warning(
        "The callback for %s changes nothing: %s. If nobody else waits for task %s, collect it with %s",
        claim.owner.path,
        reason,
        task,
        flows.collect_with(task),
    )


def _complete(claim: Claim, receipts: Receipts, record: TaskRecord) -> Verdict:
    """Register the event of a video that is done, once."""
    asset = receipts.facts.on_completion
    if asset is None:
        return Verdict.DONE
    if not _is_over(record):
        return Verdict.LATER
    if record.failure is not None:
        collected.note_end(record, Outcome.FAIL, log, reason=record.failure.message)
        log.warning(
            "Task %s failed, so %r gets no event: %s", record.seedance_task_id, asset[0], record.failure.message
        )
        return Verdict.DONE
    model = receipts.facts.model or record.model
    register(claim.owner, asset, extra_of(Delivery(record.seedance_task_id, model, record)))
    collected.note_end(record, Outcome.SUCCESS, log)
    return Verdict.DONE
