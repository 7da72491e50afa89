"""The operators: what creates a Seedance task, and so spends money."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from seedance_provider.api import inputs as input_tables
from seedance_provider.api.policy import DEFAULT_SLOT_POLL_INTERVAL, DEFAULT_SLOT_TIMEOUT, seconds_of
from seedance_provider.config import (
    DEFAULT_CONN_ID,
    default_poll_interval,
    default_wait_timeout,
    parse_submit_policy,
)
from seedance_provider.exceptions import (
    SeedanceConcurrencyLimitError,
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceOutputMissingError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTransportError,
)
from seedance_provider.links.seedance import SeedanceVideoLink

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

    from seedance_provider.hooks.seedance import SeedanceHook
    from seedance_provider.submission import Submission, SubmissionStore

XCOM_TASK_ID_KEY = "seedance_task_id"
UPLOAD_REUSE_SECONDS = 20 * 3600.0
"""The vendor deletes uploads after 24 hours (contract 6)."""


class _SubmittingOperator(BaseOperator):
    """What creating a task takes, whatever follows: inputs, their check, the submission and its memory, the slot."""

    template_fields: Sequence[str] = ("model", "inputs", "callback_url", "seedance_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json"}
    template_ext: Sequence[str] = (".json",)

    @property
    def _follows_task(self) -> bool:
        """Whether the task instance stays with its Seedance task to the end."""
        return False

    def __init__(
        self,
        *,
        inputs: Mapping[str, Any] | str,
        model: str = "seedance-20",
        callback_url: str | None = None,
        seedance_conn_id: str = DEFAULT_CONN_ID,
        submit_policy: str | None = None,
        validation: Literal["strict", "warn"] = "strict",
        upload_media: bool = False,
        slot_timeout: float | timedelta = DEFAULT_SLOT_TIMEOUT,
        slot_poll_interval: float | timedelta = DEFAULT_SLOT_POLL_INTERVAL,
        durable: bool = True,
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
        self.deferrable = deferrable
        if submit_policy is not None:
            parse_submit_policy(submit_policy, "submit_policy")
        if validation not in ("strict", "warn"):
            raise SeedanceConfigurationError(f"validation is {validation!r}: say 'strict' or 'warn'")
        if not (isinstance(inputs, str) or input_tables.is_rendered_later(inputs)):
            # What is written out in the DAG file is checked while it is parsed, long before it could cost anything.
            self._check(inputs, partial=True, allow_local_media=upload_media)

    def _check(self, inputs: Mapping[str, Any], *, partial: bool, allow_local_media: bool) -> None:
        report = input_tables.check(self.model, inputs, partial=partial, allow_local_media=allow_local_media)
        if not partial:
            for warning in report.warnings:
                self.log.warning("%s", warning)
        if not report.problems:
            return
        listed = "; ".join(str(problem) for problem in report.problems)
        if self.validation == "strict":
            raise SeedanceInvalidRequestError(
                f"The inputs of {self.task_id!r} would be refused or buy the wrong video: {listed}. Nothing was sent. "
                "validation='warn' would let the vendor decide",
                errors=[{"path": problem.path, "message": problem.message} for problem in report.problems],
            )
        if not partial:
            self.log.warning("The inputs look wrong, and validation='warn' lets the vendor decide: %s", listed)

    def _hook(self) -> SeedanceHook:
        from seedance_provider.hooks.seedance import SeedanceHook

        return SeedanceHook(self.seedance_conn_id, submit_policy=self.submit_policy)

    def _obtain_task(self, context: Context, hook: SeedanceHook, carry: dict[str, Any]) -> tuple[Submission, bool]:
        """Create the wanted task, or find it if an earlier try did.

        :return: The submission, with its id, and whether it is an earlier try's.
        """
        from seedance_provider.submission import SubmissionStore, Verdict, judge

        store = SubmissionStore(context, durable=self.durable)
        saved = store.load()
        verdict, reason = judge(saved, self._wanted(context))
        if reason:
            self.log.warning("%s", reason)
        if verdict is Verdict.CONTINUE and saved is not None:
            self._push_task_id(context, saved.seedance_task_id)
            return store.adopt(saved, self._wanted(context)), True
        if verdict is Verdict.UNCERTAIN and hook.effective_submit_policy == "safe":
            raise SeedanceSubmitUncertainError(
                f"{reason}, so a video may have been bought. submit_policy='safe' does not send it again: look at the "
                "account's task list on the vendor's site. If the video is there, wait for it with "
                "SeedanceTaskSensor(seedance_task_id=...); if not, clear this task"
            )
        if verdict is Verdict.UNCERTAIN:
            self.log.warning("submit_policy='vendor' sends createTask again; if the first one arrived, this buys twice")
        return self._submit(context, hook, carry), False

    def _wanted(self, context: Context) -> Submission:
        from seedance_provider.submission import Submission, fingerprint

        ti: Any = context["ti"]
        request = fingerprint(self.model, parse_inputs(self.inputs), self.callback_url)
        return Submission(request, ti.max_tries or 0, ti.try_number or 1)

    def _submit(self, context: Context, hook: SeedanceHook, carry: dict[str, Any]) -> Submission:
        """Send createTask, remembering the intent before and the id after; wait for a slot if there is none."""
        from seedance_provider.submission import SubmissionStore

        store = SubmissionStore(context, durable=self.durable)
        written = parse_inputs(self.inputs)
        wanted = self._wanted(context)
        base_url = hook.settings.base_url  # a connection that cannot be used must not look like an intent
        self._check(written, partial=False, allow_local_media=self.upload_media)
        while True:
            inputs = self._with_public_media(hook, written, carry) if self.upload_media else written
            store.save_intent(wanted)
            try:
                seedance_task_id = hook.create_task(self.model, inputs, callback_url=self.callback_url)
            except SeedanceConcurrencyLimitError as refusal:
                store.forget()
                self._wait_for_slot(refusal, carry)
                continue
            except SeedanceError as error:
                if not _may_have_bought(error):
                    store.forget()
                raise
            break
        # In this order: a line of log is the quickest memory, the store the one a retry reads.
        self.log.info("Created task %s with model %s on %s", seedance_task_id, self.model, base_url)
        submission = store.save_task(wanted, seedance_task_id, time.time(), ended=not self._follows_task)
        self._push_task_id(context, seedance_task_id)
        return submission

    def _with_public_media(
        self, hook: SeedanceHook, inputs: Mapping[str, Any], carry: dict[str, Any]
    ) -> dict[str, Any]:
        from seedance_provider.uploads import replace_media

        # Carried through a wait for a slot, but not for as long as the vendor keeps uploads.
        if time.time() - carry.get("uploaded_at", 0) > UPLOAD_REUSE_SECONDS:
            carry["uploads"], carry["uploaded_at"] = {}, time.time()
        return replace_media(inputs, hook.upload, carry["uploads"])

    def _push_task_id(self, context: Context, seedance_task_id: str | None) -> None:
        if not self.do_xcom_push:
            return
        try:
            context["ti"].xcom_push(key=XCOM_TASK_ID_KEY, value=seedance_task_id)
        except Exception:
            # A failure here must not lose a paid task: its id is stored and goes on in the trigger.
            self.log.exception("Pushing %s of task %s to XCom failed", XCOM_TASK_ID_KEY, seedance_task_id)

    def _wait_for_slot(self, refusal: SeedanceConcurrencyLimitError, carry: dict[str, Any]) -> None:
        """Wait until it is worth sending again: deferred, or here if the operator must not defer."""
        now = time.time()
        since = carry.setdefault("slot_since", now)
        deadline = since + self.slot_timeout
        if now >= deadline:
            raise refusal
        size = refusal.limit or 5
        self.log.info(
            "The account has no free slot (limit %s, in use %s); nothing was charged. Waiting for one, %s, for up to "
            "%.0f s. To start no more tasks than the account runs, put them into a pool: airflow pools set seedance %d "
            "'Seedance slots' --include-deferred",
            refusal.limit,
            refusal.current,
            "deferred" if self.deferrable else "on the worker",
            deadline - now,
            size,
        )
        if not self.deferrable:
            time.sleep(min(self.slot_poll_interval, deadline - now))
            return
        from seedance_provider.triggers.slots import SeedanceSlotTrigger
        from seedance_provider.waiting import BACKSTOP_SECONDS

        self.defer(
            trigger=SeedanceSlotTrigger(
                self.seedance_conn_id,
                since=since,
                refused_at=now,
                poll_interval=max(self.slot_poll_interval, refusal.retry_after or 0),
                deadline=deadline,
                carry=carry,
                limit=refusal.limit,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=deadline - now + BACKSTOP_SECONDS),
        )

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


class SeedanceCreateTaskOperator(_SubmittingOperator):
    """Creates a Seedance task and returns its taskId, also under the XCom key ``seedance_task_id``.

    Each task that the API accepts costs credits at once; it cannot be cancelled, listed or deduplicated. Wait for it
    with :class:`~seedance_provider.sensors.seedance.SeedanceTaskSensor`. On Airflow 3.3 and later a retry after a crash
    returns the task of the earlier try instead of buying another; a user's clear makes a new one.

    :param model: The model id. Default ``seedance-20``. (templated)
    :param inputs: The model's inputs, such as ``{"prompt": "A sunset", "duration": 5}``; or the path of a ``.json``
        file with them, looked up like a template file. (templated)
    :param callback_url: Where the vendor posts the outcome. Default: nowhere. (templated)
    :param seedance_conn_id: The Airflow connection. Default ``seedance_default``. (templated)
    :param submit_policy: ``vendor``: send a createTask of unknown fate again, which may buy a second video; ``safe``:
        fail and let a person look. Default: what the connection says, else Airflow's ``[seedance] submit_policy``,
        else ``vendor``.
    :param validation: ``strict`` (default): inputs that the vendor would refuse, ignore or misread fail before
        anything is sent, literal ones when the DAG is parsed. ``warn``: they are logged, and the vendor decides.
    :param upload_media: Upload local files and object storage URLs found in ``imageUrls``, ``videoUrls`` and
        ``audioUrls``, and send the public URLs instead. Default False.
    :param slot_timeout: Seconds to wait for a free slot when the account runs as many tasks as it may. Default 6 h.
    :param slot_poll_interval: Seconds after which a lone waiter for a slot asks again. Default 30.
    :param durable: Remember the task over retries where Airflow can (3.3 and later). Default True.
    :param deferrable: Wait for a slot in the triggerer. Default True. False: on the worker.
    """

    ui_color = "#d6cdf5"

    def execute(self, context: Context) -> str:
        """Create the task.

        :return: The taskId.
        :raises SeedanceError: any row of the error table.
        """
        return self._create(context, {})

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Submit again after a wait for a slot.

        :param event: The payload of a :class:`~seedance_provider.events.TaskEvent`.
        :return: The taskId.
        """
        from seedance_provider.events import TaskEvent, error_from_json

        read = TaskEvent.from_json(event)
        if read.error is not None:
            raise error_from_json(read.error)
        return self._create(context, read.carry)

    def _create(self, context: Context, carry: dict[str, Any]) -> str:
        submission, _ = self._obtain_task(context, self._hook(), carry)
        assert submission.seedance_task_id is not None  # noqa: S101 - an obtained task has an id
        return submission.seedance_task_id


