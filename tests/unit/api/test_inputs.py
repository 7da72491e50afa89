"""The input check against the contract's text. The tables here are written from it, not from the module."""

from __future__ import annotations

import copy
import datetime
import decimal
import json
import pathlib
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_provider.api import inputs as module
from seedance_provider.api.inputs import MODELS, Field, check, defaults, known_models, unsendable

ROOT = pathlib.Path(__file__).parents[3]
U = "https://media.example.com/a.png"
SEED_EXAMPLE = {"prompt": "A sunset over the ocean", "resolution": "1280x720", "duration": "5s"}

TRIO = ["seedance-20", "seedance2-fast", "seedance2.0-mini"]
FAMILY_25 = ["seedance2-5", "seedance2-5-edit", "seedance2-5-extend"]
WAN_TEXT = ["wan3.0-text-to-video", "wan3.0-prime-text-to-video"]
WAN_IMAGE = ["wan3.0-image-to-video", "wan3.0-prime-image-to-video"]
WAN_REF = ["wan3.0-ref-to-video", "wan3.0-prime-ref-to-video"]
WAN = WAN_TEXT + WAN_IMAGE + WAN_REF
OLD = ["seedance-20", "seedance2.0-pro", "seedance2-fast"]
ALL = [*TRIO, "seedance2.0-pro", *FAMILY_25, *WAN]


def least(model: str) -> dict[str, object]:
    """The least a model accepts without a warning about money."""
    inputs: dict[str, object] = {"prompt": "a cat", "outputResolution": "720p"}
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


def test_the_models_are_those_of_the_contract():
    assert sorted(known_models()) == sorted(ALL)


def test_the_example_of_the_seed_document_is_accepted_and_the_ignored_name_is_said():
    before = copy.deepcopy(SEED_EXAMPLE)
    report = check("seedance-20", SEED_EXAMPLE)
    assert report.problems == ()
    assert before == SEED_EXAMPLE
    size, length = report.warnings
    assert "resolution = '1280x720'" in size
    assert 'say outputResolution: "720p", aspectRatio: "16:9"' in size
    assert "duration = '5s'" in length


@pytest.mark.parametrize("model", ALL)
def test_the_least_request_of_a_model_has_nothing_to_say(model):
    assert check(model, least(model)) == ((), ())


