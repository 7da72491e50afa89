"""A notifier that puts the failure of a Seedance task into words, for other notifiers to send."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from seedance_provider import exceptions
from seedance_provider.exceptions import SeedanceError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from seedance_provider.exceptions import Charged

CONTEXT_KEY = "seedance"

_ADVICE: dict[type[SeedanceError], str] = {
    exceptions.SeedanceConfigurationError: "Fix what the message names, then clear the task",
    exceptions.SeedanceInvalidRequestError: "Change the inputs, then clear the task",
    exceptions.SeedanceBudgetExceededError: "Raise the ceiling or choose a cheaper model, then clear the task",
    exceptions.SeedanceAuthenticationError: "Fix 'API key' of the connection, then clear the task",
    exceptions.SeedanceInsufficientCreditsError: "Add credits to the account, then clear the task",
    exceptions.SeedancePermissionError: "Ask the vendor's support for API access",
    exceptions.SeedanceTaskNotFoundError: "Check the id and the connection's base URL",
    exceptions.SeedanceConcurrencyLimitError: "Start fewer videos at once, then clear the task",
    exceptions.SeedanceServerError: "Clear the task when the service has recovered",
    exceptions.SeedanceTransportError: "Check network and proxy, then clear the task",
    exceptions.SeedanceTransferRefusedError: "Store it with SeedanceToObjectStorageOperator(seedance_task_id=...)",
    exceptions.SeedanceTransferError: "Check the store and its connection, then clear the task",
    exceptions.SeedanceTaskFailedError: "Change the prompt or the media, then clear the task",
}
_READ_THE_LOG = "Read the task's log"


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failure; ``{{ seedance }}`` in the templates of other notifiers.

    :param text: All of it in one paragraph, but for the address of the log.
    :param type: The class of the error, such as ``SeedanceTaskFailedError``; empty if Airflow did not tell.
    :param message: What happened, in the vendor's words where there are any.
    :param what_to_do: The next step.
    :param charged: Whether a video is charged: ``no``, ``unknown`` or ``yes``.
    :param seedance_task_id: The vendor's task, if known.
    :param status_code: HTTP status of the answer, if there was one.
    :param code: The vendor's code of a failed generation, if it gave one.
    :param dag_id: The task instance that failed: its DAG.
    :param run_id: Its run.
    :param task_id: Its task.
    :param map_index: Its map index; -1 if it is not mapped.
    :param try_number: Its try.
    :param log_url: Where its log is.
    """

    text: str = "A task failed. Read its log"
    type: str = ""
    message: str = ""
    what_to_do: str = _READ_THE_LOG
    charged: Charged = "unknown"
    seedance_task_id: str | None = None
    status_code: int | None = None
    code: str | None = None
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 1
    log_url: str = ""

    def __str__(self) -> str:
        return self.text


