"""Every exchange ends: in time, whatever drips, hangs or floods; and within memory."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from seedance_provider.api.messages import Flow, Put, Reply, Request, Send, UploadTicket
from seedance_provider.defaults import MAX_BODY, MAX_CONNECTIONS, UPLOAD_BYTES_PER_SECOND
from seedance_provider.exceptions import SeedanceTransportError
from seedance_provider.transport import http
from seedance_provider.transport.http import exchange_seconds
from seedance_provider.transport.pool import Channel
from tests.support import wire
from tests.support.certificates import make_certificate, speaking_tls
from tests.support.wire import HEAD, Connection, Server, answer
from tests.unit.transport.conftest import COUNTS_HEADERS, Drive, by_aiohttp, by_requests

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings

Settings = Callable[..., "SeedanceSettings"]
Serve = Callable[..., Server]

RECORD = b'{"taskId":"task_a","status":"waiting"}'
SHORT = {"connect_timeout": 0.2, "read_timeout": 0.2}
"""An exchange then takes at most 0.4 s."""
SOON = 5.0
"""What a bounded exchange takes at most on a busy machine; the servers go on for 30 s."""


def once(method: str = "GET", deadline: float | None = None) -> Flow[Reply]:
    return (yield Send(Request(method, "/x", None if method == "GET" else b"{}"), deadline))


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


#: Nothing of the body came.
WITHOUT_BODY = [
    pytest.param(wire.hang, id="silence"),
    pytest.param(wire.drip(b"H"), id="status-line"),
    pytest.param(wire.drip(b"a", after=HEAD + b"X-Long: "), id="header"),
    pytest.param(wire.drip(b"A: b\r\n", after=HEAD), id="headers"),
    pytest.param(wire.drip(b"HTTP/1.1 100 Continue\r\n\r\n"), id="100-continue"),
    pytest.param(wire.drip(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), id="103-early-hints"),
    pytest.param(wire.flood(b"HTTP/1.1 100 Continue\r\n\r\n"), id="flood-of-100-continue"),
]
#: The record came, and then no end.
WITH_BODY = [
    pytest.param(wire.drip(b" ", after=HEAD + b"Content-Length: 9999\r\n\r\n" + RECORD), id="body"),
    pytest.param(wire.drip(b" ", after=HEAD + b"\r\n" + RECORD), id="body-without-length"),
    pytest.param(
        wire.drip(b"1\r\n \r\n", after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n26\r\n" + RECORD + b"\r\n"),
        id="chunks",
    ),
    pytest.param(
        wire.drip(b"0", after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n26\r\n" + RECORD + b"\r\n"), id="chunk-size"
    ),
    pytest.param(
        wire.drip(b"A: b\r\n", after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n26\r\n" + RECORD + b"\r\n0\r\n"),
        id="trailers",
    ),
    pytest.param(
        wire.drip(b" ", after=b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 9999\r\n\r\n" + RECORD),
        id="body-of-a-redirect",
    ),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), x509.DNSName("localhost"))


@pytest.fixture(params=["plain", "tls"])
def place(
    request: pytest.FixtureRequest, serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Start a server and return its URL; once without TLS and once with it."""

    def start(*behaviours: Any) -> str:
        if request.param == "plain":
            return serve(*behaviours).url
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        return serve(*behaviours, tls=speaking_tls(certificate)).url.replace("127.0.0.1", "localhost")

    return start


