"""Run all tests in three processes side by side, since most of each is waiting.

    python devtools/run_tests.py [arguments of pytest]

With arguments it is one process, which gets them. Measures the coverage into .coverage.* files for `make test`; not of
what starts an Airflow, whose processes would need half as much CPU again and lose the figures when they are ended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest"]
MEASURED = [sys.executable, "-m", "coverage", "run", "-m", "pytest"]
QUICK = ["-m", "not airflow_processes and not slow"]
WHOLE_RUNS = ("tests/integration", "tests/unit/operators")

SHARES = {
    "What starts an Airflow": [*PYTEST, "-m", "airflow_processes and not slow"],
    "Whole DAG runs": [*MEASURED, *QUICK, *WHOLE_RUNS],
    "The rest": [*MEASURED, *QUICK, *(f"--ignore={folder}" for folder in WHOLE_RUNS)],
}


def main() -> int:
    if arguments := sys.argv[1:]:
        return subprocess.run([*MEASURED, *arguments], cwd=ROOT, check=False).returncode
    *beside, last = SHARES
    codes = []
    with ExitStack() as stack:
        started = []
        for name in beside:
            output = stack.enter_context(tempfile.TemporaryFile())
            command = [*SHARES[name], "--color=no"]
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT))
            stack.callback(process.terminate)  # it ends what it has started
            started.append((name, process, output))
        codes.append(subprocess.run(SHARES[last], cwd=ROOT, check=False).returncode)
        for name, process, output in started:
            print(f"\n{name}, run meanwhile:", flush=True)
            codes.append(process.wait())
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
