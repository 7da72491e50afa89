"""What an operator, the sensor and the hook fall back on: the ``[seedance]`` section of Airflow's configuration.

Imported wherever a DAG file is parsed, so it imports next to nothing.
"""

from __future__ import annotations

import math
from typing import Any

from seedance_provider.api import policy
from seedance_provider.api.policy import SubmitPolicy
from seedance_provider.exceptions import SeedanceConfigurationError

CONN_TYPE = "seedance"
DEFAULT_CONN_ID = "seedance_default"
CONFIG_SECTION = "seedance"


def parse_submit_policy(value: Any, where: str) -> SubmitPolicy:
    """Check a submit policy.

    :param value: ``vendor`` or ``safe``.
    :param where: Where the value stands, for the message.
    :raises SeedanceConfigurationError: for anything else.
    """
    try:
        return SubmitPolicy(value)
    except ValueError:
        raise SeedanceConfigurationError(f"{where} is {value!r}: say 'vendor' or 'safe'") from None


def default_submit_policy() -> SubmitPolicy:
    """The ``[seedance] submit_policy`` of Airflow's configuration, ``vendor`` unless set."""
    from airflow.providers.common.compat.sdk import conf

    value = conf.get(CONFIG_SECTION, "submit_policy", fallback=None) or policy.DEFAULT_SUBMIT_POLICY.value
    return parse_submit_policy(value, f"[{CONFIG_SECTION}] submit_policy of Airflow's configuration")


def default_wait_timeout() -> float:
    """The ``[seedance] timeout`` of Airflow's configuration in seconds, 1800 unless set."""
    return _configured_seconds("timeout") or policy.DEFAULT_WAIT_TIMEOUT


def default_poll_interval() -> float | None:
    """The ``[seedance] poll_interval`` of Airflow's configuration in seconds; None (adaptive) unless set."""
    return _configured_seconds("poll_interval")


def _configured_seconds(option: str) -> float | None:
    from airflow.providers.common.compat.sdk import conf

    value = conf.get(CONFIG_SECTION, option, fallback=None)
    return positive_number(value, f"[{CONFIG_SECTION}] {option} of Airflow's configuration")


def positive_number(value: Any, where: str) -> float | None:
    """Check a number that came as text or JSON.

    :param value: The number; None or an empty text for none.
    :param where: Where it stands, for the message.
    :return: The number; None if there is none.
    :raises SeedanceConfigurationError: unless it is finite and above 0.
    """
    if value in (None, ""):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise SeedanceConfigurationError(f"{where} is {value!r}: give a number above 0, or leave it empty")
    return number
