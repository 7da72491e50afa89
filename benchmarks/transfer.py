"""Storing outputs: 1 GB to a disk beside curl, 1 GB to an S3 server beside s3fs's own put, and 100 files at once.

The contestants take turns in the same run. The servers are processes of their own: a sender that hands a file to the
kernel (sendfile), and moto's S3. curl does not hash; what it costs to know the sha256 is told apart.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import seedance_provider.testing
from benchmarks.harness import Result, Row, median_ratio

if TYPE_CHECKING:
    from collections.abc import Callable

SECTION = "Transfer"
GIGABYTE = 1_000_000_000
FILES = 100
FILE_BYTES = 20_000_000
LIMIT_MIB = 200
_SENDER = """
import os, socket, sys, threading
path, size = sys.argv[1], int(sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0), backlog=200)
print(listener.getsockname()[1], flush=True)
lines = ["HTTP/1.1 200 OK", "Content-Type: video/mp4", f"Content-Length: {size}", "Connection: close", "", ""]
head = "\\r\\n".join(lines).encode()
def send(connection):
    with connection, open(path, "rb") as file:
        connection.recv(65536)
        connection.sendall(head)
        sent = 0
        while sent < size and (count := os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)):
            sent += count
while True:
    threading.Thread(target=send, args=(listener.accept()[0],), daemon=True).start()
