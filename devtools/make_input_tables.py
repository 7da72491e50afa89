"""Write the tables of docs/inputs.md anew from the catalog: ``python devtools/make_input_tables.py``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from seedance_provider.api.catalog import LEGACY_FIELDS, MODELS, PRICES_AS_OF, Field, Model  # noqa: E402

GUIDE = ROOT / "docs" / "inputs.md"
FAMILIES = {
    "seedance-2.0": ("seedance-20", "seedance2-fast"),
    "seedance-2.5": ("seedance2-5", "seedance2-5-edit", "seedance2-5-extend"),
    "wan-3.0": ("wan3.0-text-to-video", "wan3.0-image-to-video", "wan3.0-ref-to-video"),
    "images": ("gpt-image-2", "gpt-image-2.5-sunburst", "seedream-5.0-pro", "nanobanana-pro", "nanobanana2"),
    "midjourney": ("midjourney-v8",),
}
BASIS = {
    "duration": "second of `duration`",
    "reference": "second of `duration`; with a reference video also per second of it, up to 30",
    "edit": "second of the source, twice",
    "task": "task",
    "tokens": "task: held, and about what is settled",
}


def cell(field: Field | None) -> str:
    """Say what a field accepts."""
    if field is None:
        return "not a field"
    parts = [re.sub(r'"([^"]*)"', r"`\1`", str(field)), "**required**" if field.required else ""]
    parts += [f"default `{field.default}`"] if field.default is not None else []
    return "; ".join(part for part in (*parts, field.note) if part)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its first row is the head."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, [":--"] * len(head), *body))


def twins(row: Model) -> str:
    """The ids that share a model's fields."""
    same = [other for other in MODELS.values() if other.fields == row.fields]
    return ", ".join(f"`{name}`" for other in same for name in (other.id, *other.aliases))


def fields(models: Sequence[str]) -> str:
    """One column per model; what is as in the first column is "same"."""
    rows = [MODELS[model] for model in models]
    lines = [["Field", *map(twins, rows)]]
    for name in dict.fromkeys(name for row in rows for name in row.fields):
        first, *rest = (cell(row.fields.get(name)) for row in rows)
        lines.append([f"`{name}`", first, *("same" if text == first else text for text in rest)])
    return table(lines)


def price_lines() -> Iterator[list[str]]:
    """One line per list of models that share their prices."""
    prices = list(dict.fromkeys(map(repr, (row.price for row in MODELS.values()))))
    for price in prices:
        rows = [row for row in MODELS.values() if repr(row.price) == price]
        names = ", ".join(f"`{name}`" for row in rows for name in (row.id, *row.aliases))
        row = rows[0]
        amounts = []
        for size, (plain, video) in row.price.rates.items():
            separator = " to " if row.price.basis == "tokens" else " / "
            amount = plain if plain == video else f"{plain}{separator}{video}"
            amounts.append(amount if size == "task" else f"{size}: {amount}")
        yield [names, ", ".join(amounts), BASIS[row.price.basis]]


def legacy_lines() -> Iterator[list[str]]:
    """One line per old name."""
    for name, old in LEGACY_FIELDS.items():
        instead = old.instead or "outputResolution and aspectRatio"
        current = re.sub(r"\b(outputResolution|aspectRatio|imageUrls|videoUrls|audioUrls)\b", r"`\1`", instead)
        yield [f"`{name}`", f"API {old.version}", cell(old.field), current.replace("`imageUrls`: [...]", "`imageUrls`")]


def sections() -> dict[str, str]:
    """The generated parts of the guide, by the name in their marks."""
    return {
        **{family: fields(models) for family, models in FAMILIES.items()},
        "prices": table([["Model", "Credits", "per"], *price_lines()]),
        "prices-as-of": f"Credits by the vendor's list of {PRICES_AS_OF}, without temporary discounts.",
        "old-names": table([["Old name", "Last in", "Values", "Use instead"], *legacy_lines()]),
    }


def renewed(guide: str) -> str:
    """The guide with its tables as the catalog has them.

    :param guide: the text of docs/inputs.md.
    :raises ValueError: if a table has no place in it.
    """
    for name, text in sections().items():
        mark = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        guide, found = mark.subn(lambda match, text=text: f"{match[1]}{text}{match[2]}", guide)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"docs/inputs.md needs one place for {name}")
    return guide


if __name__ == "__main__":
    GUIDE.write_text(renewed(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
