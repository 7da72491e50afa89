"""The check that HttpEventTrigger imports anew before each use, in a module of its own because of that."""

from __future__ import annotations

from typing import Any


async def never(response: Any) -> bool:
    """Whether the task has ended."""
    return bool(response.json()["status"] != "generating")
