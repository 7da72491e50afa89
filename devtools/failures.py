"""Break a production-like Airflow in many ways, one after the other, and compare the bill with what was wanted.

    python devtools/failures.py                            # every scenario; writes docs/failures.md
    python devtools/failures.py --scenario redis_gone --scenario triggerer_killed
    python devtools/failures.py --quick                    # 12 videos each, nothing is written
    python devtools/failures.py --soak 30 --seed 7         # random ones for 30 minutes

Each scenario is a DAG of 40 mapped SeedanceGenerateVideoOperator tasks with an account of 10 slots on the cluster of
devtools/cluster.py, `submit_policy="safe"` and a ledger. When enough of them are where the scenario wants them, it
happens. In the end made = billed = wanted and lost = 0 must hold: the emulator's bill, the ledger and the states of the
tasks are compared. Processes that end by themselves are started again, as systemd or Kubernetes does.

Where the outcome of a createTask cannot be known (an answer that never came), the task fails for manual review. Then
this program does what docs/money.md asks a person to do: it looks into the vendor's list of tasks, adopts a video that
is there by `airflow seedance adopt`, and clears the task. Such scenarios are marked; in all others nobody is needed.

A scenario is a row of `SCENARIOS`. Ends with 1 if a sum is not as wanted.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlencode

import psutil
import requests
from cluster import Cluster, LedgerKind, install_missing, missing_modules
from local_airflow import WORKER, LocalAirflowError

from seedance_provider.defaults import PAGES_PATH
from seedance_provider.execution.ledger import SeedanceLedger

if TYPE_CHECKING:
    from fault_proxy import Fault

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "failures.md"
TASK_ID = "generate"
SLOTS = 10
VIDEO_SECONDS = 12
TIMEOUT = 900  # for what a scenario leaves to come to its end, on a busy machine
QUICK_VIDEOS = 12
UNCERTAIN = "SeedanceSubmitUncertainError"
#: Of the kind that JSON, URLs and HTML escape, as far as a header can carry it.
MARK = "sk-M4RK3D+/=\"<&>%'\\7Q2x"
ENDED = ("success", "failed", "upstream_failed")
LIBRARIES = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"
FAKETIME = LIBRARIES / "faketime" / "libfaketimeMT.so.1"
HOST = "api.seedance.test"
# Names are faked within Python: libnss_wrapper, tried before, did not reach the tasks.
RESOLVER = f'''
import socket
from pathlib import Path

real, gone = socket.getaddrinfo, Path(__file__).with_name("gone")


def getaddrinfo(host, *args, **kwargs):
    if host == "{HOST}" and gone.exists():
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return real("127.0.0.1" if host == "{HOST}" else host, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
'''

# Read by Airflow as DAG file; the plan lies beside it.
DAG_FILE = '''
import json
import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

folder = Path(__file__).parent
plan = json.loads((folder / "plan.json").read_text())


def hold_at(point):
    """Let the first try of the first video stop at a point, until its worker is killed."""

    def hold(context):
        ti = context["ti"]
        if ti.map_index != 0 or ti.try_number != 1:
            return
        from seedance_provider.execution import wait
        from seedance_provider.execution.memory import Receipts
        from seedance_provider.hooks.seedance import SeedanceHook

        mark = folder / f"{ti.dag_id}.{ti.run_id}.pid"

        def stand():
            mark.write_text(str(os.getpid()))
            time.sleep(300)

        save, outcome, create = Receipts.save, wait.outcome, SeedanceHook.create_task

        def saving(receipts, receipt, **more):
            result = save(receipts, receipt, **more)
            if receipt.stage.value == "submitted":
                stand()
            return result

        def ending(*args, **more):
            result = outcome(*args, **more)
            stand()
            return result

        def creating(*args, **more):
            mark.write_text(str(os.getpid()))
            return create(*args, **more)

        if point == "submitting":
            SeedanceHook.create_task = creating
        elif point == "id_stored":
            Receipts.save = saving
        else:
            wait.outcome = ending

    return hold


for name, arguments in plan["dags"].items():
    arguments = dict(arguments)
    if "hold" in arguments:
        arguments["pre_execute"] = hold_at(arguments.pop("hold"))
    with DAG(name, schedule=None, max_active_tasks=1000, max_active_runs=100) as dag:
        SeedanceGenerateVideoOperator.partial(
            task_id="generate",
            model="seedance2-fast",
            seedance_conn_id=name,
            submit_policy="safe",
            poll_interval=2,
            retries=plan["retries"],
            retry_delay=timedelta(seconds=5),
            **({"use_callback": False} | arguments),
        ).expand(
            inputs=[
                {"prompt": "{{ run_id }} " + f"{name} {number:03}", "duration": 5} for number in range(plan["videos"])
            ]
        )
    globals()[name] = dag
'''

# Run in Airflow's environment, since triggers are stored encrypted with its key. It gets the recorded ones, if any.
CHANGE_TRIGGERS = """
import json, sys
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

