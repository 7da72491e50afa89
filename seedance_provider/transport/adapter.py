"""Makes requests and urllib3 tell how far an exchange came, keep to its time, and hand over an answer as it arrives."""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    import socket

_MAX_DIGITS = 18
"""Digits of a Content-Length; Python refuses to read thousands."""


class Progress:
    """How far the exchange of an adapter came, and how long it may still take.

    :param on_connect: Told of each connection before anything is sent on it; may raise. Default: nobody.
    """

    def __init__(self, on_connect: Callable[[socket.socket], None] | None = None) -> None:
        self.on_connect = on_connect
        self.sent = False
        self.answer: Answer | None = None
        self._ends_at = self._between = 0.0

    def start(self, seconds: float, between: float) -> None:
        """Begin an exchange that may take so many seconds in all, and so many between two pieces."""
        self.sent = False
        self.answer = None
        self._ends_at = time.monotonic() + seconds
        self._between = between

    def limit(self, sock: socket.socket) -> None:
        """Bound the next operation of a socket.

        :raises TimeoutError: if the time is over.
        """
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(min(left, self._between))


class _Pieces(io.RawIOBase):
    """What a socket receives, each piece within the time of the exchange: a byte a second must not last for ever.

    Of TLS, Python bounds a handshake and a record as a whole by itself.
    """

    def __init__(self, sock: socket.socket, progress: Progress) -> None:
        self._sock = sock
        self._progress = progress
        self._stream = cast("io.RawIOBase", sock.makefile("rb", buffering=0))
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._progress.limit(self._sock)
        count = self._stream.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer as it arrives: read without decoding, and taken for what it can be if its framing is wrong."""

    def __init__(self, progress: Progress, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._progress = progress
        self._pieces = _Pieces(sock, progress)
        self._cut = False
        self.fp = io.BufferedReader(self._pieces)

    def begin(self) -> None:
        """Read the status line and the headers."""
        super().begin()
        while 100 < self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()  # what was only said meanwhile is not the answer
        self._progress.answer = self
        self._cut = self._pieces.ended  # http.client takes an end within the headers for the end of the headers
        # urllib3 refuses lengths that differ, and logs headers that it cannot parse together with the URL.
        lengths = {
            int(length)
            for value in self.headers.get_all("Content-Length", [])
            for length in value.split(",")
            if length.strip().isdecimal() and len(length) < _MAX_DIGITS
        }
        del self.headers["Content-Length"]
        if lengths and not self.chunked and self.length != 0:
            self.length = max(lengths)
            self.headers["Content-Length"] = str(self.length)
        self.headers.defects.clear()
        self.headers.set_payload("")

    def is_complete(self) -> bool:
        """Whether the body was read to its end."""
        return not self._cut and (self.length == 0 or (self.length is None and self.isclosed()))


class _Connection:
    """Mixed into a connection of urllib3: keeps the progress of its adapter up to date."""

    sock: socket.socket | None
    auto_open: int

    def __init__(self, progress: Progress, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._progress = progress
        self._is_through = False
        self.response_class = partial(Answer, progress)

    def connect(self) -> None:
        self._is_through = False
        super().connect()  # type: ignore[misc]
        if self._progress.on_connect is not None and self.sock is not None:
            self._progress.on_connect(self.sock)
        self._is_through = True

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        if self.sock is not None:
            self._progress.limit(self.sock)
        # Not what is said to a proxy to get through to the server.
        self._progress.sent = self._progress.sent or self._is_through
        super().send(data)  # type: ignore[misc]


@lru_cache
def _following(connection: type[Any]) -> Callable[..., Any]:
    return type(connection.__name__, (_Connection, connection), {})


class Adapter(HTTPAdapter):
    """An adapter of requests that knows how far its one exchange came.

    :param on_connect: Told of each connection before anything is sent on it; may raise. Default: nobody.
    """

    def __init__(self, on_connect: Callable[[socket.socket], None] | None = None) -> None:
        self.progress = Progress(on_connect)
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool of connections to a host, each of which keeps the progress up to date."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if isinstance(pool.ConnectionCls, type):
            pool.ConnectionCls = partial(_following(pool.ConnectionCls), self.progress)
        return pool
