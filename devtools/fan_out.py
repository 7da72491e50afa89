"""Fan out over an account that runs only a few tasks at once, on a real Airflow, and count what that takes.

    python devtools/fan_out.py                        # 60 videos, limit 5, without a pool
    python devtools/fan_out.py --pool                 # the same in a pool of 5 with include_deferred
    python devtools/fan_out.py --videos 15 --generation 120 --poll-interval 0     # 0: the schedule of the provider

Mapped SeedanceGenerateVideoOperator tasks without Airflow retries against the emulator. A video of the emulator takes
--generation seconds, much less than a real one, so that Airflow's own latency weighs more here than in life: the wall
time is an upper bound. Ends with 1 if not every video was made exactly once.

Avoidable is each refusal (429) of a task after its first: when it started, it could not know that the account was full.

The wall time is that of the DAG run. What of it no slot was used for is told in slot-seconds, by what was waited for.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from local_airflow import LocalAirflow, LocalAirflowError

from seedance_provider.testing import Emulator

DAG_ID = "fan_out"
TASK_ID = "generate"
POOL = "seedance"
REFUSED = "No free slot"

# Read by Airflow as DAG file; the plan lies beside it.
DAG_FILE = """
import json
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

plan = json.loads(Path(__file__).with_name("plan.json").read_text())
with DAG("fan_out", schedule=None, max_active_tasks=1000):
    SeedanceGenerateVideoOperator.partial(
        task_id="generate",
        model="seedance2-fast",
        submit_policy="safe",
        poll_interval=plan["poll_interval"] or None,
        retries=0,
        **({"pool": plan["pool"]} if plan["pool"] else {}),
    ).expand(inputs=[{"prompt": f"Shot {number:03}", "duration": 5} for number in range(plan["videos"])])
"""

BEGAN = time.monotonic()


@dataclass(frozen=True)
class Report:
    """What a fan-out took."""

    videos: int
    limit: int
    pool: bool
    generation: float
    parallelism: int
    state: str
    made_once: int
    created: int
    posts: int
    refusals: int
    refused_tasks: int
    tries: int
    wall: float
    idle: dict[str, float]

    @property
    def avoidable(self) -> int:
        return self.refusals - self.refused_tasks

    @property
    def ideal(self) -> float:
        return math.ceil(self.videos / self.limit) * self.generation

    @property
    def is_right(self) -> bool:
        """Every video was made exactly once, without an Airflow retry."""
        return self.state == "success" and self.made_once == self.created == self.videos and self.tries == 1

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("Pool", f"{self.limit} slots, include_deferred" if self.pool else "none"),
            ("Videos wanted", str(self.videos)),
            ("Videos made exactly once", str(self.made_once)),
            ("Airflow tries per task", str(self.tries)),
            ("POSTs", f"{self.posts} ({self.posts / self.videos:.2f} per video)"),
            ("Refusals", str(self.refusals)),
            ("Avoidable refusals", f"{self.avoidable} ({self.avoidable / self.videos:.3f} per video)"),
            ("Wall time", f"{self.wall:.0f} s"),
            ("Ideal", f"{math.ceil(self.videos / self.limit)} rounds x {self.generation:g} s = {self.ideal:.0f} s"),
            ("Wall time / ideal", f"{self.wall / self.ideal:.3f}"),
            *((f"Idle slot-seconds, {what}", f"{seconds:.0f}") for what, seconds in self.idle.items()),
        ]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"avoidable": self.avoidable, "ideal": self.ideal, "is_right": self.is_right}


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {line}", file=sys.stderr, flush=True)


class Progress:
    """Says how many tasks are in which state, now and then."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, tasks: list[dict[str, Any]]) -> None:
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            say(", ".join(f"{count} {state}" for state, count in Counter(task["state"] for task in tasks).items()))


