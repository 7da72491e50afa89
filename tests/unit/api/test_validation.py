"""The input check against the contract's text. The tables here are written from it, not from the module."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import json
import pathlib
import re
import subprocess
import sys
from collections import UserDict, UserList, deque
from collections.abc import Sequence
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_provider.api.catalog import KNOWN, LEGACY_FIELDS
from seedance_provider.api.validation import MEDIA_FIELDS, Report, check, describe, normalise, unsendable

ROOT = pathlib.Path(__file__).parents[3]
U = "https://media.example.com/a.png"
SEED_EXAMPLE = {"prompt": "A sunset over the ocean", "resolution": "1280x720", "duration": "5s"}

TRIO = ["seedance-20", "seedance2-fast", "seedance2.0-mini"]
FAMILY_25 = ["seedance2-5", "seedance2-5-edit", "seedance2-5-extend"]
WAN_TEXT = ["wan3.0-text-to-video", "wan3.0-prime-text-to-video"]
WAN_IMAGE = ["wan3.0-image-to-video", "wan3.0-prime-image-to-video"]
WAN_REF = ["wan3.0-ref-to-video", "wan3.0-prime-ref-to-video"]
WAN = WAN_TEXT + WAN_IMAGE + WAN_REF
OLD = ["seedance-20", "seedance2.0-pro", "seedance2-fast", "seedance2.0-fast"]
VIDEO = [*TRIO, "seedance2.0-pro", "seedance2.0-fast", *FAMILY_25, *WAN]
GPT_2_5 = ["gpt-image-2.5-sunburst", "gpt-image-2.5-flare"]
MIDJOURNEY = ["midjourney-v8", "midjourney-v7", "midjourney-v7-niji"]
IMAGE = ["gpt-image-2", *GPT_2_5, "seedream-5.0-pro", "nanobanana-pro", "nanobanana2", *MIDJOURNEY]
ALL = VIDEO + IMAGE


def least(model: str) -> dict[str, object]:
    """The least a model accepts without a warning about money."""
    inputs: dict[str, object] = {"prompt": "a cat"}
    if model.endswith(("-edit", "-extend")):
        inputs["videoUrls"] = [U]
    if model.endswith("-extend"):
        inputs["duration"] = 5
    if "image-to-video" in model or "ref-to-video" in model:
        inputs["imageUrls"] = [U]
    return inputs


def paths(model: str, inputs: object, **how: bool) -> list[str]:
    return [problem.path for problem in check(model, inputs, **how).problems]


def only_warning(model: str, inputs: object) -> str:
    (warning,) = check(model, inputs).warnings
    return warning


def test_the_example_of_the_seed_document_is_accepted_and_the_ignored_name_is_said():
    before = copy.deepcopy(SEED_EXAMPLE)
    report = check("seedance-20", SEED_EXAMPLE)
    assert report.problems == ()
    assert before == SEED_EXAMPLE
    size, length = report.warnings
    assert size.startswith("resolution = '1280x720'")
    assert 'outputResolution: "720p", aspectRatio: "16:9"' in size
    assert length.startswith("duration = '5s'")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://cdn.example/c.png?sig=SECRET", "'https://cdn.example/c.png?...'"),
        ("https://user:hunter2@cdn.example/c.png", "'https://...@cdn.example/c.png'"),
        ("//user:hunter2@cdn.example/c.png", "'//...@cdn.example/c.png'"),
        ("https://cdn.example/c.png#SECRET", "'https://cdn.example/c.png#...'"),
        ("see https://a:b@c.example/x?y=z and more", "'see https://...@c.example/x?... and more'"),
    ],
)
def test_a_refused_url_is_shown_without_credentials_and_signature(url, shown):
    (problem,) = check("seedance-20", least("seedance-20") | {"imageUrls": url}).problems
    assert problem.value == shown


@pytest.mark.parametrize("model", ALL)
def test_the_least_request_of_a_model_has_nothing_to_say(model):
    assert check(model, least(model)) == ((), ())


# Model ids, field, accepted values, refused values: contract 2.4 and 2.3.
CASES = [
    (TRIO, "prompt", ["x", "None of us", "x" * 10_000], ["", " \n", "None", "x" * 10_001, None, 5, ["x"]]),
    (FAMILY_25, "prompt", ["x" * 30_000], ["x" * 30_001]),
    (WAN, "prompt", ["x" * 20_000], ["x" * 20_001]),
    (TRIO, "imageUrls", [[], [U], [U, U], (U,)], [U, {U}, {U: U}, None]),
    (FAMILY_25, "imageUrls", [[], [U] * 30], [[U] * 31]),
    (WAN_IMAGE, "imageUrls", [[U], [U, U]], [[], [U, U, U]]),
    (WAN_REF, "imageUrls", [[U] * 10], [[U] * 11]),
    (TRIO, "videoUrls", [[], [U] * 3], [[U] * 4]),
    (["seedance2-5"], "videoUrls", [[], [U] * 10], [[U] * 11]),
    (FAMILY_25[1:], "videoUrls", [[U], [U] * 10], [[], [U] * 11]),
    (WAN_REF, "videoUrls", [[], [U] * 5], [[U] * 6]),
    (WAN_REF, "audioUrls", [[], [U] * 5], [[U] * 6]),
    (FAMILY_25[1:], "audioUrls", [[], [U] * 10], [[U] * 11]),
    ([*TRIO, "seedance2-5"], "mode", ["keyframe", "reference"], ["Keyframe", "both", "", None, True, ["keyframe"]]),
    (
        TRIO,
        "duration",
        [4, 15, "4", "15"],
        [3, 16, "3", "16", 5.5, True, "5.0", "five", "", "s", "05", " 5", "5 s", "\N{ARABIC-INDIC DIGIT FIVE}"],
    ),
    (OLD, "duration", ["4s", "5s", "15s"], ["3s", "16s", "5ss", "5S"]),
    (["seedance2.0-mini", *FAMILY_25[::2], *WAN], "duration", [5], ["5s"]),
    (["seedance2-5", "seedance2-5-extend"], "duration", [4, 30, "30"], [3, 31, "31", None, float("nan"), 10**5000]),
    (WAN, "duration", [2, 30], [1, 31, -5]),
    (["seedance-20", "seedance2.0-pro"], "outputResolution", ["480p", "720p", "1080p", "4k"], ["2k", "720", 720]),
    (TRIO[1:], "outputResolution", ["480p", "720p"], ["1080p", "4k", "2k", "1280x720"]),
    ([*FAMILY_25, *WAN], "outputResolution", ["480p", "720p", "1080p"], ["4k", "2k", "720P", None]),
    ([*TRIO, "seedance2-5"], "aspectRatio", ["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"], ["5:4", "adaptive"]),
    (WAN_TEXT + WAN_REF, "aspectRatio", ["16:9", "9:16", "4:3", "3:4", "1:1"], ["21:9", "adaptive"]),
    (WAN_IMAGE, "aspectRatio", ["16:9", "adaptive"], ["21:9"]),
    (TRIO + FAMILY_25, "generate_audio", [True, False], ["yes", "true", 1, 0, None]),
    (WAN, "audio", [True, False], ["no", 1, None]),
    (TRIO + FAMILY_25, "bitrate_mode", ["high"], ["low", "", None, True]),
    (TRIO + FAMILY_25, "seed", [0, -1, 4294967295], [-2, 4294967296, "1", 1.5, True, None]),
    (WAN, "seed", [0, 2147483647], [-1, 2147483648]),
    (FAMILY_25, "output_format", ["mp4", "mov"], ["webm", "MP4", None]),
    (OLD, "resolution", ["1280x720", "720x720", "720x960", "960x720", "720x1280", "1920x1080"], ["1x1", "720p", None]),
    (OLD, "ratio", ["16:9", "21:9"], ["5:4"]),
    (OLD, "urls", [[U], (U, U)], [U, [], [""]]),
    (OLD, "imageUrl", [U], [[U], "", "cat.png"]),
    (OLD, "upscaleResolution", ["4k"], ["8k"]),
    (IMAGE[:6], "prompt", ["x" * 10_000], ["", None, 5]),
    (["seedream-5.0-pro"], "prompt", [], ["x" * 10_001]),
    (MIDJOURNEY, "prompt", ["x" * 6_000], ["x" * 6_001]),
    (["gpt-image-2", "seedream-5.0-pro"], "uploadedUrls", [[], [U] * 10], [[U] * 11, U, ["cat.png"]]),
    (GPT_2_5, "uploadedUrls", [[U] * 16], [[U] * 17]),
    (["nanobanana-pro", "nanobanana2"], "uploadedUrls", [[U] * 9], [[U] * 10]),
    (MIDJOURNEY, "uploadedUrls", [[U]], [[U, U]]),
    (["gpt-image-2", *GPT_2_5, "nanobanana-pro"], "resolution", ["1k", "2k", "4k"], ["720p", "1K", 1]),
    (["seedream-5.0-pro"], "resolution", ["1k", "2k"], ["4k"]),
    (["nanobanana2"], "resolution", ["2k", "4k"], ["1k"]),
    (["gpt-image-2"], "quality", ["low", "medium", "high"], ["max", "auto", 1]),
    (GPT_2_5, "quality", ["low", "xhigh", "max", "auto"], ["best"]),
    (MIDJOURNEY, "quality", [0.25, 0.5, 1, 1.0, decimal.Decimal("0.25")], [2, "1", True, 0.3]),
    (MIDJOURNEY, "aspectRatio", ["1:1", "5:4", "21:9"], ["1:2", "auto"]),
    (MIDJOURNEY, "autoFix", [True, False], ["yes"]),
    (MIDJOURNEY, "stylize", [0, 1000], [1001, -1, "5"]),
    (GPT_2_5, "outputCompression", [0, 100], [101]),
]


GOOD = [(model, field, value) for models, field, good, _ in CASES for model in models for value in good]
BAD = [(model, field, value) for models, field, _, bad in CASES for model in models for value in bad]


@pytest.mark.parametrize(("model", "field", "value"), GOOD, ids=[f"{m}-{f}-{n}" for n, (m, f, _) in enumerate(GOOD)])
def test_a_documented_value_is_accepted(model, field, value):
    assert check(model, least(model) | {field: value}).problems == ()


@pytest.mark.parametrize(("model", "field", "value"), BAD, ids=[f"{m}-{f}-{n}" for n, (m, f, _) in enumerate(BAD)])
def test_any_other_value_is_a_problem_of_that_field_alone(model, field, value):
    (problem,) = check(model, least(model) | {field: value}).problems
    assert problem.path.partition("[")[0] == field
    line = str(problem)
    assert "\n" not in line
    assert line.startswith(f"{problem.path} = {problem.value}: {problem.message}")
    assert line.endswith(problem.fix)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        *((model, "prompt") for model in ALL),
        ("seedance2-5-edit", "videoUrls"),
        ("seedance2-5-extend", "videoUrls"),
        ("seedance2-5-extend", "duration"),
        *((model, "imageUrls") for model in WAN_IMAGE),
    ],
)
def test_a_required_field_left_out_is_a_problem(model, field):
    inputs = least(model)
    del inputs[field]
    (problem,) = check(model, inputs).problems
    assert (problem.path, problem.value) == (field, "(missing)")


@pytest.mark.parametrize(
    ("model", "key", "advised"),
    [
        ("seedance-20", "aspect_ratio", "did you mean aspectRatio?"),
        ("seedance-20", "imageURLs", "did you mean imageUrls?"),
        ("seedance-20", "images", "did you mean imageUrls?"),
        ("seedance-20", "generateAudio", "did you mean generate_audio?"),
        ("seedance-20", "audio", "did you mean generate_audio?"),
        ("seedance-20", "uploadedUrls", "did you mean imageUrls?"),
        ("seedance-20", "output_format", "remove it"),
        ("seedance-20", "negative", "the fields are prompt, imageUrls"),
        ("seedance-20", "model", "argument model"),
        ("seedance-20", "callBackUrl", "argument callback_url"),
        ("seedance-20", "line\nbreak " + "x" * 5000, "the fields are"),
        ("seedance2-5", "resolution", "did you mean outputResolution?"),
        ("seedance2.0-mini", "urls", "did you mean imageUrls?"),
        ("seedance2-5-edit", "mode", "remove it"),
        ("seedance2-5-edit", "duration", "remove it"),
        ("seedance2-5-edit", "aspectRatio", "remove it"),
        ("seedance2-5-extend", "mode", "remove it"),
        ("seedance2-5-extend", "aspectRatio", "remove it"),
        ("wan3.0-text-to-video", "generate_audio", "did you mean audio?"),
        ("wan3.0-text-to-video", "imageUrls", "remove it"),
        ("wan3.0-image-to-video", "videoUrls", "remove it"),
        ("wan3.0-ref-to-video", "bitrate_mode", "remove it"),
        ("midjourney-v8", "callBackUrl", "argument callback_url"),
    ],
)
def test_a_key_that_the_model_lacks_is_a_problem_which_says_what_to_write(model, key, advised):
    (problem,) = check(model, least(model) | {key: "x"}).problems
    assert advised in problem.fix
    assert "\n" not in str(problem)


@pytest.mark.parametrize("model", VIDEO)
def test_only_where_the_vendor_says_so_an_unknown_key_is_certainly_ignored(model):
    (problem,) = check(model, least(model) | {"negative": "x"}).problems
    assert ("probably" in problem.message) == (model.startswith(("seedance2-5", "wan")))


@pytest.mark.parametrize(
    ("model", "key", "value", "advised"),
    [
        ("gpt-image-2", "imageUrls", [U], "did you mean uploadedUrls?"),
        ("seedream-5.0-pro", "outputResolution", "1k", "did you mean resolution?"),
        ("midjourney-v7", "sharpness", True, "the fields are prompt"),
    ],
)
def test_an_unknown_key_of_an_image_model_is_only_a_warning(model, key, value, advised):
    report = check(model, least(model) | {key: value})
    assert report.problems == ()
    (line,) = report.warnings
    assert line.startswith(f"{key} = ")
    assert advised in line
    assert paths(model, least(model) | {key: float("nan")}) == [key]


@pytest.mark.parametrize(
    ("model", "more", "path"),
    [
        ("seedance-20", {"audioUrls": [U]}, "audioUrls"),
        ("seedance2-5", {"audioUrls": [U], "imageUrls": []}, "audioUrls"),
        ("seedance-20", {"imageUrls": [U] * 3}, "mode"),
        ("seedance2.0-mini", {"imageUrls": [U] * 9}, "mode"),
        ("seedance2.0-fast", {"imageUrls": [U] * 3, "mode": "keyframe"}, "imageUrls"),
    ],
)
def test_a_combination_that_makes_no_video_or_the_wrong_one_is_a_problem(model, more, path):
    assert paths(model, least(model) | more) == [path]


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("seedance-20", {"imageUrls": [U] * 3, "mode": "reference"}),
        ("seedance-20", {"imageUrls": [U] * 3, "videoUrls": [U]}),
        ("seedance-20", {"imageUrls": [U] * 3, "audioUrls": [U]}),
        ("seedance-20", {"imageUrls": [U] * 2, "mode": "keyframe"}),
        ("seedance-20", {"imageUrls": [U], "audioUrls": [U]}),
        ("seedance-20", {"videoUrls": [U], "audioUrls": [U]}),
        ("seedance2-5", {"imageUrls": [U] * 3}),
        ("seedance2-5-edit", {"audioUrls": [U]}),
        ("seedance-20", {"audioUrls": []}),
        ("wan3.0-ref-to-video", {"audioUrls": [U], "imageUrls": []}),
        ("wan3.0-prime-ref-to-video", {"audioUrls": [U], "imageUrls": []}),
    ],
)
def test_a_combination_that_works_has_nothing_to_say(model, more):
    assert check(model, least(model) | more) == ((), ())


@pytest.mark.parametrize(
    ("model", "inputs", "named"),
    [
        ("seedance-20", {"videoUrls": [U], "mode": "keyframe"}, '"reference"'),
        ("seedance2-5", {"audioUrls": [U], "imageUrls": [U] * 3, "mode": "keyframe"}, '"reference"'),
        ("seedance2-5", {"imageUrls": [U] * 3, "mode": "keyframe"}, "3 images"),
        ("wan3.0-ref-to-video", {"imageUrls": []}, "wan3.0-ref-to-video"),
    ],
)
def test_what_the_vendor_accepts_but_may_surprise_is_one_line_in_the_log(model, inputs, named):
    report = check(model, least(model) | inputs)
    assert report.problems == ()
    (line,) = report.warnings
    assert named in line


@pytest.mark.parametrize(
    ("inputs", "instead"),
    [
        ({"urls": [U]}, "imageUrls, videoUrls or audioUrls"),
        ({"resolution": "960x720"}, 'outputResolution: "720p", aspectRatio: "4:3"'),
        ({"ratio": "1:1"}, "aspectRatio"),
        ({"imageUrl": U}, "imageUrls: [...]"),
        ({"upscaleResolution": "4k"}, "outputResolution"),
        ({"resolution": "720p"}, 'outputResolution: "720p"'),
        ({"resolution": "1x1"}, 'outputResolution: "480p", "720p", "1080p" or "4k"'),
        ({"duration": "5s"}, "integer"),
    ],
)
def test_a_name_of_an_earlier_api_version_is_one_warning_with_what_the_current_one_reads(inputs, instead):
    warning = only_warning("seedance-20", {"prompt": "x"} | inputs)
    assert warning.startswith(next(iter(inputs)))
    assert instead in warning
    assert re.search(r"\bAPI v[12]\b", warning)


def test_an_old_size_above_what_the_model_has_now_is_told_the_largest():
    warning = only_warning("seedance2-fast", {"prompt": "x", "resolution": "1920x1080"})
    assert 'outputResolution: "720p"' in warning


def test_an_old_name_with_a_value_no_version_knew_is_a_problem_which_names_the_current_field():
    (problem,) = check("seedance-20", {"prompt": "x", "resolution": "1x1"}).problems
    assert problem.path == "resolution"
    assert "outputResolution" in problem.fix


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("seedance-2.0", "seedance-20"),
        ("seedance-2-fast", "seedance2-fast"),
        ("seedance2-mini", "seedance2.0-mini"),
        ("Seedance-20 ", "seedance-20"),
        ("wan3.0-text2video", "wan3.0-text-to-video"),
        ("gpt-image2", "gpt-image-2"),
        ("midjourney-v9", "midjourney-v8"),
        ("suno-music", None),
        ("wan22-video-generation", None),
        ("x" * 100_000, None),
    ],
)
def test_an_unknown_model_is_passed_through_with_one_line(model, near):
    report = check(model, {"anything": [1, 2.5, None, {"a": True}]})
    assert report.problems == ()
    (line,) = report.warnings
    assert (f'did you mean "{near}"?' in line) if near else ("did you mean" not in line)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), "x"),
        ([1, float("-inf")], "x[1]"),
        ({"a": [b"bytes"]}, "x.a[0]"),
        ({1}, "x"),
        (decimal.Decimal("NaN"), "x"),
        (decimal.Decimal("sNaN"), "x"),
        (decimal.Decimal("-Infinity"), "x"),
        (decimal.Decimal("1E+1000000"), "x"),
        ({"at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}, "x.at"),
        ({1: 2}, "x.1"),
        pytest.param(10**5000, "x", id="huge"),
        (object(), "x"),
    ],
)
def test_what_json_cannot_carry_is_a_problem_even_for_an_unknown_model(value, path):
    assert paths("some-model", {"x": value}) == [path]
    assert [problem.path for problem in unsendable({"x": value})] == [path]
    with pytest.raises((TypeError, ValueError)):
        json.dumps(normalise({"x": value}) if path != "x.1" else {object(): 1}, allow_nan=False)


def test_a_cycle_a_deep_nest_and_a_wide_share_all_end():
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    wide: list[object] = [1]
    for _ in range(45):
        wide = [wide, wide]
    (path,) = paths("some-model", {"x": cycle})
    assert path.startswith("x[0]")
    assert len(paths("some-model", {"x": deep})) == 1
    assert paths("some-model", {"x": wide}) == []


@pytest.mark.parametrize(
    "url",
    ["", " ", "cat.png", "/tmp/cat.png", "s3://bucket/key", "ftp://h/a", "data:image/png;base64,AA", "https://",
     "http:///a.png", "https://?a", "https://h/a b.png", "https://h/a\n", " https://h/a", 5, None, [U], b"https://h",
     "https://h:99999/a", "https://h:0/a", "https://h:port/a", "https://:80/a", "https://::1/a", "https://[::1"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["imageUrls", "videoUrls", "audioUrls"])
def test_each_item_that_is_no_web_address_is_named_by_its_place(field, url):
    inputs = least("seedance-20") | {"imageUrls": [U], field: [U, url]}
    assert paths("seedance-20", inputs) == [f"{field}[1]"]


def test_a_web_address_may_be_http_upper_case_and_signed():
    urls = ["http://h/a", "HTTPS://H/a.png", "https://h:8443/a?X-Amz-Signature=00&b=c#d", "https://[2001:db8::1]:80/a"]
    assert check("seedance2-5", {"prompt": "x", "imageUrls": urls}).problems == ()


def test_local_media_is_accepted_only_where_it_is_uploaded():
    local = ["/data/cat.png", "s3://bucket/cat.png", pathlib.PurePosixPath("cat.png"), U]
    inputs = least("seedance2-5") | {"imageUrls": local}
    assert check("seedance2-5", inputs, allow_local_media=True).problems == ()
    assert paths("seedance2-5", inputs) == ["imageUrls[0]", "imageUrls[1]", "imageUrls[2]"]
    bad = least("seedance2-5") | {"imageUrls": ["", " ", "http://", 5]}
    assert len(paths("seedance2-5", bad, allow_local_media=True)) == 4
    assert paths("gpt-image-2", {"prompt": "x", "uploadedUrls": local}, allow_local_media=True) == []
    assert paths("seedance-20", {"prompt": "x", "imageUrl": "cat.png"}, allow_local_media=True) == ["imageUrl"]


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("item", ["", "  "])
def test_an_empty_media_item_is_told_that_it_is_empty(item, local):
    (problem,) = check("seedance-20", least("seedance-20") | {"imageUrls": [item]}, allow_local_media=local).problems
    assert problem.path == "imageUrls[0]"
    assert "empty" in problem.message
    assert "upload_media" not in str(problem)
    assert ("path" in problem.fix) == local


def test_all_problems_of_a_request_are_reported_together():
    inputs = {"imageUrls": [U] * 10 + [5], "aspect_ratio": "1:1", "duration": 60, "generate_audio": "yes", 1: 2}
    assert paths("seedance2.0-mini", inputs) == [
        "imageUrls", "aspect_ratio", "duration", "generate_audio", "1", "prompt", "mode",
    ]  # fmt: skip


def test_problems_are_described_as_sentences():
    report = check("seedance-20", {"prompt": "x", "aspect_ratio": "1:1", "duration": 60})
    text = describe(report.problems)
    assert "did you mean aspectRatio? duration = 60: " in text
    assert text.endswith(".")
    assert "?." not in text
    assert ".." not in text


# What is no plain JSON but means the same.


class Lazy(Sequence):
    """As a mapped upstream's XComs: a sequence that is no list, and read item by item."""

    def __init__(self, *items):
        self.items, self.reads = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads += 1
        return self.items[index]


