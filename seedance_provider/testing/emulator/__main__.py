"""The command line: `python -m seedance_provider.testing.emulator --port 8765`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedance_provider.testing.emulator.app import Server
from seedance_provider.testing.emulator.dialects import compact
from seedance_provider.testing.emulator.ledger import Account
from seedance_provider.testing.emulator.rules import DIALECTS
from seedance_provider.testing.emulator.settings import Settings
from seedance_provider.testing.emulator.thread import DEFAULT_API_KEY, base_url, connection_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seedance_provider.testing.emulator",
        description="A local Seedance API: write and test DAGs without spending credits.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8765, help="TCP port, 0 for a free one (default: %(default)s)")
    add("--dialect", choices=DIALECTS, default="current", help="generation of the API (default: %(default)s)")
    add("--waiting-seconds", type=float, default=1.0, help="time a task is `waiting` (default: %(default)s)")
    add("--generating-seconds", type=float, default=3.0, help="then `generating` (default: %(default)s)")
    add("--credits", type=float, default=100_000, help="opening balance of each key (default: %(default)s)")
    add("--concurrency-limit", type=int, default=5, help="running tasks per key, 0: no limit (default: %(default)s)")
    add("--key", action="append", help=f"API key, may be repeated (default: {DEFAULT_API_KEY})")
    add("--strict-duration", action="store_true", help='refuse durations written "5" or "5s"')
    add("--no-user-agent-check", action="store_true", help="accept the default User-Agents of HTTP libraries")
    add("--faults", type=Path, metavar="FILE", help="JSON list of fault rules")
    add(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="write url, pid and connection as JSON once it listens",
    )
    add(
        "--json",
        action="store_true",
        help="print that JSON, without keys of your own, as the only start-up line",
    )
    add("--quiet", action="store_true", help="no line per API call")
    return parser


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read the lines may be gone
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _server(options: argparse.Namespace, keys: Sequence[str]) -> Server:
    settings = Settings(
        dialect=options.dialect,
        waiting_seconds=options.waiting_seconds,
        generating_seconds=options.generating_seconds,
        concurrency_limit=options.concurrency_limit or None,
        user_agent_check=not options.no_user_agent_check,
        strict_duration=options.strict_duration,
    )
    names = ["default", *(f"account-{number}" for number in range(2, len(keys) + 1))]
    accounts = [Account(key, name, options.credits) for key, name in zip(keys, names, strict=True)]
    script = json.loads(options.faults.read_text()) if options.faults else []
    return Server(settings, accounts, script=script, log=None if options.quiet else _say)


def _announce(options: argparse.Namespace, port: int, key: str) -> None:
    url = base_url(options.host, port)
    ready: dict[str, Any] = {"url": url, "port": port, "pid": os.getpid(), "connection": connection_json(url, key)}
    # The default key is public; one that somebody chose is not shown.
    shown = connection_json(url, key if key == DEFAULT_API_KEY else None)
    if options.json:
        _say(compact(ready | {"connection": shown}))
    else:
        _say(f"Seedance emulator, dialect {options.dialect}, listening on {url}")
        _say("Point Airflow at it:" if shown == ready["connection"] else "Point Airflow at it (password: your --key):")
        _say(f"  export AIRFLOW_CONN_SEEDANCE_DEFAULT='{shown}'")
        _say(f"Bill: {url}/_admin/bill   Stop: Ctrl-C")
    if options.ready_file:
        unfinished = options.ready_file.with_name(options.ready_file.name + ".part")
        unfinished.touch(mode=0o600)
        unfinished.write_text(compact(ready))
        unfinished.rename(options.ready_file)


async def _serve(options: argparse.Namespace, server: Server, key: str) -> None:
    stopped = asyncio.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(wanted, stopped.set)
    try:
        port = await server.start(options.host, options.port)
    except OSError as problem:
        where = f"{options.host}:{options.port}"
        raise OSError(f"{where}: {problem.strerror}. Choose another --host or --port (0: a free one)") from None
    try:
        _announce(options, port, key)
        await stopped.wait()
    finally:
        await server.stop()
    bill = server.ledger.bill()
    _say("bill: " + compact({name: bill[name] for name in bill if name not in ("accounts", "tasks")}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; exit code 0 then, 2 when it cannot start."""
    options = _parser().parse_args(arguments)
    keys = options.key or [DEFAULT_API_KEY]
    try:
        asyncio.run(_serve(options, _server(options, keys), keys[0]))
    except (ValueError, OSError) as problem:
        sys.stderr.write(f"The emulator cannot start: {problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
