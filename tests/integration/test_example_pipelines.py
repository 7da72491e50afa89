"""The examples that end in files, run as they are: real DAG runs, real HTTP, real ffmpeg, a real S3 server."""

from __future__ import annotations

import ast
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.execution.ledger import SeedanceLedger
from tests.conftest import EXAMPLES, ROOT
from tests.support.media import needs_ffmpeg, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seedance_provider.testing import Emulator
    from tests.support.examples import Run
    from tests.support.s3 import Bucket

PICTURES = EXAMPLES / "shop"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeedanceLedger:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    return SeedanceLedger()


def lines_of_code(source: str) -> int:
    """Its lines without the docstring of the module and blank ones."""
    first = ast.parse(source).body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    lines = source.splitlines()[(first.end_lineno or 0) if is_docstring else 0 :]
    return sum(1 for line in lines if line.strip())


# Every night a clip per product.


class Shop:
    """A folder of products and their clips; runs the DAG on it, as often as asked, always on the same night."""

    def __init__(self, folder: Path, run: Callable[..., Run]) -> None:
        self.products, self.clips = folder / "shop", folder / "clips"
        self._run = run
        shutil.copytree(PICTURES, self.products)

    def add(self, *rows: str) -> None:
        with (self.products / "products.csv").open("a") as file:
            file.writelines(f"{row}\n" for row in rows)

    def night(self) -> Run:
        return self._run("seedance_nightly_clips", {"shop": str(self.products), "folder": f"file://{self.clips}"})

    @property
    def manifest(self) -> dict[str, dict[str, str]]:
        (path,) = self.clips.glob("*/manifest.csv")
        return {row["product"]: row for row in csv.DictReader(path.open())}


