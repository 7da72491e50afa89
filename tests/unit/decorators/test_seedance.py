"""``@task.seedance``: the function says what the video shows, once for each video that is submitted."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred

from seedance_provider.decorators.seedance import _SeedanceDecoratedOperator, seedance_task
from seedance_provider.exceptions import (
    SeedanceBudgetExceededError,
    SeedanceConfigurationError,
    SeedanceInvalidRequestError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
)
from seedance_provider.execution.memory import Receipts
from tests.support.airflow import DagOutcome, TaskLog, hurry, run_dag
from tests.support.tries import FOX_CREDITS, Instance

if TYPE_CHECKING:
    from seedance_provider.execution.receipts import Receipt
    from seedance_provider.testing import Emulator

TRANSIENT = "Service temporarily unavailable. Please try again later."
SETTINGS = {"duration": 5, "outputResolution": "720p"}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def _ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")


with_ledger = pytest.mark.usefixtures("_ledger")


def prompts(emulator: Emulator) -> list[str]:
    return [task["prompt"] for task in emulator.bill()["tasks"]]


# Real DAG runs.


@pytest.fixture
def run(airflow_database: Path, tmp_path: Path) -> Callable[[str], DagOutcome]:
    """Runs tasks in a real DAG run; ``calls(...)`` in them notes a call, ``noted()`` tells how many there were."""
    notes = tmp_path / "notes"
    head = f"""\
        def calls(what):
            with open({str(notes)!r}, "a") as file:
                print(what, file=file)
            return len(open({str(notes)!r}).read().splitlines())

        settings = {SETTINGS!r}
        common = dict(inputs=settings, poll_interval=0.1, retry_delay=timedelta(0))
    """
    return lambda tasks: run_dag(tmp_path, textwrap.dedent(head) + textwrap.dedent(tasks))


def notes_of(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


def test_a_returned_prompt_becomes_a_video(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, tmp_path: Path
) -> None:
    done = run("""
        @task.seedance(model="seedance2-fast", **common)
        def scene(animal, ti, ds_nodash=None):
            "What the camera sees."
            calls("scene")
            return f"A {animal} at {ti.task_id}"

        @task
        def use(urls):
            return urls[0]

        use(scene("fox {{ 1 + 1 }}"))
    """)
    (video,) = seedance_emulator.bill()["tasks"]
    assert (video["model"], video["prompt"]) == ("seedance2-fast", "A fox 2 at scene")
    assert done["scene"].returned == [f"{seedance_emulator.url}/videos/{video['taskId']}.mp4"]
    assert done["use"].returned == done["scene"].returned[0]
    assert done["scene"].xcoms["seedance_inputs"] == {"prompt": "A fox 2 at scene", **SETTINGS}
    assert done["scene"].xcoms["seedance_task"]["status"] == "success"
    assert notes_of(tmp_path) == ["scene"], "it is not called again when the task resumes"


def test_returned_inputs_take_precedence_over_those_of_the_decorator(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator
) -> None:
    done = run("""
        from typing import Any

        @task.seedance(**common)
        def scene() -> dict[str, Any]:
            return {"prompt": "a fox", "duration": 4}

        scene()
    """)
    (task,) = seedance_emulator.server.ledger.tasks.values()
    assert task.order.inputs == {"prompt": "a fox", "duration": 4, "outputResolution": "720p"}
    assert isinstance(done["scene"].returned, list), "an annotation with dict is not multiple_outputs"


def test_it_is_mapped_over_arguments(run: Callable[[str], DagOutcome], seedance_emulator: Emulator) -> None:
    done = run("""
        @task
        def animals():
            return ["fox", "owl"]

        @task.seedance(**common, map_index_template="{{ task.op_kwargs['animal'] }}")
        def scene(animal, place):
            return f"{animal} {place}"

        scene.partial(place="at sea").expand(animal=animals())
        scene.override(task_id="pairs", model="seedance2-fast").expand_kwargs([{"animal": "cat", "place": "{{ 'x' }}"}])
    """)
    assert sorted(prompts(seedance_emulator)) == ["cat x", "fox at sea", "owl at sea"]
    made = [done["scene", 0], done["scene", 1], done["pairs", 0]]
    assert [outcome.state for outcome in made] == ["success"] * 3
    assert [outcome.xcoms["seedance_inputs"]["prompt"] for outcome in made] == ["fox at sea", "owl at sea", "cat x"]


def test_other_parameters_are_templates_and_may_come_from_upstream(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "settings.json").write_text('{"duration": {{ 2 * 2 }}, "outputResolution": "480p"}')
    run("""
        @task
        def chosen():
            return {"duration": 6, "outputResolution": "720p"}

        @task.seedance(model="{{ 'seedance2-fast' }}", inputs="settings.json", poll_interval=0.1)
        def from_file():
            return "from a file"

        @task.seedance(inputs=chosen(), poll_interval=0.1)
        def from_upstream():
            return "from upstream"

        from_file() >> from_upstream()
    """)
    orders = [task.order for task in seedance_emulator.server.ledger.tasks.values()]
    assert [(order.model, order.inputs["duration"]) for order in orders] == [("seedance2-fast", 4), ("seedance-20", 6)]


def test_the_video_is_stored_where_output_path_says(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, tmp_path: Path
) -> None:
    done = run(f"""
        @task.seedance(**common, output_path="file://{tmp_path}/{{{{ ti.task_id }}}}/{{seedance_task_id}}.{{ext}}")
        def scene():
            return "a fox"

        scene()
    """)
    stored = tmp_path / "scene" / f"{seedance_emulator.bill()['tasks'][0]['taskId']}.mp4"
    assert done["scene"].returned == [f"file://{stored}"]
    assert stored.read_bytes()[4:8] == b"ftyp"


def test_what_was_sent_is_among_the_rendered_templates(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator
) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    done = run("""
        @task.seedance(**common)
        def scene():
            return "a fox"

        scene()
    """)
    with create_session() as session:
        (ti,) = session.query(TaskInstance).filter_by(dag_id=done.dag_id, run_id=done.run_id)
        fields = RenderedTaskInstanceFields.get_templated_fields(ti, session=session)
    assert fields["inputs"] == {"prompt": "a fox", **SETTINGS}


def test_a_function_that_fails_is_retried_and_one_that_skips_is_skipped(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator
) -> None:
    done = run("""
        from airflow.providers.common.compat.sdk import AirflowSkipException

        @task.seedance(**common, retries=1)
        def flaky():
            if calls("flaky") == 1:
                raise ConnectionError("the language model does not answer")
            return "a fox"

        @task.seedance(**common)
        def none():
            raise AirflowSkipException("no video today")

        flaky() >> none()
    """)
    assert (done["flaky"].state, done["flaky"].try_number) == ("success", 2)
    assert done["none"].state == "skipped"
    assert prompts(seedance_emulator) == ["a fox"]


def test_a_retry_that_continues_with_a_video_does_not_call_the_function(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    resume = _SeedanceDecoratedOperator.execute_complete
    crashes = iter([True])

    def dying(self: Any, context: Any, event: Any) -> Any:
        if next(crashes, False):
            raise RuntimeError("the worker dies")
        return resume(self, context, event)

    monkeypatch.setattr(_SeedanceDecoratedOperator, "execute_complete", dying)
    done = run("""
        @task.seedance(**common, retries=1)
        def scene():
            return f"take {calls('scene')}"

        scene()
    """)
    assert (done["scene"].state, done["scene"].try_number) == ("success", 2)
    assert prompts(seedance_emulator) == ["take 1"]
    assert notes_of(tmp_path) == ["scene"]


# Tries, driven as Airflow drives them.


class Takes(Instance):
    """A task instance whose function returns another prompt each time it is called.

    :param returns: What it returns instead.
    :param arguments: Of the operator.
    """

    def __init__(self, returns: Any = None, *, op_args: Any = (), **arguments: Any) -> None:
        super().__init__(**{"inputs": SETTINGS, "op_args": op_args} | arguments)
        self.returns = returns
        self.calls: list[str] = []

    def write(self, *_args: Any) -> Any:
        self.calls.append(f"take {len(self.calls) + 1}")
        return self.returns or self.calls[-1]

    def operator(self) -> _SeedanceDecoratedOperator:
        def write(*args: Any) -> Any:
            return self.write(*args)

        return _SeedanceDecoratedOperator(task_id="task", python_callable=write, retries=self.retries, **self.arguments)


class CrashError(Exception):
    """Stands for a worker that dies."""


def die_at_the_end(takes: Takes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One try that dies when its video has ended, before Airflow is told."""

    def crash(*_args: Any) -> Any:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(_SeedanceDecoratedOperator, "_finish", crash)
        with pytest.raises(CrashError):
            takes.run()


