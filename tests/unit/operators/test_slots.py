"""What the operators do while the account has no free slot: wait, without an Airflow retry, one attempt at a time."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from seedance_provider.api.flows import task_failed
from seedance_provider.api.records import parse_task
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import (
    SeedanceConcurrencyLimitError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.testing import Emulator
from seedance_provider.triggers.seedance import SeedanceTaskTrigger
from seedance_provider.triggers.slots import SeedanceSlotTrigger
from tests.support.airflow import FakeTaskInstance, StateStore, TaskLog, fire, hurry, run_dag
from tests.support.crashes import CrashError, crash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRANSIENT = "Service temporarily unavailable. Please try again later."
OPERATORS = pytest.mark.parametrize(
    "operator_class", [SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator], ids=["create", "generate"]
)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceHook, SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def occupy(emulator: Emulator, slots: int, seconds: float) -> None:
    """Start tasks that are nobody's of ours: another team's, on the same account."""
    for _ in range(slots):
        answer = requests.post(
            f"{emulator.url}/api/v1/jobs/createTask",
            json={"model": "seedance-20", "inputs": {"prompt": f"theirs [[generating:{seconds}]] [[waiting:0]]"}},
            headers={"Authorization": f"Bearer {emulator.api_key}", "User-Agent": "Mozilla/5.0"},
            timeout=10,
        )
        assert answer.status_code == 200


def make(operator_class: Any = SeedanceGenerateVideoOperator, **arguments: Any) -> Any:
    inputs = {"prompt": "ours", "outputResolution": "720p"}
    return operator_class(**{"task_id": "video", "inputs": inputs, "slot_poll_interval": 0.05} | arguments)


def context_of(ti: FakeTaskInstance | None = None) -> Any:
    return {"ti": ti or FakeTaskInstance()}


def turn(operator: Any, context: Any, event: Any) -> Any:
    """One turn on a worker: the result, or the deferral that ends it."""
    try:
        return operator.execute(context) if event is None else operator.execute_complete(context, event)
    except TaskDeferred as deferred:
        return deferred


def run_to_the_end(**arguments: Any) -> Any:
    """One try, over all its deferrals."""
    context, result = context_of(), None
    while result is None or isinstance(result, TaskDeferred):
        event = fire(result.trigger) if result else None
        result = turn(make(**arguments), context, event)
    return result


def deferral(operator: Any, context: Any = None, event: Any = None) -> TaskDeferred:
    """Execute or resume an operator that then defers."""
    deferred = turn(operator, context or context_of(), event)
    assert isinstance(deferred, TaskDeferred)
    return deferred


# A refusal.


@OPERATORS
@pytest.mark.seedance_emulator(concurrency_limit=1)
def test_without_a_free_slot_it_defers_and_nothing_is_charged(seedance_emulator: Emulator, operator_class: Any) -> None:
    occupy(seedance_emulator, 1, 60)
    before = time.time()
    deferred = deferral(make(operator_class, slot_timeout=100))
    trigger = deferred.trigger
    assert isinstance(trigger, SeedanceSlotTrigger)
    assert before <= trigger.since <= trigger.refused_at <= time.time()
    assert trigger.deadline == pytest.approx(trigger.since + 100)
    assert trigger.poll_interval == 0.05
    assert deferred.timeout is not None
    assert 100 < deferred.timeout.total_seconds() <= 100 + 120  # the trigger's own end comes first
    assert seedance_emulator.bill()["tasks_created"] == 1
    assert seedance_emulator.counts() == {"created": 1, "429": 1}


@pytest.mark.usefixtures("seedance_emulator")
@pytest.mark.parametrize(("arguments", "is_urgent"), [({"pool": "seedance"}, True), ({}, False)])
def test_in_a_pool_the_end_of_a_video_is_looked_for_more_often(arguments: dict[str, str], is_urgent: bool) -> None:
    deferred = deferral(make(SeedanceGenerateVideoOperator, **arguments))
    assert isinstance(deferred.trigger, SeedanceTaskTrigger)
    assert deferred.trigger.urgent is is_urgent


@pytest.mark.seedance_emulator(concurrency_limit=3)
def test_the_log_names_the_limit_and_a_pool_command_that_airflow_understands(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    occupy(seedance_emulator, 3, 60)
    deferral(make(slot_timeout=7200))
    assert any("3 of 3 in use" in line for line in task_log.lines)
    (command,) = (found for line in task_log.lines if (found := re.search(r"airflow (pools set .*)$", line)))

    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args(shlex.split(command[1]))
    assert (parsed.pool, int(parsed.slots), parsed.include_deferred) == ("seedance", 3, True)
    assert not any("slot" in line for line in task_log.warnings)  # it is no failure


@pytest.mark.parametrize("body", [{}, {"limit": 2}, {"current": 2}])
def test_a_refusal_that_names_no_numbers_still_names_a_pool(
    seedance_emulator: Emulator, task_log: TaskLog, body: dict[str, int]
) -> None:
    seedance_emulator.add_fault("rate_limit", **body)
    deferral(make())
    assert any(re.search(r"airflow pools set seedance \d+ ", line) for line in task_log.lines)


def test_a_pause_that_the_vendor_asks_for_is_kept(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("rate_limit", retry_after=17)
    assert deferral(make()).trigger.poll_interval == 17


# Waiting and submitting again.


@OPERATORS
@pytest.mark.seedance_emulator(concurrency_limit=1)
def test_its_place_in_the_queue_and_its_deadline_are_kept_over_refusals(
    seedance_emulator: Emulator, operator_class: Any
) -> None:
    occupy(seedance_emulator, 1, 60)
    first = deferral(make(operator_class)).trigger
    time.sleep(0.02)
    event = fire(first)
    assert event["status"] == "slot"
    second = deferral(make(operator_class), event=event).trigger
    assert second.since == first.since
    assert second.deadline == first.deadline
    assert second.refused_at > first.refused_at
    assert seedance_emulator.counts()["429"] == 2


@pytest.mark.usefixtures("airflow_database")
def test_in_a_real_run_it_waits_without_a_retry(seedance_emulator: Emulator, tmp_path: Path) -> None:
    seedance_emulator.add_fault("rate_limit", limit=3, current=3, times=2, match={"prompt": "video"})
    seedance_emulator.add_fault("rate_limit", limit=3, current=3, times=None, match={"prompt": "hasty"})
    done = run_dag(
        tmp_path,
        """
        from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
        retries = {"retries": 1, "retry_delay": timedelta(0), "slot_poll_interval": 0.1}
        SeedanceGenerateVideoOperator(task_id="generate", inputs={"prompt": "video"}, poll_interval=0.1, **retries)
        SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "video"}, **retries)
        SeedanceCreateTaskOperator(task_id="hasty", inputs={"prompt": "hasty"}, slot_timeout=0.05, **retries)
        """,
    )
    assert (done["generate"].state, done["generate"].try_number) == ("success", 1)
    assert (done["create"].state, done["create"].try_number) == ("success", 1)
    assert (done["hasty"].state, done["hasty"].try_number) == ("failed", 2)
    assert seedance_emulator.counts()["created"] == 2


@pytest.mark.seedance_emulator(concurrency_limit=1)
def test_on_the_worker_it_waits_there(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    occupy(seedance_emulator, 1, 0.4)
    assert make(SeedanceCreateTaskOperator, deferrable=False).execute(context_of())
    assert seedance_emulator.bill()["tasks_created"] == 2
    assert seedance_emulator.counts()["429"] >= 2


# The end of waiting.


@OPERATORS
@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
@pytest.mark.seedance_emulator(concurrency_limit=1)
def test_after_slot_timeout_it_fails_so_that_a_retry_may_help(
    seedance_emulator: Emulator, operator_class: Any, deferrable: bool
) -> None:
    occupy(seedance_emulator, 1, 60)
    with pytest.raises(SeedanceConcurrencyLimitError) as caught:
        run_to_the_end(operator_class=operator_class, slot_timeout=0.2, deferrable=deferrable)
    assert not isinstance(caught.value, AirflowFailException)
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.parametrize("operator_class", [SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator])
@pytest.mark.seedance_emulator(concurrency_limit=1)
def test_after_slot_timeout_nothing_is_said_of_a_task_that_does_not_exist(
    seedance_emulator: Emulator, task_log: TaskLog, operator_class: Any
) -> None:
    occupy(seedance_emulator, 1, 60)
    operator = make(operator_class, slot_timeout=0.2, slot_poll_interval=60)
    event = fire(deferral(operator).trigger)
    with pytest.raises(SeedanceConcurrencyLimitError):
        operator.execute_complete(context_of(), event)
    assert not any("cannot be cancelled" in line for line in task_log.lines)


@pytest.mark.parametrize("argument", ["slot_timeout", "slot_poll_interval"])
@pytest.mark.parametrize("value", [0, -1, "30", float("nan"), float("inf"), True])
def test_a_wrong_duration_is_refused_when_the_dag_is_parsed(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{argument}={value!r} is not a duration"):
        make(**{argument: value})


# Many at once: a few workers, and all triggers on one event loop, as in a triggerer.


class Cluster:
    """Runs tasks as Airflow does, in one process.

    :param workers: How many turns begin at a time; each takes a while to start.
    """

    def __init__(self, workers: int) -> None:
        self.workers = asyncio.Semaphore(workers)

    async def run(self, **arguments: Any) -> Any:
        """One task instance, to its end."""
        context: Any = context_of()
        result = await self._turn(context, None, arguments)
        while isinstance(result, TaskDeferred):
            path, given = result.trigger.serialize()
            trigger = type(result.trigger)(**json.loads(json.dumps(given)))
            assert path.endswith(type(trigger).__name__)
            (event,) = [event async for event in trigger.run()]
            result = await self._turn(context, json.loads(json.dumps(event.payload)), arguments)
        return result

    async def _turn(self, context: Any, event: Any, arguments: dict[str, Any]) -> Any:
        async with self.workers:
            await asyncio.sleep(0.03)
            return turn(make(**arguments), context, event)


def run_many(count: int, **arguments: Any) -> list[Any]:
    async def run() -> list[Any]:
        cluster = Cluster(workers=4)
        tasks = [cluster.run(inputs={"prompt": f"video {number}"}, **arguments) for number in range(count)]
        return await asyncio.gather(*tasks)

    return asyncio.run(run())


@pytest.fixture
def busy() -> Iterator[Emulator]:
    with (
        pytest.MonkeyPatch.context() as patch,
        Emulator(concurrency_limit=3, waiting_seconds=0.05, generating_seconds=0.25) as emulator,
    ):
        patch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        yield emulator


def test_each_of_many_videos_is_made_once_with_hardly_a_refusal_too_many(busy: Emulator) -> None:
    urls = run_many(24, poll_interval=0.05, slot_poll_interval=5)
    assert len({url for (url,) in urls}) == 24
    assert busy.bill()["tasks_created"] == 24
    # One each for those that started while the account was full cannot be avoided; one in ten more may happen.
    assert busy.counts()["429"] <= 24 - 3 + 24 * 0.1


def test_slots_freed_elsewhere_are_all_used_once_one_was_found(busy: Emulator) -> None:
    # Nothing of ours runs, so only time can wake the first; each that finds a slot then wakes the next at once.
    occupy(busy, 3, 0.3)
    busy.settings.update({"generating_seconds": 6.0})
    urls = run_many(3, poll_interval=0.1, slot_poll_interval=4)
    assert len(urls) == 3
    ours = [task["createTime"] for task in busy.bill()["tasks"] if task["prompt"] != "theirs"][-3:]
    # By time alone they would be 3 s apart at the least, by the end of one another 6 s.
    assert max(ours) - min(ours) < 2900


@pytest.mark.seedance_emulator(concurrency_limit=1)
def test_only_who_holds_a_pool_slot_to_the_end_is_told_of_a_pool(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    occupy(seedance_emulator, 1, 60)
    deferral(make(SeedanceCreateTaskOperator))
    assert not any("pools set" in line for line in task_log.lines)


# One submission's wait, and the next one's.


def remembering() -> Any:
    return {"ti": FakeTaskInstance(), "task_state_store": StateStore()}


def test_a_resubmission_waits_for_its_slot_anew(seedance_emulator: Emulator) -> None:
    old = {"resubmitted": 0, "slot_since": time.time() - 7000, "refused": True}
    failed = parse_task({"taskId": "task_1", "status": "fail", "error": {"code": "1001", "message": TRANSIENT}})
    event = TaskEvent("error", "task_1", error=task_failed(failed), state=ResumeState.from_json(old)).to_json()
    seedance_emulator.add_fault("rate_limit", limit=1, current=1)
    started = time.time()
    trigger = deferral(make(resubmits=1, slot_timeout=7200), remembering(), event).trigger
    assert trigger.since >= started
    assert trigger.deadline >= started + 7200
    assert trigger.state["resubmitted"] == 1


def test_a_refusal_that_could_not_be_stored_is_no_unknown_outcome(seedance_emulator: Emulator) -> None:
    # The intent is stored, the refusal is not; under safe an unknown outcome would fail at once.
    context = remembering()
    store = context["task_state_store"]
    seedance_emulator.add_fault("rate_limit", limit=1, current=1)
    store.broken = "set 2"
    trigger = deferral(make(SeedanceCreateTaskOperator, submit_policy="safe"), context).trigger
    assert store.receipt["stage"] == "intent"
    store.broken = ""
    assert make(SeedanceCreateTaskOperator, submit_policy="safe").execute_complete(context, fire(trigger))
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_after_a_refusal_that_is_stored_a_process_that_dies_during_createtask_leaves_an_unknown_outcome(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow before 3.1 begins a task instance that lost its process anew where its deferral had ended.
    context = remembering()
    seedance_emulator.add_fault("rate_limit", limit=1, current=1)
    event = fire(deferral(make(SeedanceCreateTaskOperator, submit_policy="safe"), context).trigger)
    crash(monkeypatch, SeedanceHook, "create_task", "after")
    with pytest.raises(CrashError):
        make(SeedanceCreateTaskOperator, submit_policy="safe").execute_complete(context, event)
    with pytest.raises(SeedanceSubmitUncertainError):
        make(SeedanceCreateTaskOperator, submit_policy="safe").execute_complete(context, event)
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_an_unknown_outcome_is_not_forgotten_by_a_refusal(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    seedance_emulator.add_fault("http", status=500, accept=True)
    seedance_emulator.add_fault("rate_limit", limit=1, current=1)
    context = remembering()
    trigger = deferral(make(SeedanceCreateTaskOperator), context).trigger
    assert (context["task_state_store"].receipt["stage"], context["task_state_store"].receipt["unknown"]) == (
        "intent",
        1,
    )
    assert not any("nothing was charged" in line.lower() for line in task_log.lines)
    seedance_emulator.add_fault("http", status=500, times=None)
    with pytest.raises(SeedanceServerError) as caught:
        make(SeedanceCreateTaskOperator).execute_complete(context, fire(trigger))
    assert caught.value.charged == "unknown"
    # Three of unknown outcome, and never a fourth, whatever Airflow retries.
    sent = len(seedance_emulator.requests("createTask"))
    assert sent == 4, "500, 429, 500, 500"
    for _ in range(3):
        with pytest.raises(SeedanceSubmitUncertainError):
            make(SeedanceCreateTaskOperator).execute(context)
    assert len(seedance_emulator.requests("createTask")) == sent


def test_who_was_told_of_unknown_outcomes_by_the_last_try_clears_once(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", status=500, times=3)
    context = remembering()
    with pytest.raises(SeedanceServerError):
        make(SeedanceCreateTaskOperator).execute(context)
    context["ti"].max_tries += 1  # a clear
    assert make(SeedanceCreateTaskOperator).execute(context)
    assert seedance_emulator.bill()["tasks_created"] == 1