def fan_out(options: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory(prefix="fan-out-") as name:
        dags = Path(name)
        pool = POOL if options.pool else None
        plan = {"videos": options.videos, "poll_interval": options.poll_interval, "pool": pool}
        (dags / "plan.json").write_text(json.dumps(plan))
        (dags / "fan_out.py").write_text(DAG_FILE)
        with (
            Emulator(
                concurrency_limit=options.limit, waiting_seconds=0, generating_seconds=options.generation
            ) as emulator,
            LocalAirflow(
                dags,
                env={"AIRFLOW__CORE__PARALLELISM": str(options.parallelism)},
                say=say,
                keep_home=options.keep_home,
            ) as airflow,
        ):
            if options.keep_home:
                say(f"AIRFLOW_HOME is {airflow.home}")
            airflow.add_connection("seedance_default", emulator.connection_json)
            if pool:
                airflow.api("POST", "pools", json={"name": pool, "slots": options.limit, "include_deferred": True})
            run_id = airflow.trigger_dag(DAG_ID)
            # Seldom: each request costs the API server time that the tasks need as well.
            state = airflow.wait_for_run(DAG_ID, run_id, timeout=options.timeout, watch=Progress(), poll=3)
            report = measure(options, airflow, emulator, run_id, state)
            if options.requests:
                options.requests.write_text(json.dumps([emulator.requests("createTask"), emulator.bill()["tasks"]]))
            return report


def measure(options: argparse.Namespace, airflow: LocalAirflow, emulator: Emulator, run_id: str, state: str) -> Report:
    bill, counts = emulator.bill(), emulator.counts("createTask")
    made = Counter(task["prompt"] for task in bill["tasks"] if task["status"] == "success")
    tasks = airflow.task_instances(DAG_ID, run_id)
    refusals = [airflow.task_log(DAG_ID, run_id, TASK_ID, map_index=task["map_index"]).count(REFUSED) for task in tasks]
    if sum(refusals) != counts.get("429", 0):
        raise LocalAirflowError(f"{sum(refusals)} refusals in the task logs, {counts.get('429', 0)} in the emulator's")
    run = airflow.api("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")
    began, ended = (datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
    return Report(
        videos=options.videos,
        limit=options.limit,
        pool=options.pool,
        generation=options.generation,
        parallelism=options.parallelism,
        state=state,
        made_once=sum(number == 1 for number in made.values()),
        created=bill["tasks_created"],
        posts=sum(counts.values()),
        refusals=sum(refusals),
        refused_tasks=sum(number > 0 for number in refusals),
        tries=max(task["try_number"] for task in tasks),
        wall=(ended - began).total_seconds(),
        idle=idle_seconds(options, emulator, began.timestamp(), ended.timestamp()),
    )


def idle_seconds(options: argparse.Namespace, emulator: Emulator, began: float, ended: float) -> dict[str, float]:
    """Seconds in which a slot had no video, of all slots together, by what was waited for.

    The slot of the first video that ends is that of the next one that is created. Whoever comes just then takes a slot
    before its end is seen, and nobody waits any more.
    """
    created = sorted((task["createTime"] / 1000, task["taskId"]) for task in emulator.bill()["tasks"])
    ends = [(at + options.generation, task_id) for at, task_id in created]
    seen = {end: end for end in ends}
    for call in reversed(emulator.requests("recordInfo")):
        for end in ends:
            if call["taskId"] == end[1] and call["time"] >= end[0]:
                seen[end] = call["time"]
    refills = list(zip(ends, created[options.limit :], strict=False))
    return {
        "until the first videos are created": sum(at - began for at, _ in created[: options.limit]),
        "until the end of a video is seen": sum(min(seen[end], at) - end[0] for end, (at, _) in refills),
        "from then until the next is created": sum(max(at - seen[end], 0) for end, (at, _) in refills),
        "after the last videos": sum(ended - end[0] for end in ends[-options.limit :]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--limit", type=int, default=5, help="how many tasks the account runs at once")
    parser.add_argument("--pool", action="store_true", help="put the tasks into a pool of that size")
    parser.add_argument("--generation", type=float, default=30, help="seconds that a video takes")
    parser.add_argument("--poll-interval", type=float, default=2, help="seconds between two polls of a video")
    parser.add_argument("--parallelism", type=int, default=4, help="Airflow's: how many tasks run on workers at once")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for the whole run")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    parser.add_argument("--keep-home", action="store_true", help="leave Airflow's logs and database on disk")
    parser.add_argument("--requests", type=Path, help="write the emulator's createTask calls and its bill to this file")
    options = parser.parse_args()
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"Airflow {version('apache-airflow')}")
    report = fan_out(options)
    if options.json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        print("| | |\n|:--|:--|")
        for name, value in report.rows():
            print(f"| {name} | {value} |")
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
