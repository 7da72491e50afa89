"""Accounts, tasks and the bill: what was created, charged and refunded, by the wall clock."""

from __future__ import annotations

import hashlib
import heapq
import math
import secrets
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from seedance_provider.testing.emulator.prices import number

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.rules import Order

KeyState = Literal["active", "inactive", "expired", "no_access"]
KEY_STATES: tuple[KeyState, ...] = ("active", "inactive", "expired", "no_access")
_ID_LETTERS = string.ascii_lowercase + string.digits


class Failure(NamedTuple):
    """Why a task failed. `shape` overrides the dialect's: `string` or `object`; no message: no error at all."""

    code: str | None
    message: str | None
    shape: str | None = None


@dataclass(frozen=True)
class Account:
    """An API key and what it may do.

    `credits` is the opening balance; `concurrency_limit` None means the emulator's general setting; `state`
    is `active`, `inactive`, `expired` or `no_access` (the account lacks API access).
    """

    key: str
    name: str = "default"
    credits: float = 100_000
    concurrency_limit: int | None = None
    state: KeyState = "active"

    def __post_init__(self) -> None:
        if self.state not in KEY_STATES:
            raise ValueError(f"state must be one of {', '.join(KEY_STATES)}, not {self.state!r}")
        if not isinstance(self.key, str) or not self.key or not isinstance(self.name, str):
            raise ValueError("an account has a key and a name, both strings")
        for label, amount in (("credits", self.credits), ("concurrency_limit", self.concurrency_limit or 0)):
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
                raise ValueError(f"{label} must be a number from 0, not {amount!r}")


def fingerprint(key: str) -> str:
    """What is shown of a key: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass(eq=False)
class Task:
    """One created task; its status follows from the clock, nothing runs for it."""

    task_id: str
    account: Account
    order: Order
    origin: str  # the base of its media URLs: where the creator reached the emulator
    created: float  # epoch seconds, like all times here
    waiting: float
    generating: float
    failure: Failure | None
    reserved: Decimal
    settled: Decimal
    settlement: float  # seconds between success and the settled amount
    callback: str | None = None
    webhook_copies: int = 1

    @property
    def created_ms(self) -> int:
        """When it was created, in milliseconds."""
        return round(self.created * 1000)

    @property
    def completed_ms(self) -> int:
        """When it becomes terminal, in milliseconds: exactly its waiting and generating after its creation."""
        return self.created_ms + round((self.waiting + self.generating) * 1000)

    @property
    def ends(self) -> float:
        """When it becomes terminal."""
        return self.created + self.waiting + self.generating

    def status(self, now: float) -> str:
        """`waiting`, `generating`, `success` or `fail`."""
        if now < self.created + self.waiting:
            return "waiting"
        if now < self.ends:
            return "generating"
        return "fail" if self.failure else "success"

    def credits_used(self, now: float) -> Decimal:
        """What `creditsUsed` shows: the reserved amount, after success and settlement the settled one."""
        done = self.failure is None and now >= self.ends + self.settlement
        return self.settled if done else self.reserved


@dataclass
class _Book:
    """The running figures of one account."""

    balance: Decimal
    created: int = 0
    succeeded: int = 0
    failed: int = 0
    charged: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)
    running: int = 0
    # (when, sequence number, what, task): refunds and settlements that lie ahead
    ahead: list[tuple[float, int, str, Task]] = field(default_factory=list)

    def advance(self, now: float) -> None:
        """Carry out what has become due."""
        while self.ahead and self.ahead[0][0] <= now:
            when, sequence, what, task = heapq.heappop(self.ahead)
            if what == "settle":
                self.charge(task.settled - task.reserved)
                continue
            self.running -= 1
            if task.failure:
                self.failed += 1
                self.refunded += task.reserved
                self.balance += task.reserved
            else:
                self.succeeded += 1
                if task.settled != task.reserved:
                    heapq.heappush(self.ahead, (when + task.settlement, sequence, "settle", task))

    def charge(self, amount: Decimal) -> None:
        self.charged += amount
        self.balance -= amount


class Ledger:
    """All accounts and tasks. `clock` returns epoch seconds."""

    def __init__(self, accounts: Iterable[Account], clock: Callable[[], float]) -> None:
        self.clock = clock
        self.accounts: dict[str, Account] = {}
        self.tasks: dict[str, Task] = {}
        self._books: dict[str, _Book] = {}  # by account name
        for account in accounts:
            self.put_account(account)

    def put_account(self, account: Account, *, keep_balance: bool = False) -> None:
        """Add an account or replace the one of the same name; its tasks and figures stay with the name."""
        owner = self.accounts.get(account.key)
        if owner is not None and owner.name != account.name:
            raise ValueError(f"the key of account {account.name!r} is already that of {owner.name!r}")
        self.accounts = {key: old for key, old in self.accounts.items() if old.name != account.name}
        self.accounts[account.key] = account
        book = self._books.setdefault(account.name, _Book(Decimal(0)))
        if not keep_balance:
            book.balance = Decimal(str(account.credits))

    def _book(self, account: Account) -> _Book:
        book = self._books[account.name]
        book.advance(self.clock())
        return book

    def available(self, account: Account) -> Decimal:
        """The credits left."""
        return self._book(account).balance

    def running(self, account: Account) -> int:
        """How many tasks are waiting or generating."""
        return self._book(account).running

    def new_id(self) -> str:
        """A task id in the vendor's form: `task_` and 24 lower-case letters and digits."""
        return "task_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(24))

    def add(self, task: Task) -> None:
        """Enter a new task: its credits are reserved and a slot is taken."""
        book = self._book(task.account)
        book.charge(task.reserved)
        book.created += 1
        book.running += 1
        self.tasks[task.task_id] = task
        heapq.heappush(book.ahead, (task.ends, len(self.tasks), "end", task))

    def bill(self) -> dict[str, Any]:
        """All figures: in total, per account (by name) and per task in order of creation.

        `credits_charged` counts every reservation and settlement, `credits_refunded` what failed tasks gave
        back, `credits_spent` the difference.
        """
        accounts = {account.name: self._account_bill(account) for account in self.accounts.values()}
        figures = [name for name in next(iter(accounts.values()), {}) if name not in ("key_sha256", "state")]
        totals = {name: sum(account[name] for account in accounts.values()) for name in figures}
        now = self.clock()
        return totals | {"accounts": accounts, "tasks": [_task_bill(task, now) for task in self.tasks.values()]}

    def _account_bill(self, account: Account) -> dict[str, Any]:
        book = self._book(account)
        return {
            "key_sha256": fingerprint(account.key),
            "state": account.state,
            "tasks_created": book.created,
            "tasks_succeeded": book.succeeded,
            "tasks_failed": book.failed,
            "tasks_running": book.running,
            "credits_charged": number(book.charged),
            "credits_refunded": number(book.refunded),
            "credits_spent": number(book.charged - book.refunded),
            "credits_left": number(book.balance),
        }


def _task_bill(task: Task, now: float) -> dict[str, Any]:
    status = task.status(now)
    credits_used = task.credits_used(now)
    return {
        "taskId": task.task_id,
        "account": task.account.name,
        "model": task.order.model,
        "prompt": task.order.prompt,
        "status": status,
        "credits_charged": number(credits_used),
        "credits_refunded": number(credits_used) if status == "fail" else 0,
        "createTime": task.created_ms,
    }
