"""What OpenLineage is told, in its own classes. tests/integration/test_events.py has the events of real runs."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.providers.openlineage")

from jsonschema import Draft202012Validator
from openlineage.client.serde import Serde

from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.api.records import TaskFailure, TaskOutput, TaskRecord, TaskStatus
from seedance_provider.execution import lineage
from seedance_provider.execution.assets import Delivery
from seedance_provider.execution.storage import StoredFile
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor
from tests.conftest import ROOT

RECORD = TaskRecord(
    seedance_task_id="task_1",
    status=TaskStatus.SUCCESS,
    credits_used=Decimal("199.50"),
    outputs=(TaskOutput(url="https://cdn.example.com/1.mp4?sig=x", seed=7),),
    create_time=1_000_000,
    complete_time=1_197_250,
)
FILE = StoredFile("s3://aws@bucket/1.mp4", 10, "0", "https://cdn.example.com/1.mp4")
ESTIMATE = CreditEstimate(Decimal(200), Decimal("210.5"), "2026-09")
AT_THE_VENDOR = ("https://cdn.example.com", "/1.mp4")
STORED = ("s3://bucket", "1.mp4")


def operator(inputs: Any = None, delivery: Delivery | None = None, **arguments: Any) -> SeedanceCreateTaskOperator:
    made = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox"}, validation="warn", **arguments)
    made.inputs = {"prompt": "a fox"} if inputs is None else inputs
    made.delivery = delivery
    return made


def names(datasets: Any) -> list[tuple[str, str]]:
    return [(dataset.namespace, dataset.name) for dataset in datasets]


def facet(found: Any) -> dict[str, Any]:
    """The run facet as it is written, which its published schema allows."""
    written = Serde.to_dict(found.run_facets["seedance_task"])
    name, _, definition = written.pop("_schemaURL").partition("#/$defs/")
    path = Path(ROOT, *name.partition("/main/")[2].split("/"))
    schema = json.loads(path.read_text())["$defs"][definition]["allOf"][1]
    Draft202012Validator(schema).validate(written)
    assert written.keys() - {"_producer"} <= schema["properties"].keys()
    return {key: value for key, value in written.items() if not key.startswith("_")}


def test_a_video_comes_from_its_references_and_is_where_the_vendor_and_the_store_have_it() -> None:
    inputs = {
        "prompt": "a fox",
        "imageUrls": ["https://user:pw@img.example.com/fox.png?X-Amz-Signature=abc"],
        "videoUrls": ["s3://aws_default@media/run #1.mp4", Path("/data/walk.mp4")],
    }
    found = lineage.of_video(operator({}, Delivery("task_1", "m", RECORD, [FILE], inputs), upload_media=True))
    assert names(found.inputs) == [
        ("https://img.example.com", "/fox.png"),
        ("s3://media", "run #1.mp4"),
        ("file", "/data/walk.mp4"),
    ]
    assert names(found.outputs) == [AT_THE_VENDOR, STORED]
    assert found.outputs[1].outputFacets["outputStatistics"].size == 10


def test_a_transfer_leads_from_the_vendor_to_the_store() -> None:
    for delivery in (Delivery("task_1", "m", RECORD, [FILE]), Delivery(None, None, None, [FILE])):
        found = lineage.of_transfer(operator(delivery=delivery))
        assert names(found.inputs) == [AT_THE_VENDOR]
        assert names(found.outputs) == [STORED]


def test_the_run_facet_has_the_numbers_and_its_published_schema_allows_it() -> None:
    found = lineage.of_video(operator(delivery=Delivery("task_1", "seedance-20", RECORD, estimate=ESTIMATE)))
    assert facet(found) == {
        "taskId": "task_1",
        "model": "seedance-20",
        "status": "success",
        "seeds": [7],
        "generationSeconds": 197.25,
        "creditsUsed": 199.5,
        "creditsExpectedLow": 200,
        "creditsExpectedHigh": 210.5,
        "priceList": "2026-09",
    }


def test_the_run_facet_of_a_failed_task_has_its_code() -> None:
    changes = {"status": TaskStatus.FAIL, "failure": TaskFailure(message="no", code="2038"), "outputs": ()}
    failed = RECORD.model_copy(update=changes)
    found = lineage.of_video(operator(delivery=Delivery("task_1", None, failed)))
    assert found.outputs == []
    assert facet(found).items() >= {"taskId": "task_1", "status": "fail", "failureCode": "2038"}.items()


def test_a_task_that_ended_before_a_video_was_known_has_its_references_and_model() -> None:
    found = lineage.of_video(operator({"imageUrls": ["https://img.example.com/fox.png"]}))
    assert names(found.inputs) == [("https://img.example.com", "/fox.png")]
    assert facet(found) == {"model": "seedance-20"}


def test_a_sensor_has_no_references() -> None:
    sensor = SeedanceTaskSensor(task_id="wait", seedance_task_id="task_1")
    sensor.delivery = Delivery("task_1", "m", RECORD)
    found = lineage.of_video(sensor)
    assert names(found.inputs) == []
    assert names(found.outputs) == [AT_THE_VENDOR]


class Lazy:
    """A list of another task's results: it loads itself when it is read."""

    def __iter__(self) -> Any:
        raise AssertionError("this would ask Airflow, in a process that must not")


