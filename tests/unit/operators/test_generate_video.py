"""SeedanceGenerateVideoOperator: one wanted video is one createTask, whatever dies in between.

Runs of real DAGs with Airflow's own task state store; what has many cases is driven as Airflow drives it, without one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from seedance_provider.exceptions import (
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.execution import memory, wait
from seedance_provider.execution.memory import Receipts
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from tests.support.airflow import GENERATE, DagOutcome, FakeTaskInstance, StateStore, TaskLog, fire, hurry, run_dag
from tests.support.crashes import CrashError, crash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seedance_provider.execution.receipts import Receipt
    from seedance_provider.testing import Emulator

TRANSIENT = "Service temporarily unavailable. Please try again later."


def remembers() -> bool:
    """Whether this Airflow has a task state store: 3.3 and later."""
    if importlib.util.find_spec("airflow.sdk") is None:
        return False
    from airflow.sdk.execution_time import context

    return hasattr(context, "TaskStateStoreAccessor")


with_store = pytest.mark.skipif(not remembers(), reason="this Airflow has no task state store; 3.3 brought it")
without_store = pytest.mark.skipif(remembers(), reason="this Airflow has a task state store")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    from seedance_provider.triggers.seedance import SeedanceTaskTrigger

    return TaskLog(
        monkeypatch,
        SeedanceHook,
        SeedanceGenerateVideoOperator,
        SeedanceCreateTaskOperator,
        SeedanceTaskTrigger,
        memory,
    )


@pytest.fixture
def run(airflow_database: Path, tmp_path: Path, task_log: TaskLog) -> Callable[[str], DagOutcome]:
    """Runs tasks in a real DAG run; the log is recorded beside."""
    return lambda tasks: run_dag(tmp_path, GENERATE + textwrap.dedent(tasks))


def crash_when_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first try of each task instance die when its id is stored."""
    note = Receipts.note

    def dying(self: Receipts, receipt: Receipt) -> bool:
        stored = note(self, receipt)
        if receipt.stage == "submitted" and receipt.try_number == 1:
            raise CrashError("stored")
        return stored

    monkeypatch.setattr(Receipts, "note", dying)


POINTS = {
    "before the intent is stored": (Receipts, "save", "before"),
    "after the intent is stored": (Receipts, "save", "after"),
    "after the reply, before the id is stored": (SeedanceHook, "create_task", "after"),
    "after the id is stored": (Receipts, "note", "after"),
    "while resuming": (SeedanceGenerateVideoOperator, "execute_complete", "before"),
    "after the end is noted": (wait, "_note_end", "after"),
    "after all was done": (SeedanceGenerateVideoOperator, "execute_complete", "after"),
}


# A retry after a crash, in a real DAG run.


@with_store
@pytest.mark.parametrize(
    ("point", "bought"),
    [
        ("before the intent is stored", 1),
        ("after the intent is stored", 1),
        ("after the reply, before the id is stored", 2),  # unknown: the vendor's rule is to send it again
        ("after the id is stored", 1),
        ("while resuming", 1),
        ("after the end is noted", 1),
        ("after all was done", 1),
    ],
)
def test_a_retry_after_a_crash_continues_with_the_same_video(
    run: Callable[[str], DagOutcome],
    seedance_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    task_log: TaskLog,
    point: str,
    bought: int,
) -> None:
    crash(monkeypatch, *POINTS[point])
    done = run("generate()")["video"]
    videos = [task["taskId"] for task in seedance_emulator.bill()["tasks"]]
    assert (done.state, done.try_number) == ("success", 2)
    assert len(videos) == bought
    assert done.returned == [f"{seedance_emulator.url}/videos/{videos[-1]}.mp4"]
    assert done.xcoms["seedance_task_id"] == done.xcoms["seedance_task"]["seedance_task_id"] == videos[-1]
    unknown = point in ("after the intent is stored", "after the reply, before the id is stored")
    assert any("it may be charged twice" in line for line in task_log.warnings) == unknown
    known = point not in (*list(POINTS)[:3],)
    assert any("nothing is charged" in line for line in task_log.lines) == known


