"""The receiver at the network: what it lets in, what it answers, and what strangers can make it do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no receiver
import requests
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.execution.signing import Claim, sign, signing_key
from seedance_provider.execution.stores import Owner
from seedance_provider.plugins.answers import Verdict
from seedance_provider.plugins.callbacks import Keys, Receiver
from tests.support.receiver import serving

KEY = signing_key("sk-secret")
CLAIM = Claim("seedance_default", Owner("dag", "run", "task", -1), "f" * 32)
PATH = sign(CLAIM, KEY)
TASK = "task_1"
FLAT = {"taskId": TASK, "status": "success", "output": [{"url": "https://example.com/1.mp4"}]}
STATE = {"code": 200, "message": "success", "data": {"taskId": TASK, "state": "success", "orderId": "1"}}
STATUS = {"code": 200, "message": "success", "data": FLAT}


class Reply(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    pieces: int
    """How much of the request's body was read."""


async def post(
    receiver: Any, path: str, body: bytes | Iterable[bytes | None] = json.dumps(FLAT).encode(), method: str = "POST"
) -> Reply:
    """One request, as the API server passes it on: below a sub-path.

    :param body: As a whole, or in pieces; a piece None never comes.
    """
    pieces = iter([body] if isinstance(body, bytes) else body)
    read = 0
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        piece = next(pieces, b"")
        if piece == b"":
            return {"type": "http.request", "body": b"", "more_body": False}
        read += 1
        if piece is None:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": f"/airflow{defaults.CALLBACK_PATH}/{path}"}
    await receiver(scope, receive, send)
    start, end = sent
    return Reply(start["status"], dict(start["headers"]), end["body"], read)


class Taken:
    """What was let in, and what becomes of it."""

    def __init__(self, verdict: Verdict = Verdict.DONE) -> None:
        self.verdict = verdict
        self.calls: list[tuple[Claim, str]] = []

    def __call__(self, claim: Claim, seedance_task_id: str) -> Verdict:
        self.calls.append((claim, seedance_task_id))
        return self.verdict


def receiver_of(taken: Any, keys: dict[str, bytes] | None = None) -> Receiver:
    known = {"seedance_default": KEY} if keys is None else keys
    return Receiver(known.get, taken)


@pytest.mark.parametrize("payload", [FLAT, STATE, STATUS], ids=["flat", "state", "status"])
def test_each_shape_of_a_callback_names_its_task(payload: Any) -> None:
    taken = Taken()
    reply = asyncio.run(post(receiver_of(taken), PATH, json.dumps(payload).encode()))
    assert (reply.status, reply.body) == (200, b"")
    assert taken.calls == [(CLAIM, TASK)]


MEMBERS = st.sampled_from(["taskId", "data", "status", "state", "output", "code"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(MEMBERS, inner),
    max_leaves=9,
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_does_harm(body: bytes) -> None:
    taken = Taken()
    reply = asyncio.run(post(receiver_of(taken), PATH, body))
    assert (reply.status, len(taken.calls)) in ((200, 1), (400, 0))


def test_nobody_learns_what_exists() -> None:
    stranger = sign(CLAIM, signing_key("another"))
    no_connection = sign(CLAIM._replace(conn_id="made_up"), KEY)
    receiver = receiver_of(Taken(Verdict.UNKNOWN))
    replies = [asyncio.run(post(receiver, path))[:3] for path in (stranger, no_connection, PATH, "x", "", "health")]
    assert {reply[0] for reply in replies} == {404}
    assert len({str(reply) for reply in replies}) == 1


def test_the_body_of_an_unsigned_request_is_not_read() -> None:
    assert asyncio.run(post(receiver_of(Taken()), sign(CLAIM, b"another"))).pieces == 0


def test_an_endless_body_is_given_up_early() -> None:
    taken = Taken()
    reply = asyncio.run(post(receiver_of(taken), PATH, iter(lambda: b"x" * 1024, None)))
    assert (reply.status, taken.calls) == (413, [])
    assert reply.pieces <= defaults.MAX_CALLBACK_BODY // 1024 + 1


def test_a_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "CALLBACK_SECONDS", 0.1)
    assert asyncio.run(post(receiver_of(Taken()), PATH, [b"{", None])).status == 408


def test_what_is_out_of_reach_is_asked_for_again() -> None:
    def fail(claim: Claim, seedance_task_id: str) -> Verdict:
        raise ConnectionError("the database is down")

    for taken in (fail, Taken(Verdict.LATER)):
        reply = asyncio.run(post(receiver_of(taken), PATH))
        assert (reply.status, reply.headers[b"retry-after"]) == (503, b"5")
        assert b"database" not in reply.body


def test_a_connection_that_cannot_be_looked_up_now_is_asked_for_again() -> None:
    def fail(conn_id: str) -> bytes | None:
        raise ConnectionError("the database is down")

    assert asyncio.run(post(Receiver(fail, Taken()), PATH)).status == 503


def test_too_many_at_once_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "CALLBACKS_AT_ONCE", 2)
    monkeypatch.setattr(defaults, "CALLBACKS_WAITING", 3)
    go_on = threading.Event()

    def take(claim: Claim, seedance_task_id: str) -> Verdict:
        go_on.wait(10)
        return Verdict.DONE

    async def flood() -> list[int]:
        receiver = receiver_of(take)
        assert (await post(receiver, PATH, b"no JSON")).status == 400  # the key is known now
        running = [asyncio.ensure_future(post(receiver, PATH)) for _ in range(20)]
        await asyncio.sleep(0.2)
        go_on.set()
        return [(await each).status for each in running]

    statuses = asyncio.run(flood())
    assert (statuses.count(200), statuses.count(503)) == (5, 15)


