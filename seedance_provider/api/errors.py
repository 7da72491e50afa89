"""The one table from an answer to an error: decided by HTTP status and content type, never by English text.

Contract 3.2, 4.1 and 12.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from seedance_provider import defaults, exceptions
from seedance_provider.api.records import clean_text, decimal_or_none, load_json

if TYPE_CHECKING:
    from seedance_provider.api.messages import Reply

_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_UNCHARGED = "Nothing was charged"
CHECK_MANUALLY = (
    "Check manually: look for the video in the account's task list on the vendor's site. If it is there, collect it "
    "with SeedanceTaskSensor(seedance_task_id=...); if not, clear this task"
)


def check_manually(adopt: str) -> str:
    """The same with a ledger, which can be told what was found.

    :param adopt: The command that tells it.
    """
    return (
        "Check manually: look for the video in the account's task list on the vendor's site. If it is not there, clear "
        f"this task. If it is, name its ID and then clear this task, free: {adopt}"
    )


def envelope_status(payload: Mapping[str, Any]) -> int | None:
    """The error status that an envelope names, whatever the HTTP status says; None if it names none.

    The ancestor API wraps errors as ``{"code": 402, "message": ..., "data": null}`` (contract 3.2).
    """
    code = payload.get("code")
    if isinstance(code, str) and len(code) == 3 and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600 and payload.get("data") is None:
        return code
    return None


def excerpt(reply: Reply) -> str:
    """The first words of an answer for people: markup removed, one line, 200 characters at most."""
    text = _MARKUP.sub(" ", reply.body[: 20 * defaults.MAX_EXCERPT].decode("utf-8", "replace"))
    return quoted(text) if text.strip() else "an empty body"


def quoted(text: str) -> str:
    """A text of the vendor's in quotes: one line, without control characters, 200 characters at most."""
    return f"{' '.join(clean_text(text).split())[: defaults.MAX_EXCERPT]!r}"


class _Answer(NamedTuple):
    """An answer that is not a success, read once."""

    status: int
    members: Mapping[str, Any]
    said: str
    creates: bool
    about: str
    """The task, at the end of the text."""
    details: dict[str, Any]
    is_json: bool
    retry_after: float | None
    connection: str
    """Its name, for the middle of a sentence."""


def error_of(reply: Reply, *, creates: bool = False, seedance_task_id: str | None = None) -> exceptions.SeedanceError:
    """Turn an answer that is not a success into the error to raise.

    :param reply: The answer.
    :param creates: True for createTask.
    :param seedance_task_id: The task that was asked for, if any.
    :return: The error; its text says what happened and what to do next, and ends in the task's id.
    """
    payload = load_json(reply.body)
    members: Mapping[str, Any] = payload if isinstance(payload, dict) else {}
    # An envelope counts under a success only: what the server itself calls an error is of the class it says.
    status = reply.status if reply.status >= 300 else envelope_status(members) or reply.status
    vendor_text = members.get("message")
    message = (clean_text(vendor_text) or None) if isinstance(vendor_text, str) else None
    details: dict[str, Any] = {"status_code": status, "message": message, "seedance_task_id": seedance_task_id}
    if seedance_task_id is not None:
        details["charged"] = "unknown"
    answer = _Answer(
        status=status,
        members=members,
        said=f"{status} {message!r}" if message else f"{status}, {excerpt(reply)}",
        creates=creates,
        about=f" (task {seedance_task_id})" if seedance_task_id else "",
        details=details,
        is_json=isinstance(payload, dict),
        retry_after=reply.retry_after,
        connection=f"connection {reply.conn_id!r}" if reply.conn_id else "the connection",
    )
    if status >= 500:
        return exceptions.SeedanceServerError(
            f"Seedance failed to answer: {answer.said}{answer.about}", retry_after=answer.retry_after, **details
        )
    row = _ROWS.get(status, _redirect if 300 <= status < 400 else _not_a_record if status < 300 else _invalid)
    error = row(answer)
    error.denial = error.denial and answer.is_json  # a page in place of JSON is not the API's word
    return error


def _not_a_record(answer: _Answer) -> exceptions.SeedanceError:
    return exceptions.SeedanceServerError(
        f"Seedance answered with something that is not a task record: {answer.said}{answer.about}", **answer.details
    )


def _redirect(answer: _Answer) -> exceptions.SeedanceError:
    return exceptions.SeedanceInvalidRequestError(
        f"Redirected ({answer.status}); not followed, so that the API key stays with its host. 'Base URL' of "
        f"{answer.connection} is wrong: it must be https://seedance2-pro.com or https://kinovi.ai{answer.about}",
        **answer.details,
    )