class Size(enum.Enum):
    SMALL = "480p"


class SizeName(enum.StrEnum):
    SMALL = "480p"


class Seconds(enum.IntEnum):
    TEN = 10


class Shout(str):
    __slots__ = ()

    def __str__(self):
        return "not this"


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("imageUrls", Lazy(U, U), [U, U]),
        ("imageUrls", (U,), [U]),
        ("imageUrls", UserList([U]), [U]),
        ("imageUrls", deque([U]), [U]),
        ("imageUrls", [Shout(U)], [U]),
        ("duration", 5.0, 5),
        ("duration", decimal.Decimal("5.0"), 5),
        ("duration", Seconds.TEN, 10),
        ("seed", 4294967295.0, 4294967295),
        ("outputResolution", SizeName.SMALL, "480p"),
        ("prompt", Shout("a fox"), "a fox"),
    ],
)
def test_what_means_the_same_is_accepted_and_sent_as_plain_json(field, value, sent):
    inputs = least("seedance-20") | {field: value}
    assert check("seedance-20", inputs) == ((), ())
    plain = normalise(inputs)
    assert plain == least("seedance-20") | {field: sent}
    assert type(plain[field]) is type(sent)
    assert json.loads(json.dumps(plain)) == plain
    assert inputs[field] is value