@with_store
@pytest.mark.parametrize(
    ("point", "bought"), [("after the intent is stored", 0), ("after the reply, before the id is stored", 1)]
)
def test_under_safe_an_unknown_outcome_is_not_tried_again(
    run: Callable[[str], DagOutcome],
    seedance_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    bought: int,
) -> None:
    crash(monkeypatch, *POINTS[point])
    done = run("generate(submit_policy='safe', retries=3)")["video"]
    assert (done.state, done.try_number) == ("failed", 2)
    assert seedance_emulator.bill()["tasks_created"] == bought


@with_store
def test_a_retry_attaches_again_to_a_video_that_still_runs(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(monkeypatch, *POINTS["after the id is stored"])
    done = run("generate(prompt='a fox [[generating:2]]', retries=2)")["video"]
    assert (done.state, done.try_number) == ("success", 2)
    assert seedance_emulator.bill()["tasks_created"] == 1


@with_store
@pytest.mark.parametrize(
    ("failure", "state", "bought"),
    [
        ({"code": "2038"}, "failed", 1),
        ({"code": "1001", "message": TRANSIENT}, "success", 2),
    ],
    ids=["for good", "transient"],
)
def test_a_retry_that_finds_its_video_failed_submits_again_only_if_that_can_help(
    run: Callable[[str], DagOutcome],
    seedance_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    failure: dict[str, str],
    state: str,
    bought: int,
) -> None:
    seedance_emulator.add_fault("fail", **failure)
    crash(monkeypatch, *POINTS["after the id is stored"])
    # So that the retry looks at the video itself.
    done = run("generate(retry_delay=timedelta(seconds=1))")["video"]
    assert (done.state, done.try_number) == (state, 2)
    assert seedance_emulator.bill()["tasks_created"] == bought


@with_store
def test_a_video_that_failed_for_good_is_not_made_again_by_the_retries(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator
) -> None:
    done = run("generate(prompt='a fox [[fail:2038]]', retries=3)")["video"]
    assert (done.state, done.try_number) == ("failed", 1)
    assert seedance_emulator.bill()["tasks_created"] == 1


@with_store
def test_changed_inputs_are_a_new_video(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    crash(monkeypatch, *POINTS["after the id is stored"])
    done = run("generate(prompt='fox {{ ti.try_number }}')")["video"]
    assert done.state == "success"
    assert [task["prompt"] for task in seedance_emulator.bill()["tasks"]] == ["fox 1", "fox 2"]
    assert any("inputs have changed" in line for line in task_log.warnings)


CLEAR = textwrap.dedent("""
    @task(trigger_rule="all_done")
    def clear_once():
        # What the button of the UI does, by its own function.
        from airflow.models.taskinstance import TaskInstance, clear_task_instances
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.query(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="video").one()
            if found.try_number < 2 and found.state in ("success", "failed"):
                clear_task_instances([found], session, dag_run_state=False)

    video >> clear_once()
""")


@with_store
@pytest.mark.parametrize(
    ("arguments", "bought", "said"),
    [
        ("", 2, "Cleared after a success"),
        ("prompt='a fox [[fail:2038]]'", 2, "Cleared after a failed generation"),
        ("wait_for_completion=False", 2, "Cleared after a success"),
        ("prompt='a fox [[generating:3]]', timeout=0.5", 1, "nothing is charged"),
    ],
    ids=["of a finished one", "of a failed one", "of a created one", "of one whose video still runs"],
)
def test_a_clear_makes_a_new_video_unless_the_old_one_still_runs(
    run: Callable[[str], DagOutcome],
    seedance_emulator: Emulator,
    task_log: TaskLog,
    arguments: str,
    bought: int,
    said: str,
) -> None:
    done = run(f"video = generate({arguments})" + CLEAR)
    assert done["video"].try_number == 2
    assert seedance_emulator.bill()["tasks_created"] == bought
    assert any(said in line for line in task_log.lines)


@with_store
def test_mapped_tasks_remember_each_its_own_video(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_when_stored(monkeypatch)
    done = run(
        """
    SeedanceGenerateVideoOperator.partial(
        task_id="video", poll_interval=0.1, retries=1, retry_delay=timedelta(0)
    ).expand(inputs=[{"prompt": f"fox {number}", "outputResolution": "720p"} for number in range(3)])
    """
    )
    videos = {task["prompt"]: task["taskId"] for task in seedance_emulator.bill()["tasks"]}
    assert len(videos) == seedance_emulator.bill()["tasks_created"] == 3
    for number in range(3):
        assert done["video", number].try_number == 2
        assert done["video", number].xcoms["seedance_task_id"] == videos[f"fox {number}"]


@with_store
def test_the_modes_without_a_triggerer_or_a_wait_remember_as_well(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_when_stored(monkeypatch)
    done = run(
        """
    first = generate("on_the_worker", deferrable=False)
    second = generate("created", wait_for_completion=False)
    third = SeedanceCreateTaskOperator(
        task_id="create", inputs={"prompt": "a fox"}, retries=1, retry_delay=timedelta(0)
    )
    first >> second >> third
    """
    )
    videos = [task["taskId"] for task in seedance_emulator.bill()["tasks"]]
    assert [done[name].try_number for name in ("on_the_worker", "created", "create")] == [2, 2, 2]
    assert len(videos) == 3
    assert done["on_the_worker"].returned == [f"{seedance_emulator.url}/videos/{videos[0]}.mp4"]
    assert [done["created"].returned, done["create"].returned] == videos[1:]


@with_store
def test_nothing_is_remembered_if_it_is_not_wanted(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    crash(monkeypatch, *POINTS["after the id is stored"])
    assert run("generate(durable=False)")["video"].state == "success"
    assert seedance_emulator.bill()["tasks_created"] == 2
    assert any("nothing here remembers" in line for line in task_log.warnings)


@with_store
@pytest.mark.usefixtures("seedance_emulator")
def test_where_it_is_remembered_there_is_no_warning(run: Callable[[str], DagOutcome], task_log: TaskLog) -> None:
    assert run("generate(retries=5)")["video"].state == "success"
    assert task_log.warnings == []


@with_store
def test_a_try_that_never_reached_the_api_leaves_nothing_behind(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    closed = json.loads(seedance_emulator.connection_json) | {"host": "http://127.0.0.1:9"}
    monkeypatch.setenv("AIRFLOW_CONN_TRY_1", json.dumps(closed))
    monkeypatch.setenv("AIRFLOW_CONN_TRY_2", seedance_emulator.connection_json)
    done = run("generate(seedance_conn_id='try_{{ ti.try_number }}', submit_policy='safe')")["video"]
    assert (done.state, done.try_number) == ("success", 2)
    assert seedance_emulator.bill()["tasks_created"] == 1
    assert not any("unknown" in line for line in task_log.warnings)


@without_store
def test_without_a_store_it_warns_before_it_submits_and_works(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    crash(monkeypatch, *POINTS["after the id is stored"])
    assert run("generate()")["video"].state == "success"
    assert seedance_emulator.bill()["tasks_created"] == 2
    warned = [line for line in task_log.warnings if line.startswith("retries=1, but nothing here remembers")]
    assert len(warned) == 2  # once per try
    assert "ledger_path" in warned[0]


@without_store
@pytest.mark.usefixtures("seedance_emulator")
def test_without_a_store_and_without_retries_there_is_no_warning(
    run: Callable[[str], DagOutcome], task_log: TaskLog
) -> None:
    assert run("generate(retries=0)")["video"].state == "success"
    assert task_log.warnings == []


# Driven as Airflow drives it, without its database.


class Worker:
    """Executes the operator; each turn on a worker is a new process."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments: dict[str, Any] = {"poll_interval": 0.05, "inputs": {"prompt": "a fox"}} | arguments
        self.ti = FakeTaskInstance()
        self.store = StateStore()
        self.context: Any = {"ti": self.ti, "task_state_store": self.store}
        self.deferrals: list[TaskDeferred] = []

    def operator(self) -> SeedanceGenerateVideoOperator:
        return SeedanceGenerateVideoOperator(task_id="video", **self.arguments)

    def run(self) -> Any:
        """One try: to its end, over all deferrals."""
        try:
            return self.operator().execute(self.context)
        except TaskDeferred as deferred:
            self.deferrals.append(deferred)
        while True:
            deferred = self.deferrals[-1]
            try:
                event = {"event": fire(deferred.trigger)}
                return self.operator().resume_execution(deferred.method_name, event, self.context)
            except TaskDeferred as again:
                self.deferrals.append(again)

    @property
    def state(self) -> Any:
        return self.store.receipt


def test_it_returns_what_the_sensor_returns(seedance_emulator: Emulator) -> None:
    worker = Worker()
    urls = worker.run()
    (bought,) = seedance_emulator.bill()["tasks"]
    assert urls == [f"{seedance_emulator.url}/videos/{bought['taskId']}.mp4"]
    assert worker.ti.xcoms["seedance_task_id"] == bought["taskId"]
    assert worker.ti.xcoms["seedance_task"]["status"] == "success"
    assert len(worker.deferrals) == 1
    assert worker.deferrals[0].timeout is not None


def test_without_a_wait_it_returns_the_id(seedance_emulator: Emulator) -> None:
    worker = Worker(wait_for_completion=False)
    assert worker.run() == seedance_emulator.bill()["tasks"][0]["taskId"]
    assert worker.deferrals == []
    assert seedance_emulator.requests("recordInfo") == []


def test_on_the_worker_it_waits_without_deferring(seedance_emulator: Emulator) -> None:
    worker = Worker(deferrable=False)
    assert worker.run() == [f"{seedance_emulator.url}/videos/{seedance_emulator.bill()['tasks'][0]['taskId']}.mp4"]
    assert worker.deferrals == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_video_that_takes_too_long_is_named_with_the_way_on(
    seedance_emulator: Emulator, task_log: TaskLog, deferrable: bool
) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 60.0})
    worker = Worker(timeout=0.3, deferrable=deferrable)
    with pytest.raises(SeedanceTaskTimeoutError) as caught:
        worker.run()
    task_id = seedance_emulator.bill()["tasks"][0]["taskId"]
    assert caught.value.seedance_task_id == task_id
    (line,) = [line for line in task_log.warnings if "cannot be cancelled" in line]
    assert f"SeedanceTaskSensor(seedance_task_id='{task_id}')" in line
    assert worker.state["seedance_task_id"] == task_id
    assert worker.state["stage"] == "submitted"


def test_a_retry_waits_its_full_time_again(seedance_emulator: Emulator) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 60.0})
    worker = Worker(timeout=0.4)
    with pytest.raises(SeedanceTaskTimeoutError):
        worker.run()
    started = time.monotonic()
    with pytest.raises(SeedanceTaskTimeoutError):
        worker.run()
    assert time.monotonic() - started >= 0.3
    assert seedance_emulator.bill()["tasks_created"] == 1


# Resubmits, failures in a row, videos made, whether it ends well.
RESUBMITS = [(0, 1, 1, False), (1, 1, 2, True), (1, 2, 2, False), (2, 2, 3, True), (2, 3, 3, False), (2, 1, 2, True)]


@pytest.mark.parametrize(
    ("deferrable", "resubmits", "failures", "bought", "succeeds"),
    [
        pytest.param(
            deferrable,
            *case,
            id=f"{'deferred' if deferrable else 'on the worker'}, {case[0]} resubmits, {case[1]} failures",
        )
        for deferrable in (True, False)
        for case in RESUBMITS
    ],
)
def test_a_transient_failure_is_submitted_again_as_often_as_allowed(
    seedance_emulator: Emulator,
    task_log: TaskLog,
    deferrable: bool,
    resubmits: int,
    failures: int,
    bought: int,
    succeeds: bool,
) -> None:
    seedance_emulator.add_fault("fail", code="1001", message=TRANSIENT, times=failures)
    worker = Worker(resubmits=resubmits, deferrable=deferrable)
    worker.ti.xcom_push = lambda key, value: worker.ti.xcoms.update({key: value})  # type: ignore[method-assign]
    if succeeds:
        assert worker.run() == [f"{seedance_emulator.url}/videos/{seedance_emulator.bill()['tasks'][-1]['taskId']}.mp4"]
    else:
        with pytest.raises(SeedanceTaskFailedError, match="temporarily unavailable"):
            worker.run()
    assert seedance_emulator.bill()["tasks_created"] == bought
    assert worker.ti.xcoms["seedance_task_id"] == seedance_emulator.bill()["tasks"][-1]["taskId"]
    told = [line for line in task_log.warnings if " resubmits" in line]
    assert [f"{number} of {resubmits} resubmits" in line for number, line in enumerate(told, 1)] == [True] * (
        bought - 1
    )


@pytest.mark.parametrize("prompt", ["[[fail:2038]]", "[[fail_without_error]]", "[[fail:asset_review_failed]]"])
def test_other_failures_are_not_submitted_again(seedance_emulator: Emulator, prompt: str) -> None:
    with pytest.raises(SeedanceTaskFailedError) as caught:
        Worker(resubmits=2, inputs={"prompt": prompt}).run()
    assert isinstance(caught.value, AirflowFailException)
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.parametrize("resubmits", [-1, 1.5, "2", True, None])
def test_a_wrong_number_of_resubmits_is_refused_when_the_dag_is_parsed(resubmits: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match=f"resubmits is {resubmits!r}"):
        Worker(resubmits=resubmits).operator()


# What a createTask that failed leaves behind.


@pytest.mark.parametrize("policy", ["vendor", "safe"])
@pytest.mark.parametrize(
    ("fault", "status"), [("http", 400), ("http", 401), ("http", 402), ("http", 403), ("http", 422), ("html", 403)]
)
def test_a_definite_refusal_leaves_no_intent_behind(
    seedance_emulator: Emulator, fault: str, status: int, policy: str
) -> None:
    seedance_emulator.add_fault(fault, status=status)
    worker = Worker(submit_policy=policy)
    with pytest.raises(SeedanceError) as caught:
        worker.run()
    assert isinstance(caught.value, AirflowFailException)
    assert worker.state["stage"] == "refused"
    assert seedance_emulator.bill()["tasks_created"] == 0
    assert len(seedance_emulator.requests("createTask")) == 1


@pytest.mark.parametrize("policy", ["vendor", "safe"])
def test_a_refused_connection_leaves_no_intent_behind(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    closed = json.loads(seedance_emulator.connection_json) | {"host": "http://127.0.0.1:9"}
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(closed))
    worker = Worker(submit_policy=policy)
    with pytest.raises(SeedanceError) as caught:
        worker.run()
    assert not isinstance(caught.value, AirflowFailException)
    assert caught.value.charged == "no"
    assert worker.state["stage"] == "refused"


@pytest.mark.parametrize(
    "connection", ["", '{"conn_type": "seedance", "host": "ftp://h", "password": "key-of-nobody"}']
)
@pytest.mark.usefixtures("seedance_emulator")
def test_a_connection_that_cannot_be_used_leaves_no_intent_behind(
    monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", connection or '{"conn_type": "seedance"}')
    worker = Worker()
    with pytest.raises(SeedanceError):
        worker.run()
    assert worker.state is None


@pytest.mark.parametrize(("policy", "error"), [("vendor", SeedanceServerError), ("safe", SeedanceSubmitUncertainError)])
def test_an_unknown_outcome_leaves_the_intent_behind(
    seedance_emulator: Emulator, policy: str, error: type[SeedanceError]
) -> None:
    seedance_emulator.add_fault("http", status=503, accept=True, times=None)
    worker = Worker(submit_policy=policy)
    with pytest.raises(error):
        worker.run()
    assert worker.state["stage"] == "intent"
    assert worker.state["unknown"] == (3 if policy == "vendor" else 1)


def test_an_answer_without_an_id_is_an_unknown_outcome_under_both_policies(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("no_task_id")
    worker = Worker()
    with pytest.raises(SeedanceSubmitUncertainError):
        worker.run()
    assert (worker.state["stage"], worker.state["told"]) == ("intent", True)


# What is said to who stops it.


def test_stopping_it_on_the_worker_names_the_sensor_that_collects_it(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    operator = Worker(deferrable=False).operator()
    operator.on_kill()
    assert task_log.warnings == []  # there is no video yet

    def stopped(*_: Any) -> None:
        operator.on_kill()
        raise CrashError

    monkeypatch.setattr(SeedanceHook, "run", stopped)
    monkeypatch.setattr(SeedanceHook, "create_task", lambda *_, **__: "task_1")
    with pytest.raises(CrashError):
        operator.execute(Worker().context)
    assert any("SeedanceTaskSensor(seedance_task_id='task_1')" in line for line in task_log.warnings)


def test_no_key_is_in_any_log_or_state(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    worker = Worker(resubmits=1)
    seedance_emulator.add_fault("fail", code="1001", message=TRANSIENT)
    worker.ti.xcom_push = lambda key, value: worker.ti.xcoms.update({key: value})  # type: ignore[method-assign]
    worker.run()
    carried = [deferral.trigger.serialize() for deferral in worker.deferrals]
    assert seedance_emulator.api_key not in repr((task_log.lines, worker.store.states, worker.ti.xcoms, carried))
    assert os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"]  # it was there to be leaked


@pytest.mark.parametrize("memory", ["receipt", "XCom"])
def test_a_deferral_that_airflow_ends_delivers_a_video_that_has_ended(seedance_emulator: Emulator, memory: str) -> None:
    worker = Worker()
    with pytest.raises(TaskDeferred):
        worker.operator().execute(worker.context)
    if memory == "XCom":
        worker.context["task_state_store"] = None
        worker.ti.xcom_pull = lambda *, key, **_: worker.ti.xcoms[key]  # type: ignore[attr-defined]
    time.sleep(0.5)  # the video ends meanwhile
    urls = worker.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, worker.context)
    assert urls == [f"{seedance_emulator.url}/videos/{seedance_emulator.bill()['tasks'][0]['taskId']}.mp4"]


def test_a_deferral_that_airflow_ends_names_a_task_that_still_runs(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 60.0})
    worker = Worker()
    with pytest.raises(TaskDeferred):
        worker.operator().execute(worker.context)
    with pytest.raises(SeedanceError, match="Trigger timeout") as caught:
        worker.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, worker.context)
    task_id = seedance_emulator.bill()["tasks"][0]["taskId"]
    assert f"SeedanceTaskSensor(seedance_task_id='{task_id}')" in str(caught.value)
    assert caught.value.charged == "yes"


@pytest.mark.usefixtures("seedance_emulator")
def test_a_wait_for_a_slot_that_airflow_ends_is_airflows_error() -> None:
    worker = Worker()
    with pytest.raises(Exception, match="Trigger timeout"):
        worker.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, worker.context)


def test_a_task_that_is_not_found_is_kept_by_a_clear_since_it_is_charged(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("not_found", on="recordInfo", times=None)
    worker = Worker()
    with pytest.raises(SeedanceTaskNotFoundError):
        worker.run()
    seedance_emulator.clear_faults()

    worker.ti.max_tries += 1
    worker.ti.xcoms.clear()
    assert len(worker.run()) == 1
    assert seedance_emulator.bill()["tasks_created"] == 1
