"""Kill -9 a real Airflow at every point of a submission, and count what that costs.

    python devtools/crash_harness.py                                  # every point, both submit policies, user actions
    python devtools/crash_harness.py --policy safe --point reply --point id_stored
    python devtools/crash_harness.py --ledger --airflow 2.11 --json > 2.11.json     # another Airflow, with a ledger
    python devtools/crash_harness.py --merge *.json                                 # one table of several

A real Airflow (scheduler, LocalExecutor, triggerer, API server, DAG processor) runs against the emulator. Each case is
a DAG with an account and a connection of its own, so its POSTs and its bill are its own. At the named point of the
first try the task process writes down that it got there and sends SIGKILL to its supervisor (the executor's worker) and
to itself, as when a machine is lost; the scheduler notices the missing heartbeat and starts the next try. The points
are put into the task process by a ``pre_execute`` of the DAGs below; the provider knows nothing of them. Triggerer and
scheduler (with its workers and tasks) are killed from outside.

Ends with 1 if a case ends otherwise than the table in this file says.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from local_airflow import LocalAirflow

    from seedance_provider.testing import Emulator

ROOT = Path(__file__).resolve().parent.parent
POLICIES = ("vendor", "safe")
WAYS = ("generate", "create")
POINTS = {
    "before_intent": "before the POST, the intent not stored",
    "after_intent": "before the POST, the intent stored",
    "request_sent": "the request sent and accepted, the reply pending",
    "reply": "the reply there, the id not stored",
    "id_stored": "the id stored, not yet deferred",
    "deferred": "deferred: the triggerer killed and started again",
    "resuming": "the event read, in execute_complete",
    "end_stored": "the end stored, the task not yet a success",
    "success_taken": "Airflow took the success, the delivery not stored; then a clear",
    "delivered": "the delivery stored",
    "scheduler_submitting": "the scheduler killed during createTask, retries=0",
    "scheduler_waiting": "the scheduler killed while the task waits on its worker, retries=0",
}
#: A retry cannot tell these apart: it finds an intent without an id.
UNDECIDABLE = ("after_intent", "request_sent", "reply", "scheduler_submitting")
#: What is killed from outside.
OUTSIDE = {"deferred": "triggerer", "scheduler_submitting": "scheduler", "scheduler_waiting": "scheduler"}
ACTIONS = {
    "clear_finished": "a finished task is cleared",
    "clear_deferred": "a deferred task is cleared",
    "clear_keeping": "a deferred task is cleared with keep_task_state",
    "clear_running": "a task that waits on the worker is cleared",
    "mark_failed": "a deferred task is marked failed",
    "changed_inputs": "killed with the id stored; the retry renders other inputs",
    "changed_unknown": "killed with the request accepted; the retry renders other inputs",
    "clear_failed": "killed with the id stored, no retries; then a clear",
    "clear_unknown": "killed with the request accepted, no retries; then a clear",
    "clear_reviewed": "the same, then another clear, after manual review",
}
#: Where the task process kills itself, if that is not the point itself.
KILL_POINTS = {
    "changed_inputs": "id_stored",
    "changed_unknown": "request_sent",
    "clear_failed": "id_stored",
    "clear_unknown": "request_sent",
    "clear_reviewed": "request_sent",
}
#: Lines of a task's log that tell the story of a case.
TELLING = (
    "Continuing with the task",
    "outcome is unknown",
    "Cleared after",
    "is delivered again",
    "inputs have changed",
    "cannot be cancelled",
)
# A lost worker is noticed by its missing heartbeats: after five minutes by default, here after seconds. A triggerer
# that misses its own leaves its triggers to the next one.
ENVIRONMENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    # The names of Airflow 2, which takes a retry from a lost task each time it finds it, until that is noted.
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "20",
    "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "2",
}
# A scheduler that takes the place of another resets its tasks when that one's heartbeat is 30 s old, long before theirs
# would be missed. Here the order is the same. Not much less than 30 s: a scheduler that was late itself on a busy
# machine counts as dead from then on, and its tasks are reset again and again.
REPLACING_A_SCHEDULER = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "300",
}
ENDED = ("success", "failed", "upstream_failed")
RETRIES = 5  # more than one, which would do, for a machine so busy that a worker counts as lost by mistake
PENDING_SECONDS = 15  # how long the emulator keeps a reply back: the kill comes as soon as the task is on the bill
ALL_PENDING_SECONDS = 45  # the same, for a kill that comes when several are
SETTLE_SECONDS = 10  # see _end_videos
SHORT_SECONDS = 20  # for the video whose end is not waited for with the others
LONG_SECONDS = 1_000_000  # until the harness turns the emulator's clock
TIMEOUT = 600  # for one DAG run on a busy machine
ZOMBIE_SECONDS = 20
"""Airflow 2.11 may find a zombie twice, and the second time fail a task that was cleared after the first."""

Ground = tuple[str, bool]
"""A version of Airflow, and whether there was a ledger."""

BEGAN = time.monotonic()


@dataclass(frozen=True)
class Case:
    """One DAG: one wanted video, or two where a user wants another.

    :param name: The DAG's id, and the account's and the connection's.
    :param point: Where the first try is killed, a key of `POINTS`; or a key of `ACTIONS`.
    :param way: ``generate``, or ``create`` for SeedanceCreateTaskOperator and a sensor.
    :param airflow: The version that runs it.
    :param ledger: Whether there is a ledger. Without one Airflow remembers, from 3.3.
    """

    name: str
    point: str
    way: str = "generate"
    policy: str = "safe"
    airflow: str = "3.3"
    ledger: bool = False

    @property
    def line(self) -> tuple[int, ...]:
        """Of Airflow, such as (3, 3)."""
        return tuple(map(int, self.airflow.split(".")[:2]))

    @property
    def remembers(self) -> bool:
        return self.ledger or self.line >= (3, 3)

    @property
    def is_forgotten_by_a_clear(self) -> bool:
        return self.line >= (3, 4) and not self.ledger

    @property
    def exists(self) -> bool:
        """Whether there is such a case on that Airflow."""
        if self.way == "create" and self.point in ("end_stored", "scheduler_waiting"):
            return False  # a sensor stores nothing and submits nothing
        if self.point == "end_stored":
            return not self.ledger  # there the delivery tells of the end
        if self.point == "clear_running" and self.line in ((2, 11), (3, 0), (3, 4)):
            # 2.11 loses the clear on SQLite, 3.0 leaves the task restarting for ever, and 3.4.0b2's scheduler ends.
            return False
        if self.point == "clear_keeping":
            return self.line >= (3, 4)
        return self.point != "clear_reviewed" or not self.is_forgotten_by_a_clear  # it has succeeded by then

    @property
    def last_task(self) -> str:
        return "generate" if self.way == "generate" else "wait"

    @property
    def killed_task(self) -> str:
        """Of create and sensor, the one that is there at the point, and the one that a user clears."""
        return self.last_task if self.point in ("resuming", "deferred") else self.way

    @property
    def kill_point(self) -> str | None:
        """Where the task process kills itself, if it does."""
        own = self.point if self.point in POINTS and self.point not in OUTSIDE else None
        return KILL_POINTS.get(self.point, own)

    @property
    def retries(self) -> int:
        without = ("clear_failed", "clear_unknown", "clear_reviewed", "scheduler_submitting", "scheduler_waiting")
        return 0 if self.point in without else RETRIES

    @property
    def clears(self) -> tuple[str, ...]:
        """The states of the task in which a user clears it, one after the other."""
        if self.point == "success_taken" and self.line < (3, 0):
            return ()  # Airflow 2 calls back before it takes the success: the kill leads to a retry
        return {
            "clear_finished": ("success",),
            "success_taken": ("success",),
            "clear_deferred": ("deferred",),
            "clear_keeping": ("deferred",),
            "clear_running": ("running",),
            "clear_failed": ("failed",),
            "clear_unknown": ("failed",),
            "clear_reviewed": ("failed", "failed"),
        }.get(self.point, ())

    @property
    def waiting_state(self) -> str:
        return "running" if self.point in ("clear_running", "scheduler_waiting") else "deferred"

    @property
    def tries_before_the_wait(self) -> int:
        """Of the last task: those that end before the videos do."""
        return 1 if self.point == "scheduler_waiting" else len(self.clears)

    @property
    def prompt(self) -> str:
        words = ["A lighthouse for", self.name]  # a directive counts once for each prompt
        if self.point in ("changed_inputs", "changed_unknown"):
            words.append("take {{ ti.try_number }}")
        if self.kill_point == "request_sent":
            words.append(f"[[createTask:slow:seconds={PENDING_SECONDS}:accept=true]]")
        if self.point == "scheduler_submitting":
            words.append(f"[[createTask:slow:seconds={ALL_PENDING_SECONDS}:accept=true]]")
        if "success" not in self.clears:
            words.append(f"[[generating:{LONG_SECONDS}]]")
        return " ".join(words)

    @property
    def expected(self) -> tuple[str, int, int]:
        """State, wanted videos, bills."""
        forgetting = ("clear_deferred", "clear_running", "clear_failed", "clear_unknown", "success_taken")
        if self.is_forgotten_by_a_clear and self.point in forgetting:
            return "success", 1, 2
        if self.point in ("changed_unknown", "clear_unknown"):
            return "failed", 2 if self.point == "changed_unknown" else 1, 1
        if self.point in ACTIONS:
            wanted = 2 if self.point in ("clear_finished", "changed_inputs", "clear_reviewed") else 1
            return "failed" if self.point == "mark_failed" else "success", wanted, wanted
        if self.point not in UNDECIDABLE:
            return "success", 1, 1
        charged = 0 if self.point == "after_intent" else 1
        return ("success", 1, charged + 1) if self.policy == "vendor" else ("failed", 1, charged)


@dataclass
class Result:
    """How a case ended."""

    case: Case
    run_id: str
    killed: bool = False
    state: str = ""
    tries: int = 0
    posts: int = 0
    bills: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def is_as_expected(self) -> bool:
        state, _, bills = self.case.expected
        was_killed_where_it_should = self.killed == (self.case.kill_point is not None or self.case.point in OUTSIDE)
        return was_killed_where_it_should and (self.state, self.bills) == (state, bills)

    @classmethod
    def from_json(cls, payload: dict[str, Any]) -> Self:
        members = {name: value for name, value in payload.items() if name not in ("expected", "as_expected")}
        return cls(**members | {"case": Case(**payload["case"])})

    def to_json(self) -> dict[str, Any]:
        state, wanted, bills = self.case.expected
        expected = {"state": state, "wanted": wanted, "bills": bills}
        return asdict(self) | {"expected": expected, "as_expected": self.is_as_expected}


# In Airflow's processes.


def make_dags(plan_file: str) -> dict[str, Any]:
    """The DAGs of a plan, by id: what the generated DAG file puts into its globals."""
    from airflow.providers.common.compat.sdk import DAG

    from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
    from seedance_provider.sensors.seedance import SeedanceTaskSensor

    plan = json.loads(Path(plan_file).read_text())
    dags: dict[str, Any] = {}
    for case in (Case(**fields) for fields in plan["cases"]):
        die = partial(_die, Path(plan_file).with_name(case.name), case.point)
        arm = partial(_arm, case, die, plan["emulator"])
        submitting: dict[str, Any] = {
            "model": "seedance2-fast",
            "inputs": {"prompt": case.prompt, "duration": 5},
            "submit_policy": case.policy,
            "seedance_conn_id": case.name,
        }
        with DAG(case.name, schedule=None, default_args={"retries": case.retries, "retry_delay": 1}) as dag:
            if case.way == "generate":
                SeedanceGenerateVideoOperator(
                    task_id="generate",
                    poll_interval=1,
                    deferrable=case.waiting_state == "deferred",
                    pre_execute=arm,
                    **submitting,
                )
            else:
                create: Any = SeedanceCreateTaskOperator(task_id="create", pre_execute=arm, **submitting)
                SeedanceTaskSensor(
                    task_id="wait",
                    seedance_task_id=create.output,
                    seedance_conn_id=case.name,
                    poll_interval=1,
                    pre_execute=arm,
                )
        dags[case.name] = dag
    return dags


def _die(mark: Path, point: str) -> NoReturn:
    """End like a lost machine: nobody is told, nothing is flushed."""
    mark.write_text(point)
    os.kill(os.getppid(), signal.SIGKILL)  # the supervisor: without this it would report the end of the task at once
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _arm(case: Case, die: Callable[[], NoReturn], emulator_url: str, context: Any) -> None:
    """Put the point into this process; runs before every execute and execute_complete."""
    ti = context["ti"]
    if ti.try_number != 1 or ti.task_id != case.killed_task or case.kill_point is None:
        return

    from seedance_provider.execution import wait
    from seedance_provider.execution.memory import Receipts
    from seedance_provider.execution.receipts import Stage
    from seedance_provider.hooks.seedance import SeedanceHook

    def dying_before(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *_args, **_kwargs: die()

    def dying_after(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> NoReturn:
            function(*args, **kwargs)
            die()

        return call

    def dying_meanwhile(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            threading.Thread(target=_die_when_billed, args=(case, die, emulator_url), daemon=True).start()
            return function(*args, **kwargs)

        return call

    def saving(stage: Stage, dying: Callable[..., Any]) -> Callable[..., Any]:
        def patched(save: Callable[..., Any]) -> Callable[..., Any]:
            def call(receipts: Any, receipt: Any, **more: Any) -> Any:
                return (dying(save) if receipt.stage is stage else save)(receipts, receipt, **more)

            return call

        return patched

    owner: Any
    owner, name, patched = {
        "before_intent": (Receipts, "save", saving(Stage.INTENT, dying_before)),
        "after_intent": (Receipts, "save", saving(Stage.INTENT, dying_after)),
        "request_sent": (SeedanceHook, "create_task", dying_meanwhile),
        "reply": (Receipts, "save", saving(Stage.SUBMITTED, dying_before)),
        "id_stored": (Receipts, "save", saving(Stage.SUBMITTED, dying_after)),
        "resuming": (wait, "outcome", dying_after),
        "end_stored": (Receipts, "save", saving(Stage.ENDED, dying_after)),
        "success_taken": (Receipts, "save", saving(Stage.DELIVERED, dying_before)),
        "delivered": (Receipts, "save", saving(Stage.DELIVERED, dying_after)),
    }[case.kill_point]
    setattr(owner, name, patched(getattr(owner, name)))


def _die_when_billed(case: Case, die: Callable[[], NoReturn], emulator_url: str) -> None:
    while True:
        with urllib.request.urlopen(f"{emulator_url}/_admin/bill") as answer:
            if json.load(answer)["accounts"][case.name]["tasks_created"]:
                die()
        time.sleep(0.05)


# In the harness's process.


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {line}", file=sys.stderr, flush=True)


def all_cases(
    policies: list[str], points: list[str], ways: list[str], airflow: str, *, ledger: bool = False
) -> list[Case]:
    crashes = [
        Case(f"{way}_{policy}_{point}", point, way, policy, airflow, ledger)
        for point in points
        if point in POINTS
        for way in ways
        for policy in policies
    ]
    actions = [Case(f"user_{point}", point, airflow=airflow, ledger=ledger) for point in points if point in ACTIONS]
    return [case for case in crashes + actions if case.exists]


class Clock:
    """The emulator's: turned forward, it ends every video that runs."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def turn(self) -> None:
        self.ahead += 2 * LONG_SECONDS


