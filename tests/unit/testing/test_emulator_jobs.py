from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
import requests

from seedance_provider.testing import Emulator

if TYPE_CHECKING:
    from .conftest import Api, Clock  # type: ignore[import-not-found]


def options(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("emulator", [settings], indirect=True)


def test_a_created_task_answers_with_nothing_but_its_id(api: Api) -> None:
    reply = api.create()
    assert reply.status_code == 200
    assert re.fullmatch(r'\{"taskId":"task_[a-z0-9]{24}"\}', reply.text)


@options(waiting_seconds=60, generating_seconds=120)
def test_a_task_goes_from_waiting_over_generating_to_success_by_the_clock(api: Api, clock: Clock) -> None:
    task_id = api.create_id(duration=4, seed=7)
    first = api.poll(task_id)
    assert list(first.json()) == [
        "taskId",
        "model",
        "status",
        "creditsUsed",
        "output",
        "error",
        "createTime",
        "completeTime",
    ]
    record = first.json()
    assert (record["status"], record["creditsUsed"], record["output"], record["completeTime"]) == (
        "waiting",
        160,
        None,
        None,
    )
    clock.forward(60)
    assert api.record(task_id)["status"] == "generating"
    clock.forward(120)
    record = api.record(task_id)
    assert record["status"] == "success"
    assert record["completeTime"] - record["createTime"] == 180_000
    assert record["error"] is None
    (output,) = record["output"]
    assert list(output) == ["url", "width", "height", "mediaType", "seed", "lastFrameImage"]
    assert (output["width"], output["height"], output["mediaType"], output["seed"]) == (1280, 720, "video/mp4", 7)
    assert " " not in first.text


def test_a_missing_authorization_header_is_401_in_the_vendors_words(api: Api) -> None:
    for path in ("/api/v1/jobs/recordInfo?taskId=x", "/api/v1/uploads?path=x"):
        reply = api.call("GET", path, Authorization="")
        assert (reply.status_code, reply.text) == (401, '{"message":"Missing Authorization header"}')


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic emulator-key", "emulator-key"])
def test_a_wrong_key_is_401(api: Api, header: str) -> None:
    reply = api.submit({}, Authorization=header)
    assert (reply.status_code, reply.json()) == (401, {"message": "Invalid API Key"})


@pytest.mark.parametrize(
    ("state", "status", "message"),
    [
        ("inactive", 401, "API Key is inactive"),
        ("expired", 401, "API Key has expired"),
        ("no_access", 403, "API access not enabled for this account"),
    ],
)
def test_a_key_that_is_not_active_is_refused(api: Api, state: str, status: int, message: str) -> None:
    api.emulator.put_account(state=state)
    reply = api.create()
    assert (reply.status_code, reply.json()) == (status, {"message": message})


@pytest.mark.parametrize(
    "agent", ["python-requests/2.32", "Python-urllib/3.12", "Python/3.12 aiohttp/3.11", "python-httpx/0.28", ""]
)
def test_default_user_agents_of_libraries_get_the_edges_html_page(api: Api, agent: str) -> None:
    reply = api.call("GET", "/api/v1/jobs/recordInfo?taskId=x", User_Agent=agent)
    assert (reply.status_code, reply.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "<html>" in reply.text


@pytest.mark.parametrize(
    "agent", ["curl/8.5.0", "kinovi-models/1.0", "airflow-provider-seedance/0.1.0", "Mozilla/5.0 (X11; Linux x86_64)"]
)
def test_named_user_agents_pass(api: Api, agent: str) -> None:
    assert api.poll("absent", User_Agent=agent).status_code == 404


@options(user_agent_check=False)
def test_the_user_agent_check_can_be_switched_off(api: Api) -> None:
    assert api.poll("absent", User_Agent="python-requests/2").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"model":"seedance-20","inputs":{"prompt":"a","seed":NaN}}',
        {"model": "seedance-20"},
        {"inputs": {"prompt": "a"}},
        {"model": 5, "inputs": {}},
        {"model": "seedance-20", "inputs": []},
        {"model": "seedance-20", "inputs": {"prompt": "a"}, "callBackUrl": "not a url"},
        {"model": "seedance-20", "inputs": {"prompt": "a"}, "callBackUrl": "http://host:99999999/"},
        {"model": "seedance-20", "inputs": {"prompt": "a"}, "callBackUrl": 5},
        {"model": "seedance-20", "inputs": {"prompt": "a"}, "callBackUrl": None},
    ],
)
def test_a_malformed_request_is_400_and_costs_nothing(api: Api, body: Any) -> None:
    reply = api.submit(body)
    assert (reply.status_code, reply.json()) == (400, {"message": "Invalid request parameters"})
    assert api.emulator.bill()["tasks_created"] == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("seedance-2.0", "Unknown model"),
        ("seedance2-mini", "Unknown model"),
        ("seedance20-video-generation", "Unsupported NewAPI workflow: seedance20-video-generation"),
    ],
)
def test_an_unknown_model_is_400(api: Api, model: str, message: str) -> None:
    reply = api.create(model=model)
    assert (reply.status_code, reply.json()) == (400, {"message": message})


