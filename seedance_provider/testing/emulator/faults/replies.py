"""Bad answers that any HTTP server could give."""

# ruff: noqa: D102 - what an overridden method does here stands at its class
from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from aiohttp import web

from seedance_provider.testing.emulator import dialects, texts
from seedance_provider.testing.emulator.faults.base import Exchange, ReplyFault
from seedance_provider.testing.emulator.messages import MediaFile, html_reply, json_reply


def _in_the_vendors_words(exchange: Exchange, status: int, message: str | None = None) -> web.Response:
    """An error as the API or the edge gives it for this status on this endpoint."""
    if message is None and status in texts.EDGE_STATUSES:
        return html_reply(status)
    usual, extra = texts.refusal(exchange.call.endpoint, status)
    if message is not None:
        usual, extra = message, {}
    return json_reply(dialects.error(exchange.dialect, status, usual, extra), status)


def _bytes_of(genuine: web.StreamResponse | None) -> bytes:
    """The body of a genuine answer; a made-up one where there is none."""
    body = genuine.body if isinstance(genuine, web.Response) else None
    return body if isinstance(body, bytes) else b'{"taskId":"task_'


@dataclass(frozen=True, kw_only=True)
class Http(ReplyFault, name="http"):
    """Any status with any body; without one, the vendor's words for the status on that endpoint."""

    status: int = 500
    message: str | None = None
    json: Any = None
    body: str | None = None
    content_type: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        if self.body is not None or self.json is not None:
            text = dialects.compact(self.json) if self.body is None else self.body
            headers = {"Content-Type": self.content_type or "application/json"} | self.headers
            return web.Response(body=text.encode(), status=self.status, headers=headers)
        response = _in_the_vendors_words(exchange, self.status, self.message)
        if self.content_type is not None:
            response.headers["Content-Type"] = self.content_type
        response.headers.update(self.headers)
        return response


@dataclass(frozen=True, kw_only=True)
class OddStatus(ReplyFault, name="odd_status", on="recordInfo"):
    """A status that recordInfo never gives (302, 408, 421, 425, 460, …), with an empty body."""

    status: int = 460
    location: str = "https://elsewhere.invalid/"  # sent with a 3xx

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        headers = {"Location": self.location} if 300 <= self.status < 400 else None
        return web.Response(status=self.status, headers=headers)


@dataclass(frozen=True, kw_only=True)
class Html(ReplyFault, name="html"):
    """A page of the edge."""

    status: int = 502
    headers: dict[str, Any] = field(default_factory=dict)

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        return html_reply(self.status, self.headers)


@dataclass(frozen=True, kw_only=True)
class RateLimit(ReplyFault, name="rate_limit"):
    """429, with or without the numbers."""

    limit: int | None = None
    current: int | None = None
    retry_after: float | str | None = None

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        numbers = {"limit": self.limit, "current": self.current}
        extra = {name: value for name, value in numbers.items() if value is not None}
        message = texts.limit_reached(extra.get("limit", "?"))
        response = json_reply(dialects.error(exchange.dialect, 429, message, extra), 429)
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        return response


