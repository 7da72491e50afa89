"""What all triggers that wait on one connection in one event loop share, and how they fire."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from seedance_provider import defaults
from seedance_provider.config import is_plain_number
from seedance_provider.connection import read_settings_async
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import SeedanceError
from seedance_provider.triggers.slot_queue import SlotQueue

_TEXTS = frozenset({"seedance_conn_id", "seedance_task_id", "folder", "waited_for"})
_CHECKED_LATER = frozenset({"state", "alive", "last_status", "urgent"})


class Shared:
    """One connection on one event loop.

    :param seedance_conn_id: The Airflow connection.
    """

    def __init__(self, seedance_conn_id: str) -> None:
        # A worker makes triggers and runs none: it is spared the import of aiohttp.
        from seedance_provider.transport.pool import Channel

        self.channel = Channel(partial(read_settings_async, seedance_conn_id))
        self.slots = SlotQueue(time.time, random.random)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Shared]] = WeakKeyDictionary()


def shared_by(seedance_conn_id: str) -> Shared:
    """Return what is shared on a connection of the running event loop."""
    connections = _shared.setdefault(asyncio.get_running_loop(), {})
    if seedance_conn_id not in connections:
        connections[seedance_conn_id] = Shared(seedance_conn_id)
    return connections[seedance_conn_id]


class SeedanceTrigger(BaseTrigger):
    """Base of the triggers: fires one :class:`~seedance_provider.events.TaskEvent`.

    :param deferred_at: When the task was deferred, epoch seconds.
    """

    optional: ClassVar[frozenset[str]] = frozenset()
    """Arguments that may be None."""

    def __init__(self, deferred_at: float) -> None:
        super().__init__()
        self.deferred_at = deferred_at

    @property
    def log(self) -> Any:
        """The class's logger: one of its own for each waiter would cost it a kilobyte."""
        return self.logger()

    async def refusal(self) -> SeedanceTriggerEvent | None:
        """The event of a trigger whose row in the database holds what was never written, once it may fire; else None.

        What waiters share must not see those: a text among numbers, or NaN, would end the wait of all of them.
        """
        arguments = self.serialize()[1]
        for name, value in arguments.items():
            if name in _CHECKED_LATER or (value is None and name in self.optional):
                continue
            if not (isinstance(value, str) if name in _TEXTS else is_plain_number(value)):
                error = SeedanceError(
                    f"The trigger cannot wait: {name} is {value!r:.50} in Airflow's database. A retry or a clear of "
                    "this task defers anew"
                )
                await self.settle()
                return SeedanceTriggerEvent(
                    TaskEvent("error", error=error, state=ResumeState.from_json(arguments["state"]))
                )
        return None

    async def settle(self) -> None:
        """Let Airflow's scheduler note the deferral before it ends; ``dag.test()`` has no scheduler."""
        if self.trigger_id is not None:
            since = max(time.time() - self.deferred_at, 0) if is_plain_number(self.deferred_at) else 0
            await asyncio.sleep(max(defaults.RESUME_SECONDS - since, 0))


class SeedanceTriggerEvent(TriggerEvent):
    """A :class:`~seedance_provider.events.TaskEvent` on its way.

    Airflow prints events whole into the task's log, and URLs may be signed.
    """

    def __init__(self, event: TaskEvent) -> None:
        super().__init__(event.to_json())

    def __repr__(self) -> str:
        about = f", task {self.payload['seedance_task_id']}" if self.payload["seedance_task_id"] else ""
        return f"<{self.payload['status']}{about}>"

    __str__ = __repr__
