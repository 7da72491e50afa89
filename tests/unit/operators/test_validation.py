"""The check of inputs where a DAG author meets it: when the DAG is parsed, and before a request is sent."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceInvalidRequestError
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from seedance_provider.testing import Emulator
from tests.support.airflow import DagOutcome, FakeTaskInstance, TaskLog, run_dag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATORS = pytest.mark.parametrize("operator_class", [SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator])
SEED_EXAMPLE = {"prompt": "A sunset over the ocean", "resolution": "1280x720", "duration": "5s"}
WRONG = {
    "prompt": "a fox",
    "aspect_ratio": "9:16",
    "duration": 60,
    "imageUrls": ["https://example.com/a.png", "cat.png"],
    "outputResolution": "2k",
}


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceHook, SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator)


def make(inputs: Any, operator_class: Any = SeedanceCreateTaskOperator, **arguments: Any) -> Any:
    return operator_class(task_id="make_video", inputs=inputs, **arguments)


def create(inputs: Any, **arguments: Any) -> Any:
    """Run the operator on inputs that are known only now."""
    operator = make("{{ later }}", **arguments)
    operator.inputs = inputs  # as rendering does
    return operator.execute({"ti": FakeTaskInstance()})


# When the DAG is parsed.


def test_a_wrong_literal_is_an_import_error_of_the_dag(tmp_path: Path) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2.11
        from airflow.models.dagbag import DagBag
    (tmp_path / "typo.py").write_text(
        textwrap.dedent(
            f"""
            from airflow.providers.common.compat.sdk import DAG
            from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

            with DAG("typo", schedule=None):
                SeedanceGenerateVideoOperator(task_id="make_video", inputs={WRONG!r})
            """
        )
    )
    bag = DagBag(str(tmp_path))
    assert bag.dags == {}
    (error,) = bag.import_errors.values()
    assert "'make_video'" in error
    assert "aspectRatio" in error


@OPERATORS
def test_all_problems_are_reported_together_each_with_its_place_its_value_and_its_fix(operator_class: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        make(WRONG, operator_class)
    text = str(caught.value)
    assert sorted(problem["path"] for problem in caught.value.errors) == [
        "aspect_ratio",
        "duration",
        "imageUrls[1]",
        "outputResolution",
    ]
    for found in ("duration = 60", "from 4 to 15", "imageUrls[1] = 'cat.png'", "outputResolution = '2k'", '"4k"'):
        assert found in text
    assert "validation='warn'" in text
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": "{{ prompt }}", "duration": "{{ params.seconds }}"},
        {"prompt": "a fox", "imageUrls": "{{ ti.xcom_pull('images') }}"},
        {"prompt": "a fox", "imageUrls": ["{{ a }}", "https://example.com/b.png"]},
        "inputs.json",
        "{{ ti.xcom_pull('inputs') }}",
    ],
)
def test_what_only_a_run_can_know_is_not_judged_when_the_dag_is_parsed(inputs: Any) -> None:
    assert make(inputs).inputs == inputs


def test_a_literal_beside_a_template_is_judged_when_the_dag_is_parsed() -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        make({"prompt": "{{ prompt }}", "duration": 60, "aspectRatio": "{{ ratio }}"})
    assert [problem["path"] for problem in caught.value.errors] == ["duration"]


def test_under_a_templated_model_nothing_is_judged_when_the_dag_is_parsed() -> None:
    assert make({"prompt": "a fox", "duration": 60}, model="{{ params.model }}").model == "{{ params.model }}"


@pytest.mark.parametrize("inputs", [["a fox"], None, 7, {"prompt"}], ids=str)
def test_a_literal_that_is_no_mapping_is_refused_when_the_dag_is_parsed(inputs: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match="inputs"):
        make(inputs)


def test_a_warning_waits_for_the_run(task_log: TaskLog) -> None:
    make(SEED_EXAMPLE)
    assert task_log.lines == []


@pytest.mark.parametrize("validation", ["Strict", "off", "", None, True])
def test_another_word_than_strict_and_warn_is_refused(validation: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match=f"validation is {validation!r}"):
        make({"prompt": "a fox"}, validation=validation)


# Before the request.


@OPERATORS
def test_nothing_is_sent_of_what_is_wrong_at_run_time(seedance_emulator: Emulator, operator_class: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        create(WRONG, operator_class=operator_class)
    assert len(caught.value.errors) == 4
    assert isinstance(caught.value, AirflowFailException)
    assert seedance_emulator.requests() == []


def test_the_example_of_the_seed_document_passes_with_a_word_on_what_is_ignored(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    seedance_emulator.settings.dialect = "seed"
    make(SEED_EXAMPLE)
    assert create(SEED_EXAMPLE)
    (order,) = [task.order for task in seedance_emulator.server.ledger.tasks.values()]
    assert order.inputs == SEED_EXAMPLE  # as written
    assert any("resolution = '1280x720'" in line for line in task_log.warnings)


def test_under_warn_it_is_said_and_sent(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    inputs = {"prompt": "a fox", "aspect_ratio": "9:16", "outputResolution": "720p"}
    make(inputs, validation="warn")
    assert create(inputs, validation="warn")
    (line,) = [line for line in task_log.warnings if "The inputs look wrong" in line]
    assert "aspectRatio" in line
    (order,) = [task.order for task in seedance_emulator.server.ledger.tasks.values()]
    assert order.inputs == inputs


def test_under_warn_the_vendor_has_the_last_word(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match="Duration must be between 4 and 15 seconds") as caught:
        create({"prompt": "a fox", "duration": 60}, validation="warn")
    assert caught.value.status_code == 400
    assert any("duration = 60" in line for line in task_log.warnings)
    assert seedance_emulator.bill()["tasks_created"] == 0


@pytest.mark.parametrize("inputs", [{"prompt": "a fox", "seed": float("nan")}, {"prompt": {1, 2}}, ["a fox"]], ids=str)
def test_under_warn_what_cannot_be_sent_is_still_refused(seedance_emulator: Emulator, inputs: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError):
        create(inputs, validation="warn")
    assert seedance_emulator.requests() == []


def test_an_unknown_model_passes_with_one_line(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    inputs = {"prompt": "a fox", "whatever": [1, 2]}
    make(inputs, model="seedance2-5-preview")
    assert create(inputs, model="seedance2-5-preview")
    (line,) = task_log.warnings[-1:]
    assert "'seedance2-5-preview'" in line
    assert len([line for line in task_log.warnings if "catalog" in line]) == 1
    assert seedance_emulator.bill()["tasks"][0]["model"] == "seedance2-5-preview"


def test_nothing_is_said_of_what_is_right(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    create({"prompt": "a fox", "outputResolution": "720p", "duration": 5})
    assert not any("inputs" in line or "default" in line for line in task_log.warnings)
    assert seedance_emulator.bill()["tasks_created"] == 1


# In a real run: templates, files, mapped tasks. One for all tests, as the first costs some seconds.

TASKS = """
    from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator

    def create(task_id, inputs, **arguments):
        retries = {"retries": 2, "retry_delay": timedelta(0)}
        return SeedanceCreateTaskOperator(task_id=task_id, inputs=inputs, **retries | arguments)

    create("good_text", {"prompt": "a {{ 'fox' }}", "duration": "{{ 2 + 3 }}"})
    create("wrong_text", {"prompt": "a {{ 'fox' }}", "duration": "{{ 50 + 10 }}"})
    create("wrong_json", '{"prompt": "a fox", "durations": {{ 5 | tojson }}}')
    create("good_json", '{"prompt": {{ "a fox" | tojson }}, "generate_audio": {{ false | tojson }}}')
    create("good_file", "good.json")
    create("wrong_file", "wrong.json")
    create("good_model", {"prompt": "a fox", "duration": 30}, model="{{ 'seedance2-5' }}")
    create("wrong_model", {"prompt": "a fox", "duration": 30}, model="{{ 'seedance-20' }}")
    create("waved_through", {"prompt": "{{ 'a fox' }}", "typo": "{{ 1 }}"}, validation="warn")

    @task
    def wanted():
        return [{"prompt": "one"}, {"prompt": "two", "aspect_ratio": "1:1"}, {"prompt": "three", "duration": 6}]

    partial = SeedanceCreateTaskOperator.partial(task_id="mapped", retries=2, retry_delay=timedelta(0))
    partial.expand(inputs=wanted())
    SeedanceCreateTaskOperator.partial(task_id="literal", inputs={"prompt": "a fox", "duration": 15}).expand(
        model=["seedance-20", "seedance2-5", "wan3.0-text-to-video", "seedance2-5-extend"]
    )
    SeedanceGenerateVideoOperator.partial(task_id="stored", inputs={"prompt": "no place"}).expand(
        output_path=["/tmp/{name}.mp4", "fox.mp4"]
    )
    SeedanceTaskSensor.partial(task_id="waited", seedance_task_id="demo_task_t2v_success").expand(
        output_path=["/tmp/{name}.mp4"]
    )
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(concurrency_limit=None) as running:
        yield running


