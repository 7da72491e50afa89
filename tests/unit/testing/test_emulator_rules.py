from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.testing.emulator import rules
from seedance_provider.testing.emulator.prices import number, price

URL = "https://example.com/media.png"
TRIO = ("seedance-20", "seedance2.0-pro", "seedance2-fast", "seedance2.0-fast", "seedance2.0-mini")
TWO_FIVE = ("seedance2-5", "seedance2-5-edit", "seedance2-5-extend")
WAN = tuple(model for model in rules.VIDEO_MODELS if model.startswith("wan"))
LEAST: dict[str, dict[str, Any]] = {
    model: {"prompt": "a fox"}
    | ({"videoUrls": [URL]} if model in TWO_FIVE[1:] else {})
    | ({"duration": 5} if model == "seedance2-5-extend" else {})
    | ({"imageUrls": [URL]} if "image-to" in model else {})
    for model in rules.VIDEO_MODELS
}


def paths(model: str, dialect: rules.Dialect = "current", **inputs: Any) -> list[list[Any]]:
    issues = rules.check(model, LEAST[model] | inputs, dialect, strict_duration=False)
    assert all(list(issue) == ["code", "message", "path"] for issue in issues)
    return [issue["path"] for issue in issues]


def test_every_video_model_of_the_contract_has_rules() -> None:
    assert set(rules.VIDEO_MODELS) == {*TRIO, *TWO_FIVE, *WAN}
    assert len(WAN) == 6


@pytest.mark.parametrize("model", rules.VIDEO_MODELS)
def test_the_least_inputs_of_each_model_pass(model: str) -> None:
    assert paths(model) == []


@pytest.mark.parametrize("model", rules.VIDEO_MODELS)
def test_each_required_input_is_missed(model: str) -> None:
    for name in LEAST[model]:
        inputs = {key: value for key, value in LEAST[model].items() if key != name}
        issues = rules.check(model, inputs, "current", strict_duration=False)
        assert [issue["path"] for issue in issues] == [[name]]


@pytest.mark.parametrize(
    ("models", "name", "good", "bad"),
    [
        (TRIO, "prompt", ["x" * 10_000], ["x" * 10_001, "", 5, None]),
        (TWO_FIVE, "prompt", ["x" * 30_000, ""], ["x" * 30_001, 5]),
        (WAN, "prompt", ["x" * 20_000], ["x" * 20_001, ""]),
        (TRIO, "duration", [4, 15, "5", "5s", 5.0], [3, 16, "3s", "five", 5.5, True, None, 1e999]),
        (TWO_FIVE[::2], "duration", [4, 30], [3, 31]),
        (TWO_FIVE[1:2], "duration", [3, "any"], []),
        (WAN, "duration", [2, 30], [1, 31]),
        (TRIO[:2], "outputResolution", ["480p", "720p", "1080p", "4k"], ["2k", "1280x720", 720]),
        (TRIO[2:], "outputResolution", ["480p", "720p"], ["1080p", "4k"]),
        ((*TWO_FIVE, *WAN), "outputResolution", ["480p", "720p", "1080p"], ["4k"]),
        ((*TRIO, "seedance2-5"), "aspectRatio", ["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"], ["5:4", "adaptive"]),
        (WAN[::3], "aspectRatio", ["16:9", "9:16", "1:1", "4:3", "3:4"], ["21:9", "adaptive"]),
        (WAN[1::3], "aspectRatio", ["adaptive"], ["21:9"]),
        (TWO_FIVE[1:], "aspectRatio", ["5:4"], []),
        (TWO_FIVE[1:], "mode", ["edit"], []),
        ((*TRIO, *TWO_FIVE), "generate_audio", [True, False], ["yes", 1, None]),
        (WAN, "generate_audio", ["yes"], []),
        (WAN, "audio", [True], ["yes"]),
        ((*TRIO, *TWO_FIVE), "bitrate_mode", ["high"], ["low", None]),
        ((*TRIO, *TWO_FIVE), "seed", [-1, 0, 4294967295], [-2, 4294967296, "1", 1.5]),
        (WAN, "seed", [0, 2147483647], [-1, 2147483648]),
        ((*TRIO, "seedance2-5"), "mode", ["keyframe", "reference"], ["edit"]),
        (TWO_FIVE, "output_format", ["mp4", "mov"], ["webm"]),
        (TRIO, "output_format", ["webm"], []),
        (TRIO, "imageUrls", [[URL] * 9, []], [[URL] * 10, URL, [5], ["ftp://x/y"], ["not a url"], [""]]),
        (TRIO, "videoUrls", [[URL] * 3], [[URL] * 4]),
        (TRIO, "audioUrls", [[URL] * 3], [[URL] * 4]),
        (TWO_FIVE, "imageUrls", [[URL] * 30], [[URL] * 31]),
        (TWO_FIVE, "videoUrls", [[URL] * 10], [[URL] * 11]),
        (TWO_FIVE[1:], "videoUrls", [[URL]], [[]]),
        (TWO_FIVE, "audioUrls", [[URL] * 10], [[URL] * 11]),
        (WAN[::3], "imageUrls", [], [[URL]]),
        (WAN[1::3], "imageUrls", [[URL] * 2], [[], [URL] * 3]),
        (WAN[1::3], "videoUrls", [], [[URL]]),
        (WAN[2::3], "imageUrls", [[URL] * 10], [[URL] * 11]),
        (WAN[2::3], "videoUrls", [[URL] * 5], [[URL] * 6]),
        (WAN[2::3], "audioUrls", [[URL] * 5], [[URL] * 6]),
    ],
)
def test_ranges_types_and_counts_are_the_vendors(models: tuple[str, ...], name: str, good: Any, bad: Any) -> None:
    for model in models:
        for value in good:
            assert paths(model, **{name: value}) == [], (model, value)
        for value in bad:
            assert [path[0] for path in paths(model, **{name: value})] == [name], (model, value)


