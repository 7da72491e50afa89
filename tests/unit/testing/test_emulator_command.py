from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.testing.emulator.__main__ import main
from seedance_provider.testing.emulator.thread import base_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "seedance_provider.testing.emulator"]


class Running:
    """The emulator as a child process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.ready_file = folder / "ready.json"
        command = [*COMMAND, "--port", "0", "--ready-file", str(self.ready_file), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not self.ready_file.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.ready: dict[str, Any] = json.loads(self.ready_file.read_text())

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> tuple[list[str], str]:
        self.process.send_signal(with_signal)
        out, err = self.process.communicate(timeout=60)
        return out.splitlines(), err


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    children: list[Running] = []

    def start(*arguments: str) -> Running:
        children.append(Running(tmp_path, *arguments))
        return children[-1]

    yield start
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
            child.process.communicate()


def shell(script: str, **environment: str) -> str:
    finished = subprocess.run(
        ["sh", "-c", script], env=os.environ | environment, capture_output=True, text=True, timeout=20
    )
    assert finished.returncode == 0, finished
    return finished.stdout.strip()


# In the manner of the vendor's shell example: no look at the HTTP status, values found by text search.
SHELL_CLIENT = """
reply=$(curl -s -X POST "$BASE/api/v1/jobs/createTask" -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" -d '{"model":"seedance-20","inputs":{"prompt":"a fox","duration":4}}')
id=$(printf '%s' "$reply" | sed -n 's/.*"taskId":"\\([^"]*\\)".*/\\1/p')
while :; do
  reply=$(curl -s "$BASE/api/v1/jobs/recordInfo?taskId=$id" -H "Authorization: Bearer $KEY")
  status=$(printf '%s' "$reply" | grep -o '"status":"[^"]*"' | head -1 | cut -d'"' -f4)
  [ "$status" = success ] && break
  [ "$status" = fail ] && exit 3
  sleep 0.1
done
credits=$(printf '%s' "$reply" | grep -o '"creditsUsed":[0-9.]*' | cut -d: -f2)
url=$(printf '%s' "$reply" | grep -o '"url":"[^"]*"' | head -1 | cut -d'"' -f4)
printf '%s %s %s' "$credits" "$(curl -s "$url" | wc -c)" "$url"
"""


def test_the_shell_client_of_the_vendors_kind_and_the_start_and_stop_lines(started: Any) -> None:
    emulator = started("--waiting-seconds", "0.1", "--generating-seconds", "0.2")
    url = emulator.ready["url"]
    cost, size, video = shell(SHELL_CLIENT, BASE=url, KEY="emulator-key").split()
    assert (cost, size) == ("160", "17274")
    assert video.startswith(f"{url}/videos/task_")
    lines, errors = emulator.stop()
    assert emulator.process.returncode == 0
    assert errors == ""
    assert url in lines[0]
    assert f"export AIRFLOW_CONN_SEEDANCE_DEFAULT='{emulator.ready['connection']}'" in lines[2]
    assert f"{url}/_admin/bill" in lines[3]
    assert "POST /api/v1/jobs/createTask created task_" in lines[4]
    assert not any("emulator-key" in line for line in lines[3:])
    label, _, bill = lines[-1].partition(" ")
    assert label == "bill:"
    assert json.loads(bill)["credits_charged"] == 160


def test_the_python_client_of_the_vendors_kind(started: Any) -> None:
    """POST, then GET at a fixed interval; any HTTP error is fatal; its own User-Agent on every call."""
    emulator = started("--waiting-seconds", "0.1", "--generating-seconds", "0.1", "--quiet", "--json")
    headers = {"Authorization": "Bearer emulator-key", "User-Agent": "kinovi-models/1.0"}
    headers["Content-Type"] = "application/json"

    def call(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(emulator.ready["url"] + path, data=data, headers=headers)
        return json.load(urllib.request.urlopen(request, timeout=5))

    inputs = {"prompt": "a fox", "duration": 5, "outputResolution": "480p"}
    task_id = call("/api/v1/jobs/createTask", {"model": "seedance2.0-mini", "inputs": inputs})["taskId"]
    while (task := call(f"/api/v1/jobs/recordInfo?taskId={task_id}"))["status"] not in ("success", "fail"):
        time.sleep(0.05)
    assert task["creditsUsed"] == 37.5
    video = urllib.request.Request(task["output"][0]["url"], headers={"User-Agent": "kinovi-models/1.0"})
    assert urllib.request.urlopen(video, timeout=5).read(8)[4:] == b"ftyp"
    lines, _ = emulator.stop(signal.SIGINT)
    assert json.loads(lines[0]) == emulator.ready
    assert emulator.ready["pid"] == emulator.process.pid
    assert len(lines) == 2


def test_the_seed_documents_flow(started: Any) -> None:
    """Create with resolution and duration "5s", retry on 500, poll, take the output; 402 tells two numbers."""
    emulator = started("--dialect", "seed", "--credits", "300", "--waiting-seconds", "0", "--generating-seconds", "0.1")

    def call(path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": "Bearer emulator-key", "User-Agent": "node", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(emulator.ready["url"] + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    call("/_admin/faults", {"fault": "http", "status": 500, "message": "Internal error"})
    inputs = {"prompt": "A sunset over the ocean", "resolution": "1280x720", "duration": "5s"}
    create = {"model": "seedance-20", "inputs": inputs}
    assert call("/api/v1/jobs/createTask", create) == (500, {"message": "Internal error"})
    status, task = call("/api/v1/jobs/createTask", create)
    assert status == 200
    while (data := call(f"/api/v1/jobs/recordInfo?taskId={task['taskId']}")[1])["status"] != "success":
        assert data["status"] in ("waiting", "generating")
        time.sleep(0.05)
    assert list(data["output"][0]) == ["url", "width", "height"]
    refusal = {"message": "Insufficient credits", "required": 200, "available": 100}
    assert call("/api/v1/jobs/createTask", create) == (402, refusal)


def test_options_reach_the_emulator(started: Any, tmp_path: Path) -> None:
    script = tmp_path / "faults.json"
    script.write_text('[{"fault":"http","status":503}]')
    emulator = started(
        *("--key", "first", "--key", "second", "--no-user-agent-check", "--concurrency-limit", "0"),
        *("--strict-duration", "--faults", str(script)),
    )
    with urllib.request.urlopen(emulator.ready["url"] + "/_admin/settings", timeout=5) as reply:
        settings = json.load(reply)
    assert (settings["user_agent_check"], settings["concurrency_limit"], settings["strict_duration"]) == (
        False,
        None,
        True,
    )
    with urllib.request.urlopen(emulator.ready["url"] + "/_admin/accounts", timeout=5) as reply:
        assert list(json.load(reply)) == ["default", "account-2"]
    with urllib.request.urlopen(emulator.ready["url"] + "/_admin/faults", timeout=5) as reply:
        assert json.load(reply)[0]["status"] == 503
    assert json.loads(emulator.ready["connection"])["password"] == "first"


def test_a_port_in_use_is_said_clearly(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in error
    assert "in use" in error
    assert "--port" in error


def test_a_key_of_ones_own_is_never_on_the_console(started: Any) -> None:
    for arguments in ((), ("--json",)):
        emulator = started("--key", "sk-own-7Q2", *arguments)
        assert json.loads(emulator.ready["connection"])["password"] == "sk-own-7Q2"
        assert emulator.ready_file.stat().st_mode & 0o077 == 0
        headers = {"User-Agent": "tests", "Authorization": "Bearer sk-own-7Q2"}
        for path in ("/api/v1/jobs/recordInfo?taskId=sk-own-7Q2", "/sk-own-7Q2"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(urllib.request.Request(emulator.ready["url"] + path, headers=headers), timeout=5)
        lines, errors = emulator.stop()
        emulator.ready_file.unlink()
        assert len(lines) > 2
        assert "sk-own-7Q2" not in "".join([*lines, errors])


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "-1"], ["--host", "no such host"]])
def test_an_address_that_cannot_be_one_is_said_at_once(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert arguments[1] in capsys.readouterr().err


def test_wrong_options_are_said_clearly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "faults.json"
    broken.write_text('{"fault": "explode"}')
    for arguments in (["--waiting-seconds", "-1"], ["--faults", str(broken)], ["--faults", str(tmp_path / "absent")]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("The emulator cannot start: ")


def test_addresses_that_mean_everywhere_are_reached_on_this_machine() -> None:
    assert base_url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert base_url("::", 2) == "http://[::1]:2"