class SeedanceGenerateVideoOperator(_SubmittingOperator):
    """Creates a Seedance task, waits for it and returns its output URLs: one task instance, one video.

    The task of a crashed try is continued by its retry on Airflow 3.3 and later. Older versions cannot remember it: use
    ``retries=0`` there, or :class:`SeedanceCreateTaskOperator` and
    :class:`~seedance_provider.sensors.seedance.SeedanceTaskSensor`. A user's clear makes a new video; where the task is
    remembered, it keeps one that has not ended.

    Takes the parameters of :class:`SeedanceCreateTaskOperator`, and:

    :param wait_for_completion: Default True. False: return the taskId, as SeedanceCreateTaskOperator does.
    :param deferrable: Wait in the triggerer. Default True. False: on the worker.
    :param poll_interval: Seconds between looks, obeyed exactly. Default: Airflow's ``[seedance] poll_interval``, else
        adaptive.
    :param timeout: Seconds to wait from the submission. Default: Airflow's ``[seedance] timeout``, else 1800.
    :param resubmits: How many times a task that failed for a passing reason of the vendor's is created anew within one
        try. Default 0. The vendor refunds failed tasks.
    """

    operator_extra_links = (SeedanceVideoLink(),)
    ui_color = "#c6b8f2"
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.poll_interval = seconds_of("poll_interval", poll_interval)
        self.timeout = seconds_of("timeout", timeout)
        if isinstance(resubmits, bool) or not isinstance(resubmits, int) or resubmits < 0:
            raise SeedanceConfigurationError(f"resubmits is {resubmits!r}: give a whole number, 0 or more")
        self.resubmits = resubmits

    def execute(self, context: Context) -> list[str] | str:
        """Create the task, or continue with that of an earlier try, and wait for it.

        :return: The output URLs; the taskId if ``wait_for_completion`` is False.
        :raises SeedanceError: any row of the error table.
        """
        from seedance_provider.submission import SubmissionStore

        remembers = SubmissionStore(context, durable=self.durable).is_available
        if self.retries and self.wait_for_completion and not remembers:
            self.log.warning(
                "retries=%s, but nothing here remembers the task over a retry (that takes Airflow 3.3 and "
                "durable=True): a retry after the submission would buy a second video. Use retries=0, or "
                "SeedanceCreateTaskOperator and SeedanceTaskSensor",
                self.retries,
            )
        return self._generate(context, {})

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str] | str:
        """Take a trigger's event: a slot to submit into, or the end of the task.

        :param event: The payload of a :class:`~seedance_provider.events.TaskEvent`.
        :return: The output URLs; the taskId if ``wait_for_completion`` is False.
        :raises SeedanceError: what the wait ended with.
        """
        from seedance_provider import waiting
        from seedance_provider.events import TaskEvent

        read = TaskEvent.from_json(event)
        if read.status == "slot":
            return self._generate(context, read.carry)
        try:
            with self._noting_the_end(context, read.seedance_task_id):
                return waiting.finish(waiting.outcome(event), self, context, self.log)
        except SeedanceTaskFailedError as failure:
            self._raise_unless_resubmitted(failure, read.carry)
        hook = self._hook()
        return self._follow(context, hook, self._submit(context, hook, read.carry), read.carry)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, also after one that Airflow itself ended.

        :param next_method: ``execute_complete``, or Airflow's word for a deferral without an event.
        :param next_kwargs: The event, or why there is none.
        :param context: The context.
        :return: What :meth:`execute_complete` returns.
        """
        if next_method != "execute_complete":
            # What Airflow raises now names neither the task nor the way on.
            from seedance_provider.submission import SubmissionStore
            from seedance_provider.waiting import goes_on

            saved = SubmissionStore(context, durable=self.durable).load()
            self.log.error(
                "The triggerer stopped waiting before an end (%s). %s",
                (next_kwargs or {}).get("error", "no reason given"),
                goes_on(saved.seedance_task_id)
                if saved is not None and saved.seedance_task_id is not None
                else "If a task was created, its id is above: wait for it with SeedanceTaskSensor",
            )
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Say what it means for the video that the task instance is stopped while it waits on the worker."""
        from seedance_provider.waiting import goes_on

        if self._waiting_for is not None:
            self.log.warning(goes_on(self._waiting_for))

    def _generate(self, context: Context, carry: dict[str, Any]) -> list[str] | str:
        hook = self._hook()
        submission, is_earlier = self._obtain_task(context, hook, carry)
        if not self.wait_for_completion:
            assert submission.seedance_task_id is not None  # noqa: S101 - an obtained task has an id
            return submission.seedance_task_id
        return self._follow(context, hook, submission, carry, is_earlier=is_earlier)

    def _follow(
        self,
        context: Context,
        hook: SeedanceHook,
        submission: Submission,
        carry: dict[str, Any],
        *,
        is_earlier: bool = False,
    ) -> list[str]:
        """Wait for a task, and for those that replace it if it fails for a reason that passes."""
        while True:
            try:
                return self._wait(context, hook, submission, carry)
            except SeedanceTaskFailedError as failure:
                # Of an earlier try's task, the retry itself, which the DAG author granted, is the permission.
                if not (is_earlier and _may_help(failure)):
                    self._raise_unless_resubmitted(failure, carry)
            submission, is_earlier = self._submit(context, hook, carry), False

    def _raise_unless_resubmitted(self, failure: SeedanceTaskFailedError, carry: dict[str, Any]) -> None:
        done = carry.get("resubmitted", 0)
        if done >= self.resubmits or not _may_help(failure):
            raise failure
        carry["resubmitted"] = done + 1
        self.log.warning(
            "Task %s failed for a reason that passes: %s. Creating it anew, %d of %d resubmits",
            failure.seedance_task_id,
            failure.message,
            done + 1,
            self.resubmits,
        )

    def _wait(self, context: Context, hook: SeedanceHook, submission: Submission, carry: dict[str, Any]) -> list[str]:
        from seedance_provider import waiting

        assert submission.seedance_task_id is not None  # noqa: S101 - an obtained task has an id
        self._waiting_for = submission.seedance_task_id
        submitted_at = submission.submitted_at or time.time()
        timeout = self.timeout or default_wait_timeout()
        wait = waiting.Wait(
            seedance_task_id=submission.seedance_task_id,
            poll_interval=self.poll_interval or default_poll_interval(),
            started_at=submitted_at,
            # A retry that continues with a task waits its full time again, like any other waiting of a new try.
            timeout=timeout + max(time.time() - submitted_at, 0),
        )
        status = None
        # One just created need not be looked at.
        if not self.deferrable or time.time() - submitted_at >= 1:
            try:
                with self._noting_the_end(context, submission.seedance_task_id):
                    record = wait.look(hook, self.log) if self.deferrable else hook.run(wait.flow(self.log))
                    return waiting.finish(record, self, context, self.log)
            except waiting.Paused as paused:
                status = paused.pause.status
        return wait.defer(self, self.seedance_conn_id, status, carry)

    @property
    def _follows_task(self) -> bool:
        return self.wait_for_completion

    @contextmanager
    def _noting_the_end(self, context: Context, seedance_task_id: str) -> Iterator[None]:
        """Remember that a wait came to its end; say, where it broke off, how to get the video all the same."""
        from seedance_provider.metrics import reporting_failures
        from seedance_provider.submission import SubmissionStore

        store = SubmissionStore(context, durable=self.durable)
        try:
            with reporting_failures():
                yield
        except SeedanceOutputMissingError:
            self._tell_how_to_go_on(store, seedance_task_id)
            raise
        except (SeedanceTaskFailedError, SeedanceTaskNotFoundError):
            store.save_end(seedance_task_id)
            raise
        except SeedanceError:
            self._tell_how_to_go_on(store, seedance_task_id)
            raise
        store.save_end(seedance_task_id)

    def _tell_how_to_go_on(self, store: SubmissionStore, seedance_task_id: str) -> None:
        from seedance_provider.waiting import goes_on

        if not seedance_task_id:  # it was a slot that was waited for
            return
        clear = "not a clear, which buys another"
        if store.is_available:
            clear = "clear this task, which keeps the video (other inputs, or durable=False, make another)"
        self.log.warning("%s, or %s", goes_on(seedance_task_id), clear)


def _may_have_bought(error: SeedanceError) -> bool:
    """Whether a createTask that ended in this error may have started a task all the same."""
    if isinstance(error, SeedanceTransportError):
        return error.request_sent
    return isinstance(error, (SeedanceServerError, SeedanceSubmitUncertainError))


def _may_help(failure: SeedanceTaskFailedError) -> bool:
    from seedance_provider.api.failures import may_resubmit_help

    return (
        failure.record is not None and failure.record.failure is not None and may_resubmit_help(failure.record.failure)
    )


def parse_inputs(inputs: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """Read the inputs of an operator after rendering: a mapping, or the text of a JSON object.

    :raises SeedanceInvalidRequestError: for anything else.
    """
    if not isinstance(inputs, str):
        return inputs
    try:
        parsed = json.loads(inputs)
    except ValueError as error:
        raise SeedanceInvalidRequestError(
            f"inputs is a text but not JSON ({error}): give a dict, or a .json file that holds an object"
        ) from error
    if not isinstance(parsed, dict):
        raise SeedanceInvalidRequestError(f"inputs is JSON but not an object ({inputs:.100}): give an object")
    return parsed
