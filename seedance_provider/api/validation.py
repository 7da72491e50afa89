"""A request's inputs against the catalog, before they are paid for.

A key that the vendor does not know is ignored and its default charged, so that a typo costs a video. ``check`` finds
what the vendor's documents refuse, drop or misread, and reports all of it at once. What depends on the media
themselves (length, size, format) only the vendor can judge. ``normalise`` gives the inputs as they are sent.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple

from seedance_provider.api.catalog import KNOWN, LEGACY_FIELDS, LEGACY_SIZES, MODELS, Field, Model

# No annotations from __future__: NamedTuple would compile each one, half of this module's import time.
Later = Callable[[object], bool]


class Problem(NamedTuple):
    """Something in the inputs that the vendor refuses, or that would be charged for the wrong video.

    :param path: where it is, like ``imageUrls[9]``.
    :param value: the value found there, as one short line; ``(missing)`` if there is none.
    :param message: what is wrong with it.
    :param fix: what to do about it; default empty where the message says it.
    """

    path: str
    value: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.path} = {self.value}: {self.message}{f'; {self.fix}' if self.fix else ''}"


class Report(NamedTuple):
    """What ``check`` found.

    :param problems: reasons not to send the request; default none.
    :param warnings: lines for the log, which never stop a request; default none.
    """

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


MEDIA_FIELDS = ("imageUrls", "videoUrls", "audioUrls", "uploadedUrls")

# What is meant by a name that another model or API version uses, where spelling alone would not tell.
_MEANT = {
    "audio": ("generate_audio",),
    "generate_audio": ("audio",),
    "resolution": ("outputResolution",),
    "upscaleResolution": ("outputResolution",),
    "outputResolution": ("resolution",),
    "ratio": ("aspectRatio",),
    "imageUrl": ("imageUrls", "uploadedUrls"),
    "imageUrls": ("uploadedUrls",),
    "uploadedUrls": ("imageUrls",),
    "urls": ("imageUrls", "uploadedUrls"),
}
_OUTSIDE = {"model": "model", "callBackUrl": "callback_url", "callback_url": "callback_url"}

_MISSING = "(missing)"
_SHOWN = 60
_LOOKED_AT = 10_000
# Credentials before a host, and queries, where signatures are.
_URL_SECRETS = re.compile(r"(?<=//)[^/?#\s]*(?=@)|(?<=[?#])\S+")
_DEEPEST = 50
_WHOLE = 2**53  # beyond it a float is no exact integer
_LARGEST = 1024  # bits; more is infinite to a JSON reader
_NATIVE = (
    "a template renders to a string: set render_template_as_native_obj=True on the DAG, or write all inputs as one "
    "JSON string with | tojson"
)


def normalise(inputs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Give the inputs as they are sent: plain JSON values for what means the same.

    Any sequence but a string or bytes becomes a list (a mapped upstream's is read here), any mapping a dict, whole
    floats and Decimals an int, a value of NumPy or pandas what it holds. All else stays, for ``check`` to judge.

    :param inputs: the request's ``inputs``; not changed.
    :return: a new dict.
    :raises Exception: only what reading a lazy sequence raises.
    """
    seen: dict[int, tuple[object, object]] = {}
    return _plain_items(inputs, 0, seen)


def _plain(value: Any, depth: int, seen: dict[int, tuple[object, object]]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, (int, float, Decimal)):
        return _plain_number(value)
    if isinstance(value, (bytes, bytearray, memoryview, Set)) or depth > _DEEPEST:
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    # Held, so that no other object gets its id; and what contains itself finds itself.
    seen[id(value)] = value, value
    if hasattr(type(value), "tolist"):
        plain = _plain(value.tolist(), depth + 1, seen)
    elif isinstance(value, Mapping):
        plain = _plain_items(value, depth + 1, seen)
    elif isinstance(value, Sequence):
        plain = [_plain(item, depth + 1, seen) for item in value]
    else:
        return value
    seen[id(value)] = value, plain
    return plain


def _plain_items(value: Mapping[Any, Any], depth: int, seen: dict[int, tuple[object, object]]) -> dict[Any, Any]:
    return {
        str.__str__(name) if isinstance(name, str) else name: _plain(item, depth, seen) for name, item in value.items()
    }


