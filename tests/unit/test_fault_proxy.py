"""The proxy of the failure suite does what a scenario says that it does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from devtools.fault_proxy import FaultProxy

RESET_ME = b"reset me"


class Echo(BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(1000):
                if data == RESET_ME:
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.request.close()
                    return
                self.request.sendall(data)


class Server(ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with FaultProxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_it_passes_on_what_is_sent(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"fox")
        assert client.recv(10) == b"fox"


def test_nobody_listens_while_it_refuses_and_again_afterwards(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"fox")
        client.recv(10)
        proxy.fault = "refuse"
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.fault = None
    with connect(proxy) as client:
        client.sendall(b"fox")
        assert client.recv(10) == b"fox"


def test_connections_are_reset(proxy: FaultProxy) -> None:
    proxy.fault = "reset"
    with connect(proxy) as client:
        client.sendall(b"fox")
        with pytest.raises(ConnectionResetError):
            client.recv(10)


def test_silence_keeps_every_byte_until_it_ends(proxy: FaultProxy) -> None:
    proxy.fault = "silence"
    with connect(proxy) as client:
        client.sendall(b"fox")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.fault = None
        client.settimeout(5)
        assert client.recv(10) == b"fox"


def test_drops_come_a_second_apart(proxy: FaultProxy) -> None:
    proxy.fault = "drip"
    with connect(proxy) as client:
        client.sendall(b"ab")
        assert client.recv(10) == b"a"
        began = time.monotonic()
        proxy.fault = None
        assert client.recv(10) == b"b"
        assert time.monotonic() - began < 30


def test_a_reset_by_the_server_reaches_the_client(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.sendall(RESET_ME)
        with pytest.raises(ConnectionResetError):
            client.recv(10)


def test_open_connections_are_cut(proxy: FaultProxy) -> None:
    with connect(proxy) as client, connect(proxy) as other:
        for each in (client, other):
            each.sendall(b"fox")
            each.recv(10)
        proxy.cut()
        for each in (client, other):
            with pytest.raises(ConnectionResetError):
                each.recv(10)
