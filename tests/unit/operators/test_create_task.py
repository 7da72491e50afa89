"""SeedanceCreateTaskOperator: its results, its templates, and what each error means to Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.exceptions import (
    SeedanceConfigurationError,
    SeedanceInsufficientCreditsError,
    SeedanceInvalidRequestError,
    SeedancePermissionError,
    SeedanceSubmitUncertainError,
)
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.testing import Emulator
from tests.support.airflow import DagOutcome, FakeTaskInstance, TaskLog, hurry, run_dag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOX = {"prompt": "a fox", "duration": 5}


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    hurry(monkeypatch)
    return TaskLog(monkeypatch, SeedanceHook, SeedanceCreateTaskOperator)


def create(ti: FakeTaskInstance | None = None, inputs: Any = FOX, **arguments: Any) -> str:
    operator = SeedanceCreateTaskOperator(task_id="create", inputs=inputs, **arguments)
    return operator.execute({"ti": ti or FakeTaskInstance()})  # type: ignore[typeddict-item]


# What it returns and says.


def test_it_returns_the_id_and_pushes_it_under_a_name(seedance_emulator: Emulator) -> None:
    ti = FakeTaskInstance()
    task_id = create(ti)
    (task,) = seedance_emulator.bill()["tasks"]
    assert (task["taskId"], task["model"], task["prompt"]) == (task_id, "seedance-20", "a fox")
    assert ti.xcoms == {"seedance_task_id": task_id}


def test_it_pushes_nothing_if_told_so(seedance_emulator: Emulator) -> None:
    ti = FakeTaskInstance()
    assert create(ti, do_xcom_push=False)
    assert ti.xcoms == {}


def test_the_log_names_the_id_the_model_and_the_api_but_not_the_key(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    task_id = create(model="seedance2-fast")
    assert f"Created task {task_id} with model seedance2-fast on {seedance_emulator.url}/api/v1" in task_log.lines
    assert seedance_emulator.api_key not in "\n".join(task_log.lines)


def test_a_resend_that_may_cost_money_is_in_the_log_of_the_task(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    seedance_emulator.add_fault("http", status=500, accept=True)
    create()
    assert any("may be charged twice" in line for line in task_log.warnings)
    assert seedance_emulator.bill()["tasks_created"] == 2


# What it takes.


def test_the_inputs_may_be_json_text(seedance_emulator: Emulator) -> None:
    assert create(inputs=json.dumps(FOX))
    assert seedance_emulator.bill()["tasks"][0]["prompt"] == "a fox"


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (["a fox"], "inputs"),
        (None, "inputs"),
        ("a fox", "inputs is a string but not JSON"),
        ('["a fox"]', "inputs is not a mapping"),
        ("", "inputs is a string but not JSON"),
    ],
)
def test_what_is_not_a_mapping_is_refused_before_anything_is_sent(
    seedance_emulator: Emulator, inputs: Any, complaint: str
) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match=complaint):
        create(inputs=inputs)
    assert seedance_emulator.requests() == []


@pytest.mark.parametrize("value", ["ftp://example.com/hook", "not a url", "/hook"])
def test_a_callback_that_is_no_url_is_refused_before_anything_is_sent(seedance_emulator: Emulator, value: str) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match=r"callback_url=.* is not an http"):
        create(callback_url=value)
    assert seedance_emulator.requests() == []


def test_a_wrong_submit_policy_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(SeedanceConfigurationError, match="submit_policy is 'maybe'"):
        SeedanceCreateTaskOperator(task_id="create", inputs=FOX, submit_policy="maybe")


def test_its_template_fields_cover_what_a_dag_author_computes() -> None:
    assert set(SeedanceCreateTaskOperator.template_fields) >= {"model", "inputs", "callback_url", "seedance_conn_id"}
    assert SeedanceCreateTaskOperator.template_fields_renderers["inputs"] == "json"


# What an error carries.


def test_the_credits_that_are_missing_are_in_the_error(seedance_emulator: Emulator) -> None:
    seedance_emulator.put_account(key=seedance_emulator.api_key, credits=50)
    with pytest.raises(SeedanceInsufficientCreditsError, match="required 200, available 50, missing 150") as caught:
        create()
    assert (caught.value.required, caught.value.available) == (200, 50)
    assert "add credits to the account, then clear this task" in str(caught.value)


def test_the_vendors_complaints_are_in_the_error(seedance_emulator: Emulator) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match="400") as caught:
        create(inputs={"prompt": "a fox", "duration": 99}, validation="warn")
    assert caught.value.status_code == 400
    assert caught.value.errors
    assert all(f"{each['path']}: {each['message']}" in str(caught.value) for each in caught.value.errors)


def test_a_block_at_the_edge_names_the_user_agent(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("html", status=403)
    with pytest.raises(SeedancePermissionError, match="User-Agent"):
        create()


def test_the_policy_of_the_operator_counts(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("reset", accept=True)
    with pytest.raises(SeedanceSubmitUncertainError, match=r"SeedanceTaskSensor\(seedance_task_id=\.\.\.\)"):
        create(submit_policy="safe")
    assert seedance_emulator.bill()["tasks_created"] == 1


# Real DAG runs: one for all tests, as the first costs some seconds.

TASKS = """
    Create = SeedanceCreateTaskOperator
    RETRIES = {"retries": 1, "retry_delay": timedelta(0)}

    Create(task_id="silent", inputs={"prompt": "silent"}, do_xcom_push=False)
    Create(
        task_id="templated",
        model="{{ 'seedance2' }}-fast",
        inputs={"prompt": "on {{ dag.dag_id }}", "duration": "{{ 5 }}"},
        callback_url="{{ var.value.callback }}",
        seedance_conn_id="{{ 'seedance' }}_default",
    )
    Create(task_id="from_text", inputs='{"prompt": "text of {{ task.task_id }}"}')
    Create(task_id="from_file", inputs="inputs.json")
    Create(
        task_id="no_file",
        inputs={"prompt": "draw {{ 'a' }} package.json"},
        callback_url="{{ var.value.callback }}.json",
    )
    Create.partial(task_id="mapped_files").expand(inputs=["inputs.json", "other.json"])
    Create.partial(task_id="mapped_dicts", callback_url="http://127.0.0.1:9/hook.json").expand(
        inputs=[{"prompt": "first.json"}, {"prompt": "second {{ ti.map_index }}"}]
    )
    Create.partial(task_id="mapped_kwargs").expand_kwargs(
        [{"inputs": {"prompt": "plain"}}, {"inputs": {"prompt": "fast"}, "model": "seedance2-fast"}]
    )

    @task
    def prompts():
        return [{"prompt": "computed one"}, {"prompt": "computed two"}]

    Create.partial(task_id="mapped_computed").expand(inputs=prompts())

    for name in ("400", "401", "402", "403", "404", "422", "html:status=403", "redirect", "no_task_id", "truncated"):
        task_id = "at_once_" + name.partition(":")[0] + ("_page" if "html" in name else "")
        Create(task_id=task_id, inputs={"prompt": f"[[createTask:{name}]]"}, **RETRIES)
    Create(
        task_id="at_once_uncertain",
        inputs={"prompt": "[[createTask:500]]"},
        submit_policy="safe",
        **RETRIES,
    )
    Create(task_id="at_once_no_mapping", inputs="{{ [1, 2] }}", **RETRIES)
    Create(task_id="at_once_no_key", inputs={"prompt": "no key"}, seedance_conn_id="seedance_no_key", **RETRIES)
    Create(task_id="later_500", inputs={"prompt": "late [[createTask:500:3]]"}, **RETRIES)
    Create(task_id="later_nobody", inputs={"prompt": "nobody"}, seedance_conn_id="seedance_nobody", **RETRIES)
    Create(
        task_id="later_no_slot",
        inputs={"prompt": "[[createTask:rate_limit:99]]"},
        slot_timeout=0.3,
        slot_poll_interval=0.1,
        **RETRIES,
    )
    Create(task_id="slot", inputs={"prompt": "slot [[createTask:rate_limit]]"}, slot_poll_interval=0.1, **RETRIES)
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(waiting_seconds=0, generating_seconds=0, concurrency_limit=None) as running:
        yield running


