"""The files of finished tasks: one real video and its last frame, whatever was asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from seedance_provider.testing.emulator.jobs import DEMO_TASKS
from seedance_provider.testing.emulator.messages import Call, MediaFile, storage_error
from seedance_provider.testing.emulator.views import EXTENSIONS

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.state import State

_FOLDER = Path(__file__).parent.parent / "media"
_FILES = {"mp4": "video.mp4", "mov": "video.mp4", "png": "last_frame.png", "jpg": "last_frame.jpg"}
_TYPES = {extension: media_type for media_type, extension in EXTENSIONS.items()}


class Media:
    """The endpoint of outputs and last frames."""

    def __init__(self, state: State) -> None:
        self._state = state

    def serve(self, call: Call) -> web.StreamResponse:
        """A file of a task that succeeded; range requests are answered."""
        stem, _dot, extension = call.request.match_info["name"].rpartition(".")
        task_id = re.sub(r"-(last-frame|\d+)$", "", stem)
        if extension not in _FILES or not self._finished(task_id):
            return web.Response(status=404, text="Not Found")
        if self._state.settings.link_seconds is not None and not self._good_until(call) > self._state.clock():
            return storage_error(403, "AccessDenied", "Request has expired")
        return MediaFile(_FOLDER / _FILES[extension], _TYPES[extension])

    @staticmethod
    def _good_until(call: Call) -> float:
        try:
            return float(call.request.query.get("Expires", "0"))
        except ValueError:
            return 0.0

    def _finished(self, task_id: str) -> bool:
        task = self._state.ledger.tasks.get(task_id)
        return task_id in DEMO_TASKS if task is None else task.status(self._state.clock()) == "success"
