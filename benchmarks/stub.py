"""The server that every benchmark talks to: constant answers from nginx, or a small Python server with faults.

It runs in a process of its own, on loopback. nginx answers faster than any client here asks; where it is not installed
the Python server stands in for it. Both count connections and requests at ``/_stub/counters`` in nginx's words.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "benchmark-key"
HEADERS = {
    "User-Agent": "airflow-provider-seedance/0.1.0",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "Authorization": f"Bearer {KEY}",
}
"""What the bare loops send: as much as the provider does."""
TASK_ID = "task_clx9k2m3n0001qw8r5t7y2z4"


def record(status: str, task_id: str = TASK_ID, output: list[dict[str, Any]] | None = None) -> bytes:
    """A recordInfo answer of API v3 (contract 4.4), compact as the vendor sends it."""
    return json.dumps(
        {
            "taskId": task_id,
            "model": "seedance-20",
            "status": status,
            "creditsUsed": 200,
            "output": output,
            "error": None,
            "createTime": 1764000000000,
            "completeTime": None if output is None else 1764000197000,
        },
        separators=(",", ":"),
    ).encode()


GENERATING = record("generating")
OUTPUT = [
    {
        "url": "https://static.kinovi.ai/videos/2026/task_clx9k2m3n0001qw8r5t7y2z4.mp4",
        "width": 1280,
        "height": 720,
        "mediaType": "video/mp4",
        "seed": 42,
        "lastFrameImage": "https://static.kinovi.ai/videos/2026/task_clx9k2m3n0001qw8r5t7y2z4.png",
    }
]
# A running job in dbt Cloud's words, of as many bytes.
DBT_RUNNING = b'{"data":{"status":3,"pad":"%s"}}' % (b"x" * (len(GENERATING) - 30))
CREATED = json.dumps({"taskId": TASK_ID}, separators=(",", ":")).encode()


class Counters(NamedTuple):
    """What the server has seen so far."""

    accepted: int
    requests: int
    open: int


class Server(NamedTuple):
    """A running server."""

    port: int
    kind: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def counters(self) -> Counters:
        """Read the counters; the request for them is not counted among the requests of the Python server only."""
        return read_counters(self.port)

    def ask(self, command: str, **options: Any) -> Any:
        """Send the Python server a command of :class:`Stub`."""
        query = urlencode({name: json.dumps(value) for name, value in options.items()})
        with urllib.request.urlopen(f"{self.url}/_stub/{command}?{query}", timeout=30) as answer:
            return json.load(answer)


def read_counters(port: int) -> Counters:
    """Read the counters of a server, over a connection that is made for it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET /_stub/counters HTTP/1.1\r\nHost: stub\r\nConnection: close\r\n\r\n")
        text = b""
        while chunk := connection.recv(4096):
            text += chunk
    lines = text.partition(b"\r\n\r\n")[2].split(b"\n")
    accepted, _, requests = (int(number) for number in lines[2].split())
    return Counters(accepted, requests, int(lines[0].rpartition(b":")[2]))


@contextmanager
def serve(*, faults: bool = False) -> Iterator[Server]:
    """Run a server: nginx if there is one, the Python server if not or if ``faults`` are wanted."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nginx = (
        None
        if faults
        else shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    )
    with tempfile.TemporaryDirectory() as folder:
        if nginx:
            config = Path(folder) / "nginx.conf"
            config.write_text(_nginx_config(port, folder))
            command = [nginx, "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        else:
            command = [sys.executable, "-m", "benchmarks.stub", str(port)]
        process = subprocess.Popen(command)
        try:
            _wait_until_listening(port, process)
            yield Server(port, "nginx" if nginx else "Python stub")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            read_counters(port)
        except (OSError, ValueError, IndexError):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}") from None
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server does not listen")


def _nginx_config(port: int, folder: str) -> str:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log error;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; default_type application/json; {temporary}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location = /_stub/counters {{ stub_status; }}
    location = /api/v1/jobs/createTask {{ return 200 '{CREATED.decode()}'; }}
    location /api/v2/ {{ return 200 '{DBT_RUNNING.decode()}'; }}
    location /missing {{ return 404 '{GENERATING.decode()}'; }}
    location / {{ return 200 '{GENERATING.decode()}'; }}
  }}
}}
"""


