"""The rate limiter of a connection: the optional budget, and the pauses that the vendor asks for.

It wraps any flow and only adds pauses to it, so both transports are throttled by the same code. Whoever asks first is
served first, and each waiter has one request at a time, so a budget is shared evenly.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from seedance_provider.api.messages import Send, Sleep
from seedance_provider.api.schedule import backoff
from seedance_provider.defaults import LONG_DELAY
from seedance_provider.exceptions import SeedanceError

if TYPE_CHECKING:
    from seedance_provider.api.messages import AnyLogger, Flow, Reply

T = TypeVar("T")


class Throttle:
    """The rate limiter that all who use a connection share. Safe to share between threads.

    :param requests_per_minute: The budget; None for no limit. May be changed.
    :param jitter: Gives a random number from 0 to 1. Default: Python's.
    """

    def __init__(
        self, requests_per_minute: float | None = None, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self.requests_per_minute = requests_per_minute
        self._jitter = jitter
        self._next = 0.0
        self._paused_until = 0.0
        self._pause = 0.0
        self._refusals = 0
        self._lock = threading.Lock()

    def limits(self, now: float) -> bool:
        """Whether a request may have to wait; asked before each, so it does no more than it must."""
        return self.requests_per_minute is not None or now < self._paused_until

    def pauses(self, now: float) -> bool:
        """Whether nobody may send; asked after a wait, since the pause may have come meanwhile."""
        return now < self._paused_until

    def delay(self, now: float, latest: float | None = None) -> float:
        """Reserve the next request.

        :param now: The time, monotonic seconds.
        :param latest: A time beyond which the request must not wait: it then goes before others, so that a deadline
            holds and a finished video is not missed for the sake of the budget.
        :return: Seconds to wait before sending.
        """
        with self._lock:
            at = max(now, self._next)
            if at < self._paused_until:
                # Those who come due during a pause must not all come back at its end.
                at = self._paused_until + self._jitter() * self._pause
            if latest is not None and at > latest:
                return max(latest - now, 0.0)
            if self.requests_per_minute is not None:
                self._next = max(at, self._next) + 60.0 / self.requests_per_minute
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
            self._pause = reply.retry_after or backoff(self._refusals + 1, self._jitter())
            self._paused_until = max(self._paused_until, now + self._pause)


def throttled(
    flow: Flow[T],
    throttle: Throttle,
    *,
    log: AnyLogger,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Run a flow within the limits of its connection. Costs about a microsecond for each request if there are none.

    :param flow: Any flow; closed with this one.
    :param throttle: The connection's rate limiter.
    :param log: Told, once, of a delay of 5 s or more.
    :param clock: The time, epoch seconds; the deadline of a request is in these.
    :param monotonic: The time, monotonic seconds; the rate limiter's.
    :return: The flow's result.
    """
    told = False
    try:
        step = next(flow)
        while True:
            method = step.request.method if isinstance(step, Send) else None
            if isinstance(step, Send) and throttle.limits(now := monotonic()):
                latest = None if step.deadline is None else now + step.deadline - clock()
                while delay := throttle.delay(now, latest):
                    if delay >= LONG_DELAY and not told:
                        told = True
                        _tell(log, throttle, delay)
                    yield Sleep(delay)
                    if not throttle.pauses(now := monotonic()):
                        break
            try:
                result = yield step
            except SeedanceError as error:
                step = flow.throw(error)
            else:
                if method is not None:
                    throttle.note(monotonic(), method, result)
                step = flow.send(result)
                del result  # thousands sleep now, and none needs its last answer
    except StopIteration as stop:
        end: T = stop.value
        return end
    finally:
        flow.close()


def _tell(log: AnyLogger, throttle: Throttle, delay: float) -> None:
    # A function of its own: Airflow's logger looks at its caller's frame, which a sleeping wait would then keep.
    if throttle.requests_per_minute is None:
        log.info("Polling less often, the next time in %.0f s: Seedance asked for fewer requests", delay)
    else:
        log.info(
            "Polling less often, the next time in %.0f s: requests_per_minute=%g of the connection is shared by all "
            "tasks that wait in this process",
            delay,
            throttle.requests_per_minute,
        )
