"""The trigger that waits for a free slot of the account. It sends nothing itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from seedance_provider.api.errors import CHECK_MANUALLY
from seedance_provider.api.schedule import in_words
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import SeedanceConcurrencyLimitError
from seedance_provider.triggers.shared import SeedanceTrigger, SeedanceTriggerEvent, shared_by

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent


def no_slot(slot_timeout: float, refusal: SeedanceConcurrencyLimitError) -> SeedanceConcurrencyLimitError:
    """The error of a submission that found no slot in time.

    :param slot_timeout: Seconds that were waited.
    :param refusal: The last 429.
    """
    what = f"No free slot within {in_words(slot_timeout)}"
    if refusal.charged == "no":
        return refusal.retold(f"{what}; nothing was charged. Raise slot_timeout, or start fewer tasks at once")
    return refusal.retold(
        f"{what}, and the outcome of an earlier createTask for this video is unknown. {CHECK_MANUALLY}"
    )


class SeedanceSlotTrigger(SeedanceTrigger):
    """Fires once, when it is worth sending a refused createTask again.

    :param seedance_conn_id: The Airflow connection.
    :param since: When the task was first refused, epoch seconds.
    :param refused_at: When it was last refused, epoch seconds.
    :param poll_interval: Seconds after which a lone waiter tries again.
    :param deadline: When to give up, epoch seconds.
    :param limit: How many tasks the account may run, as the refusal said; None if it did not.
    :param state: What the operator wants back in the event, as JSON values.
    """

    optional = frozenset({"limit"})

    def __init__(
        self,
        seedance_conn_id: str,
        since: float,
        refused_at: float,
        poll_interval: float,
        deadline: float,
        limit: int | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(refused_at)
        self.seedance_conn_id = seedance_conn_id
        self.since = since
        self.refused_at = refused_at
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.limit = limit
        self.state = state or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments; no secret is among them."""
        return (
            "seedance_provider.triggers.slots.SeedanceSlotTrigger",
            {
                "seedance_conn_id": self.seedance_conn_id,
                "since": self.since,
                "refused_at": self.refused_at,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "limit": self.limit,
                "state": self.state,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one :class:`~seedance_provider.events.TaskEvent` of status ``slot`` or ``error``."""
        if (odd := await self.refusal()) is not None:
            yield odd
            return
        slots = shared_by(self.seedance_conn_id).slots
        state = ResumeState.from_json(self.state)
        is_free = await slots.wait(
            since=self.since,
            refused_at=self.refused_at,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            limit=self.limit,
        )
        try:
            await self.settle()
        except asyncio.CancelledError:
            if is_free:
                slots.release()
            raise
        if is_free:
            event = TaskEvent("slot", state=state)
        else:
            refusal = SeedanceConcurrencyLimitError(charged="unknown" if state.unknown else "no")
            event = TaskEvent("error", error=no_slot(time.time() - self.since, refusal), state=state)
        yield SeedanceTriggerEvent(event)
