"""An event loop in which sleeping takes no time."""

from __future__ import annotations

import asyncio
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Nothing takes time on it but sleeping, and sleeping takes none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0  # small, so that no step is lost to rounding
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            assert timeout is not None, "everything waits for something that never comes"
            self.now += timeout
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now

    def be_busy(self, seconds: float) -> None:
        """Let time pass in which no other code runs."""
        self.now += seconds


def now() -> float:
    """The time of the running loop."""
    return asyncio.get_running_loop().time()


async def turns(count: int = 5) -> None:
    """Let everything that can run run."""
    for _ in range(count):
        await asyncio.sleep(0)