# Model ids, field, accepted values, refused values: contract 2.4 and 2.3.
CASES = [
    (TRIO, "prompt", ["x", "x" * 10_000], ["", " \n", "x" * 10_001, None, 5, ["x"]]),
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
        [3, 16, "3", "16", 5.0, True, "five", "", "s", "05", " 5", "5 s", "\N{ARABIC-INDIC DIGIT FIVE}"],
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
    assert problem.path in line
    assert problem.value in line
    assert problem.fix in line


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
    ("model", "key", "said"),
    [
        ("seedance-20", "aspect_ratio", "did you mean aspectRatio?"),
        ("seedance-20", "imageURLs", "did you mean imageUrls?"),
        ("seedance-20", "images", "did you mean imageUrls?"),
        ("seedance-20", "generateAudio", "did you mean generate_audio?"),
        ("seedance-20", "audio", "(a field of wan3.0-ref-to-video); did you mean generate_audio?"),
        ("seedance-20", "output_format", "(a field of seedance2-5); remove it"),
        ("seedance-20", "negative", "remove it; the fields are prompt, imageUrls"),
        ("seedance-20", "model", "give it as the argument model"),
        ("seedance-20", "callBackUrl", "give it as the argument callback_url"),
        ("seedance-20", "line\nbreak " + "x" * 5000, "remove it; the fields are"),
        ("seedance2-5", "resolution", "(a name older than this model); did you mean outputResolution?"),
        ("seedance2.0-mini", "urls", "did you mean imageUrls?"),
        ("seedance2-5-edit", "mode", "has no such field and ignores it silently (a field of seedance2-5); remove it"),
        ("seedance2-5-edit", "duration", "(a field of seedance2-5); remove it"),
        ("seedance2-5-edit", "aspectRatio", "(a field of seedance2-5); remove it"),
        ("wan3.0-text-to-video", "generate_audio", "did you mean audio?"),
        ("wan3.0-text-to-video", "imageUrls", "refuses it (a field of wan3.0-ref-to-video); remove it"),
        ("wan3.0-image-to-video", "videoUrls", "refuses it (a field of wan3.0-ref-to-video); remove it"),
        ("wan3.0-ref-to-video", "bitrate_mode", "remove it"),
    ],
)
def test_a_key_that_the_model_lacks_is_a_problem_which_says_what_to_write(model, key, said):
    (problem,) = check(model, least(model) | {key: "x"}).problems
    assert said in str(problem)
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("seedance-20", {"audioUrls": [U]}, "audioUrls: audio cannot be the only reference"),
        ("seedance2-5", {"audioUrls": [U], "imageUrls": []}, "audioUrls: audio cannot be the only reference"),
        ("wan3.0-ref-to-video", {"audioUrls": [U], "imageUrls": []}, "audioUrls: audio cannot be the only"),
        ("seedance-20", {"imageUrls": [U] * 3}, "mode: of 3 images without mode the first opens"),
        ("seedance2.0-mini", {"imageUrls": [U] * 9}, "mode: of 9 images without mode the first opens"),
        ("seedance-20", {"imageUrls": [U] * 3, "mode": "keyframe"}, 'imageUrls: with mode: "keyframe" the first'),
    ],
)
def test_a_combination_that_buys_nothing_or_the_wrong_video_is_a_problem(model, more, said):
    (problem,) = check(model, least(model) | more).problems
    assert said in f"{problem.path}: {problem.message}"


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
    ],
)
def test_a_combination_that_works_has_nothing_to_say(model, more):
    assert check(model, least(model) | more) == ((), ())


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("seedance-20", {"prompt": "x"}, 'name "720p" and "1080p" as the default'),
        ("seedance-20", {"videoUrls": [U], "mode": "keyframe"}, 'turns it into "reference"'),
        ("seedance2-5", {"audioUrls": [U], "imageUrls": [U] * 3, "mode": "keyframe"}, 'turns it into "reference"'),
        ("seedance2-5", {"imageUrls": [U] * 3, "mode": "keyframe"}, "of 3 images probably only the first two"),
        ("seedance2-5-extend", {"aspectRatio": "1:1"}, "aspectRatio: seedance2-5-extend accepts and ignores it"),
        ("wan3.0-ref-to-video", {"imageUrls": []}, "no reference is given"),
    ],
)
def test_what_the_vendor_accepts_but_may_surprise_is_one_line_in_the_log(model, inputs, said):
    if "prompt" not in inputs:
        inputs = least(model) | inputs
    report = check(model, inputs)
    assert report.problems == ()
    (line,) = report.warnings
    assert said in line


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"urls": [U], "outputResolution": "720p"}, "say imageUrls, videoUrls or audioUrls by kind"),
        ({"ratio": "1:1", "resolution": "960x720"}, 'say outputResolution: "720p", aspectRatio: "4:3"'),
        ({"imageUrl": U, "resolution": "1280x720"}, "say imageUrls: [...]"),
        ({"upscaleResolution": "4k", "outputResolution": "720p"}, 'say outputResolution (seedance-20 takes "4k")'),
        ({"resolution": "720p"}, 'say outputResolution: "720p"'),
        ({"resolution": "1x1"}, 'say outputResolution: "480p" or "720p"'),
    ],
)
def test_an_old_name_is_told_what_the_current_api_reads_instead(inputs, said):
    warnings = check("seedance-20", {"prompt": "x"} | inputs).warnings
    assert any(said in line for line in warnings)
    assert all("different generations" not in line for line in warnings)


def test_an_old_size_above_what_the_model_has_now_is_told_the_largest():
    warning = only_warning("seedance2-fast", {"prompt": "x", "resolution": "1920x1080"})
    assert 'outputResolution: "720p"' in warning


def test_an_old_name_with_a_value_no_generation_knew_is_a_problem():
    (problem,) = check("seedance-20", {"prompt": "x", "resolution": "1x1"}).problems
    assert str(problem).startswith("resolution = '1x1': is not accepted; say outputResolution: ")


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"resolution": "1280x720", "aspectRatio": "16:9"}, "resolution (seed generation), aspectRatio (current"),
        ({"duration": "5s", "outputResolution": "720p"}, "duration (seed generation), outputResolution (current"),
        ({"urls": [U], "imageUrls": [U]}, "urls (middle generation), imageUrls (current"),
        ({"ratio": "1:1", "upscaleResolution": "4k"}, "ratio (seed generation), upscaleResolution (middle"),
    ],
)
def test_a_mixture_of_generations_is_a_warning_that_names_both(inputs, names):
    report = check("seedance-20", {"prompt": "x"} | inputs)
    assert report.problems == ()
    assert any(names in line for line in report.warnings)


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("seedance-2.0", "seedance-20"),
        ("seedance-2-fast", "seedance2-fast"),
        ("seedance2-mini", "seedance2.0-mini"),
        ("Seedance-20 ", "seedance-20"),
        ("wan3.0-text2video", "wan3.0-text-to-video"),
        ("gpt-image-2", None),
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
        (decimal.Decimal(1), "x"),
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
        json.dumps({"x": value} if path != "x.1" else {object(): 1}, allow_nan=False)


