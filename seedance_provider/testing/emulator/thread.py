"""The emulator inside a Python process: a daemon thread with its own event loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from seedance_provider.testing.emulator.app import Server
from seedance_provider.testing.emulator.ledger import Account
from seedance_provider.testing.emulator.settings import Settings

DEFAULT_API_KEY = "emulator-key"
Result = TypeVar("Result")


def base_url(host: str, port: int) -> str:
    """Where clients on this machine reach an emulator that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - recognised, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _host_and_port(url: str) -> tuple[str, int | None]:
    """The two fields of an Airflow connection; the host keeps its scheme."""
    parts = urlsplit(url)
    return url.removesuffix(f":{parts.port}"), parts.port


def connection_json(url: str, key: str | None) -> str:
    """An Airflow connection in JSON, as the environment variable AIRFLOW_CONN_SEEDANCE_DEFAULT takes it.

    :param url: base URL with its port, which goes into the field `port`: the Test button of some Airflow versions
        works only where a port is stored.
    :param key: the API key; None leaves the password out.
    """
    host, port = _host_and_port(url)
    connection = {"conn_type": "seedance", "host": host, "port": port, "password": key}
    present = {name: value for name, value in connection.items() if value is not None}
    return json.dumps(present, separators=(",", ":"))


class Emulator:
    """A local Seedance API on its own thread.

    ```python
    with Emulator(waiting_seconds=0.1, generating_seconds=0.2) as emulator:
        os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"] = emulator.connection_json
    ```

    :param host: address to listen on (default `127.0.0.1`).
    :param port: TCP port; 0 (the default) picks a free one.
    :param api_key: key of the account `default`; the emulator's own, no secret.
    :param credits: opening balance of that account (default 100,000).
    :param accounts: further accounts: objects with `key`, `name` and, as `put_account`, what they may do.
    :param faults: fault rules, as `add_fault` takes them.
    :param log: called with one short line per API call; None (the default) for silence.
    :param clock: epoch seconds; a test may pass its own and turn it forward instead of waiting.
    :param settings: any field of `Settings`, by name; here waiting and generating take 1 and 3 seconds by default.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = DEFAULT_API_KEY,
        credits: float = 100_000,  # noqa: A002 - the vendor's word
        accounts: Iterable[dict[str, Any]] = (),
        faults: Iterable[dict[str, Any]] = (),
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
        **settings: Any,
    ) -> None:
        self.host, self.port, self.api_key = host, port, api_key
        everyone = (Account(api_key, credits=credits), *(Account(**account) for account in accounts))
        self.server = Server(Settings(**settings), everyone, script=faults, log=log, clock=clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Emulator:
        """Listen, on a thread of its own.

        :return: itself.
        :raises ValueError: if the host or the port cannot be one.
        :raises OSError: if the port is taken, or the host is not an address of this machine.
        :raises RuntimeError: if it runs already.
        """
        if self._loop is not None:
            raise RuntimeError(f"the emulator is already listening on {self.url}")
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="seedance-emulator", daemon=True)
        self._thread.start()
        self.port = started.result()
        return self

    def stop(self) -> None:
        """Close all sockets and end the thread; the bill stays readable. Harmless when it does not run."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = None

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, started: Future[int]) -> None:
        loop = asyncio.new_event_loop()
        try:
            port = loop.run_until_complete(self.server.start(self.host, self.port))
        except BaseException as problem:  # noqa: BLE001 - handed to the thread that waits for the port
            loop.close()
            started.set_exception(problem)
            return
        self._loop = loop
        started.set_result(port)
        loop.run_forever()
        loop.run_until_complete(self.server.stop())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _call(self, function: Callable[[], Result]) -> Result:
        """Run a function where the server's state lives, so that no two threads touch it."""
        if self._loop is None or threading.current_thread() is self._thread:
            return function()
        answer: Future[Result] = Future()

        def run() -> None:
            try:
                answer.set_result(function())
            except Exception as problem:  # noqa: BLE001 - handed to the calling thread
                answer.set_exception(problem)

        self._loop.call_soon_threadsafe(run)
        return answer.result()

    @property
    def url(self) -> str:
        """The base URL, such as `http://127.0.0.1:8765`."""
        return base_url(self.host, self.port)

    @property
    def settings(self) -> Settings:
        """The settings in force; assign to its fields, or change several with `update`."""
        return self.server.settings

    @property
    def connection_json(self) -> str:
        """An Airflow connection to this emulator, in JSON."""
        return connection_json(self.url, self.api_key)

    @property
    def connection_uri(self) -> str:
        """The same connection in Airflow's URI form."""
        host, port = _host_and_port(self.url)
        return f"seedance://:{quote(self.api_key, safe='')}@{quote(host, safe='')}:{port}"

    def bill(self) -> dict[str, Any]:
        """Tasks and credits: totals, `accounts` by name, `tasks` in order of creation."""
        return self._call(self.server.ledger.bill)

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The logged API calls, of one endpoint if given (`createTask`, `recordInfo`, `uploads`, …)."""
        entries: list[dict[str, Any]] = self._call(self.server.request_report)["requests"]
        return [entry for entry in entries if endpoint in (None, entry["endpoint"])]

    def counts(self, endpoint: str = "createTask") -> dict[str, int]:
        """Calls of one endpoint by outcome: `created`, `429`, `fault:http`, `created+fault:reset`, …"""
        counts: dict[str, dict[str, int]] = self._call(self.server.request_report)["counts"]
        return counts.get(endpoint, {})

    def deliveries(self) -> list[dict[str, Any]]:
        """The callbacks sent so far: taskId, url, copy, attempt, status (0: no answer)."""
        sent: list[dict[str, Any]] = self._call(self.server.request_report)["deliveries"]
        return sent

    def add_fault(self, fault: str, **rule: Any) -> None:
        """Append one rule to the fault script, such as `add_fault("reset", accept=True, times=2)`."""
        self._call(lambda: self.server.add_faults({"fault": fault, **rule}))

    def clear_faults(self) -> None:
        """Forget the fault script; directives of tasks that exist stay with them."""
        self._call(self.server.clear_faults)

    def put_account(self, **account: Any) -> None:
        """Add or change an account: `name` (default: `default`), `key`, `credits`, `concurrency_limit`, `state`."""
        self._call(lambda: self.server.put_account(account))

    def reset(self) -> None:
        """Forget tasks, faults, uploads and logs; settings and accounts are again as at the start."""
        self._call(self.server.reset)