@pytest.fixture(scope="module")
def run(emulator: Emulator, airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> DagOutcome:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "inputs.json").write_text('{"prompt": "file of {{ task.task_id }}", "duration": 5}')
    (folder / "other.json").write_text('{"prompt": "other file of {{ task.task_id }}"}')
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_NO_KEY", json.dumps({"conn_type": "seedance", "host": emulator.url}))
        nobody = {"conn_type": "seedance", "host": "http://127.0.0.1:1", "password": "sk-of-nobody"}
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_NOBODY", json.dumps(nobody))
        monkeypatch.setenv("AIRFLOW_VAR_CALLBACK", f"{emulator.url}/callback")
        hurry(monkeypatch)
        return run_dag(folder, TASKS)


@pytest.fixture
def created(run: DagOutcome, emulator: Emulator) -> dict[str, dict[str, Any]]:
    """The tasks on the bill by their ids."""
    return {task["taskId"]: task for task in emulator.bill()["tasks"]}


def test_a_run_pushes_the_return_value_and_the_named_id(run: DagOutcome, created: dict[str, dict[str, Any]]) -> None:
    task = run["from_text"]
    assert task.state == "success"
    assert task.xcoms["return_value"] == task.xcoms["seedance_task_id"]
    assert task.returned in created


def test_a_run_pushes_nothing_if_told_so(run: DagOutcome) -> None:
    assert (run["silent"].state, run["silent"].xcoms) == ("success", {})


