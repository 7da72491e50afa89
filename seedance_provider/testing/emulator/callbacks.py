"""Callbacks (`callBackUrl`): sent when a task ends, in the form and with the attempts of the dialect."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp

from seedance_provider.testing.emulator import dialects
from seedance_provider.testing.emulator.views import view_of

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.ledger import Task
    from seedance_provider.testing.emulator.state import State

_TIMEOUT_SECONDS = 10
_STEP_SECONDS = 0.05  # how soon it is seen that somebody turned the clock forward
_HEADERS = {"Content-Type": "application/json", "User-Agent": "seedance-emulator"}


class Callbacks:
    """The callbacks under way."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._session: aiohttp.ClientSession | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def expect(self, task: Task, url: str) -> None:
        """Send the callback of a task once it has ended."""
        sending = asyncio.get_running_loop().create_task(self._send(task, url))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def cancel(self) -> None:
        """Forget those that were not sent."""
        for sending in self._sending:
            sending.cancel()

    async def close(self) -> None:
        """Forget those that were not sent, and close the client."""
        self.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, task: Task, url: str) -> None:
        await self._until(task.ends)
        settings = self._state.settings
        shape = settings.webhook_shape or dialects.WEBHOOK_SHAPE_OF[settings.dialect]
        waits = settings.webhook_retry_seconds
        waits = dialects.WEBHOOK_RETRIES[shape] if waits is None else waits
        view = view_of(task, max(task.ends, self._state.clock()), self._state.settings.link_seconds)
        body = dialects.compact(dialects.webhook(shape, view)).encode()
        for copy in range(1, task.webhook_copies + 1):
            for attempt, wait in enumerate((0.0, *waits), 1):
                await asyncio.sleep(wait)
                status = await self._post(url, body)
                self._state.log.delivery(taskId=task.task_id, url=url, copy=copy, attempt=attempt, status=status)
                if 200 <= status < 300:
                    break

    async def _until(self, moment: float) -> None:
        clock = self._state.clock
        while (left := moment - clock()) > 0:  # noqa: ASYNC110 - a clock that somebody turns sets no event
            await asyncio.sleep(left if clock is time.time else min(left, _STEP_SECONDS))

    async def _post(self, url: str, body: bytes) -> int:
        """The HTTP status of one attempt; 0 when nobody answered."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS))
        try:
            async with self._session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as reply:
                return reply.status
        except (aiohttp.ClientError, TimeoutError):
            return 0