class TestTime:
    @pytest.mark.parametrize("behaviour", WITHOUT_BODY)
    def test_of_an_answer_without_a_body_is_bounded(
        self, behaviour: Any, drive: Drive, place: Any, settings: Settings
    ) -> None:
        url = place(behaviour)
        with soon(), pytest.raises(SeedanceTransportError) as caught:
            drive(once("POST"), settings(url, **SHORT))
        assert caught.value.request_sent is True

    @pytest.mark.parametrize("behaviour", WITH_BODY)
    def test_of_a_body_is_bounded_and_what_came_of_it_is_used(
        self, behaviour: Any, drive: Drive, place: Any, settings: Settings
    ) -> None:
        url = place(behaviour)
        with soon():
            reply = drive(once(), settings(url, **SHORT))
        assert reply.body.startswith(RECORD)
        assert not reply.complete

    def test_of_a_connect_is_bounded(self, drive: Drive, settings: Settings) -> None:
        with wire.never_accepts() as port, soon(), pytest.raises(SeedanceTransportError) as caught:
            drive(once("POST"), settings(f"http://127.0.0.1:{port}/api/v1", **SHORT))
        assert caught.value.request_sent is False

    @pytest.mark.parametrize("on_connect", [wire.hang, wire.drip(b"\x16")], ids=["silence", "drip"])
    def test_of_a_handshake_is_bounded(self, on_connect: Any, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(on_connect=on_connect)
        with soon(), pytest.raises(SeedanceTransportError) as caught:
            drive(once("POST"), settings(server.url.replace("http:", "https:"), **SHORT))
        assert caught.value.request_sent is False

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(wire.hang, id="silence"),
            pytest.param(wire.drip(b"H"), id="status-line"),
            pytest.param(wire.drip(b"A: b\r\n", after=b"HTTP/1.1 200 OK\r\n"), id="headers"),
        ],
    )
    def test_of_a_proxy_that_opens_no_tunnel_is_bounded(
        self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{serve(behaviour).port}")
        with soon(), pytest.raises(SeedanceTransportError):
            drive(once("POST"), settings("https://seedance.invalid/api/v1", **SHORT))

    def test_of_a_tunnel_that_a_worker_waits_for_counts_as_unsent(
        self, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{serve(wire.hang).port}")
        with pytest.raises(SeedanceTransportError) as caught:
            by_requests(once("POST"), settings("https://seedance.invalid/api/v1", **SHORT))
        assert caught.value.request_sent is False

    def test_of_an_upload_that_is_not_read_is_bounded(self, serve: Serve, settings: Settings) -> None:
        class Endless:
            name, content_type, size = "cat.png", "image/png", 30 * 1024 * 1024

            def open(self) -> Any:
                return open("/dev/zero", "rb")  # noqa: PTH123

        store = serve(on_connect=wire.hang)
        ticket = UploadTicket(f"http://127.0.0.1:{store.port}/x?s", "image/png", "https://a.example/x")

        def put() -> Flow[Reply]:
            return (yield Put(ticket, Endless()))

        with soon(), pytest.raises(SeedanceTransportError):
            by_requests(put(), settings("http://127.0.0.1:1/api/v1", **SHORT))

    def test_grows_with_what_is_sent(self, settings: Settings) -> None:
        some = settings("http://a.test/api/v1", connect_timeout=3, read_timeout=4)
        assert exchange_seconds(some) == 7
        assert exchange_seconds(some, 5 * UPLOAD_BYTES_PER_SECOND) == 12

    def test_ends_soon_after_the_deadline_of_a_wait_however_long_the_timeouts(
        self, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "LAST_EXCHANGE_SECONDS", 0.3)
        server = serve(wire.drip(b"H"))
        with soon(), pytest.raises(SeedanceTransportError) as caught:
            drive(once(deadline=time.time() + 0.2), settings(server.url, read_timeout=3000))
        assert caught.value.request_sent is True

    def test_beyond_every_clock_is_none(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(200, RECORD))
        forever = {"connect_timeout": 1e12, "read_timeout": 1e300}
        assert drive(once("POST"), settings(server.url, **forever)).body == RECORD

    def test_that_is_over_leaves_no_thread_and_no_connection(
        self, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        server = serve(*[wire.drip(b" ", after=HEAD + b"\r\n" + RECORD)] * 3)
        before = {thread for thread in threading.enumerate() if "asyncio" not in thread.name}
        for _ in range(3):
            drive(once(), settings(server.url, connect_timeout=0.05, read_timeout=0.1))
        server.stop()
        after = {thread for thread in threading.enumerate() if "asyncio" not in thread.name}
        assert after <= before


class TestMemory:
    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(wire.endless, id="endless-body"),
            pytest.param(
                wire.flood(b" ", after=b"HTTP/1.1 302 Found\r\nLocation: /y\r\n\r\n"), id="endless-body-of-a-redirect"
            ),
            pytest.param(wire.flood(b" ", after=b"HTTP/1.1 500 Oops\r\n\r\n"), id="endless-body-of-an-error"),
            pytest.param(
                wire.flood(b"10000\r\n" + b" " * 65536 + b"\r\n", after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
                id="endless-chunks",
            ),
            pytest.param(wire.flood(b" ", after=HEAD + b"Content-Length: 99999999999\r\n\r\n"), id="huge-length"),
        ],
    )
    def test_of_a_body_is_bounded(self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(behaviour)
        tracemalloc.start()
        try:
            reply = drive(once(), settings(server.url))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(reply.body) == MAX_BODY
        assert not reply.complete
        assert most < 8 * MAX_BODY

    def test_of_an_inflated_body_is_bounded(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        bomb = gzip.compress(b" " * (64 * MAX_BODY))
        reply = drive(once(), settings(serve(answer(200, bomb, Content_Encoding="gzip")).url))
        assert len(reply.body) <= MAX_BODY

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(wire.flood(b"x", after=HEAD + b"A: "), id="header"),
            pytest.param(wire.flood(b"A: b\r\n", after=HEAD), id="headers"),
            pytest.param(wire.flood(b"x", after=b"HTTP/1.1 200 "), id="status-line"),
        ],
    )
    def test_of_headers_is_bounded(
        self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings, request: pytest.FixtureRequest
    ) -> None:
        if drive is by_aiohttp and "-headers" in request.node.name and not COUNTS_HEADERS:
            pytest.skip("an older aiohttp bounds the length of a header, not how many there are")
        server = serve(*[behaviour] * 3)
        tracemalloc.start()
        try:
            with pytest.raises(SeedanceTransportError) as caught:
                drive(once(), settings(server.url, read_timeout=1))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert caught.value.request_sent is True
        assert most < 16 * MAX_BODY


class TestConnections:
    """Of the triggerer, where hundreds share a hundred connections."""

    @staticmethod
    def run_all(channel: Channel, flows: list[Flow[Any]]) -> list[tuple[float, Any]]:
        """How long each flow took and how it ended."""

        async def one(flow: Flow[Any]) -> tuple[float, Any]:
            began = time.monotonic()
            async with channel:
                try:
                    result = await channel.drive(flow, deadline=None)
                except SeedanceTransportError as error:
                    result = error
            return time.monotonic() - began, result

        async def main() -> list[tuple[float, Any]]:
            return await asyncio.gather(*map(one, flows))

        return asyncio.run(main())

    @staticmethod
    def channel(settings: SeedanceSettings) -> Channel:
        async def read() -> SeedanceSettings:
            return settings

        return Channel(read)

    def test_that_all_hang_let_go_of_the_others_at_their_deadlines(self, serve: Serve, settings: Settings) -> None:
        server = serve(*[wire.hang] * 500)
        deadlines = [time.time() + 1 + 0.002 * number for number in range(500)]
        outcomes = self.run_all(
            self.channel(settings(server.url, read_timeout=3)), [once(deadline=deadline) for deadline in deadlines]
        )
        unsent = [seconds for seconds, error in outcomes if not error.request_sent]
        assert len(unsent) == 500 - MAX_CONNECTIONS
        assert server.connections == MAX_CONNECTIONS
        assert max(unsent) < 3, "each at its own deadline, within a second"

    def test_that_all_hang_do_not_keep_those_waiting_whose_deadline_is_past(
        self, serve: Serve, settings: Settings
    ) -> None:
        server = serve(*[wire.hang] * 500)
        outcomes = self.run_all(
            self.channel(settings(server.url, read_timeout=3)), [once(deadline=time.time() - 60) for _ in range(110)]
        )
        unsent = [seconds for seconds, error in outcomes if not error.request_sent]
        assert len(unsent) == 10
        assert max(unsent) < 2

    def test_that_are_all_busy_are_waited_for_without_counting_as_time_of_the_exchange(
        self, serve: Serve, settings: Settings
    ) -> None:
        def slow(connection: Connection) -> None:
            time.sleep(0.15)
            connection.send(answer(200, RECORD, Connection="close"))
            connection.close()

        channel = self.channel(settings(serve(*[slow] * 40).url, connect_timeout=1, read_timeout=1))
        channel.connections = asyncio.Semaphore(2)
        outcomes = self.run_all(channel, [once(deadline=time.time() + 60) for _ in range(40)])
        assert {reply.body for _, reply in outcomes} == {RECORD}
        assert max(seconds for seconds, _ in outcomes) > 2, "longer than an exchange may take"

    def test_are_given_back_by_those_who_are_cancelled(self, serve: Serve, settings: Settings) -> None:
        server = serve(*[wire.hang] * MAX_CONNECTIONS, answer(200, RECORD))
        channel = self.channel(settings(server.url))

        async def one() -> Reply:
            async with channel:
                return await channel.drive(once(), deadline=None)

        async def main() -> Reply:
            tasks = [asyncio.create_task(one()) for _ in range(MAX_CONNECTIONS + 20)]
            while len(server.requests) < MAX_CONNECTIONS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return await one()

        assert asyncio.run(main()).body == RECORD
