"""When faults happen: rules of a script, and directives in a prompt; deterministic.

A rule comes from the admin route, `Emulator.add_fault` or a `--faults` file. What a fault does, and which
parameters it has, is defined in `faults`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from seedance_provider.testing.emulator.faults import FAULTS, Fault, RecordFault

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.faults.base import Kind

ENDPOINTS = ("createTask", "recordInfo", "uploads", "uploadStatus", "put", "media", "any")
_DIRECTIVE = re.compile(r"\[\[([A-Za-z_]+)((?::[^\[\]]*)?)\]\]")
_SHORT = {word: (name, order) for name, fault in FAULTS.items() for word, order in fault.short.items()}
_WORDS = ("code", "message", "word")  # parameters of short directives that stay text even if they are digits


@dataclass
class Rule:
    """After `skip` fitting requests, the next `times` fitting ones meet the fault."""

    fault: Fault
    on: str
    times: int | None = 1  # None: for ever
    skip: int = 0
    match: dict[str, str] = field(default_factory=dict)  # taskId and prompt, both by substring

    def to_json(self) -> dict[str, Any]:
        """The rule as `parse` takes it, with what is left of `times` and `skip`."""
        counts = {"fault": self.fault.name, "on": self.on, "times": self.times, "skip": self.skip, "match": self.match}
        return counts | self.fault.to_json()

    def fits(self, endpoint: str, kind: Kind, facts: dict[str, str]) -> bool:
        """Whether a request is one this rule counts."""
        fault = self.fault
        return (
            fault.kind == kind
            and self.on in (endpoint, "any")
            and (facts.get("status") == "success" or not (isinstance(fault, RecordFault) and fault.only_on_success))
            and all(text in facts.get(name, "") for name, text in self.match.items())
        )


def parse(rule: Any) -> Rule:
    """One rule of a script, checked; a ValueError names what is wrong with it."""
    kind = FAULTS.get(str(rule.get("fault"))) if isinstance(rule, dict) else None
    if kind is None:
        raise ValueError(f"a fault rule is an object whose 'fault' is one of {', '.join(FAULTS)}; got {rule!r}")
    params = {name: value for name, value in rule.items() if name != "fault"}
    on, times = params.pop("on", kind.default_on), params.pop("times", 1)
    skip, match = params.pop("skip", 0), params.pop("match", {})
    if on not in ENDPOINTS or (kind.kind != "reply" and on != kind.default_on):
        raise ValueError(f"fault {kind.name!r} cannot happen on {on!r}")
    if not isinstance(match, dict) or set(match) - {"taskId", "prompt"}:
        raise ValueError(f"'match' is an object with taskId or prompt (substrings), not {match!r}")
    for label, count in (("times", 1 if times is None else times), ("skip", skip)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{label!r} must be a whole number from 0, not {count!r}")
    return Rule(kind.of(params), on, times, skip, {key: str(text) for key, text in match.items()})


def take(rules: list[Rule], endpoint: str, kind: Kind, facts: dict[str, str]) -> Fault | None:
    """The fault of the first rule that fits this request, counted down; rules that are used up disappear."""
    for rule in rules:
        if not rule.fits(endpoint, kind, facts):
            continue
        if rule.skip:
            rule.skip -= 1
            continue
        if rule.times is not None:
            rule.times -= 1
            if rule.times <= 0:
                rules.remove(rule)
        return rule.fault
    return None


class Directives(NamedTuple):
    """What a prompt asks for: rules for the POST itself, and rules for the task it creates."""

    on_create: list[Rule]
    on_task: list[Rule]


def directives(prompt: str) -> Directives:
    """The directives in a prompt, `[[name:argument:…]]`; other words in double brackets are left alone.

    `[[createTask:reset:accept=true]]` and `[[recordInfo:html:status=502:times=3]]` name any fault of that
    endpoint; a number alone means that HTTP status, and a second bare number how many times.
    """
    found = Directives([], [])
    for name, rest in _DIRECTIVE.findall(prompt):
        if name in _SHORT:
            rule = _short(name, rest[1:])
        elif name in ("createTask", "recordInfo"):
            rule = _long(name, rest[1:].split(":"))
        else:
            continue
        to_create = rule.fault.kind == "reply" and rule.on == "createTask"
        if to_create:
            rule.match = {"prompt": prompt}
        (found.on_create if to_create else found.on_task).append(rule)
    return found


def _short(word: str, rest: str) -> Rule:
    fault, order = _SHORT[word]
    arguments = rest.split(":", max(len(order) - 1, 0)) if rest else []
    rule: dict[str, Any] = {"fault": fault, "times": None}
    for name, text in zip(order, arguments, strict=False):
        rule[name] = text if name in _WORDS else _scalar(text)
    if FAULTS[fault].kind == "reply":
        rule["on"] = "recordInfo"  # a task has no other answers
    return parse(rule)


def _long(on: str, arguments: list[str]) -> Rule:
    rule: dict[str, Any] = {"fault": arguments[0], "on": on}
    if arguments[0].isdigit():
        rule |= {"fault": "http", "status": int(arguments[0])}
    for argument in arguments[1:]:
        name, has_name, text = argument.partition("=")
        rule[name if has_name else "times"] = _scalar(text if has_name else name)
    return parse(rule)


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