class Array:
    """As those of NumPy: neither a sequence nor a number, but it tells what it holds."""

    def __init__(self, value):
        self.tolist = lambda: value

    tolist = None


def test_what_tells_what_it_holds_is_sent_as_that():
    inputs = least("seedance-20") | {"imageUrls": Array([U, Array(U)]), "duration": Array(5)}
    assert normalise(inputs) == least("seedance-20") | {"imageUrls": [U, U], "duration": 5}


def test_values_of_numpy_and_pandas_are_sent_as_what_they_hold():
    numpy = pytest.importorskip("numpy")
    inputs = {
        "prompt": numpy.str_("a fox"),
        "imageUrls": numpy.array([U, U]),
        "duration": numpy.int64(5),
        "generate_audio": numpy.bool_(True),
        "seed": numpy.float64(7),
    }
    assert check("seedance-20", inputs) == ((), ())
    plain = normalise(inputs)
    assert plain == {"prompt": "a fox", "imageUrls": [U, U], "duration": 5, "generate_audio": True, "seed": 7}
    assert [type(value) for value in plain.values()] == [str, list, int, bool, int]
    assert paths("seedance-20", inputs | {"seed": numpy.float64("nan")}) == ["seed"]


def test_inputs_may_be_any_mapping_and_hold_any_of_json():
    inputs = MappingProxyType({"a": UserDict({"b": (1.0, None, [True])}), "c": 0.5, "d": 1e300, "e": {"f": Lazy()}})
    assert normalise(inputs) == {"a": {"b": [1, None, [True]]}, "c": 0.5, "d": 1e300, "e": {"f": []}}
    assert check("some-model", inputs).problems == ()
    assert check("seedance-20", UserDict(least("seedance-20"))) == Report()


