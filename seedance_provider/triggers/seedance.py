"""The trigger: waits for a task in the triggerer, where waiting costs next to nothing. It only ever sends GETs."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from seedance_provider.api import flows
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.exceptions import SeedanceError, SeedanceTaskFailedError
from seedance_provider.triggers.shared import SeedanceTrigger, SeedanceTriggerEvent, shared_by

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from seedance_provider.api.records import TaskRecord


class SeedanceTaskTrigger(SeedanceTrigger):
    """Fires once, when a task has ended or the deadline has passed.

    :param seedance_conn_id: The Airflow connection.
    :param seedance_task_id: The task to wait for.
    :param poll_interval: Seconds between polls, fixed; None adapts to the task's age and its model.
    :param deadline: When to give up, epoch seconds; absolute, so that it survives a restart of the triggerer.
    :param started_at: When waiting began, epoch seconds. Default: when the trigger is made.
    :param last_status: The status that is already in the log, if any.
    :param alive: Whether the task was seen to exist: no single answer ends the wait for one that was. Default False.
    :param state: What the operator wants back in the event, as JSON values.
    :param deferred_at: When the task was deferred, epoch seconds. Default: when the trigger is made.
    :param urgent: Whether the slot of the task is wanted as soon as it is free. Default: while another task is known
        here to wait for one.
    """

    optional = frozenset({"poll_interval"})

    def __init__(
        self,
        seedance_conn_id: str,
        seedance_task_id: str,
        poll_interval: float | None,
        deadline: float,
        started_at: float | None = None,
        last_status: str | None = None,
        alive: bool = False,
        state: dict[str, Any] | None = None,
        deferred_at: float | None = None,
        urgent: bool = False,
    ) -> None:
        super().__init__(time.time() if deferred_at is None else deferred_at)
        self.seedance_conn_id = seedance_conn_id
        self.seedance_task_id = seedance_task_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.started_at = time.time() if started_at is None else started_at
        self.last_status = last_status
        self.alive = alive
        self.state = state or {}
        self.urgent = urgent

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
                "alive": self.alive,
                "state": self.state,
                "deferred_at": self.deferred_at,
                "urgent": self.urgent,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one :class:`~seedance_provider.events.TaskEvent`."""
        if (odd := await self.refusal()) is not None:
            yield odd
            return
        state = ResumeState.from_json(self.state)
        try:
            event = TaskEvent("success", self.seedance_task_id, record=await self._wait(), state=state)
        except SeedanceError as error:
            event = TaskEvent("error", self.seedance_task_id, error=error, state=state)
        except Exception as error:
            # An exception out of run() would become a TaskDeferralError that names neither the task nor the way on.
            self.log.exception("Waiting broke off (task %s)", self.seedance_task_id)
            unexpected = SeedanceError(
                f"Waiting broke off ({type(error).__name__}: {error!s:.500}). "
                f"{flows.keeps_running(self.seedance_task_id)}",
                seedance_task_id=self.seedance_task_id,
                charged="yes",
            )
            event = TaskEvent("error", self.seedance_task_id, error=unexpected, state=state)
        await self.settle()
        yield SeedanceTriggerEvent(event)

    async def _wait(self) -> TaskRecord:
        shared = shared_by(self.seedance_conn_id)
        watch = flows.Watch(
            self.seedance_task_id,
            self.poll_interval,
            self.started_at,
            self.deadline,
            time.time,
            random.random,
            self.log,
            last_status=self.last_status,
            alive=self.alive,
            urgent=(lambda: True) if self.urgent else shared.slots.is_wanted,
        )
        try:
            async with shared.channel as channel:
                with shared.slots.watching(self.seedance_task_id, self.started_at):
                    record = await channel.drive(
                        flows.wait(watch, poll_first=False), deadline=self.deadline, log=self.log
                    )
        except SeedanceTaskFailedError:
            shared.slots.release()
            raise
        shared.slots.release()
        return record

    async def on_kill(self) -> None:
        """Say what a user's clear or mark means for the video: Airflow 3.3 and later call this."""
        self.log.warning("%s", flows.keeps_running(self.seedance_task_id))