def test_an_extension_without_a_duration_is_told_its_range() -> None:
    (issue,) = rules.check("seedance2-5-extend", {"prompt": "a", "videoUrls": [URL]}, "current", strict_duration=True)
    assert issue == {"code": "custom", "message": "Duration must be between 4 and 30 seconds", "path": ["duration"]}


def test_zod_texts_are_the_vendors() -> None:
    inputs = {"prompt": "a", "duration": 31, "outputResolution": "2k"}
    issues = rules.check("seedance2-5-extend", inputs, "current", strict_duration=True)
    assert issues == [
        {"code": "custom", "message": "At least one reference video (videoUrls) is required.", "path": ["videoUrls"]},
        {"code": "custom", "message": "Duration must be between 4 and 30 seconds", "path": ["duration"]},
        {
            "code": "invalid_enum_value",
            "message": "Invalid enum value. Expected '480p' | '720p' | '1080p', received '2k'",
            "path": ["outputResolution"],
        },
    ]


@pytest.mark.parametrize("model", [*rules.IMAGE_MODELS, *rules.OTHER_MODELS])
def test_images_and_other_models_need_only_a_prompt(model: str) -> None:
    assert rules.known(model)
    assert rules.check(model, {"prompt": "a", "anything": object()}, "current", strict_duration=True) == []
    assert rules.check(model, {}, "current", strict_duration=True)[0]["path"] == ["prompt"]


@pytest.mark.parametrize(
    ("model", "name", "good", "bad"),
    [
        ("gpt-image-2", "quality", ["low", "high"], ["max", 1]),
        ("gpt-image-2", "uploadedUrls", [[URL] * 10], [[URL] * 11]),
        ("gpt-image-2.5-flare", "quality", ["max", "auto"], ["best"]),
        ("gpt-image-2.5-sunburst", "outputCompression", [0, 100], [101]),
        ("seedream-5.0-pro", "prompt", ["x" * 10_000], ["x" * 10_001]),
        ("seedream-5.0-pro", "resolution", ["1k", "2k"], ["4k"]),
        ("nanobanana2", "resolution", ["2k", "4k"], ["1k"]),
        ("nanobanana-pro", "aspectRatio", ["3:4"], ["21:9"]),
        ("midjourney-v8", "aspectRatio", ["4:5", "7:1", "wide"], []),
        ("midjourney-v8", "prompt", ["x" * 6001], [""]),
        ("midjourney-v7", "autoFix", [True, False], ["yes", 1]),
        ("midjourney-v7-niji", "quality", [0.25, 1], [2, "1", True]),
        ("midjourney-v8", "style", ["raw"], ["cooked"]),
    ],
)
def test_images_have_fields_of_their_own(model: str, name: str, good: list[Any], bad: list[Any]) -> None:
    for values, expected in ((good, []), (bad, [[name]])):
        for value in values:
            issues = rules.check(model, {"prompt": "a"} | {name: value}, "current", strict_duration=True)
            assert [issue["path"] for issue in issues] == expected, value


def test_midjourney_cuts_long_prompts_and_runs_other_ratios_at_1_1() -> None:
    order = rules.place("midjourney-v8", {"prompt": "x" * 7000, "aspectRatio": "7:1"}, "current")
    assert (len(order.prompt), order.width, order.height) == (6000, 1024, 1024)
    wide = rules.place("midjourney-v7", {"prompt": "a", "aspectRatio": "21:9"}, "current")
    assert (wide.width, wide.height) == (1680, 720)


