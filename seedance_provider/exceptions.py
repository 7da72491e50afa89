"""The errors of this provider: what went wrong, whether Airflow should try again, and whether money is at stake.

A class that also derives from :class:`AirflowFailException` fails the task at once, without using a retry. Each class
carries its own rules, and writes itself to and from the form that crosses a deferral.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)

if TYPE_CHECKING:
    from typing import Self

Charged: TypeAlias = Literal["no", "unknown", "yes"]


class FailedRecord(Protocol):
    """What an error holds of a task: a :class:`~seedance_provider.api.records.TaskRecord`."""

    @property
    def seedance_task_id(self) -> str:
        """The task's id."""

    @property
    def status(self) -> str:
        """What the task is doing."""

    @property
    def model(self) -> str | None:
        """The model that the API names."""

    @property
    def urls(self) -> list[str]:
        """The URLs of its outputs."""

    @property
    def credits_used(self) -> Decimal | None:
        """Credits reserved or charged, if known."""

    @property
    def failure(self) -> Any:
        """Why it failed: ``code`` and ``message``."""

    @property
    def generation_seconds(self) -> float | None:
        """Seconds from creation to completion, if known."""

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """The record as JSON values."""


class SeedanceError(AirflowException):
    """Base of every error that this provider raises for the Seedance API.

    :param text: What happened and what to do next, for people; never holds the API key.
    :param status_code: HTTP status of the answer, or the status that an error envelope named; None if there was none.
    :param message: The vendor's own words. Default: ``text``.
    :param seedance_task_id: The task that this is about, when known.
    :param charged: Whether a createTask or a task that this is about is charged: ``no``, ``unknown`` or ``yes``.
        Default: what the class says.
    """

    # AirflowException says 500 for every error that it is the base of; an unknown status must not look like one.
    status_code: int | None = None  # type: ignore[assignment]
    charged: Charged = "unknown"
    transient: bool = False
    """Whether a GET may be sent again after it: nothing was lost, and the next answer may be better."""
    denial: bool = False
    """Whether it denies access to a task or its existence: believed of a task seen alive only when it persists."""

    def __init__(
        self,
        text: str = "",
        *,
        status_code: int | None = None,
        message: str | None = None,
        seedance_task_id: str | None = None,
        charged: Charged | None = None,
    ) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.message = text if message is None else message
        self.seedance_task_id = seedance_task_id
        self.charged = type(self).charged if charged is None else charged
        self.denial = type(self).denial

    @property
    def retryable(self) -> bool:
        """Whether Airflow retries the task that raises this, if it has retries left."""
        return not isinstance(self, (AirflowFailException, AirflowSensorTimeout))

    def retold(self, text: str, **details: Any) -> Self:
        """The same error with another text.

        :param text: What happened and what to do next.
        :param details: Members that change, such as ``charged``.
        """
        error = type(self)(text)
        vars(error).update(vars(self) | details)
        return error

    def to_json(self) -> dict[str, Any]:
        """The error as JSON values: its class, its text and what it carries."""
        return {
            "type": type(self).__name__,
            "text": str(self),
            "details": {name: _plain(value) for name, value in vars(self).items()},
        }


def error_from_json(payload: Mapping[str, Any], read_record: Callable[[Any], FailedRecord]) -> SeedanceError:
    """Rebuild an error from :meth:`SeedanceError.to_json`.

    :param payload: The JSON values.
    :param read_record: Reads a record from its JSON values; may raise ValueError.
    :return: An error of the same class with the same details; a plain SeedanceError for an unknown class.
    """
    kind = globals().get(str(payload.get("type")))
    if not (isinstance(kind, type) and issubclass(kind, SeedanceError)):
        kind = SeedanceError
    error = kind(str(payload.get("text", "")))
    details = payload.get("details")
    for name, value in details.items() if isinstance(details, Mapping) else ():
        if name in vars(error):
            # What cannot be read stays unknown: the error itself is what matters.
            with contextlib.suppress(TypeError, ValueError, ArithmeticError):
                setattr(error, name, _rich(name, value, read_record))
    return error


_DECIMALS = frozenset({"required", "available", "low", "high", "limit_credits", "spent"})


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _rich(name: str, value: Any, read_record: Callable[[Any], FailedRecord]) -> Any:
    if value is None:
        return None
    if name == "record":
        return read_record(value)
    return Decimal(value) if name in _DECIMALS else value


class SeedanceConfigurationError(SeedanceError, AirflowFailException, ValueError):
    """The Airflow connection, the configuration or an argument cannot be used; the text names the field and the fix."""

    charged = "no"


class SeedanceInvalidRequestError(SeedanceError, AirflowFailException):
    """The request was refused as it stands (400, 422, other 4xx, 3xx); sending it again cannot help.

    :param errors: The problems found, each a dict with ``path`` (such as ``imageUrls[9]``) and ``message``.
    """

    charged = "no"

    def __init__(self, text: str = "", *, errors: Sequence[dict[str, str]] = (), **details: Any) -> None:
        super().__init__(text, **details)
        self.errors = list(errors)


