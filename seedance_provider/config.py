"""Airflow's ``[seedance]`` configuration section, and the parsing of arguments.

Imported wherever a DAG file is parsed, so it imports next to nothing.
"""

from __future__ import annotations

import enum
import math
import re
import shlex
import string
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeGuard, overload

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import conf

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceConfigurationError


class SubmitPolicy(enum.StrEnum):
    """What to do with a createTask that was sent and got no usable answer.

    ``vendor`` sends it again after a 5xx, a timeout or a reset, as the vendor's retry table says, and warns that this
    may be charged twice. ``safe`` sends it again only where no task can exist.
    """

    VENDOR = "vendor"
    SAFE = "safe"


def parse_submit_policy(value: Any, where: str) -> SubmitPolicy:
    """Check a submit policy.

    :param value: ``vendor`` or ``safe``.
    :param where: Where the value stands, for the message.
    :raises SeedanceConfigurationError: for anything else.
    """
    try:
        return SubmitPolicy(value)
    except ValueError:
        raise SeedanceConfigurationError(f"{where} is {value!r}: it must be 'vendor' or 'safe'") from None


def default_submit_policy() -> SubmitPolicy:
    """The ``[seedance] submit_policy`` of Airflow's configuration, ``vendor`` unless set."""
    return parse_submit_policy(_option("submit_policy") or defaults.DEFAULT_SUBMIT_POLICY, _named("submit_policy"))


def default_wait_timeout() -> float:
    """The ``[seedance] timeout`` of Airflow's configuration in seconds, 1800 unless set."""
    return _configured_seconds("timeout") or defaults.DEFAULT_WAIT_TIMEOUT


def default_poll_interval() -> float | None:
    """The ``[seedance] poll_interval`` of Airflow's configuration in seconds; None (adaptive) unless set."""
    return _configured_seconds("poll_interval")


def ledger_path() -> str | None:
    """The ``[seedance] ledger_path`` of Airflow's configuration; None unless set.

    :raises SeedanceConfigurationError: if it is no URL and no absolute path.
    """
    path = (_option("ledger_path") or "").strip()
    if path and "://" not in path and not path.startswith("/"):
        raise SeedanceConfigurationError(
            f"{_named('ledger_path')} is {path!r}: it must be a URL such as s3://aws_default@bucket/seedance, or an "
            "absolute path"
        )
    return path or None


def price_list_path() -> str | None:
    """The ``[seedance] price_list`` of Airflow's configuration, a path or URL; None unless set."""
    return (_option("price_list") or "").strip() or None


def callback_base_url() -> str | None:
    """The ``[seedance] callback_base_url`` of Airflow's configuration, without a slash at its end; None unless set.

    :raises SeedanceConfigurationError: if it is no http(s) URL.
    """
    url = (_option("callback_base_url") or "").strip().rstrip("/")
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    host = rest.partition("/")[0]
    unusable = not host or "@" in host or "?" in rest or "#" in rest or not url.isprintable() or " " in url
    if scheme not in ("http", "https") or not separator or unusable:
        shown = url.rpartition("@")[2].partition("?")[0]
        raise SeedanceConfigurationError(
            f"{_named('callback_base_url')} is {shown!r:.200}: it must be the public URL of Airflow's API server, such "
            "as https://airflow.example.com, or empty for no callbacks"
        )
    return url


def callback_grace() -> float:
    """The ``[seedance] callback_grace`` of Airflow's configuration in seconds, 1200 unless set."""
    return _configured_seconds("callback_grace") or defaults.CALLBACK_GRACE


def _configured_seconds(option: str) -> float | None:
    return positive_number(_option(option), _named(option), at_most=defaults.MAX_SECONDS)


def _option(option: str) -> str | None:
    value: str | None = conf.get(defaults.CONFIG_SECTION, option, fallback=None)
    return value


def _named(option: str) -> str:
    return f"[{defaults.CONFIG_SECTION}] {option} of Airflow's configuration"


def command(*words: str) -> str:
    """One of this provider's commands as it is typed; Airflow knows them itself from 3.2 on."""
    airflow = tuple(map(int, airflow_version.split(".")[:2])) >= (3, 2)
    return " ".join(("airflow seedance" if airflow else "python -m seedance_provider", shlex.join(words)))


