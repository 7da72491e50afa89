"""The operators: what creates a Seedance task, and so spends money."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from seedance_provider.config import DEFAULT_CONN_ID, parse_submit_policy
from seedance_provider.exceptions import SeedanceInvalidRequestError

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

XCOM_TASK_ID_KEY = "seedance_task_id"


class SeedanceCreateTaskOperator(BaseOperator):
    """Creates a Seedance task and returns its taskId, also under the XCom key ``seedance_task_id``.

    Each run that the API accepts costs credits at once; a task cannot be cancelled, listed or deduplicated. Wait for
    it with :class:`~seedance_provider.sensors.seedance.SeedanceTaskSensor`.

    :param model: The model id. Default ``seedance-20``. (templated)
    :param inputs: The model's inputs, such as ``{"prompt": "A sunset", "duration": 5}``; or the path of a ``.json``
        file with them, looked up like a template file. (templated)
    :param callback_url: Where the vendor posts the outcome. Default: nowhere. (templated)
    :param seedance_conn_id: The Airflow connection. Default ``seedance_default``. (templated)
    :param submit_policy: ``vendor``: send a createTask of unknown fate again, which may buy a second video; ``safe``:
        fail and let a person look. Default: what the connection says, else Airflow's ``[seedance] submit_policy``,
        else ``vendor``.
    """

    template_fields: Sequence[str] = ("model", "inputs", "callback_url", "seedance_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json"}
    template_ext: Sequence[str] = (".json",)
    ui_color = "#d6cdf5"

    def __init__(
        self,
        *,
        inputs: Mapping[str, Any] | str,
        model: str = "seedance-20",
        callback_url: str | None = None,
        seedance_conn_id: str = DEFAULT_CONN_ID,
        submit_policy: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.inputs = inputs
        self.callback_url = callback_url
        self.seedance_conn_id = seedance_conn_id
        self.submit_policy = submit_policy
        if submit_policy is not None:
            parse_submit_policy(submit_policy, "submit_policy")

    def execute(self, context: Context) -> str:
        """Create the task.

        :return: The taskId.
        :raises SeedanceError: any row of the error table.
        """
        from seedance_provider.hooks.seedance import SeedanceHook

        hook = SeedanceHook(self.seedance_conn_id, submit_policy=self.submit_policy)
        seedance_task_id = hook.create_task(self.model, parse_inputs(self.inputs), callback_url=self.callback_url)
        if self.do_xcom_push:
            context["ti"].xcom_push(key=XCOM_TASK_ID_KEY, value=seedance_task_id)
        self.log.info("Created task %s with model %s on %s", seedance_task_id, self.model, hook.settings.base_url)
        return seedance_task_id

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
