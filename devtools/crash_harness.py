"""Kill -9 a real Airflow at every point of a submission, and count what that costs.

    python devtools/crash_harness.py                                  # every point, both submit policies, user actions
    python devtools/crash_harness.py --policy safe --point reply --point id_stored

Airflow 3.3 (scheduler, LocalExecutor, triggerer, API server, DAG processor) runs against the emulator. Each case is a
DAG with an account and a connection of its own, so its POSTs and its bill are its own. At the named point of the first
try the task process writes down that it got there and sends SIGKILL to its supervisor (the executor's worker) and to
itself, as when a machine is lost; the scheduler notices the missing heartbeat and starts the next try. The points are
put into the task process by a ``pre_execute`` of the DAGs below; the provider knows nothing of them.

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
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from local_airflow import LocalAirflow

    from seedance_provider.testing import Emulator

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
}
#: A retry cannot tell these apart: it finds an intent without an id.
UNDECIDABLE = ("after_intent", "request_sent", "reply")
ACTIONS = {
    "clear_finished": "a finished task is cleared",
    "clear_deferred": "a deferred task is cleared",
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
}
ENDED = ("success", "failed", "upstream_failed")
PENDING_SECONDS = 15  # how long the emulator keeps a reply back: the kill comes as soon as the task is on the bill
SETTLE_SECONDS = 10  # see _end_videos
SHORT_SECONDS = 20  # for the video whose end is not waited for with the others
LONG_SECONDS = 1_000_000  # until the harness turns the emulator's clock
TIMEOUT = 600  # for one DAG run on a busy machine

BEGAN = time.monotonic()


@dataclass(frozen=True)
class Case:
    """One DAG: one wanted video, or two where a user wants another.

    :param name: The DAG's id, and the account's and the connection's.
    :param point: Where the first try is killed, a key of `POINTS`; or a key of `ACTIONS`.
    :param way: ``generate``, or ``create`` for SeedanceCreateTaskOperator and a sensor.
    """

    name: str
    point: str
    way: str = "generate"
    policy: str = "safe"

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
        own = self.point if self.point in POINTS and self.point != "deferred" else None
        return KILL_POINTS.get(self.point, own)

    @property
    def retries(self) -> int:
        return 0 if self.point in ("clear_failed", "clear_unknown", "clear_reviewed") else 2

    @property
    def clears(self) -> tuple[str, ...]:
        """The states of the task in which a user clears it, one after the other."""
        return {
            "clear_finished": ("success",),
            "success_taken": ("success",),
            "clear_deferred": ("deferred",),
            "clear_running": ("running",),
            "clear_failed": ("failed",),
            "clear_unknown": ("failed",),
            "clear_reviewed": ("failed", "failed"),
        }.get(self.point, ())

    @property
    def waiting_state(self) -> str:
        return "running" if self.point == "clear_running" else "deferred"

    @property
    def prompt(self) -> str:
        words = ["A lighthouse for", self.name]  # a directive counts once for each prompt
        if self.point in ("changed_inputs", "changed_unknown"):
            words.append("take {{ ti.try_number }}")
        if self.kill_point == "request_sent":
            words.append(f"[[createTask:slow:seconds={PENDING_SECONDS}:accept=true]]")
        if "success" not in self.clears:
            words.append(f"[[generating:{LONG_SECONDS}]]")
        return " ".join(words)

    @property
    def expected(self) -> tuple[str, int, int]:
        """State, wanted videos, bills."""
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
        was_killed_where_it_should = self.killed == (self.case.kill_point is not None or self.case.point == "deferred")
        return was_killed_where_it_should and (self.state, self.bills) == (state, bills)

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
                    deferrable=case.point != "clear_running",
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
            return lambda receipts, receipt: (dying(save) if receipt.stage is stage else save)(receipts, receipt)

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


def all_cases(policies: list[str], points: list[str], ways: list[str]) -> list[Case]:
    crashes = [
        Case(f"{way}_{policy}_{point}", point, way, policy)
        for point in points
        if point in POINTS
        for way in ways
        if way == "generate" or point != "end_stored"  # a sensor stores nothing
        for policy in policies
    ]
    return crashes + [Case(f"user_{point}", point) for point in points if point in ACTIONS]


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
        # The triggerer is killed while only those wait that should: the others come first.
        with_triggerer = [case for case in cases if case.point == "deferred"]
        results = self._start([case for case in cases if case.point != "deferred"])
        for result in results:
            if result.case.clears or result.case.point == "mark_failed":
                self._act(result)
        self._finish(results)
        if with_triggerer:
            late = self._start(with_triggerer)
            self._restart_triggerer(late)
            self._finish(late)
            results += late
        self._count(results)
        return sorted(results, key=lambda result: cases.index(result.case))

    def _start(self, cases: list[Case]) -> list[Result]:
        results = [Result(case, self.airflow.trigger_dag(case.name)) for case in cases]
        say(f"{len(results)} DAG runs started")
        return results

    def _act(self, result: Result) -> None:
        """Do what a user would, at the right moments."""
        case, run_id = result.case, result.run_id
        if case.point == "mark_failed":
            self._until_watched(result)
            task = f"dags/{case.name}/dagRuns/{run_id}/taskInstances/{case.last_task}"
            self.airflow.api("PATCH", task, json={"new_state": "failed"})
        for number, state in enumerate(case.clears):
            if state == case.waiting_state:
                self._until_watched(result)
            else:
                # The run as well: the scheduler may end one that was cleared at the same moment, and leave the task.
                self.airflow.wait_for_run(case.name, run_id, timeout=TIMEOUT)
                self._until(partial(self._has_ended, result, state, number + 1), f"{case.name} has ended: {state}")
            body = {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": [case.killed_task],
                "only_failed": False,
                "include_downstream": True,
            }
            self.airflow.api("POST", f"dags/{case.name}/clearTaskInstances", json=body)
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

    def _restart_triggerer(self, results: list[Result]) -> None:
        for result in results:
            self._until_watched(result)
        self.airflow.kill("triggerer")
        say("triggerer killed")
        for result in results:
            state = self.airflow.task_state(result.case.name, result.run_id, result.case.last_task)
            result.killed = state == "deferred"
        self.airflow.start_process("triggerer")

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
        return bool(last["state"] == case.waiting_state and last["try_number"] > len(case.clears))

    def _finish(self, results: list[Result]) -> None:
        self._end_videos(results)
        for result in results:
            case = result.case
            self.airflow.wait_for_run(case.name, result.run_id, timeout=TIMEOUT)
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
        lines = []
        for number in range(1, task["try_number"] + 1):
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
def harness(cases: list[Case], *, keep_home: bool = False) -> Iterator[Harness]:
    """Airflow with a DAG for each case, and the emulator."""
    from local_airflow import LocalAirflow

    from seedance_provider.testing import Emulator

    with tempfile.TemporaryDirectory(prefix="crash-harness-") as name:
        marks, dags = Path(name) / "marks", Path(name) / "dags"
        marks.mkdir()
        dags.mkdir()
        clock = Clock()
        with (
            Emulator(
                waiting_seconds=1, generating_seconds=SHORT_SECONDS, concurrency_limit=None, clock=clock
            ) as emulator,
            LocalAirflow(dags, env=ENVIRONMENT, say=say, keep_home=keep_home, split_api=True) as airflow,
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
    """A line of a task log without its time; of an error's details only class and text."""
    text, _, details = line.partition(" ")[2].partition(" [{")
    if not details:
        return text
    error = json.loads("[{" + details)[0]
    return f"{error['exc_type']}: {error['exc_value']}"


