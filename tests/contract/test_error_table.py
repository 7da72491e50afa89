"""The error table, to be read: for each answer its class, whether it is tried again, and what it says."""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from seedance_provider import exceptions as e
from seedance_provider.api import calls, flows
from seedance_provider.api.policy import SubmitPolicy
from tests.unit.api.play import play, reply

LOG = logging.getLogger("tests.table")
PAGE = "<html><head><title>Attention Required! | Cloudflare</title></head></html>"


FAILS, RETRIES = "fails at once", "may be tried again"


@dataclass
class Row:
    """One row of the table.

    :param answer: What was answered, or the exception in place of an answer.
    :param raised: The class of the error.
    :param airflow: Whether Airflow may spend a retry on it.
    :param says: What the error's text tells.
    :param vendor: How often a createTask is sent in all with submit_policy="vendor"; None: see the other row.
    :param safe: The same with "safe".
    :param looks: How often get_task asks in all.
    """

    answer: Any
    raised: type[e.SeedanceError]
    airflow: str
    says: str
    vendor: int | None = None
    safe: int | None = None
    looks: int | None = None


SENT = e.SeedanceTransportError("The connection was reset")
UNSENT = e.SeedanceTransportError("The connection was refused", request_sent=False)

# fmt: off
CREATE_TASK = {
    "400": Row(
        reply(400, {"message": "Invalid request parameters"}),
        e.SeedanceInvalidRequestError, FAILS, vendor=1, safe=1, says="Nothing was charged; change the request",
    ),
    "422": Row(
        reply(422, {"message": "Unprocessable"}),
        e.SeedanceInvalidRequestError, FAILS, vendor=1, safe=1, says="Nothing was charged; change the request",
    ),
    "405 and other 4xx": Row(
        reply(405, {"message": "Method not allowed"}),
        e.SeedanceInvalidRequestError, FAILS, vendor=1, safe=1, says="Nothing was charged; change the request",
    ),
    "3xx": Row(
        reply(308, ""),
        e.SeedanceInvalidRequestError, FAILS, vendor=1, safe=1, says="set it to https://seedance2-pro.com or https://kinovi.ai",
    ),
    "401": Row(
        reply(401, {"message": "Invalid API Key"}),
        e.SeedanceAuthenticationError, FAILS, vendor=1, safe=1, says="Check the password of the Airflow connection",
    ),
    "402": Row(
        reply(402, {"message": "Insufficient credits", "required": 200, "available": 10}),
        e.SeedanceInsufficientCreditsError, FAILS, vendor=1, safe=1, says="required 200, available 10, missing 190",
    ),
    "403": Row(
        reply(403, {"message": "API access not enabled for this account"}),
        e.SeedancePermissionError, FAILS, vendor=1, safe=1, says="Ask the vendor's support to enable API access",
    ),
    "403 page": Row(
        reply(403, PAGE),
        e.SeedancePermissionError, FAILS, vendor=1, safe=1, says="check that no proxy on the way strips User-Agent",
    ),
    "404": Row(
        reply(404, {"message": "Not found"}),
        e.SeedanceTaskNotFoundError, FAILS, vendor=1, safe=1, says="Check the connection's host",
    ),
    "429": Row(
        reply(429, {"message": "Full", "limit": 5, "current": 5}),
        e.SeedanceConcurrencyLimitError, RETRIES, vendor=1, safe=1, says="5 of 5 slots in use). Nothing was charged",
    ),
    "200 without an id": Row(
        reply(200, {"message": "success"}),
        e.SeedanceSubmitUncertainError, FAILS, vendor=1, safe=1, says="A video may have been bought: look at",
    ),
    "200 page": Row(
        reply(200, PAGE),
        e.SeedanceSubmitUncertainError, FAILS, vendor=1, safe=1, says="A video may have been bought: look at",
    ),
    "never sent": Row(
        UNSENT,
        e.SeedanceTransportError, RETRIES, vendor=3, safe=3, says="The connection was refused",
    ),
    "500 vendor": Row(
        reply(500, {"message": "Internal error"}),
        e.SeedanceServerError, RETRIES, vendor=3, says="500 'Internal error'",
    ),
    "500 safe": Row(
        reply(500, {"message": "Internal error"}),
        e.SeedanceSubmitUncertainError, FAILS, safe=1, says="a video may or may not have been bought",
    ),
    "502 page vendor": Row(
        reply(502, PAGE),
        e.SeedanceServerError, RETRIES, vendor=3, says="502 ('Attention Required! | Cloudflare')",
    ),
    "502 page safe": Row(
        reply(502, PAGE),
        e.SeedanceSubmitUncertainError, FAILS, safe=1, says="a video may or may not have been bought",
    ),
    "timeout vendor": Row(
        SENT,
        e.SeedanceTransportError, RETRIES, vendor=3, says="The connection was reset",
    ),
    "timeout safe": Row(
        SENT,
        e.SeedanceSubmitUncertainError, FAILS, safe=1, says="a video may or may not have been bought",
    ),
}

