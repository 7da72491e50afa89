"""`upload_media=True`: files in the media fields are uploaded, and their public URLs are sent."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceInvalidRequestError, SeedanceServerError
from seedance_provider.execution.receipts import fingerprint
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from tests.support.airflow import FakeTaskInstance, StateStore, TaskLog, fire, hurry, run_dag

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

KEPT = "https://example.com/kept.png"


@pytest.fixture(autouse=True)
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    hurry(monkeypatch)
    return TaskLog(monkeypatch, SeedanceHook, SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    heads = {
        "one.png": b"\x89PNG\r\n\x1a\n",
        "two.jpg": b"\xff\xd8\xff\xe0",
        "clip.mp4": b"\0\0\0\x18ftypisom",
        "voice.mp3": b"ID3\x04",
    }
    for name, head in heads.items():
        (tmp_path / name).write_bytes(head + name.encode() * 100)
    return tmp_path


def make(inputs: Any, operator_class: Any = SeedanceCreateTaskOperator, **arguments: Any) -> Any:
    arguments = {"upload_media": True, "slot_poll_interval": 0.02} | arguments
    return operator_class(task_id="video", inputs={"prompt": "a cat", "mode": "reference"} | inputs, **arguments)


def context_of(store: StateStore | None = None) -> Any:
    return {"ti": FakeTaskInstance(), "task_state_store": store or StateStore()}


def sent(emulator: Emulator) -> Any:
    (task,) = emulator.server.ledger.tasks.values()
    return task.order.inputs


def test_files_are_replaced_in_every_media_field_and_web_addresses_are_kept(
    seedance_emulator: Emulator, media: Path
) -> None:
    inputs = {
        "imageUrls": [str(media / "one.png"), KEPT, f"file://{media}/two.jpg"],
        "videoUrls": [media / "clip.mp4"],
        "audioUrls": [str(media / "voice.mp3")],
    }
    make(inputs).execute(context_of())
    order = sent(seedance_emulator)
    host = f"{seedance_emulator.url}/temp-uploads/"
    assert order["imageUrls"][1] == KEPT
    uploaded = [order["imageUrls"][0], order["imageUrls"][2], *order["videoUrls"], *order["audioUrls"]]
    assert [url.rpartition("/")[2] for url in uploaded] == ["one.png", "two.jpg", "clip.mp4", "voice.mp3"]
    assert all(url.startswith(host) for url in uploaded)
    # The emulator fails the task of a reference that was never uploaded.
    assert SeedanceHook().wait_for_task(seedance_emulator.bill()["tasks"][0]["taskId"], poll_interval=0.05).urls


def test_without_it_a_path_is_refused_and_the_way_is_named(seedance_emulator: Emulator, media: Path) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match=r"imageUrls\[0\].*upload_media=True"):
        make({"imageUrls": [str(media / "one.png")]}, upload_media=False)
    assert seedance_emulator.requests() == []


def test_a_file_that_is_missing_costs_nothing(seedance_emulator: Emulator, media: Path) -> None:
    store = StateStore()
    with pytest.raises(SeedanceInvalidRequestError, match=r"none\.png"):
        make({"imageUrls": [str(media / "none.png")]}).execute(context_of(store))
    assert seedance_emulator.requests() == []
    assert store.receipt is None


def test_inputs_that_are_wrong_upload_nothing(seedance_emulator: Emulator, media: Path) -> None:
    operator = make({"imageUrls": [str(media / "one.png")]})
    operator.inputs = operator.inputs | {"duration": 60}
    with pytest.raises(SeedanceInvalidRequestError, match="duration"):
        operator.execute(context_of())
    assert seedance_emulator.requests() == []


def test_an_upload_that_fails_leaves_no_intent_behind(seedance_emulator: Emulator, media: Path) -> None:
    seedance_emulator.add_fault("http", status=500, on="put", times=None)
    store = StateStore()
    with pytest.raises(SeedanceServerError):
        make({"imageUrls": [str(media / "one.png")]}).execute(context_of(store))
    assert store.receipt is None
    assert seedance_emulator.counts() == {}


def test_what_is_no_file_is_left_for_the_vendor_to_judge_under_warn(seedance_emulator: Emulator, media: Path) -> None:
    with pytest.raises(SeedanceInvalidRequestError) as caught:
        make({"imageUrls": [5, "http://", str(media / "one.png")]}, validation="warn").execute(context_of())
    assert caught.value.status_code == 400
    assert seedance_emulator.counts("put") == {"200": 1}


# Over a wait for a slot, and over a retry.


@pytest.mark.parametrize("operator_class", [SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator])
def test_over_a_wait_for_a_slot_each_file_is_uploaded_once(
    seedance_emulator: Emulator, media: Path, operator_class: Any
) -> None:
    seedance_emulator.add_fault("rate_limit", times=2)
    inputs = {"imageUrls": [str(media / "one.png"), media / "one.png", str(media / "two.jpg")]}
    context, refusals = context_of(), 0
    event = None
    while not seedance_emulator.bill()["tasks_created"]:
        operator = make(inputs, operator_class)
        try:
            operator.execute(context) if event is None else operator.execute_complete(context, event)
        except TaskDeferred as deferred:
            if not seedance_emulator.bill()["tasks_created"]:
                event = fire(deferred.trigger)
                refusals += 1
    assert refusals == 2
    assert seedance_emulator.counts("uploads") == seedance_emulator.counts("put") == {"200": 2}
    first, again, _ = sent(seedance_emulator)["imageUrls"]
    assert first == again


def test_what_waits_for_a_slot_carries_public_urls_only(seedance_emulator: Emulator, media: Path) -> None:
    seedance_emulator.add_fault("rate_limit")
    with pytest.raises(TaskDeferred) as caught:
        make({"imageUrls": [str(media / "one.png")]}).execute(context_of())
    carried = json.dumps(caught.value.trigger.serialize())
    (upload,) = seedance_emulator.server.uploads.values()
    assert upload.url in carried
    assert upload.signature not in carried
    assert seedance_emulator.api_key not in carried


def test_a_file_is_uploaded_again_before_the_vendor_deletes_it(
    seedance_emulator: Emulator, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seedance_emulator.add_fault("rate_limit", times=2)
    monkeypatch.setattr(defaults, "UPLOAD_REUSE_SECONDS", 0.0)
    make({"imageUrls": [str(media / "one.png")]}, deferrable=False).execute(context_of())
    assert seedance_emulator.counts("put") == {"200": 3}


def test_the_fingerprint_is_that_of_the_inputs_as_written(seedance_emulator: Emulator, media: Path) -> None:
    store = StateStore()
    operator = make({"imageUrls": [media / "one.png"]})
    task_id = operator.execute(context_of(store))
    base_url = f"{seedance_emulator.url}/api/v1"
    assert store.receipt["fingerprint"] == fingerprint(
        "seedance-20", operator.inputs, conn_id="seedance_default", base_url=base_url
    )
    assert make({"imageUrls": [media / "one.png"]}).execute(context_of(store)) == task_id
    assert seedance_emulator.counts("put") == {"200": 1}  # a retry that continues with a task uploads nothing


# What is told.


def test_the_signature_is_in_no_log_xcom_or_state(
    seedance_emulator: Emulator, media: Path, task_log: TaskLog, caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of()
    with caplog.at_level(logging.INFO):
        make({"imageUrls": [str(media / "one.png")]}).execute(context)
    (upload,) = seedance_emulator.server.uploads.values()
    everything = repr((caplog.text, task_log.lines, context["ti"].xcoms, context["task_state_store"].states))
    assert upload.url in everything
    assert upload.signature not in everything
    assert seedance_emulator.api_key not in everything


@pytest.mark.usefixtures("airflow_database")
def test_in_a_real_run_paths_may_be_templates(seedance_emulator: Emulator, media: Path, tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    done = run_dag(
        dags,
        f"""
        from airflow.providers.common.compat.sdk import ObjectStoragePath
        from seedance_provider.operators.seedance import SeedanceGenerateVideoOperator
        SeedanceGenerateVideoOperator(
            task_id="video",
            inputs={{
                "prompt": "a cat",
                "mode": "reference",
                "imageUrls": ["{media}/{{{{ 'one' }}}}.png", ObjectStoragePath("file://{media}/two.jpg")],
            }},
            upload_media=True,
            poll_interval=0.1,
        )
        """,
    )
    assert done["video"].state == "success"
    assert [url.rpartition("/")[2] for url in sent(seedance_emulator)["imageUrls"]] == ["one.png", "two.jpg"]
