"""How many polls one CPU-second buys, and what they do to the event loop they share.

The bare loop is the floor: what aiohttp itself costs. All contestants but one run in a process that has loaded what a
triggerer has, because a collection of garbage walks through all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from benchmarks.harness import Contestant, Result, Row, interval, quantile, rate, take_turns
from benchmarks.stub import HEADERS, KEY, TASK_ID, read_counters, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from benchmarks.stub import Server

SECTION = "Poll rate"
PAUSE = 1e-6
"""Between two polls of a waiter: as good as none, but a timer as every waiting needs one."""
TICK = 0.01
CONNECTIONS = 100

FLOOR, TUNED, LIGHT, OURS = "floor", "floor-tuned", "floor-light", "seedance"
DBT, HTTP_EVENT, HTTP_SENSOR = "dbt", "http-event", "http-sensor"
LABELS = {
    FLOOR: "bare aiohttp loop, Airflow loaded (floor)",
    OURS: "SeedanceTaskTrigger",
    TUNED: "bare loop, Airflow loaded, with the trigger's session settings",
    DBT: "dbt Cloud: DbtCloudRunJobTrigger (spared its TLS)",
    HTTP_EVENT: "http: HttpEventTrigger",
    HTTP_SENSOR: "http: HttpSensorTrigger (404 is its 'not yet')",
    LIGHT: "bare aiohttp loop, without Airflow",
}
COPIES = {FLOOR: 4, OURS: 4}
"""Processes of each contestant, if not one. Processes that do the same differ by up to a tenth, whatever the reason."""


def present() -> list[str]:
    """The contestants whose packages are installed."""
    needs = {DBT: "airflow.providers.dbt", HTTP_EVENT: "airflow.providers.http", HTTP_SENSOR: "airflow.providers.http"}
    return [name for name in LABELS if name not in needs or find_spec(needs[name]) is not None]


def run(*, quick: bool = False) -> Result:
    """Measure all contestants."""
    result = Result()
    with serve() as server:
        # A slice holds several polls of each waiter, of the slowest contestant too: some go in lockstep.
        _compare(server, 200, result, turns=3 if quick else 12, seconds=0.5 if quick else 2.0)
        _compare(server, 2000, result, turns=3 if quick else 5, seconds=1.5 if quick else 5.0)
    return result


def environment(server: Server) -> dict[str, str]:
    """The connections, the only thing that is not as in a triggerer: it asks its supervisor."""

    def connection(**fields: Any) -> str:
        return json.dumps(fields)

    host = f"127.0.0.1:{server.port}"
    return {
        "AIRFLOW_CONN_SEEDANCE_DEFAULT": connection(conn_type="seedance", host=server.url, password=KEY),
        "AIRFLOW_CONN_DBT_CLOUD_DEFAULT": connection(conn_type="dbt_cloud", host=host, login="1", password=KEY),
        "AIRFLOW_CONN_HTTP_DEFAULT": connection(conn_type="http", host=server.url),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }


def _compare(server: Server, waiters: int, result: Result, *, turns: int, seconds: float) -> None:
    names = present()
    with ExitStack() as stack:
        contestants = {
            f"{name} {copy}": stack.enter_context(
                Contestant("benchmarks.polling", name, str(server.port), str(waiters), env=environment(server))
            )
            # One after the other around, so that the copies of one do not follow each other.
            for copy in range(max(COPIES.values()))
            for name in names
            if copy < COPIES.get(name, 1)
        }
        taken = take_turns(contestants, turns=turns, seconds=seconds)
    # Of each contestant the processes, of each process the slices.
    slices = {name: [taken[f"{name} {copy}"] for copy in range(COPIES.get(name, 1))] for name in names}
    rates = {name: rate(chain(*slices[name]), "polls") for name in names}

    def of_floor_resampled(name: str, rng: random.Random) -> float:
        chosen = rng.choices(range(turns), k=turns)

        def resampled(contestant: str) -> float:
            processes = rng.choices(slices[contestant], k=len(slices[contestant]))
            return rate((process[turn] for process in processes for turn in chosen), "polls")

        return resampled(name) / resampled(FLOOR)

    floor_lag = _lag(slices[FLOOR])
    data: dict[str, Any] = {}
    for name in names:
        ratio = rates[name] / rates[FLOOR]
        low, high = interval(partial(of_floor_resampled, name))
        single = [rate(process, "polls") / rates[FLOOR] for process in slices[name]]
        every = [*chain(*slices[name])]
        handshakes = sum(one["handshakes"] for one in every) / max(sum(one["polls"] for one in every), 1)
        most_open = max(one["open"] for one in every)
        lag = _lag(slices[name])
        data[name] = {
            "polls_per_cpu_second": rates[name],
            "of_floor": ratio,
            "of_floor_95": None if name == FLOOR else [low, high],
            "of_floor_processes": single,
            "lag_p99_ms": lag * 1000,
            "lag_of_floor": lag / floor_lag,
            "handshakes_per_poll": handshakes,
            "open_connections": most_open,
        }
        bounds = "" if name == FLOOR else f", 95 %: {low:.2f} to {high:.2f}"
        if len(single) > 1:
            bounds += "; its processes " + ", ".join(f"{one:.2f}" for one in single)
        what = f"{waiters} waiters: {LABELS[name]}"
        text = (
            f"{rates[name]:,.0f} polls/CPU-s ({ratio:.3f} of floor{bounds}), "
            f"lag p99 {lag * 1000:.0f} ms ({lag / floor_lag:.2f}), "
            f"{handshakes:.2f} handshakes/poll, {most_open} connections"
        )
        if name == OURS:
            others_met = lag / floor_lag <= 1.5 and most_open <= CONNECTIONS and handshakes < 0.001
            # Bounds on both sides of the target show neither.
            met = None if others_met and low < 0.97 <= high else others_met and low >= 0.97
            target = "≥ 0.97 of floor, lag ≤ 1.5 of floor's, ≤ 100 connections"
            result.rows.append(Row(SECTION, what, text, target, met))
        else:
            result.rows.append(Row(SECTION, what, text))
    result.data[str(waiters)] = {"server": server.kind, "contestants": data}


def _lag(slices: Sequence[Sequence[dict[str, Any]]]) -> float:
    return quantile([lag for one in chain(*slices) for lag in one["lags"]], 0.99)


def load_airflow() -> None:
    """Load what a triggerer has loaded, and log as it does."""
    from airflow.jobs import triggerer_job_runner  # noqa: F401
    from airflow.providers_manager import ProvidersManager
    from airflow.sdk.log import configure_logging

    manager = ProvidersManager()
    manager.initialize_providers_hooks()
    manager.initialize_providers_taskflow_decorator()
    # To its supervisor a triggerer logs JSON; here it goes nowhere.
    configure_logging(json_output=True, output=open(os.devnull, "wb"), sending_to_supervisor=True)  # noqa: PTH123, SIM115


class Meter:
    """Measures slices from within the event loop, on lines of standard input."""

    def __init__(self, port: int, waiters: Sequence[asyncio.Future[Any]]) -> None:
        self.port = port
        self.waiters = waiters
        self.lags: list[float] = []

    async def run(self) -> None:
        """Obey until the end of input."""
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str] = asyncio.Queue()
        loop.add_reader(sys.stdin.fileno(), lambda: lines.put_nowait(os.read(sys.stdin.fileno(), 100).decode()))
        ticker = asyncio.create_task(self._tick())
        print(json.dumps({"ready": True}), flush=True)
        while line := await lines.get():
            ticker.cancel()
            ticker = asyncio.create_task(self._tick())
            await self._slice(float(line))

    async def _slice(self, seconds: float) -> None:
        await asyncio.sleep(0.2)  # after a stop: let it get going again
        self.lags.clear()
        before = read_counters(self.port)
        began, cpu = time.perf_counter(), time.process_time()
        # So much CPU time, not so much time: on a busy machine a slice must not say less.
        while time.process_time() - cpu < seconds and time.perf_counter() - began < 10 * seconds:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        cpu = time.process_time() - cpu
        after = read_counters(self.port)
        figures = {
            "polls": after.requests - before.requests - 1,
            "cpu": cpu,
            "lags": self.lags,
            "handshakes": after.accepted - before.accepted - 1,
            "open": open_connections(self.port),
        }
        for waiter in self.waiters:
            if waiter.done():
                waiter.result()
                raise RuntimeError("a waiter has stopped")
        print(json.dumps(figures), flush=True)

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self.lags.append(time.perf_counter() - due)


def open_connections(port: int) -> int:
    """How many connections to a port this process has."""
    import psutil

    return sum(
        1
        for c in psutil.Process().net_connections("tcp")
        if c.raddr and c.raddr.port == port and c.status == "ESTABLISHED"
    )


async def bare_loop(session: aiohttp.ClientSession, url: URL) -> None:
    """What a waiter must do at the very least."""
    while True:
        async with session.get(url) as response:
            if json.loads(await response.read())["status"] != "generating":
                return
        await asyncio.sleep(PAUSE)


async def floor(port: int, waiters: int, *, tuned: bool) -> list[Awaitable[Any]]:
    """The bare loops of all waiters on one session; ``tuned``: without cookies and a total timeout for each request."""
    settings: dict[str, Any] = {}
    if tuned:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        settings = {"cookie_jar": aiohttp.DummyCookieJar(), "timeout": timeout}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    session = aiohttp.ClientSession(connector=connector, headers=HEADERS, **settings)
    url = URL(f"http://127.0.0.1:{port}/api/v1/jobs/recordInfo?taskId={TASK_ID}")
    return [bare_loop(session, url) for _ in range(waiters)]


async def consume(events: AsyncIterator[Any]) -> None:
    """Run a trigger as the triggerer does."""
    async for event in events:
        raise RuntimeError(f"nothing should have ended: {event.payload}")


async def consume_peer(name: str, number: int) -> None:
    """Run a peer's trigger, anew if it gives up: some do after one failed poll, or a stop of their process."""
    while True:
        with suppress(Exception):
            await consume(trigger(name, number).run())


