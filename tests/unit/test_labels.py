"""What names a mapped task instance in the UI."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given

from seedance_provider import defaults, labels
from tests.support import wild


@pytest.mark.parametrize(
    ("inputs", "prompt"),
    [
        ({"prompt": "A fox"}, "A fox"),
        ('{"prompt": "A fox"}', "A fox"),
        ({"prompt": 5}, ""),
        ({}, ""),
        ("{", ""),
        ("[" * 100_000, ""),
        ("[]", ""),
        (None, ""),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_the_prompt_is_found_in_whatever_inputs_are(inputs: Any, prompt: str) -> None:
    assert labels.prompt_of(inputs) == prompt


def test_a_long_prompt_is_cut_between_two_words() -> None:
    name = labels.first_words("The camera follows a red canoe over a still lake at dawn, seen from the shore, slowly")
    assert name == "The camera follows a red canoe over a still lake at dawn,…"
    assert len(labels.first_words("x" * 10_000)) <= defaults.MAX_LABEL


def test_line_breaks_control_and_bidi_characters_do_not_reach_the_ui() -> None:
    assert labels.first_words(" A\nfox\x1b[2J\u202e jumps\x00 ") == "A fox [2J jumps"


@pytest.mark.parametrize("prompt", ["1984", "None", "[1, 2]", "'a fox'", "0x10", "1e5"])
def test_a_prompt_that_reads_like_a_value_stays_a_text_in_a_dag_of_native_objects(prompt: str) -> None:
    name = labels.first_words(prompt)
    assert prompt in name
    with pytest.raises((ValueError, SyntaxError)):
        ast.literal_eval(name)


@given(wild.texts)
def test_any_text_gives_a_name_that_airflow_can_keep(text: str) -> None:
    name = labels.first_words(text)
    assert len(name) <= defaults.MAX_LABEL + 2
    assert name.isprintable()
    name.encode()


@pytest.mark.parametrize(
    ("map_index", "template", "shown_as", "offered"),
    [
        (0, None, "A fox", labels.TEMPLATE),
        (7, None, "A fox", labels.TEMPLATE),
        (-1, None, "A fox", None),
        (0, "{{ task.model }}", "A fox", "{{ task.model }}"),
        (0, "", "A fox", ""),
        (0, None, "", None),
    ],
    ids=["mapped", "another", "not-mapped", "authors-own", "authors-none", "no-prompt"],
)
def test_a_name_is_offered_to_mapped_tasks_without_one(
    map_index: int, template: str | None, shown_as: str, offered: str | None
) -> None:
    context = {
        "ti": SimpleNamespace(map_index=map_index, task=SimpleNamespace(shown_as=shown_as)),
        "map_index_template": template,
    }
    labels.offer(context)
    assert context["map_index_template"] == offered


def test_a_context_without_a_task_instance_is_left_alone() -> None:
    context: dict[str, Any] = {}
    labels.offer(context)
    assert context == {}
