"""The calls of the API: what to send and how to read the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from seedance_provider.api import errors
from seedance_provider.api.messages import Call, Reply, Request, UploadTicket
from seedance_provider.api.records import (
    TaskStatus,
    http_url_or_none,
    is_task,
    load_json,
    read_status,
    task_id_or_none,
    unwrap,
)
from seedance_provider.exceptions import (
    SeedanceInvalidRequestError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
)

_TASK_ID_IN_BYTES = re.compile(rb'"taskId"\s*:\s*"([^"\\\x00-\x1f]{1,255})"')


def create_task(model: str, inputs: Mapping[str, Any], callback_url: str | None = None) -> Call[str]:
    """Submit a task (contract 2 and 3). Costs credits.

    :param model: The exact model id.
    :param inputs: The model's inputs; sent as they are.
    :param callback_url: Where the vendor posts the outcome, if anywhere.
    :return: A call whose answer is the taskId.
    :raises SeedanceInvalidRequestError: if this cannot be written as a request.
    """
    if not isinstance(model, str) or not model.strip():
        raise SeedanceInvalidRequestError(
            f"model={model!r:.200} is not a model id: it must be a string such as 'seedance-20'. No request was sent"
        )
    if not isinstance(inputs, Mapping):
        raise SeedanceInvalidRequestError(
            f"inputs={inputs!r:.200} is not a mapping: it must be a dict such as {{'prompt': 'A sunset'}}. No request "
            "was sent"
        )
    body: dict[str, Any] = {"model": model, "inputs": dict(inputs)}
    if callback_url is not None:
        body["callBackUrl"] = http_url_or_none(callback_url)
        if body["callBackUrl"] is None:
            raise SeedanceInvalidRequestError(
                f"callback_url={callback_url!r:.200} is not an http(s) URL: it must be one such as "
                "'https://example.com/hook'. No request was sent"
            )
    try:
        encoded = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SeedanceInvalidRequestError(
            f"inputs cannot be written as JSON ({error}): use strings, numbers, booleans, lists and dicts. No request "
            "was sent"
        ) from error
    return Call(Request("POST", "/jobs/createTask", encoded), _read_task_id)


def get_task(seedance_task_id: str) -> Call[Mapping[str, Any]]:
    """Ask for a task's record (contract 4). Free, and safe to repeat.

    :param seedance_task_id: The id; opaque.
    :return: A call whose answer is the record out of its envelope.
    :raises SeedanceInvalidRequestError: if the id is empty, not a string, or longer than any id.
    """
    wanted = task_id_or_none(seedance_task_id)
    if wanted is None:
        raise SeedanceInvalidRequestError(
            f"seedance_task_id={seedance_task_id!r:.200} is not a task id: it must be the string that createTask "
            "returned, such as the output of SeedanceCreateTaskOperator (for a list of ids, use .expand())"
        )

    def read(reply: Reply) -> Mapping[str, Any]:
        payload = load_json(reply.body) if 200 <= reply.status < 300 else None
        record = unwrap(payload) if isinstance(payload, dict) else {}
        answered = record.get("taskId")
        # What stands before the vendor has error bodies with a "status" too: only a record that names its task is
        # believed that it failed.
        is_error = answered in (None, "") and (
            read_status(record)[0] is TaskStatus.FAIL or errors.envelope_status(record) is not None
        )
        if is_error or not is_task(record):
            raise errors.error_of(reply, seedance_task_id=wanted)
        if isinstance(answered, str) and answered.strip() not in ("", wanted):
            raise SeedanceServerError(
                f"Seedance answered with the record of another task ({errors.quoted(answered)}); task {wanted}",
                status_code=reply.status,
                seedance_task_id=wanted,
            )
        return record

    # A lone surrogate cannot be encoded; no id of the vendor's has one, and "?" gives a 404 that names the id.
    path = f"/jobs/recordInfo?taskId={quote(wanted, safe='', errors='replace')}"
    return Call(Request("GET", path), read)


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
                if not isinstance(announced, str) or not announced.isprintable() or len(announced) > 100:
                    announced = content_type
                return UploadTicket(upload_url, announced, url)
        if 200 <= reply.status < 300 and not (isinstance(payload, dict) and errors.envelope_status(payload)):
            # Without an excerpt, which could show a signed URL.
            raise SeedanceServerError(
                f"Seedance answered the request for an upload with {reply.status}, without a usable uploadUrl and url",
                status_code=reply.status,
            )
        raise errors.error_of(reply)

    body = json.dumps({"fileName": file_name, "contentType": content_type}, separators=(",", ":")).encode()
    return Call(Request("POST", "/uploads", body), read)


def _read_task_id(reply: Reply) -> str:
    payload = load_json(reply.body)
    members: Mapping[str, Any] = unwrap(payload) if isinstance(payload, dict) else {}
    task_id = task_id_or_none(members.get("taskId"))
    # A whole error may tell of other tasks; of an answer that was cut, or a success of another shape, it is this one's.
    if task_id is None and (payload is None or reply.status < 300):
        found = {task_id_or_none(found.decode("utf-8", "replace")) for found in _TASK_ID_IN_BYTES.findall(reply.body)}
        task_id = found.pop() if len(found) == 1 else None
    # An id that arrived is the answer, however the connection or the status went wrong: the task exists.
    if task_id is not None and not 300 <= reply.status < 500:
        return task_id
    if 200 <= reply.status < 300 and not (isinstance(payload, dict) and errors.envelope_status(payload)):
        raise SeedanceSubmitUncertainError(
            f"createTask answered HTTP {reply.status} without a usable taskId ({errors.excerpt(reply)}), so a video "
            f"may have been charged. {errors.CHECK_MANUALLY}",
            status_code=reply.status,
        )
    raise errors.error_of(reply, creates=True)
