"""Every row of the contract's tables over real HTTP, through the worker's transport and the triggerer's alike."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider import __version__, defaults, exceptions
from seedance_provider.api import calls, catalog, flows
from seedance_provider.api.failures import may_resubmit_help
from seedance_provider.api.messages import Reply
from seedance_provider.api.records import TaskRecord, parse_webhook
from seedance_provider.config import SubmitPolicy
from tests.contract.replay import Replay, body_of, cases, replay
from tests.support.play import Clock, Play, no_jitter, play
from tests.support.play import reply as answer

if TYPE_CHECKING:
    from seedance_provider.api.messages import Flow
    from tests.contract.conftest import Transport

LOG = logging.getLogger("tests.contract")
TASK = "task_b7n3m9q1w5e8r2t6y0u4i7o3"
RECORDS = [case for table in ("shapes", "status", "fields", "failures") for case in cases(f"recordinfo/{table}")]


def submit(submit_policy: SubmitPolicy = SubmitPolicy.VENDOR, **case: Any) -> Flow[str]:
    call = calls.create_task(
        case.get("model", "seedance-20"), case.get("inputs", {"prompt": "x"}), case.get("callback_url")
    )
    return flows.submit(call, submit_policy, LOG, jitter=no_jitter)


def get(task_id: str = TASK) -> Flow[TaskRecord]:
    return flows.get(task_id, LOG, jitter=no_jitter)


def check_headers(server: Replay, transport: Transport) -> None:
    for _, _, headers, _ in server.requests:
        assert headers["authorization"] == f"Bearer {transport.key}"
        assert headers["user-agent"] == f"airflow-provider-seedance/{__version__}"
        assert headers["content-type"] == "application/json"
        assert headers["accept"] == "application/json"
        assert "cookie" not in headers


def check_error(error: exceptions.SeedanceError, expected: dict[str, Any], key: str) -> None:
    assert type(error).__name__ == expected["error"]
    assert error.status_code == expected["status_code"]
    assert error.message
    if "message" in expected:
        assert error.message == expected["message"]
    assert error.retryable == (expected["airflow"] == "retries")
    for name in ("errors", "limit", "current", "retry_after"):
        if name in expected:
            assert getattr(error, name) == expected[name]
    for name in ("required", "available"):
        if name in expected:
            amount = getattr(error, name)
            assert (None if amount is None else str(amount)) == expected[name]
    for part in (expected.get("message") or "", *expected.get("text", [])):
        assert part in str(error)
    assert key not in str(error)


def plain(record: TaskRecord) -> dict[str, Any]:
    """The record as XCom holds it, without what is unknown."""
    return record.model_dump(mode="json", exclude_defaults=True)


@pytest.mark.parametrize("case", cases("createtask/requests"))
def test_create_task_sends_the_recorded_request_and_returns_the_id(case: dict[str, Any], transport: Transport) -> None:
    with replay(case["reply"]) as server:
        assert transport.drive(submit(**case), server.url) == case["task_id"]
    ((method, target, headers, body),) = server.requests
    assert (method, target) == ("POST", "/api/v1/jobs/createTask")
    assert body.decode() == case["body"]
    sent = {"model": case["model"], "inputs": case["inputs"]}
    if "callback_url" in case:
        sent["callBackUrl"] = case["callback_url"]
    assert json.loads(body) == sent
    assert headers["content-length"] == str(len(body))
    check_headers(server, transport)


@pytest.mark.parametrize("case", cases("recordinfo/requests"))
def test_get_task_encodes_the_recorded_id(case: dict[str, Any], transport: Transport) -> None:
    with replay({"json": {"taskId": case["task_id"], "status": "waiting"}}) as server:
        record = transport.drive(get(case["task_id"]), server.url)
    assert record.seedance_task_id == case["task_id"].strip()
    ((method, target, _, body),) = server.requests
    assert (method, target, body) == ("GET", f"/api/v1/jobs/recordInfo?{case['query']}", b"")
    check_headers(server, transport)


@pytest.mark.parametrize("submit_policy", list(SubmitPolicy), ids=str)
@pytest.mark.parametrize("case", cases("createtask/errors"))
def test_create_task_raises_the_recorded_error_and_resends_as_recorded(
    case: dict[str, Any], submit_policy: SubmitPolicy, transport: Transport
) -> None:
    expected = case["post"]
    with replay(case["reply"]) as server, pytest.raises(exceptions.SeedanceError) as caught:
        transport.drive(submit(submit_policy), server.url)
    error = caught.value
    assert error.charged == expected["charged"]
    of_unknown_outcome = expected["resend"] == "vendor"
    assert len(server.requests) == (3 if of_unknown_outcome and submit_policy is SubmitPolicy.VENDOR else 1)
    if of_unknown_outcome and submit_policy is SubmitPolicy.SAFE:
        assert type(error) is exceptions.SeedanceSubmitUncertainError
        assert error.status_code == expected["status_code"]
        assert isinstance(error.__cause__, exceptions.SeedanceError)
        error = error.__cause__
    check_error(error, expected, transport.key)
    check_headers(server, transport)
    assert transport.pauses == ([1, 2] if len(server.requests) == 3 else [])
    assert len({body for _, _, _, body in server.requests}) == 1


@pytest.mark.parametrize("case", cases("recordinfo/errors"))
def test_get_task_raises_the_recorded_error_and_asks_again_as_recorded(
    case: dict[str, Any], transport: Transport
) -> None:
    expected = case["get"]
    with replay(case["reply"]) as server, pytest.raises(exceptions.SeedanceError) as caught:
        transport.drive(get(), server.url)
    assert len(server.requests) == (3 if expected["poll"] == "again" else 1)
    check_error(caught.value, expected, transport.key)
    assert caught.value.seedance_task_id == TASK
    assert caught.value.charged == "unknown"
    check_headers(server, transport)
    assert max(transport.pauses, default=0) >= (expected.get("retry_after") or 0)


SUCCESS = answer(200, {"taskId": TASK, "status": "success", "output": "https://static.example.com/videos/b7.mp4"})


def wait(case: dict[str, Any], polls: int, *, alive: bool) -> Play[TaskRecord]:
    """A wait that is given the same answer a number of times, then a success; it began long ago."""
    clock = Clock()
    odd = Reply(case["reply"].get("status", 200), case["reply"].get("type", "application/json"), body_of(case["reply"]))
    watch = flows.Watch(
        TASK, 60, clock.now - 3600, clock.now + 86_400, clock=clock, jitter=no_jitter, log=LOG, alive=alive
    )
    replies = [*[odd] * polls, SUCCESS] if polls else [odd]
    return play(flows.wait(watch), replies, clock=clock, new_keys=[False] * (polls or 1 if odd.status == 401 else 0))


@pytest.mark.parametrize("case", cases("recordinfo/errors"))
def test_before_the_first_record_a_wait_ends_unless_the_next_answer_may_be_better(case: dict[str, Any]) -> None:
    if case["get"]["poll"] == "again":
        assert wait(case, 5, alive=False).result is not None
        return
    error = wait(case, 0, alive=False).error
    assert type(error).__name__ == case["get"]["error"]


@pytest.mark.parametrize("case", cases("recordinfo/errors"))
def test_a_wait_that_saw_its_task_alive_ends_only_by_a_denial_that_persists(case: dict[str, Any]) -> None:
    assert wait(case, defaults.DENIALS - 1, alive=True).result is not None
    if case["get"]["poll"] != "denied":
        assert wait(case, 20, alive=True).result is not None
        return
    clock = Clock()
    watch = flows.Watch(TASK, 60, clock.now, clock.now + 86_400, clock=clock, jitter=no_jitter, log=LOG, alive=True)
    odd = Reply(case["reply"]["status"], "application/json", body_of(case["reply"]))
    played = play(flows.wait(watch), [odd] * defaults.DENIALS, clock=clock, new_keys=[False] * 3 * (odd.status == 401))
    assert type(played.error).__name__ == case["get"]["error"]
    assert played.sent_at == [0, 60, 120]


@pytest.mark.parametrize("case", RECORDS)
def test_get_task_reads_the_recorded_record(case: dict[str, Any], transport: Transport) -> None:
    task_id = case["record"]["seedance_task_id"]
    with replay(case["reply"]) as server:
        record = transport.drive(get(task_id), server.url)
    assert plain(record) == case["record"]
    assert TaskRecord.model_validate(json.loads(json.dumps(record.model_dump(mode="json")))) == record
    assert len(server.requests) == 1


@pytest.mark.parametrize("case", RECORDS)
def test_a_wait_ends_as_recorded(case: dict[str, Any], transport: Transport) -> None:
    """One poll at the deadline: what a success, a failure and a running task each come to."""
    task_id = case["record"]["seedance_task_id"]
    settles = catalog.settles_later(case["record"].get("model"))
    deadline = defaults.SETTLEMENT_DELAY if settles and case["ends"] == "well" else 0.0
    watch = flows.Watch(task_id, None, 0.0, deadline, clock=lambda: 0.0, jitter=no_jitter, log=LOG)
    outcome: Any
    with replay(case["reply"]) as server:
        try:
            outcome = transport.drive(flows.wait(watch), server.url)
        except exceptions.SeedanceError as error:
            outcome = error
    if case["ends"] == "well":
        assert plain(outcome) == case["record"]
        assert len(server.requests) == (2 if settles else 1)
        return
    assert outcome.seedance_task_id == task_id
    assert task_id in str(outcome)
    assert len(server.requests) == 1
    if case["ends"] == "running":
        assert type(outcome) is exceptions.SeedanceTaskTimeoutError
    else:
        assert type(outcome).__name__ == case["ends"]
        assert plain(outcome.record) == case["record"]
    if case["ends"] == "SeedanceTaskFailedError":
        failure = case["record"]["failure"]
        assert (outcome.code, outcome.message) == (failure.get("code"), failure["message"])
        assert outcome.status_code is None


@pytest.mark.parametrize("case", cases("recordinfo/failures"))
def test_a_failed_task_is_resubmitted_only_where_the_vendor_says_it_is_transient(case: dict[str, Any]) -> None:
    failure = parse_webhook(body_of(case["reply"])).failure
    assert failure is not None
    assert may_resubmit_help(failure) is case["resubmit_may_help"]


@pytest.mark.parametrize("case", cases("webhooks/shapes"))
def test_a_webhook_is_read_like_a_record(case: dict[str, Any]) -> None:
    body = body_of({"json": case["body"]})
    assert plain(parse_webhook(body)) == case["record"]
    assert parse_webhook(body) == parse_webhook(body), "it may be delivered twice"
    assert parse_webhook(b"\xef\xbb\xbf" + body) == parse_webhook(body)
    for end in range(0, len(body) - 1, 7):
        with pytest.raises(exceptions.SeedanceServerError):
            parse_webhook(body[:end])


@pytest.mark.parametrize("case", cases("webhooks/shapes"))
def test_recordinfo_answering_in_the_shape_of_a_webhook_is_read_as_well(
    case: dict[str, Any], transport: Transport
) -> None:
    with replay({"json": case["body"]}) as server:
        assert plain(transport.drive(get(), server.url)) == case["record"]
