"""A production-like Airflow on one machine, until Ctrl-C. Called by `make cluster`.

    python devtools/cluster.py                  # the ledger on disk
    python devtools/cluster.py --ledger s3      # on an S3 server of moto's

PostgreSQL, Redis, CeleryExecutor; two schedulers, two triggerers and two workers of two processes each; an API server,
a DAG processor, the Seedance emulator and a ledger. All of it is this program's own: free ports, a temporary folder, no
service of the machine is used. The programs are Debian's (apt-get install postgresql redis-server); as root on Debian
they are installed if they are missing. Tests and devtools/failures.py use the same `Cluster`.

Between any two parts stands a fault proxy (devtools/fault_proxy.py): `Cluster.proxies`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import requests
from fault_proxy import FaultProxy
from local_airflow import WORKER, Guard, LocalAirflow, LocalAirflowError, free_ports

from seedance_provider.testing import Emulator

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"postgres": "postgresql", "redis-server": "redis-server"}
COUNTS = {"scheduler": 2, "triggerer": 2, WORKER: 2}
BUCKET = "seedance-ledger"
LedgerKind = Literal["disk", "s3"]

# What is lost is noticed after seconds, not minutes. Nothing else differs from the defaults of Airflow.
ENVIRONMENT = {
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    # A message that a killed worker held is sent again: by default after 10 minutes, and twice.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
    "PYTHONPATH": str(ROOT),
}


def missing_programs() -> list[str]:
    """Debian's packages of what is needed and not there."""
    return [package for program, package in PACKAGES.items() if _find(program) is None]


def missing_modules(python: str = sys.executable) -> bool:
    """Whether that environment lacks Celery, or a driver of PostgreSQL or Redis."""
    ask = [python, "-c", "import airflow.providers.celery, asyncpg, psycopg2, redis"]
    return subprocess.run(ask, check=False, capture_output=True).returncode != 0


def install_missing(say: Callable[[str], None]) -> list[str]:
    """Install what is missing where that is allowed; return what still is."""
    missing = missing_programs()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {', '.join(missing)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--no-install-recommends", "-y", *missing]):
            subprocess.run(["apt-get", "-qq", *command], env=env, check=False, stdout=subprocess.DEVNULL)
    return missing_programs()


def _find(program: str) -> Path | None:
    of_debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=_version)  # not on the PATH
    found = shutil.which(program)
    return of_debian[-1] if of_debian else Path(found) if found else None


def _version(program: Path) -> int:
    name = program.parent.parent.name
    return int(name) if name.isdecimal() else 0


def _needed(program: str) -> Path:
    found = _find(program)
    if found is None:
        raise LocalAirflowError(f"There is no {program} here: apt-get install {PACKAGES[program]}")
    return found


