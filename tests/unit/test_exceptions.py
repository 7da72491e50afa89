"""Every error: what it carries, what Airflow makes of it, and how it crosses a deferral."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import exceptions
from seedance_provider.api.records import TaskRecord, parse_task
from seedance_provider.exceptions import SeedanceError, error_from_json
from tests.support import wild

FAILED = parse_task(
    {"taskId": "task_a", "status": "fail", "creditsUsed": 2.17, "error": {"code": "1001", "message": "x"}}
)

FAILS_AT_ONCE = "fails at once"
RETRYABLE = "retryable"
TIMES_OUT = "times out"


class Row(NamedTuple):
    """One error.

    :param airflow: What Airflow does with a task that raises it.
    :param charged: Whether what it is about is charged.
    :param transient: Whether a GET is sent again after it.
    :param denial: Whether it denies a task.
    :param details: What it carries of its own.
    """

    airflow: str
    charged: str
    transient: bool = False
    denial: bool = False
    details: dict[str, Any] = {}  # noqa: RUF012 - never changed


# The table of the design.
TABLE = {
    "SeedanceError": Row(RETRYABLE, "unknown"),
    "SeedanceConfigurationError": Row(FAILS_AT_ONCE, "no"),
    "SeedanceInvalidRequestError": Row(
        FAILS_AT_ONCE, "no", details={"errors": [{"path": "duration", "message": "No"}]}
    ),
    "SeedanceBudgetExceededError": Row(
        FAILS_AT_ONCE,
        "no",
        details={
            "estimate": exceptions.CreditRange(Decimal(90), Decimal("120.5")),
            "limit": Decimal(1000),
            "spent": Decimal(900),
        },
    ),
    "SeedanceAuthenticationError": Row(FAILS_AT_ONCE, "no", denial=True),
    "SeedanceInsufficientCreditsError": Row(
        FAILS_AT_ONCE, "no", details={"required": Decimal("142.57"), "available": Decimal("99.80000000000001")}
    ),
    "SeedancePermissionError": Row(FAILS_AT_ONCE, "no", denial=True),
    "SeedanceTaskNotFoundError": Row(FAILS_AT_ONCE, "no", denial=True),
    "SeedanceConcurrencyLimitError": Row(
        RETRYABLE, "no", transient=True, details={"limit": 5, "current": 5, "retry_after": 7.5}
    ),
    "SeedanceServerError": Row(RETRYABLE, "unknown", transient=True, details={"retry_after": 30.0}),
    "SeedanceTransportError": Row(RETRYABLE, "unknown", transient=True, details={"request_sent": True}),
    "SeedanceSubmitUncertainError": Row(FAILS_AT_ONCE, "unknown"),
    "SeedanceTaskFailedError": Row(FAILS_AT_ONCE, "no", details={"code": "1001", "record": FAILED}),
    "SeedanceOutputMissingError": Row(FAILS_AT_ONCE, "yes", details={"code": None, "record": FAILED}),
    "SeedanceTaskTimeoutError": Row(TIMES_OUT, "yes"),
    "SeedanceTransferError": Row(
        RETRYABLE, "yes", transient=True, details={"url": "https://cdn.example/a.mp4", "path": "s3://aws@bucket/a.mp4"}
    ),
    "SeedanceTransferRefusedError": Row(FAILS_AT_ONCE, "yes", details={"url": None, "path": "/videos/a.mp4"}),
}
COMMON: dict[str, Any] = {"status_code": 418, "message": "the vendor's words", "seedance_task_id": "task_a"}

classes = pytest.mark.parametrize("name", TABLE)


def kind_of(name: str) -> type[SeedanceError]:
    kind: type[SeedanceError] = getattr(exceptions, name)
    return kind


def example_of(name: str) -> SeedanceError:
    return kind_of(name)("What happened. What to do", **COMMON, **TABLE[name].details)


def through_the_database(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def read(payload: Any) -> SeedanceError:
    return error_from_json(payload, TaskRecord.model_validate)


def test_the_table_lists_every_error() -> None:
    public = {
        name for name, value in vars(exceptions).items() if isinstance(value, type) and issubclass(value, SeedanceError)
    }
    assert public == set(TABLE)


@classes
def test_is_caught_as_a_seedance_error_and_as_an_airflow_exception(name: str) -> None:
    assert issubclass(kind_of(name), SeedanceError)
    assert issubclass(kind_of(name), AirflowException)


@classes
def test_uses_a_retry_only_where_one_may_help(name: str) -> None:
    kind, airflow = kind_of(name), TABLE[name].airflow
    assert issubclass(kind, AirflowFailException) == (airflow == FAILS_AT_ONCE)
    assert issubclass(kind, AirflowSensorTimeout) == (airflow == TIMES_OUT)
    assert example_of(name).retryable == (airflow == RETRYABLE)


@classes
def test_says_whether_anything_is_charged_whether_to_poll_again_and_whether_it_denies_a_task(name: str) -> None:
    error, row = example_of(name), TABLE[name]
    assert (error.charged, error.transient, error.denial) == (row.charged, row.transient, row.denial)
    assert kind_of(name)("text", charged="yes").charged == "yes"


def test_a_request_counts_as_sent_unless_it_certainly_was_not() -> None:
    assert exceptions.SeedanceTransportError("x").request_sent is True
    assert exceptions.SeedanceTransportError("x").charged == "unknown"
    assert exceptions.SeedanceTransportError("x", request_sent=False).charged == "no"


def test_a_success_without_output_can_be_handled_as_a_failed_task() -> None:
    assert issubclass(exceptions.SeedanceOutputMissingError, exceptions.SeedanceTaskFailedError)


@classes
def test_knows_no_status_unless_told(name: str) -> None:
    kind = kind_of(name)
    assert kind.status_code is None, "AirflowException's 500 would be a lie"
    assert kind("text").status_code is None
    assert kind("text", status_code=503).status_code == 503


@classes
def test_has_defaults_for_everything_but_the_text(name: str) -> None:
    error = kind_of(name)("What happened. What to do")
    assert str(error) == error.message == "What happened. What to do"
    assert error.args == ("What happened. What to do",)
    assert error.seedance_task_id is None
    assert kind_of(name)().message == ""


@classes
def test_keeps_the_vendors_words_apart_from_its_text(name: str) -> None:
    error = kind_of(name)("text", message="the vendor's words")
    assert (str(error), error.message) == ("text", "the vendor's words")


@classes
def test_survives_pickling_with_all_it_carries(name: str) -> None:
    error = example_of(name)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@classes
def test_is_retold_with_all_it_carries_but_what_changed(name: str) -> None:
    error = example_of(name)
    retold = error.retold("Another text", charged="yes")
    assert type(retold) is type(error)
    assert str(retold) == "Another text"
    assert vars(retold) == vars(error) | {"charged": "yes"}


@classes
def test_takes_one_positional_argument_only(name: str) -> None:
    with pytest.raises(TypeError):
        kind_of(name)("text", 500)  # type: ignore[call-arg]


def test_does_not_share_the_list_of_problems_between_errors() -> None:
    first, second = exceptions.SeedanceInvalidRequestError("a"), exceptions.SeedanceInvalidRequestError("b")
    first.errors.append({"path": "a", "message": "b"})
    assert second.errors == []


@classes
class TestAcrossADeferral:
    def test_arrives_as_it_left(self, name: str) -> None:
        error = example_of(name)
        arrived = read(through_the_database(error.to_json()))
        assert type(arrived) is type(error)
        assert str(arrived) == str(error)
        assert vars(arrived) == vars(error)

    def test_arrives_without_details_too(self, name: str) -> None:
        error = kind_of(name)("text")
        arrived = read(through_the_database(error.to_json()))
        assert type(arrived) is type(error)
        assert vars(arrived) == vars(error)

    def test_arrives_with_what_it_learned_later(self, name: str) -> None:
        error = kind_of(name)("text")
        error.charged, error.denial, error.seedance_task_id = "yes", not error.denial, "task_b"
        arrived = read(through_the_database(error.to_json()))
        assert (arrived.charged, arrived.denial, arrived.seedance_task_id) == ("yes", error.denial, "task_b")

    def test_leaves_the_notes_of_its_traceback_behind(self, name: str) -> None:
        error = kind_of(name)("text")
        error.add_note("seen in the triggerer")
        assert str(read(through_the_database(error.to_json()))) == "text"


@given(st.sampled_from(sorted(TABLE)), wild.values)
def test_is_rebuilt_from_details_that_make_no_sense(name: str, value: Any) -> None:
    details = dict.fromkeys([*COMMON, *TABLE[name].details, "charged", "unknown", "to_json", "args"], value)
    arrived = read({"type": name, "text": "text", "details": details})
    assert type(arrived) is kind_of(name)
    assert str(arrived) == "text"
    assert not hasattr(arrived, "unknown")
    arrived.to_json()


@pytest.mark.parametrize(
    "kind", ["Decimal", "AirflowFailException", "SystemExit", "annotations", "__doc__", "New", None, 5, [], {}]
)
def test_an_unknown_class_becomes_the_common_base_and_nothing_else(kind: Any) -> None:
    assert type(read({"type": kind, "text": "text"})) is SeedanceError


@given(wild.values)
def test_any_mapping_gives_an_error_to_raise(value: Any) -> None:
    for payload in ({}, {"type": value, "text": value, "details": value}, {"details": {"message": value}}):
        assert isinstance(read(payload), SeedanceError)
