"""Where receipts are kept: in the ledger of ``[seedance] ledger_path``, or in Airflow's task state store (3.3+).

XCom would not do: it is wiped at the start of every try.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.api.records import decimal_or_none
from seedance_provider.config import is_plain_number
from seedance_provider.execution.receipts import Stage
from seedance_provider.hooks.ledger_files import (
    SET_ASIDE,
    WITHDRAWN,
    EntryName,
    Folder,
    last_number,
    latest_by_submission,
    new_submission,
    new_writer,
    now_ms,
    part,
    read_entry_names,
    standing,
)

try:
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined,unused-ignore]
except ImportError:  # before Airflow 3.3
    NEVER_EXPIRE = None

if TYPE_CHECKING:
    from typing import Self

    from airflow.providers.common.compat.sdk import Context

STATE_KEY = "seedance_receipt"
FOUND_KEY = "seedance_found"
"""Beside it, what a callback has told of a createTask of unknown outcome: the task itself alone writes its receipt."""
_REREAD_SECONDS = (0.05, 0.2, 0.5)
"""Pauses before a file is read again that holds no JSON: on a disk, one that is being written can be seen."""


class Owner(NamedTuple):
    """The task instance that wrote an entry."""

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1

    @classmethod
    def of(cls, context: Context) -> Self:
        """The task instance that runs."""
        ti: Any = context["ti"]
        return cls(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)

    def __str__(self) -> str:
        """The task instance, for messages."""
        return f"{self.dag_id}.{self.task_id}{f'[{self.map_index}]' * (self.map_index >= 0)} in run {self.run_id}"

    @property
    def path(self) -> str:
        """Its folder below the ledger's root."""
        return f"v1/task/{part(self.dag_id)}/{part(self.run_id)}/{part(self.task_id)}/{self.map_index}"


def key_path(key: str, conn_id: str) -> str:
    """The folder of an idempotency key below the ledger's root."""
    digest = hashlib.sha256(json.dumps([conn_id, key]).encode()).hexdigest()
    return f"v1/key/{digest}"


@dataclass(slots=True)
class Facts:
    """What is told of a video beside what a try decides by. Holds no prompt and no secret.

    :param model: The model id.
    :param conn_id: The Airflow connection.
    :param key: The idempotency key; None without one.
    :param estimate: What it was going to cost; None if that was not known.
    :param reserved: Its reservation in each budget.
    :param limits: What each budget allowed at that time, in credits; only for whoever reads the ledger.
    :param credits: What was charged, once known.
    :param reason: Why it failed or was refused.
    :param paths: Where its outputs were stored.
    :param intended_at: When the first createTask that may have started it was about to be sent, epoch seconds.
    :param on_completion: Name and URI of the asset whose event a callback registers; None without one.
    """

    model: str = ""
    conn_id: str = ""
    key: str | None = None
    estimate: CreditEstimate | None = None
    reserved: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    credits: Decimal | None = None
    reason: str | None = None
    paths: list[str] = field(default_factory=list)
    intended_at: float | None = None
    on_completion: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        members = asdict(self)
        members["estimate"] = self.estimate and [str(member) for member in self.estimate]
        members["credits"] = None if self.credits is None else str(self.credits)
        members["on_completion"] = self.on_completion and list(self.on_completion)
        return members

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        """Read facts; what cannot be read is as at the start: none of it decides anything."""
        facts = cls()
        for name in ("model", "conn_id", "key", "reason"):
            if isinstance(payload.get(name), str):
                setattr(facts, name, payload[name])
        facts.credits = decimal_or_none(payload.get("credits"))
        match payload.get("estimate"):
            case [low, high, str(as_of)]:
                amounts = decimal_or_none(low), decimal_or_none(high)
                if amounts[0] is not None and amounts[1] is not None:
                    facts.estimate = CreditEstimate(amounts[0], amounts[1], as_of)
        reserved, paths, intended_at = (payload.get(name) for name in ("reserved", "paths", "intended_at"))
        if isinstance(reserved, Mapping):
            facts.reserved = {str(name): str(reservation) for name, reservation in reserved.items()}
        if isinstance(limits := payload.get("limits"), Mapping):
            facts.limits = {
                str(name): str(limit) for name, limit in limits.items() if decimal_or_none(limit) is not None
            }
        if isinstance(paths, list):
            facts.paths = [str(path) for path in paths]
        if is_plain_number(intended_at):
            facts.intended_at = float(intended_at)
        match payload.get("on_completion"):
            case [str(name), str(uri)]:
                facts.on_completion = name, uri
        return facts


