"""The sensor: waits for a Seedance task, deferred by default."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator, PokeReturnValue

from seedance_provider.api.policy import DEFAULT_WAIT_TIMEOUT, seconds_of
from seedance_provider.config import DEFAULT_CONN_ID, default_poll_interval, default_wait_timeout
from seedance_provider.exceptions import SeedanceError
from seedance_provider.links.seedance import SeedanceVideoLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from seedance_provider.hooks.seedance import SeedanceHook
    from seedance_provider.waiting import Wait


class SeedanceTaskSensor(BaseSensorOperator):
    """Waits for a Seedance task and returns its output URLs.

    Waiting is free. It looks once, then defers, so that a waiting task holds no worker. A ``fail`` raises
    :class:`~seedance_provider.exceptions.SeedanceTaskFailedError` without a retry; a failed look never loses the task.
    The XCom key ``seedance_task`` holds the normalised record.

    :param seedance_task_id: The id that :class:`~seedance_provider.operators.seedance.SeedanceCreateTaskOperator`
        returned. (templated)
    :param seedance_conn_id: The Airflow connection. Default ``seedance_default``. (templated)
    :param poll_interval: Seconds between looks, obeyed exactly. Default: Airflow's ``[seedance] poll_interval``, else
        adaptive: about 19 looks for a video of 200 s. An explicit ``poke_interval`` means the same.
    :param timeout: Seconds to wait from the first look. Default: Airflow's ``[seedance] timeout``, else 1800. Past it,
        :class:`~seedance_provider.exceptions.SeedanceTaskTimeoutError` is raised, without a retry.
    :param deferrable: Wait in the triggerer. Default True. False: wait in the ``mode`` of ``BaseSensorOperator``,
        ``poke`` or ``reschedule``, with the same schedule and results.
    """

    template_fields: Sequence[str] = ("seedance_task_id", "seedance_conn_id")
    operator_extra_links = (SeedanceVideoLink(),)
    ui_color = "#e8e4f8"
    video_url = ""
    """The first output, once there is one; read by the extra link."""

    def __init__(
        self,
        *,
        seedance_task_id: str,
        seedance_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float | timedelta | None = None,
        poke_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        interval = seconds_of("poll_interval", poll_interval) or seconds_of("poke_interval", poke_interval)
        if interval is not None:
            kwargs["poke_interval"] = interval
        # Airflow's configuration is read when the sensor runs: a look-up per sensor slows down parsing a DAG of many.
        super().__init__(timeout=seconds_of("timeout", timeout) or DEFAULT_WAIT_TIMEOUT, **kwargs)
        self.seedance_task_id = seedance_task_id
        self.seedance_conn_id = seedance_conn_id
        self.poll_interval = interval
        self.deferrable = deferrable

    def execute(self, context: Context) -> list[str]:
        """Look once, then wait.

        :return: The output URLs.
        :raises SeedanceError: if the task ended otherwise than in success, or not in time.
        """
        from seedance_provider import waiting

        with self._skipping_instead_of_failing():
            wait = self._wait(context)
            hook = self._hook()
            if self.deferrable and self.reschedule:
                self.log.info("mode='reschedule' has no effect while deferrable is True")
            if not self.deferrable and not self.reschedule:
                return waiting.finish(hook.run(wait.flow(self.log)), self, context, self.log)
            try:
                return waiting.finish(wait.look(hook, self.log), self, context, self.log)
            except waiting.Paused as paused:
                pause = paused.pause
        if self.deferrable:
            self.log.info(
                "Waiting for task %s in the triggerer, until %s at the latest",
                self.seedance_task_id,
                datetime.fromtimestamp(wait.deadline, UTC).isoformat(timespec="seconds"),
            )
            wait.defer(self, self.seedance_conn_id, pause.status)
        raise _reschedule_exception()(datetime.now(UTC) + timedelta(seconds=pause.seconds))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str]:
        """Take the trigger's event.

        :param event: The payload of a :class:`~seedance_provider.events.TaskEvent`.
        :return: The output URLs.
        :raises SeedanceError: what the wait ended with.
        """
        from seedance_provider import waiting

        with self._skipping_instead_of_failing():
            return waiting.finish(waiting.outcome(event), self, context, self.log)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, also after one that Airflow itself ended.

        :param next_method: ``execute_complete``, or Airflow's word for a deferral without an event.
        :param next_kwargs: The event, or why there is none.
        :param context: The context.
        :return: The output URLs.
        """
        if next_method != "execute_complete":
            # What Airflow raises now names neither the task nor the way on.
            self.log.error(
                "The triggerer stopped waiting for task %s before its end (%s). It goes on and is billed: clear this "
                "sensor to wait again; do not create it anew",
                self.seedance_task_id,
                (next_kwargs or {}).get("error", "no reason given"),
            )
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException as skip:
            # On Airflow 3 the base class puts a text of its own in place of the reason.
            raise skip.__cause__ if isinstance(skip.__cause__, AirflowSkipException) else skip from None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, without waiting.

        :return: Whether the task succeeded and, if so, its output URLs.
        :raises SeedanceError: if it ended otherwise.
        """
        from seedance_provider import waiting

        try:
            record = self._wait(context).look(self._hook(), self.log)
        except waiting.Paused:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=waiting.finish(record, self, context, self.log))

    @property
    def _has_own_timeout(self) -> bool:
        return self.timeout != DEFAULT_WAIT_TIMEOUT

    def _hook(self) -> SeedanceHook:
        from seedance_provider.hooks.seedance import SeedanceHook

        return SeedanceHook(self.seedance_conn_id)

    def _wait(self, context: Context) -> Wait:
        from seedance_provider.waiting import Wait

        return Wait(
            seedance_task_id=self.seedance_task_id,
            poll_interval=self.poll_interval or default_poll_interval(),
            started_at=self._first_look_at(context) if self.reschedule and not self.deferrable else time.time(),
            timeout=self.timeout if self._has_own_timeout else default_wait_timeout(),
        )

    def _first_look_at(self, context: Context) -> float:
        """When a rescheduled sensor looked first: each look is an execution of its own."""
        ti: Any = context["ti"]
        if hasattr(ti, "get_first_reschedule_date"):
            first = ti.get_first_reschedule_date(context)
        else:  # Airflow 2.11
            from airflow.sensors.base import _orig_start_date

            first_try = (ti.max_tries or 0) - (self.retries or 0) + 1
            first = _orig_start_date(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, first_try)
        if isinstance(first, str):  # what dag.test() of Airflow 3.0 gives
            first = datetime.fromisoformat(first)
        return first.timestamp() if first is not None else time.time()

    @contextmanager
    def _skipping_instead_of_failing(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail`` alike in every mode; the base class differs from mode to mode."""
        from seedance_provider.metrics import reporting_failures

        try:
            with reporting_failures():
                yield
        except SeedanceError as error:
            if self.soft_fail or getattr(self, "never_fail", False):
                raise AirflowSkipException(f"Skipped instead of failing: {error}") from error
            raise


def _reschedule_exception() -> type[Exception]:
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException
    except ImportError:
        from airflow.exceptions import AirflowRescheduleException
    return AirflowRescheduleException
