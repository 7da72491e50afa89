"""Drives a flow with aiohttp, in the triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import ssl
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from seedance_provider.api.messages import RenewKey, Send, Sleep
from seedance_provider.defaults import (
    DNS_CACHE_SECONDS,
    FAR_SECONDS,
    KEEP_ALIVE_SECONDS,
    LAST_CALL_SECONDS,
    MAX_BODY,
    MAX_CONNECTIONS,
    MAX_HEADERS,
    MAX_LINE,
    MAX_REPEATED_BODY,
)
from seedance_provider.exceptions import SeedanceError, SeedanceTransportError
from seedance_provider.transport.http import (
    authorization,
    bounded,
    ca_bundle,
    environment_proxy,
    exchange_seconds,
    make_reply,
    request_headers,
    timeouts,
    transport_error,
)

if TYPE_CHECKING:
    from seedance_provider.api.messages import Flow, Reply, Request, Step
    from seedance_provider.connection import SeedanceSettings

T = TypeVar("T")

_UNSENT = (
    aiohttp.ClientConnectorError,  # name resolution, connecting, TLS; to the server or to the proxy
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,  # the proxy refused CONNECT
    aiohttp.InvalidURL,
)
"""The errors that come before the first byte of a request."""
_LIMITS: dict[str, Any] = {"max_line_size": MAX_LINE, "max_field_size": MAX_LINE} | (
    # Older releases bound the length of a header only; the time of the exchange then bounds how many there are.
    {"max_headers": MAX_HEADERS} if "max_headers" in inspect.signature(aiohttp.ClientSession).parameters else {}
)


class Watchdog:
    """Ends what takes too long.

    One timer for all: one for each exchange would cost more than everything else that is done for it here.
    """

    _OVER = -math.inf

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, seconds: float) -> asyncio.Task[Any]:
        """Cancel the current task unless it is released in time, give or take an eighth or a second.

        :param seconds: From now on.
        :return: The task.
        """
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"  # noqa: S101 - for the type checker
        loop = asyncio.get_running_loop()
        self._ends[task] = loop.time() + seconds
        if self._timer is None:
            self._sweep_after(min(seconds / 8, 1.0), loop)
        return task

    def release(self, task: asyncio.Task[Any]) -> bool:
        """Watch a task no longer; to be called once, by the task.

        :return: Whether it was cancelled by this, and by nobody else.
        """
        return self._ends.pop(task) == self._OVER and task.uncancel() == 0

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep_after(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(seconds, self._sweep, seconds, loop)

    def _sweep(self, interval: float, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, ends_at in self._ends.items():
            if self._OVER < ends_at <= now:
                self._ends[task] = self._OVER
                task.cancel()
        self._timer = None
        if self._ends:
            self._sweep_after(interval, loop)


class Sessions:
    """The two sessions of a base URL: one that keeps connections, and one for a request that needs a fresh one.

    :param kept: Keeps its connections.
    :param fresh: Keeps none.
    """

    __slots__ = ("fresh", "kept", "watchdog")

    def __init__(self, kept: aiohttp.ClientSession, fresh: aiohttp.ClientSession) -> None:
        self.kept = kept
        self.fresh = fresh
        self.watchdog = Watchdog()

    async def close(self) -> None:
        """Close both, with all their connections."""
        self.watchdog.close()
        await self.fresh.close()
        await self.kept.close()


async def open_sessions(base_url: str) -> Sessions:
    """Open the sessions for a base URL. Takes tens of milliseconds, in which the event loop runs on.

    :param base_url: The API's base URL.
    :raises SeedanceTransportError: if the proxy or the certificates that the environment names cannot be used.
    """
    tls, proxy = await asyncio.to_thread(_environment, base_url)
    return Sessions(
        _open_session(tls, proxy, keepalive_timeout=KEEP_ALIVE_SECONDS), _open_session(tls, proxy, force_close=True)
    )


def _open_session(tls: ssl.SSLContext | bool, proxy: str | None, **how: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Without a limit: who shares the session limits it, and knows until when each may wait.
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_CACHE_SECONDS, ssl=tls, **how),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=request_headers(),
        auto_decompress=False,
        proxy=proxy,
        **_LIMITS,
    )


def _environment(base_url: str) -> tuple[ssl.SSLContext | bool, str | None]:
    """What to trust and which proxy to use.

    Not aiohttp's trust_env: it honours .netrc as well, which must not override the API key, and looks it up on every
    request.
    """
    proxy = environment_proxy(base_url)
    if urlsplit(base_url).scheme != "https":
        return True, proxy
    bundle = ca_bundle()
    file, directory = (None, bundle) if Path(bundle).is_dir() else (bundle, None)
    try:
        return ssl.create_default_context(cafile=file, capath=directory), proxy
    except (OSError, ValueError) as error:
        raise SeedanceTransportError(
            f"The certificate bundle that the environment names cannot be used: {bundle} ({error})", request_sent=False
        ) from error


class Wire:
    """What all requests with the same settings have in common: made once for thousands of waiters.

    :param settings: Where and how to send.
    :param sessions: The sessions of their base URL.
    """

    __slots__ = ("headers", "seconds", "sessions", "settings", "timeout")

    def __init__(self, settings: SeedanceSettings, sessions: Sessions) -> None:
        connect, read = timeouts(settings)
        self.settings = settings
        self.sessions = sessions
        self.headers = {"Authorization": authorization(settings)}
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)
        self.seconds = exchange_seconds(settings)


class Shared(Protocol):
    """What the waiters on a connection share: :class:`~seedance_provider.transport.pool.Channel`."""

    connections: asyncio.Semaphore
    current: Wire | None

    async def ready(self, deadline: float | None) -> Wire:
        """Look the connection up unless that was done just now."""

    async def renew(self, refused: Wire, deadline: float | None) -> Wire:
        """Look the connection up unless others did so since these settings were refused."""


class AioTransport:
    """Executes one flow on the running event loop.

    :param shared: What it shares with others.
    :param deadline: Until when, epoch seconds, the connection may be looked up; None for ever.
    """

    __slots__ = ("_deadline", "_last", "_path", "_shared", "_url", "_wire")

    def __init__(self, shared: Shared, deadline: float | None) -> None:
        self._shared = shared
        self._deadline = deadline
        self._wire: Wire | None = None
        self._path = ""
        self._url: URL | None = None
        self._last: Reply | None = None

    async def drive(self, flow: Flow[T]) -> T:
        """Run a flow to its end.

        :param flow: The flow; always closed.
        :return: The flow's result.
        :raises SeedanceError: what the flow raises, and what makes the connection unusable.
        """
        try:
            # What fails here fails again at the flow's first request: the flow knows what that means for its task.
            with contextlib.suppress(SeedanceTransportError):
                await self._shared.ready(self._deadline)
            step = next(flow)
            while True:
                try:
                    result = await self._carry_out(step)
                except SeedanceError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
                    del result  # thousands sleep now, and none needs its last answer
        except StopIteration as stop:
            end: T = stop.value
            return end
        finally:
            flow.close()

    def _carry_out(self, step: Step) -> Awaitable[Reply | bool | None]:
        if isinstance(step, Sleep):
            return asyncio.sleep(step.seconds)
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, RenewKey):
            return self._renew()
        raise TypeError(f"{type(step).__name__} is for a worker")

    async def _renew(self) -> bool:
        refused = self._wire or await self._shared.ready(self._deadline)
        wire = await self._shared.renew(refused, self._deadline)
        return wire.settings.api_key != refused.settings.api_key

    async def _send(self, step: Send) -> Reply:
        request = step.request
        wire = self._shared.current or await self._shared.ready(step.deadline)
        if wire is not self._wire or request.path != self._path or self._url is None:
            self._wire, self._path, self._last = wire, request.path, None
            self._url = _url(wire.settings, request.path)
        connections = self._shared.connections
        if connections.locked():
            await _free_connection(connections, step.deadline, wire)
        else:
            await connections.acquire()
        try:
            reply = await _exchange(wire, request, self._url, bounded(wire.seconds, step.deadline), self._last)
        finally:
            connections.release()
        # The record of a running task hardly changes: the same bytes need not be searched for the key and read again.
        self._last = reply if len(reply.body) <= MAX_REPEATED_BODY else None
        return reply


def _url(settings: SeedanceSettings, path: str) -> URL:
    try:
        url = URL(settings.base_url + path, encoded=True)
        # What cannot be connected to is found now: later it would look like an error of a request that was sent.
        usable = bool(url.host and url.host.encode("idna") and url.port)
    except ValueError as error:
        raise transport_error(error, settings.base_url, settings, request_sent=False) from None
    if not usable:
        raise SeedanceTransportError(f"{settings.base_url} has no host. No request was sent", request_sent=False)
    return url


async def _free_connection(connections: asyncio.Semaphore, deadline: float | None, wire: Wire) -> None:
    """Take a connection as soon as one is free, but wait no longer than the request may."""
    left = math.inf if deadline is None else max(deadline - time.time(), LAST_CALL_SECONDS)
    if left > FAR_SECONDS:
        # Nearly always, and then a second more or less does not matter.
        watchdog = wire.sessions.watchdog
        watched = watchdog.watch(left)
        try:
            await connections.acquire()
        except asyncio.CancelledError:
            if not watchdog.release(watched):
                raise
        else:
            watchdog.release(watched)
            return
    else:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await connections.acquire()
                return
    raise SeedanceTransportError(
        f"The request to {wire.settings.base_url} timed out before it was sent: all {MAX_CONNECTIONS} connections wait "
        "for an answer",
        request_sent=False,
    )


async def _exchange(wire: Wire, request: Request, url: URL, seconds: float, former: Reply | None) -> Reply:
    settings = wire.settings
    response: aiohttp.ClientResponse | None = None
    body = b""
    complete = False
    problem: Exception | None = None
    watchdog = wire.sessions.watchdog
    watched = watchdog.watch(seconds)
    try:
        response = await _answer(wire, request, url)
        content = response.content
        while len(body) < MAX_BODY and not content.at_eof():
            body += await content.readany()
        complete = content.at_eof() and len(body) <= MAX_BODY
    except asyncio.CancelledError:
        if not watchdog.release(watched):
            raise
        problem = TimeoutError()
    except Exception as error:  # noqa: BLE001 - whatever a library raises, what matters is how far the request came
        watchdog.release(watched)
        problem = error
    else:
        watchdog.release(watched)
    finally:
        if response is not None and not complete:
            response.close()
    if response is None:
        # Outside of the except clauses: the cause may show the proxy's password.
        problem = problem or TimeoutError()
        raise transport_error(problem, settings.base_url, settings, request_sent=not isinstance(problem, _UNSENT))
    if problem is not None:
        # What arrived together with the end of the connection: aiohttp gives out nothing once it knows of an error.
        body += b"".join(getattr(response.content, "_buffer", ()))
    return make_reply(response.status, response.headers, body[:MAX_BODY], settings, complete=complete, former=former)


async def _answer(wire: Wire, request: Request, url: URL) -> aiohttp.ClientResponse:
    session = wire.sessions.kept if request.method == "GET" else wire.sessions.fresh
    while True:
        try:
            return await session.request(
                request.method,
                url,
                data=request.body,
                headers=wire.headers,
                allow_redirects=False,
                timeout=wire.timeout,
            )
        except aiohttp.ClientError as error:
            # A gateway that forgot one kept connection forgot others, and aiohttp's own second try meets the next.
            if session is wire.sessions.fresh or not _broke_off(error):
                raise
            session = wire.sessions.fresh


def _broke_off(error: Exception) -> bool:
    """Whether an established connection was closed without an answer, as a dead one is when it is used again."""
    return isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)) and not isinstance(
        error, aiohttp.ClientConnectorError
    )
