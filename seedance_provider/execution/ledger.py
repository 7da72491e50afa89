"""What the ledger tells of all videos: what was wanted, charged and delivered, and why not."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from seedance_provider import defaults
from seedance_provider.api.flows import collect_with
from seedance_provider.config import ledger_path
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError
from seedance_provider.execution.budgets import Budget, read_reservation
from seedance_provider.execution.memory import Receipts, adopt_command
from seedance_provider.execution.receipts import Outcome, Receipt, Stage
from seedance_provider.execution.stores import Facts, LedgerStore, Owner, key_path
from seedance_provider.hooks.ledger_files import (
    FORGOTTEN,
    SET_ASIDE,
    WITHDRAWN,
    EntryName,
    Folder,
    last_number,
    latest_by_submission,
    new_writer,
    now_ms,
    part,
    progress,
    read_entry_name,
    read_entry_names,
    standing,
)
from seedance_provider.hooks.seedance import SeedanceHook

if TYPE_CHECKING:
    from seedance_provider.api.pricing import CreditEstimate
    from seedance_provider.api.records import TaskRecord

log = logging.getLogger(__name__)


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
    :param limits: What each of them allowed when it was wanted, as far as that is known.
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
    limits: Mapping[str, Decimal]
    paths: tuple[str, ...]
    wanted_at: datetime
    submitted_at: datetime | None
    updated_at: datetime
    _submission: str = field(default="", repr=False)

    @property
    def owner(self) -> Owner:
        """The task instance that wanted it."""
        return Owner(self.dag_id, self.run_id, self.task_id, self.map_index)

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
            for receipt in (*self._told(below, since_ms), *self._told("v1/key", since_ms, shared=True))
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
        return spend(self.receipts(since=None if days is None else timedelta(days=days)), by)

    def spent(self, budget: str) -> Decimal:
        """Tell what a budget's videos cost together: what is charged, and what is reserved for those that run.

        One list of the budget's files, whatever else the ledger holds. What failed or was refused counts nothing.

        :param budget: Its name, as rendered.
        :return: Credits; 0 for a budget that nobody used.
        :raises SeedanceError: if the ledger cannot be read.
        """
        return Budget(self._root, budget).spent()

    def orphans(self) -> list[LedgerReceipt]:
        """Tell of videos that were charged, or may have been, and were never delivered.

        :raises SeedanceError: if the ledger cannot be read.
        """
        return orphans(self.receipts())

    def adopt(
        self,
        seedance_task_id: str,
        *,
        dag_id: str = "",
        run_id: str = "",
        task_id: str = "",
        map_index: int = -1,
        key: str | None = None,
        conn_id: str = defaults.DEFAULT_CONN_ID,
    ) -> TaskRecord:
        """Say which task came of a createTask of unknown outcome: the next try of it, or a clear, continues with it.

        Nothing is charged. Costs one GET, and reads all receipts: no task is taken twice.

        :param seedance_task_id: The task, from the account's task list on the vendor's site.
        :param dag_id: The task instance that sent the createTask: its DAG.
        :param run_id: Its run.
        :param task_id: Its task.
        :param map_index: Its map index. Default -1: not mapped.
        :param key: The idempotency key by which it was sent, in place of the task instance.
        :param conn_id: The connection of that key.
        :return: The task's record.
        :raises SeedanceError: if the createTask's outcome is known, if the task cannot be what came of it, or if it
            cannot be read; then nothing is changed.
        """
        wanted = Owner(dag_id, run_id, task_id, map_index)
        what = f"idempotency_key={key!r} of connection {conn_id!r}" if key is not None else str(wanted)
        told = self.receipts()
        about = [
            receipt
            for receipt in told
            if ((receipt.key, receipt.conn_id) == (key, conn_id) if key is not None else receipt.owner == wanted)
        ]
        if not about:
            raise SeedanceError(f"The ledger has no receipt of {what}", seedance_task_id=seedance_task_id)
        latest = max(about, key=lambda receipt: receipt.updated_at)
        path = latest.owner.path if latest.key is None else key_path(latest.key, latest.conn_id)
        receipts = Receipts(LedgerStore(self._root / path, latest.owner))
        saved = receipts.load()
        is_known = saved is not None and saved.seedance_task_id == seedance_task_id
        taken = next((receipt for receipt in told if receipt.seedance_task_id == seedance_task_id), None)
        record = SeedanceHook(latest.conn_id or conn_id).get_task(seedance_task_id)
        refusal = receipts.adopt(record).refusal if is_known or not taken else f"it is the video of {taken.owner}"
        if refusal:
            raise SeedanceError(
                f"Task {seedance_task_id} is not adopted for {what}: {refusal}. Nothing was changed",
                seedance_task_id=seedance_task_id,
            )
        return record

    def forget(self, key: str, conn_id: str = defaults.DEFAULT_CONN_ID) -> bool:
        """Forget an idempotency key: whoever asks for it next gets a new video. The receipts stay.

        :param key: The key.
        :param conn_id: The connection of the operators that name it.
        :return: Whether there was anything to forget.
        :raises SeedanceError: if the ledger cannot be read or written.
        """
        folder = self._root / key_path(key, conn_id)
        names = folder.names()
        number = last_number(names)
        counting = {str(entry): entry for entry in latest_by_submission(names).values() if entry.stage not in SET_ASIDE}
        for name, content in folder.read(list(counting)):
            number += 1
            entry = EntryName(number, now_ms(), FORGOTTEN, counting[name].submission, new_writer())
            folder.write(str(entry), content)
        return bool(counting)

    def prune(self, older_than: timedelta) -> int:
        """Delete what has not changed for long. A key whose receipts are deleted is forgotten.

        Receipts of videos that were not delivered stay; :meth:`orphans` tells of them.

        :param older_than: The age from which on they are deleted.
        :return: How many files were deleted.
        :raises SeedanceError: if the ledger cannot be read or written.
        """
        oldest_ms = _epoch_ms(older_than) or 0
        deleted: list[str] = []
        ended: dict[str, tuple[EntryName, list[str]]] = {}
        for folder, names in self._folders("v1"):
            ours = {name: written_ms for name in names if (written_ms := _written_ms(name)) is not None}
            rules = standing(names)
            is_open = rules is not None and rules.stage in (Stage.INTENT, Stage.SUBMITTED)
            if is_open or max(ours.values(), default=oldest_ms) >= oldest_ms:
                continue
            paths = [f"{folder}/{name}" for name in ours]
            if rules is not None and rules.stage == Stage.ENDED:
                ended[f"{folder}/{rules}"] = rules, paths
            else:
                deleted += paths
        # A video that ended well and was never delivered is still somebody's.
        for path, content in self._root.read(list(ended)):
            rules, paths = ended[path]
            receipt = _told(content, rules, rules.written_ms)
            if receipt is not None and receipt.status == Outcome.FAIL:
                deleted += paths
        self._root.delete(deleted)
        return len(deleted)

    def _folders(self, below: str) -> Iterator[tuple[str, list[str]]]:
        folders: dict[str, list[str]] = defaultdict(list)
        for path in (self._root / below).tree():
            folder, _, name = path.rpartition("/")
            folders[f"{below}/{folder}"].append(name)
        yield from folders.items()

    def _told(self, below: str, since_ms: int | None, *, shared: bool = False) -> Iterator[LedgerReceipt]:
        """One receipt for each submission in the folders; where many share one, for each of them."""
        wanted: dict[str, EntryName] = {}
        first: dict[tuple[str, str], int] = {}
        for folder, names in self._folders(below):
            latest = latest_by_submission(names)
            entries = read_entry_names(names)
            for entry in entries:
                first.setdefault((folder, entry.submission), entry.written_ms)
            for entry in sorted(entries, key=progress):
                last = latest[entry.submission]
                is_told = entry.stage not in SET_ASIDE if shared else entry == last
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
            told[folder, receipt._submission, who] = receipt  # the one that has come furthest comes last
        yield from told.values()


def spend(receipts: Iterable[LedgerReceipt], by: GroupBy) -> list[Spend]:
    """Tell what videos cost in groups.

    :param receipts: What is told of them, by :meth:`SeedanceLedger.receipts`.
    :param by: ``dag``, ``model`` or ``day``.
    :return: A row for each group, by name.
    """
    groups: dict[str, list[LedgerReceipt]] = defaultdict(list)
    for receipt in _videos(receipts):
        if receipt.status in ("submitted", "success", "delivered", "intent"):
            day = (receipt.submitted_at or receipt.wanted_at).strftime("%Y-%m-%d")
            groups[{"dag": receipt.dag_id, "model": receipt.model, "day": day}[by]].append(receipt)
    return [
        Spend(
            group,
            len(members),
            sum((receipt.counted_credits for receipt in members), Decimal(0)),
            sum((receipt.counted_credits for receipt in members if receipt.credits is None), Decimal(0)),
        )
        for group, members in sorted(groups.items())
    ]


def orphans(receipts: Iterable[LedgerReceipt]) -> list[LedgerReceipt]:
    """Tell which videos were charged, or may have been, and were never delivered.

    :param receipts: What is told of them, by :meth:`SeedanceLedger.receipts`.
    """
    recent = datetime.now(UTC) - timedelta(seconds=defaults.INTENT_SECONDS)
    return [
        receipt
        for receipt in _videos(receipts)
        if receipt.status in ("submitted", "success") or (receipt.status == "intent" and receipt.updated_at < recent)
    ]


def collect(receipt: LedgerReceipt) -> str:
    """Tell how a video that nobody took is collected: a call for a DAG, or what to do first.

    :param receipt: What is told of it.
    """
    if receipt.seedance_task_id is None:
        adopt = adopt_command(receipt.owner, receipt.key, receipt.conn_id)
        return f"look in the account's task list on the vendor's site; if it is there: {adopt}"
    return collect_with(receipt.seedance_task_id, receipt.conn_id)


def _videos(receipts: Iterable[LedgerReceipt]) -> list[LedgerReceipt]:
    """Each video once, whoever shares it, as far as it has come."""
    stages = ("refused", "intent", "submitted", "success", "delivered", "fail")
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


def _told(content: bytes, entry: EntryName, first_ms: int) -> LedgerReceipt | None:
    try:
        payload = json.loads(content)
        receipt = Receipt.from_json(payload)
        owner = Owner(**payload["owner"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    facts = Facts.from_json(payload)
    # A Create task delivers an id: how its video ended is known later, by the sensor.
    is_told = receipt.stage is Stage.ENDED or receipt.outcome is Outcome.FAIL
    status = str(receipt.outcome if is_told and receipt.outcome else receipt.stage)
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
        limits={name: Decimal(limit) for name, limit in facts.limits.items()},
        paths=tuple(facts.paths),
        wanted_at=_time(first_ms),
        submitted_at=_time_or_none(receipt.submitted_at),
        updated_at=_time(entry.written_ms),
        _submission=entry.submission,
    )


def _time(epoch_ms: float) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _time_or_none(moment: float | None) -> datetime | None:
    try:
        return None if moment is None else _time(moment * 1000)
    except (ValueError, OverflowError, OSError):  # the video is there all the same
        return None


def _epoch_ms(since: Since | None) -> int | None:
    if since is None:
        return None
    moment = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    return int(moment.timestamp() * 1000)


def _written_ms(name: str) -> int | None:
    """When a file of ours was written, by its name."""
    found = read_entry_name(name) or read_reservation(name)
    return found and found.written_ms