class Problem(Protocol):
    """Something wrong with the inputs: a :class:`~seedance_provider.api.validation.Problem`."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def message(self) -> str:
        """What is wrong there."""


def invalid_inputs(task_id: str, problems: Sequence[Problem], described: str) -> SeedanceInvalidRequestError:
    """The error of inputs that are not sent.

    :param task_id: The Airflow task.
    :param problems: What is wrong with them.
    :param described: The same in sentences.
    """
    return SeedanceInvalidRequestError(
        f"Invalid inputs of {task_id!r}: {described} No request was sent; validation='warn' would let the vendor "
        "decide",
        errors=[{"path": problem.path, "message": problem.message} for problem in problems],
    )


class CreditRange(NamedTuple):
    """Credits from ``low`` to ``high``."""

    low: Decimal
    high: Decimal


class SeedanceBudgetExceededError(SeedanceError, AirflowFailException):
    """The task would cost more than a ceiling allows, or its price is not known; no request was sent.

    :param estimate: What it would cost, anything with ``low`` and ``high``; None if that is not known.
    :param limit: The ceiling in credits.
    :param spent: What others have used of it, charged or reserved. Default 0.
    """

    charged = "no"

    def __init__(
        self,
        text: str = "",
        *,
        estimate: Any = None,
        limit: Decimal | None = None,
        spent: Decimal = Decimal(0),
        **details: Any,
    ) -> None:
        super().__init__(text, **details)
        self.low: Decimal | None = None if estimate is None else estimate.low
        self.high: Decimal | None = None if estimate is None else estimate.high
        self.limit_credits = limit  # "limit" counts slots in another class
        self.spent = spent

    @property
    def estimate(self) -> CreditRange | None:
        """What the task would cost; None if that is not known."""
        return None if self.low is None or self.high is None else CreditRange(self.low, self.high)

    @property
    def limit(self) -> Decimal | None:
        """The ceiling in credits."""
        return self.limit_credits


class SeedanceAuthenticationError(SeedanceError, AirflowFailException):
    """The API key is missing, wrong, inactive or expired (401)."""

    charged = "no"
    denial = True


class SeedanceInsufficientCreditsError(SeedanceError, AirflowFailException):
    """The account cannot pay for the task (402).

    :param required: Credits that the task needs, if the vendor said so.
    :param available: Credits that the account has, if the vendor said so.
    """

    charged = "no"

    def __init__(
        self,
        text: str = "",
        *,
        required: Decimal | None = None,
        available: Decimal | None = None,
        **details: Any,
    ) -> None:
        super().__init__(text, **details)
        self.required = required
        self.available = available


class SeedancePermissionError(SeedanceError, AirflowFailException):
    """The account may not do this (403), or the edge blocked a POST before it reached the API."""

    charged = "no"
    denial = True


class SeedanceTaskNotFoundError(SeedanceError, AirflowFailException):
    """The API does not know the task, or not this path (404)."""

    charged = "no"
    denial = True


class SeedanceConcurrencyLimitError(SeedanceError):
    """No free slot or too many requests (429); nothing was queued and nothing charged.

    :param limit: How many tasks the account may run at once, if the vendor said so.
    :param current: How many it runs now, if the vendor said so.
    :param retry_after: Seconds that the vendor asks to wait, if it said so.
    """

    charged: Charged = "no"
    transient = True

    def __init__(
        self,
        text: str = "",
        *,
        limit: int | None = None,
        current: int | None = None,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        super().__init__(text, **details)
        self.limit = limit
        self.current = current
        self.retry_after = retry_after


class SeedanceServerError(SeedanceError):
    """The server or the edge before it failed (5xx, an HTML page, an answer that cannot be read).

    :param retry_after: Seconds that the answer asks to wait, if it said so.
    """

    transient = True

    def __init__(self, text: str = "", *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(text, **details)
        self.retry_after = retry_after


class SeedanceTransportError(SeedanceError):
    """No answer: a timeout, a reset, DNS or TLS.

    :param request_sent: False if the request certainly never reached the server. Default True: it may have.
    """

    transient = True

    def __init__(self, text: str = "", *, request_sent: bool = True, **details: Any) -> None:
        super().__init__(text, **({"charged": "unknown" if request_sent else "no"} | details))
        self.request_sent = request_sent


class SeedanceSubmitUncertainError(SeedanceError, AirflowFailException):
    """A createTask whose outcome is unknown: a video may have been charged. Check manually before a clear."""


class SeedanceTaskFailedError(SeedanceError, AirflowFailException):
    """The generation ended as ``fail``; the same task never recovers. The vendor refunds failed tasks.

    :param code: The vendor's code as a string, if it gave one.
    :param record: The normalised task record.
    """

    charged: Charged = "no"

    def __init__(
        self, text: str = "", *, code: str | None = None, record: FailedRecord | None = None, **details: Any
    ) -> None:
        super().__init__(text, **details)
        self.code = code
        self.record = record


class SeedanceOutputMissingError(SeedanceTaskFailedError):
    """The task says ``success`` but lists no usable URL, and did so through the whole grace period."""

    charged = "yes"


class SeedanceTaskTimeoutError(SeedanceError, AirflowSensorTimeout):
    """The deadline passed while the task was still running: not failed, and billed when it ends."""

    charged = "yes"


class SeedanceTransferError(SeedanceError):
    """An output could not be stored. The video is charged already; storing it again is free.

    :param url: The output's URL without its query, which may be a signature.
    :param path: Where it was to be stored, if that was known.
    :param transient: Whether another attempt may help at once. Default: what the class says.
    """

    charged: Charged = "yes"
    transient = True

    def __init__(
        self,
        text: str = "",
        *,
        url: str | None = None,
        path: str | None = None,
        transient: bool | None = None,
        **details: Any,
    ) -> None:
        super().__init__(text, **details)
        self.url = url
        self.path = path
        self.transient = type(self).transient if transient is None else transient


class SeedanceTransferRefusedError(SeedanceTransferError, AirflowFailException):
    """No retry can store the output: its link is gone, another file is in its place, or a retry would submit again."""

    transient = False
