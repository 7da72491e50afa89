"""Both transports behind one face, in which pauses take no time."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.connection import SeedanceSettings
from seedance_provider.transport import aio, sync

if TYPE_CHECKING:
    from seedance_provider.api.flows import Flow

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

    class Time:
        monotonic = staticmethod(time.monotonic)
        sleep = staticmethod(pauses.append)

    class Asyncio:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)

    monkeypatch.setattr(sync, "time", Time)
    monkeypatch.setattr(aio, "asyncio", Asyncio())

    def by_requests(flow: Flow[Any], base_url: str) -> Any:
        settings = SeedanceSettings(base_url, key)
        return sync.SyncTransport(settings, lambda: settings).drive(flow)

    def by_aiohttp(flow: Flow[Any], base_url: str) -> Any:
        settings = SeedanceSettings(base_url, key)

        async def renew() -> SeedanceSettings:
            return settings

        async def main() -> Any:
            async with aio.shared_session(base_url) as session:
                return await aio.AioTransport(session, settings, renew).drive(flow)

        return asyncio.run(main())

    return Transport(by_requests if request.param == "requests" else by_aiohttp, key, pauses)
