"""Both transports behind one face, in which pauses take no time."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.connection import SeedanceSettings
from seedance_provider.transport.aio import AioTransport
from seedance_provider.transport.pool import Channel
from seedance_provider.transport.sync import SyncTransport
from tests.support.pauses import hurried

if TYPE_CHECKING:
    from seedance_provider.api.messages import Flow

_numbers = itertools.count(1)


@dataclass
class Transport:
    """One of the two.

    :param drive: Runs a flow against a base URL.
    :param key: The API key it uses.
    :param pauses: How long it would have slept.
    """

    drive: Callable[..., Any]
    key: str
    pauses: list[float]


@pytest.fixture(params=["requests", "aiohttp"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Transport:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    pauses: list[float] = []
    key = f"zimg_contract{next(_numbers):06}"

    def by_requests(flow: Flow[Any], base_url: str) -> Any:
        settings = SeedanceSettings(base_url, key)
        return SyncTransport(settings, lambda: settings).drive(hurried(flow, pauses))

    def by_aiohttp(flow: Flow[Any], base_url: str) -> Any:
        async def read() -> SeedanceSettings:
            return SeedanceSettings(base_url, key)

        async def main() -> Any:
            async with Channel(read) as channel:
                # Without the channel's rate limiter, whose pauses are none of the flow's.
                return await AioTransport(channel, None).drive(hurried(flow, pauses))

        return asyncio.run(main())

    return Transport(by_requests if request.param == "requests" else by_aiohttp, key, pauses)
