"""Measure the callback receiver in a real Airflow: from a video's end to the next DAG, a lost answer, and a flood.

    python devtools/callbacks.py                    # tables for docs/callbacks.md
    python devtools/callbacks.py --requests 1000    # a smaller flood

The emulator posts through a proxy that adds a sub-path and takes turns between two API servers, each callback twice.
Nothing in it is faked but the vendor and the proxy. Ends with 1 if a video was charged twice, announced twice or not
at all, or if the flood got through.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from local_airflow import LocalAirflow

    from seedance_provider.testing import Emulator

PREFIX = "/airflow"
VIDEOS = 8
SECONDS = 12  # a video: long enough that its Create task has ended
KEY = "sk-of-the-callback-measurements"
DAGS = f"""
from airflow.sdk import DAG, Asset, task

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator

videos = Asset("videos")
fox = {{"duration": 5, "outputResolution": "720p"}}

with DAG("announce", schedule=None):
    SeedanceCreateTaskOperator.partial(task_id="create", on_completion=videos).expand(
        inputs=[fox | {{"prompt": f"a fox, take {{number}}"}} for number in range({VIDEOS})]
    )

with DAG("consume", schedule=[videos]):
    @task
    def receive(triggering_asset_events=None):
        return [event.extra for events in triggering_asset_events.values() for event in events]

    receive()

with DAG("meanwhile", schedule=None):
    SeedanceCreateTaskOperator(
        task_id="create", inputs=fox | {{"prompt": "a fox in the flood"}}, on_completion=Asset("meanwhile")
    )

for policy in ("vendor", "safe"):
    with DAG(f"lost_{{policy}}", schedule=None):
        SeedanceGenerateVideoOperator(
            task_id="generate",
            submit_policy=policy,
            inputs=fox | {{"prompt": f"a lost fox, {{policy}} [[createTask:reset:accept=true]]"}},
        )
"""


@dataclass
class Results:
    """What was measured."""

    place: str
    announced: int = 0
    consumed: list[str] = field(default_factory=list)
    asset_seconds: list[float] = field(default_factory=list)
    run_seconds: list[float] = field(default_factory=list)
    deliveries: int = 0
    polls: int = 0
    lost: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    flood: dict[str, Any] = field(default_factory=dict)

    @property
    def is_as_expected(self) -> bool:
        once = len(self.consumed) == len(set(self.consumed)) == self.announced == self.polls == VIDEOS
        got_through = [status for status in self.flood.get("statuses", {}) if status.startswith("2") or status == "500"]
        return once and all(lost == ("success", 1, 1) for lost in self.lost.values()) and not got_through


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Proxy:
    """Takes a sub-path off and passes requests to several servers in turn; in a thread of its own."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.url = ""
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.url = f"http://127.0.0.1:{port}{PREFIX}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _start(self) -> int:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", PREFIX + "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.Response:
        self._turn += 1
        target = self.targets[self._turn % len(self.targets)] + request.raw_path.removeprefix(PREFIX)
        async with self._session.request(request.method, target, data=request.content) as answer:
            headers = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)


@contextmanager
def two_servers(place: str) -> Iterator[tuple[LocalAirflow, Emulator, Proxy]]:
    """Airflow with two API servers behind a proxy, and the emulator."""
    from local_airflow import LocalAirflow, free_ports

    from seedance_provider.testing import Emulator

    with (
        tempfile.TemporaryDirectory(prefix="callbacks-") as name,
        Emulator(
            api_key=KEY, waiting_seconds=1, generating_seconds=SECONDS, concurrency_limit=None, webhook_copies=2
        ) as emulator,
        Proxy() as proxy,
    ):
        dags = Path(name) / "dags"
        dags.mkdir()
        (dags / "callbacks.py").write_text(DAGS)
        env = {"AIRFLOW__SEEDANCE__CALLBACK_BASE_URL": proxy.url, "AIRFLOW__SEEDANCE__POLL_INTERVAL": "2"}
        if place == "ledger":
            env["AIRFLOW__SEEDANCE__LEDGER_PATH"] = f"file://{name}/ledger"
        with LocalAirflow(dags, env=env, say=say, split_api=True) as airflow:
            (port,) = free_ports(1)
            airflow._spawn("api-server-2", "api-server", "--apps", "core", "--port", str(port))
            proxy.targets = [airflow.url, f"http://127.0.0.1:{port}"]
            _until(lambda: _is_healthy(proxy.targets[1]), "the second API server is there", 90)
            airflow.add_connection("seedance_default", emulator.connection_json)
            yield airflow, emulator, proxy


