"""The fault script: what goes wrong, where, for whom and how often; deterministic.

A fault is one rule of the script (admin route, `Emulator.add_fault`, `--faults` file) or a directive in a
prompt. Three kinds: a *reply* fault replaces or delays an HTTP answer, a *record* fault changes what one
recordInfo answer shows, a *task* fault decides a new task's fate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["reply", "record", "task"]
ENDPOINTS = ("createTask", "recordInfo", "uploads", "uploadStatus", "put", "media", "any")


class _Spec(NamedTuple):
    kind: Kind
    params: dict[str, Any]  # name -> default


FAULTS: dict[str, _Spec] = {
    # `accept`: whether the request is really carried out (a task created and billed) before the bad answer.
    "http": _Spec(
        "reply",
        {
            "status": 500,
            "message": "Internal server error",
            "json": None,
            "body": None,
            "content_type": None,
            "headers": {},
            "accept": False,
        },
    ),
    "html": _Spec("reply", {"status": 502, "headers": {}, "accept": False}),
    "rate_limit": _Spec("reply", {"limit": None, "current": None, "retry_after": None}),
    "truncated": _Spec("reply", {"accept": True}),
    "empty": _Spec("reply", {"status": 200, "accept": False}),
    "no_task_id": _Spec("reply", {"accept": False}),
    "envelope_error": _Spec("reply", {"code": 500, "message": "Internal server error", "accept": False}),
    "slow": _Spec("reply", {"seconds": 5.0, "accept": False}),
    "reset": _Spec("reply", {"accept": False}),
    "redirect": _Spec("reply", {"status": 302, "location": "https://elsewhere.invalid/", "accept": False}),
    "oversize": _Spec("reply", {"bytes": 20_000_000, "accept": False}),
    "not_found": _Spec("reply", {}),
    "status_word": _Spec("record", {"word": "queued"}),
    "null_output": _Spec("record", {}),
    "null_sizes": _Spec("record", {}),
    "credits": _Spec("record", {"credits": 0.0}),
    "members": _Spec("record", {"set": {}, "remove": []}),
    "fail": _Spec("task", {"code": None, "message": None, "shape": None}),
    "fail_without_error": _Spec("task", {}),
    "settle": _Spec("task", {"credits": None, "seconds": None}),
    "webhook": _Spec("task", {"copies": 0}),
    "times": _Spec("task", {"waiting": None, "generating": None}),
}
_NUMBER: tuple[type, ...] = (int, float)
_OPTIONAL_TYPES: dict[str, tuple[type, ...]] = {  # of parameters without a default; the others are strings
    "credits": _NUMBER,
    "seconds": _NUMBER,
    "waiting": _NUMBER,
    "generating": _NUMBER,
    "limit": (int,),
    "current": (int,),
    "retry_after": (int, float, str),
    "json": (dict, list, str, int, float, bool),
}
_DEFAULT_ON: dict[Kind, str] = {"reply": "createTask", "record": "recordInfo", "task": "createTask"}
_ONLY_ON_SUCCESS = ("null_output", "null_sizes", "credits")

# Error texts of failed tasks, by code, when a fault names none.
FAIL_MESSAGES = {
    "1001": "Service temporarily unavailable. Please try again later.",
    "500": "Generation failed. Please try again.",
    "2038": "The input text violates our content rules.",
    "asset_review_failed": "Reference image 1 failed review. Please replace it.",
    "InvalidParameter": "The parameter `content` specified in the request is not valid.",
}
_DIRECTIVE = re.compile(r"\[\[([A-Za-z_]+)((?::[^\[\]]*)?)\]\]")


@dataclass
class Fault:
    """One rule: after `skip` matching requests, the next `times` matching ones meet the fault."""

    fault: str
    on: str
    times: int | None = 1  # None: for ever
    skip: int = 0
    match: dict[str, str] = field(default_factory=dict)  # taskId and prompt, both by substring
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """`reply`, `record` or `task`."""
        return FAULTS[self.fault].kind

    def to_json(self) -> dict[str, Any]:
        """The rule as `parse` takes it, with what is left of `times` and `skip`."""
        counts = {"fault": self.fault, "on": self.on, "times": self.times, "skip": self.skip, "match": self.match}
        return counts | self.params

    def meets(self, endpoint: str, kind: Kind, facts: dict[str, str]) -> bool:
        """Whether a request is one this rule counts."""
        return (
            self.kind == kind
            and self.on in (endpoint, "any")
            and (self.fault not in _ONLY_ON_SUCCESS or facts.get("status") == "success")
            and all(text in facts.get(name, "") for name, text in self.match.items())
        )


def parse(rule: Any) -> Fault:
    """One rule of a script, checked; a ValueError names what is wrong with it."""
    if not isinstance(rule, dict) or rule.get("fault") not in FAULTS:
        raise ValueError(f"a fault rule is an object whose 'fault' is one of {', '.join(FAULTS)}; got {rule!r}")
    spec = FAULTS[rule["fault"]]
    params = dict(rule)
    name, on = params.pop("fault"), params.pop("on", _DEFAULT_ON[spec.kind])
    times, skip, match = params.pop("times", 1), params.pop("skip", 0), params.pop("match", {})
    if unknown := set(params) - set(spec.params):
        allowed = ", ".join(spec.params) or "none"
        raise ValueError(f"unknown parameter {sorted(unknown)} of fault {name!r}; it has: {allowed}")
    if on not in ENDPOINTS or (spec.kind != "reply" and on != _DEFAULT_ON[spec.kind]):
        raise ValueError(f"fault {name!r} cannot happen on {on!r}")
    if not isinstance(match, dict) or set(match) - {"taskId", "prompt"}:
        raise ValueError(f"'match' is an object with taskId or prompt (substrings), not {match!r}")
    for label, count in (("times", 1 if times is None else times), ("skip", skip)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{label!r} must be a whole number from 0, not {count!r}")
    for label, value in params.items():
        _check_type(name, label, value, spec.params[label])
    return Fault(name, on, times, skip, {key: str(text) for key, text in match.items()}, spec.params | params)


def _check_type(fault: str, label: str, value: Any, default: Any) -> None:
    """A parameter has the type of its default; whole numbers do for fractions."""
    if default is None:
        allowed = _OPTIONAL_TYPES.get(label, (str,))
    else:
        allowed = _NUMBER if isinstance(default, float) else (type(default),)
    if type(value) not in allowed and not (value is None and default is None):
        wanted = " or ".join(kind.__name__ for kind in allowed)
        raise ValueError(f"{label!r} of fault {fault!r} must be {wanted}, not {value!r}")


def take(faults: list[Fault], endpoint: str, kind: Kind, facts: dict[str, str]) -> Fault | None:
    """The first rule that applies to this request, counted down; rules that are used up disappear."""
    for fault in faults:
        if not fault.meets(endpoint, kind, facts):
            continue
        if fault.skip:
            fault.skip -= 1
            continue
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                faults.remove(fault)
        return fault
    return None


class Directives(NamedTuple):
    """What a prompt asks for: rules for the POST itself, and rules bound to the task it creates."""

    on_create: list[Fault]
    on_task: list[Fault]


# Short directives: the fault they stand for and what their arguments mean, in order.
_SHORT: dict[str, tuple[str, tuple[str, ...]]] = {
    "status": ("status_word", ("word", "times")),
    "null_output": ("null_output", ("times",)),
    "null_sizes": ("null_sizes", ("times",)),
    "not_found": ("not_found", ("times",)),
    "fail": ("fail", ("code", "message")),
    "fail_without_error": ("fail_without_error", ()),
    "settle": ("settle", ("credits", "seconds")),
    "webhook": ("webhook", ("copies",)),
    "waiting": ("times", ("waiting",)),
    "generating": ("times", ("generating",)),
}


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def directives(prompt: str) -> Directives:
    """The directives in a prompt, `[[name:argument:…]]`; words that are not directives are left alone.

    `[[createTask:reset:accept=true]]` and `[[recordInfo:html:status=502:times=3]]` name any reply fault; a
    number alone means that HTTP status and a second bare number how many times.
    """
    found = Directives([], [])
    for name, rest in _DIRECTIVE.findall(prompt):
        if name in _SHORT:
            fault = _short(name, rest[1:])
        elif name in ("createTask", "recordInfo"):
            fault = _long(name, rest[1:].split(":"))
        else:
            continue
        to_create = fault.kind == "reply" and fault.on == "createTask"
        if to_create:
            fault.match = {"prompt": prompt}
        (found.on_create if to_create else found.on_task).append(fault)
    return found


def _short(name: str, rest: str) -> Fault:
    fault, arguments = _SHORT[name]
    texts = rest.split(":", max(len(arguments) - 1, 0)) if rest else []
    rule: dict[str, Any] = {"fault": fault, "times": None}
    for argument, text in zip(arguments, texts, strict=False):
        rule[argument] = text if argument in ("code", "message", "word") else _scalar(text)
    if fault == "not_found":
        rule["on"] = "recordInfo"
    return parse(rule)


def _long(on: str, arguments: list[str]) -> Fault:
    rule: dict[str, Any] = {"fault": arguments[0], "on": on}
    if arguments[0].isdigit():
        rule |= {"fault": "http", "status": int(arguments[0])}
    for argument in arguments[1:]:
        name, has_name, text = argument.partition("=")
        rule[name if has_name else "times"] = _scalar(text if has_name else name)
    return parse(rule)
