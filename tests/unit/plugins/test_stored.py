"""Stored copies: sent in parts as a player asks for them, to who may read them, and no other file by any trick."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no pages
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow 3.1 and later have the pages", allow_module_level=True)

import requests
from fsspec.implementations.memory import MemoryFileSystem
from starlette.requests import ClientDisconnect

from seedance_provider import defaults
from seedance_provider.hooks.output_files import PIECE
from seedance_provider.plugins import serve_pages, stored
from seedance_provider.testing import Emulator
from tests.support.airflow import DagOutcome, run_dag
from tests.support.pages import reader, replace_xcom
from tests.support.receiver import serving
from tests.support.stores import attach

if TYPE_CHECKING:
    from collections.abc import Iterator


GENERATE = """
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

SeedanceGenerateVideoOperator(
    task_id="generate", inputs={{"prompt": "a fox"}}, output_path="{folder}/clip.{{ext}}", deferrable=False,
    poll_interval=0.05,
)
"""


class Stored:
    """A video that a real run has stored.

    :param url: The server.
    :param run: The run.
    """

    def __init__(self, url: str, run: DagOutcome) -> None:
        self.url = url
        self.run = run
        (self.file,) = run["generate"].xcoms["seedance_files"]
        self.reader = reader()

    def get(self, session: requests.Session | None = None, **headers: str) -> requests.Response:
        return self.ask(session, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def ask(self, session: requests.Session | None = None, headers: Any = None, **query: Any) -> requests.Response:
        key = {"run_id": self.run.run_id, "task_id": "generate", **query}
        where = f"{self.url}{defaults.PAGES_PATH}/stored/{self.run.dag_id}"
        return (session or self.reader).get(where, params=key, headers=headers, timeout=30)

    def edit(self, **changes: Any) -> None:
        replace_xcom(self.run.dag_id, "generate", "seedance_files", [self.file | changes])

    @property
    def path(self) -> Path:
        return Path(self.file["path"])

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()


def generate(folder: Path, output_path: str) -> DagOutcome:
    with (
        Emulator(waiting_seconds=0.05, generating_seconds=0.1) as emulator,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        return run_dag(folder, GENERATE.format(folder=output_path))


@pytest.fixture(scope="module")
def once(airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """A video on a disk that the server has, too."""
    folder = tmp_path_factory.mktemp("stored")
    run = generate(folder, str(folder))
    with serving(serve_pages, prefix=defaults.PAGES_PATH) as url:
        yield Stored(url, run)


@pytest.fixture
def video(once: Stored) -> Iterator[Stored]:
    """The same, as it was."""
    content = once.content
    yield once
    once.edit()
    once.path.write_bytes(content)


def test_the_whole_file_is_sent(video: Stored) -> None:
    answer = video.get()
    assert (answer.status_code, answer.content) == (200, video.content)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{video.file["sha256"]}"'
    assert "clip.mp4" in answer.headers["content-disposition"]
    assert "private" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=100-", 100, None), ("bytes=-10", -10, None), ("bytes=5-99999999", 5, None)],
)
def test_a_part_is_sent(video: Stored, wanted: str, first: int, last: int | None) -> None:
    answer = video.get(range=wanted)
    part = video.content[first : None if last is None else last + 1]
    size = len(video.content)
    start = first % size
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{size}"


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0"])
def test_what_is_beyond_the_end_is_said_to_be(video: Stored, wanted: str) -> None:
    answer = video.get(range=wanted)
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(video.content)}")


@pytest.mark.parametrize("wanted", ["bytes=9-0", "bytes=0-1,4-5", "bytes=-", "lines=1-2", "bytes=a-b", "nonsense"])
def test_what_is_no_range_asks_for_everything(video: Stored, wanted: str) -> None:
    answer = video.get(range=wanted)
    assert (answer.status_code, len(answer.content)) == (200, len(video.content))


def test_a_part_of_another_file_is_not_mixed_in(video: Stored) -> None:
    etag = f'"{video.file["sha256"]}"'
    assert video.get(range="bytes=0-9", if_range=etag).status_code == 206
    assert video.get(range="bytes=0-9", if_range='"another"').status_code == 200
    unchanged = video.get(if_none_match=etag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_only_who_may_read_the_xcoms_gets_it(video: Stored) -> None:
    assert video.get(requests.Session()).status_code == 401
    assert video.get(reader(None)).status_code == 403
    assert video.get(reader("VIEWER")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [{"task_id": "other"}, {"run_id": "other"}, {"index": 1}, {"map_index": 0}],
    ids=lambda query: next(iter(query)),
)
def test_what_is_not_there_is_not_found(video: Stored, query: dict[str, Any]) -> None:
    assert video.ask(**query).status_code == 404


@pytest.mark.parametrize("query", [{"index": -1}, {"index": 65}, {"map_index": "x"}, {"task_id": "t" * 300}])
def test_odd_parameters_are_refused(video: Stored, query: dict[str, Any]) -> None:
    assert video.ask(**query).status_code == 422


@pytest.mark.parametrize(
    "value", ["text", 3, {}, [], ["path"], [{}], [None], [{"path": 3, "bytes": "x", "sha256": []}]]
)
def test_whatever_the_xcom_holds_is_no_error_of_the_server(video: Stored, value: Any) -> None:
    replace_xcom(video.run.dag_id, "generate", "seedance_files", value)
    assert video.get().status_code == 404


def test_an_edited_xcom_opens_no_other_file(video: Stored, tmp_path: Path) -> None:
    secret = tmp_path / "secret.cfg"
    secret.write_text("fernet_key = 1\n")
    size = secret.stat().st_size
    for path in (str(secret), f"file://{secret}", f"{tmp_path}/x/../secret.cfg"):
        video.edit(path=path, bytes=size)
        assert video.get().status_code == 404
    Path(f"{secret}.json").write_text(json.dumps({"sha256": video.file["sha256"], "bytes": size}))
    video.edit(path=str(secret), bytes=size)
    assert video.get().status_code == 404, "with a sidecar it is still no media"


def test_media_without_a_sidecar_of_ours_is_not_sent(video: Stored, tmp_path: Path) -> None:
    private = tmp_path / "private.mp4"
    private.write_bytes(video.content)
    video.edit(path=str(private))
    assert video.get().status_code == 404
    video.edit(path="nothing://bucket/clip.mp4")
    assert video.get().status_code == 502


def test_a_file_that_is_gone_or_another_by_now_is_not_sent(video: Stored) -> None:
    assert video.get().status_code == 200
    video.path.write_bytes(video.content + b"more")
    assert video.get().status_code == 404
    video.path.unlink()
    assert video.get().status_code == 404


def test_a_copy_in_a_store_of_another_kind_is_sent_in_parts(airflow_database: Path, tmp_path: Path) -> None:
    attach("memory", "store", fs=MemoryFileSystem())
    run = generate(tmp_path, "memory://store@bucket")
    with serving(serve_pages, prefix=defaults.PAGES_PATH) as url:
        answer = Stored(url, run).get(range="bytes=100-299")
    content = MemoryFileSystem().cat_file("/bucket/clip.mp4")
    assert (answer.status_code, answer.content) == (206, content[100:300])


class Watched(io.BytesIO):
    """A file that notes how it is read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int | None] = []

    def read(self, size: int | None = -1) -> bytes:
        self.asked.append(size)
        return super().read(size)


def send(file: Watched, length: int, send: Any) -> None:
    async def receive() -> Any:
        await asyncio.sleep(3600)

    scope = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.4"}}
    asyncio.run(stored._Sent(file, length)(scope, receive, send))


def test_a_large_file_is_never_in_memory() -> None:
    file, sent = Watched(bytes(5 * PIECE + 1)), []

    async def take(message: Any) -> None:
        sent.append(len(message.get("body", b"")))

    send(file, 5 * PIECE + 1, take)
    assert sum(sent) == 5 * PIECE + 1
    assert max(sent) <= PIECE
    assert file.closed


def test_when_the_reader_goes_the_file_is_closed() -> None:
    file = Watched(bytes(50 * PIECE))

    async def take(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    with pytest.raises((OSError, ClientDisconnect)):
        send(file, 50 * PIECE, take)
    assert file.closed
    assert len(file.asked) <= 2


def test_a_file_that_ends_early_does_not_pass_for_whole() -> None:
    file = Watched(bytes(10))

    async def take(message: Any) -> None:
        assert message["type"] == "http.response.start" or message["more_body"], "it ends well"

    with pytest.raises(EOFError):
        send(file, 20, take)
    assert file.closed
