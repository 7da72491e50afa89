"""Where receipts are kept: in the ledger of ``[seedance] ledger_path``, or in Airflow's task state store (3.3+).

XCom would not do: it is wiped at the start of every try.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from seedance_provider import defaults
from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.config import ledger_path
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceSubmitUncertainError
from seedance_provider.execution.budgets import read_reservation
from seedance_provider.execution.receipts import Receipt, Stage
from seedance_provider.hooks.ledger_files import (
    FORGOTTEN,
    SET_ASIDE,
    WITHDRAWN,
    EntryName,
    Folder,
    latest_by_submission,
    new_submission,
    new_writer,
    now_ms,
    part,
    read_entry_name,
    standing,
)

try:
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined,unused-ignore]
except ImportError:  # before Airflow 3.3
    NEVER_EXPIRE = None

if TYPE_CHECKING:
    from typing import Self

    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

STATE_KEY = "seedance_receipt"
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

    @property
    def path(self) -> str:
        """Its folder below the ledger's root."""
        return f"v1/task/{part(self.dag_id)}/{part(self.run_id)}/{part(self.task_id)}/{self.map_index}"


@dataclass(slots=True)
class Facts:
    """What is told of a video beside what a try decides by. Holds no prompt and no secret.

    :param model: The model id.
    :param conn_id: The Airflow connection.
    :param key: The idempotency key; None without one.
    :param estimate: What it was going to cost; None if that was not known.
    :param reserved: Its reservation in each budget.
    :param credits: What was charged, once known.
    :param reason: Why it failed or was refused.
    :param paths: Where its outputs were stored.
    """

    model: str = ""
    conn_id: str = ""
    key: str | None = None
    estimate: CreditEstimate | None = None
    reserved: dict[str, str] = field(default_factory=dict)
    credits: Decimal | None = None
    reason: str | None = None
    paths: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        members = asdict(self)
        members["estimate"] = self.estimate and [str(member) for member in self.estimate]
        members["credits"] = None if self.credits is None else str(self.credits)
        return members

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        """Read facts; what cannot be read is as at the start: none of it decides anything."""
        facts = cls()
        for name in ("model", "conn_id", "key", "reason"):
            if isinstance(payload.get(name), str):
                setattr(facts, name, payload[name])
        facts.credits = _decimal(payload.get("credits"))
        match payload.get("estimate"):
            case [low, high, str(as_of)]:
                amounts = _decimal(low), _decimal(high)
                if amounts[0] is not None and amounts[1] is not None:
                    facts.estimate = CreditEstimate(amounts[0], amounts[1], as_of)
        reserved, paths = payload.get("reserved"), payload.get("paths")
        if isinstance(reserved, Mapping):
            facts.reserved = {str(name): str(reservation) for name, reservation in reserved.items()}
        if isinstance(paths, list):
            facts.paths = [str(path) for path in paths]
        return facts