"""
_MOTO = """
import sys, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(1e6)
"""


def run(*, quick: bool = False) -> Result:
    """Measure both stores and the memory."""
    result = Result()
    size, turns = (100_000_000, 2) if quick else (GIGABYTE, 5)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        source = Path(folder) / "source.mp4"
        video = (Path(seedance_provider.testing.__file__).parent / "media" / "video.mp4").read_bytes()
        with source.open("wb") as file:
            file.write(video)
            for _ in range((size - len(video)) // 1_000_000):
                file.write(os.urandom(1_000_000))
            file.truncate(size)
        sender = _serve(servers, _SENDER, str(source), str(size))
        s3 = _serve(servers, _MOTO)
        urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{s3}/videos", method="PUT"), timeout=10
        ).close()
        _to_a_disk(result, Path(folder), f"http://127.0.0.1:{sender}/clip.mp4", size, turns)
        _to_s3(result, source, f"http://127.0.0.1:{sender}/clip.mp4", s3, size, turns)
        small = min(FILE_BYTES, size)
        sender = _serve(servers, _SENDER, str(source), str(small))
        for target in (f"file://{folder}/many/", "s3://bench@videos/many/"):
            _many(result, target, sender, s3, small)
    return result


def _serve(servers: ExitStack, program: str, *arguments: str) -> int:
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    servers.callback(process.wait)
    servers.callback(process.kill)
    assert process.stdout is not None
    return int(process.stdout.readline())


def _in_turns(contestants: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, contestant in contestants.items():
            began = time.perf_counter()
            contestant()
            if turn:  # the first is a warm-up
                taken[name].append(time.perf_counter() - began)
    return taken


def _transfer(sender_url: str, output_path: str) -> None:
    from seedance_provider.execution.storage import Transfer, outputs_at
    from seedance_provider.hooks.seedance import SeedanceHook

    logging.getLogger("benchmark").setLevel(logging.ERROR)
    transfer = Transfer(SeedanceHook(), logging.getLogger("benchmark"), output_path, overwrite=True)
    transfer.store(outputs_at([f"{sender_url}?{time.monotonic_ns()}"]))


def _connect(sender_url: str) -> None:
    host = sender_url.rpartition("/")[0]
    os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"] = (
        f'{{"conn_type": "seedance", "host": "{host}", "password": "none-needed"}}'
    )


def _to_a_disk(result: Result, folder: Path, url: str, size: int, turns: int) -> None:
    _connect(url)

    def curl() -> None:
        subprocess.run(["curl", "--silent", "--fail", "--output", str(folder / "curl.mp4"), url], check=True)

    def curl_and_hash() -> None:
        program = 'curl --silent --fail "$1" | tee "$2" | sha256sum'
        subprocess.run(["sh", "-c", program, "-", url, str(folder / "curl.mp4")], check=True, stdout=subprocess.DEVNULL)

    def ours() -> None:
        (folder / "ours.mp4.json").unlink(missing_ok=True)  # or there is nothing to do
        _transfer(url, f"file://{folder}/ours.mp4")

    taken = _in_turns({"curl": curl, "curl, tee and sha256sum": curl_and_hash, "ours": ours}, turns)
    assert (folder / "ours.mp4").stat().st_size == size
    _compare(result, "to a disk", taken, "curl", size)
    hashed = median_ratio(taken["curl, tee and sha256sum"], taken["ours"])
    result.rows.append(Row(SECTION, "of curl, tee and sha256sum, which do the same work", f"{hashed:.2f}"))
    began, left = time.perf_counter(), size
    digest, piece = hashlib.sha256(), bytes(1024 * 1024)
    while left > 0:
        digest.update(piece)
        left -= len(piece)
    speed = size / (time.perf_counter() - began) / 1e6
    result.rows.append(Row(SECTION, "sha256 alone on this machine, one core", f"{speed:,.0f} MB/s"))
    for name in ("ours.mp4", "curl.mp4"):
        (folder / name).unlink()


def _to_s3(result: Result, source: Path, url: str, s3: int, size: int, turns: int) -> None:
    fs = _attach(s3)

    def put() -> None:
        fs.put_file(str(source), "videos/put.mp4")

    def ours() -> None:
        if fs.exists("videos/ours.mp4.json"):
            fs.rm_file("videos/ours.mp4.json")
        _transfer(url, "s3://bench@videos/ours.mp4")

    taken = _in_turns({"s3fs put": put, "ours": ours}, turns)
    fs.invalidate_cache()
    assert fs.info("videos/ours.mp4")["size"] == size
    _compare(result, "to S3", taken, "s3fs put", size)
    fs.rm(["videos/ours.mp4", "videos/put.mp4"])


def _attach(s3: int) -> Any:
    from airflow.sdk.io import attach
    from s3fs import S3FileSystem

    fs = S3FileSystem(key="key", secret="secret", endpoint_url=f"http://127.0.0.1:{s3}")
    attach("s3", "bench", fs=fs)
    return fs


def _compare(result: Result, where: str, taken: dict[str, list[float]], beside: str, size: int) -> None:
    ratio = median_ratio(taken[beside], taken["ours"])
    result.data[where] = taken
    for name, seconds in taken.items():
        speed = size / statistics.median(seconds) / 1e6
        result.rows.append(Row(SECTION, f"{size / 1e9:g} GB {where}, {name}", f"{speed:,.0f} MB/s"))
    result.rows.append(Row(SECTION, f"{size / 1e9:g} GB {where}, of {beside}", f"{ratio:.2f}", "≥ 0.9", ratio >= 0.9))


def _many(result: Result, target: str, sender: int, s3: int, size: int) -> None:
    """A worker of its own: what matters is how much memory it needs in all, Airflow and libraries included."""
    command = [sys.executable, "-m", "benchmarks.transfer", target, str(sender), str(s3)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ.copy())
    before, peak, seconds = map(float, done.stdout.split()[-3:])
    where = "a disk" if target.startswith("file") else "S3"
    result.data[f"{FILES} files to {where}"] = {"before": before, "peak": peak, "seconds": seconds}
    what = f"{FILES} files of {size / 1e6:g} MB at once through one worker to {where}, peak memory"
    value = f"{peak:.0f} MiB, of them {peak - before:.0f} for the transfer; {FILES * size / seconds / 1e6:,.0f} MB/s"
    result.rows.append(Row(SECTION, what, value, f"≤ {LIMIT_MIB} MiB", peak <= LIMIT_MIB))
    if where == "a disk":
        shutil.rmtree(target.removeprefix("file://"))


def _work(target: str, sender: int, s3: int) -> None:
    """The worker: prints its memory before and at the peak, in MiB, and the seconds taken."""
    from seedance_provider.execution.storage import Transfer, outputs_at
    from seedance_provider.hooks.seedance import SeedanceHook

    url = f"http://127.0.0.1:{sender}/clip.mp4"
    _connect(url)
    if target.startswith("s3"):
        _attach(s3).ls("videos")  # the client of S3 is there anyway
    log = logging.getLogger("benchmark")
    log.setLevel(logging.ERROR)
    transfer = Transfer(SeedanceHook(), log, f"{target}{{index:03}}.{{ext}}")
    _ = transfer.hook.settings
    before, began = _peak_mib(), time.perf_counter()
    transfer.store(outputs_at([f"{url}?{number}" for number in range(FILES)]))
    print(before, _peak_mib(), time.perf_counter() - began)


def _peak_mib() -> float:
    # Not ru_maxrss, which begins with the memory of who started the process.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
