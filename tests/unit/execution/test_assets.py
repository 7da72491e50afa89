"""What the events of asset outlets carry, in Airflow's own accessors."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.api.records import TaskFailure, TaskOutput, TaskRecord, TaskStatus
from seedance_provider.exceptions import SeedanceTaskFailedError, SeedanceTaskTimeoutError
from seedance_provider.execution import assets
from seedance_provider.execution.assets import Delivery
from seedance_provider.execution.storage import StoredFile
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from tests.support.airflow import TaskLog

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2.11
    from airflow.utils.context import OutletEventAccessors

VIDEOS = Asset("videos")
CLIPS = AssetAlias("clips")
RECORD = TaskRecord(
    seedance_task_id="task_1",
    status=TaskStatus.SUCCESS,
    model="internal-7",
    credits_used=Decimal("199.50"),
    outputs=(
        TaskOutput(url="https://cdn.example.com/1.mp4?sig=x"),
        TaskOutput(url="https://cdn.example.com/2.mp4#t=1"),
    ),
    create_time=1_000_000,
    complete_time=1_197_250,
)
FILES = [
    StoredFile("s3://aws@bucket/1.mp4", 10, "0", "https://cdn.example.com/1.mp4"),
    StoredFile("s3://aws@bucket/2.mp4", 20, "1", "https://cdn.example.com/2.mp4"),
]
WHOLE = {
    "seedance_task_id": "task_1",
    "model": "seedance-20",
    "urls": ["https://cdn.example.com/1.mp4", "https://cdn.example.com/2.mp4"],
    "paths": ["s3://aws@bucket/1.mp4", "s3://aws@bucket/2.mp4"],
    "credits": 199.5,
    "seconds": 197.25,
}
DELIVERY = Delivery("task_1", "seedance-20", RECORD, FILES)


@pytest.fixture
def deliver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Delivers to outlets; returns the events and the log."""

    def deliver(delivery: Delivery, *outlets: Any, events: Any = None) -> tuple[Any, TaskLog]:
        operator = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox"}, outlets=list(outlets))
        events = OutletEventAccessors() if events is None else events
        log = TaskLog(monkeypatch, type(operator))
        assets.deliver(delivery, operator, {"outlet_events": events}, operator.log)  # type: ignore[arg-type]
        assert operator.delivery is delivery
        return events, log

    return deliver


def alias_events(events: Any, alias: Any) -> list[tuple[str, dict[str, Any]]]:
    """The events of an alias: the asset's URI and the extra of each."""
    accessor = events[alias]
    if hasattr(accessor, "dataset_alias_events"):  # Airflow 2.11
        return [(event["dest_dataset_uri"], event["extra"]) for event in accessor.dataset_alias_events]
    return [(event.dest_asset_key.uri, event.extra) for event in accessor.asset_alias_events]


def test_the_event_of_an_asset_tells_the_video_without_a_signature(deliver: Any) -> None:
    events, _ = deliver(DELIVERY, VIDEOS)
    assert json.loads(json.dumps(events[VIDEOS].extra)) == WHOLE


def test_every_asset_outlet_has_its_event_and_other_outlets_are_left_alone(deliver: Any) -> None:
    others = Asset("other_videos")
    events, log = deliver(DELIVERY, VIDEOS, object(), others)
    assert events[VIDEOS].extra == events[others].extra == WHOLE
    assert len(events) == 2
    assert log.lines == []


def test_what_the_dag_author_has_put_into_an_event_stays(deliver: Any) -> None:
    events = OutletEventAccessors()
    events[VIDEOS].extra["product"] = "lamp"
    assert deliver(DELIVERY, VIDEOS, events=events)[0][VIDEOS].extra == WHOLE | {"product": "lamp"}


def test_a_task_that_is_only_submitted_has_an_id_and_a_model(deliver: Any) -> None:
    events, _ = deliver(Delivery("task_1", "seedance-20"), VIDEOS)
    assert events[VIDEOS].extra == {"seedance_task_id": "task_1", "model": "seedance-20"}


def test_what_a_sparse_record_lacks_is_none(deliver: Any) -> None:
    sparse = RECORD.model_copy(update={"credits_used": None, "create_time": None})
    extra = deliver(Delivery("task_1", None, sparse), VIDEOS)[0][VIDEOS].extra
    assert extra == WHOLE | {"model": None, "credits": None, "seconds": None, "paths": []}


