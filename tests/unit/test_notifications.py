"""The notifier: what people are told of a failure, and that telling never does harm."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseNotifier

from seedance_provider import exceptions
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceInsufficientCreditsError,
    SeedanceInvalidRequestError,
    SeedanceOutputMissingError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskTimeoutError,
)
from seedance_provider.execution.results import summary
from seedance_provider.notifications.seedance import Failure, SeedanceNotifier, describe
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from tests.support.airflow import TaskLog, run_dag

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

SUBCLASSES = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, SeedanceError)]
CREATE = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox"})
SENSOR = SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1")


def test_a_mapped_task_that_died_may_have_been_charged() -> None:
    with DAG("mapped", schedule=None):
        mapped = SeedanceCreateTaskOperator.partial(task_id="create").expand(inputs=[{"prompt": "a fox"}])
    assert describe(context_of(task=mapped)).charged == "unknown"


@pytest.mark.parametrize("run", [{"run_id": "monday"}, {"dag_run": SimpleNamespace(run_id="monday")}])
def test_of_a_dag_run_whose_task_airflow_does_not_name_nothing_is_known_of_the_charge(run: dict[str, Any]) -> None:
    failure = describe({"dag": SimpleNamespace(dag_id="promo"), "reason": "task_failure", **run})  # type: ignore[arg-type]
    assert (failure.charged, failure.run_id) == ("unknown", "monday")
    assert failure.text.startswith("promo failed in run monday. ")


def context_of(error: Any = None, *, task: Any = CREATE, xcoms: dict[str, Any] | None = None, **ti: Any) -> Any:
    """The context of a failed task instance, as Airflow gives it to a callback."""
    instance = SimpleNamespace(
        dag_id="videos",
        run_id="nightly",
        task_id=task.task_id,
        try_number=2,
        log_url="http://airflow/log",
        xcom_pull=lambda task_ids, key, map_indexes: (xcoms or {}).get(key),
    )
    vars(instance).update({"map_index": -1} | ti)
    context = {"ti": instance, "task": task, "dag": DAG("videos", schedule=None)}
    return context if error is None else context | {"exception": error}


class Messenger(BaseNotifier):
    """A notifier of somebody else's, with a template."""

    template_fields = ("text",)

    def __init__(self, text: str, sent: list[str], error: Exception | None = None) -> None:
        super().__init__()
        self.text = text
        self.sent = sent
        self.error = error

    def notify(self, context: Any) -> None:
        if self.error:
            raise self.error
        self.sent.append(self.text)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceNotifier)


def test_a_failure_names_class_task_instance_and_numbers() -> None:
    error = SeedanceInsufficientCreditsError(
        "Not enough credits: required 200, available 50. Add credits",
        required=Decimal(200),
        available=Decimal(50),
        status_code=402,
        message="Insufficient credits",
    )
    failure = describe(context_of(error, map_index=3))
    assert failure.type == "SeedanceInsufficientCreditsError"
    assert (failure.dag_id, failure.run_id, failure.task_id, failure.map_index) == ("videos", "nightly", "create", 3)
    assert (failure.try_number, failure.status_code, failure.charged) == (2, 402, "no")
    assert failure.message == "Insufficient credits"
    assert failure.log_url == "http://airflow/log"
    assert "videos.create[3]" in failure.text
    assert "required 200, available 50" in failure.text


def test_the_text_names_the_vendors_task_once_at_its_end() -> None:
    error = SeedanceTaskFailedError("Generation failed: no (task task_1)", seedance_task_id="task_1", code="2038")
    failure = describe(context_of(error))
    assert failure.code == "2038"
    assert failure.text.endswith("(task task_1)")
    assert failure.text.count("task_1") == 1
    assert str(failure) == failure.text


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_every_class_of_error_comes_with_a_next_step(kind: type[SeedanceError]) -> None:
    failure = describe(context_of(kind("Something went wrong")))
    assert failure.charged == kind("x").charged
    assert failure.what_to_do
    if kind is not SeedanceError and kind is not SeedanceTaskTimeoutError:
        assert failure.what_to_do != Failure().what_to_do


@pytest.mark.parametrize("kind", [SeedanceSubmitUncertainError, SeedanceServerError])
def test_where_money_may_be_at_stake_a_person_checks_manually(kind: type[SeedanceError]) -> None:
    failure = describe(context_of(kind("503", charged="unknown")))
    assert failure.charged == "unknown"
    assert "manually" in failure.what_to_do


@pytest.mark.parametrize("kind", [SeedanceTaskTimeoutError, SeedanceOutputMissingError])
def test_a_charged_video_is_collected_by_its_id(kind: type[SeedanceError]) -> None:
    failure = describe(context_of(kind("late", seedance_task_id="task_9")))
    assert failure.charged == "yes"
    assert "SeedanceTaskSensor(seedance_task_id='task_9')" in failure.what_to_do


