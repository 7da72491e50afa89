"""Whatever the package imports is declared, and whatever is declared is imported."""

from __future__ import annotations

import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.imports import PACKAGE, imports

DECLARED = {
    canonicalize_name(Requirement(text).name)
    for text in tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
}
# Imported only by a program that has it.
BROUGHT_BY_THE_CALLER = {
    ("seedance_provider.testing.pytest_plugin", "pytest"),  # pytest loads its plugins
    ("seedance_provider.execution.lineage", "attr"),  # OpenLineage, whose facets are attrs classes
    ("seedance_provider.hooks.connection_form", "flask_appbuilder"),  # the webserver of Airflow 2 draws the form
    ("seedance_provider.hooks.connection_form", "wtforms"),
    ("seedance_provider.plugins.answers", "sqlalchemy"),  # the API server serves requests
    ("seedance_provider.plugins.events", "sqlalchemy"),
    ("seedance_provider.plugins.pages", "fastapi"),
    ("seedance_provider.plugins.shared", "anyio"),
    ("seedance_provider.plugins.spending", "anyio"),
    ("seedance_provider.plugins.spending", "fastapi"),
    ("seedance_provider.plugins.stored", "anyio"),
    ("seedance_provider.plugins.stored", "fastapi"),
    ("seedance_provider.plugins.videos", "anyio"),
    ("seedance_provider.plugins.videos", "fastapi"),
    ("seedance_provider.plugins.videos", "sqlalchemy"),
}
FOREIGN = {
    (each.importer, package)
    for each in imports()
    if not each.typing_only and (package := each.imported.partition(".")[0]) not in sys.stdlib_module_names
    if package != PACKAGE.name
}
NEEDED = sorted({package for _, package in FOREIGN - BROUGHT_BY_THE_CALLER})


installed = cache(packages_distributions)  # it reads the files of all that is installed


def distributions_of(package: str) -> set[str]:
    return {canonicalize_name(name) for name in installed().get(package, [package])}


@pytest.mark.parametrize("package", NEEDED)
def test_what_is_imported_is_declared(package: str) -> None:
    assert distributions_of(package) & DECLARED


@pytest.mark.parametrize("distribution", sorted(DECLARED - {"apache-airflow"}))  # on Airflow 3 it has no module itself
def test_what_is_declared_is_imported(distribution: str) -> None:
    assert distribution in set().union(*map(distributions_of, NEEDED))


def test_each_exception_is_still_one() -> None:
    assert FOREIGN >= BROUGHT_BY_THE_CALLER
