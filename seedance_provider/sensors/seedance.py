"""The sensor: waits for a Seedance task, deferred by default."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator, PokeReturnValue

from seedance_provider import defaults, labels
from seedance_provider.config import check_storing, is_from_mapped, seconds_of
from seedance_provider.exceptions import SeedanceError
from seedance_provider.links.page import HasVideoPage
from seedance_provider.links.seedance import SeedanceVideoLink

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2.11
    from airflow.exceptions import AirflowRescheduleException

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from seedance_provider.api.records import TaskRecord
    from seedance_provider.execution.assets import Delivery
    from seedance_provider.execution.wait import Wait


class SeedanceTaskSensor(HasVideoPage, BaseSensorOperator):
    """Waits for a Seedance task and returns its output URLs, or stores its outputs and returns their paths.

    Waiting is free. It polls once, then defers, so that a waiting task holds no worker. A ``fail`` raises
    :class:`~seedance_provider.exceptions.SeedanceTaskFailedError` without a retry; a poll that fails never loses the
    task. The XCom key ``seedance_task`` holds the normalised record, ``seedance_error`` what went wrong.

    :param seedance_task_id: The id that :class:`~seedance_provider.operators.seedance.SeedanceCreateTaskOperator`
        returned. (templated)
    :param seedance_conn_id: The Airflow connection. Default ``seedance_default``. (templated)
    :param poll_interval: Seconds between polls, fixed. Default: Airflow's ``[seedance] poll_interval``, else adaptive:
        about 19 polls for a video of 200 s. An explicit ``poke_interval`` means the same.
    :param timeout: Seconds to wait from the first poll. Default: Airflow's ``[seedance] timeout``, else 1800. Past it,
        :class:`~seedance_provider.exceptions.SeedanceTaskTimeoutError` is raised, without a retry.
    :param deferrable: Wait in the triggerer. Default True. False: wait in the ``mode`` of ``BaseSensorOperator``,
        ``poke`` or ``reschedule``, with the same schedule and results.
    :param output_path: Store the outputs there and return their paths: a URL such as
        ``s3://aws_default@bucket/{{ ds }}/{seedance_task_id}.{ext}`` or an absolute path; a folder if it ends with
        ``/``. Names in single braces: ``seedance_task_id``, ``index``, ``model``, ``seed``, ``ext``. Default: return
        the URLs. (templated)
    :param overwrite: Replace another file in an output's place. Default False: the task fails.
    :param last_frame: Store the last frame of each video, too, beside it. Default False.
    """

    template_fields: Sequence[str] = ("seedance_task_id", "seedance_conn_id", "output_path")
    operator_extra_links = (SeedanceVideoLink(),)
    ui_color = "#e8e4f8"
    custom_operator_name = "SeedanceTaskSensor"
    video_url = ""
    """The first output, once there is one; read by the extra link."""
    delivery: Delivery | None = None
    """What the try left behind; read by OpenLineage."""

    def __init__(
        self,
        *,
        seedance_task_id: str,
        seedance_conn_id: str = defaults.DEFAULT_CONN_ID,
        poll_interval: float | timedelta | None = None,
        poke_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        deferrable: bool = True,
        output_path: str | ObjectStoragePath | None = None,
        overwrite: bool = False,
        last_frame: bool = False,
        **kwargs: Any,
    ) -> None:
        interval = seconds_of("poll_interval", poll_interval) or seconds_of("poke_interval", poke_interval)
        if interval is not None:
            kwargs["poke_interval"] = interval
        own_timeout = seconds_of("timeout", timeout)
        # Airflow's configuration is read when the sensor runs: a look-up per sensor slows down parsing a DAG of many.
        super().__init__(timeout=own_timeout or defaults.DEFAULT_WAIT_TIMEOUT, **kwargs)
        self._own_timeout = own_timeout
        self.seedance_task_id = seedance_task_id
        self.seedance_conn_id = seedance_conn_id
        self.poll_interval = interval
        self.deferrable = deferrable
        if not is_from_mapped(self):
            check_storing(output_path, overwrite=overwrite, last_frame=last_frame)
        self.output_path = output_path
        self.overwrite = overwrite
        self.last_frame = last_frame
        self._stores = output_path is not None

    @property
    def shown_as(self) -> str:
        """What a mapped task instance is called in the UI: the id of its task."""
        return labels.first_words(str(self.seedance_task_id))

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, *args: Any, **kwargs: Any
    ) -> None:
        super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
        labels.offer(context)

    def execute(self, context: Context) -> list[str]:
        """Poll once, then wait.

        :return: The output URLs, or with ``output_path`` the paths of the files.
        :raises SeedanceError: if the task ended otherwise than in success, or not in time.
        """
        # What a task instance does is imported when it runs: a DAG file is parsed without it.
        from seedance_provider.execution import storage

        with self._failing_alike(context):
            if self._stores:
                storage.prepare(self.output_path)
            wait = self._wait(context)
            if self.deferrable and self.reschedule:
                self.log.info("mode='reschedule' has no effect while deferrable is True")
            if not self.deferrable and not self.reschedule:
                return self._finish(wait.block(), context)
            record, watch = wait.poll()
            if record is not None:
                return self._finish(record, context)
        if not self.deferrable:
            raise AirflowRescheduleException(  # type: ignore[no-untyped-call]
                datetime.now(UTC) + timedelta(seconds=watch.pause)
            )
        return wait.defer(watch)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str]:
        """Take the trigger's event.

        :param event: The payload of a :class:`~seedance_provider.events.TaskEvent`.
        :return: The output URLs.
        :raises SeedanceError: what the wait ended with.
        """
        from seedance_provider.events import TaskEvent
        from seedance_provider.execution import wait

        with self._failing_alike(context):
            return self._finish(wait.outcome(TaskEvent.from_json(event)), context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, also after one that Airflow itself ended.

        :param next_method: ``execute_complete``, or Airflow's word for a deferral without an event.
        :param next_kwargs: The event, or why there is none.
        :param context: The context.
        :return: The output URLs.
        """
        from seedance_provider.execution import wait

        try:
            if next_method == "execute_complete":
                return super().resume_execution(next_method, next_kwargs, context)
            reason = str((next_kwargs or {}).get("error", "no reason given"))
            with self._failing_alike(context):
                record = wait.last_poll(self._wait(context).hook, self.seedance_task_id, reason)
                return self._finish(record, context)
        except AirflowSkipException as skip:
            # On Airflow 3 the base class puts a text of its own in place of the reason.
            raise skip.__cause__ if isinstance(skip.__cause__, AirflowSkipException) else skip from None

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once, without waiting.

        :return: Whether the task succeeded and, if so, its output URLs.
        :raises SeedanceError: if it ended otherwise.
        """
        record, _ = self._wait(context).poll()
        if record is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._finish(record, context))

    def _finish(self, record: TaskRecord, context: Context) -> list[str]:
        from seedance_provider.execution import results, storage
        from seedance_provider.hooks.seedance import SeedanceHook

        files = None
        if self._stores:
            hook = SeedanceHook(self.seedance_conn_id)
            transfer = storage.Transfer(hook, self.log, str(self.output_path), self.overwrite)
            files = storage.store(record, transfer, last_frame=self.last_frame)
        return results.finish(record, self, context, self.log, files)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage the video, its stored copies, and what it cost.

        :param task_instance: Of this task; not needed, since the operator is the one that ran.
        """
        from seedance_provider.execution import lineage

        return lineage.of_video(self)

    def _wait(self, context: Context) -> Wait:
        from seedance_provider.execution.wait import Wait
        from seedance_provider.hooks.seedance import SeedanceHook

        now = time.time()
        started_at = self._first_poll_at(context) if self.reschedule and not self.deferrable else now
        return Wait(
            hook=SeedanceHook(self.seedance_conn_id),
            seedance_task_id=self.seedance_task_id,
            poll_interval=self.poll_interval,
            started_at=started_at,
            timeout=self._own_timeout,
            # Only what was seen to exist is polled again.
            alive=started_at < now,
        )

    def _first_poll_at(self, context: Context) -> float:
        """When a rescheduled sensor polled first: each poll is an execution of its own."""
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
    def _failing_alike(self, context: Context) -> Iterator[None]:
        """Report failures, and apply ``soft_fail`` and ``never_fail`` alike in every mode; the base class does not."""
        from seedance_provider.execution import results

        try:
            with results.reporting_failures(self, context):
                yield
        except SeedanceError as error:
            if self.soft_fail or getattr(self, "never_fail", False):
                raise AirflowSkipException(f"Skipped instead of failing: {error}") from error
            raise
