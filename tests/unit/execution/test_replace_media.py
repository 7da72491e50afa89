"""Files in the inputs: each is uploaded once, and its public URL takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seedance_provider.execution.submit import replace_media


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