@pytest.fixture
def shop(tmp_path: Path, run: Callable[..., Run], ledger: SeedanceLedger) -> Shop:
    return Shop(tmp_path, run)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What is posted to the webhook of a chat."""
    posted: list[dict[str, Any]] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AIRFLOW_VAR_SUMMARY_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook")
        yield posted
        server.shutdown()


@needs_ffmpeg
def test_nightly_clips_stores_a_film_per_product_lists_them_and_posts_a_summary(
    shop: Shop, seedance_emulator: Emulator, webhook: list[dict[str, Any]]
) -> None:
    finished = shop.night()

    assert finished.state == "success"
    assert set(shop.manifest) == {"mug", "lamp", "chair"}
    tasks = {task["prompt"]: task for task in seedance_emulator.bill()["tasks"]}
    for index, (product, row) in enumerate(shop.manifest.items()):
        path = Path(row["file"].removeprefix("file://"))
        assert path.parent.parent == shop.clips
        assert path.name == f"{product}.mp4"
        assert probe(path).streams == ["h264", "aac"]
        record = finished.xcom("make_clip", "seedance_task", index)
        assert (row["credits"], row["seed"]) == (record["credits_used"], str(record["outputs"][0]["seed"]))
    assert len(tasks) == 3
    orders = [task.order for task in seedance_emulator.server.ledger.tasks.values()]
    assert all(order.inputs["aspectRatio"] == "9:16" and order.inputs["duration"] == 5 for order in orders)
    assert all(url.startswith(seedance_emulator.url) for order in orders for url in order.references.images)
    assert finished.xcom("report").startswith("3 made, 0 failed, 420 credits")
    assert webhook == [{"text": finished.xcom("report")}]


def test_nightly_clips_lets_no_bad_product_stop_the_others(
    shop: Shop, seedance_emulator: Emulator, ledger: SeedanceLedger
) -> None:
    shop.add(
        "vase,A vase on a shelf,vase.png",  # no such picture
        "clock,A clock ticks,products.csv",  # no picture
        "shoe,A shoe on a stone,",  # none at all
        "short row",
        'scarf,"[[fail:2038]] A scarf in the wind",mug.png',  # rejected by moderation
    )

    finished = shop.night()

    assert finished.state == "success"
    assert set(shop.manifest) == {"mug", "lamp", "chair"}
    summary, *reasons = finished.xcom("report").splitlines()
    assert summary.startswith("3 made, 5 failed, 420 credits")
    told = dict(reason.split(": ", 1) for reason in reasons)
    assert set(told) == {"vase", "clock", "shoe", "short row", "scarf"}
    assert "vase.png" in told["vase"]
    assert "products.csv" in told["clock"]
    assert "see the log" not in told.values()
    bill = seedance_emulator.bill()
    assert (bill["tasks_created"], bill["credits_spent"]) == (4, 420)  # the scarf was refunded
    assert sorted(path.name for path in shop.clips.rglob("*.mp4")) == ["chair.mp4", "lamp.mp4", "mug.mp4"]


def test_nightly_clips_charges_nothing_for_what_exists_when_the_night_is_run_again(
    shop: Shop, seedance_emulator: Emulator
) -> None:
    shop.night()
    stored = {path: path.stat().st_mtime_ns for path in shop.clips.rglob("*.mp4")}
    manifest = shop.manifest
    shop.add("bowl,A bowl of fruit,mug.png")

    finished = shop.night()

    assert finished.state == "success"
    assert seedance_emulator.bill()["tasks_created"] == 4
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    assert {name: row for name, row in shop.manifest.items() if name != "bowl"} == manifest
    assert finished.xcom("report").startswith("4 made, 0 failed, 560 credits")


def test_nightly_clips_stops_at_the_ceiling_of_the_night(
    shop: Shop, examples: Any, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedance_provider.defaults.BUDGET_SETTLES_SECONDS", 0.2)
    arguments = examples.dags["seedance_nightly_clips"].get_task("make_clip").partial_kwargs
    assert arguments["budget_credits"] == 3000
    arguments["budget_credits"] = 300  # two clips of 140

    finished = shop.night()

    bill = seedance_emulator.bill()
    assert (bill["tasks_created"], bill["credits_spent"]) == (2, 280)
    assert finished.state == "success"
    summary, reason = finished.xcom("report").splitlines()
    assert summary.startswith("2 made, 1 failed, 280 credits")
    assert "300 credits" in reason


def test_nightly_clips_is_as_short_as_promised_and_its_test_in_the_docs_passes(tmp_path: Path) -> None:
    blocks = {}
    for block in (ROOT / "docs" / "testing-your-dags.md").read_text().split("```python\n")[1:]:
        code = block.partition("```")[0]
        blocks[code.splitlines()[0].removeprefix("# ")] = code
    example = EXAMPLES / "example_nightly_clips.py"
    assert lines_of_code(example.read_text()) <= 60
    # The first line is the name of the file.
    assert lines_of_code(blocks["conftest.py"]) - 1 <= 6
    assert lines_of_code(blocks["test_nightly_clips.py"]) - 1 <= 15

    (tmp_path / "dags").mkdir()
    shutil.copy(example, tmp_path / "dags" / "nightly_clips.py")
    shutil.copytree(PICTURES, tmp_path / "dags" / "shop")
    for name, code in blocks.items():
        (tmp_path / name).write_text(code)
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env["TMPDIR"] = str(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


# Prompts from a table into a bucket.


@pytest.fixture
def shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    """The database of the Airflow connection ``shots_db``, with three prompts for today and one for another day."""
    path = tmp_path / "shots.db"
    monkeypatch.setenv("AIRFLOW_CONN_SHOTS_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE shots (day DATE, name VARCHAR(40), prompt VARCHAR(4000), seconds INTEGER)")
    today = datetime.now(UTC).date().isoformat()
    rows = [
        (today, "dawn", "A lighthouse at dawn", 5),
        (today, "rain", "A tram in the rain", 4),
        (today, "wind", "A kite over dunes", 6),
        ("2026-01-01", "fireworks", "Fireworks over a river", 5),
    ]
    database.executemany("INSERT INTO shots VALUES (?, ?, ?, ?)", rows)
    database.commit()
    return database


@pytest.fixture
def in_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The connection ``aws_default`` leads to the bucket's server, and the ledger is in the bucket too."""
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"{bucket.url}/ledger")
    return bucket


