"""What SeedanceHook.create_task costs a worker beyond the bare requests call."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.harness import Contestant, Result, Row, median_ratio, obey, take_turns
from benchmarks.polling import environment
from benchmarks.stub import CREATED, HEADERS, TASK_ID, serve

if TYPE_CHECKING:
    from collections.abc import Callable

SECTION = "Worker"
BARE, HOOK, NEW_HOOK = "requests", "hook", "new-hook"
LABELS = {
    BARE: "requests.post, same body and headers",
    HOOK: "SeedanceHook.create_task",
    NEW_HOOK: "a new SeedanceHook each, with its connection lookup",
}
INPUTS = {
    "prompt": "A sunset over the ocean, slow pan",
    "duration": 5,
    "outputResolution": "720p",
    "aspectRatio": "16:9",
}


def run(*, quick: bool = False) -> Result:
    """Measure."""
    result = Result()
    with serve() as server, ExitStack() as stack:
        contestants = {
            name: stack.enter_context(Contestant("benchmarks.worker", name, str(server.port), env=environment(server)))
            for name in LABELS
        }
        figures = take_turns(contestants, turns=5 if quick else 15, seconds=1.0)
    costs = {name: [turn["cpu"] / turn["count"] for turn in taken] for name, taken in figures.items()}
    for name, label in LABELS.items():
        ratio = median_ratio(costs[name], costs[BARE])
        result.data[name] = {"cpu_ms": statistics.median(costs[name]) * 1000, "of_bare": ratio}
        text = f"{statistics.median(costs[name]) * 1000:.2f} ms CPU ({ratio:.2f} of bare)"
        target, met = ("≤ 1.25 of bare", ratio <= 1.25) if name == HOOK else (None, None)
        result.rows.append(Row(SECTION, label, text, target, met))
    lookups = figures[HOOK][-1]["lookups"]
    result.rows.append(Row(SECTION, "connection lookups of a hook's first call", str(lookups), "≤ 1", lookups <= 1))
    result.data["lookups"] = lookups
    return result


def bare(port: int) -> Callable[[], None]:
    """The least that submits a task."""
    import requests

    headers = {**HEADERS, "Connection": "close"}
    body = json.dumps({"model": "seedance-20", "inputs": INPUTS}, separators=(",", ":")).encode()
    url = f"http://127.0.0.1:{port}/api/v1/jobs/createTask"

    def work() -> None:
        if requests.post(url, data=body, headers=headers, timeout=(10, 60)).json()["taskId"] != TASK_ID:
            raise RuntimeError(CREATED)

    return work


def main() -> None:
    """Be a contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=LABELS)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    if options.name == BARE:
        obey(bare(options.port))
        return
    logging.disable(logging.INFO)
    from airflow.providers.common.compat.sdk import BaseHook

    from seedance_provider.hooks.seedance import SeedanceHook

    hook = SeedanceHook()
    with mock.patch.object(BaseHook, "get_connection", wraps=BaseHook.get_connection) as lookup:
        hook.create_task("seedance-20", INPUTS)

    def create() -> None:
        (hook if options.name == HOOK else SeedanceHook()).create_task("seedance-20", INPUTS)

    obey(create, lookups=lookup.call_count)


if __name__ == "__main__":
    main()
