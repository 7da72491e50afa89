"""All faults, by name: what goes wrong, with its parameters, their checks and its behaviour in one class each.

Three kinds: a *reply* replaces, distorts or delays an HTTP answer, a *record* changes what one recordInfo answer
shows, a *fate* decides how a new task goes.
"""

from __future__ import annotations

from seedance_provider.testing.emulator.faults import fates, records, replies, wire
from seedance_provider.testing.emulator.faults.base import FAULTS, Exchange, Fate, Fault, Record, Reply

__all__ = ["FAULTS", "Exchange", "Fate", "Fault", "Record", "Reply", "fates", "records", "replies", "wire"]