class Harness:
    """A running Airflow, its emulator, and the cases on them."""

    def __init__(self, airflow: LocalAirflow, emulator: Emulator, clock: Clock, marks: Path) -> None:
        self.airflow = airflow
        self.emulator = emulator
        self.clock = clock
        self.marks = marks

    def run(self, cases: list[Case]) -> list[Result]:
        """Run all cases, as many at once as Airflow does."""
        for case in cases:
            key = f"key-of-{case.name}"
            self.emulator.put_account(name=case.name, key=key)
            self.airflow.add_connection(
                case.name, {"conn_type": "seedance", "host": self.emulator.url, "password": key}
            )
        # Triggerer and scheduler are killed while only those run that should: the others come first.
        results = self._start([case for case in cases if case.point not in OUTSIDE])
        for result in results:
            if result.case.clears or result.case.point == "mark_failed":
                self._act(result)
        self._finish(results)
        for point, component in OUTSIDE.items():
            if late := self._start([case for case in cases if case.point == point]):
                self._replace(component, late)
                self._finish(late)
                results += late
        self._count(results)
        return sorted(results, key=lambda result: cases.index(result.case))

    def _start(self, cases: list[Case]) -> list[Result]:
        results = [Result(case, self.airflow.trigger_dag(case.name)) for case in cases]
        if results:
            say(f"{len(results)} DAG runs started")
        return results

    def _act(self, result: Result) -> None:
        """Do what a user would, at the right moments."""
        case, run_id = result.case, result.run_id
        if case.point == "mark_failed":
            self._until_watched(result)
            self.airflow.mark_task(case.name, run_id, case.last_task, "failed")
        for number, state in enumerate(case.clears):
            if state == case.waiting_state:
                self._until_watched(result)
            else:
                # The run as well: the scheduler may end one that was cleared at the same moment, and leave the task.
                self.airflow.wait_for_run(case.name, run_id, timeout=TIMEOUT)
                self._until(partial(self._has_ended, result, state, number + 1), f"{case.name} has ended: {state}")
                if state == "failed" and case.line < (3, 0):
                    time.sleep(ZOMBIE_SECONDS)
            keeping = {"keep_task_state": True} if case.point == "clear_keeping" else {}
            self.airflow.clear_task(case.name, run_id, case.killed_task, **keeping)
        say(f"{case.name}: done")

    def _has_ended(self, result: Result, state: str, try_number: int) -> bool:
        """Whether all tasks of a case are in a state, in that try, and what should be killed was."""
        case = result.case
        tasks = {task["task_id"]: task for task in self.airflow.task_instances(case.name, result.run_id)}
        return (
            all(task["state"] == state for task in tasks.values())
            and tasks[case.killed_task]["try_number"] >= try_number
            and (case.kill_point is None or (self.marks / case.name).exists())
        )

    def _until_watched(self, result: Result) -> None:
        """Wait until the video is polled again and again: by the trigger, or by the worker if it must not defer."""
        case = result.case
        states = [case.waiting_state]
        self.airflow.wait_for_task(case.name, result.run_id, case.last_task, states=states, timeout=TIMEOUT)
        # One poll may have been the worker's.
        self._until(lambda: self._calls(case, "recordInfo") >= 3, f"{case.name} is polled")

    def _replace(self, component: str, results: list[Result]) -> None:
        """Kill a component once all cases are where they should be, and start another."""
        states = {"deferred"} if component == "triggerer" else {"running"}
        for result in results:
            case = result.case
            if case.point == "scheduler_submitting":
                self._until(partial(self._is_billed, case), f"{case.name} submits")
            else:
                self._until_watched(result)
        for result in results:
            task = result.case.killed_task
            result.killed = self.airflow.task_state(result.case.name, result.run_id, task) in states
        self.airflow.kill(component)
        say(f"{component} killed")
        if component == "scheduler":
            self.airflow.env |= REPLACING_A_SCHEDULER
        self.airflow.start_process(component)

    def _is_billed(self, case: Case) -> bool:
        return bool(self.emulator.bill()["accounts"][case.name]["tasks_created"])

    def _end_videos(self, results: list[Result]) -> None:
        """End the videos once all are waited for."""
        self._until(lambda: all(map(self._is_waited_for, results)), "all wait for their videos")
        # Airflow takes a task that is resumed before the scheduler has heard of the end of its former execution for one
        # that was killed. No real video is that quick, but a busy machine may be that slow.
        time.sleep(SETTLE_SECONDS)
        self.clock.turn()
        say("the videos end")

    def _is_waited_for(self, result: Result) -> bool:
        case = result.case
        tasks = self.airflow.task_instances(case.name, result.run_id)
        if all(task["state"] in ENDED for task in tasks):
            return True
        last = next(task for task in tasks if task["task_id"] == case.last_task)
        return bool(last["state"] == case.waiting_state and last["try_number"] > case.tries_before_the_wait)

    def _finish(self, results: list[Result]) -> None:
        self._end_videos(results)
        for result in results:
            case = result.case
            self.airflow.wait_for_run(case.name, result.run_id, timeout=TIMEOUT)
            if case.point == "delivered":  # from Airflow 3 on, after the end of the run
                self._until((self.marks / case.name).exists, f"{case.name} is delivered")
            tasks = self.airflow.task_instances(case.name, result.run_id)
            by_name = {task["task_id"]: task for task in tasks}
            result.state = by_name[case.last_task]["state"]
            if result.state == "upstream_failed":
                result.state = by_name[case.killed_task]["state"]
            result.killed |= (self.marks / case.name).exists()
            result.tries = by_name[case.killed_task]["try_number"]
            for task in tasks:
                result.lines += self._telling_lines(result, task)
            say(f"{case.name}: {result.state} in try {result.tries}")

    def _telling_lines(self, result: Result, task: dict[str, Any]) -> list[str]:
        from local_airflow import LocalAirflowError

        lines = []
        for number in range(1, task["try_number"] + 1):
            log = ""
            with suppress(LocalAirflowError):  # Airflow 3.0 keeps none of a try that a scheduler's death ended
                log = self.airflow.task_log(result.case.name, result.run_id, task["task_id"], try_number=number)
            lines += [
                f"{task['task_id']}, try {number}: {_readable(line)}"
                for line in log.splitlines()
                if any(words in line for words in TELLING)
            ]
        return list(dict.fromkeys(lines))

    def _count(self, results: list[Result]) -> None:
        # The emulator logs a request when it has answered it, one whose client is gone included.
        self._until(
            lambda: len(self.emulator.requests("createTask")) >= self.emulator.bill()["tasks_created"], "answers"
        )
        bill = self.emulator.bill()["accounts"]
        for result in results:
            result.posts = self._calls(result.case, "createTask")
            result.bills = bill[result.case.name]["tasks_created"]

    def _calls(self, case: Case, endpoint: str) -> int:
        account = self.emulator.bill()["accounts"][case.name]
        return sum(entry["keySha256"] == account["key_sha256"] for entry in self.emulator.requests(endpoint))

    def _until(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {TIMEOUT} s in vain until {what}")
            time.sleep(0.5)


@contextmanager
def harness(
    cases: list[Case], *, python: str = sys.executable, ledger: bool = False, keep_home: bool = False
) -> Iterator[Harness]:
    """Airflow with a DAG for each case, and the emulator."""
    from local_airflow import LocalAirflow

    from seedance_provider.testing import Emulator

    with tempfile.TemporaryDirectory(prefix="crash-harness-") as name:
        marks, dags = Path(name) / "marks", Path(name) / "dags"
        marks.mkdir()
        dags.mkdir()
        clock = Clock()
        env = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}  # this provider, whichever is installed beside that Airflow
        if ledger:
            env["AIRFLOW__SEEDANCE__LEDGER_PATH"] = f"file://{name}/ledger"
        with (
            Emulator(
                waiting_seconds=1, generating_seconds=SHORT_SECONDS, concurrency_limit=None, clock=clock
            ) as emulator,
            LocalAirflow(dags, env=env, say=say, python=python, keep_home=keep_home, split_api=True) as airflow,
        ):
            plan = marks / "plan.json"
            plan.write_text(json.dumps({"emulator": emulator.url, "cases": [asdict(case) for case in cases]}))
            (dags / "crashes.py").write_text(
                "# The DAGs of the crash harness, for Airflow.\n"
                f"import sys\nsys.path.insert(0, {str(Path(__file__).resolve().parent)!r})\n"
                f"from crash_harness import make_dags\nglobals().update(make_dags({str(plan)!r}))\n"
            )
            if keep_home:
                say(f"AIRFLOW_HOME is {airflow.home}")
            yield Harness(airflow, emulator, clock, marks)


