"""How a task instance waits for a Seedance task: one look, then deferred; and what it does at the end.

Shared by the sensor and the operators, in every mode, so that all of them end alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from seedance_provider import metrics
from seedance_provider.links.seedance import XCOM_RECORD_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from seedance_provider.api.flows import AnyLogger, Flow, Sleep
    from seedance_provider.api.models import TaskRecord
    from seedance_provider.hooks.seedance import SeedanceHook

BACKSTOP_SECONDS = 120
"""How much later than the deadline Airflow itself ends a deferral whose triggerer is gone: the trigger, which names
the task, comes first."""


class Paused(Exception):  # noqa: N818 - not an error: the look is over, the task still runs
    """A look at a task is over and it still runs.

    :param pause: The pause until the next look.
    """

    def __init__(self, pause: Sleep) -> None:
        super().__init__(pause)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for one task.

    :param seedance_task_id: The task's id.
    :param poll_interval: Seconds between looks; None adapts to the task's age.
    :param started_at: When waiting began, epoch seconds.
    :param timeout: Seconds from then to the deadline.
    """

    seedance_task_id: str
    poll_interval: float | None
    started_at: float
    timeout: float

    @property
    def deadline(self) -> float:
        """When to give up, epoch seconds."""
        return self.started_at + self.timeout

    def flow(self, log: AnyLogger) -> Flow[TaskRecord]:
        """The steps of this wait, starting with a look."""
        from seedance_provider.api import flows

        return flows.wait(
            self.seedance_task_id,
            poll_interval=self.poll_interval,
            started_at=self.started_at,
            deadline=self.deadline,
            clock=time.time,
            log=log,
        )

    def look(self, hook: SeedanceHook, log: AnyLogger) -> TaskRecord:
        """Look once.

        :return: The record, if the task succeeded.
        :raises Paused: if it still runs.
        :raises SeedanceError: if it ended otherwise.
        """
        return hook.run(self.flow(log), _stop_at_pause)

    def defer(
        self,
        operator: BaseOperator,
        seedance_conn_id: str,
        last_status: str | None,
        carry: dict[str, Any] | None = None,
    ) -> NoReturn:
        """Hand the wait to the triggerer; ``execute_complete`` of the operator gets the event."""
        from seedance_provider.triggers.seedance import SeedanceTaskTrigger

        operator.defer(
            trigger=SeedanceTaskTrigger(
                seedance_conn_id,
                self.seedance_task_id,
                self.poll_interval,
                self.deadline,
                started_at=self.started_at,
                last_status=last_status,
                carry=carry,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(self.deadline - time.time(), 0) + BACKSTOP_SECONDS),
        )


def goes_on(seedance_task_id: str) -> str:
    """What to tell a user who stops a waiting task instance."""
    return (
        f"Task {seedance_task_id} cannot be cancelled: it goes on and is billed. To get the video, wait for it with "
        f"SeedanceTaskSensor(seedance_task_id={seedance_task_id!r})"
    )


def _stop_at_pause(pause: Sleep) -> None:
    if pause.brief:
        time.sleep(pause.seconds)
    else:
        raise Paused(pause)


def finish(record: TaskRecord, operator: BaseOperator, context: Context, log: AnyLogger) -> list[str]:
    """End a wait well: say so in the log and push the record.

    :param record: The record of the success.
    :param operator: The waiting task.
    :param context: Its context.
    :param log: The task's log.
    :return: The output URLs.
    """
    seconds = record.generation_seconds
    log.info(
        "Task %s succeeded after %s of generation, %s credits: %s",
        record.seedance_task_id,
        "an unknown time" if seconds is None else f"{seconds:.0f} s",
        "unknown" if record.credits_used is None else record.credits_used,
        # Some are signed: who reads the log must not get access with it.
        ", ".join(url.partition("?")[0] for url in record.urls),
    )
    if operator.do_xcom_push:
        context["ti"].xcom_push(key=XCOM_RECORD_KEY, value=record.model_dump(mode="json"))
    metrics.report("success", record)
    operator.video_url = record.urls[0]
    return record.urls


def outcome(event: Any) -> TaskRecord:
    """Read the event of a :class:`~seedance_provider.triggers.seedance.SeedanceTaskTrigger`.

    :param event: The event's payload.
    :return: The record of a success.
    :raises SeedanceError: what the wait ended with.
    """
    from seedance_provider.api.models import TaskRecord
    from seedance_provider.events import TaskEvent, error_from_json

    read = TaskEvent.from_json(event)
    if read.error is not None:
        raise error_from_json(read.error)
    return TaskRecord.model_validate(read.record)
