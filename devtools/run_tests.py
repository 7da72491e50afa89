"""Run all tests in four processes side by side, since most of each is waiting.

    python devtools/run_tests.py [arguments of pytest]

With arguments it is one process, which gets them. Measures the coverage into .coverage.* files for `make test`, of the
last two only: whole DAG runs would need half as much CPU again, and processes that are ended lose the figures.
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
FAST = ["-m", "not airflow_processes and not slow"]
WHOLE_RUNS = ["tests/integration", "tests/unit/operators"]
PARTS = [f"tests/unit/{part}" for part in ("api", "execution", "hooks", "transport", "triggers")]

SHARES = {
    "What starts an Airflow": [*PYTEST, "-m", "airflow_processes and not cluster and not slow"],
    "Whole DAG runs, and a cluster": [*PYTEST, "-m", "(cluster or not airflow_processes) and not slow", *WHOLE_RUNS],
    "Parts": [*MEASURED, *FAST, *PARTS],
    "The rest": [*MEASURED, *FAST, *(f"--ignore={folder}" for folder in (*WHOLE_RUNS, *PARTS))],
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
