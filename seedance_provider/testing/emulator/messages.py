"""What the parts of the server hand to each other: a call, a refusal, and the forms of an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from seedance_provider.testing.emulator import dialects, texts


class ApiError(Exception):
    """An error answer of the API: HTTP status, message, further members."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.extra = status, message, extra


@dataclass
class Call:
    """One request on its way: what has been read of it, and what is known by then for faults and the log."""

    request: web.Request
    endpoint: str
    body: bytes = b""
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The bearer key it came with; empty without one."""
        return bearer(self.request.headers.get("Authorization", ""))


class MediaFile(web.FileResponse):
    """A file as an answer, with range requests; `file` is where it lies."""

    def __init__(self, file: Path, content_type: str) -> None:
        super().__init__(file, headers={"Content-Type": content_type})
        self.file = file


def bearer(header: str) -> str:
    """The key in an Authorization header; empty if it is not a bearer key."""
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object, read as strictly as the vendor's JavaScript does: no NaN. Otherwise ValueError."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        value = json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return as_object(value)


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else ValueError."""
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of refusal for the caller
    return value


def json_reply(body: object, status: int = 200) -> web.Response:
    """JSON without spaces."""
    return web.Response(text=dialects.compact(body), status=status, content_type="application/json")


def html_reply(status: int, headers: dict[str, str] | None = None) -> web.Response:
    """A page of the edge."""
    return web.Response(text=texts.edge_page(status), status=status, content_type="text/html", headers=headers)


def storage_error(status: int, code: str, message: str) -> web.Response:
    """The XML of object storage."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(text=text, status=status, content_type="application/xml")