@dataclass(frozen=True, kw_only=True)
class Truncated(ReplyFault, name="truncated"):
    """Half of the JSON, in an otherwise perfect answer."""

    accept: bool = True

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        body = _bytes_of(genuine)
        return web.Response(body=body[: len(body) // 2], content_type="application/json")


@dataclass(frozen=True, kw_only=True)
class Empty(ReplyFault, name="empty"):
    """No body."""

    status: int = 200

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        return web.Response(status=self.status)


@dataclass(frozen=True, kw_only=True)
class NoTaskId(ReplyFault, name="no_task_id"):
    """200 without a taskId."""

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        return json_reply({"message": "ok"})


@dataclass(frozen=True, kw_only=True)
class EnvelopeError(ReplyFault, name="envelope_error"):
    """An error inside an HTTP 200."""

    code: int = 500
    message: str | None = None

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        usual, extra = texts.refusal(exchange.call.endpoint, self.code)
        if self.message is not None:
            usual, extra = self.message, {}
        return json_reply({"code": self.code, "message": usual, "data": None} | extra)


@dataclass(frozen=True, kw_only=True)
class NotFound(ReplyFault, name="not_found"):
    """404 for a task that exists."""

    short: ClassVar[dict[str, tuple[str, ...]]] = {"not_found": ("times",)}

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        return json_reply(dialects.error(exchange.dialect, 404, "Task not found", {}), 404)


@dataclass(frozen=True, kw_only=True)
class Slow(ReplyFault, name="slow"):
    """The genuine answer, late. Unless accepted before, a client that hung up meanwhile gets no task."""

    seconds: float = 5.0

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        transport = exchange.call.request.transport
        if genuine is None and (transport is None or transport.is_closing()):
            return web.Response(status=499)
        return genuine or exchange.carry_out()


@dataclass(frozen=True, kw_only=True)
class Oversize(ReplyFault, name="oversize"):
    """A very long JSON."""

    bytes: int = 20_000_000

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        return json_reply({"padding": "x" * self.bytes})


@dataclass(frozen=True, kw_only=True)
class OtherMedia(ReplyFault, name="other_media", on="media"):
    """A picture where a video is asked for, and the other way round; the Content-Type is that of what was asked for."""

    accept: bool = True

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        if not isinstance(genuine, MediaFile):
            return genuine or web.Response(status=404)
        other = "last_frame.png" if genuine.file.suffix == ".mp4" else "video.mp4"
        return MediaFile(genuine.file.with_name(other), genuine.headers["Content-Type"])


@dataclass(frozen=True, kw_only=True)
class GzipLie(ReplyFault, name="gzip_lie"):
    """A plain body that is announced as gzip."""

    accept: bool = True

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=_bytes_of(genuine), status=genuine.status if genuine else 200, headers=headers)


CONTROL_CHARACTERS = "\x1b[31m\r\nFORGED LINE\x00\x07\x85\u2028\u202e\u200f"


@dataclass(frozen=True, kw_only=True)
class ControlChars(ReplyFault, name="control_chars"):
    """Control characters, line ends and bidirectional marks in the texts.

    An error with this status; with `genuine`, the genuine answer with its `message`, `error` and `failMsg` spoiled.
    """

    status: int = 500
    genuine: bool = False

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        if not self.genuine:
            message = texts.refusal(exchange.call.endpoint, self.status)[0] + CONTROL_CHARACTERS
            return _in_the_vendors_words(exchange, self.status, message)
        answer = genuine or exchange.carry_out()
        if not isinstance(answer, web.Response):
            return answer
        return json_reply(_spoiled(json.loads(_bytes_of(answer))), answer.status)


def _spoiled(value: Any) -> Any:
    """JSON with control characters at the end of each text that is for people."""
    if not isinstance(value, dict):
        return value
    return {
        name: text + CONTROL_CHARACTERS
        if name in ("message", "error", "failMsg") and isinstance(text, str)
        else _spoiled(text)
        for name, text in value.items()
    }


# How a body repeats the key: the text around it is JSON in each case.
_ECHOES: dict[str, Callable[[str], bytes]] = {
    "plain": lambda key: _refused(json.dumps(key)),
    "escaped": lambda key: _refused('"' + "".join(f"\\u{ord(letter):04X}" for letter in key) + '"'),
    "utf16": lambda key: _refused(json.dumps(key)).decode().encode("utf-16"),
}


def _refused(quoted: str) -> bytes:
    return b'{"message":"Invalid API Key: ' + quoted[1:].encode() + b"}"


@dataclass(frozen=True, kw_only=True)
class EchoKey(ReplyFault, name="echo_key"):
    """An error that repeats the caller's API key: plain, with each character as a JSON escape, or in UTF-16."""

    status: int = 401
    form: Literal["plain", "escaped", "utf16"] = "plain"

    async def reply(self, exchange: Exchange, _: web.StreamResponse | None) -> web.StreamResponse:
        charset = "utf-16" if self.form == "utf16" else "utf-8"
        body = _ECHOES[self.form](exchange.call.key)
        return web.Response(
            body=body, status=self.status, headers={"Content-Type": f"application/json; charset={charset}"}
        )