def _plain_number(value: int | float | Decimal) -> int | float | Decimal:
    if isinstance(value, int):
        return value if type(value) is int else int.__index__(value)
    if isinstance(value, float):
        return int(value) if abs(value) <= _WHOLE and value == int(value) else float(value)
    if not value.is_finite() or value.copy_abs() > _WHOLE:
        return value
    return int(value) if value == int(value) else float(value)


def is_rendered_later(value: object) -> bool:
    """Tell whether a value in a DAG file stands for one that only a run will know.

    :param value: any value: Jinja text, an XComArg and whatever else is not a plain literal count.
    :return: True if nothing can be said about it yet.
    """
    if isinstance(value, str):
        return "{{" in value or "{%" in value or "{#" in value
    # Sets and bytes are no JSON, but no rendering mends them either: judge them at once.
    return value is not None and not isinstance(value, (int, float, complex, Decimal, Mapping, Sequence, Set))


def _known(value: object) -> bool:
    return False


def check(model: object, inputs: object, *, partial: bool = False, allow_local_media: bool = False) -> Report:
    """Compare a request with what the vendor documents for its model (contract 2.1 to 2.4, 10, 12.5 and 13).

    It changes no value and judges them as ``normalise`` gives them. An unknown model is passed through with a warning.

    :param model: the model id (str).
    :param inputs: the request's ``inputs`` (a mapping of names to values).
    :param partial: the inputs come straight from a DAG file: values for which ``is_rendered_later`` holds are
        not judged, a field that has one counts as given, and nothing is said for the log; default False.
    :param allow_local_media: media fields may hold paths and object storage URLs, which are uploaded before
        the request is sent; default False, http(s) URLs only.
    :return: every problem of the request, and the lines worth a place in the log.
    :raises Exception: only what reading a lazy sequence raises.
    """
    later = is_rendered_later if partial else _known
    if later(model):
        return Report()
    if not isinstance(model, str) or not model.strip():
        return Report((Problem("model", _show(model), 'must be a model id, such as "seedance-20"'),))
    if not isinstance(inputs, Mapping):
        if later(inputs) or (partial and isinstance(inputs, str)):  # it names a file or is JSON
            return Report()
        return Report((Problem("inputs", _show(inputs), 'must be a mapping, such as {"prompt": "..."}'),))
    inputs = normalise(inputs)
    row = KNOWN.get(model)
    if row is None:
        return Report(unsendable(inputs, partial=partial), () if partial else (_unknown_model(model),))
    request = _Request(model, row, inputs, later, allow_local_media)
    problems = *request.fields(), *request.missing(), *request.combinations()
    return Report(problems, () if partial else (*request.old_names(), *request.advice()))


def describe(problems: Sequence[Problem]) -> str:
    """Give problems as sentences, one after the other.

    :param problems: what ``check`` found.
    :return: one line, which ends with a full stop or a question mark.
    """
    lines = map(str, problems)
    return " ".join(line if line.endswith("?") else f"{line}." for line in lines)


def unsendable(inputs: Mapping[Any, Any], *, partial: bool = False) -> tuple[Problem, ...]:
    """Find what JSON cannot carry, whatever the model: NaN, sets, bytes, dates, cycles.

    ``check`` includes it. It is of use alone where the vendor is to judge the rest.

    :param inputs: the request's ``inputs``.
    :param partial: as for ``check``; default False.
    :return: one problem per place.
    """
    later = is_rendered_later if partial else _known
    seen: set[int] = set()
    plain = normalise(inputs)
    return tuple(
        problem for name, value in plain.items() for problem in _no_json(_key(name), value, later, (), seen)
    ) + tuple(_bad_key(name) for name in plain if not isinstance(name, str))


