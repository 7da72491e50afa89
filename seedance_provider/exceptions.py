"""The errors of this provider: what went wrong, and whether Airflow should try again.

A class that also derives from :class:`AirflowFailException` fails the task at once, without burning a retry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from seedance_provider.api.models import TaskRecord


class SeedanceError(AirflowException):
    """Base of every error this provider raises for the Seedance API.

    :param text: What happened and what to do next, for people; never holds the API key.
    :param status_code: HTTP status of the answer, or the status an error envelope named; None if there was none.
    :param message: The vendor's own words. Default: ``text``.
    :param seedance_task_id: The task this is about, when known.
    """

    # AirflowException says 500 for every error it is the base of; an unknown status must not look like one.
    status_code: int | None = None  # type: ignore[assignment]

    def __init__(
        self,
        text: str = "",
        *,
        status_code: int | None = None,
        message: str | None = None,
        seedance_task_id: str | None = None,
    ) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.message = text if message is None else message
        self.seedance_task_id = seedance_task_id


class SeedanceConfigurationError(SeedanceError, AirflowFailException, ValueError):
    """The Airflow connection or a parameter cannot be used; the text names the field and the fix."""


class SeedanceInvalidRequestError(SeedanceError, AirflowFailException):
    """The request was refused as it stands (400, 422, other 4xx, 3xx); sending it again cannot help.

    :param errors: The problems found, each a dict with ``path`` (such as ``imageUrls[9]``) and ``message``.
    """

    def __init__(self, text: str = "", *, errors: Sequence[dict[str, str]] = (), **details: Any) -> None:
        super().__init__(text, **details)
        self.errors = list(errors)


class SeedanceAuthenticationError(SeedanceError, AirflowFailException):
    """The API key is missing, wrong, inactive or expired (401)."""


class SeedanceInsufficientCreditsError(SeedanceError, AirflowFailException):
    """The account cannot pay for the task (402); nothing was charged.

    :param required: Credits the task needs, if the vendor said so.
    :param available: Credits the account has, if the vendor said so.
    """

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


class SeedanceTaskNotFoundError(SeedanceError, AirflowFailException):
    """The API does not know the task, or not this path (404)."""


class SeedanceConcurrencyLimitError(SeedanceError):
    """No free slot or too many requests (429); nothing was queued and nothing charged.

    :param limit: How many tasks the account may run at once, if the vendor said so.
    :param current: How many it runs now, if the vendor said so.
    :param retry_after: Seconds the vendor asks to wait, if it said so.
    """

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

    :param retry_after: Seconds the answer asks to wait, if it said so.
    """

    def __init__(self, text: str = "", *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(text, **details)
        self.retry_after = retry_after


class SeedanceTransportError(SeedanceError):
    """No answer: a timeout, a reset, DNS or TLS.

    :param request_sent: False if the request certainly never reached the server. Default True: it may have.
    """

    def __init__(self, text: str = "", *, request_sent: bool = True, **details: Any) -> None:
        super().__init__(text, **details)
        self.request_sent = request_sent


class SeedanceSubmitUncertainError(SeedanceError, AirflowFailException):
    """A createTask whose fate is unknown: a video may have been bought. A person must look."""


class SeedanceTaskFailedError(SeedanceError, AirflowFailException):
    """The generation ended as ``fail``; the same task never recovers. The vendor refunds failed tasks.

    :param code: The vendor's code as a string, if it gave one (contract 4.5).
    :param record: The normalised task record.
    """

    def __init__(
        self, text: str = "", *, code: str | None = None, record: TaskRecord | None = None, **details: Any
    ) -> None:
        super().__init__(text, **details)
        self.code = code
        self.record = record


class SeedanceOutputMissingError(SeedanceTaskFailedError):
    """The task says ``success`` but lists no usable URL, and went on doing so through the grace period."""


class SeedanceTaskTimeoutError(SeedanceError, AirflowSensorTimeout):
    """The deadline passed while the task was still running: not failed, and billed when it ends."""
