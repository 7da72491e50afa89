"""What a task will cost: every price that the vendor's documents work out (contract 2.5 and 13)."""

from __future__ import annotations

from collections import UserDict
from decimal import Decimal
from typing import Any

import pytest

from seedance_provider.api.catalog import KNOWN, MODELS, PRICES_AS_OF
from seedance_provider.api.pricing import CreditEstimate, estimate, parse_price_list
from seedance_provider.api.validation import check
from seedance_provider.exceptions import SeedanceConfigurationError

U = "https://media.example.com/a.mp4"


def between(low: str, high: str | None = None) -> tuple[Decimal, Decimal]:
    return Decimal(low), Decimal(high or low)


def cost(model: str, inputs: dict[str, Any], prices: object = None) -> tuple[Decimal, Decimal] | None:
    found = estimate(model, {"prompt": "a fox"} | inputs, prices)
    return (found.low, found.high) if found else None


EXACT = [
    ("seedance-20", {}, "200"),
    ("seedance-20", {"duration": 4}, "160"),
    ("seedance-20", {"duration": 8}, "320"),
    ("seedance-20", {"duration": 10}, "400"),
    ("seedance-20", {"duration": 15}, "600"),
    ("seedance-20", {"videoUrls": [U]}, "240"),
    ("seedance-20", {"videoUrls": [U], "duration": 10}, "480"),
    ("seedance-20", {"imageUrls": [U], "audioUrls": [U]}, "200"),
    ("seedance-20", {"outputResolution": "480p"}, "75"),
    ("seedance-20", {"outputResolution": "1080p"}, "450"),
    ("seedance-20", {"outputResolution": "4k", "videoUrls": [U]}, "1200"),
    ("seedance2.0-pro", {}, "200"),
    ("seedance2-fast", {}, "140"),
    ("seedance2.0-fast", {"videoUrls": [U]}, "170"),
    ("seedance2-fast", {"videoUrls": [U], "duration": 10}, "340"),
    ("seedance2.0-mini", {}, "100"),
    ("seedance2.0-mini", {"videoUrls": [U]}, "120"),
    ("seedance2.0-mini", {"videoUrls": [U], "duration": 10}, "240"),
    ("seedance2.0-mini", {"outputResolution": "480p", "duration": 4}, "30"),
    ("seedance2-5", {}, "295"),
    ("seedance2-5", {"outputResolution": "1080p", "imageUrls": [U] * 9}, "717"),
    ("wan3.0-text-to-video", {}, "142.57"),
    ("wan3.0-ref-to-video", {"videoUrls": [U]}, "142.57"),
    ("wan3.0-text-to-video", {"outputResolution": "480p"}, "71.285"),
    ("wan3.0-prime-text-to-video", {}, "194.15"),
    ("gpt-image-2", {}, "2.17"),
    ("gpt-image-2", {"resolution": "2k", "quality": "medium"}, "21.72"),
    ("gpt-image-2", {"resolution": "4k", "quality": "high"}, "156.36"),
    ("seedream-5.0-pro", {}, "24"),
    ("seedream-5.0-pro", {"resolution": "1k"}, "14"),
    ("nanobanana-pro", {}, "14.41"),
    ("nanobanana-pro", {"resolution": "4k"}, "25.8"),
    ("nanobanana2", {}, "15"),
    ("nanobanana2", {"resolution": "4k"}, "25"),
    ("midjourney-v8", {"aspectRatio": "16:9"}, "12"),
    ("midjourney-v7", {}, "12"),
    ("midjourney-v7-niji", {}, "12"),
]


@pytest.mark.parametrize(("model", "inputs", "expected"), EXACT)
def test_a_price_that_depends_on_the_inputs_alone_is_exact(model: str, inputs: dict[str, Any], expected: str) -> None:
    assert cost(model, inputs) == between(expected)


# Model, inputs, the bills that the vendor's documents give, the bounds.
RANGES = [
    ("seedance2-5", {"videoUrls": [U]}, ["525"], "245", "1225"),
    ("seedance2-5", {"videoUrls": [U], "duration": 30, "outputResolution": "480p"}, [], "512", "960"),
    ("seedance2-5-edit", {"videoUrls": [U]}, ["420", "700"], "280", "2100"),
    ("seedance2-5-edit", {"videoUrls": [U], "outputResolution": "1080p"}, [], "685.44", "5140.8"),
    ("seedance2-5-extend", {"videoUrls": [U], "duration": 5}, ["385", "525"], "245", "1225"),
    ("gpt-image-2.5-sunburst", {}, ["1.75", "1.82"], "1.75", "1.82"),
    ("gpt-image-2.5-flare", {"quality": "auto"}, ["1.82"], "1.75", "1.82"),
]


