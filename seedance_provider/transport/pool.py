"""What all that wait on one connection in one event loop share, opened by the first and closed by the last of them."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException

from seedance_provider.api.records import clean_text
from seedance_provider.api.schedule import backoff
from seedance_provider.defaults import (
    CONNECTION_REUSE_SECONDS,
    LAST_LOOKUP_SECONDS,
    LOOKUP_SECONDS,
    MAX_CONNECTIONS,
    NOT_FOUND_LOOKUPS,
)
from seedance_provider.exceptions import SeedanceTransportError
from seedance_provider.transport.aio import AioTransport, Sessions, Wire, open_sessions
from seedance_provider.transport.throttle import Throttle, throttled

if TYPE_CHECKING:
    from typing import Self

    from seedance_provider.api.messages import AnyLogger, Flow
    from seedance_provider.connection import SeedanceSettings

T = TypeVar("T")
module_log = logging.getLogger(__name__)


class Channel:
    """One connection in one event loop, shared by all that wait on it.

    Used as ``async with channel: await channel.drive(...)``, by any number of waiters at once and again after the last
    one left. Keeps at most 100 connections to the API.

    :param read: Looks the settings up.
    :param clock: The time, epoch seconds. Default: the system's.
    :param monotonic: The time, monotonic seconds. Default: the system's.
    :param jitter: Gives a random number from 0 to 1. Default: Python's.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[SeedanceSettings]],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._read = read
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self.throttle = Throttle(jitter=jitter)
        self.connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self.current: Wire | None = None
        self._users = 0
        self._settings: SeedanceSettings | None = None
        self._read_at = -math.inf
        self._lookup: asyncio.Task[Wire] | None = None
        self._problem = "no answer"
        self._sessions: dict[str, Sessions] = {}

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users:
            return
        sessions, self._sessions = self._sessions, {}
        self.current = None
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        for opened in sessions.values():
            await opened.close()

    def drive(self, flow: Flow[T], *, deadline: float | None, log: AnyLogger = module_log) -> Coroutine[Any, Any, T]:
        """Run a flow to its end, within the limits of the connection.

        :param flow: The flow; always closed.
        :param deadline: Until when, epoch seconds, a connection that cannot be looked up is looked up again; None for
            ever.
        :param log: Told, once, of a long delay by the rate limiter. Default: this module's.
        :return: The flow's result.
        :raises SeedanceError: what the flow raises, and what makes the connection unusable.
        :raises AirflowNotFoundException: if there is no such connection.
        """
        limited = throttled(flow, self.throttle, log=log, clock=self._clock, monotonic=self._monotonic)
        return AioTransport(self, deadline).drive(limited)

    async def ready(self, deadline: float | None) -> Wire:
        """Look the connection up unless that was done within the last second.

        :param deadline: When to give up, epoch seconds; None for never.
        :return: The settings, ready to be used.
        :raises SeedanceTransportError: if the lookup fails until then.
        :raises Exception: what makes the connection unusable.
        """
        if self.current is not None and self._is_recent():
            return self.current
        return await self._looked_up(deadline)

    async def renew(self, refused: Wire, deadline: float | None) -> Wire:
        """Look the connection up unless others did so since these settings were refused.

        :param refused: The settings whose key was refused.
        :param deadline: As in :meth:`ready`.
        :return: The settings of now.
        """
        if self.current is not None and self.current is not refused:
            return self.current
        self._read_at = -math.inf
        return await self._looked_up(deadline)

    def _is_recent(self) -> bool:
        return self._monotonic() < self._read_at + CONNECTION_REUSE_SECONDS

    async def _looked_up(self, deadline: float | None) -> Wire:
        """Wait for the one lookup that all who wait share."""
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(self._look_up())
        lookup = self._lookup
        left = None if deadline is None else max(deadline - self._clock(), LAST_LOOKUP_SECONDS)
        await asyncio.wait({lookup}, timeout=left)
        if not lookup.done():
            raise SeedanceTransportError(
                f"The Airflow connection could not be looked up ({self._problem})", request_sent=False
            )
        if (error := lookup.exception()) is not None:
            raise copy.copy(error)  # each waiter adds to its own
        return lookup.result()

    async def _look_up(self) -> Wire:
        failures = 0
        while self._settings is None or not self._is_recent():
            try:
                async with asyncio.timeout(LOOKUP_SECONDS):
                    # Shielded: half a conversation with Airflow's supervisor would disturb the next one.
                    self._settings = await asyncio.shield(self._read())
                self._read_at = self._monotonic()
                break
            except AirflowFailException:
                raise
            except Exception as error:
                failures += 1
                if isinstance(error, AirflowNotFoundException) and failures >= NOT_FOUND_LOOKUPS:
                    raise
                self._problem = clean_text(str(error)) or type(error).__name__
                if isinstance(error, TimeoutError):
                    self._problem = f"Airflow gave no answer within {LOOKUP_SECONDS:.0f} s"
            if self.current is not None:
                module_log.warning(
                    "The Airflow connection could not be looked up again; using it as it was: %s", self._problem
                )
                return self.current
            pause = backoff(failures, self._jitter())
            module_log.warning(
                "The Airflow connection could not be looked up; retrying in %.0f s: %s", pause, self._problem
            )
            await asyncio.sleep(pause)
        return await self._use(self._settings)

    async def _use(self, settings: SeedanceSettings) -> Wire:
        if self.current is None or self.current.settings != settings:
            if settings.base_url not in self._sessions:
                self._sessions[settings.base_url] = await open_sessions(settings.base_url)
            self.current = Wire(settings, self._sessions[settings.base_url])
            self.throttle.requests_per_minute = settings.requests_per_minute
        return self.current
