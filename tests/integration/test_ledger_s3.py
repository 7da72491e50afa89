"""The ledger in S3: a real client and a server that answers as S3 does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from s3fs import S3FileSystem

from seedance_provider import defaults
from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.exceptions import SeedanceBudgetExceededError, SeedanceError
from seedance_provider.execution.budgets import Budget
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Receipt
from seedance_provider.execution.stores import Facts
from seedance_provider.hooks.ledger_files import Folder
from tests.support.stores import attach

WANTED = Receipt("f" * 64, max_tries=1, try_number=1, retries=1)
PRICE = CreditEstimate(Decimal(200), Decimal(200), "2026-09")


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty bucket, on a connection of its own."""
    name = request.node.name.replace("_", "-")[:60]
    requests.put(f"{s3}/{name}", timeout=10).raise_for_status()
    attach("s3", name, fs=S3FileSystem(key="key", secret="secret", endpoint_url=s3))
    return f"s3://{name}@{name}/seedance"


def open_receipts(bucket: str, monkeypatch: pytest.MonkeyPatch, key: str | None = None, run: str = "one") -> Receipts:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", bucket)
    ti = SimpleNamespace(dag_id="promo/día", run_id=run, task_id="video", map_index=-1, try_number=1)
    context: Any = {"ti": ti}
    return Receipts.of(context, durable=True, facts=Facts("seedance-20", "seedance_default", key))


def test_receipts_are_kept_found_told_and_pruned(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = open_receipts(bucket, monkeypatch)
    assert receipts.find() is None
    receipts.begin()
    receipts.save(WANTED)
    receipts.save(WANTED.submitted("task_1", 1.5))
    receipts.note_delivered("task_1", Decimal(200))
    assert open_receipts(bucket, monkeypatch, run="two").find() is None
    found = open_receipts(bucket, monkeypatch).find()
    assert found is not None
    assert (found.receipt.seedance_task_id, found.receipt.stage) == ("task_1", "delivered")
    books = SeedanceLedger(bucket)
    assert [receipt.credits for receipt in books.receipts(dag_id="promo/día", run_id="one")] == [200]
    assert books.prune(timedelta(seconds=-5)) == 3
    assert books.receipts() == []


def test_a_key_is_shared_and_contested(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_receipts(bucket, monkeypatch, key="a")
    second = open_receipts(bucket, monkeypatch, key="a", run="two")
    assert first.find() is second.find() is None
    for receipts in (first, second):
        receipts.begin()
        receipts.save(WANTED)
    assert first.ledger is not None
    assert first.ledger.is_contested()
    second.withdraw(WANTED)
    assert not first.ledger.is_contested()


def test_a_budget_holds_whoever_asks_at_once(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "BUDGET_SETTLES_SECONDS", 6.0)  # a busy machine takes seconds for a write

    def ask(number: int) -> bool:
        try:
            Budget(Folder(bucket), "day").reserve(f"{number:012x}", PRICE, Decimal(1000), "Raise it")
        except SeedanceBudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(12))) == 5
    assert Budget(Folder(bucket), "day").spent() == 1000


def test_a_bucket_that_is_not_there_is_no_permission_to_spend(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = open_receipts(bucket.rpartition("@")[0] + "@missing/seedance", monkeypatch)
    assert receipts.find() is None
    with pytest.raises(SeedanceError, match="missing/seedance") as raised:
        receipts.save(WANTED)
    assert raised.value.retryable
    assert raised.value.charged == "no"
