"""The trigger: waits for a task in the triggerer, where waiting costs next to nothing. It only ever sends GETs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings


LOOKUP_REUSE_SECONDS = 1.0
"""For how long one lookup of a connection serves all triggers that start: Airflow answers one at a time, and a
triggerer that comes back starts thousands at once."""


class _Lookup:
    """A connection as last read on an event loop."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.settings: SeedanceSettings | None = None
        self.expires_at = 0.0


_lookups: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Lookup]] = WeakKeyDictionary()


async def _recent_settings(conn_id: str, read: Callable[[], Awaitable[SeedanceSettings]]) -> SeedanceSettings:
    lookup = _lookups.setdefault(asyncio.get_running_loop(), {}).setdefault(conn_id, _Lookup())
    async with lookup.lock:
        if lookup.settings is None or time.monotonic() >= lookup.expires_at:
            lookup.settings = await read()
            lookup.expires_at = time.monotonic() + LOOKUP_REUSE_SECONDS
        return lookup.settings


class SeedanceTaskTrigger(BaseTrigger):
    """Fires once, when a task has ended or the deadline has passed.

    :param seedance_conn_id: The Airflow connection.
    :param seedance_task_id: The task to wait for.
    :param poll_interval: Seconds between looks, obeyed exactly; None adapts to the task's age.
    :param deadline: When to give up, epoch seconds; absolute, so that it survives a restart of the triggerer.
    :param started_at: When waiting began, epoch seconds. Default: when the trigger is made.
    :param last_status: The status that is already in the log, if any.
    :param carry: What the operator wants back in the event.
    """

    def __init__(
        self,
        seedance_conn_id: str,
        seedance_task_id: str,
        poll_interval: float | None,
        deadline: float,
        started_at: float | None = None,
        last_status: str | None = None,
        carry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.seedance_conn_id = seedance_conn_id
        self.seedance_task_id = seedance_task_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.started_at = time.time() if started_at is None else started_at
        self.last_status = last_status
        self.carry = carry or {}

    @property
    def log(self) -> Any:
        """The class's logger: one of its own for each waiter would cost it a kilobyte."""
        return self.logger()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments; no secret is among them."""
        return (
            "seedance_provider.triggers.seedance.SeedanceTaskTrigger",
            {
                "seedance_conn_id": self.seedance_conn_id,
                "seedance_task_id": self.seedance_task_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "started_at": self.started_at,
                "last_status": self.last_status,
                "carry": self.carry,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one :class:`~seedance_provider.events.TaskEvent`."""
        from seedance_provider.events import TaskEvent, error_to_json
        from seedance_provider.exceptions import SeedanceError

        try:
            record = await self._wait()
            event = TaskEvent("success", self.seedance_task_id, record=record, carry=self.carry)
        except SeedanceError as error:
            event = TaskEvent("error", self.seedance_task_id, error=error_to_json(error), carry=self.carry)
        except Exception as error:
            # An exception out of run() would become a TaskDeferralError that names neither the task nor the way on.
            self.log.exception("Waiting for task %s broke off", self.seedance_task_id)
            unexpected = SeedanceError(
                f"Waiting for task {self.seedance_task_id} broke off ({type(error).__name__}: {error}). The task goes "
                f"on; wait for it again with SeedanceTaskSensor(seedance_task_id={self.seedance_task_id!r})",
                seedance_task_id=self.seedance_task_id,
            )
            event = TaskEvent("error", self.seedance_task_id, error=error_to_json(unexpected), carry=self.carry)
        yield TriggerEvent(event.to_json())

    async def _wait(self) -> dict[str, Any]:
        # Imported here: an ImportError at module level would end in a TaskDeferralError as well.
        from seedance_provider.api import flows
        from seedance_provider.exceptions import SeedanceTaskFailedError
        from seedance_provider.transport.aio import AioTransport, shared_session
        from seedance_provider.triggers.slots import WOKEN_BY_TIME, slot_queue

        settings = await _recent_settings(self.seedance_conn_id, self._read_settings)
        flow = flows.wait(
            self.seedance_task_id,
            poll_interval=self.poll_interval,
            started_at=self.started_at,
            deadline=self.deadline,
            clock=time.time,
            log=self.log,
            look_first=False,
            last_status=self.last_status,
        )
        queue = slot_queue(self.seedance_conn_id)
        try:
            with queue.watching(self.seedance_task_id):
                if self.carry.get("woken_by") == WOKEN_BY_TIME:
                    queue.guessed_right()
                async with shared_session(settings.base_url) as session:
                    record = await AioTransport(session, settings, self._read_settings, self.log).drive(flow)
        except SeedanceTaskFailedError:
            queue.release()
            raise
        queue.release()
        return record.model_dump(mode="json")

    async def on_kill(self) -> None:
        """Say what a user's clear or mark means for the video: Airflow 3.3 and later call this."""
        from seedance_provider.waiting import goes_on

        self.log.warning(goes_on(self.seedance_task_id))

    async def _read_settings(self) -> SeedanceSettings:
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        from seedance_provider.connection import SeedanceSettings

        connection = await get_async_connection(self.seedance_conn_id)
        extra = await get_async_extra_dejson(connection)
        return SeedanceSettings.from_connection(self.seedance_conn_id, connection, extra)
