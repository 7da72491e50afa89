"""All faults, by name: what goes wrong, with its parameters, their checks and its behaviour in one class each.

Three kinds: a *reply* replaces, distorts or delays an HTTP answer, a *record* changes what one recordInfo answer
shows, a *task* decides how a new task goes.
"""

from __future__ import annotations

from seedance_provider.testing.emulator.faults import records, replies, tasks, wire  # noqa: F401 - fills FAULTS
from seedance_provider.testing.emulator.faults.base import FAULTS, Exchange, Fault, RecordFault, ReplyFault, TaskFault

__all__ = ["FAULTS", "Exchange", "Fault", "RecordFault", "ReplyFault", "TaskFault"]