class _Request:
    """One request under check; each method yields the findings of one sort."""

    def __init__(self, model: str, row: Model, inputs: Mapping[Any, Any], later: Later, local: bool) -> None:
        self.model, self.row, self.inputs, self.later, self.local = model, row, inputs, later, local
        self.table = row.fields
        self.old = LEGACY_FIELDS if row.legacy else {}

    def fields(self) -> Iterator[Problem]:
        for name, value in self.inputs.items():
            if not isinstance(name, str):
                yield _bad_key(name)
            elif name in self.table:
                yield from self.judge(name, value, self.table[name])
            elif name in self.old:
                for problem in self.judge(name, value, self.old[name].field):
                    yield problem._replace(fix=f"use {self.instead(name)}")
            elif name not in _OUTSIDE and self.row.open:
                yield from _no_json(_key(name), value, self.later, (), set())
            else:
                yield self.unknown(name)

    def judge(self, name: str, value: object, field: Field) -> Iterator[Problem]:
        if self.later(value):
            return
        if value is None:
            yield Problem(name, "None", "null is no value", "leave the field out")
        elif field.kind == "seconds" and isinstance(value, str):
            yield from _judge_seconds_string(name, value, field, self.row.legacy)
        elif field.kind != "urls":
            yield from _JUDGES[field.kind](name, value, field)
        elif not isinstance(value, list):
            hint = _NATIVE if isinstance(value, str) else "list(...) makes one, in an order that you choose"
            yield Problem(name, _show(value), f"must be {field}", hint)
        else:
            if not field.low <= len(value) <= field.high:
                yield Problem(name, _show(value), f"must be {field}")
            local = self.local and name in MEDIA_FIELDS
            for index, item in enumerate(value[: field.high]):
                if not (self.later(item) or (local and is_local_media(item))):
                    yield from _judge_url(f"{name}[{index}]", item, field, local)

    def unknown(self, name: str) -> Problem:
        path, shown = _key(name), _show(self.inputs[name])
        if name in _OUTSIDE:
            return Problem(path, shown, "is not an input", f"use the argument {_OUTSIDE[name]}")
        fate = "ignores it silently" if self.row.ignores_unknown else "probably ignores it"
        if self.row.refuses_media and name in MEDIA_FIELDS:
            fate = "refuses it"
        message = f"{self.model} has no such field and {fate}"
        others = {model: row for model, row in MODELS.items() if row.output == self.row.output and name in row.fields}
        if others:
            message += f" (a field of {_nearest(self.model, others, 0)})"
        elif name in LEGACY_FIELDS:
            message += f" (a name of API {LEGACY_FIELDS[name].version})"
        near = next((meant for meant in _MEANT.get(name, ()) if meant in self.table), "")
        if not near and not others:
            near = _nearest(name, self.table, 0.6)
        if near:
            return Problem(path, shown, message, f"did you mean {near}?")
        return Problem(path, shown, message, "remove it" if others else f"the fields are {', '.join(self.table)}")

    def missing(self) -> Iterator[Problem]:
        for name, field in self.table.items():
            if field.required and name not in self.inputs:
                yield Problem(name, _MISSING, f"{self.model} requires it", f"it must be {field}")

    def count(self, name: str) -> tuple[int, float]:
        """Give the least and the most items that a media field can turn out to have."""
        value = self.inputs.get(name)
        if isinstance(value, list):
            return len(value), len(value)
        return 0, 0 if value is None else float("inf")

    def combinations(self) -> Iterator[Problem]:
        """Yield what is valid field by field and still makes no video, or the wrong one."""
        (images, most_images), (_, videos), (audio, most_audio) = map(self.count, MEDIA_FIELDS[:3])
        needs_video = "videoUrls" in self.table and self.table["videoUrls"].required
        if self.row.audio_alone_fails and audio and not most_images and not videos and not needs_video:
            yield Problem(
                "audioUrls",
                _show(self.inputs["audioUrls"]),
                "audio cannot be the only reference: the task would fail",
                "add an image or a video, or remove the audio",
            )
        if self.row.drops_images and images > 2 and not videos and not most_audio:
            dropped = "the first opens the video, the second closes it, the rest are ignored"
            if "mode" not in self.inputs:
                fix = 'use mode: "reference" to use them all, or give two images'
                yield Problem("mode", _MISSING, f"of {images} images without mode {dropped}", fix)
            elif self.has("mode", "keyframe"):
                fix = 'use mode: "reference" to use them all, or give two'
                shown = _show(self.inputs["imageUrls"])
                yield Problem("imageUrls", shown, f'with mode: "keyframe" {dropped}', fix)

    def has(self, name: str, word: str) -> bool:
        value = self.inputs.get(name)
        return isinstance(value, str) and value == word

    def old_names(self) -> Iterator[str]:
        for name in self.inputs:
            if isinstance(name, str) and name in self.old:
                old = self.old[name]
                yield (
                    f"{name} = {_show(self.inputs[name])}: a name of API {old.version}; the current API ignores it "
                    f"silently and {old.effect}; use {self.instead(name)}"
                )
        duration = self.inputs.get("duration")
        if self.row.legacy and isinstance(duration, str) and duration.endswith("s"):
            yield (
                f"duration = {_show(duration)}: the form of API v1; that the current API reads it is not documented; "
                "use an integer"
            )

    def instead(self, name: str) -> str:
        """Say what to write for an old name."""
        value, offered = self.inputs[name], self.table["outputResolution"].choices
        if name != "resolution":
            return LEGACY_FIELDS[name].instead
        if isinstance(value, str) and value in offered:
            return f'outputResolution: "{value}"'
        if not isinstance(value, str) or value not in LEGACY_SIZES:
            return f"outputResolution: {self.table['outputResolution']}, and aspectRatio for the shape"
        size, ratio = LEGACY_SIZES[value]
        return f'outputResolution: "{size if size in offered else offered[-1]}", aspectRatio: "{ratio}"'

    def advice(self) -> Iterator[str]:
        """Yield what the vendor accepts and may still surprise who pays."""
        if self.row.open:
            for name in self.inputs:
                if isinstance(name, str) and name not in self.table and name not in _OUTSIDE:
                    yield str(self.unknown(name))
        (images, most_images), (videos, most_videos), (audio, most_audio) = map(self.count, MEDIA_FIELDS[:3])
        if "mode" in self.table and self.has("mode", "keyframe"):
            if videos or audio:
                yield 'mode = "keyframe": any video or audio turns it into "reference"'
            elif images > 2 and not self.row.drops_images and not most_videos and not most_audio:
                yield f'mode = "keyframe": of {images} images probably only the first two are used'
        if self.model.endswith("ref-to-video") and not (most_images or most_videos or most_audio):
            yield f"no reference is given: {self.model} is for images, videos and audio as references"


