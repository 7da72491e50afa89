"""What one task instance, or one idempotency key, remembers of its video, wherever that is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from seedance_provider import defaults
from seedance_provider.api import catalog
from seedance_provider.api.errors import CHECK_MANUALLY, check_manually
from seedance_provider.api.records import created_at
from seedance_provider.config import command, is_plain_number, ledger_path
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceSubmitUncertainError
from seedance_provider.execution.budgets import settle_reservations
from seedance_provider.execution.receipts import Outcome, Receipt, Stage
from seedance_provider.execution.stores import (
    Facts,
    LedgerStore,
    Owner,
    Store,
    TaskStateStore,
    key_path,
    read_pointer,
)
from seedance_provider.hooks.ledger_files import Folder, new_submission

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from seedance_provider.api.records import TaskRecord

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What was found in a store.

    :param receipt: The receipt.
    :param is_own: Whether this task instance wrote it.
    :param age: Seconds since it was written.
    :param owner: The task instance that wrote it; None where the store has only one.
    """

    receipt: Receipt
    is_own: bool
    age: float
    owner: Mapping[str, Any] | None = None


class Adoption(NamedTuple):
    """Whether a task was taken for the outcome of a createTask of unknown outcome.

    :param receipt: The receipt that now stands: with that task, unless it was refused.
    :param refusal: Why it was not taken; empty if it was.
    """

    receipt: Receipt | None
    refusal: str = ""


def adopt_command(owner: Owner, key: str | None, conn_id: str) -> str:
    """The command that tells the ledger which task came of a createTask of unknown outcome.

    :param owner: The task instance that sent it.
    :param key: The idempotency key by which it was sent, if any.
    :param conn_id: The connection of that key.
    """
    which = ["--dag-id", owner.dag_id, "--run-id", owner.run_id, "--task-id", owner.task_id]
    if owner.map_index >= 0:
        which += ["--map-index", str(owner.map_index)]
    if key is not None:
        which = ["--key", key, "--conn-id", conn_id]
    return command("adopt", "ID", *which)


