from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_provider.events import TaskEvent, error_from_json
from seedance_provider.exceptions import SeedanceConcurrencyLimitError
from seedance_provider.triggers import slots
from seedance_provider.triggers.slots import (
    WOKEN_BY_END,
    WOKEN_BY_TIME,
    SeedanceSlotTrigger,
    SlotQueue,
    slot_queue,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONG = 3600.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which nothing takes time but sleeping, and sleeping takes none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0  # small, so that no step is lost to rounding
        select = self._selector.select

        def jump(timeout: float | None) -> Any:
            assert timeout is not None, "everything waits for something that never comes"
            self.now += timeout
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self.now

    def be_busy(self, seconds: float) -> None:
        """Let time pass in which no other code runs."""
        self.now += seconds


def now() -> float:
    return asyncio.get_running_loop().time()


def in_a_loop(test: Callable[[SlotQueue], Awaitable[None]]) -> None:
    """Run a test on an event loop of its own, with a queue of its own."""

    async def run() -> None:
        await test(SlotQueue())

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        patch.setattr(slots, "time", SimpleNamespace(time=now))
        runner.run(run())


class Waiters:
    """Waiters of one queue, by name, and the order in which they were woken."""

    def __init__(self, queue: SlotQueue) -> None:
        self.queue = queue
        self.woken: list[tuple[str, str | None]] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(
        self,
        name: str,
        *,
        since: float = 0.0,
        refused_at: float | None = None,
        poll_interval: float = LONG,
        seconds: float = LONG,
        limit: int | None = None,
    ) -> None:
        async def wait() -> None:
            reason = await self.queue.wait(
                since=since,
                refused_at=now() if refused_at is None else refused_at,
                poll_interval=poll_interval,
                deadline=now() + seconds,
                limit=limit,
            )
            self.woken.append((name, reason))

        self.tasks[name] = asyncio.create_task(wait())
        await settle()

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settle() -> None:
    """Let everything that can run run."""
    for _ in range(5):
        await asyncio.sleep(0)


# Who is woken.


def test_the_one_that_waits_longest_is_woken_first_whenever_it_came_back():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for name, since in (("second", 2.0), ("third", 3.0), ("first", 1.0)):
            await waiters.add(name, since=since)
        for _ in range(3):
            queue.release()
            await settle()
        assert waiters.woken == [("first", WOKEN_BY_END), ("second", WOKEN_BY_END), ("third", WOKEN_BY_END)]

    in_a_loop(test)


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_waiters_are_served_in_the_order_of_their_places_and_equal_ones_as_they_came(places):
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for number, since in enumerate(places):
            await waiters.add(str(number), since=since)
        for _ in places:
            queue.release()
        await settle()
        served = [int(name) for name, _ in waiters.woken]
        assert served == sorted(range(len(places)), key=lambda number: places[number])

    in_a_loop(test)


def test_a_release_wakes_one_of_a_thousand():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for number in range(1000):
            await waiters.add(str(number), since=float(number))
        queue.release()
        await settle()
        assert waiters.woken == [("0", WOKEN_BY_END)]
        assert len(queue) == 999
        await waiters.end()
        assert len(queue) == 0

    in_a_loop(test)


def test_two_releases_at_once_wake_two():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for number in range(3):
            await waiters.add(str(number), since=float(number))
        queue.release()
        queue.release()
        await settle()
        assert [name for name, _ in waiters.woken] == ["0", "1"]
        await waiters.end()

    in_a_loop(test)


# A release without a waiter.


def test_a_release_before_the_waiter_arrives_is_kept_for_it():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        refused_at = now()
        queue.release()  # while the refused task is on its way from the worker to the triggerer
        await waiters.add("late", refused_at=refused_at)
        await waiters.add("later", refused_at=refused_at)
        assert waiters.woken == [("late", WOKEN_BY_END)]
        await waiters.end()

    in_a_loop(test)


def test_a_release_before_the_refusal_says_nothing():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        queue.release()  # somebody else took that slot, or there would have been no refusal
        await waiters.add("refused since", refused_at=now() + 1)
        assert waiters.woken == []
        await waiters.end()

    in_a_loop(test)


def test_releases_without_waiters_do_not_pile_up():
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


def test_a_cancelled_waiter_is_forgotten():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("first", since=1.0)
        await waiters.add("second", since=2.0)
        waiters.tasks["first"].cancel()
        await settle()
        queue.release()
        await settle()
        assert waiters.woken == [("second", WOKEN_BY_END)]

    in_a_loop(test)


@pytest.mark.parametrize("cancelled_first", [True, False], ids=["cancelled, then released", "released, then cancelled"])
def test_a_waiter_cancelled_in_the_moment_of_its_wake_passes_it_on(cancelled_first):
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
        await settle()
        assert waiters.woken == [("second", WOKEN_BY_END)]
        assert len(queue) == 0

    in_a_loop(test)


def test_the_wake_of_a_last_waiter_that_was_cancelled_is_kept_for_the_next():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        refused_at = now()
        await waiters.add("first", since=1.0)
        waiters.tasks["first"].cancel()
        queue.release()
        await settle()
        await waiters.add("next", refused_at=refused_at)
        assert waiters.woken == [("next", WOKEN_BY_END)]

    in_a_loop(test)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(["add", "cancel", "release", "turn"]), max_size=40))
