"""Run the benchmarks: ``python -m benchmarks [--quick] [--only polling,worker]``.

Prints one table and, unless ``--only`` or ``--quick`` is given, writes it with a plot to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report

if TYPE_CHECKING:
    from benchmarks.harness import Result

SECTIONS = (
    "polling",
    "waiting",
    "schedule",
    "budget",
    "sessions",
    "worker",
    "parsing",
    "ledger",
    "transfer",
    "endtoend",
    "whole",
    "pages",
)


def main() -> int:
    """Run and report; the exit code says whether everything could be measured, not whether targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes and rough figures; nothing is written")
    parser.add_argument("--only", help=f"some of: {','.join(SECTIONS)}; nothing is written")
    parser.add_argument("--write", action="store_true", help="write the results all the same")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else SECTIONS
    results: dict[str, Result] = {}
    began = time.time()
    with tempfile.TemporaryDirectory() as home:
        # An Airflow of its own, whatever is configured here.
        for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
            del os.environ[name]
        os.environ["AIRFLOW_HOME"] = home
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            results[name] = importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)
            print(report.table(results[name].rows), flush=True)
    if options.write or not (options.quick or options.only):
        for path in report.write(results, Path(__file__).parent / "results", minutes=(time.time() - began) / 60):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
