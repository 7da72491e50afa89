"""The rate limiter of a connection: its budget shared in order, deadlines kept, the vendor's pauses felt by all."""

from __future__ import annotations

import gc
import logging
import threading
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.api.messages import Flow, RenewKey, Reply, Request, Send, Sleep
from seedance_provider.api.schedule import backoff
from seedance_provider.exceptions import SeedanceTransportError
from seedance_provider.transport.throttle import Throttle, throttled

OK = Reply(200, "application/json", b"{}")

budgets = st.floats(0.1, 10_000)
#: Times of asking, in order.
askings = st.lists(st.floats(0, 30), min_size=1, max_size=60).map(
    lambda gaps: [sum(gaps[:n]) for n in range(len(gaps))]
)


def refusal(retry_after: float | None = None) -> Reply:
    return Reply(429, "application/json", b"", retry_after)


def starts(of: Throttle, times: list[float]) -> list[float]:
    """When each of those who ask at these times may send."""
    return [now + of.delay(now) for now in times]


class TestBudget:
    def test_none_limits_nothing(self) -> None:
        unlimited = Throttle()
        assert not unlimited.limits(0)
        assert starts(unlimited, [1, 1, 1]) == [1, 1, 1]

    def test_the_first_goes_at_once_and_the_rest_evenly(self) -> None:
        assert starts(Throttle(60), [5, 5, 5, 5]) == [5, 6, 7, 8]

    def test_time_not_used_is_not_saved_up(self) -> None:
        assert starts(Throttle(60), [0, 100, 100, 100]) == [0, 100, 101, 102]

    @given(budgets, askings)
    def test_is_never_exceeded_in_any_minute(self, budget: float, times: list[float]) -> None:
        at = starts(Throttle(budget), times)
        assert all(later - earlier >= 60 / budget * (1 - 1e-9) - 1e-6 for earlier, later in pairwise(at))
        for start in at:
            assert sum(start <= moment < start + 60 - 1e-6 for moment in at) <= max(budget, 1) + 1

    @given(budgets, askings)
    def test_serves_in_order_of_asking(self, budget: float, times: list[float]) -> None:
        at = starts(Throttle(budget), times)
        assert at == sorted(at)

    @given(budgets, askings)
    def test_nobody_waits_longer_than_those_before_need(self, budget: float, times: list[float]) -> None:
        limited = Throttle(budget)
        for before, now in enumerate(times):
            assert 0 <= limited.delay(now) <= before * 60 / budget + 1e-6

    def test_each_of_many_waiters_gets_its_share(self) -> None:
        limited, count = Throttle(100), 50
        due = dict.fromkeys(range(count), 0.0)
        looks = dict.fromkeys(range(count), 0)
        while min(due.values()) < 600:
            waiter = min(due, key=lambda number: due[number])
            # It asks again as soon as it has had its turn.
            due[waiter] += limited.delay(due[waiter])
            looks[waiter] += 1
        assert max(looks.values()) - min(looks.values()) <= 2
        assert min(looks.values()) >= 600 * 100 / 60 / count

    def test_is_shared_by_threads(self) -> None:
        limited, delays = Throttle(60), []
        threads = [threading.Thread(target=lambda: delays.append(limited.delay(0))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(delays) == list(range(20))


class TestDeadline:
    def test_goes_out_of_turn(self) -> None:
        limited = Throttle(1)
        limited.delay(0)
        assert limited.delay(0, latest=10) == 10

    def test_costs_nobody_else_a_turn(self) -> None:
        limited = Throttle(60)
        at = [limited.delay(0), limited.delay(0), limited.delay(0, latest=0.5), limited.delay(0)]
        assert at == [0, 1, 0.5, 2]

    def test_in_turn_counts_as_one(self) -> None:
        limited = Throttle(60)
        assert [limited.delay(0, latest=100), limited.delay(0)] == [0, 1]

    def test_that_has_passed_goes_at_once(self) -> None:
        limited = Throttle(1)
        limited.delay(0)
        assert limited.delay(50, latest=20) == 0

    def test_ends_a_pause_too(self) -> None:
        paused = Throttle()
        paused.note(0, "GET", refusal(60))
        assert paused.delay(1, latest=5) == 4

    @given(budgets, st.lists(st.tuples(st.floats(0, 20), st.none() | st.floats(0, 100)), min_size=1, max_size=60))
    def test_is_kept_and_others_stay_within_the_budget(
        self, budget: float, asked: list[tuple[float, float | None]]
    ) -> None:
        limited, now = Throttle(budget), 0.0
        in_turn = []
        for gap, latest in asked:
            now += gap
            before = limited._next
            at = now + limited.delay(now, latest)
            if latest is not None:
                assert at <= max(latest, now) + 1e-6
            if limited._next != before:
                in_turn.append(at)
        assert all(later - earlier >= 60 / budget * (1 - 1e-9) - 1e-6 for earlier, later in pairwise(in_turn))


class TestPause:
    def test_holds_for_all_until_its_end(self) -> None:
        paused = Throttle()
        paused.note(0, "GET", refusal(30))
        assert paused.limits(29.9)
        assert not paused.limits(30)
        assert paused.pauses(29.9)
        assert not paused.pauses(30)
        assert all(30 <= now + paused.delay(now) <= 60 for now in (0, 1, 15, 29))

    def test_spreads_those_who_come_due_in_it(self) -> None:
        paused = Throttle()
        paused.note(0, "GET", refusal(10))
        at = [paused.delay(0) for _ in range(500)]
        assert all(10 <= moment <= 20 for moment in at)
        for start in range(10, 20):
            assert 20 <= sum(start <= moment < start + 1 for moment in at) <= 90

    @given(st.integers(1, 10), st.floats(0, 1))
    def test_without_retry_after_grows_with_refusals_in_a_row(self, refusals: int, jitter: float) -> None:
        paused, now = Throttle(jitter=lambda: jitter), 0.0
        for _ in range(refusals):
            now = paused._paused_until
            paused.note(now, "GET", refusal())
        assert paused._paused_until - now == pytest.approx(backoff(refusals + 1, jitter))

    def test_counts_answers_to_requests_under_way_once(self) -> None:
        paused = Throttle(jitter=lambda: 0.5)
        for _ in range(100):
            paused.note(0, "GET", refusal())
        assert paused._paused_until == backoff(2, 0.5)

    def test_ends_the_row_with_an_answer(self) -> None:
        paused = Throttle(jitter=lambda: 0.5)
        for now in (0, 100, 200):
            paused.note(now, "GET", refusal())
        paused.note(300, "GET", OK)
        paused.note(400, "GET", refusal())
        assert paused._paused_until - 400 == backoff(2, 0.5)

    def test_is_never_shortened(self) -> None:
        paused = Throttle()
        paused.note(0, "GET", refusal(100))
        paused.note(1, "GET", refusal(2))
        assert paused.limits(99)

    @pytest.mark.parametrize("reply", [OK, Reply(500, "", b""), Reply(503, "", b"", 60)])
    def test_follows_no_other_answer(self, reply: Reply) -> None:
        unlimited = Throttle()
        unlimited.note(0, "GET", reply)
        assert not unlimited.limits(0)

    def test_does_not_follow_a_refused_create_task(self) -> None:
        unlimited = Throttle()
        unlimited.note(0, "POST", refusal(60))
        assert not unlimited.limits(0)

    def test_keeps_the_budget(self) -> None:
        limited = Throttle(60)
        limited.note(0, "GET", refusal(10))
        at = starts(limited, [0.0] * 50)
        assert at == sorted(at)
        assert at[0] >= 10
        assert all(later - earlier >= 1 - 1e-9 for earlier, later in pairwise(at[1:]))


class Clock:
    """A time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def epoch(self) -> float:
        return 1_800_000_000.0 + self.now


def asks(count: int = 1, *, deadline: float | None = None, method: str = "GET") -> Flow[list[Any]]:
    """So many requests, one after the other, and their answers or errors."""
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append((yield Send(Request(method, "/x"), deadline)))
        except SeedanceTransportError as error:
            answers.append(error)
    return answers


class Run:
    """Runs flows within one rate limiter, all at once, on a clock of its own."""

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self.clock = Clock()
        self.sent_at: list[float] = []

    def throttled(self, flow: Flow[Any]) -> Flow[Any]:
        log = logging.getLogger("tests.throttle")
        return throttled(flow, self.throttle, log=log, clock=self.clock.epoch, monotonic=self.clock.monotonic)

    def all(self, flows: list[Flow[Any]], replies: list[Any]) -> list[Any]:
        """Give these replies in the order of sending, and return the results."""
        waiting = [(self.clock.now, number, self.throttled(flow), None) for number, flow in enumerate(flows)]
        results: list[Any] = [None] * len(flows)
        left = iter(replies)
        while waiting:
            waiting.sort(key=lambda one: one[:2])
            self.clock.now, number, flow, result = waiting.pop(0)
            try:
                step = flow.throw(result) if isinstance(result, Exception) else flow.send(result)
            except StopIteration as stop:
                results[number] = stop.value
                continue
            if isinstance(step, Sleep):
                waiting.append((self.clock.now + step.seconds, number, flow, None))
            else:
                self.sent_at.append(self.clock.now)
                waiting.append((self.clock.now, number, flow, next(left, OK)))
        return results


class TestThrottled:
    def test_gives_every_step_and_every_result_on(self) -> None:
        def flow() -> Flow[str]:
            assert (yield Sleep(3)) is None
            assert (yield RenewKey()) is True
            with pytest.raises(SeedanceTransportError):
                yield RenewKey()
            with pytest.raises(SeedanceTransportError):
                yield Send(Request("GET", "/x"))
            return (yield Send(Request("GET", "/y"))).content_type

        wrapped = Run(Throttle()).throttled(flow())
        assert next(wrapped) == Sleep(3)
        assert wrapped.send(None) == RenewKey()
        assert wrapped.send(True) == RenewKey()
        assert wrapped.throw(SeedanceTransportError("x")) == Send(Request("GET", "/x"))
        assert wrapped.throw(SeedanceTransportError("x")) == Send(Request("GET", "/y"))
        with pytest.raises(StopIteration) as end:
            wrapped.send(OK)
        assert end.value.value == "application/json"

    def test_gives_on_what_a_flow_raises(self) -> None:
        def flow() -> Flow[None]:
            yield Sleep(1)
            raise LookupError

        wrapped = Run(Throttle()).throttled(flow())
        next(wrapped)
        with pytest.raises(LookupError):
            wrapped.send(None)

    def test_closes_the_flow_that_it_wraps(self) -> None:
        closed = []

        def flow() -> Flow[None]:
            try:
                yield Sleep(1)
            finally:
                closed.append(True)

        wrapped = Run(Throttle()).throttled(flow())
        next(wrapped)
        wrapped.close()
        assert closed == [True]

    def test_spaces_the_requests_of_all_flows(self) -> None:
        run = Run(Throttle(60))
        run.all([asks(2), asks(2)], [OK] * 4)
        assert run.sent_at == [50, 51, 52, 53]

    def test_keeps_a_deadline_in_epoch_seconds(self) -> None:
        run = Run(Throttle(1))
        run.all([asks(), asks(deadline=1_800_000_060.0)], [OK] * 2)
        assert run.sent_at == [50, 60]

    def test_lets_those_wait_again_who_waited_when_the_pause_came(self) -> None:
        run = Run(Throttle(600, jitter=lambda: 0.0))
        run.all([asks() for _ in range(4)], [refusal(30)])
        first, *others = run.sent_at
        assert first == 50
        assert all(at >= 80 for at in others)

    def test_does_not_let_them_wait_beyond_their_deadline(self) -> None:
        run = Run(Throttle(600, jitter=lambda: 0.0))
        run.all([asks(), asks(deadline=1_800_000_055.0)], [refusal(30)])
        assert run.sent_at == [50, 55]

    def test_tells_once_of_a_long_delay_and_why(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "tests.throttle")
        Run(Throttle(6)).all([asks(3)], [OK] * 3)
        (told,) = caplog.messages
        assert "requests_per_minute=6" in told
        assert "10 s" in told

    def test_tells_a_pause_of_the_vendors_from_a_budget(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "tests.throttle")
        Run(Throttle(jitter=lambda: 0.0)).all([asks(2)], [refusal(30)])
        (told,) = caplog.messages
        assert "requests_per_minute" not in told
        assert "30 s" in told

    def test_says_nothing_of_a_short_delay(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "tests.throttle")
        Run(Throttle(15)).all([asks(3)], [OK] * 3)
        assert not caplog.messages

    def test_keeps_no_reply_while_the_flow_sleeps(self) -> None:
        def flow() -> Flow[None]:
            yield Send(Request("GET", "/x"))
            yield Sleep(600)

        wrapped = Run(Throttle()).throttled(flow())
        next(wrapped)
        wrapped.send(Reply(200, "a reply of its own", b"{}"))
        gc.collect()
        assert not [one for one in gc.get_objects() if type(one) is Reply and one.content_type.endswith("its own")]
