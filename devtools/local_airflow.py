"""A real Airflow on this machine, 2.11 or later, for as long as a ``with`` block runs.

    with LocalAirflow(Path("dags_examples"), say=print) as airflow:
        run_id = airflow.trigger_dag("my_dag")
        assert airflow.wait_for_run("my_dag", run_id, timeout=60) == "success"
        print(airflow.xcom("my_dag", run_id, "my_task"))

API server, scheduler, triggerer and DAG processor run as processes of their own, on SQLite, in a temporary
AIRFLOW_HOME, on free ports, blind to the caller's own ``AIRFLOW*`` settings. With ``counts``, a database and a broker
it is the Airflow of devtools/cluster.py: several of each, and workers of Celery. ``airflow standalone`` is not
used: it leaves its children behind on SIGTERM. Every process gets a session of its own, and whatever happens
to the caller (an exception, Ctrl-C, even SIGKILL) those sessions are ended: on a normal way out by `stop`,
else by a small guard process that notices that the caller is gone.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import psutil
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from types import TracebackType

#: What `airflow` is asked to run, in the order of starting.
COMPONENTS = ("api-server", "scheduler", "triggerer", "dag-processor")
#: The same of Airflow 2, whose scheduler processes the DAG files.
COMPONENTS_2 = ("webserver", "scheduler", "triggerer")

RUN_END_STATES = frozenset({"success", "failed"})
TASK_END_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})

#: What runs tasks where there is a broker.
WORKER = "worker"
_TASK_SERVER = "task-api-server"
_COMMANDS = {WORKER: ("celery", "worker", "--without-gossip", "--without-mingle")}
_HEALTH_KEYS = {"scheduler": "scheduler", "triggerer": "triggerer", "dag-processor": "dag_processor"}
_JOBS = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob"}
_WORKER_READY = re.compile(r"worker\S*@\S+ ready\.")
#: Airflow 2 lets nobody in without an account; whoever asks on this machine is the administrator.
_WEBSERVER_CONFIG = 'AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = False\n'
_LOG_LINE_2 = re.compile(r"\[(?P<time>\S+)\] \{[^}]*\} (?P<level>[A-Z]+) - (?P<event>.*)")


class LocalAirflowError(RuntimeError):
    """Airflow did not start, did not answer as expected, or did not finish in time."""


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports that nobody listens on.

    They lie below the range from which the kernel picks ports for outgoing connections, so that none of those
    takes one between now and the moment its server binds it; and they are drawn at random, so that instances
    started at the same moment do not choose the same.
    """
    ports: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 32_000), 500):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise LocalAirflowError(f"cannot find {count} free ports between 20000 and 32000")


def airflow_version(python: str) -> str:
    """The version of Airflow in the environment of an interpreter."""
    if python == sys.executable:
        return version("apache-airflow")
    ask = "from importlib.metadata import version; print(version('apache-airflow'))"
    asked = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def session_processes(session: int) -> list[psutil.Process]:
    """The processes of a session that still run; zombies have ended."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            if os.getsid(pid) == session:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def end_sessions(sessions: Collection[int], *, grace: float = 15) -> None:
    """End every process of these sessions: SIGTERM to the leaders' groups, SIGKILL to all that outlive
    ``grace`` seconds.
    """
    for session in sessions:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while True:
        left = [process for session in sessions for process in session_processes(session)]
        if not left:
            return
        if time.monotonic() > deadline + 15:
            raise LocalAirflowError(f"processes survived SIGKILL: {left}")
        if time.monotonic() > deadline:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(0.1)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait, so that no process is started but unknown when their handlers raise."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _frame: held.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received in held:
            signal.raise_signal(received)


class Guard:
    """Starts processes, each in a session of its own, and sees to it that none outlives this one.

    :param folder: removed at the end, if this process does not live to do it
    """

    def __init__(self, folder: Path | None = None) -> None:
        with _signals_held():
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(folder or "")], stdin=subprocess.PIPE, start_new_session=True, text=True
            )

    def spawn(self, command: Sequence[str | Path], log: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a process.

        :param command: the program and its arguments
        :param log: the file that takes what it says, after what is there
        :param options: of `subprocess.Popen`
        """
        with log.open("ab") as output, _signals_held():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
            self._tell(f"+{process.pid}")
        return process

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """End the sessions of these processes, if they have not ended."""
        end_sessions([process.pid for process in processes])
        for process in processes:
            process.wait()
            self._tell(f"-{process.pid}")

    def close(self) -> None:
        """End the guard; what was started and not ended ends with it."""
        self._process.communicate()  # closes its standard input, at which it ends

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()


