"""The callback receiver, or the pages, behind a real HTTP server, mounted as Airflow's API server mounts them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from seedance_provider import defaults


@contextmanager
def serving(app: Any, sub_path: str = "", prefix: str = defaults.CALLBACK_PATH) -> Iterator[str]:
    """Serve an app as Airflow's API server does, below ``[api] base_url``; gives the URL of that server."""
    root = FastAPI(root_path=sub_path)
    root.mount(prefix, app)
    server = uvicorn.Server(uvicorn.Config(root, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server has ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
