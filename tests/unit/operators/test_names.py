"""What mapped task instances are called, in a real DAG run through ``dag.test()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seedance_provider.decorators.seedance import seedance_task
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from seedance_provider.testing import Emulator
from seedance_provider.transfers.seedance_to_object_storage import SeedanceToObjectStorageOperator
from tests.support.airflow import DagOutcome, run_dag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "A lighthouse at dawn, seen from the sea, while the waves break on the rocks below it"
TASKS = f"""
    from airflow.providers.common.compat.sdk import task_group

    from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

    dag.render_template_as_native_obj = True
    COMMON = {{"poll_interval": 0.1, "deferrable": False}}
    prompts = ["A tram\\nin the rain", "{LONG}", "x [[fail]]"]
    inputs = [{{"prompt": prompt}} for prompt in prompts]
    SeedanceGenerateVideoOperator.partial(task_id="generate", **COMMON).expand(inputs=inputs)
    SeedanceGenerateVideoOperator.partial(
        task_id="own", map_index_template="{{{{ task.model }}}}!", **COMMON
    ).expand(inputs=inputs[:1])
    SeedanceGenerateVideoOperator(task_id="single", inputs=inputs[0], **COMMON)

    @task_group
    def clip(prompt):
        create = SeedanceCreateTaskOperator(task_id="create", inputs={{"prompt": prompt}})
        SeedanceTaskSensor(task_id="wait", seedance_task_id=create.output, **COMMON)

    clip.expand(prompt=["A fox", "A hen"])

    @task.seedance(**COMMON)
    def film(city, light="night"):
        if city == "Nowhere":
            raise ValueError
        return "1984" if city == "Airstrip One" else f"{{city}} at {{light}}"

    film.expand(city=["Lisbon", "Nowhere", "Airstrip One"])
"""


@pytest.fixture(scope="module")
def run(airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagOutcome]:
    with (
        Emulator(waiting_seconds=0.05, generating_seconds=0.1, concurrency_limit=None) as emulator,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        yield run_dag(tmp_path_factory.mktemp("dags"), TASKS)


@pytest.mark.differs(
    "a mapped task shows its prompt in the UI",
    "when it has ended",
    "up to 3.1 when it has ended; 3.2 while it runs",
    "while it runs",
)
def test_a_mapped_video_is_called_by_the_first_words_of_its_prompt(run: DagOutcome) -> None:
    assert [(run["generate", index].state, run["generate", index].name) for index in range(3)] == [
        ("success", "A tram in the rain"),
        ("success", "A lighthouse at dawn, seen from the sea, while the waves…"),
        ("failed", "x [[fail]]"),
    ]


def test_the_authors_template_takes_precedence(run: DagOutcome) -> None:
    assert run["own", 0].name == "seedance-20!"


def test_a_task_that_is_not_mapped_has_no_such_name(run: DagOutcome) -> None:
    assert run["single"].name is None


def test_in_a_mapped_group_create_is_called_by_its_prompt_and_the_sensor_by_its_task(run: DagOutcome) -> None:
    assert [run["clip.create", index].name for index in range(2)] == ["A fox", "A hen"]
    assert [run["clip.wait", index].name for index in range(2)] == [
        run["clip.create", index].returned for index in range(2)
    ]


def test_a_function_names_its_video_by_the_prompt_else_by_its_arguments(run: DagOutcome) -> None:
    assert [run["film", index].name for index in range(2)] == ["Lisbon at night", "Nowhere"]


def test_a_prompt_that_reads_like_a_number_fails_no_video_that_is_charged(run: DagOutcome) -> None:
    """A DAG of native objects makes a number of such a name, and Airflow fails the task after its end."""
    assert (run["film", 2].state, run["film", 2].name) == ("success", "“1984”")


@pytest.mark.parametrize(
    "operator",
    [
        SeedanceCreateTaskOperator,
        SeedanceGenerateVideoOperator,
        SeedanceTaskSensor,
        SeedanceToObjectStorageOperator,
    ],
)
def test_the_name_in_the_graph_is_not_cut(operator: type) -> None:
    """Airflow shows 22 characters there."""
    assert len(operator.custom_operator_name) <= 22  # type: ignore[attr-defined]
    assert operator.custom_operator_name.startswith("Seedance")  # type: ignore[attr-defined]


def test_the_decorator_keeps_its_own_name() -> None:
    @seedance_task
    def film() -> str:
        return "A fox"

    assert film.operator_class.custom_operator_name == "@task.seedance"  # type: ignore[attr-defined]