def test_a_cycle_a_deep_nest_and_a_wide_share_all_end():
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    wide: list[object] = [1]
    for _ in range(45):
        wide = [wide, wide]
    assert paths("some-model", {"x": cycle}) == ["x[0]"]
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
    assert paths("seedance-20", {"prompt": "x", "imageUrl": "cat.png"}, allow_local_media=True) == ["imageUrl"]


def test_all_problems_of_a_request_are_reported_together():
    inputs = {"imageUrls": [U] * 10 + [5], "aspect_ratio": "1:1", "duration": 60, "generate_audio": "yes", 1: 2}
    assert paths("seedance2.0-mini", inputs) == [
        "imageUrls", "aspect_ratio", "duration", "generate_audio", "1", "prompt", "mode",
    ]  # fmt: skip


class Xcom:
    """As hostile as an XComArg: nothing but its type may be asked for."""

    def refuse(self, *_: object) -> bool:
        raise AssertionError

    __bool__ = __eq__ = __hash__ = __len__ = __iter__ = __repr__ = __str__ = refuse


@pytest.mark.parametrize("later", ["{{ params.x }}", "{% if a %}b{% endif %}", "{# c #}", Xcom(), print])
def test_what_a_run_will_fill_in_is_not_judged_when_the_dag_is_parsed(later):
    for model in ALL:
        for field in MODELS[model]:
            inputs = least(model) | {field: later}
            assert check(model, inputs, partial=True).problems == ()
        for field in module.MEDIA_FIELDS:
            if field in MODELS[model]:
                inputs = least(model) | {"imageUrls": [U], field: [later]}
                if "imageUrls" in MODELS[model]:
                    assert check(model, inputs, partial=True).problems == ()
    assert check("seedance-20", later, partial=True) == ((), ())
    assert check(later, {}, partial=True) == ((), ())
    assert paths("seedance-20", {"promt": later}, partial=True) == ["promt", "prompt"]


def test_a_field_that_a_run_fills_in_counts_as_given_and_proves_nothing():
    def report(model: str, **more: object):
        return check(model, {"prompt": "x", "outputResolution": "720p", **more}, partial=True)

    assert report("seedance2-5-extend", duration="{{ d }}", videoUrls=Xcom()) == ((), ())
    assert report("seedance-20", imageUrls=[U] * 3, mode="{{ m }}") == ((), ())
    assert report("seedance-20", imageUrls=[U] * 3, videoUrls="{{ v }}") == ((), ())
    assert report("seedance-20", audioUrls=[U], imageUrls="{{ i }}") == ((), ())
    assert report("seedance-20", audioUrls="{{ a }}") == ((), ())
    assert report("seedance-20", duration="{{ d }}s") == ((), ())
    assert [p.path for p in report("seedance-20", imageUrls=["{{ a }}"] * 3).problems] == ["mode"]


@pytest.mark.parametrize("model", ["seedance-20", "some-new-model"])
def test_lines_for_the_log_wait_for_the_run(model: str):
    assert check(model, {"prompt": "x"}).warnings
    assert check(model, {"prompt": "x"}, partial=True) == ((), ())


@pytest.mark.parametrize("value", [{U}, frozenset({U}), b"x", bytearray(b"x"), 1j, float("nan")])
def test_a_literal_that_no_rendering_can_mend_is_judged_when_the_dag_is_parsed(value):
    assert paths("seedance2-5", least("seedance2-5") | {"imageUrls": value}, partial=True) == ["imageUrls"]


def test_inputs_from_a_template_file_wait_for_the_run():
    assert check("seedance-20", "inputs.json", partial=True) == ((), ())
    assert paths("seedance-20", "inputs.json") == ["inputs"]


@pytest.mark.parametrize("model", [None, 5, "", " ", ["seedance-20"]])
def test_a_model_that_is_no_text_is_a_problem(model):
    assert paths(model, {}) == ["model"]


