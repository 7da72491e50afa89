"""The request budget of a connection, and the vendor's pauses, shared by 500 waiters through the real transport.

Time is scaled, not simulated: 3,000 requests a minute and a wish to poll every 0.05 s stand for 100 requests a minute
and a poll every 1.5 s, thirty times as slow.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Result, Row
from benchmarks.stub import serve

if TYPE_CHECKING:
    from benchmarks.stub import Server

SECTION = "Budget"
WAITERS = 500
PER_MINUTE = 3000
SCALE = PER_MINUTE / 100
INTERVAL = 0.05


def run(*, quick: bool = False) -> Result:
    """Measure both."""
    result = Result()
    with serve(faults=True) as server:
        _share(server, result, seconds=25 if quick else 45)
    with serve(faults=True) as server:
        _pause(server, result)
    return result


def _share(server: Server, result: Result, *, seconds: float) -> None:
    server.ask("set", log=True)
    told = _waiters(server, seconds, requests_per_minute=PER_MINUTE)
    seen = server.ask("stats")["seen"]
    polls = Counter(task for _, task in seen)
    rate = 60 * (len(seen) - 1) / (seen[-1][0] - seen[0][0])
    # Fair order: between two polls of one waiter every other one has its turn, so each gap has all the others in it.
    last: dict[str, int] = {}
    gaps = []
    for index, (_, task) in enumerate(seen):
        if task in last:
            gaps.append(index - last[task])
        last[task] = index
    result.data["share"] = {
        "polls": [min(polls.values()), statistics.median(polls.values()), max(polls.values())],
        "per_minute": rate,
        "gaps": [min(gaps), max(gaps)],
        "told": told,
    }
    fair = len(polls) == WAITERS and max(polls.values()) - min(polls.values()) <= 1 and min(gaps) > 0.8 * WAITERS
    result.rows += [
        Row(
            SECTION,
            f"{WAITERS} waiters, requests_per_minute=100 (time scaled by {SCALE:.0f}): polls per waiter",
            f"{min(polls.values())} to {max(polls.values())}, {len(polls)} waiters; between two polls of one: "
            f"{min(gaps)} to {max(gaps)} polls of others",
            "every waiter progresses, in order",
            fair,
        ),
        Row(
            SECTION,
            "the same: requests per minute at the server",
            f"{rate / SCALE:.1f} (scaled back)",
            "≤ 100",
            rate / SCALE <= 100.5,
        ),
        Row(
            SECTION,
            "the same: waiters whose log says why they poll less often",
            f"{told} of {WAITERS}",
            f"{WAITERS}",
            told == WAITERS,
        ),
    ]


def _pause(server: Server, result: Result) -> None:
    wait = 4.0
    server.ask("set", log=True)
    process = _start(server, 24, requests_per_minute=None, interval=1.0)
    time.sleep(8)
    refused = time.time()
    server.ask("refuse", task="task-7", retry_after=wait)
    process.communicate(timeout=60)
    times = [at for at, _ in server.ask("stats")["seen"]]
    told = next(at for at, task in server.ask("stats")["seen"] if task == "task-7" and at >= refused)
    before = sum(told - 3 <= at < told for at in times) / 3
    # Answers that were under way when the refusal came are not yet the pause.
    during = sum(told + 0.5 <= at < told + wait - 0.1 for at in times)
    after = Counter(int((at - told - wait) / 0.5) for at in times if at >= told + wait)
    busiest = max(after.values(), default=0) * 2
    result.data["pause"] = {"before": before, "during": during, "busiest_after": busiest}
    result.rows.append(
        Row(
            SECTION,
            f"{WAITERS} waiters, one is answered 429 with Retry-After {wait:.0f}: requests per second",
            f"{before:.0f} before, {during / (wait - 0.6):.1f} during, at most {busiest} in the half seconds after",
            "0 during: all wait; no rush after",
            during == 0 and 0 < busiest <= 2 * before,
        )
    )


def _waiters(server: Server, seconds: float, *, requests_per_minute: float | None) -> int:
    process = _start(server, seconds, requests_per_minute=requests_per_minute, interval=INTERVAL)
    output, _ = process.communicate(timeout=seconds + 60)
    return int(output.strip().splitlines()[-1])


def _start(
    server: Server, seconds: float, *, requests_per_minute: float | None, interval: float
) -> subprocess.Popen[str]:
    connection = {
        "conn_type": "seedance",
        "host": server.url,
        "password": "benchmark-key",
        "extra": json.dumps({} if requests_per_minute is None else {"requests_per_minute": requests_per_minute}),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.budget", str(seconds), str(interval)],
        env={**os.environ, "AIRFLOW_CONN_SEEDANCE_DEFAULT": json.dumps(connection)},
        stdout=subprocess.PIPE,
        text=True,
    )


async def _wait(seconds: float, interval: float) -> int:
    """Let the waiters wait; return how many were told why they poll less often."""
    from benchmarks.polling import consume
    from seedance_provider.triggers.seedance import SeedanceTaskTrigger

    told = 0

    class Listening(SeedanceTaskTrigger):
        """Counts instead of logging."""

        @property
        def log(self) -> Any:
            return self

        def info(self, text: str, *_: object) -> None:
            nonlocal told
            told += "shared by all" in text

        warning = exception = info

    far = time.time() + 1e5
    triggers = [Listening("seedance_default", f"task-{number}", interval, far) for number in range(WAITERS)]
    tasks = [asyncio.create_task(consume(trigger.run())) for trigger in triggers]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    return told


if __name__ == "__main__":
    print(asyncio.run(_wait(float(sys.argv[1]), float(sys.argv[2]))), flush=True)
    os._exit(0)
