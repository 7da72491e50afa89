"""Make or refresh the virtual environment of this checkout: ``python3 devtools/setup_venv.py KIND``.

Needs nothing but Python: the environment gets its own ``uv``, which installs Airflow in seconds where ``pip`` takes
minutes; if uv cannot be had or fails (a private index that only pip is told of), pip does the work. A stamp makes a
second call free until pyproject.toml or the interpreter changes.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 11), (3, 13))
#: What there is, and which others have all of it.
KINDS = {"runtime": ("dev", "bench", "cluster"), "dev": ("bench", "cluster"), "bench": (), "cluster": ()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "kind",
        choices=[*KINDS],
        help="dev adds what tests and checks need; bench the peers that are measured beside us, cluster Celery and the"
        " drivers of PostgreSQL and Redis, to dev",
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    options = parser.parse_args()
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        print(f"Python 3.11 to 3.13 is needed; {sys.executable} is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    venv: Path = options.venv.absolute()
    # `make demo` and `make test` may be started at the same moment.
    lock_path = ROOT / ".cache" / f"{venv.name}.lock"
    lock_path.parent.mkdir(exist_ok=True)
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            set_up(venv, options.kind)
        except subprocess.CalledProcessError as error:
            print(f"Could not set up {venv}: the command above ended with {error.returncode}.", file=sys.stderr)
            return 1
    return 0


def set_up(venv: Path, kind: str) -> None:
    stamp = venv / f".installed-{kind}"
    wanted = _fingerprint()
    if any(_read(venv / f".installed-{name}") == wanted for name in (kind, *KINDS[kind])):
        return
    began = time.monotonic()
    print(f"Setting up {venv} ({kind}) with Python {sys.version.split()[0]} ...", flush=True)
    python = venv / "bin" / "python"
    same_python = _read(venv / ".python") == sys.version
    subprocess.run([sys.executable, "-m", "venv", *([] if same_python else ["--clear"]), str(venv)], check=True)
    (venv / ".python").write_text(sys.version)
    what = ["-e", str(ROOT), *(["--group", f"{ROOT / 'pyproject.toml'}:{kind}"] if kind != "runtime" else [])]
    print("Installing Airflow and this provider ...", flush=True)
    if not _install_with_uv(python, what):
        print("uv did not work here, pip does it (a few minutes) ...", flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--upgrade", "pip"], check=True)
        subprocess.run([python, "-m", "pip", "install", *what], check=True)
    stamp.write_text(wanted)
    print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)


def _install_with_uv(python: Path, what: list[str]) -> bool:
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"]
    if subprocess.run(pip, check=False).returncode != 0:
        return False
    # The system's certificates, as pip uses them, for machines behind a proxy that has its own.
    env = {"UV_SYSTEM_CERTS": "1", **os.environ}
    # Bytecode at once, on all cores: else Airflow's four processes compile the same modules at their first start.
    uv = [str(python.parent / "uv"), "pip", "install", "--compile-bytecode", "--python", str(python), *what]
    if not sys.stdout.isatty():
        uv.append("--quiet")
    return subprocess.run(uv, env=env, check=False).returncode == 0


def _fingerprint() -> str:
    parts = [(ROOT / "pyproject.toml").read_text(), sys.version, str(ROOT)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
