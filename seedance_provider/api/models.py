"""One tolerant reading of a task, whichever generation of the API, recordInfo or webhook, it came from.

The rules are those of contract 12.1; nothing in an answer makes this module raise anything but our errors.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from seedance_provider.exceptions import SeedanceServerError

MAX_TEXT = 1000
"""Characters kept of a text of the vendor's: enough to read, small enough for XCom."""
_MAX_DIGITS = 40


class TaskStatus(enum.StrEnum):
    """What a task is doing. ``UNKNOWN`` stands for any word not in the contract: it runs on until the deadline."""

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


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class TaskOutput(_Model):
    """One file a task made.

    :param url: Where it is; an http or https URL. Download soon (contract 9).
    :param width: Pixels, if known.
    :param height: Pixels, if known.
    :param media_type: MIME type, if known.
    :param seed: The seed that was used, if known.
    :param last_frame_image: URL of the last frame as an image, if any; gone after 24 h for the 2.5 family.
    """

    url: str
    width: int | None = None
    height: int | None = None
    media_type: str | None = None
    seed: int | None = None
    last_frame_image: str | None = None


class TaskFailure(_Model):
    """Why a task failed.

    :param message: The vendor's words, or a sentence that says there were none.
    :param code: The vendor's code as a string (contract 4.5); None if there was none.
    """

    message: str
    code: str | None = None


class TaskRecord(_Model):
    """What is known about a task.

    :param seedance_task_id: The task's id; opaque.
    :param status: What the task is doing.
    :param raw_status: The status as the API wrote it.
    :param model: The model the API names; informative only, it may be an internal id (contract 10, conflict 3).
    :param credits_used: Credits reserved or charged; None if unknown. Not a proof of a refund on ``fail``, and
        settled a few seconds after ``success`` for some models (contract 4.3).
    :param outputs: The files, empty until success.
    :param failure: Why it failed; None unless ``status`` is ``fail``.
    :param create_time: Epoch milliseconds, if known.
    :param complete_time: Epoch milliseconds, if known.
    """

    seedance_task_id: str
    status: TaskStatus
    raw_status: str | None = None
    model: str | None = None
    credits_used: Decimal | None = None
    outputs: tuple[TaskOutput, ...] = ()
    failure: TaskFailure | None = None
    create_time: int | None = None
    complete_time: int | None = None

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


def load_json(body: bytes) -> Any:
    """Parse JSON from anywhere.

    :return: The value; None if the bytes are not JSON, whatever they are.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def unwrap(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the record out of an envelope, if it is in one."""
    data = payload.get("data")
    if isinstance(data, dict) and not is_task(payload):
        return data
    return payload


def read_status(record: Mapping[str, Any]) -> tuple[TaskStatus, str | None]:
    """Read only the status: all that a look at a running task needs.

    :param record: A record out of its envelope.
    :return: The status and the word as the API wrote it; an unknown or missing word is ``UNKNOWN``.
    """
    for key in ("status", "state"):
        word = record.get(key)
        if isinstance(word, str) and (word := word.strip()):
            if (status := _STATUS_WORDS.get(word)) is not None:  # nearly always: nothing to clean
                return status, word
            return _STATUS_WORDS.get(word.lower(), TaskStatus.UNKNOWN), clean_text(word)
    return TaskStatus.UNKNOWN, None


def is_task(record: Mapping[str, Any]) -> bool:
    """Whether an object can be a task record at all."""
    return "taskId" in record or "status" in record or "state" in record


def parse_task(payload: Any, *, seedance_task_id: str | None = None) -> TaskRecord:
    """Normalise a recordInfo answer or a webhook body of any generation.

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
    status, raw_status = read_status(record)
    return TaskRecord(
        seedance_task_id=_text(record.get("taskId")) or seedance_task_id or "",
        status=status,
        raw_status=raw_status,
        model=_text(record.get("model")),
        credits_used=decimal_or_none(record.get("creditsUsed")),
        outputs=_outputs(record),
        failure=_failure(record) if status is TaskStatus.FAIL else None,
        create_time=_integer(record.get("createTime")),
        complete_time=_integer(record.get("completeTime")),
    )


def parse_webhook(body: bytes) -> TaskRecord:
    """Normalise the body of a callback (contract 5). It is not signed, so it proves nothing: ask recordInfo.

    :param body: The body as received, any bytes.
    :return: The record.
    :raises SeedanceServerError: if the body is not a task record.
    """
    return parse_task(load_json(body))


def decimal_or_none(value: Any) -> Decimal | None:
    """Read an amount of credits: an int, a float or a numeric string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        text = str(value).strip()
        amount = Decimal(text)
    except (InvalidOperation, ValueError):
        return None
    # An amount beyond that is none, and arithmetic with one would overflow.
    usable = amount.is_finite() and len(text) <= 2 * _MAX_DIGITS and abs(amount.adjusted()) < _MAX_DIGITS
    return amount if usable else None


def clean_text(text: str) -> str:
    """Make a text of the vendor's fit for logs and databases: trimmed, cut, without NUL and lone surrogates."""
    return text.strip()[:MAX_TEXT].replace("\x00", "").encode("utf-8", "replace").decode()


def http_url_or_none(value: Any) -> str | None:
    """Accept an http or https URL with a host, a possible port and no white space; None for anything else."""
    if not isinstance(value, str):
        return None
    url = value.strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return url if usable and url.isprintable() and " " not in url else None


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        return clean_text(str(value)) or None
    except ValueError:  # an integer beyond Python's limit of digits
        return None


def _integer(value: Any) -> int | None:
    amount = decimal_or_none(value)
    # Beyond 64 bits it is neither a size, nor a seed, nor a time, and XCom's backends may not hold it.
    if amount is None or abs(amount) >= 2**63:
        return None
    return int(amount)


def _failure(record: Mapping[str, Any]) -> TaskFailure:
    error = record.get("error")
    code, message = None, None
    if isinstance(error, dict):
        code, message = _text(error.get("code")), _text(error.get("message"))
    elif error is not None:
        message = _text(error)
    message = message or _text(record.get("failMsg"))
    return TaskFailure(code=code, message=message or "the vendor gave no reason")


def _outputs(record: Mapping[str, Any]) -> tuple[TaskOutput, ...]:
    items = record.get("output")
    if items is None:
        result = record.get("resultJson")
        if isinstance(result, str):
            result = load_json(result.encode("utf-8", "replace"))
        items = result.get("resultUrls") if isinstance(result, dict) else None
    if not isinstance(items, list):
        items = [items]
    return tuple(output for output in map(_output, items) if output is not None)


def _output(item: Any) -> TaskOutput | None:
    fields = item if isinstance(item, dict) else {"url": item}
    url = http_url_or_none(fields.get("url"))
    if url is None:
        return None
    return TaskOutput(
        url=url,
        width=_integer(fields.get("width")),
        height=_integer(fields.get("height")),
        media_type=_text(fields.get("mediaType")),
        seed=_integer(fields.get("seed")),
        last_frame_image=http_url_or_none(fields.get("lastFrameImage")),
    )
