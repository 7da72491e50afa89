"""Feeds a flow by hand: replies go in, steps come out, and time passes only where the flow sleeps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from seedance_provider.api.messages import Flow, Put, RenewKey, Reply, Request, Send, Sleep, Step

T = TypeVar("T")

START = 1_800_000_000.0


class Clock:
    """A time that only moves when told."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Play(Generic[T]):
    """What a flow did.

    :param steps: Every step it asked for, in order.
    :param result: What it returned, if it did.
    :param error: What it raised, if it did.
    :param sent_at: When each request went out, in seconds after the start.
    """

    steps: list[Step] = field(default_factory=list)
    result: T | None = None
    error: BaseException | None = None
    sent_at: list[float] = field(default_factory=list)

    @property
    def requests(self) -> list[Request]:
        return [step.request for step in self.steps if isinstance(step, Send)]

    @property
    def sleeps(self) -> list[Sleep]:
        return [step for step in self.steps if isinstance(step, Sleep)]

    @property
    def pauses(self) -> list[float]:
        return [step.seconds for step in self.sleeps]

    @property
    def renewals(self) -> int:
        return sum(isinstance(step, RenewKey) for step in self.steps)


def no_jitter() -> float:
    """The middle random number, at which jitter changes nothing."""
    return 0.5


def reply(status: int = 200, body: Any = None, *, retry_after: float | None = None) -> Reply:
    """An answer; text stands for an HTML page of the edge, bytes for a body as it is, anything else becomes JSON."""
    if isinstance(body, bytes):
        return Reply(status, "application/json", body, retry_after)
    if isinstance(body, str):
        return Reply(status, "text/html; charset=UTF-8", body.encode(), retry_after)
    return Reply(status, "application/json", json.dumps(body, separators=(",", ":")).encode(), retry_after)


def play(
    flow: Flow[T],
    replies: Iterable[Reply | Exception],
    *,
    clock: Clock | None = None,
    new_keys: Iterable[bool] = (),
) -> Play[T]:
    """Run a flow to its end.

    :param flow: The flow.
    :param replies: One for each request and each upload; an exception is thrown in. Running out of them fails the test.
    :param clock: Moved by each pause.
    :param new_keys: One answer for each RenewKey.
    """
    clock = clock or Clock()
    started_at = clock.now
    answers, renewed = iter(replies), iter(new_keys)
    played: Play[T] = Play()
    try:
        step = next(flow)
        while True:
            played.steps.append(step)
            if isinstance(step, (Send, Put)):
                played.sent_at.append(clock.now - started_at)
                answer = next(answers, None)
                assert answer is not None, f"request {len(played.sent_at)} was not expected: {step}"
                step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
            elif isinstance(step, RenewKey):
                changed = next(renewed, None)
                assert changed is not None, "a new key was asked for unexpectedly"
                step = flow.send(changed)
            else:
                assert step.seconds >= 0
                clock.now += step.seconds
                step = next(flow)
    except StopIteration as stop:
        played.result = stop.value
    except AssertionError:
        raise
    except Exception as error:  # noqa: BLE001 - what a flow raises is what the tests look at
        played.error = error
    unused = len(list(answers))
    assert not unused, f"{unused} replies were not asked for"
    return played
