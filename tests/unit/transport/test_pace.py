"""The pace of a connection: a budget, the vendor's pauses, and a deadline that neither may break."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.api import flows
from seedance_provider.api.calls import Reply
from seedance_provider.transport import pace as pace_module
from seedance_provider.transport import slow_turn
from seedance_provider.transport.pace import Pace, pace_of
from tests.unit.transport.wire import answer

LOG = logging.getLogger("tests.pace")
WAITING = answer(200, b'{"taskId":"task_a","status":"waiting"}')


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module.random, "random", lambda: 0.0)


def refusal(retry_after: float | None = None) -> Reply:
    return Reply(429, "application/json", b"{}", retry_after)


OK = Reply(200, "application/json", b"{}")


class TestBudget:
    def test_without_one_nobody_waits(self) -> None:
        pace = Pace()
        assert not pace.limits(0)
        assert [pace.turn(now) for now in (0, 0, 0, 5)] == [0, 0, 0, 0]

    def test_spreads_requests_evenly_in_the_order_they_ask(self) -> None:
        pace = Pace(60)
        assert pace.limits(100)
        assert [pace.turn(100) for _ in range(4)] == [0, 1, 2, 3]
        assert pace.turn(103.5) == 0.5

    def test_does_not_save_up_what_was_not_used(self) -> None:
        pace = Pace(60)
        pace.turn(100)
        assert [pace.turn(1000), pace.turn(1000)] == [0, 1]

    @given(st.lists(st.floats(0, 3), min_size=1, max_size=40), st.floats(1, 6000))
    def test_is_never_exceeded(self, gaps: list[float], requests_per_minute: float) -> None:
        pace, now, sent = Pace(requests_per_minute), 0.0, []
        for gap in gaps:
            now += gap
            sent.append(now + pace.turn(now))
        interval = 60 / requests_per_minute
        assert all(later - earlier >= interval - 1e-6 for earlier, later in itertools.pairwise(sent))

    def test_gives_way_to_a_deadline(self) -> None:
        pace = Pace(1)
        pace.turn(0)
        assert pace.turn(0, latest=10) == 10
        assert pace.turn(0, latest=-5) == 0
        assert pace.turn(0) == 60, "who goes out of turn takes nobody's turn"


class TestRefusedLook:
    def test_makes_everybody_wait_as_long_as_it_asks(self, no_jitter: None) -> None:
        pace = Pace()
        pace.note(100, "GET", refusal(30))
        assert pace.limits(129)
        assert pace.turn(110) == 20
        assert not pace.limits(130)

    def test_makes_everybody_wait_longer_each_time_without_a_word_how_long(
        self, no_jitter: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pace_module, "backoff", lambda failures, jitter: float(2**failures))
        pace, now, waits = Pace(), 0.0, []
        for _ in range(3):
            pace.note(now, "GET", refusal())
            waits.append(pace.turn(now))
            now += waits[-1]
        assert waits == [4, 8, 16]
        pace.note(now, "GET", OK)
        pace.note(now, "GET", refusal())
        assert pace.turn(now) == 4

    def test_counts_once_for_all_requests_that_were_under_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pace_module, "backoff", lambda failures, jitter: float(2**failures))
        monkeypatch.setattr(pace_module.random, "random", lambda: 0.0)
        pace = Pace()
        for _ in range(50):
            pace.note(0, "GET", refusal())
        assert pace.turn(0) == 4

    def test_does_not_let_all_come_back_at_once(self) -> None:
        pace = Pace()
        pace.note(0, "GET", refusal(10))
        turns = [pace.turn(0) for _ in range(50)]
        assert all(10 <= turn <= 20 for turn in turns)
        assert max(turns) - min(turns) > 2

    def test_gives_way_to_a_deadline(self) -> None:
        pace = Pace()
        pace.note(0, "GET", refusal(300))
        assert pace.turn(0, latest=7) == 7


def test_a_refused_submit_slows_no_look_down() -> None:
    """It says that the slots are taken, not that there were too many requests."""
    pace = Pace()
    pace.note(0, "POST", refusal(300))
    assert not pace.limits(0)


def test_a_connection_has_one_pace_in_a_process(settings: Any) -> None:
    one = settings("http://a.invalid/api/v1", requests_per_minute=60.0)
    assert pace_of(one) is pace_of(settings("http://a.invalid/api/v1", requests_per_minute=60.0))
    assert pace_of(one) is not pace_of(settings("http://a.invalid/api/v1", requests_per_minute=30.0))
    assert pace_of(one) is not pace_of(settings("http://b.invalid/api/v1", requests_per_minute=60.0))
    assert pace_of(one) is not pace_of(settings("http://a.invalid/api/v1", requests_per_minute=60.0, api_key="other"))


class TestTransports:
    def test_share_a_budget(
        self, drive: Callable[..., Any], serve: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turns: list[float] = []
        really = Pace.turn

        def turn(self: Pace, now: float, latest: float | None = None) -> float:
            turns.append(really(self, now, latest))
            return 0.0

        monkeypatch.setattr(Pace, "turn", turn)
        server = serve(*[WAITING] * 3)
        budget = settings(server.url, requests_per_minute=1.0)
        for _ in range(3):
            drive(flows.get("task_a", LOG, attempts=1), budget)
        assert turns[0] == 0
        assert 50 < turns[1] <= 60
        assert 110 < turns[2] <= 120

    def test_say_so_when_they_wait_long(
        self,
        drive: Callable[..., Any],
        serve: Any,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "seedance_provider.transport")
        monkeypatch.setattr("seedance_provider.transport.SLOW_TURN", 0.0)
        server = serve(WAITING)
        drive(flows.get("task_a", LOG, attempts=1), settings(server.url, requests_per_minute=600.0))
        assert "requests_per_minute=600 of the connection is shared" in caplog.text

    def test_tell_a_budget_from_a_pause_of_the_vendors(self, settings: Any) -> None:
        url = "http://a.invalid/api/v1"
        assert slow_turn(settings(url), 1.0) is None
        assert "Seedance asked for fewer requests" in (slow_turn(settings(url), 60.0) or "")
        assert "requests_per_minute=30" in (slow_turn(settings(url, requests_per_minute=30.0), 60.0) or "")

    def test_wait_no_longer_than_the_deadline_of_a_wait(
        self, drive: Callable[..., Any], serve: Any, settings: Any
    ) -> None:
        import time

        server = serve(WAITING, answer(200, b'{"taskId":"task_a","status":"success","output":["https://a.example/v"]}'))
        budget = settings(server.url, requests_per_minute=0.1)
        drive(flows.get("task_a", LOG, attempts=1), budget)
        now = time.time()
        flow = flows.wait("task_a", poll_interval=1, started_at=now, deadline=now + 0.2, clock=time.time, log=LOG)
        assert drive(flow, budget).urls == ["https://a.example/v"]