class Store(Protocol):
    """A place for the receipt of one task instance, or of one idempotency key."""

    @property
    def where(self) -> str:
        """Names the place, for messages."""

    def read(self) -> Any:
        """The stored JSON values; None if there are none. Raises where that cannot be told."""

    def begin(self) -> None:
        """Begin a submission: what is written from now on is about it."""

    def write(self, payload: dict[str, Any], *, is_open: bool) -> None:
        """Store JSON values; those of an open receipt must not expire."""

    def answer(self, payload: dict[str, Any]) -> None:
        """Store what became of the receipt that was read, as somebody else found out; what its task writes rules."""


class TaskStateStore:
    """Airflow's task state store: one entry per dag run, task and map index, whatever the try.

    :param store: ``context["task_state_store"]``.
    """

    where = f"the task state {STATE_KEY!r}"

    def __init__(self, store: Any) -> None:
        self._store = store

    def read(self) -> Any:
        """The stored JSON values; None if there are none."""
        payload = self._store.get(STATE_KEY)
        if not isinstance(payload, Mapping) or payload.get("stage") != Stage.INTENT:
            return payload
        found = self._store.get(FOUND_KEY)
        # What is known of a former video's createTask is no answer to this one.
        is_answer = isinstance(found, Mapping) and found.get("intended_at") == payload.get("intended_at") is not None
        return found if is_answer else payload

    def begin(self) -> None:
        """Begin a submission; it will take the former one's place."""

    def write(self, payload: dict[str, Any], *, is_open: bool) -> None:
        """Store JSON values."""
        payload = payload | {"written_at": time.time()}
        if is_open and NEVER_EXPIRE is not None:
            self._store.set(STATE_KEY, payload, retention=NEVER_EXPIRE)
        else:
            self._store.set(STATE_KEY, payload)

    def answer(self, payload: dict[str, Any]) -> None:
        """Store beside a receipt what became of it: the task itself may be writing it at this moment."""
        self._store.set(FOUND_KEY, payload)


