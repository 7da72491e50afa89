from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.testing.emulator import rules
from seedance_provider.testing.emulator.prices import number, price

URL = "https://example.com/media.png"
TRIO = ("seedance-20", "seedance2.0-pro", "seedance2-fast", "seedance2.0-mini")
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


def test_there_are_thirteen_video_models_with_rules() -> None:
    assert len(rules.VIDEO_MODELS) == 13
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
        (TWO_FIVE[1:2], "aspectRatio", ["5:4"], []),
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
def test_models_without_rules_need_only_a_prompt(model: str) -> None:
    assert rules.known(model)
    assert rules.check(model, {"prompt": "a", "anything": object()}, "current", strict_duration=True) == []
    assert rules.check(model, {}, "current", strict_duration=True)[0]["path"] == ["prompt"]


LATE_AUDIO_ALONE = {"audioUrls": ["https://example.com/a.mp3"]}


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        ("seedance-20", LATE_AUDIO_ALONE, "Audio cannot be the only reference"),
        ("seedance-20", {"videoUrls": ["https://x.io/a-8s.mp4", "https://x.io/b-8s.mp4"]}, "videos must not exceed 15"),
        ("seedance-20", {"imageUrls": [URL], "audioUrls": ["https://x.io/a-16s.mp3"]}, "audio must not exceed 15"),
        ("seedance2-5", LATE_AUDIO_ALONE, "Audio cannot be the only reference"),
        ("seedance2-5", {"prompt": " "}, "`content`"),
        ("seedance2-5", {"videoUrls": ["https://x.io/a-31s.mp4"]}, "`content`"),
        ("seedance2-5", {"videoUrls": ["https://x.io/a-16s.mp4"] * 2}, "`content`"),
        ("seedance2-5", {"imageUrls": [URL], "audioUrls": ["https://x.io/a-31s.mp3"]}, "`content`"),
        ("seedance2-5-edit", {"videoUrls": ["https://x.io/a-3s.mp4"]}, "`content`"),
        ("wan3.0-ref-to-video", {"videoUrls": ["https://x.io/a-16s.mp4"]}, "Each reference video"),
        ("wan3.0-ref-to-video", {"videoUrls": ["https://x.io/a-15s.mp4"], "duration": 16}, "plus duration"),
        ("wan3.0-ref-to-video", {"audioUrls": ["https://x.io/a-16s.mp3"]}, "audio must not exceed 15"),
    ],
)
def test_what_is_found_only_after_creation_passes_the_first_check(
    model: str, inputs: dict[str, Any], words: str
) -> None:
    assert paths(model, **inputs) == []
    late = rules.late_failure(rules.place(model, LEAST[model] | inputs, "current"))
    assert late is not None
    assert late[0] == "InvalidParameter"
    assert words in late[1]


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


VIDEO = ["https://example.com/a-10s.mp4"]


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
        ("wan3.0-text-to-video", {"outputResolution": "1080p"}, 285.05, 285.05),
        ("wan3.0-prime-text-to-video", {"outputResolution": "480p"}, 94.3, 94.3),
        ("gpt-image-2", {}, 2.17, 2.17),
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
    sorted({name for model in rules.VIDEO_MODELS.values() for name in model.fields} | set(rules.OLDER_FIELDS["seed"]))
)


@given(
    model=st.sampled_from([*rules.VIDEO_MODELS, "gpt-image-2", "suno-music"]),
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
