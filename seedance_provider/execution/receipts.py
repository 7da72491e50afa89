"""What is remembered of a submission, and what a try decides by it: data and pure functions.

A receipt goes through *intent* (written before the createTask), *submitted* (its answer), *ended* (the vendor's word)
and *delivered* (Airflow has taken the task instance for a success).
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from seedance_provider import defaults
from seedance_provider.config import is_plain_number

if TYPE_CHECKING:
    from typing import Self

SCHEMA = 1


class Stage(enum.StrEnum):
    """How far a submission has come. ``REFUSED``: no task came of it, for certain."""

    INTENT = "intent"
    REFUSED = "refused"
    SUBMITTED = "submitted"
    ENDED = "ended"
    DELIVERED = "delivered"


class Outcome(enum.StrEnum):
    """The vendor's word on a task that has ended."""

    SUCCESS = "success"
    FAIL = "fail"


class Stamp(NamedTuple):
    """The try that writes a receipt.

    :param max_tries: Of the task instance; a clear raises it, a retry does not.
    :param try_number: Its number.
    :param retries: The task's ``retries``.
    """

    max_tries: int
    try_number: int
    retries: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """One video that a task instance wants, and what became of it. Holds no prompt and no secret.

    :param fingerprint: Of the request, from :func:`fingerprint`.
    :param max_tries: Of the task instance when this was written; a clear raises it, a retry does not.
    :param try_number: The try that wrote it.
    :param retries: The task's ``retries`` then.
    :param stage: How far it has come.
    :param unknown: How many createTasks of unknown outcome were sent, a running one included.
    :param told: Whether a try failed with the word that the outcome is unknown, for manual review.
    :param seedance_task_id: The task, once known.
    :param submitted_at: When it was accepted, epoch seconds.
    :param outcome: How it ended, once known.
    :param called_back: Whether the vendor posts the end to the callback receiver.
    :param former: Tasks of former submissions, the newest last: a callback of theirs is not about this one.
    """

    fingerprint: str
    max_tries: int
    try_number: int
    retries: int = 0
    stage: Stage = Stage.INTENT
    unknown: int = 0
    told: bool = False
    seedance_task_id: str | None = None
    submitted_at: float | None = None
    outcome: Outcome | None = None
    called_back: bool = False
    former: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The receipt as JSON values."""
        members = asdict(self) | {"stage": self.stage.value, "outcome": self.outcome and self.outcome.value}
        members["former"] = list(self.former)
        return {"schema": SCHEMA, **members}

    @classmethod
    def from_json(cls, payload: Any) -> Self:
        """Read a receipt; members that this version does not know are ignored.

        :raises ValueError: if it cannot be read: that is not the same as none.
        """
        if not isinstance(payload, Mapping) or not isinstance(payload.get("schema"), int):
            raise ValueError("not a receipt")  # noqa: TRY004 - one error for all that cannot be read
        members = {member.name: payload[member.name] for member in fields(cls) if member.name in payload}
        for name, types in _TYPES.items():
            value = members.get(name)
            is_usable = isinstance(value, types) and value != ""
            if isinstance(value, (int, float)) and bool not in types:
                is_usable &= is_plain_number(value)
            if not is_usable:
                raise ValueError(f"{name} is {value!r:.50}")
        members["stage"] = Stage(members["stage"])
        if members.get("outcome") is not None:
            members["outcome"] = Outcome(members["outcome"])
        members["called_back"] = bool(members.get("called_back"))
        members["former"] = tuple(str(task) for task in members.get("former") or ())
        receipt = cls(**members)
        has_task = receipt.stage in (Stage.SUBMITTED, Stage.ENDED, Stage.DELIVERED)
        if has_task != (receipt.seedance_task_id is not None):
            raise ValueError(f"stage is {receipt.stage!r}, seedance_task_id {receipt.seedance_task_id!r:.50}")
        return receipt

    def submitted(self, seedance_task_id: str, submitted_at: float) -> Self:
        """The receipt with its task."""
        return replace(
            self,
            stage=Stage.SUBMITTED,
            seedance_task_id=seedance_task_id,
            submitted_at=submitted_at,
            unknown=0,
            told=False,
        )

    def after(self, saved: Receipt | None, failed: str | None, *, called_back: bool) -> Self:
        """The receipt of a submission that follows another.

        :param saved: What is remembered of the former one, if anything.
        :param failed: The task of the former one, if it has failed.
        :param called_back: Whether the vendor posts its end to the callback receiver.
        """
        former = dict.fromkeys(saved.former if saved else ())
        former |= dict.fromkeys(task for task in (saved and saved.seedance_task_id, failed) if task)
        return replace(self, called_back=called_back, former=tuple(former)[-defaults.FORMER_TASKS :])

    def written_by(self, stamp: Stamp) -> Self:
        """The receipt, taken over by a later try."""
        return replace(self, **stamp._asdict())


_TYPES: dict[str, tuple[type, ...]] = {
    "fingerprint": (str,),
    "max_tries": (int,),
    "try_number": (int,),
    "retries": (int,),
    "stage": (str,),
    "unknown": (int,),
    "told": (bool,),
    "seedance_task_id": (str, type(None)),
    "submitted_at": (int, float, type(None)),
    "outcome": (str, type(None)),
    "called_back": (bool, type(None)),
    "former": (list, tuple, type(None)),
}


class Decision(enum.Enum):
    """What a try does about what an earlier one left behind."""

    SUBMIT = "submit"
    CONTINUE = "continue"
    UNCERTAIN = "uncertain"
    WAIT = "wait"
    """For another task instance, which is submitting by the same idempotency key."""
    MISMATCH = "mismatch"
    """The idempotency key stands for another request."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision.

    :param decision: What to do.
    :param reason: A line for the log; empty where nothing needs saying.
    :param unknown: How many createTasks of unknown outcome count against this video.
    """

    decision: Decision
    reason: str = ""
    unknown: int = 0


def decide(saved: Receipt | None, wanted: Receipt, *, remembers: bool = True, refused: bool = False) -> Ruling:
    """Decide whether a try submits, continues with a task, or faces a createTask of unknown outcome.

    :param saved: What an earlier try left behind, if anything.
    :param wanted: What this try wants.
    :param remembers: Whether anything could have been left behind.
    :param refused: Whether this try knows that its own last createTask was refused for certain.
    """
    if saved is None:
        # A clear raises max_tries; Airflow's scheduler begins a task instance anew beyond it when it was lost.
        if not remembers and not refused and wanted.try_number > wanted.max_tries + 1:
            return Ruling(
                Decision.UNCERTAIN,
                f"Airflow began try {wanted.try_number} by itself, beyond max_tries={wanted.max_tries}, and nothing "
                "here remembers whether an earlier try sent createTask (its log may show 'Created task')",
                1,
            )
        return Ruling(Decision.SUBMIT)
    if saved.stage is Stage.REFUSED:
        return Ruling(Decision.SUBMIT)
    if saved.stage is Stage.INTENT:
        return _decide_unknown(saved, wanted, refused=refused)
    task = saved.seedance_task_id
    if saved.stage is Stage.DELIVERED and _was_cleared(saved, wanted):
        # A further try without a clear: Airflow 2.11 runs the callbacks of a success before it stores the success.
        return Ruling(Decision.SUBMIT, f"Cleared after a success: submitting a new video (the former was task {task})")
    if saved.outcome is Outcome.FAIL and _was_cleared(saved, wanted):
        return Ruling(
            Decision.SUBMIT, f"Cleared after a failed generation: submitting again (the former was task {task})"
        )
    if wanted.fingerprint != saved.fingerprint:
        fate = "keeps running and will be billed" if saved.stage is Stage.SUBMITTED else "has ended"
        return Ruling(
            Decision.SUBMIT,
            f"The inputs have changed, so a new video is submitted. The former {fate}; collect it with "
            f"SeedanceTaskSensor(seedance_task_id={task!r})",
        )
    if saved.stage is Stage.SUBMITTED:
        return Ruling(
            Decision.CONTINUE, f"Continuing with the task of try {saved.try_number}; nothing is charged (task {task})"
        )
    return Ruling(Decision.CONTINUE, f"The task has ended and is delivered again; nothing is charged (task {task})")


def decide_shared(
    saved: Receipt | None,
    wanted: Receipt,
    *,
    is_own: bool,
    is_recent: bool,
    refused: bool = False,
    failed: str | None = None,
) -> Ruling:
    """Decide the same for a receipt that all share who name one idempotency key: one video, until it fails.

    :param saved: What the key stands for, if anything.
    :param wanted: What this try wants.
    :param is_own: Whether this task instance wrote it.
    :param is_recent: Whether a createTask of that time may still be under way.
    :param refused: Whether this try knows that its own last createTask was refused for certain.
    :param failed: A task that this try knows to have failed.
    """
    if saved is None or saved.stage is Stage.REFUSED:
        return Ruling(Decision.SUBMIT)
    task = saved.seedance_task_id
    if saved.outcome is Outcome.FAIL or (failed is not None and task == failed):
        return Ruling(Decision.SUBMIT, f"The former video of this key failed: submitting again (former task {task})")
    if wanted.fingerprint != saved.fingerprint:
        return Ruling(Decision.MISMATCH)
    if saved.stage is not Stage.INTENT:
        whose = f"try {saved.try_number}" if is_own else "another task"
        return Ruling(Decision.CONTINUE, f"Continuing with the task of {whose}; nothing is charged (task {task})")
    if is_own:
        return _decide_unknown(saved, wanted, refused=refused)
    if is_recent and not saved.told:
        return Ruling(Decision.WAIT)
    return Ruling(
        Decision.UNCERTAIN,
        "Another task sent createTask by this idempotency key, or was about to, and its outcome is unknown",
        max(saved.unknown, 1),
    )


def _decide_unknown(saved: Receipt, wanted: Receipt, *, refused: bool) -> Ruling:
    if refused:
        return Ruling(Decision.SUBMIT)
    if saved.told and _was_cleared(saved, wanted):
        return Ruling(
            Decision.SUBMIT, "Cleared after manual review of a createTask of unknown outcome: submitting again"
        )
    return Ruling(
        Decision.UNCERTAIN,
        f"Try {saved.try_number} sent createTask, or was about to, and its outcome is unknown",
        max(saved.unknown, 1),
    )


def _was_cleared(saved: Receipt, wanted: Receipt) -> bool:
    """Whether a user's clear lies between the two."""
    if wanted.max_tries != saved.max_tries:
        return True
    # Retries that were lowered hide a clear: it sets max_tries to the tries so far and the retries now.
    return wanted.retries != saved.retries and wanted.max_tries == wanted.try_number - 1 + wanted.retries


