"""When to try again, when to look again and when to give up: pure functions, and every default of those."""

from __future__ import annotations

import enum
import math
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple, overload

DEFAULT_BASE_URL = "https://seedance2-pro.com"
DEFAULT_CONNECT_TIMEOUT = 10.0
DEFAULT_READ_TIMEOUT = 60.0
DEFAULT_WAIT_TIMEOUT = 30 * 60.0
"""Seconds from the start of waiting to the deadline. The seed's 300 s is too short for today's models
(contract 8)."""

ATTEMPTS = 3
"""Requests in all for one createTask or one get_task: the vendor's own retry rule (the seed document)."""
BACKOFF_BASE = 1.0
BACKOFF_CAP = 60.0

NOT_FOUND_GRACE = 30.0
"""Seconds after the start of waiting in which a 404 is taken for a record that is not readable yet
(contract 12.3)."""
OUTPUT_GRACE = 60.0
"""Seconds for which a ``success`` without output is looked at again (contract 12.1, 6)."""
OUTPUT_GRACE_INTERVAL = 5.0
RETRY_AFTER_CAP = 300.0

SETTLED_LATER_PREFIX = "seedance2-5"
SETTLEMENT_DELAY = 5.0
"""Seconds after success at which the credits of these models are read again: the vendor settles them then
(contract 2.5, 4.3)."""

DEFAULT_SLOT_TIMEOUT = 6 * 3600.0
"""Seconds to wait for a free slot: a thousand 3-minute videos on an account of 5 slots take ten hours."""
DEFAULT_SLOT_POLL_INTERVAL = 30.0


class SubmitPolicy(enum.StrEnum):
    """What to do with a createTask that was sent and got no usable answer.

    ``vendor`` sends it again after a 5xx, a timeout or a reset, as the vendor's retry table says, and warns
    that this may buy a second video. ``safe`` sends it again only where no task can exist.
    """

    VENDOR = "vendor"
    SAFE = "safe"


DEFAULT_SUBMIT_POLICY = SubmitPolicy.VENDOR


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after a number of failures in a row: 1, 2, 4 and so on up to 60.

    :param failures: Failures so far, 1 or more.
    :param jitter: A random number from 0 to 1; spreads the result by a quarter either way.
    """
    # The exponent is bounded so that a day of failures does not overflow a float.
    seconds = min(BACKOFF_BASE * 2.0 ** min(failures - 1, 16), BACKOFF_CAP)
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
    return min(max(seconds, 0.0), RETRY_AFTER_CAP)


class ScheduleStep(NamedTuple):
    """From this age of a task on, look every ``interval`` seconds."""

    age: float
    interval: float


ADAPTIVE_SCHEDULE: tuple[ScheduleStep, ...] = (
    # Chosen by simulation (benchmarks/schedule.py). A refused reference or prompt fails within seconds; then nothing
    # ends for a minute; most models end between 100 and 300 s, the 2.5 family and 4k later (contract 8). A video of
    # 200 s takes about 19 GETs, the sensor's own look included, and is noticed after 5 s on average.
    ScheduleStep(0, 5),
    ScheduleStep(10, 10),
    ScheduleStep(20, 25),
    ScheduleStep(90, 9.5),
    ScheduleStep(300, 12),
    ScheduleStep(600, 15),
    ScheduleStep(1200, 30),
)


def poll_delay(age: float, poll_interval: float | None, jitter: float) -> float:
    """Seconds until the next look at a running task.

    :param age: Seconds since waiting began.
    :param poll_interval: A fixed interval in seconds, obeyed exactly; None follows the adaptive schedule.
    :param jitter: A random number from 0 to 1; spreads adaptive delays by a tenth either way.
    """
    if poll_interval is not None:
        return poll_interval
    interval = ADAPTIVE_SCHEDULE[0].interval
    for step in ADAPTIVE_SCHEDULE:
        if age < step.age:
            break
        interval = step.interval
    return interval * (0.9 + 0.2 * jitter)


@overload
def seconds_of(name: str, value: float | timedelta) -> float: ...
@overload
def seconds_of(name: str, value: float | timedelta | None) -> float | None: ...
def seconds_of(name: str, value: float | timedelta | None) -> float | None:
    """Check a duration given by a user.

    :param name: The parameter's name, for the message.
    :param value: Seconds or a timedelta; None stays None.
    :return: Seconds, finite and more than 0.
    :raises SeedanceConfigurationError: for anything else, naming the parameter, the value and the fix.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        # Imported here: Airflow reads this module while it looks for providers, before its own bases can be imported.
        from seedance_provider.exceptions import SeedanceConfigurationError

        raise SeedanceConfigurationError(
            f"{name}={value!r} is not a duration: give a number of seconds above 0, or a timedelta"
        )
    return float(seconds)
