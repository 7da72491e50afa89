from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from seedance_provider.testing.emulator import script, texts
from seedance_provider.testing.emulator.faults import FAULTS

from .conftest import until  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .conftest import Api, Clock


def options(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("emulator", [settings], indirect=True)


def created(api: Api) -> int:
    return int(api.emulator.bill()["tasks_created"])


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504, 520, 524])
def test_any_http_status_can_be_answered_once(api: Api, status: int) -> None:
    api.emulator.add_fault("http", status=status, message="as asked")
    reply = api.create()
    assert (reply.status_code, reply.json()) == (status, {"message": "as asked"})
    assert created(api) == 0
    assert api.create().status_code == 200


def test_a_status_may_carry_any_body_type_and_headers(api: Api) -> None:
    api.emulator.add_fault("http", status=503, body="busy", content_type="text/plain", headers={"Retry-After": "7"})
    reply = api.create()
    assert (reply.status_code, reply.text, reply.headers["Content-Type"]) == (503, "busy", "text/plain")
    assert reply.headers["Retry-After"] == "7"
    api.emulator.add_fault("http", status=422, json={"errors": "odd"})
    assert api.create().json() == {"errors": "odd"}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 460, 500, 502, 503, 504, 520, 524])
def test_a_status_alone_is_answered_as_the_vendor_or_its_edge_does(api: Api, status: int) -> None:
    api.emulator.add_fault("http", status=status)
    api.emulator.add_fault("http", status=status, on="recordInfo")
    by_script = [api.create(), api.poll("x")]
    by_prompt = api.create(f"[[createTask:{status}]]")
    assert {reply.status_code for reply in (*by_script, by_prompt)} == {status}
    assert by_prompt.text == by_script[0].text
    edge = status > 500
    for reply in by_script:
        assert reply.headers["Content-Type"].startswith("text/html" if edge else "application/json")
        assert edge or reply.json()["message"]
    assert created(api) == 0


def test_each_status_has_words_of_its_own(api: Api) -> None:
    statuses = (400, 401, 402, 403, 404, 422, 429, 500)
    bodies = [api.create(f"[[createTask:{status}]]").json() for status in statuses]
    assert len({body["message"] for body in bodies}) == len(statuses)
    assert {"required", "available"} < set(bodies[2])
    assert {"limit", "current"} < set(bodies[6])
    task_id = api.create_id("[[recordInfo:403]]")
    assert api.poll(task_id).json() == {"message": "Access denied"}


@options(dialect="envelope")
def test_the_words_come_in_the_envelope_of_the_dialect(api: Api) -> None:
    body = api.create("[[createTask:402]]").json()
    assert (body["code"], body["data"], body["required"]) == (402, None, 200)


@pytest.mark.parametrize("status", [403, 502, 520])
def test_the_edges_html_pages(api: Api, status: int) -> None:
    api.emulator.add_fault("html", on="recordInfo", status=status)
    reply = api.poll(api.create_id())
    assert reply.status_code == status
    assert reply.headers["Content-Type"].startswith("text/html")


def test_the_limit_refusal_comes_with_and_without_its_members(api: Api) -> None:
    api.emulator.add_fault("rate_limit")
    assert set(api.create().json()) == {"message"}
    api.emulator.add_fault("rate_limit", limit=3, current=3, retry_after=2)
    reply = api.create()
    assert (reply.status_code, reply.json()["limit"], reply.json()["current"]) == (429, 3, 3)
    assert reply.headers["Retry-After"] == "2"


def test_truncated_json_hides_a_task_that_exists(api: Api) -> None:
    api.emulator.add_fault("truncated")
    reply = api.create()
    assert reply.status_code == 200
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the JSON reader says
        reply.json()
    assert created(api) == 1
    assert api.emulator.counts() == {"created+fault:truncated": 1}
    api.emulator.add_fault("truncated", accept=False)
    assert api.create().text == '{"taskId'
    assert created(api) == 1


@pytest.mark.parametrize("accept", [False, True])
def test_answers_without_a_task_id(api: Api, accept: bool) -> None:
    api.emulator.add_fault("empty", accept=accept)
    api.emulator.add_fault("no_task_id", accept=accept)
    api.emulator.add_fault("envelope_error", code=402, message="Insufficient credits", accept=accept)
    assert (api.create().text, api.create().json()) == ("", {"message": "ok"})
    reply = api.create()
    assert (reply.status_code, reply.json()["code"], reply.json()["data"]) == (200, 402, None)
    assert created(api) == (3 if accept else 0)


