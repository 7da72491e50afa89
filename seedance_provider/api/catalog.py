"""One row per model: its fields, its price and what is known of its tasks. Data only, dated by ``PRICES_AS_OF``.

A new model is one row of ``_ROWS``. Numbers of sections are those of the API contract. Imported wherever a DAG file
is parsed, so amounts are strings, and nothing but the standard library is imported.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

# No annotations from __future__: NamedTuple would compile each one, half of this module's import time.

PRICES_AS_OF = "2026-09"
"""The month of the vendor's price list (contract 2.5, 13.7, 13.8), without temporary discounts."""


class Field(NamedTuple):
    """What a field of ``inputs`` accepts. ``str()`` says it in words.

    :param kind: how the value is judged.
    :param low: least characters, items or value; default 0.
    :param high: most characters, items or value; default 0, for a string no documented limit.
    :param choices: the accepted values of a ``choice``; default none.
    :param required: whether a request without it is refused; default False.
    :param default: what the vendor takes when it is left out; default None, nothing fixed.
    :param note: what a table cannot say; default empty.
    """

    kind: Literal["string", "url", "urls", "integer", "seconds", "choice", "boolean"]
    low: int = 0
    high: int = 0
    choices: tuple[str | float, ...] = ()
    required: bool = False
    default: str | int | bool | None = None
    note: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "string":
                return f"a string of {self.low:,} to {self.high:,} characters" if self.high else "a string"
            case "url":
                return "an http or https URL"
            case "urls":
                if self.high == 1:
                    return "a list of at most one URL"
                return f"a list of {f'{self.low} to' if self.low else 'up to'} {self.high} URLs"
            case "choice":
                *most, last = [f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in self.choices]
                return f"{', '.join(most)} or {last}" if most else last
            case "boolean":
                return "True or False"
            case _:
                return f"an integer from {self.low} to {self.high}"


class Price(NamedTuple):
    """What a task costs.

    :param rates: credits without and with a reference video, by the values of ``fields`` joined by a space; ``task``
        where there are none.
    :param basis: what a rate is multiplied by. ``duration``: the seconds ordered. ``reference``: the same, and with a
        reference video its seconds on top, up to 30. ``edit``: twice the seconds of the source. ``task``: nothing.
        ``tokens``: nothing; the two amounts are what is held and about what is settled, without references.
    :param fields: the fields that choose the rate; default ``outputResolution``.
    :param least_reference: the least seconds of a reference video; default 2.
    """

    rates: Mapping[str, tuple[str, str]]
    basis: Literal["duration", "reference", "edit", "task", "tokens"] = "duration"
    fields: tuple[str, ...] = ("outputResolution",)
    least_reference: int = 2


MOST_REFERENCE = 30
"""Seconds of reference video that the 2.5 family charges at most (contract 2.5)."""


class Model(NamedTuple):
    """One model.

    :param id: the id that requests name.
    :param fields: the fields of ``inputs`` (contract 2.4).
    :param price: its price.
    :param seconds: the usual seconds from creation to the end (contract 8).
    :param aliases: other ids for the same; default none (contract 2.2, 13.5).
    :param output: the kind of its outputs; default video.
    :param outputs: how many outputs a task has; default 1.
    :param settles_later: whether the charge can change some seconds after success (contract 4.3); default False.
    :param legacy: older than the current names: it also knew ``LEGACY_FIELDS`` and ``"5s"``; default False.
    :param audio_alone_fails: whether audio as the only reference fails the task (contract 13.2); default False.
    :param drops_images: whether ``keyframe``, also its default, ignores all images but two; default False.
    :param refuses_media: whether media fields that it lacks are a 400 (contract 2.4); default False.
    :param ignores_unknown: whether the vendor says that unknown keys are ignored (contract 13.6); default False.
    :param open: whether it may have more fields, so that an unknown key is only a warning; default False.
    """

    id: str
    fields: Mapping[str, Field]
    price: Price
    seconds: float
    aliases: tuple[str, ...] = ()
    output: Literal["video", "image"] = "video"
    outputs: int = 1
    settles_later: bool = False
    legacy: bool = False
    audio_alone_fails: bool = False
    drops_images: bool = False
    refuses_media: bool = False
    ignores_unknown: bool = False
    open: bool = False


def _string(high: int = 0, *, required: bool = False) -> Field:
    return Field("string", 1, high, required=required)


def _urls(low: int, high: int) -> Field:
    return Field("urls", low, high, required=low > 0)