def is_plain_number(value: Any) -> TypeGuard[float]:
    """Whether a JSON value can be counted with: no truth value, not NaN, not infinite, no integer beyond a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def positive_number(value: Any, where: str, *, at_most: float) -> float | None:
    """Check a number that came as a string or JSON.

    :param value: The number; None or an empty string for none.
    :param where: Where it stands, for the message.
    :param at_most: The largest that makes sense.
    :return: The number; None if there is none.
    :raises SeedanceConfigurationError: unless it is above 0 and at most that.
    """
    if value in (None, ""):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= at_most:
        raise SeedanceConfigurationError(
            f"{where} is {value!r}: it must be a number above 0, at most {at_most:,.0f}, or empty"
        )
    return number


def positive_credits(value: Any, where: str) -> Decimal | None:
    """Check an amount of credits.

    :param value: A number, also as a string; None or an empty string for none.
    :param where: Where it stands, for the message.
    :raises SeedanceConfigurationError: unless it is above 0.
    """
    number = positive_number(value, where, at_most=defaults.MAX_CREDITS)
    return None if number is None else Decimal(str(value).strip())


@overload
def seconds_of(name: str, value: float | timedelta) -> float: ...
@overload
def seconds_of(name: str, value: float | timedelta | None) -> float | None: ...
def seconds_of(name: str, value: float | timedelta | None) -> float | None:
    """Check a duration given by a user.

    :param name: The parameter's name, for the message.
    :param value: Seconds or a timedelta; None stays None.
    :return: Seconds, above 0 and at most 366 days.
    :raises SeedanceConfigurationError: for anything else, naming the parameter, the value and the fix.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= defaults.MAX_SECONDS:
        raise SeedanceConfigurationError(
            f"{name}={value!r} is not a duration: it must be a number of seconds above 0, or a timedelta, and at most "
            "366 days"
        )
    return float(seconds)


def is_from_mapped(operator: Any) -> bool:
    """Whether a mapped operator has made this one, on a worker: what is wrong is then told when it runs.

    An error of its constructor would leave nothing in XCom, from which a later task tells of the items that failed.
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


OUTPUT_PATH_NAMES = ("seedance_task_id", "index", "model", "seed", "ext")
"""What an ``output_path`` may name in single braces."""
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_INDEX_FORMAT = re.compile(r"0?\d{0,2}d?")


def names_in_output_path(output_path: str, *, is_rendered: bool = False) -> set[str]:
    """Which of ``OUTPUT_PATH_NAMES`` an output path names.

    :param output_path: The path.
    :param is_rendered: Whether Airflow has rendered it. Default False: Jinja templates in it are left out.
    :raises SeedanceConfigurationError: if a brace is unbalanced, or a name is unknown.
    """
    text = output_path if is_rendered else _JINJA.sub("", output_path)
    try:
        fields = [field[1:] for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise _wrong_output_path(output_path, f"a brace in it is unbalanced ({error})") from None
    for name, format_spec, conversion in fields:
        if name not in OUTPUT_PATH_NAMES:
            known = ", ".join(f"{{{each}}}" for each in OUTPUT_PATH_NAMES)
            raise _wrong_output_path(output_path, f"{{{name}}} is unknown; there are {known}")
        if conversion or not (_INDEX_FORMAT.fullmatch(format_spec or "") and (name == "index" or not format_spec)):
            raise _wrong_output_path(output_path, f"{{{name}}} has a format; only a width such as {{index:02}} is one")
    return {str(name) for name, _, _ in fields}


def check_output_path(output_path: Any, *, is_rendered: bool = False) -> None:
    """Check an ``output_path`` as it is written in a DAG file, or rendered.

    :param output_path: The path; what is neither a string nor a path is rendered later.
    :param is_rendered: Whether Airflow has rendered it: what looks like Jinja then came from outside, such as from a
        run's ``conf``, and is checked like the rest. Default False.
    :raises SeedanceConfigurationError: if it cannot be used; names the value and the fix.
    """
    if not isinstance(output_path, str):
        return
    if not output_path.strip():
        raise _wrong_output_path(output_path, "it is empty")
    names_in_output_path(output_path, is_rendered=is_rendered)
    plain = output_path if is_rendered else _JINJA.sub("x", output_path)
    may_begin_so = not is_rendered and _JINJA.match(output_path)
    if not (may_begin_so or "://" in plain or plain.startswith("/")):
        raise _wrong_output_path(
            output_path, "it must be a URL such as s3://aws_default@bucket/videos/, or an absolute path"
        )
    if plain == output_path and "://" in plain and "/" not in plain.partition("://")[2]:
        raise _wrong_output_path(output_path, "it names no folder and no file; end it with / for a folder")
    if ".." in plain.split("/"):
        raise _wrong_output_path(output_path, "'..' is not allowed in it")
    if not plain.isprintable():
        raise _wrong_output_path(output_path, "it has control characters")


def check_storing(output_path: Any, *, overwrite: bool, last_frame: bool) -> None:
    """Check the parameters about files as they are written in a DAG file.

    :raises SeedanceConfigurationError: if one cannot be used.
    """
    check_output_path(output_path)
    for name, value in (("overwrite", overwrite), ("last_frame", last_frame)):
        if value and output_path is None:
            raise SeedanceConfigurationError(f"{name}={value!r} has no effect without output_path: give one")


def _wrong_output_path(output_path: str, why: str) -> SeedanceConfigurationError:
    return SeedanceConfigurationError(f"output_path={output_path!r:.300} cannot be used: {why}")
