"""What all triggers that wait on one connection in one event loop share, and how they fire."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from seedance_provider import defaults
from seedance_provider.connection import read_settings_async
from seedance_provider.transport.pool import Channel
from seedance_provider.triggers.slot_queue import SlotQueue

if TYPE_CHECKING:
    from seedance_provider.events import TaskEvent


class Shared:
    """One connection on one event loop.

    :param seedance_conn_id: The Airflow connection.
    """

    def __init__(self, seedance_conn_id: str) -> None:
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

    def __init__(self, deferred_at: float) -> None:
        super().__init__()
        self.deferred_at = deferred_at

    @property
    def log(self) -> Any:
        """The class's logger: one of its own for each waiter would cost it a kilobyte."""
        return self.logger()

    async def settle(self) -> None:
        """Let Airflow's scheduler note the deferral before it ends; ``dag.test()`` has no scheduler."""
        if self.trigger_id is not None:
            since = max(time.time() - self.deferred_at, 0)
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
