"""The picture of the imports in CONTRIBUTING.md is true."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

import pytest

from tests.support.imports import PACKAGE, Import, imports, modules

INSIDE = [
    each
    for each in imports()
    if each.imported.startswith(f"{PACKAGE.name}.")  # not the package itself: its version
]
IMPORTED_BY_DAG_FILES = ("operators", "sensors", "transfers", "decorators", "notifications")
NEEDED_BY_A_RUN_ONLY = ("events", "execution", "hooks", "api.errors", "api.flows", "api.pricing")
IMPORTED_LATE = {
    ("sensors.seedance", "airflow.sensors.base"),  # only there on Airflow 2
    ("hooks.connection_form", "wtforms"),  # only the webserver of Airflow 2 has it
    ("hooks.connection_form", "wtforms.validators"),
    ("hooks.connection_form", "flask_appbuilder.fieldwidgets"),
    ("api.validation", "difflib"),  # parse cost: needed for a refused name only
    ("api.validation", "urllib.parse"),  # parse cost: few DAG files write a URL out
    ("hooks.seedance", "seedance_provider.transport.sync"),  # requests: a task that resumes sends nothing
    ("hooks.seedance", "seedance_provider.transport.download"),
    ("execution.storage", "seedance_provider.transport.download"),
    ("triggers.shared", "seedance_provider.transport.pool"),  # aiohttp: a worker makes triggers and runs none
    ("plugins", "seedance_provider.plugins.callbacks"),  # every process of Airflow imports the room itself
    ("plugins", "seedance_provider.plugins.pages"),
    ("testing", "seedance_provider.testing.emulator.thread"),  # aiohttp, only where an emulator is started
    ("testing.pytest_plugin", "seedance_provider.testing.emulator.thread"),
}


def room(module: str) -> str:
    name = module.split(".")[1]
    return "cli" if name == "__main__" else name  # one line that runs it


def short(module: str) -> str:
    return module.partition(".")[2]


def drawn() -> dict[str, set[str]]:
    """The rooms of the picture, each with those that its arrows lead to."""
    _, picture, _ = re.split(r"```mermaid\n|```\n\n\| Room", (PACKAGE.parent / "CONTRIBUTING.md").read_text())
    rooms: dict[str, set[str]] = {}
    for line in picture.splitlines()[1:]:
        start, _, end = line.strip().partition(" --> ")
        rooms.setdefault(start, set())
        if end:
            rooms.setdefault(end, set())
            rooms[start].add(end)
    return rooms


ROOMS = drawn()


def below(start: str) -> set[str]:
    """Whatever the arrows lead to, directly and by way of others."""
    return ROOMS[start].union(*map(below, ROOMS[start]))


def test_every_room_is_in_the_picture() -> None:
    assert {room(module) for module in modules() if "." in module} == ROOMS.keys()


@pytest.mark.parametrize("start", ROOMS)
def test_a_room_imports_only_what_its_arrows_lead_to(start: str) -> None:
    assert {room(each.imported) for each in INSIDE if room(each.importer) == start} - {start} <= below(start)


@pytest.mark.parametrize(("start", "end"), [(start, end) for start in ROOMS for end in sorted(ROOMS[start])])
def test_every_arrow_is_an_import(start: str, end: str) -> None:
    assert [each for each in INSIDE if (room(each.importer), room(each.imported)) == (start, end)]


def test_no_two_modules_import_each_other_also_not_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for each in INSIDE:  # those for type checking only as well
        graph[each.importer].add(each.imported)
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules())  # raises CycleError


def is_for_a_run_only(each: Import) -> bool:
    return room(each.importer) in IMPORTED_BY_DAG_FILES and f"{each.imported}.".startswith(
        tuple(f"{PACKAGE.name}.{name}." for name in NEEDED_BY_A_RUN_ONLY)
    )


def test_functions_import_only_what_parsing_must_not_load_and_a_few_more() -> None:
    late = {
        (short(each.importer), each.imported) for each in imports() if each.function and not is_for_a_run_only(each)
    }
    assert late == IMPORTED_LATE


def test_what_a_dag_file_imports_has_nothing_at_its_top_that_only_a_run_needs() -> None:
    top = [each for each in INSIDE if not each.function and not each.typing_only]
    assert not [each for each in top if is_for_a_run_only(each)]