def test_every_template_field_is_rendered(
    run: DagOutcome, created: dict[str, dict[str, Any]], emulator: Emulator
) -> None:
    task = created[run["templated"].returned]
    assert task["model"] == "seedance2-fast"
    assert task["prompt"].startswith("on tested_")
    assert f"{emulator.url}/callback" in {sent["url"] for sent in emulator.deliveries()}


@pytest.mark.parametrize(
    ("task", "prompt"),
    [
        ("from_text", "text of from_text"),
        ("from_file", "file of from_file"),
        ("no_file", "draw a package.json"),
        (("mapped_files", 0), "file of mapped_files"),
        (("mapped_files", 1), "other file of mapped_files"),
        (("mapped_dicts", 0), "first.json"),
        (("mapped_dicts", 1), "second 1"),
        (("mapped_kwargs", 0), "plain"),
        (("mapped_computed", 0), "computed one"),
        (("mapped_computed", 1), "computed two"),
    ],
)
def test_the_inputs_may_come_from_text_files_and_maps_with_templates_in_them(
    run: DagOutcome, created: dict[str, dict[str, Any]], task: Any, prompt: str
) -> None:
    assert run[task].state == "success"
    assert created[run[task].returned]["prompt"] == prompt


def test_mapping_over_keyword_arguments_changes_the_model(run: DagOutcome, created: dict[str, dict[str, Any]]) -> None:
    models = [created[run["mapped_kwargs", index].returned]["model"] for index in (0, 1)]
    assert models == ["seedance-20", "seedance2-fast"]


def test_a_callback_that_ends_like_a_file_is_not_one(run: DagOutcome, emulator: Emulator) -> None:
    assert run["no_file"].state == "success"
    assert f"{emulator.url}/callback.json" in {sent["url"] for sent in emulator.deliveries()}


@pytest.mark.parametrize(
    "error",
    [
        "400",
        "401",
        "402",
        "403",
        "404",
        "422",
        "html_page",
        "redirect",
        "no_task_id",
        "truncated",
        "uncertain",
        "no_mapping",
        "no_key",
    ],
)
def test_an_error_that_trying_again_cannot_help_fails_at_once(run: DagOutcome, error: str) -> None:
    assert (run[f"at_once_{error}"].state, run[f"at_once_{error}"].try_number) == ("failed", 1)


@pytest.mark.parametrize(("error", "end"), [("nobody", "failed"), ("no_slot", "failed")])
def test_a_transient_error_is_retried(run: DagOutcome, error: str, end: str) -> None:
    assert (run[f"later_{error}"].state, run[f"later_{error}"].try_number) == (end, 2)


def test_what_airflow_retries_never_sends_a_fourth_createtask_of_unknown_outcome(
    run: DagOutcome, emulator: Emulator
) -> None:
    error = run["later_500"].xcoms["seedance_error"]
    assert (error["type"], error["charged"]) == ("SeedanceSubmitUncertainError", "unknown")
    assert emulator.server.request_report()["counts"]["createTask"]["fault:http"] >= 3


def test_waiting_for_a_slot_takes_no_retry(run: DagOutcome) -> None:
    assert (run["slot"].state, run["slot"].try_number) == ("success", 1)


def test_nothing_was_charged_twice(run: DagOutcome, emulator: Emulator) -> None:
    prompts = [task["prompt"] for task in emulator.bill()["tasks"]]
    assert len(prompts) == len(set(prompts))
    assert sum("createTask" in prompt for prompt in prompts) == 2, "no more than truncated and slot"
