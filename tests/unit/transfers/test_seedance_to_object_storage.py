"""The transfer operator and ``output_path``: what is refused while a DAG file is parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seedance_provider.exceptions import SeedanceConfigurationError
from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator

FOX = {"prompt": "a fox", "duration": 5}
BAD_PATHS = ["", "videos/{index}.mp4", "/data/{name}.mp4", "/data/{index.mp4", "s3://bucket", "/data/../x"]


def transfer(**arguments: Any) -> SeedanceToObjectStorageOperator:
    return SeedanceToObjectStorageOperator(task_id="store", **({"output_path": "/data/"} | arguments))


def generate(**arguments: Any) -> SeedanceGenerateVideoOperator:
    return SeedanceGenerateVideoOperator(task_id="generate", inputs=FOX, **arguments)


def wait(**arguments: Any) -> SeedanceTaskSensor:
    return SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1", **arguments)


@pytest.mark.parametrize("output_path", BAD_PATHS)
@pytest.mark.parametrize("operator", [generate, wait, lambda **arguments: transfer(seedance_task_id="t", **arguments)])
def test_a_path_that_cannot_be_is_refused(operator: Any, output_path: str) -> None:
    with pytest.raises(SeedanceConfigurationError, match="output_path"):
        operator(output_path=output_path)


@pytest.mark.parametrize("name", ["overwrite", "last_frame"])
@pytest.mark.parametrize("operator", [generate, wait])
def test_what_concerns_files_needs_a_path(operator: Any, name: str) -> None:
    with pytest.raises(SeedanceConfigurationError, match=f"{name}=True"):
        operator(**{name: True})


def test_a_task_that_does_not_wait_has_no_files() -> None:
    with pytest.raises(SeedanceConfigurationError, match="wait_for_completion=False"):
        generate(output_path="/data/", wait_for_completion=False)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"seedance_task_id": "t", "urls": ["https://h/a"]}, {"record": {}, "urls": []}],
    ids=str,
)
def test_exactly_one_source_is_given(arguments: dict[str, Any]) -> None:
    with pytest.raises(SeedanceConfigurationError, match="exactly one"):
        transfer(**arguments)


@pytest.mark.parametrize("name", ["seedance_task_id", "model", "seed"])
def test_a_path_of_urls_names_only_what_is_known_of_them(name: str) -> None:
    with pytest.raises(SeedanceConfigurationError, match=name):
        transfer(urls=["https://host/a.mp4"], output_path=f"/data/{{{name}}}.mp4")
    transfer(urls=["https://host/a.mp4"], output_path="/data/{index}.{ext}")


def test_urls_have_no_last_frame() -> None:
    with pytest.raises(SeedanceConfigurationError, match="last_frame"):
        transfer(urls=["https://host/a.mp4"], last_frame=True)


@pytest.mark.parametrize(
    "operator", [SeedanceGenerateVideoOperator, SeedanceTaskSensor, SeedanceToObjectStorageOperator]
)
def test_the_path_is_a_template_field(operator: Any) -> None:
    assert "output_path" in operator.template_fields
    assert "model" in SeedanceGenerateVideoOperator.template_fields


@pytest.mark.parametrize("rendered", [None, "", "nowhere/x.mp4", "nonsense://bucket/{ext}"])
def test_a_path_that_renders_to_nothing_fails_before_anything_is_charged(
    seedance_emulator: Any, rendered: str | None
) -> None:
    operator = generate(output_path="{{ params.path }}")
    operator.output_path = rendered  # type: ignore[assignment]
    context: Any = {"ti": _ti(), "task": operator}
    with pytest.raises(SeedanceConfigurationError, match="output_path"):
        operator.execute(context)
    assert seedance_emulator.bill()["tasks_created"] == 0


def test_a_sensor_says_it_before_it_waits(seedance_emulator: Any, tmp_path: Path) -> None:
    operator = wait(output_path="nonsense://bucket/")
    context: Any = {"ti": _ti(), "task": operator}
    with pytest.raises(SeedanceConfigurationError, match="output_path"):
        operator.execute(context)
    assert not seedance_emulator.requests("recordInfo")


def _ti() -> Any:
    from tests.support.airflow import FakeTaskInstance

    return FakeTaskInstance()
