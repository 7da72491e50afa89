"""Outputs become files: each once, as a whole, under the path that was asked for, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

import seedance_provider.testing
from seedance_provider import defaults
from seedance_provider.api.records import TaskRecord
from seedance_provider.config import check_output_path, names_in_output_path
from seedance_provider.exceptions import (
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceTaskFailedError,
    SeedanceTransferError,
    SeedanceTransferRefusedError,
)
from seedance_provider.execution import storage
from seedance_provider.execution.storage import Output, StoredFile, Transfer, outputs_at, outputs_of, path_of
from seedance_provider.hooks import output_files
from seedance_provider.hooks.output_files import Place
from seedance_provider.hooks.seedance import SeedanceHook
from tests.support.airflow import TaskLog, hurry
from tests.support.stores import attach

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

FOX = {"prompt": "a fox", "duration": 5}
MEDIA = Path(seedance_provider.testing.__file__).parent / "media"
VIDEO = (MEDIA / "video.mp4").read_bytes()
FRAME = (MEDIA / "last_frame.png").read_bytes()
_numbers = count(1)


class OddStore(MemoryFileSystem):
    """A store of no kind that is known: to move a file is to copy it."""

    protocol = "odd"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}  # type: ignore[misc]
        self.pseudo_dirs: list[str] = [""]  # type: ignore[misc]


class Shelf:
    """A folder of some kind of store.

    :param url: Its URL, with ``/`` at the end.
    :param fs: Its file system.
    :param path: Its path in there.
    """

    def __init__(self, url: str, fs: Any, path: str) -> None:
        self.url, self.fs, self.path = url, fs, path

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        return sorted(str(found).rpartition("/")[2] for found in self.fs.find(self.path))

    def read(self, name: str) -> bytes:
        content: bytes = self.fs.cat_file(f"{self.path}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:
        self.fs.makedirs(self.path, exist_ok=True)
        self.fs.pipe_file(f"{self.path}/{name}", content)

    def sidecar(self, name: str) -> Any:
        return json.loads(self.read(f"{name}.json"))


def a_shelf(kind: str, tmp_path: Path) -> Shelf:
    if kind == "disk":
        from fsspec.implementations.local import LocalFileSystem

        return Shelf(f"file://{tmp_path}/videos/", LocalFileSystem(), f"{tmp_path}/videos")
    fs = MemoryFileSystem() if kind == "memory" else OddStore()
    conn_id = f"shelf{next(_numbers)}"
    attach("memory", conn_id, fs=fs)
    return Shelf(f"memory://{conn_id}@{conn_id}/videos/", fs, f"/{conn_id}/videos")


@pytest.fixture(params=["disk", "memory", "odd"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return a_shelf(request.param, tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Shelf:
    return a_shelf("disk", tmp_path)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceHook)


def a_task(**inputs: Any) -> TaskRecord:
    hook = SeedanceHook()
    model = inputs.pop("model", "seedance-20")
    return hook.wait_for_task(hook.create_task(model, FOX | inputs), poll_interval=0.02)


def transfer_to(path: str, **changes: Any) -> Transfer:
    return Transfer(SeedanceHook(), SeedanceHook().log, path, **changes)


def store(record: TaskRecord, path: str, *, last_frame: bool = False, **changes: Any) -> list[StoredFile]:
    return storage.store(record, transfer_to(path, **changes), last_frame=last_frame)


def downloads(emulator: Emulator) -> int:
    return len(emulator.requests("media"))


def changed(record: TaskRecord, **changes: Any) -> TaskRecord:
    return TaskRecord.model_validate(record.model_dump(mode="json") | changes)


def aged(record: TaskRecord) -> TaskRecord:
    """The record of a video that was finished long ago."""
    return changed(record, complete_time=int((time.time() - 7 * 24 * 3600) * 1000))


# What is stored.


def test_a_video_is_stored_with_its_sidecar(seedance_emulator: Emulator, shelf: Shelf) -> None:
    record = a_task()
    (stored,) = store(record, f"{shelf.url}{{seedance_task_id}}.{{ext}}")
    name = f"{record.seedance_task_id}.mp4"
    assert stored == (shelf.url + name, len(VIDEO), hashlib.sha256(VIDEO).hexdigest(), record.urls[0])
    assert shelf.names() == [name, f"{name}.json"]
    assert shelf.read(name) == VIDEO
    told = shelf.sidecar(name)
    assert (told["schema"], told["bytes"], told["sha256"]) == (1, len(VIDEO), stored.sha256)
    assert (told["seedance_task_id"], told["kind"], told["index"]) == (record.seedance_task_id, "output", 0)
    assert (told["media_type"], told["model"], told["seed"]) == ("video/mp4", record.model, record.outputs[0].seed)
    assert told["credits_used"] == str(record.credits_used)
    assert downloads(seedance_emulator) == 1


def test_a_retry_downloads_and_writes_nothing_again(seedance_emulator: Emulator, shelf: Shelf) -> None:
    record = a_task()
    first = store(record, shelf.url, last_frame=True)
    before = {name: shelf.read(name) for name in shelf.names()}
    for overwrite in (False, True):
        assert store(record, shelf.url, last_frame=True, overwrite=overwrite) == first
    assert {name: shelf.read(name) for name in shelf.names()} == before
    assert downloads(seedance_emulator) == 2


def test_the_last_frame_is_stored_beside_the_video(seedance_emulator: Emulator, shelf: Shelf) -> None:
    record = a_task()
    video, frame = store(record, f"{shelf.url}clip.mp4", last_frame=True)
    assert (video.path, frame.path) == (f"{shelf.url}clip.mp4", f"{shelf.url}clip-last-frame.png")
    assert (shelf.read("clip.mp4"), shelf.read("clip-last-frame.png")) == (VIDEO, FRAME)
    assert shelf.sidecar("clip-last-frame.png")["kind"] == "last_frame"


def test_a_last_frame_that_the_record_lacks_is_an_error_after_the_rest_is_stored(
    seedance_emulator: Emulator, disk: Shelf
) -> None:
    record = a_task()
    bare = changed(record, outputs=[{"url": record.urls[0]}])
    with pytest.raises(SeedanceTransferRefusedError) as raised:
        store(bare, disk.url, last_frame=True)
    assert raised.value.seedance_task_id == record.seedance_task_id
    assert disk.names() == [f"{record.seedance_task_id}.mp4", f"{record.seedance_task_id}.mp4.json"]


def test_several_outputs_get_a_path_each(seedance_emulator: Emulator, shelf: Shelf) -> None:
    record = a_task(model="midjourney-v8")
    assert len(record.outputs) == 4
    stored = store(record, f"{shelf.url}art.{{ext}}")
    assert [file.path.removeprefix(shelf.url) for file in stored] == ["art.png", "art-1.png", "art-2.png", "art-3.png"]
    numbered = store(record, f"{shelf.url}{{index:02}}.{{ext}}")
    assert [file.path.removeprefix(shelf.url) for file in numbered] == ["00.png", "01.png", "02.png", "03.png"]


def test_the_extension_is_that_of_the_bytes(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = a_task(model="seedance2-5", output_format="mov")
    assert record.urls[0].endswith(".mov")
    for _ in range(2):
        (stored,) = store(record, disk.url)
        assert stored.path.endswith(".mp4")
    assert len(disk.names()) == 2


def test_a_finished_file_is_found_under_its_real_extension_when_its_link_is_gone(
    seedance_emulator: Emulator, disk: Shelf
) -> None:
    record = a_task(model="seedance2-5", output_format="mov")
    first = store(record, disk.url)
    seedance_emulator.add_fault("http", on="media", status=410, times=None)
    assert store(aged(record), disk.url) == first


def test_urls_are_stored_too(seedance_emulator: Emulator, shelf: Shelf) -> None:
    record = a_task()
    urls = [record.urls[0] + "?X-Amz-Signature=secret", str(record.outputs[0].last_frame_image)]
    stored = transfer_to(shelf.url).store(outputs_at(urls))
    names = [f"{record.seedance_task_id}.mp4", f"{record.seedance_task_id}-last-frame-1.png"]
    assert [file.path for file in stored] == [shelf.url + name for name in names]
    assert [file.source for file in stored] == [url.partition("?")[0] for url in urls]
    assert b"secret" not in b"".join(map(shelf.read, shelf.names()))
    assert transfer_to(shelf.url).store(outputs_at(urls)) == stored
    assert downloads(seedance_emulator) == 2


def test_urls_that_differ_in_their_query_alone_may_be_of_different_videos(
    seedance_emulator: Emulator, disk: Shelf
) -> None:
    url = a_task().urls[0]
    transfer_to(f"{disk.url}clip.mp4").store(outputs_at([f"{url}?id=1"]))
    seedance_emulator.add_fault("padded", on="media", bytes=len(VIDEO) + 1)
    with pytest.raises(SeedanceTransferRefusedError):
        transfer_to(f"{disk.url}clip.mp4").store(outputs_at([f"{url}?id=2"]))
    assert disk.read("clip.mp4") == VIDEO
    transfer_to(f"{disk.url}clip.mp4").store(outputs_at([f"{url}?id=2"]))  # of the same bytes
    assert downloads(seedance_emulator) == 3


def test_what_was_stored_by_its_url_is_known_by_its_task(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = a_task()
    by_url = transfer_to(f"{disk.url}clip.{{ext}}").store(outputs_at(record.urls))
    assert store(record, f"{disk.url}clip.{{ext}}") == by_url
    assert downloads(seedance_emulator) == 1


def test_no_urls_are_no_files(seedance_emulator: Emulator, disk: Shelf) -> None:
    assert transfer_to(disk.url).store(outputs_at([])) == []


# What is in the way.


def test_another_file_is_not_replaced_and_nothing_is_downloaded_for_it(
    seedance_emulator: Emulator, shelf: Shelf
) -> None:
    first, second = a_task(), a_task()
    store(first, f"{shelf.url}clip.mp4")
    before = {name: shelf.read(name) for name in shelf.names()}
    with pytest.raises(SeedanceTransferRefusedError) as raised:
        store(second, f"{shelf.url}clip.mp4")
    assert raised.value.path == f"{shelf.url}clip.mp4"
    assert {name: shelf.read(name) for name in shelf.names()} == before
    assert downloads(seedance_emulator) == 1


def test_a_file_that_another_task_stores_during_the_download_is_not_replaced(
    seedance_emulator: Emulator, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = a_task(), a_task()
    receive = output_files.Incoming.receive

    def interrupted(*arguments: Any) -> Any:
        received = receive(*arguments)
        monkeypatch.setattr(output_files.Incoming, "receive", receive)
        store(first, f"{shelf.url}clip.mp4")
        return received

    monkeypatch.setattr(output_files.Incoming, "receive", interrupted)
    with pytest.raises(SeedanceTransferRefusedError) as raised:
        store(second, f"{shelf.url}clip.mp4")
    assert raised.value.path == f"{shelf.url}clip.mp4"
    assert shelf.names() == ["clip.mp4", "clip.mp4.json"]
    assert shelf.sidecar("clip.mp4")["seedance_task_id"] == first.seedance_task_id


def test_two_tries_that_store_one_video_at_a_time_both_end_well(
    seedance_emulator: Emulator, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = a_task()
    receive = output_files.Incoming.receive

    def interrupted(*arguments: Any) -> Any:
        received = receive(*arguments)
        monkeypatch.setattr(output_files.Incoming, "receive", receive)
        store(record, f"{shelf.url}clip.mp4")
        return received

    monkeypatch.setattr(output_files.Incoming, "receive", interrupted)
    (stored,) = store(record, f"{shelf.url}clip.mp4")
    assert shelf.read("clip.mp4") == VIDEO
    assert stored.sha256 == shelf.sidecar("clip.mp4")["sha256"]
    assert shelf.names() == ["clip.mp4", "clip.mp4.json"]


@pytest.mark.parametrize("content", [b"", b"an edited video", b"x" * len(VIDEO)])
def test_a_file_of_other_bytes_is_not_replaced(seedance_emulator: Emulator, shelf: Shelf, content: bytes) -> None:
    shelf.write("clip.mp4", content)
    with pytest.raises(SeedanceTransferRefusedError):
        store(a_task(), f"{shelf.url}clip.mp4")
    assert shelf.names() == ["clip.mp4"]
    assert shelf.read("clip.mp4") == content


def test_a_file_of_the_same_bytes_gets_its_sidecar(seedance_emulator: Emulator, shelf: Shelf) -> None:
    shelf.write("clip.mp4", VIDEO)
    (stored,) = store(a_task(), f"{shelf.url}clip.mp4")
    assert shelf.names() == ["clip.mp4", "clip.mp4.json"]
    assert shelf.sidecar("clip.mp4")["sha256"] == stored.sha256


@pytest.mark.parametrize("sidecar", [b"", b"{", b"[1]", b"{}", b'{"bytes": "many", "kind": []}', b"[" * 1_000_000])
def test_a_sidecar_that_cannot_be_understood_is_none(seedance_emulator: Emulator, disk: Shelf, sidecar: bytes) -> None:
    record = a_task()
    disk.write("clip.mp4", VIDEO)
    disk.write("clip.mp4.json", sidecar)
    store(record, f"{disk.url}clip.mp4", overwrite=True)
    assert disk.sidecar("clip.mp4")["seedance_task_id"] == record.seedance_task_id


def test_a_sidecar_is_read_only_as_far_as_ours_go(shelf: Shelf) -> None:
    shelf.write("clip.mp4.json", b"{}" + b" " * 100_000_000)
    tracemalloc.start()
    try:
        assert Place(f"{shelf.url}clip.mp4").sidecar() == {}
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_overwrite_replaces_another_file_and_its_sidecar(seedance_emulator: Emulator, shelf: Shelf) -> None:
    first, second = a_task(), a_task()
    store(first, f"{shelf.url}clip.mp4")
    shelf.write("clip.mp4", b"an edited video")
    store(second, f"{shelf.url}clip.mp4", overwrite=True)
    assert shelf.read("clip.mp4") == VIDEO
    assert shelf.sidecar("clip.mp4")["seedance_task_id"] == second.seedance_task_id


def test_a_folder_in_its_place_is_not_touched(seedance_emulator: Emulator, disk: Shelf) -> None:
    disk.fs.makedirs(f"{disk.path}/clip.mp4")
    with pytest.raises(SeedanceTransferError, match="folder") as raised:
        store(a_task(), f"{disk.url}clip.mp4", overwrite=True)
    assert not raised.value.transient


# What is refused.


@pytest.mark.parametrize(
    ("fault", "details"),
    [
        ("cut", {"after": 5000}),
        ("cut", {"how": "rst"}),
        ("chunk_cut", {}),
        ("two_lengths", {}),
        ("html", {"status": 200}),
        ("html", {"status": 502}),
        ("http", {"status": 200, "body": "moving pictures", "content_type": "video/mp4"}),
        ("http", {"status": 200, "body": "", "content_type": "video/mp4"}),
        ("http", {"status": 500}),
        ("other_media", {}),
        ("padded", {"bytes": 3_000_000}),
        ("padded", {"bytes": 3_000_000, "chunked": True}),
        ("redirect", {"location": "http://169.254.169.254/latest/meta-data"}),
        ("redirect", {"location": "file:///etc/passwd"}),
        ("reset", {}),
        ("empty", {}),
    ],
    ids=str,
)
def test_a_bad_download_leaves_no_file_and_the_next_try_stores_it(
    seedance_emulator: Emulator,
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    details: dict[str, Any],
) -> None:
    monkeypatch.setattr(defaults, "MAX_OUTPUT_BYTES", 2_000_000)
    record = a_task()
    seedance_emulator.add_fault(fault, on="media", times=None, **details)
    with pytest.raises(SeedanceTransferError) as raised:
        store(record, shelf.url)
    error = raised.value
    assert error.retryable
    assert (error.charged, error.seedance_task_id) == ("yes", record.seedance_task_id)
    assert error.url is not None
    assert error.path == f"{shelf.url}{record.seedance_task_id}.mp4"
    assert shelf.names() == []
    seedance_emulator.clear_faults()
    store(record, shelf.url)
    assert len(shelf.names()) == 2


def test_what_passes_is_tried_again_in_the_same_try(
    seedance_emulator: Emulator, disk: Shelf, task_log: TaskLog
) -> None:
    record = a_task()
    seedance_emulator.add_fault("cut", on="media", times=defaults.TRANSFER_ATTEMPTS - 1)
    store(record, disk.url)
    assert downloads(seedance_emulator) == defaults.TRANSFER_ATTEMPTS
    assert len([line for line in task_log.warnings if "trying again" in line]) == defaults.TRANSFER_ATTEMPTS - 1


def test_what_does_not_pass_is_not_tried_again_at_once(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = a_task()
    seedance_emulator.add_fault("other_media", times=None)
    with pytest.raises(SeedanceTransferError, match="image/png"):
        store(record, disk.url)
    assert downloads(seedance_emulator) == 1


def test_a_video_of_the_wrong_kind_is_refused_where_only_the_model_tells_the_kind(
    seedance_emulator: Emulator, disk: Shelf
) -> None:
    record = a_task()
    picture = changed(record, outputs=[{"url": record.outputs[0].last_frame_image}])
    with pytest.raises(SeedanceTransferError, match="image/png"):
        store(picture, disk.url)
    assert disk.names() == []


# Links that have expired.


def test_a_link_that_has_expired_is_renewed(seedance_emulator: Emulator, shelf: Shelf) -> None:
    seedance_emulator.settings.link_seconds = 0.3
    record = a_task()
    time.sleep(0.35)
    seedance_emulator.settings.link_seconds = 60
    video, frame = store(record, shelf.url, last_frame=True)
    assert (shelf.read(video.path.rpartition("/")[2]), shelf.read(frame.path.rpartition("/")[2])) == (VIDEO, FRAME)
    assert video.source == record.urls[0].partition("?")[0]
    assert not any(b"Signature" in shelf.read(name) for name in shelf.names())


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_link_that_is_gone_fails_at_once(seedance_emulator: Emulator, disk: Shelf, status: int) -> None:
    record = aged(a_task())
    polls = len(seedance_emulator.requests("recordInfo"))
    seedance_emulator.add_fault("http", on="media", status=status, times=None, content_type="application/xml")
    with pytest.raises(SeedanceTransferRefusedError) as raised:
        store(record, disk.url)
    assert (raised.value.status_code, raised.value.charged) == (status, "yes")
    assert raised.value.seedance_task_id == record.seedance_task_id
    assert len(seedance_emulator.requests("recordInfo")) > polls, "the record was to be read again"


def test_a_link_of_a_video_just_finished_may_still_appear(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = a_task()
    seedance_emulator.add_fault("http", on="media", status=404, times=None, content_type="text/plain")
    with pytest.raises(SeedanceTransferError) as raised:
        store(record, disk.url)
    assert raised.value.retryable


def test_a_page_of_the_edge_does_not_say_that_a_link_is_gone(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = aged(a_task())
    seedance_emulator.add_fault("html", on="media", status=403, times=None)
    with pytest.raises(SeedanceTransferError) as raised:
        store(record, disk.url)
    assert raised.value.retryable


def test_a_url_that_is_gone_names_what_would_help(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = a_task()
    seedance_emulator.add_fault("http", on="media", status=410, times=None)
    with pytest.raises(SeedanceTransferRefusedError, match="seedance_task_id="):
        transfer_to(disk.url).store(outputs_at(record.urls))


def test_a_record_that_cannot_be_read_again_leaves_the_old_link(
    seedance_emulator: Emulator, disk: Shelf, task_log: TaskLog
) -> None:
    record = a_task()
    seedance_emulator.add_fault("http", on="recordInfo", status=401, times=None)
    seedance_emulator.add_fault("http", on="media", status=403, content_type="application/xml")
    store(record, disk.url)
    assert any("could not be read again" in line for line in task_log.warnings)


# Stores that fail.


@pytest.mark.parametrize("times", [1, 99])
@pytest.mark.parametrize("operation", ["info", "open", "mv", "rm_file"])
def test_a_store_that_fails_is_an_error_without_its_secrets_and_a_retry_stores_the_file(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str, times: int
) -> None:
    shelf, record, failures = a_shelf("odd", tmp_path), a_task(), count(1)
    real = getattr(shelf.fs, operation)

    def fail(*args: Any, **options: Any) -> Any:
        if next(failures) <= times:
            raise ConnectionError("no answer from https://store/x?X-Amz-Signature=secret")
        return real(*args, **options)

    if operation == "rm_file":
        shelf.write("clip.mp4.json", b'{"sha256": "of a file that is gone"}')
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(shelf.fs, operation, fail)
        if times == 1:
            store(record, f"{shelf.url}clip.mp4")
        else:
            with pytest.raises(SeedanceTransferError) as raised:
                store(record, f"{shelf.url}clip.mp4")
            assert raised.value.retryable
            assert raised.value.path == f"{shelf.url}clip.mp4"
            assert "secret" not in str(raised.value)
    store(record, f"{shelf.url}clip.mp4")
    assert shelf.read("clip.mp4") == VIDEO
    assert shelf.names() == ["clip.mp4", "clip.mp4.json"]


@pytest.mark.parametrize(
    "problem",
    [PermissionError("Access Denied"), FileNotFoundError("no such bucket"), OSError(errno.ENOSPC, "No space left")],
    ids=str,
)
def test_a_store_that_will_not_take_it_is_not_tried_again_at_once(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem: OSError
) -> None:
    shelf, record = a_shelf("odd", tmp_path), a_task()
    calls = []

    def refuse(*args: Any, **options: Any) -> Any:
        calls.append(args)
        raise problem

    monkeypatch.setattr(shelf.fs, "mv", refuse)
    with pytest.raises(SeedanceTransferError) as raised:
        store(record, shelf.url)
    assert (raised.value.transient, raised.value.retryable, len(calls)) == (False, True, 1)
    assert shelf.names() == []


def test_a_write_that_fails_halfway_leaves_nothing(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, disk: Shelf
) -> None:
    record = a_task()
    seedance_emulator.add_fault("padded", on="media", bytes=8_000_000, times=None)
    real = disk.fs.open

    def open_and_fail(path: str, mode: str = "rb", **options: Any) -> Any:
        file = real(path, mode, **options)
        if mode == "wb":
            write, left = file.f.write, [3]

            class Full:
                def __getattr__(self, name: str) -> Any:
                    return getattr(file.f, name)

                def write(self, data: Any) -> int:
                    left[0] -= 1
                    if left[0] < 0:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return int(write(data))

            return Full()
        return file

    monkeypatch.setattr(type(disk.fs), "open", lambda self, *args, **options: open_and_fail(*args, **options))
    with pytest.raises(SeedanceTransferError, match="No space left") as raised:
        store(record, disk.url)
    assert not raised.value.transient
    assert disk.names() == []


def test_a_scheme_or_connection_that_is_not_there_is_told_before_anything_is_charged() -> None:
    for path in ("nonsense://bucket/clip.mp4", "s4://aws@bucket/"):
        with pytest.raises(SeedanceConfigurationError, match="output_path") as raised:
            storage.prepare(path)
        assert raised.value.charged == "no"


def test_a_connection_that_cannot_be_read_may_be_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(output_files, "object_path", fail)
    with pytest.raises(SeedanceTransferError) as raised:
        storage.prepare("s3://aws@bucket/")
    assert (raised.value.retryable, raised.value.charged) == (True, "no")


def test_a_configuration_that_breaks_after_the_submission_does_not_say_that_nothing_is_charged(
    seedance_emulator: Emulator,
) -> None:
    record = a_task()
    with pytest.raises(SeedanceConfigurationError) as raised:
        store(record, "nonsense://bucket/")
    assert (raised.value.charged, raised.value.seedance_task_id) == ("yes", record.seedance_task_id)


def test_leftovers_of_killed_tries_are_removed(seedance_emulator: Emulator, shelf: Shelf) -> None:
    shelf.write(".clip.mp4.0123456789ab.part", b"half")
    shelf.write(".clip.mp4.json.0123456789ab.part", b"half")
    shelf.write(".clip.mp4.part", b"somebody else's")
    shelf.write(".other.mp4.0123456789ab.part", b"another's")
    store(a_task(), f"{shelf.url}clip.mp4")
    assert shelf.names() == [".clip.mp4.part", ".other.mp4.0123456789ab.part", "clip.mp4", "clip.mp4.json"]


def test_half_a_file_of_a_killed_copy_is_replaced_where_a_move_is_a_copy(
    seedance_emulator: Emulator, tmp_path: Path
) -> None:
    odd, disk = a_shelf("odd", tmp_path), a_shelf("disk", tmp_path)
    record = a_task()
    for shelf in (odd, disk):
        shelf.write(".clip.mp4.0123456789ab.part", VIDEO)
        shelf.write("clip.mp4", VIDEO[:100])
    store(record, f"{odd.url}clip.mp4")
    assert odd.read("clip.mp4") == VIDEO
    with pytest.raises(SeedanceTransferRefusedError):  # there, it is somebody's file
        store(record, f"{disk.url}clip.mp4")


# Where nothing remembers the video.


def test_the_last_chance_is_used_longer_and_its_end_is_final(seedance_emulator: Emulator, disk: Shelf) -> None:
    record = a_task()
    seedance_emulator.add_fault("http", on="media", status=503, times=None)
    with pytest.raises(SeedanceTransferRefusedError) as raised:
        store(record, disk.url, is_last_chance=True)
    assert downloads(seedance_emulator) == defaults.LAST_TRANSFER_ATTEMPTS
    assert f"SeedanceToObjectStorageOperator(seedance_task_id='{record.seedance_task_id}'" in str(raised.value)
    assert (raised.value.charged, raised.value.status_code) == ("yes", 503)


# Many at once.


def test_a_few_of_many_are_stored_at_a_time_in_their_order(
    seedance_emulator: Emulator, disk: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [a_task().urls[0] for _ in range(5)] * 4
    running, most = [0], [0]
    real = Transfer._attempt

    def counted(self: Transfer, output: Output, began: float) -> StoredFile:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            time.sleep(0.02)
            return real(self, output, began)
        finally:
            running[0] -= 1

    monkeypatch.setattr(Transfer, "_attempt", counted)
    stored = transfer_to(f"{disk.url}{{index:03}}.{{ext}}").store(outputs_at(urls))
    assert [file.path for file in stored] == [f"{disk.url}{index:03}.mp4" for index in range(20)]
    assert most == [defaults.TRANSFERS_AT_ONCE]


def test_when_one_fails_those_not_begun_are_left_and_a_retry_stores_what_is_missing(
    seedance_emulator: Emulator, disk: Shelf
) -> None:
    urls = [a_task().urls[0] for _ in range(12)]
    seedance_emulator.add_fault("other_media", skip=2)
    with pytest.raises(SeedanceTransferError):
        transfer_to(disk.url).store(outputs_at(urls))
    assert downloads(seedance_emulator) < len(urls)
    begun = downloads(seedance_emulator)
    assert len(transfer_to(disk.url).store(outputs_at(urls))) == len(urls)
    assert downloads(seedance_emulator) <= begun + len(urls) - (begun - 1)
    assert len(disk.names()) == 2 * len(urls)


def test_airflow_ends_all_of_them_soon(
    seedance_emulator: Emulator, disk: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [a_task().urls[0] for _ in range(8)]
    seedance_emulator.add_fault("drip", on="media", seconds=20, interval=0.1, times=None)

    def end(*_: Any, **__: Any) -> Any:
        time.sleep(0.3)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "wait", end)
    monkeypatch.setattr(output_files, "PIECE", 1)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        transfer_to(disk.url).store(outputs_at(urls))
    assert time.monotonic() - began < 5
    assert disk.names() == []


def test_a_long_transfer_tells_how_far_it_is(
    seedance_emulator: Emulator, disk: Shelf, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    monkeypatch.setattr(defaults, "TRANSFER_LOG_SECONDS", 0.0)
    record = a_task()
    seedance_emulator.add_fault("padded", on="media", bytes=5_000_000)
    store(record, disk.url)
    told = [line for line in task_log.lines if line.startswith("Storing ")]
    assert len(told) >= 3
    assert "of 5 MB" in told[0]
    assert f"Stored {disk.url}{record.seedance_task_id}.mp4: 5,000,000 bytes" in "\n".join(task_log.lines)


# The path.


@pytest.mark.parametrize(
    ("output_path", "word"),
    [
        ("s3://aws@bucket/{name}.mp4", "{name}"),
        ("s3://aws@bucket/{model.__class__}.mp4", "model.__class__"),
        ("s3://aws@bucket/{}.mp4", "{}"),
        ("s3://aws@bucket/{0}.mp4", "{0}"),
        ("s3://aws@bucket/{index!r}.mp4", "format"),
        ("s3://aws@bucket/{model:>200}.mp4", "format"),
        ("s3://aws@bucket/{index:{seed}}.mp4", "format"),
        ("s3://aws@bucket/{index:0999999999}.mp4", "format"),
        ("s3://aws@bucket/{index.mp4", "brace"),
        ("s3://aws@bucket/index}.mp4", "brace"),
        ("videos/{index}.mp4", "absolute path"),
        ("clip.mp4", "absolute path"),
        ("", "empty"),
        ("  ", "empty"),
        ("s3://aws@bucket", "folder"),
        ("/data/../etc/{index}.mp4", "'..'"),
        ("/data/\0.mp4", "control"),
        ("/data/\n.mp4", "control"),
    ],
)
def test_a_path_that_cannot_be_is_refused_with_its_reason(output_path: str, word: str) -> None:
    for check in (check_output_path, storage.prepare):
        with pytest.raises(SeedanceConfigurationError) as raised:
            check(output_path)
        assert "output_path" in str(raised.value)
        assert word in str(raised.value)


@pytest.mark.parametrize(
    "output_path",
    [
        "s3://aws_default@bucket/{{ ds }}/{seedance_task_id}-{index}.{ext}",
        "{{ var.value.folder }}/{index:02d}.{ext}",
        "/data/{% if params.x %}a{% else %}b{% endif %}/{model}/{seed}/",
        "{# a note #}/data/{{ dag_run.conf['a']\n }}/",
        "s3://{{ params.bucket }}",
        "file:///data/",
        None,
    ],
)
def test_a_path_that_airflow_renders_is_accepted(output_path: Any) -> None:
    check_output_path(output_path)


@pytest.mark.parametrize(
    "rendered",
    [
        "/data/{{ {seed!r:>9999} }}/{index}.{ext}",
        "/data/{{ {model.__class__} }}/{index}.{ext}",
        "/data/{{/../../etc/}}/{index}.{ext}",
        "/data/{% {index} %}/{index}.{ext}",
        "{{folder}}/{index}.{ext}",
    ],
)
def test_what_looks_like_jinja_in_a_rendered_path_is_checked_like_the_rest(rendered: str) -> None:
    check_output_path(rendered)  # as it stands in a DAG file, Airflow will render it
    with pytest.raises(SeedanceConfigurationError, match="output_path"):
        storage.prepare(rendered)


@given(st.text())
def test_any_text_is_a_path_or_an_error_that_names_the_field(text: str) -> None:
    try:
        check_output_path(text)
    except SeedanceConfigurationError as error:
        assert "output_path" in str(error)  # noqa: PT017
    else:
        with suppress(SeedanceConfigurationError):
            check_output_path(text, is_rendered=True)
            path_of(text, Output("https://host/a.mp4", 0), "mp4")


@given(st.text(max_size=300), st.text(max_size=300))
def test_what_the_vendor_sends_leaves_no_folder(task_id: str, model: str) -> None:
    values = {"seedance_task_id": task_id, "model": model, "seed": 7}
    path = path_of("/data/{model}/{seed}/", Output("https://host/a.mp4", 0, values=values), "mp4")
    parts = path.split("/")
    assert parts[:2] == ["", "data"]
    assert len(parts) == 5
    assert not {"", ".", ".."} & set(parts[2:])
    assert path.isascii()
    assert path.isprintable()
    assert max(map(len, parts)) < 200


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_tasks_have_different_paths(one: str, other: str) -> None:
    def path(task_id: str) -> str:
        return path_of("/data/", Output("https://host/a.mp4", 0, values={"seedance_task_id": task_id}), "mp4")

    # Both of no name are "unknown".
    assert (path(one) == path(other)) is (one == other or {one, other} <= {"", "unknown"})


@pytest.mark.parametrize(
    ("template", "index", "kind", "expected"),
    [
        ("/v/clip.mp4", 0, "output", "/v/clip.mp4"),
        ("/v/clip.mp4", 2, "output", "/v/clip-2.mp4"),
        ("/v/clip", 2, "output", "/v/clip-2"),
        ("/v/.hidden", 1, "output", "/v/.hidden-1"),
        ("/v.1/clip", 1, "output", "/v.1/clip-1"),
        ("/v/clip.mp4", 0, "last_frame", "/v/clip-last-frame.png"),
        ("/v/clip.mp4", 1, "last_frame", "/v/clip-1-last-frame.png"),
        ("/v/clip-{index}.{ext}", 1, "last_frame", "/v/clip-1-last-frame.png"),
        ("/v/", 0, "last_frame", "/v/unknown-last-frame.png"),
    ],
)
def test_the_number_and_the_last_frame_come_before_the_extension(
    template: str, index: int, kind: Any, expected: str
) -> None:
    extension = "png" if kind == "last_frame" else "mp4"
    assert path_of(template, Output("https://host/a.mp4", index, kind), extension) == expected


def test_the_names_in_a_path_are_told() -> None:
    assert names_in_output_path("{{ ds }}/{index:03}-{ext}{% raw %}{x}{% endraw %}".replace("{x}", "")) == {
        "index",
        "ext",
    }


def test_an_image_model_has_no_last_frame(tmp_path: Path) -> None:
    with pytest.raises(SeedanceConfigurationError, match="last_frame"):
        storage.prepare(f"{tmp_path}/", last_frame=True, model="midjourney-v8")
    storage.prepare(f"{tmp_path}/", last_frame=True, model="seedance-20")
    storage.prepare(f"{tmp_path}/", last_frame=True, model="unheard-of")


# The record.


def test_a_finished_task_is_read(seedance_emulator: Emulator) -> None:
    record, hook = a_task(), SeedanceHook()
    finished: Callable[..., TaskRecord] = storage.finished
    assert finished(hook, hook.log, f" {record.seedance_task_id} ", None) == record
    polls = len(seedance_emulator.requests("recordInfo"))
    for form in (record.model_dump(mode="json"), record.model_dump_json()):
        assert finished(hook, hook.log, None, form) == record
    assert len(seedance_emulator.requests("recordInfo")) == polls
    assert finished(hook, hook.log, None, aged(record).model_dump(mode="json")) == record
    assert len(seedance_emulator.requests("recordInfo")) == polls + 1


def test_an_old_record_that_cannot_be_read_again_is_used_as_it_is(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    record, hook = aged(a_task()), SeedanceHook()
    seedance_emulator.add_fault("http", on="recordInfo", status=404, times=None)
    assert storage.finished(hook, hook.log, None, record.model_dump(mode="json")) == record
    assert any("could not be read again" in line for line in task_log.warnings)


@pytest.mark.parametrize("record", ["", "x", "[]", {}, 7, [], {"seedance_task_id": 7, "status": []}])
def test_what_is_no_record_is_refused(seedance_emulator: Emulator, record: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match="record"):
        storage.finished(SeedanceHook(), logging.getLogger(), None, record)


@pytest.mark.parametrize("task_id", ["", " ", None, 7])
def test_an_empty_id_is_refused(seedance_emulator: Emulator, task_id: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match="seedance_task_id"):
        storage.finished(SeedanceHook(), logging.getLogger(), task_id, None)


def test_a_task_that_failed_or_still_runs_has_no_files(seedance_emulator: Emulator) -> None:
    hook = SeedanceHook()
    failed = hook.create_task("seedance-20", FOX | {"prompt": "[[fail]]"})
    running = hook.create_task("seedance-20", FOX | {"prompt": "[[generating:600]]"})
    time.sleep(0.3)
    with pytest.raises(SeedanceTaskFailedError):
        storage.finished(hook, hook.log, failed, None)
    with pytest.raises(SeedanceError, match="SeedanceTaskSensor") as raised:
        storage.finished(hook, hook.log, running, None)
    assert (raised.value.retryable, raised.value.charged) == (True, "yes")


@pytest.mark.parametrize("urls", ["clip.mp4", ["https://host/a.mp4", ""], 7, [None], "['https://host/a.mp4?secret=1']"])
def test_what_is_no_url_is_refused(urls: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match="urls") as raised:
        outputs_at(urls)
    assert "secret" not in str(raised.value)


def test_urls_of_mapped_tasks_are_taken_one_after_the_other() -> None:
    outputs = outputs_at([["https://host/a.mp4"], ("https://host/b.mp4", "https://host/c.mp4")])
    assert [(output.index, output.url[-5:]) for output in outputs] == [(0, "a.mp4"), (1, "b.mp4"), (2, "c.mp4")]


def test_the_model_that_was_asked_for_is_the_one_in_the_path(seedance_emulator: Emulator) -> None:
    (output,) = outputs_of(changed(a_task(), model="doubao-internal-7"), model="seedance-20")
    assert path_of("/v/{model}.{ext}", output, "mp4") == "/v/seedance-20.mp4"


def test_that_a_link_is_gone_is_told_whatever_is_in_the_place(seedance_emulator: Emulator, disk: Shelf) -> None:
    record, other = aged(a_task(model="seedance2-5", output_format="mov")), a_task()
    store(other, f"{disk.url}clip.mp4")
    seedance_emulator.add_fault("http", on="media", status=410, times=None)
    with pytest.raises(SeedanceTransferRefusedError) as raised:
        store(record, f"{disk.url}clip.{{ext}}")  # looked for as .mov first
    assert raised.value.status_code == 410
    assert disk.sidecar("clip.mp4")["seedance_task_id"] == other.seedance_task_id


def test_a_folder_that_may_not_be_listed_can_be_stored_into(
    seedance_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, record = a_shelf("odd", tmp_path), a_task()

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as denied:
        denied.setattr(shelf.fs, "ls", refuse)
        store(record, f"{shelf.url}clip.mp4")
    assert shelf.names() == ["clip.mp4", "clip.mp4.json"]