def test_signed_callbacks_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flood() -> list[int]:
        receiver = receiver_of(taken)
        return [(await post(receiver, PATH)).status for _ in range(200)]

    taken = Taken()
    statuses = asyncio.run(flood())
    assert 100 <= statuses.count(200) <= 150
    assert statuses.count(429) == 200 - statuses.count(200)


class Lookups:
    def __init__(self) -> None:
        self.keys = {"seedance_default": KEY}
        self.asked: list[str] = []

    def __call__(self, conn_id: str) -> bytes | None:
        self.asked.append(conn_id)
        return self.keys.get(conn_id)


def test_made_up_connections_cost_few_lookups_and_keep_nobody_out() -> None:
    lookups, taken = Lookups(), Taken()

    async def flood() -> list[int]:
        receiver = Receiver(lookups, taken)
        statuses = [(await post(receiver, PATH)).status]
        for number in range(1000):
            await post(receiver, sign(CLAIM._replace(conn_id=f"made_up_{number}"), KEY))
        return [*statuses, (await post(receiver, PATH)).status]

    assert asyncio.run(flood()) == [200, 200]
    assert len(lookups.asked) <= 30


def test_a_flood_does_not_find_out_which_connections_exist() -> None:
    lookups = Lookups()

    async def flood() -> list[int]:
        receiver = Receiver(lookups, Taken())
        await post(receiver, PATH)
        for number in range(100):  # no lookup is left
            await post(receiver, sign(CLAIM._replace(conn_id=f"made_up_{number}"), b"another"))
        guesses = ("seedance_default", "made_up_1", "made_up_99", "never_asked_for")
        return [(await post(receiver, sign(CLAIM._replace(conn_id=guess), b"another"))).status for guess in guesses]

    assert set(asyncio.run(flood())) == {404}


def test_what_is_remembered_of_connections_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "CALLBACK_LOOKUPS", 1e6)
    keys = Keys(lambda conn_id: KEY if conn_id.startswith("real") else None)

    async def run(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    async def flood() -> None:
        for number in range(2000):
            for kind in ("real", "made_up"):
                claim = CLAIM._replace(conn_id=f"{kind}_{number}")
                assert await keys.is_signed(claim, sign(claim, KEY), run) is (kind == "real")

    asyncio.run(flood())
    assert len(keys._known) == len(keys._unknown) == defaults.CALLBACK_KEYS


def test_a_key_that_was_replaced_is_noticed_and_a_wrong_path_costs_no_further_lookup() -> None:
    now = [0.0]
    lookups = Lookups()
    keys = Keys(lookups, lambda: now[0])

    async def run(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def signed(path: str) -> bool:
        return asyncio.run(keys.is_signed(CLAIM, path, run))

    assert signed(PATH)
    lookups.keys["seedance_default"] = signing_key("sk-renewed")
    renewed = sign(CLAIM, signing_key("sk-renewed"))
    assert signed(PATH), "tasks that were submitted with the former key are still called back"
    assert not signed(renewed)
    assert lookups.asked == ["seedance_default"]
    now[0] += defaults.CALLBACK_KEY_SECONDS
    assert signed(renewed)
    assert not signed(PATH)
    assert len(lookups.asked) == 2


@pytest.mark.parametrize(("method", "status", "body"), [("GET", 200, b"ok"), ("HEAD", 200, b""), ("PUT", 404, b"")])
def test_the_health_route_needs_no_signature(method: str, status: int, body: bytes) -> None:
    reply = asyncio.run(post(receiver_of(Taken()), "health", method=method))
    assert (reply.status, reply.body) == (status, body)


def test_a_signed_path_is_for_posts_only() -> None:
    assert asyncio.run(post(receiver_of(Taken()), PATH, method="GET")).status == 404


@pytest.mark.parametrize("passed_on", ["", "/airflow"], ids=["taken off by the proxy", "left by the proxy"])
def test_the_api_server_may_have_a_sub_path(passed_on: str) -> None:
    taken = Taken()
    with serving(receiver_of(taken), sub_path="/airflow") as url:
        where = f"{url}{passed_on}{defaults.CALLBACK_PATH}"
        assert requests.get(f"{where}/health", timeout=30).text == "ok"
        assert requests.post(f"{where}/{PATH}", json=FLAT, timeout=30).status_code == 200
    assert taken.calls == [(CLAIM, TASK)]


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(receiver_of(Taken())({"type": "websocket", "path": PATH}, None, send))
    assert sent == [{"type": "websocket.close"}]


def test_a_thread_that_takes_too_long_goes_on_after_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "CALLBACK_SECONDS", 0.1)
    done = threading.Event()

    def take(claim: Claim, seedance_task_id: str) -> Verdict:
        time.sleep(0.6)
        done.set()
        raise ConnectionError("nobody waits for this")

    async def late() -> int:
        reply = await post(receiver_of(take), PATH)
        await asyncio.sleep(0.6)
        return reply.status

    assert asyncio.run(late()) == 503
    assert done.is_set()
