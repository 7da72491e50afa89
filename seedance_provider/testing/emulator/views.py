"""What is shown of a task at a moment: its status, its credits, its files."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from seedance_provider.testing.emulator import rules
from seedance_provider.testing.emulator.dialects import Body, View
from seedance_provider.testing.emulator.prices import number

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.ledger import Task

EXTENSIONS = {"video/mp4": "mp4", "video/quicktime": "mov", "image/png": "png", "image/jpeg": "jpg"}


def view_of(task: Task, now: float, link_seconds: float | None = None) -> View:
    """The task as it is at `now` (epoch seconds); its times are those of the task, not of the question.

    Its links are good for `link_seconds` from then on.
    """
    status = task.status(now)
    return View(
        task_id=task.task_id,
        model=task.order.model,
        inputs=task.order.inputs,
        status=status,
        credits=number(task.credits_used(now)),
        outputs=_outputs(task, _signature(now, link_seconds)) if status == "success" else None,
        failure=task.failure if status == "fail" else None,
        created_ms=task.created_ms,
        completed_ms=task.completed_ms if status in ("success", "fail") else None,
    )


def _signature(now: float, link_seconds: float | None) -> str:
    return "" if link_seconds is None else f"?Expires={now + link_seconds:.3f}&Signature=emulator"


def _outputs(task: Task, signature: str) -> list[Body]:
    """The files of a finished task: one for video and most images, four for midjourney, two for suno."""
    order = task.order
    media_type = rules.media_type(order)
    count = 4 if order.family == "midjourney" else 2 if order.model.startswith("suno") else 1
    outputs = []
    for index in range(1, count + 1):
        stem = task.task_id if index == 1 else f"{task.task_id}-{index}"
        output: Body = {
            "url": f"{task.origin}/videos/{stem}.{EXTENSIONS[media_type]}{signature}",
            "width": order.width,
            "height": order.height,
            "mediaType": media_type,
        }
        if order.family in rules.SEEDANCE_FAMILIES:
            seed = order.inputs.get("seed", -1)
            output["seed"] = int(seed) if seed >= 0 else zlib.crc32(task.task_id.encode())
            signed = "" if order.family == "2.0" else "?X-Tos-Expires=86400&X-Tos-Signature=emulator"
            output["lastFrameImage"] = f"{task.origin}/videos/{task.task_id}-last-frame.png{signature or signed}"
        outputs.append(output)
    return outputs
