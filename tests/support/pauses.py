"""Flows whose pauses take no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from seedance_provider.api.messages import Sleep
from seedance_provider.exceptions import SeedanceTransportError

if TYPE_CHECKING:
    from seedance_provider.api.messages import Flow

T = TypeVar("T")


def hurried(flow: Flow[T], pauses: list[float] | None = None) -> Flow[T]:
    """The same flow without its pauses.

    :param flow: The flow.
    :param pauses: Told of each pause that is left out.
    """
    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, Sleep):
                    result = None
                    if pauses is not None:
                        pauses.append(step.seconds)
                else:
                    result = yield step
            except SeedanceTransportError as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        end: T = stop.value
        return end
    finally:
        flow.close()
