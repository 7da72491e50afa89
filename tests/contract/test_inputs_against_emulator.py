"""The provider's catalog and the emulator's own rules and prices on the same requests.

Both were written from the vendor's documents (contract 2.4, 2.5 and 13), apart from each other. What the check passes
must be taken by the emulator, end as a video and be charged as estimated; what the contract says the vendor refuses,
both must refuse.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, NamedTuple

import aiohttp
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seedance_provider.api.catalog import KNOWN, lookup
from seedance_provider.api.pricing import estimate
from seedance_provider.api.validation import check
from seedance_provider.testing import Emulator
from seedance_provider.testing.emulator import rules

Inputs = dict[str, Any]

# The contract's tables once more, as strategies: neither side's own data is used to make the requests.


class Kind(NamedTuple):
    """A group of models with the same table."""

    models: tuple[str, ...]
    prompt: int
    images: tuple[int, int]  # least and most; (0, 0) where the field is refused
    videos: tuple[int, int]
    audios: tuple[int, int]
    seconds: tuple[int, int] | None
    resolutions: tuple[str, ...]
    ratios: tuple[str, ...] | None
    sound: str
    seed: tuple[int, int]
    needs_duration: bool = False
    mode: bool = False
    bitrate: bool = True
    output_format: bool = False


SIX = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
FIVE = ("16:9", "9:16", "4:3", "3:4", "1:1")
TO_720P, TO_1080P = ("480p", "720p"), ("480p", "720p", "1080p")
SEED_32 = (-1, 4294967295)


def two_oh(*models: str, resolutions: tuple[str, ...]) -> Kind:
    return Kind(models, 10_000, (0, 9), (0, 3), (0, 3), (4, 15), resolutions, SIX, "generate_audio", SEED_32, mode=True)


def wan(kind: str, images: tuple[int, int], others: tuple[int, int], ratios: tuple[str, ...] = FIVE) -> Kind:
    models = (f"wan3.0-{kind}", f"wan3.0-prime-{kind}")
    return Kind(
        models, 20_000, images, others, others, (2, 30), TO_1080P, ratios, "audio", (0, 2147483647), bitrate=False
    )


def two_five(model: str, **changes: Any) -> Kind:
    kind = Kind((model,), 30_000, (0, 30), (0, 10), (0, 10), (4, 30), TO_1080P, SIX, "generate_audio", SEED_32)
    return kind._replace(mode=True, output_format=True)._replace(**changes)


KINDS = (
    two_oh("seedance-20", "seedance2.0-pro", resolutions=(*TO_1080P, "4k")),
    two_oh("seedance2-fast", "seedance2.0-fast", "seedance2.0-mini", resolutions=TO_720P),
    two_five("seedance2-5"),
    two_five("seedance2-5-edit", videos=(1, 10), seconds=None, ratios=None, mode=False),
    two_five("seedance2-5-extend", videos=(1, 10), needs_duration=True, ratios=None, mode=False),
    wan("text-to-video", (0, 0), (0, 0)),
    wan("image-to-video", (1, 2), (0, 0), (*FIVE, "adaptive")),
    wan("ref-to-video", (0, 10), (0, 5)),
)
KIND_OF = {model: kind for kind in KINDS for model in kind.models}
TWO_OH = frozenset(KINDS[0].models + KINDS[1].models)
TWO_FIVE = frozenset(model for model in KIND_OF if model.startswith("seedance2-5"))
LEFT_OUT = object()


# Whether such a value is right is for the two sides to say: it is near the limits, where they could differ.
ODD = (None, True, False, 0, -1, 1.5, 5.0, "", " ", "5", "05", "5s", "yes", [], [""], {}, "16:9", "1x1", 10**30)
ODD_URLS = (
    *(
        "",
        " ",
        "cat.png",
        "ftp://a/b",
        "file:///a",
        "http://",
        "https://?x",
        "http:///a",
        "//host/a",
        "http:/a",
        "http:a",
    ),
    *(
        "https://a b/c",
        "https://a/b c",
        "https://a/b\n",
        " https://a/b",
        "https://a:99999/b",
        "https://a:b/c",
        "https://:80/",
    ),
    *(
        "https://[::1",
        "https://::1/",
        "https://[x]/",
        "data:image/png;base64,AA",
        "https://\u3000/a",
        5,
        None,
        ["https://a/b"],
    ),
)


HOSTS = (
    *(
        "https://media.example.com",
        "http://media.example.com:8080",
        "HTTPS://MEDIA.example.com",
        "https://[2001:db8::1]",
    ),
    *("https://m\u00fcnchen.example/\u00e4", "https://user@media.example.com/%20"),
)


@st.composite
def urls(draw: st.DrawFn, least: int, most: int, suffix: str, first: float, rest: float) -> list[str]:
    """URLs of media of these lengths: the emulator reads a clip's seconds from its URL."""
    hosts = draw(st.lists(st.sampled_from(HOSTS), min_size=least, max_size=most))
    return [f"{host}/clip.{suffix}?seconds={rest if index else first}#x" for index, host in enumerate(hosts)]


