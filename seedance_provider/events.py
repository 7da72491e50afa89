"""What crosses a deferral, typed, and read once: the event that a trigger fires, and the state of the waiting operator.

Both are plain JSON: a trigger runs in another process than the task, and its event goes through the database.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from seedance_provider.api.records import TaskRecord, TaskStatus
from seedance_provider.config import is_plain_number
from seedance_provider.exceptions import SeedanceError, error_from_json

if TYPE_CHECKING:
    from typing import Self

EventStatus = Literal["success", "error", "slot"]


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What an operator wants back after a deferral.

    :param resubmitted: How many failed tasks of this try were submitted again.
    :param slot_since: When the present submission was first refused for want of a slot, epoch seconds; its place in the
        queue. None if it was not.
    :param refused: Whether the present submission's last createTask was refused for certain, and its receipt could not
        be told.
    :param unknown: How many createTasks of unknown outcome were sent for the present submission.
    :param unstored: Whether the id of the present submission could not be stored in its receipt.
    :param review: Whether the present submission must not be sent again, whatever ``submit_policy`` says.
    :param uploads: Public URLs of uploaded files by their path.
    :param uploaded_at: When the first of those was uploaded, epoch seconds.
    :param inputs: The inputs that a decorated function wrote for the present submission; None before it was called.
    """

    resubmitted: int = 0
    slot_since: float | None = None
    refused: bool = False
    unknown: int = 0
    unstored: bool = False
    review: bool = False
    uploads: dict[str, str] = field(default_factory=dict)
    uploaded_at: float = 0.0
    inputs: dict[str, Any] | None = None

    def next_submission(self) -> Self:
        """The state for the submission that replaces a failed task: with nothing of the former's slot."""
        return replace(
            self,
            resubmitted=self.resubmitted + 1,
            slot_since=None,
            refused=False,
            unknown=0,
            unstored=False,
            review=False,
        )

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, payload: Any) -> Self:
        """Read a state; members that are missing, unknown or of another type are as at the start."""
        members = payload if isinstance(payload, Mapping) else {}
        return cls(
            **{name: members[name] for name, usable in _USABLE.items() if name in members and usable(members[name])}
        )


def _is_text_by_text(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)


def _is_json_object(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)  # as in a request: no other inputs were ever sent
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(value, dict)


_USABLE: dict[str, Callable[[Any], bool]] = {
    "resubmitted": lambda value: isinstance(value, int) and is_plain_number(value),
    "slot_since": is_plain_number,
    "refused": lambda value: isinstance(value, bool),
    "unknown": lambda value: isinstance(value, int) and is_plain_number(value) and value >= 0,
    "unstored": lambda value: isinstance(value, bool),
    "review": lambda value: isinstance(value, bool),
    "uploads": _is_text_by_text,
    "uploaded_at": is_plain_number,
    "inputs": _is_json_object,
}


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """The end of a wait.

    :param status: ``success``: the task succeeded, ``record`` is its record. ``error``: it did not, ``error`` says
        what to raise, whose class says whether a retry helps. ``slot``: submit again now.
    :param seedance_task_id: The task that was waited for; empty if there is none yet.
    :param record: The record of a success.
    :param error: What the wait ended with.
    :param state: What the operator gave the trigger to keep.
    """

    status: EventStatus
    seedance_task_id: str = ""
    record: TaskRecord | None = None
    error: SeedanceError | None = None
    state: ResumeState = field(default_factory=ResumeState)

    def to_json(self) -> dict[str, Any]:
        """The event's payload."""
        return {
            "status": self.status,
            "seedance_task_id": self.seedance_task_id,
            "record": None if self.record is None else self.record.model_dump(mode="json"),
            "error": None if self.error is None else self.error.to_json(),
            "state": self.state.to_json(),
        }

    @classmethod
    def from_json(cls, payload: Any) -> Self:
        """Read a payload.

        :param payload: What ``execute_complete`` was given.
        :return: The event; one of status ``error`` for a payload that this version does not know, since only a known
            success may pass.
        """
        members = payload if isinstance(payload, Mapping) else {}
        status: Any = members.get("status")
        state = ResumeState.from_json(members.get("state"))
        seedance_task_id = members.get("seedance_task_id")
        seedance_task_id = seedance_task_id if isinstance(seedance_task_id, str) else ""
        record, error = None, None
        known = status in get_args(EventStatus)
        if status == "success":
            record = _success(members.get("record"))
            known = record is not None
        elif status == "error":
            raw = members.get("error")
            known = isinstance(raw, Mapping)
            error = error_from_json(raw, TaskRecord.model_validate) if isinstance(raw, Mapping) else None
        if not known:
            status = "error"
            error = SeedanceError(
                f"The trigger fired an event that cannot be read (status {members.get('status')!r:.50}). Install the "
                "same version of this provider for the triggerer and the workers",
                seedance_task_id=seedance_task_id or None,
            )
        return cls(status, seedance_task_id, record, error, state)


def _success(payload: Any) -> TaskRecord | None:
    """The record of a success as :meth:`TaskEvent.to_json` writes it; None for anything else."""
    if not isinstance(payload, Mapping) or "seedance_task_id" not in payload:  # else it would be read as the wire is
        return None
    with contextlib.suppress(ValueError):
        record = TaskRecord.model_validate(payload)
        return record if record.status is TaskStatus.SUCCESS else None
    return None
