"""What a mapped task instance is called in the UI where the DAG's author gives no ``map_index_template``."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from seedance_provider import defaults

TEMPLATE = "{{ ti.task.shown_as }}"
"""Rendered by Airflow when the task instance begins (3.2 and later) and when it ends. ``task`` is a copy on 3.0."""


def offer(context: Any) -> None:
    """Name a mapped task instance by its task's ``shown_as``; a template of the author's comes first.

    Airflow has no default that a task could set: what it renders is in the context, that of a mapped operator.

    :param context: Airflow's context, once the task's templates are rendered.
    """
    ti = context.get("ti")
    is_mapped = getattr(ti, "map_index", -1) >= 0
    if is_mapped and context.get("map_index_template") is None and ti.task.shown_as:
        context["map_index_template"] = TEMPLATE


def prompt_of(inputs: Any) -> str:
    """The prompt in the inputs of a task.

    :param inputs: A mapping, or the text of a JSON object.
    :return: The prompt; an empty string without one.
    """
    if isinstance(inputs, str):
        try:
            inputs = json.loads(inputs)
        except (ValueError, RecursionError):
            return ""
    prompt = inputs.get("prompt") if isinstance(inputs, Mapping) else None
    return prompt if isinstance(prompt, str) else ""


def first_words(text: str) -> str:
    """The first words of a text, in one line without control characters.

    :param text: The text.
    :return: At most ``MAX_LABEL`` characters.
    """
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * defaults.MAX_LABEL])
    words = " ".join(printable.split())
    if len(words) > defaults.MAX_LABEL:
        cut = words[: defaults.MAX_LABEL]
        words = f"{cut.rpartition(' ')[0] or cut[:-1]}…"
    try:
        ast.literal_eval(words)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return words
    # A DAG with render_template_as_native_obj would make a number of "1984", and Airflow fails a task of such a name.
    return f"“{words}”"