@pytest.mark.parametrize(
    ("model", "inputs", "kind"),
    [
        ("gpt-image-2", {}, "image/png"),
        ("gpt-image-2", {"outputFormat": "jpeg"}, "image/jpeg"),
        ("nanobanana2", {}, "image/jpeg"),
        ("midjourney-v8", {"outputFormat": "jpeg"}, "image/png"),
        ("seedance2-5", {"output_format": "mov"}, "video/quicktime"),
        ("seedance-20", {"output_format": "mov"}, "video/mp4"),
        ("suno-music", {}, "video/mp4"),
    ],
)
def test_each_model_makes_its_kind_of_file(model: str, inputs: dict[str, Any], kind: str) -> None:
    assert rules.media_type(rules.place(model, {"prompt": "a", **inputs}, "current")) == kind


AUDIO = ["https://example.com/a.mp3"]
CLIP = "https://x.io/a-{}s.mp4"


def late(model: str, **inputs: Any) -> tuple[str, str] | None:
    assert paths(model, **inputs) == []
    return rules.late_failure(rules.place(model, LEAST[model] | inputs, "current"))


@pytest.mark.parametrize(
    ("models", "inputs", "numbers"),
    [
        ((*TRIO, "seedance2-5"), {"audioUrls": AUDIO}, []),
        (TRIO, {"videoUrls": [CLIP.format(8)] * 2}, ["15"]),
        (TRIO, {"imageUrls": [URL], "audioUrls": [CLIP.format(16)]}, ["15"]),
        (("seedance2-5",), {"prompt": " "}, []),
        (("seedance2-5",), {"videoUrls": [CLIP.format(31)]}, []),
        (("seedance2-5",), {"videoUrls": [CLIP.format(1)]}, []),
        (("seedance2-5",), {"videoUrls": [CLIP.format(16)] * 2}, []),
        (("seedance2-5",), {"imageUrls": [URL], "audioUrls": [CLIP.format(31)]}, []),
        (("seedance2-5-edit",), {"videoUrls": [CLIP.format(16)] * 2}, []),
        (("seedance2-5-edit", "seedance2-5-extend"), {"videoUrls": [CLIP.format(4), CLIP.format(1)]}, []),
        (("seedance2-5-extend",), {"videoUrls": [CLIP.format(1)]}, []),
        (WAN[2::3], {"videoUrls": [CLIP.format("16.12")]}, ["https://x.io/a-16.12s.mp4", "16.12s", "15s"]),
        (WAN[2::3], {"videoUrls": [CLIP.format("10.61")], "duration": 20}, ["10.61s", "20.0s", "30.61s", "30s"]),
        (WAN[2::3], {"audioUrls": [CLIP.format(16)]}, ["15"]),
    ],
)
def test_wrong_references_pass_the_first_check_and_fail_after_creation(
    models: tuple[str, ...], inputs: dict[str, Any], numbers: list[str]
) -> None:
    for model in models:
        failure = late(model, **inputs)
        assert failure is not None
        code, message = failure
        assert code == "InvalidParameter"
        assert all(number in message for number in numbers)


@pytest.mark.parametrize(("seconds", "fails"), [(3, True), (4, False), (30, False), (31, True)])
def test_the_clip_that_is_edited_is_4_to_30_seconds_long(seconds: int, fails: bool) -> None:
    failure = late("seedance2-5-edit", videoUrls=[CLIP.format(seconds)])
    assert (failure and failure[0]) == ("1001" if fails else None)


@pytest.mark.parametrize("model", WAN[2::3])
def test_wan_takes_audio_as_the_only_reference(model: str) -> None:
    assert late(model, audioUrls=AUDIO) is None


@pytest.mark.parametrize("model", rules.VIDEO_MODELS)
def test_as_many_references_as_a_model_takes_are_not_too_long_when_nobody_tells_their_length(model: str) -> None:
    fields = rules.VIDEO_MODELS[model].fields
    counts = {name: rule.maximum for name, rule in fields.items() if isinstance(rule, rules.Urls)}
    assert late(model, **{name: [URL] * count for name, count in counts.items()}) is None


@pytest.mark.parametrize("model", rules.VIDEO_MODELS)
def test_sound_requests_have_no_late_failure(model: str) -> None:
    assert rules.late_failure(rules.place(model, LEAST[model], "current")) is None


