"""What each video model accepts, as data, and a check of a request's inputs before it is paid for.

The vendor ignores an unknown key without a word and bills its default, so a typo costs a video. ``check`` finds
what the vendor's documents refuse, drop or misread, and reports all of it at once. Nothing is rewritten: inputs
are sent as written. What depends on the media themselves (length, size, format) only the vendor can judge.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, Literal, NamedTuple

# No annotations from __future__: NamedTuple would compile each one, half of this module's import time.
Later = Callable[[object], bool]


class Problem(NamedTuple):
    """Something in the inputs that the vendor refuses, or that would buy the wrong video.

    :param path: where it is, like ``imageUrls[9]``.
    :param value: the value found there, as one short line; ``(missing)`` if there is none.
    :param message: what is wrong with it.
    :param fix: what to write instead.
    """

    path: str
    value: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path} = {self.value}: {self.message}{' ' if self.message.endswith('?') else '; '}{self.fix}"


class Report(NamedTuple):
    """What ``check`` found.

    :param problems: reasons not to send the request; default none.
    :param warnings: lines for the log, which never stop a request; default none.
    """

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


class Field(NamedTuple):
    """One row of a model's table: what a field of ``inputs`` accepts. ``str()`` says it in words.

    :param kind: how the value is judged.
    :param low: least characters, items or value; default 0.
    :param high: most characters, items or value; default 0.
    :param choices: the accepted words of a ``choice``; default none.
    :param required: whether a request without it is refused; default False.
    :param default: what the vendor takes when it is left out; default None, nothing fixed.
    :param disputed: another default which the vendor's documents name too; default None.
    :param seed_form: whether ``"5s"`` is accepted beside ``5`` and ``"5"``; default False.
    :param effect: False if the vendor accepts the field and ignores it; default True.
    :param note: what a table cannot say; default empty.
    """

    kind: Literal["text", "url", "urls", "integer", "seconds", "choice", "boolean"]
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    required: bool = False
    default: str | int | bool | None = None
    disputed: str | None = None
    seed_form: bool = False
    effect: bool = True
    note: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "text":
                return f"text of {self.low:,} to {self.high:,} characters"
            case "url":
                return "a URL"
            case "urls":
                return f"a list of {f'{self.low} to' if self.low else 'up to'} {self.high} URLs"
            case "choice":
                return " or ".join(f'"{choice}"' for choice in self.choices)
            case "boolean":
                return "True or False"
            case _:
                return f"an integer from {self.low} to {self.high}"


def _prompt(high: int) -> Field:
    return Field("text", 1, high, required=True)


def _urls(low: int, high: int) -> Field:
    return Field("urls", low, high, required=low > 0)


def _one_of(*choices: str, default: str | None = None, note: str = "") -> Field:
    return Field("choice", choices=choices, default=default, note=note)


def _seconds(low: int, high: int) -> Field:
    return Field("seconds", low, high, default=5)


_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
_TRUE = Field("boolean", default=True)

# The tables of contract 2.4, row by row. A new model, or a new limit, is one line in MODELS.

_SEEDANCE_2_0 = {
    "prompt": _prompt(10_000),
    "imageUrls": _urls(0, 9),
    "videoUrls": _urls(0, 3),
    "audioUrls": _urls(0, 3),
    "mode": _one_of("keyframe", "reference", default="keyframe", note="reference with any video or audio"),
    "duration": _seconds(4, 15),
    "outputResolution": _one_of("480p", "720p", default="720p"),
    "aspectRatio": _one_of(*_RATIOS, note="16:9 for text alone, else the media's"),
    "generate_audio": _TRUE,
    "bitrate_mode": _one_of("high"),
    "seed": Field("integer", -1, 4_294_967_295, note="-1 is random"),
}

_SEEDANCE_2_5 = _SEEDANCE_2_0 | {
    "prompt": _prompt(30_000),
    "imageUrls": _urls(0, 30),
    "videoUrls": _urls(0, 10),
    "audioUrls": _urls(0, 10),
    "mode": _one_of("keyframe", "reference", note="keyframe for 1 or 2 images alone, else reference"),
    "duration": _seconds(4, 30),
    "outputResolution": _one_of("480p", "720p", "1080p", default="720p"),
    "aspectRatio": _one_of(*_RATIOS, default="16:9", note="keyframe ignores it; reference follows the media"),
    "output_format": _one_of("mp4", "mov", default="mp4"),
}

_WAN = {
    "prompt": _prompt(20_000),
    "duration": _seconds(2, 30),
    "outputResolution": _one_of("480p", "720p", "1080p"),
    "aspectRatio": _one_of("16:9", "9:16", "4:3", "3:4", "1:1", default="16:9"),
    "audio": _TRUE,
    "seed": Field("integer", 0, 2_147_483_647),
}
_WAN_IMAGE = _WAN | {
    "imageUrls": _urls(1, 2),
    "aspectRatio": _one_of("16:9", "9:16", "4:3", "3:4", "1:1", "adaptive", default="16:9"),
}
_WAN_REF = _WAN | {"imageUrls": _urls(0, 10), "videoUrls": _urls(0, 5), "audioUrls": _urls(0, 5)}

# Models older than the current names, which therefore also know "5s" and the names of OLD_NAMES.
_OLD_DURATION = {"duration": _seconds(4, 15)._replace(seed_form=True)}
_SEEDANCE_20 = (
    _SEEDANCE_2_0
    | _OLD_DURATION
    | {"outputResolution": _one_of("480p", "720p", "1080p", "4k", default="720p")._replace(disputed="1080p")}
)
_EDIT_LACKS = ("mode", "duration", "aspectRatio")

MODELS: dict[str, dict[str, Field]] = {
    "seedance-20": _SEEDANCE_20,
    "seedance2.0-pro": _SEEDANCE_20,
    "seedance2-fast": _SEEDANCE_2_0 | _OLD_DURATION,
    "seedance2.0-mini": _SEEDANCE_2_0,
    "seedance2-5": _SEEDANCE_2_5,
    "seedance2-5-edit": {k: v for k, v in _SEEDANCE_2_5.items() if k not in _EDIT_LACKS} | {"videoUrls": _urls(1, 10)},
    "seedance2-5-extend": _SEEDANCE_2_5
    | {
        "videoUrls": _urls(1, 10),
        "mode": _one_of("keyframe", "reference")._replace(effect=False),
        "duration": Field("seconds", 4, 30, required=True, note="of the new footage only"),
        "aspectRatio": _one_of(*_RATIOS)._replace(effect=False),
    },
    "wan3.0-text-to-video": _WAN,
    "wan3.0-image-to-video": _WAN_IMAGE,
    "wan3.0-ref-to-video": _WAN_REF,
    "wan3.0-prime-text-to-video": _WAN,
    "wan3.0-prime-image-to-video": _WAN_IMAGE,
    "wan3.0-prime-ref-to-video": _WAN_REF,
}

MEDIA_FIELDS = ("imageUrls", "videoUrls", "audioUrls")


class OldName(NamedTuple):
    """A field name of an earlier generation, which the current API ignores silently (contract 2.3).

    :param field: what it accepted.
    :param generations: the generations that used it.
    :param cost: what the current API does instead.
    :param say: what to write for it; default empty for ``resolution``, whose value says it.
    """

    field: Field
    generations: frozenset[str]
    cost: str
    say: str = ""


_SEED = frozenset({"seed"})
_MIDDLE = frozenset({"middle"})
_CURRENT = frozenset({"current"})

OLD_NAME_MODELS = ("seedance-20", "seedance2.0-pro", "seedance2-fast")
SEED_SIZES = {
    "1280x720": ("720p", "16:9"),
    "720x1280": ("720p", "9:16"),
    "720x720": ("720p", "1:1"),
    "960x720": ("720p", "4:3"),
    "720x960": ("720p", "3:4"),
    "1920x1080": ("1080p", "16:9"),
}
OLD_NAMES = {
    "resolution": OldName(_one_of(*SEED_SIZES), _SEED, "bills its default size"),
    "ratio": OldName(_one_of(*_RATIOS), _SEED, "takes its default shape", "aspectRatio"),
    "imageUrl": OldName(Field("url"), _SEED, "makes the video without it", "imageUrls: [...]"),
    "urls": OldName(
        # The documents give no limit for images, videos and audio together: the sum of the three now.
        Field("urls", 1, 15),
        _SEED | _MIDDLE,
        "makes the video without that media",
        "imageUrls, videoUrls or audioUrls by kind",
    ),
    "upscaleResolution": OldName(
        _one_of("4k"), _MIDDLE, "does not upscale", 'outputResolution (seedance-20 takes "4k")'
    ),
}
# Names that outlived a generation; those in neither table are of the current one.
_SHARED_NAMES = {
    "prompt": _SEED | _MIDDLE | _CURRENT,
    "duration": _SEED | _MIDDLE | _CURRENT,
    "videoUrls": _SEED | _CURRENT,
    "outputResolution": _MIDDLE | _CURRENT,
    "aspectRatio": _MIDDLE | _CURRENT,
    "mode": _MIDDLE | _CURRENT,
}

# What is meant by a name that another model or generation uses, where spelling alone would not tell.
_MEANT = {
    "audio": "generate_audio",
    "generate_audio": "audio",
    "resolution": "outputResolution",
    "upscaleResolution": "outputResolution",
    "ratio": "aspectRatio",
    "imageUrl": "imageUrls",
    "urls": "imageUrls",
}
_OUTSIDE = {"model": "model", "callBackUrl": "callback_url", "callback_url": "callback_url"}

_MISSING = "(missing)"
_SHOWN = 60
_NATIVE = "a template gives only text: write the whole inputs as one JSON text and this value with | tojson"


def known_models() -> tuple[str, ...]:
    """Give the ids of the models that have a table here (contract 2.2 and 2.4).

    :return: the ids, in the contract's order.
    """
    return tuple(MODELS)


def defaults(model: str) -> dict[str, str | int | bool]:
    """Give what the vendor takes for fields left out (contract 2.4); the vendor has changed them before.

    :param model: a model id.
    :return: field name to value, only for fields with one fixed default; empty for an unknown model.
    """
    return {name: field.default for name, field in MODELS.get(model, {}).items() if field.default is not None}


def is_rendered_later(value: object) -> bool:
    """Tell whether a value in a DAG file stands for one that only a run will know.

    :param value: any value: Jinja text, an XComArg and whatever else is not a plain literal count.
    :return: True if nothing can be said about it yet.
    """
    if isinstance(value, str):
        return "{{" in value or "{%" in value or "{#" in value
    # Sets and bytes are no JSON, but no rendering mends them either: judge them at once.
    literals = (int, float, complex, list, tuple, dict, set, frozenset, bytes, bytearray)
    return value is not None and not isinstance(value, literals)


def _known(value: object) -> bool:
    return False


def check(model: object, inputs: object, *, partial: bool = False, allow_local_media: bool = False) -> Report:
    """Compare a request with what the vendor documents for its model (contract 2.1 to 2.4, 10 and 12.5).

    It never raises and never changes a value. An unknown model is passed through with a warning.

    :param model: the model id (str).
    :param inputs: the request's ``inputs`` (a mapping of names to JSON values).
    :param partial: the inputs come straight from a DAG file: values for which ``is_rendered_later`` holds are
        not judged, a field that has one counts as given, and nothing is said for the log; default False.
    :param allow_local_media: media fields may hold paths and object storage URLs, which are uploaded before
        the request is sent; default False, http(s) URLs only.
    :return: every problem of the request, and the lines worth a place in the log.
    """
    later = is_rendered_later if partial else _known
    if later(model):
        return Report()
    if not isinstance(model, str) or not model.strip():
        return Report((Problem("model", _show(model), "a model id is needed", 'say model="seedance-20"'),))
    if not isinstance(inputs, Mapping):
        if later(inputs) or (partial and isinstance(inputs, str)):  # text names a file or is JSON text
            return Report()
        return Report((Problem("inputs", _show(inputs), "is no mapping", 'say inputs={"prompt": "..."}'),))
    if model not in MODELS:
        return Report(unsendable(inputs, partial=partial), () if partial else (_unknown_model(model),))
    request = _Request(model, inputs, later, allow_local_media)
    problems = *request.fields(), *request.missing(), *request.combinations()
    return Report(problems, () if partial else (*request.old_names(), *request.advice()))


def unsendable(inputs: Mapping[Any, Any], *, partial: bool = False) -> tuple[Problem, ...]:
    """Find what JSON cannot carry, whatever the model: NaN, sets, bytes, Decimal, datetime, cycles.

    ``check`` includes it. It is of use alone where the vendor is to judge the rest.

    :param inputs: the request's ``inputs``.
    :param partial: as for ``check``; default False.
    :return: one problem per place.
    """
    later = is_rendered_later if partial else _known
    seen: set[int] = set()
    return tuple(
        problem for name, value in inputs.items() for problem in _no_json(_key(name), value, later, (), seen)
    ) + tuple(_bad_key(name) for name in inputs if not isinstance(name, str))


class _Request:
    """One request under check; each method yields the findings of one sort."""

    def __init__(self, model: str, inputs: Mapping[Any, Any], later: Later, local: bool) -> None:
        self.model, self.inputs, self.later, self.local = model, inputs, later, local
        self.table = MODELS[model]
        self.old = OLD_NAMES if model in OLD_NAME_MODELS else {}

    def fields(self) -> Iterator[Problem]:
        for name, value in self.inputs.items():
            if not isinstance(name, str):
                yield _bad_key(name)
            elif name in self.table:
                yield from self.judge(name, value, self.table[name])
            elif name in self.old:
                for problem in self.judge(name, value, self.old[name].field):
                    yield problem._replace(fix=f"say {self.instead(name)}")
            else:
                yield self.unknown(name, value)

    def judge(self, name: str, value: object, field: Field) -> Iterator[Problem]:
        if self.later(value):
            return
        if value is None:
            yield Problem(name, "None", "null is no value", "leave the field out")
        elif field.kind != "urls":
            yield from _JUDGES[field.kind](name, value, field)
        elif not isinstance(value, (list, tuple)):
            yield Problem(name, _show(value), "is not a list", f"give {field}; {_list_hint(value)}")
        else:
            if not field.low <= len(value) <= field.high:
                yield Problem(name, _show(value), "has the wrong number of items", f"give {field}")
            local = self.local and name in MEDIA_FIELDS
            for index, item in enumerate(value[: field.high]):
                if not (self.later(item) or (local and is_local_media(item))):
                    yield from _judge_url(f"{name}[{index}]", item, field)

    def unknown(self, name: str, value: object) -> Problem:
        path, shown = _key(name), _show(value)
        if name in _OUTSIDE:
            return Problem(path, shown, "is no input", f"give it as the argument {_OUTSIDE[name]}")
        # Only Wan lacks media fields, and refuses them by name (contract 2.4).
        fate = "refuses it" if name in MEDIA_FIELDS else "ignores it silently"
        message = f"{self.model} has no such field and {fate}"
        others = {model: table for model, table in MODELS.items() if name in table}
        if others:
            message += f" (a field of {_nearest(self.model, others, 0)})"
        elif name in OLD_NAMES:
            message += " (a name older than this model)"
        near = _MEANT.get(name, "")
        if near not in self.table:
            near = "" if others else _nearest(name, self.table, 0.6)
        if near:
            return Problem(path, shown, message, f"did you mean {near}?")
        fix = "remove it" if others else f"remove it; the fields are {', '.join(self.table)}"
        return Problem(path, shown, message, fix)

    def missing(self) -> Iterator[Problem]:
        for name, field in self.table.items():
            if field.required and name not in self.inputs:
                yield Problem(name, _MISSING, f"{self.model} needs it", f"give {field}")

    def count(self, name: str) -> tuple[int, float]:
        """Give the least and the most items that a media field can turn out to have."""
        value = self.inputs.get(name)
        if isinstance(value, (list, tuple)):
            return len(value), len(value)
        return 0, 0 if value is None else float("inf")

    def combinations(self) -> Iterator[Problem]:
        """Yield what is valid field by field and still buys no video, or the wrong one."""
        (images, most_images), (_, videos), (audio, most_audio) = map(self.count, MEDIA_FIELDS)
        needs_video = "videoUrls" in self.table and self.table["videoUrls"].required
        if audio and "audioUrls" in self.table and not most_images and not videos and not needs_video:
            yield Problem(
                "audioUrls",
                _show(self.inputs["audioUrls"]),
                "audio cannot be the only reference: the task fails",
                "add an image or a video, or remove the audio",
            )
        mode = self.table.get("mode")
        if mode and mode.default == "keyframe" and images > 2 and not videos and not most_audio:
            dropped = "the first opens the video, the second closes it, the rest are ignored"
            if "mode" not in self.inputs:
                fix = 'say mode: "reference" to use them all, or give two images'
                yield Problem("mode", _MISSING, f"of {images} images without mode {dropped}", fix)
            elif self.has("mode", "keyframe"):
                fix = 'say mode: "reference" to use them all, or give two'
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
                    f"{name} = {_show(self.inputs[name])}: a name of the {_generation(old.generations)}; the "
                    f"current API ignores it silently and {old.cost}; say {self.instead(name)}"
                )
        if self.seed_duration():
            yield (
                f"duration = {_show(self.inputs['duration'])}: the form of the seed generation; whether the "
                "current API still reads it is not documented; a plain integer is"
            )
        named = {name: self.generations(name) for name in self.inputs if isinstance(name, str)}
        named = {name: generations for name, generations in named.items() if generations}
        if named and not frozenset.intersection(*named.values()):
            told = [f"{name} ({_generation(of)})" for name, of in named.items() if len(of) < 3]
            yield f"names of different generations in one request: {', '.join(told)}; use the current ones"

    def generations(self, name: str) -> frozenset[str]:
        if name == "duration" and self.seed_duration():
            return _SEED
        if name in self.old:
            return self.old[name].generations
        return _SHARED_NAMES.get(name, _CURRENT) if name in self.table else frozenset()

    def seed_duration(self) -> bool:
        field, value = self.table.get("duration"), self.inputs.get("duration")
        if not field or not field.seed_form or not isinstance(value, str):
            return False
        return value.endswith("s")

    def instead(self, name: str) -> str:
        """Say what to write for an old name."""
        value, offered = self.inputs[name], self.table["outputResolution"].choices
        if name != "resolution":
            return OLD_NAMES[name].say
        if isinstance(value, str) and value in offered:
            return f'outputResolution: "{value}"'
        if not isinstance(value, str) or value not in SEED_SIZES:
            return f"outputResolution: {self.table['outputResolution']}, and aspectRatio for the shape"
        size, ratio = SEED_SIZES[value]
        return f'outputResolution: "{size if size in offered else offered[-1]}", aspectRatio: "{ratio}"'

    def advice(self) -> Iterator[str]:
        """Yield what the vendor accepts and may still surprise who pays."""
        (images, most_images), (videos, most_videos), (audio, most_audio) = map(self.count, MEDIA_FIELDS)
        for name, field in self.table.items():
            if not field.effect and name in self.inputs:
                yield f"{name}: {self.model} accepts and ignores it"
            if field.disputed and name not in self.inputs and "resolution" not in self.inputs:
                yield (
                    f'{name} is not given: the vendor\'s documents name "{field.default}" and '
                    f'"{field.disputed}" as the default, at different prices; say which'
                )
        mode = self.table.get("mode")
        if mode and mode.effect and self.has("mode", "keyframe"):
            if videos or audio:
                yield 'mode = "keyframe": any video or audio turns it into "reference"'
            elif images > 2 and mode.default != "keyframe" and not most_videos and not most_audio:
                yield f'mode = "keyframe": of {images} images probably only the first two are used'
        if self.model.endswith("ref-to-video") and not (most_images or most_videos or most_audio):
            yield f"no reference is given: {self.model} is for images, videos and audio as references"


def _judge_text(path: str, value: object, field: Field) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield Problem(path, _show(value), "is not text", f"give {field}")
    elif not value.strip():
        yield Problem(path, _show(value), "is empty", f"give {field}")
    elif len(value) > field.high:
        yield Problem(path, _show(value), f"has {len(value):,} characters", f"give {field}")


def _judge_url(path: str, value: object, field: Field) -> Iterator[Problem]:
    fix = "give an http or https URL that the vendor can fetch (upload_media=True uploads files)"
    if not isinstance(value, str):
        yield Problem(path, _show(value), "is not text", fix)
        return
    if not _is_web_url(value):
        yield Problem(path, _show(value), "is not an http or https URL", fix)
    elif any(character.isspace() for character in value):
        yield Problem(path, _show(value), "has white space in it", "remove it, or write %20 for a space")


def _is_web_url(value: str) -> bool:
    """Tell whether a text has the scheme, the host and, if any, the port of a web address."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port out of range
        return False