@pytest.mark.parametrize(("model", "inputs", "bills", "low", "high"), RANGES)
def test_a_price_that_depends_on_the_length_of_media_is_a_range_around_every_bill(
    model: str, inputs: dict[str, Any], bills: list[str], low: str, high: str
) -> None:
    assert cost(model, inputs) == between(low, high)
    assert all(Decimal(low) <= Decimal(bill) <= Decimal(high) for bill in bills)


@pytest.mark.parametrize(
    ("inputs", "low", "high"),
    [
        ({"resolution": "1280x720", "duration": "5s"}, "200", "200"),
        ({"resolution": "1920x1080", "duration": "5s"}, "200", "450"),
        ({"resolution": "720p"}, "200", "200"),
        ({"resolution": "480p"}, "75", "200"),
        ({"resolution": "1x1"}, "200", "200"),
        ({"duration": "8s"}, "200", "320"),
        ({"duration": "4s"}, "160", "200"),
        ({"duration": "8"}, "320", "320"),
        ({"urls": [U]}, "200", "240"),
        ({"urls": []}, "200", "200"),
        ({"upscaleResolution": "4k"}, "200", "340"),
        ({"imageUrl": U, "ratio": "1:1"}, "200", "200"),
        ({"resolution": "1920x1080", "duration": "10s", "urls": [U]}, "200", "1080"),
    ],
)
def test_what_an_earlier_api_version_meant_and_what_the_current_one_makes_of_it_are_both_covered(
    inputs: dict[str, Any], low: str, high: str
) -> None:
    assert cost("seedance-20", inputs) == between(low, high)


def test_a_size_under_another_models_name_raises_the_upper_bound_only() -> None:
    assert cost("nanobanana2", {"outputResolution": "4k"}) == between("15", "25")
    assert cost("seedance2-5", {"resolution": "1080p"}) == between("295", "717")


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("seedance2-5-preview", {}),
        ("suno-music", {"duration": 5}),
        ("seedance-20", {"outputResolution": "2k"}),
        ("seedance-20", {"outputResolution": None}),
        ("seedance-20", {"outputResolution": "{{ params.size }}"}),
        ("seedance2-fast", {"outputResolution": "4k"}),
        *(("seedance-20", {"duration": value}) for value in (0, -5, 5.5, "long", "", None, True, "{{ d }}", [5])),
        ("seedance2-5-extend", {"videoUrls": [U]}),
        ("seedance2-5", {"duration": "5s"}),
        ("gpt-image-2.5-flare", {"quality": "max"}),
        ("gpt-image-2.5-flare", {"uploadedUrls": [U]}),
    ],
    ids=str,
)
def test_what_has_no_known_price_is_not_estimated(model: str, inputs: dict[str, Any]) -> None:
    assert cost(model, inputs) is None


def test_inputs_that_are_not_rendered_yet_are_not_estimated() -> None:
    assert estimate("seedance-20", "{{ inputs }}") is None


def test_values_count_as_they_are_sent() -> None:
    inputs = UserDict({"duration": Decimal(10), "videoUrls": (U,), "outputResolution": "720p"})
    assert estimate("seedance-20", inputs) == CreditEstimate(Decimal(480), Decimal(480), PRICES_AS_OF)


@pytest.mark.parametrize("model", sorted(KNOWN))
def test_the_least_request_of_every_model_has_a_price_and_every_listed_size_one(model: str) -> None:
    row = KNOWN[model]
    inputs: dict[str, Any] = {"prompt": "a fox", "videoUrls": [U], "imageUrls": [U], "duration": 5}
    inputs = {name: value for name, value in inputs.items() if name in row.fields}
    for size in row.price.rates:
        chosen = dict(zip(row.price.fields, size.split(), strict=False))
        assert check(model, inputs | chosen) == ((), ())
        found = estimate(model, inputs | chosen)
        assert found
        assert 0 < found.low <= found.high