@pytest.mark.parametrize("value", [{U}, frozenset({U}), {U: U}, {U: U}.values(), iter([U]), b"x", memoryview(b"x"), U])
def test_what_has_no_order_or_is_read_only_once_is_no_list(value):
    assert paths("seedance2-5", least("seedance2-5") | {"imageUrls": value}) == ["imageUrls"]


@pytest.mark.parametrize("value", [Size.SMALL, object(), ["480p"]])
def test_what_only_looks_like_a_choice_is_a_problem(value):
    assert paths("seedance-20", least("seedance-20") | {"outputResolution": value}) == ["outputResolution"]


def test_a_lazy_sequence_that_was_normalised_is_not_read_again():
    images = Lazy(U, U)
    plain = normalise(least("seedance-20") | {"imageUrls": images})
    reads = images.reads
    check("seedance-20", plain)
    assert images.reads == reads


def test_what_reading_a_lazy_sequence_raises_is_no_problem_of_the_inputs():
    class Unreachable(Lazy):
        def __getitem__(self, index):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        check("seedance-20", least("seedance-20") | {"imageUrls": Unreachable(U)})


def test_paths_stay_for_the_upload():
    path = pathlib.PurePosixPath("cat.png")
    assert normalise({"imageUrls": (path, U)}) == {"imageUrls": [path, U]}