def _judge_integer(path: str, value: object, field: Field) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int):
        hint = f"; {_NATIVE}" if isinstance(value, str) else ""
        yield Problem(path, _show(value), "is not an integer", f"give {field}{hint}")
    elif not field.low <= value <= field.high:
        yield Problem(path, _show(value), "is out of range", f"give {field}")


def _judge_seconds(path: str, value: object, field: Field) -> Iterator[Problem]:
    if isinstance(value, str):
        digits = value.removesuffix("s") if field.seed_form else value
        # A template renders to text, and the middle generation wrote "5": both must do without a complaint.
        if len(digits) > 2 or not digits.isascii() or not digits.isdigit() or digits[0] == "0":
            yield Problem(path, _show(value), "is no number of seconds", f"give {field}")
            return
        if field.low <= int(digits) <= field.high:
            return
        yield Problem(path, _show(value), "is out of range", f"give {field}")
        return
    yield from _judge_integer(path, value, field)


def _judge_choice(path: str, value: object, field: Field) -> Iterator[Problem]:
    if not isinstance(value, str) or value not in field.choices:
        yield Problem(path, _show(value), "is not accepted", f"say {field}")


def _judge_boolean(path: str, value: object, field: Field) -> Iterator[Problem]:
    if not isinstance(value, bool):
        hint = f"; {_NATIVE}" if isinstance(value, str) else ""
        yield Problem(path, _show(value), "is not a boolean", f"say {field}, without quotes{hint}")