def test_no_wake_is_lost_whatever_comes_together(steps):
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
                await asyncio.sleep(0)
        await settle()
        # What is left over is there for those who come now.
        for extra in range(released + 1):
            await waiters.add(f"extra {extra}", since=1000.0 + extra, refused_at=0.0)
        assert len(waiters.woken) == released
        await waiters.end()

    in_a_loop(test)


# The trickle.


def test_the_trickle_wakes_one_and_only_after_its_interval():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for name, since in (("first", 1.0), ("second", 2.0)):
            await waiters.add(name, since=since, poll_interval=30)
        await asyncio.sleep(22.4)
        assert waiters.woken == []
        await asyncio.sleep(15.2)
        assert waiters.woken == [("first", WOKEN_BY_TIME)]
        await waiters.end()

    in_a_loop(test)


def test_the_trickle_goes_on_from_one_to_the_next():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for number in range(4):
            await waiters.add(str(number), since=float(number), poll_interval=30)
        started = now()
        await asyncio.gather(*waiters.tasks.values())
        assert waiters.woken == [(str(number), WOKEN_BY_TIME) for number in range(4)]
        # Rarer each time, and as asked for the last, which is alone.
        assert 22.5 * (1 + 2 + 4 + 1) <= now() - started <= 37.5 * (1 + 2 + 4 + 1)

    in_a_loop(test)


def test_a_thousand_waiters_guess_ever_more_rarely():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for number in range(1000):
            await waiters.add(str(number), since=float(number), poll_interval=30)
        await asyncio.sleep(600)
        assert 3 <= len(waiters.woken) <= 5
        await waiters.end()

    in_a_loop(test)


def test_nobody_guesses_while_all_slots_are_held_by_videos_that_are_watched_here():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        with queue.watching("task_1"), queue.watching("task_1"), queue.watching("task_2"):
            for name, since in (("first", 1.0), ("second", 2.0)):
                await waiters.add(name, since=since, poll_interval=30, limit=2)
            await asyncio.sleep(1800)
            assert waiters.woken == []
        queue.release()
        await asyncio.sleep(1)
        assert waiters.woken == [("first", WOKEN_BY_END)]
        await asyncio.sleep(40)
        assert waiters.woken[1:] == [("second", WOKEN_BY_TIME)], "one slot may be free now, elsewhere"

    in_a_loop(test)


def test_a_guess_that_found_a_slot_lets_the_next_guess_unless_all_are_held_here():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("first", since=1.0, poll_interval=LONG, limit=1)
        with queue.watching("task_1"):
            queue.guessed_right()
            await asyncio.sleep(1)
            assert waiters.woken == []
        queue.guessed_right()
        await asyncio.sleep(1)
        assert waiters.woken == [("first", WOKEN_BY_TIME)]

    in_a_loop(test)


def test_a_release_resets_the_timer():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        for name, since in (("first", 1.0), ("second", 2.0)):
            await waiters.add(name, since=since, poll_interval=30)
        await asyncio.sleep(22)
        queue.release()
        await asyncio.sleep(22)
        assert waiters.woken == [("first", WOKEN_BY_END)]
        await asyncio.sleep(16)
        assert waiters.woken[1:] == [("second", WOKEN_BY_TIME)]

    in_a_loop(test)


def test_a_waiter_does_not_inherit_the_timer_of_one_that_went_away():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("gone", poll_interval=30)
        await asyncio.sleep(22)
        waiters.tasks["gone"].cancel()
        await settle()
        await waiters.add("new", poll_interval=30)
        await asyncio.sleep(22)
        assert waiters.woken == []
        await asyncio.sleep(16)
        assert waiters.woken == [("new", WOKEN_BY_TIME)]

    in_a_loop(test)


def test_the_looks_of_many_connections_are_spread():
    async def test(_queue: SlotQueue) -> None:
        async def one() -> float:
            started = now()
            await SlotQueue().wait(since=0.0, refused_at=0.0, poll_interval=30, deadline=now() + LONG)
            return now() - started

        delays = await asyncio.gather(*(one() for _ in range(200)))
        assert 22.5 <= min(delays) < 25 < 35 < max(delays) <= 37.6

    in_a_loop(test)


