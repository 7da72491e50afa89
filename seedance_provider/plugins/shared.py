"""Answers that many readers of a page ask for at once: made in a thread, by few at a time, kept for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from anyio import CapacityLimiter, to_thread

from seedance_provider import defaults

T = TypeVar("T")


class _Kept(NamedTuple, Generic[T]):
    answer: asyncio.Task[T]
    since: float


class Shared(Generic[T]):
    """A slow function whose answer is shared by all who ask for the same within some seconds.

    An error is told to those who wait for it, and is not kept.

    :param make: Makes an answer, in a thread.
    :param seconds: How long it is kept, from the moment that it was asked for.
    """

    def __init__(self, make: Callable[..., T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        self._limiter: CapacityLimiter | None = None

    async def __call__(self, *asked: Hashable) -> T:
        """Answer, from what is kept where possible.

        :param asked: The function's arguments.
        """
        kept = self._kept.get(asked)
        if kept is None or (kept.answer.done() and time.monotonic() - kept.since > self._seconds):
            kept = _Kept(asyncio.create_task(self._ask(asked)), time.monotonic())
            self._kept[asked] = kept
            while len(self._kept) > defaults.ANSWERS_KEPT:
                self._kept.popitem(last=False)
        # Who goes away must not end what others wait for.
        return await asyncio.shield(kept.answer)

    async def _ask(self, asked: tuple[Any, ...]) -> T:
        self._limiter = self._limiter or CapacityLimiter(defaults.ANSWERS_AT_ONCE)
        try:
            return await to_thread.run_sync(self._make, *asked, limiter=self._limiter)
        except BaseException:
            self._kept.pop(asked, None)
            raise
