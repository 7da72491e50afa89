"""What each module of the package imports, read from its source: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "seedance_provider"


class Import(NamedTuple):
    """One imported module.

    :param importer: The importing module's full name.
    :param imported: The imported module's full name; of a foreign package, the name as written.
    :param function: The function in which the import stands; None at the top.
    :param typing_only: Whether it stands under ``if TYPE_CHECKING``.
    """

    importer: str
    imported: str
    function: str | None
    typing_only: bool


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """The package's modules by their full names."""
    return {_name(path): path for path in PACKAGE.rglob("*.py")}


@cache
def imports() -> list[Import]:
    """Every import in the package, wherever it stands."""
    return [
        each
        for name, path in sorted(modules().items())
        for each in _walk(name, ast.parse(path.read_text()), None, False)
    ]


def _walk(importer: str, node: ast.AST, function: str | None, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for imported in _targets(child):
                yield Import(importer, imported, function, typing_only)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(importer, child, child.name, typing_only)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _walk(importer, child, function, True)
        else:
            yield from _walk(importer, child, function, typing_only)


def _targets(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    assert node.module, "relative imports are not used"
    submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
    return submodules | ({node.module} if len(submodules) < len(node.names) else set())