@pytest.mark.parametrize(
    "inputs",
    [
        "{not json",
        {"imageUrls": Lazy()},
        {"imageUrls": [Lazy()]},
        {"imageUrls": "https://img.example.com/fox.png"},
        {"imageUrls": ["data:image/png;base64,AAAA", "", "  "]},
        {"prompt": "see https://img.example.com/fox.png"},
    ],
)
def test_what_is_no_reference_that_was_sent_is_left_out(inputs: Any) -> None:
    assert names(lineage.of_video(operator(inputs, upload_media=True)).inputs) == []


def test_a_path_that_is_not_uploaded_is_left_out() -> None:
    assert names(lineage.of_video(operator({"imageUrls": ["/etc/passwd"]})).inputs) == []


def test_inputs_that_are_a_json_text_are_read() -> None:
    found = lineage.of_video(operator('{"imageUrls": ["https://img.example.com/fox.png"]}'))
    assert names(found.inputs) == [("https://img.example.com", "/fox.png")]


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("s3://bucket/a/b.mp4", ("s3://bucket", "a/b.mp4")),
        ("s3a://conn@bucket/a/b.mp4", ("s3://bucket", "a/b.mp4")),
        ("gcs://bucket/a b.mp4", ("gs://bucket", "a b.mp4")),
        ("abfs://azure@container/a.mp4", ("abfs://container", "a.mp4")),
        ("file:///data/a.mp4", ("file", "/data/a.mp4")),
        ("file://nas/data/a.mp4", ("file://nas", "/data/a.mp4")),
        ("/data/a.mp4", ("file", "/data/a.mp4")),
        ("http://cdn.example.com:8080/a/b.mp4", ("http://cdn.example.com:8080", "/a/b.mp4")),
        ("https://cdn.example.com", ("https://cdn.example.com", "/")),
    ],
)
def test_a_dataset_is_named_by_the_rules_of_openlineage(location: str, name: tuple[str, str]) -> None:
    assert lineage.dataset_name(location) == name


def test_the_names_are_those_of_openlineage_itself() -> None:
    naming = pytest.importorskip("openlineage.client.naming.dataset")
    for location, theirs in {
        "s3://bucket/a/b.mp4": naming.S3("bucket", "a/b.mp4"),
        "gs://bucket/a/b.mp4": naming.GCS("bucket", "a/b.mp4"),
        "file:///data/a.mp4": naming.LocalFileSystem("/data/a.mp4"),
        "file://nas/data/a.mp4": naming.RemoteFileSystem("nas", "/data/a.mp4"),
    }.items():
        assert lineage.dataset_name(location) == (theirs.get_namespace(), theirs.get_name())
