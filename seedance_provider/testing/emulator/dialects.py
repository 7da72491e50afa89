"""Bodies per generation of the API: the member names, their order, and what is left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.ledger import Failure
    from seedance_provider.testing.emulator.rules import Dialect

WebhookShape = Literal["flat", "state", "status", "envelope"]
WEBHOOK_SHAPES: tuple[WebhookShape, ...] = ("flat", "state", "status", "envelope")
WEBHOOK_SHAPE_OF: dict[Dialect, WebhookShape] = {
    "seed": "flat",
    "g2": "state",
    "current": "status",
    "envelope": "envelope",
}
# Seconds before each further attempt after an answer that is not 2xx.
WEBHOOK_RETRIES: dict[WebhookShape, tuple[float, ...]] = {
    "flat": (1, 5, 15),
    "state": (),
    "status": (),
    "envelope": (1, 5, 15),
}

Body = dict[str, Any]


@dataclass
class View:
    """What one answer shows of a task, before a dialect gives it its form."""

    task_id: str
    model: str
    inputs: dict[str, Any]
    status: str
    credits: int | float
    outputs: list[Body] | None
    failure: Failure | None
    created_ms: int
    completed_ms: int | None

    @property
    def order_id(self) -> str:
        """The ancestor's second identifier."""
        return self.task_id.replace("task_", "order_", 1)


def compact(body: object) -> str:
    """JSON without spaces: the vendor's shell clients search the text for `"status":"…"`."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace").decode()  # a prompt may hold half a surrogate pair


def error(dialect: Dialect, status: int, message: str, extra: Body) -> Body:
    """The body of an HTTP error; the seed's generation knew no `errors`."""
    if dialect == "seed":
        extra = {name: value for name, value in extra.items() if name != "errors"}
    if dialect == "envelope":
        return {"code": status, "message": message, "data": None} | extra
    return {"message": message} | extra


def created(dialect: Dialect, view: View) -> Body:
    """The answer of createTask."""
    if dialect != "envelope":
        return {"taskId": view.task_id}
    data = {"taskId": view.task_id, "orderId": view.order_id, "creditsUsed": view.credits}
    return {"code": 200, "message": "success", "data": data}


def _error_member(failure: Failure | None, shape: str) -> Any:
    if failure is None or failure.message is None:
        return None
    if (failure.shape or shape) == "string":
        return failure.message
    return {"code": failure.code or "500", "message": failure.message}


def _trimmed(outputs: list[Body] | None, *names: str) -> list[Body] | None:
    return outputs and [{name: output[name] for name in names} for output in outputs]


def record(dialect: Dialect, view: View) -> Body:
    """The answer of recordInfo."""
    if dialect == "envelope":
        return {"code": 200, "message": "success", "data": _ancestor(view)}
    if dialect == "seed":
        return _seed(view)
    outputs = view.outputs if dialect == "current" else _trimmed(view.outputs, "url", "width", "height")
    return {
        "taskId": view.task_id,
        "model": view.model,
        "status": view.status,
        "creditsUsed": view.credits,
        "output": outputs,
        "error": _error_member(view.failure, "object"),
        "createTime": view.created_ms,
        "completeTime": view.completed_ms,
    }


def _seed(view: View) -> Body:
    body: Body = {"taskId": view.task_id, "model": view.model, "status": view.status}
    if view.status == "success":
        body["output"] = _trimmed(view.outputs, "url", "width", "height")
    if view.failure and (text := _error_member(view.failure, "string")):
        body["error"] = text
    return body


def _ancestor(view: View) -> Body:
    urls = [output["url"] for output in view.outputs or []]
    return {
        "taskId": view.task_id,
        "orderId": view.order_id,
        "model": view.model,
        "state": view.status,
        "creditsUsed": view.credits,
        "param": compact(view.inputs),
        "resultJson": compact({"resultUrls": urls}) if view.outputs else None,
        "failMsg": view.failure and view.failure.message,
        "createTime": view.created_ms,
        "updateTime": view.completed_ms or view.created_ms,
        "completeTime": view.completed_ms,
    }


def webhook(shape: WebhookShape, view: View) -> Body:
    """The body of a callback."""
    if shape == "status":
        return {"code": 200, "message": "success", "data": record("current", view)}
    if shape == "envelope":
        return record("envelope", view)
    failed = view.status == "fail"
    body: Body = {
        "taskId": view.task_id,
        "model": view.model,
        "status": view.status,
        "creditsUsed": view.credits,
        "output": _trimmed(view.outputs, "url", "width", "height"),
        "error": _error_member(view.failure, "string"),
    }
    if shape == "flat":
        return body if failed else body | {"createTime": view.created_ms, "completeTime": view.completed_ms}
    body = {
        "taskId": view.task_id,
        "orderId": view.order_id,
        "model": view.model,
        "state": view.status,
        "creditsUsed": 0 if failed else view.credits,
        "output": body["output"],
        "error": _error_member(view.failure, "object"),
        "createTime": view.created_ms,
        "completeTime": view.completed_ms,
        "updateTime": view.completed_ms,
    }
    return {"code": 200, "message": "success", "data": body}
