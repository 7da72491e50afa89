from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import until  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Api, Clock


def options(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("emulator", [settings], indirect=True)


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets; answers with `statuses` in turn, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.headers.append(dict(self.headers))
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def create(api: Api, receiver: Receiver, prompt: str = "a fox") -> str:
    body = {"model": "seedance-20", "inputs": {"prompt": prompt}, "callBackUrl": receiver.url}
    return str((lambda reply: reply.get("data") or reply)(api.submit(body).json())["taskId"])


def first(receiver: Receiver) -> dict[str, Any]:
    body: dict[str, Any] = until(lambda: receiver.bodies, bool)[0]
    return body


@options(dialect="seed")
def test_the_seeds_callback_is_flat(api: Api, receiver: Receiver) -> None:
    task_id = create(api, receiver)
    body = first(receiver)
    members = ["taskId", "model", "status", "creditsUsed", "output", "error", "createTime", "completeTime"]
    assert list(body) == members
    assert (body["taskId"], body["status"]) == (task_id, "success")
    assert "Authorization" not in receiver.headers[0]
    assert until(api.emulator.deliveries, bool) == [
        {"taskId": task_id, "url": receiver.url, "copy": 1, "attempt": 1, "status": 200}
    ]


@options(dialect="seed")
def test_the_seeds_callback_of_a_failure_has_a_text_and_no_times(api: Api, receiver: Receiver) -> None:
    create(api, receiver, "[[fail]]")
    body = first(receiver)
    assert list(body) == ["taskId", "model", "status", "creditsUsed", "output", "error"]
    assert (body["error"], body["creditsUsed"], body["output"]) == ("Task execution failed", 200, None)


@options(dialect="g2")
def test_the_g2_callback_is_an_envelope_with_state(api: Api, receiver: Receiver) -> None:
    create(api, receiver, "[[fail:2038]]")
    body = first(receiver)
    assert (body["code"], body["message"]) == (200, "success")
    assert (body["data"]["state"], body["data"]["creditsUsed"]) == ("fail", 0)
    assert body["data"]["error"]["code"] == "2038"
    assert {"orderId", "updateTime"} < set(body["data"])
    assert "status" not in body["data"]


def test_the_current_callback_is_an_envelope_around_the_record(api: Api, receiver: Receiver) -> None:
    task_id = create(api, receiver)
    assert first(receiver) == {"code": 200, "message": "success", "data": api.record(task_id)}


@options(dialect="envelope")
def test_the_ancestors_callback_is_its_record(api: Api, receiver: Receiver) -> None:
    task_id = create(api, receiver)
    assert first(receiver) == api.poll(task_id).json()


@options(webhook_shape="flat", webhook_retry_seconds=[0.05, 0.05])
def test_a_refused_callback_is_tried_again_in_the_flat_generation(api: Api, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    create(api, receiver)
    until(lambda: len(receiver.bodies), lambda count: count == 3)
    until(api.emulator.deliveries, lambda sent: [delivery["status"] for delivery in sent] == [500, 503, 200])


def test_a_refused_callback_is_never_tried_again_in_the_current_generation(api: Api, receiver: Receiver) -> None:
    receiver.statuses = [500]
    create(api, receiver)
    first(receiver)
    time.sleep(0.1)
    assert len(receiver.bodies) == 1


@options(webhook_copies=2)
def test_callbacks_may_arrive_twice_or_never(api: Api, receiver: Receiver) -> None:
    create(api, receiver, "[[webhook:0]]")
    task_id = create(api, receiver)
    until(lambda: len(receiver.bodies), lambda count: count == 2)
    time.sleep(0.1)
    assert {body["data"]["taskId"] for body in receiver.bodies} == {task_id}
    assert len(receiver.bodies) == 2


def test_nobody_listening_is_noted_and_harms_nothing(api: Api) -> None:
    lines: list[str] = []
    api.emulator.server.log.say = lines.append
    api.submit({"model": "seedance-20", "inputs": {"prompt": "a"}, "callBackUrl": "http://127.0.0.1:9/"})
    (delivery,) = until(api.emulator.deliveries, bool)
    assert delivery["status"] == 0
    assert delivery["taskId"] in lines[-1]


@options(generating_seconds=3600)
def test_a_callback_comes_as_soon_as_the_clock_of_the_task_says_so(api: Api, receiver: Receiver, clock: Clock) -> None:
    task_id = create(api, receiver)
    clock.forward(3600)
    body = first(receiver)["data"]
    assert body == api.record(task_id)
    assert body["completeTime"] - body["createTime"] == 3_600_000


@options(generating_seconds=0.3)
def test_no_callback_comes_before_the_end_or_after_a_reset(api: Api, receiver: Receiver) -> None:
    create(api, receiver)
    time.sleep(0.1)
    assert receiver.bodies == []
    api.emulator.reset()
    time.sleep(0.4)
    assert receiver.bodies == []


@options(generating_seconds=60)
def test_stopping_does_not_wait_for_callbacks(api: Api, receiver: Receiver) -> None:
    create(api, receiver)
    started = time.monotonic()
    api.emulator.stop()
    assert time.monotonic() - started < 30
