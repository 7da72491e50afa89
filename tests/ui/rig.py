"""What the browser tests run against: a real Airflow with videos in every state, the emulator, and Chromium.

``python -m tests.ui.rig`` starts the same and keeps it up, to look at pages by hand; ``--python`` takes the interpreter
of another Airflow, which imports this checkout by PYTHONPATH.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import requests

from devtools.local_airflow import LocalAirflow, end_sessions, free_ports
from seedance_provider.testing import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
DAG_ID = "ui_videos"
HIDDEN_DAG_ID = "ui_hidden"
DERIVED_DAG_ID = "ui_derived"
RUNNING = ("clips", 7)
"""The task instance that does not end."""
SUB_PATH = "/airflow"


_filled: set[tuple[str, str]] = set()


class Rig(NamedTuple):
    """A running Airflow with videos.

    :param url: Its UI, at the root of a host.
    :param reader_url: The same below a sub-path, for a reader who may not read ``ui_hidden``.
    :param run_id: The run of ``ui_videos``.
    :param hidden_run_id: The run of ``ui_hidden``.
    :param derived_run_id: The run of ``ui_derived``, whose operators are of a class derived from one of ours.
    :param python: The interpreter of its environment.
    """

    airflow: LocalAirflow
    emulator: Emulator
    url: str
    reader_url: str
    run_id: str
    hidden_run_id: str
    derived_run_id: str
    python: str

    def filled_run(self, dag_id: str) -> str:
        """A run of a DAG whose tasks never ran, with all that they would leave behind."""
        run_id = "filled"
        if (self.url, dag_id) in _filled:
            return run_id
        self.airflow.wait_for_dag(dag_id)
        path = f"dags/{dag_id}/dagRuns"
        self.airflow.api("POST", path, json={"dag_run_id": run_id, "logical_date": None})
        video = f"{self.emulator.url}/videos/none.mp4"
        command = [self.python, "-m", "tests.ui.fill", dag_id, run_id, video]
        subprocess.run(command, env=self.airflow.env, cwd=ROOT, check=True)
        _filled.add((self.url, dag_id))
        return run_id


@contextmanager
def running(
    say: Callable[[str], None], python: str = sys.executable, env: Mapping[str, str] | None = None
) -> Iterator[Rig]:
    """Start everything, and run the DAGs until all but the endless video are over. Takes about 45 s."""
    with ExitStack() as stack:
        files = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seedance-ui-")))
        for folder in (ROOT / "dags_examples", ROOT / "tests" / "ui" / "dags"):
            shutil.copytree(folder, files / "dags" / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
        emulator = stack.enter_context(
            Emulator(waiting_seconds=0.5, generating_seconds=1, concurrency_limit=None, credits=100_000)
        )
        settings = {
            "AIRFLOW__SEEDANCE__POLL_INTERVAL": "1",
            "AIRFLOW__SEEDANCE__LEDGER_PATH": f"file://{files}/ledger",
            "AIRFLOW__SEEDANCE__VIDEO_TAB": "True",
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "SEEDANCE_UI_STORED": f"file://{files}/stored",
            "HOME": str(files),
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",  # the files do not change
            **(env or {}),
        }
        airflow = stack.enter_context(
            LocalAirflow(files / "dags", say=say, env=settings, split_api=True, python=python)
        )
        airflow.add_connection("seedance_default", emulator.connection_json)
        run_id = airflow.trigger_dag(DAG_ID)
        other_run_ids = {dag_id: airflow.trigger_dag(dag_id) for dag_id in (HIDDEN_DAG_ID, DERIVED_DAG_ID)}
        reader_url = stack.enter_context(_reader_server(airflow, python))
        _wait(airflow, run_id)
        for dag_id, other_run_id in other_run_ids.items():
            airflow.wait_for_run(dag_id, other_run_id, timeout=120)
        say(f"pages: {airflow.url}/plugin/seedance-videos")
        yield Rig(airflow, emulator, airflow.url, reader_url, run_id, *other_run_ids.values(), python)


@contextmanager
def _reader_server(airflow: LocalAirflow, python: str) -> Iterator[str]:
    """A second API server of the same Airflow: below a sub-path, for somebody who may not read everything."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}{SUB_PATH}"
    env = airflow.env | {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.ui.auth.ReaderOfSome",
    }
    with airflow.process_log_path("reader-api-server").open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "airflow", "api-server", "--port", str(port)],
            env=env,
            cwd=airflow.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(url)
        yield url
    finally:
        end_sessions([process.pid])
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if requests.get(f"{url}/api/v2/version", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} does not answer")
        time.sleep(0.3)


def _wait(airflow: LocalAirflow, run_id: str) -> None:
    deadline = time.monotonic() + 180
    while True:
        states = {
            (task["task_id"], task["map_index"]): task["state"] for task in airflow.task_instances(DAG_ID, run_id)
        }
        running = states.pop(RUNNING, None)
        if running == "deferred" and all(state in ("success", "failed") for state in states.values()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the videos are not ready: {states}, {running}")
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="of the environment of another Airflow")
    options = parser.parse_args()
    say = functools.partial(print, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exception, so that all is ended
    with running(say, options.python) as rig:
        say(f"run {rig.run_id}; reader: {rig.reader_url}; Ctrl-C ends it")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
