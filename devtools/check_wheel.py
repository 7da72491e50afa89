"""Check the built distributions as a user gets them: ``devtools/check_wheel.py DIST_FOLDER EMPTY_FOLDER``.

The wheel is installed into a virtual environment in the empty folder, with its runtime dependencies only, and asked
there, away from the checkout, what Airflow discovers of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

NAME = "airflow-provider-seedance"
CONNECTION = json.dumps({"conn_type": "seedance", "host": "http://127.0.0.1:9", "password": "not-a-real-key"})
IMPORTS = (
    "import seedance_provider.operators.seedance, seedance_provider.sensors.seedance;"
    "import seedance_provider.triggers.seedance, seedance_provider.hooks.seedance;"
    "import seedance_provider as package; print(package.__file__)"
)


def main() -> int:
    dist, folder = (Path(argument).resolve() for argument in sys.argv[1:])
    wheel, sdist = _only(dist, "*.whl"), _only(dist, "*.tar.gz")
    check_contents(wheel, sdist)
    venv = folder / "venv"
    _run(sys.executable, "-m", "venv", str(venv))
    python = str(venv / "bin" / "python")
    installer = Path(sys.executable).parent / "uv"
    if installer.exists():
        os.environ.setdefault("UV_SYSTEM_CERTS", "1")
        _run(str(installer), "pip", "install", "--quiet", "--python", python, str(wheel))
    else:
        _run(python, "-m", "pip", "install", "--quiet", str(wheel))

    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    env |= {"AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

    def ask(*command: str) -> str:
        return _run(python, *command, cwd=folder, env=env)

    _expect(str(venv), ask("-c", IMPORTS), "the modules come from the wheel")
    _expect(NAME, ask("-m", "airflow", "providers", "list", "-o", "plain"), "airflow providers list")
    _expect(NAME, ask("-m", "airflow", "providers", "get", NAME, "-o", "yaml"), "airflow providers get")
    _expect("SeedanceHook", ask("-m", "airflow", "providers", "hooks", "-o", "plain"), "airflow providers hooks")
    ask("-m", "airflow", "db", "migrate")
    ask("-m", "airflow", "connections", "add", "video", "--conn-json", CONNECTION)
    stored = json.loads(ask("-m", "airflow", "connections", "get", "video", "-o", "json"))
    _expect("seedance", stored[0]["conn_type"], "airflow connections add, get")
    return 0


def check_contents(wheel: Path, sdist: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"seedance_provider/py.typed", "seedance_provider/testing/media/video.mp4"}
    if missing := sorted(wanted - names):
        raise SystemExit(f"{wheel.name} lacks {missing}")
    if strays := sorted(name for name in names if not name.startswith(("seedance_provider/", "airflow_provider_"))):
        raise SystemExit(f"{wheel.name} should not contain {strays}")
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    if missing := sorted({"pyproject.toml", "LICENSE", "README.md", "tests/conftest.py", "Makefile"} - members):
        raise SystemExit(f"{sdist.name} lacks {missing}")
    print(f"ok  contents of {wheel.name} ({wheel.stat().st_size:,} bytes) and {sdist.name}", flush=True)


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"expected one {pattern} in {folder}, found {[path.name for path in found]}")
    return found[0]


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    began = time.monotonic()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    print(f"    {' '.join(Path(part).name for part in command)[:90]} ({time.monotonic() - began:.1f} s)", flush=True)
    return done.stdout


def _expect(part: str, text: str, what: str) -> None:
    if part not in text:
        raise SystemExit(f"{what}: {part!r} is not in\n{text}")
    print(f"ok  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