class Receipts:
    """The receipt of one task instance, or of its idempotency key.

    What must be known before money is spent raises if it cannot be read or written; what was paid for already does
    not fail the task.

    :param store: Where it is kept; None to remember nothing.
    :param owner: The task instance that runs. Default: of no name.
    :param facts: What is known of the wanted video. Default: nothing.
    """

    def __init__(self, store: Store | None, owner: Owner | None = None, facts: Facts | None = None) -> None:
        self._store = store
        self._owner = owner or Owner()
        self._start = facts or Facts()
        self.facts = replace(self._start)
        self._unknown_since: float | None = None

    @classmethod
    def of(cls, context: Context, *, durable: bool, facts: Facts | None = None) -> Receipts:
        """The receipts of a running task instance.

        :param context: The task's context.
        :param durable: False to remember nothing.
        :param facts: What is known of the wanted video; with a ``key`` the receipt is that key's.
        :raises SeedanceConfigurationError: for a key without a ledger.
        """
        root = ledger_path()
        key = facts.key if facts else None
        if key is not None and (root is None or not durable):
            raise SeedanceConfigurationError(
                f"idempotency_key={key!r} needs a ledger: set [seedance] ledger_path of Airflow's configuration, such "
                "as s3://aws_default@bucket/seedance"
                if durable
                else f"idempotency_key={key!r} needs durable=True"
            )
        if not durable:
            return cls(None, None, facts)
        if root is not None:
            owner = Owner.of(context)
            path = owner.path if key is None or facts is None else key_path(key, facts.conn_id)
            return cls(LedgerStore(Folder(root) / path, owner), owner, facts)
        store: Any = context.get("task_state_store")
        return cls(None if store is None else TaskStateStore(store), None, facts)

    @property
    def remembers(self) -> bool:
        """Whether anything is remembered: with a ledger, or on Airflow 3.3 and later; unless switched off."""
        return self._store is not None

    @property
    def manual_review(self) -> str:
        """What to do about a createTask of unknown outcome."""
        if self.ledger is None:
            return CHECK_MANUALLY
        return check_manually(adopt_command(self._owner, self._start.key, self._start.conn_id))

    @property
    def ledger(self) -> LedgerStore | None:
        """The folder of the ledger; None without one."""
        return self._store if isinstance(self._store, LedgerStore) else None

    def find(self) -> Found | None:
        """Return what an earlier try, or another task instance of the same key, left behind.

        :raises SeedanceSubmitUncertainError: if it is there but cannot be read.
        """
        payload = None if self._store is None else self._store.read()
        if payload is None or self._store is None:
            return None
        try:
            receipt = Receipt.from_json(payload)
        except ValueError as error:
            raise SeedanceSubmitUncertainError(
                f"The receipt in {self._store.where} cannot be read ({error}), so a video may have been charged. Check "
                "manually: look for it in the account's task list on the vendor's site, then delete that receipt and "
                "clear this task"
            ) from error
        self.facts = Facts.from_json(payload)
        self._note_unknown(receipt)
        owner, written_at = payload.get("owner"), payload.get("written_at")
        owner = owner if isinstance(owner, Mapping) else None
        age = max(time.time() - written_at, 0.0) if is_plain_number(written_at) else 0.0
        return Found(receipt, owner in (None, self._owner._asdict()), age, owner)

    def load(self) -> Receipt | None:
        """Return what an earlier try left behind.

        :raises SeedanceSubmitUncertainError: if it is there but cannot be read.
        """
        found = self.find()
        return found and found.receipt

    def begin(self) -> str:
        """Begin a submission, of which nothing is known but what is wanted.

        :return: A name for what it reserves.
        """
        # What an earlier createTask of unknown outcome may have started is this video too.
        self.facts = replace(
            self._start, reserved={}, limits={}, paths=[], intended_at=self._unknown_since or time.time()
        )
        if self._store is not None:
            self._store.begin()
        return new_submission() if self.ledger is None else self.ledger.reservation_id

    def save(self, receipt: Receipt) -> None:
        """Store a receipt; what the store raises comes through."""
        self._note_unknown(receipt)
        if self._store is not None:
            self._store.write(self._payload(receipt), is_open=receipt.stage is not Stage.DELIVERED)

    def _note_unknown(self, receipt: Receipt) -> None:
        self._unknown_since = self.facts.intended_at if receipt.stage is Stage.INTENT else None

    def adopt(self, record: TaskRecord) -> Adoption:
        """Take a task for the outcome of a createTask whose answer was lost: the next try continues with it, free.

        Two lists, one read and one write. The record must come from the API itself, by the connection's key.

        :param record: The task's record.
        :return: The receipt, or why the task was not taken.
        :raises SeedanceError: if the store cannot be read or written.
        """
        found = self.find()
        if found is None:
            return Adoption(None, "there is no receipt")
        refusal = _why_not(found.receipt, self.facts, record)
        if refusal or found.receipt.seedance_task_id is not None:
            return Adoption(found.receipt, refusal)
        if self._is_of_another(record.seedance_task_id):
            return Adoption(found.receipt, f"task {record.seedance_task_id} is that of another task instance")
        now = time.time()
        receipt = found.receipt.submitted(record.seedance_task_id, created_at(record.create_time, now) or now)
        if record.status.is_terminal:
            receipt = replace(receipt, stage=Stage.ENDED, outcome=Outcome(record.status))
            self.facts.credits = record.credits_used
        if record.failure is not None:  # a clear submits again without a look at it; the vendor refunds it
            self.facts.credits, self.facts.reason = Decimal(0), record.failure.message
            settle_reservations(self.facts.reserved, Decimal(0), log)
        self._answer(found, receipt)
        return Adoption(receipt)

    def _is_of_another(self, seedance_task_id: str) -> bool:
        """Whether somebody else has submitted a task, as far as the ledger can tell by its id."""
        if self.ledger is None:
            return False
        pointer = read_pointer(self.ledger.folder.root, seedance_task_id)
        return pointer is not None and pointer.folder.path != self.ledger.folder.path

    def note_outcome(self, found: Found, outcome: Outcome) -> None:
        """Store how a task ended that was found; what its task instance writes meanwhile, of another video, rules.

        :param found: What :meth:`find` returned.
        :param outcome: How it ended.
        :raises SeedanceError: if the store cannot be written.
        """
        self._answer(found, replace(found.receipt, outcome=outcome))

    def _answer(self, found: Found, receipt: Receipt) -> None:
        """Store what became of a receipt that was found; it stays its task instance's."""
        assert self._store is not None  # noqa: S101 - something was found in it
        owner = {} if found.owner is None else {"owner": found.owner}
        self._store.answer(self._payload(receipt) | owner)

    def withdraw(self, receipt: Receipt) -> None:
        """Give up a submission to a key before its request; what the store raises comes through."""
        if self.ledger is not None:
            self.ledger.withdraw(self._payload(receipt))

    def _payload(self, receipt: Receipt) -> dict[str, Any]:
        return receipt.to_json() | self.facts.to_json()

    def note(self, receipt: Receipt) -> bool:
        """Store what must not fail this try.

        :return: Whether it is stored.
        """
        try:
            self.save(receipt)
        except Exception:
            log.exception(
                "The receipt could not be stored (stage %s); a retry would not know it (task %s)",
                receipt.stage,
                receipt.seedance_task_id,
            )
            return False
        return True

    def point(self, seedance_task_id: str) -> None:
        """Let a sensor find the receipt of a task that was only submitted here; what fails does not fail this try.

        One write; none without a ledger.
        """
        if self.ledger is None:
            return
        try:
            self.ledger.point(seedance_task_id, self.facts.reserved)
        except Exception:
            log.exception("The end of task %s will not be in the ledger", seedance_task_id)

    def note_delivered(
        self,
        seedance_task_id: str | None = None,
        credits: Decimal | None = None,  # noqa: A002 - the vendor's word
        paths: Iterable[str] = (),
    ) -> None:
        """Note that Airflow has taken the task instance for a success: a clear from now on makes a new video.

        :param seedance_task_id: The task that was delivered, if known.
        :param credits: What was charged, if known.
        :param paths: Where the outputs were stored.
        """
        try:
            saved = self.load()
        except Exception:
            log.exception("The delivery could not be stored; a clear would deliver the same video again")
            return
        if saved is None or saved.stage not in (Stage.SUBMITTED, Stage.ENDED, Stage.DELIVERED):
            return
        if seedance_task_id not in (None, saved.seedance_task_id):
            return
        told = replace(self.facts)
        self.facts.credits = credits if credits is not None else self.facts.credits
        self.facts.paths = list(paths) or self.facts.paths
        if saved.stage is not Stage.DELIVERED or self.facts != told:  # delivered by another task of its key
            self.note(replace(saved, stage=Stage.DELIVERED))


def _why_not(receipt: Receipt, facts: Facts, record: TaskRecord) -> str:
    """Why a task cannot be what came of a createTask of unknown outcome; empty if it can."""
    task = record.seedance_task_id
    if receipt.seedance_task_id == task:
        return ""
    if receipt.seedance_task_id is not None:
        return f"its task is {receipt.seedance_task_id} (receipt {receipt.outcome or receipt.stage})"
    if task in receipt.former:
        return f"task {task} is of a former submission"
    if receipt.stage is not Stage.INTENT:
        return f"its createTask was {receipt.stage}, so it has no task"
    wanted, made = catalog.lookup(facts.model), catalog.lookup(record.model)
    if wanted is not None and made is not None and wanted is not made:  # other names may be the vendor's internal ones
        return f"task {task} is of model {record.model}, and {facts.model} was wanted"
    made_at, intended_at = created_at(record.create_time, time.time()), facts.intended_at
    if made_at is not None and intended_at is not None and made_at < intended_at - defaults.CLOCK_SKEW_SECONDS:
        return f"task {task} was created at {_utc(made_at)}, before its createTask was sent ({_utc(intended_at)})"
    return ""


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