# Where Airflow does not tell a callback the exception.


@pytest.mark.parametrize("untold", [None, "the task failed"])
def test_without_an_exception_xcom_tells(untold: Any) -> None:
    error = SeedanceInvalidRequestError("Refused: bad prompt. Fix it", message="bad prompt", status_code=400)
    pushed = json.loads(json.dumps(summary(error)))
    failure = describe(context_of(untold, xcoms={"seedance_error": pushed}))
    assert (failure.type, failure.status_code, failure.charged) == ("SeedanceInvalidRequestError", 400, "no")
    assert failure == describe(context_of(error))


def test_a_worker_that_died_after_createTask_leaves_a_charged_video() -> None:  # noqa: N802 - the vendor's name
    failure = describe(context_of(None, xcoms={"seedance_task_id": "task_7"}))
    assert (failure.charged, failure.seedance_task_id) == ("yes", "task_7")
    assert "SeedanceTaskSensor(seedance_task_id='task_7')" in failure.text


@pytest.mark.parametrize(("task", "charged"), [(CREATE, "unknown"), (SENSOR, "no")])
def test_an_error_of_others_may_cost_where_the_task_submits(task: Any, charged: str) -> None:
    failure = describe(context_of(MemoryError("too large"), task=task))
    assert (failure.type, failure.charged) == ("MemoryError", charged)
    assert "too large" in failure.text


def test_the_callback_of_a_dag_may_have_no_task_instance(log: TaskLog) -> None:
    SeedanceNotifier()({"dag": DAG("videos", schedule=None)})
    assert "videos" in log.lines[0]


# Sending.


def test_alone_it_writes_to_the_log(log: TaskLog) -> None:
    SeedanceNotifier()(context_of(SeedanceServerError("503")))
    assert len(log.lines) == 1
    assert "SeedanceServerError" in log.lines[0]


def test_templates_of_other_notifiers_read_the_failure() -> None:
    sent: list[str] = []
    template = "{{ seedance.type }} {{ seedance.charged }} {{ seedance.seedance_task_id }}"

    def plain(context: Any) -> None:
        sent.append(context["seedance"].text)

    notifier = SeedanceNotifier([Messenger(template, sent), plain])
    notifier(context_of(SeedanceTaskFailedError("no", seedance_task_id="task_1")))
    assert sent[0] == "SeedanceTaskFailedError no task_1"
    assert "videos.create" in sent[1]


def test_one_notifier_serves_many_failures() -> None:
    sent: list[str] = []
    notifier = SeedanceNotifier([Messenger("{{ seedance.map_index }}", sent)])
    for map_index in (0, 1, 2):
        notifier(context_of(SeedanceServerError("503"), map_index=map_index))
    assert sent == ["0", "1", "2"]


def test_a_notifier_that_fails_keeps_no_other_from_sending_and_its_text_is_in_the_log(log: TaskLog) -> None:
    sent: list[str] = []
    broken = Messenger("x", sent, ConnectionError("no Slack"))
    SeedanceNotifier([broken, Messenger("still sent", sent)])(context_of(SeedanceServerError("503")))
    assert sent == ["still sent"]
    assert "videos.create" in log.lines[0], "the text is not lost"


def test_an_xcom_that_cannot_be_read_does_no_harm(log: TaskLog) -> None:
    def broken(**_: Any) -> None:
        raise ConnectionError("no XCom")

    SeedanceNotifier()(context_of(None, xcom_pull=broken))
    assert "videos.create" in log.lines[0]


@pytest.mark.parametrize(
    "odd", ["text", 5, {}, {"type": 5, "message": ["?"]}, {"type": "__doc__"}, {"charged": None}, {"text": 5}]
)
def test_an_odd_xcom_does_no_harm(odd: Any, log: TaskLog) -> None:
    SeedanceNotifier()(context_of(None, xcoms={"seedance_error": odd}))
    assert "videos.create" in log.lines[0]


TASKS = """
from pathlib import Path

from seedance_provider.notifications.seedance import SeedanceNotifier

def write(context):
    failure = context["seedance"]
    Path({path!r}).write_text(failure.type + " " + failure.charged)

SeedanceCreateTaskOperator(
    task_id="create",
    inputs={{"prompt": "a fox", "duration": 5}},
    on_failure_callback=SeedanceNotifier([write]),
)
"""


def test_in_a_dag_run_it_tells_of_the_failed_task(
    airflow_database: Path, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    seedance_emulator.add_fault("http", on="createTask", status=403)
    told = tmp_path / "told"

    outcome = run_dag(tmp_path, TASKS.format(path=str(told)))["create"]

    assert outcome.state == "failed"
    assert told.read_text() == "SeedancePermissionError no"
