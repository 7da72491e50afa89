"""The vendor's words: the texts of its refusals and failures, and the pages of the edge in front of it."""

from __future__ import annotations

from typing import Any

# By endpoint where they differ, else under "". Members beside the message are the vendor's sample figures.
_REFUSALS: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {
    ("", 400): ("Invalid request parameters", {}),
    ("recordInfo", 400): ("Invalid taskId", {}),
    ("", 401): ("Invalid API Key", {}),
    ("", 402): ("Insufficient credits", {"required": 200, "available": 10}),
    ("", 403): ("API access not enabled for this account", {}),
    ("recordInfo", 403): ("Access denied", {}),
    ("", 404): ("Task not found", {}),
    ("uploadStatus", 404): ("Upload not found", {}),
    ("", 422): ("Invalid inputs for model", {}),
    ("", 500): ("Internal server error", {}),
}
_OTHER = "Request failed"  # no document has a text for the status
EDGE_STATUSES = frozenset({502, 503, 504, *range(520, 528)})  # answered by the edge with a page, not by the API

# Texts of failed tasks by code, for a fault that names none.
FAIL_MESSAGES = {
    "1001": "Service temporarily unavailable. Please try again later.",
    "500": "Generation failed. Please try again.",
    "2038": "The input text violates our content rules.",
    "asset_review_failed": "Reference image 1 failed review. Please replace it.",
    "InvalidParameter": "The parameter `content` specified in the request is not valid.",
    "banned_prompt_words": "banned prompt words：exposed",  # noqa: RUF001 - the vendor's colon
}
FAILED = "Task execution failed"
FACE_DETECTED = "A face was detected in the input media."
AUDIO_ALONE = "Audio cannot be the only reference input. Please also provide an image or video reference."
EDIT_CLIP = (
    "Request parameters are invalid for video editing. Use adaptive aspect ratio and automatic duration, and ensure "
    "the reference video is 4–30 seconds."  # noqa: RUF001 - the vendor's dash
)


def limit_reached(limit: object) -> str:
    """The text of a 429."""
    return (
        f"Concurrency limit reached ({limit}). Please wait for a running task to finish before creating a new one, "
        "or contact support to raise the limit: https://kinovi.ai/contact"
    )


def refusal(endpoint: str, status: int) -> tuple[str, dict[str, Any]]:
    """The message of an HTTP error of an endpoint, and the members beside it."""
    if status == 429:
        return limit_reached(5), {"limit": 5, "current": 5}
    return _REFUSALS.get((endpoint, status)) or _REFUSALS.get(("", status)) or (_OTHER, {})


def too_long(kind: str, plural: str) -> str:
    """The text for references of a kind that are longer than 15 seconds together (2.0 family)."""
    return (
        f"Reference {kind} total duration exceeds the limit. "
        f"Please use {plural} with a combined duration of 15 seconds or less."
    )


def wan(reason: str) -> str:
    """The text of a Wan task that its inputs made fail."""
    return f"Wan 3.0 generation failed: InvalidParameter - {reason}"


def edge_page(status: int) -> str:
    """The HTML page of the edge."""
    title = "Attention Required! | Cloudflare" if status == 403 else f"kinovi.ai | {status}: Bad gateway"
    heading = "Sorry, you have been blocked" if status == 403 else f"Error {status}"
    return f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{heading}</h1></body></html>\n"
