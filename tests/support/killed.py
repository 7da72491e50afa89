"""A transfer in a process of its own, which kills itself at a given point: as a worker dies of SIGKILL."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from s3fs import S3FileSystem

from seedance_provider.api.records import TaskRecord
from seedance_provider.execution import storage
from seedance_provider.hooks.output_files import Incoming, Place
from seedance_provider.hooks.seedance import SeedanceHook
from tests.support.stores import attach

POINTS = {
    "with the record": (storage, "outputs_of", 1, "after"),
    "with the headers of the answer": (Incoming, "__init__", 1, "before"),
    "with the first bytes": (Incoming, "__init__", 1, "after"),
    "with an open file": (Place, "_create", 1, "after"),
    "with the first piece written": (None, "write", 1, "after"),
    "within the second part": (None, "write", 7, "after"),
    "with the last piece written": (Incoming, "receive", 1, "after"),
    "with others' parts aborted": (Place, "_abort_uploads", 1, "after"),
    "with the file closed": (Place, "_move", 1, "before"),
    "with the file in its place": (Place, "save", 1, "after"),
    "within the sidecar": (Place, "_move", 2, "before"),
    "with the sidecar": (Place, "note", 1, "after"),
}
"""What dies at which call of which method."""


def transfer_and_die(point: str, output_path: str, record: dict[str, Any], connection: str, s3: str) -> None:
    """Store the outputs of a task, up to a point."""
    os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"] = connection
    if output_path.startswith("s3:"):
        attach(
            "s3", "aws_default", fs=S3FileSystem(key="key", secret="secret", endpoint_url=s3, skip_instance_cache=True)
        )
    where, name, number, when = POINTS[point]
    if where is None:
        _die_of_writing(number)
    else:
        setattr(where, name, _dying(getattr(where, name), number, when))
    transfer = storage.Transfer(SeedanceHook(), logging.getLogger(__name__), output_path)
    storage.store(TaskRecord.model_validate(record), transfer)


def _dying(function: Any, number: int, when: str) -> Any:
    left = [number]

    def dying(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0] and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **options)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return dying


def _die_of_writing(number: int) -> None:
    guarded = Place._guarded

    def dying(self: Place, write: Any) -> Any:
        return guarded(self, _dying(write, number, "after"))

    Place._guarded = dying  # type: ignore[method-assign]