def print_tables(results: list[Result]) -> None:
    crashes = [result for result in results if result.case.point in POINTS]
    actions = [result for result in results if result.case.point in ACTIONS]
    if crashes:
        print("| Killed | Way | Policy | Wanted | POSTs | Bills | Task | Tries | Decidable |")
        print("|:--|:--|:--|--:|--:|--:|:--|--:|:--|")
    for result in crashes:
        case = result.case
        cells = [POINTS[case.point], "generate" if case.way == "generate" else "create, sensor", case.policy]
        print(_row(cells, result, "no" if case.point in UNDECIDABLE else "yes"))
    if actions:
        print("\n| What happens | Wanted | POSTs | Bills | Task | Tries |\n|:--|--:|--:|--:|:--|--:|")
    for result in actions:
        print(_row([ACTIONS[result.case.point]], result))
    print("\nWhat the task logs say:\n")
    for result in results:
        for line in result.lines:
            print(f"- {result.case.name}: {line}")


def _row(cells: list[str], result: Result, *more: str) -> str:
    wanted = result.case.expected[1]
    state = result.state if result.is_as_expected else f"**{result.state}, not as expected**"
    numbers = [str(wanted), str(result.posts), str(result.bills), state, str(result.tries)]
    return "| " + " | ".join([*cells, *numbers, *more]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", choices=POLICIES, action="append", help="may be repeated; default: both")
    parser.add_argument("--point", choices=[*POINTS, *ACTIONS], action="append", help="may be repeated; default: all")
    parser.add_argument("--way", choices=WAYS, action="append", help="may be repeated; default: both")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of tables")
    parser.add_argument("--keep-home", action="store_true", help="leave Airflow's logs and database on disk")
    options = parser.parse_args()
    cases = all_cases(options.policy or [*POLICIES], options.point or [*POINTS, *ACTIONS], options.way or [*WAYS])
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"Airflow {version('apache-airflow')}, {len(cases)} cases")
    with harness(cases, keep_home=options.keep_home) as running:
        results = running.run(cases)
    if options.json:
        print(json.dumps([result.to_json() for result in results], indent=1))
    else:
        print_tables(results)
    return 0 if all(result.is_as_expected for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
