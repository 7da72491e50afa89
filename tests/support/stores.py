"""Object stores for tests of the ledger: folders on disk, in memory, and in memory as slow and bare as can be."""

from __future__ import annotations

import random
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from fsspec.implementations.memory import MemoryFileSystem

if TYPE_CHECKING:
    import pytest

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach  # type: ignore[import-not-found,no-redef,unused-ignore]

_numbers = count(1)


class BareStore(MemoryFileSystem):
    """A store in memory that only lists, reads, writes and deletes, each at its own pace, and fails on demand.

    Nothing of it is atomic but one write: as in S3, GCS and a folder on a disk.

    :param most_seconds: The longest that an operation takes, before or after its effect.
    """

    cachable = False
    url = ""
    """A folder in it, as ``[seedance] ledger_path`` takes it."""

    def __init__(self, most_seconds: float = 0.0) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}  # type: ignore[misc]
        self.pseudo_dirs: list[str] = [""]  # type: ignore[misc]
        self.most_seconds = most_seconds
        self.calls: list[str] = []
        self.broken: set[str] = set()

    def _operate(self, name: str) -> None:
        self.calls.append(name)
        if self.most_seconds:
            time.sleep(random.uniform(0, self.most_seconds))
        if name in self.broken:
            raise PermissionError(f"{name} is denied for https://store/x?X-Amz-Signature=secret")

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._operate("list")
        found = super().ls(path, detail=detail, **kwargs)
        if self.most_seconds:
            time.sleep(random.uniform(0, self.most_seconds))
        return found

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._operate("write")
        assert path not in self.store, f"{path} is written twice"
        super().pipe_file(path, value, mode=mode, **kwargs)

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        self._operate("read")
        return super().cat(path, recursive=recursive, on_error=on_error, **kwargs)


def bare_store(most_seconds: float = 0.0) -> tuple[str, BareStore]:
    """A store of its own, and the URL of a folder in it."""
    store = BareStore(most_seconds)
    conn_id = f"store{next(_numbers)}"
    attach("memory", conn_id, fs=store)
    store.url = f"memory://{conn_id}@ledger"
    return store.url, store


def bare_ledger(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    """The same as Airflow's ``[seedance] ledger_path``."""
    url, store = bare_store()
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", url)
    return store
