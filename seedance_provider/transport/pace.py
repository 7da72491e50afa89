"""How fast a process may send on one connection: the optional budget, and the pauses the vendor asks for.

Pure arithmetic on a monotonic clock; the transports do the sleeping. Whoever asks first is served first, and each
waiter has one request at a time, so a budget is shared evenly.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from seedance_provider.api.policy import backoff

if TYPE_CHECKING:
    from seedance_provider.api.calls import Reply
    from seedance_provider.connection import SeedanceSettings


class Pace:
    """The pace of one connection in one process, shared by all its waiters.

    :param requests_per_minute: The budget; None for no limit.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0
        self._paused_until = 0.0
        self._pause = 0.0
        self._refusals = 0
        self._lock = threading.Lock()

    def limits(self, now: float) -> bool:
        """Whether a request may have to wait; asked before each, so it does no more than it must."""
        return self._interval > 0 or now < self._paused_until

    def pauses(self, now: float) -> bool:
        """Whether nobody may send; asked after waiting for a turn, since the pause may have come meanwhile."""
        return now < self._paused_until

    def turn(self, now: float, latest: float | None = None) -> float:
        """Reserve the next request.

        :param now: The time, monotonic seconds.
        :param latest: A time the request must not wait beyond: then it goes out of turn, so that a deadline holds and a
            finished video is not missed for the sake of the budget.
        :return: Seconds to wait before sending.
        """
        with self._lock:
            at = max(now, self._next)
            if at < self._paused_until:
                # Those who come due during a pause must not all come back at its end.
                at = self._paused_until + random.random() * self._pause
            if latest is not None and at > latest:
                return max(latest - now, 0.0)
            if self._interval:
                self._next = max(at, self._next) + self._interval
            return at - now

    def note(self, now: float, method: str, reply: Reply) -> None:
        """Learn from an answer: a GET that is refused with 429 slows everybody down, not just the one that was told.

        :param now: The time, monotonic seconds.
        :param method: The request's method. A createTask that is refused says that the slots are taken, no more.
        :param reply: The answer; without a Retry-After the pause grows with each refusal in a row.
        """
        if method != "GET":
            return
        if reply.status != 429:
            self._refusals = 0
            return
        with self._lock:
            if now >= self._paused_until:  # the answers to requests that were under way already count once
                self._refusals += 1
            self._pause = reply.retry_after or backoff(self._refusals + 1, random.random())
            self._paused_until = max(self._paused_until, now + self._pause)


_paces: dict[tuple[str, str, float | None], Pace] = {}


def pace_of(settings: SeedanceSettings) -> Pace:
    """Return this process's pace for a connection."""
    key = (settings.base_url, settings.api_key, settings.requests_per_minute)
    return _paces.get(key) or _paces.setdefault(key, Pace(settings.requests_per_minute))


def latest_turn(deadline: float | None) -> float | None:
    """Turn a deadline in epoch seconds into monotonic seconds."""
    return None if deadline is None else time.monotonic() + deadline - time.time()
