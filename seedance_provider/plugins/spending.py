"""What the page of spending asks for: the ledger, as far as its reader may read the DAGs. The vendor is never asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Query, Response

from seedance_provider import defaults
from seedance_provider.config import ledger_path
from seedance_provider.exceptions import SeedanceError
from seedance_provider.execution.ledger import GroupBy, SeedanceLedger, collect, orphans, spend
from seedance_provider.execution.spending import read_budget_of_day, today
from seedance_provider.plugins.shared import Shared
from seedance_provider.plugins.videos import readable_dags

if TYPE_CHECKING:
    from seedance_provider.execution.ledger import LedgerReceipt

log = logging.getLogger(__name__)
router = APIRouter()


@router.get(
    "/ledger",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
async def ledger(
    user: Annotated[Any, Depends(get_user)], days: Annotated[int, Query(ge=1, le=defaults.SPENDING_DAYS)] = 7
) -> Response:
    """Tell what the videos of the DAGs that the reader may read cost, and which of them nobody took.

    :param days: How far to look back.
    """
    if ledger_path() is None:
        return Response("null", media_type="application/json")
    try:
        receipts, spent = await _receipts(days)
    except SeedanceError as error:
        log.warning("The ledger cannot be shown: %s", error)
        raise HTTPException(502, "The ledger does not answer; see the API server's log") from None
    dag_ids = await readable_dags(user)
    answer = await to_thread.run_sync(_told, receipts, spent, dag_ids)
    return Response(answer, media_type="application/json")


def _read(days: int) -> tuple[list[LedgerReceipt], dict[str, Decimal]]:
    """All receipts of some days, and what is spent of each budget that they name and that still counts."""
    book = SeedanceLedger()
    receipts = book.receipts(since=timedelta(days=days))
    newest = {name: None for receipt in reversed(receipts) for name in receipt.budgets if _still_counts(name)}
    return receipts, {name: book.spent(name) for name in list(newest)[: defaults.BUDGETS_LISTED]}


def _still_counts(budget: str) -> bool:
    of_day = read_budget_of_day(budget)
    return of_day is None or of_day[1] == today()


def _told(receipts: list[LedgerReceipt], spent: Mapping[str, Decimal], dag_ids: frozenset[str]) -> bytes:
    mine = [receipt for receipt in receipts if receipt.dag_id in dag_ids]
    limits = {name: limit for receipt in mine for name, limit in receipt.limits.items()}  # the newest come last
    named = {name for receipt in mine for name in receipt.budgets}
    left = orphans(mine)
    answer = {
        "read_at": datetime.now(UTC),
        "spend": {by: [row._asdict() for row in spend(mine, cast("GroupBy", by))] for by in get_args(GroupBy)},
        "ceilings": [
            {**_name(name), "spent": spent[name], "limit": limits.get(name)} for name in sorted(spent) if name in named
        ],
        "orphans": [_orphan(receipt) for receipt in left[-defaults.ORPHANS_LISTED :]],
        "orphans_in_all": len(left),
    }
    return json.dumps(answer, default=_plain).encode()


def _name(budget: str) -> dict[str, str]:
    of_day = read_budget_of_day(budget)
    return {"budget": budget} if of_day is None else dict(zip(("connection", "day"), of_day, strict=True))


def _orphan(receipt: LedgerReceipt) -> dict[str, Any]:
    return {
        "dag_id": receipt.dag_id,
        "run_id": receipt.run_id,
        "task_id": receipt.task_id,
        "map_index": receipt.map_index,
        "id": receipt.seedance_task_id,
        "status": receipt.status,
        "model": receipt.model,
        "credits": receipt.counted_credits,
        "since": receipt.submitted_at or receipt.wanted_at,
        "collect": collect(receipt),
    }


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value.isoformat()


_receipts: Shared[tuple[list[LedgerReceipt], dict[str, Decimal]]] = Shared(_read, defaults.SPENDING_SECONDS)
