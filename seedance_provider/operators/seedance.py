"""The operators: what submits a Seedance task, and so spends money."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from seedance_provider import defaults, labels
from seedance_provider.api import validation as input_tables
from seedance_provider.config import (
    check_storing,
    is_from_mapped,
    parse_submit_policy,
    positive_credits,
    price_list_path,
    seconds_of,
)
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceTaskFailedError, invalid_inputs
from seedance_provider.links.page import HasVideoPage
from seedance_provider.links.seedance import SeedanceVideoLink

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Asset, Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from seedance_provider.api.records import TaskRecord
    from seedance_provider.events import ResumeState
    from seedance_provider.execution.assets import Delivery
    from seedance_provider.execution.job import Job
    from seedance_provider.execution.submit import Submission


def _note_delivered(context: Context) -> None:
    """Note a success that Airflow has taken; an ``on_success_callback`` beside the user's own."""
    # Airflow 3.0 executes a copy of the context's task.
    task: Any = getattr(context["ti"], "task", None) or context["task"]
    task._job(context).receipts.note_delivered(*task._delivered)


class _SubmittingOperator(HasVideoPage, BaseOperator):
    """What submitting a task takes, whatever follows."""

    template_fields: Sequence[str] = (
        "model",
        "inputs",
        "callback_url",
        "seedance_conn_id",
        "idempotency_key",
        "budget",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json"}
    template_ext: Sequence[str] = (".json",)
    _delivered: tuple[str | None, Decimal | None, Sequence[str]] = (None, None, ())
    """The task that this try delivered, what was charged for it, and where it was stored."""
    _stores = False
    """Whether the outputs are stored."""
    delivery: Delivery | None = None
    """What the try left behind; read by OpenLineage."""

    def __init__(
        self,
        *,
        inputs: Mapping[str, Any] | str,
        model: str = defaults.DEFAULT_MODEL,
        callback_url: str | None = None,
        seedance_conn_id: str = defaults.DEFAULT_CONN_ID,
        submit_policy: str | None = None,
        validation: Literal["strict", "warn"] = "strict",
        upload_media: bool = False,
        slot_timeout: float | timedelta = defaults.DEFAULT_SLOT_TIMEOUT,
        slot_poll_interval: float | timedelta = defaults.DEFAULT_SLOT_POLL_INTERVAL,
        durable: bool = True,
        idempotency_key: str | None = None,
        max_credits: float | Decimal | None = None,
        budget: str | None = None,
        budget_credits: float | Decimal | None = None,
        use_callback: bool | None = None,
        on_completion: Asset | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.inputs = inputs
        self.callback_url = callback_url
        self.seedance_conn_id = seedance_conn_id
        self.submit_policy = submit_policy
        self.validation = validation
        self.upload_media = upload_media
        self.slot_timeout = seconds_of("slot_timeout", slot_timeout)
        self.slot_poll_interval = seconds_of("slot_poll_interval", slot_poll_interval)
        self.durable = durable
        self.idempotency_key = idempotency_key
        self._has_key = idempotency_key is not None  # before it is rendered
        self.max_credits = positive_credits(max_credits, "max_credits")
        self.budget = budget
        self.budget_credits = positive_credits(budget_credits, "budget_credits")
        self.use_callback = use_callback
        self.on_completion = on_completion
        self.deferrable = deferrable
        self._check_callback()
        if (budget is None) != (budget_credits is None):
            raise SeedanceConfigurationError(
                f"budget={budget!r} and budget_credits={budget_credits!r}: both must be given, or neither"
            )
        if durable:
            self.on_success_callback = [*_as_list(self.on_success_callback), _note_delivered]
        if submit_policy is not None:
            parse_submit_policy(submit_policy, "submit_policy")
        if validation not in ("strict", "warn"):
            raise SeedanceConfigurationError(f"validation is {validation!r}: it must be 'strict' or 'warn'")
        is_known = not (isinstance(inputs, str) or is_from_mapped(self) or input_tables.is_rendered_later(inputs))
        if validation == "strict" and is_known:
            # What is written out in the DAG file is checked while it is parsed, long before it could cost anything.
            report = input_tables.check(model, inputs, partial=True, allow_local_media=upload_media)
            if report.problems:
                raise invalid_inputs(self.task_id, report.problems, input_tables.describe(report.problems))
            if self.max_credits is not None and price_list_path() is None:
                # Parse cost: only a DAG file with such a ceiling needs the prices.
                from seedance_provider.api import pricing

                pricing.check(model, inputs, self.max_credits, "max_credits")

    def _job(self, context: Context, state: ResumeState | None = None, *, follows: bool = False) -> Job:
        from seedance_provider.events import ResumeState
        from seedance_provider.execution.job import Job

        return Job(
            context=context,
            log=self.log,
            task_id=self.task_id,
            retries=self.retries or 0,
            model=self.model,
            raw_inputs=self.inputs,
            callback_url=self.callback_url,
            seedance_conn_id=self.seedance_conn_id,
            submit_policy=self.submit_policy,
            validation=self.validation,
            upload_media=self.upload_media,
            slot_timeout=self.slot_timeout,
            slot_poll_interval=self.slot_poll_interval,
            durable=self.durable,
            idempotency_key=self.idempotency_key,
            has_key=self._has_key,
            max_credits=self.max_credits,
            budget_name=self.budget,
            budget_credits=self.budget_credits,
            deferrable=self.deferrable,
            follows=follows,
            stores=self._stores,
            pushes=bool(self.do_xcom_push),
            use_callback=self.use_callback,
            has_pool=self.pool != defaults.AIRFLOW_DEFAULT_POOL,
            on_completion=None if self.on_completion is None else (self.on_completion.name, self.on_completion.uri),
            state=state or ResumeState(),
        )

    def _hand_over(self, job: Job, seedance_task_id: str) -> str:
        """Leave the task to whoever waits for it."""
        from seedance_provider.execution.assets import Delivery, deliver

        self._delivered = seedance_task_id, None, ()
        handed = Delivery(seedance_task_id, job.model, inputs=job.known_inputs, estimate=job.expected)
        deliver(handed, self, job.context, self.log)
        return seedance_task_id

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage the reference media, the video, its stored copies, and what it cost.

        :param task_instance: Of this task; not needed, since the operator is the one that ran.
        """
        from seedance_provider.execution import lineage

        return lineage.of_video(self)

    def _check_callback(self) -> None:
        if self.use_callback and self.callback_url is not None:
            raise SeedanceConfigurationError(
                f"use_callback=True and callback_url={self.callback_url!r}: the vendor posts to one URL only: give one "
                "of them"
            )
        if self.on_completion is None:
            return
        named = (getattr(self.on_completion, member, None) for member in ("name", "uri"))
        if not all(isinstance(name, str) for name in named):
            raise SeedanceConfigurationError(f"on_completion={self.on_completion!r:.200}: it must be an Asset")
        for argument in ("callback_url", "idempotency_key"):
            if getattr(self, argument) is not None:
                raise SeedanceConfigurationError(
                    f"on_completion and {argument} are both given: the callback of a video is for one task only. Leave "
                    "one of them out, or wait with SeedanceTaskSensor(outlets=[...])"
                )

    def _warn_forgetful(self, job: Job) -> None:
        """Say what a retry costs where nothing is remembered, and the two lines that change it."""
        if self.retries and not job.receipts.remembers:
            self.log.warning(
                "retries=%s, but nothing here remembers the video over a retry: one after the submission would submit "
                "another. Airflow 3.3 and later remember it with durable=True; every version does with a ledger, in "
                "airflow.cfg:\n[seedance]\nledger_path = s3://aws_default@bucket/seedance",
                self.retries,
            )

    @property
    def shown_as(self) -> str:
        """What a mapped task instance is called in the UI: the first words of its prompt."""
        return labels.first_words(labels.prompt_of(self.inputs))

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, *args: Any, **kwargs: Any
    ) -> None:
        super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
        labels.offer(context)

    def resolve_template_files(self) -> None:
        """Load ``inputs`` from a ``.json`` file; other fields name no files, even if they end like one."""
        if isinstance(self.inputs, str) and self.inputs.endswith(tuple(self.template_ext)):
            env = self.get_template_env()
            assert env.loader is not None  # noqa: S101 - a DAG's environment always has one
            self.inputs = env.loader.get_source(env, self.inputs)[0]
        self.prepare_template()

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a template; a prompt or a URL that ends in ``.json`` is not a file."""
        if isinstance(content, str) and content.endswith(tuple(self.template_ext)) and content != self.inputs:
            env = jinja_env or self.get_template_env()
            return self._render(env.from_string(content), context)
        return super().render_template(content, context, jinja_env, seen_oids)


def _as_list(callbacks: Any) -> list[Any]:
    """The callbacks of an operator: Airflow 2.11 keeps them as they were given."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple, set)) else [callbacks]


class SeedanceCreateTaskOperator(_SubmittingOperator):
    """Creates a Seedance task and returns its taskId, also under the XCom key ``seedance_task_id``.

    Each task that the API accepts costs credits at once; it cannot be cancelled, listed or deduplicated. Wait for it
    with :class:`~seedance_provider.sensors.seedance.SeedanceTaskSensor`. With a ledger (``[seedance] ledger_path``), or
    on Airflow 3.3 and later, a retry after a crash returns the task of the earlier try, free; a clear of a success
    submits a new one. Otherwise nothing is remembered: a retry, also one by which Airflow's scheduler replaces a lost
    worker, may submit another.

    :param model: The model id. Default ``seedance-20``. (templated)
    :param inputs: The model's inputs, such as ``{"prompt": "A sunset", "duration": 5}``; or the path of a ``.json``
        file with them, looked up like a template file. (templated)
    :param callback_url: Where the vendor posts the outcome. Default: nowhere. (templated)
    :param seedance_conn_id: The Airflow connection. Default ``seedance_default``. (templated)
    :param submit_policy: ``vendor``: send a createTask of unknown outcome again, which may be charged twice; ``safe``:
        fail, for manual review. Default: what the connection says, else Airflow's ``[seedance] submit_policy``, else
        ``vendor``.
    :param validation: ``strict`` (default): inputs that the vendor would refuse, ignore or misread fail before
        anything is sent, literal ones when the DAG is parsed. ``warn``: they are logged, and the vendor decides.
    :param upload_media: Upload images, videos and audio that ``imageUrls``, ``videoUrls`` and ``audioUrls`` name by a
        local path or an object storage URL, and send their public URLs instead. Default False.
    :param slot_timeout: Seconds to wait for a free slot, for each submission. Default 6 h.
    :param slot_poll_interval: Seconds after which a lone waiter for a slot submits again. Default 30.
    :param durable: Remember the task over retries: in the ledger of ``[seedance] ledger_path``, else where Airflow can
        (3.3 and later). Default True.
    :param idempotency_key: Names the video: whoever asks by the same key and connection gets the same one, another run
        or a clear of a success included, until it fails. Needs a ledger. Default: one per task instance. (templated)
    :param max_credits: A task that may cost more is not submitted. Default: no limit.
    :param budget: Names a budget that all who name it share. Needs a ledger and ``budget_credits``. Default: none.
        (templated)
    :param budget_credits: The most credits that the tasks of ``budget`` may cost together.
    :param on_completion: An asset whose event is registered when the video is done, with no task waiting and no poll:
        for DAGs that are scheduled on it. Needs what ``use_callback=True`` needs. There is no event of a video that
        fails, or whose callback does not arrive. Default: none.
    :param use_callback: Let the vendor post the end to Airflow's API server, so that the video of a createTask whose
        answer was lost is found. Needs ``[seedance] callback_base_url``, a ledger or Airflow 3.3, and no
        ``callback_url``. Default: where all of that is there. True: fail without. False: never.
    :param deferrable: Wait for a slot in the triggerer. Default True. False: on the worker.
    """

    ui_color = "#d6cdf5"
    custom_operator_name = "SeedanceCreateTask"

    def execute(self, context: Context) -> str:
        """Submit the task.

        :return: The taskId.
        :raises SeedanceError: any row of the error table.
        """
        return self._create(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Submit again after a wait for a slot.

        :param event: The payload of a :class:`~seedance_provider.events.TaskEvent`.
        :return: The taskId.
        """
        return self._create(context, event)

    def _create(self, context: Context, event: dict[str, Any] | None = None) -> str:
        from seedance_provider.events import TaskEvent
        from seedance_provider.execution import results, submit, wait

        read = None if event is None else TaskEvent.from_json(event)
        job = self._job(context, None if read is None else read.state)
        with results.reporting_failures(self, context):
            if read is None:
                self._warn_forgetful(job)
            elif read.error is not None:
                raise wait.of_a_slot(job, read.error) from read.error
            return self._hand_over(job, submit.obtain(job).seedance_task_id)


class SeedanceGenerateVideoOperator(_SubmittingOperator):
    """Creates a Seedance task, waits for it and returns its output URLs: one task instance, one video.

    With a ledger (``[seedance] ledger_path``), or on Airflow 3.3 and later, a retry continues with the task of the
    earlier try, free, and so does a clear before the end; a clear of a success submits a new one. Otherwise nothing is
    remembered: a retry, also one by which Airflow's scheduler replaces a lost worker, may submit another. There,
    :class:`SeedanceCreateTaskOperator` and :class:`~seedance_provider.sensors.seedance.SeedanceTaskSensor` have less to
    lose.

    Takes the parameters of :class:`SeedanceCreateTaskOperator`, and:

    :param wait_for_completion: Default True. False: return the taskId, as SeedanceCreateTaskOperator does.
    :param deferrable: Wait in the triggerer. Default True. False: on the worker.
    :param poll_interval: Seconds between polls, fixed. Default: Airflow's ``[seedance] poll_interval``, else adaptive.
    :param timeout: Seconds to wait from the submission. Default: Airflow's ``[seedance] timeout``, else 1800.
    :param resubmits: How many times a task that failed for a transient reason of the vendor's is submitted again within
        one try. Default 0. The vendor refunds failed tasks.
    :param output_path: Store the outputs there and return their paths: a URL such as
        ``s3://aws_default@bucket/{{ ds }}/{seedance_task_id}.{ext}`` or an absolute path; a folder if it ends with
        ``/``. Names in single braces: ``seedance_task_id``, ``index``, ``model``, ``seed``, ``ext``. Default: return
        the URLs. (templated)
    :param overwrite: Replace another file in an output's place. Default False: the task fails.
    :param last_frame: Store the last frame of each video, too, beside it. Default False.
    """

    template_fields: Sequence[str] = (*_SubmittingOperator.template_fields, "output_path")
    operator_extra_links = (SeedanceVideoLink(),)
    ui_color = "#c6b8f2"
    custom_operator_name = "SeedanceGenerateVideo"
    video_url = ""
    """The first output, once there is one; read by the extra link."""
    _waiting_for: str | None = None

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        resubmits: int = 0,
        output_path: str | ObjectStoragePath | None = None,
        overwrite: bool = False,
        last_frame: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.poll_interval = seconds_of("poll_interval", poll_interval)
        self.timeout = seconds_of("timeout", timeout)
        if isinstance(resubmits, bool) or not isinstance(resubmits, int) or resubmits < 0:
            raise SeedanceConfigurationError(f"resubmits is {resubmits!r}: it must be an integer, 0 or more")
        self.resubmits = resubmits
        if not is_from_mapped(self):
            check_storing(output_path, overwrite=overwrite, last_frame=last_frame)
        if output_path is not None and not wait_for_completion:
            raise SeedanceConfigurationError(
                "output_path needs the finished video: with wait_for_completion=False give it to the SeedanceTaskSensor"
                ", or to SeedanceToObjectStorageOperator"
            )
        self.output_path = output_path
        self.overwrite = overwrite
        self.last_frame = last_frame
        self._stores = output_path is not None

    def execute(self, context: Context) -> list[str] | str:
        """Submit the task, or continue with that of an earlier try, and wait for it.

        :return: The output URLs, or with ``output_path`` the paths; the taskId if ``wait_for_completion`` is False.
        :raises SeedanceError: any row of the error table.
        """
        from seedance_provider.execution import results

        job = self._job(context, follows=self.wait_for_completion)
        with results.reporting_failures(self, context):
            self._warn_forgetful(job)
            return self._generate(job)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str] | str:
        """Take a trigger's event: a slot to submit into, or the end of the task.

        :param event: The payload of a :class:`~seedance_provider.events.TaskEvent`.
        :return: The output URLs, or with ``output_path`` the paths; the taskId if ``wait_for_completion`` is False.
        :raises SeedanceError: what the wait ended with.
        """
        from seedance_provider.events import TaskEvent
        from seedance_provider.execution import results, wait

        read = TaskEvent.from_json(event)
        job = self._job(context, read.state, follows=self.wait_for_completion)
        with results.reporting_failures(self, context):
            if read.status == "slot":
                return self._generate(job)
            return self._end(job, read.seedance_task_id, lambda: wait.outcome(read))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, also after one that Airflow itself ended.

        :param next_method: ``execute_complete``, or Airflow's word for a deferral without an event.
        :param next_kwargs: The event, or why there is none.
        :param context: The context.
        :return: What :meth:`execute_complete` returns.
        """
        from seedance_provider.execution import results, wait

        if next_method != "execute_complete":
            job = self._job(context, follows=self.wait_for_completion)
            seedance_task_id = wait.known_task_id(job)
            if seedance_task_id is not None:
                reason = str((next_kwargs or {}).get("error", "no reason given"))
                with results.reporting_failures(self, context):
                    return self._end(job, seedance_task_id, lambda: wait.last_poll(job.hook, seedance_task_id, reason))
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Say what it means for the video that the task instance is stopped while it waits on the worker."""
        from seedance_provider.api.flows import keeps_running

        if self._waiting_for is not None:
            self.log.warning("%s", keeps_running(self._waiting_for))

    def _generate(self, job: Job) -> list[str] | str:
        from seedance_provider.execution import storage, submit

        if self._stores:
            storage.prepare(self.output_path, last_frame=self.last_frame, model=self.model)
        submission = submit.obtain(job)
        if not self.wait_for_completion:
            return self._hand_over(job, submission.seedance_task_id)
        self._delivered = submission.seedance_task_id, None, ()
        self._waiting_for = submission.seedance_task_id
        return self._follow(job, submission)

    def _follow(self, job: Job, submission: Submission) -> list[str]:
        from seedance_provider.execution import wait

        record = wait.follow(
            job, submission, poll_interval=self.poll_interval, timeout=self.timeout, resubmits=self.resubmits
        )
        return self._finish(job, record)

    def _finish(self, job: Job, record: TaskRecord) -> list[str]:
        from seedance_provider.execution import results, storage

        files = None
        if self._stores:
            is_last_chance = not job.receipts.remembers
            transfer = storage.Transfer(job.hook, self.log, str(self.output_path), self.overwrite, is_last_chance)
            files = storage.store(record, transfer, last_frame=self.last_frame, model=self.model)
        self._delivered = record.seedance_task_id, record.credits_used, [file.path for file in files or ()]
        return results.finish(record, self, job.context, self.log, files, job)

    def _end(self, job: Job, seedance_task_id: str, outcome: Callable[[], TaskRecord]) -> list[str]:
        """Take the end of a deferred wait; submit again what failed for a transient reason."""
        from seedance_provider.execution import submit, wait

        try:
            record = wait.noting_the_end(job, seedance_task_id, outcome)
        except SeedanceTaskFailedError as failure:
            job.state = wait.resubmitting(job, failure, self.resubmits)
            return self._follow(job, submit.resubmit(job, seedance_task_id))
        return self._finish(job, record)
