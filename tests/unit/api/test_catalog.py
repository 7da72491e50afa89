"""The catalog against the contract (2.2, 2.4, 4.3, 8 and 13), and the user guide against the catalog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools import make_input_tables
from seedance_provider.api.catalog import KNOWN, MODELS, lookup, settles_later, usual_seconds
from seedance_provider.api.validation import check

ROOT = Path(__file__).parents[3]

VIDEO = {
    "seedance-20",
    "seedance2-fast",
    "seedance2.0-mini",
    "seedance2-5",
    "seedance2-5-edit",
    "seedance2-5-extend",
    "wan3.0-text-to-video",
    "wan3.0-image-to-video",
    "wan3.0-ref-to-video",
    "wan3.0-prime-text-to-video",
    "wan3.0-prime-image-to-video",
    "wan3.0-prime-ref-to-video",
}
IMAGE = {
    "gpt-image-2",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-flare",
    "seedream-5.0-pro",
    "nanobanana2",
    "nanobanana-pro",
    "midjourney-v8",
    "midjourney-v7",
    "midjourney-v7-niji",
}


def test_the_models_are_those_of_the_contract() -> None:
    assert {model for model, row in MODELS.items() if row.output == "video"} == VIDEO
    assert {model for model, row in MODELS.items() if row.output == "image"} == IMAGE
    assert all(row.id == model for model, row in MODELS.items())


@pytest.mark.parametrize(
    ("alias", "model"), [("seedance2.0-pro", "seedance-20"), ("seedance2.0-fast", "seedance2-fast")]
)
def test_an_alias_finds_the_row_of_its_model(alias: str, model: str) -> None:
    assert lookup(alias) is lookup(model) is MODELS[model]


@pytest.mark.parametrize("model", ["seedance20-video-generation", "seedance-2.0", "", None, 5, ["seedance-20"]])
def test_an_unknown_model_has_no_row_no_usual_seconds_and_settles_at_once(model: object) -> None:
    assert lookup(model) is None
    assert usual_seconds(model) is None
    assert settles_later(model) is False


def test_the_charge_of_the_2_5_family_and_of_tokens_settles_later() -> None:
    assert {model for model in KNOWN if settles_later(model)} == {
        "seedance2-5",
        "seedance2-5-edit",
        "seedance2-5-extend",
        "gpt-image-2.5-sunburst",
        "gpt-image-2.5-flare",
    }


@pytest.mark.parametrize("model", sorted(KNOWN))
def test_usual_seconds_are_those_of_minutes_for_a_video_and_less_for_an_image(model: str) -> None:
    seconds = usual_seconds(model)
    assert seconds
    assert (60 < seconds < 600) if KNOWN[model].output == "video" else (20 <= seconds <= 90)


def test_midjourney_has_four_outputs_and_all_else_one() -> None:
    assert {model for model, row in MODELS.items() if row.outputs == 4} == {m for m in IMAGE if m.startswith("mid")}
    assert {row.outputs for row in MODELS.values()} == {1, 4}


@pytest.mark.parametrize(
    ("model", "defaults"),
    [
        ("seedance-20", {"mode": "keyframe", "duration": 5, "outputResolution": "720p", "generate_audio": True}),
        (
            "seedance2-5",
            {
                "duration": 5,
                "outputResolution": "720p",
                "aspectRatio": "16:9",
                "generate_audio": True,
                "output_format": "mp4",
            },
        ),
        ("seedance2-5-extend", {"outputResolution": "720p", "generate_audio": True, "output_format": "mp4"}),
        (
            "wan3.0-image-to-video",
            {"duration": 5, "outputResolution": "720p", "aspectRatio": "16:9", "audio": True},
        ),
        ("nanobanana2", {"aspectRatio": "3:4", "resolution": "2k"}),
        ("midjourney-v8", {"aspectRatio": "1:1", "autoFix": True}),
    ],
)
def test_defaults_are_those_of_the_contract(model: str, defaults: dict[str, object]) -> None:
    fields = MODELS[model].fields
    assert {name: field.default for name, field in fields.items() if field.default is not None} == defaults


@pytest.mark.parametrize("model", sorted(KNOWN))
def test_every_default_is_itself_accepted(model: str) -> None:
    url = "https://media.example.com/a.mp4"
    inputs: dict[str, object] = {"prompt": "a fox", "duration": 5, "videoUrls": [url], "imageUrls": [url]}
    fields = KNOWN[model].fields
    inputs = {name: value for name, value in inputs.items() if name in fields}
    inputs |= {name: field.default for name, field in fields.items() if field.default is not None}
    assert check(model, inputs).problems == ()


@pytest.mark.parametrize("model", sorted(KNOWN))
def test_the_fields_of_a_price_are_choices_and_every_choice_has_a_rate(model: str) -> None:
    row = KNOWN[model]
    for index, name in enumerate(row.price.fields):
        priced = {size.split()[index] for size in row.price.rates}
        assert priced <= set(row.fields[name].choices)
        assert row.price.basis == "tokens" or priced == set(row.fields[name].choices)


@pytest.mark.parametrize("module", ["catalog", "validation"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    script = (
        f"import sys; import seedance_provider.api.{module}; "
        "print(*sorted({'pydantic', 'airflow', 'requests', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


def test_the_tables_of_the_user_guide_are_those_of_the_catalog() -> None:
    guide = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    assert make_input_tables.renewed(guide) == guide, "run python devtools/make_input_tables.py"


def test_the_user_guide_names_every_model() -> None:
    guide = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    assert [model for model in KNOWN if f"`{model}`" not in guide] == []
