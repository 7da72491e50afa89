"""A scripted vendor on a real socket: createTasks are answered in turn, and every poll finds a success."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, SupportsIndex

from tests.support.wire import Behaviour, Server, answer

if TYPE_CHECKING:
    import pytest

CREATED = answer(200, b'{"taskId": "task_1"}')
NO_SLOT = answer(429, b'{"message": "No slot", "limit": 1, "current": 1}')
BROKEN = answer(500, b'{"message": "Internal error"}')
SUCCESS = answer(200, b'{"taskId": "task_1", "status": "success", "output": [{"url": "https://v.example/1.mp4"}]}')


class _Script(list[Behaviour]):
    """What happens to each request, by its method; the last of the createTask answers stays."""

    def __init__(self, creates: tuple[Behaviour, ...]) -> None:
        super().__init__(creates)
        self.server: Server | None = None

    def pop(self, index: SupportsIndex = -1, /) -> Behaviour:
        assert self.server is not None
        if self.server.requests[-1].method == "GET":
            return SUCCESS
        return super().pop(index) if len(self) > 1 else self[0]


@contextlib.contextmanager
def vendor(monkeypatch: pytest.MonkeyPatch, *creates: Behaviour) -> Iterator[Server]:
    """Serve these answers to createTask, and be the default connection."""
    script = _Script(creates)
    server = script.server = Server(script)
    connection = {"conn_type": "seedance", "host": server.url, "password": "zimg_s3cr3t-000001"}
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(connection))
    try:
        yield server
    finally:
        server.stop()


def created(server: Server) -> int:
    """How many createTasks arrived."""
    return sum(request.method == "POST" for request in server.requests)