def test_a_long_value_is_cut_and_an_object_is_not_asked_what_it_holds():
    for value in ["x" * 10**6, "\n" * 10**6, 10**5000, Xcom(), [Xcom()] * 3]:
        (problem,) = check("seedance2-5", least("seedance2-5") | {"mode": value}).problems
        assert len(problem.value) <= 60


def test_defaults_are_those_of_the_contract():
    assert defaults("seedance-20") == {
        "mode": "keyframe", "duration": 5, "outputResolution": "720p", "generate_audio": True,
    }  # fmt: skip
    assert defaults("wan3.0-image-to-video") == {"duration": 5, "aspectRatio": "16:9", "audio": True}
    assert "duration" not in defaults("seedance2-5-extend")
    assert defaults("other") == {}


@pytest.mark.parametrize("model", ALL)
def test_every_default_is_itself_accepted(model):
    assert check(model, least(model) | defaults(model)).problems == ()


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
    "seedance2-5": seedance(30_000, 30, P1080, mode=MODE, **MEDIA_25).filter(not_wasteful),
    "seedance2-5-edit": seedance(30_000, 30, P1080, required=CLIP, lacks=("duration", "aspectRatio"), **MEDIA_25),
    "seedance2-5-extend": seedance(
        30_000, 30, P1080, required=CLIP | {"duration": st.integers(4, 30)}, mode=MODE, **MEDIA_25
    ),
    **{model: wan() for model in WAN_TEXT},
    **{model: wan({"imageUrls": urls(1, 2)}, aspectRatio=RATIO_5 | st.just("adaptive")) for model in WAN_IMAGE},
    **{model: wan(**REF).filter(not_wasteful) for model in WAN_REF},
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
    if key in MODELS[model] or key in module.OLD_NAMES:
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
NAMES = st.sampled_from(sorted({name for table in MODELS.values() for name in table} | set(module.OLD_NAMES)))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([*MODELS, "seedance-2.0", ""]) | ODD,
    st.dictionaries(NAMES | st.text() | st.integers() | st.none(), ODD) | ODD,
    st.booleans(),
    st.booleans(),
)
def test_no_value_whatever_makes_the_check_raise(model, inputs, partial, local):
    report = check(model, inputs, partial=partial, allow_local_media=local)
    for line in [*map(str, report.problems), *report.warnings]:
        assert len(line.splitlines()) == 1
    if not partial and not local and not report.problems:
        json.dumps(dict(inputs), allow_nan=False)


def test_importing_the_module_loads_nothing_heavy():
    code = (
        "import sys; import seedance_provider.api.inputs; "
        "print(*sorted({'pydantic', 'airflow', 'requests', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


def cell(field: Field | None) -> str:
    """What the user guide's tables say of a field."""
    if field is None:
        return "not a field"
    parts = [str(field).replace('"', "`"), "**required**" if field.required else ""]
    parts += [f"default `{field.default}`"] if field.default is not None else []
    parts += [field.note, "" if field.effect else "no effect"]
    return "; ".join(part for part in parts if part)


def table(columns: list[list[str]]) -> str:
    """A table of the user guide: one column per list of models that share their fields."""
    names = list(dict.fromkeys(name for models in columns for name in MODELS[models[0]]))
    rows = [["Field", *(", ".join(f"`{model}`" for model in models) for models in columns)]]
    rows.append([":--"] * len(rows[0]))
    for name in names:
        first, *rest = (cell(MODELS[models[0]].get(name)) for models in columns)
        rows.append([f"`{name}`", first, *("same" if text == first else text for text in rest)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@pytest.mark.parametrize(
    "columns",
    [
        [["seedance-20", "seedance2.0-pro"], ["seedance2-fast"], ["seedance2.0-mini"]],
        [["seedance2-5"], ["seedance2-5-edit"], ["seedance2-5-extend"]],
        [WAN_TEXT, WAN_IMAGE, WAN_REF],
    ],
    ids=["Seedance 2.0", "Seedance 2.5", "Wan 3.0"],
)
def test_the_tables_of_the_user_guide_are_the_tables_of_the_check(columns):
    for models in columns:
        assert all(MODELS[model] == MODELS[models[0]] for model in models)
    expected = table(columns)
    guide = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    assert expected in guide, f"docs/inputs.md should have:\n{expected}"


def test_the_old_names_of_the_user_guide_are_those_of_the_check():
    guide = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    for name, old in module.OLD_NAMES.items():
        assert f"| `{name}` | {cell(old.field)} | `" in guide
    assert ", ".join(f"`{model}`" for model in module.OLD_NAME_MODELS) in guide.replace("\n", " ")