@pytest.fixture(scope="module")
def run(emulator: Emulator, airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> DagOutcome:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "good.json").write_text(json.dumps({"prompt": "from {{ 'a file' }}"}))
    (folder / "wrong.json").write_text(json.dumps({"prompt": "from a file", "ratio": "7:5"}))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        return run_dag(folder, TASKS)


@pytest.mark.parametrize("name", ["good_text", "good_json", "good_file", "good_model", "waved_through"])
def test_what_is_right_after_rendering_is_made(run: DagOutcome, name: str) -> None:
    assert (run[name].state, run[name].try_number) == ("success", 1)
    assert run[name].returned.startswith("task_")


@pytest.mark.parametrize("name", ["wrong_text", "wrong_json", "wrong_file", "wrong_model"])
def test_what_is_wrong_after_rendering_fails_without_a_retry(run: DagOutcome, name: str) -> None:
    assert (run[name].state, run[name].try_number) == ("failed", 1)


def test_of_mapped_tasks_only_the_wrong_one_fails(run: DagOutcome) -> None:
    assert [run["mapped", index].state for index in range(3)] == ["success", "failed", "success"]
    assert run["mapped", 1].try_number == 1


@pytest.mark.parametrize(
    ("task_id", "index", "named"),
    [
        ("mapped", 1, "aspect_ratio"),
        ("literal", 3, "videoUrls"),
        ("stored", 0, "{name}"),
        ("stored", 1, "fox.mp4"),
        ("waited", 0, "{name}"),
    ],
)
def test_why_a_mapped_one_is_wrong_is_in_xcom_for_a_later_task(
    run: DagOutcome, emulator: Emulator, task_id: str, index: int, named: str
) -> None:
    assert run[task_id, index].state == "failed"
    assert named in run[task_id, index].xcoms["seedance_error"]["message"]
    assert "no place" not in [task["prompt"] for task in emulator.bill()["tasks"]]


def test_the_inputs_of_mapped_models_are_judged_by_each_model(run: DagOutcome) -> None:
    # Extend lacks its video.
    assert [run["literal", index].state for index in range(4)] == ["success", "success", "success", "failed"]


def test_no_wrong_request_was_sent(run: DagOutcome, emulator: Emulator) -> None:
    assert run["good_text"].state == "success"
    assert emulator.counts() == {"created": 10}
