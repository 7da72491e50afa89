"""Drives a flow with aiohttp, in the triggerer; one session per event loop and base URL serves all waiters."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from seedance_provider.api.flows import RenewKey, Send, Sleep
from seedance_provider.exceptions import SeedanceTransportError
from seedance_provider.transport import MAX_BODY, authorization, ca_bundle, make_reply, request_headers, slow_turn
from seedance_provider.transport.pace import latest_turn, pace_of

if TYPE_CHECKING:
    from seedance_provider.api.calls import Reply
    from seedance_provider.api.flows import AnyLogger, Flow
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.transport.pace import Pace

T = TypeVar("T")
module_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 100
KEEP_ALIVE_SECONDS = 45
"""Longer than the pauses of the schedule, shorter than the minute after which gateways close idle connections."""
DNS_CACHE_SECONDS = 300


class _SharedSession:
    """A session that is opened for its first borrower and closed when the last one leaves.

    A context manager that all borrowers share: what ``contextlib`` makes of a generator costs each of them 600 bytes.
    """

    def __init__(self, key: tuple[asyncio.AbstractEventLoop, str]) -> None:
        self._key = key
        self._users = 0
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> aiohttp.ClientSession:
        self._users += 1
        try:
            async with self._lock:
                if self._session is None:
                    self._session = await _open_session(self._key[1])
        except BaseException:
            await self.__aexit__()
            raise
        return self._session

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            del _shared[self._key]
            if self._session is not None:
                await _fresh_sessions.pop(self._session).close()
                await self._session.close()


# To each session one that keeps no connections, for a request whose kept connection turned out to be dead.
_fresh_sessions: WeakKeyDictionary[aiohttp.ClientSession, aiohttp.ClientSession] = WeakKeyDictionary()
_shared: dict[tuple[asyncio.AbstractEventLoop, str], _SharedSession] = {}


def shared_session(base_url: str) -> _SharedSession:
    """Lend the event loop's session for a base URL, to be entered at once.

    :param base_url: The API's base URL.
    """
    key = (asyncio.get_running_loop(), base_url)
    return _shared.setdefault(key, _SharedSession(key))


async def _open_session(base_url: str) -> aiohttp.ClientSession:
    try:
        # Reading the bundle takes tens of milliseconds, in which no other trigger of this process would run.
        tls, proxy = await asyncio.to_thread(_environment, base_url)
    except (OSError, ValueError) as error:
        raise SeedanceTransportError(
            f"The proxy or the certificate bundle that the environment names cannot be used: {error}",
            request_sent=False,
        ) from error
    session = _client_session(tls, proxy, keep=True)
    _fresh_sessions[session] = _client_session(tls, proxy, keep=False)
    return session


def _client_session(tls: ssl.SSLContext | bool, proxy: str | None, *, keep: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS,
            ttl_dns_cache=DNS_CACHE_SECONDS,
            ssl=tls,
            **({"keepalive_timeout": KEEP_ALIVE_SECONDS} if keep else {"force_close": True}),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=request_headers(),
        proxy=proxy,
    )


def _environment(base_url: str) -> tuple[ssl.SSLContext | bool, str | None]:
    """What to trust and which proxy to use: what requests would, so that both transports reach the same.

    Not aiohttp's trust_env: it honours .netrc as well, which must not override the API key, and looks it up on every
    request.
    """
    from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

    proxy = select_proxy(base_url, get_environ_proxies(base_url))
    tls: ssl.SSLContext | bool = True
    if urlsplit(base_url).scheme == "https":
        bundle = ca_bundle()
        is_directory = Path(bundle).is_dir()
        tls = ssl.create_default_context(
            cafile=None if is_directory else bundle, capath=bundle if is_directory else None
        )
    return tls, prepend_scheme_if_needed(proxy, "http") if proxy else None  # type: ignore[no-untyped-call]


class _Wire(NamedTuple):
    """What requests with some settings have in common."""

    settings: SeedanceSettings
    headers: dict[str, str]
    timeout: aiohttp.ClientTimeout
    pace: Pace


@lru_cache(maxsize=64)
def _wire(settings: SeedanceSettings) -> _Wire:
    """Make it once for all waiters of a connection: there may be thousands."""
    return _Wire(
        settings,
        {"Authorization": authorization(settings)},
        # No total: with thousands of waiters most of a request's time may be spent waiting for a free connection.
        aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout),
        pace_of(settings),
    )


class AioTransport:
    """Executes flows, one at a time each, on the running event loop.

    :param session: From :func:`shared_session`.
    :param settings: Where and how to send.
    :param renew: Reads the connection again, for when the key was refused.
    :param log: Told, once, of a long wait for a turn.
    """

    __slots__ = ("_log", "_renew", "_session", "_url", "_wire")

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: SeedanceSettings,
        renew: Callable[[], Awaitable[SeedanceSettings]],
        log: AnyLogger = module_log,
    ) -> None:
        self._session = session
        self._renew = renew
        self._log: AnyLogger | None = log
        self._use(settings)

    def _use(self, settings: SeedanceSettings) -> None:
        self._wire = _wire(settings)
        self._url: tuple[str, URL] | None = None

    async def drive(self, flow: Flow[T]) -> T:
        """Run a flow to its end.

        :param flow: The flow; always closed.
        :return: The flow's result.
        :raises SeedanceError: what the flow raises.
        """
        try:
            step = next(flow)
            while True:
                if isinstance(step, Send):
                    try:
                        reply = await self._send(step)
                    except SeedanceTransportError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(reply)
                        del reply  # thousands sleep now, and none needs its last answer
                elif isinstance(step, Sleep):
                    await asyncio.sleep(step.seconds)
                    step = next(flow)
                elif isinstance(step, RenewKey):
                    refused = self._wire.settings.api_key
                    self._use(await self._renew())
                    step = flow.send(self._wire.settings.api_key != refused)
                else:
                    raise TypeError(f"{type(step).__name__} is for a worker")
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _send(self, step: Send) -> Reply:
        request = step.request
        settings, headers, timeout, pace = self._wire
        if pace.limits(now := time.monotonic()):
            latest = latest_turn(step.deadline)
            while delay := pace.turn(now, latest):
                if self._log is not None and (text := slow_turn(settings, delay)):
                    self._log.info(text)
                    self._log = None
                await asyncio.sleep(delay)
                if not pace.pauses(now := time.monotonic()):
                    break
        if self._url is None or self._url[0] != request.path:
            self._url = (request.path, URL(settings.base_url + request.path, encoded=True))
        session = self._session
        while True:
            try:
                response = await session.request(
                    request.method,
                    self._url[1],
                    data=request.body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=timeout,
                )
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                # A gateway that forgot one kept connection forgot others, and aiohttp's own second try meets the next.
                fresh = _fresh_sessions.get(session)
                if fresh is not None and request.method == "GET" and _broke_off(error):
                    session = fresh
                    continue
                raise _transport_error(error, settings) from error
            async with response:
                reply = make_reply(response.status, response.headers, await _read(response), settings)
            pace.note(time.monotonic(), request.method, reply)
            return reply


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read the body up to the limit. What was received stands even if the connection then breaks."""
    body = b""
    try:
        while len(body) < MAX_BODY and not response.content.at_eof():
            body += await response.content.readany()
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return body


def _broke_off(error: Exception) -> bool:
    """Whether an established connection was closed without an answer, as a dead one is when it is used again."""
    return isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)) and not isinstance(
        error, aiohttp.ClientConnectorError
    )


def _transport_error(error: Exception, settings: SeedanceSettings) -> SeedanceTransportError:
    sent = not isinstance(
        error,
        # The last: an address that cannot be used.
        (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError, ValueError),
    )
    kind = "timed out" if isinstance(error, TimeoutError) else "failed"
    return SeedanceTransportError(
        f"The request to {settings.base_url} {kind}: {type(error).__name__}: {error}", request_sent=sent
    )
