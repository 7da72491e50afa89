"""Whatever dies, is cleared or changes: the vendor's bill is what a model of ten lines says."""

from __future__ import annotations

import contextlib
import os
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError, SeedanceTaskFailedError
from seedance_provider.execution.budgets import Budget
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.hooks.ledger_files import Folder
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.testing import Emulator
from tests.support.airflow import hurry
from tests.support.crashes import CrashError, crash
from tests.support.stores import bare_store
from tests.support.tries import FOX, FOX_CREDITS, Instance

CRASHES: dict[str, Any] = {
    "before the intent": (Receipts, "save", "before"),
    "after the intent": (Receipts, "save", "after"),
    "after the reply": (SeedanceHook, "create_task", "after"),
    "after the id": (Receipts, "note", "after"),
    "before the success is taken": None,
}
SENT = {"", "after the reply", "after the id", "before the success is taken"}


class Video(NamedTuple):
    """The model's memory of what was wanted last."""

    state: str  # unknown, running, failed or delivered
    prompt: str
    fails: bool = False


class Ledgered(RuleBasedStateMachine):
    """One task instance, tried and cleared at will, and the vendor's bill."""

    key: str | None = None
    emulator: Emulator

    def __init__(self) -> None:
        super().__init__()
        self.created = 0
        self.unknown = 0
        self.known: Video | None = None
        self.must_clear = False
        self.was_cleared = False  # since a receipt was last written
        self.told = False  # that the outcome is unknown, for manual review
        self.lost = False  # whether the last answer got lost with the id of a task
        self.patch = pytest.MonkeyPatch()

    @initialize()
    def begin(self) -> None:
        self.emulator.reset()
        self.emulator.clear_faults()
        self.url, _ = bare_store()
        self.patch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", self.url)
        self.instance = Instance(
            retries=50,
            deferrable=False,
            poll_interval=0.02,
            idempotency_key=self.key,
            budget="all",
            budget_credits=1_000_000,
        )

    def teardown(self) -> None:
        self.patch.undo()

    # The model.

    def submits(self, prompt: str, cleared: bool) -> bool:
        """Whether a try sends createTask."""
        if self.known is None:
            return True
        if self.key and self.known.state != "failed" and prompt != self.known.prompt:
            return False
        if self.known.state == "unknown":
            return self.unknown < defaults.MAX_UNKNOWN_OUTCOMES or (cleared and self.told)
        if self.known.state == "failed":
            return cleared or bool(self.key) or prompt != self.known.prompt
        if self.known.state == "delivered":
            return not self.key
        return prompt != self.known.prompt

    def expect(self, prompt: str, point: str, answer: str, cleared: bool) -> None:
        """What a try that sends createTask leaves behind."""
        if point == "before the intent":
            return
        if cleared and self.told:
            self.unknown, self.known = 0, None
        self.told = self.lost = False
        self.unknown += 1
        if point == "after the intent":
            self.known = Video("unknown", prompt)
        elif answer == "refused":
            self.unknown -= 1
            self.known = Video("unknown", prompt) if self.unknown else None
        else:
            self.created += 1
            if point == "after the reply":
                self.known = Video("unknown", prompt, answer == "fails")
                self.lost = True
                return
            self.unknown = 0
            self.known = Video("running", prompt, answer == "fails")

    # What happens.

    @precondition(lambda self: not self.must_clear)
    @rule(
        point=st.sampled_from(["", *CRASHES]),
        answer=st.sampled_from(["succeeds", "succeeds", "fails", "refused"]),
        prompt=st.sampled_from(["a fox", "a fox", "a cat"]),
    )
    def retried(self, point: str, answer: str, prompt: str) -> None:
        self.tried(point, answer, prompt, cleared=False)

    @rule(
        point=st.sampled_from(["", *CRASHES]),
        answer=st.sampled_from(["succeeds", "succeeds", "fails", "refused"]),
        prompt=st.sampled_from(["a fox", "a fox", "a cat"]),
    )
    def cleared(self, point: str, answer: str, prompt: str) -> None:
        self.tried(point, answer, prompt, cleared=True)

    @precondition(lambda self: self.lost)
    @rule()
    def adopted(self) -> None:
        """A person finds the video in the vendor's list, and says so."""
        assert self.known is not None
        task = self.emulator.bill()["tasks"][-1]["taskId"]
        with contextlib.suppress(SeedanceTaskFailedError):
            SeedanceHook().wait_for_task(task, poll_interval=0.02)
        who = {"key": self.key} if self.key else {"dag_id": "dag", "run_id": "monday", "task_id": "task"}
        SeedanceLedger().adopt(task, **who)
        self.known = self.known._replace(state="failed" if self.known.fails else "running")
        self.unknown, self.told, self.lost = 0, False, False

    def tried(self, point: str, answer: str, prompt: str, *, cleared: bool) -> None:
        self.was_cleared |= cleared
        submits = self.submits(prompt, self.was_cleared)
        writes = not (submits and point == "before the intent")
        if submits:
            self.expect(prompt, point, answer, self.was_cleared)
            if answer == "refused":
                self.emulator.add_fault("http", status=402)
            elif answer == "fails":
                self.emulator.add_fault("fail", code="2038", message="Blocked")
        try:
            with pytest.MonkeyPatch.context() as patch:
                self.arm(patch, point if submits else "")
                to_the_end = point != "before the success is taken"
                act = self.instance.clear if cleared else self.instance.run
                act(inputs=FOX | {"prompt": prompt}, to_the_end=to_the_end)
        except CrashError:
            self.must_clear = False
        except SeedanceError as error:
            self.must_clear = not error.retryable
            if isinstance(error, SeedanceConfigurationError):  # the key stands for other inputs
                writes = False
            else:
                self.told = error.charged == "unknown"
        else:
            self.must_clear = to_the_end  # nothing but a clear follows a success
        self.was_cleared &= not writes
        self.emulator.clear_faults()
        self.ended(prompt, point, submits)

    def ended(self, prompt: str, point: str, submits: bool) -> None:
        """What a try that saw its task to the end leaves behind."""
        reached = point in ("", "before the success is taken") if submits else True
        if self.known is None or self.known.state != "running" or not reached or prompt != self.known.prompt:
            return
        if self.known.fails:
            self.known = self.known._replace(state="failed")
        elif point != "before the success is taken":
            self.known = self.known._replace(state="delivered")

    def arm(self, patch: pytest.MonkeyPatch, point: str) -> None:
        if CRASHES.get(point) is not None:
            crash(patch, *CRASHES[point])

    @invariant()
    def the_bill_is_what_was_wanted(self) -> None:
        if hasattr(self, "url"):
            assert self.emulator.bill()["tasks_created"] == self.created

    @invariant()
    def the_budget_holds_at_least_the_bill(self) -> None:
        if hasattr(self, "url"):
            spent = Budget(Folder(self.url), "all").spent()
            assert spent >= Decimal(str(self.emulator.bill()["credits_spent"]))
            assert spent % FOX_CREDITS == 0


class Keyed(Ledgered):
    """The same by an idempotency key."""

    key = "promo"


@pytest.mark.parametrize("machine", [Ledgered, Keyed])
def test_the_bill_is_what_a_simple_model_says(machine: type[Ledgered], monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    with Emulator(waiting_seconds=0.01, generating_seconds=0.01, concurrency_limit=None) as emulator:
        monkeypatch.setitem(os.environ, "AIRFLOW_CONN_SEEDANCE_DEFAULT", emulator.connection_json)
        machine.emulator = emulator
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=15,
                stateful_step_count=8,
                deadline=None,
                phases=(Phase.generate,),  # a step takes a tenth of a second: shrinking would take minutes
                suppress_health_check=list(HealthCheck),
            ),
        )
