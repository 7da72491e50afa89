"""Uploads: a media file on a local disk or in object storage, streamed to a signed URL that gets no key."""

from __future__ import annotations

import http.client
import io
import logging
import mimetypes
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
from seedance_provider.hooks.media import MediaFile, media_type
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.transport.sync import SizedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedance_provider.testing import Emulator
    from tests.support.airflow import TaskLog

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300
BUNDLED = Path(__file__).resolve().parents[3] / "seedance_provider" / "testing" / "media"


def iso(brand: bytes) -> bytes:
    """How a file of the MP4 family begins."""
    return b"\0\0\0\x1cftyp" + brand + b"\0\0\x02\0isomiso2mp41\0\0\0\x08free"


#: How real files begin, as ffmpeg, QuickTime, lame and the like write them, and what they are.
MEDIA = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x05\0\0\0\x02\xd0\x08\x02\0\0\0", "image/png"),
    "jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0", "image/jpeg"),
    "jpg with Exif": (b"\xff\xd8\xff\xe1\x1f\xfeExif\0\0MM\0*\0\0\0\x08", "image/jpeg"),
    "gif": (b"GIF89a\x20\x03\x58\x02\xf7\0\0", "image/gif"),
    "webp": (b"RIFF\x24\x1a\0\0WEBPVP8 \x18\x1a\0\0", "image/webp"),
    "avif": (iso(b"avif"), "image/avif"),
    "heic": (iso(b"heic"), "image/heic"),
    "mp4": (iso(b"isom"), "video/mp4"),
    "mp4 for phones": (iso(b"mp42"), "video/mp4"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\x02\0qt  \0\0\0\x08wide", "video/quicktime"),
    "mov of old": (b"\0\0\0\x08wide\0\x2a\x1b\x3cmdat\0\0\0\0", "video/quicktime"),
    "mov for the web": (b"\0\0\x0b\x5emoov\0\0\0lmvhd\0\0\0\0", "video/quicktime"),
    "webm": (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm", "video/webm"),
    "mp3": (b"ID3\x04\0\0\0\0\0#TSSE\0\0\0\x0f\0\0\x03Lavf60", "audio/mpeg"),
    "mp3 without tags": (b"\xff\xfb\x90\x64\0\0\0\0\0\0\0\0\0\0\0\0", "audio/mpeg"),
    "mp3 of low rate": (b"\xff\xf3\x44\xc4\0\x13\x10\xaa\xec\0", "audio/mpeg"),
    "wav": (b"RIFF\x46\xb0\x13\0WAVEfmt \x10\0\0\0\x01\0\x02\0", "audio/wav"),
    "m4a": (iso(b"M4A "), "audio/mp4"),
    "aac": (b"\xff\xf1\x50\x80\x03\xdf\xfc\xde\x04\0\0l", "audio/aac"),
    "ogg": (b"OggS\0\x02\0\0\0\0\0\0\0\0\x8d\x6a\x01vorbis", "audio/ogg"),
    "flac": (b"fLaC\0\0\0\x22\x12\0\x12\0\0\0\x0e\0\x0e\x04", "audio/flac"),
}
#: How files begin that are none.
OTHERS = {
    "passwd": b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:",
    "configuration": b"[core]\nfernet_key = c2VjcmV0\n",
    "JSON": b'{"key": "s3cret"}',
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "zip": b"PK\x03\x04\x14\0\0\0\x08\0",
    "program": b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
    "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x06s3cret",
    "sqlite": b"SQLite format 3\0\x10\0\x01\x01",
    "UTF-16": "key = s3cret".encode("utf-16"),
    "zeros": bytes(64),
    "text about tags": b"ID3 tags hold the title of a song; the key is s3cret, as always",
    "text about moov": b"The moov atom comes first, and the secret is s3cret, as always",
    "text about width": b"The wide screen of the secret room needs the password s3cret here",
    "text about gif": b"GIF8 is no format, and the password of this file is s3cret, as always",
    "text about ogg": b"OggS is how such a file begins, but the secret is s3cret, as always",
    "text about flac": b"fLaC",
    "text about wav": b"RIFF a   WAVE of secrets, s3cret among them, and so on and so forth",
    "text with ftyp": b"the ftyp of the secret is s3cret, as always, and so on and so forth",
    "other RIFF": b"RIFF\x46\xb0\x13\0AVI LIST",
    "frames that are none": b"\xff\xff\xff\xff\0\0",
    "two bytes": b"\xff\xfb",
}


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


@pytest.mark.parametrize("kind", MEDIA)
def test_what_is_media_is_told_by_its_bytes(
    seedance_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    head, content_type = MEDIA[kind]
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: (None, None))  # a system without such a file
    path = tmp_path / "without a suffix"
    path.write_bytes(head + bytes(1000))
    assert MediaFile(path).content_type == content_type
    assert fetched(SeedanceHook().upload(path)).headers["Content-Type"] == content_type


@pytest.mark.parametrize("name", [path.name for path in BUNDLED.iterdir() if path.suffix != ".md"])
def test_real_files_are_media(name: str) -> None:
    assert MediaFile(BUNDLED / name).content_type == mimetypes.guess_type(name)[0]


def test_a_name_of_any_script_is_uploaded(seedance_emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "狐 & 'fox'?.png"
    path.write_bytes(PICTURE)
    assert fetched(SeedanceHook().upload(path)).content == PICTURE
    assert seedance_emulator.counts("put") == {"200": 1}


# What cannot.


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["clip.mp4", "cat.png"])
def test_what_is_no_media_by_its_bytes_stays_on_the_worker(
    seedance_emulator: Emulator, tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(OTHERS[kind])
    with pytest.raises(SeedanceInvalidRequestError, match=name) as caught:
        SeedanceHook().upload(path)
    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.charged == "no"
    assert "s3cret" not in str(caught.value)
    assert seedance_emulator.requests() == []


def test_a_link_to_another_file_is_judged_by_that_file(seedance_emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "airflow.cfg").write_bytes(OTHERS["configuration"])
    (tmp_path / "cat.png").symlink_to(tmp_path / "airflow.cfg")
    for path in (tmp_path / "cat.png", f"file://{tmp_path}/cat.png", "/etc/passwd", "file:///etc/passwd"):
        with pytest.raises(SeedanceInvalidRequestError):
            SeedanceHook().upload(path)
    assert seedance_emulator.requests() == []


def test_an_object_that_is_no_media_is_refused_too(seedance_emulator: Emulator, remote: ObjectStoragePath) -> None:
    with remote.open("wb") as file:
        file.write(OTHERS["JSON"])
    with pytest.raises(SeedanceInvalidRequestError):
        SeedanceHook().upload(remote)
    assert seedance_emulator.requests() == []


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=100))
def test_no_text_is_media(text: str) -> None:
    assert media_type(text.encode()[:64]) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_judged_without_an_error(head: bytes) -> None:
    media_type(head)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder / "none.png",
        lambda folder: str(folder / "none.png"),
        lambda folder: folder,
        lambda folder: f"file://{folder}/none.png",
        lambda folder: "memory://bucket/none.png",
        lambda folder: folder / ("x" * 300),
        lambda folder: "data:image/png;base64," + "A" * 5000,
        lambda folder: "a\0b.png",
        lambda folder: "",
        lambda folder: "nothing://bucket/cat.png",
    ],
    ids=["missing", "missing text", "directory", "file url", "memory", "long name", "data", "nul", "empty", "scheme"],
)
def test_what_is_no_file_fails_at_once_and_asks_for_nothing(
    seedance_emulator: Emulator, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        SeedanceHook().upload(make(tmp_path))
    assert isinstance(caught.value, AirflowFailException)
    assert len(str(caught.value)) < 1000
    assert seedance_emulator.requests() == []


def test_an_empty_file_fails_at_once(seedance_emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(SeedanceInvalidRequestError, match=r"empty\.png"):
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
    assert len(task_log.warnings) == 1


def test_a_put_that_keeps_failing_ends_in_an_error_that_a_retry_may_cure(
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
    (line,) = task_log.lines
    assert all(part in line for part in ("a cat.png", str(len(PICTURE)), url, "24 hours"))


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
        file.write(MEDIA["mp4"][0])
        file.truncate(20 * 2**20)
    monkeypatch.setattr(MediaFile, "open", lambda media: Recorder(media.path))
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


def test_an_upload_takes_no_longer_than_it_must(seedance_emulator: Emulator, picture: Path) -> None:
    started = time.monotonic()
    SeedanceHook().upload(picture)
    assert time.monotonic() - started < 20
    assert len(seedance_emulator.requests()) == 2
