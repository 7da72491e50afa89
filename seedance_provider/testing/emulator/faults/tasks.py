"""Faults that decide how a new task goes: failures, prices, callbacks, times."""

# ruff: noqa: D102 - what an overridden method does here stands at its class
from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Literal

from seedance_provider.testing.emulator import texts
from seedance_provider.testing.emulator.faults.base import TaskFault
from seedance_provider.testing.emulator.ledger import Failure

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.ledger import Task

Shorts = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Fail(TaskFault, name="fail"):
    """The task fails, with the usual text of the code unless one is given."""

    short: ClassVar[Shorts] = {"fail": ("code", "message")}
    code: str | None = None
    message: str | None = None
    shape: Literal["string", "object"] | None = None  # of the error; None: the dialect's

    def apply(self, task: Task) -> None:
        message = self.message or texts.FAIL_MESSAGES.get(self.code or "", texts.FAILED)
        task.failure = Failure(self.code, message, self.shape)


@dataclass(frozen=True, kw_only=True)
class FailWithoutError(TaskFault, name="fail_without_error"):
    """The task fails without an error."""

    short: ClassVar[Shorts] = {"fail_without_error": ()}

    def apply(self, task: Task) -> None:
        task.failure = Failure(None, None)


@dataclass(frozen=True, kw_only=True)
class Settle(TaskFault, name="settle"):
    """`creditsUsed` changes some seconds after success."""

    short: ClassVar[Shorts] = {"settle": ("credits", "seconds")}
    credits: float | None = None  # None: one more than was reserved
    seconds: float | None = None  # None: the setting `settlement_seconds`

    def apply(self, task: Task) -> None:
        task.settled = task.reserved + 1 if self.credits is None else Decimal(str(self.credits))
        if self.seconds is not None:
            task.settlement = float(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Webhook(TaskFault, name="webhook"):
    """How often the callback is sent."""

    short: ClassVar[Shorts] = {"webhook": ("copies",)}
    copies: int = 0

    def apply(self, task: Task) -> None:
        task.webhook_copies = self.copies


@dataclass(frozen=True, kw_only=True)
class Times(TaskFault, name="times"):
    """How many seconds the task waits and generates; None: as set."""

    short: ClassVar[Shorts] = {"waiting": ("waiting",), "generating": ("generating",)}
    waiting: float | None = None
    generating: float | None = None

    def apply(self, task: Task) -> None:
        task.waiting = task.waiting if self.waiting is None else float(self.waiting)
        task.generating = task.generating if self.generating is None else float(self.generating)
