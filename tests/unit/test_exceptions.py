"""Every error: what it carries, and what Airflow makes of it."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from seedance_provider import exceptions
from seedance_provider.api.models import parse_task

FAILED = parse_task(
    {"taskId": "task_a", "status": "fail", "creditsUsed": 2.17, "error": {"code": "1001", "message": "x"}}
)

# The table of the design: whether a retry of Airflow's can help, and what each carries of its own.
FAILS_AT_ONCE = "fails at once"
RETRYABLE = "retryable"
TIMES_OUT = "times out"
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "SeedanceError": (RETRYABLE, {}),
    "SeedanceConfigurationError": (FAILS_AT_ONCE, {}),
    "SeedanceInvalidRequestError": (FAILS_AT_ONCE, {"errors": [{"path": "duration", "message": "No"}]}),
    "SeedanceAuthenticationError": (FAILS_AT_ONCE, {}),
    "SeedanceInsufficientCreditsError": (
        FAILS_AT_ONCE,
        {"required": Decimal("142.57"), "available": Decimal("99.80000000000001")},
    ),
    "SeedancePermissionError": (FAILS_AT_ONCE, {}),
    "SeedanceTaskNotFoundError": (FAILS_AT_ONCE, {}),
    "SeedanceConcurrencyLimitError": (RETRYABLE, {"limit": 5, "current": 5, "retry_after": 7.5}),
    "SeedanceServerError": (RETRYABLE, {"retry_after": 30.0}),
    "SeedanceTransportError": (RETRYABLE, {"request_sent": False}),
    "SeedanceSubmitUncertainError": (FAILS_AT_ONCE, {}),
    "SeedanceTaskFailedError": (FAILS_AT_ONCE, {"code": "1001", "record": FAILED}),
    "SeedanceOutputMissingError": (FAILS_AT_ONCE, {"code": None, "record": FAILED}),
    "SeedanceTaskTimeoutError": (TIMES_OUT, {}),
}
COMMON = {"status_code": 418, "message": "the vendor's words", "seedance_task_id": "task_a"}

classes = pytest.mark.parametrize("name", TABLE)


def kind_of(name: str) -> type[exceptions.SeedanceError]:
    kind: type[exceptions.SeedanceError] = getattr(exceptions, name)
    return kind


def test_the_table_lists_every_error() -> None:
    public = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.SeedanceError)
    }
    assert public == set(TABLE)


@classes
def test_is_caught_as_a_seedance_error_and_as_an_airflow_exception(name: str) -> None:
    assert issubclass(kind_of(name), exceptions.SeedanceError)
    assert issubclass(kind_of(name), AirflowException)


@classes
def test_burns_a_retry_only_where_one_may_help(name: str) -> None:
    kind, fate = kind_of(name), TABLE[name][0]
    assert issubclass(kind, AirflowFailException) == (fate == FAILS_AT_ONCE)
    assert issubclass(kind, AirflowSensorTimeout) == (fate == TIMES_OUT)


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
    details = {**COMMON, **TABLE[name][1]}
    error = kind_of(name)("text", **details)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == "text"
    assert vars(copy) == vars(error) == details


@classes
def test_takes_one_positional_argument_only(name: str) -> None:
    with pytest.raises(TypeError):
        kind_of(name)("text", 500)  # type: ignore[misc]


def test_takes_a_request_for_sent_unless_it_certainly_was_not() -> None:
    assert exceptions.SeedanceTransportError("x").request_sent is True


def test_does_not_share_the_list_of_problems_between_errors() -> None:
    first, second = exceptions.SeedanceInvalidRequestError("a"), exceptions.SeedanceInvalidRequestError("b")
    first.errors.append({"path": "a", "message": "b"})
    assert second.errors == []
