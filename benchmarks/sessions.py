"""Sessions and connections of the triggerer: how many, what becomes of dead ones, and a key that is changed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Result, Row
from benchmarks.stub import serve

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.transport.aio import Sessions

SECTION = "Sessions"
WAITERS = 200


def run(*, quick: bool = False) -> Result:
    """Run the scenarios, each against a server of its own."""
    del quick
    result = Result()
    for scenario, judge in (("steady", _steady), ("closed", _closed), ("dead", _dead), ("rotated", _rotated)):
        with serve(faults=True) as server:
            connection = json.dumps({"conn_type": "seedance", "host": server.url, "password": "old-key"})
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.sessions", scenario, str(server.port)],
                env={**os.environ, "AIRFLOW_CONN_SEEDANCE_DEFAULT": connection},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            stats = {name: value for name, value in server.ask("stats").items() if name not in ("seen", "per_second")}
        result.data[scenario] = figures | stats
        result.rows.append(judge(figures, stats))
    return result


def _steady(figures: dict[str, Any], stats: dict[str, Any]) -> Row:
    value = (
        f"sessions opened {figures['sessions']} time, {figures['most_open']} connections open at most, "
        f"{figures['handshakes']} made for {figures['polls']:,} polls; {figures['open_after']} open after the last "
        "waiter left"
    )
    met = figures["sessions"] == 1 and figures["handshakes"] <= 100 and figures["open_after"] == 0
    del stats
    return Row(SECTION, f"{WAITERS} waiters of one connection", value, "opened once, ≤ 100 handshakes, all closed", met)


def _closed(figures: dict[str, Any], stats: dict[str, Any]) -> Row:
    del stats
    value = f"{figures['failed_polls']} failed polls, longest gap between two polls of a waiter {figures['gap']:.2f} s"
    return Row(SECTION, "the server closes all idle connections", value, "0 failed polls", figures["failed_polls"] == 0)


def _dead(figures: dict[str, Any], stats: dict[str, Any]) -> Row:
    value = f"{stats['dropped']} requests dropped, {figures['failed_polls']} failed polls"
    met = stats["dropped"] > 0 and figures["failed_polls"] == 0
    return Row(SECTION, "every kept connection is dead when it is used again", value, "0 failed polls", met)


def _rotated(figures: dict[str, Any], stats: dict[str, Any]) -> Row:
    value = (
        f"{stats['unauthorized']} answers of 401, {figures['lookups']} lookups of the connection, "
        f"{figures['ended']} of {WAITERS} waiters ended"
    )
    met = figures["ended"] == 0 and stats["unauthorized"] <= WAITERS
    return Row(SECTION, "the key is rotated under all waiters", value, "401 once each, none ends", met)


async def _measure(scenario: str, port: int) -> dict[str, Any]:
    from benchmarks.polling import consume
    from benchmarks.stub import Server, read_counters
    from seedance_provider.transport import pool
    from seedance_provider.triggers import shared
    from seedance_provider.triggers.seedance import SeedanceTaskTrigger

    server = Server(port, "")
    opened, failed, lookups = 0, 0, 0
    open_sessions, read_settings_async = pool.open_sessions, shared.read_settings_async

    async def counted_open(base_url: str) -> Sessions:
        nonlocal opened
        opened += 1
        return await open_sessions(base_url)

    async def counted_read(conn_id: str) -> SeedanceSettings:
        nonlocal lookups
        lookups += 1
        return await read_settings_async(conn_id)

    class Listening(SeedanceTaskTrigger):
        """Counts failed polls."""

        @property
        def log(self) -> Any:
            return self

        def info(self, *_: object) -> None:
            pass

        def warning(self, *_: object) -> None:
            nonlocal failed
            failed += 1

        exception = warning

    pool.open_sessions, shared.read_settings_async = counted_open, counted_read
    before = read_counters(port)
    far = time.time() + 1e5
    interval = 0.5
    tasks = [
        asyncio.create_task(consume(Listening("seedance_default", f"task-{number}", interval, far).run()))
        for number in range(WAITERS)
    ]
    await asyncio.to_thread(server.ask, "set", log=True)
    await asyncio.sleep(4)
    most_open = read_counters(port).open - 1
    if scenario == "rotated":
        await asyncio.to_thread(server.ask, "set", key="new-key")
        connection = {"conn_type": "seedance", "host": server.url, "password": "new-key"}
        os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"] = json.dumps(connection)
    for _ in range(3):
        if scenario in ("closed", "dead"):
            await asyncio.to_thread(server.ask, "close_idle" if scenario == "closed" else "kill_idle")
        await asyncio.sleep(2)
    ended = sum(task.done() for task in tasks)
    after = read_counters(port)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.5)
    seen: dict[str, float] = {}
    gap = 0.0
    for at, task_id in (await asyncio.to_thread(server.ask, "stats"))["seen"]:
        gap = max(gap, at - seen.get(task_id, at))
        seen[task_id] = at
    return {
        "sessions": opened,
        "most_open": most_open,
        "handshakes": after.accepted - before.accepted - 5,  # those of this measurement itself
        "polls": after.requests - before.requests,
        "open_after": read_counters(port).open - 1,
        "failed_polls": failed,
        "lookups": lookups,
        "ended": ended,
        "gap": gap,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(sys.argv[1], int(sys.argv[2])))), flush=True)
