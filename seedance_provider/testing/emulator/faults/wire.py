"""Bad answers that no HTTP library would send: they are written to the connection directly."""

# ruff: noqa: D102 - what an overridden method does here stands at its class
from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from aiohttp import web

from seedance_provider.testing.emulator.faults.base import Exchange, ReplyFault
from seedance_provider.testing.emulator.messages import MediaFile

_STEP_SECONDS = 0.05  # how soon it is seen that the client hung up
_PIECE_BYTES = 65_536

End = Literal["fin", "rst"]


class _HungUp(Exception):  # noqa: N818 - not an error: the client had enough
    """The client closed the connection."""


class _Line:
    """The connection of one request."""

    def __init__(self, request: web.Request) -> None:
        if request.transport is None:
            raise _HungUp
        self._transport = request.transport

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise _HungUp
        self._transport.write(data)

    async def flood(self, size: int) -> None:
        """Write so many bytes without holding them all in memory."""
        while size > 0:
            self.write(b"x" * min(size, _PIECE_BYTES))
            size -= _PIECE_BYTES
            while self._transport.get_write_buffer_size() and not self._transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def pause(self, seconds: float) -> None:
        """Wait, unless the client hangs up."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, _STEP_SECONDS))
            if self._transport.is_closing():
                raise _HungUp

    async def trickle(self, data: bytes, *, seconds: float, interval: float) -> None:
        """Write one byte per interval for so many seconds; what is left then comes at once."""
        slowly = int(seconds / interval)
        for index in range(min(slowly, len(data))):
            self.write(data[index : index + 1])
            await self.pause(interval)
        self.write(data[slowly:])

    async def end(self, how: End) -> None:
        """End the connection: in order, or with a TCP reset once the client could read what was sent."""
        if how == "rst":
            await asyncio.sleep(_STEP_SECONDS)
            connection = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()


@dataclass(frozen=True)
class _Answer:
    """The genuine answer as bytes."""

    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    body: bytes = b'{"message":"ok"}'

    @classmethod
    def of(cls, genuine: web.StreamResponse | None) -> _Answer:
        if isinstance(genuine, MediaFile):
            return cls(200, genuine.headers["Content-Type"], genuine.file.read_bytes())
        if isinstance(genuine, web.Response) and isinstance(genuine.body, bytes):
            return cls(genuine.status, genuine.headers.get("Content-Type", cls.content_type), genuine.body)
        return cls()

    def head(self, *headers: tuple[str, object]) -> bytes:
        """Status line and headers, with the empty line that ends them."""
        return _head(self.status, ("Content-Type", self.content_type), *headers)


def _head(status: int, *headers: tuple[str, object]) -> bytes:
    known = {item.value: item.phrase for item in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {known.get(status, 'Unknown')}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1", "replace")


@dataclass(frozen=True, kw_only=True)
class _Wire(ReplyFault):
    """A fault that writes to the connection and ends it."""

    accept: bool = True

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        answer = _Answer.of(genuine)
        with contextlib.suppress(_HungUp):
            await self.write(_Line(exchange.call.request), answer)
        # What aiohttp would send now finds the connection closed; the status is for the request log.
        return web.Response(status=self.logged(answer))

    def logged(self, answer: _Answer) -> int:
        return answer.status

    async def write(self, line: _Line, answer: _Answer) -> None:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Reset(_Wire, name="reset"):
    """No answer: a TCP reset."""

    accept: bool = False

    def logged(self, answer: _Answer) -> int:
        return 499

    async def write(self, line: _Line, answer: _Answer) -> None:
        await line.end("rst")


@dataclass(frozen=True, kw_only=True)
class Drip(_Wire, name="drip"):
    """The genuine answer, of which one part comes one byte per interval for some seconds, the rest at once.

    A part that is too short for that is padded: headers with `X-Drip`, a body with white space, which JSON allows.
    `continue` sends `100 Continue` once per interval before the answer.
    """

    part: Literal["headers", "body", "continue"] = "body"
    seconds: float = 5.0
    interval: float = 1.0

    async def write(self, line: _Line, answer: _Answer) -> None:
        count = int(self.seconds / self.interval)
        head = answer.head(("X-Drip", "x" * count), ("Content-Length", len(answer.body)))
        body = answer.body
        if self.part == "headers":
            await line.trickle(head, seconds=self.seconds, interval=self.interval)
            line.write(body)
        elif self.part == "body":
            body = body.ljust(count)
            line.write(answer.head(("Content-Length", len(body))))
            await line.trickle(body, seconds=self.seconds, interval=self.interval)
        else:
            for _ in range(count):
                line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await line.pause(self.interval)
            line.write(answer.head(("Content-Length", len(body))) + body)
        await line.end("fin")


@dataclass(frozen=True, kw_only=True)
class Stall(_Wire, name="stall"):
    """The genuine answer, with a standstill of some seconds after so many bytes of its body."""

    seconds: float = 5.0
    after: int = 0

    async def write(self, line: _Line, answer: _Answer) -> None:
        line.write(answer.head(("Content-Length", len(answer.body))) + answer.body[: self.after])
        await line.pause(self.seconds)
        line.write(answer.body[self.after :])
        await line.end("fin")


@dataclass(frozen=True, kw_only=True)
class Cut(_Wire, name="cut"):
    """The genuine answer with a Content-Length that is too long; then the connection ends."""

    after: int | None = None  # bytes of the body; None: all of it
    extra: int = 10  # bytes that are announced and never come
    how: End = "fin"

    async def write(self, line: _Line, answer: _Answer) -> None:
        line.write(answer.head(("Content-Length", len(answer.body) + self.extra)) + answer.body[: self.after])
        await line.end(self.how)


@dataclass(frozen=True, kw_only=True)
class ChunkCut(_Wire, name="chunk_cut"):
    """The genuine answer in one chunk that is announced longer than it is; then the connection ends."""

    after: int | None = None
    extra: int = 10
    how: End = "fin"

    async def write(self, line: _Line, answer: _Answer) -> None:
        size = f"{len(answer.body) + self.extra:x}\r\n".encode()
        line.write(answer.head(("Transfer-Encoding", "chunked")) + size + answer.body[: self.after])
        await line.end(self.how)


@dataclass(frozen=True, kw_only=True)
class Padded(_Wire, name="padded"):
    """The genuine answer, lengthened: announced as so long, or in chunks without a length."""

    bytes: int = 20_000_000
    chunked: bool = False

    async def write(self, line: _Line, answer: _Answer) -> None:
        rest = max(self.bytes - len(answer.body), 0)
        if self.chunked:
            line.write(answer.head(("Transfer-Encoding", "chunked")))
            line.write(f"{len(answer.body) + rest:x}\r\n".encode() + answer.body)
            await line.flood(rest)
            line.write(b"\r\n0\r\n\r\n")
        else:
            line.write(answer.head(("Content-Length", len(answer.body) + rest)) + answer.body)
            await line.flood(rest)
        await line.end("fin")


@dataclass(frozen=True, kw_only=True)
class TwoLengths(_Wire, name="two_lengths"):
    """The genuine answer with two Content-Length headers that differ."""

    extra: int = 10

    async def write(self, line: _Line, answer: _Answer) -> None:
        size = len(answer.body)
        line.write(answer.head(("Content-Length", size), ("Content-Length", size + self.extra)) + answer.body)
        await line.end("fin")


@dataclass(frozen=True, kw_only=True)
class Redirect(_Wire, name="redirect"):
    """A redirect to another host; `location` is sent as Latin-1, so that it need not be UTF-8."""

    accept: bool = False
    status: int = 302
    location: str = "https://elsewhere.invalid/"
    bytes: int = 0  # length of its body

    def logged(self, answer: _Answer) -> int:
        return self.status

    async def write(self, line: _Line, answer: _Answer) -> None:
        line.write(_head(self.status, ("Location", self.location), ("Content-Length", self.bytes)))
        await line.flood(self.bytes)
        await line.end("fin")
