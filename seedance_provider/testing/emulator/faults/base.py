"""What all faults have in common: a name, parameters that are checked by their annotations, and a kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from aiohttp import web

    from seedance_provider.testing.emulator.dialects import Body, View
    from seedance_provider.testing.emulator.ledger import Task
    from seedance_provider.testing.emulator.messages import Call
    from seedance_provider.testing.emulator.rules import Dialect

Kind = Literal["reply", "record", "task"]
FAULTS: dict[str, type[Fault]] = {}

# Lowest and highest value of numeric parameters, by name: no fault lasts for ever or fills the memory.
_LIMITS: dict[str, tuple[float, float]] = {
    "status": (200, 599),
    "seconds": (0, 3600),
    "waiting": (0, 1e9),
    "generating": (0, 1e9),
    "credits": (-1e12, 1e12),
    "interval": (0.001, 60),
    "bytes": (0, 1_000_000_000),
    "after": (0, 1_000_000_000),
    "extra": (1, 1_000_000_000),
    "outputs": (0, 1_000_000),
    "url_bytes": (0, 100_000_000),
    "copies": (0, 100),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong. The fields of a subclass are its parameters, with their types and defaults.

    :cvar name: what rules and directives call it; given as `class Slow(ReplyFault, name="slow")`.
    :cvar short: its short directives: for each word the parameters (or `times`) that its arguments set, in order.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    default_on: ClassVar[str]
    short: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, *, name: str | None = None, on: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if on is not None:
            cls.default_on = on
        if name is not None:
            cls.name = name
            FAULTS[name] = cls

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """Parameters and their types."""
        hints = get_type_hints(cls)
        return {item.name: hints[item.name] for item in fields(cls)}

    @classmethod
    def of(cls, given: dict[str, Any]) -> Fault:
        """The fault with these parameters; a ValueError names what is wrong with them."""
        hints = cls.parameters()
        if unknown := sorted(set(given) - set(hints)):
            raise ValueError(f"unknown parameter {unknown} of fault {cls.name!r}; it has: {', '.join(hints) or 'none'}")
        for label, value in given.items():
            if not _fits(value, hints[label]):
                wanted = str(getattr(hints[label], "__name__", hints[label])).replace("typing.", "")
                raise ValueError(f"{label!r} of fault {cls.name!r} must be {wanted}, not {value!r}")
            low, high = _LIMITS.get(label, (-math.inf, math.inf))
            if isinstance(value, int | float) and not low <= value <= high:
                raise ValueError(f"{label!r} of fault {cls.name!r} must be from {low:g} to {high:g}, not {value!r}")
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """The parameters by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def _fits(value: object, hint: Any) -> bool:
    """Whether a parameter has its type; whole numbers do for fractions, but no boolean is a number."""
    if hint is Any:
        return True
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is (origin or hint)


@dataclass
class Exchange:
    """A call that met a reply fault, and what the API would have done with it.

    :ivar carry_out: does what was asked for (creates the task, bills it) and returns the genuine answer.
    """

    call: Call
    dialect: Dialect
    carry_out: Callable[[], web.StreamResponse]


@dataclass(frozen=True, kw_only=True)
class ReplyFault(Fault, on="createTask"):
    """A fault of the HTTP answer. With `accept` the request is carried out first: the task exists and is billed."""

    kind: ClassVar[Kind] = "reply"
    accept: bool = False

    async def answer(self, exchange: Exchange) -> web.StreamResponse:
        """The bad answer."""
        return await self.reply(exchange, exchange.carry_out() if self.accept else None)

    async def reply(self, exchange: Exchange, genuine: web.StreamResponse | None) -> web.StreamResponse:
        """The bad answer, made of the genuine one where the request was carried out."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class RecordFault(Fault, on="recordInfo"):
    """A fault of what one recordInfo answer shows."""

    kind: ClassVar[Kind] = "record"
    only_on_success: ClassVar[bool] = False  # counts only polls that see success

    def distort(self, view: View) -> None:
        """Change what is shown of the task, before a dialect gives it its form."""

    def edit(self, body: Body) -> None:
        """Change the members of the answer."""


@dataclass(frozen=True, kw_only=True)
class TaskFault(Fault, on="createTask"):
    """A fault that decides how a new task goes."""

    kind: ClassVar[Kind] = "task"

    def apply(self, task: Task) -> None:
        """Change the task, once, before it is entered."""
        raise NotImplementedError