# The deadline.


def test_at_the_deadline_a_waiter_gives_up():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("hasty", since=1.0, seconds=5)
        await waiters.add("patient", since=2.0)
        await asyncio.sleep(4)
        assert waiters.woken == []
        await asyncio.sleep(2)
        assert waiters.woken == [("hasty", None)]
        queue.release()
        await settle()
        assert waiters.woken[1] == ("patient", WOKEN_BY_END)

    in_a_loop(test)


def test_a_deadline_in_the_past_gives_up_at_once():
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("late", seconds=-5)
        assert waiters.woken == [("late", None)]
        assert len(queue) == 0

    in_a_loop(test)


@pytest.mark.parametrize("release_at", [4.9, 5.0, 5.1], ids=["just before", "at", "just after"])
def test_a_release_close_to_a_deadline_is_not_lost(release_at):
    async def test(queue: SlotQueue) -> None:
        waiters = Waiters(queue)
        await waiters.add("hasty", since=1.0, seconds=5)
        await waiters.add("patient", since=2.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.call_later(release_at, queue.release)
        loop.be_busy(10)  # so that both are due in the same turn of the event loop
        await settle()
        assert [reason for _, reason in waiters.woken].count(WOKEN_BY_END) == 1
        await waiters.end()

    in_a_loop(test)


def test_a_waiter_that_is_woken_and_past_its_deadline_in_one_turn_uses_the_slot():
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
        await settle()
        assert waiters.woken == [("hasty", WOKEN_BY_END)]

    in_a_loop(test)


# One queue per connection and event loop.


def test_each_connection_has_its_queue_and_so_has_each_event_loop():
    async def queues() -> tuple[SlotQueue, SlotQueue, SlotQueue]:
        return slot_queue("a"), slot_queue("a"), slot_queue("b")

    first, again, other = asyncio.run(queues())
    assert first is again
    assert first is not other
    assert asyncio.run(queues())[0] is not first


# The trigger.


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SETTLE_SECONDS", 0)


def test_a_waiter_is_not_woken_before_airflow_has_noted_its_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SETTLE_SECONDS", 0.3)
    trigger = make_trigger()
    asyncio.run(event_of(trigger))
    assert time.time() >= trigger.refused_at + 0.3


def make_trigger(**changes: Any) -> SeedanceSlotTrigger:
    at = time.time()
    arguments: dict[str, Any] = {
        "seedance_conn_id": "seedance_default",
        "since": at - 10,
        "refused_at": at,
        "poll_interval": 0.01,
        "deadline": at + 60,
        "carry": {"slot_since": at - 10, "resubmitted": 1},
    }
    return SeedanceSlotTrigger(**arguments | changes)


async def event_of(trigger: SeedanceSlotTrigger) -> TaskEvent:
    (event,) = [event async for event in trigger.run()]
    return TaskEvent.from_json(json.loads(json.dumps(event.payload)))


def test_the_trigger_survives_the_database():
    trigger = make_trigger()
    path, arguments = trigger.serialize()
    again = SeedanceSlotTrigger(**json.loads(json.dumps(arguments)))
    assert path == f"{SeedanceSlotTrigger.__module__}.{SeedanceSlotTrigger.__qualname__}"
    assert again.serialize() == (path, arguments)
    assert arguments["carry"] == {"slot_since": trigger.since, "resubmitted": 1}


def test_the_trigger_without_a_carry_carries_nothing():
    assert make_trigger(carry=None).serialize()[1]["carry"] == {}


def test_the_trigger_tells_what_woke_it_and_gives_back_what_it_was_given():
    trigger = make_trigger()
    event = asyncio.run(event_of(trigger))
    assert event.status == "slot"
    assert event.carry == trigger.carry | {"woken_by": WOKEN_BY_TIME}


def test_the_trigger_is_woken_by_a_release_of_its_connection_only():
    async def test() -> TaskEvent:
        waiting = asyncio.create_task(event_of(make_trigger(poll_interval=LONG)))
        await settle()
        slot_queue("another").release()
        await settle()
        assert not waiting.done()
        slot_queue("seedance_default").release()
        return await asyncio.wait_for(waiting, 2)

    assert asyncio.run(test()).carry["woken_by"] == WOKEN_BY_END


def test_the_trigger_ends_at_the_deadline_with_an_error_that_a_retry_may_mend():
    trigger = make_trigger(poll_interval=LONG, deadline=time.time() + 0.05)
    event = asyncio.run(event_of(trigger))
    assert event.status == "error"
    assert event.error is not None
    error = error_from_json(event.error)
    assert type(error) is SeedanceConcurrencyLimitError
    assert "no free slot for 10 s (slot_timeout)" in str(error)
    assert "Nothing was charged" in str(error)
    assert event.carry == trigger.carry