# A price list of the user's.


@pytest.mark.parametrize(
    ("prices", "model", "inputs", "expected"),
    [
        ({"seedance-20": {"720p": "37.9"}}, "seedance-20", {}, "189.5"),
        ({"seedance-20": {"720p": 37.9}}, "seedance2.0-pro", {"videoUrls": [U]}, "189.5"),
        ({"seedance2.0-pro": {"720p": [30, 36]}}, "seedance-20", {"videoUrls": [U]}, "180"),
        ({"seedance-20": {"480p": 1}}, "seedance-20", {}, "200"),
        ({"seedream-5.0-pro": {"2k": 20}}, "seedream-5.0-pro", {}, "20"),
        ({"gpt-image-2": {"1k low": 2}}, "gpt-image-2", {}, "2"),
        ({"midjourney-v8": {"task": 10}}, "midjourney-v8", {}, "10"),
        ({"new": {"720p": 7}}, "new", {"outputResolution": "720p", "duration": 6}, "42"),
        ('{"seedance2-fast": {"720p": [20.1, 25]}}', "seedance2-fast", {}, "100.5"),
        ("", "seedance2-fast", {}, "140"),
    ],
    ids=str,
)
def test_a_rate_of_the_users_takes_precedence(
    prices: object, model: str, inputs: dict[str, Any], expected: str
) -> None:
    assert cost(model, inputs, prices) == between(expected)


def test_a_rate_of_the_users_moves_both_bounds() -> None:
    assert cost("seedance2-5-edit", {"videoUrls": [U]}, {"seedance2-5-edit": {"720p": 10}}) == between("80", "600")


@pytest.mark.parametrize("inputs", [{}, {"outputResolution": "720p"}, {"duration": 5}])
def test_a_model_that_only_the_price_list_knows_needs_its_size_and_seconds(inputs: dict[str, Any]) -> None:
    assert cost("new", inputs, {"new": {"720p": 7}}) is None


@pytest.mark.parametrize(
    ("prices", "named"),
    [
        ("{", "price_list"),
        (5, "price_list"),
        ([], "price_list"),
        ("[" * 1_000_000, "price_list"),
        ({"seedance-20": 40}, "seedance-20"),
        ({5: {"720p": 40}}, "5"),
        ({"seedance-20": {"720": 40}}, "720p"),
        ({"seedance-20": {720: 40}}, "720"),
        *(
            ({"seedance-20": {"720p": rate}}, "720p")
            for rate in (
                "x",
                None,
                True,
                -1,
                float("nan"),
                float("inf"),
                [],
                [1],
                [1, 2, 3],
                [1, None],
                {},
                1e9,
                "1e999",
            )
        ),
    ],
    ids=str,
)
def test_a_price_list_that_cannot_be_read_is_an_error_which_names_the_place(prices: object, named: str) -> None:
    with pytest.raises(SeedanceConfigurationError, match=named):
        estimate("seedance2-5", {"prompt": "a fox"}, prices)


def test_an_error_of_a_price_list_names_where_it_stands() -> None:
    with pytest.raises(SeedanceConfigurationError, match=r"\[seedance\] price_list"):
        parse_price_list("[]", "[seedance] price_list")


# What a user reads.


@pytest.mark.parametrize(
    ("model", "inputs", "prices", "words"),
    [
        ("seedance-20", {}, None, ["200 credits", PRICES_AS_OF]),
        ("wan3.0-text-to-video", {"outputResolution": "480p", "duration": 10}, None, ["142.57 credits", PRICES_AS_OF]),
        ("seedance2-5", {"videoUrls": [U]}, None, ["245 to 1225 credits", PRICES_AS_OF]),
        ("seedance-20", {}, {"seedance-20": {"720p": "30.00"}}, ["150 credits", "price_list"]),
    ],
)
def test_an_estimate_says_its_amount_and_its_source(
    model: str, inputs: dict[str, Any], prices: object, words: list[str]
) -> None:
    text = str(estimate(model, inputs, prices))
    assert all(word in text for word in words)


def test_every_price_of_a_catalog_row_is_a_positive_amount() -> None:
    for row in MODELS.values():
        for pair in row.price.rates.values():
            assert all(Decimal(amount) > 0 for amount in pair)
