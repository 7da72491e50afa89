"""The one table from an answer to an error: decided by HTTP status and content type, never by English text.

Contract 3.2, 4.1 and 12.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seedance_provider import exceptions
from seedance_provider.api.models import clean_text, decimal_or_none, load_json

if TYPE_CHECKING:
    from seedance_provider.api.calls import Reply

MAX_EXCERPT = 200
MAX_PROBLEMS = 20
"""How many of a 400's ``errors`` are read."""
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def envelope_status(payload: Mapping[str, Any]) -> int | None:
    """The error status an envelope names, whatever the HTTP status says; None if it names none.

    The ancestor API wraps errors as ``{"code": 402, "message": ..., "data": null}`` (contract 3.2).
    """
    code = payload.get("code")
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600 and payload.get("data") is None:
        return code
    return None


def excerpt(reply: Reply) -> str:
    """The first words of an answer for people: markup removed, one line, 200 characters at most."""
    text = _MARKUP.sub(" ", reply.body[: 20 * MAX_EXCERPT].decode("utf-8", "replace"))
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f"{text[:MAX_EXCERPT]!r}" if text else "an empty body"


def error_of(reply: Reply, *, spends: bool, seedance_task_id: str | None = None) -> exceptions.SeedanceError:
    """Turn an answer that is not a success into the error to raise.

    :param reply: The answer.
    :param spends: True for createTask, which must not be sent again lightly.
    :param seedance_task_id: The task that was asked for, if any.
    :return: The error; its text says what happened and what to do next.
    """
    payload = load_json(reply.body)
    members: Mapping[str, Any] = payload if isinstance(payload, dict) else {}
    # An envelope counts under a success only: what the server itself calls an error is of the class it says.
    status = reply.status if reply.status >= 300 else envelope_status(members) or reply.status
    vendor_text = members.get("message")
    message = (clean_text(vendor_text) or None) if isinstance(vendor_text, str) else None
    said = f"{status} {message!r}" if message else f"{status} ({excerpt(reply)})"
    about = f"task {seedance_task_id}: " if seedance_task_id else ""
    details: dict[str, Any] = {
        "status_code": status,
        "message": message,
        "seedance_task_id": seedance_task_id,
    }
    # A page in place of JSON comes from the edge, not from the API.
    from_edge = not isinstance(payload, dict)

    if 200 <= status < 300:
        return exceptions.SeedanceServerError(
            f"{about}Seedance answered {status} with something that is not a task record ({excerpt(reply)})",
            **details,
        )
    if 300 <= status < 400:
        return exceptions.SeedanceInvalidRequestError(
            f"{about}Seedance answered with a redirect ({status}), which is not followed so that the API key stays "
            "with its host. The connection's host is not the API's base URL: set it to https://seedance2-pro.com or "
            "https://kinovi.ai",
            **details,
        )
    if status == 401:
        return exceptions.SeedanceAuthenticationError(
            f"{about}Seedance refused the API key: {said}. Check the password of the Airflow connection",
            **details,
        )
    if status == 402:
        return _insufficient_credits(members, said, details)
    if status == 403 and from_edge:
        if spends:
            return exceptions.SeedancePermissionError(
                f"Blocked before it reached the API: {said}. The edge refuses requests by their User-Agent header or "
                "address: check that no proxy on the way strips User-Agent. Nothing was charged",
                **details,
            )
        return exceptions.SeedanceServerError(
            f"{about}Blocked before it reached the API: {said}. If it stays, check that no proxy on the way strips the "
            "User-Agent header",
            **details,
        )
    if status == 403:
        fix = (
            "This task belongs to another account: use the connection that created it"
            if seedance_task_id
            else "Ask the vendor's support to enable API access for this account"
        )
        return exceptions.SeedancePermissionError(f"{about}Seedance denied access: {said}. {fix}", **details)
    if status == 404:
        fix = (
            "Check the id; records are kept for 60 days"
            if seedance_task_id and not from_edge
            else "Check the connection's host: this path is unknown there"
        )
        return exceptions.SeedanceTaskNotFoundError(f"{about}Seedance found nothing there: {said}. {fix}", **details)
    if status == 429:
        limit, current = _count(members.get("limit")), _count(members.get("current"))
        numbers = f" ({current} of {limit} slots in use)" if limit is not None and current is not None else ""
        text = (
            f"Seedance has no free slot: {said}{numbers}. Nothing was charged; try again later, or put these tasks "
            "into an Airflow pool of that size with include_deferred"
            if spends
            else f"{about}Seedance wants fewer requests: {said}. Nothing is lost; ask again later"
        )
        return exceptions.SeedanceConcurrencyLimitError(
            text, limit=limit, current=current, retry_after=reply.retry_after, **details
        )
    if status >= 500:
        return exceptions.SeedanceServerError(
            f"{about}Seedance failed to answer: {said}",
            retry_after=reply.retry_after,
            **details,
        )
    return _invalid_request(members, said, about, details)


def _count(value: Any) -> int | None:
    number = decimal_or_none(value)
    return int(number) if number is not None and 0 <= number < 10**9 else None


def _insufficient_credits(
    members: Mapping[str, Any], said: str, details: dict[str, Any]
) -> exceptions.SeedanceInsufficientCreditsError:
    required, available = decimal_or_none(members.get("required")), decimal_or_none(members.get("available"))
    numbers = ""
    if required is not None and available is not None:
        numbers = f": required {required}, available {available}, missing {required - available}"
    return exceptions.SeedanceInsufficientCreditsError(
        f"Not enough credits{numbers} ({said}). Nothing was charged; add credits to the account, then clear this task",
        required=required,
        available=available,
        **details,
    )


def _invalid_request(
    members: Mapping[str, Any], said: str, about: str, details: dict[str, Any]
) -> exceptions.SeedanceInvalidRequestError:
    items = _items(members.get("errors"))[:MAX_PROBLEMS]
    problems = [problem for item in items if (problem := _problem(item)) is not None]
    listed = "".join(f"; {problem['path']}: {problem['message']}" for problem in problems)
    return exceptions.SeedanceInvalidRequestError(
        f"{about}Seedance refused the request: {said}{listed}. Nothing was charged; change the request, trying again "
        "as it is cannot help",
        errors=problems,
        **details,
    )


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _problem(item: Any) -> dict[str, str] | None:
    """Read one of a 400's ``errors``: an object with code, message and path, or whatever else is there."""
    if isinstance(item, str):
        return {"path": "inputs", "message": clean_text(item)}
    if not isinstance(item, dict) or not isinstance(item.get("message"), str):
        return None
    path = ""
    steps = item.get("path")
    for step in steps if isinstance(steps, list) else [steps]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif isinstance(step, str):
            path += f".{step}" if path else step
    return {"path": clean_text(path) or "inputs", "message": clean_text(item["message"])}