def _judge_string(path: str, value: object, field: Field) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield Problem(path, _show(value), f"must be {field}")
    elif not value.strip():
        yield Problem(path, _show(value), "is empty", f"it must be {field}")
    elif value.strip() == "None":
        yield Problem(path, _show(value), "is what a template renders that finds nothing", f"it must be {field}")
    elif field.high and len(value) > field.high:
        yield Problem(path, _show(value), f"has {len(value):,} characters", f"it must be {field}")


def _judge_url(path: str, value: object, field: Field, local: bool = False) -> Iterator[Problem]:
    wanted = "a path or an http or https URL" if local else "an http or https URL that the vendor can fetch"
    hint = "" if local else "upload_media=True uploads files"
    if isinstance(value, str) and not value.strip():
        yield Problem(path, _show(value), "is empty", f"it must be {wanted}")
    elif not isinstance(value, str) or not _is_web_url(value):
        yield Problem(path, _show(value), f"must be {wanted}", hint)
    elif any(character.isspace() for character in value):
        yield Problem(path, _show(value), "has white space in it", "remove it, or use %20 for a space")


def _is_web_url(value: str) -> bool:
    """Tell whether a string has the scheme, the host and, if any, the port of a web address."""
    # Loaded here as few DAG files write a URL out.
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port out of range
        return False


def _judge_integer(path: str, value: object, field: Field) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int) or not field.low <= value <= field.high:
        yield Problem(path, _show(value), f"must be {field}", _NATIVE if isinstance(value, str) else "")


