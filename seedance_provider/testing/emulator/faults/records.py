"""Faults of what a recordInfo answer shows of its task."""

# ruff: noqa: D102 - what an overridden method does here stands at its class
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from seedance_provider.testing.emulator.faults.base import RecordFault

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.dialects import Body, View

Shorts = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class StatusWord(RecordFault, name="status_word"):
    """A status word that no document has."""

    short: ClassVar[Shorts] = {"status": ("word", "times")}
    word: str = "queued"

    def distort(self, view: View) -> None:
        view.status = self.word


@dataclass(frozen=True, kw_only=True)
class NullOutput(RecordFault, name="null_output"):
    """Success with `output` null."""

    short: ClassVar[Shorts] = {"null_output": ("times",)}
    only_on_success: ClassVar[bool] = True

    def distort(self, view: View) -> None:
        view.outputs = None


@dataclass(frozen=True, kw_only=True)
class NullSizes(RecordFault, name="null_sizes"):
    """Outputs with width and height null."""

    short: ClassVar[Shorts] = {"null_sizes": ("times",)}
    only_on_success: ClassVar[bool] = True

    def distort(self, view: View) -> None:
        view.outputs = [output | {"width": None, "height": None} for output in view.outputs or []]


@dataclass(frozen=True, kw_only=True)
class Credits(RecordFault, name="credits"):
    """Another `creditsUsed`."""

    only_on_success: ClassVar[bool] = True
    credits: float = 0.0

    def distort(self, view: View) -> None:
        view.credits = self.credits


@dataclass(frozen=True, kw_only=True)
class Members(RecordFault, name="members"):
    """Members that are put into the answer or taken out of it."""

    set: dict[str, Any] = field(default_factory=dict)
    remove: list[Any] = field(default_factory=list)

    def edit(self, body: Body) -> None:
        body |= self.set
        for name in self.remove:
            body.pop(name, None)


@dataclass(frozen=True, kw_only=True)
class WrongTask(RecordFault, name="wrong_task"):
    """The record of another task: with its id, and everything else as this task's."""

    short: ClassVar[Shorts] = {"wrong_task": ("times",)}
    task_id: str = "task_anotherone0123456789abcd"

    def distort(self, view: View) -> None:
        view.task_id = self.task_id


@dataclass(frozen=True, kw_only=True)
class Huge(RecordFault, name="huge"):
    """Success with a great many outputs, or with very long URLs."""

    short: ClassVar[Shorts] = {"huge": ("outputs", "url_bytes", "times")}
    only_on_success: ClassVar[bool] = True
    outputs: int = 10_000
    url_bytes: int = 0  # least length of each URL

    def __post_init__(self) -> None:
        if self.outputs * max(self.url_bytes, 100) > 200_000_000:
            raise ValueError("'outputs' times 'url_bytes' of fault 'huge' must be at most 200,000,000")

    def distort(self, view: View) -> None:
        first = (view.outputs or [{"url": "http://127.0.0.1/none.mp4"}])[0]
        urls = (f"{first['url']}?{number}=".ljust(self.url_bytes, "x") for number in range(self.outputs))
        view.outputs = [first | {"url": url} for url in urls]