def read_manifest(bucket: Bucket) -> list[dict[str, Any]]:
    (key,) = [key for key in bucket.names() if key.endswith("manifest.jsonl")]
    return [json.loads(line) for line in bucket.read(key).splitlines()]


@needs_ffmpeg
def test_prompts_from_table_stores_each_row_of_the_day_in_the_bucket(
    run: Callable[..., Run], shots: sqlite3.Connection, in_bucket: Bucket, seedance_emulator: Emulator, tmp_path: Path
) -> None:
    finished = run("seedance_prompts_from_table", {"bucket": in_bucket.url})

    assert finished.state == "success"
    assert seedance_emulator.bill()["credits_spent"] == (5 + 4 + 6) * 28
    manifest = read_manifest(in_bucket)
    assert [(line["name"], line["status"]) for line in manifest] == [
        ("dawn", "delivered"),
        ("rain", "delivered"),
        ("wind", "delivered"),
    ]
    today = datetime.now(UTC).date().isoformat()
    keys = [key for line in manifest for key in (path.partition(f"{in_bucket.name}/")[2] for path in line["files"])]
    assert all(key.startswith(f"{today}/task_") for key in keys)
    assert {key for key in in_bucket.names() if key.endswith(".mp4")} == set(keys)
    for key in keys:
        (tmp_path / "video.mp4").write_bytes(in_bucket.read(key))
        assert probe(tmp_path / "video.mp4").streams == ["h264", "aac"]


def test_prompts_from_table_writes_into_the_manifest_what_the_ceiling_of_the_day_refused(
    run: Callable[..., Run],
    shots: sqlite3.Connection,
    in_bucket: Bucket,
    seedance_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seedance_provider.defaults.BUDGET_SETTLES_SECONDS", 0.2)
    connection = json.loads(seedance_emulator.connection_json) | {"extra": json.dumps({"max_credits_per_day": 300})}
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(connection))
    shots.execute("UPDATE shots SET seconds = 5")
    shots.execute("INSERT INTO shots VALUES (date('now'), 'zoo', '', 5)")  # an empty prompt
    shots.commit()

    finished = run("seedance_prompts_from_table", {"bucket": in_bucket.url})

    assert finished.state == "success"
    assert seedance_emulator.bill()["credits_spent"] == 280
    *lines, zoo = read_manifest(in_bucket)
    assert (zoo["name"], zoo["status"], zoo["files"]) == ("zoo", "refused", [])
    made = [line for line in lines if line["status"] == "delivered"]
    (refused,) = [line for line in lines if line["status"] == "refused"]
    assert [(line["credits"], len(line["files"])) for line in made] == [("140", 1), ("140", 1)]
    assert (refused["files"], refused["credits"]) == ([], "0")
    assert "300" in refused["reason"]


def test_prompts_from_table_charges_nothing_when_the_day_is_run_again(
    run: Callable[..., Run], shots: sqlite3.Connection, in_bucket: Bucket, seedance_emulator: Emulator
) -> None:
    run("seedance_prompts_from_table", {"bucket": in_bucket.url})
    first = read_manifest(in_bucket)

    finished = run("seedance_prompts_from_table", {"bucket": in_bucket.url})

    assert finished.state == "success"
    assert seedance_emulator.bill()["tasks_created"] == 3
    assert read_manifest(in_bucket) == first


# Shots become a film.


