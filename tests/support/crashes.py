"""Workers that die at a given point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class CrashError(Exception):
    """Stands for a worker that dies: nothing of ours expects it."""


def crash(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, when: str, times: int = 1) -> None:
    """Make a function die before or after it has done its work.

    :param where: What the function is looked up on.
    :param name: Its name.
    :param when: ``before`` or ``after``.
    :param times: How often; later calls go through.
    """
    function = getattr(where, name)
    left = [times]

    def dying(*args: Any, **kwargs: Any) -> Any:
        result = None if left[0] and when == "before" else function(*args, **kwargs)
        if left[0]:
            left[0] -= 1
            raise CrashError(f"{when} {name}")
        return result

    monkeypatch.setattr(where, name, dying)