class LedgerStore:
    """A folder of the ledger: of a task instance, or of an idempotency key, which many share.

    :param folder: The folder.
    :param owner: The task instance that runs.
    """

    def __init__(self, folder: Folder, owner: Owner) -> None:
        self.folder = folder
        self._owner = owner
        self._number: int | None = None
        self._submission: str | None = None
        self._seen: dict[str, EntryName] = {}
        self.standing: EntryName | None = None
        """What ruled when it was last read."""

    @property
    def where(self) -> str:
        """Names the newest entry, for messages."""
        return f"{self.folder}/{self.standing}" if self.standing else str(self.folder)

    def read(self) -> Any:
        """The entry that rules; None if there is none. One list, and one read if there is one."""
        names = self._list()
        self.standing = standing(names)
        self._submission = self.standing and self.standing.submission
        return None if self.standing is None else read_entry(self.folder, str(self.standing))

    def _list(self) -> list[str]:
        names = self.folder.names()
        self._seen = latest_by_submission(names)
        self._number = last_number(names)
        return names

    def begin(self) -> None:
        """Begin a submission."""
        self._submission = new_submission()

    @property
    def reservation_id(self) -> str:
        """Names what the next submission reserves: the same again, after a crash before its intent was written."""
        about = json.dumps([self.folder.url, self._owner, self._number])
        return hashlib.sha256(about.encode()).hexdigest()[:12]

    def write(self, payload: dict[str, Any], *, is_open: bool, stage: str | None = None) -> None:
        """Write an entry; its ``owner`` is the task instance that runs, unless the values name another."""
        if self._number is None:
            self._list()  # a new entry's number must be above that of all others
        self._number = (self._number or 0) + 1
        self._submission = self._submission or new_submission()
        stage = stage or str(payload["stage"])
        self._put(EntryName(self._number, now_ms(), stage, self._submission, new_writer()), payload)

    def answer(self, payload: dict[str, Any]) -> None:
        """Write what the entry that was read turned out to be.

        It takes that entry's number, so that what a task writes of another submission, or has written meanwhile, rules
        over it; of this submission, whatever has come further.
        """
        assert self.standing is not None  # noqa: S101 - without an entry there is nothing to answer
        written_ms = max(now_ms(), self.standing.written_ms + 1)
        stage = str(payload["stage"])
        self._put(self.standing._replace(written_ms=written_ms, stage=stage, writer=new_writer()), payload)

    def _put(self, name: EntryName, payload: dict[str, Any]) -> None:
        entry = {"owner": self._owner._asdict()} | payload | {"written_at": name.written_ms / 1000}
        self.folder.write(str(name), json.dumps(entry, default=str).encode())

    def point(self, seedance_task_id: str, reserved: Mapping[str, str]) -> None:
        """Let whoever knows only the id find this entry.

        :param seedance_task_id: The task.
        :param reserved: Its reservation in each budget.
        """
        name = EntryName(1, now_ms(), "pointer", self._submission or new_submission(), new_writer())
        content = {"path": self.folder.path, "reserved": dict(reserved)}
        _pointers(self.folder.root, seedance_task_id).write(str(name), json.dumps(content).encode())

    def is_contested(self) -> bool:
        """Whether another submission has come up since this was last read: of two, at least one sees the other.

        One list.
        """
        return any(
            entry != self._seen.get(submission)
            for submission, entry in latest_by_submission(self.folder.names()).items()
            if submission != self._submission and entry.stage not in SET_ASIDE | {Stage.REFUSED}
        )

    def withdraw(self, payload: dict[str, Any]) -> None:
        """Give up the present submission in favour of another's, before its request."""
        self.write(payload | {"stage": Stage.REFUSED.value, "unknown": 0}, is_open=False, stage=WITHDRAWN)


class Pointer(NamedTuple):
    """From a task's id to its receipt.

    :param folder: The receipt's folder.
    :param reserved: The task's reservation in each budget.
    """

    folder: Folder
    reserved: dict[str, str]


def read_pointer(root: Folder, seedance_task_id: str) -> Pointer | None:
    """Find the receipt of a task: one list, and one read if there is one.

    :param root: Where the ledger is.
    :param seedance_task_id: The task.
    :return: None for a task that nobody submitted for others to wait for.
    :raises SeedanceError: if the store cannot be read.
    """
    folder = _pointers(root, seedance_task_id)
    entry = max(read_entry_names(folder.names()), default=None)
    match entry and read_entry(folder, str(entry)):
        case {"path": str(path), "reserved": dict(reserved)}:
            return Pointer(root / path, reserved)
    return None


def _pointers(root: Folder, seedance_task_id: str) -> Folder:
    return root / f"v1/id/{part(seedance_task_id)}"


def read_entry(folder: Folder, name: str) -> Any:
    """Read an entry.

    :return: Its JSON values; None if there are none to be had.
    :raises SeedanceError: if the store cannot be read.
    """
    for pause in (*_REREAD_SECONDS, None):
        for _, content in folder.read([name]):
            try:
                return json.loads(content)
            except (ValueError, RecursionError):
                pass
        if pause is not None:
            time.sleep(pause)
    return "no JSON"