def _is_healthy(url: str) -> bool:
    import requests

    try:
        return requests.get(f"{url}/seedance/callbacks/health", timeout=5).ok
    except requests.RequestException:
        return False


def _until(happened: Any, what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.2)


def measure_events(airflow: LocalAirflow, emulator: Emulator, results: Results) -> None:
    """Create videos with ``on_completion`` and look when the consumer runs."""
    airflow.wait_for_dag("consume")
    airflow.api("PATCH", "dags/consume", json={"is_paused": False})
    run_id = airflow.trigger_dag("announce")
    airflow.wait_for_run("announce", run_id, timeout=180)
    _until(lambda: len(emulator.deliveries()) >= 2 * VIDEOS, "all callbacks are sent")
    _until(lambda: len(_consumed(airflow)) >= VIDEOS, "all events are consumed")
    time.sleep(5)  # for what should not come
    results.polls = len(emulator.requests("recordInfo"))
    results.deliveries = len(emulator.deliveries())
    ends = {task["taskId"]: _ended_at(emulator, task["taskId"]) for task in emulator.bill()["tasks"]}
    events = airflow.api("GET", "assets/events", params={"limit": 100})["asset_events"]
    results.announced = len(events)
    for event in events:
        results.asset_seconds.append(_epoch(event["timestamp"]) - ends[event["extra"]["seedance_task_id"]])
    for started, task in _consumed(airflow):
        results.consumed.append(task)
        results.run_seconds.append(started - ends[task])


def _consumed(airflow: LocalAirflow) -> list[tuple[float, str]]:
    """When the runs that got each video started."""
    runs = airflow.api("GET", "dags/consume/dagRuns", params={"limit": 100})["dag_runs"]
    if not all(run["start_date"] for run in runs):
        return []  # Airflow answers 500 when asked for the events of a run that waits
    found = []
    for run in runs:
        events = airflow.api("GET", f"dags/consume/dagRuns/{run['dag_run_id']}/upstreamAssetEvents")["asset_events"]
        found += [(_epoch(run["start_date"]), event["extra"]["seedance_task_id"]) for event in events]
    return found