def _unauthorized(answer: _Answer) -> exceptions.SeedanceError:
    return exceptions.SeedanceAuthenticationError(
        f"API key refused: {answer.said}. Check 'API key' of {answer.connection} (Admin > Connections){answer.about}",
        **answer.details,
    )


def _payment_required(answer: _Answer) -> exceptions.SeedanceError:
    required = decimal_or_none(answer.members.get("required"))
    available = decimal_or_none(answer.members.get("available"))
    numbers = ""
    if required is not None and available is not None:
        numbers = f": required {required}, available {available}, missing {required - available}"
    return exceptions.SeedanceInsufficientCreditsError(
        f"Not enough credits{numbers} ({answer.said}). {_UNCHARGED}; add credits to the account, then clear this task"
        f"{answer.about}",
        required=required,
        available=available,
        **answer.details,
    )


def _forbidden(answer: _Answer) -> exceptions.SeedanceError:
    if not answer.is_json:  # a page in place of JSON comes from the edge, not from the API
        text = (
            f"Blocked before it reached the API: {answer.said}. Check that no proxy strips the User-Agent header, and "
            "that the vendor does not block this machine's address"
        )
        if answer.creates:
            return exceptions.SeedancePermissionError(f"{text}. {_UNCHARGED}", **answer.details)
        return exceptions.SeedanceServerError(f"{text}{answer.about}", **answer.details)
    fix = (
        "This task belongs to another account: use the connection that created it"
        if answer.about
        else "Ask the vendor's support to enable API access for this account"
    )
    return exceptions.SeedancePermissionError(f"Access denied: {answer.said}. {fix}{answer.about}", **answer.details)


def _not_found(answer: _Answer) -> exceptions.SeedanceError:
    fix = (
        "Check the id; records are kept for 60 days"
        if answer.about and answer.is_json
        else f"Check 'Base URL' of {answer.connection} (Admin > Connections): this path is unknown there"
    )
    return exceptions.SeedanceTaskNotFoundError(f"Not found: {answer.said}. {fix}{answer.about}", **answer.details)


def _too_many(answer: _Answer) -> exceptions.SeedanceError:
    limit, current = _count(answer.members.get("limit")), _count(answer.members.get("current"))
    if answer.creates:
        numbers = f", {current} of {limit} in use" if limit is not None and current is not None else ""
        text = f"No free slot{numbers}: {answer.said}. {_UNCHARGED}; submit again when a task has ended"
    else:
        text = f"Too many requests: {answer.said}. Nothing is lost; poll again later{answer.about}"
    return exceptions.SeedanceConcurrencyLimitError(
        text, limit=limit, current=current, retry_after=answer.retry_after, **answer.details
    )


def _invalid(answer: _Answer) -> exceptions.SeedanceError:
    items = answer.members.get("errors")
    problems = [
        problem
        for item in (items[: defaults.MAX_PROBLEMS] if isinstance(items, list) else [])
        if (problem := _problem(item)) is not None
    ]
    listed = "".join(f"; {problem['path']}: {problem['message']}" for problem in problems)
    # Of a poll, "nothing was charged" would be read as a word on the task.
    fix = (
        f"Check the id, and 'Base URL' of {answer.connection}"
        if answer.about
        else f"{_UNCHARGED}. Change the request; a retry cannot help"
    )
    return exceptions.SeedanceInvalidRequestError(
        f"Request refused: {answer.said}{listed}. {fix}{answer.about}",
        errors=problems,
        **answer.details,
    )


_ROWS = {401: _unauthorized, 402: _payment_required, 403: _forbidden, 404: _not_found, 429: _too_many}


def _count(value: Any) -> int | None:
    number = decimal_or_none(value)
    return int(number) if number is not None and 0 <= number < 10**9 else None


def _problem(item: Any) -> dict[str, str] | None:
    """Read one of a 400's ``errors``: an object with code, message and path, or whatever else is there."""
    if isinstance(item, str):
        return {"path": "inputs", "message": clean_text(item)}
    if not isinstance(item, dict) or not isinstance(item.get("message"), str):
        return None
    path = ""
    steps = item.get("path")
    for step in (steps if isinstance(steps, list) else [steps])[: defaults.MAX_PROBLEMS]:
        if isinstance(step, int):
            path += f"[{step}]" if abs(step) < 10**9 else "[?]"
        elif isinstance(step, str):
            path += f".{step}" if path else step
    return {"path": clean_text(path) or "inputs", "message": clean_text(item["message"])}
