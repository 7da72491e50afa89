"""The calls of the API: what to send, how to read the answer, and whether it may be sent again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from seedance_provider.api import errors
from seedance_provider.api.models import http_url_or_none, is_task, load_json, unwrap
from seedance_provider.exceptions import (
    SeedanceInvalidRequestError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as data.

    :param method: The HTTP method.
    :param path: Path and query below the API's base URL, such as ``/jobs/createTask``; already URL-encoded.
    :param body: JSON bytes; None for none.
    """

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as data.

    :param status: The HTTP status.
    :param content_type: The Content-Type header, possibly empty.
    :param body: The body, cut at the transport's limit, with the API key replaced.
    :param retry_after: Seconds the answer asks to wait (its Retry-After header), if any.
    """

    status: int
    content_type: str
    body: bytes
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request together with the reading of its answer.

    :param request: What to send.
    :param read: Turns the answer into a value or raises one of our errors.
    :param spends: True if sending it may cost money, so that sending it twice may cost twice.
    """

    request: Request
    read: Callable[[Reply], T]
    spends: bool = False


def create_task(model: str, inputs: Mapping[str, Any], callback_url: str | None = None) -> Call[str]:
    """Submit a task (contract 2 and 3). Costs credits.

    :param model: The exact model id.
    :param inputs: The model's inputs; sent as they are.
    :param callback_url: Where the vendor posts the outcome, if anywhere.
    :return: A call whose answer is the taskId.
    :raises SeedanceInvalidRequestError: if this cannot be written as a request.
    """
    if not isinstance(model, str) or not model.strip():
        raise SeedanceInvalidRequestError(f"model={model!r} is not a model id: give one such as 'seedance-20'")
    if not isinstance(inputs, Mapping):
        raise SeedanceInvalidRequestError(
            f"inputs={inputs!r:.200} is not a mapping: give a dict such as {{'prompt': 'A sunset'}}"
        )
    body: dict[str, Any] = {"model": model, "inputs": dict(inputs)}
    if callback_url is not None:
        body["callBackUrl"] = http_url_or_none(callback_url)
        if body["callBackUrl"] is None:
            raise SeedanceInvalidRequestError(
                f"callback_url={callback_url!r} is not an http(s) URL: give one such as 'https://example.com/hook'"
            )
    try:
        encoded = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SeedanceInvalidRequestError(
            f"inputs cannot be written as JSON ({error}): use strings, numbers, booleans, lists and dicts"
        ) from error
    return Call(Request("POST", "/jobs/createTask", encoded), _read_task_id, spends=True)


def get_task(seedance_task_id: str) -> Call[Mapping[str, Any]]:
    """Ask for a task's record (contract 4). Free, and safe to repeat.

    :param seedance_task_id: The id; opaque.
    :return: A call whose answer is the record out of its envelope.
    :raises SeedanceInvalidRequestError: if the id is empty or not a string.
    """
    if not isinstance(seedance_task_id, str) or not seedance_task_id.strip():
        raise SeedanceInvalidRequestError(
            f"seedance_task_id={seedance_task_id!r} is not a task id: give the string that createTask returned, "
            "such as the output of SeedanceCreateTaskOperator (for a list of ids, use .expand())"
        )
    seedance_task_id = seedance_task_id.strip()

    def read(reply: Reply) -> Mapping[str, Any]:
        payload = load_json(reply.body) if 200 <= reply.status < 300 else None
        if isinstance(payload, dict):
            record = unwrap(payload)
            if is_task(record):
                return record
        raise errors.error_of(reply, spends=False, seedance_task_id=seedance_task_id)

    # A lone surrogate cannot be encoded; no id of the vendor's has one, and "?" gives a 404 that names the id.
    path = f"/jobs/recordInfo?taskId={quote(seedance_task_id, safe='', errors='replace')}"
    return Call(Request("GET", path), read)


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """Leave to upload one file.

    :param upload_url: Where to PUT the bytes; signed, so it gets no API key and is shown nowhere.
    :param content_type: The Content-Type to send with them.
    :param url: Where the file can be fetched afterwards, for 24 hours.
    """

    upload_url: str
    content_type: str
    url: str


def request_upload(file_name: str, content_type: str) -> Call[UploadTicket]:
    """Ask for leave to upload a file (contract 6). Free, and safe to repeat.

    :param file_name: The file's name.
    :param content_type: Its MIME type.
    :return: A call whose answer is the ticket.
    """

    def read(reply: Reply) -> UploadTicket:
        payload = load_json(reply.body) if 200 <= reply.status < 300 else None
        if isinstance(payload, dict):
            members = unwrap(payload)
            upload_url, url = http_url_or_none(members.get("uploadUrl")), http_url_or_none(members.get("url"))
            if upload_url is not None and url is not None:
                announced = members.get("contentType")
                return UploadTicket(upload_url, announced if isinstance(announced, str) else content_type, url)
        if 200 <= reply.status < 300 and not (isinstance(payload, dict) and errors.envelope_status(payload)):
            # Without an excerpt, which could show a signed URL.
            raise SeedanceServerError(
                f"Seedance answered the request for an upload with {reply.status}, without a usable uploadUrl and url",
                status_code=reply.status,
            )
        raise errors.error_of(reply, spends=False)

    body = json.dumps({"fileName": file_name, "contentType": content_type}, separators=(",", ":")).encode()
    return Call(Request("POST", "/uploads", body), read)


def _read_task_id(reply: Reply) -> str:
    if 200 <= reply.status < 300:
        payload = load_json(reply.body)
        if isinstance(payload, dict):
            task_id = unwrap(payload).get("taskId")
            if isinstance(task_id, str) and (task_id := task_id.strip()) and task_id.isprintable():
                return task_id
            if errors.envelope_status(payload) is not None:
                raise errors.error_of(reply, spends=True)
        raise SeedanceSubmitUncertainError(
            f"createTask answered HTTP {reply.status} without a usable taskId ({errors.excerpt(reply)}). A video may "
            "have been bought: look at the account's task list on the vendor's site before you clear this task",
            status_code=reply.status,
        )
    raise errors.error_of(reply, spends=True)