def _epoch(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def _ended_at(emulator: Emulator, task: str) -> float:
    import requests

    headers = {"Authorization": f"Bearer {KEY}", "User-Agent": "callbacks"}
    answer = requests.get(f"{emulator.url}/api/v1/jobs/recordInfo", params={"taskId": task}, headers=headers, timeout=9)
    return float(answer.json()["completeTime"]) / 1000


def measure_lost(airflow: LocalAirflow, emulator: Emulator, results: Results) -> None:
    """Lose the answers of createTasks."""
    for policy in ("vendor", "safe"):
        posts, bills = len(emulator.requests("createTask")), emulator.bill()["tasks_created"]
        state = airflow.wait_for_run(f"lost_{policy}", airflow.trigger_dag(f"lost_{policy}"), timeout=300)
        posts, bills = len(emulator.requests("createTask")) - posts, emulator.bill()["tasks_created"] - bills
        results.lost[policy] = state, posts, bills


# The flood.


def hostile(number: int, paths: list[str]) -> tuple[str, bytes]:
    """One request of somebody who has no key: a path and a body."""
    known = random.choice(paths)
    claim, _, signature = known.partition(".")
    made_up = [1, secrets.token_hex(8), "dag", "run", "task", -1, "0" * 32, ""]
    other = base64.urlsafe_b64encode(json.dumps(made_up).encode()).rstrip(b"=").decode()
    wrong = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    path = (
        f"{claim}.{wrong}",  # a task instance that exists, no signature
        f"{claim[:-2]}AA.{signature}",  # a signature of something else
        f"{other}.{wrong}",  # a connection that does not exist
        secrets.token_urlsafe(random.choice((8, 60, 1500))),
        "..%2F" * 20 + "api%2Fv2%2Fconnections",
    )[number % 5]
    body = json.dumps({"taskId": f"task_{secrets.token_hex(8)}", "status": "success"}).encode()
    return path, random.choice((body, b"", b"[" * 100_000, secrets.token_bytes(2000), b"x" * 3_000_000))


async def flood(url: str, requests: int, paths: list[str], workers: int = 50) -> tuple[Counter[str], list[float]]:
    """Send hostile requests as fast as they are answered; returns the statuses and how long a health check took."""
    statuses: Counter[str] = Counter()
    left = iter(range(requests))
    health: list[float] = []
    done = asyncio.Event()

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def work() -> None:
            for number in left:
                path, body = hostile(number, paths)
                try:
                    whole = URL(f"{url}/seedance/callbacks/{path}", encoded=True)
                    async with session.post(whole, data=body) as answer:
                        statuses[str(answer.status)] += 1
                except aiohttp.ClientError:
                    statuses["hung up"] += 1  # answered while the body was still being sent

        async def watch() -> None:
            while not done.is_set():
                began = time.monotonic()
                async with session.get(f"{url}/api/v2/version") as answer:
                    await answer.read()
                health.append(time.monotonic() - began)
                await asyncio.sleep(0.2)

        watching = asyncio.ensure_future(watch())
        await asyncio.gather(*(work() for _ in range(workers)))
        done.set()
        await watching
    return statuses, health


def measure_flood(airflow: LocalAirflow, emulator: Emulator, results: Results, requests: int) -> None:
    """Flood one API server, with a genuine callback in the middle."""
    paths = [delivery["url"].rpartition("/")[2] for delivery in emulator.deliveries()]
    airflow.wait_for_run("meanwhile", airflow.trigger_dag("meanwhile"), timeout=180)
    genuine = emulator.bill()["tasks"][-1]["taskId"]
    before = _memory(airflow)
    polls = len(emulator.requests("recordInfo"))
    began = time.monotonic()
    statuses, health = asyncio.run(flood(airflow.url, requests, paths))
    seconds = time.monotonic() - began
    _until(lambda: _event_of(airflow, genuine) is not None, "the genuine callback is taken")
    polls_now = len(emulator.requests("recordInfo"))
    results.flood = {
        "requests": requests,
        "seconds": seconds,
        "statuses": dict(statuses),
        "polls": polls_now - polls,
        "genuine_event_seconds": (_event_of(airflow, genuine) or 0) - _ended_at(emulator, genuine),
        "memory_before": before,
        "memory_after": _memory(airflow),
        "api_median": statistics.median(health),
        "api_most": max(health),
    }


def _event_of(airflow: LocalAirflow, task: str) -> float | None:
    """When the event of a video was registered."""
    for event in airflow.api("GET", "assets/events", params={"limit": 100})["asset_events"]:
        if event["extra"]["seedance_task_id"] == task:
            return _epoch(event["timestamp"])
    return None


def _memory(airflow: LocalAirflow) -> float:
    """MiB that an API server's processes hold."""
    return sum(process.memory_info().rss for process in airflow.processes("api-server")) / 2**20


def print_tables(results: list[Results]) -> None:
    print("| Receipts in | Videos | Callbacks | Events | End to event | End to the next DAG's start | GETs |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    for each in results:
        event, run = each.asset_seconds, each.run_seconds
        print(
            f"| {each.place} | {VIDEOS} | {each.deliveries} | {each.announced} | {statistics.median(event):.1f} s "
            f"({max(event):.1f} s) | {statistics.median(run):.1f} s ({max(run):.1f} s) | {each.polls} |"
        )
    print("\n| Receipts in | Policy | POSTs | Bills | Task |\n|:--|:--|--:|--:|:--|")
    for each in results:
        for policy, (state, posts, bills) in each.lost.items():
            print(f"| {each.place} | {policy} | {posts} | {bills} | {state} |")
    for each in results:
        if each.flood:
            print(f"\n{json.dumps(each.flood, indent=1)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--place", action="append", choices=("ledger", "task state"), help="default: both")
    parser.add_argument("--requests", type=int, default=10_000, help="hostile requests (default: 10000)")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")
    options = parser.parse_args()
    measured = []
    for place in options.place or ("ledger", "task state"):
        results = Results(place)
        with two_servers(place) as (airflow, emulator, _):
            measure_events(airflow, emulator, results)
            say(f"{place}: {results.announced} events")
            measure_lost(airflow, emulator, results)
            say(f"{place}: {results.lost}")
            measure_flood(airflow, emulator, results, options.requests)
        measured.append(results)
    if options.json:
        print(json.dumps([asdict(each) | {"as_expected": each.is_as_expected} for each in measured]))
    else:
        print_tables(measured)
    return 0 if all(each.is_as_expected for each in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
