"""Drivers that execute a flow of :mod:`seedance_provider.api.flows` over real HTTP, and what they share."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seedance_provider import __version__
from seedance_provider.api.calls import Reply
from seedance_provider.api.policy import retry_after_seconds

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings

USER_AGENT = f"airflow-provider-seedance/{__version__}"
"""The edge refuses requests with a library's default User-Agent (contract 1)."""
MIN_SECRET = 8
"""Characters from which on a key is looked for in answers: a shorter one, an emulator's, may be part of any word."""
SLOW_TURN = 5.0
"""Seconds of waiting for a turn from which on a waiter is told."""
MAX_BODY = 1024 * 1024
"""Bytes read of an answer; records have a few hundred."""


def request_headers() -> dict[str, str]:
    """Headers of every request; the Authorization header is added where the key is."""
    return {
        "User-Agent": USER_AGENT,
        "Accept": "application/json",
        # A few hundred bytes gain nothing by compression, and older clients inflate a hostile answer without bound.
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }


def authorization(settings: SeedanceSettings) -> str:
    """The value of the Authorization header."""
    return f"Bearer {settings.api_key}"


def make_reply(status: int, headers: Mapping[str, str], body: bytes, settings: SeedanceSettings) -> Reply:
    """Put an answer into the form that flows read, without the API key should the answer repeat it."""
    for spelling in _spellings(settings.api_key):
        if spelling in body:
            body = body.replace(spelling, b"***")
    retry_after = headers.get("Retry-After")
    return Reply(
        status=status,
        content_type=headers.get("Content-Type", ""),
        body=body,
        retry_after=retry_after_seconds(retry_after, time.time()) if retry_after else None,
    )


@functools.lru_cache(maxsize=8)
def _spellings(key: str) -> frozenset[bytes]:
    """The key as it may stand in an answer: as it is, or as JSON escapes it."""
    if len(key) < MIN_SECRET:
        return frozenset()
    escaped = json.dumps(key)[1:-1]
    return frozenset(text.encode() for text in (key, escaped, escaped.replace("/", "\\/")))


def slow_turn(settings: SeedanceSettings, delay: float) -> str | None:
    """What to tell a waiter about a wait for its turn; None if it is too short to mention.

    :param settings: The connection.
    :param delay: Seconds until its turn.
    """
    if delay < SLOW_TURN:
        return None
    why = (
        f"requests_per_minute={settings.requests_per_minute:g} of the connection is shared by all that wait here"
        if settings.requests_per_minute
        else "Seedance asked for fewer requests"
    )
    return f"Looking less often, the next time in {delay:.0f} s: {why}"


def ca_bundle() -> str:
    """The file or directory of trusted certificates that requests would use: both transports trust the same."""
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