def test_a_wait_for_a_slot_keeps_what_the_function_returned(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("rate_limit", times=2)
    takes = Takes(slot_poll_interval=0.05, durable=False)
    takes.run()
    assert len(takes.deferrals) == 3
    assert prompts(seedance_emulator) == takes.calls == ["take 1"]


@with_ledger
def test_a_deferral_that_airflow_ends_takes_the_video_without_a_call(seedance_emulator: Emulator) -> None:
    takes = Takes()
    context: Any = {"ti": takes.ti}
    with pytest.raises(TaskDeferred):
        takes.operator().execute(context)
    takes.ti.xcoms.clear()
    time.sleep(0.5)  # the emulator's videos take 0.15 s
    assert takes.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert prompts(seedance_emulator) == takes.calls == ["take 1"]


def test_a_resubmit_sends_the_same_prompt_again(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="1001", message=TRANSIENT)
    takes = Takes(resubmits=1, durable=False)
    takes.run()
    assert prompts(seedance_emulator) == ["take 1", "take 1"]
    assert takes.calls == ["take 1"]


@with_ledger
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_retry_continues_with_the_video_whatever_the_function_would_say_now(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    takes = Takes(deferrable=deferrable)
    die_at_the_end(takes, monkeypatch)
    assert takes.run()
    assert prompts(seedance_emulator) == takes.calls == ["take 1"]


@with_ledger
def test_a_clear_before_the_end_continues_with_the_video(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = Takes()
    die_at_the_end(takes, monkeypatch)
    takes.clear()
    assert prompts(seedance_emulator) == takes.calls == ["take 1"]


@with_ledger
def test_other_arguments_are_another_video(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    takes = Takes(op_args=["fox"])
    die_at_the_end(takes, monkeypatch)
    takes.run(op_args=["owl"])
    assert prompts(seedance_emulator) == ["take 1", "take 2"]


class Product:
    """An argument that shows nothing but its address."""


@with_ledger
@pytest.mark.parametrize("argument", [Product, lambda: {"b", "a", "c"}, lambda: {"product": Product()}])
def test_arguments_that_no_json_can_carry_are_the_same_in_another_process(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, argument: Callable[[], Any]
) -> None:
    kept = [argument(), argument()]  # so that the second has another address
    takes = Takes(op_args=[kept[0]])
    die_at_the_end(takes, monkeypatch)
    takes.run(op_args=[kept[1]])
    assert prompts(seedance_emulator) == ["take 1"]


@with_ledger
def test_after_a_failed_video_a_clear_calls_the_function_again(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("fail", code="2038")
    takes = Takes()
    with pytest.raises(SeedanceTaskFailedError):
        takes.run()
    takes.clear()
    assert prompts(seedance_emulator) == takes.calls == ["take 1", "take 2"]


@with_ledger
def test_a_clear_of_a_success_calls_the_function_again(seedance_emulator: Emulator) -> None:
    takes = Takes()
    assert takes.run() != takes.clear()
    assert prompts(seedance_emulator) == takes.calls == ["take 1", "take 2"]


@with_ledger
def test_an_idempotency_key_gives_other_runs_the_video_without_a_call(seedance_emulator: Emulator) -> None:
    monday, tuesday = Takes(idempotency_key="clip/7"), Takes(run="tuesday", idempotency_key="clip/7")
    assert monday.run() == tuesday.run()
    assert (prompts(seedance_emulator), tuesday.calls) == (["take 1"], [])


@with_ledger
def test_a_key_with_other_arguments_is_an_error(seedance_emulator: Emulator) -> None:
    Takes(idempotency_key="clip/7", op_args=["fox"]).run()
    other = Takes(run="tuesday", idempotency_key="clip/7", op_args=["owl"])
    with pytest.raises(SeedanceConfigurationError, match="clip/7"):
        other.run()
    assert (prompts(seedance_emulator), other.calls) == (["take 1"], [])


@with_ledger
@pytest.mark.parametrize(("policy", "calls"), [("vendor", ["take 1", "take 2"]), ("safe", ["take 1"])])
def test_after_an_unknown_outcome_the_function_is_called_only_to_submit_again(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, policy: str, calls: list[str]
) -> None:
    def dying(self: Receipts, receipt: Receipt) -> None:
        save(self, receipt)
        raise CrashError

    save = Receipts.save
    takes = Takes(submit_policy=policy)
    with monkeypatch.context() as patch:
        patch.setattr(Receipts, "save", dying)
        with pytest.raises(CrashError):
            takes.run()
    with nullcontext() if policy == "vendor" else pytest.raises(SeedanceSubmitUncertainError):
        takes.run()
    assert takes.calls == calls
    assert prompts(seedance_emulator) == calls[1:]


def test_where_nothing_is_remembered_a_retry_asks_anew(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = Takes(durable=False)
    die_at_the_end(takes, monkeypatch)
    takes.run()
    assert prompts(seedance_emulator) == ["take 1", "take 2"]


def test_an_uncertain_submission_is_repeated_with_the_same_prompt(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("reset", accept=True)
    takes = Takes(durable=False)
    takes.run()
    assert prompts(seedance_emulator) == ["take 1", "take 1"]
    assert takes.calls == ["take 1"]


# What the function returns.


def one_by_one() -> Iterator[str]:
    yield "a fox"


@pytest.mark.parametrize(
    "returned", [None, "", " \n", 5, ["a fox"], b"a fox", one_by_one()], ids=lambda value: type(value).__name__
)
def test_what_is_no_prompt_and_no_mapping_names_the_function_and_costs_nothing(
    seedance_emulator: Emulator, returned: Any
) -> None:
    def write_prompt() -> Any:
        return returned

    operator = _SeedanceDecoratedOperator(task_id="task", python_callable=write_prompt)
    ti = Instance().ti
    with pytest.raises(SeedanceInvalidRequestError, match=r"write_prompt\(\) returned") as caught:
        operator.execute({"ti": ti})
    assert isinstance(caught.value, AirflowFailException), "a retry would not help"
    assert ti.xcoms["seedance_error"]["charged"] == "no"
    assert seedance_emulator.requests() == []


@pytest.mark.parametrize("validation", ["strict", "warn"])
@pytest.mark.parametrize(
    "returned",
    [{"prompt": "a fox", "seed": {1, 2}}, {"prompt": "a fox", "extra": object()}, {"prompt": float("nan")}, {1: "a"}],
    ids=["set", "object", "nan", "key"],
)
def test_what_could_not_cross_a_deferral_fails_before_the_request(
    seedance_emulator: Emulator, validation: Any, returned: Mapping[Any, Any]
) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match=r"write\(\) returned") as caught:
        Takes(returned, validation=validation).run()
    assert len(caught.value.errors) == 1
    assert seedance_emulator.requests() == []


def test_wrong_inputs_fail_before_the_request(seedance_emulator: Emulator) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match="durration"):
        Takes({"prompt": "a fox", "durration": 5}).run()
    assert seedance_emulator.requests() == []


@pytest.mark.parametrize(
    "prompt", ["{{ conn.seedance_default.password }}", "{% if %}", "shots/opening.json", '{"a": 1}']
)
def test_a_returned_prompt_is_sent_as_it_is(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, prompt: str
) -> None:
    done = run(f"""
        @task.seedance(**common)
        def scene():
            return {prompt!r}

        scene()
    """)
    assert done["scene"].state == "success"
    assert prompts(seedance_emulator) == [prompt]


def test_returned_files_are_uploaded_once(seedance_emulator: Emulator, tmp_path: Path) -> None:
    picture = tmp_path / "fox.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 50)
    seedance_emulator.add_fault("rate_limit")
    takes = Takes({"prompt": "it wakes", "imageUrls": [picture], "mode": "keyframe"}, upload_media=True)
    takes.arguments["slot_poll_interval"] = 0.05
    takes.run()
    (task,) = seedance_emulator.server.ledger.tasks.values()
    assert task.order.inputs["imageUrls"][0].startswith(seedance_emulator.url)
    assert sum(seedance_emulator.counts("uploads").values()) == 1
    assert takes.ti.xcoms["seedance_inputs"]["imageUrls"] == [str(picture)]


# Spending.


def test_a_ceiling_holds_for_what_the_function_returned(seedance_emulator: Emulator) -> None:
    with pytest.raises(SeedanceBudgetExceededError):
        Takes({"prompt": "a fox", "duration": 15}, max_credits=FOX_CREDITS).run()
    assert seedance_emulator.bill()["tasks_created"] == 0
    Takes(max_credits=FOX_CREDITS).run()
    assert seedance_emulator.bill()["tasks_created"] == 1


# The decorator.


def test_it_returns_one_list() -> None:
    with pytest.raises(SeedanceConfigurationError, match="multiple_outputs"):
        seedance_task(multiple_outputs=True)(lambda: "a fox")()


def test_an_async_function_is_refused_when_the_dag_is_parsed() -> None:
    async def write_prompt() -> str:
        return "a fox"

    with pytest.raises(SeedanceConfigurationError, match=r"write_prompt\(\) is async"):
        seedance_task(write_prompt)()


@with_ledger
def test_the_log_says_why_the_function_is_not_called(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TaskLog(monkeypatch, _SeedanceDecoratedOperator)
    takes = Takes()
    die_at_the_end(takes, monkeypatch)
    assert not any("write()" in line for line in log.lines)
    takes.run()
    assert any("write()" in line for line in log.lines)


def test_a_skip_needs_no_video(seedance_emulator: Emulator) -> None:
    def nothing() -> str:
        raise AirflowSkipException

    with pytest.raises(AirflowSkipException):
        _SeedanceDecoratedOperator(task_id="task", python_callable=nothing).execute({"ti": Instance().ti})
    assert seedance_emulator.requests() == []
