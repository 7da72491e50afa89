"""What arrived is used, however the connection ends; and what was sent is known, however the answer looks."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from seedance_provider.api import calls, flows
from seedance_provider.api.messages import Flow, Reply, Request, Send
from seedance_provider.config import SubmitPolicy
from seedance_provider.connection import SeedanceSettings
from seedance_provider.exceptions import SeedanceError, SeedanceSubmitUncertainError, SeedanceTransportError
from tests.support import wire
from tests.support.wire import HEAD, Connection, Server, answer
from tests.unit.transport.conftest import COUNTS_HEADERS, Drive, by_aiohttp, by_requests

LOG = logging.getLogger("tests.arrived")
TASK = "task_k3v9q2m8x4b7n1c6z0l5j2h8"
CREATED = json.dumps({"taskId": TASK}, separators=(",", ":")).encode()

Settings = Callable[..., SeedanceSettings]
Serve = Callable[..., Server]


def submit(submit_policy: str) -> Flow[str]:
    call = calls.create_task("seedance-20", {"prompt": "A sunset"})
    return flows.submit(call, SubmitPolicy(submit_policy), LOG, jitter=lambda: 0.5)


def once(method: str) -> Flow[Reply]:
    """One request and its reply as it is."""
    return (yield Send(Request(method, "/x", None if method == "GET" else b"{}")))


def reset_later(connection: Connection) -> None:
    """Break the connection off once the client has read what came before."""
    connection.stopped.wait(0.1)
    connection.reset()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

#: Answers that break off after the whole JSON, or say wrong things about it.
BROKEN = [
    pytest.param(wire.cut(HEAD + b"Content-Length: 99\r\n\r\n" + CREATED), id="length-too-long-then-closed"),
    pytest.param(
        wire.cut(HEAD + b"Content-Length: 99\r\n\r\n" + CREATED, reset_later), id="length-too-long-then-reset"
    ),
    pytest.param(wire.cut(HEAD + b"Content-Length: 99\r\n\r\n" + CREATED, wire.hang), id="length-too-long-then-stall"),
    pytest.param(wire.cut(HEAD + b"\r\n" + CREATED, wire.hang), id="no-length-then-stall"),
    pytest.param(wire.cut(CHUNKED + b"99\r\n" + CREATED), id="chunk-announced-longer"),
    pytest.param(wire.cut(CHUNKED + chunk(CREATED), wire.hang), id="no-last-chunk-then-stall"),
    pytest.param(wire.cut(CHUNKED + chunk(CREATED)), id="no-last-chunk-then-closed"),
]
#: The same for what aiohttp refuses before it gives out the status, or takes for complete.
ELSE_WITH_AIOHTTP = [
    pytest.param(
        HEAD + b"Content-Length: %d\r\nContent-Length: 99\r\nConnection: close\r\n\r\n" % len(CREATED) + CREATED,
        id="two-lengths",
    ),
    pytest.param(
        HEAD + b"Content-Length: %d, 99\r\nConnection: close\r\n\r\n" % len(CREATED) + CREATED, id="list-of-lengths"
    ),
    pytest.param(HEAD + b"Content-Length: -1\r\nConnection: close\r\n\r\n" + CREATED, id="negative-length"),
    pytest.param(HEAD + b"Content-Length: x\r\nConnection: close\r\n\r\n" + CREATED, id="length-that-is-no-number"),
    pytest.param(
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\nConnection: close\r\n\r\n" + CREATED, id="endless-length"
    ),
    pytest.param(wire.cut(CHUNKED + chunk(CREATED) + b"zz\r\n"), id="broken-chunk"),
    pytest.param(wire.cut(HEAD + b"\r\n" + CREATED, reset_later), id="no-length-then-reset"),
    pytest.param(
        HEAD + b"no colon here\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(CREATED) + CREATED,
        id="malformed-header",
    ),
]
#: Odd, but in order.
ODD = [
    pytest.param(answer(200, CREATED, Content_Encoding="gzip", Connection="close"), id="called-gzip-but-plain"),
    pytest.param(answer(200, CREATED, Content_Encoding="br", Connection="close"), id="called-brotli-but-plain"),
    pytest.param(answer(200, gzip.compress(CREATED), Content_Encoding="gzip", Connection="close"), id="gzip"),
    pytest.param(answer(200, zlib.compress(CREATED), Content_Encoding="deflate", Connection="close"), id="deflate"),
    pytest.param(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        + answer(200, CREATED, Connection="close"),
        id="hints-before-it",
    ),
    pytest.param(
        answer(200, CREATED, Location="http://\N{LATIN SMALL LETTER Y WITH DIAERESIS}:x/", Connection="close"),
        id="malformed-location",
    ),
    pytest.param(answer(200, CREATED, Set_Cookie="a=\x01; Max-Age=x", Connection="close"), id="malformed-cookie"),
    pytest.param(answer(200, CREATED, Retry_After="9" * 5000, Connection="close"), id="huge-retry-after"),
]


class TestBody:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("behaviour", BROKEN)
    def test_that_breaks_off_is_given_out_as_far_as_it_came(
        self, behaviour: Any, method: str, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        reply = drive(once(method), settings(serve(behaviour).url, read_timeout=0.4))
        assert (reply.status, reply.body, reply.complete) == (200, CREATED, False)

    @pytest.mark.parametrize("behaviour", ODD)
    def test_is_read_whatever_stands_around_it(
        self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        reply = drive(once("GET"), settings(serve(behaviour).url))
        assert (reply.status, reply.body, reply.complete) == (200, CREATED, True)

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize("behaviour", [*BROKEN, *ELSE_WITH_AIOHTTP, *ODD])
    def test_with_an_id_in_it_is_the_answer_to_a_submit(
        self, behaviour: Any, submit_policy: str, serve: Serve, settings: Settings
    ) -> None:
        server = serve(behaviour, *[answer(200, b'{"taskId":"task_another"}')] * 2)
        assert by_requests(submit(submit_policy), settings(server.url, read_timeout=0.4)) == TASK
        assert len(server.requests) == 1

    @pytest.mark.parametrize("behaviour", ELSE_WITH_AIOHTTP)
    def test_that_aiohttp_refuses_counts_as_sent(self, behaviour: Any, serve: Serve, settings: Settings) -> None:
        def flow() -> Flow[bool | bytes]:
            try:
                return (yield from once("POST")).body
            except SeedanceTransportError as error:
                return error.request_sent

        assert by_aiohttp(flow(), settings(serve(behaviour).url)) in (True, CREATED)

    def test_cut_within_gzip_is_inflated_as_far_as_it_came(
        self, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        packed = gzip.compress(CREATED + b" " * 100)
        behaviour = wire.cut(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 999\r\n\r\n" + packed[:-9])
        reply = drive(once("GET"), settings(serve(behaviour).url))
        assert reply.body.startswith(CREATED)
        assert not reply.complete

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(wire.cut(b"HTTP/1.1 200 OK\r\nContent-Type: appl"), id="in-the-headers"),
            pytest.param(wire.cut(HEAD + b"Content-Length: 90\r\n\r\n"), id="before-the-body"),
            pytest.param(wire.cut(HEAD + b"Content-Length: 90\r\n\r\n" + CREATED[:15]), id="before-the-id"),
            pytest.param(wire.cut(HEAD + b"Content-Length: 90\r\n\r\n" + CREATED[:20]), id="in-the-id"),
            pytest.param(wire.cut(CHUNKED + b"zz\r\n"), id="in-the-first-chunk"),
        ],
    )
    def test_that_breaks_off_before_the_id_leaves_a_submit_uncertain(
        self, behaviour: Any, submit_policy: str, serve: Serve, settings: Settings
    ) -> None:
        """It was answered 200: a video may have been charged, and sending again would charge another."""
        server = serve(behaviour, answer(200, CREATED))
        with pytest.raises(SeedanceSubmitUncertainError) as caught:
            by_requests(submit(submit_policy), settings(server.url))
        assert caught.value.status_code == 200
        assert len(server.requests) == 1

    def test_that_breaks_off_does_not_spoil_the_next_request(
        self, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        server = serve(wire.cut(HEAD + b"Content-Length: 99\r\n\r\n" + CREATED[:9]), answer(200, CREATED))

        def twice() -> Flow[list[Reply]]:
            return [(yield from once("GET")), (yield from once("GET"))]

        assert [reply.body for reply in drive(twice(), settings(server.url))] == [CREATED[:9], CREATED]
        assert server.connections == 2


def late(behaviour: bytes) -> Callable[[Connection], None]:
    """The same after a while, so that the whole request was read."""

    def behave(connection: Connection) -> None:
        time.sleep(0.05)
        connection.send(behaviour)
        connection.close()

    return behave


class TestNoAnswer:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="another-protocol"),
            pytest.param(b"HTTP/9.9 banana\r\n\r\n", id="no-status"),
            pytest.param(b"HTTP/1.1 200 " + b"x" * 200_000, id="endless-status-line"),
            pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000, id="endless-header"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\n" + b"A: x\r\n" * 500 + b"\r\n",
                id="too-many-headers",
                marks=pytest.mark.skipif(not COUNTS_HEADERS, reason="an older aiohttp does not count headers"),
            ),
            pytest.param(b"\x16\x03\x01\x00\x05hello", id="tls-on-plain"),
            pytest.param(b"\xff\xfe" * 50, id="bytes"),
        ],
    )
    def test_that_is_one_counts_as_sent(
        self, behaviour: bytes, method: str, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        with pytest.raises(SeedanceTransportError) as caught:
            drive(once(method), settings(serve(*[late(behaviour)] * 3).url))
        assert caught.value.request_sent is True
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("error", [ValueError, UnicodeDecodeError, AttributeError, KeyError, RuntimeError])
    def test_because_of_an_unexpected_error_counts_as_sent_once_it_was(
        self, error: type[Exception], serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever a library raises: what counts is whether a byte of the request was written."""

        def broken(_: object) -> None:
            raise error(*(["utf-8", b"", 0, 1, "x"] if error is UnicodeDecodeError else ["x"]))

        monkeypatch.setattr(http.client.HTTPResponse, "begin", broken)
        server = serve(answer(200, CREATED))
        with pytest.raises(SeedanceTransportError) as caught:
            by_requests(once("POST"), settings(server.url))
        assert caught.value.request_sent is True
        assert server.arrived.wait(5)

    @pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", "[::1", "a b", ""], ids=ascii)
    def test_because_of_an_address_that_cannot_be_used_counts_as_unsent(
        self, host: str, drive: Drive, settings: Settings
    ) -> None:
        with pytest.raises(SeedanceError) as caught:
            drive(once("POST"), settings(f"http://{host}/api/v1"))
        assert isinstance(caught.value, SeedanceTransportError)
        assert caught.value.request_sent is False