class _OwnServer:
    """A server of this program's own: a port, a temporary folder, ended with this program.

    :param port: that it listens on, the same after each start
    """

    name: str

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"cluster-{self.name}-"))
        (self.port,) = free_ports(1)
        self._log = self.folder / "log"
        self._guard = Guard(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def start(self, timeout: float = 60) -> None:
        """Start it, for the first time or after `kill`, and return when it answers."""
        self._process = self._guard.spawn(self._command(), self._log, cwd=self.folder, **self._options())
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LocalAirflowError(f"{self.name} did not start:\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.2)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal to its main process; what that leaves behind is ended too."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._guard.end(self._process)
            self._process = None

    def _close(self) -> None:
        if self._process is not None:
            self._guard.end(self._process)
        self._guard.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _options(self) -> dict[str, Any]:
        return {}

    def _prepare(self) -> None: ...

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class Postgres(_OwnServer):
    """A PostgreSQL server. It refuses to run as root: there it runs as the user ``postgres``."""

    name = "postgres"

    def __init__(self) -> None:
        self._server = _needed("postgres").resolve()  # its other programs lie beside it
        self._user = "postgres" if os.geteuid() == 0 else None
        super().__init__()
        self.url = self.url_by(self.port)
        told = subprocess.run([self._server, "--version"], check=True, capture_output=True, text=True)
        self.version = told.stdout.split()[2]

    def url_by(self, port: int) -> str:
        """SQLAlchemy's URL of the database, through a port that leads there."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{port}/postgres"

    def dump(self) -> str:
        """All tables, as text."""
        command: list[str | Path] = [
            self._server.with_name("pg_dump"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "airflow",
        ]
        return subprocess.run([*command, "postgres"], check=True, capture_output=True, text=True).stdout

    def _prepare(self) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        options = ["-U", "airflow", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        command: list[str | Path] = [self._server.with_name("initdb"), "-D", self.folder / "data", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._options())

    def _command(self) -> list[str | Path]:
        settings = {"listen_addresses": "127.0.0.1", "max_connections": "300", "unix_socket_directories": self.folder}
        # Nothing of it outlives this program, so nothing need reach the disk. A killed server loses nothing by that.
        settings |= {"fsync": "off", "synchronous_commit": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._server, "-D", self.folder / "data", "-p", str(self.port), *options]

    def _answers(self) -> bool:
        ask: list[str | Path] = [self._server.with_name("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ask, check=False).returncode == 0

    def _options(self) -> dict[str, Any]:
        return {"user": self._user, "env": {**os.environ, "LC_ALL": "C"}}


class Redis(_OwnServer):
    """A Redis server that loses nothing of the queue when it is killed."""

    name = "redis"

    def __init__(self) -> None:
        self._server = _needed("redis-server")
        super().__init__()

    def url_by(self, port: int) -> str:
        """Celery's URL of it, through a port that leads there."""
        return f"redis://127.0.0.1:{port}/0"

    def _command(self) -> list[str | Path]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "no"}
        return [self._server, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _answers(self) -> bool:
        import redis

        try:
            return bool(redis.Redis(port=self.port, socket_timeout=2).ping())
        except redis.RedisError:
            return False


class Cluster:
    """All of it, for as long as a ``with`` block runs.

    :param dags_folder: folder whose DAG files are loaded
    :param ledger: where the ledger is: a folder of the disk, or an S3 server of moto's
    :param env: environment variables on top of those made here
    :param say: called with one line of progress at a time
    :param keep_home: leave logs on disk
    :param api_key: of the emulator's account ``default``
    :param settings: of the emulator
    """

    def __init__(
        self,
        dags_folder: Path,
        *,
        ledger: LedgerKind = "disk",
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _line: None,
        keep_home: bool = False,
        **settings: Any,
    ) -> None:
        self._dags_folder, self._ledger, self._env, self._say = dags_folder, ledger, env or {}, say
        self._keep_home = keep_home
        self.emulator = Emulator(**settings)
        self._exit = ExitStack()
        self.proxies: dict[str, FaultProxy] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self) -> None:
        enter = self._exit.enter_context
        self.folder = Path(enter(tempfile.TemporaryDirectory(prefix="cluster-")))
        self.postgres, self.redis = enter(Postgres()), enter(Redis())
        self._say(f"PostgreSQL {self.postgres.version} and Redis run")
        enter(self.emulator)
        database, broker = self._proxy("database", self.postgres.port), self._proxy("broker", self.redis.port)
        self._proxy("api", self.emulator.port)
        self.ledger_url, env = self._make_ledger()
        self.airflow = LocalAirflow(
            self._dags_folder,
            env={**ENVIRONMENT, **env, **self._env},
            say=self._say,
            keep_home=self._keep_home,
            counts=COUNTS,
            database_url=self.postgres.url_by(database),
            broker_url=self.redis.url_by(broker),
        )
        tasks = self._proxy("tasks", self.airflow.port)
        self.airflow.env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"http://127.0.0.1:{tasks}/execution/"
        self.airflow.env["AIRFLOW__SEEDANCE__CALLBACK_BASE_URL"] = self.airflow.url
        enter(self.airflow)

    def _proxy(self, name: str, port: int) -> int:
        self.proxies[name] = self._exit.enter_context(FaultProxy(port))
        return self.proxies[name].port

    def _make_ledger(self) -> tuple[str, dict[str, str]]:
        """The ledger's URL, and the environment in which Airflow and this process reach it."""
        if self._ledger == "disk":
            url, env = f"file://{self.folder}/ledger", {}
        else:
            from moto.server import ThreadedMotoServer

            server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
            server.start()
            self._exit.callback(server.stop)
            _, port = server.get_host_and_port()
            requests.put(f"http://127.0.0.1:{port}/{BUCKET}", timeout=30).raise_for_status()
            endpoint = f"http%3A%2F%2F127.0.0.1%3A{self._proxy('store', port)}"
            url = f"s3://ledger_store@{BUCKET}/ledger"
            env = {
                "AIRFLOW_CONN_LEDGER_STORE": f"aws://key:secret@/?endpoint_url={endpoint}&region_name=us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        for name, value in env.items():
            os.environ[name] = value  # for this process, which reads the ledger too
        return url, {**env, "AIRFLOW__SEEDANCE__LEDGER_PATH": url}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ledger", choices=["disk", "s3"], default="disk")
    parser.add_argument("--keep-home", action="store_true", help="leave Airflow's logs on disk")
    options = parser.parse_args()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    if missing := install_missing(say):
        print(f"Not here: {', '.join(missing)}. apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    if missing_modules():
        print("Celery or a driver is missing: make cluster installs it, or", file=sys.stderr)
        print("python3 devtools/setup_venv.py cluster", file=sys.stderr)
        return 1
    # An exception, so that the `with` blocks clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with Cluster(
            ROOT / "dags_examples",
            ledger=options.ledger,
            env={"AIRFLOW__SEEDANCE__POLL_INTERVAL": "2"},
            say=say,
            keep_home=options.keep_home,
            waiting_seconds=2,
            generating_seconds=6,
        ) as cluster:
            cluster.airflow.add_connection("seedance_default", cluster.emulator.connection_json)
            print(f"Airflow:   {cluster.airflow.url}  (no login needed)")
            print(f"Emulator:  {cluster.emulator.url}/_admin/bill")
            print(f"Ledger:    {cluster.ledger_url}")
            print(f"Logs:      {cluster.airflow.process_logs}")
            print(f"Database:  {cluster.postgres.url}")
            print("Ctrl-C here ends everything; what ends by itself is started again.", flush=True)
            while True:
                time.sleep(2)
                for name in cluster.airflow.revive():
                    say(f"{name} ended and was started again")
    except KeyboardInterrupt:
        print()
        return 128 + signal.SIGINT
    except LocalAirflowError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