def test_a_transfer_of_mere_urls_tells_urls_and_paths(deliver: Any) -> None:
    extra = deliver(Delivery(None, None, None, FILES), VIDEOS)[0][VIDEOS].extra
    nothing = {"seedance_task_id": None, "model": None, "credits": None, "seconds": None}
    assert extra == WHOLE | nothing


def test_an_alias_has_an_event_for_each_stored_file(deliver: Any) -> None:
    events, log = deliver(DELIVERY, CLIPS)
    assert alias_events(events, CLIPS) == [
        (f"s3://bucket/{n}.mp4", WHOLE | {"urls": [WHOLE["urls"][n - 1]], "paths": [WHOLE["paths"][n - 1]]})
        for n in (1, 2)
    ]
    assert log.lines == []


def test_an_alias_of_a_task_that_stores_nothing_is_warned_of(deliver: Any) -> None:
    events, log = deliver(Delivery("task_1", None, RECORD), CLIPS, VIDEOS)
    assert alias_events(events, CLIPS) == []
    (line,) = log.lines
    assert all(part in line for part in ("clips", "output_path", "task_1"))
    assert events[VIDEOS].extra["seedance_task_id"] == "task_1"


def test_an_outlet_that_airflow_refuses_fails_nothing_and_keeps_the_others(deliver: Any) -> None:
    class Refusing(OutletEventAccessors):
        def __getitem__(self, key: Any) -> Any:
            if key == VIDEOS:
                raise RuntimeError("no such asset")
            return super().__getitem__(key)

    other = Asset("other_videos")
    events, log = deliver(DELIVERY, VIDEOS, other, events=Refusing())
    assert events[other].extra == WHOLE
    (line,) = log.lines
    assert "task_1" in line


def test_a_failure_is_kept_for_lineage_and_has_no_events() -> None:
    failed = RECORD.model_copy(update={"status": TaskStatus.FAIL, "failure": TaskFailure(message="no")})
    operator = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox"}, outlets=[VIDEOS])
    assets.fail(SeedanceTaskFailedError("x", record=failed, seedance_task_id="task_1"), operator)
    assert operator.delivery == Delivery("task_1", "seedance-20", failed)
    assets.fail(SeedanceTaskTimeoutError("x", seedance_task_id="task_2"), operator)
    assert operator.delivery == Delivery("task_2", "seedance-20")


# Names of files.


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("s3://aws_default@bucket/2026/a.mp4", "s3://bucket/2026/a.mp4"),
        ("S3://bucket/a.mp4", "s3://bucket/a.mp4"),
        ("gs://bucket/shot #1.mp4", "gs://bucket/shot%20%231.mp4"),
        ("abfs://azure@container/ä/a?b.mp4", "abfs://container/%C3%A4/a%3Fb.mp4"),
        ("file:///data/a.mp4", "file:///data/a.mp4"),
        ("/data/a b.mp4", "file:///data/a%20b.mp4"),
        ("memory://videos/a@2x.mp4", "memory://videos/a@2x.mp4"),
    ],
)
def test_a_stored_file_is_an_asset_by_its_path(path: str, uri: str) -> None:
    assert assets.public_uri(path) == uri


@given(conn_id=st.from_regex(r"[a-z_0-9-]+", fullmatch=True), key=st.text(min_size=1))
def test_the_uri_of_any_key_is_a_uri_and_has_no_connection(conn_id: str, key: str) -> None:
    uri = assets.public_uri(f"s3://{conn_id}@bucket/{key}")
    assert uri.startswith("s3://bucket/")
    assert uri.isascii()
    assert not set(uri) & set(" #?\n")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/clip.mp4?X-Amz-Signature=abc#t=1", "https://a.example/clip.mp4"),
        ("https://user:pass@a.example/clip.mp4", "https://a.example/clip.mp4"),
        ("https://a.example/@somebody/clip.mp4", "https://a.example/@somebody/clip.mp4"),
    ],
)
def test_urls_in_events_hold_no_signature_and_no_password(url: str, shown: str) -> None:
    assert assets.without_query(url) == shown
