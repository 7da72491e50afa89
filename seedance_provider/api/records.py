"""One tolerant reading of a task, whichever version of the API, recordInfo or callback, it came from.

The rules are those of contract 12.1: what cannot be read is missing, and nothing in an answer makes this module raise
anything but our errors. The same models read what they wrote to XCom.
"""

from __future__ import annotations

import contextlib
import enum
import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceServerError

_MAX_DIGITS = 40
# The slashes as they are, or as JSON may escape them.
_QUERY = re.compile(r"(https?:(?:\\?/){2}[^\s\"'<>?]*)\?[^\s\"'<>]*", re.IGNORECASE)


class TaskStatus(enum.StrEnum):
    """What a task is doing. ``UNKNOWN`` stands for any word not in the contract: it runs until the deadline."""

    WAITING = "waiting"
    GENERATING = "generating"
    SUCCESS = "success"
    FAIL = "fail"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Whether the task will not change any more."""
        return self in (TaskStatus.SUCCESS, TaskStatus.FAIL)


_STATUS_WORDS = {
    "waiting": TaskStatus.WAITING,
    "generating": TaskStatus.GENERATING,
    "success": TaskStatus.SUCCESS,
    "fail": TaskStatus.FAIL,
    "failed": TaskStatus.FAIL,
    "failure": TaskStatus.FAIL,
    "error": TaskStatus.FAIL,
}


def load_json(body: bytes | str) -> Any:
    """Parse JSON from anywhere.

    :return: The value; None if it is not JSON, whatever it is.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def clean_text(text: str) -> str:
    """Make a text of the vendor's fit for a line of log and a database.

    It is cut, has no control and format characters, and the URLs in it have no query: some are signed.
    """
    text = text[: 4 * defaults.MAX_TEXT].encode("utf-8", "replace").decode()
    text = _QUERY.sub(r"\1", text)
    return "".join(char if char.isprintable() else " " for char in text).strip()[: defaults.MAX_TEXT]


def decimal_or_none(value: Any) -> Decimal | None:
    """Read an amount of credits: an int, a float or a numeric string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        text = str(value).strip()
        amount = Decimal(text)
    except (InvalidOperation, ValueError):
        return None
    # An amount beyond that is none, and arithmetic with one would overflow.
    usable = amount.is_finite() and len(text) <= 2 * _MAX_DIGITS and abs(amount.adjusted()) < _MAX_DIGITS
    return amount if usable else None


def http_url_or_none(value: Any) -> str | None:
    """Accept an http or https URL with a host, a possible port and no white space; None for anything else."""
    if not isinstance(value, str) or len(value) > defaults.MAX_URL:
        return None
    url = value.strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return url if usable and url.isprintable() and " " not in url else None


def text_or_none(value: Any) -> str | None:
    """Read a text of the vendor's, cleaned; None for anything that is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        return clean_text(str(value)) or None
    except ValueError:  # an integer beyond Python's limit of digits
        return None


def task_id_or_none(value: Any) -> str | None:
    """Read a taskId: opaque, but a printable string of at most 255 characters; None for anything else."""
    if not isinstance(value, str) or len(value) > 2 * defaults.MAX_TASK_ID:
        return None
    value = value.strip()
    return value if 0 < len(value) <= defaults.MAX_TASK_ID and value.isprintable() else None


def _integer(value: Any) -> int | None:
    amount = decimal_or_none(value)
    # Beyond 64 bits it is neither a size, nor a seed, nor a time, and XCom's backends may not hold it.
    if amount is None or abs(amount) >= 2**63:
        return None
    return int(amount)


def _outputs(value: Any) -> list[Any]:
    if value is None or value == ():
        return []
    items = value if isinstance(value, (list, tuple)) else [value]
    outputs = [
        item if isinstance(item, (dict, TaskOutput)) else {"url": item} for item in items[: defaults.MAX_OUTPUTS]
    ]
    return [output for output in outputs if isinstance(output, TaskOutput) or http_url_or_none(output.get("url"))]