def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.sampled_from([low, high]) | st.integers(low, high)


def fields_of(model: str) -> dict[str, st.SearchStrategy[Any]]:
    """What the contract's table gives for each field of a model."""
    kind = KIND_OF[model]
    seconds = (0, 0) if model.startswith("wan") else (4, 2)
    fields: dict[str, st.SearchStrategy[Any]] = {
        "prompt": st.sampled_from(["a fox", "x" * kind.prompt, "\u72d0" * 9, "\n x", "[[", "\u200b"]),
        kind.sound: st.booleans(),
        "outputResolution": st.sampled_from(kind.resolutions),
        "seed": whole(*kind.seed),
    }
    for name, (least, most), suffix, lengths in (
        ("imageUrls", kind.images, "png", (0, 0)),
        ("videoUrls", kind.videos, "mp4", seconds),
        ("audioUrls", kind.audios, "mp3", (1, 1)),
    ):
        if most:
            fields[name] = urls(least, most, suffix, *lengths)
    if kind.seconds:
        fields["duration"] = whole(*kind.seconds) | whole(*kind.seconds).map(str)
    if kind.ratios:
        fields["aspectRatio"] = st.sampled_from(kind.ratios)
    if kind.mode:
        fields["mode"] = st.sampled_from(["keyframe", "reference"])
    if kind.bitrate:
        fields["bitrate_mode"] = st.just("high")
    if kind.output_format:
        fields["output_format"] = st.sampled_from(["mp4", "mov"])
    return fields


def required_of(model: str) -> set[str]:
    kind = KIND_OF[model]
    return {
        "prompt",
        *(["imageUrls"] if kind.images[0] else []),
        *(["videoUrls"] if kind.videos[0] else []),
        *(["duration"] if kind.needs_duration else []),
    }


models = st.sampled_from(sorted(KIND_OF))


@st.composite
def good_requests(draw: st.DrawFn) -> tuple[str, Inputs]:
    """A request right by the tables, though not always in its combinations."""
    model = draw(models)
    fields = fields_of(model)
    chosen = required_of(model) | draw(st.sets(st.sampled_from(sorted(fields))))
    return model, {name: draw(fields[name]) for name in fields if name in chosen}


@st.composite
def odd_requests(draw: st.DrawFn) -> tuple[str, Inputs]:
    """One of these with something odd in one field."""
    model, inputs = draw(good_requests())
    name = draw(st.sampled_from(sorted(fields_of(model))))
    media = name.endswith("Urls")
    kind = KIND_OF[model]
    match draw(st.sampled_from(["leave out", "odd", "near", "item" if media else "near"])):
        case "leave out":
            inputs.pop(name, None)
        case "item":
            # Cheap to draw, and what is around the odd one does not matter.
            inputs[name] = [f"{HOSTS[0]}/clip?seconds=4", draw(st.sampled_from(ODD_URLS))]
        case "near" if name == "prompt":
            inputs[name] = "x" * (kind.prompt + 1)
        case "near" if media:
            inputs[name] = [f"{HOSTS[0]}/clip?seconds=1"] * draw(st.sampled_from([0, 1, 2, 3, 4, 6, 9, 10, 11, 30, 31]))
        case "near" if name in ("duration", "seed"):
            low, high = (kind.seconds or (4, 30)) if name == "duration" else kind.seed
            inputs[name] = draw(
                st.sampled_from([low - 1, high + 1, float(low), str(low - 1), f"{low}s", f"{high + 1}s", f" {low}"])
            )
        case "near":
            words = [
                "480p",
                "720p",
                "1080p",
                "4k",
                "2k",
                "720P",
                *SIX,
                "adaptive",
                "5:4",
                "auto",
                "low",
                "HIGH",
                "webm",
            ]
            inputs[name] = draw(st.sampled_from(words))
        case _:
            inputs[name] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return model, inputs


