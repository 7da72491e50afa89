"""A scripted HTTP server on a real socket: each request gets the next thing to happen, however rude."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Behaviour = bytes | Callable[["Connection"], None]
"""What happens to a request: bytes to send back, or something done to the connection."""


@dataclass
class Recorded:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Connection:
    """One accepted connection."""

    socket: socket.socket
    number: int
    stopped: threading.Event

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
"""The first lines of an answer, for those that are put together by hand."""


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """A complete answer."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Reason\r\n{head}\r\n".encode("latin-1") + body


def reset(connection: Connection) -> None:
    """Break the connection off."""
    connection.reset()


def hang_up(connection: Connection) -> None:
    """Close the connection politely, without an answer."""
    connection.close()


def hang(connection: Connection) -> None:
    """Never answer."""
    connection.stopped.wait(30)


def cut(data: bytes, then: Callable[[Connection], None] = hang_up) -> Callable[[Connection], None]:
    """Send only this, then do that."""

    def behave(connection: Connection) -> None:
        connection.send(data)
        then(connection)

    return behave


def drip(
    piece: bytes, *, after: bytes = b"", every: float = 0.05, seconds: float = 30.0
) -> Callable[[Connection], None]:
    """Send this, then a piece again and again, so that no single read ever waits for long."""

    def behave(connection: Connection) -> None:
        with contextlib.suppress(OSError):
            connection.send(after)
            ends_at = time.monotonic() + seconds
            while not connection.stopped.wait(every) and time.monotonic() < ends_at:
                connection.send(piece)
        connection.close()

    return behave


def flood(piece: bytes, *, after: bytes = b"") -> Callable[[Connection], None]:
    """Send this, then a piece without end, as fast as it goes."""

    def behave(connection: Connection) -> None:
        pieces = piece * max(65536 // len(piece), 1)
        with contextlib.suppress(OSError):
            connection.send(after)
            while not connection.stopped.is_set():
                connection.send(pieces)
        connection.close()

    return behave


def endless(connection: Connection) -> None:
    """Answer without end."""
    flood(b" ", after=HEAD + b"Connection: close\r\n\r\n{")(connection)


@dataclass
class Server:
    """Listens on a free port; the behaviours are used in order, over all connections.

    :param behaviours: What happens to each request; a request beyond them is reset.
    :param on_connect: Done to each connection before anything is read of it.
    :param tls: Speak TLS.
    :param requests: What was read so far.
    :param connections: How many were accepted so far.
    :param arrived: Set by the first request.
    """

    behaviours: list[Behaviour]
    on_connect: Callable[[Connection], None] | None = None
    tls: ssl.SSLContext | None = None
    requests: list[Recorded] = field(default_factory=list)
    connections: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/api/v1"

    def stop(self) -> None:
        self._stopped.set()
        # A blocked accept() does not notice that its socket was closed.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._listener.close()
        with self._lock:
            for accepted in self._open:
                with contextlib.suppress(OSError):
                    accepted.shutdown(socket.SHUT_RDWR)
                accepted.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            if self._stopped.is_set():
                accepted.close()
                return
            with self._lock:
                self.connections += 1
                self._open.append(accepted)
                number = self.connections
            self._start(self._serve, accepted, number)

    def _serve(self, accepted: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                accepted = self.tls.wrap_socket(accepted, server_side=True)
                with self._lock:
                    self._open.append(accepted)
            connection = Connection(accepted, number, self._stopped)
            if self.on_connect is not None:
                self.on_connect(connection)
            reader = accepted.makefile("rb")
            while (request := _read_request(reader, number)) is not None:
                with self._lock:
                    self.requests.append(request)
                    self.arrived.set()
                    behaviour = self.behaviours.pop(0) if self.behaviours else reset
                if callable(behaviour):
                    behaviour(connection)
                    break
                connection.send(behaviour)
                if "close" in request.header("Connection") or b"\r\nConnection: close\r\n" in behaviour:
                    break
            reader.close()
            connection.close()


def _read_request(reader: object, number: int) -> Recorded | None:
    line = reader.readline()  # type: ignore[attr-defined]
    if line.count(b" ") < 2:  # the end, or another protocol
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: list[tuple[str, str]] = []
    while (line := reader.readline()) not in (b"\r\n", b""):  # type: ignore[attr-defined]
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Recorded(method, target, headers, reader.read(length) if length else b"", number)  # type: ignore[attr-defined]


@contextlib.contextmanager
def never_accepts() -> Iterator[int]:
    """A port whose queue of connections is full: a connect gets no answer."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            client = waiting.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(address)
            except TimeoutError:
                break
        yield address[1]


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port on which nothing listens: bound, so that nobody else takes it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
