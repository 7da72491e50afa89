"""``SeedanceHook.download``: one file, whole, without credentials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

import seedance_provider.testing
from seedance_provider import defaults
from seedance_provider.api.records import TaskRecord
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceTransferError
from seedance_provider.hooks.media import EXTENSIONS, kind_of, recognise
from seedance_provider.hooks.seedance import SeedanceHook
from tests.unit.hooks.test_media import MEDIA

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator
    from tests.support.airflow import TaskLog

VIDEO = (Path(seedance_provider.testing.__file__).parent / "media" / "video.mp4").read_bytes()


@pytest.fixture
def record(seedance_emulator: Emulator) -> TaskRecord:
    hook = SeedanceHook()
    return hook.wait_for_task(hook.create_task("seedance-20", {"prompt": "a fox", "duration": 5}), poll_interval=0.02)


@pytest.mark.parametrize(
    "form", [str, Path, lambda path: ObjectStoragePath(f"file://{path}"), lambda path: f"file://{path}"]
)
def test_a_record_is_downloaded_to_any_form_of_path(record: TaskRecord, tmp_path: Path, form: Any) -> None:
    path = form(tmp_path / "deep" / "clip.mp4")
    assert SeedanceHook().download(record, path) == str(path)
    assert (tmp_path / "deep" / "clip.mp4").read_bytes() == VIDEO
    assert [found.name for found in (tmp_path / "deep").iterdir()] == ["clip.mp4"]


def test_a_relative_path_is_below_the_working_directory(
    record: TaskRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SeedanceHook().download(record.urls[0], "clip.mp4") == "clip.mp4"
    assert SeedanceHook().download(record.urls[0], "deep/clip.mp4") == "deep/clip.mp4"
    assert (tmp_path / "clip.mp4").read_bytes() == (tmp_path / "deep" / "clip.mp4").read_bytes() == VIDEO


def test_a_file_of_that_name_is_replaced_once_the_other_is_there(
    seedance_emulator: Emulator, record: TaskRecord, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    seedance_emulator.add_fault("cut", on="media", times=defaults.TRANSFER_ATTEMPTS)
    with pytest.raises(SeedanceTransferError):
        SeedanceHook().download(record, path)
    assert path.read_bytes() == b"old"
    SeedanceHook().download(record, path)
    assert path.read_bytes() == VIDEO


def test_the_sidecar_of_a_file_that_is_replaced_does_not_stay(record: TaskRecord, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    (tmp_path / "clip.mp4.json").write_text('{"sha256": "of the old one"}')
    SeedanceHook().download(record, path)
    assert [found.name for found in tmp_path.iterdir()] == ["clip.mp4"]
    (tmp_path / "clip.mp4.json").write_text('{"mine": 1}')
    SeedanceHook().download(record, path)
    assert (tmp_path / "clip.mp4.json").exists()


def test_it_is_tried_again_and_told(
    seedance_emulator: Emulator, record: TaskRecord, tmp_path: Path, task_log: TaskLog
) -> None:
    seedance_emulator.add_fault("http", on="media", status=503, times=2)
    SeedanceHook().download(record, tmp_path / "clip.mp4")
    assert len(task_log.warnings) == 2
    assert any(f"{len(VIDEO):,} bytes" in line for line in task_log.lines)


def test_no_key_goes_with_it(seedance_emulator: Emulator, record: TaskRecord, tmp_path: Path) -> None:
    SeedanceHook().download(record, tmp_path / "clip.mp4")
    assert [call["authorization"] for call in seedance_emulator.requests("media")] == [False]


def test_a_picture_is_no_video(seedance_emulator: Emulator, record: TaskRecord, tmp_path: Path) -> None:
    seedance_emulator.add_fault("other_media", times=None)
    with pytest.raises(SeedanceTransferError, match="image/png"):
        SeedanceHook().download(record, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_taken_as_xcom_holds_it(record: TaskRecord, tmp_path: Path) -> None:
    SeedanceHook().download(json.loads(record.model_dump_json()), tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == VIDEO


def test_a_mapping_that_is_no_record_is_refused(seedance_emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(SeedanceConfigurationError, match="seedance_task"):
        SeedanceHook().download({"url": "https://a.example/clip.mp4"}, tmp_path / "clip.mp4")


def test_a_record_without_output_is_told(record: TaskRecord, tmp_path: Path) -> None:
    bare = TaskRecord.model_validate(record.model_dump(mode="json") | {"outputs": [], "raw_status": "generating"})
    with pytest.raises(SeedanceTransferError, match="'generating'") as raised:
        SeedanceHook().download(bare, tmp_path / "clip.mp4")
    assert raised.value.seedance_task_id == record.seedance_task_id


# What a file is said to be, and what it is.


@pytest.mark.parametrize("name", MEDIA)
def test_all_media_have_an_extension(name: str) -> None:
    head, found = MEDIA[name]
    assert recognise(head, found, kind_of(found)) == recognise(head, "application/octet-stream", None) == found
    assert EXTENSIONS[found]


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [("png", "image/png", "video"), ("mp4", "video/mp4", "image"), ("mp4", "image/png", None), ("mp3", "", "video")],
)
def test_what_is_of_another_kind_is_refused(name: str, content_type: str, expected: str | None) -> None:
    head, found = MEDIA[name]
    with pytest.raises(ValueError, match=found):
        recognise(head, content_type, expected)


def test_sound_may_come_in_a_container_of_video() -> None:
    head, found = MEDIA["mp4"]
    assert recognise(head, "audio/mp4", "audio") == found


@pytest.mark.parametrize("head", [b"", b"<!DOCTYPE html>", b"{}", b"moving pictures", b"PK\x03\x04"])
def test_what_is_no_media_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="no image, video or audio"):
        recognise(head, "video/mp4", "video")
