"""Kill a real Airflow at random for some minutes, and compare the emulator's bill with what was wanted.

    python devtools/random_kills.py --minutes 10
    python devtools/random_kills.py --minutes 2 --seed 7

Airflow 3 runs with two schedulers, which share the work as on two machines, each with its own workers (LocalExecutor),
on PostgreSQL, since SQLite has no row locks for two schedulers; with one triggerer and one ledger. DAG runs are
triggered as fast as they are worked off. Meanwhile SIGKILL hits, every few seconds: a task process; a worker and its
task; a scheduler with all its workers and tasks; the triggerer. What was killed is started again at once. In the end
the kills stop, and what was wanted must come to its end.

Each run wants six videos: three of deferred Generate tasks, one of a Generate task that waits on its worker, and two
that two tasks each ask for by the same idempotency key. All have submit_policy="safe". createTask answers half a second
after it has charged, so that some kills fall between: nobody can know those outcomes, and the task must fail with
SeedanceSubmitUncertainError. Everything else must be decided:

- no video is created twice;
- a task ends in a success, or in SeedanceSubmitUncertainError;
- a video that was delivered was created once; one of unknown outcome once or not at all;
- the ledger has every created video but those of unknown outcome, and its credits are those of the bill. A kill right
  after Airflow took a success leaves the delivery unstored: then the estimate counts.

Needs PostgreSQL (apt-get install postgresql; no cluster of it is used) and its drivers (psycopg2-binary, asyncpg). Ends
with 1 if anything of this is not so. The seed draws the moments and the kinds of the kills; what they hit depends on
the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import requests
from cluster import Postgres
from local_airflow import LocalAirflow, LocalAirflowError

from seedance_provider.execution.budgets import Budget
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.hooks.ledger_files import Folder
from seedance_provider.testing import Emulator

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = BUDGET = "random_kills"
SCHEDULERS = ("scheduler", "scheduler-2")
#: The tasks of a run and what their map indexes want, by name.
TASKS = {"own": ("own", 3), "worker": ("worker", 1), "shared_a": ("shared", 2), "shared_b": ("shared", 2)}
WANTED_PER_RUN = sum(dict(TASKS.values()).values())
WORKABLE, UNFINISHED = 8, 40  # task instances, those deferred included; with fewer a further run is triggered
SPARED_SECONDS = 45  # a scheduler or triggerer that has only just started would never get to work
WEIGHTS = {"task process": 50, "worker": 20, "scheduler": 15, "triggerer": 15}
PAUSE_SECONDS = (2.0, 8.0)
ANSWER_SECONDS = 0.5
STUCK_SECONDS = 90
UNCERTAIN = "SeedanceSubmitUncertainError"
ENDED = ("success", "failed")

# Read by Airflow as DAG file.
DAG_FILE = """
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator


def generate(task_id, video, count, **arguments):
    SeedanceGenerateVideoOperator.partial(
        task_id=task_id,
        model="seedance2-fast",
        submit_policy="safe",
        poll_interval=2,
        budget="random_kills",
        budget_credits=10_000_000,
        retries=100,
        retry_delay=timedelta(seconds=1),
        **arguments,
    ).expand(inputs=[{"prompt": "{{ run_id }} " + f"{video} {number}", "duration": 5} for number in range(count)])


with DAG("random_kills", schedule=None, max_active_runs=1000, max_active_tasks=1000):
    generate("own", "own", 3)
    generate("worker", "worker", 1, deferrable=False)
    for name in ("a", "b"):
        generate(f"shared_{name}", "shared", 2, idempotency_key="{{ run_id }}/{{ ti.map_index }}")
