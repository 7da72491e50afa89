"""What the vendor accepts as `inputs`, per model, as data; and what it finds wrong only after creation.

Written from the vendor's documentation, deliberately apart from the provider's own input tables.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from seedance_provider.testing.emulator import texts

Dialect = Literal["current", "seed", "g2", "envelope"]
DIALECTS: tuple[Dialect, ...] = ("current", "seed", "g2", "envelope")
Issue = dict[str, Any]  # a zod issue: code, message, path

_DURATION_TEXT = re.compile(r"(\d+)s?")
_SECONDS_IN_URL = re.compile(r"[?&]seconds=(\d+(?:\.\d+)?)|[-_/](\d+(?:\.\d+)?)s\.")
# References whose URL tells no length: the vendor's sample clip is 10 s long; further ones are as short as may be,
# so that several of them are within every limit.
_FIRST_CLIP_SECONDS, _OTHER_CLIP_SECONDS, _AUDIO_SECONDS = 10.0, 2.0, 3.0
_VIDEO_SUFFIXES = (".mp4", ".mov", ".webm")
_AUDIO_SUFFIXES = (".mp3", ".wav", ".m4a", ".aac", ".ogg", ".flac")


def _issue(code: str, message: str, *path: str | int) -> Issue:
    return {"code": code, "message": message, "path": list(path)}


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _wrong_type(name: str, expected: str, value: object) -> list[Issue]:
    return [_issue("invalid_type", f"Expected {expected}, received {_type_name(value)}", name)]


@dataclass(frozen=True)
class Text:
    """A string of `minimum` to `maximum` characters."""

    maximum: int
    minimum: int = 1

    def check(self, name: str, value: object) -> list[Issue]:
        """The issues of one value."""
        if not isinstance(value, str):
            return _wrong_type(name, "string", value)
        if len(value) < self.minimum:
            return [_issue("too_small", f"String must contain at least {self.minimum} character(s)", name)]
        if len(value) > self.maximum:
            return [_issue("too_big", f"String must contain at most {self.maximum} character(s)", name)]
        return []


@dataclass(frozen=True)
class Whole:
    """An integer from `low` to `high`, or one of `also`."""

    low: int
    high: int
    also: tuple[int, ...] = ()

    def check(self, name: str, value: object) -> list[Issue]:
        """The issues of one value; a JSON 5.0 is an integer, as it is in the vendor's JavaScript."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return _wrong_type(name, "number", value)
        if value % 1:  # true for infinity (1e999) as well
            return [_issue("invalid_type", "Expected integer, received float", name)]
        if not self.low <= value <= self.high and value not in self.also:
            return [self.range_issue(name)]
        return []

    def range_issue(self, name: str) -> Issue:
        """The vendor's text for a number out of range."""
        return _issue("custom", f"{name} must be between {self.low} and {self.high}", name)


@dataclass(frozen=True)
class Seconds(Whole):
    """A duration: an integer, and what older callers send (`"5"`, `"5s"`) where the server is lenient."""

    def check_lenient(self, name: str, value: object) -> list[Issue]:
        """As `check`, with strings of whole seconds accepted."""
        match = _DURATION_TEXT.fullmatch(value) if isinstance(value, str) else None
        return self.check(name, int(match[1]) if match else value)

    def range_issue(self, name: str) -> Issue:
        """The vendor's text for a duration out of range."""
        return _issue("custom", f"Duration must be between {self.low} and {self.high} seconds", name)


@dataclass(frozen=True)
class Choice:
    """One of some strings."""

    values: tuple[str, ...]

    def check(self, name: str, value: object) -> list[Issue]:
        """The issues of one value."""
        if isinstance(value, str) and value in self.values:
            return []
        expected = " | ".join(f"'{word}'" for word in self.values)
        text = f"Invalid enum value. Expected {expected}, received {value!r}"
        return [_issue("invalid_enum_value", text, name)]


