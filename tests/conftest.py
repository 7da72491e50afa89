"""A throw-away Airflow for the tests, set up before anything imports Airflow.

Works for Airflow 2.11 to 3.4. Importing it touches no database; a test that needs one asks for `airflow_database`.
"""

from __future__ import annotations

import atexit
import base64
import functools
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "dags_examples"


def _prepare_environment() -> Path:
    if "airflow" in sys.modules:
        raise RuntimeError("Airflow was imported before tests/conftest.py could give it a home: by a pytest plugin?")
    home = Path(tempfile.mkdtemp(prefix="seedance-tests-"))
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    bundle = {
        "name": "examples",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(EXAMPLES), "refresh_interval": 0},
    }
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
    )
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a forked child that happens to run its exit handlers
            shutil.rmtree(home, ignore_errors=True)

    atexit.register(remove)
    return home


AIRFLOW_HOME = _prepare_environment()
# A busy machine must not fail a property.
settings.register_profile("seedance", deadline=None)
settings.load_profile("seedance")


def pytest_configure() -> None:
    owner = os.getpid()

    def leave(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)
        pytest.exit("ended by SIGTERM", returncode=128 + number)

    # Without this SIGTERM would end pytest on the spot, and fixtures could not end what they have started.
    signal.signal(signal.SIGTERM, leave)


SHARED = ("real_airflow", "rig")
"""Fixtures that several files share for as long as the session lasts, because they start an Airflow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A shared Airflow runs until the session ends: what does not need it goes first, undisturbed.
    items.sort(key=_shared)


def _shared(item: pytest.Item) -> int:
    names = getattr(item, "fixturenames", ())
    return max((number for number, name in enumerate(SHARED, 1) if name in names), default=0)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The AIRFLOW_HOME of this test run."""
    return AIRFLOW_HOME


@pytest.fixture(scope="session")
def airflow_database(airflow_home: Path) -> Path:
    """An empty Airflow database, as ``dag.test()`` needs it; made once for all tests."""
    from airflow.utils.db import initdb

    initdb()
    _share_the_api_server()
    return airflow_home / "airflow.db"


def _share_the_api_server() -> None:
    """Before Airflow 3.2 ``dag.test()`` makes an API server for each task, which takes seconds; later ones keep one."""
    try:
        from airflow.sdk.execution_time import supervisor
    except ImportError:  # Airflow 2 has none
        return
    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
