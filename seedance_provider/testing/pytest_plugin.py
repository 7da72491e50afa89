"""The pytest fixture `seedance_emulator`: a fresh local Seedance API per test, and Airflow's connection to it.

Loaded by pytest in every project that has this provider installed, hence as light as can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedance_provider.testing.emulator.thread import Emulator


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` accepts it."""
    config.addinivalue_line("markers", "seedance_emulator(**settings): options of the seedance_emulator fixture")


@pytest.fixture
def seedance_emulator_settings() -> dict[str, Any]:
    """Options of `Emulator` for the tests of a module or directory; override this fixture there."""
    return {}


@pytest.fixture
def seedance_emulator(
    request: pytest.FixtureRequest, seedance_emulator_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """A running emulator whose tasks take 0.15 s, and `AIRFLOW_CONN_SEEDANCE_DEFAULT` pointing at it.

    Options come from `seedance_emulator_settings` and, for one test, from
    `@pytest.mark.seedance_emulator(dialect="seed", credits=100)`.
    """
    from seedance_provider.testing.emulator.thread import Emulator

    options = {"waiting_seconds": 0.05, "generating_seconds": 0.1} | seedance_emulator_settings
    for marker in reversed(list(request.node.iter_markers("seedance_emulator"))):
        options |= marker.kwargs
    with Emulator(**options) as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        yield emulator