@options(credits=10)
def test_too_few_credits_are_402_with_what_is_needed_and_what_is_left(api: Api) -> None:
    reply = api.create()
    assert reply.status_code == 402
    assert reply.text == '{"message":"Insufficient credits","required":200,"available":10}'


@options(credits=150.5)
def test_credits_may_be_fractions(api: Api) -> None:
    reply = api.create(model="wan3.0-prime-text-to-video", outputResolution="1080p", duration=2)
    assert reply.json()["required"] == 155.32
    assert reply.json()["available"] == 150.5


@options(generating_seconds=60, concurrency_limit=2)
def test_a_full_account_gets_429_until_a_task_ends(api: Api, clock: Clock) -> None:
    api.create_id("[[generating:30]]")
    api.create_id()
    reply = api.create()
    assert reply.status_code == 429
    assert reply.json()["message"].startswith("Concurrency limit reached (2)")
    assert (reply.json()["limit"], reply.json()["current"]) == (2, 2)
    assert "Retry-After" not in reply.headers
    clock.forward(30)
    api.create_id()
    assert api.create().status_code == 429
    assert api.emulator.counts() == {"created": 3, "429": 2}


def test_each_account_has_its_own_limit_credits_and_tasks(api: Api) -> None:
    api.emulator.put_account(name="other", key="other-key", credits=200, concurrency_limit=1)
    mine = api.create_id("[[generating:30]]")
    api.key = "other-key"
    api.create_id("[[generating:30]]")
    assert api.create().status_code == 402
    api.emulator.put_account(name="other", credits=1000)
    assert api.create().json()["limit"] == 1
    reply = api.poll(mine)
    assert (reply.status_code, reply.json()) == (403, {"message": "Access denied"})
    accounts = api.emulator.bill()["accounts"]
    assert accounts["default"]["credits_left"] == 99_800
    assert accounts["other"]["tasks_running"] == 1


def test_changing_an_account_keeps_its_balance(api: Api) -> None:
    api.create_id()
    api.emulator.put_account(concurrency_limit=1)
    assert api.emulator.bill()["accounts"]["default"]["credits_left"] == 99_800


@options(accounts=[{"key": "second-key", "name": "second"}])
def test_accounts_must_not_share_a_key(api: Api) -> None:
    with pytest.raises(ValueError, match="already that of 'second'"):
        api.emulator.put_account(key="second-key")


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("", 400, "Missing taskId parameter"),
        ("?taskId=", 400, "Missing taskId parameter"),
        ("?taskId=a%20b%0A", 400, "Invalid taskId"),
        ("?taskId=task_absent", 404, "Task not found"),
    ],
)
def test_record_info_refuses_ids_it_cannot_answer(api: Api, query: str, status: int, message: str) -> None:
    reply = api.call("GET", f"/api/v1/jobs/recordInfo{query}")
    assert (reply.status_code, reply.json()) == (status, {"message": message})


def test_the_vendors_demo_tasks_always_answer(api: Api) -> None:
    assert api.record("demo_task_t2v_success")["status"] == "success"
    assert api.call("GET", "/videos/demo_task_i2v_success.mp4").status_code == 200
    assert api.record("demo_task_fail_text_moderation")["error"]["code"] == "2038"
    assert api.record("demo_task_fail_face_detected")["status"] == "fail"
    assert api.record("demo_task_fail_server_error")["error"]["message"] == "Generation failed. Please try again."
    assert api.emulator.bill()["tasks_created"] == 0


