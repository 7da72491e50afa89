"""Answers that no HTTP server would give, read from the socket byte by byte."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests

if TYPE_CHECKING:
    from .conftest import Api  # type: ignore[import-not-found]


class Exchange(NamedTuple):
    """What came over the wire, when, and how it ended."""

    head: str
    body: bytes
    seconds: float
    first_byte: float
    pieces: int
    reset: bool

    def headers(self, name: str) -> list[str]:
        lines = [line.partition(": ") for line in self.head.split("\r\n")[1:]]
        return [value for label, _, value in lines if label.lower() == name.lower()]


def raw(api: Api, *, prompt: str = "a fox", poll: str | None = None) -> Exchange:
    """One createTask (or one poll) over a plain socket."""
    body = json.dumps({"model": "seedance-20", "inputs": {"prompt": prompt}}).encode()
    line = "POST /api/v1/jobs/createTask" if poll is None else f"GET /api/v1/jobs/recordInfo?taskId={poll}"
    headers = f"Host: x\r\nUser-Agent: tests\r\nAuthorization: Bearer {api.key or api.emulator.api_key}\r\n"
    request = f"{line} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
    received, pieces, reset, first = b"", 0, False, 0.0
    with socket.create_connection(("127.0.0.1", api.emulator.port), timeout=10) as connection:
        started = time.monotonic()
        connection.sendall(request)
        while True:
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                reset = True
                break
            if not data:
                break
            first = first or time.monotonic() - started
            received, pieces = received + data, pieces + 1
    head, _, rest = received.partition(b"\r\n\r\n")
    return Exchange(head.decode("latin-1"), rest, time.monotonic() - started, first, pieces, reset)


def created(api: Api) -> list[str]:
    return [task["taskId"] for task in api.emulator.bill()["tasks"]]


QUICK = {"seconds": 0.3, "interval": 0.05}


def test_a_body_that_drips_is_whole_in_the_end(api: Api) -> None:
    api.emulator.add_fault("drip", **QUICK)
    seen = raw(api)
    assert 0.25 < seen.seconds < 20
    assert seen.first_byte < seen.seconds - 0.1
    assert seen.pieces > 4
    assert created(api) == [json.loads(seen.body)["taskId"]]


def test_a_body_too_short_to_drip_for_so_long_is_padded_with_white_space(api: Api) -> None:
    api.emulator.add_fault("drip", seconds=0.3, interval=0.002)
    seen = raw(api)
    assert len(seen.body) == 150
    assert created(api) == [json.loads(seen.body)["taskId"]]


def test_headers_that_drip_come_before_the_body(api: Api) -> None:
    api.emulator.add_fault("drip", part="headers", **QUICK)
    seen = raw(api)
    assert 0.25 < seen.seconds < 20
    assert seen.headers("X-Drip") == ["xxxxxx"] or seen.headers("X-Drip") == ["xxxxx"]
    assert created(api) == [json.loads(seen.body)["taskId"]]


def test_continuations_that_drip_come_before_the_answer(api: Api) -> None:
    api.emulator.add_fault("drip", part="continue", **QUICK)
    seen = raw(api)
    assert seen.head == "HTTP/1.1 100 Continue"
    assert seen.body.count(b"100 Continue") >= 4
    assert created(api)[0].encode() in seen.body


@pytest.mark.parametrize("after", [0, 40])
def test_a_stall_comes_after_so_many_bytes_of_the_body(api: Api, after: int) -> None:
    api.emulator.add_fault("stall", seconds=0.3, after=after)
    with pytest.raises(requests.ConnectionError):
        api.submit({"model": "seedance-20", "inputs": {"prompt": "a"}}, timeout=0.1)
    assert len(created(api)) == 1
    api.emulator.add_fault("stall", seconds=0.3, after=after)
    seen = raw(api)
    assert 0.3 <= seen.seconds < 20
    assert created(api)[1] == json.loads(seen.body)["taskId"]


def test_a_client_that_hangs_up_ends_a_stall(api: Api) -> None:
    api.emulator.add_fault("stall", seconds=600)
    with pytest.raises(requests.ConnectionError):
        api.submit({"model": "seedance-20", "inputs": {"prompt": "a"}}, timeout=0.1)
    deadline = time.monotonic() + 2
    while not api.emulator.counts():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert api.emulator.counts() == {"created+fault:stall": 1}


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [None, 30])
def test_a_cut_answer_announces_more_than_comes(api: Api, how: str, after: int | None) -> None:
    api.emulator.add_fault("cut", how=how, after=after, extra=7)
    seen = raw(api)
    whole = json.dumps({"taskId": created(api)[0]}, separators=(",", ":")).encode()
    assert seen.body == whole[:after]
    assert seen.headers("Content-Length") == [str(len(whole) + 7)]
    assert seen.reset == (how == "rst")


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_cut_chunk_announces_more_than_comes(api: Api, how: str) -> None:
    api.emulator.add_fault("chunk_cut", how=how, extra=1)
    seen = raw(api)
    size, _, chunk = seen.body.partition(b"\r\n")
    assert seen.headers("Transfer-Encoding") == ["chunked"]
    assert int(size, 16) == len(chunk) + 1
    assert created(api) == [json.loads(chunk)["taskId"]]
    assert seen.reset == (how == "rst")


def test_a_plain_body_may_be_announced_as_gzip(api: Api) -> None:
    api.emulator.add_fault("gzip_lie")
    seen = raw_until_length(api)
    assert seen.headers("Content-Encoding") == ["gzip"]
    assert created(api) == [json.loads(seen.body)["taskId"]]
    api.emulator.add_fault("gzip_lie")
    with pytest.raises(requests.exceptions.ContentDecodingError):
        api.create()


def test_two_lengths_differ(api: Api) -> None:
    api.emulator.add_fault("two_lengths")
    seen = raw(api)
    first, second = map(int, seen.headers("Content-Length"))
    assert first == len(seen.body) == second - 10
    assert created(api) == [json.loads(seen.body)["taskId"]]


def test_a_redirect_may_have_a_long_body_and_a_location_that_is_not_utf_8(api: Api) -> None:
    api.emulator.add_fault("redirect", status=307, location="https://elsewhere.invalid/\xff", bytes=3_000_000)
    seen = raw(api)
    assert seen.head.startswith("HTTP/1.1 307 ")
    assert seen.headers("Location") == ["https://elsewhere.invalid/\xff"]
    assert len(seen.body) == 3_000_000
    assert created(api) == []


@pytest.mark.parametrize("fault", ["drip", "stall", "cut", "chunk_cut", "gzip_lie", "two_lengths"])
def test_each_happens_without_a_task_too(api: Api, fault: str) -> None:
    params: dict[str, Any] = {"seconds": 0} if fault in ("drip", "stall") else {}
    api.emulator.add_fault(fault, accept=False, **params)
    raw(api) if fault != "gzip_lie" else raw_until_length(api)
    assert created(api) == []
    assert api.emulator.counts() == {f"fault:{fault}": 1}


@pytest.mark.parametrize("fault", ["drip:seconds=0", "stall:seconds=0", "cut:how=rst", "chunk_cut", "two_lengths"])
def test_a_prompt_may_ask_for_each_on_its_post_and_on_its_polls(api: Api, fault: str) -> None:
    name = fault.partition(":")[0]
    seen = raw(api, prompt=f"A fox [[createTask:{fault}]] [[recordInfo:{fault}]]")
    (task_id,) = created(api)
    assert task_id.encode() in seen.body
    seen = raw(api, poll=task_id)
    assert b'"status":"success"' in seen.body
    assert api.emulator.counts() == {f"created+fault:{name}": 1}
    assert api.emulator.counts("recordInfo") == {f"fault:{name}": 1}
    assert api.record(task_id)["status"] == "success"


def test_downloads_are_cut_too(api: Api) -> None:
    url = api.record(api.create_id())["output"][0]["url"]
    api.emulator.add_fault("cut", on="media", after=5000)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url, headers={"User-Agent": "tests"}, timeout=5)
    api.emulator.add_fault("truncated", on="media")
    cut = requests.get(url, headers={"User-Agent": "tests"}, timeout=5)
    assert 0 < len(cut.content) < len(requests.get(url, headers={"User-Agent": "tests"}, timeout=5).content)


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "drip", "seconds": 1e9},
        {"fault": "drip", "interval": 0},
        {"fault": "drip", "part": "trailers"},
        {"fault": "stall", "seconds": float("nan")},
        {"fault": "stall", "after": -1},
        {"fault": "cut", "how": "kill"},
        {"fault": "cut", "after": 1.5},
        {"fault": "cut", "extra": 0},
        {"fault": "http", "status": 100},
        {"fault": "odd_status", "status": 999},
        {"fault": "redirect", "bytes": 10**12},
        {"fault": "oversize", "bytes": 10**12},
        {"fault": "huge", "outputs": 10**6, "url_bytes": 10**6},
        {"fault": "echo_key", "form": "rot13"},
        {"fault": "settle", "credits": float("inf")},
    ],
    ids=str,
)
def test_no_fault_lasts_for_ever_or_fills_the_memory(api: Api, rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rule["fault"]):
        api.emulator.add_fault(**rule)


def raw_until_length(api: Api) -> Exchange:
    """As `raw`, for an answer after which the connection stays open."""
    body = json.dumps({"model": "seedance-20", "inputs": {"prompt": "a"}})
    headers = {"User-Agent": "tests", "Authorization": f"Bearer {api.emulator.api_key}"}
    url = f"{api.emulator.url}/api/v1/jobs/createTask"
    with requests.post(url, data=body, headers=headers, timeout=5, stream=True) as reply:
        head = "\r\n".join(["", *(f"{name}: {value}" for name, value in reply.headers.items())])
        return Exchange(head, reply.raw.read(decode_content=False), 0, 0, 1, reset=False)