@pytest.mark.parametrize("accept", [False, True])
def test_a_connection_is_reset_before_or_after_the_task_is_created(api: Api, accept: bool) -> None:
    api.emulator.add_fault("reset", accept=accept)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        api.create()
    assert created(api) == int(accept)
    assert api.emulator.counts() == {"created+fault:reset" if accept else "fault:reset": 1}


@pytest.mark.parametrize("accept", [False, True])
def test_a_client_that_gives_up_on_a_slow_answer_finds_a_task_only_if_it_was_accepted(api: Api, accept: bool) -> None:
    api.emulator.add_fault("slow", seconds=0.3, accept=accept)
    with pytest.raises(requests.Timeout):
        api.submit({"model": "seedance-20", "inputs": {"prompt": "a"}}, timeout=0.1)
    until(api.emulator.counts, bool)
    assert created(api) == int(accept)


@pytest.mark.parametrize("accept", [False, True])
def test_a_slow_answer_is_a_good_answer_for_who_waits(api: Api, accept: bool) -> None:
    api.emulator.add_fault("slow", seconds=0.15, accept=accept)
    started = time.monotonic()
    assert "taskId" in api.create().json()
    assert time.monotonic() - started >= 0.15


def test_redirects_point_to_another_host(api: Api) -> None:
    api.emulator.add_fault("redirect", status=307, location="https://elsewhere.invalid/x")
    reply = api.create()
    assert (reply.status_code, reply.headers["Location"]) == (307, "https://elsewhere.invalid/x")


@pytest.mark.parametrize("status", [204, 302, 304, 308, 408, 421, 425, 451, 460, 499, 599])
def test_polls_may_be_answered_with_odd_statuses(api: Api, status: int) -> None:
    task_id = api.create_id(f"[[recordInfo:odd_status:status={status}]]")
    reply = api.poll(task_id)
    assert (reply.status_code, reply.text) == (status, "")
    assert ("Location" in reply.headers) == (300 <= status < 400)
    assert api.poll(task_id).status_code == 200


def test_a_record_may_be_about_another_task(api: Api) -> None:
    task_id = api.create_id("[[wrong_task:2]]")
    answers = [api.record(task_id)["taskId"] for _ in range(3)]
    assert answers[0] == answers[1] != task_id
    assert answers[2] == task_id
    api.emulator.add_fault("wrong_task", task_id="task_chosen")
    assert api.record(task_id)["taskId"] == "task_chosen"


def test_success_may_have_a_great_many_outputs_or_very_long_urls(api: Api) -> None:
    many = api.record(api.create_id("[[huge:2000]]"))["output"]
    assert len({output["url"] for output in many}) == 2000
    (long,) = api.record(api.create_id("[[huge:1:1000000]]"))["output"]
    assert len(long["url"]) == 1_000_000
    assert requests.get(many[1999]["url"], headers={"User-Agent": "tests"}, timeout=5).status_code == 200
    api.emulator.add_fault("huge", outputs=0)
    assert api.record(api.create_id())["output"] == []


@pytest.mark.parametrize("on", ["createTask", "recordInfo"])
def test_texts_may_hold_control_characters(api: Api, on: str) -> None:
    api.emulator.add_fault("control_chars", on=on, status=400)
    reply = api.create() if on == "createTask" else api.poll(api.create_id())
    message = reply.json()["message"]
    assert {"\n", "\r", "\x1b", "\u202e"} < set(message)
    task_id = api.create_id("[[fail:1001]][[recordInfo:control_chars:genuine=true]]")
    failure = api.record(task_id)
    assert failure["status"] == "fail"
    assert failure["error"]["message"] != api.record(task_id)["error"]["message"]
    assert "\x1b" in failure["error"]["message"]


@pytest.mark.parametrize(("form", "bytes_of"), [("plain", str.encode), ("utf16", lambda key: key.encode("utf-16-le"))])
def test_the_key_is_echoed_in_the_encoding_asked_for(api: Api, form: str, bytes_of: Any) -> None:
    api.emulator.put_account(key="sk-+/secret")
    api.key = "sk-+/secret"
    api.emulator.add_fault("echo_key", form=form)
    reply = api.create()
    assert reply.status_code == 401
    assert bytes_of("sk-+/secret") in reply.content
    assert reply.json()["message"].endswith("sk-+/secret")


