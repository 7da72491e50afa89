from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

from seedance_provider.testing import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    """Real time, which a test may turn forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass
class Api:
    """A plain client that shares no code with the emulator or the provider."""

    emulator: Emulator
    key: str | None = None
    agent: str = "Mozilla/5.0"

    def call(
        self, method: str, path: str, *, body: Any = None, timeout: float = 5, **headers: str
    ) -> requests.Response:
        sent = {"User-Agent": self.agent, "Authorization": f"Bearer {self.key or self.emulator.api_key}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        return requests.request(
            method, self.emulator.url + path, data=data, headers=sent, timeout=timeout, allow_redirects=False
        )

    def create(self, prompt: str = "a fox", *, model: str = "seedance-20", **inputs: Any) -> requests.Response:
        return self.submit({"model": model, "inputs": {"prompt": prompt, **inputs}})

    def submit(self, body: Any, **options: Any) -> requests.Response:
        return self.call("POST", "/api/v1/jobs/createTask", body=body, **options)

    def create_id(self, prompt: str = "a fox", **inputs: Any) -> str:
        reply = self.create(prompt, **inputs)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        return str((body.get("data") or body)["taskId"])

    def poll(self, task_id: str, **options: Any) -> requests.Response:
        return self.call("GET", f"/api/v1/jobs/recordInfo?taskId={task_id}", **options)

    def record(self, task_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.poll(task_id).json()
        return body.get("data") or body

    def finished(self, task_id: str, *words: str) -> dict[str, Any]:
        wanted = words or ("success", "fail")
        return until(lambda: self.record(task_id), lambda record: (record.get("status") or record["state"]) in wanted)


def until(look: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not good(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
    return seen


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Emulator]:
    """Tasks finish at once unless a test says otherwise by indirect parameters."""
    options = {"waiting_seconds": 0, "generating_seconds": 0} | getattr(request, "param", {})
    with Emulator(clock=clock, **options) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> Api:
    return Api(emulator)
