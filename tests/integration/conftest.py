"""What the tests with real Airflow processes share: one Airflow, and an emulator per dialect."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from seedance_provider.testing import Emulator
from tests.conftest import EXAMPLES, ROOT
from tools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

API_KEY = "sk-secret-of-the-integration-tests-7Q2xV9"


class RealAirflow(NamedTuple):
    """A running Airflow and the two vendors it talks to, one by each connection."""

    airflow: LocalAirflow
    current: Emulator  # seedance_default
    seed: Emulator  # seedance_seed


@pytest.fixture(scope="session")
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
    with (
        Emulator(api_key=API_KEY, waiting_seconds=1, generating_seconds=3) as current,
        Emulator(api_key=API_KEY, dialect="seed", waiting_seconds=1, generating_seconds=3) as seed,
        LocalAirflow(dags, say=say, env={"AIRFLOW__SEEDANCE__POLL_INTERVAL": "1"}) as airflow,
    ):
        airflow.add_connection("seedance_default", current.connection_json)
        airflow.add_connection("seedance_seed", seed.connection_json)
        yield RealAirflow(airflow, current, seed)
