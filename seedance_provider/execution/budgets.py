"""Named budgets: credits that many tasks share, reserved before a createTask and corrected by what was charged.

A budget is a folder of empty files whose names carry the amounts, so that one list gives the sum. A reservation is
written first and counted afterwards: of two that are granted, the later one has counted the former.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from seedance_provider import defaults
from seedance_provider.api.pricing import amount
from seedance_provider.config import ledger_path
from seedance_provider.exceptions import SeedanceBudgetExceededError, SeedanceError
from seedance_provider.hooks.ledger_files import Folder, now_ms, part

if TYPE_CHECKING:
    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.api.pricing import CreditEstimate

_RESERVATION = re.compile(r"(\d{13,})-([0-9a-f]{8,})-(\d+(?:\.\d+)?)")


class Reservation(NamedTuple):
    """One file of a budget: ``<epoch ms>-<id>-<credits>``. Of two with one id the later one counts.

    :param written_ms: When it was written, epoch milliseconds.
    :param id: Names the submission.
    :param credits: How many it holds.
    """

    written_ms: int
    id: str
    credits: Decimal

    def __str__(self) -> str:
        return f"{self.written_ms:013d}-{self.id}-{amount(self.credits)}"


def read_reservation(name: str) -> Reservation | None:
    """Read the name of a file; None if it is not a reservation's."""
    match = _RESERVATION.fullmatch(name)
    return match and Reservation(int(match[1]), match[2], Decimal(match[3]))


def standing_reservations(names: Iterable[str]) -> list[Reservation]:
    """The reservations that count, by age; those that were given back hold 0."""
    reservations = sorted(found for name in names if (found := read_reservation(name)) is not None)
    latest = {found.id: found for found in reservations}
    first = {found.id: found.written_ms for found in reversed(reservations)}
    return sorted(latest.values(), key=lambda found: (first[found.id], found.id))


@dataclass(frozen=True, slots=True)
class Budget:
    """A named budget.

    :param root: Where the ledger is.
    :param name: Its name; all that use it share it.
    """

    root: Folder
    name: str

    @property
    def folder(self) -> Folder:
        """Where its files are."""
        return self.root / f"v1/budget/{part(self.name)}"

    def spent(self) -> Decimal:
        """Credits that are charged or reserved. One list.

        :raises SeedanceError: if it cannot be listed.
        """
        return sum((found.credits for found in standing_reservations(self.folder.names())), Decimal(0))

    def reserve(self, reservation_id: str, estimate: CreditEstimate, limit: Decimal, fix: str) -> str:
        """Reserve the most that a task can cost. Two lists and one write; more where many ask at once.

        :param reservation_id: Names the submission; a second reservation of one id takes the place of the first.
        :param estimate: What the task would cost.
        :param limit: The ceiling in credits.
        :param fix: What to change where it does not fit, for the error.
        :return: The reservation, for :meth:`settle`.
        :raises SeedanceBudgetExceededError: if it does not fit.
        :raises SeedanceError: if it cannot be read or written, or others compete for it for too long; retryable.
        """
        mine: Reservation | None = None
        deadline = time.monotonic() + defaults.BUDGET_SECONDS
        while True:
            found = standing_reservations(self.folder.names())
            others = [other for other in found if other.id != reservation_id]
            held = sum((other.credits for other in others), Decimal(0))
            if mine is not None and held + estimate.high <= limit:
                return str(mine)
            settled_ms = now_ms() - int(defaults.BUDGET_SETTLES_SECONDS * 1000)
            settled = sum((other.credits for other in others if other.written_ms <= settled_ms), Decimal(0))
            if settled + estimate.high > limit:
                self._give_back(mine)
                raise SeedanceBudgetExceededError(
                    f"Budget {self.name!r} allows {amount(limit)} credits, {amount(settled)} of them are charged or "
                    f"reserved, and this task would cost {estimate}. No request was sent. {fix}",
                    estimate=estimate,
                    limit=limit,
                    spent=settled,
                )
            if time.monotonic() >= deadline:
                self._give_back(mine)
                raise SeedanceError(
                    f"Too many tasks compete for the last credits of budget {self.name!r}. No request was sent. Clear "
                    "this task, or start fewer at once",
                    charged="no",
                )
            if mine is None and held + estimate.high <= limit:
                mine = self._write(reservation_id, estimate.high, after=_last(found, reservation_id))
                continue  # to count what was written meanwhile
            # Of those that compete, the first that fit wait for the others to give back.
            if mine is not None and _sum_until(found, reservation_id) > limit:
                self._give_back(mine)
                mine = None
            time.sleep(random.uniform(0.05, 0.2) if mine is not None else random.uniform(0.1, 1))

    def settle(self, reservation: str, credits: Decimal) -> None:  # noqa: A002 - the vendor's word
        """Correct a reservation by what was charged. One write.

        :param reservation: From :meth:`reserve`.
        :param credits: What was charged; 0 gives it back.
        :raises SeedanceError: if it cannot be written.
        """
        former = read_reservation(reservation)
        if former is not None and former.credits != credits:
            self._write(former.id, credits, after=former.written_ms)

    def _write(self, reservation_id: str, credits: Decimal, *, after: int) -> Reservation:  # noqa: A002
        # Clocks differ: what is written later must say so.
        reservation = Reservation(max(now_ms(), after + 1), reservation_id, credits)
        self.folder.write(str(reservation))
        return reservation

    def _give_back(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            self._write(reservation.id, Decimal(0), after=reservation.written_ms)


def settle_reservations(reserved: Mapping[str, str], credits: Decimal, log: AnyLogger) -> None:  # noqa: A002
    """Correct what a task reserved by what was charged; a budget that cannot be written keeps the reservation.

    :param reserved: The task's reservation in each budget.
    :param credits: What was charged; 0 gives them back.
    :param log: The task's log.
    """
    root = ledger_path()
    for name, reservation in reserved.items():
        try:
            if root is not None:
                Budget(Folder(root), name).settle(reservation, credits)
        except SeedanceError:
            log.exception("Budget %r keeps what was reserved", name)


def _last(found: list[Reservation], reservation_id: str) -> int:
    return max((each.written_ms for each in found if each.id == reservation_id), default=0)


def _sum_until(found: list[Reservation], reservation_id: str) -> Decimal:
    """What is held by those that came before a reservation, and by itself."""
    total = Decimal(0)
    for each in found:
        total += each.credits
        if each.id == reservation_id:
            break
    return total