Text = Annotated[str | None, BeforeValidator(text_or_none)]
Whole = Annotated[int | None, BeforeValidator(_integer)]
Url = Annotated[str | None, BeforeValidator(http_url_or_none)]
Credits = Annotated[Decimal | None, BeforeValidator(decimal_or_none)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class TaskOutput(_Model):
    """One file that a task made.

    :param url: Where it is; an http or https URL. Download soon (contract 9).
    :param width: Pixels, if known.
    :param height: Pixels, if known.
    :param media_type: MIME type, if known.
    :param seed: The seed that was used, if known.
    :param last_frame_image: URL of the last frame as an image, if any; gone after 24 h for the 2.5 family.
    """

    url: Annotated[str, BeforeValidator(http_url_or_none)]
    width: Whole = None
    height: Whole = None
    media_type: Text = Field(None, validation_alias=AliasChoices("media_type", "mediaType"))
    seed: Whole = None
    last_frame_image: Url = Field(None, validation_alias=AliasChoices("last_frame_image", "lastFrameImage"))


class TaskFailure(_Model):
    """Why a task failed.

    :param message: The vendor's words, or a sentence that says there were none.
    :param code: The vendor's code as a string (contract 4.5); None if there was none.
    """

    message: str
    code: Text = None


class TaskRecord(_Model):
    """What is known about a task.

    :param seedance_task_id: The task's id; opaque.
    :param status: What the task is doing.
    :param raw_status: The status as the API wrote it.
    :param model: The model that the API names; informative only, it may be an internal id (contract 10, conflict 3).
    :param credits_used: Credits reserved or charged; None if unknown. Not a proof of a refund on ``fail``, and
        settled a few seconds after ``success`` for some models (contract 4.3).
    :param outputs: The files, at most 16, empty until success.
    :param failure: Why it failed; None unless ``status`` is ``fail``.
    :param create_time: Epoch milliseconds, if known.
    :param complete_time: Epoch milliseconds, if known.
    """

    seedance_task_id: str
    status: TaskStatus
    raw_status: str | None = None
    model: Text = None
    credits_used: Credits = Field(None, validation_alias=AliasChoices("credits_used", "creditsUsed"))
    outputs: Annotated[tuple[TaskOutput, ...], BeforeValidator(_outputs)] = Field(
        (), validation_alias=AliasChoices("outputs", "output")
    )
    failure: TaskFailure | None = None
    create_time: Whole = Field(None, validation_alias=AliasChoices("create_time", "createTime"))
    complete_time: Whole = Field(None, validation_alias=AliasChoices("complete_time", "completeTime"))

    @model_validator(mode="before")
    @classmethod
    def _from_wire(cls, values: Any) -> Any:
        """Read what the wire spells in more than one way."""
        if not isinstance(values, Mapping) or "seedance_task_id" in values:
            return values
        status, raw_status = read_status(values)
        wire = dict(values) | {"status": status, "raw_status": raw_status, "failure": None}
        wire["seedance_task_id"] = task_id_or_none(values.get("taskId")) or ""
        if values.get("output") is None:
            wire["output"] = _ancestor_outputs(values.get("resultJson"))
        if status is TaskStatus.FAIL:
            wire["failure"] = _failure(values)
        return wire

    @property
    def urls(self) -> list[str]:
        """The URLs of the outputs, in the API's order."""
        return [output.url for output in self.outputs]

    @property
    def generation_seconds(self) -> float | None:
        """Seconds from creation to completion, None unless both are known."""
        if self.create_time is None or self.complete_time is None:
            return None
        return (self.complete_time - self.create_time) / 1000


def _ancestor_outputs(result: Any) -> Any:
    if isinstance(result, str):
        result = load_json(result)
    return result.get("resultUrls") if isinstance(result, dict) else None


def _failure(record: Mapping[str, Any]) -> dict[str, Any]:
    error = record.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    message = text_or_none(error.get("message") if isinstance(error, dict) else error)
    message = message or text_or_none(record.get("failMsg")) or "the vendor gave no reason"
    return {"message": message, "code": code}


def unwrap(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the record out of an envelope, if it is in one."""
    data = payload.get("data")
    if isinstance(data, dict) and not is_task(payload):
        return data
    return payload


def read_status(record: Mapping[str, Any]) -> tuple[TaskStatus, str | None]:
    """Read only the status: all that a poll of a running task needs.

    :param record: A record out of its envelope.
    :return: The status and the word as the API wrote it; an unknown or missing word is ``UNKNOWN``.
    """
    for key in ("status", "state"):
        word = record.get(key)
        if isinstance(word, str) and (word := word[: defaults.MAX_TEXT].strip()):
            if (status := _STATUS_WORDS.get(word)) is not None:  # nearly always: nothing to clean
                return status, word
            return _STATUS_WORDS.get(word.lower(), TaskStatus.UNKNOWN), clean_text(word)
    return TaskStatus.UNKNOWN, None


def created_at(create_time: Any, now: float) -> float | None:
    """When a task was created.

    :param create_time: Its creation as the wire has it, epoch milliseconds.
    :param now: The time, epoch seconds.
    :return: Epoch seconds, not after now; None if that is not known, or lies further ahead than clocks may differ.
    """
    created = _integer(create_time)
    if created is None or created <= 0 or created / 1000 > now + defaults.CLOCK_SKEW_SECONDS:
        return None
    return min(created / 1000, now)


def seconds_since(create_time: Any, now: float) -> float | None:
    """The age of a task in seconds, 0 or more; the rest is as of :func:`created_at`."""
    created = created_at(create_time, now)
    return None if created is None else now - created


def is_task(record: Mapping[str, Any]) -> bool:
    """Whether an object can be a task record at all."""
    return "taskId" in record or "status" in record or "state" in record


def parse_task(payload: Any, *, seedance_task_id: str | None = None) -> TaskRecord:
    """Normalise a recordInfo answer or a callback's body of any version of the API.

    :param payload: The parsed JSON, enveloped or flat.
    :param seedance_task_id: The id that was asked for; used if the answer names none.
    :return: The record.
    :raises SeedanceServerError: if the payload is not a task record.
    """
    record = unwrap(payload) if isinstance(payload, dict) else {}
    if not is_task(record):
        raise SeedanceServerError(
            "The answer is not a task record: a JSON object with taskId and status was expected",
            seedance_task_id=seedance_task_id,
        )
    # A copy without the members that are ours: the wire must not pass for what XCom holds.
    wire = {name: value for name, value in record.items() if name not in _OURS}
    task = TaskRecord.model_validate(wire)
    if not task.seedance_task_id and seedance_task_id:
        task = task.model_copy(update={"seedance_task_id": seedance_task_id})
    return task


def read_record(record: Any) -> TaskRecord:
    """Read a record again, as XCom holds it.

    :param record: A mapping, or the JSON text of one.
    :return: The record.
    :raises SeedanceConfigurationError: if it is none.
    """
    if isinstance(record, str):
        record = load_json(record)
    if isinstance(record, Mapping) and record.get("seedance_task_id"):
        with contextlib.suppress(ValueError):
            return TaskRecord.model_validate(record)
    raise SeedanceConfigurationError(
        f"record is {record!r:.100}, which is no task's record: pass the XCom 'seedance_task' of the task that waited"
    )


_OURS = frozenset(TaskRecord.model_fields) - {"model", "status"}


def parse_webhook(body: bytes) -> TaskRecord:
    """Normalise the body of a callback (contract 5). It is not signed, so it proves nothing: ask recordInfo.

    :param body: The body as received, any bytes.
    :return: The record.
    :raises SeedanceServerError: if the body is not a task record.
    """
    return parse_task(load_json(body))
