"""Backoff, Retry-After and the poll schedule, for every number there is."""

from __future__ import annotations

from email.utils import formatdate
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.api import schedule

jitters = st.floats(0, 1)


class TestBackoff:
    @pytest.mark.parametrize(
        ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (10**9, 60)]
    )
    def test_doubles_up_to_a_minute(self, failures: int, seconds: float) -> None:
        assert schedule.backoff(failures, 0.5) == seconds

    @given(st.integers(1, 10**12), jitters)
    def test_is_jittered_by_a_quarter_and_never_above_75_seconds(self, failures: int, jitter: float) -> None:
        middle = schedule.backoff(failures, 0.5)
        assert 0.75 * middle <= schedule.backoff(failures, jitter) <= 1.25 * middle <= 75

    @given(st.integers(1, 100), jitters)
    def test_never_gets_shorter_with_more_failures(self, failures: int, jitter: float) -> None:
        assert schedule.backoff(failures + 1, jitter) >= schedule.backoff(failures, jitter)


class TestRetryAfter:
    NOW = 1_800_000_000.0

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("7", 7),
            ("0", 0),
            (" 12 ", 12),
            ("1.5", 1.5),
            ("-5", 0),
            ("86400", defaults.RETRY_AFTER_CAP),
            (formatdate(NOW + 30, usegmt=True), 30),
            (formatdate(NOW - 30, usegmt=True), 0),
            (formatdate(NOW + 10**6, usegmt=True), defaults.RETRY_AFTER_CAP),
            (None, None),
            ("", None),
            ("soon", None),
            ("nan", None),
            ("inf", None),
            ("1e999", None),
            ("Wed, 99 Foo 2026 25:61:61 GMT", None),
        ],
        ids=repr,
    )
    def test_is_seconds_or_a_date(self, value: str | None, seconds: float | None) -> None:
        assert schedule.retry_after_seconds(value, self.NOW) == seconds

    @given(
        st.one_of(
            st.text(max_size=40),
            st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}:\d{1,3} (GMT|[+-]\d{1,9})?"),
            st.lists(st.sampled_from(["Mon", ",", "1", "Jan", "99999", "00:00", ":", "+", "-0000", " ", "."])).map(
                "".join
            ),
        )
    )
    def test_is_in_bounds_or_unknown_whatever_the_header_says(self, value: str) -> None:
        seconds = schedule.retry_after_seconds(value, self.NOW)
        assert seconds is None or 0 <= seconds <= defaults.RETRY_AFTER_CAP


class TestPollDelay:
    @given(st.floats(-1e9, 1e9), st.floats(0.001, 1e6), jitters)
    def test_is_an_explicit_interval_exactly(self, age: float, poll_interval: float, jitter: float) -> None:
        assert schedule.poll_delay(age, poll_interval, jitter) == poll_interval

    @given(st.floats(allow_nan=False, allow_infinity=False), jitters)
    def test_is_between_4_and_33_seconds_at_any_age(self, age: float, jitter: float) -> None:
        assert 4 <= schedule.poll_delay(age, None, jitter) <= 33

    @pytest.mark.parametrize(
        ("age", "seconds"),
        [
            (-3600, 5),
            (0, 5),
            (9.9, 5),
            (10, 10),
            (20, 25),
            (89, 25),
            (90, 9.5),
            (300, 12),
            (600, 15),
            (1200, 30),
            (10**6, 30),
        ],
    )
    def test_follows_the_schedule(self, age: float, seconds: float) -> None:
        assert schedule.poll_delay(age, None, 0.5) == pytest.approx(seconds)

    @given(st.floats(0, 1e6), st.floats(1, 1e5) | st.none(), jitters, st.booleans())
    def test_is_never_under_2_nor_over_60_seconds_by_more_than_a_tenth(
        self, age: float, usual_seconds: float | None, jitter: float, urgent: bool
    ) -> None:
        assert 1.8 <= schedule.poll_delay(age, None, jitter, usual_seconds=usual_seconds, urgent=urgent) <= 66

    @pytest.mark.parametrize(
        ("usual_seconds", "factor"), [(None, 1), (200, 1), (400, 2), (4000, 2), (100, 0.5), (30, 0.5)]
    )
    def test_stretches_with_what_the_model_usually_takes(self, usual_seconds: float | None, factor: float) -> None:
        for step in schedule.ADAPTIVE_SCHEDULE:
            delay = schedule.poll_delay(step.age * factor, None, 0.5, usual_seconds=usual_seconds)
            assert delay == pytest.approx(step.interval * factor)

    @given(st.floats(0, 1e6), st.floats(1, 1e5), jitters)
    def test_is_short_while_the_slot_is_wanted(self, age: float, usual_seconds: float, jitter: float) -> None:
        delay = schedule.poll_delay(age, None, jitter, usual_seconds=usual_seconds, urgent=True)
        assert delay <= 1.1 * 2 * schedule.URGENT_INTERVAL
        assert delay <= schedule.poll_delay(age, None, jitter, usual_seconds=usual_seconds)

    @pytest.mark.parametrize(("usual_seconds", "ends_from"), [(None, 90), (100, 45), (400, 180)])
    def test_is_shortest_where_the_task_may_end_while_the_slot_is_wanted(
        self, usual_seconds: float | None, ends_from: float
    ) -> None:
        urgent = partial(schedule.poll_delay, poll_interval=None, jitter=0.5, usual_seconds=usual_seconds, urgent=True)
        assert urgent(ends_from - 1) == pytest.approx(4)
        assert urgent(ends_from) == pytest.approx(2)

    def test_of_an_explicit_interval_stays_while_the_slot_is_wanted(self) -> None:
        assert schedule.poll_delay(0, 60, 0.5, urgent=True) == 60

    def test_has_a_schedule_in_order_of_age(self) -> None:
        ages = [step.age for step in schedule.ADAPTIVE_SCHEDULE]
        assert ages == sorted(set(ages))
        assert ages[0] == 0
