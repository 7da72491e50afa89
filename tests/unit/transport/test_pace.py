"""The pace of a connection: its budget shared in order, deadlines kept, the vendor's pauses felt by all."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seedance_provider.api.policy import backoff
from seedance_provider.transport.pace import Pace, latest_turn, pace_of

from seedance_provider.api.calls import Reply, Request
from seedance_provider.api.flows import Send
from seedance_provider.connection import SeedanceSettings
from seedance_provider.transport import pace
from seedance_provider.transport.aio import AioTransport

OK = Reply(200, "application/json", b"{}")

budgets = st.floats(0.1, 10_000)
#: Times of asking, in order.
askings = st.lists(st.floats(0, 30), min_size=1, max_size=60).map(
    lambda gaps: [sum(gaps[:n]) for n in range(len(gaps))]
)


def refusal(retry_after: float | None = None) -> Reply:
    return Reply(429, "application/json", b"", retry_after)


def turns(of: Pace, times: list[float]) -> list[float]:
    """When each of those who ask at these times may send."""
    return [now + of.turn(now) for now in times]


class TestBudget:
    def test_none_limits_nothing(self) -> None:
        unlimited = Pace()
        assert not unlimited.limits(0)
        assert turns(unlimited, [1, 1, 1]) == [1, 1, 1]

    def test_the_first_goes_at_once_and_the_rest_evenly(self) -> None:
        assert turns(Pace(60), [5, 5, 5, 5]) == [5, 6, 7, 8]

    def test_time_not_used_is_not_saved_up(self) -> None:
        assert turns(Pace(60), [0, 100, 100, 100]) == [0, 100, 101, 102]

    @given(budgets, askings)
    def test_is_never_exceeded_in_any_minute(self, budget: float, times: list[float]) -> None:
        at = turns(Pace(budget), times)
        assert all(later - earlier >= 60 / budget * (1 - 1e-9) - 1e-6 for earlier, later in pairwise(at))
        for start in at:
            assert sum(start <= moment < start + 60 - 1e-6 for moment in at) <= max(budget, 1) + 1

    @given(budgets, askings)
    def test_serves_in_order_of_asking(self, budget: float, times: list[float]) -> None:
        at = turns(Pace(budget), times)
        assert at == sorted(at)

    @given(budgets, askings)
    def test_nobody_waits_longer_than_those_before_need(self, budget: float, times: list[float]) -> None:
        limited = Pace(budget)
        for before, now in enumerate(times):
            assert 0 <= limited.turn(now) <= before * 60 / budget + 1e-6

    def test_each_of_many_waiters_gets_its_share(self) -> None:
        limited, count = Pace(100), 50
        due = dict.fromkeys(range(count), 0.0)
        looks = dict.fromkeys(range(count), 0)
        while min(due.values()) < 600:
            waiter = min(due, key=lambda number: due[number])
            # It asks again as soon as it has had its turn.
            due[waiter] += limited.turn(due[waiter])
            looks[waiter] += 1
        assert max(looks.values()) - min(looks.values()) <= 2
        assert min(looks.values()) >= 600 * 100 / 60 / count

    def test_is_shared_by_threads(self) -> None:
        limited, delays = Pace(60), []
        threads = [threading.Thread(target=lambda: delays.append(limited.turn(0))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(delays) == list(range(20))


class TestDeadline:
    def test_goes_out_of_turn(self) -> None:
        limited = Pace(1)
        limited.turn(0)
        assert limited.turn(0, latest=10) == 10

    def test_costs_nobody_else_a_turn(self) -> None:
        limited = Pace(60)
        at = [limited.turn(0), limited.turn(0), limited.turn(0, latest=0.5), limited.turn(0)]
        assert at == [0, 1, 0.5, 2]

    def test_in_turn_counts_as_one(self) -> None:
        limited = Pace(60)
        assert [limited.turn(0, latest=100), limited.turn(0)] == [0, 1]

    def test_that_has_passed_goes_at_once(self) -> None:
        limited = Pace(1)
        limited.turn(0)
        assert limited.turn(50, latest=20) == 0

    def test_ends_a_pause_too(self) -> None:
        paused = Pace()
        paused.note(0, "GET", refusal(60))
        assert paused.turn(1, latest=5) == 4

    @given(budgets, st.lists(st.tuples(st.floats(0, 20), st.none() | st.floats(0, 100)), min_size=1, max_size=60))
    def test_is_kept_and_others_stay_within_the_budget(
        self, budget: float, asked: list[tuple[float, float | None]]
    ) -> None:
        limited, now = Pace(budget), 0.0
        in_turn = []
        for gap, latest in asked:
            now += gap
            before = limited._next
            at = now + limited.turn(now, latest)
            if latest is not None:
                assert at <= max(latest, now) + 1e-6
            if limited._next != before:
                in_turn.append(at)
        assert all(later - earlier >= 60 / budget * (1 - 1e-9) - 1e-6 for earlier, later in pairwise(in_turn))

    def test_in_epoch_seconds_is_turned_into_monotonic_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pace.time, "time", lambda: 1_800_000_000.0)
        monkeypatch.setattr(pace.time, "monotonic", lambda: 50.0)
        assert latest_turn(1_800_000_010.0) == 60
        assert latest_turn(None) is None


class TestPause:
    def test_holds_for_all_until_its_end(self) -> None:
        paused = Pace()
        paused.note(0, "GET", refusal(30))
        assert paused.limits(29.9)
        assert not paused.limits(30)
        assert paused.pauses(29.9)
        assert not paused.pauses(30)
        assert all(30 <= now + paused.turn(now) <= 60 for now in (0, 1, 15, 29))

    def test_spreads_those_who_come_due_in_it(self) -> None:
        paused = Pace()
        paused.note(0, "GET", refusal(10))
        at = [paused.turn(0) for _ in range(500)]
        assert all(10 <= moment <= 20 for moment in at)
        for start in range(10, 20):
            assert 20 <= sum(start <= moment < start + 1 for moment in at) <= 90

    @given(st.integers(1, 10), st.floats(0, 1))
    def test_without_retry_after_grows_with_refusals_in_a_row(self, refusals: int, jitter: float) -> None:
        paused, now = Pace(), 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pace.random, "random", lambda: jitter)
            for _ in range(refusals):
                now = paused._paused_until
                paused.note(now, "GET", refusal())
        assert paused._paused_until - now == pytest.approx(backoff(refusals + 1, jitter))

    def test_counts_answers_to_requests_under_way_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pace.random, "random", lambda: 0.5)
        paused = Pace()
        for _ in range(100):
            paused.note(0, "GET", refusal())
        assert paused._paused_until == backoff(2, 0.5)

    def test_ends_the_row_with_an_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pace.random, "random", lambda: 0.5)
        paused = Pace()
        for now in (0, 100, 200):
            paused.note(now, "GET", refusal())
        paused.note(300, "GET", OK)
        paused.note(400, "GET", refusal())
        assert paused._paused_until - 400 == backoff(2, 0.5)

    def test_is_never_shortened(self) -> None:
        paused = Pace()
        paused.note(0, "GET", refusal(100))
        paused.note(1, "GET", refusal(2))
        assert paused.limits(99)

    @pytest.mark.parametrize("reply", [OK, Reply(500, "", b""), Reply(503, "", b"", 60)])
    def test_follows_no_other_answer(self, reply: Reply) -> None:
        unlimited = Pace()
        unlimited.note(0, "GET", reply)
        assert not unlimited.limits(0)

    def test_does_not_follow_a_refused_create_task(self) -> None:
        unlimited = Pace()
        unlimited.note(0, "POST", refusal(60))
        assert not unlimited.limits(0)

    def test_keeps_the_budget(self) -> None:
        limited = Pace(60)
        limited.note(0, "GET", refusal(10))
        at = turns(limited, [0.0] * 50)
        assert at == sorted(at)
        assert at[0] >= 10
        assert all(later - earlier >= 1 - 1e-9 for earlier, later in pairwise(at[1:]))

    def test_holds_for_those_too_who_already_wait_for_their_turn(self) -> None:
        sent: list[float] = []

        class Session:
            """Refuses the first request and asks for half a second of peace."""

            async def request(self, *_: Any, **__: Any) -> Any:
                sent.append(time.monotonic())
                headers = {"Retry-After": "0.5"} if len(sent) == 1 else {}
                return Response(429 if len(sent) == 1 else 200, headers)

        class Response:
            def __init__(self, status: int, headers: dict[str, str]) -> None:
                self.status, self.headers, self.content = status, headers, self

            def at_eof(self) -> bool:
                return True

            async def __aenter__(self) -> None: ...

            async def __aexit__(self, *_: object) -> None: ...

        def flow() -> Any:
            yield Send(Request("GET", "/jobs/recordInfo?taskId=task_1"))

        async def run() -> None:
            session: Any = Session()
            shared = settings(api_key="paused-key", requests_per_minute=600)
            await asyncio.gather(*(AioTransport(session, shared, Mock()).drive(flow()) for _ in range(5)))

        asyncio.run(run())
        assert sent[1] - sent[0] >= 0.49
        assert len(sent) == 5


def settings(**more: Any) -> SeedanceSettings:
    return SeedanceSettings(**{"base_url": "https://a.test/api/v1", "api_key": "key", **more})


class TestPaceOf:
    def test_is_one_for_a_connection(self) -> None:
        assert pace_of(settings()) is pace_of(settings(read_timeout=5))

    @pytest.mark.parametrize(
        "other", [{"base_url": "https://b.test/api/v1"}, {"api_key": "another"}, {"requests_per_minute": 5.0}]
    )
    def test_is_another_for_another(self, other: dict[str, Any]) -> None:
        assert pace_of(settings()) is not pace_of(settings(**other))