@dataclass(frozen=True)
class Flag:
    """A real boolean; `"yes"`, `"true"` and 1 are refused."""

    def check(self, name: str, value: object) -> list[Issue]:
        """The issues of one value."""
        return [] if isinstance(value, bool) else _wrong_type(name, "boolean", value)


@dataclass(frozen=True)
class Urls:
    """A list of http(s) URLs: at least `minimum`, at most `maximum`."""

    maximum: int
    minimum: int = 0

    def check(self, name: str, value: object) -> list[Issue]:
        """The issues of one value."""
        if not isinstance(value, list):
            return _wrong_type(name, "array", value)
        if len(value) > self.maximum:
            return [_issue("too_big", f"Array must contain at most {self.maximum} element(s)", name)]
        if len(value) < self.minimum:
            return [_required(name)]
        return [
            _issue("invalid_string", "Invalid url", name, index) for index, url in enumerate(value) if not is_url(url)
        ]


@dataclass(frozen=True)
class OneOfNumbers:
    """One of some numbers."""

    values: tuple[float, ...]

    def check(self, name: str, value: object) -> list[Issue]:
        """The issues of one value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return _wrong_type(name, "number", value)
        return [] if value in self.values else [_issue("custom", f"{name} must be one of {self.values}", name)]


Rule = Text | Whole | Seconds | Choice | Flag | Urls | OneOfNumbers
Family = Literal["2.0", "2.5", "edit", "extend", "wan", "image", "midjourney"]
SEEDANCE_FAMILIES = ("2.0", "2.5", "edit", "extend")


@dataclass(frozen=True)
class Model:
    """The inputs of one model id: its fields, those that must be there, and media fields it refuses."""

    family: Family
    fields: dict[str, Rule]
    required: tuple[str, ...] = ("prompt",)
    refused: tuple[str, ...] = ()


_SIX_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
_FIVE_RATIOS = ("16:9", "9:16", "4:3", "3:4", "1:1")
_TO_1080P = ("480p", "720p", "1080p")
_MODES = ("keyframe", "reference")
_SEEDANCE_COMMON: dict[str, Rule] = {
    "generate_audio": Flag(),
    "bitrate_mode": Choice(("high",)),
    "seed": Whole(0, 4294967295, also=(-1,)),
}


def _seedance20(*resolutions: str) -> Model:
    fields: dict[str, Rule] = {
        "prompt": Text(10_000),
        "imageUrls": Urls(9),
        "videoUrls": Urls(3),
        "audioUrls": Urls(3),
        "mode": Choice(_MODES),
        "duration": Seconds(4, 15),
        "outputResolution": Choice(resolutions),
        "aspectRatio": Choice(_SIX_RATIOS),
    }
    return Model("2.0", fields | _SEEDANCE_COMMON)


def _seedance25(family: Literal["2.5", "edit", "extend"]) -> Model:
    fields: dict[str, Rule] = {
        "prompt": Text(30_000, minimum=0),  # an empty one is found after creation
        "imageUrls": Urls(30),
        "videoUrls": Urls(10, minimum=0 if family == "2.5" else 1),
        "audioUrls": Urls(10),
        "outputResolution": Choice(_TO_1080P),
        "output_format": Choice(("mp4", "mov")),
    }
    if family != "edit":
        fields["duration"] = Seconds(4, 30)
    if family == "2.5":
        fields |= {"mode": Choice(_MODES), "aspectRatio": Choice(_SIX_RATIOS)}
    required = {"2.5": ("prompt",), "edit": ("prompt", "videoUrls"), "extend": ("prompt", "videoUrls", "duration")}
    return Model(family, fields | _SEEDANCE_COMMON, required[family])


def _wan(kind: Literal["text", "image", "ref"]) -> Model:
    fields: dict[str, Rule] = {
        "prompt": Text(20_000),
        "duration": Seconds(2, 30),
        "outputResolution": Choice(_TO_1080P),
        "aspectRatio": Choice((*_FIVE_RATIOS, "adaptive") if kind == "image" else _FIVE_RATIOS),
        "audio": Flag(),
        "seed": Whole(0, 2147483647),
    }
    if kind == "text":
        return Model("wan", fields, refused=("imageUrls", "videoUrls", "audioUrls"))
    if kind == "image":
        fields["imageUrls"] = Urls(2, minimum=1)
        return Model("wan", fields, ("prompt", "imageUrls"), refused=("videoUrls", "audioUrls"))
    return Model("wan", fields | {"imageUrls": Urls(10), "videoUrls": Urls(5), "audioUrls": Urls(5)})


VIDEO_MODELS: dict[str, Model] = {
    "seedance-20": _seedance20("480p", "720p", "1080p", "4k"),
    "seedance2.0-pro": _seedance20("480p", "720p", "1080p", "4k"),
    "seedance2-fast": _seedance20("480p", "720p"),
    "seedance2.0-fast": _seedance20("480p", "720p"),
    "seedance2.0-mini": _seedance20("480p", "720p"),
    "seedance2-5": _seedance25("2.5"),
    "seedance2-5-edit": _seedance25("edit"),
    "seedance2-5-extend": _seedance25("extend"),
    "wan3.0-text-to-video": _wan("text"),
    "wan3.0-image-to-video": _wan("image"),
    "wan3.0-ref-to-video": _wan("ref"),
    "wan3.0-prime-text-to-video": _wan("text"),
    "wan3.0-prime-image-to-video": _wan("image"),
    "wan3.0-prime-ref-to-video": _wan("ref"),
}


def _image(urls: int, ratios: tuple[str, ...], resolutions: tuple[str, ...], **more: Rule) -> Model:
    fields: dict[str, Rule] = {
        "prompt": Text(30_000),
        "uploadedUrls": Urls(urls),
        "aspectRatio": Choice(ratios),
        "resolution": Choice(resolutions),
    }
    return Model("image", fields | more)


def _gpt_image(urls: int, qualities: tuple[str, ...], backgrounds: tuple[str, ...], **more: Rule) -> Model:
    named = {"quality": Choice(qualities), "background": Choice(backgrounds), "outputFormat": _PNG_OR_JPEG}
    return _image(urls, ("auto", *_FIVE_RATIOS), ("1k", "2k", "4k"), **named, **more)


_PNG_OR_JPEG = Choice(("png", "jpeg"))
_GPT_2_5 = _gpt_image(
    16,
    ("low", "medium", "high", "xhigh", "max", "auto"),
    ("auto", "transparent", "opaque"),
    outputCompression=Whole(0, 100),
)
# A prompt that is too long is cut, and any other aspectRatio runs at 1:1: neither is refused.
_MIDJOURNEY = Model(
    "midjourney",
    {
        "prompt": Text(1_000_000),
        "uploadedUrls": Urls(1),
        "stylize": Whole(0, 1000),
        "chaos": Whole(0, 100),
        "weird": Whole(0, 3000),
        "quality": OneOfNumbers((0.25, 0.5, 1)),
        "style": Choice(("raw",)),
        "seed": Whole(0, 4294967295),
        "autoFix": Flag(),
    },
)
_MIDJOURNEY_PROMPT = 6_000
IMAGE_MODELS: dict[str, Model] = {
    "gpt-image-2": _gpt_image(10, ("low", "medium", "high"), ("auto", "opaque")),
    "gpt-image-2.5-sunburst": _GPT_2_5,
    "gpt-image-2.5-flare": _GPT_2_5,
    "seedream-5.0-pro": _image(
        10, ("auto", *_FIVE_RATIOS, "3:2", "2:3", "21:9"), ("1k", "2k"), prompt=Text(10_000), outputFormat=_PNG_OR_JPEG
    ),
    "nanobanana2": _image(9, _FIVE_RATIOS, ("2k", "4k")),
    "nanobanana-pro": _image(9, _FIVE_RATIOS, ("1k", "2k", "4k")),
    "midjourney-v8": _MIDJOURNEY,
    "midjourney-v7": _MIDJOURNEY,
    "midjourney-v7-niji": _MIDJOURNEY,
}
# What an image has when nothing is said: resolution and shape.
_IMAGE_DEFAULTS = {
    "seedream-5.0-pro": ("2k", "auto"),
    "nanobanana2": ("2k", "3:4"),
    "nanobanana-pro": ("2k", "3:4"),
}
OTHER_MODELS = (  # accepted with any inputs that have a prompt
    "wan22-video-generation",
    "seedance2-5-preview",
    "suno-music",
    "suno-sounds",
    "minimax-h3-turbo-avatar-talking",
    "happyhorse1.0",
)
INTERNAL_MODELS = ("seedance20-video-generation",)

# Field names of older generations, accepted beside the current ones in that generation's dialect only:
# elsewhere they are unknown keys, which the vendor ignores.
_SEED_SIZES = ("1280x720", "720x720", "720x960", "960x720", "720x1280", "1920x1080")
_SEED_FIELDS: dict[str, Rule] = {
    "resolution": Choice(_SEED_SIZES),
    "ratio": Choice(_SIX_RATIOS),
    "urls": Urls(9),
    "imageUrl": Text(4096),
}
OLDER_FIELDS: dict[Dialect, dict[str, Rule]] = {
    "current": {},
    "seed": _SEED_FIELDS,
    "envelope": _SEED_FIELDS,
    "g2": {"urls": Urls(9), "upscaleResolution": Choice(("4k",)), "prompt": Text(4_000)},
}

# Width and height by ratio and resolution. Portrait ratios are the swapped pairs; 4k is twice the 1080p sides.
GEOMETRY: dict[str, dict[str, tuple[int, int]]] = {
    "480p": {"16:9": (864, 496), "1:1": (640, 640), "4:3": (752, 560), "21:9": (992, 432)},
    "720p": {"16:9": (1280, 720), "1:1": (960, 960), "4:3": (1112, 834), "21:9": (1470, 630)},
    "1080p": {"16:9": (1920, 1080), "1:1": (1440, 1440), "4:3": (1664, 1248), "21:9": (2206, 946)},
}


MIDJOURNEY_GEOMETRY = {
    "1:1": (1024, 1024),
    "3:2": (1344, 896),
    "2:3": (896, 1344),
    "4:3": (1232, 928),
    "3:4": (928, 1232),
    "4:5": (960, 1200),
    "5:4": (1200, 960),
    "16:9": (1456, 816),
    "9:16": (816, 1456),
    "21:9": (1680, 720),
}


class References(NamedTuple):
    """The media a request points at."""

    images: list[str]
    videos: list[str]
    audios: list[str]


@dataclass(frozen=True)
class Order:
    """A request that passed the checks, with the defaults filled in."""

    model: str
    inputs: dict[str, Any]
    prompt: str
    duration: int  # seconds
    resolution: str  # of videos 480p, 720p, 1080p or 4k; of images 1k, 2k or 4k
    width: int
    height: int
    references: References = field(default_factory=lambda: References([], [], []))

    @property
    def family(self) -> str:
        """A `Family`, or an empty string for models without input rules."""
        model = _rules_of(self.model)
        return model.family if model else ""

    @property
    def clip_seconds(self) -> list[float]:
        """The length of each reference video."""
        defaults = (_FIRST_CLIP_SECONDS, _OTHER_CLIP_SECONDS)
        return [seconds_of(url, defaults[min(index, 1)]) for index, url in enumerate(self.references.videos)]

    @property
    def video_seconds(self) -> float:
        """Seconds of all reference videos together."""
        return sum(self.clip_seconds)


def is_url(value: object) -> bool:
    """Whether a value is an absolute http(s) URL."""
    if not isinstance(value, str) or value.split() != [value]:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port out of range, for one
        return False


def seconds_of(url: str, default: float) -> float:
    """The length of a reference, told by its URL: `…/clip-12s.mp4` or `…?seconds=12`; never fetched."""
    match = _SECONDS_IN_URL.search(url)
    return float(match[1] or match[2]) if match else default


def _rules_of(model: str) -> Model | None:
    return VIDEO_MODELS.get(model) or IMAGE_MODELS.get(model)


def known(model: str) -> bool:
    """Whether createTask accepts this model id."""
    return _rules_of(model) is not None or model in OTHER_MODELS


def media_type(order: Order) -> str:
    """What kind of file a task makes."""
    if order.family == "":
        return "video/mp4"
    if order.family in ("image", "midjourney"):
        jpeg = order.inputs.get("outputFormat") == "jpeg" or order.model == "nanobanana2"
        return "image/jpeg" if jpeg and order.family == "image" else "image/png"
    fields = VIDEO_MODELS[order.model].fields
    return (
        "video/quicktime" if "output_format" in fields and order.inputs.get("output_format") == "mov" else "video/mp4"
    )


def _required(name: str, rule: Rule | None = None) -> Issue:
    if isinstance(rule, Seconds):
        return rule.range_issue(name)
    if name == "videoUrls":
        return _issue("custom", "At least one reference video (videoUrls) is required.", name)
    if name == "imageUrls":
        return _issue("custom", "At least one reference image (imageUrls) is required.", name)
    return _issue("invalid_type", "Required", name)


def check(model: str, inputs: dict[str, Any], dialect: Dialect, *, strict_duration: bool) -> list[Issue]:
    """Everything the vendor refuses before it creates a task; unknown keys are silently ignored.

    With `strict_duration` only integers are durations, as the current documentation says; otherwise the
    strings of older callers (`"5"`, `"5s"`) are taken too, as they have been seen to work.
    """
    rules = _rules_of(model)
    if rules is None:
        return Text(30_000).check("prompt", inputs["prompt"]) if "prompt" in inputs else [_required("prompt")]
    fields = rules.fields | (OLDER_FIELDS[dialect] if model in VIDEO_MODELS else {})
    issues = [_required(name, fields.get(name)) for name in rules.required if name not in inputs]
    if dialect == "g2" and inputs.get("urls") and model in VIDEO_MODELS:  # image to video needed no prompt then
        issues = [issue for issue in issues if issue["path"] != ["prompt"]]
    for name, value in inputs.items():
        if name in rules.refused:
            issues.append(_issue("custom", f"{name} is not supported by {model}", name))
        elif rule := fields.get(name):
            lenient = isinstance(rule, Seconds) and not strict_duration
            issues += rule.check_lenient(name, value) if lenient else rule.check(name, value)  # type: ignore[union-attr]
    return issues


def place(model: str, inputs: dict[str, Any], dialect: Dialect) -> Order:
    """Fill in the defaults of a request that `check` passed; models without rules keep all defaults."""
    if model in IMAGE_MODELS:
        return _place_image(model, inputs)
    if model not in VIDEO_MODELS:
        return Order(model, inputs, str(inputs.get("prompt", "")), 5, "720p", 1280, 720)
    known_names = set(OLDER_FIELDS[dialect])
    match = _DURATION_TEXT.fullmatch(str(inputs.get("duration", 5)).removesuffix(".0"))
    ratio = inputs.get("aspectRatio", "16:9")
    if "ratio" in known_names:
        ratio = inputs.get("ratio", ratio)
    resolution = inputs.get("outputResolution", "720p")
    if "upscaleResolution" in known_names:
        resolution = inputs.get("upscaleResolution", resolution)
    width, height = _size(model, str(resolution), str(ratio))
    if "resolution" in known_names and "resolution" in inputs:
        width, height = map(int, inputs["resolution"].split("x"))
        resolution = "1080p" if min(width, height) >= 1080 else "720p"
    references = _references(inputs, known_names)
    return Order(
        model,
        inputs,
        str(inputs.get("prompt", "")),
        int(match[1]) if match else 5,
        str(resolution),
        width,
        height,
        references,
    )


def _place_image(model: str, inputs: dict[str, Any]) -> Order:
    prompt, ratio = str(inputs.get("prompt", "")), inputs.get("aspectRatio")
    images = References(list(inputs.get("uploadedUrls", [])), [], [])
    if IMAGE_MODELS[model].family == "midjourney":
        size = MIDJOURNEY_GEOMETRY.get(str(ratio), MIDJOURNEY_GEOMETRY["1:1"])
        return Order(model, inputs, prompt[:_MIDJOURNEY_PROMPT], 0, "1k", *size, images)
    resolution, usual = _IMAGE_DEFAULTS.get(model, ("1k", "auto"))
    resolution = str(inputs.get("resolution", resolution))
    across, down = map(int, str(ratio or usual).replace("auto", "1:1").split(":"))
    edge = 1024 * int(resolution[0])
    width, height = (round(edge * math.sqrt(part) / 16) * 16 for part in (across / down, down / across))
    return Order(model, inputs, prompt, 0, resolution, width, height, images)


def _size(model: str, resolution: str, ratio: str) -> tuple[int, int]:
    swapped = {"9:16": "16:9", "3:4": "4:3"}
    sizes = GEOMETRY.get("1080p" if resolution == "4k" else resolution, GEOMETRY["720p"])
    width, height = sizes.get(swapped.get(ratio, ratio), sizes["16:9"])
    if (width, height) == (864, 496) and VIDEO_MODELS.get(model, VIDEO_MODELS["seedance-20"]).family != "2.0":
        width, height = 854, 480
    if resolution == "4k":
        width, height = 2 * width, 2 * height
    return (height, width) if ratio in swapped else (width, height)


def _references(inputs: dict[str, Any], known_names: set[str]) -> References:
    images, videos, audios = (list(inputs.get(name, [])) for name in ("imageUrls", "videoUrls", "audioUrls"))
    for url in inputs.get("urls", []) if "urls" in known_names else []:
        path = urlsplit(url).path.lower()
        (videos if path.endswith(_VIDEO_SUFFIXES) else audios if path.endswith(_AUDIO_SUFFIXES) else images).append(url)
    return References(images, videos, audios)


def late_failure(order: Order) -> tuple[str, str] | None:
    """What the vendor finds only after creation: the task ends in `fail`, refunded. Code and message."""
    if order.family == "edit" and not 4 <= order.clip_seconds[0] <= 30:
        return "1001", texts.EDIT_CLIP
    text = _late_text(order)
    return ("InvalidParameter", text) if text else None


def _late_text(order: Order) -> str | None:
    images, videos, audios = order.references
    audio_seconds = sum(seconds_of(url, _AUDIO_SECONDS) for url in audios)
    if order.family in SEEDANCE_FAMILIES and audios and not videos and not images:
        return texts.AUDIO_ALONE
    match order.family:
        case "2.0":
            return _late_two(order, audio_seconds)
        case "2.5" | "edit" | "extend":
            return _late_two_five(order, audio_seconds)
        case "wan":
            return _late_wan(order, audio_seconds)
        case _:
            return None


def _late_two(order: Order, audio_seconds: float) -> str | None:
    if order.video_seconds > 15:
        return texts.too_long("video", "videos")
    return texts.too_long("audio", "audio") if audio_seconds > 15 else None


def _late_two_five(order: Order, audio_seconds: float) -> str | None:
    wrong_clip = any(not 2 <= length <= 30 for length in order.clip_seconds)
    too_long = order.video_seconds > 30 or audio_seconds > 30
    return texts.FAIL_MESSAGES["InvalidParameter"] if wrong_clip or too_long or not order.prompt.strip() else None


def _late_wan(order: Order, audio_seconds: float) -> str | None:
    for url, length in zip(order.references.videos, order.clip_seconds, strict=True):
        if length > 15:
            return texts.wan(f"{url} duration should be at most 15s, got {length:.2f}s")
    together = order.video_seconds + order.duration
    if order.references.videos and together > 30:
        clips = f"input_video_duration({order.video_seconds:.2f}s) + duration({order.duration:.1f}s)"
        return texts.wan(f"{clips} = {together:.2f}s exceeds 30s limit")
    return texts.too_long("audio", "audio") if audio_seconds > 15 else None
