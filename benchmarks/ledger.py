"""What the ledger adds to a video: operations and time, on a disk and on an S3 server on this machine."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

from airflow.sdk.io import attach
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from benchmarks.harness import Result, Row, quantile
from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.execution.budgets import Budget
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Receipt
from seedance_provider.execution.stores import Facts
from seedance_provider.hooks.ledger_files import Folder

SECTION = "Ledger"
VIDEOS = 200
_WANTED = Receipt("f" * 64, max_tries=1, try_number=1, retries=1)
_PRICE = CreditEstimate(Decimal(200), Decimal(200), "2026-09")


def run(*, quick: bool = False) -> Result:
    """Measure both stores."""
    result = Result()
    videos = 20 if quick else VIDEOS
    with tempfile.TemporaryDirectory() as folder:
        _measure(result, "a disk", f"file://{folder}/ledger", videos)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/ledger", method="PUT"), timeout=10).close()
        attach("s3", "bench", fs=S3FileSystem(key="key", secret="secret", endpoint_url=endpoint))
        _measure(result, "an S3 server", "s3://bench@ledger/seedance", videos)
    finally:
        server.stop()
    return result


def _measure(result: Result, where: str, url: str, videos: int) -> None:
    os.environ["AIRFLOW__SEEDANCE__LEDGER_PATH"] = url
    steps: dict[str, Callable[[int], Any]] = {
        "up to the submission: 1 list, 2 writes": _submit,
        "delivery: 1 list, 1 read, 1 write": lambda number: _receipts(number).note_delivered("task", Decimal(200)),
        "a reservation: 2 lists, 1 write": partial(_reserve, url),
    }
    for what, step in steps.items():
        taken = [_milliseconds(step, number) for number in range(videos)]
        result.data[f"{where}, {what}"] = taken
        value = f"{statistics.median(taken):.1f} ms, of 100 all but 5 within {quantile(taken, 0.95):.1f} ms"
        result.rows.append(Row(SECTION, f"{where}, {what}", value))
    taken = [_milliseconds(lambda _: SeedanceLedger(url).receipts(), 0) for _ in range(3)]
    result.rows.append(Row(SECTION, f"{where}, all receipts of {videos} videos", f"{statistics.median(taken):.0f} ms"))


def _milliseconds(step: Callable[[int], Any], number: int) -> float:
    began = time.perf_counter()
    step(number)
    return (time.perf_counter() - began) * 1000


def _receipts(number: int) -> Receipts:
    ti = SimpleNamespace(dag_id="promo", run_id="monday", task_id="video", map_index=number)
    context: Any = {"ti": ti}
    return Receipts.of(context, durable=True, facts=Facts("seedance-20", "seedance_default"))


def _submit(number: int) -> None:
    receipts = _receipts(number)
    receipts.find()
    receipts.begin()
    receipts.facts.estimate = _PRICE
    receipts.save(_WANTED)
    receipts.save(_WANTED.submitted("task", time.time()))


def _reserve(url: str, number: int) -> None:
    Budget(Folder(url), "day").reserve(f"{number:012x}", _PRICE, Decimal(1_000_000), "")