class SeedanceNotifier(BaseNotifier):
    """Says what failed, what to do, and whether money is at stake. For ``on_failure_callback``.

    It puts a :class:`Failure` into the context and hands it to other notifiers, whose templates read it::

        SeedanceNotifier([SlackNotifier(text="{{ seedance.text }} {{ seedance.log_url }}")])

    Never raises, so the callbacks after it run. Costs no request and no credits; one or two reads of XCom where Airflow
    did not tell the exception.

    :param notifiers: Other notifiers, or callables that take the context. Default: none.
        The text goes to the log in any case.
    """

    def __init__(self, notifiers: Sequence[Callable[[Context], Any]] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notifiers = list(notifiers)

    def notify(self, context: Context) -> None:
        """Tell of a failure.

        :param context: The context of the failed task instance.
        """
        try:
            failure = describe(context)
        except Exception:
            self.log.exception("The failure could not be described")
            failure = Failure()
        context[CONTEXT_KEY] = failure  # type: ignore[literal-required]
        self.log.error("%s", failure.text)
        for notifier in self.notifiers:
            try:
                # A notifier renders its templates in place, once for ever; mapped tasks share it.
                copy.copy(notifier)(context)
            except Exception:
                self.log.exception("%s failed", type(notifier).__name__)


def describe(context: Context) -> Failure:
    """Put together what is known of a failure.

    :param context: The context of a failed task instance, or of a failed DAG run.
    :return: The failure; what is not known has its default.
    """
    ti: Any = context.get("ti")
    error = context.get("exception")
    where = {
        "dag_id": getattr(ti or context.get("dag"), "dag_id", ""),
        "run_id": getattr(ti or context.get("dag_run"), "run_id", "") or context.get("run_id", ""),
        "task_id": getattr(ti, "task_id", ""),
        "map_index": _map_index(ti),
        "try_number": getattr(ti, "try_number", None) or 1,
        "log_url": getattr(ti, "log_url", None) or "",
    }
    # What only a failure needs is not imported where a DAG file is parsed.
    from seedance_provider.execution.results import XCOM_ERROR_KEY, summary, told
    from seedance_provider.execution.submit import XCOM_TASK_ID_KEY

    if isinstance(error, SeedanceError):
        about = summary(error)
    elif isinstance(error, BaseException):
        about = {}
    else:  # Airflow 3.0, and dag.test() up to 3.2, do not tell a callback
        about = _pulled(ti, XCOM_ERROR_KEY)
        about = about if isinstance(about, dict) else {}
    if not about:
        seedance_task_id = _pulled(ti, XCOM_TASK_ID_KEY)
        about = {
            "type": type(error).__name__ if isinstance(error, BaseException) else "",
            "message": "" if error is None else str(error),
            "seedance_task_id": seedance_task_id,
            "charged": "yes" if seedance_task_id else "no" if _cannot_submit(context) else "unknown",
        }
    # XCom can be edited: what is not plain is not taken.
    known = {name: about[name] for name in Failure.__dataclass_fields__ if isinstance(about.get(name), (str, int))}
    failure = Failure(**(known | where | {"what_to_do": _advice(known)}))
    text = known.get("text")
    if not text:
        happened = ": ".join(map(str, filter(None, (failure.type, failure.message)))) or "Airflow does not tell why"
        said = f"{happened.rstrip('.')}. {failure.what_to_do}"
        text = told("", said, failure.charged, failure.seedance_task_id)
    return replace(failure, text=f"{_where(failure)} failed in run {failure.run_id}. {text}")


def _where(failure: Failure) -> str:
    index = f"[{failure.map_index}]" if failure.map_index >= 0 else ""
    return ".".join(filter(None, (failure.dag_id, failure.task_id))) + index


def next_step(lineage: Iterable[type]) -> str | None:
    """The next step after an error; that of the nearest class counts.

    :param lineage: The class of the error and its bases, in that order.
    """
    return next((_ADVICE[each] for each in lineage if each in _ADVICE), None)


def _advice(known: dict[str, Any]) -> str:
    from seedance_provider.api.errors import CHECK_MANUALLY  # as in describe
    from seedance_provider.api.flows import collect_with

    kind = getattr(exceptions, str(known.get("type")), None)
    lineage = kind.__mro__ if isinstance(kind, type) else ()
    seedance_task_id, charged = known.get("seedance_task_id"), known.get("charged")
    if seedance_task_id and (charged == "yes" or exceptions.SeedanceTaskTimeoutError in lineage):
        return f"Collect the video with {collect_with(seedance_task_id)}"
    if lineage and charged == "unknown" and not seedance_task_id:
        return CHECK_MANUALLY
    return next_step(lineage) or _READ_THE_LOG


def _cannot_submit(context: Context) -> bool:
    """Whether the task is known, mapped or not, and sends no createTask: all that do have this template field."""
    task = context.get("task")
    return task is not None and "idempotency_key" not in task.template_fields


def _map_index(ti: Any) -> int:
    return -1 if getattr(ti, "map_index", None) is None else ti.map_index


def _pulled(ti: Any, key: str) -> Any:
    try:
        return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=_map_index(ti))
    except Exception:  # noqa: BLE001 - without XCom less is known, which is said; the callback must go on
        return None