def test_the_key_is_echoed_as_json_escapes(api: Api) -> None:
    api.emulator.add_fault("echo_key", form="escaped", status=500, on="recordInfo")
    reply = api.poll(api.create_id())
    assert reply.status_code == 500
    assert api.emulator.api_key not in reply.text
    assert reply.json()["message"].endswith(api.emulator.api_key)


def test_the_script_can_be_forgotten(api: Api) -> None:
    api.emulator.add_fault("http", times=None)
    assert api.create().status_code == 500
    assert api.call("DELETE", "/_admin/faults").json() == {"faults": 0}
    assert api.create().status_code == 200
    api.emulator.add_fault("http", times=None)
    api.emulator.clear_faults()
    assert api.create().status_code == 200


def test_every_fault_is_described_and_reads_back_as_written(api: Api) -> None:
    for name, kind in FAULTS.items():
        assert kind.__doc__
        rule = script.parse({"fault": name}).to_json()
        assert script.parse(rule).to_json() == rule
        assert json.dumps(rule)


def test_an_oversize_body_is_as_long_as_asked(api: Api) -> None:
    api.emulator.add_fault("oversize", on="recordInfo", bytes=1_000_000)
    assert len(api.poll("any").content) > 1_000_000


def test_faults_are_consumed_in_order_with_times_and_skip(api: Api) -> None:
    api.emulator.add_fault("http", status=500, times=2, skip=1)
    api.emulator.add_fault("http", status=503, times=1)
    assert [api.create().status_code for _ in range(5)] == [503, 500, 500, 200, 200]


def test_faults_for_ever_and_for_matching_prompts_only(api: Api) -> None:
    api.emulator.add_fault("http", times=None, match={"prompt": "fox"})
    assert [api.create(prompt).status_code for prompt in ("a fox", "a hen", "two foxes")] == [500, 200, 500]


