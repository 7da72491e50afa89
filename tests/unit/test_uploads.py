"""Uploads: a file on a local disk or in object storage, streamed to a signed URL that gets no key."""

from __future__ import annotations

import http.client
import io
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceServerError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.uploads import Media, SizedReader, replace_media
from tests.support.airflow import TaskLog, hurry

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedance_provider.testing import Emulator

PICTURE = b"\x89PNG\r\n" + bytes(range(256)) * 300


@pytest.fixture(autouse=True)
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    hurry(monkeypatch)
    return TaskLog(monkeypatch, SeedanceHook)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a cat.png"
    path.write_bytes(PICTURE)
    return path


@pytest.fixture
def remote() -> ObjectStoragePath:
    """A file in an object storage, which stands for S3 and the like."""
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2.11
        from airflow.io.store import attach
    attach("memory", fs=MemoryFileSystem())
    path = ObjectStoragePath("memory://bucket/cats/cat.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(PICTURE)
    return path


def fetched(url: str) -> requests.Response:
    return requests.get(url, headers={"User-Agent": "test"}, timeout=10)


# What can be uploaded.


@pytest.mark.parametrize(
    "written", [str, Path, lambda path: ObjectStoragePath(f"file://{path}"), lambda p: f"file://{p}"]
)
def test_a_file_is_uploaded_however_its_path_is_written(
    seedance_emulator: Emulator, picture: Path, written: Callable[[Path], Any]
) -> None:
    url = SeedanceHook().upload(written(picture))
    assert url.startswith(f"{seedance_emulator.url}/temp-uploads/")
    assert url.endswith("a_cat.png")
    answer = fetched(url)
    assert answer.content == PICTURE
    assert answer.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize("written", [str, lambda path: path])
@pytest.mark.usefixtures("seedance_emulator")
def test_an_object_is_uploaded_out_of_object_storage(
    remote: ObjectStoragePath, written: Callable[[ObjectStoragePath], Any]
) -> None:
    assert fetched(SeedanceHook().upload(written(remote))).content == PICTURE


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.png", "image/png"),
        ("a.JPG", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.mov", "video/quicktime"),
        ("a.webm", "video/webm"),
        ("a.mp3", "audio/mpeg"),
        ("a.wav", "audio/x-wav"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_content_type_follows_the_name(tmp_path: Path, name: str, content_type: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert Media(tmp_path / name).content_type == content_type


def test_a_name_of_any_script_is_uploaded(seedance_emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "狐 & 'fox'?.png"
    path.write_bytes(PICTURE)
    assert fetched(SeedanceHook().upload(path)).content == PICTURE
    assert seedance_emulator.counts("put") == {"200": 1}


# What cannot.


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: folder / "none.png", "is not a file: give a path that the worker can read"),
        (lambda folder: str(folder / "none.png"), "is not a file"),
        (lambda folder: folder, "is not a file"),
        (lambda folder: f"file://{folder}/none.png", "is not a file"),
        (lambda folder: "memory://bucket/none.png", "is not a file|cannot be read"),
        (lambda folder: folder / ("x" * 300), "cannot be read|is not a file"),
        (lambda folder: "data:image/png;base64," + "A" * 5000, "cannot be read|is not a file"),
        (lambda folder: "a\0b.png", "cannot be read|is not a file"),
        (lambda folder: "", "is not a file"),
        (lambda folder: "nothing://bucket/cat.png", "cannot be read: .*nothing"),
    ],
    ids=["missing", "missing text", "directory", "file url", "memory", "long name", "data", "nul", "empty", "scheme"],
)
def test_what_is_no_file_fails_at_once_and_asks_for_nothing(
    seedance_emulator: Emulator, tmp_path: Path, make: Callable[[Path], Any], complaint: str
) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match=complaint) as caught:
        SeedanceHook().upload(make(tmp_path))
    assert isinstance(caught.value, AirflowFailException)
    assert len(str(caught.value)) < 1000
    assert seedance_emulator.requests() == []


def test_an_empty_file_fails_at_once(seedance_emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(SeedanceInvalidRequestError, match="is empty: give a file with media in it"):
        SeedanceHook().upload(tmp_path / "empty.png")
    assert seedance_emulator.requests() == []


# The signed PUT. The emulator refuses one that has a key, another content type or no length.


def test_the_signed_put_has_no_key_and_the_announcement_has_one(
    seedance_emulator: Emulator, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))  # requests would make an Authorization header of it
    SeedanceHook().upload(picture)
    assert seedance_emulator.counts("uploads") == {"200": 1}
    assert seedance_emulator.counts("put") == {"200": 1}


@pytest.mark.parametrize("fault", [{"fault": "http", "status": 503}, {"fault": "reset"}, {"fault": "html"}], ids=str)
def test_a_put_that_fails_is_done_again_with_a_new_ticket(
    seedance_emulator: Emulator, picture: Path, task_log: TaskLog, fault: dict[str, Any]
) -> None:
    seedance_emulator.add_fault(**fault, on="put")
    assert fetched(SeedanceHook().upload(picture)).content == PICTURE
    assert seedance_emulator.counts("uploads") == {"200": 2}
    assert any("Asking again in" in line for line in task_log.warnings)


def test_a_put_that_goes_on_failing_ends_in_an_error_that_a_retry_may_mend(
    seedance_emulator: Emulator, picture: Path
) -> None:
    seedance_emulator.add_fault("http", status=500, on="put", times=None)
    with pytest.raises(SeedanceServerError) as caught:
        SeedanceHook().upload(picture)
    assert not isinstance(caught.value, AirflowFailException)
    assert seedance_emulator.counts("put") == {"fault:http": 3}


@pytest.mark.seedance_emulator(upload_expiry_seconds=0)
def test_after_an_expired_url_a_new_one_is_asked_for(seedance_emulator: Emulator, picture: Path) -> None:
    with pytest.raises(SeedanceError, match="Request has expired") as caught:
        SeedanceHook().upload(picture)
    assert not isinstance(caught.value, AirflowFailException)
    assert seedance_emulator.counts("uploads") == {"200": 3}
    assert seedance_emulator.counts("put") == {"403": 3}


def test_a_key_that_is_refused_is_named_as_such(seedance_emulator: Emulator, picture: Path) -> None:
    seedance_emulator.put_account(state="inactive")
    with pytest.raises(SeedanceAuthenticationError):
        SeedanceHook().upload(picture)
    assert seedance_emulator.counts("put") == {}


@pytest.mark.parametrize(
    "fault",
    [
        None,
        {"fault": "http", "status": 503, "times": None},
        {"fault": "http", "status": 403, "times": None},
        {"fault": "reset", "times": None},
        {"fault": "redirect", "times": None},
        {"fault": "slow", "seconds": 1, "times": None},
    ],
    ids=str,
)
def test_the_signature_is_in_no_log_and_in_no_error(
    seedance_emulator: Emulator,
    picture: Path,
    task_log: TaskLog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any] | None,
) -> None:
    if fault:
        seedance_emulator.add_fault(**fault, on="put")
    hook = SeedanceHook()
    monkeypatch.setattr(type(hook.settings), "read_timeout", 0.2) if fault and fault["fault"] == "slow" else None
    said = ""
    with caplog.at_level(logging.INFO):
        try:
            hook.upload(picture)
        except SeedanceError as error:
            said = f"{error!r} {error} {vars(error)}"
    everything = " ".join([said, caplog.text, *task_log.lines])
    signatures = [upload.signature for upload in seedance_emulator.server.uploads.values()]
    assert signatures
    assert not any(signature in everything for signature in signatures)
    assert "X-Amz" not in everything
    assert seedance_emulator.api_key not in everything