order = json.load(sys.stdin)
changed = 0
with create_session() as session:
    for trigger in session.query(Trigger).order_by(Trigger.id):
        recorded = order["recorded"].get(trigger.classpath)
        if order["recorded"] and recorded is not None:
            kwargs, live = dict(recorded), trigger.kwargs
            for name in order["live"]:
                if name in kwargs:
                    kwargs[name] = live[name]
            trigger.encrypted_kwargs = Trigger.encrypt_kwargs(kwargs)
            changed += 1
        elif not order["recorded"] and "seedance" in trigger.classpath:
            if changed == 0:
                trigger.classpath = "seedance_provider.triggers.gone.NoSuchTrigger"
            elif changed == 1:
                trigger.encrypted_kwargs = Trigger.encrypt_kwargs({"seedance_task_id": 7, "unknown": {"a": [1]}})
            else:
                break
            changed += 1
print(changed)
"""

BEGAN = time.monotonic()


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Scenario:
    """One row.

    :param name: The DAG's id, the account's and the connection's.
    :param what: What happens, in the words of the table.
    :param act: Makes it happen; returns when it is over.
    :param when: Whether the videos are where it should happen. Default: half of the slots are waited for.
    :param prepare: Called before the run starts.
    :param operator: Arguments of the operator.
    :param ledger: Where the ledger must be.
    :param review: Whether an outcome can be unknown, and why.
    :param random: Whether `--soak` may do it.
    """

    name: str
    what: str
    act: Callable[[Trial], None]
    when: Callable[[Trial], bool] = field(default=lambda trial: trial.running >= SLOTS // 2)
    prepare: Callable[[Trial], None] = field(default=lambda _trial: None)
    operator: Mapping[str, Any] = field(default_factory=dict)
    ledger: LedgerKind = "disk"
    review: str = ""
    random: bool = False


@dataclass
class Row:
    """How a scenario ended."""

    name: str
    what: str
    review: str
    wanted: int = 0
    made: int = 0
    billed: int = 0
    delivered: int = 0
    reviewed: int = 0
    retries: int = 0
    recovery_seconds: float | None = None
    seconds: float = 0
    revived: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def lost(self) -> int:
        return self.wanted - self.delivered

    @property
    def is_as_wanted(self) -> bool:
        sums = self.made == self.billed == self.wanted and self.lost == 0
        return bool(self.skipped) or (sums and not self.problems and (bool(self.review) or not self.reviewed))


class Trial:
    """One scenario on the running cluster.

    :param cluster: The cluster.
    :param scenario: What happens.
    :param videos: How many are wanted.
    :param folder: Of the DAG file, where a process that stands leaves its mark.
    """

    def __init__(self, cluster: Cluster, scenario: Scenario, videos: int, folder: Path) -> None:
        self.cluster, self.airflow, self.emulator = cluster, cluster.airflow, cluster.emulator
        self.scenario, self.videos, self.folder = scenario, videos, folder
        self.name = scenario.name
        self.key = f"{MARK}{scenario.name}"
        self.tasks: list[dict[str, Any]] = []
        self.runs: list[str] = []
        self.row = Row(scenario.name, scenario.what, scenario.review)
        self._clears = 0
        self._said = 0.0

    # What a scenario sees and does

    @property
    def running(self) -> int:
        """How many videos the vendor is making for this scenario, and Airflow waits for deferred."""
        created = self._account()["tasks_created"]
        deferred = sum(task["state"] == "deferred" for task in self.tasks)
        return int(min(created, deferred))

    @property
    def standing(self) -> int | None:
        """The process id of the task that stands at its point, or is about to send."""
        marks = [*self.folder.glob(f"{self.name}.*.pid")]
        return int(marks[0].read_text() or 0) or None if marks else None

    def wait(self, seconds: float) -> None:
        """Let time pass; what ends by itself is started again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(min(1, max(until - time.monotonic(), 0)))

    def look(self) -> None:
        """Read the task instances, as far as Airflow answers."""
        for name in self.airflow.revive():
            say(f"{name} ended and was started again")
            self.row.revived.append(name)
        with suppress(requests.RequestException, LocalAirflowError):
            tasks = [
                task
                for run_id in self.runs
                for task in self.airflow.task_instances(self.name, run_id)
                if task["map_index"] >= 0
            ]
            self.tasks = tasks
        if time.monotonic() - self._said > 20:
            self._said = time.monotonic()
            states = Counter(str(task["state"]) for task in self.tasks)
            say(f"{self.name}: {', '.join(f'{count} {state}' for state, count in states.items())}")

    def kill(self, *names: str, dead_seconds: float = 0, env: Mapping[str, str] | None = None) -> None:
        """SIGKILL processes of Airflow with all their children, and start them again some time later."""
        for name in names:
            self.airflow.kill(name)
        self.wait(dead_seconds)
        for name in names:
            self.airflow.start_process(name, env)

    def kill_worker_of(self, pid: int) -> None:
        """Kill the worker that runs a process, with everything it runs."""
        above = {process.pid for process in psutil.Process(pid).parents()}
        (name,) = (
            name
            for name in self.airflow.names(WORKER)
            if above & {process.pid for process in self.airflow.processes(name)}
        )
        self.kill(name)

    def fault(self, part: str, fault: Fault, seconds: float) -> None:
        """Let a part be reached only by way of a fault for some time."""
        proxy = self.cluster.proxies[part]
        proxy.fault = fault
        try:
            self.wait(seconds)
        finally:
            proxy.fault = None

    def answer(self, fault: str, seconds: float, **rule: Any) -> None:
        """Let the API answer wrongly for some time."""
        self.emulator.add_fault(fault, times=None, **rule)
        try:
            self.wait(seconds)
        finally:
            self.emulator.clear_faults()

    def change_triggers(self, recorded: Mapping[str, Any]) -> None:
        """Write other triggers into the database, in place of those that are there."""
        live = ["seedance_conn_id", "seedance_task_id", "deadline", "started_at", "since", "deferred_at", "refused_at"]
        order = {"recorded": recorded, "live": [*live, "state"]}
        done = subprocess.run(
            [sys.executable, "-c", CHANGE_TRIGGERS],
            env=self.airflow.env,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
        )
        changed = int(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else 0
        say(f"{self.name}: {changed} triggers changed")
        if not changed:
            self.row.problems.append(f"no trigger was changed: {done.stderr[-500:]}")

    # How it goes

    def play(self) -> Row:
        """Run it to its end, and compare."""
        began = time.monotonic()
        self._open_account()
        self.scenario.prepare(self)
        self.trigger()
        deadline = time.monotonic() + TIMEOUT
        while not self.scenario.when(self):
            self.look()
            if time.monotonic() > deadline or self._all_ended:
                self.row.problems.append("it never came to the point")
                break
            time.sleep(0.5)
        in_flight = {(task["dag_run_id"], task["map_index"]) for task in self.tasks if task["state"] not in ENDED}
        created = {task["prompt"] for task in self._bill_tasks()}
        say(f"{self.name}: {self.scenario.what}")
        self.scenario.act(self)
        over = time.time()
        say(f"{self.name}: it is over")
        self.settle()
        last = [
            datetime.fromisoformat(task["end_date"]).timestamp()
            for task in self.tasks
            if (task["dag_run_id"], task["map_index"]) in in_flight
            and self._prompt(task) in created
            and task["end_date"]
        ]
        self.row.recovery_seconds = max(round(max(last) - over, 1), 0.0) if last else None
        self.row.seconds = round(time.monotonic() - began, 1)
        return self.sum_up()

    def trigger(self) -> None:
        """One more run."""
        self.runs.append(self.airflow.trigger_dag(self.name))

    def settle(self) -> None:
        """Let everything come to its end; do what a person does where an outcome is unknown."""
        for _ in range(3):
            deadline = time.monotonic() + TIMEOUT
            while not self._all_ended:
                if time.monotonic() > deadline:
                    states = Counter(str(task["state"]) for task in self.tasks)
                    self.row.problems.append(f"not at its end: {dict(states)}")
                    return
                self.wait(2)
            if not (failed := [task for task in self.tasks if task["state"] != "success"]):
                return
            for task in failed:
                self._review(task)
            self.wait(3)

    def sum_up(self) -> Row:
        """Compare the bill, the ledger and the task instances."""
        row, bill = self.row, self._bill_tasks()
        prompts = Counter(task["prompt"] for task in bill)
        wanted = {self._prompt(task) for task in self.tasks}
        row.wanted = self.videos * len(self.runs)
        row.made, row.billed = len(prompts), int(self._account()["tasks_created"])
        row.delivered = sum(task["state"] == "success" for task in self.tasks)
        row.retries = sum(max(task["try_number"] - 1, 0) for task in self.tasks) - self._clears
        if len(wanted) != row.wanted or set(prompts) - wanted:
            row.problems.append(f"{len(wanted)} task instances, {len(prompts)} prompts arrived")
        row.problems += [f"{prompt!r}: created {count} times" for prompt, count in prompts.items() if count > 1]
        deadline = time.monotonic() + 30  # a delivery is noted after Airflow has taken the success
        while True:
            receipts = SeedanceLedger(self.cluster.ledger_url).receipts(dag_id=self.name)
            delivered = {each.seedance_task_id for each in receipts if each.status == "delivered"}
            if delivered >= {task["taskId"] for task in bill} or time.monotonic() > deadline:
                break
            time.sleep(2)
        known = {each.seedance_task_id for each in receipts if each.seedance_task_id is not None}
        if known != {task["taskId"] for task in bill}:
            row.problems.append(f"the ledger and the bill differ in {known ^ {task['taskId'] for task in bill}}")
        sums = f"{row.made} made, {row.billed} billed, {row.lost} lost of {row.wanted}"
        say(f"{self.name}: {sums}; {row.problems or 'well'}")
        return row

    # Inside

    @property
    def _all_ended(self) -> bool:
        return len(self.tasks) == self.videos * len(self.runs) and all(task["state"] in ENDED for task in self.tasks)

    def _open_account(self) -> None:
        self.emulator.put_account(name=self.name, key=self.key, credits=10_000_000, concurrency_limit=SLOTS)
        self.airflow.add_connection(self.name, self.connection)

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection, by way of the proxy."""
        host = HOST if self.name == "dns" else "127.0.0.1"
        extra = {"allow_insecure_http": True} if host == HOST else {}
        return {
            "conn_type": "seedance",
            "host": f"http://{host}",
            "port": self.cluster.proxies["api"].port,
            "password": self.key,
            "extra": json.dumps(extra),
        }

    def _account(self) -> dict[str, Any]:
        account: dict[str, Any] = self.emulator.bill()["accounts"][self.name]
        return account

    def _bill_tasks(self) -> list[dict[str, Any]]:
        return [task for task in self.emulator.bill()["tasks"] if f" {self.name} " in task["prompt"]]

    def _prompt(self, task: dict[str, Any]) -> str:
        return f"{task['dag_run_id']} {self.name} {task['map_index']:03}"

    def _review(self, task: dict[str, Any]) -> None:
        """What a person does with a task that failed: nothing but what docs/money.md says."""
        run_id, map_index = task["dag_run_id"], task["map_index"]
        try:
            error = self.airflow.xcom(self.name, run_id, TASK_ID, "seedance_error", map_index=map_index)
        except LocalAirflowError:
            error = {"type": "unknown", "message": "nothing tells why"}
        self.row.reviewed += 1
        say(f"{self.name} {map_index}: {error['type']}")
        there = [each["taskId"] for each in self._bill_tasks() if each["prompt"] == self._prompt(task)]
        if error["type"] == UNCERTAIN and there:
            place = ["--dag-id", self.name, "--run-id", run_id, "--task-id", TASK_ID, "--map-index", str(map_index)]
            done = self.airflow.cli("seedance", "adopt", there[0], *place)
            if done.returncode != 0:
                self.row.problems.append(f"adopt {there[0]}: {done.stderr[-500:]}")
        elif error["type"] != UNCERTAIN and not self.scenario.review:
            self.row.problems.append(f"{map_index}: {error['type']}: {str(error.get('message'))[:300]}")
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [[TASK_ID, map_index]], "only_failed": False}
        self.airflow.api("POST", f"dags/{self.name}/clearTaskInstances", json=body | {"reset_dag_runs": True})
        self._clears += 1


# What happens


def restart_postgres(trial: Trial) -> None:
    trial.cluster.postgres.kill(signal.SIGINT)  # its fast shutdown
    trial.cluster.postgres.start()


def lose_server(name: str, seconds: float) -> Callable[[Trial], None]:
    def act(trial: Trial) -> None:
        server = getattr(trial.cluster, name)
        server.kill()
        trial.wait(seconds)
        server.start()

    return act


def kill_standing(trial: Trial) -> None:
    pid = trial.standing
    assert pid is not None
    trial.kill_worker_of(pid)


def is_standing(trial: Trial) -> bool:
    return trial.standing is not None


def is_submitting(trial: Trial) -> bool:
    """The first video's createTask is accepted, and its answer pending."""
    return is_standing(trial) and any(task["prompt"].endswith(" 000") for task in trial._bill_tasks())


def answer_late(trial: Trial) -> None:
    trial.emulator.add_fault("slow", seconds=60, accept=True, match={"prompt": f"{trial.name} 000"})


def fake_time(trial: Trial) -> None:
    (trial.folder / "clock").write_text("+0")
    env = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(trial.folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    trial.kill("triggerer", env=env)
    trial.wait(20)


def jump(seconds: str) -> Callable[[Trial], None]:
    def act(trial: Trial) -> None:
        (trial.folder / "clock").write_text(seconds)
        trial.wait(40)
        trial.kill("triggerer")

    return act


def fake_names(trial: Trial) -> None:
    folder = names_folder(trial)
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(RESOLVER)
    path = [str(folder), *filter(None, [trial.airflow.env.get("PYTHONPATH")])]
    trial.kill(
        *trial.airflow.names("triggerer"), *trial.airflow.names(WORKER), env={"PYTHONPATH": os.pathsep.join(path)}
    )
    trial.wait(20)


def forget_name(trial: Trial) -> None:
    gone = names_folder(trial) / "gone"
    gone.touch()
    trial.wait(60)
    gone.unlink()


def names_folder(trial: Trial) -> Path:
    """Beside that of the DAGs, where a Python file would be parsed."""
    return trial.folder.parent / "names"


def rotate_key(trial: Trial) -> None:
    trial.key = f"{MARK}{trial.name}-rotated"
    trial.emulator.put_account(name=trial.name, key=trial.key)
    trial.wait(5)
    body = {"connection_id": trial.name, **trial.connection}
    trial.airflow.api("PATCH", f"connections/{trial.name}", json=body)


def upgrade(trial: Trial) -> None:
    triggerers = trial.airflow.names("triggerer")
    for name in triggerers:
        trial.airflow.kill(name)
    recorded = [json.loads(path.read_text()) for path in (ROOT / "tests" / "recorded").glob("*_trigger.json")]
    trial.change_triggers({each["classpath"]: each["kwargs"] for each in recorded})
    for name in triggerers:
        trial.airflow.start_process(name)


def poison(trial: Trial) -> None:
    triggerers = trial.airflow.names("triggerer")
    for name in triggerers:
        trial.airflow.kill(name)
    trial.change_triggers({})
    for name in triggerers:
        trial.airflow.start_process(name)


def fill_logs(trial: Trial) -> None:
    logs = Path(trial.airflow.env["AIRFLOW__LOGGING__BASE_LOG_FOLDER"])
    filling = logs / "filling"
    with suppress(OSError), filling.open("wb") as file:
        while True:
            file.write(b"\0" * 65_536)
    trial.wait(30)
    filling.unlink()


OUTAGE = "createTasks whose answers are lost have an unknown outcome"
NEIGHBOUR = "a worker runs two tasks, and the other one waited for the answer to createTask"
SCENARIOS = [
    Scenario("undisturbed", "nothing happens", lambda trial: None),
    Scenario(
        "triggerer_killed",
        "kill -9 of one of two triggerers with all its waiters; back after 30 s",
        lambda trial: trial.kill("triggerer", dead_seconds=30),
        random=True,
    ),
    Scenario(
        "triggerers_killed",
        "kill -9 of both triggerers; back after 10 s",
        lambda trial: trial.kill("triggerer", "triggerer-2", dead_seconds=10),
        random=True,
    ),
    Scenario(
        "worker_submitting",
        "kill -9 of a worker that waits for the answer to createTask",
        kill_standing,
        when=is_submitting,
        prepare=answer_late,
        operator={"hold": "submitting"},
        review="the answer to an accepted createTask dies with the worker",
    ),
    Scenario(
        "worker_submitting_callbacks",
        "kill -9 of a worker that waits for the answer to createTask, with callbacks",
        kill_standing,
        when=is_submitting,
        prepare=answer_late,
        operator={"hold": "submitting", "use_callback": True},
    ),
    Scenario(
        "worker_id_stored",
        "kill -9 of a worker that has stored the id",
        kill_standing,
        when=is_standing,
        operator={"hold": "id_stored"},
        review=NEIGHBOUR,
    ),
    Scenario(
        "worker_resuming",
        "kill -9 of a worker that resumes a task",
        kill_standing,
        when=is_standing,
        operator={"hold": "resuming"},
        review=NEIGHBOUR,
    ),
    Scenario(
        "scheduler_killed",
        "kill -9 of one of two schedulers; back at once",
        lambda trial: trial.kill("scheduler"),
        random=True,
    ),
    Scenario("postgres_restarted", "PostgreSQL restarted", restart_postgres, random=True),
    Scenario("postgres_gone", "PostgreSQL killed; back after 30 s", lose_server("postgres", 30), random=True),
    Scenario("redis_gone", "Redis killed; back after 20 s", lose_server("redis", 20), random=True),
    Scenario(
        "api_500", "the API answers 500 for 60 s", lambda trial: trial.answer("http", 60, on="any"), review=OUTAGE
    ),
    Scenario(
        "api_500_polls",
        "the API answers 500 to polls for 60 s",
        lambda trial: trial.answer("http", 60, on="recordInfo"),
        random=True,
    ),
    Scenario(
        "api_502",
        "the edge answers 502 with HTML for 60 s",
        lambda trial: trial.answer("html", 60, on="any"),
        review=OUTAGE,
    ),
    Scenario(
        "api_reset",
        "connections to the API are reset for 60 s",
        lambda trial: trial.fault("api", "reset", 60),
        review=OUTAGE,
    ),
    Scenario(
        "api_refused",
        "nobody listens at the API for 60 s",
        lambda trial: trial.fault("api", "refuse", 60),
        review=OUTAGE,
    ),
    Scenario(
        "api_silent", "the API says nothing for 60 s", lambda trial: trial.fault("api", "silence", 60), review=OUTAGE
    ),
    Scenario(
        "api_drips",
        "one byte a second from the API for 60 s",
        lambda trial: trial.fault("api", "drip", 60),
        review=OUTAGE,
    ),
    Scenario(
        "dns",
        "the API's name cannot be resolved for 60 s",
        forget_name,
        prepare=fake_names,
        review="tasks that start meanwhile may use up their retries: nothing was sent, nothing is charged",
    ),
    Scenario(
        "tasks_cut", "workers cannot reach the API server for 15 s", lambda trial: trial.fault("tasks", "refuse", 15)
    ),
    Scenario(
        "store_gone",
        "the ledger's store refuses for 30 s",
        lambda trial: trial.fault("store", "refuse", 30),
        ledger="s3",
    ),
    Scenario("clock_forward", "a triggerer's clock jumps an hour ahead", jump("+3600"), prepare=fake_time),
    Scenario("clock_back", "a triggerer's clock jumps an hour back", jump("-3600"), prepare=fake_time),
    Scenario(
        "key_rotated",
        "the key is changed, the connection 5 s later",
        rotate_key,
        review="a createTask with the old key is refused: nothing is charged, clear it",
    ),
    Scenario("upgrade", "triggers as earlier releases stored them, after a restart of both triggerers", upgrade),
    Scenario("poisoned", "two trigger rows that no triggerer can load", poison),
    Scenario("disk_full", "the disk of the logs is full for 30 s", fill_logs),
]


def reason_to_skip(scenario: Scenario, has_small_disk: bool) -> str:
    """Why a scenario cannot be played here."""
    if scenario.name == "disk_full" and not has_small_disk:
        return "no file system may be mounted here"
    if scenario.name.startswith("clock") and not FAKETIME.exists():
        return "apt-get install faketime"
    return ""


@contextmanager
def small_disk(size: str = "64m") -> Iterator[Path | None]:
    """A file system of its own for the logs; None where none may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="failures-logs-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


# Secrets


def spellings(secret: str) -> dict[str, str]:
    """A secret in each way in which it may have been written."""
    escaped = "".join(f"\\u{ord(each):04x}" if not each.isalnum() and each not in "-_" else each for each in secret)
    found = {
        "plain": secret,
        "JSON": json.dumps(secret)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(secret))[3:-3],
        "Python": repr(secret)[1:-1],
        r"\u00XX": escaped,
        "percent": quote(secret, safe=""),
        "percent, slashes kept": quote(secret),
        "form": quote_plus(secret),
        "HTML": html.escape(secret),
        "HTML without quotes": html.escape(secret, quote=False),
    }
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret.encode()).decode().rstrip("=")
        found[f"base64, shifted by {shift}"] = encoded[4 if shift else 0 : -1]
    return found


def find_secret(cluster: Cluster, secret: str) -> list[str]:
    """Where the key stands that only the connection may have: places, with the spelling."""
    wanted = {name: text.encode() for name, text in spellings(secret).items()}
    wanted |= {
        f"{name}, lower case": text.lower() for name, text in wanted.items() if name.startswith(("percent", "\\u"))
    }
    found: list[str] = []

    def search(place: str, content: bytes) -> None:
        found.extend(f"{place}: {name}" for name, text in wanted.items() if text in content)

    folders = [cluster.airflow.home, Path(cluster.airflow.env["AIRFLOW__LOGGING__BASE_LOG_FOLDER"]), cluster.folder]
    for file in [file for folder in folders for file in folder.rglob("*") if file.is_file()]:
        with suppress(OSError):
            search(str(file), file.read_bytes())
    dump = cluster.postgres.dump().encode()
    search("database", dump)
    search("database, backslashes as stored", dump.replace(rb"\\", b"\\"))  # pg_dump writes two for one
    for process in psutil.process_iter():
        with suppress(OSError):
            search(f"arguments of {process.pid}", Path(f"/proc/{process.pid}/cmdline").read_bytes())
    for path, content in shown_by_the_server(cluster):
        search(path, content)
    return found


def shown_by_the_server(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    """What a reader's browser gets: the pages, what they ask for, and Airflow's own answers."""
    runs = cluster.airflow.api("GET", "dags/~/dagRuns?limit=100")["dag_runs"]
    paths = ["/gallery", "/video", "/spending", "/runs", "/ledger?days=7"]
    paths += [f"/records/{run['dag_id']}?{urlencode({'run_id': run['dag_run_id']})}" for run in runs]
    with requests.Session() as reader:
        token = reader.get(f"{cluster.airflow.url}/auth/token", timeout=60).json()["access_token"]
        reader.headers["Authorization"] = f"Bearer {token}"
        for path in paths:
            answer = reader.get(cluster.airflow.url + PAGES_PATH + path, timeout=60)
            answer.raise_for_status()
            yield path, answer.content
    for path in ("connections", "dags/~/dagRuns/~/taskInstances?limit=100", "eventLogs?limit=100"):
        yield path, json.dumps(cluster.airflow.api("GET", path)).encode()


def what_the_search_misses(cluster: Cluster, secret: str) -> list[str]:
    """Places and spellings in which a secret that was put there on purpose is not found."""
    run = cluster.airflow.api("GET", "dags/~/dagRuns?limit=1")["dag_runs"][0]
    note = f"dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'], safe='')}"
    file = Path(cluster.airflow.env["AIRFLOW__LOGGING__BASE_LOG_FOLDER"]) / "planted.log"
    forms = spellings(secret)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", secret])
    try:
        file.write_text("\n".join(forms.values()))
        cluster.airflow.api("PATCH", note, json={"note": secret})
        found = find_secret(cluster, secret)
    finally:
        process.kill()
        process.wait()
        file.unlink(missing_ok=True)
    wanted = [f"{file}: {name}" for name in forms]
    wanted += [f"{place}: plain" for place in ("database, backslashes as stored", f"arguments of {process.pid}")]
    return [place for place in wanted if place not in found]


# The command


def play(scenarios: list[Scenario], options: argparse.Namespace) -> list[Row]:
    """Play scenarios, those of one kind of ledger on one cluster."""
    rows: dict[str, Row] = {}
    kinds: list[LedgerKind] = ["disk", "s3"]
    for kind in kinds:
        chosen = [scenario for scenario in scenarios if scenario.ledger == kind]
        if chosen:
            with running_cluster(kind, scenarios, options) as (cluster, folder, has_small_disk):
                for scenario in chosen:
                    row = Row(scenario.name, scenario.what, scenario.review)
                    if skipped := reason_to_skip(scenario, has_small_disk):
                        row.skipped = skipped
                    else:
                        row = play_one(cluster, scenario, options.videos, folder)
                    rows[scenario.name] = row
                    if options.table:
                        options.table.write_text(json.dumps([asdict(each) for each in rows.values()], indent=1))
                if options.secrets:
                    rows[f"secrets_{kind}"] = secrets_row(cluster, kind)
    return [*rows.values()]


def play_one(cluster: Cluster, scenario: Scenario, videos: int, folder: Path) -> Row:
    trial = Trial(cluster, scenario, videos, folder)
    try:
        return trial.play()
    except (LocalAirflowError, requests.RequestException, subprocess.SubprocessError, AssertionError) as error:
        say(f"{scenario.name}: {error}")
        trial.row.wanted = trial.row.wanted or videos
        trial.row.problems.append(f"{type(error).__name__}: {str(error)[:300]}")
        return trial.row


def secrets_row(cluster: Cluster, kind: str) -> Row:
    """The search for the key, as a row that is wanted to find nothing."""
    row = Row(f"secrets_{kind}", "the key in no log, table, XCom, ledger file, page or process argument", "")
    row.problems = find_secret(cluster, MARK)
    row.problems += [f"the search misses {place}" for place in what_the_search_misses(cluster, MARK[::-1])]
    say(f"secrets: {row.problems or 'nothing found'}")
    return row


def soak(options: argparse.Namespace) -> list[Row]:
    """Random scenarios, one after the other, while runs follow each other."""
    chance = random.Random(options.seed)
    review = "a worker may die between createTask and its answer"
    scenario = Scenario(
        "soak", f"random faults for {options.soak:g} minutes, seed {options.seed}", lambda _t: None, review=review
    )
    acts = {each.name: each.act for each in SCENARIOS if each.random}
    acts["worker_killed"] = lambda trial: trial.kill(chance.choice(trial.airflow.names(WORKER)))
    done: Counter[str] = Counter()
    with running_cluster("disk", [scenario], options) as (cluster, folder, _):
        trial = Trial(cluster, scenario, options.videos, folder)
        trial._open_account()
        until = time.monotonic() + options.soak * 60
        began = time.monotonic()
        while time.monotonic() < until:
            trial.look()
            if sum(task["state"] not in ENDED for task in trial.tasks) < options.videos // 2:
                with suppress(LocalAirflowError, requests.RequestException):
                    trial.trigger()
            trial.wait(chance.uniform(5, 20))
            name = chance.choice([*acts])
            say(f"soak: {name}")
            acts[name](trial)
            done[name] += 1
        say("no more faults")
        trial.settle()
        trial.row.seconds = round(time.monotonic() - began, 1)
        trial.row.what += ": " + ", ".join(f"{count} x {name}" for name, count in done.most_common())
        rows = [trial.sum_up()]
        if options.secrets:
            rows.append(secrets_row(cluster, "soak"))
        return rows


@contextmanager
def running_cluster(
    kind: LedgerKind, scenarios: list[Scenario], options: argparse.Namespace
) -> Iterator[tuple[Cluster, Path, bool]]:
    """The cluster with a DAG for each scenario; the folder of the DAGs; whether its logs have a disk of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failures-")))
        dags = folder / "dags"
        dags.mkdir()
        plan = {"videos": options.videos, "retries": 20, "dags": {each.name: dict(each.operator) for each in scenarios}}
        (dags / "plan.json").write_text(json.dumps(plan))
        (dags / "failures.py").write_text(DAG_FILE)
        disk = stack.enter_context(small_disk())
        env = {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(disk or folder / "logs")}
        cluster = Cluster(
            dags,
            ledger=kind,
            env=env,
            say=say,
            keep_home=options.keep_home,
            waiting_seconds=1,
            generating_seconds=VIDEO_SECONDS,
        )
        stack.enter_context(cluster)
        yield cluster, dags, disk is not None


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| Scenario | Wanted | Made | Billed | Lost | Retries | Reviewed | Recovery | As wanted |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|:--|",
    ]
    for row in rows:
        if row.skipped:
            lines.append(f"| {row.what} | | | | | | | | skipped: {row.skipped} |")
            continue
        recovery = "" if row.recovery_seconds is None else f"{row.recovery_seconds:.0f} s"
        numbers: list[Any] = [row.wanted, row.made, row.billed, row.lost, row.retries, row.reviewed, recovery]
        word = "yes" if row.is_as_wanted else "**no**: " + "; ".join(row.problems or ["the sums"])
        lines.append(f"| {row.what} | " + " | ".join(map(str, numbers)) + f" | {word} |")
    return "\n".join(lines)


def write_docs(rows: list[Row], soaked: list[Row], version: str) -> None:
    """Replace what stands between the marks of docs/failures.md."""
    text = DOCS.read_text()
    played, secret = (
        [row for row in rows if not row.name.startswith("secrets")],
        [r for r in rows if r.name.startswith("secrets")],
    )
    if played:
        why = [f"- {row.what}: {row.review}." for row in played if row.review and row.reviewed]
        videos = "/".join(str(count) for count in sorted({row.wanted for row in played if not row.skipped}))
        body = f"Measured on {today()} with Airflow {version}, {videos} videos in each row.\n\n{table(played)}"
        names = {row.name for row in played}
        if left := [each.what for each in SCENARIOS if each.name not in names]:
            body += "\n\nNot run yet:\n\n" + "\n".join(f"- {what}" for what in left)
        if secret:
            found = sum(len(row.problems) for row in secret)
            body += f"\n\nAfterwards the key was found in {found} places outside the connection."
        if why:
            body += "\n\nWhere a person was needed:\n\n" + "\n".join(why)
        text = _between(text, "scenarios", body)
    if soaked:
        body = f"Measured on {today()} with Airflow {version}.\n\n{table(soaked[:1])}"
        text = _between(text, "soak", body)
    DOCS.write_text(text)


def today() -> str:
    return datetime.now().astimezone().date().isoformat()


def _between(text: str, mark: str, body: str) -> str:
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end of {mark} -->)", re.DOTALL)
    assert pattern.search(text), f"{DOCS} has no mark {mark!r}"
    return pattern.sub(lambda found: f"{found[1]}{body}\n{found[2]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [each.name for each in SCENARIOS]
    parser.add_argument("--scenario", choices=names, action="append", metavar="NAME", help=", ".join(names))
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_VIDEOS} videos each")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="random scenarios for so long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--table", type=Path, metavar="FILE", help="keep the rows so far in a file, as JSON")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="write the docs from such files")
    parser.add_argument("--no-secrets", dest="secrets", action="store_false", help="no search for the key afterwards")
    parser.add_argument("--keep-home", action="store_true", help="leave Airflow's home on disk")
    options = parser.parse_args()
    from importlib.metadata import version

    airflow = version("apache-airflow")
    if options.merge:
        every = {row["name"]: Row(**row) for file in options.merge for row in json.loads(file.read_text())}
        order = {name: number for number, name in enumerate(names)}
        rows = sorted(every.values(), key=lambda row: order.get(row.name, len(order)))
        soaked = [row for row in rows if row.name == "soak"]
        write_docs([row for row in rows if row.name != "soak"], soaked, airflow)
        return 0 if all(row.is_as_wanted for row in rows) else 1
    if options.quick:
        options.videos = QUICK_VIDEOS
    if missing := install_missing(say):
        parser.error(f"not here: {', '.join(missing)}; apt-get install {' '.join(missing)}")
    if missing_modules():
        parser.error("Celery or a driver is missing: python3 devtools/setup_venv.py cluster")
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    scenarios = [each for each in SCENARIOS if not options.scenario or each.name in options.scenario]
    rows = soak(options) if options.soak else play(scenarios, options)
    if options.json:
        print(json.dumps([asdict(row) | {"lost": row.lost, "as_wanted": row.is_as_wanted} for row in rows], indent=1))
    else:
        print(table(rows))
    if options.table:
        options.table.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if not options.quick and not options.scenario:
        write_docs([] if options.soak else rows, rows if options.soak else [], airflow)
    return 0 if all(row.is_as_wanted for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
