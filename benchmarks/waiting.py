"""Ten thousand waiters in one process on the default schedule: memory, spread of the polls, delay of notice.

A server process ends each task at a random time of its own and counts the polls. All waiters start in the same
second, the worst case: a fan-out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Result, Row, quantile, resident_bytes
from benchmarks.stub import GENERATING, serve
from seedance_provider.api.catalog import usual_seconds
from seedance_provider.api.schedule import ADAPTIVE_SCHEDULE, poll_delay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.stub import Server

SECTION = "Waiting"
WAITERS = 10_000
EMPTY, OURS = "empty", "seedance"


def run(*, quick: bool = False) -> Result:
    """Measure."""
    result = Result()
    # Memory once all have polled a few times; nothing ends meanwhile.
    with serve(faults=True) as server:
        empty = _child(server, EMPTY, WAITERS, seconds=5, ending=False)
        ours = _child(server, OURS, WAITERS, seconds=40, ending=False)
    each = (ours["resident"] - empty["resident"]) / WAITERS
    result.data["memory"] = {"empty": empty["resident"], "seedance": ours["resident"], "per_waiter": each}
    result.rows.append(
        Row(
            SECTION,
            f"{WAITERS:,} waiters: resident memory of one over an empty BaseTrigger coroutine",
            f"{each / 1024:.1f} KiB (process: {ours['resident'] / 2**20:.0f} MiB)",
            "≤ 8 KiB",
            each <= 8 * 1024,
        )
    )
    seconds = 60 if quick else 260
    with serve(faults=True) as server:
        noticed = _child(server, OURS, WAITERS, seconds=seconds, ending=True)
        per_second = dict(server.ask("stats")["per_second"])
    first = min(per_second)
    polls = [per_second.get(second, 0) for second in range(first, max(per_second) + 1)]
    # At best the first polls of all are spread evenly over the schedule's shortest interval.
    even = WAITERS / min(step.interval for step in ADAPTIVE_SCHEDULE)
    beyond = noticed["beyond_interval"]
    result.data["spread"] = {"polls_per_second": polls, "peak": max(polls), "even": even}
    result.data["notice"] = {
        "p50": quantile(noticed["delays"], 0.5),
        "p99": quantile(noticed["delays"], 0.99),
        "p99_beyond_interval": quantile(beyond, 0.99),
        "videos": len(beyond),
        "cpu_share": noticed["cpu"] / seconds,
    }
    result.rows += [
        Row(
            SECTION,
            f"{WAITERS:,} waiters started at once: polls per second, busiest second",
            f"{max(polls):,}, {max(polls) / even:.1f} times an even spread; {noticed['cpu'] / seconds:.0%} of a core",
            "≤ 1.5 times an even spread over the shortest interval",
            max(polls) <= 1.5 * even,
        ),
        Row(
            SECTION,
            f"{len(beyond):,} finished videos: delay of notice beyond the schedule's interval, p99",
            f"{quantile(beyond, 0.99):.2f} s (delay p50 {quantile(noticed['delays'], 0.5):.1f} s, "
            f"p99 {quantile(noticed['delays'], 0.99):.1f} s)",
            "≤ 1 s",
            quantile(beyond, 0.99) <= 1,
        ),
    ]
    return result


def _child(server: Server, kind: str, waiters: int, *, seconds: float, ending: bool) -> dict[str, Any]:
    connection = json.dumps({"conn_type": "seedance", "host": server.url, "password": "benchmark-key"})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.waiting", kind, str(waiters), str(seconds), str(int(ending))],
        env={**os.environ, "AIRFLOW_CONN_SEEDANCE_DEFAULT": connection},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


async def _measure(kind: str, waiters: int, seconds: float, ending: bool) -> None:
    from airflow.triggers.base import BaseTrigger, TriggerEvent

    from benchmarks.polling import load_airflow
    from seedance_provider.triggers.seedance import SeedanceTaskTrigger  # both kinds have loaded the same

    load_airflow()

    class EmptyTrigger(BaseTrigger):
        def serialize(self) -> tuple[str, dict[str, Any]]:
            return ("benchmarks.waiting.EmptyTrigger", {})

        async def run(self) -> AsyncIterator[TriggerEvent]:
            await asyncio.sleep(1e6)
            yield TriggerEvent(None)

    usual = usual_seconds(json.loads(GENERATING)["model"])
    delays: list[float] = []
    beyond: list[float] = []

    async def consume(trigger: Any, ends: float, started: float) -> None:
        async for event in trigger.run():
            if event.payload["status"] != "success":
                raise RuntimeError(event.payload)
            delays.append(time.time() - ends)
            beyond.append(delays[-1] - poll_delay(ends - started, None, 0.5, usual_seconds=usual))

    def begin(number: int) -> asyncio.Task[None]:
        now = time.time()
        ends = now + random.uniform(2, seconds - 25) if ending else now + 1e6
        # Ids as the vendor's, of which every waiter has its own.
        task_id = f"ends-{int(ends * 1000)}-{number}"
        trigger = EmptyTrigger() if kind == EMPTY else SeedanceTaskTrigger("seedance_default", task_id, None, now + 1e5)
        return asyncio.create_task(consume(trigger, ends, now))

    cpu = time.process_time()
    tasks = [begin(number) for number in range(waiters)]
    for _ in range(int(seconds)):
        await asyncio.sleep(1)
        for task in tasks:
            if task.done():
                task.result()
    figures = {
        "resident": resident_bytes(),
        "cpu": time.process_time() - cpu,
        "delays": delays,
        "beyond_interval": beyond,
    }
    print(json.dumps(figures), flush=True)
    os._exit(0)  # ten thousand waiters need not be cancelled one by one


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=[EMPTY, OURS])
    parser.add_argument("waiters", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("ending", type=int)
    options = parser.parse_args()
    asyncio.run(_measure(options.kind, options.waiters, options.seconds, bool(options.ending)))
