"""Where receipts are kept: in Airflow's task state store, on Airflow 3.3 and later.

XCom would not do: it is wiped at the start of every try.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from seedance_provider.exceptions import SeedanceSubmitUncertainError
from seedance_provider.execution.receipts import Receipt, Stage

try:
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined,unused-ignore]
except ImportError:  # before Airflow 3.3
    NEVER_EXPIRE = None

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

STATE_KEY = "seedance_receipt"


class Store(Protocol):
    """A place for the receipt of one task instance."""

    where: str
    """Names the place, for messages."""

    def read(self) -> Any:
        """The stored JSON values; None if there are none. Raises where that cannot be told."""

    def write(self, payload: dict[str, Any], *, is_open: bool) -> None:
        """Store JSON values; those of an open receipt must not expire."""


class TaskStateStore:
    """Airflow's task state store: one entry per dag run, task and map index, whatever the try.

    :param store: ``context["task_state_store"]``.
    """

    where = f"the task state {STATE_KEY!r}"

    def __init__(self, store: Any) -> None:
        self._store = store

    def read(self) -> Any:
        """The stored JSON values; None if there are none."""
        return self._store.get(STATE_KEY)

    def write(self, payload: dict[str, Any], *, is_open: bool) -> None:
        """Store JSON values."""
        if is_open and NEVER_EXPIRE is not None:
            self._store.set(STATE_KEY, payload, retention=NEVER_EXPIRE)
        else:
            self._store.set(STATE_KEY, payload)


class Receipts:
    """The receipt of one task instance.

    What must be known before money is spent raises if it cannot be read or written; what was paid for already does
    not fail the task.

    :param store: Where it is kept; None to remember nothing.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store

    @classmethod
    def of(cls, context: Context, *, durable: bool) -> Receipts:
        """The receipts of a running task instance.

        :param context: The task's context.
        :param durable: False to remember nothing.
        """
        store: Any = context.get("task_state_store") if durable else None
        return cls(None if store is None else TaskStateStore(store))

    @property
    def remembers(self) -> bool:
        """Whether anything is remembered: on Airflow 3.3 and later, unless switched off."""
        return self._store is not None

    def load(self) -> Receipt | None:
        """Return what an earlier try left behind.

        :raises SeedanceSubmitUncertainError: if it is there but cannot be read.
        """
        payload = None if self._store is None else self._store.read()
        if payload is None or self._store is None:
            return None
        try:
            return Receipt.from_json(payload)
        except ValueError as error:
            raise SeedanceSubmitUncertainError(
                f"The receipt in {self._store.where} cannot be read ({error}), so a video may have been charged. Check "
                "manually: look for it in the account's task list on the vendor's site, then delete that state and "
                "clear this task"
            ) from error

    def save(self, receipt: Receipt) -> None:
        """Store a receipt; what the store raises comes through."""
        if self._store is not None:
            self._store.write(receipt.to_json(), is_open=receipt.stage is not Stage.DELIVERED)

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

    def note_delivered(self) -> None:
        """Note that Airflow has taken the task instance for a success: a clear from now on makes a new video."""
        try:
            saved = self.load()
        except Exception:
            log.exception("The delivery could not be stored; a clear would deliver the same video again")
            return
        if saved is not None and saved.stage in (Stage.SUBMITTED, Stage.ENDED):
            self.note(replace(saved, stage=Stage.DELIVERED))
