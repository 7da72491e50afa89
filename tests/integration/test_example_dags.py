"""Every example DAG, run as it is by Airflow's own ``dag.test()`` against an emulator over HTTP."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from airflow import __version__ as airflow_version
from packaging.version import Version

from tests.conftest import EXAMPLES
from tests.support.examples import load_examples, run_example

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator
    from tests.support.examples import Run


def assert_is_a_video(url: str) -> None:
    answer = requests.get(url, headers={"User-Agent": "test"}, timeout=5)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.content[4:8] == b"ftyp"


def created(emulator: Emulator) -> int:
    return int(emulator.bill()["tasks_created"])


def test_every_example_has_a_test_that_runs_it():
    stems = [path.stem.removeprefix("example_") for path in EXAMPLES.glob("*.py")]
    sources = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]

    assert stems
    assert [stem for stem in stems if not any(f"def test_{stem}_" in source for source in sources)] == []


def test_the_examples_import_without_errors_and_without_warnings(examples):
    assert examples.import_errors == {}
    assert examples.captured_warnings == {}
    without_a_dag = set()
    if Version(airflow_version) < Version("3.1"):
        without_a_dag = {path for path in EXAMPLES.glob("*.py") if "operators.hitl import" in path.read_text()}
    assert {Path(dag.fileloc) for dag in examples.dags.values()} == set(EXAMPLES.glob("*.py")) - without_a_dag
    for dag_id, dag in examples.dags.items():
        assert dag_id.startswith("seedance_")
        for chapter in ("What it shows", "What it costs", "What to look at in the UI"):
            assert f"\n### {chapter}\n" in dag.doc_md
        assert len(dag.doc_md.partition("\n\n")[0]) <= 120, "the first paragraph is a line"
        assert "``" not in dag.doc_md.replace("```", ""), "the UI reads Markdown"
        assert dag.description
        assert "`" not in dag.description, "a tooltip shows no Markdown"
        assert dag.catchup is False


def test_create_and_wait_submits_one_video_waits_deferred_and_passes_the_url_on(run, seedance_emulator):
    # However slow this machine is, the sensor's first poll finds the task running: so it defers.
    seedance_emulator.add_fault("status_word", word="generating")

    finished = run("seedance_create_and_wait")

    assert finished.state == "success"
    (url,) = finished.xcom("show_video_urls")
    assert_is_a_video(url)
    assert seedance_emulator.counts("recordInfo")["fault:status_word"] == 1
    assert finished.xcom("wait_for_video") == [url]
    record = finished.xcom("wait_for_video", "seedance_task")
    assert (
        record["seedance_task_id"] == finished.xcom("create_video") == finished.xcom("create_video", "seedance_task_id")
    )
    assert record["status"] == "success"
    bill = seedance_emulator.bill()
    assert (bill["tasks_created"], bill["credits_spent"]) == (1, 200)
    assert bill["tasks"][0]["prompt"] == "A sunset over the ocean"


@pytest.mark.seedance_emulator(dialect="seed")
def test_create_and_wait_runs_against_the_first_version_of_the_api_too(run, seedance_emulator):
    finished = run("seedance_create_and_wait")

    assert finished.state == "success"
    assert_is_a_video(finished.xcom("show_video_urls")[0])
    assert created(seedance_emulator) == 1


def test_daily_writes_the_day_into_the_prompt(run, seedance_emulator):
    finished = run("seedance_daily")

    assert finished.state == "success"
    day = finished.instance("create_video").dag_run.logical_date.date().isoformat()
    assert f"reads {day} turns over" in seedance_emulator.bill()["tasks"][0]["prompt"]
    assert created(seedance_emulator) == 1


@pytest.mark.differs("runs without a logical date (`{{ ds }}` undefined)", "no", "yes", "yes")
def test_daily_runs_without_a_logical_date(run, examples, seedance_emulator):
    if "logical_date" not in inspect.signature(examples.dags["seedance_daily"].test).parameters:
        pytest.skip("every run of Airflow 2 has a logical date")

    finished = run("seedance_daily", logical_date=None)

    assert finished.state == "success"
    day = finished.instance("create_video").dag_run.run_after.date().isoformat()
    assert f"reads {day} turns over" in seedance_emulator.bill()["tasks"][0]["prompt"]


def test_daily_is_charged_once_a_day_however_often_it_runs(airflow_database, seedance_emulator, tmp_path, monkeypatch):
    """To trigger it while it is paused starts two runs."""
    monkeypatch.setenv("AIRFLOW__SEEDANCE__POLL_INTERVAL", "0.1")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}")
    dag = load_examples().dags["seedance_daily"]

    first, second = run_example(dag), run_example(dag)

    assert first.state == second.state == "success"
    assert first.xcom("create_video") == second.xcom("create_video")
    assert created(seedance_emulator) == 1


def test_daily_is_not_charged_twice_when_the_outcome_of_a_request_is_unknown(run, seedance_emulator):
    seedance_emulator.add_fault("reset", accept=True)

    finished = run("seedance_daily")

    assert finished.states == {"create_video": "failed", "wait_for_video": "upstream_failed"}
    assert finished.instance("create_video").try_number == 1
    assert created(seedance_emulator) == 1


def test_fan_out_submits_each_shot_once_under_its_prompt(run, seedance_emulator):
    finished = run("seedance_fan_out")

    assert finished.state == "success"
    prompts = ["A lighthouse at dawn", "A tram in the rain", "A kite over dunes"]
    assert [finished.instance("make_video", index).rendered_map_index for index in range(3)] == prompts
    assert sorted(task["prompt"] for task in seedance_emulator.bill()["tasks"]) == sorted(prompts)
    videos = finished.xcom("list_videos")
    assert len(set(videos)) == 3
    for url in videos:
        assert_is_a_video(url)


def test_fan_out_loses_only_the_shot_that_failed(run, seedance_emulator):
    seedance_emulator.add_fault("fail", code="2038", match={"prompt": "tram"})

    finished = run("seedance_fan_out")

    assert [finished.states[f"make_video[{index}]"] for index in range(3)] == ["success", "failed", "success"]
    assert len(finished.xcom("list_videos")) == 2
    assert created(seedance_emulator) == 3


def test_fan_out_waits_for_a_slot_without_spending_a_retry(run, examples, seedance_emulator):
    seedance_emulator.add_fault("rate_limit", limit=5, current=5)
    examples.dags["seedance_fan_out"].get_task("make_video").partial_kwargs["slot_poll_interval"] = 0.1

    finished = run("seedance_fan_out")

    assert finished.state == "success"
    assert [finished.instance("make_video", index).try_number for index in range(3)] == [1, 1, 1]
    assert len(finished.xcom("list_videos")) == created(seedance_emulator) == 3
    assert seedance_emulator.counts() == {"fault:rate_limit": 1, "created": 3}


def test_decorator_calls_the_function_once_for_each_city_and_skips_one(run, seedance_emulator):
    finished = run("seedance_decorator")

    assert finished.state == "success"
    assert [finished.states[f"film[{index}]"] for index in range(3)] == ["success", "success", "skipped"]
    names = [finished.instance("film", index).rendered_map_index for index in range(3)]
    assert [name.partition(":")[0] for name in names] == ["Lisbon", "Kyoto", "Nowhere"]
    sent = [finished.xcom("film", "seedance_inputs", index) for index in range(2)]
    assert [inputs["aspectRatio"] for inputs in sent] == ["9:16"] * 2
    bill = seedance_emulator.bill()
    assert sorted(task["prompt"] for task in bill["tasks"]) == sorted(inputs["prompt"] for inputs in sent)
    assert bill["credits_spent"] == 280
    for url in finished.xcom("list_videos"):
        assert_is_a_video(url)


def test_image_to_video_sends_todays_field_names(run, seedance_emulator):
    finished = run("seedance_image_to_video")

    assert finished.state == "success"
    record = finished.xcom("wait_for_video", "seedance_task")
    assert (record["outputs"][0]["width"], record["outputs"][0]["height"]) == (1280, 720)
    assert_is_a_video(finished.xcom("wait_for_video")[0])
    assert created(seedance_emulator) == 1


def test_chain_shots_opens_the_second_with_the_last_frame_of_the_first(run, seedance_emulator):
    finished = run("seedance_chain_shots")

    assert finished.state == "success"
    frame = finished.xcom("wait_for_shot_1", "seedance_task")["outputs"][0]["last_frame_image"]
    assert frame
    orders = [task.order for task in seedance_emulator.server.ledger.tasks.values()]
    assert orders[0].references.images == []
    assert orders[1].references.images == [frame]
    picture = requests.get(frame, headers={"User-Agent": "test"}, timeout=5)
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
    assert_is_a_video(finished.xcom("wait_for_shot_2")[0])


def test_chain_shots_submits_no_shot_that_has_nothing_to_open_with(run, seedance_emulator):
    seedance_emulator.add_fault(
        "members", set={"output": [{"url": f"{seedance_emulator.url}/videos/a.mp4"}]}, times=None
    )

    finished = run("seedance_chain_shots")

    assert finished.states["last_frame_1"] == "failed"
    assert created(seedance_emulator) == 1


def test_failure_handling_publishes_the_video_if_there_is_one(run):
    finished = run("seedance_failure_handling")

    assert finished.state == "success"
    assert finished.states["publish_video"] == "success"
    assert finished.states["use_stock_video"] == "skipped"
    assert_is_a_video(finished.xcom("publish_video"))


@pytest.mark.parametrize(
    ("prompt", "failed_task", "said"),
    [
        ("A sunset [[fail:2038]]", "wait_for_video", "2038"),
        ("A sunset [[createTask:403]]", "create_video", "403"),
        ("A sunset [[createTask:400]]", "create_video", "400"),
        ("A sunset [[createTask:500]]", "create_video", "SeedanceTaskSensor(seedance_task_id=...)"),
    ],
)
def test_failure_handling_continues_without_a_video(run, caplog, prompt, failed_task, said):
    finished = run("seedance_failure_handling", {"prompt": prompt})

    assert_went_on_without(finished, failed_task)
    assert_told(caplog, failed_task, said)


def test_failure_handling_says_how_many_credits_are_required(run, seedance_emulator, caplog):
    seedance_emulator.put_account(credits=100)

    finished = run("seedance_failure_handling")

    assert_went_on_without(finished, "create_video")
    assert_told(caplog, "create_video", "required 200, available 100")
    assert created(seedance_emulator) == 0


def test_failure_handling_keeps_the_id_of_a_video_that_takes_too_long(run, seedance_emulator, monkeypatch, caplog):
    seedance_emulator.add_fault("times", generating=3600.0)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", "0.5")

    finished = run("seedance_failure_handling")

    assert_went_on_without(finished, "wait_for_video")
    assert_told(caplog, "wait_for_video", finished.xcom("create_video"))


def assert_went_on_without(finished: Run, failed_task: str) -> None:
    assert finished.state == "success"
    assert finished.states[failed_task] == "failed"
    assert finished.instance(failed_task).try_number == 1  # no retry was spent on what cannot get better
    assert finished.states["publish_video"] == "upstream_failed"
    assert finished.states["use_stock_video"] == finished.states["finish"] == "success"


def assert_told(caplog: pytest.LogCaptureFixture, task_id: str, said: str) -> None:
    """Read what the callback of a task logged."""
    start = f"seedance_failure_handling.{task_id} failed. "
    (line,) = [line for line in caplog.messages if start in line]
    # dag.test() of Airflow 3.0 to 3.2 gives a callback no exception.
    assert ("See the log" if (3, 0) <= Version(airflow_version).release < (3, 3) else said) in line


def test_form_sends_its_defaults_with_their_types(run, seedance_emulator):
    finished = run("seedance_form")

    assert finished.state == "success"
    (task,) = seedance_emulator.server.ledger.tasks.values()
    assert task.order.model == "seedance2.0-mini"
    assert task.order.inputs == {
        "prompt": "A paper boat on a stream, seen from above",
        "duration": 5,
        "outputResolution": "480p",
        "aspectRatio": "16:9",
        "generate_audio": True,
    }
    assert_is_a_video(finished.xcom("wait_for_video")[0])


def test_form_sends_what_was_filled_in_with_its_types(run, seedance_emulator):
    form = {
        "prompt": "1984",
        "model": "seedance-20",
        "duration": 4,
        "resolution": "1080p",
        "aspect_ratio": "9:16",
        "sound": False,
    }

    finished = run("seedance_form", form)

    assert finished.state == "success"
    (task,) = seedance_emulator.server.ledger.tasks.values()
    assert task.order.inputs == {
        "prompt": "1984",
        "duration": 4,
        "outputResolution": "1080p",
        "aspectRatio": "9:16",
        "generate_audio": False,
    }


def test_form_with_a_resolution_its_model_refuses_costs_nothing(run, seedance_emulator):
    finished = run("seedance_form", {"resolution": "1080p"})

    assert finished.states["create_video"] == "failed"
    assert created(seedance_emulator) == 0


@pytest.mark.differs("asset outlets", "`Dataset`, `DatasetAlias`; context `triggering_dataset_events`", "yes", "yes")
def test_assets_stores_in_one_dag_what_the_other_generated(run, examples, seedance_emulator, tmp_path):
    if Version(airflow_version).release[:2] == (3, 0):
        pytest.skip("Airflow 3.0 refuses outlets that no DAG processor has brought into the database")
    if Version(airflow_version) < Version("3"):  # which has events of known assets only
        examples.sync_to_db()

    generated = run("seedance_assets_generate")
    stored = run("seedance_assets_store", {"folder": tmp_path.as_uri()})

    assert (generated.state, stored.state) == ("success", "success")
    made = {generated.xcom("make_video", "seedance_task_id", index) for index in range(2)}
    assert {path.name for path in tmp_path.glob("*.mp4")} == {f"{task_id}.mp4" for task_id in made}
    assert created(seedance_emulator) == 2