def test_paths_the_api_does_not_have_are_an_html_404(api: Api) -> None:
    for path in ("/", "/jobs/createTask", "/api/v1/v1/jobs/createTask"):
        reply = api.call("POST", path, body={})
        assert (reply.status_code, reply.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@options(dialect="seed")
def test_the_seed_dialect_speaks_the_seed_documents_bodies(api: Api) -> None:
    seed_inputs = {"resolution": "1280x720", "duration": "5s"}
    task_id = api.create_id("A sunset over the ocean", **seed_inputs)
    record = api.finished(task_id)
    assert list(record) == ["taskId", "model", "status", "output"]
    assert list(record["output"][0]) == ["url", "width", "height"]
    assert (record["output"][0]["width"], record["output"][0]["height"]) == (1280, 720)
    failed = api.poll(api.create_id("[[fail]]")).text
    assert re.fullmatch(
        r'\{"taskId":"task_\w+","model":"seedance-20","status":"fail","error":"Task execution failed"\}', failed
    )
    assert api.create(resolution="1x1").json() == {"message": "Invalid inputs for model"}
    waiting = api.record(api.create_id("[[waiting:9]]"))
    assert list(waiting) == ["taskId", "model", "status"]


@options(dialect="seed")
def test_the_seed_dialect_takes_sizes_ratios_and_the_current_names_too(api: Api) -> None:
    def size(**inputs: Any) -> tuple[int, int]:
        output = api.finished(api.create_id(**inputs))["output"][0]
        return output["width"], output["height"]

    assert size(resolution="1920x1080") == (1920, 1080)
    assert api.emulator.bill()["credits_charged"] == 450
    assert size(ratio="9:16") == (720, 1280)
    assert size(outputResolution="480p", aspectRatio="1:1", duration=4) == (640, 640)


@options(dialect="g2")
def test_the_g2_dialect_has_object_errors_and_three_output_members(api: Api) -> None:
    clips = ["https://example.com/a.png", "https://example.com/b-6s.mp4", "https://example.com/c.mp3"]
    record = api.finished(api.create_id(urls=clips, duration="4", upscaleResolution="4k"))
    assert (record["creditsUsed"], record["output"][0]["width"]) == (960, 3840)
    assert list(record["output"][0]) == ["url", "width", "height"]
    assert api.submit({"model": "seedance-20", "inputs": {"urls": clips[:1]}}).status_code == 200
    assert api.submit({"model": "seedance-20", "inputs": {}}).status_code == 400
    assert api.create("x" * 4001).status_code == 400
    assert api.finished(api.create_id("[[fail:4011:Refused]]"))["error"] == {"code": "4011", "message": "Refused"}


@options(dialect="envelope")
def test_the_envelope_dialect_wraps_everything(api: Api) -> None:
    created = api.create(resolution="720x1280").json()
    assert (created["code"], created["message"]) == (200, "success")
    assert list(created["data"]) == ["taskId", "orderId", "creditsUsed"]
    record = api.poll(created["data"]["taskId"]).json()["data"]
    assert record["state"] == "success"
    assert json.loads(record["param"])["resolution"] == "720x1280"
    assert json.loads(record["resultJson"])["resultUrls"][0].endswith(".mp4")
    assert record["failMsg"] is None
    failed = api.record(api.create_id("[[fail:500]]"))
    assert (failed["state"], failed["failMsg"]) == ("fail", "Generation failed. Please try again.")
    assert failed["resultJson"] is None
    assert api.poll("absent").json() == {"code": 404, "message": "Task not found", "data": None}
    api.emulator.put_account(name="other", key="other-key")
    assert api.poll(created["data"]["taskId"], Authorization="Bearer other-key").status_code == 404


def test_the_current_dialect_ignores_unknown_keys_and_older_names(api: Api) -> None:
    inputs = {"resolution": "720x1280", "ratio": "9:16", "urls": 5, "aspect_ratio": "9:16", "duration": "5s"}
    record = api.finished(api.create_id(**inputs))
    assert (record["output"][0]["width"], record["creditsUsed"]) == (1280, 200)


@options(strict_duration=True)
def test_strict_durations_are_integers(api: Api) -> None:
    assert api.create(duration=6).status_code == 200
    for duration in ("5", "5s"):
        (issue,) = api.create(duration=duration).json()["errors"]
        assert issue == {"code": "invalid_type", "message": "Expected number, received string", "path": ["duration"]}


def test_the_bill_adds_up(api: Api) -> None:
    api.create_id("one", duration=4)
    api.create_id("two [[fail:1001]]")
    running = api.create_id("three [[generating:60]]", model="seedance2.0-mini", duration=5)
    bill = api.emulator.bill()
    assert {name: bill[name] for name in bill if name not in ("accounts", "tasks")} == {
        "tasks_created": 3,
        "tasks_succeeded": 1,
        "tasks_failed": 1,
        "tasks_running": 1,
        "credits_charged": 460,
        "credits_refunded": 200,
        "credits_spent": 260,
        "credits_left": 99_740,
    }
    assert [(task["status"], task["credits_charged"], task["credits_refunded"]) for task in bill["tasks"]] == [
        ("success", 160, 0),
        ("fail", 200, 200),
        ("generating", 100, 0),
    ]
    assert bill["tasks"][2]["taskId"] == running
    assert bill["tasks"][0]["prompt"] == "one"
    assert bill["accounts"]["default"]["credits_left"] == 99_740


def test_a_failed_task_still_shows_the_reserved_credits(api: Api) -> None:
    assert api.record(api.create_id("[[fail:1001]]"))["creditsUsed"] == 200


@options(settlement_seconds=60)
@pytest.mark.parametrize(
    ("model", "inputs", "reserved", "settled"),
    [
        ("seedance2-5", {"videoUrls": ["https://example.com/clip-10s.mp4"], "duration": 5}, 175, 525),
        ("seedance2-5-edit", {"videoUrls": ["https://example.com/clip.mp4?seconds=6"]}, 525, 420),
        ("seedance2-5-extend", {"videoUrls": ["https://example.com/c-6s.mp4"], "duration": 5}, 175, 385),
    ],
)
def test_the_2_5_family_settles_its_price_after_success(
    api: Api, clock: Clock, model: str, inputs: dict[str, Any], reserved: int, settled: int
) -> None:
    task_id = api.create_id(model=model, **inputs)
    assert api.record(task_id)["creditsUsed"] == reserved
    assert api.emulator.bill()["credits_charged"] == reserved
    clock.forward(60)
    record = api.record(task_id)
    assert record["creditsUsed"] == settled
    assert "X-Tos-Signature" in record["output"][0]["lastFrameImage"]
    bill = api.emulator.bill()
    assert (bill["credits_spent"], bill["credits_left"]) == (settled, 100_000 - settled)


def test_the_request_log_tells_what_was_sent_but_never_the_key(api: Api) -> None:
    api.create_id()
    api.poll("task_absent", Authorization="Bearer someone-elses-key")
    api.call("GET", "/nowhere%0Aforged", Authorization="")
    created, polled, lost = api.emulator.requests()
    assert (created["endpoint"], created["outcome"], created["userAgent"]) == ("createTask", "created", "Mozilla/5.0")
    assert created["taskId"].startswith("task_")
    assert (polled["status"], polled["taskId"], polled["authorization"]) == (401, "task_absent", True)
    assert (lost["path"], lost["authorization"], lost["keySha256"]) == ("/nowhere%0Aforged", True, None)
    assert "Authorization" in created["headers"]
    shown = json.dumps([api.emulator.requests(), api.emulator.bill()])
    assert "someone-elses-key" not in shown
    assert "emulator-key" not in shown
    assert api.emulator.counts("recordInfo") == {"401": 1}
    assert api.emulator.counts("uploads") == {}
    assert len(api.emulator.requests("recordInfo")) == 1


def test_reset_forgets_everything_but_the_start_options(api: Api) -> None:
    api.emulator.add_fault("http")
    api.emulator.settings.dialect = "seed"
    api.create()
    api.emulator.reset()
    assert api.emulator.settings.dialect == "current"
    assert api.emulator.requests() == []
    api.create_id()
    assert api.emulator.bill()["tasks_created"] == 1


def test_the_admin_routes_do_the_same_over_http(api: Api) -> None:
    def admin(method: str, path: str, body: Any = None, key: str = "none") -> Any:
        reply = api.call(method, f"/_admin/{path}", body=body, User_Agent="", Authorization=f"Bearer {key}")
        return reply.json() if reply.status_code == 200 else (reply.status_code, reply.json()["message"])

    assert admin("PATCH", "settings", {"dialect": "seed", "webhook_retry_seconds": [0.1]})["dialect"] == "seed"
    assert admin("GET", "settings")["webhook_retry_seconds"] == [0.1]
    assert admin("POST", "accounts", {"name": "poor", "key": "poor-key", "credits": 1}) == {"account": "poor"}
    assert admin("GET", "accounts")["poor"]["credits_left"] == 1
    assert admin("POST", "faults", [{"fault": "http", "status": 503}, {"fault": "empty"}]) == {"faults": 2}
    assert admin("GET", "faults")[0]["status"] == 503
    assert api.create().status_code == 503
    assert admin("GET", "requests")["counts"] == {"createTask": {"fault:http": 1}}
    assert admin("GET", "bill")["tasks_created"] == 0
    assert admin("POST", "reset") == {}
    assert admin("GET", "faults") == {}
    assert admin("POST", "faults", {"fault": "no such"})[0] == 400
    for wrong in ({"colour": 1}, {"dialect": "kie"}, {"waiting_seconds": -1}, {"concurrency_limit": 1.5}, []):
        assert admin("PATCH", "settings", wrong)[0] == 400
    for wrong in ({"user_agent_check": 1}, {"webhook_shape": "round"}):
        assert admin("PATCH", "settings", wrong)[0] == 400
    for wrong in ({"state": "asleep"}, {"credits": "many"}, {"key": ""}, {"colour": 1}, 5):
        assert admin("POST", "accounts", wrong)[0] == 400
    assert admin("PATCH", "settings", {"concurrency_limit": None})["concurrency_limit"] is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_both_connection_forms_hold_host_port_and_key_apart(host: str) -> None:
    """Read as Airflow reads them, without the seconds that importing its models takes."""
    with Emulator(api_key="a key/with:odd@letters", host=host) as emulator:
        from_uri = urlsplit(emulator.connection_uri)
        from_json = json.loads(emulator.connection_json)
        assert requests.get(f"{from_json['host']}:{from_json['port']}/_admin/bill", timeout=5).status_code == 200
    assert (from_json["conn_type"], from_json["password"]) == ("seedance", "a key/with:odd@letters")
    assert (from_json["host"] + f":{emulator.port}", from_json["port"]) == (emulator.url, emulator.port)
    assert (from_uri.scheme, unquote(from_uri.hostname or ""), from_uri.port, unquote(from_uri.password or "")) == (
        from_json["conn_type"],
        from_json["host"],
        from_json["port"],
        from_json["password"],
    )


@pytest.mark.parametrize(
    "address",
    [
        {"port": 70_000},
        {"port": -1},
        {"port": "8765"},
        {"port": None},
        {"port": True},
        {"host": ""},
        {"host": None},
        {"host": "no such host"},
        {"host": "x" * 70},
        {"host": "192.0.2.1"},
    ],
    ids=str,
)
def test_an_address_that_cannot_be_one_is_an_error_at_once(address: dict[str, Any]) -> None:
    emulator = Emulator(**address)
    with pytest.raises((ValueError, OSError)):
        emulator.start()
    emulator.stop()


def test_an_emulator_that_runs_does_not_start_again_and_one_that_was_stopped_does() -> None:
    with Emulator() as emulator, pytest.raises(RuntimeError, match=str(emulator.port)):
        emulator.start()
    with emulator:
        assert requests.get(f"{emulator.url}/_admin/bill", timeout=5).status_code == 200


def test_a_stopped_emulator_keeps_its_bill_and_gives_its_port_back() -> None:
    with Emulator() as emulator:
        port = emulator.port
    emulator.stop()
    assert emulator.bill()["tasks_created"] == 0
    with Emulator(port=port) as again:
        assert again.port == port
        with pytest.raises(OSError, match="in use"):
            Emulator(port=port).start()


def test_the_log_callback_may_ask_the_emulator() -> None:
    lines: list[str] = []
    emulator = Emulator(log=lambda line: lines.append(f"{line} / {emulator.bill()['tasks_created']}"))
    with emulator:
        from .conftest import Api  # type: ignore[import-not-found]

        Api(emulator).create_id()
    assert lines[0].endswith("created " + emulator.bill()["tasks"][0]["taskId"] + " seedance-20 200 credits / 1")


def test_ten_thousand_running_tasks_stay_cheap() -> None:
    from seedance_provider.testing.emulator import rules
    from seedance_provider.testing.emulator.ledger import Account, Ledger, Task
    from seedance_provider.testing.emulator.prices import price

    account = Account("key", credits=10_000_000)
    now = [0.0]
    ledger = Ledger([account], lambda: now[0])
    order = rules.place("seedance-20", {"prompt": "a"}, "current")
    cost = price(order)
    started = time.process_time()
    for index in range(10_000):
        now[0] = index / 1000
        ledger.running(account)
        task = Task(f"t{index}", account, order, "", now[0], 2, 3, None, cost.reserved, cost.settled, 0)
        ledger.add(task)
    assert ledger.running(account) == 5_000
    assert time.process_time() - started < 2