class Stub:
    """The Python server's state.

    Commands, as GET below ``/_stub/``, values as JSON: ``set`` (any attribute of this class), ``refuse`` (``task``,
    ``retry_after``: answer its next poll with 429), ``close_idle``, ``kill_idle`` (as a gateway does that forgets
    connections: the next request on each is dropped), ``stats``.
    """

    def __init__(self) -> None:
        self.key: str | None = None
        """The only key that is accepted; None accepts all."""
        self.log = False
        """Whether to note when which task was asked for."""
        self.accepted = self.requests = self.open = self.most_open = self.dropped = self.unauthorized = 0
        self.seen: list[tuple[float, str]] = []
        self.per_second: Counter[int] = Counter()
        self.refusals: dict[str, float] = {}
        self.connections: set[Connection] = set()
        self.dead: set[Connection] = set()
        """Connections on which the next request is dropped without an answer."""

    def answer(self, target: str, head: bytes) -> bytes:
        """Answer one request."""
        parts = urlsplit(target)
        if parts.path == "/_stub/counters":
            text = (
                f"Active connections: {self.open} \nserver accepts\n {self.accepted} {self.accepted} {self.requests} \n"
            )
            return _response(200, text.encode())
        if parts.path.startswith("/_stub/"):
            return _response(200, json.dumps(self._command(parts.path, parts.query)).encode())
        self.requests += 1
        self.per_second[int(time.time())] += 1
        if self.key is not None and f"Bearer {self.key}".encode() not in head:
            self.unauthorized += 1
            return _response(401, b'{"message":"Invalid API Key"}')
        if parts.path.startswith("/api/v2/"):
            return _response(200, DBT_RUNNING)
        if parts.path.startswith("/missing"):
            return _response(404, GENERATING)
        if parts.path.endswith("/createTask"):
            return _response(200, CREATED)
        return self._record(parts.query.partition("=")[2])

    def _record(self, task_id: str) -> bytes:
        if self.log:
            self.seen.append((time.time(), task_id))
        if task_id in self.refusals:
            wait = self.refusals.pop(task_id)
            return _response(429, b'{"message":"Too many requests"}', f"Retry-After: {wait:g}\r\n")
        if task_id.startswith("ends-"):  # ends-<epoch milliseconds>-<number>
            ended = time.time() * 1000 >= int(task_id.split("-")[1])
            return _response(200, record("success", task_id, OUTPUT) if ended else record("generating", task_id))
        return _response(200, GENERATING.replace(TASK_ID.encode(), task_id.encode()))

    def _command(self, path: str, query: str) -> Any:
        options = {name: json.loads(values[0]) for name, values in parse_qs(query).items()}
        match path.rpartition("/")[2]:
            case "set":
                for name, value in options.items():
                    setattr(self, name, value)
            case "refuse":
                self.refusals[options["task"]] = options["retry_after"]
            case "close_idle":
                for connection in list(self.connections):
                    if time.monotonic() - connection.last > 0.01:  # not the one that is asking
                        connection.transport.close()
            case "kill_idle":
                self.dead |= self.connections
            case "stats":
                names = ("accepted", "requests", "open", "most_open", "dropped", "unauthorized", "seen")
                return {name: getattr(self, name) for name in names} | {"per_second": sorted(self.per_second.items())}
        return None


class Connection(asyncio.Protocol):
    """One connection; clients send the next request only after the answer."""

    transport: asyncio.Transport

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.buffer = b""
        self.last = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.stub.accepted += 1
        self.stub.open += 1
        self.stub.most_open = max(self.stub.most_open, self.stub.open)
        self.stub.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stub.open -= 1
        self.stub.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lowered = head.lower()
        if b"content-length:" in lowered:
            length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
        self.buffer = b""
        self.last = time.monotonic()
        if self in self.stub.dead:
            self.stub.dropped += 1
            self.transport.abort()
            return
        self.transport.write(self.stub.answer(head.split(b" ", 2)[1].decode(), head))
        if b"connection: close" in lowered:
            self.transport.close()


def _response(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} OK\r\nServer: stub\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _main(port: int) -> None:
    stub = Stub()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", port, backlog=8192)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
