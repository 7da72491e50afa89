"""What Airflow's command line says of the installed provider and of its connections.

The commands run in this process, where Airflow is loaded already; .ci/run asks the same of the built wheel with
processes of their own.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from seedance_provider.testing import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "airflow-provider-seedance"
GOOD, BAD, NO_ACCESS = "sk-good-key-4f1e", "sk-bad-key-9a0c", "sk-key-without-access-77b2"


@pytest.fixture
def airflow(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run an ``airflow`` command; return its output, in which no API key may be."""

    def run(*arguments: str) -> str:
        from airflow.cli import cli_parser

        parsed = cli_parser.get_parser().parse_args(arguments)
        with suppress(SystemExit):
            parsed.func(parsed)
        captured = capfd.readouterr()
        output = captured.out + captured.err
        assert not [key for key in (GOOD, BAD, NO_ACCESS) if key in output], "the API key is shown"
        return output

    return run


@pytest.fixture
def probe(airflow: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Run ``airflow connections test`` for a host and a key."""

    def run(host: str, key: str) -> str:
        monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
        connection = json.dumps({"conn_type": "seedance", "host": host, "password": key})
        monkeypatch.setenv("AIRFLOW_CONN_PROBE", connection)
        return airflow("connections", "test", "probe")

    return run


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    without_access = {"key": NO_ACCESS, "name": "no-access", "state": "no_access"}
    with Emulator(api_key=GOOD, accounts=[without_access]) as emulator:
        yield emulator


def test_providers_list_and_get_name_the_distribution(airflow: Callable[..., str]) -> None:
    assert NAME in airflow("providers", "list", "-o", "plain")
    assert NAME in airflow("providers", "get", NAME, "-o", "json")


def test_providers_hooks_shows_the_connection_type(airflow: Callable[..., str]) -> None:
    hooks = airflow("providers", "hooks", "-o", "plain")
    [line] = [line for line in hooks.splitlines() if line.startswith("seedance ")]
    assert line.split() == [
        "seedance",
        "seedance_provider.hooks.seedance.SeedanceHook",
        "seedance_conn_id",
        NAME,
        "Seedance",
    ]


def test_a_connection_can_be_added_and_read_back(airflow: Callable[..., str], airflow_database: Path) -> None:
    connection = {"conn_type": "seedance", "host": "http://127.0.0.1:9", "extra": {"submit_policy": "safe"}}
    airflow("connections", "add", "from_cli", "--conn-json", json.dumps(connection))
    assert "submit_policy" in airflow("connections", "get", "from_cli", "-o", "json")


@pytest.mark.parametrize(
    ("key", "expected"),
    [(GOOD, "Connection success"), (BAD, "401"), (NO_ACCESS, "403")],
    ids=["good key", "bad key", "key without API access"],
)
def test_connections_test_tells_keys_apart_without_spending(
    emulator: Emulator, probe: Callable[[str, str], str], key: str, expected: str
) -> None:
    output = probe(emulator.url, key)
    assert expected in output
    assert ("success" in output) is (key == GOOD)
    assert emulator.bill()["tasks_created"] == 0


def test_connections_test_names_an_unreachable_host(probe: Callable[[str, str], str]) -> None:
    output = probe("http://127.0.0.1:1", GOOD)
    assert "127.0.0.1:1" in output
    assert "success" not in output
