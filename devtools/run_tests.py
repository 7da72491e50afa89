"""Run all tests in two processes side by side: what starts an Airflow, and the rest. Most of both is waiting.

    python devtools/run_tests.py [arguments of pytest]

With arguments it is one process, which gets them. Measures the coverage into .coverage.* files for `make test`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "coverage", "run", "-m", "pytest"]


def main() -> int:
    if arguments := sys.argv[1:]:
        return subprocess.run([*PYTEST, *arguments], cwd=ROOT, check=False).returncode
    with tempfile.TemporaryFile() as output:
        command = [*PYTEST, "-m", "airflow_processes and not slow", "--color=no"]
        with subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as beside:
            try:
                code = subprocess.run(
                    [*PYTEST, "-m", "not airflow_processes and not slow"], cwd=ROOT, check=False
                ).returncode
                print("\nWhat starts an Airflow, run meanwhile:", flush=True)
                beside.wait()
            finally:
                beside.terminate()  # it ends what it has started
        output.seek(0)
        sys.stdout.buffer.write(output.read())
        sys.stdout.flush()
    return code or beside.returncode


if __name__ == "__main__":
    sys.exit(main())
