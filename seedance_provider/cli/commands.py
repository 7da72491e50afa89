"""What the commands do: read files, tasks and the ledger, and print a table or JSON."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seedance_provider import defaults
from seedance_provider.api import pricing, validation
from seedance_provider.api.flows import collect_with
from seedance_provider.config import ledger_path
from seedance_provider.execution.ledger import LedgerReceipt, SeedanceLedger, collect
from seedance_provider.hooks.prices import read_price_list
from seedance_provider.hooks.seedance import SeedanceHook

if TYPE_CHECKING:
    from seedance_provider.api.records import TaskRecord

_Row = Mapping[str, Any]


class Answer(NamedTuple):
    """What a command found.

    :param data: All of it, for ``--output json``.
    :param rows: The table. Default: none.
    :param columns: Which members of the rows it shows, with their titles.
    :param note: A line below the table.
    :param failed: Whether the exit code is 1.
    """

    data: Any
    rows: Sequence[_Row] = ()
    columns: Mapping[str, str] = {}
    note: str = ""
    failed: bool = False


def _printing(command: Callable[[Namespace], Answer]) -> Callable[[Namespace], None]:
    """Print a command's answer; where it cannot be had, end in a message and exit code 1."""

    @functools.wraps(command)
    def run(args: Namespace) -> None:
        # Without it Airflow 3 reads no connection from its database outside of a task.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            with _log_on_stderr():
                answer = command(args)
        except (AirflowException, OSError) as error:
            raise SystemExit(str(error)) from error
        try:
            if args.output == "json":
                print(json.dumps(answer.data, indent=2, default=_plain))  # noqa: T201
            else:
                _print_table(answer)
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads it has enough, like head. Python flushes once more when it ends: into nothing then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        if answer.failed:
            raise SystemExit(1)

    return run


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Keep log lines out of the answer: each version of Airflow writes them to stdout by other means."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where it is not file 1
            yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _print_table(answer: Answer) -> None:
    if answer.rows:
        table = Table(box=None, pad_edge=False)
        for title in answer.columns.values():
            table.add_column(title, overflow="fold")
        for row in answer.rows:
            # As Text: brackets in a value are not markup.
            table.add_row(*(Text(_cell(row.get(name))) for name in answer.columns))
        # A pipe has no width: one row is one line there.
        Console(width=None if sys.stdout.isatty() else 10_000).print(table)
    if answer.note:
        print(answer.note)  # noqa: T201


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def _titled(*names: str, **titles: str) -> dict[str, str]:
    return {name: titles.get(name, name).upper() for name in names}


class _Request(NamedTuple):
    model: Any
    inputs: Any


def _read_requests(file: str, model: str) -> list[_Request]:
    try:
        value = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SystemExit(f"{file} is not text in UTF-8: save it as that ({error})") from error
    except (ValueError, RecursionError) as error:
        raise SystemExit(f"{file} is not JSON: {error}") from error
    return [
        _Request(item.get("model", model), item["inputs"])
        if isinstance(item, dict) and "inputs" in item
        else _Request(model, item)
        for item in (value if isinstance(value, list) else [value])
    ]


@_printing
def check(args: Namespace) -> Answer:
    """Check the inputs in a file; exit code 1 if there are problems.

    :param args: ``file``, ``model`` and ``upload_media``.
    """
    found = []
    for model, inputs in _read_requests(args.file, args.model):
        # What a template will render to is not known: judged as in a DAG file, which keeps the warnings back.
        literal = validation.check(model, inputs, partial=isinstance(inputs, dict), allow_local_media=args.upload_media)
        whole = validation.check(model, inputs, allow_local_media=args.upload_media)
        found.append((model, literal.problems, whole.warnings))
    count = sum(len(problems) for _, problems, _ in found)
    return Answer(
        [
            {"model": model, "problems": [problem._asdict() for problem in problems], "warnings": list(warnings)}
            for model, problems, warnings in found
        ],
        [
            {"request": number, "model": model, "kind": kind, "what": what}
            for number, (model, problems, warnings) in enumerate(found, 1)
            for kind, lines in (("problem", problems), ("warning", warnings))
            for what in lines
        ],
        _titled("request", "model", "kind", "what"),
        f"Problems: {count}, in {len(found)} requests",
        failed=count > 0,
    )


@_printing
def estimate(args: Namespace) -> Answer:
    """Tell what the inputs in a file will cost, each and in all.

    :param args: ``file`` and ``model``.
    """
    prices, rows = read_price_list(), []
    for model, inputs in _read_requests(args.file, args.model):
        usable = isinstance(model, str) and isinstance(inputs, dict)
        price = pricing.estimate(model, inputs, prices) if usable else None
        rows.append({"model": model} | (price._asdict() if price else {"low": None, "high": None, "as_of": None}))
    known = [row for row in rows if row["low"] is not None]
    total = {
        "requests": len(rows),
        "low": sum((row["low"] for row in known), Decimal(0)),
        "high": sum((row["high"] for row in known), Decimal(0)),
        "unknown": len(rows) - len(known),
    }
    return Answer(
        {"requests": rows, "total": total},
        [*({"request": number} | row for number, row in enumerate(rows, 1)), {"request": "total"} | total],
        _titled("request", "model", "low", "high", "as_of", as_of="prices of"),
        f"No known price, not in the total: {total['unknown']}" if total["unknown"] else "",
    )