class LocalAirflow:
    """One Airflow: some processes, one database, one client of its REST API.

    :param dags_folder: folder whose DAG files are loaded
    :param env: environment variables on top of the settings made here; they win
    :param say: called with one line of progress at a time; nothing is shown without it
    :param python: the interpreter of the environment that has Airflow
    :param keep_home: leave AIRFLOW_HOME (logs, database) on disk after the end
    :param start_timeout: seconds until all processes must be healthy
    :param split_api: serve what tasks call from an API server of its own. For callers that change something over the
        REST API while tasks run: in one process with SQLite the event loop, which logs the change, can wait for the
        lock of a task's request that waits for the event loop, until the database gives up
    :param counts: how many there are of a component, one by default. The second scheduler is called ``scheduler-2``
    :param database_url: SQLAlchemy's URL of an empty database; SQLite in AIRFLOW_HOME without it
    :param broker_url: Redis. With it tasks run by CeleryExecutor on the component ``worker``, else by LocalExecutor
    """

    def __init__(
        self,
        dags_folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] | None = None,
        python: str = sys.executable,
        keep_home: bool = False,
        start_timeout: float = 600,
        split_api: bool = False,
        counts: Mapping[str, int] | None = None,
        database_url: str | None = None,
        broker_url: str | None = None,
    ) -> None:
        self.version = airflow_version(python)
        self._is_2 = self.version.startswith("2.")
        self.components: tuple[str, ...] = COMPONENTS_2 if self._is_2 else COMPONENTS
        if broker_url is not None:
            self.components += (WORKER,)
        self._counts = counts or {}
        self._database_url, self._broker_url = database_url, broker_url
        self._dag_processor = "scheduler" if self._is_2 else "dag-processor"
        self.dags_folder = dags_folder.resolve()
        self.home = Path(tempfile.mkdtemp(prefix="local-airflow-"))
        self.process_logs = self.home / "processes"
        self.port, self._trigger_log_port, self._worker_log_port, task_port = free_ports(4)
        self.url = f"http://127.0.0.1:{self.port}"
        self._api_url = f"{self.url}/api/{'v1' if self._is_2 else 'v2'}"
        self._task_port = task_port if split_api and not self._is_2 else None  # tasks of Airflow 2 call no server
        self._task_url = f"http://127.0.0.1:{self._task_port or self.port}/execution/"
        self.env = self._environment(env or {})
        self._say = say or (lambda _line: None)
        self._python = python
        self._keep_home = keep_home
        self._start_timeout = start_timeout
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: Guard | None = None
        self._http = requests.Session()
        self._http.trust_env = False  # neither a proxy nor a .netrc has a say about a server on this machine
        self._authentication = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Processes

    def start(self) -> None:
        """Make the database, start all processes, return when all of them are healthy."""
        began = time.monotonic()
        try:
            self.process_logs.mkdir()
            self._guard = Guard(None if self._keep_home else self.home)
            if self._is_2:
                (self.home / "webserver_config.py").write_text(_WEBSERVER_CONFIG)
            self._say("Airflow: making the database")
            self._migrate()
            for component in self.components:
                for name in self.names(component):
                    self.start_process(name)
            if self._task_port is not None:
                self.start_process(_TASK_SERVER)
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        self._say(f"Airflow: ready at {self.url} after {time.monotonic() - began:.0f} s")

    def stop(self) -> None:
        """End all processes and remove AIRFLOW_HOME. Safe to call twice."""
        self._http.close()
        self._end(*self._processes)
        if not self._keep_home:
            shutil.rmtree(self.home, ignore_errors=True)
        if self._guard is not None:
            self._guard.close()

    def names(self, component: str) -> list[str]:
        """What the processes of a component are called."""
        return [component, *(f"{component}-{number}" for number in range(2, self._counts.get(component, 1) + 1))]

    def start_process(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Start one of `names`, for the first time or after `kill`.

        :param name: what it is called; with ``-2`` and so on the second one of a component
        :param env: environment variables on top of `env`, for this process only
        """
        component = name.rstrip("0123456789").rstrip("-")
        if name == _TASK_SERVER:
            self._spawn(name, "api-server", "--apps", "execution", "--port", str(self._task_port), env=env)
            return
        arguments = [*_COMMANDS.get(component, (component,))]
        if component == WORKER:
            arguments += ["--celery-hostname", f"{name}@%h", "--pid", str(self.home / f"{name}.pid")]
            (self.home / f"{name}.pid").unlink(missing_ok=True)  # of one that was killed
        if component in (WORKER, *_JOBS) and (component == WORKER or self._counts.get(component, 1) > 1):
            arguments.append("--skip-serve-logs")  # they would want one port, and one machine has one folder of logs
        self._spawn(name, *arguments, env=env)

    def revive(self) -> list[str]:
        """Start again what has ended by itself, as systemd or Kubernetes does; return which."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in ended:
            self._end(name)  # what it left behind
            self.start_process(name)
        return ended

    def kill(self, component: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to every process of a component and wait until all have ended, as in a crash of its
        machine. The scheduler's and a worker's processes include the tasks that run.
        """
        for member in self.processes(component):
            with suppress(psutil.NoSuchProcess):
                member.send_signal(how)
        self._end(component)

    def processes(self, component: str) -> list[psutil.Process]:
        """The running processes of a component, its children included."""
        return session_processes(self._processes[component].pid)

    def wait_until_healthy(self) -> None:
        """Wait until the health route calls every component healthy; one that ends meanwhile is an error."""
        deadline = time.monotonic() + self._start_timeout
        waiting_for: tuple[str, ...] = ()
        while True:
            for component, process in self._processes.items():
                if process.poll() is not None:
                    code = process.returncode
                    raise LocalAirflowError(f"airflow {component} ended with exit code {code}\n{self._tail(component)}")
            missing = self._unhealthy()
            if not missing:
                return
            if missing != waiting_for:
                self._say(f"Airflow: waiting for {', '.join(missing)}")
                waiting_for = missing
            if time.monotonic() > deadline:
                tails = "\n".join(self._tail(component) for component in missing)
                raise LocalAirflowError(f"not healthy after {self._start_timeout:.0f} s: {', '.join(missing)}\n{tails}")
            time.sleep(0.3)

    def process_log_path(self, component: str) -> Path:
        """The file that takes standard output and standard error of a component."""
        return self.process_logs / f"{component}.log"

    def cli(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run an ``airflow`` command in this Airflow's environment; the caller looks at the exit code."""
        return subprocess.run(
            [self._python, "-m", "airflow", *arguments],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    # REST API

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """Call ``/api/v2/...``, or ``v1`` of Airflow 2, as an administrator; return the decoded answer, None if it is
        empty.

        :param path: below that, already quoted
        :param arguments: those of `requests.request`
        """
        answer = self._authorized(method, path, **arguments)
        if not answer.ok:
            raise LocalAirflowError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def add_connection(self, connection_id: str, connection: Mapping[str, Any] | str) -> None:
        """Create a connection, given as Airflow's JSON form of one. The database keeps it encrypted."""
        fields = dict(json.loads(connection) if isinstance(connection, str) else connection)
        extra = fields.get("extra")
        if extra is not None and not isinstance(extra, str):
            fields["extra"] = json.dumps(extra)
        self.api("POST", "connections", json={"connection_id": connection_id, **fields})

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60) -> None:
        """Wait until the DAG processor has brought a DAG into the database; an import error is raised at once."""
        deadline = time.monotonic() + timeout
        while True:
            answer = self._authorized("GET", f"dags/{quote(dag_id, safe='')}")
            if answer.ok:
                return
            errors = self.api("GET", "importErrors")["import_errors"]
            if errors or time.monotonic() > deadline:
                details = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
                raise LocalAirflowError(f"DAG {dag_id!r} is not there. {details or self._tail(self._dag_processor)}")
            time.sleep(0.3)

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Unpause and run a DAG, waiting for it to be known first; return the id of the run."""
        self.wait_for_dag(dag_id)
        self.api("PATCH", f"dags/{quote(dag_id, safe='')}", json={"is_paused": False})
        run_id = f"local__{time.strftime('%Y%m%dT%H%M%S')}_{secrets.token_hex(3)}"
        body: dict[str, Any] = {"dag_run_id": run_id, "conf": dict(conf or {})}
        if not self._is_2:
            body["logical_date"] = None
        path = f"dags/{quote(dag_id, safe='')}/dagRuns"
        for _ in range(5):
            answer = self._authorized("POST", path, json=body)
            # 500: on a busy machine SQLite was locked. The id tells whether an earlier attempt did it after all.
            if answer.status_code != requests.codes.internal_server_error:
                break
            time.sleep(1)
        if not answer.ok and answer.status_code != requests.codes.conflict:
            raise LocalAirflowError(f"POST {path}: HTTP {answer.status_code}: {answer.text[:2000]}")
        return run_id

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float,
        watch: Callable[[list[dict[str, Any]]], None] | None = None,
        poll: float = 0.5,
    ) -> str:
        """Wait until a run has ended; return ``success`` or ``failed``.

        :param watch: called with the task instances each time they are read
        """
        deadline = time.monotonic() + timeout
        while True:
            # The state first: when it is final, so are the task instances looked at after it.
            state = str(self.api("GET", _run_path(dag_id, run_id))["state"])
            if watch is not None:
                watch(self.task_instances(dag_id, run_id))
            if state in RUN_END_STATES:
                return state
            if time.monotonic() > deadline:
                states = {task["task_id"]: task["state"] for task in self.task_instances(dag_id, run_id)}
                raise LocalAirflowError(f"run {run_id!r} is {state!r} after {timeout:.0f} s: {states}")
            time.sleep(poll)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, as the REST API describes them, mapped ones included."""
        tasks: list[dict[str, Any]] = []
        order = {} if self._is_2 else {"order_by": "id"}
        while True:
            page = self.api(
                "GET",
                f"{_run_path(dag_id, run_id)}/taskInstances",
                params={"limit": 100, "offset": len(tasks), **order},
            )
            tasks += page["task_instances"]
            if not page["task_instances"] or len(tasks) >= page["total_entries"]:
                return tasks

    def task_state(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> str | None:
        """The state of one task instance; None before it is scheduled."""
        for task in self.task_instances(dag_id, run_id):
            if (task["task_id"], task["map_index"]) == (task_id, map_index):
                state = task["state"]
                return None if state is None else str(state)
        raise LocalAirflowError(f"run {run_id!r} has no task instance {task_id!r} with map index {map_index}")

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        states: Collection[str] = TASK_END_STATES,
        timeout: float,
        map_index: int = -1,
    ) -> str:
        """Wait until a task instance is in one of ``states``; return which. Any other final state is an error."""
        deadline = time.monotonic() + timeout
        while True:
            state = self.task_state(dag_id, run_id, task_id, map_index=map_index)
            if state is not None and state in states:
                return state
            if state in TASK_END_STATES or time.monotonic() > deadline:
                raise LocalAirflowError(f"task {task_id!r} is {state!r}, expected one of {sorted(states)}")
            time.sleep(0.2)

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance as a user does."""
        not_dry = {"dry_run": False} if self._is_2 else {}
        self.api("PATCH", _task_path(dag_id, run_id, task_id), json={"new_state": state, **not_dry})

    def clear_task(self, dag_id: str, run_id: str, task_id: str, **more: bool) -> None:
        """Clear a task instance and those that follow it, as a user does.

        :param more: other members of the request
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
            **more,
        }
        self.api("POST", f"dags/{quote(dag_id, safe='')}/clearTaskInstances", json=body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """The value of an XCom of a task instance."""
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries/{quote(key, safe='')}"
        return self.api("GET", path, params={"map_index": map_index})["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> list[str]:
        """The keys under which a task instance has pushed XComs."""
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries"
        entries = self.api("GET", path, params={"map_index": map_index})["xcom_entries"]
        return [str(entry["key"]) for entry in entries]

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """The log of one try of a task instance, one line per entry: time, level, text."""
        path = f"{_task_path(dag_id, run_id, task_id)}/logs/{try_number}"
        params = {"full_content": "true", "map_index": map_index}
        if self._is_2:
            text = self._authorized("GET", path, params=params, headers={"Accept": "text/plain"}).text
            return "\n".join(_LOG_LINE_2.sub(_log_line_2, line) for line in text.splitlines())
        answer = self.api("GET", path, params=params, headers={"Accept": "application/json"})
        return "\n".join(_log_line(entry) for entry in answer["content"])

    # Inside

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        # Coverage is not measured in Airflow's processes, and without cached bytecode they start at half the speed.
        ours = ("AIRFLOW", "COVERAGE_", "PYTHONDONTWRITEBYTECODE")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        settings = {
            ("core", "load_examples"): "False",
            ("core", "dags_folder"): str(self.dags_folder),
            ("core", "simple_auth_manager_all_admins"): "True",
            # Nothing runs, or spends, by its own schedule; `trigger_dag` unpauses.
            ("core", "dags_are_paused_at_creation"): "True",
            ("core", "execution_api_server_url"): self._task_url,
            ("core", "executor"): "CeleryExecutor" if self._broker_url else "LocalExecutor",
            ("core", "parallelism"): "4",
            ("core", "fernet_key"): base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            ("database", "sql_alchemy_conn"): self._database_url or f"sqlite:///{self.home / 'airflow.db'}?timeout=60",
            ("api", "host"): "127.0.0.1",
            ("api", "port"): str(self.port),
            ("api", "workers"): "1",
            ("api", "base_url"): self.url,
            ("api", "secret_key"): secrets.token_hex(32),
            ("api_auth", "jwt_secret"): secrets.token_hex(64),
            ("scheduler", "job_heartbeat_sec"): "1",
            ("scheduler", "scheduler_idle_sleep_time"): "0.2",
            ("scheduler", "trigger_timeout_check_interval"): "2",
            ("scheduler", "enable_health_check"): "False",
            ("triggerer", "job_heartbeat_sec"): "1",
            ("dag_processor", "min_file_process_interval"): "5",
            ("dag_processor", "refresh_interval"): "5",
            ("logging", "trigger_log_server_port"): str(self._trigger_log_port),
            ("logging", "worker_log_server_port"): str(self._worker_log_port),
            ("usage_data_collection", "enabled"): "False",
        }
        if self._is_2:
            settings |= {
                ("webserver", "web_server_host"): "127.0.0.1",
                ("webserver", "web_server_port"): str(self.port),
                ("webserver", "workers"): "1",
                ("webserver", "base_url"): self.url,
                ("webserver", "secret_key"): secrets.token_hex(32),
                ("scheduler", "scheduler_heartbeat_sec"): "1",
                ("scheduler", "dag_dir_list_interval"): "5",
                ("scheduler", "min_file_process_interval"): "5",
            }
            env["_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK"] = "1"  # SQLite and LocalExecutor
        if self._broker_url:
            settings |= {
                ("celery", "broker_url"): self._broker_url,
                ("celery", "result_backend"): f"db+{self._database_url}",
                ("celery", "worker_concurrency"): "2",
            }
        for (section, option), value in settings.items():
            env[f"AIRFLOW__{section.upper()}__{option.upper()}"] = value
        env["AIRFLOW_HOME"] = str(self.home)
        no_proxy = [name for name in (env.get("NO_PROXY"), env.get("no_proxy"), "127.0.0.1,localhost") if name]
        env["NO_PROXY"] = env["no_proxy"] = ",".join(no_proxy)
        return {**env, **extra}

    def _spawn(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        assert self._guard is not None, "not started"
        command = [self._python, "-m", "airflow", *arguments]
        environment = {**self.env, **(env or {})}
        with _signals_held():
            process = self._guard.spawn(command, self.process_log_path(name), env=environment, cwd=self.home)
            self._processes[name] = process
        return process

    def _end(self, *names: str) -> None:
        if self._guard is not None:
            self._guard.end(*(self._processes[name] for name in names))
        for name in names:
            del self._processes[name]

    def _migrate(self) -> None:
        name = "db-migrate"
        code = self._spawn(name, "db", "migrate").wait(timeout=self._start_timeout)
        if code != 0:
            raise LocalAirflowError(f"airflow db migrate ended with exit code {code}\n{self._tail(name)}")
        self._end(name)

    def _unhealthy(self) -> tuple[str, ...]:
        try:
            path = "health" if self._is_2 else "monitor/health"
            health = self._http.get(f"{self._api_url}/{path}", timeout=5).json()
            if not self._is_2:
                self._http.get(f"{self._task_url}health", timeout=5)
        except (requests.RequestException, ValueError):
            return self.components
        missing = [
            component
            for component, key in _HEALTH_KEYS.items()
            if component in self.components and (health.get(key) or {}).get("status") != "healthy"
        ]
        if not missing:
            missing += [name for name in _JOBS if self._alive(name) < self._counts.get(name, 1)]
        if WORKER in self.components:
            missing += [name for name in self.names(WORKER) if not _WORKER_READY.search(self._tail(name, 400))]
        return tuple(missing)

    def _alive(self, component: str) -> int:
        """How many of a component have a heartbeat; Airflow's word on health is about the latest."""
        if self._counts.get(component, 1) == 1:
            return 1
        jobs = self.api("GET", "jobs", params={"job_type": _JOBS[component], "is_alive": True})
        return int(jobs["total_entries"])

    def _tail(self, name: str, lines: int = 40) -> str:
        path = self.process_log_path(name)
        text = path.read_text(errors="replace") if path.exists() else ""
        return f"--- the end of {path.name}\n" + "\n".join(text.splitlines()[-lines:])

    def _authorized(self, method: str, path: str, **arguments: Any) -> requests.Response:
        arguments.setdefault("timeout", 30)
        url = f"{self._api_url}/{path}"
        if self._is_2:
            return self._http.request(method, url, **arguments)
        if "Authorization" in self._http.headers:
            answer = self._http.request(method, url, **arguments)
            if answer.status_code != requests.codes.unauthorized:
                return answer
        with self._authentication:
            token = self._http.get(f"{self.url}/auth/token", timeout=30)
            token.raise_for_status()
            self._http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        return self._http.request(method, url, **arguments)


def _run_path(dag_id: str, run_id: str) -> str:
    return f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _task_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}"


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    head = " ".join(str(entry[key]) for key in ("timestamp", "level", "event") if entry.get(key) is not None)
    detail = entry.get("error_detail")
    return f"{head} {json.dumps(detail, default=str)}" if detail else head


def _log_line_2(line: re.Match[str]) -> str:
    """A line of Airflow 2 as one of Airflow 3."""
    return f"{line['time']} {line['level'].lower()} {line['event']}"


def _guard() -> None:
    """Run in the guard process: when the owner is gone, end the sessions that it has left.

    It hears of them on standard input: ``+`` and a session's number when one begins, ``-`` when one has ended.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        change, session = line[0], int(line[1:])
        (sessions.add if change == "+" else sessions.discard)(session)
    end_sessions(sessions)
    if sys.argv[1]:
        shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    _guard()