# Query parameters that a store adds anew each time it signs a URL, in lower case.
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-tos-", "x-oss-", "x-cos-")
_SIGNING_NAMES = frozenset(
    {
        *("awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "signature", "expires", "security-token"),
        *("key-pair-id", "policy", "q-signature", "q-sign-time", "q-key-time"),
        *("sv", "st", "se", "sr", "sp", "sip", "spr", "sig", "skoid", "sktid", "skt", "ske", "sks", "skv"),
    }
)
_SIGNATURES = frozenset({"signature", "sig", "q-signature", *(f"{prefix}signature" for prefix in _SIGNING_PREFIXES)})


def fingerprint(model: str, inputs: Mapping[str, Any], *, conn_id: str, base_url: str) -> str:
    """Tell one wanted video from another: a digest of the request as the DAG author wrote it.

    Without the callback URL and the signing parameters of presigned URLs, which differ each time they are rendered.

    :param model: The model id.
    :param inputs: The inputs as rendered.
    :param conn_id: The Airflow connection.
    :param base_url: Its base URL.
    """
    whole = [model, _unsigned(inputs), conn_id, base_url]
    # Names that are no text cannot be sorted. What is no JSON at all is refused when it is checked, which comes later.
    request = _json(whole, sort_keys=True) or _json(whole, skipkeys=True) or repr((model, conn_id, base_url))
    return hashlib.sha256(request.encode()).hexdigest()


def _json(value: Any, **options: bool) -> str:
    try:
        return json.dumps(value, default=_text, **options)  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError):
        return ""


def _text(value: Any) -> Any:
    """What JSON cannot carry, the same in every process: without an address in memory, or the order of a set."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", str(value))


def _unsigned(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return unsigned_url(value) if value.startswith(("http://", "https://")) else value
    if depth > 50:
        return value
    if isinstance(value, Mapping):
        return {name: _unsigned(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unsigned(item, depth + 1) for item in value]
    return value


def unsigned_url(url: str) -> str:
    """A URL without what a store adds anew each time it signs it."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return url
    names = {name.lower() for name, _ in query}
    if names.isdisjoint(_SIGNATURES):
        return url
    kept = [
        (name, item)
        for name, item in query
        if name.lower() not in _SIGNING_NAMES and not name.lower().startswith(_SIGNING_PREFIXES)
    ]
    return urlunsplit(parts._replace(query=urlencode(kept)))
