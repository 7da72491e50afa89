"""Waiting for a free slot of the account: one queue per connection in a triggerer.

A createTask that was refused with 429 is sent again by a worker, and each such attempt costs a start of one. So an
attempt is made when there is reason to: a video of the same connection ended here, which frees one slot and wakes one
waiter, the one that waits longest; or nothing ended here for a while, and a single waiter looks whether a slot became
free elsewhere.
"""

from __future__ import annotations

import asyncio
import bisect
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

WOKEN_BY_TIME = "time"
WOKEN_BY_END = "end"

# More than an account has slots (contract 7), so that no release is forgotten before its waiter arrives.
_MAX_UNCLAIMED = 200
# Guesses in a row make the next one rarer, up to this factor.
_MAX_PATIENCE = 8

SETTLE_SECONDS = 5.0
"""How long after its refusal a waiter is woken at the earliest. Airflow's scheduler takes a task instance that is
resumed before it has noted the deferral for one that was killed, and fails it (apache/airflow issue 66374)."""


class _Waiter:
    """One refused task. Sorted by how long it waits."""

    def __init__(self, since: float, poll_interval: float, woken: asyncio.Future[str]) -> None:
        self.since = since
        self.poll_interval = poll_interval
        self.woken = woken

    @property
    def is_woken(self) -> bool:
        return self.woken.done() and not self.woken.cancelled()

    def __lt__(self, other: _Waiter) -> bool:
        return self.since < other.since


class SlotQueue:
    """The waiters of one connection on one event loop, first come first served."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []
        self._unclaimed: deque[float] = deque(maxlen=_MAX_UNCLAIMED)
        self._timer: asyncio.TimerHandle | None = None
        self._watched: Counter[str] = Counter()
        self._limit: int | None = None
        self._guesses = 0

    def __len__(self) -> int:
        return len(self._waiters)

    @contextmanager
    def watching(self, seedance_task_id: str) -> Iterator[None]:
        """Count a running video of this connection that is waited for here: it holds a slot, whose end will be told."""
        self._watched[seedance_task_id] += 1
        try:
            yield
        finally:
            self._watched[seedance_task_id] -= 1
            if not self._watched[seedance_task_id]:
                del self._watched[seedance_task_id]

    @property
    def _is_known_full(self) -> bool:
        return self._limit is not None and len(self._watched) >= self._limit

    async def wait(
        self, *, since: float, refused_at: float, poll_interval: float, deadline: float, limit: int | None = None
    ) -> str | None:
        """Wait for a reason to try again.

        :param since: When the task was first refused, epoch seconds: its place in the queue.
        :param refused_at: When it was last refused, epoch seconds; a slot that was freed since then is still there.
        :param poll_interval: Seconds after which a lone waiter tries again anyway, jittered by a quarter.
        :param deadline: When to give up, epoch seconds.
        :param limit: How many tasks the account may run, as the refusal said; None if it did not.
        :return: ``end`` or ``time``: what woke it; None at the deadline.
        """
        self._limit = limit
        while self._unclaimed:
            if self._unclaimed.popleft() >= refused_at:
                return WOKEN_BY_END
        waiter = _Waiter(since, poll_interval, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiters, waiter)
        self._start_timer()
        try:
            async with asyncio.timeout(max(deadline - time.time(), 0)):
                return await waiter.woken
        except TimeoutError:
            # Woken in the moment of the deadline: the slot is there to be used.
            return waiter.woken.result() if waiter.is_woken else None
        except asyncio.CancelledError:
            if waiter.is_woken:
                self.release()  # it cannot use the slot any more: the next one's turn
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not self._waiters:
                self._stop_timer()  # whoever comes next waits its own interval

    def release(self) -> None:
        """Tell that a slot became free: wakes the first waiter, or is kept for one that is on its way here."""
        self._guesses = 0
        if not self._wake(WOKEN_BY_END):
            self._unclaimed.append(time.time())

    def guessed_right(self) -> None:
        """Tell that a guess found a slot that was freed elsewhere: there may be more, for the next to guess."""
        self._guesses = 0
        if not self._is_known_full:
            self._wake(WOKEN_BY_TIME)

    def _wake(self, reason: str) -> bool:
        while self._waiters:
            waiter = self._waiters.pop(0)
            if waiter.woken.done():  # cancelled, or past its deadline, and about to leave
                continue
            waiter.woken.set_result(reason)
            # What just woke one says how things stand; the next guess can wait its full time.
            self._stop_timer()
            self._start_timer()
            return True
        return False

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        if self._timer is None and self._waiters:
            # A lone waiter costs little; many wait for ends that are told, and guess the less the more often in vain.
            patience = min(2**self._guesses, _MAX_PATIENCE) if len(self._waiters) > 1 else 1
            delay = self._waiters[0].poll_interval * patience * random.uniform(0.75, 1.25)
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._is_known_full:
            self._start_timer()
            return
        self._guesses += 1
        self._wake(WOKEN_BY_TIME)


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SlotQueue]] = WeakKeyDictionary()


def slot_queue(seedance_conn_id: str) -> SlotQueue:
    """Return the queue of a connection on the running event loop."""
    return _queues.setdefault(asyncio.get_running_loop(), {}).setdefault(seedance_conn_id, SlotQueue())


class SeedanceSlotTrigger(BaseTrigger):
    """Fires once, when it is worth sending a refused createTask again. Sends nothing itself.

    :param seedance_conn_id: The Airflow connection.
    :param since: When the task was first refused, epoch seconds.
    :param refused_at: When it was last refused, epoch seconds.
    :param poll_interval: Seconds after which a lone waiter tries again.
    :param deadline: When to give up, epoch seconds.
    :param carry: What the operator wants back in the event.
    :param limit: How many tasks the account may run, as the refusal said; None if it did not.
    """

    def __init__(
        self,
        seedance_conn_id: str,
        since: float,
        refused_at: float,
        poll_interval: float,
        deadline: float,
        carry: dict[str, Any] | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.seedance_conn_id = seedance_conn_id
        self.since = since
        self.refused_at = refused_at
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.carry = carry or {}
        self.limit = limit

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
                "carry": self.carry,
                "limit": self.limit,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one :class:`~seedance_provider.events.TaskEvent` of status ``slot`` or ``error``."""
        from seedance_provider.events import TaskEvent, error_to_json
        from seedance_provider.exceptions import SeedanceConcurrencyLimitError

        queue = slot_queue(self.seedance_conn_id)
        woken_by = await queue.wait(
            since=self.since,
            refused_at=self.refused_at,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            limit=self.limit,
        )
        try:
            await asyncio.sleep(max(min(self.refused_at + SETTLE_SECONDS, self.deadline) - time.time(), 0))
        except asyncio.CancelledError:
            if woken_by is not None:
                queue.release()
            raise
        if woken_by is None:
            error = SeedanceConcurrencyLimitError(
                f"The account had no free slot for {self.deadline - self.since:.0f} s (slot_timeout). Nothing was "
                "charged; raise slot_timeout, or start fewer tasks at once"
            )
            yield TriggerEvent(TaskEvent("error", error=error_to_json(error), carry=self.carry).to_json())
        else:
            yield TriggerEvent(TaskEvent("slot", carry={**self.carry, "woken_by": woken_by}).to_json())
