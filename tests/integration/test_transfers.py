"""Transfers to a disk and to a real S3 server: killed at each point, cut, retried, many at once."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import signal
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import seedance_provider.testing
from seedance_provider.exceptions import SeedanceTransferError, SeedanceTransferRefusedError
from seedance_provider.execution import storage
from seedance_provider.execution.storage import StoredFile, Transfer, outputs_at
from seedance_provider.hooks import output_files
from seedance_provider.hooks.seedance import SeedanceHook
from tests.support.airflow import hurry
from tests.support.killed import POINTS, transfer_and_die
from tests.support.s3 import Bucket

if TYPE_CHECKING:
    from seedance_provider.api.records import TaskRecord
    from seedance_provider.testing import Emulator

SIZE = 8_000_000
"""Bytes of the video: more than one part of an upload."""
VIDEO = (Path(seedance_provider.testing.__file__).parent / "media" / "video.mp4").read_bytes()
LONG = VIDEO + b"x" * (SIZE - len(VIDEO))
BEGUN = {"within the second part", "with the last piece written", "with others' parts aborted"}
"""Points at which an upload has been begun and is not complete."""
_numbers = count(1)


class Shelf:
    """A folder on a disk or in a bucket.

    :param url: Its URL.
    """

    def __init__(self, url: str, folder: Path | None = None, bucket: Bucket | None = None) -> None:
        self.url, self._folder, self._bucket = url, folder, bucket

    def names(self) -> list[str]:
        if self._bucket is not None:
            return sorted(self._bucket.names())
        assert self._folder is not None
        return sorted(path.name for path in self._folder.iterdir())

    def read(self, name: str) -> bytes:
        if self._bucket is not None:
            return self._bucket.read(name)
        assert self._folder is not None
        return (self._folder / name).read_bytes()

    def uploads(self) -> list[Any]:
        """Uploads that were begun and neither completed nor aborted."""
        if self._bucket is None:
            return []
        found: list[Any] = self._bucket.fs.call_s3("list_multipart_uploads", Bucket=self._bucket.name).get(
            "Uploads", []
        )
        return found


@pytest.fixture(params=["disk", "s3"])
def shelf(request: pytest.FixtureRequest, s3: str, tmp_path: Path) -> Shelf:
    if request.param == "disk":
        (tmp_path / "videos").mkdir()
        return Shelf(f"file://{tmp_path}/videos/", folder=tmp_path / "videos")
    bucket = Bucket(s3, f"transfers-{next(_numbers)}", "aws_default")
    return Shelf(f"{bucket.url}/", bucket=bucket)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def record(seedance_emulator: Emulator) -> TaskRecord:
    hook = SeedanceHook()
    return hook.wait_for_task(hook.create_task("seedance-20", {"prompt": "a fox"}), poll_interval=0.02)


def store(record: TaskRecord, shelf: Shelf, **changes: Any) -> list[StoredFile]:
    return storage.store(record, Transfer(SeedanceHook(), logging.getLogger(), f"{shelf.url}clip.mp4", **changes))


def is_whole(shelf: Shelf) -> bool:
    """Whether exactly the video and its sidecar are there."""
    if shelf.names() != ["clip.mp4", "clip.mp4.json"] or shelf.read("clip.mp4") != LONG:
        return False
    told = json.loads(shelf.read("clip.mp4.json"))
    return (told["bytes"], told["sha256"]) == (SIZE, hashlib.sha256(LONG).hexdigest())


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_duplicates_and_halves_nothing(
    seedance_emulator: Emulator, record: TaskRecord, shelf: Shelf, s3: str, point: str
) -> None:
    is_upload = shelf.url.startswith("s3")
    if POINTS[point][1] == ("_move" if is_upload else "_abort_uploads"):
        pytest.skip("that is not done there")
    seedance_emulator.add_fault("padded", on="media", bytes=SIZE, times=None)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.support.killed"])
    told = record.model_dump(mode="json")
    arguments = (point, f"{shelf.url}clip.mp4", told, seedance_emulator.connection_json, s3)
    worker = processes.Process(target=transfer_and_die, args=arguments)
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    names = shelf.names()
    assert "clip.mp4" not in names or shelf.read("clip.mp4") == LONG, "a reader sees all of it or nothing"
    assert bool(shelf.uploads()) is (is_upload and point in BEGUN)
    before = 0 if point == "with the record" else 1
    for _ in range(200):  # the emulator notes a request when its answer has ended, as by the death of who asked
        if len(seedance_emulator.requests("media")) == before:
            break
        time.sleep(0.05)
    (stored,) = store(record, shelf)
    assert (stored.path, stored.bytes) == (f"{shelf.url}clip.mp4", SIZE)
    assert is_whole(shelf)
    assert shelf.uploads() == []
    assert len(seedance_emulator.requests("media")) - before == (0 if point == "with the sidecar" else 1)
    store(record, shelf)
    assert len(seedance_emulator.requests("media")) - before <= 1
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.parametrize(("fault", "details"), [("cut", {}), ("other_media", {}), ("html", {"status": 200})])
def test_a_bad_download_leaves_nothing(
    seedance_emulator: Emulator, record: TaskRecord, shelf: Shelf, fault: str, details: dict[str, Any]
) -> None:
    seedance_emulator.add_fault(fault, on="media", times=None, **details)
    with pytest.raises(SeedanceTransferError):
        store(record, shelf)
    assert shelf.names() == []
    assert shelf.uploads() == []


def test_an_upload_that_breaks_off_is_aborted(
    seedance_emulator: Emulator, record: TaskRecord, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    seedance_emulator.add_fault("padded", on="media", bytes=SIZE, times=None)
    real = output_files.Incoming.receive

    def receive(self: Any, write: Any, log: Any) -> Any:
        real(self, write, log)
        raise SeedanceTransferError("it broke off", transient=False)

    with monkeypatch.context() as broken:
        broken.setattr(output_files.Incoming, "receive", receive)
        with pytest.raises(SeedanceTransferError):
            store(record, shelf)
    assert shelf.names() == []
    assert shelf.uploads() == []
    store(record, shelf)
    assert is_whole(shelf)


def test_overwrite_and_refusal_are_those_of_a_disk(
    seedance_emulator: Emulator, record: TaskRecord, shelf: Shelf
) -> None:
    hook = SeedanceHook()
    other = hook.wait_for_task(hook.create_task("seedance-20", {"prompt": "a cat"}), poll_interval=0.02)
    store(other, shelf)
    with pytest.raises(SeedanceTransferRefusedError):
        store(record, shelf)
    store(record, shelf, overwrite=True)
    assert json.loads(shelf.read("clip.mp4.json"))["seedance_task_id"] == record.seedance_task_id


def test_a_hundred_files_at_once(seedance_emulator: Emulator, record: TaskRecord, shelf: Shelf) -> None:
    urls = [f"{record.urls[0]}?number={number}" for number in range(100)]
    transfer = Transfer(SeedanceHook(), logging.getLogger(), f"{shelf.url}{{index:03}}.{{ext}}")
    stored = transfer.store(outputs_at(urls))
    assert len({file.path for file in stored}) == 100
    assert len(shelf.names()) == 200
    assert {shelf.read(f"{number:03}.mp4") for number in range(100)} == {VIDEO}


def test_a_bucket_that_is_not_there_is_told_and_not_made(
    seedance_emulator: Emulator, record: TaskRecord, s3: str
) -> None:
    bucket = Bucket(s3, f"transfers-{next(_numbers)}", "aws_default")
    missing = Shelf(f"s3://aws_default@{bucket.name}-missing/", bucket=bucket)
    with pytest.raises(SeedanceTransferError, match="missing") as raised:
        store(record, missing)
    assert (raised.value.retryable, raised.value.transient, raised.value.charged) == (True, False, "yes")
    assert bucket.fs.ls("") == [name for name in bucket.fs.ls("") if "missing" not in name]


def test_the_hook_downloads_to_an_object_and_to_a_disk(
    seedance_emulator: Emulator, record: TaskRecord, shelf: Shelf
) -> None:
    hook = SeedanceHook()
    for source in (record, record.urls[0]):
        assert hook.download(source, f"{shelf.url}deep/down/clip.mp4") == f"{shelf.url}deep/down/clip.mp4"
    if shelf.url.startswith("s3"):
        assert shelf.names() == ["deep/down/clip.mp4"]
        assert shelf.read("deep/down/clip.mp4") == VIDEO
    else:
        assert Path(f"{shelf.url}deep/down/clip.mp4".removeprefix("file://")).read_bytes() == VIDEO
