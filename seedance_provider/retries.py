"""A retry policy for tasks that use Seedance. Airflow 3.3 and later."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from seedance_provider import defaults
from seedance_provider.api.schedule import backoff
from seedance_provider.exceptions import SeedanceError

try:
    from airflow.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError(
        "SeedanceRetryPolicy needs Airflow 3.3 or later: older versions have no retry policies. Use retries and "
        "retry_delay there",
        name=__name__,
    ) from error

if TYPE_CHECKING:
    from typing import Self

    from airflow.providers.common.compat.sdk import Context

_MAX_REASON = 400
"""Airflow cuts a reason after 500 characters, the task's id at its end included."""


class SeedanceRetryPolicy(RetryPolicy):
    """Retries transient errors of Seedance sooner than ``retry_delay``, and says why in the UI.

    The delay carries on with the vendor's backoff where the three attempts inside a try have left it: about 4 s, 32 s,
    then 60 s; longer where the vendor asks for it. ``retries`` stays the limit. What a retry cannot help fails at once,
    with or without this policy. Errors of others are left to ``retry_delay``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide about a failed try.

        :param exception: What the try raised.
        :param try_number: Its number, from 1.
        :param max_tries: The last try that is retried.
        :param context: Not used.
        :return: The decision, with a reason that ends in the task's id if it is known.
        """
        if not isinstance(exception, SeedanceError):
            return RetryDecision.default()
        about = f" (task {exception.seedance_task_id})" if exception.seedance_task_id else ""
        text = str(exception).removesuffix(about)[:_MAX_REASON]
        if not exception.retryable:
            return RetryDecision.fail(f"{text}{about}")
        if try_number > max_tries:
            return RetryDecision.default()  # there is no further try to speak of
        delay = backoff(defaults.ATTEMPTS * try_number, random.random())
        delay = max(delay, getattr(exception, "retry_after", None) or 0.0)
        return RetryDecision.retry(timedelta(seconds=delay), f"{text}; next try in {delay:.0f} s{about}")

    def serialize(self) -> dict[str, Any]:
        """The policy as JSON values: it has no settings."""
        return {"__type": type(self).__name__}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        """Rebuild the policy from :meth:`serialize`."""
        return cls()
