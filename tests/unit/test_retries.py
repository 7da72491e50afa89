"""The retry policy: what is retried, when, and what the UI shows of it. Airflow 3.3 and later."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seedance_provider import defaults, exceptions
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceConcurrencyLimitError,
    SeedanceError,
    SeedanceServerError,
)
from tests.support.airflow import run_dag

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

try:
    from airflow.sdk import DAG, RetryAction, RetryDecision

    from seedance_provider.retries import SeedanceRetryPolicy
except ImportError:
    HAS_POLICIES = False
else:
    HAS_POLICIES = True

needs_policies = pytest.mark.skipif(not HAS_POLICIES, reason="retry policies came with Airflow 3.3")
SUBCLASSES = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, SeedanceError)]


def decide(error: BaseException, try_number: int = 1, max_tries: int = 9) -> RetryDecision:
    return SeedanceRetryPolicy().evaluate(error, try_number, max_tries)


@needs_policies
@pytest.mark.parametrize("kind", SUBCLASSES)
def test_what_is_retryable_is_retried_and_the_rest_fails(kind: type[SeedanceError]) -> None:
    error = kind("Something went wrong")
    expected = RetryAction.RETRY if error.retryable else RetryAction.FAIL
    assert decide(error).action is expected


@needs_policies
@pytest.mark.parametrize("error", [ValueError("not ours"), KeyboardInterrupt(), TimeoutError()])
def test_errors_of_others_are_left_to_airflow(error: BaseException) -> None:
    assert decide(error) == RetryDecision.default()


@needs_policies
@pytest.mark.parametrize(("try_number", "seconds"), [(1, 4), (2, 32), (3, 60), (500, 60)])
def test_the_delay_carries_on_with_the_vendors_backoff(try_number: int, seconds: float) -> None:
    delays = [decide(SeedanceServerError("503"), try_number, 999).retry_delay for _ in range(50)]
    assert all(delay and 0.75 * seconds <= delay.total_seconds() <= 1.25 * seconds for delay in delays)
    assert len(set(delays)) > 1, "tasks that failed together are not retried together"


@needs_policies
@pytest.mark.parametrize("kind", [SeedanceServerError, SeedanceConcurrencyLimitError])
def test_a_delay_that_the_vendor_asks_for_is_kept(kind: type[SeedanceServerError]) -> None:
    delay = decide(kind("busy", retry_after=240.0)).retry_delay
    assert delay is not None
    assert delay.total_seconds() == 240


@needs_policies
def test_the_reason_begins_with_what_happened_and_ends_in_the_id() -> None:
    long = SeedanceServerError(f"Seedance failed: {'x' * 1000} (task task_1)", seedance_task_id="task_1")
    reason = decide(long).reason
    assert reason is not None
    assert reason.startswith("Seedance failed")
    assert reason.endswith("(task task_1)")
    assert reason.count("task_1") == 1
    assert len(reason) < 500, "Airflow would cut it"


@needs_policies
def test_the_reason_of_a_failure_names_the_id_as_well() -> None:
    reason = decide(SeedanceAuthenticationError("Key refused (task task_1)", seedance_task_id="task_1")).reason
    assert reason == "Key refused (task task_1)"


@needs_policies
def test_the_last_try_is_left_to_airflow() -> None:
    assert decide(SeedanceServerError("503"), try_number=3, max_tries=2) == RetryDecision.default()


@needs_policies
def test_it_can_be_read_back_from_its_serialized_form() -> None:
    assert isinstance(SeedanceRetryPolicy.deserialize(SeedanceRetryPolicy().serialize()), SeedanceRetryPolicy)


@needs_policies
def test_a_dag_that_uses_it_can_be_serialized() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    from seedance_provider.operators.seedance import SeedanceCreateTaskOperator

    with DAG("with_policy", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        partial = SeedanceCreateTaskOperator.partial(task_id="mapped", retries=2, retry_policy=SeedanceRetryPolicy())
        partial.expand(inputs=[{"prompt": "a fox"}, {"prompt": "a hare"}])
        SeedanceCreateTaskOperator(
            task_id="one", inputs={"prompt": "a fox"}, retries=2, retry_policy=SeedanceRetryPolicy()
        )
    serialized = DagSerialization.to_dict(dag)
    tasks = DagSerialization.from_dict(serialized).task_dict
    assert tasks["one"].has_retry_policy
    assert tasks["mapped"].has_retry_policy


TASKS = """
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.retries import SeedanceRetryPolicy

with_policy = {"retries": 2, "retry_delay": timedelta(hours=5), "retry_policy": SeedanceRetryPolicy()}

@task(**with_policy)
def read(seedance_task_id):
    return SeedanceHook().get_task(seedance_task_id).status

create = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox", "duration": 5}, **with_policy)
read(create.output)
"""


@needs_policies
def test_a_dag_run_retries_a_transient_error_without_waiting_for_retry_delay(
    airflow_database: Path, tmp_path: Path, seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "BACKOFF_BASE", 0.01)
    seedance_emulator.add_fault("http", on="recordInfo", status=503, times=defaults.ATTEMPTS)

    outcomes = run_dag(tmp_path, TASKS)

    assert (outcomes["read"].state, outcomes["read"].try_number) == ("success", 2)
    assert seedance_emulator.bill()["tasks_created"] == 1


@needs_policies
def test_a_dag_run_does_not_retry_what_a_retry_cannot_help(
    airflow_database: Path, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    seedance_emulator.add_fault("http", on="createTask", status=403, times=None)

    outcome = run_dag(tmp_path, TASKS)["create"]

    assert (outcome.state, outcome.try_number) == ("failed", 1)


@pytest.mark.differs("`SeedanceRetryPolicy`, see [Errors](errors.md)", "no", "no", "yes")
def test_without_retry_policies_the_module_says_which_version_has_them() -> None:
    script = (
        "import sys, types, seedance_provider.exceptions\n"
        "sys.modules['airflow.sdk'] = types.ModuleType('airflow.sdk')\n"
        "import seedance_provider.retries\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError")
    assert "3.3" in last
