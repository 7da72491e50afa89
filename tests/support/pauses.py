"""Flows whose pauses take no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from seedance_provider.api.messages import Sleep
from seedance_provider.exceptions import SeedanceTransportError

if TYPE_CHECKING:
    from seedance_provider.api.messages import Flow

T = TypeVar("T")


def hurried(flow: Flow[T]) -> Flow[T]:
    """The same flow without its pauses."""
    try:
        step = next(flow)
        while True:
            try:
                result = None if isinstance(step, Sleep) else (yield step)
            except SeedanceTransportError as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        end: T = stop.value
        return end
    finally:
        flow.close()