class Xcom:
    """As hostile as an XComArg: nothing but its type may be asked for."""

    def refuse(self, *_: object) -> bool:
        raise AssertionError

    __bool__ = __eq__ = __hash__ = __len__ = __iter__ = __repr__ = __str__ = refuse


@pytest.mark.parametrize("later", ["{{ params.x }}", "{% if a %}b{% endif %}", "{# c #}", Xcom(), print])
def test_what_a_run_will_fill_in_is_not_judged_when_the_dag_is_parsed(later):
    for model in ALL:
        for field in KNOWN[model].fields:
            inputs = least(model) | {field: later}
            assert check(model, inputs, partial=True).problems == ()
        for field in set(MEDIA_FIELDS) & set(KNOWN[model].fields):
            images = {"imageUrls": [U]} if "imageUrls" in KNOWN[model].fields else {}
            assert check(model, least(model) | images | {field: [later]}, partial=True).problems == ()
    assert check("seedance-20", later, partial=True) == ((), ())
    assert check(later, {}, partial=True) == ((), ())
    assert paths("seedance-20", {"promt": later}, partial=True) == ["promt", "prompt"]


def test_a_field_that_a_run_fills_in_counts_as_given_and_proves_nothing():
    def report(model: str, **more: object):
        return check(model, {"prompt": "x", **more}, partial=True)

    assert report("seedance2-5-extend", duration="{{ d }}", videoUrls=Xcom()) == ((), ())
    assert report("seedance-20", imageUrls=[U] * 3, mode="{{ m }}") == ((), ())
    assert report("seedance-20", imageUrls=[U] * 3, videoUrls="{{ v }}") == ((), ())
    assert report("seedance-20", audioUrls=[U], imageUrls="{{ i }}") == ((), ())
    assert report("seedance-20", audioUrls="{{ a }}") == ((), ())
    assert report("seedance-20", duration="{{ d }}s") == ((), ())
    assert [p.path for p in report("seedance-20", imageUrls=["{{ a }}"] * 3).problems] == ["mode"]


