"""Answers that readers share: made once for all who ask at the same time, kept for seconds, and no error is kept."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

pytest.importorskip("anyio")
from seedance_provider import defaults
from seedance_provider.plugins.shared import Shared


class Slow:
    """Counts what it is asked, and can be made to fail or to wait."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.now = self.most = 0

    def __call__(self, what: str) -> str:
        self.asked.append(what)
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.gate.wait(10)
        time.sleep(0.02)
        self.now -= 1
        if self.error is not None:
            raise self.error
        return f"answer to {what}"


def test_who_asks_at_the_same_time_gets_one_answer() -> None:
    slow = Slow()

    async def ask() -> list[str]:
        shared = Shared(slow, 60)
        return [*await asyncio.gather(*(shared("a") for _ in range(20)), shared("b")), await shared("a")]

    assert asyncio.run(ask()) == ["answer to a"] * 20 + ["answer to b", "answer to a"]
    assert sorted(slow.asked) == ["a", "b"]


def test_an_old_answer_is_made_anew() -> None:
    slow = Slow()

    async def ask() -> None:
        shared = Shared(slow, 0)
        await shared("a")
        await shared("a")

    asyncio.run(ask())
    assert slow.asked == ["a", "a"]


def test_an_error_is_told_to_all_who_wait_and_not_kept() -> None:
    slow = Slow()
    slow.error = LookupError("no")

    async def ask() -> None:
        shared = Shared(slow, 60)
        told = await asyncio.gather(shared("a"), shared("a"), return_exceptions=True)
        assert [type(each) for each in told] == [LookupError, LookupError]
        slow.error = None
        assert await shared("a") == "answer to a"

    asyncio.run(ask())
    assert slow.asked == ["a", "a"]


def test_who_goes_away_ends_nothing_for_the_others() -> None:
    slow = Slow()
    slow.gate.clear()

    async def ask() -> str:
        shared = Shared(slow, 60)
        first = asyncio.create_task(shared("a"))
        second = asyncio.create_task(shared("a"))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0)
        slow.gate.set()
        return await second

    assert asyncio.run(ask()) == "answer to a"


def test_few_are_made_at_a_time_and_a_bounded_number_is_kept() -> None:
    slow = Slow()

    async def ask() -> int:
        shared = Shared(slow, 60)
        await asyncio.gather(*(shared(str(number)) for number in range(12)))
        assert slow.most <= defaults.ANSWERS_AT_ONCE
        for number in range(defaults.ANSWERS_KEPT):
            shared._make = str
            await shared(f"more {number}")
        return len(shared._kept)

    assert asyncio.run(ask()) == defaults.ANSWERS_KEPT