@pytest.mark.parametrize(
    ("model", "resolution", "ratio", "size"),
    [
        ("seedance-20", "480p", "16:9", (864, 496)),
        ("seedance-20", "480p", "9:16", (496, 864)),
        ("seedance2-5", "480p", "16:9", (854, 480)),
        ("wan3.0-text-to-video", "480p", "9:16", (480, 854)),
        ("seedance-20", "720p", "21:9", (1470, 630)),
        ("seedance-20", "720p", "3:4", (834, 1112)),
        ("seedance-20", "1080p", "1:1", (1440, 1440)),
        ("seedance-20", "4k", "16:9", (3840, 2160)),
        ("seedance-20", "4k", "1:1", (2880, 2880)),
        ("wan3.0-image-to-video", "720p", "adaptive", (1280, 720)),
    ],
)
def test_output_sizes_follow_the_vendors_table(model: str, resolution: str, ratio: str, size: tuple[int, int]) -> None:
    order = rules.place(model, {"prompt": "a", "outputResolution": resolution, "aspectRatio": ratio}, "current")
    assert (order.width, order.height) == size


VIDEO = ["https://example.com/a.mp4"]  # 10 s long, as nothing else is said


@pytest.mark.parametrize(
    ("model", "inputs", "reserved", "settled"),
    [
        ("seedance-20", {}, 200, 200),
        ("seedance-20", {"imageUrls": [URL]}, 200, 200),
        ("seedance-20", {"videoUrls": VIDEO}, 240, 240),
        ("seedance-20", {"videoUrls": VIDEO, "duration": 10}, 480, 480),
        ("seedance-20", {"outputResolution": "4k"}, 1000, 1000),
        ("seedance2-fast", {}, 140, 140),
        ("seedance2-fast", {"videoUrls": VIDEO}, 170, 170),
        ("seedance2-fast", {"videoUrls": VIDEO, "duration": 10}, 340, 340),
        ("seedance2.0-mini", {}, 100, 100),
        ("seedance2.0-mini", {"outputResolution": "480p"}, 37.5, 37.5),
        ("seedance2-5", {}, 295, 295),
        ("seedance2-5", {"videoUrls": VIDEO}, 175, 525),
        ("seedance2-5", {"outputResolution": "1080p"}, 717, 717),
        ("seedance2-5-edit", {"videoUrls": VIDEO}, 525, 700),
        ("seedance2-5-extend", {"videoUrls": VIDEO, "duration": 5}, 175, 525),
        ("seedance2.0-fast", {"outputResolution": "480p"}, 70, 70),
        ("wan3.0-text-to-video", {}, 142.57, 142.57),
        ("wan3.0-ref-to-video", {"outputResolution": "480p", "duration": 2}, 28.514, 28.514),
        ("wan3.0-text-to-video", {"outputResolution": "1080p"}, 285.05, 285.05),
        ("wan3.0-prime-text-to-video", {"outputResolution": "480p"}, 94.3, 94.3),
        ("gpt-image-2", {}, 2.17, 2.17),
        ("gpt-image-2", {"quality": "high", "resolution": "4k"}, 156.36, 156.36),
        ("gpt-image-2.5-sunburst", {}, 1.75, 1.82),
        ("gpt-image-2.5-flare", {"resolution": "4k"}, 1.75, 1.82),
        ("seedream-5.0-pro", {}, 24, 24),
        ("seedream-5.0-pro", {"resolution": "1k"}, 14, 14),
        ("nanobanana-pro", {}, 14.41, 14.41),
        ("nanobanana-pro", {"resolution": "4k"}, 25.8, 25.8),
        ("nanobanana2", {}, 15, 15),
        ("nanobanana2", {"resolution": "4k"}, 25, 25),
        ("midjourney-v8", {}, 12, 12),
        ("suno-music", {}, 10, 10),
    ],
)
def test_prices_are_the_vendors_worked_figures(
    model: str, inputs: dict[str, Any], reserved: float, settled: float
) -> None:
    cost = price(rules.place(model, {"prompt": "a", **inputs}, "current"))
    assert (number(cost.reserved), number(cost.settled)) == (reserved, settled)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    sorted(
        {name for model in (rules.VIDEO_MODELS | rules.IMAGE_MODELS).values() for name in model.fields}
        | set(rules.OLDER_FIELDS["seed"])
    )
)


@given(
    model=st.sampled_from([*rules.VIDEO_MODELS, *rules.IMAGE_MODELS, "suno-music"]),
    inputs=st.dictionaries(NAMES, JSON, max_size=5),
    dialect=st.sampled_from(rules.DIALECTS),
    strict=st.booleans(),
)
def test_no_json_whatsoever_breaks_the_checks(model: str, inputs: Any, dialect: rules.Dialect, strict: bool) -> None:
    issues = rules.check(model, {"prompt": "a", **inputs}, dialect, strict_duration=strict)
    if not issues:
        order = rules.place(model, {"prompt": "a", **inputs}, dialect)
        rules.late_failure(order)
        assert price(order).reserved > 0