@pytest.mark.parametrize("model", ["seedance-20", "some-new-model"])
def test_lines_for_the_log_wait_for_the_run(model: str):
    inputs = {"prompt": "x", "ratio": "1:1"}
    assert check(model, inputs).warnings
    assert check(model, inputs, partial=True) == ((), ())


@pytest.mark.parametrize("value", [{U}, frozenset({U}), b"x", bytearray(b"x"), 1j, float("nan")])
def test_a_literal_that_no_rendering_can_mend_is_judged_when_the_dag_is_parsed(value):
    assert paths("seedance2-5", least("seedance2-5") | {"imageUrls": value}, partial=True) == ["imageUrls"]


def test_inputs_from_a_template_file_wait_for_the_run():
    assert check("seedance-20", "inputs.json", partial=True) == ((), ())
    assert paths("seedance-20", "inputs.json") == ["inputs"]


@pytest.mark.parametrize("model", [None, 5, "", " ", ["seedance-20"]])
def test_a_model_that_is_no_string_is_a_problem(model):
    assert paths(model, {}) == ["model"]


def test_a_long_value_is_cut_and_an_object_is_not_asked_what_it_holds():
    for value in ["x" * 10**6, "\n" * 10**6, 10**5000, Xcom(), [Xcom()] * 3]:
        (problem,) = check("seedance2-5", least("seedance2-5") | {"mode": value}).problems
        assert len(problem.value) <= 60