def _judge_seconds_string(path: str, value: str, field: Field, legacy: bool) -> Iterator[Problem]:
    # A template renders to a string, and API v2 wrote "5": both must do without a complaint.
    digits = value.removesuffix("s") if legacy else value
    plain = digits.isascii() and digits.isdigit() and digits[0] != "0" and len(digits) <= 2
    if not plain or not field.low <= int(digits) <= field.high:
        yield Problem(path, _show(value), f"must be {field}")


def _judge_choice(path: str, value: object, field: Field) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value not in field.choices:
        yield Problem(path, _show(value), f"must be {field}")


def _judge_boolean(path: str, value: object, field: Field) -> Iterator[Problem]:
    if not isinstance(value, bool):
        hint = _NATIVE if isinstance(value, str) else ""
        yield Problem(path, _show(value), f"must be {field}, without quotes", hint)


_JUDGES: dict[str, Callable[[str, object, Field], Iterator[Problem]]] = {
    "string": _judge_string,
    "url": _judge_url,
    "integer": _judge_integer,
    "seconds": _judge_integer,
    "choice": _judge_choice,
    "boolean": _judge_boolean,
}


def is_local_media(item: object) -> bool:
    """Tell whether an item of a media field is something that can be uploaded.

    :param item: the item, of any type.
    :return: True for a path or a string that does not look like a web address; whether it exists is not looked at.
    """
    if isinstance(item, str):
        # What looks like a web address is judged as one.
        return bool(item.strip()) and not item.lower().startswith(("http:", "https:"))
    return hasattr(type(item), "__fspath__") or hasattr(type(item), "as_uri")


def _no_json(path: str, value: object, later: Later, above: tuple[int, ...], seen: set[int]) -> Iterator[Problem]:
    if later(value) or value is None or isinstance(value, str):
        return
    if isinstance(value, (dict, list)):
        if id(value) in above or len(above) >= _DEEPEST:
            yield Problem(path, _show(value), "contains itself or is nested too deeply", "make it flat")
        elif id(value) not in seen:
            seen.add(id(value))
            keyed = isinstance(value, dict)
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                where = f"{path}.{_key(key)}" if keyed else f"{path}[{key}]"
                if keyed and not isinstance(key, str):
                    yield _bad_key(key, where)
                yield from _no_json(where, item, later, (*above, id(value)), seen)
    elif isinstance(value, float):
        if not isfinite(value):
            yield Problem(path, _show(value), "JSON has no such number", "it must be a finite one")
    elif not isinstance(value, int) or value.bit_length() > _LARGEST:
        yield Problem(path, _show(value), "JSON cannot carry it", "it must be a string, a number, a list or a mapping")


def _bad_key(key: object, path: str = "") -> Problem:
    return Problem(path or _key(key), _show(key), "a name must be a string", "write it in quotes")


def _unknown_model(model: str) -> str:
    near = _nearest(model, KNOWN, 0.8)
    hint = f'; did you mean "{near}"?' if near else ""
    return f"model = {_show(model)}: not in this provider's catalog, its inputs are sent unchecked{hint}"


def _nearest(name: str, known: Mapping[str, object], cutoff: float) -> str:
    """Give the known name that is spelled most like this one, or an empty string."""
    # Loaded here as it is needed for what is wrong only.
    from difflib import get_close_matches

    plain = {_letters(word): word for word in known}
    # Beyond this length nothing is a typo, and the comparison is quadratic.
    near = get_close_matches(_letters(name[:_SHOWN]), plain, 1, cutoff)
    return plain[near[0]] if near else ""


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _key(name: object) -> str:
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= _SHOWN else _show(name)


def _show(value: object) -> str:
    """Say a value in one short line, without running code of a foreign class or showing what it holds."""
    if isinstance(value, str):
        if "//" in value:
            value = _URL_SECRETS.sub("...", value[:_LOOKED_AT])
        # Cut first: the repr of a long prompt or a video in base64 would be made only to be thrown away.
        shown = str.__repr__(value[:_SHOWN])
        return shown if len(value) <= _SHOWN and len(shown) <= _SHOWN else f"{shown[: _SHOWN - 4]}...{shown[0]}"
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int) and value.bit_length() <= 128:
        return int.__repr__(value)
    return f"a value of type {type(value).__name__}"
