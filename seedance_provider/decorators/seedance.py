"""``@task.seedance``: a function writes the prompt, and its task makes the video."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, overload

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)

from seedance_provider import labels
from seedance_provider.api import validation
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceInvalidRequestError
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.bases.decorator import Task

    from seedance_provider.api.records import TaskRecord
    from seedance_provider.events import ResumeState
    from seedance_provider.execution.job import Job
    from seedance_provider.execution.submit import Submission

Parameters = ParamSpec("Parameters")
Written = TypeVar("Written", bound=str | Mapping[str, Any])


class _SeedanceDecoratedOperator(DecoratedOperator, SeedanceGenerateVideoOperator):
    """Generates the video that a function describes.

    The function is called when a task is about to be submitted, once for each: not after a deferral, and not by a retry
    that continues with the task of an earlier try. A function that asks a language model, or chance, would otherwise
    want another video each time.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *SeedanceGenerateVideoOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **SeedanceGenerateVideoOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.seedance"
    if not hasattr(SeedanceGenerateVideoOperator, "xcom_push"):
        xcom_push = None  # Airflow 3.0 hands it on at the end of execute, to nobody, and its operators have none
    _written: dict[str, Any] | None = None
    """The inputs that the function wrote; they take the place of ``inputs`` for the UI's rendered templates."""
    _given: Mapping[str, Any] | str = {}
    """What ``inputs`` was before."""

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | str | None = None,
        multiple_outputs: bool = False,
        **kwargs: Any,
    ) -> None:
        if multiple_outputs:
            raise SeedanceConfigurationError("multiple_outputs=True: @task.seedance returns one list, remove it")
        if inspect.iscoroutinefunction(python_callable):
            raise SeedanceConfigurationError(
                f"{python_callable.__name__}() is async: @task.seedance needs a plain function, which may call "
                "asyncio.run()"
            )
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            inputs="",  # what is written out here is a part of them, and a text is not checked before it is rendered
            **kwargs,
        )
        self.inputs = {} if inputs is None else inputs

    def _job(self, context: Context, state: ResumeState | None = None, *, follows: bool = False) -> Job:
        job = super()._job(context, state, follows=follows)
        if self.inputs is not self._written:
            self._given = self.inputs
        # A retry wants the same video as long as it was asked in the same way, whatever the function would say now.
        job.raw_inputs = {"inputs": self._given, "op_args": self.op_args, "op_kwargs": self.op_kwargs}
        job.write_inputs = partial(self._write_inputs, job)
        if job.state.inputs is not None:
            self.inputs = self._written = job.state.inputs
        return job

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a template, but not what the function wrote: Airflow 2.11's ``dag.test()`` resumes with one object."""
        if content is self._written:
            return content
        return super().render_template(content, context, jinja_env, seen_oids)

    @property
    def shown_as(self) -> str:
        """What a mapped task instance is called in the UI: its prompt, until there is one its arguments."""
        texts = (value for value in (*self.op_args, *self.op_kwargs.values()) if isinstance(value, str))
        return super().shown_as or labels.first_words(", ".join(texts))

    def _write_inputs(self, job: Job) -> dict[str, Any]:
        """Call the function.

        :param job: What is wanted.
        :return: The inputs as JSON values.
        :raises SeedanceInvalidRequestError: if the function returned none.
        """
        from seedance_provider.execution.job import parse_inputs
        from seedance_provider.execution.submit import XCOM_INPUTS_KEY

        asked = determine_kwargs(self.python_callable, self.op_args, job.context)
        written = self.python_callable(*self.op_args, **{**asked, **self.op_kwargs})
        if isinstance(written, str) and written.strip():
            written = {"prompt": written}
        if not isinstance(written, Mapping):
            returned = "an empty string" if isinstance(written, str) else f"{written!r:.100}"
            raise SeedanceInvalidRequestError(
                f"{self.python_callable.__name__}() returned {returned}: it must return a prompt (a string) or the "
                "inputs (a dict). Raise AirflowSkipException where no video is wanted. No request was sent"
            )
        inputs = validation.normalise({**parse_inputs(self._given), **written})
        for name in validation.MEDIA_FIELDS:
            if isinstance(inputs.get(name), list):
                inputs[name] = [str(item) if validation.is_local_media(item) else item for item in inputs[name]]
        if problems := validation.unsendable(inputs):  # nor could it cross a deferral, whatever validation says
            raise SeedanceInvalidRequestError(
                f"{self.python_callable.__name__}() returned what JSON cannot carry: {validation.describe(problems)} "
                "No request was sent",
                errors=[{"path": problem.path, "message": problem.message} for problem in problems],
            )
        self.inputs = self._written = inputs
        labels.offer(job.context)
        job.push(XCOM_INPUTS_KEY, inputs)
        return inputs

    def _follow(self, job: Job, submission: Submission) -> list[str]:
        if submission.is_earlier and not job.has_inputs:
            self.log.info("%s() is not called: its video was submitted before", self.python_callable.__name__)
        return super()._follow(job, submission)

    def _finish(self, job: Job, record: TaskRecord) -> list[str]:
        # Only of a success: Airflow 3.0 stumbles over it where a try that failed is to be retried.
        self.overwrite_rtif_after_execution = True
        return super()._finish(job, record)


@overload
def seedance_task(python_callable: Callable[Parameters, Written]) -> Task[Parameters, Written]: ...
@overload
def seedance_task(
    *, inputs: Mapping[str, Any] | str | None = None, **kwargs: Any
) -> Callable[[Callable[Parameters, Written]], Task[Parameters, Written]]: ...
def seedance_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Make a task of a function that returns a prompt, or the inputs: ``@task.seedance`` in a DAG.

    The task generates the video, which is charged, and returns what
    :class:`~seedance_provider.operators.seedance.SeedanceGenerateVideoOperator` returns: the output URLs. It takes all
    parameters of that operator. The function's arguments are templated; what it returns is sent as it is.

    The function is called when a task is about to be submitted. A retry that continues with the task of an earlier try
    (Airflow 3.3 and later, or with a ledger) does not call it again, so that a prompt of a language model's is charged
    once; with other arguments it does. What was sent is in the XCom ``seedance_inputs``, and in the rendered templates
    after a success.

    :param python_callable: The function. It returns a prompt (a string) or inputs (a mapping); it may take Airflow's
        context variables by name, and raise ``AirflowSkipException`` where no video is wanted.
    :param inputs: The other inputs, such as ``{"duration": 5, "outputResolution": "720p"}``; a mapping, or the path of
        a ``.json`` file. What the function returns takes precedence. Default: none. (templated)
    :param kwargs: Parameters of the operator, such as ``model`` and ``max_credits``, and of any Airflow task.
    :return: The decorated function, with ``expand``, ``partial`` and ``override``.
    :raises SeedanceConfigurationError: for ``multiple_outputs=True``, and for an ``async`` function.
    """
    # Else a function annotated with "-> dict" would have several outputs.
    kwargs.setdefault("multiple_outputs", False)
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_SeedanceDecoratedOperator, **kwargs
    )