def _one_of(*choices: str | float, default: str | None = None, note: str = "") -> Field:
    return Field("choice", choices=choices, default=default, note=note)


def _seconds(low: int, high: int) -> Field:
    return Field("seconds", low, high, default=5)


def _integer(low: int, high: int, note: str = "") -> Field:
    return Field("integer", low, high, note=note)


_TRUE = Field("boolean", default=True)

# Video: contract 2.4 and 13.1 to 13.6.

_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
_SEEDANCE_2_0 = {
    "prompt": _string(10_000, required=True),
    "imageUrls": _urls(0, 9),
    "videoUrls": _urls(0, 3),
    "audioUrls": _urls(0, 3),
    "mode": _one_of("keyframe", "reference", default="keyframe", note="reference with any video or audio"),
    "duration": _seconds(4, 15),
    "outputResolution": _one_of("480p", "720p", default="720p"),
    "aspectRatio": _one_of(*_RATIOS, note="16:9 for a prompt alone, else the media's"),
    "generate_audio": _TRUE,
    "bitrate_mode": _one_of("high"),
    "seed": _integer(-1, 4_294_967_295, note="-1 is random"),
}
_SEEDANCE_2_5 = _SEEDANCE_2_0 | {
    "prompt": _string(30_000, required=True),
    "imageUrls": _urls(0, 30),
    "videoUrls": _urls(0, 10),
    "audioUrls": _urls(0, 10),
    "mode": _one_of("keyframe", "reference", note="keyframe for 1 or 2 images alone, else reference"),
    "duration": _seconds(4, 30),
    "outputResolution": _one_of("480p", "720p", "1080p", default="720p"),
    "aspectRatio": _one_of(*_RATIOS, default="16:9", note="keyframe ignores it; reference follows the media"),
    "output_format": _one_of("mp4", "mov", default="mp4"),
}
# The frame of a source clip is its own, and so is the length of an edited one.
_OF_A_SOURCE = {name: field for name, field in _SEEDANCE_2_5.items() if name not in ("mode", "duration", "aspectRatio")}
_OF_A_SOURCE["videoUrls"] = _urls(1, 10)
_EXTEND = _OF_A_SOURCE | {"duration": Field("seconds", 4, 30, required=True, note="of the new footage only")}

_WAN_RATIOS = ("16:9", "9:16", "4:3", "3:4", "1:1")
_WAN = {
    "prompt": _string(20_000, required=True),
    "duration": _seconds(2, 30),
    "outputResolution": _one_of("480p", "720p", "1080p", default="720p"),
    "aspectRatio": _one_of(*_WAN_RATIOS, default="16:9"),
    "audio": _TRUE,
    "seed": _integer(0, 2_147_483_647),
}
_WAN_IMAGE = _WAN | {
    "imageUrls": _urls(1, 2),
    "aspectRatio": _one_of(*_WAN_RATIOS, "adaptive", default="16:9", note="adaptive keeps the image's"),
}
_WAN_REFERENCE = _WAN | {"imageUrls": _urls(0, 10), "videoUrls": _urls(0, 5), "audioUrls": _urls(0, 5)}

# Images: the vendor's READMEs (contract 13.8 to 13.10). Their media field is uploadedUrls.

_IMAGE_RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16")
_K = ("1k", "2k", "4k")
_GPT_IMAGE = {
    "prompt": _string(required=True),
    "uploadedUrls": _urls(0, 10),
    "aspectRatio": _one_of("auto", *_IMAGE_RATIOS, default="auto"),
    "resolution": _one_of(*_K, default="1k"),
    "quality": _one_of("low", "medium", "high", default="low"),
    "outputFormat": _one_of("png", "jpeg", default="png"),
    "background": _one_of("auto", "opaque", default="auto"),
}
_GPT_IMAGE_2_5 = _GPT_IMAGE | {
    "uploadedUrls": _urls(0, 16),
    "quality": _one_of("low", "medium", "high", "xhigh", "max", "auto", default="low"),
    "background": _one_of("auto", "transparent", "opaque", default="auto"),
    "outputCompression": _integer(0, 100, note="of a jpeg only"),
}
_SEEDREAM = {
    "prompt": _string(10_000, required=True),
    "uploadedUrls": _urls(0, 10),
    "aspectRatio": _one_of("auto", *_IMAGE_RATIOS, "3:2", "2:3", "21:9", default="auto"),
    "resolution": _one_of("1k", "2k", default="2k"),
    "outputFormat": _one_of("png", "jpeg", default="png"),
}
_NANOBANANA = {
    "prompt": _string(required=True),
    "uploadedUrls": _urls(0, 9),
    "aspectRatio": _one_of(*_IMAGE_RATIOS, default="3:4"),
    "resolution": _one_of(*_K, default="2k"),
}
_NANOBANANA_2 = _NANOBANANA | {"resolution": _one_of("2k", "4k", default="2k")}
_MIDJOURNEY = {
    "prompt": _string(6_000, required=True)._replace(note="the vendor cuts a longer one"),
    "uploadedUrls": _urls(0, 1),
    "aspectRatio": _one_of(
        "1:1", "3:2", "2:3", "4:3", "3:4", "4:5", "5:4", "16:9", "9:16", "21:9",
        default="1:1", note="anything else runs at 1:1",
    ),
    "stylize": _integer(0, 1000),
    "chaos": _integer(0, 100),
    "weird": _integer(0, 3000),
    "quality": _one_of(0.25, 0.5, 1),
    "style": _one_of("raw"),
    "no": _string(),
    "seed": _integer(0, 4_294_967_295),
    "autoFix": _TRUE,
}  # fmt: skip