def test_the_log_says_what_was_uploaded_where_and_for_how_long(
    seedance_emulator: Emulator, picture: Path, task_log: TaskLog
) -> None:
    url = SeedanceHook().upload(picture)
    assert f"Uploaded a cat.png ({len(PICTURE)} bytes) to {url}; it stays for 24 hours" in task_log.lines


# Streaming.


class Recorder(io.FileIO):
    """A file that knows how much of it was asked for at a time."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        data = super().read(-1 if size is None else size)
        Recorder.most = max(Recorder.most, len(data))
        return data


def test_a_large_file_is_never_held_as_a_whole(
    seedance_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(20 * 2**20)
    monkeypatch.setattr(Media, "open", lambda media: Recorder(media.path))
    sent: list[int] = []
    send = http.client.HTTPConnection.send

    def counting(self: Any, data: Any) -> None:
        if isinstance(data, bytes):
            sent.append(len(data))
        send(self, data)

    monkeypatch.setattr(http.client.HTTPConnection, "send", counting)
    SeedanceHook().upload(path)
    (upload,) = seedance_emulator.server.uploads.values()
    assert upload.data is not None
    assert len(upload.data) == 20 * 2**20
    assert 0 < Recorder.most <= 2**20
    assert max(sent) <= 2**20


@given(data=st.binary(max_size=300_000), size=st.none() | st.integers(1, 100_000))
def test_a_reader_gives_the_file_as_it_is(data: bytes, size: int | None) -> None:
    assert b"".join(SizedReader(io.BytesIO(data), len(data))) == data
    reader = SizedReader(io.BytesIO(data), len(data))
    assert len(reader) == len(data)
    if size is None:
        assert reader.read() == data
    else:
        assert b"".join(iter(lambda: reader.read(size), b"")) == data


# Media in inputs.


def test_only_files_of_the_media_fields_are_replaced_and_the_inputs_are_left_alone() -> None:
    inputs = {
        "prompt": "cat.png",
        "imageUrls": ["cat.png", "https://example.com/a.png", Path("dog.png"), "s3://bucket/a.png"],
        "videoUrls": ("clip.mp4",),
        "audioUrls": [],
        "urls": ["cat.png"],
        "mode": "reference",
    }
    before = {name: list(value) if isinstance(value, list) else value for name, value in inputs.items()}
    asked: list[Any] = []

    def upload(item: Any) -> str:
        asked.append(item)
        return f"https://up/{len(asked)}"

    replaced = replace_media(inputs, upload, {})
    assert replaced == inputs | {
        "imageUrls": ["https://up/1", "https://example.com/a.png", "https://up/2", "https://up/3"],
        "videoUrls": ["https://up/4"],
    }
    assert asked == ["cat.png", Path("dog.png"), "s3://bucket/a.png", "clip.mp4"]
    assert inputs == before


def test_a_file_named_twice_is_uploaded_once_and_so_is_one_uploaded_before() -> None:
    asked: list[Any] = []
    uploaded = {"old.png": "https://up/old"}
    inputs = {"imageUrls": ["old.png", "new.png", "new.png", Path("new.png")]}
    replaced = replace_media(inputs, lambda item: asked.append(item) or "https://up/new", uploaded)
    assert replaced["imageUrls"] == ["https://up/old"] + ["https://up/new"] * 3
    assert asked == ["new.png"]
    assert uploaded == {"old.png": "https://up/old", "new.png": "https://up/new"}


@pytest.mark.parametrize(
    "value", [None, 5, "cat.png", {"a": 1}, [None], [5], [["cat.png"]], ["http://"], [""]], ids=str
)
def test_what_is_no_file_at_all_is_left_for_the_vendor_to_judge(value: Any) -> None:
    def upload(item: Any) -> str:
        raise AssertionError(f"{item!r} was to be uploaded")

    assert replace_media({"imageUrls": value}, upload, {}) == {"imageUrls": value}


def test_an_upload_takes_no_longer_than_it_must(seedance_emulator: Emulator, picture: Path) -> None:
    started = time.monotonic()
    SeedanceHook().upload(picture)
    assert time.monotonic() - started < 2
    assert len(seedance_emulator.requests()) == 2
