"""Recorded request and reply pairs, and a server that plays them back and records what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def cases(table: str) -> list[Any]:
    """The cases of a table such as ``recordinfo/errors``, as parameters with readable ids."""
    recorded = json.loads((HERE / f"{table}.json").read_text("utf-8"))
    return [pytest.param(case, id=f"{table.partition('/')[2]}-{case['id']}") for case in recorded["cases"]]


def body_of(reply: dict[str, Any]) -> bytes:
    """The body as the vendor writes it: compact JSON in the recorded order of members, or the text as it is."""
    if "text" in reply:
        text: str = reply["text"]
        return text.encode()
    return json.dumps(reply["json"], ensure_ascii=False, separators=(",", ":")).encode()


@dataclass
class Replay:
    """A running server.

    :param url: Its base URL.
    :param requests: What it was sent: method, target, headers in lower case, body.
    """

    url: str
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def replay(reply: dict[str, Any]) -> Iterator[Replay]:
    """Answer every request with this reply."""
    running = Replay("")
    body = body_of(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            received = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            running.requests.append((self.command, self.path, headers, received))
            self.send_response(reply.get("status", 200))
            self.send_header("Content-Type", reply.get("type", "application/json"))
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        running.url = f"http://127.0.0.1:{server.server_port}/api/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
