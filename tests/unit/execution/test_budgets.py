"""A named budget: what is reserved never passes the ceiling, whoever asks at the same moment."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from seedance_provider import defaults
from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.exceptions import SeedanceBudgetExceededError, SeedanceError
from seedance_provider.execution.budgets import Budget, read_reservation
from seedance_provider.hooks.ledger_files import Folder
from tests.support.stores import bare_store

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = Decimal(1000)


def price(high: str, low: str | None = None) -> CreditEstimate:
    return CreditEstimate(Decimal(low or high), Decimal(high), "2026-09")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "BUDGET_SETTLES_SECONDS", 1.0)
    monkeypatch.setattr(defaults, "BUDGET_SECONDS", 10.0)


@pytest.fixture(params=["disk", "memory"])
def budget(request: pytest.FixtureRequest, tmp_path: Path) -> Budget:
    root = f"file://{tmp_path}/ledger" if request.param == "disk" else bare_store()[0]
    return Budget(Folder(root), "promo/2026-11-24: día 1")


def reserve(budget: Budget, number: int, high: str = "200", limit: Decimal = LIMIT) -> str:
    return budget.reserve(f"{number:012x}", price(high), limit, "Raise it")


def test_an_unused_budget_holds_nothing(budget: Budget) -> None:
    assert budget.spent() == 0


def test_a_reservation_holds_the_most_that_a_task_can_cost(budget: Budget) -> None:
    budget.reserve("ab" * 6, price("312.5", low="200"), LIMIT, "Raise it")
    assert budget.spent() == Decimal("312.5")


def test_what_does_not_fit_is_refused_with_the_numbers_and_holds_nothing(
    budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve(budget, 1, "850")
    monkeypatch.setattr(defaults, "BUDGET_SETTLES_SECONDS", -1.0)
    with pytest.raises(SeedanceBudgetExceededError, match=r"1000 .* 850 .* 200 credits .*Raise it") as raised:
        reserve(budget, 2)
    assert (raised.value.limit, raised.value.spent) == (1000, 850)
    assert raised.value.estimate == (200, 200)
    assert budget.spent() == 850


def test_the_last_credit_can_be_used(budget: Budget) -> None:
    reserve(budget, 1, "800")
    reserve(budget, 2)
    assert budget.spent() == LIMIT


def test_what_was_charged_takes_the_place_of_the_reservation(budget: Budget) -> None:
    budget.settle(reserve(budget, 1), Decimal("142.57"))
    assert budget.spent() == Decimal("142.57")


def test_what_was_refused_is_given_back(budget: Budget) -> None:
    budget.settle(reserve(budget, 1), Decimal(0))
    assert budget.spent() == 0


def test_a_retry_that_reserves_again_holds_it_once(budget: Budget) -> None:
    reserve(budget, 1)
    reserve(budget, 1)
    assert budget.spent() == 200


def test_a_clock_that_is_behind_does_not_undo_a_correction(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    reservation = reserve(budget, 1)
    monkeypatch.setattr("seedance_provider.execution.budgets.now_ms", lambda: 1_000)
    budget.settle(reservation, Decimal(120))
    assert budget.spent() == 120


def test_other_files_in_the_folder_are_not_counted(budget: Budget) -> None:
    reserve(budget, 1)
    budget.folder.write("notes.txt", b"hello")
    assert budget.spent() == 200
    assert read_reservation("1764009600000-ab-12") is None


def test_a_store_that_fails_is_no_permission_to_spend() -> None:
    url, store = bare_store()
    budget = Budget(Folder(url), "promo")
    for operation in ("list", "write"):
        store.broken = {operation}
        with pytest.raises(SeedanceError) as raised:
            reserve(budget, 1)
        assert raised.value.retryable
        assert raised.value.charged == "no"
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("most_seconds", [0.0, 0.02])
def test_of_sixty_who_ask_at_once_as_many_pass_as_fit(most_seconds: float) -> None:
    url, _ = bare_store(most_seconds)

    def ask(number: int) -> bool:
        try:
            reserve(Budget(Folder(url), "day"), number)
        except SeedanceBudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(60) as pool:
        passed = list(pool.map(ask, range(60)))
    assert sum(passed) == 5
    assert Budget(Folder(url), "day").spent() == 1000


def test_tasks_of_any_price_together_never_pass_the_ceiling() -> None:
    url, _ = bare_store(0.01)
    chance = random.Random(7)
    prices = [chance.randint(50, 400) for _ in range(40)]

    def ask(number: int) -> int:
        try:
            reserve(Budget(Folder(url), "day"), number, str(prices[number]))
        except SeedanceError:
            return 0
        return prices[number]

    with ThreadPoolExecutor(40) as pool:
        granted = sum(pool.map(ask, range(40)))
    assert LIMIT / 2 < granted <= LIMIT


def test_an_uncontended_reservation_costs_two_lists_and_one_write() -> None:
    url, store = bare_store()
    reserve(Budget(Folder(url), "day"), 1)
    assert store.calls == ["list", "write", "list"]
