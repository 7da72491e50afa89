"""When to try again and when to poll again: pure functions of numbers."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from seedance_provider import defaults


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after a number of failures in a row: 1, 2, 4 and so on up to 60.

    :param failures: Failures so far, 1 or more.
    :param jitter: A random number from 0 to 1; spreads the result by a quarter either way.
    """
    # The exponent is bounded so that a day of failures does not overflow a float.
    seconds = min(defaults.BACKOFF_BASE * 2.0 ** min(failures - 1, 16), defaults.BACKOFF_CAP)
    return seconds * (0.75 + 0.5 * jitter)


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read a ``Retry-After`` header: seconds or a date.

    :param value: The header's value, or None.
    :param now: The time, epoch seconds.
    :return: Seconds from 0 to 300; None if there is no usable value.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), defaults.RETRY_AFTER_CAP)


class ScheduleStep(NamedTuple):
    """From this age of a task on, poll every ``interval`` seconds."""

    age: float
    interval: float


ENDS_FROM = 90.0
"""The age in seconds from which on a task may end."""
ADAPTIVE_SCHEDULE: tuple[ScheduleStep, ...] = (
    # Chosen by simulation (benchmarks/schedule.py) for a model that usually takes 200 s. A refused reference or prompt
    # fails within seconds; then nothing ends for a minute (contract 8). A video of 200 s takes about 19 GETs, the
    # sensor's own poll included, and is noticed after 5 s on average.
    ScheduleStep(0, 5),
    ScheduleStep(10, 10),
    ScheduleStep(20, 25),
    ScheduleStep(ENDS_FROM, 9.5),
    ScheduleStep(300, 12),
    ScheduleStep(600, 15),
    ScheduleStep(1200, 30),
)
USUAL_SECONDS = 200.0
"""The generation time that the schedule is made for; other models stretch or shrink it by at most two."""
URGENT_INTERVAL = 2.0
"""Seconds between two polls of a task that may end while its slot is wanted, twice that before: an idle slot is lost
capacity. The vendor's own scripts poll every 2 s (contract 7)."""


def poll_delay(
    age: float,
    poll_interval: float | None,
    jitter: float,
    *,
    usual_seconds: float | None = None,
    urgent: bool = False,
) -> float:
    """Seconds until the next poll of a running task.

    :param age: Seconds since waiting began.
    :param poll_interval: A fixed interval in seconds; None follows the adaptive schedule.
    :param jitter: A random number from 0 to 1; spreads adaptive delays by a tenth either way.
    :param usual_seconds: How long the task's model usually takes; None if unknown.
    :param urgent: Whether the slot is wanted that the task's end frees.
    """
    if poll_interval is not None:
        return poll_interval
    stretch = min(max((usual_seconds or USUAL_SECONDS) / USUAL_SECONDS, 0.5), 2.0)
    interval = ADAPTIVE_SCHEDULE[0].interval
    for step in ADAPTIVE_SCHEDULE:
        if age / stretch < step.age:
            break
        interval = step.interval
    interval *= stretch
    if urgent:
        interval = min(interval, URGENT_INTERVAL if age / stretch >= ENDS_FROM else 2 * URGENT_INTERVAL)
    return interval * (0.9 + 0.2 * jitter)


def in_words(seconds: float) -> str:
    """A duration for people: ``45 s``, ``30 min`` or ``6 h``.

    :param seconds: The duration.
    """
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit, 1):g} {name}"
    return f"{round(seconds, 0 if seconds >= 10 else 1):g} s"
