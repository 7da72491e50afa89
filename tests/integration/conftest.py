"""What the tests of the examples share, and those with real Airflow processes: one Airflow, an emulator per dialect."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from devtools.local_airflow import LocalAirflow
from seedance_provider.testing import Emulator
from tests.conftest import EXAMPLES, ROOT
from tests.support.examples import Run, load_examples, run_example
from tests.support.s3 import Bucket, serve_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

API_KEY = "sk-secret-of-the-integration-tests-7Q2xV9"


class Vendor:
    """An emulator whose videos take 20 minutes on a clock that the test turns, so that no test races with one."""

    def __init__(self, **settings: Any) -> None:
        self.ahead = 0.0
        self.emulator = Emulator(
            api_key=API_KEY,
            clock=lambda: time.time() + self.ahead,
            waiting_seconds=600,
            generating_seconds=600,
            **settings,
        )

    def turn_clock(self, seconds: float) -> None:
        self.ahead += seconds

    def wait_for_polls(self, count: int) -> None:
        """Wait until the API has been asked ``count`` more times how a task is doing."""
        wanted = len(self.emulator.requests("recordInfo")) + count
        deadline = time.monotonic() + 180
        while len(self.emulator.requests("recordInfo")) < wanted:
            assert time.monotonic() < deadline, "nobody polls"
            time.sleep(0.1)


class RealAirflow(NamedTuple):
    """A running Airflow and the two vendors it talks to, one by each connection."""

    airflow: LocalAirflow
    current: Vendor  # seedance_default
    seed: Vendor  # seedance_seed


@pytest.fixture(scope="module")  # not for longer: an idle Airflow takes a third of a core
def real_airflow(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[RealAirflow]:
    """All processes of Airflow on the example DAGs and those of tests/integration/dags. Takes 15 to 30 s."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    assert reporter is not None
    assert capture is not None

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)

    dags = tmp_path_factory.mktemp("dags")
    for folder in (EXAMPLES, ROOT / "tests" / "integration" / "dags"):
        shutil.copytree(folder, dags / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    current, seed = Vendor(), Vendor(dialect="seed")
    with (
        current.emulator,
        seed.emulator,
        LocalAirflow(dags, say=say, env={"AIRFLOW__SEEDANCE__POLL_INTERVAL": "1"}, split_api=True) as airflow,
    ):
        airflow.add_connection("seedance_default", current.emulator.connection_json)
        airflow.add_connection("seedance_seed", seed.emulator.connection_json)
        yield RealAirflow(airflow, current, seed)


@pytest.fixture
def examples(airflow_database: Path) -> Any:
    """A fresh DagBag of the examples, so that a test may change a DAG."""
    return load_examples()


@pytest.fixture
def run(examples: Any, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs an example to its end, against the emulator."""
    # What a user would set to make every sensor poll more often. The examples themselves stay as they are.
    monkeypatch.setenv("AIRFLOW__SEEDANCE__POLL_INTERVAL", "0.1")

    def run(dag_id: str, conf: dict[str, Any] | None = None, **options: Any) -> Run:
        return run_example(examples.dags[dag_id], conf, **options)

    return run


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of a server that answers as S3 does."""
    yield from serve_s3()


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> Bucket:
    """An empty bucket on the connection ``aws_default``."""
    return Bucket(s3, request.node.name.replace("_", "-")[:60].strip("-"), "aws_default")
