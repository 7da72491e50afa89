"""Who is woken for a slot, and when: the queue by itself, on virtual time."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.triggers.slot_queue import SlotQueue
from tests.support.virtual_time import VirtualLoop, now, turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONG = 3600.0


def in_a_loop(test: Callable[[SlotQueue], Awaitable[None]], jitter: float = 0.5) -> None:
    """Run a test on an event loop of its own, with a queue of its own."""

    async def run() -> None:
        await test(SlotQueue(now, lambda: jitter))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


class Waiters:
    """Waiters of one queue, by name: who was woken, in order, and who gave up."""

    def __init__(self, queue: SlotQueue) -> None:
        self.queue = queue
        self.woken: list[str] = []
        self.gave_up: list[str] = []
        self.times: list[float] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(
        self,
        name: str,
        *,
        since: float = 0.0,
        refused_at: float | None = None,
        poll_interval: float = LONG,
        seconds: float = 2 * LONG,
        limit: int | None = None,
    ) -> None:
        async def wait() -> None:
            is_free = await self.queue.wait(
                since=since,
                refused_at=now() if refused_at is None else refused_at,
                poll_interval=poll_interval,
                deadline=now() + seconds,
                limit=limit,
            )
            (self.woken if is_free else self.gave_up).append(name)
            self.times.append(now())

        self.tasks[name] = asyncio.create_task(wait())
        await turns()

    async def add_many(self, count: int, *, poll_interval: float = LONG, limit: int | None = None) -> None:
        for number in range(count):
            await self.add(str(number), since=float(number), poll_interval=poll_interval, limit=limit)

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


# Who is woken.


def test_the_one_that_waits_longest_is_woken_first_whenever_it_came_back() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for name, since in (("second", 2.0), ("third", 3.0), ("first", 1.0)):
            await waiters.add(name, since=since)
        for _ in range(3):
            queue.release()
            await turns()
        assert waiters.woken == ["first", "second", "third"]

    in_a_loop(test)


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_waiters_are_served_in_the_order_of_their_places_and_equal_ones_as_they_came(places: list[int]) -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for number, since in enumerate(places):
            await waiters.add(str(number), since=since)
        for _ in places:
            queue.release()
        await turns()
        served = [int(name) for name in waiters.woken]
        assert served == sorted(range(len(places)), key=lambda number: places[number])

    in_a_loop(test)


def test_a_release_wakes_one_of_a_thousand() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(1000)
        queue.release()
        await turns()
        assert waiters.woken == ["0"]
        assert len(queue) == 999
        await waiters.end()
        assert len(queue) == 0

    in_a_loop(test)


def test_two_releases_at_once_wake_two() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(3)
        queue.release()
        queue.release()
        await turns()
        assert waiters.woken == ["0", "1"]
        await waiters.end()

    in_a_loop(test)


def test_a_slot_is_wanted_while_somebody_waits_and_by_the_last_round_of_videos() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        assert not queue.is_wanted()
        await waiters.add("first")
        assert queue.is_wanted()
        await waiters.end()
        await asyncio.sleep(defaults.SLOT_WANTED_SECONDS - 1)
        assert queue.is_wanted()
        await asyncio.sleep(1)
        assert not queue.is_wanted()

    in_a_loop(test)


# A release without a waiter.


def test_a_release_before_the_waiter_arrives_is_kept_for_it() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        refused_at = now()
        queue.release()  # while the refused task is on its way from the worker to the triggerer
        await waiters.add("late", refused_at=refused_at)
        await waiters.add("later", refused_at=refused_at)
        assert waiters.woken == ["late"]
        await waiters.end()

    in_a_loop(test)


def test_a_release_before_the_refusal_says_nothing() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        queue.release()  # somebody else took that slot, or there would have been no refusal
        await waiters.add("refused since", refused_at=now() + 1)
        assert waiters.woken == []
        await waiters.end()

    in_a_loop(test)


def test_releases_without_waiters_do_not_pile_up() -> None:
    async def test(queue: SlotQueue) -> None:
        for _ in range(10_000):
            queue.release()
        waiters = Waiters(queue)
        for number in range(300):
            await waiters.add(str(number), refused_at=0.0)
        assert len(waiters.woken) == 200
        await waiters.end()

    in_a_loop(test)


# A waiter that goes away.


def test_a_cancelled_waiter_is_forgotten() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("first", since=1.0)
        await waiters.add("second", since=2.0)
        waiters.tasks["first"].cancel()
        await turns()
        queue.release()
        await turns()
        assert waiters.woken == ["second"]

    in_a_loop(test)


@pytest.mark.parametrize("cancelled_first", [True, False], ids=["cancelled, then released", "released, then cancelled"])
def test_a_waiter_cancelled_in_the_moment_of_its_wake_passes_it_on(cancelled_first: bool) -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("first", since=1.0)
        await waiters.add("second", since=2.0)
        # Without a turn of the event loop in between, as when a triggerer has much to do.
        if cancelled_first:
            waiters.tasks["first"].cancel()
            queue.release()
        else:
            queue.release()
            waiters.tasks["first"].cancel()
        await turns()
        assert waiters.woken == ["second"]
        assert len(queue) == 0

    in_a_loop(test)


def test_the_wake_of_a_last_waiter_that_was_cancelled_is_kept_for_the_next() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        refused_at = now()
        await waiters.add("first", since=1.0)
        waiters.tasks["first"].cancel()
        queue.release()
        await turns()
        await waiters.add("next", refused_at=refused_at)
        assert waiters.woken == ["next"]

    in_a_loop(test)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(["add", "cancel", "release", "turn"]), max_size=40))
def test_no_wake_is_lost_whatever_comes_together(steps: list[str]) -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        added = released = 0
        for step in steps:
            if step == "add":
                await waiters.add(str(added), since=float(added), refused_at=0.0)
                added += 1
            elif step == "cancel":
                live = [task for task in waiters.tasks.values() if not task.done() and not task.cancelling()]
                if live:
                    live[0].cancel()
            elif step == "release":
                queue.release()
                released += 1
            else:
                await turns(1)
        await turns()
        # What is left over is there for those who come now.
        for extra in range(released + 1):
            await waiters.add(f"extra {extra}", since=1000.0 + extra, refused_at=0.0)
        assert len(waiters.woken) == released
        await waiters.end()

    in_a_loop(test)


# Guesses: nothing ended here for a while, but a slot may be free elsewhere.


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 22.5), (0.5, 30.0), (1.0, 37.5)])
def test_a_lone_waiter_guesses_after_its_interval_spread_by_a_quarter(jitter: float, seconds: float) -> None:
    async def test(queue: SlotQueue) -> None:
        waiters, started = Waiters(queue), now()
        await waiters.add("lone", poll_interval=30)
        await waiters.tasks["lone"]
        assert now() - started == pytest.approx(seconds)

    in_a_loop(test, jitter)


def test_a_guess_wakes_one_and_each_next_one_is_rarer_until_one_is_alone() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters, started = Waiters(queue), now()
        await waiters.add_many(6, poll_interval=30)
        await asyncio.gather(*waiters.tasks.values())
        assert waiters.woken == [str(number) for number in range(6)]
        gaps = [later - earlier for earlier, later in itertools.pairwise([started, *waiters.times])]
        assert gaps == pytest.approx([30, 60, 120, 240, 240, 30])

    in_a_loop(test)


def test_an_end_starts_the_guesses_afresh() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(10, poll_interval=30)
        await asyncio.sleep(30 + 60 + 120 + 1)
        queue.release()
        await asyncio.sleep(31)
        assert waiters.woken == ["0", "1", "2", "3", "4"]
        await waiters.end()

    in_a_loop(test)


def test_while_all_slots_are_known_to_be_in_use_a_guess_is_rare_but_never_never() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        with queue.watching("task_1", now()), queue.watching("task_1", now()), queue.watching("task_2", now()):
            await waiters.add_many(1, poll_interval=30, limit=2)
            await asyncio.sleep(239)
            assert waiters.woken == []
            await asyncio.sleep(2)
            assert waiters.woken == ["0"], "a limit may be raised, and a task in an unknown status may be over"

    in_a_loop(test)


def test_once_an_end_is_told_the_next_guess_is_soon_again() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        with queue.watching("task_1", now()):
            with queue.watching("task_2", now()):
                await waiters.add_many(2, poll_interval=30, limit=2)
            queue.release()
            await asyncio.sleep(1)
            assert waiters.woken == ["0"]
            await asyncio.sleep(30)
            assert waiters.woken == ["0", "1"], "one slot may be free now, elsewhere"

    in_a_loop(test)


def test_an_end_restarts_the_wait_for_the_next_guess() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(2, poll_interval=30)
        await asyncio.sleep(29)
        queue.release()
        await asyncio.sleep(29)
        assert waiters.woken == ["0"]
        await asyncio.sleep(2)
        assert waiters.woken == ["0", "1"]

    in_a_loop(test)


def test_a_waiter_does_not_inherit_the_timer_of_one_that_went_away() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("gone", poll_interval=30)
        await asyncio.sleep(29)
        waiters.tasks["gone"].cancel()
        await turns()
        await waiters.add("new", poll_interval=30)
        await asyncio.sleep(29)
        assert waiters.woken == []
        await asyncio.sleep(2)
        assert waiters.woken == ["new"]

    in_a_loop(test)


# Whether a guess was right.


def test_a_right_guess_lets_the_next_guess_at_once() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(3, poll_interval=30)
        with ExitStack() as running:
            await asyncio.sleep(31)
            assert waiters.woken == ["0"]
            for number in range(2):
                running.enter_context(queue.watching(f"task_{number}", now()))  # what the last guess created
                await turns()
            assert waiters.woken == ["0", "1", "2"]

    in_a_loop(test)


def test_a_wrong_guess_ends_the_row_of_guesses() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(2, poll_interval=30)
        await asyncio.sleep(31)
        assert waiters.woken == ["0"]
        await waiters.add("0, refused again", since=0.0, poll_interval=30)
        with queue.watching("task_of_somebody_else", now()):
            await turns()
            assert waiters.woken == ["0"]
        await waiters.end()

    in_a_loop(test)


def test_a_video_that_was_watched_before_says_nothing_of_a_guess() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        with queue.watching("task_1", now()):
            await waiters.add_many(2, poll_interval=30)
            await asyncio.sleep(31)
            with queue.watching("task_1", now()):  # by a second sensor
                await turns()
                assert waiters.woken == ["0"]
        await waiters.end()

    in_a_loop(test)


def test_videos_that_were_created_before_the_guess_say_nothing_of_it() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters, started = Waiters(queue), now()
        await waiters.add_many(10, poll_interval=30)
        await asyncio.sleep(31)
        assert waiters.woken == ["0"]
        with ExitStack() as running:
            for number in range(5):  # triggers that another triggerer has lost
                running.enter_context(queue.watching(f"task_{number}", started))
                await turns()
        assert waiters.woken == ["0"]
        await waiters.end()

    in_a_loop(test)


def test_a_watch_that_begins_wakes_nobody_without_a_guess() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(2)
        with queue.watching("task_1", now()):
            await turns()
        assert waiters.woken == []
        await waiters.end()

    in_a_loop(test)


def test_a_right_guess_wakes_nobody_once_all_slots_are_in_use() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add_many(2, poll_interval=30, limit=1)
        await asyncio.sleep(31)
        with queue.watching("task_0", now()):
            await asyncio.sleep(1)
            assert waiters.woken == ["0"]
        await waiters.end()

    in_a_loop(test)


def test_a_guess_beyond_the_limit_shows_that_it_was_raised() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        with ExitStack() as running:
            running.enter_context(queue.watching("task_a", now()))
            await waiters.add_many(5, poll_interval=30, limit=1)
            await asyncio.sleep(241)
            assert waiters.woken == ["0"]
            for number in range(3):
                running.enter_context(queue.watching(f"task_{number}", now()))
                await turns()
            assert waiters.woken == ["0", "1", "2", "3"], "until a refusal names the new limit"
            await waiters.add("3, refused again", since=3.0, poll_interval=30, limit=4)
            await asyncio.sleep(10)
            assert len(waiters.woken) == 4
            await waiters.end()

    in_a_loop(test)


# The deadline.


def test_at_the_deadline_a_waiter_gives_up() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("hasty", since=1.0, seconds=5)
        await waiters.add("patient", since=2.0)
        await asyncio.sleep(4)
        assert waiters.gave_up == []
        await asyncio.sleep(2)
        assert waiters.gave_up == ["hasty"]
        queue.release()
        await turns()
        assert waiters.woken == ["patient"]

    in_a_loop(test)


def test_a_deadline_in_the_past_gives_up_at_once() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("late", seconds=-5)
        assert waiters.gave_up == ["late"]
        assert len(queue) == 0

    in_a_loop(test)


@pytest.mark.parametrize("release_at", [4.9, 5.0, 5.1], ids=["just before", "at", "just after"])
def test_a_release_close_to_a_deadline_is_not_lost(release_at: float) -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("hasty", since=1.0, seconds=5)
        await waiters.add("patient", since=2.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.call_later(release_at, queue.release)
        loop.be_busy(10)  # so that both are due in the same turn of the event loop
        await turns()
        assert len(waiters.woken) == 1
        await waiters.end()

    in_a_loop(test)


def test_a_waiter_that_is_woken_and_past_its_deadline_in_one_turn_uses_the_slot() -> None:
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("hasty", seconds=5)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        # The deadline's callback comes after the wake, and before the waiter's own turn.
        loop.call_later(4, lambda: loop.call_soon(queue.release))
        loop.be_busy(4.5)
        await asyncio.sleep(0)
        loop.be_busy(1)
        await turns()
        assert waiters.woken == ["hasty"]

    in_a_loop(test)