def _readable(line: str) -> str:
    """A line of a task log without its time; of an error only class and text."""
    if line.startswith("seedance_provider."):  # the last line of a traceback, in Airflow 2
        name, _, text = line.partition(": ")
        return f"{name.rpartition('.')[2]}: {text}"
    text, _, details = line.partition(" ")[2].partition(" [{")
    if not details:
        return text
    error = json.loads("[{" + details)[0]
    return f"{error['exc_type']}: {error['exc_value']}"


def print_tables(results: list[Result]) -> None:
    """One table of crashes and one of actions; where several versions ran, equal rows are one."""
    grounds = list(dict.fromkeys((result.case.airflow, result.case.ledger) for result in results))
    for points, head in ((POINTS, ["Killed", "Way", "Policy"]), (ACTIONS, ["What happens"])):
        chosen = [result for result in results if result.case.point in points]
        if not chosen:
            continue
        names = [*head, *(["Airflow"] if len(grounds) > 1 else []), "Wanted", "POSTs", "Bills", "Task", "Tries"]
        names += ["Decidable"] if points is POINTS else []
        numbers = ("Wanted", "POSTs", "Bills", "Tries")
        print("\n| " + " | ".join(names) + " |")
        print("|" + "|".join("--:" if name in numbers else ":--" for name in names) + "|")
        rows: dict[tuple[str, ...], dict[tuple[str, ...], list[Ground]]] = {}
        for result in sorted(chosen, key=lambda result: _order(result.case)):
            alike = rows.setdefault(_case_cells(result.case), {})
            alike.setdefault(_result_cells(result), []).append((result.case.airflow, result.case.ledger))
        for case_cells, outcomes in rows.items():
            for result_cells, some in outcomes.items():
                on = [_grounds(some, grounds)] if len(grounds) > 1 else []
                print("| " + " | ".join([*case_cells, *on, *result_cells]) + " |")
    if len(grounds) == 1:
        print("\nWhat the task logs say:\n")
        for result in results:
            for line in result.lines:
                print(f"- {result.case.name}: {line}")


