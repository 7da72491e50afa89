"""Measured things as processes that take turns, and the figures that come out of them.

All contestants of a comparison are started, warmed up and then stopped (SIGSTOP); each in turn goes on for a short
slice and measures itself. So whatever else the machine does hits all of them alike.
CPU time is the process's own: how busy the server or the machine is does not count.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    :param section: Which of the benchmarks.
    :param what: What was measured.
    :param value: The figure, in words.
    :param target: The target, in words; None for a figure that is only there to compare.
    :param met: Whether the target is met; None without a target, or if the figures do not tell.
    """

    section: str
    what: str
    value: str
    target: str | None = None
    met: bool | None = None


@dataclass(slots=True)
class Result:
    """What a benchmark found.

    :param rows: For the table.
    :param data: For the JSON file and the plot.
    """

    rows: list[Row] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share ``q`` of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios, turn by turn."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def rate(slices: Iterable[Mapping[str, Any]], what: str) -> float:
    """How many of something all slices together did for a second of CPU time.

    Not a median over slices: a full collection of garbage takes a tenth of a second and there are few in a slice.
    """
    counted = [(one[what], one["cpu"]) for one in slices]
    return float(sum(count for count, _ in counted) / sum(cpu for _, cpu in counted))


def interval(resampled: Callable[[random.Random], float]) -> tuple[float, float]:
    """The bounds within which 95 of 100 resamplings of a figure lie.

    :param resampled: Gives the figure over a random choice, with repetition, of what was measured.
    """
    rng = random.Random(0)
    figures = [resampled(rng) for _ in range(1000)]
    return quantile(figures, 0.025), quantile(figures, 0.975)


class Contestant:
    """A child process that measures a slice whenever it is told to.

    :param module: The module to run; it speaks the protocol of :func:`obey` or :class:`benchmarks.polling.Meter`.
    :param arguments: Its arguments.
    :param env: Environment variables on top of this process's.
    """

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def wait_until_ready(self) -> None:
        """Wait for the end of the warm-up, then stop the process."""
        self._read()
        self.process.send_signal(signal.SIGSTOP)

    def measure(self, seconds: float) -> dict[str, Any]:
        """Let the process go on for a slice."""
        self.process.send_signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        figures = self._read()
        self.process.send_signal(signal.SIGSTOP)
        return figures

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                figures: dict[str, Any] = json.loads(line)
                return figures
        raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")


def take_turns(contestants: Mapping[str, Contestant], *, turns: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Measure all contestants, one slice each, ``turns`` times over."""
    for contestant in contestants.values():
        contestant.wait_until_ready()
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    order = list(contestants)
    for turn in range(turns):
        # Back and forth, so that nobody always follows the same one.
        for name in order if turn % 2 else reversed(order):
            figures[name].append(contestants[name].measure(seconds))
    return figures


def obey(work: Callable[[], None], **more: Any) -> None:
    """Speak the contestants' protocol for synchronous work.

    :param work: Called again and again; one call is one operation.
    :param more: Further figures.
    """
    work()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        seconds = float(line)
        count, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            work()
            count += 1
        print(json.dumps({"count": count, "cpu": time.process_time() - cpu, **more}), flush=True)


def timed_runs(commands: Mapping[str, Sequence[str]], *, runs: int, env: Mapping[str, str]) -> dict[str, list[float]]:
    """Run commands in fresh processes, in turns; each prints one number as its last line."""
    figures: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            done = subprocess.run(
                [sys.executable, *command], env={**os.environ, **env}, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
            figures[name].append(float(done.stdout.strip().splitlines()[-1]))
    return figures


def resident_bytes() -> int:
    """This process's resident memory, after a collection."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a plain read
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
