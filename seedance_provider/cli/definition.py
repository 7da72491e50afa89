"""What commands there are. Imported by every ``airflow`` command, so it imports none of what they do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

from seedance_provider import defaults

if TYPE_CHECKING:
    from collections.abc import Callable


def _number_above_0(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= defaults.MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{value!r} must be a number above 0, at most {defaults.MAX_SECONDS:,.0f}")
    return number


def _command(name: str) -> Callable[..., None]:
    return lazy_load_command(f"seedance_provider.cli.commands.{name}")


_OUTPUT = Arg(
    ("-o", "--output"),
    help="table or json (default: table)",
    choices=("table", "json"),
    default="table",
)
_CONN_ID = Arg(
    ("--conn-id",),
    help=f"The Airflow connection (default: {defaults.DEFAULT_CONN_ID})",
    default=defaults.DEFAULT_CONN_ID,
)
_FILE = Arg(
    ("file",),
    help='A JSON file, or - for standard input: an inputs object, {"model": ..., "inputs": ...}, or a list of these',
    metavar="FILE",
)
_MODEL = Arg(
    ("--model",),
    help=f"The model of inputs that name none (default: {defaults.DEFAULT_MODEL})",
    default=defaults.DEFAULT_MODEL,
)
_UPLOAD_MEDIA = Arg(
    ("--upload-media",),
    help="Accept paths and object storage URLs as media, as upload_media=True does",
    action="store_true",
)
_SEEDANCE_TASK_ID = Arg(("seedance_task_id",), help="The vendor's id of the task", metavar="ID")
_POLL_INTERVAL = Arg(
    ("--poll-interval",), help="Seconds between two polls (default: adaptive)", type=_number_above_0, metavar="SECONDS"
)
_TIMEOUT = Arg(
    ("--timeout",), help="Seconds to wait (default: [seedance] timeout)", type=_number_above_0, metavar="SECONDS"
)
_LAST_DAYS = Arg(("--days",), help="Only the last days (default: all)", type=_number_above_0, metavar="N")
_BY = Arg(("--by",), help="One row for each (default: day)", choices=("dag", "model", "day"), default="day")
_KEY = Arg(("key",), help="The idempotency key", metavar="KEY")
_OF_A_TASK_INSTANCE = (
    Arg(("--dag-id",), help="The DAG of the task instance that sent the createTask", default=""),
    Arg(("--run-id",), help="Its run", default=""),
    Arg(("--task-id",), help="Its task", default=""),
    Arg(("--map-index",), help="Its map index (default: not mapped)", type=int, default=-1, metavar="N"),
    Arg(("--key",), help="The idempotency key by which it was sent, in place of the task instance"),
)
_OLDER_DAYS = Arg(
    ("--days",), help="Unchanged for this many days (default: 90)", type=_number_above_0, default=90.0, metavar="N"
)

COMMANDS = GroupCommand(
    name="seedance",
    help="Check, price, read and collect Seedance videos",
    subcommands=(
        ActionCommand(
            name="check",
            help="Check inputs before they cost anything; exit code 1 if there are problems",
            description="Check inputs against what the vendor documents. Sends no request. Values with a Jinja "
            "template are not judged.",
            func=_command("check"),
            args=(_FILE, _MODEL, _UPLOAD_MEDIA, _OUTPUT),
        ),
        ActionCommand(
            name="estimate",
            help="Tell what inputs will cost",
            description="Tell what inputs will cost, by the vendor's list or [seedance] price_list. Sends no request.",
            func=_command("estimate"),
            args=(_FILE, _MODEL, _OUTPUT),
        ),
        ActionCommand(
            name="task",
            help="Show a task's record",
            func=_command("task"),
            args=(_SEEDANCE_TASK_ID, _CONN_ID, _OUTPUT),
        ),
        ActionCommand(
            name="wait",
            help="Wait for a task and show its record; exit code 1 if it fails",
            func=_command("wait"),
            args=(_SEEDANCE_TASK_ID, _POLL_INTERVAL, _TIMEOUT, _CONN_ID, _OUTPUT),
        ),
        ActionCommand(
            name="spend",
            help="Tell what was spent; needs a ledger",
            func=_command("spend"),
            args=(_LAST_DAYS, _BY, _OUTPUT),
        ),
        ActionCommand(
            name="orphans",
            help="Show videos that were charged and never delivered; needs a ledger",
            description="Show videos that were charged, or may have been, and were never delivered: with the present "
            "state of each and the call that collects it.",
            func=_command("orphans"),
            args=(_OUTPUT,),
        ),
        ActionCommand(
            name="adopt",
            help="Say which task came of a createTask of unknown outcome; needs a ledger",
            description="Say which task came of a createTask whose answer was lost, so that the next try of the task "
            "instance, or a clear, continues with it. Costs one GET and charges nothing.",
            func=_command("adopt"),
            args=(_SEEDANCE_TASK_ID, *_OF_A_TASK_INSTANCE, _CONN_ID, _OUTPUT),
        ),
        ActionCommand(
            name="forget",
            help="Forget an idempotency key, so that the next one to ask gets a new video; needs a ledger",
            func=_command("forget"),
            args=(_KEY, _CONN_ID, _OUTPUT),
        ),
        ActionCommand(
            name="prune",
            help="Delete old receipts; needs a ledger",
            description="Delete receipts that have not changed for long. Those of videos that were not delivered stay.",
            func=_command("prune"),
            args=(_OLDER_DAYS, _OUTPUT),
        ),
    ),
)


def get_seedance_cli_commands() -> list[GroupCommand]:
    """The commands, for Airflow."""
    return [COMMANDS]


def make_parser() -> argparse.ArgumentParser:
    """The same commands without ``airflow``, for every version of it."""
    parser = argparse.ArgumentParser(prog="python -m seedance_provider", description=COMMANDS.help)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS.subcommands:
        subparser = subparsers.add_parser(
            command.name, help=command.help, description=command.description or command.help
        )
        subparser.set_defaults(func=command.func)
        for arg in command.args:
            arg.add_to_parser(subparser)
    return parser