def _order(case: Case) -> tuple[int, ...]:
    return [*POINTS, *ACTIONS].index(case.point), WAYS.index(case.way), POLICIES.index(case.policy)


def _case_cells(case: Case) -> tuple[str, ...]:
    if case.point in ACTIONS:
        return (ACTIONS[case.point],)
    return POINTS[case.point], "generate" if case.way == "generate" else "create, sensor", case.policy


def _result_cells(result: Result) -> tuple[str, ...]:
    state = result.state if result.is_as_expected else f"**{result.state}, not as expected**"
    cells = (str(result.case.expected[1]), str(result.posts), str(result.bills), state, str(result.tries))
    if result.case.point in ACTIONS:
        return cells
    return *cells, "no" if result.case.point in UNDECIDABLE else "yes"


def _grounds(some: list[Ground], every: list[Ground]) -> str:
    """Where a case ended alike."""
    if set(some) == set(every):
        return "all"
    if set(some) == {ground for ground in every if ground[1]}:
        return "all with a ledger"
    return ", ".join(airflow if ledger else f"{airflow} without a ledger" for airflow, ledger in some)


def _interpreter(line: str) -> str:
    """The interpreter beside an Airflow of `make test-matrix`, which is installed if it is not there."""
    import test_matrix

    found = next(each for each in test_matrix.LINES if each.name == line)
    python = ROOT / ".cache" / "matrix" / line / "bin" / "python"
    return str(python) if python.exists() else test_matrix.install(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", choices=POLICIES, action="append", help="may be repeated; default: both")
    parser.add_argument("--point", choices=[*POINTS, *ACTIONS], action="append", help="may be repeated; default: all")
    parser.add_argument("--way", choices=WAYS, action="append", help="may be repeated; default: both")
    parser.add_argument("--ledger", action="store_true", help="with a ledger; else Airflow remembers, from 3.3 on")
    parser.add_argument("--airflow", metavar="LINE", help="a line of make test-matrix, such as 2.11")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of another environment with Airflow")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of tables")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="print one table of such results")
    parser.add_argument("--keep-home", action="store_true", help="leave Airflow's logs and database on disk")
    options = parser.parse_args()
    if options.merge:
        results = [Result.from_json(each) for file in options.merge for each in json.loads(file.read_text())]
        print_tables(results)
        return 0 if all(result.is_as_expected for result in results) else 1
    python = _interpreter(options.airflow) if options.airflow else options.python
    from local_airflow import airflow_version

    airflow = airflow_version(python)
    cases = all_cases(
        options.policy or [*POLICIES],
        options.point or [*POINTS, *ACTIONS],
        options.way or [*WAYS],
        airflow,
        ledger=options.ledger,
    )
    if any(not case.remembers and case.point != "scheduler_submitting" for case in cases):
        parser.error(
            f"Airflow {airflow} remembers nothing without --ledger: there is only --point scheduler_submitting"
        )
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"Airflow {airflow}, {'with' if options.ledger else 'without'} a ledger, {len(cases)} cases")
    with harness(cases, python=python, ledger=options.ledger, keep_home=options.keep_home) as running:
        results = running.run(cases)
    if options.json:
        print(json.dumps([result.to_json() for result in results], indent=1))
    else:
        print_tables(results)
    return 0 if all(result.is_as_expected for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