"""
ENVIRONMENT = {
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "PYTHONPATH": str(ROOT),
}

BEGAN = time.monotonic()


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {line}", file=sys.stderr, flush=True)


class Killer:
    """Kills at random and starts again what it has killed.

    :param airflow: The Airflow.
    :param chance: What draws.
    """

    def __init__(self, airflow: LocalAirflow, chance: random.Random) -> None:
        self._airflow = airflow
        self._chance = chance
        self.kills: Counter[str] = Counter()
        self._started: dict[str, float] = {}

    def kill(self) -> None:
        """One kill; none if there is no task process to be hit, or only a component that has just started."""
        (kind,) = self._chance.choices([*WEIGHTS], [*WEIGHTS.values()])
        name = self._chance.choice(SCHEDULERS) if kind == "scheduler" else kind
        if time.monotonic() - self._started.get(name, 0) < SPARED_SECONDS:
            return
        if kind == "triggerer":
            self._airflow.kill(name)
            self._airflow.start_process(name)
            self._started[name] = time.monotonic()
        elif kind == "scheduler":
            self.replace_scheduler(name)
        elif not self._kill_task(with_worker=kind == "worker"):
            return
        self.kills[kind] += 1

    def replace_scheduler(self, name: str) -> None:
        """Kill a scheduler with its workers and tasks, and start another."""
        self._airflow.kill(name)
        self._airflow.start_process(name)
        self._started[name] = time.monotonic()

    def _kill_task(self, *, with_worker: bool) -> bool:
        busy = [pair for name in SCHEDULERS for pair in busy_workers(self._airflow.processes(name))]
        if not busy:
            return False
        worker, task = self._chance.choice(busy)
        with suppress(psutil.NoSuchProcess):
            # The worker first, else it would report the end of its task. An idle one is never killed: it holds the
            # lock of its scheduler's queue.
            if with_worker:
                worker.kill()
            task.kill()
        return True


def busy_workers(processes: list[psutil.Process]) -> list[tuple[psutil.Process, psutil.Process]]:
    """The workers of a scheduler that run a task, each with its task process."""
    members = {process.pid: process for process in processes}
    parents = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            parents[process.pid] = process.ppid()
    found = []
    for task, worker in parents.items():
        scheduler = parents.get(worker)
        if scheduler in members and parents.get(scheduler) not in members:
            found.append((members[worker], members[task]))
    return found


@dataclass
class Report:
    """What was wanted, what came of it, and what the bill and the ledger say."""

    seed: int
    minutes: float
    airflow: str
    database: str
    kills: Counter[str]
    tries: int = 0
    rescues: int = 0
    wanted: int = 0
    delivered: int = 0
    unknown_charged: int = 0
    unknown_not_charged: int = 0
    created: int = 0
    bill_credits: Decimal = Decimal(0)
    bill_unknown_credits: Decimal = Decimal(0)
    ledger_videos: int = 0
    ledger_credits: Decimal = Decimal(0)
    undelivered: int = 0
    reserved: Decimal = Decimal(0)
    problems: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in self.kills.most_common())
        unknown = self.unknown_charged + self.unknown_not_charged
        known, known_credits = self.created - self.unknown_charged, self.bill_credits - self.bill_unknown_credits
        return [
            ("Airflow", f"{self.airflow}, two schedulers with 4 workers each, PostgreSQL {self.database}"),
            ("Seed, minutes of kills", f"{self.seed}, {self.minutes:g}"),
            ("Kills", f"{self.kills.total()}: {kinds}"),
            ("Tries of all task instances", str(self.tries)),
            ("Videos wanted", str(self.wanted)),
            ("delivered, created exactly once", str(self.delivered)),
            ("of unknown outcome, failed for manual review", str(unknown)),
            ("of these created once / not at all", f"{self.unknown_charged} / {self.unknown_not_charged}"),
            ("created twice, or lost", str(self.wanted - self.delivered - unknown)),
            ("Bill", f"{self.created} videos, {self.bill_credits} credits"),
            ("Bill without those of unknown outcome", f"{known} videos, {known_credits} credits"),
            ("Ledger, videos with an id", f"{self.ledger_videos} videos, {self.ledger_credits} credits"),
            ("of these, deliveries that a kill kept from being stored", str(self.undelivered)),
            ("Ledger, the budget", f"{self.reserved} credits charged or reserved"),
        ]


class Trial:
    """The DAG runs that were triggered, and the task instances in them."""

    def __init__(self, airflow: LocalAirflow, emulator: Emulator, killer: Killer) -> None:
        self._airflow = airflow
        self._emulator = emulator
        self._killer = killer
        self.runs: list[str] = []
        self.rescues = 0
        self._known: list[dict[str, Any]] = []
        self._said = 0.0

    def torment(self, minutes: float, chance: random.Random) -> None:
        """Trigger and kill."""
        until = time.monotonic() + minutes * 60
        next_kill = time.monotonic() + chance.uniform(*PAUSE_SECONDS)
        next_poll = 0.0
        while time.monotonic() < until:
            if time.monotonic() >= next_poll:
                unfinished = [task for task in self.tasks() if task["state"] not in ENDED]
                workable = [task for task in unfinished if task["state"] != "deferred"]
                if len(workable) < WORKABLE and len(unfinished) < UNFINISHED:
                    self.runs.append(self._airflow.trigger_dag(DAG_ID))
                next_poll = time.monotonic() + 3
            if time.monotonic() >= next_kill:
                self._killer.kill()
                next_kill = time.monotonic() + chance.uniform(*PAUSE_SECONDS)
            time.sleep(0.1)

    def settle(self, timeout: float = 900) -> None:
        """Let what was wanted come to its end."""
        say("no more kills")
        deadline = time.monotonic() + timeout
        before, changed = "", time.monotonic()
        while True:
            tasks = self.tasks()
            expected = len(self.runs) * sum(count for _, count in TASKS.values())
            if len(tasks) == expected and all(task["state"] in ENDED for task in tasks):
                return
            now = json.dumps(sorted((task["id"], str(task["state"]), task["try_number"]) for task in tasks))
            if now != before:
                before, changed = now, time.monotonic()
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"not at its end: {Counter(task['state'] for task in tasks)}")
            if time.monotonic() - changed > STUCK_SECONDS:
                # A scheduler whose workers were killed may count them as busy for ever.
                say("stuck: both schedulers are started anew")
                self.rescues += 1
                for name in SCHEDULERS:
                    self._killer.replace_scheduler(name)
                changed = time.monotonic()
            time.sleep(2)

    def tasks(self) -> list[dict[str, Any]]:
        """All task instances of all runs."""
        if self.runs:
            # On a busy machine an answer may be late: then what was known before has to do.
            with suppress(requests.RequestException):
                self._known = self._read()
        tasks = self._known
        if time.monotonic() - self._said > 15:
            self._said = time.monotonic()
            states = ", ".join(f"{count} {state}" for state, count in Counter(task["state"] for task in tasks).items())
            say(f"{len(self.runs)} runs; {self._killer.kills.total()} kills; {states or 'nothing yet'}")
        return tasks

    def _read(self) -> list[dict[str, Any]]:
        return [task for task in self._airflow.task_instances(DAG_ID, "~") if task["map_index"] >= 0]

    def report(self, report: Report, ledger_url: str) -> Report:
        """Compare."""
        tasks = self._read()
        bill = self._emulator.bill()
        created: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for task in bill["tasks"]:
            created[task["prompt"]].append(task)
        by_video: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for task in tasks:
            video, _ = TASKS[task["task_id"]]
            by_video[f"{task['dag_run_id']} {video} {task['map_index']}"].append(task)
        report.tries = sum(task["try_number"] for task in tasks)
        report.rescues = self.rescues
        report.wanted = len(self.runs) * WANTED_PER_RUN
        if len(by_video) != report.wanted or set(created) - set(by_video):
            report.problems.append(f"{len(by_video)} videos were asked for, {len(created)} prompts arrived")
        unknown_ids = set()
        for prompt, askers in by_video.items():
            bills = created[prompt]
            failed = [task for task in askers if task["state"] == "failed"]
            for task in failed:
                if (error := self._error(task)) != UNCERTAIN:
                    report.problems.append(f"{task['task_id']} {task['map_index']} of {prompt}: {error}")
            if len(bills) > 1:
                report.problems.append(f"{prompt}: created {len(bills)} times")
            elif len(failed) == len(askers):
                unknown_ids |= {task["taskId"] for task in bills}
                report.unknown_charged += bool(bills)
                report.unknown_not_charged += not bills
            elif len(bills) == 1:
                report.delivered += 1
            else:
                report.problems.append(f"{prompt}: never created")
        ids = {task["taskId"]: Decimal(str(task["credits_charged"])) for task in bill["tasks"]}
        # Several tasks may tell of one video; what was charged is told by those that delivered it.
        told = sorted(SeedanceLedger(ledger_url).receipts(), key=lambda each: each.credits is not None)
        receipts = {each.seedance_task_id: each for each in told if each.seedance_task_id is not None}
        report.created = bill["tasks_created"]
        report.bill_credits = sum(ids.values(), Decimal(0))
        report.bill_unknown_credits = sum((ids[each] for each in unknown_ids), Decimal(0))
        report.ledger_videos = len(receipts)
        report.ledger_credits = sum((each.counted_credits for each in receipts.values()), Decimal(0))
        report.undelivered = sum(each.status != "delivered" for each in receipts.values())
        report.reserved = Budget(Folder(ledger_url), BUDGET).spent()
        if set(receipts) != set(ids) - unknown_ids:
            report.problems.append(f"the ledger and the bill differ in {set(receipts) ^ (set(ids) - unknown_ids)}")
        if report.ledger_credits != report.bill_credits - report.bill_unknown_credits:
            report.problems.append("the credits of the ledger are not those of the bill")
        # A kill right after Airflow took a success leaves its delivery, and what was charged, unstored.
        if report.undelivered > report.kills.total() - report.kills["triggerer"]:
            report.problems.append(f"{report.undelivered} deliveries were not stored: more than kills can explain")
        if report.reserved < report.bill_credits:
            report.problems.append("the budget holds less than the bill")
        return report

    def _error(self, task: dict[str, Any]) -> str:
        place = (DAG_ID, task["dag_run_id"], task["task_id"])
        try:
            return str(self._airflow.xcom(*place, "seedance_error", map_index=task["map_index"])["type"])
        except LocalAirflowError as error:
            return f"failed, and nothing tells why ({error})"


def trial(options: argparse.Namespace) -> Report:
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="random-kills-") as name, Postgres() as postgres:
        dags, ledger_url = Path(name) / "dags", f"file://{name}/ledger"
        dags.mkdir()
        (dags / "random_kills.py").write_text(DAG_FILE)
        env = ENVIRONMENT | {"AIRFLOW__SEEDANCE__LEDGER_PATH": ledger_url}
        with (
            Emulator(
                waiting_seconds=1, generating_seconds=options.generation, concurrency_limit=options.limit
            ) as emulator,
            LocalAirflow(
                dags,
                env=env,
                say=say,
                python=options.python,
                keep_home=options.keep_home,
                counts={"scheduler": len(SCHEDULERS)},
                database_url=postgres.url,
            ) as airflow,
        ):
            if options.keep_home:
                say(f"AIRFLOW_HOME is {airflow.home}")
            emulator.add_fault("slow", seconds=ANSWER_SECONDS, accept=True, times=None)
            airflow.add_connection("seedance_default", emulator.connection_json)
            killer = Killer(airflow, chance)
            running = Trial(airflow, emulator, killer)
            running.torment(options.minutes, chance)
            running.settle()
            report = Report(options.seed, options.minutes, airflow.version, postgres.version, killer.kills)
            return running.report(report, ledger_url)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="for how long there are kills")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--limit", type=int, default=6, help="how many tasks the account runs at once")
    parser.add_argument("--generation", type=float, default=15, help="seconds that a video takes")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of another environment")
    parser.add_argument("--keep-home", action="store_true", help="leave Airflow's logs on disk")
    options = parser.parse_args()
    drivers = [options.python, "-c", "import asyncpg, psycopg2"]
    if subprocess.run(drivers, check=False, capture_output=True).returncode != 0:
        parser.error(f"{options.python} lacks a driver of PostgreSQL: pip install psycopg2-binary asyncpg")
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"seed {options.seed}")
    report = trial(options)
    print("| | |\n|:--|:--|")
    for name, value in report.rows():
        print(f"| {name} | {value} |")
    for problem in report.problems:
        print(f"\n**{problem}**")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