def _same(rates: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Rates that a reference video does not change."""
    return {size: (rate, rate) for size, rate in rates.items()}


_2_0 = Price({"480p": ("15", "19"), "720p": ("40", "48"), "1080p": ("90", "108"), "4k": ("200", "240")})
_FAST = Price({"480p": ("14", "18"), "720p": ("28", "34")})
_MINI = Price({"480p": ("7.5", "9.5"), "720p": ("20", "24")})
_2_5 = Price({"480p": ("26", "16"), "720p": ("59", "35"), "1080p": ("143.4", "85.68")}, "reference")
_2_5_SOURCE = Price(_same({"480p": "16", "720p": "35", "1080p": "85.68"}), "reference")
_2_5_EDIT = _2_5_SOURCE._replace(basis="edit", least_reference=4)
_WAN_PRICE = Price(_same({"480p": "14.257", "720p": "28.514", "1080p": "57.01"}))
_WAN_PRIME_PRICE = Price(_same({"480p": "18.86", "720p": "38.83", "1080p": "77.66"}))
_GPT_IMAGE_PRICE = Price(
    {
        f"{size} {quality}": (amount, amount)
        for quality, amounts in {
            "low": ("2.17", "4.34", "6.52"),
            "medium": ("13.03", "21.72", "39.09"),
            "high": ("47.78", "86.87", "156.36"),
        }.items()
        for size, amount in zip(_K, amounts, strict=True)
    },
    "task",
    ("resolution", "quality"),
)
_TOKENS = Price({"1k low": ("1.75", "1.82"), "1k auto": ("1.75", "1.82")}, "tokens", ("resolution", "quality"))


_MIDJOURNEY_PRICE = Price(_same({"task": "12"}), "task", ())


def _by_size(amounts: Mapping[str, str]) -> Price:
    return Price(_same(amounts), "task", ("resolution",))


def _two_oh(
    name: str,
    price: Price,
    seconds: float,
    *aliases: str,
    legacy: bool = True,
    sizes: tuple[str, ...] = ("480p", "720p"),
) -> Model:
    fields = _SEEDANCE_2_0 | {"outputResolution": _one_of(*sizes, default="720p")}
    known = Model(name, fields, price, seconds, aliases, legacy=legacy, audio_alone_fails=True)
    return known._replace(drops_images=True, ignores_unknown=True)


def _two_five(name: str, fields: Mapping[str, Field], price: Price, seconds: float) -> Model:
    return Model(name, fields, price, seconds, settles_later=True, audio_alone_fails=True)


def _wan(name: str, fields: Mapping[str, Field], seconds: float) -> Model:
    return Model(name, fields, _WAN_PRIME_PRICE if "prime" in name else _WAN_PRICE, seconds, refuses_media=True)


def _image(name: str, fields: Mapping[str, Field], price: Price, seconds: float) -> Model:
    # Open: their pages do not say what becomes of an unknown key, and a picture costs little.
    return Model(name, fields, price, seconds, output="image", open=True)


_ROWS = (
    _two_oh("seedance-20", _2_0, 200, "seedance2.0-pro", sizes=("480p", "720p", "1080p", "4k")),
    _two_oh("seedance2-fast", _FAST, 120, "seedance2.0-fast"),
    _two_oh("seedance2.0-mini", _MINI, 120, legacy=False),
    _two_five("seedance2-5", _SEEDANCE_2_5, _2_5, 360),
    _two_five("seedance2-5-edit", _OF_A_SOURCE, _2_5_EDIT, 260),
    _two_five("seedance2-5-extend", _EXTEND, _2_5_SOURCE, 280),
    _wan("wan3.0-text-to-video", _WAN, 180),
    _wan("wan3.0-image-to-video", _WAN_IMAGE, 180),
    _wan("wan3.0-ref-to-video", _WAN_REFERENCE, 210),
    _wan("wan3.0-prime-text-to-video", _WAN, 90),
    _wan("wan3.0-prime-image-to-video", _WAN_IMAGE, 90),
    _wan("wan3.0-prime-ref-to-video", _WAN_REFERENCE, 105),
    _image("gpt-image-2", _GPT_IMAGE, _GPT_IMAGE_PRICE, 30),
    _image("gpt-image-2.5-sunburst", _GPT_IMAGE_2_5, _TOKENS, 60)._replace(settles_later=True),
    _image("gpt-image-2.5-flare", _GPT_IMAGE_2_5, _TOKENS, 60)._replace(settles_later=True),
    _image("seedream-5.0-pro", _SEEDREAM, _by_size({"1k": "14", "2k": "24"}), 60),
    _image("nanobanana-pro", _NANOBANANA, _by_size({"1k": "14.41", "2k": "14.41", "4k": "25.8"}), 30),
    _image("nanobanana2", _NANOBANANA_2, _by_size({"2k": "15", "4k": "25"}), 30),
    *(
        _image(name, _MIDJOURNEY, _MIDJOURNEY_PRICE, 50)._replace(outputs=4)
        for name in ("midjourney-v8", "midjourney-v7", "midjourney-v7-niji")
    ),
)

MODELS: dict[str, Model] = {row.id: row for row in _ROWS}
KNOWN: dict[str, Model] = MODELS | {alias: row for row in _ROWS for alias in row.aliases}
"""Every id that the vendor accepts, aliases too."""


def lookup(model: object) -> Model | None:
    """Find a model's row.

    :param model: an id or an alias.
    :return: the row; None for an unknown id, such as the internal ones that a record may name (contract 4.3).
    """
    return KNOWN.get(model) if isinstance(model, str) else None


def usual_seconds(model: object) -> float | None:
    """Give the usual seconds from a task's creation to its end (contract 8).

    :param model: an id or an alias.
    :return: seconds; None for an unknown model.
    """
    row = lookup(model)
    return row.seconds if row else None


def settles_later(model: object) -> bool:
    """Tell whether the charge can change some seconds after success (contract 4.3).

    :param model: an id or an alias, as requested or as a record names it.
    :return: False for an unknown model.
    """
    row = lookup(model)
    return bool(row and row.settles_later)


# Names of earlier API versions, which the current one ignores without a word (contract 2.3).


class LegacyField(NamedTuple):
    """A field name of an earlier API version.

    :param field: what it accepted.
    :param version: the last version that used it: v1 is the seed's, v2 that of the docs of kinovi.ai.
    :param effect: what the current API does instead.
    :param instead: what to write for it; default empty for ``resolution``, whose value tells.
    """

    field: Field
    version: str
    effect: str
    instead: str = ""


LEGACY_SIZES = {
    "1280x720": ("720p", "16:9"),
    "720x1280": ("720p", "9:16"),
    "720x720": ("720p", "1:1"),
    "960x720": ("720p", "4:3"),
    "720x960": ("720p", "3:4"),
    "1920x1080": ("1080p", "16:9"),
}
LEGACY_FIELDS = {
    "resolution": LegacyField(_one_of(*LEGACY_SIZES), "v1", "charges its default size"),
    "ratio": LegacyField(_one_of(*_RATIOS), "v1", "takes its default shape", "aspectRatio"),
    "imageUrl": LegacyField(Field("url"), "v1", "makes the video without it", "imageUrls: [...]"),
    "urls": LegacyField(
        # The documents give no limit for images, videos and audio together: the sum of the three now.
        Field("urls", 1, 15),
        "v2",
        "makes the video without that media",
        "imageUrls, videoUrls or audioUrls by kind",
    ),
    "upscaleResolution": LegacyField(
        _one_of("4k"), "v2", "does not upscale", 'outputResolution (seedance-20 takes "4k")'
    ),
}
LEGACY_UPSCALE_RATE = "28"
"""Credits per second that ``upscaleResolution`` added in API v2 (contract 2.5)."""
