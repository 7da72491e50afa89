"""Run the tests that need no Airflow processes on every supported line of Airflow: ``make test-matrix``.

One virtual environment and one log per line, below .cache/matrix; ``make test-matrix AIRFLOW=3.1`` runs one line only,
and ``TESTS=tests/unit/test_config.py`` one file on every line. Several lines run at once where there is room. Old
releases have no upper limits on what they depend on, so some run no task beside today's newest packages: those are
installed as of a day when they did.

The lines are spread over the supported Pythons. Where that of a line is not on this machine, it is tested with the
one that runs this, which is said, and fails with ``--strict``. The workflow reads the lines by ``--json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).parent / "uv"
EXAMPLES = tuple(f"tests/integration/test_{name}.py" for name in ("docs", "example_dags", "example_pipelines"))
TESTS = ("tests/unit", "tests/contract", *EXAMPLES)
TOOLS = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "coverage>=7.10", "uv")
WORKERS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
LINE_BYTES = 4 * 1024**3
"""Memory for one line of Airflow."""
SERVICES = ("apache-airflow-providers-openlineage", "apache-airflow-providers-sqlite", "moto[server]>=5", "s3fs>=2025")


class Line(NamedTuple):
    name: str
    airflow: str
    python: str
    as_of: str | None = None  # the newest packages of that day
    extra: tuple[str, ...] = ()  # what else to install, and how


OLDEST_COMPAT = ("apache-airflow-providers-common-compat==1.14.1",)
"""What pyproject.toml allows: Airflow's own constraints name an older one than the newest."""


LINES = (
    Line("2.11", "==2.11.*", "3.11"),
    # Its ObjectStoragePath fails with later ones, though it asks for no limit.
    Line("3.0", "==3.0.6", "3.12", "2025-09-30", extra=("universal-pathlib<0.3",)),
    Line("3.1", "==3.1.*", "3.13", extra=OLDEST_COMPAT),
    Line("3.2", "==3.2.2", "3.12", "2026-05-30"),
    Line("3.3", "==3.3.*", "3.13", extra=OLDEST_COMPAT),
    # Its tests read metrics, for which 3.4 has an extra.
    Line("3.4", "==3.4.0b2", "3.11", extra=("--prerelease=allow", "statsd")),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lines", nargs="*", metavar="LINE", help="some of " + ", ".join(line.name for line in LINES))
    parser.add_argument("--tests", nargs="+", default=TESTS, help="test files or folders; default: all that need none")
    parser.add_argument("--at-once", type=int, default=room(), help="lines at the same time; default: %(default)s")
    parser.add_argument("--strict", action="store_true", help="fail where the Python of a line is not here")
    parser.add_argument("--json", action="store_true", help="print the lines and their Pythons, and test nothing")
    options = parser.parse_args()
    if options.json:
        print(json.dumps([{"airflow": line.name, "python": line.python} for line in LINES]))
        return 0
    names = options.lines
    if unknown := set(names) - {line.name for line in LINES}:
        parser.error(f"no such line: {', '.join(sorted(unknown))}")
    chosen = [line for line in LINES if not names or line.name in names]
    missing = [line for line in chosen if interpreter(line.python) is None]
    for line in missing:
        here = sys.version.partition(" ")[0]
        print(f"Airflow {line.name}: Python {line.python} is not here, tested with {here}", flush=True)
    if missing and options.strict:
        return 1
    at_once = min(options.at_once, len(chosen))
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(lambda line: run(line, options.tests, alone=at_once == 1), chosen))
    print()
    for line, (installed, code, seconds) in zip(chosen, results, strict=True):
        print(f"Airflow {line.name:5} {installed:18} {'passed' if code == 0 else 'FAILED'} in {seconds:.0f} s")
    return 1 if any(code for _, code, _ in results) else 0


def room() -> int:
    """How many lines this machine can run at once; most tests wait rather than work."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // LINE_BYTES))


def interpreter(version: str) -> str | None:
    """A Python of this version on this machine; None if there is none, which is not downloaded."""
    if version == "{}.{}".format(*sys.version_info):
        return sys.executable
    found = subprocess.run(
        [str(UV), "python", "find", "--no-python-downloads", "--system", version],
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or None


def install(line: Line) -> str:
    """Make the virtual environment of a line; return its interpreter."""
    venv = ROOT / ".cache" / "matrix" / line.name
    python = str(venv / "bin" / "python")
    env = {"UV_SYSTEM_CERTS": "1", **os.environ}
    subprocess.run(
        [str(UV), "venv", "-q", "--clear", "--python", interpreter(line.python) or sys.executable, str(venv)],
        check=True,
        env=env,
    )
    install = [str(UV), "pip", "install", "-q", "--compile-bytecode", "--python", python]
    if line.as_of is not None:
        today = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).date().isoformat()
        newer = f"apache-airflow-providers-common-compat={today}"
        install += ["--exclude-newer", line.as_of, "--exclude-newer-package", newer]
    install += [*line.extra, f"apache-airflow{line.airflow}", *TOOLS, *SERVICES, "-e", str(ROOT)]
    subprocess.run(install, check=True, env=env)
    return python


def run(line: Line, tests: Sequence[str], *, alone: bool) -> tuple[str, int, float]:
    """Install and test one line; return the exact versions, pytest's exit code and the seconds taken."""
    began = time.monotonic()
    python = install(line)
    tell = "import platform; from importlib.metadata import version"
    asked = [python, "-c", f"{tell}; print(version('apache-airflow'), platform.python_version())"]
    installed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    command = [python, "-m", "pytest", "-q", "--disable-warnings", *WORKERS, *tests]
    if alone:
        print(f"Airflow {installed}", flush=True)
        return installed, subprocess.run(command, cwd=ROOT, check=False).returncode, time.monotonic() - began
    log = ROOT / ".cache" / "matrix" / f"{line.name}.log"
    print(f"Airflow {installed}: see {log.relative_to(ROOT)}", flush=True)
    with log.open("w") as output:
        code = subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=subprocess.STDOUT).returncode
    lines = log.read_text(errors="replace").splitlines()
    failed = [each for each in lines if each.startswith(("FAILED", "ERROR"))]
    in_all = [each for each in lines if " passed" in each][-1:] or lines[-1:]  # a process may log after it
    print(f"Airflow {installed}:", *failed, *in_all, sep="\n  ", flush=True)
    return installed, code, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
