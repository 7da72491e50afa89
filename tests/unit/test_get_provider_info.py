"""What Airflow discovers: an invalid key in it is fatal to `airflow providers list` and to the API server."""

from __future__ import annotations

import importlib
import inspect
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

import seedance_provider
from seedance_provider import defaults, get_provider_info
from seedance_provider.connection import SeedanceSettings
from seedance_provider.exceptions import SeedanceConfigurationError
from seedance_provider.hooks.seedance import SeedanceHook

INFO = get_provider_info.get_provider_info()
PACKAGE = Path(seedance_provider.__file__).parent
BASES: dict[str, type] = {
    "hooks": BaseHook,
    "operators": BaseOperator,
    "sensors": BaseSensorOperator,
    "triggers": BaseTrigger,
    "transfers": BaseOperator,
}
ROOMS = [room for room in BASES if (PACKAGE / room).is_dir()]


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_it_is_valid_for_the_installed_airflow() -> None:
    (schema,) = (
        json.loads(path.read_text())
        for folder in airflow.__path__
        if (path := Path(folder) / "provider_info.schema.json").is_file()
    )
    jsonschema.validate(INFO, schema)


def test_airflow_finds_it_by_its_entry_point() -> None:
    (entry_point,) = (
        each for each in entry_points(group="apache_airflow_provider") if each.value.startswith("seedance_provider.")
    )
    assert entry_point.load()() == INFO


def test_the_package_is_named_as_it_is_distributed() -> None:
    assert INFO["package-name"] == "airflow-provider-seedance"
    assert not INFO["package-name"].startswith("apache-airflow-"), "core would disable its hooks"
    assert INFO["versions"] == [seedance_provider.__version__]


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_with_a_class_that_airflow_uses_is_listed(room: str) -> None:
    modules = [f"seedance_provider.{room}.{path.stem}" for path in (PACKAGE / room).glob("[!_]*.py")]
    listed = [name for each in INFO.get(room, []) for name in each.get("python-modules") or [each["python-module"]]]
    assert sorted(listed) == sorted(name for name in modules if defines_one(name, BASES[room]))


def defines_one(module: str, base: type) -> bool:
    return any(
        issubclass(each, base) and each.__module__ == module and not inspect.isabstract(each)
        for each in vars(importlib.import_module(module)).values()
        if inspect.isclass(each)
    )


@pytest.mark.parametrize("path", INFO["extra-links"])
def test_every_extra_link_imports(path: str) -> None:
    assert inspect.isclass(load(path))


@pytest.mark.parametrize("decorator", INFO["task-decorators"])
def test_every_decorator_imports(decorator: dict[str, str]) -> None:
    assert callable(load(decorator["class-name"]))
    assert decorator["name"].isidentifier()


def test_every_integration_that_is_named_is_described() -> None:
    described = {each["integration-name"] for each in INFO["integrations"]}
    named = {each["integration-name"] for room in ROOMS for each in INFO.get(room, []) if "integration-name" in each}
    assert named <= described


def test_the_connection_type_is_the_hooks() -> None:
    (connection_type,) = INFO["connection-types"]
    assert load(connection_type["hook-class-name"]) is SeedanceHook
    assert connection_type["connection-type"] == SeedanceHook.conn_type
    assert connection_type["hook-name"] == SeedanceHook.hook_name


# The configuration.


def options() -> list[Any]:
    return [
        pytest.param(section, name, option, id=f"{section}.{name}")
        for section, content in INFO["config"].items()
        for name, option in content["options"].items()
    ]


@pytest.mark.parametrize(("section", "name", "option"), options())
def test_every_option_has_all_that_airflow_asks_of_it(section: str, name: str, option: dict[str, Any]) -> None:
    assert set(option) >= {"description", "version_added", "type", "example", "default"}
    assert option["description"]
    assert option["default"] is None or isinstance(option["default"], str), "Airflow reads defaults as text"
    assert option["example"] is None or isinstance(option["example"], str)


@pytest.mark.parametrize(("section", "name", "option"), options())
def test_every_default_is_one_that_airflow_knows(section: str, name: str, option: dict[str, Any]) -> None:
    from airflow.providers.common.compat.sdk import conf

    assert conf.get(section, name, fallback=None) in (option["default"], option["default"] or "", None)


# The connection form: metadata for 3.2 and later, methods of the hook for older versions.


def test_both_forms_have_the_same_fields_behaviour_and_words() -> None:
    (connection_type,) = INFO["connection-types"]
    behaviour = connection_type["ui-field-behaviour"]
    assert SeedanceHook.get_ui_field_behaviour() == {key.replace("-", "_"): value for key, value in behaviour.items()}
    fields = connection_type["conn-fields"]
    pytest.importorskip("wtforms")
    widgets = SeedanceHook.get_connection_form_widgets()
    assert list(widgets) == list(fields)
    for name, widget in widgets.items():
        assert widget.args[0] == fields[name]["label"]
        assert widget.kwargs["description"] == fields[name]["description"]
        assert widget.field_class.__name__.removesuffix("Field").lower() == fields[name]["schema"]["type"][0]


def settings_of(**extra: Any) -> SeedanceSettings:
    return SeedanceSettings.from_connection("mine", Connection(conn_type="seedance", password="sk-mine", extra=extra))


@pytest.mark.parametrize("name", [*get_provider_info.CONN_FIELDS])
def test_every_field_of_the_form_is_read_and_may_stay_empty(name: str) -> None:
    for empty in (None, ""):
        settings_of(**{name: empty})
    with pytest.raises(SeedanceConfigurationError, match=f"{name} in the extra of connection 'mine' is 'nonsense'"):
        settings_of(**{name: "nonsense"})
    assert "null" in get_provider_info.CONN_FIELDS[name]["schema"]["type"]


def test_the_form_shows_the_default_host() -> None:
    (connection_type,) = INFO["connection-types"]
    placeholder = connection_type["ui-field-behaviour"]["placeholders"]["host"]

    assert settings_of().base_url == placeholder + defaults.API_PATH


@pytest.mark.differs("connection form", "from the hook", "from the hook; 3.2 from metadata", "from metadata")
def test_airflow_3_2_and_later_shows_the_form_from_the_metadata() -> None:
    service = pytest.importorskip("airflow.api_fastapi.core_api.services.ui.connections").HookMetaService
    if not hasattr(
        importlib.import_module("airflow.providers_manager").ProvidersManager, "iter_connection_type_hook_ui_metadata"
    ):
        pytest.skip("older versions take the form from the hook")
    (form,) = (each for each in service.hook_meta_data() if each.connection_type == "seedance")
    assert set(form.extra_fields) == set(get_provider_info.CONN_FIELDS)
    assert form.standard_fields.password.title == "API key"
    assert form.standard_fields.host.title == "Base URL"
    assert form.standard_fields.login.hidden
