"""What a trigger tells the task it wakes, and how errors travel with it.

An event is plain JSON: a trigger runs in another process than the task and its event goes through the database.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

from seedance_provider import exceptions

EventStatus = Literal["success", "error", "slot"]
# The member without which an event of that status says nothing.
_REQUIRED: dict[str, str] = {"success": "record", "error": "error", "slot": "carry"}


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """The end of a wait.

    :param status: ``success``: the task succeeded, ``record`` is its record. ``error``: it did not, ``error`` says
        what to raise, whose class says whether trying again helps. ``slot``: it is worth submitting again.
    :param seedance_task_id: The task that was waited for; empty if there is none yet.
    :param record: The record of a success as JSON.
    :param error: The error as JSON, from :func:`error_to_json`.
    :param carry: What the operator gave the trigger to keep.
    """

    status: EventStatus
    seedance_task_id: str = ""
    record: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    carry: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The event's payload."""
        return asdict(self)

    @classmethod
    def from_json(cls, payload: Any) -> TaskEvent:
        """Read a payload.

        :param payload: What ``execute_complete`` was given.
        :return: The event; one of status ``error`` for a payload that this version does not know, since only a known
            success may pass.
        """
        status: Any = payload.get("status") if isinstance(payload, Mapping) else None
        if status in get_args(EventStatus) and _is_complete(status, payload.get(_REQUIRED[status])):
            carry = payload.get("carry")
            return cls(
                status,
                str(payload.get("seedance_task_id") or ""),
                payload["record"] if status == "success" else None,
                payload["error"] if status == "error" else None,
                dict(carry) if isinstance(carry, Mapping) else {},
            )
        error = exceptions.SeedanceError(f"The trigger fired an event that cannot be read: {payload!r:.500}")
        return cls("error", "", error=error_to_json(error))


def _is_complete(status: EventStatus, member: Any) -> bool:
    if not isinstance(member, Mapping):
        return False
    if status == "success":
        from seedance_provider.api.models import TaskRecord

        try:
            TaskRecord.model_validate(member)
        except ValueError:
            return False
    return True


def error_to_json(error: exceptions.SeedanceError) -> dict[str, Any]:
    """Write an error as JSON: its class, its text and what it carries."""
    return {
        "type": type(error).__name__,
        "text": str(error),
        "details": {name: _plain(value) for name, value in vars(error).items()},
    }


def error_from_json(payload: Mapping[str, Any]) -> exceptions.SeedanceError:
    """Rebuild an error written by :func:`error_to_json`.

    :param payload: The JSON.
    :return: An error of the same class with the same details; a plain SeedanceError for an unknown class.
    """
    kind = getattr(exceptions, str(payload.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, exceptions.SeedanceError)):
        kind = exceptions.SeedanceError
    error = kind(str(payload.get("text", "")))
    details = payload.get("details")
    for name, value in details.items() if isinstance(details, Mapping) else ():
        if name in vars(error):
            # What cannot be read stays unknown: the error itself is what matters.
            with contextlib.suppress(TypeError, ValueError, ArithmeticError):
                setattr(error, name, _rich(name, value))
    return error


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value


def _rich(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "record":
        from seedance_provider.api.models import TaskRecord

        return TaskRecord.model_validate(value)
    if name in ("required", "available"):
        return Decimal(value)
    return value