@_printing
def task(args: Namespace) -> Answer:
    """Show a task's record. Free.

    :param args: ``seedance_task_id`` and ``conn_id``.
    """
    return _record(SeedanceHook(args.conn_id).get_task(args.seedance_task_id))


@_printing
def wait(args: Namespace) -> Answer:
    """Wait for a task and show its record. Free.

    :param args: ``seedance_task_id``, ``poll_interval``, ``timeout`` and ``conn_id``.
    """
    hook = SeedanceHook(args.conn_id)
    return _record(hook.wait_for_task(args.seedance_task_id, poll_interval=args.poll_interval, timeout=args.timeout))


def _record(record: TaskRecord) -> Answer:
    facts = {
        "id": record.seedance_task_id,
        "status": record.raw_status or record.status.value,
        "model": record.model,
        "credits": record.credits_used,
        "seconds": record.generation_seconds,
        "code": record.failure and record.failure.code,
        "failure": record.failure and record.failure.message,
    }
    rows = [{"field": name, "value": value} for name, value in facts.items() if value is not None]
    rows += [{"field": "output", "value": url} for url in record.urls]
    return Answer(record.model_dump(), rows, _titled("field", "value"))


@_printing
def spend(args: Namespace) -> Answer:
    """Tell what was spent, by the ledger.

    :param args: ``days`` and ``by``.
    """
    rows = [row._asdict() for row in SeedanceLedger().spend(args.days, args.by)]
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in ("videos", "credits", "estimated")}
    return Answer(
        {"groups": rows, "total": total},
        [*rows, {"group": "total"} | total],
        _titled("group", "videos", "credits", "estimated", group=args.by, estimated="of them estimated"),
    )


@_printing
def orphans(_: Namespace) -> Answer:
    """Show videos that were charged, or may have been, and were never delivered. One GET for each."""
    rows = []
    for receipt in SeedanceLedger().orphans():
        row = {member.name: getattr(receipt, member.name) for member in fields(receipt) if member.name[0] != "_"}
        row["estimate"] = receipt.estimate and receipt.estimate._asdict()
        rows.append(row | {"record": _present_state(receipt), "collect": collect(receipt)})
    return Answer(
        rows,
        [
            row | {"task": f"{row['dag_id']}.{row['task_id']}" + f"[{row['map_index']}]" * (row["map_index"] >= 0)}
            for row in rows
        ],
        _titled("task", "run_id", "status", "record", "collect", run_id="run", status="receipt"),
        "" if rows else "None: each video that was charged was delivered",
    )


def _present_state(receipt: LedgerReceipt) -> str:
    if receipt.seedance_task_id is None:
        return "unknown"
    try:
        record = SeedanceHook(receipt.conn_id or defaults.DEFAULT_CONN_ID).get_task(receipt.seedance_task_id)
    except AirflowException as error:
        return type(error).__name__
    return record.raw_status or record.status.value


@_printing
def adopt(args: Namespace) -> Answer:
    """Say which task came of a createTask of unknown outcome. One GET.

    :param args: ``seedance_task_id``; ``dag_id``, ``run_id``, ``task_id`` and ``map_index``, or ``key``; ``conn_id``.
    """
    if args.key is None and not (args.dag_id and args.run_id and args.task_id):
        raise SystemExit("Name the task instance by --dag-id, --run-id and --task-id, or the video by --key")
    if ledger_path() is None:
        raise SystemExit(
            "There is no ledger to tell it to ([seedance] ledger_path). Without one, collect the video with "
            f"{collect_with(args.seedance_task_id)}, and do not clear the task that sent the createTask"
        )
    which = {name: getattr(args, name) for name in ("dag_id", "run_id", "task_id", "map_index", "key", "conn_id")}
    answer = _record(SeedanceLedger().adopt(args.seedance_task_id, **which))
    return answer._replace(note="Adopted: the next try continues with it, free. Clear the task if it has failed")


@_printing
def forget(args: Namespace) -> Answer:
    """Forget an idempotency key; exit code 1 if there is no such key.

    :param args: ``key`` and ``conn_id``.
    """
    forgotten = SeedanceLedger().forget(args.key, args.conn_id)
    return Answer(
        {"key": args.key, "conn_id": args.conn_id, "forgotten": forgotten},
        note=f"{'Forgotten' if forgotten else 'Not in the ledger'}: key {args.key!r} of connection {args.conn_id!r}",
        failed=not forgotten,
    )


@_printing
def prune(args: Namespace) -> Answer:
    """Delete receipts that have not changed for long.

    :param args: ``days``.
    """
    deleted = SeedanceLedger().prune(timedelta(days=args.days))
    return Answer({"deleted": deleted}, note=f"Files deleted: {deleted}")
