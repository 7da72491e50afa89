"""From nothing to a finished DAG run: the emulator, a real Airflow, one video, its URLs. Called by `make demo`.

With ``--ui`` Airflow stays up afterwards, until Ctrl-C. Nothing here leaves this machine or costs credits.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests
from local_airflow import LocalAirflow, LocalAirflowError

from seedance_provider.testing import Emulator

DAGS_FOLDER = Path(__file__).resolve().parent.parent / "dags_examples"
DAG_ID = "seedance_create_and_wait"
SENSOR = "wait_for_video"
SETTINGS = {
    # The default schedule is made for videos that take minutes, the emulator's take seconds.
    "AIRFLOW__SEEDANCE__POLL_INTERVAL": "2",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
}

BEGAN = time.monotonic()


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {line}", flush=True)


class Watch:
    """Says the states of a run's tasks whenever one of them has changed."""

    def __init__(self) -> None:
        self._last = ""
        self.saw_deferred = False

    def __call__(self, tasks: list[dict[str, Any]]) -> None:
        self.saw_deferred |= any(task["state"] == "deferred" for task in tasks)
        tasks = sorted(tasks, key=lambda task: (task["start_date"] is None, task["start_date"] or ""))
        line = "   ".join(f"{task['task_id']}: {task['state'] or '-'}" for task in tasks)
        if line != self._last:
            say(line)
            self._last = line


def show_result(airflow: LocalAirflow, emulator: Emulator, run_id: str) -> None:
    record = airflow.xcom(DAG_ID, run_id, SENSOR, "seedance_task")
    urls = airflow.xcom(DAG_ID, run_id, SENSOR)
    rows = [("task", "status", "credits", "URLs")]
    for number, url in enumerate(urls):
        rows.append(
            (record["seedance_task_id"], record["status"], str(record["credits_used"]), url)
            if number == 0
            else ("", "", "", url)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print()
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    print()
    bill = emulator.bill()
    print(f"Video:     {video_size(urls[0]):,} bytes of MP4 at the first URL")
    print(f"Bill:      {bill['tasks_created']} task created, {bill['credits_spent']} credits (of the emulator)")


def video_size(url: str) -> int:
    """Download a video; return its size in bytes. Anything else than an MP4 file is an error."""
    # The vendor's edge turns the default User-Agent of requests away, and so does the emulator.
    answer = requests.get(url, headers={"User-Agent": "airflow-provider-seedance-demo"}, timeout=30)
    answer.raise_for_status()
    if answer.content[4:8] != b"ftyp":
        raise LocalAirflowError(f"{url} is no MP4 file: it begins with {answer.content[:12]!r}")
    return len(answer.content)


def run(*, keep_ui: bool) -> int:
    say(f"Airflow {version('apache-airflow')} and a Seedance emulator; nothing leaves this machine")
    with (
        Emulator(waiting_seconds=2, generating_seconds=6) as emulator,
        tempfile.TemporaryDirectory(prefix="seedance-demo-") as home,
        # The pipelines among the examples need a ledger, and store their files in the home directory.
        LocalAirflow(
            DAGS_FOLDER,
            say=say,
            env=SETTINGS | {"HOME": home, "AIRFLOW__SEEDANCE__LEDGER_PATH": f"file://{home}/ledger"},
            split_api=keep_ui,  # who triggers a DAG while tasks run would wait for a minute
        ) as airflow,
    ):
        airflow.add_connection("seedance_default", emulator.connection_json)
        airflow.api("POST", "pools", json={"name": "seedance", "slots": 5, "include_deferred": True})
        run_id = airflow.trigger_dag(DAG_ID)
        say(f"DAG {DAG_ID}, run {run_id}")
        watch = Watch()
        state = airflow.wait_for_run(DAG_ID, run_id, timeout=120, watch=watch)
        if state != "success":
            print(airflow.task_log(DAG_ID, run_id, SENSOR), file=sys.stderr)
            print(f"The run ended as {state}; above is the log of {SENSOR}.", file=sys.stderr)
            return 1
        show_result(airflow, emulator, run_id)
        print(f"Emulator:  {emulator.url}/_admin/bill")
        print(f"Airflow:   {airflow.url}/dags/{DAG_ID}/runs/{run_id}")
        if keep_ui:
            print("\nThe UI is up, no login needed. Trigger any DAG there; Ctrl-C here ends everything.", flush=True)
            wait_for_interrupt()
        else:
            print("           (it ends now; `make demo-ui` keeps it running)", flush=True)
        say("stopping Airflow and the emulator")
    say("done, no process is left")
    return 0


def wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ui", action="store_true", help="keep Airflow running until Ctrl-C")
    options = parser.parse_args()
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(keep_ui=options.ui)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (LocalAirflowError, requests.RequestException) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