def _decimal(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


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


class TaskStateStore:
    """Airflow's task state store: one entry per dag run, task and map index, whatever the try.

    :param store: ``context["task_state_store"]``.
    """

    where = f"the task state {STATE_KEY!r}"

    def __init__(self, store: Any) -> None:
        self._store = store

    def read(self) -> Any:
        """The stored JSON values; None if there are none."""
        return self._store.get(STATE_KEY)

    def begin(self) -> None:
        """Begin a submission; it will take the former one's place."""

    def write(self, payload: dict[str, Any], *, is_open: bool) -> None:
        """Store JSON values."""
        if is_open and NEVER_EXPIRE is not None:
            self._store.set(STATE_KEY, payload, retention=NEVER_EXPIRE)
        else:
            self._store.set(STATE_KEY, payload)


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
        self._number = max((entry.number for entry in self._seen.values()), default=0)
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
        """Write an entry."""
        if self._number is None:
            self._list()  # a new entry's number must be above that of all others
        self._number = (self._number or 0) + 1
        written_ms = now_ms()
        self._submission = self._submission or new_submission()
        stage = stage or str(payload["stage"])
        name = EntryName(self._number, written_ms, stage, self._submission, new_writer())
        entry = payload | {"owner": self._owner._asdict(), "written_at": written_ms / 1000}
        self.folder.write(str(name), json.dumps(entry, default=str).encode())

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


def read_entry(folder: Folder, name: str) -> Any:
    """Read an entry.

    :return: Its JSON values; None if there are none to be had.
    :raises SeedanceError: if the store cannot be read.
    """
    for pause in (*_REREAD_SECONDS, None):
        for _, content in folder.read([name]):
            try:
                return json.loads(content)
            except ValueError:
                pass
        if pause is not None:
            time.sleep(pause)
    return "no JSON"


class Found(NamedTuple):
    """What was found in a store.

    :param receipt: The receipt.
    :param is_own: Whether this task instance wrote it.
    :param age: Seconds since it was written.
    """

    receipt: Receipt
    is_own: bool
    age: float


class Receipts:
    """The receipt of one task instance, or of its idempotency key.

    What must be known before money is spent raises if it cannot be read or written; what was paid for already does
    not fail the task.

    :param store: Where it is kept; None to remember nothing.
    :param owner: The task instance that runs. Default: of no name.
    :param facts: What is known of the wanted video. Default: nothing.
    """

    def __init__(self, store: Store | None, owner: Owner | None = None, facts: Facts | None = None) -> None:
        self._store = store
        self._owner = owner or Owner()
        self._start = facts or Facts()
        self.facts = replace(self._start)

    @classmethod
    def of(cls, context: Context, *, durable: bool, facts: Facts | None = None) -> Receipts:
        """The receipts of a running task instance.

        :param context: The task's context.
        :param durable: False to remember nothing.
        :param facts: What is known of the wanted video; with a ``key`` the receipt is that key's.
        :raises SeedanceConfigurationError: for a key without a ledger.
        """
        root = ledger_path()
        key = facts.key if facts else None
        if key is not None and (root is None or not durable):
            raise SeedanceConfigurationError(
                f"idempotency_key={key!r} needs a ledger: set [seedance] ledger_path of Airflow's configuration, such "
                "as s3://aws_default@bucket/seedance"
                if durable
                else f"idempotency_key={key!r} needs durable=True"
            )
        if not durable:
            return cls(None, None, facts)
        if root is not None:
            owner = Owner.of(context)
            path = owner.path if key is None or facts is None else key_path(key, facts.conn_id)
            return cls(LedgerStore(Folder(root) / path, owner), owner, facts)
        store: Any = context.get("task_state_store")
        return cls(None if store is None else TaskStateStore(store), None, facts)

    @property
    def remembers(self) -> bool:
        """Whether anything is remembered: with a ledger, or on Airflow 3.3 and later; unless switched off."""
        return self._store is not None

    @property
    def ledger(self) -> LedgerStore | None:
        """The folder of the ledger; None without one."""
        return self._store if isinstance(self._store, LedgerStore) else None

    def find(self) -> Found | None:
        """Return what an earlier try, or another task instance of the same key, left behind.

        :raises SeedanceSubmitUncertainError: if it is there but cannot be read.
        """
        payload = None if self._store is None else self._store.read()
        if payload is None or self._store is None:
            return None
        try:
            receipt = Receipt.from_json(payload)
        except ValueError as error:
            raise SeedanceSubmitUncertainError(
                f"The receipt in {self._store.where} cannot be read ({error}), so a video may have been charged. Check "
                "manually: look for it in the account's task list on the vendor's site, then delete that receipt and "
                "clear this task"
            ) from error
        self.facts = Facts.from_json(payload)
        owner, written_at = payload.get("owner"), payload.get("written_at")
        is_own = not isinstance(owner, Mapping) or owner == self._owner._asdict()
        age = max(time.time() - written_at, 0.0) if isinstance(written_at, (int, float)) else 0.0
        return Found(receipt, is_own, age)

    def load(self) -> Receipt | None:
        """Return what an earlier try left behind.

        :raises SeedanceSubmitUncertainError: if it is there but cannot be read.
        """
        found = self.find()
        return found and found.receipt

    def begin(self) -> str:
        """Begin a submission, of which nothing is known but what is wanted.

        :return: A name for what it reserves.
        """
        self.facts = replace(self._start, reserved={}, paths=[])
        if self._store is not None:
            self._store.begin()
        return new_submission() if self.ledger is None else self.ledger.reservation_id

    def save(self, receipt: Receipt) -> None:
        """Store a receipt; what the store raises comes through."""
        if self._store is not None:
            self._store.write(self._payload(receipt), is_open=receipt.stage is not Stage.DELIVERED)

    def withdraw(self, receipt: Receipt) -> None:
        """Give up a submission to a key before its request; what the store raises comes through."""
        if self.ledger is not None:
            self.ledger.withdraw(self._payload(receipt))

    def _payload(self, receipt: Receipt) -> dict[str, Any]:
        return receipt.to_json() | self.facts.to_json()

    def note(self, receipt: Receipt) -> bool:
        """Store what must not fail this try.

        :return: Whether it is stored.
        """
        try:
            self.save(receipt)
        except Exception:
            log.exception(
                "The receipt could not be stored (stage %s); a retry would not know it (task %s)",
                receipt.stage,
                receipt.seedance_task_id,
            )
            return False
        return True

    def note_delivered(
        self,
        seedance_task_id: str | None = None,
        credits: Decimal | None = None,  # noqa: A002 - the vendor's word
        paths: Iterable[str] = (),
    ) -> None:
        """Note that Airflow has taken the task instance for a success: a clear from now on makes a new video.

        :param seedance_task_id: The task that was delivered, if known.
        :param credits: What was charged, if known.
        :param paths: Where the outputs were stored.
        """
        try:
            saved = self.load()
        except Exception:
            log.exception("The delivery could not be stored; a clear would deliver the same video again")
            return
        if saved is None or saved.stage not in (Stage.SUBMITTED, Stage.ENDED):
            return
        if seedance_task_id not in (None, saved.seedance_task_id):
            return
        self.facts.credits = credits if credits is not None else self.facts.credits
        self.facts.paths = list(paths) or self.facts.paths
        self.note(replace(saved, stage=Stage.DELIVERED))


def key_path(key: str, conn_id: str) -> str:
    """The folder of an idempotency key below the ledger's root."""
    digest = hashlib.sha256(json.dumps([conn_id, key]).encode()).hexdigest()
    return f"v1/key/{digest}"


# What the ledger tells.


@dataclass(frozen=True, slots=True)
class LedgerReceipt:
    """One wanted video.

    :param dag_id: The task instance that wanted it: its DAG.
    :param run_id: Its run.
    :param task_id: Its task.
    :param map_index: Its map index; -1 if it is not mapped.
    :param try_number: Its try.
    :param key: The idempotency key; None without one.
    :param model: The model id.
    :param conn_id: The Airflow connection.
    :param seedance_task_id: The vendor's task; None if there is none, or its id is unknown.
    :param status: ``intent`` (a createTask without an answer: running, or of unknown outcome), ``refused``,
        ``submitted``, ``fail``, ``success`` (not delivered to Airflow) or ``delivered``.
    :param reason: Why it failed or was refused, if known.
    :param estimate: What it was going to cost; None if that was not known.
    :param credits: What was charged, if known.
    :param budgets: The budgets that it counts in.
    :param paths: Where its outputs were stored.
    :param wanted_at: When it was first wanted.
    :param submitted_at: When the vendor accepted it.
    :param updated_at: When this was written.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    key: str | None
    model: str
    conn_id: str
    seedance_task_id: str | None
    status: str
    reason: str | None
    estimate: CreditEstimate | None
    credits: Decimal | None
    budgets: tuple[str, ...]
    paths: tuple[str, ...]
    wanted_at: datetime
    submitted_at: datetime | None
    updated_at: datetime
    _submission: str = field(default="", repr=False)

    @property
    def counted_credits(self) -> Decimal:
        """Credits that it takes of a budget: those charged, else the most that it can cost; 0 if none were charged."""
        if self.status in ("refused", "fail"):
            return Decimal(0)
        if self.credits is not None:
            return self.credits
        return self.estimate.high if self.estimate else Decimal(0)


class Spend(NamedTuple):
    """Credits of one group of videos.

    :param group: The DAG, model or day (UTC).
    :param videos: How many were accepted by the vendor and did not fail.
    :param credits: What they cost; where the charge is not known, the most that they can cost.
    :param estimated: How much of that is not known to be charged.
    """

    group: str
    videos: int
    credits: Decimal
    estimated: Decimal


GroupBy = Literal["dag", "model", "day"]
Since = datetime | timedelta


class SeedanceLedger:
    """Reads the ledger: what was wanted, charged and delivered, and why not.

    :param path: The ledger's URL. Default: ``[seedance] ledger_path`` of Airflow's configuration.
    :raises SeedanceConfigurationError: if there is none.
    """

    def __init__(self, path: str | None = None) -> None:
        path = path or ledger_path()
        if path is None:
            raise SeedanceConfigurationError(
                "There is no ledger: set [seedance] ledger_path of Airflow's configuration, such as "
                "s3://aws_default@bucket/seedance"
            )
        self._root = Folder(path)

    def receipts(
        self,
        dag_id: str | None = None,
        run_id: str | None = None,
        budget: str | None = None,
        since: Since | None = None,
    ) -> list[LedgerReceipt]:
        """Tell of wanted videos, the oldest first.

        Costs one list per 1000 files below what is asked for and one read per video; all keys are read, since a key
        belongs to no DAG. Entries that cannot be read are left out, with a warning in the log.

        :param dag_id: Only those of a DAG.
        :param run_id: Only those of a run.
        :param budget: Only those that count in a budget.
        :param since: Only those that changed since then, or in the last such time.
        :raises SeedanceError: if the ledger cannot be read.
        """
        since_ms = _epoch_ms(since)
        below = "v1/task" if dag_id is None else f"v1/task/{part(dag_id)}"
        if dag_id is not None and run_id is not None:
            below = f"{below}/{part(run_id)}"
        found = [
            receipt
            for receipt in (*self._told(below, since_ms), *self._told("v1/key", since_ms))
            if (dag_id is None or receipt.dag_id == dag_id)
            and (run_id is None or receipt.run_id == run_id)
            and (budget is None or budget in receipt.budgets)
        ]
        return sorted(found, key=lambda receipt: receipt.wanted_at)

    def spend(self, days: float | None = None, by: GroupBy = "day") -> list[Spend]:
        """Tell what was spent.

        :param days: Only the last days. Default: all.
        :param by: ``dag``, ``model`` or ``day``.
        :return: A row for each group, by name.
        :raises SeedanceError: if the ledger cannot be read.
        """
        groups: dict[str, list[LedgerReceipt]] = defaultdict(list)
        for receipt in self._videos(self.receipts(since=None if days is None else timedelta(days=days))):
            if receipt.status in ("submitted", "success", "delivered", "intent"):
                day = (receipt.submitted_at or receipt.wanted_at).strftime("%Y-%m-%d")
                groups[{"dag": receipt.dag_id, "model": receipt.model, "day": day}[by]].append(receipt)
        return [
            Spend(
                group,
                len(receipts),
                sum((receipt.counted_credits for receipt in receipts), Decimal(0)),
                sum((receipt.counted_credits for receipt in receipts if receipt.credits is None), Decimal(0)),
            )
            for group, receipts in sorted(groups.items())
        ]

    def orphans(self) -> list[LedgerReceipt]:
        """Tell of videos that were charged, or may have been, and were never delivered.

        :raises SeedanceError: if the ledger cannot be read.
        """
        recent = datetime.now(UTC) - timedelta(seconds=defaults.INTENT_SECONDS)
        return [
            receipt
            for receipt in self._videos(self.receipts())
            if receipt.status in ("submitted", "success")
            or (receipt.status == "intent" and receipt.updated_at < recent)
        ]

    def forget(self, key: str, conn_id: str = defaults.DEFAULT_CONN_ID) -> bool:
        """Forget an idempotency key: whoever asks for it next gets a new video. The receipts stay.

        :param key: The key.
        :param conn_id: The connection of the operators that name it.
        :return: Whether there was anything to forget.
        :raises SeedanceError: if the ledger cannot be read or written.
        """
        folder = self._root / key_path(key, conn_id)
        latest = latest_by_submission(folder.names())
        number = max((entry.number for entry in latest.values()), default=0)
        counting = [entry for entry in latest.values() if entry.stage not in SET_ASIDE]
        for name, content in folder.read([str(entry) for entry in counting]):
            number += 1
            entry = read_entry_name(name)
            assert entry is not None  # noqa: S101 - made from one
            folder.write(str(EntryName(number, now_ms(), FORGOTTEN, entry.submission, new_writer())), content)
        return bool(counting)

    def prune(self, older_than: timedelta) -> int:
        """Delete what has not changed for long. A key whose receipts are deleted is forgotten.

        Receipts of videos that were not delivered stay; :meth:`orphans` tells of them.

        :param older_than: The age from which on they are deleted.
        :return: How many files were deleted.
        :raises SeedanceError: if the ledger cannot be read or written.
        """
        oldest_ms = _epoch_ms(older_than) or 0
        deleted = []
        for folder, names in self._folders("v1"):
            ours = {name: written_ms for name in names if (written_ms := _written_ms(name)) is not None}
            rules = standing(names)
            is_open = rules is not None and rules.stage in (Stage.INTENT, Stage.SUBMITTED)
            if not is_open and max(ours.values(), default=oldest_ms) < oldest_ms:
                deleted += [f"{folder}/{name}" for name in ours]
        self._root.delete(deleted)
        return len(deleted)

    @staticmethod
    def _videos(receipts: Iterable[LedgerReceipt]) -> list[LedgerReceipt]:
        """Each video once, whoever shares it, as far as it has come."""
        stages = ("refused", "intent", "submitted", "fail", "success", "delivered")
        videos: dict[str, LedgerReceipt] = {}
        for receipt in receipts:
            known = videos.get(receipt._submission)
            if known is None:
                videos[receipt._submission] = receipt
                continue
            ahead = max(known, receipt, key=lambda each: (stages.index(each.status), each.updated_at))
            behind = known if ahead is receipt else receipt
            videos[receipt._submission] = replace(
                ahead,
                credits=ahead.credits if ahead.credits is not None else behind.credits,
                wanted_at=min(ahead.wanted_at, behind.wanted_at),
            )
        return list(videos.values())

    def _folders(self, below: str) -> Iterator[tuple[str, list[str]]]:
        folders: dict[str, list[str]] = defaultdict(list)
        for path in (self._root / below).tree():
            folder, _, name = path.rpartition("/")
            folders[f"{below}/{folder}"].append(name)
        yield from folders.items()

    def _told(self, below: str, since_ms: int | None) -> Iterator[LedgerReceipt]:
        wanted: dict[str, EntryName] = {}
        first: dict[tuple[str, str], int] = {}
        for folder, names in self._folders(below):
            entries = sorted(entry for name in names if (entry := read_entry_name(name)) is not None)
            latest = latest_by_submission(names)
            for entry in entries:
                first.setdefault((folder, entry.submission), entry.written_ms)
                last = latest[entry.submission]
                is_told = entry == last if below.startswith("v1/task") else entry.stage != WITHDRAWN
                if is_told and last.stage != WITHDRAWN and (since_ms is None or last.written_ms >= since_ms):
                    wanted[f"{folder}/{entry}"] = entry
        told: dict[tuple[Any, ...], LedgerReceipt] = {}
        for path, content in self._root.read(list(wanted)):
            folder, _, _ = path.rpartition("/")
            receipt = _told(content, wanted[path], first[folder, wanted[path].submission])
            if receipt is None:
                log.warning("An entry of the ledger cannot be read: %s/%s", self._root, path)
                continue
            who = (receipt.dag_id, receipt.run_id, receipt.task_id, receipt.map_index)
            told[folder, receipt._submission, who] = receipt  # the newest comes last
        yield from told.values()


def _told(content: bytes, entry: EntryName, first_ms: int) -> LedgerReceipt | None:
    try:
        payload = json.loads(content)
        receipt = Receipt.from_json(payload)
        owner = Owner(**payload["owner"])
    except (ValueError, TypeError, KeyError):
        return None
    facts = Facts.from_json(payload)
    status = str(receipt.outcome if receipt.stage is Stage.ENDED and receipt.outcome else receipt.stage)
    return LedgerReceipt(
        **owner._asdict(),
        try_number=receipt.try_number,
        key=facts.key,
        model=facts.model,
        conn_id=facts.conn_id,
        seedance_task_id=receipt.seedance_task_id,
        status=status,
        reason=facts.reason,
        estimate=facts.estimate,
        credits=facts.credits,
        budgets=tuple(facts.reserved),
        paths=tuple(facts.paths),
        wanted_at=_time(first_ms),
        submitted_at=None if receipt.submitted_at is None else _time(receipt.submitted_at * 1000),
        updated_at=_time(entry.written_ms),
        _submission=entry.submission,
    )


def _time(epoch_ms: float) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _epoch_ms(since: Since | None) -> int | None:
    if since is None:
        return None
    moment = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    return int(moment.timestamp() * 1000)


def _written_ms(name: str) -> int | None:
    """When a file of ours was written, by its name."""
    found = read_entry_name(name) or read_reservation(name)
    return found and found.written_ms