@needs_ffmpeg
def test_storyboard_publishes_one_film_of_all_shots(
    run: Callable[..., Run], seedance_emulator: Emulator, tmp_path: Path
) -> None:
    finished = run("seedance_storyboard", {"folder": f"file://{tmp_path}"})

    assert finished.state == "success"
    film = Path(finished.xcom("publish").removeprefix("file://"))
    assert film.is_relative_to(tmp_path)
    shots = [Path(finished.xcom(f"shot_{number}")[0].removeprefix("file://")) for number in (1, 2, 3)]
    assert [shot.name for shot in shots] == ["shot-1.mp4", "shot-2.mp4", "shot-3.mp4"]
    assert probe(film).streams == ["h264", "aac"]
    assert probe(film).frames == sum(probe(shot).frames for shot in shots)
    assert probe(film).seconds == pytest.approx(sum(probe(shot).seconds for shot in shots), abs=0.3)
    orders = [task.order for task in seedance_emulator.server.ledger.tasks.values()]
    frames = [finished.xcom(f"shot_{number}", "seedance_task")["outputs"][0]["last_frame_image"] for number in (1, 2)]
    assert [order.references.images for order in orders] == [[], frames[:1], frames[1:]]
    assert seedance_emulator.bill()["credits_spent"] == 600


def test_storyboard_submits_no_shot_that_has_nothing_to_open_with(
    run: Callable[..., Run], seedance_emulator: Emulator, tmp_path: Path
) -> None:
    seedance_emulator.add_fault(
        "members", set={"output": [{"url": f"{seedance_emulator.url}/videos/a.mp4"}]}, times=None
    )

    finished = run("seedance_storyboard", {"folder": f"file://{tmp_path}"})

    assert finished.state == "failed"
    assert seedance_emulator.bill()["tasks_created"] == 1


# Pictures of a bucket.


@needs_ffmpeg
def test_pictures_from_bucket_skips_and_reports_what_moderation_rejects(
    run: Callable[..., Run], in_bucket: Bucket, seedance_emulator: Emulator, tmp_path: Path
) -> None:
    for name in ("chair.png", "lamp.png", "mug.png", "products.csv"):
        in_bucket.write(f"pictures/{name}", (PICTURES / name).read_bytes())
    seedance_emulator.add_fault("fail", code="asset_review_failed", skip=1)  # dag.test() may begin with any of them

    finished = run(
        "seedance_pictures_from_bucket", {"pictures": f"{in_bucket.url}/pictures", "clips": f"{in_bucket.url}/clips"}
    )

    assert finished.state == "success"
    waits = [finished.states[f"clip.wait[{index}]"] for index in range(4)]
    assert (sorted(waits[:3]), waits[3]) == (["skipped", "success", "success"], "upstream_failed")
    rejected = waits.index("skipped")
    *outcomes, of_no_picture = finished.xcom("report").values()
    assert "products.csv" in of_no_picture
    assert outcomes.pop(rejected) == finished.xcom("clip.wait", "seedance_error", rejected)["message"]
    stored = {key for key in in_bucket.names() if key.endswith(".mp4")}
    assert {path.partition(f"{in_bucket.name}/")[2] for path in outcomes} == stored
    for key in stored:
        (tmp_path / "clip.mp4").write_bytes(in_bucket.read(key))
        assert probe(tmp_path / "clip.mp4").streams == ["h264", "aac"]
    bill = seedance_emulator.bill()
    assert (bill["tasks_created"], bill["credits_spent"]) == (3, 280)
    uploaded = [task.order.references.images for task in seedance_emulator.server.ledger.tasks.values()]
    assert all(url.startswith(seedance_emulator.url) for (url,) in uploaded)


# An image, then a video.


def test_draw_and_animate_opens_the_video_with_the_drawn_picture(
    run: Callable[..., Run], seedance_emulator: Emulator
) -> None:
    finished = run("seedance_draw_and_animate")

    assert finished.state == "success"
    (picture,) = finished.xcom("draw")
    (video,) = finished.xcom("animate")
    assert (picture.rpartition(".")[2], video.rpartition(".")[2]) == ("png", "mp4")
    drawn, animated = (task.order for task in seedance_emulator.server.ledger.tasks.values())
    assert (drawn.model, animated.model) == ("seedream-5.0-pro", "seedance-20")
    assert animated.references.images == [picture]
    assert seedance_emulator.bill()["credits_spent"] == 224