def trigger(name: str, number: int) -> Any:
    """Make one trigger of a contestant."""
    far = time.time() + 1e6
    if name == OURS:
        from seedance_provider.triggers.seedance import SeedanceTaskTrigger

        return SeedanceTaskTrigger("seedance_default", TASK_ID, PAUSE, far)
    if name == DBT:
        from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

        return DbtCloudRunJobTrigger("dbt_cloud_default", number, far, PAUSE, None)
    from airflow.providers.http.triggers.http import HttpEventTrigger, HttpSensorTrigger

    if name == HTTP_EVENT:
        path = f"api/v1/jobs/recordInfo?taskId={TASK_ID}"
        return HttpEventTrigger("benchmarks.polling_check.never", endpoint=path, poll_interval=PAUSE)
    return HttpSensorTrigger("missing", poke_interval=PAUSE)


def spare_dbt_tls() -> None:
    """dbt Cloud's hook speaks https only; here it may speak http, which makes it faster, not slower."""
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook

    original = DbtCloudHook.get_request_url_params

    def without_tls(*args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        url, data = original(*args, **kwargs)
        return url.replace("https://", "http://", 1), data

    DbtCloudHook.get_request_url_params = staticmethod(without_tls)


async def contend(name: str, port: int, waiters: int) -> None:
    """Be a contestant."""
    if name != LIGHT:
        load_airflow()
    if name == DBT:
        spare_dbt_tls()
    if name in (FLOOR, LIGHT, TUNED):
        coroutines = await floor(port, waiters, tuned=name == TUNED)
    elif name == OURS:
        coroutines = [consume(trigger(name, number).run()) for number in range(waiters)]
    else:
        coroutines = [consume_peer(name, number) for number in range(waiters)]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    # Warm when each has polled a few times. The floor's server has others' requests in its count: hence the seconds.
    await asyncio.sleep(3)
    before = read_counters(port).requests
    while read_counters(port).requests < before + 3 * waiters:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.1)
    await Meter(port, tasks).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=LABELS)
    parser.add_argument("port", type=int)
    parser.add_argument("waiters", type=int)
    options = parser.parse_args()
    asyncio.run(contend(options.name, options.port, options.waiters))