def test_faults_for_one_task_id_only(api: Api) -> None:
    unlucky, lucky = api.create_id(), api.create_id()
    api.emulator.add_fault("not_found", on="recordInfo", times=2, match={"taskId": unlucky})
    assert api.poll(lucky).status_code == 200
    replies = [api.poll(unlucky) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [404, 404, 200]
    assert replies[0].json() == {"message": "Task not found"}


def test_faults_on_any_endpoint(api: Api) -> None:
    api.emulator.add_fault("http", on="any", times=4)
    replies = [
        api.create(),
        api.poll("x"),
        api.call("POST", "/api/v1/uploads"),
        api.call("GET", "/api/v1/uploads?path=x"),
    ]
    assert {reply.status_code for reply in replies} == {500}


def test_success_without_output_comes_only_once_the_task_succeeded(api: Api, clock: Clock) -> None:
    task_id = api.create_id("[[generating:60]][[null_output:2]]")
    assert api.record(task_id)["status"] == "generating"
    clock.forward(60)
    records = [api.record(task_id) for _ in range(3)]
    assert {record["status"] for record in records} == {"success"}
    assert [bool(record["output"]) for record in records] == [False, False, True]


def test_null_sizes(api: Api) -> None:
    api.emulator.add_fault("null_sizes", times=1)
    task_id = api.create_id()
    assert [api.record(task_id)["output"][0]["width"] for _ in range(2)] == [None, 1280]


def test_an_unknown_status_word_for_some_polls_or_for_ever(api: Api) -> None:
    passing, lasting = api.create_id("[[status:QUEUED:2]]"), api.create_id("[[status:archived]]")
    assert [api.record(passing)["status"] for _ in range(3)] == ["QUEUED", "QUEUED", "success"]
    assert {api.record(lasting)["status"] for _ in range(5)} == {"archived"}


def test_credits_may_differ_for_one_poll(api: Api) -> None:
    api.emulator.add_fault("credits", credits=99.80000000000001)
    task_id = api.create_id()
    assert [api.record(task_id)["creditsUsed"] for _ in range(2)] == [99.80000000000001, 200]


@options(dialect="envelope")
def test_members_of_an_answer_can_be_set_and_removed(api: Api) -> None:
    task_id = api.create_id()
    api.emulator.add_fault("members", set={"creditsUsed": "12.5"}, remove=["createTime", "absent"])
    record = api.record(task_id)
    assert record["creditsUsed"] == "12.5"
    assert "createTime" not in record


def test_settlement_can_be_asked_for_any_task(api: Api, clock: Clock) -> None:
    named, unnamed = api.create_id("[[settle:150.5:60]]"), api.create_id("[[settle]]")
    api.emulator.add_fault("settle", credits=1, seconds=0)
    scripted = api.create_id()
    assert api.record(named)["creditsUsed"] == 200
    assert api.record(scripted)["creditsUsed"] == 1
    clock.forward(60)
    assert [api.record(task_id)["creditsUsed"] for task_id in (named, unnamed)] == [150.5, 201]


def test_a_script_may_fail_tasks_with_codes_texts_and_shapes(api: Api) -> None:
    api.emulator.add_fault("fail", code="1001", message="No luck", skip=1)
    api.emulator.add_fault("fail", shape="string")
    api.emulator.add_fault("fail_without_error")
    errors = [api.record(api.create_id())["error"] for _ in range(4)]
    assert errors == ["Task execution failed", {"code": "1001", "message": "No luck"}, None, None]
    assert api.emulator.bill()["tasks_failed"] == 3


@options(dialect="seed")
def test_a_failure_without_error_has_no_error_member_in_the_seeds_dialect(api: Api) -> None:
    assert list(api.record(api.create_id("[[fail_without_error]]"))) == ["taskId", "model", "status"]
    api.emulator.add_fault("fail", code="500", shape="object")
    assert api.record(api.create_id())["error"] == {"code": "500", "message": "Generation failed. Please try again."}


@pytest.mark.parametrize("code", texts.FAIL_MESSAGES)
def test_a_prompt_may_ask_for_a_failure_by_code(api: Api, code: str) -> None:
    error = api.record(api.create_id(f"A fox [[fail:{code}]]"))["error"]
    assert error == {"code": code, "message": texts.FAIL_MESSAGES[code]}


def test_a_prompt_may_ask_for_bad_answers_to_its_own_post(api: Api) -> None:
    prompt = "A hen [[createTask:503:2]][[createTask:html:status=520]]"
    assert [api.create(prompt).status_code for _ in range(5)] == [503, 503, 520, 200, 200]
    with pytest.raises(requests.ConnectionError):
        api.create("[[createTask:reset:accept=true]]")
    assert created(api) == 3


def test_a_prompt_may_ask_for_bad_answers_to_polls(api: Api) -> None:
    task_id = api.create_id("[[recordInfo:html:status=502:times=2]] [[not_found:1]] [[waiting:0]]")
    assert [api.poll(task_id).status_code for _ in range(4)] == [502, 502, 404, 200]
    slow = api.create_id("[[recordInfo:slow:seconds=0.1]]")
    started = time.monotonic()
    api.poll(slow)
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(
    "directive",
    [
        "[[status]] x [[status:a:b]]",
        "[[generating:soon]]",
        "[[webhook:twice]]",
        "[[createTask:explode]]",
        "[[recordInfo:]]",
    ],
)
def test_a_wrong_directive_is_refused_with_its_reason(api: Api, directive: str) -> None:
    reply = api.create(directive)
    assert reply.status_code == 400
    assert created(api) == 0


def test_other_double_brackets_are_just_prompt(api: Api) -> None:
    assert api.record(api.create_id("A [[fox]] and [[a: b]] [[FAIL]]"))["status"] == "success"


@pytest.mark.parametrize(
    "rule",
    [
        "http",
        {"fault": "explode"},
        {"fault": "http", "colour": "red"},
        {"fault": "http", "on": "nowhere"},
        {"fault": "fail", "on": "recordInfo"},
        {"fault": "http", "match": {"model": "x"}},
        {"fault": "http", "match": "x"},
        {"fault": "http", "times": -1},
        {"fault": "http", "skip": True},
        {"fault": "http", "status": "500"},
        {"fault": "http", "headers": []},
        {"fault": "http", "accept": "yes"},
        {"fault": "slow", "seconds": True},
        {"fault": "rate_limit", "limit": "3"},
        {"fault": "fail", "message": 5},
    ],
)
def test_a_wrong_rule_is_refused_and_none_of_its_script_is_kept(api: Api, rule: Any) -> None:
    with pytest.raises(ValueError, match=r"fault|match|times|skip"):
        api.emulator.server.add_faults([{"fault": "http"}, rule])
    assert api.create().status_code == 200


@options(faults=[{"fault": "http", "status": 503}])
def test_a_script_can_be_given_at_the_start_and_reads_back_as_written(api: Api) -> None:
    (rule,) = api.call("GET", "/_admin/faults").json()
    assert script.parse(rule).to_json()["status"] == 503
    assert json.dumps(rule)
