"""Whether submitting a failed task again may help: contract 4.5, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.api.failures import may_resubmit_help
from seedance_provider.api.records import TaskFailure, parse_task

# Code, message, whether it is transient. The messages are abridged as in the contract where it abridges them.
ROWS = [
    ("asset_review_failed", "Reference image 1 failed review. Please replace it.", False),
    ("asset_review_failed", "Reference video 2 failed review. Please replace it.", False),
    ("InvalidParameter", "Audio cannot be the only reference. Add an image or a video.", False),
    ("InvalidParameter", "The total duration of reference videos must not exceed 15 seconds.", False),
    ("InvalidParameter", "The parameter `content` specified in the request is not valid.", False),
    ("InvalidParameter", "Failed to download the reference image.", False),
    ("InvalidParameter", "The image is too small.", False),
    ("InvalidParameter", "Each reference video must not exceed 15 seconds.", False),
    ("InvalidParameter", "Reference video seconds plus duration must not exceed 30 seconds.", False),
    ("InvalidParameter", "Content check failed.", False),
    ("1001", "Failed to download your reference.", False),
    ("1001", "The uploaded video may contain sensitive content.", False),
    ("1001", "The uploaded image may contain sensitive content.", False),
    ("1001", "The generated video failed review.", False),
    ("1001", "The generated audio failed review.", False),
    ("1001", "The request may infringe a copyright.", False),
    ("1001", "The parameters are not valid for editing.", False),
    ("1001", "Service temporarily unavailable. Please try again later.", True),
    ("500", "Failed to download your reference video. Please check the URL.", False),
    ("500", "Generation failed. Please try again.", True),
    ("500", "Your request was blocked by moderation.", False),
    ("500", "A face was detected in the input media.", False),
    ("500", "A face was detected in the output.", False),
    ("500", "The request may infringe a copyright.", False),
    ("500", "ServiceUnavailable <503>", True),
    ("2038", "The input text violates our content rules.", False),
    ("4011", "4011", False),
    (None, "Task execution failed", False),
    (None, "Invalid prompt content", False),
    (None, "Image URL not accessible", False),
    (None, "Processing timeout", True),
    (None, "Model temporarily unavailable", True),
    # Texts seen on the same backend, which say nothing reliable.
    (None, "Uploaded image violates rules", False),
    (None, "Generation failed", False),
    (None, "Server error", False),
    (None, "The task could not be processed", False),
]


@pytest.mark.parametrize(("code", "message", "transient"), ROWS)
def test_only_what_the_contract_calls_transient_is_taken_for_it(
    code: str | None, message: str, transient: bool
) -> None:
    assert may_resubmit_help(TaskFailure(code=code, message=message)) is transient


@pytest.mark.parametrize("row", [row for row in ROWS if row[2]], ids=lambda row: row[1])
def test_upper_and_lower_case_and_what_stands_around_do_not_matter(row: tuple[str | None, str, bool]) -> None:
    code, message, _ = row
    for written in (message.upper(), message.lower(), f"upstream said: {message} (request 7)"):
        assert may_resubmit_help(TaskFailure(code=code, message=written))


@pytest.mark.parametrize("error", [None, "", {}, {"code": "500"}, {"code": 500, "message": ""}, {"message": None}])
def test_a_failure_without_a_reason_is_not_resubmitted(error: Any) -> None:
    failure = parse_task({"taskId": "task_1", "status": "fail", "error": error}).failure
    assert failure is not None
    assert not may_resubmit_help(failure)


@pytest.mark.parametrize(
    "record",
    [
        {"status": "fail", "error": "Model temporarily unavailable"},
        {"status": "fail", "error": {"code": "1001", "message": "Service temporarily unavailable."}},
        {"code": 200, "data": {"taskId": "task_1", "state": "fail", "failMsg": "Processing timeout"}},
    ],
    ids=["seed", "current", "envelope"],
)
def test_the_transient_texts_are_found_in_the_record_of_every_version(record: dict[str, Any]) -> None:
    failure = parse_task(record, seedance_task_id="task_1").failure
    assert failure is not None
    assert may_resubmit_help(failure)


# Each of the transient texts has an "i", and hypothesis knows the constants of the code it tests.
WITHOUT_I = st.text(st.characters(codec="ascii", exclude_characters="iI"), max_size=60)


@given(code=st.none() | st.sampled_from(["500", "1001", "InvalidParameter"]), message=WITHOUT_I)
def test_the_default_is_no_whatever_the_code(code: str | None, message: str) -> None:
    assert not may_resubmit_help(TaskFailure(code=code, message=message))
