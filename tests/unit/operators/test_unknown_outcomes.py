"""What is unknown stays unknown: over slot rounds, over retries without memory, and when the store fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceConcurrencyLimitError, SeedanceError, SeedanceSubmitUncertainError
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from tests.support.airflow import FakeTaskInstance, fire, hurry
from tests.support.stores import BareStore, bare_ledger
from tests.support.tries import FOX, Instance
from tests.support.vendor import BROKEN, CREATED, NO_SLOT, created, vendor


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "RESUME_SECONDS", 0.0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    return bare_ledger(monkeypatch)


def fail_writes(monkeypatch: pytest.MonkeyPatch, store: BareStore, fails: Callable[[int], bool]) -> None:
    """Make those writes fail, counted from 1."""
    write, count = store.pipe_file, [0]

    def writing(path: str, value: bytes, **kwargs: Any) -> None:
        count[0] += 1
        if fails(count[0]):
            raise PermissionError("denied")
        write(path, value, **kwargs)

    monkeypatch.setattr(store, "pipe_file", writing)


def test_without_memory_slot_rounds_and_retries_send_three_of_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    with vendor(monkeypatch, *[BROKEN, NO_SLOT] * 10) as server:
        instance = Instance(retries=3, durable=False, slot_poll_interval=0.02)
        with pytest.raises(SeedanceSubmitUncertainError):
            instance.run()
        assert created(server) == 5  # three of unknown outcome, two refusals


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("durable", "kind"), [(True, SeedanceConcurrencyLimitError), (False, SeedanceSubmitUncertainError)]
)
def test_a_slot_timeout_after_an_unknown_outcome_does_not_say_that_nothing_was_charged(
    monkeypatch: pytest.MonkeyPatch, store: BareStore, deferrable: bool, durable: bool, kind: type[SeedanceError]
) -> None:
    with vendor(monkeypatch, BROKEN, NO_SLOT):
        instance = Instance(
            durable=durable, deferrable=deferrable, slot_poll_interval=0.2 if not deferrable else 60, slot_timeout=0.3
        )
        with pytest.raises(kind) as failed:
            instance.run()
        assert failed.value.charged == "unknown"
        assert "nothing was charged" not in str(failed.value)


def test_the_slot_timeout_of_a_task_that_is_only_created_does_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    with vendor(monkeypatch, BROKEN, NO_SLOT):
        arguments: dict[str, Any] = {"slot_poll_interval": 60, "slot_timeout": 0.1, "durable": False, "retries": 1}
        operator = SeedanceCreateTaskOperator(task_id="task", inputs=FOX, **arguments)
        context: Any = {"ti": FakeTaskInstance(max_tries=1), "task": operator}
        with pytest.raises(TaskDeferred) as deferral:
            operator.execute(context)
        with pytest.raises(SeedanceSubmitUncertainError):
            operator.execute_complete(context, fire(deferral.value.trigger))


def test_an_intent_that_cannot_be_stored_leaves_an_earlier_createtask_unknown(
    monkeypatch: pytest.MonkeyPatch, store: BareStore
) -> None:
    fail_writes(monkeypatch, store, lambda number: number == 2)
    with vendor(monkeypatch, BROKEN) as server:
        with pytest.raises(SeedanceError) as failed:
            Instance().run()
        assert (created(server), failed.value.charged) == (1, "unknown")


@pytest.mark.parametrize("last", [2, 3, 4], ids=["once", "twice", "until the wait is over"])
def test_an_id_that_could_not_be_stored_is_stored_again_before_a_retry_pays_twice(
    monkeypatch: pytest.MonkeyPatch, store: BareStore, last: int
) -> None:
    fail_writes(monkeypatch, store, lambda number: 2 <= number <= last)
    with vendor(monkeypatch, CREATED) as server:
        instance = Instance()
        instance.run(to_the_end=False)
        instance.run()
        assert created(server) == 1
