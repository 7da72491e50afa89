"""Tries of task instances that submit, driven as Airflow drives them: deferrals, retries, clears, success callbacks."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from tests.support.airflow import FakeTaskInstance, fire

try:
    from airflow.sdk.bases.operator import ExecutorSafeguard
except ImportError:  # Airflow 2.11
    from airflow.models.baseoperator import ExecutorSafeguard  # type: ignore[no-redef,unused-ignore]

FOX = {"prompt": "a fox", "duration": 5, "outputResolution": "720p"}
FOX_CREDITS = 200


class Instance:
    """One task instance.

    :param run: Its DAG run.
    :param map_index: Its map index.
    :param retries: Its ``retries``.
    :param arguments: Of the operator.
    """

    def __init__(self, run: str = "monday", map_index: int = -1, retries: int = 1, **arguments: Any) -> None:
        self.ti = FakeTaskInstance(run_id=run, map_index=map_index, max_tries=retries, try_number=0)
        self.retries = retries
        self.arguments = {"inputs": FOX, "poll_interval": 0.05} | arguments
        self.deferrals: list[TaskDeferred] = []

    def operator(self) -> SeedanceGenerateVideoOperator:
        """The operator, made anew as each process does."""
        return SeedanceGenerateVideoOperator(task_id="task", retries=self.retries, **self.arguments)

    def run(self, *, to_the_end: bool = True, **changes: Any) -> Any:
        """One more try: what it returns.

        :param to_the_end: Whether Airflow takes its success; else it dies before.
        :param changes: Of the operator's arguments, from now on.
        """
        self.arguments |= changes
        # Some versions of Airflow prepare only the main thread for operators.
        safeguard = getattr(ExecutorSafeguard, "_sentinel", None)
        if safeguard is not None and not hasattr(safeguard, "callers"):
            safeguard.callers = {}
        self.ti.try_number += 1
        self.ti.xcoms.clear()
        operator = self.operator()
        context: Any = {"ti": self.ti, "task": operator}
        try:
            result = operator.execute(context)
        except TaskDeferred as deferral:
            result, operator = self._resume(deferral)
        if to_the_end:
            for callback in operator.on_success_callback or ():
                callback({"ti": self.ti, "task": operator})
        return result

    def clear(self, **changes: Any) -> Any:
        """A user's clear, and the try that follows it."""
        self.ti.max_tries = self.ti.try_number + self.retries
        return self.run(**changes)

    def _resume(self, deferral: TaskDeferred) -> tuple[Any, SeedanceGenerateVideoOperator]:
        while True:
            self.deferrals.append(deferral)
            event = fire(deferral.trigger)
            operator = self.operator()
            context: Any = {"ti": self.ti, "task": operator}
            pushed = dict(self.ti.xcoms)
            self.ti.xcoms.clear()  # what is pushed twice in a try is another fake's business
            try:
                return operator.resume_execution(deferral.method_name, {"event": event}, context), operator
            except TaskDeferred as again:
                deferral = again
            finally:
                self.ti.xcoms = pushed | self.ti.xcoms
