"""The triggers that wait for what others find out: another task of the same idempotency key, or a callback. They send
nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from seedance_provider import defaults
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import SeedanceError
from seedance_provider.hooks.ledger_files import Folder, latest_by_submission, read_entry_name
from seedance_provider.triggers.shared import SeedanceTrigger, SeedanceTriggerEvent

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent


def is_decided(folder: Folder, waited_for: str) -> bool:
    """Whether a submission has come past the entry that is waited for, or was forgotten. One list.

    :param folder: The key's folder.
    :param waited_for: The name of the entry.
    """
    entry = read_entry_name(waited_for)
    if entry is None:
        return True
    now = latest_by_submission(folder.names()).get(entry.submission)
    return now is None or now.stage != entry.stage


class SeedanceLedgerTrigger(SeedanceTrigger):
    """Fires once, when a createTask without an answer has an outcome, or its outcome counts as unknown.

    :param folder: The URL of the receipt's folder in the ledger.
    :param waited_for: The name of the entry that was written before the createTask.
    :param deadline: When its outcome counts as unknown, epoch seconds.
    :param state: What the operator wants back in the event, as JSON values.
    :param deferred_at: When the task was deferred, epoch seconds. Default: when the trigger is made.
    """

    def __init__(
        self,
        folder: str,
        waited_for: str,
        deadline: float,
        state: dict[str, Any] | None = None,
        deferred_at: float | None = None,
    ) -> None:
        super().__init__(time.time() if deferred_at is None else deferred_at)
        self.folder = folder
        self.waited_for = waited_for
        self.deadline = deadline
        self.state = state or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments; no secret is among them."""
        return (
            "seedance_provider.triggers.ledger.SeedanceLedgerTrigger",
            {
                "folder": self.folder,
                "waited_for": self.waited_for,
                "deadline": self.deadline,
                "state": self.state,
                "deferred_at": self.deferred_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one :class:`~seedance_provider.events.TaskEvent` of status ``slot``: decide again."""
        if (odd := await self.refusal()) is not None:
            yield odd
            return
        folder = Folder(self.folder)
        pause = defaults.LEDGER_POLL_INTERVAL
        while (left := self.deadline - time.time()) > 0:
            try:
                # Opening a store looks a connection up, which blocks; asgiref lets it ask the triggerer's own loop.
                if await sync_to_async(is_decided, thread_sensitive=False)(folder, self.waited_for):
                    break
            except SeedanceError as error:
                self.log.warning("%s. Listing it again in %.0f s", error, pause)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, defaults.LEDGER_POLL_INTERVAL_MAX)
        await self.settle()
        yield SeedanceTriggerEvent(TaskEvent("slot", state=ResumeState.from_json(self.state)))


class SeedancePauseTrigger(SeedanceTrigger):
    """Fires once, when it is time to look again at what only a worker can see.

    :param until: That time, epoch seconds.
    :param state: What the operator wants back in the event, as JSON values.
    :param deferred_at: When the task was deferred, epoch seconds. Default: when the trigger is made.
    """

    def __init__(self, until: float, state: dict[str, Any] | None = None, deferred_at: float | None = None) -> None:
        super().__init__(time.time() if deferred_at is None else deferred_at)
        self.until = until
        self.state = state or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments; no secret is among them."""
        return (
            "seedance_provider.triggers.ledger.SeedancePauseTrigger",
            {"until": self.until, "state": self.state, "deferred_at": self.deferred_at},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one :class:`~seedance_provider.events.TaskEvent` of status ``slot``: decide again."""
        if (odd := await self.refusal()) is not None:
            yield odd
            return
        await asyncio.sleep(max(self.until - time.time(), 0))
        await self.settle()
        yield SeedanceTriggerEvent(TaskEvent("slot", state=ResumeState.from_json(self.state)))