RECORD_INFO = {
    "400": Row(
        reply(400, {"message": "Invalid taskId"}),
        e.SeedanceInvalidRequestError, FAILS, looks=1, says="400 'Invalid taskId'",
    ),
    "401": Row(
        reply(401, {"message": "Invalid API Key"}),
        e.SeedanceAuthenticationError, FAILS, looks=1, says="Check the password of the Airflow connection",
    ),
    "403": Row(
        reply(403, {"message": "Access denied"}),
        e.SeedancePermissionError, FAILS, looks=1, says="use the connection that created it",
    ),
    "403 page": Row(
        reply(403, PAGE),
        e.SeedanceServerError, RETRIES, looks=3, says="check that no proxy on the way strips the User-Agent",
    ),
    "404": Row(
        reply(404, {"message": "Task not found"}),
        e.SeedanceTaskNotFoundError, FAILS, looks=1, says="Check the id; records are kept for 60 days",
    ),
    "429": Row(
        reply(429, {"message": "Too many requests"}),
        e.SeedanceConcurrencyLimitError, RETRIES, looks=3, says="429 'Too many requests'",
    ),
    "500": Row(
        reply(500, {"message": "Internal error"}),
        e.SeedanceServerError, RETRIES, looks=3, says="500 'Internal error'",
    ),
    "520 page": Row(
        reply(520, PAGE),
        e.SeedanceServerError, RETRIES, looks=3, says="520 ('Attention Required! | Cloudflare')",
    ),
    "200 page": Row(
        reply(200, PAGE),
        e.SeedanceServerError, RETRIES, looks=3, says="something that is not a task record",
    ),
    "200 cut": Row(
        reply(200, b'{"taskId":"ta'),
        e.SeedanceServerError, RETRIES, looks=3, says="something that is not a task record",
    ),
    "timeout": Row(
        SENT,
        e.SeedanceTransportError, RETRIES, looks=3, says="The connection was reset",
    ),
    "never sent": Row(
        UNSENT,
        e.SeedanceTransportError, RETRIES, looks=3, says="The connection was refused",
    ),
}
# fmt: on


def check(row: Row, error: BaseException | None) -> None:
    assert type(error) is row.raised
    assert isinstance(error, AirflowFailException) == (row.airflow == FAILS)
    assert row.says in str(error)


@pytest.mark.parametrize("row", CREATE_TASK.values(), ids=CREATE_TASK)
def test_create_task(row: Row) -> None:
    for submit_policy, times in ((SubmitPolicy.VENDOR, row.vendor), (SubmitPolicy.SAFE, row.safe)):
        if times is not None:
            call = calls.create_task("seedance-20", {"prompt": "x"})
            check(row, play(flows.submit(call, submit_policy, LOG), [copy(row.answer) for _ in range(times)]).error)


@pytest.mark.parametrize("row", RECORD_INFO.values(), ids=RECORD_INFO)
def test_record_info(row: Row) -> None:
    assert row.looks is not None
    new_keys = [False] if row.raised is e.SeedanceAuthenticationError else []
    played = play(flows.get("task_a", LOG), [copy(row.answer) for _ in range(row.looks)], new_keys=new_keys)
    check(row, played.error)
