"""The Seedance emulator: `python -m seedance_provider.testing.emulator`, or `Emulator` inside Python."""

from __future__ import annotations
