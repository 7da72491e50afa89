"""A local Seedance API for DAG authors and tests: no credits, no network, the vendor's words and bodies.

Nothing in this package imports the rest of the provider: the emulator's own tables and checks are what
shows a client's mistakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.thread import Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> object:
    """Import the emulator, and with it aiohttp, only when it is asked for."""
    if name == "Emulator":
        from seedance_provider.testing.emulator.thread import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
