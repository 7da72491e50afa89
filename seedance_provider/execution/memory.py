"""What one task instance, or one idempotency key, remembers of its video, wherever that is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from seedance_provider.config import ledger_path
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceSubmitUncertainError
from seedance_provider.execution.receipts import Receipt, Stage
from seedance_provider.execution.stores import Facts, LedgerStore, Owner, Store, TaskStateStore, key_path
from seedance_provider.hooks.ledger_files import Folder, new_submission

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What was found in a store.

    :param receipt: The receipt.
    :param is_own: Whether this task instance wrote it.
    :param age: Seconds since it was written.
    """

    receipt: Receipt
    is_own: bool
    age: float


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
        owner, written_at = payload.get("owner"), payload.get("written_at")
        is_own = not isinstance(owner, Mapping) or owner == self._owner._asdict()
        age = max(time.time() - written_at, 0.0) if isinstance(written_at, (int, float)) else 0.0
        return Found(receipt, is_own, age)

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
        self.facts = replace(self._start, reserved={}, paths=[])
        if self._store is not None:
            self._store.begin()
        return new_submission() if self.ledger is None else self.ledger.reservation_id

    def save(self, receipt: Receipt) -> None:
        """Store a receipt; what the store raises comes through."""
        if self._store is not None:
            self._store.write(self._payload(receipt), is_open=receipt.stage is not Stage.DELIVERED)

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
        if saved is None or saved.stage not in (Stage.SUBMITTED, Stage.ENDED):
            return
        if seedance_task_id not in (None, saved.seedance_task_id):
            return
        self.facts.credits = credits if credits is not None else self.facts.credits
        self.facts.paths = list(paths) or self.facts.paths
        self.note(replace(saved, stage=Stage.DELIVERED))
