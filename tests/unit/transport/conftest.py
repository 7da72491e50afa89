"""Both transports behind one face, an environment without proxies and bundles, and scripted servers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest

from seedance_provider.connection import SeedanceSettings
from seedance_provider.transport.pool import Channel
from seedance_provider.transport.sync import SyncTransport
from tests.support.pauses import hurried
from tests.support.wire import Behaviour, Server

if TYPE_CHECKING:
    from pathlib import Path

    from seedance_provider.api.messages import Flow

T = TypeVar("T")
Drive = Callable[..., Any]

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")
COUNTS_HEADERS = "max_headers" in inspect.signature(aiohttp.ClientSession).parameters
KEY = "zimg_s3cr3t-000001"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def settings() -> Callable[..., SeedanceSettings]:
    """Settings for a base URL."""

    def make(base_url: str, **changes: Any) -> SeedanceSettings:
        return SeedanceSettings(
            **{"base_url": base_url, "api_key": KEY, "connect_timeout": 5.0, "read_timeout": 5.0, **changes}
        )

    return make


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start scripted servers; they stop with the test."""
    servers: list[Server] = []

    def start(*behaviours: Behaviour, **options: Any) -> Server:
        servers.append(Server(list(behaviours), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def by_requests(flow: Flow[T], settings: SeedanceSettings, renewed: SeedanceSettings | None = None) -> T:
    return SyncTransport(settings, lambda: renewed or settings).drive(hurried(flow))


def by_aiohttp(flow: Flow[T], settings: SeedanceSettings, renewed: SeedanceSettings | None = None) -> T:
    lookups = iter([settings])

    async def read() -> SeedanceSettings:
        return next(lookups, renewed or settings)

    async def main() -> T:
        async with Channel(read) as channel:
            return await channel.drive(hurried(flow), deadline=None)

    return asyncio.run(main())


@pytest.fixture(params=[by_requests, by_aiohttp], ids=["requests", "aiohttp"])
def drive(request: pytest.FixtureRequest) -> Drive:
    """Run a flow to its end: ``drive(flow, settings, renewed=None)``; once with each transport."""
    chosen: Drive = request.param
    return chosen