# What both sides say. The emulator is asked over HTTP, by the thousand, so on one connection that is kept.


class Vendor:
    """The emulator, asked over one connection."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._session = self._call(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self._emulator.api_key}", "User-Agent": "Mozilla/5.0"}
        return aiohttp.ClientSession(headers=headers)

    def _call(self, coroutine: Any) -> Any:
        answer: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return answer.result(20)

    def create(self, model: str, inputs: Inputs) -> tuple[int, Any]:
        async def post() -> tuple[int, Any]:
            url = f"{self._emulator.url}/api/v1/jobs/createTask"
            async with self._session.post(url, data=json.dumps({"model": model, "inputs": inputs})) as answer:
                return answer.status, await answer.json()

        status, body = self._call(post())
        return status, body

    def record(self, task_id: str) -> dict[str, Any]:
        async def get() -> dict[str, Any]:
            url = f"{self._emulator.url}/api/v1/jobs/recordInfo?taskId={task_id}"
            async with self._session.get(url) as answer:
                body: dict[str, Any] = await answer.json()
                return body

        result: dict[str, Any] = self._call(get())
        return result

    def close(self) -> None:
        self._call(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with Emulator(
        credits=1e15,
        concurrency_limit=None,
        strict_duration=False,
        waiting_seconds=0,
        generating_seconds=0,
        settlement_seconds=0,
    ) as emulator:
        asking = Vendor(emulator)
        yield asking
        asking.close()


def refused(vendor: Vendor, model: str, inputs: Inputs) -> set[str]:
    """The fields the vendor complains about; none if it takes the request."""
    status, body = vendor.create(model, inputs)
    assert status in (200, 400), body
    return {str(issue["path"][0]) for issue in body["errors"]} if status == 400 else set()


def questioned(model: str, inputs: Inputs) -> set[str]:
    """The fields the check complains about."""
    return {problem.path.partition("[")[0].partition(".")[0] for problem in check(model, inputs).problems}


SOME = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


IMAGE_MODELS = sorted(model for model, row in KNOWN.items() if row.output == "image")


def test_both_sides_know_the_same_models() -> None:
    assert {model for model, row in KNOWN.items() if row.output == "video"} == set(rules.VIDEO_MODELS) == set(KIND_OF)
    assert set(IMAGE_MODELS) == set(rules.IMAGE_MODELS)


@SOME
@given(request=good_requests())
def test_what_the_check_passes_the_vendor_takes_makes_a_video_of_and_charges_as_estimated(
    vendor: Vendor, request: tuple[str, Inputs]
) -> None:
    model, inputs = request
    assume(not check(model, inputs).problems)
    status, body = vendor.create(model, inputs)
    assert status == 200, body
    record = vendor.record(body["taskId"])
    assert record["status"] == "success", record["error"]
    cost = estimate(model, inputs)
    assert cost
    assert cost.low <= Decimal(str(record["creditsUsed"])) <= cost.high
    assert cost.low == cost.high or (model in TWO_FIVE and "videoUrls" in inputs)


@SOME
@given(request=odd_requests())
def test_whatever_the_vendor_refuses_the_check_refuses_at_the_same_fields(
    vendor: Vendor, request: tuple[str, Inputs]
) -> None:
    assert refused(vendor, *request) <= questioned(*request)


@SOME
@given(request=good_requests())
def test_a_request_right_by_the_tables_is_refused_for_its_combination_only(
    vendor: Vendor, request: tuple[str, Inputs]
) -> None:
    model, inputs = request
    assert refused(vendor, model, inputs) == set()
    images, others = (
        len(inputs.get("imageUrls", ())),
        len(inputs.get("videoUrls", ())) + len(inputs.get("audioUrls", ())),
    )
    audio_alone = bool(inputs.get("audioUrls")) and not images and not inputs.get("videoUrls")
    audio_alone = audio_alone and not model.startswith("wan")
    dropped = model in TWO_OH and images > 2 and not others and inputs.get("mode") != "reference"
    assert bool(check(model, inputs).problems) == (audio_alone or dropped)


# One wrong field at a time: contract 2.4, row by row.


def least(model: str) -> Inputs:
    """The least a model takes."""
    inputs: Inputs = {"prompt": "a fox"}
    for name in ("imageUrls", "videoUrls"):
        if name in required_of(model):
            inputs[name] = [f"https://media.example.com/{name}.mp4?seconds=4"]
    if "duration" in required_of(model):
        inputs["duration"] = 5
    return inputs


def corruptions(model: str) -> Iterator[tuple[str, Any]]:
    """Field and value which the contract says the vendor refuses; LEFT_OUT for a field that is missing."""
    kind = KIND_OF[model]
    for name in required_of(model):
        yield name, LEFT_OUT
    yield "prompt", "x" * (kind.prompt + 1)
    yield "prompt", ["a fox"]
    for name, (low, high) in (("imageUrls", kind.images), ("videoUrls", kind.videos), ("audioUrls", kind.audios)):
        yield name, [f"https://media.example.com/{index}" for index in range(high + 1)]
        if high:
            yield name, "https://media.example.com/a.png"
            yield name, ["cat.png"]
            yield name, [None]
        if low:
            yield name, []
    if kind.mode:
        yield "mode", "auto"
    if kind.seconds:
        low, high = kind.seconds
        for value in (low - 1, high + 1, str(high + 1), low + 0.5, "long", True, [low]):
            yield "duration", value
    for resolution in {"480p", "720p", "1080p", "4k", "2k", "1280x720"} - set(kind.resolutions):
        yield "outputResolution", resolution
    if kind.ratios:
        for ratio in {*SIX, "adaptive", "5:4"} - set(kind.ratios):
            yield "aspectRatio", ratio
    yield kind.sound, "yes"
    yield kind.sound, 1
    if kind.bitrate:
        yield "bitrate_mode", "low"
    for seed in (kind.seed[0] - 1, kind.seed[1] + 1, 1.5, "1"):
        yield "seed", seed
    if kind.output_format:
        yield "output_format", "webm"
    for name in fields_of(model):
        yield name, None


@pytest.mark.parametrize("model", sorted(KIND_OF))
def test_one_wrong_field_is_refused_by_both_and_nothing_else_is(vendor: Vendor, model: str) -> None:
    assert refused(vendor, model, least(model)) == questioned(model, least(model)) == set()
    for name, value in corruptions(model):
        inputs = least(model) | {name: value}
        if model in TWO_OH and name == "imageUrls":
            inputs["mode"] = "reference"  # without it more than two images are a problem of their own
        if value is LEFT_OUT:
            del inputs[name]
        assert refused(vendor, model, inputs) == {name}, (name, value)
        assert questioned(model, inputs) == {name}, (name, value)


# What only the provider refuses, since the vendor takes it without a word and the money is gone or the task fails.

UNKNOWN_KEYS = ("aspect_ratio", "Prompt", "num_frames", "image_urls", "watermark")


@pytest.mark.parametrize("model", sorted(KIND_OF))
def test_an_unknown_key_is_ignored_by_the_vendor_and_refused_by_the_check(vendor: Vendor, model: str) -> None:
    foreign = {name for other in KIND_OF for name in fields_of(other)} - set(fields_of(model))
    for name in (*UNKNOWN_KEYS, *sorted(foreign - {"imageUrls", "videoUrls", "audioUrls"})):
        inputs = least(model) | {name: 5}
        assert refused(vendor, model, inputs) == set(), name
        assert questioned(model, inputs) == {name}


@pytest.mark.parametrize("model", sorted(TWO_OH))
@pytest.mark.parametrize("mode", [{}, {"mode": "keyframe"}], ids=["no mode", "keyframe"])
def test_images_that_would_be_dropped_are_taken_by_the_vendor_and_refused_by_the_check(
    vendor: Vendor, model: str, mode: Inputs
) -> None:
    inputs = least(model) | mode | {"imageUrls": [f"https://media.example.com/{index}.png" for index in range(3)]}
    assert refused(vendor, model, inputs) == set()
    assert questioned(model, inputs) == ({"imageUrls"} if mode else {"mode"})


@pytest.mark.parametrize("model", sorted(TWO_OH | {"seedance2-5"}))
def test_audio_alone_is_taken_by_the_vendor_fails_later_and_is_refused_by_the_check(vendor: Vendor, model: str) -> None:
    inputs = least(model) | {"audioUrls": ["https://media.example.com/a.mp3?seconds=1"]}
    status, body = vendor.create(model, inputs)
    assert status == 200
    assert vendor.record(body["taskId"])["error"]["code"] == "InvalidParameter"
    assert questioned(model, inputs) == {"audioUrls"}


@pytest.mark.parametrize("model", ["wan3.0-ref-to-video", "wan3.0-prime-ref-to-video"])
def test_wan_makes_a_video_of_audio_alone(vendor: Vendor, model: str) -> None:
    inputs = least(model) | {"audioUrls": ["https://media.example.com/a.mp3?seconds=1"]}
    status, body = vendor.create(model, inputs)
    assert status == 200
    assert vendor.record(body["taskId"])["status"] == "success"
    assert questioned(model, inputs) == set()


def test_a_string_of_seconds_that_is_no_documented_form_is_refused_by_the_check_alone(vendor: Vendor) -> None:
    # Older callers were seen to send "5s" (conflict 5).
    inputs = least("seedance2.0-mini") | {"duration": "5s"}
    assert refused(vendor, "seedance2.0-mini", inputs) == set()
    assert questioned("seedance2.0-mini", inputs) == {"duration"}


def test_a_whole_number_is_one_to_both_however_it_is_written(vendor: Vendor) -> None:
    inputs = least("seedance-20") | {"duration": 5.0, "seed": 7.0}
    assert refused(vendor, "seedance-20", inputs) == questioned("seedance-20", inputs) == set()


# Images: the vendor's READMEs. The check may be stricter, never laxer.

IMAGE_VALUES: dict[str, tuple[Any, ...]] = {
    "prompt": ("a fox", "", None, 5),
    "uploadedUrls": (
        *([f"https://media.example.com/{n}.png" for n in range(count)] for count in (0, 1, 2, 9, 10, 11, 16, 17)),
        *(["cat.png"], "https://media.example.com/a.png", None),
    ),
    "aspectRatio": (*SIX, "auto", "3:2", "4:5", "7:5", None),
    "resolution": ("1k", "2k", "4k", "8k", "720p", None, 1),
    "quality": ("low", "medium", "high", "xhigh", "max", "auto", "best", 0.25, 0.5, 1, 2, None),
    "outputFormat": ("png", "jpeg", "webp"),
    "background": ("auto", "opaque", "transparent", "red"),
    "outputCompression": (0, 100, 101, "80"),
    "stylize": (0, 1000, 1001, "5"),
    "chaos": (0, 100, 101),
    "weird": (0, 3000, 3001),
    "style": ("raw", "soft"),
    "no": ("text", 5),
    "seed": (0, 4294967295, 4294967296),
    "autoFix": (True, "yes"),
}


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_of_an_image_model_whatever_the_vendor_refuses_the_check_refuses_too(vendor: Vendor, model: str) -> None:
    row = lookup(model)
    assert row
    for name, values in IMAGE_VALUES.items():
        for value in values if name in row.fields else ():
            inputs = {"prompt": "a fox", name: value}
            assert refused(vendor, model, inputs) <= questioned(model, inputs), (name, value)


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_an_image_is_charged_as_estimated(vendor: Vendor, model: str) -> None:
    row = lookup(model)
    assert row
    for size in row.price.rates:
        inputs = {"prompt": "a fox"} | dict(zip(row.price.fields, size.split(), strict=False))
        status, body = vendor.create(model, inputs)
        assert status == 200, body
        record = vendor.record(body["taskId"])
        cost = estimate(model, inputs)
        assert cost
        assert cost.low <= Decimal(str(record["creditsUsed"])) <= cost.high
        assert len(record["output"]) == row.outputs
