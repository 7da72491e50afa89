"""When to poll a running task: candidate schedules against the generation times the contract knows (section 8).

A simulation without network: videos are drawn from a mixture of the models' documented times, each candidate polls
until it sees the end. What counts is GETs per video, and the delay between the end and the poll that sees it.
"""

from __future__ import annotations

import bisect
import math
import random
import statistics
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.harness import Result, Row, quantile
from seedance_provider.api.schedule import ADAPTIVE_SCHEDULE, poll_delay

SECTION = "Schedule"
VIDEOS = 20_000
Delay = Callable[[float, float], float]
"""Seconds until the next poll, from a task's age and a random number from 0 to 1."""


class Kind(NamedTuple):
    """A kind of job: its share, and the shortest, usual and longest time in seconds (a triangle)."""

    name: str
    share: float
    shortest: float
    usual: float
    longest: float


KINDS = (
    Kind("seedance-20, 480p to 1080p", 0.38, 60, 197, 240),
    Kind("seedance-20, 4k", 0.04, 420, 480, 540),
    Kind("seedance-20 with video", 0.06, 300, 360, 420),
    Kind("seedance2-fast", 0.12, 100, 107, 240),
    Kind("seedance2.0-mini", 0.10, 100, 120, 360),
    Kind("seedance2-5", 0.10, 180, 300, 375),
    Kind("seedance2-5, 1080p", 0.05, 240, 400, 660),
    Kind("seedance2-5-edit, -extend", 0.05, 240, 270, 360),
    Kind("wan3.0 and prime", 0.05, 60, 120, 200),
    Kind("refused within seconds", 0.05, 1, 4, 12),
)


def draw_time(rng: random.Random) -> float:
    """The generation time of one video."""
    kind = rng.choices(KINDS, [kind.share for kind in KINDS])[0]
    return rng.triangular(kind.shortest, kind.longest, kind.usual)


def fixed(interval: float) -> Delay:
    """Always the same."""
    return lambda _age, _jitter: interval


def exponential(first: float, factor: float, most: float) -> Delay:
    """Each pause longer than the one before: at an age of a(n) = first * (f^n - 1) / (f - 1)."""
    return lambda age, jitter: min(first + age * (factor - 1), most) * (0.9 + 0.2 * jitter)


def proportional(share: float, least: float, most: float = math.inf) -> Delay:
    """A share of the age."""
    return lambda age, jitter: min(max(age * share, least), most) * (0.9 + 0.2 * jitter)


def stepped(*steps: tuple[float, float]) -> Delay:
    """A table as the provider has one."""
    ages = [age for age, _ in steps]
    return lambda age, jitter: steps[max(bisect.bisect_right(ages, age) - 1, 0)][1] * (0.9 + 0.2 * jitter)


def optimal(times: list[float], price: float, least: float = 3, most: float = 30) -> Delay:
    """The best there can be if the mixture were the truth: the pause is the square root of 2 * price / hazard.

    Looking every d seconds costs price / d per second and delays an end, which comes at the hazard's rate, by d / 2.
    """
    ordered = sorted(times)
    width = 10.0

    def pause(age: float, jitter: float) -> float:
        alive = len(ordered) - bisect.bisect_left(ordered, age)
        ending = bisect.bisect_left(ordered, age + width) - bisect.bisect_left(ordered, age)
        hazard = ending / alive / width if alive else 0.0
        best = math.sqrt(2 * price / hazard) if hazard else most
        return min(max(best, least), most) * (0.9 + 0.2 * jitter)

    return pause


def poll(delay: Delay, ends: float, rng: random.Random) -> tuple[int, float]:
    """Wait for one video: GETs, the sensor's poll at age 0 among them, and the delay of notice.

    As in the trigger, the first pause is some part of the interval, so that not all poll at once.
    """
    gets, age = 1, delay(0.0, rng.random()) * rng.random()
    while True:
        gets += 1
        if age >= ends:
            return gets, age - ends
        age += delay(age, rng.random())


def judge(delay: Delay, seed: int = 7) -> dict[str, float]:
    """All figures of one candidate."""
    rng = random.Random(seed)
    many = [poll(delay, draw_time(rng), rng) for _ in range(VIDEOS)]
    usual = [poll(delay, rng.uniform(190, 210), rng) for _ in range(VIDEOS // 4)]
    failing = [poll(delay, rng.uniform(1, 10), rng)[1] for _ in range(VIDEOS // 4)]
    long = [poll(delay, rng.uniform(580, 620), rng) for _ in range(VIDEOS // 4)]
    return {
        "gets": statistics.fmean(gets for gets, _ in many),
        "delay": statistics.fmean(late for _, late in many),
        "delay_p99": quantile([late for _, late in many], 0.99),
        "gets_200": statistics.fmean(gets for gets, _ in usual),
        "delay_200": statistics.fmean(late for _, late in usual),
        "failure_delay": statistics.fmean(failing),
        "failure_delay_p95": quantile(failing, 0.95),
        "gets_600": statistics.fmean(gets for gets, _ in long),
        "delay_600": statistics.fmean(late for _, late in long),
    }


def candidates() -> dict[str, Delay]:
    """What is compared; the default is the provider's."""
    rng = random.Random(1)
    times = [draw_time(rng) for _ in range(VIDEOS)]
    return {
        "every 2 s": fixed(2),
        "every 5 s": fixed(5),
        "every 10 s": fixed(10),
        "every 30 s": fixed(30),
        "exponential, 1.3 from 2 s to 60 s": exponential(2, 1.3, 60),
        "5 % of the age, at least 2 s": proportional(0.05, 2),
        "first default (5 10 20 10 15 20 30)": stepped(
            (0, 5), (10, 10), (30, 20), (90, 10), (300, 15), (600, 20), (1200, 30)
        ),
        "denser (4 8 15 8 12 15 30)": stepped((0, 4), (12, 8), (20, 15), (90, 8), (300, 12), (600, 15), (1200, 30)),
        "sparser (6 12 30 10 12 20 30)": stepped((0, 6), (8, 12), (20, 30), (90, 10), (300, 12), (600, 20), (1200, 30)),
        "optimum for exactly these times": optimal(times, 0.4),
        "default": lambda age, jitter: poll_delay(age, None, jitter),
    }


def run(*, quick: bool = False) -> Result:
    """Simulate all candidates."""
    del quick
    result = Result()
    for name, delay in candidates().items():
        figures = judge(delay)
        result.data[name] = figures
        text = (
            f"200 s video: {figures['gets_200']:.1f} GETs, seen after {figures['delay_200']:.1f} s; all: "
            f"{figures['gets']:.1f} GETs, {figures['delay']:.1f} s; early failure seen after "
            f"{figures['failure_delay']:.1f} s; 600 s job: {figures['gets_600']:.0f} GETs, {figures['delay_600']:.1f} s"
        )
        if name != "default":
            result.rows.append(Row(SECTION, name, text))
            continue
        steps = " ".join(f"{step.interval:g}" for step in ADAPTIVE_SCHEDULE)
        met = figures["gets_200"] <= 20 and figures["delay_200"] <= 5 and figures["failure_delay"] <= 3
        target = "200 s video: ≤ 20 GETs, ≤ 5 s; early failure ≤ 3 s"
        result.rows.append(Row(SECTION, f"default ({steps})", text, target, met))
    return result