_JUDGES: dict[str, Callable[[str, object, Field], Iterator[Problem]]] = {
    "text": _judge_text,
    "url": _judge_url,
    "integer": _judge_integer,
    "seconds": _judge_seconds,
    "choice": _judge_choice,
    "boolean": _judge_boolean,
}


def is_local_media(item: object) -> bool:
    """Tell whether an item of a media field is something that can be uploaded.

    :param item: the item, of any type.
    :return: True for a path or text that does not look like a web address; whether it exists is not looked at.
    """
    if isinstance(item, str):
        # What looks like a web address is judged as one.
        return bool(item.strip()) and not item.lower().startswith(("http:", "https:"))
    return hasattr(type(item), "__fspath__") or hasattr(type(item), "as_uri")


def _list_hint(value: object) -> str:
    if isinstance(value, str):
        return f"write [{_show(value)}], and know that {_NATIVE}"
    return "list(...) makes one of another sequence"


def _no_json(path: str, value: object, later: Later, above: tuple[int, ...], seen: set[int]) -> Iterator[Problem]:
    if later(value) or value is None or isinstance(value, str):
        return
    if isinstance(value, (dict, list, tuple)):
        if id(value) in above or len(above) >= 50:
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
            yield Problem(path, _show(value), "JSON has no such number", "give a finite one")
    elif not isinstance(value, int) or value.bit_length() > 1024:  # more is infinite to a JSON reader
        yield Problem(path, _show(value), "JSON cannot carry it", "give text, a number, a list or a mapping")


def _bad_key(key: object, path: str = "") -> Problem:
    return Problem(path or _key(key), _show(key), "a name must be text", "write it in quotes")


def _unknown_model(model: str) -> str:
    near = _nearest(model, MODELS, 0.8)
    hint = f'; the API refuses near misses of its ids, did you mean "{near}"?' if near else ""
    return f"model = {_show(model)}: not in this provider's tables, its inputs are sent unchecked{hint}"


def _generation(generations: frozenset[str]) -> str:
    """Name the latest of the generations."""
    latest = next(word for word in ("current", "middle", "seed") if word in generations)
    return f"{latest} generation"


def _nearest(name: str, known: Mapping[str, object], cutoff: float) -> str:
    """Give the known name that is spelled most like this one, or an empty string."""
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