# Valid requests, from the contract's text.

IMAGES = st.lists(st.just(U), max_size=2)
RATIO_6 = st.sampled_from(["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"])
RATIO_5 = st.sampled_from(["16:9", "9:16", "1:1", "4:3", "3:4"])
P720 = st.sampled_from(["480p", "720p"])
P1080 = st.sampled_from(["480p", "720p", "1080p"])


def text(high: int):
    return st.text(min_size=1, max_size=50).filter(str.strip).map(lambda t: (t * (high // len(t)))[:high] or t)


def urls(low: int, high: int):
    return st.lists(st.sampled_from([U, "http://h/v?a=b"]), min_size=low, max_size=high)


def seedance(prompt: int, seconds: int, sizes, **more):
    common = {
        "duration": st.integers(4, seconds),
        "outputResolution": sizes,
        "aspectRatio": RATIO_6,
        "generate_audio": st.booleans(),
        "bitrate_mode": st.just("high"),
        "seed": st.integers(-1, 4294967295),
    }
    required = {"prompt": text(prompt)} | more.pop("required", {})
    lacks = more.pop("lacks", ())
    optional = {k: v for k, v in (common | more).items() if k not in required and k not in lacks}
    return st.fixed_dictionaries(required, optional=optional)


def wan(required=None, **more):
    optional = {
        "duration": st.integers(2, 30),
        "outputResolution": P1080,
        "aspectRatio": RATIO_5,
        "audio": st.booleans(),
        "seed": st.integers(0, 2147483647),
    }
    return st.fixed_dictionaries({"prompt": text(20_000)} | (required or {}), optional=optional | more)


MODE = st.sampled_from(["keyframe", "reference"])
MP4 = st.sampled_from(["mp4", "mov"])
FULL_P = st.sampled_from(["480p", "720p", "1080p", "4k"])
TRIO_MEDIA = {"imageUrls": urls(0, 9), "videoUrls": urls(0, 3), "audioUrls": urls(0, 3), "mode": MODE}
MEDIA_25 = {"imageUrls": urls(0, 30), "videoUrls": urls(0, 10), "audioUrls": urls(0, 10), "output_format": MP4}
REF = {"imageUrls": urls(0, 10), "videoUrls": urls(0, 5), "audioUrls": urls(0, 5)}
CLIP = {"videoUrls": urls(1, 10)}


def not_wasteful(inputs: dict) -> bool:
    images, videos, audio = (len(inputs.get(name, ())) for name in ("imageUrls", "videoUrls", "audioUrls"))
    return not (audio and not images and not videos)


def not_dropping(inputs: dict) -> bool:
    forced = inputs.get("videoUrls") or inputs.get("audioUrls")
    return bool(forced or len(inputs.get("imageUrls", ())) < 3 or inputs.get("mode") == "reference")


TRIO_VALID = {
    model: seedance(10_000, 15, sizes, **TRIO_MEDIA).filter(not_wasteful).filter(not_dropping)
    for model, sizes in [("seedance-20", FULL_P), ("seedance2-fast", P720), ("seedance2.0-mini", P720)]
}
VALID = {
    **TRIO_VALID,
    "seedance2.0-pro": TRIO_VALID["seedance-20"],
    "seedance2.0-fast": TRIO_VALID["seedance2-fast"],
    "seedance2-5": seedance(30_000, 30, P1080, mode=MODE, **MEDIA_25).filter(not_wasteful),
    "seedance2-5-edit": seedance(30_000, 30, P1080, required=CLIP, lacks=("duration", "aspectRatio"), **MEDIA_25),
    "seedance2-5-extend": seedance(
        30_000, 30, P1080, required=CLIP | {"duration": st.integers(4, 30)}, lacks=("aspectRatio",), **MEDIA_25
    ),
    **{model: wan() for model in WAN_TEXT},
    **{model: wan({"imageUrls": urls(1, 2)}, aspectRatio=RATIO_5 | st.just("adaptive")) for model in WAN_IMAGE},
    **{model: wan(**REF) for model in WAN_REF},
}
ANY_VALID = st.sampled_from(sorted(VALID)).flatmap(lambda model: st.tuples(st.just(model), VALID[model]))


@settings(deadline=None, max_examples=200)
@given(ANY_VALID)
def test_whatever_the_contract_allows_is_accepted_and_left_as_it_is(case):
    model, inputs = case
    before = copy.deepcopy(inputs)
    assert check(model, inputs).problems == ()
    assert inputs == before
    assert unsendable(inputs) == ()


def wrong(value: object):
    """Values that differ from a valid one in type, so that no field accepts them."""
    return st.sampled_from([None, 1.5, {"a": 1}, {1}, b"x", float("nan"), [[value]], "\N{SNOWMAN}"])


@settings(deadline=None, max_examples=300)
@given(ANY_VALID, st.data())
def test_one_corrupted_field_is_refused_at_its_path(case, data):
    model, inputs = case
    name = data.draw(st.sampled_from(sorted(set(inputs) - {"prompt"} or {"prompt"})))
    value = data.draw(wrong(inputs[name]))
    if name == "prompt" and isinstance(value, str):
        value = ""
    found = paths(model, inputs | {name: value})
    assert any(re.split(r"\W", path)[0] == name for path in found)


@settings(deadline=None, max_examples=200)
@given(ANY_VALID, st.text(min_size=1, max_size=30))
def test_one_unknown_key_is_refused(case, key):
    model, inputs = case
    if key in KNOWN[model].fields or key in LEGACY_FIELDS:
        return
    (problem,) = check(model, inputs | {key: 1}).problems
    assert problem.value == "1"


HUGE = st.builds(pow, st.just(10), st.just(5000))
NO_JSON = st.binary() | st.decimals() | st.datetimes() | st.complex_numbers() | st.builds(Xcom)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([U, "{{ x }}"])
    | HUGE
    | NO_JSON,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted({name for row in KNOWN.values() for name in row.fields} | set(LEGACY_FIELDS)))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([*KNOWN, "seedance-2.0", ""]) | ODD,
    st.dictionaries(NAMES | st.text() | st.integers() | st.none(), ODD) | ODD,
    st.booleans(),
    st.booleans(),
)
def test_no_value_whatever_makes_the_check_raise(model, inputs, partial, local):
    report = check(model, inputs, partial=partial, allow_local_media=local)
    for line in [*map(str, report.problems), *report.warnings]:
        assert len(line.splitlines()) == 1
    if not partial and not local and not report.problems:
        json.dumps(normalise(inputs), allow_nan=False)


def test_importing_the_module_loads_nothing_heavy():
    code = (
        "import sys; import seedance_provider.api.validation; "
        "print(*sorted({'pydantic', 'airflow', 'requests', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
