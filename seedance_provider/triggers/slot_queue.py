"""Who waits for a free slot of an account: one queue for each connection in a triggerer.

A createTask that was refused with 429 is sent again by a worker, and each such attempt costs a start of one. So an
attempt is made when there is reason to: a video of the same connection ended here, which frees one slot and wakes one
waiter, the one that waits longest; or nothing ended here for a while, and a single waiter tries whether a slot became
free elsewhere.
"""

from __future__ import annotations

import asyncio
import bisect
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from seedance_provider import defaults


class _Waiter:
    """One refused task. Sorted by how long it waits."""

    def __init__(self, since: float, poll_interval: float, woken: asyncio.Future[None]) -> None:
        self.since = since
        self.poll_interval = poll_interval
        self.woken = woken

    @property
    def is_woken(self) -> bool:
        return self.woken.done() and not self.woken.cancelled()

    def __lt__(self, other: _Waiter) -> bool:
        return self.since < other.since


class SlotQueue:
    """The waiters of one connection on one event loop, first come first served.

    :param clock: Gives the time, epoch seconds.
    :param jitter: Gives a random number from 0 to 1, to spread guesses.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._waiters: list[_Waiter] = []
        self._unclaimed: deque[float] = deque(maxlen=defaults.MAX_UNCLAIMED_SLOTS)
        self._timer: asyncio.TimerHandle | None = None
        self._watched: Counter[str] = Counter()
        self._limit: int | None = None
        self._wanted_at = -math.inf
        self._guesses = 0
        self._guessed_at = 0.0
        self._guessing_for: float | None = None
        """Who was woken by the last guess, by since when it waits; until it is known whether the guess was right."""

    def __len__(self) -> int:
        return len(self._waiters)

    def is_wanted(self) -> bool:
        """Whether somebody waits for a slot, or did a short while ago."""
        return bool(self._waiters) or self._clock() - self._wanted_at < defaults.SLOT_WANTED_SECONDS

    @contextmanager
    def watching(self, seedance_task_id: str, started_at: float) -> Iterator[None]:
        """Count a running video of this connection that is waited for here: it holds a slot, whose end will be told.

        :param seedance_task_id: The task's id.
        :param started_at: When waiting for it began, epoch seconds.
        """
        self._watched[seedance_task_id] += 1
        is_new = self._watched[seedance_task_id] == 1 and started_at >= self._guessed_at
        if is_new and self._guessing_for is not None:
            self._guessed_right()
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
    ) -> bool:
        """Wait for a reason to try again.

        :param since: When the task was first refused, epoch seconds: its place in the queue.
        :param refused_at: When it was last refused, epoch seconds; a slot that was freed since then is still there.
        :param poll_interval: Seconds after which a lone waiter tries again anyway, spread by a quarter.
        :param deadline: When to give up, epoch seconds.
        :param limit: How many tasks the account may run, as the refusal said; None if it did not.
        :return: Whether there is one; False at the deadline.
        """
        self._limit = limit
        if since == self._guessing_for:
            self._guessing_for = None  # it is back, so the guess was wrong
        while self._unclaimed:
            if self._unclaimed.popleft() >= refused_at:
                return True
        waiter = _Waiter(since, poll_interval, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiters, waiter)
        self._start_timer()
        try:
            async with asyncio.timeout(max(deadline - self._clock(), 0)):
                await waiter.woken
        except TimeoutError:
            # Woken in the moment of the deadline: the slot is there to be used.
            return waiter.is_woken
        except asyncio.CancelledError:
            if waiter.is_woken:
                self.release()  # it cannot use the slot any more: the next one's turn
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._wanted_at = self._clock()
            if not self._waiters:
                self._stop_timer()  # whoever comes next waits its own interval
        return True

    def release(self) -> None:
        """Tell that a slot became free: wakes the first waiter, or is kept for one that is on its way here."""
        self._guesses = 0
        if self._wake() is None:
            self._unclaimed.append(self._clock())

    def _guessed_right(self) -> None:
        """A guess found a slot that was freed elsewhere: there may be more, for the next to try at once."""
        self._guesses = 0
        self._guessing_for = None
        if self._limit is not None and len(self._watched) > self._limit:
            self._limit = None  # it was raised; the next refusal will say to what
        if not self._is_known_full:
            self._guess()

    def _guess(self) -> None:
        woken = self._wake()
        self._guessed_at = self._clock()
        self._guessing_for = None if woken is None else woken.since

    def _wake(self) -> _Waiter | None:
        while self._waiters:
            waiter = self._waiters.pop(0)
            if waiter.woken.done():  # cancelled, or past its deadline, and about to leave
                continue
            waiter.woken.set_result(None)
            # What just woke one says how things stand; the next guess can wait its full time.
            self._stop_timer()
            self._start_timer()
            return waiter
        return None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        if self._timer is None and self._waiters:
            # A lone waiter costs little; many wait for ends that are told, and guess the less the more often in vain.
            patience = min(2**self._guesses, defaults.MAX_SLOT_PATIENCE) if len(self._waiters) > 1 else 1
            if self._is_known_full:
                patience = defaults.MAX_SLOT_PATIENCE
            delay = self._waiters[0].poll_interval * patience * (0.75 + 0.5 * self._jitter())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._guesses += 1
        self._guess()
