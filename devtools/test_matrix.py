"""Run the tests that need no Airflow processes on every supported line of Airflow: ``make test-matrix``.

One virtual environment per line, below .cache/matrix; ``make test-matrix AIRFLOW=3.1`` runs one line only, and
``TESTS=tests/unit/test_config.py`` one file on every line. Old releases have no upper limits on what they depend on, so
some run no task beside today's newest packages: those are installed as of a day when they did.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).parent / "uv"
EXAMPLES = ("tests/integration/test_example_dags.py", "tests/integration/test_example_pipelines.py")
TESTS = ("tests/unit", "tests/contract", *EXAMPLES)
TOOLS = ("pytest>=8", "hypothesis>=6.100", "coverage>=7.10", "uv")
SERVICES = ("apache-airflow-providers-openlineage", "apache-airflow-providers-sqlite", "moto[server]>=5", "s3fs")


class Line(NamedTuple):
    name: str
    airflow: str
    as_of: str | None = None  # the newest packages of that day
    extra: tuple[str, ...] = ()  # what else to install, and how


LINES = (
    Line("2.11", "==2.11.*"),
    # Its ObjectStoragePath fails with later ones, though it asks for no limit.
    Line("3.0", "==3.0.6", "2025-09-30", extra=("universal-pathlib<0.3",)),
    Line("3.1", "==3.1.*"),
    Line("3.2", "==3.2.2", "2026-05-30"),
    Line("3.3", "==3.3.*"),
    # Its tests read metrics, for which 3.4 has an extra.
    Line("3.4", "==3.4.0b2", extra=("--prerelease=allow", "statsd")),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lines", nargs="*", metavar="LINE", help="some of " + ", ".join(line.name for line in LINES))
    parser.add_argument("--tests", nargs="+", default=TESTS, help="test files or folders; default: all that need none")
    options = parser.parse_args()
    names = options.lines
    if unknown := set(names) - {line.name for line in LINES}:
        parser.error(f"no such line: {', '.join(sorted(unknown))}")
    results = [(line, *run(line, options.tests)) for line in LINES if not names or line.name in names]
    print()
    for line, installed, code, seconds in results:
        print(f"Airflow {line.name:5} {installed:8} {'passed' if code == 0 else 'FAILED'} in {seconds:.0f} s")
    return 1 if any(code for _, _, code, _ in results) else 0


def install(line: Line) -> str:
    """Make the virtual environment of a line; return its interpreter."""
    venv = ROOT / ".cache" / "matrix" / line.name
    python = str(venv / "bin" / "python")
    env = {"UV_SYSTEM_CERTS": "1", **os.environ}
    subprocess.run([str(UV), "venv", "-q", "--clear", "--python", sys.executable, str(venv)], check=True, env=env)
    install = [str(UV), "pip", "install", "-q", "--compile-bytecode", "--python", python]
    if line.as_of is not None:
        today = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).date().isoformat()
        newer = f"apache-airflow-providers-common-compat={today}"
        install += ["--exclude-newer", line.as_of, "--exclude-newer-package", newer]
    install += [*line.extra, f"apache-airflow{line.airflow}", *TOOLS, *SERVICES, "-e", str(ROOT)]
    subprocess.run(install, check=True, env=env)
    return python


def run(line: Line, tests: Sequence[str]) -> tuple[str, int, float]:
    """Install and test one line; return the exact version, pytest's exit code and the seconds taken."""
    began = time.monotonic()
    print(f"\n== Airflow {line.name}", flush=True)
    python = install(line)
    asked = [python, "-c", "from importlib.metadata import version; print(version('apache-airflow'))"]
    installed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    code = subprocess.run(
        [python, "-m", "pytest", "-q", "--disable-warnings", *tests], cwd=ROOT, check=False
    ).returncode
    return installed, code, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
