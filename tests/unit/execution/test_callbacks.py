"""Where the vendor posts to, and what a task does while the callback of a lost answer may still come."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError, SeedanceSubmitUncertainError
from seedance_provider.execution import callbacks
from seedance_provider.execution.signing import read_claim
from seedance_provider.execution.stores import FOUND_KEY, STATE_KEY
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.triggers.ledger import SeedanceLedgerTrigger, SeedancePauseTrigger
from tests.support.airflow import FakeTaskInstance, StateStore, fire, hurry
from tests.support.tries import FOX
from tests.support.vendor import BROKEN, CREATED, created, vendor
from tests.support.wire import answer

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://airflow.example.com/sub"


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "RESUME_SECONDS", 0.0)
    monkeypatch.setattr(callbacks, "AIRFLOW_V_3_1_PLUS", True)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL", URL)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", '{"conn_type": "seedance", "password": "sk-secret"}')


def operator(**arguments: Any) -> SeedanceCreateTaskOperator:
    return SeedanceCreateTaskOperator(**{"task_id": "task", "inputs": FOX} | arguments)


def context(store: StateStore | None = None, **members: Any) -> Any:
    return {"ti": FakeTaskInstance(**members), "task_state_store": store}


def url_of(store: StateStore | None = None, members: dict[str, Any] | None = None, **arguments: Any) -> str | None:
    return callbacks.receiver_url(operator(**arguments)._job(context(store, **members or {})))


class TestReceiverUrl:
    def test_is_below_the_configured_url_and_says_whom_it_is_for(self) -> None:
        url = url_of(members={"dag_id": "dägs", "map_index": 7})
        assert url is not None
        head, _, path = url.rpartition("/")
        assert head == f"{URL}/seedance/callbacks"
        claim = read_claim(path)
        assert claim is not None
        assert (claim.conn_id, claim.owner.dag_id, claim.owner.map_index) == ("seedance_default", "dägs", 7)
        assert "sk-secret" not in url

    def test_is_the_same_in_each_try_and_another_for_other_inputs(self) -> None:
        assert url_of(members={"try_number": 1}) == url_of(members={"try_number": 2, "max_tries": 5})
        assert url_of() != url_of(inputs=FOX | {"prompt": "a cat"})
        assert url_of(members={"map_index": 1}) != url_of(members={"map_index": 2})

    def test_needs_a_configured_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL")
        assert url_of() is None
        with pytest.raises(SeedanceConfigurationError, match="callback_base_url"):
            url_of(use_callback=True)

    def test_needs_airflow_3_1(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(callbacks, "AIRFLOW_V_3_1_PLUS", False)
        assert url_of() is None
        with pytest.raises(SeedanceConfigurationError, match=r"3\.1"):
            url_of(use_callback=True)

    def test_needs_a_place_to_remember(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
        assert url_of() is None
        assert url_of(StateStore()) is not None
        assert url_of(StateStore(), durable=False) is None
        with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
            url_of(use_callback=True)

    def test_gives_way_to_a_url_of_the_users_own(self) -> None:
        assert url_of(callback_url="https://example.com/hook") is None
        with pytest.raises(SeedanceConfigurationError, match="callback_url"):
            operator(callback_url="https://example.com/hook", use_callback=True)

    def test_is_not_used_if_told_so(self) -> None:
        assert url_of(use_callback=False) is None

    def test_is_bounded(self) -> None:
        assert url_of(members={"dag_id": "d" * 250, "run_id": "r" * 250, "task_id": "t" * 250}) is not None
        long = {"dag_id": "ü" * 250, "run_id": "ü" * 250, "task_id": "ü" * 250}
        assert url_of(members=long) is None
        with pytest.raises(SeedanceConfigurationError, match=str(defaults.MAX_CALLBACK_URL)):
            url_of(members=long, use_callback=True)


class Named:
    name, uri = "videos", "s3://bucket/videos"


class TestOnCompletion:
    def test_needs_what_a_callback_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL")
        with vendor(monkeypatch, CREATED) as server:
            with pytest.raises(SeedanceConfigurationError, match=r"on_completion .*callback_base_url"):
                operator(on_completion=Named()).execute(context())
            assert created(server) == 0

    @pytest.mark.parametrize("arguments", [{"callback_url": "https://example.com"}, {"idempotency_key": "launch"}])
    def test_is_for_one_task_only(self, arguments: dict[str, str]) -> None:
        with pytest.raises(SeedanceConfigurationError, match=f"on_completion and {next(iter(arguments))}"):
            operator(on_completion=Named(), **arguments)

    @pytest.mark.parametrize("value", ["videos", 1, [Named()]])
    def test_is_an_asset(self, value: Any) -> None:
        with pytest.raises(SeedanceConfigurationError, match="must be an Asset"):
            operator(on_completion=value)

    def test_is_remembered_with_the_receipt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
        store = StateStore()
        with vendor(monkeypatch, CREATED):
            operator(on_completion=Named()).execute(context(store))
        assert store.receipt["on_completion"] == ["videos", "s3://bucket/videos"]


class TestALostAnswer:
    """createTask got no answer: what the task does until the callback comes, or does not."""

    def test_is_not_sent_again_while_the_callback_may_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with vendor(monkeypatch, BROKEN, CREATED) as server:
            with pytest.raises(TaskDeferred) as deferral:
                operator(submit_policy="vendor").execute(context())
            assert created(server) == 1
        trigger = deferral.value.trigger
        assert isinstance(trigger, SeedanceLedgerTrigger)
        assert abs(trigger.deadline - time.time() - defaults.CALLBACK_GRACE) < 10

    def test_is_decided_by_the_policy_when_the_grace_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.3")
        for policy, posts in (("vendor", 2), ("safe", 1)):
            here = context(run_id=policy)
            with vendor(monkeypatch, BROKEN, CREATED) as server:
                with pytest.raises(TaskDeferred) as deferral:
                    operator(submit_policy=policy).execute(here)
                event = fire(deferral.value.trigger)
                if policy == "vendor":
                    assert operator(submit_policy=policy).execute_complete(here, event)
                else:
                    with pytest.raises(SeedanceSubmitUncertainError):
                        operator(submit_policy=policy).execute_complete(here, event)
                assert created(server) == posts

    def test_of_a_success_without_an_id_is_never_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.3")
        here = context()
        with vendor(monkeypatch, answer(200, b"{}"), CREATED) as server:
            with pytest.raises(TaskDeferred) as deferral:
                operator(submit_policy="vendor").execute(here)
            with pytest.raises(SeedanceSubmitUncertainError):
                operator(submit_policy="vendor").execute_complete(here, fire(deferral.value.trigger))
            assert created(server) == 1

    def test_at_most_three_are_sent_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "0.1")
        with vendor(monkeypatch, *[BROKEN] * 9) as server:
            with pytest.raises(SeedanceError) as failed:
                operator(submit_policy="vendor", deferrable=False).execute(context())
            assert failed.value.charged == "unknown"
            assert created(server) == defaults.MAX_UNKNOWN_OUTCOMES

    def test_is_looked_for_by_a_worker_where_nobody_else_can(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
        monkeypatch.setattr(defaults, "CALLBACK_PAUSES", (0.1, 1.0))
        here = context(StateStore())
        store: Any = here["task_state_store"]
        with vendor(monkeypatch, BROKEN) as server:
            with pytest.raises(TaskDeferred) as deferral:
                operator().execute(here)
            assert isinstance(deferral.value.trigger, SeedancePauseTrigger)
            with pytest.raises(TaskDeferred) as again:
                operator().execute_complete(here, fire(deferral.value.trigger))
            # What the API server leaves beside the receipt.
            found = store.receipt | {"stage": "submitted", "seedance_task_id": "task_found", "unknown": 0}
            store.states[FOUND_KEY] = json.dumps(found)
            assert operator().execute_complete(here, fire(again.value.trigger)) == "task_found"
            assert created(server) == 1
        assert store.receipt["seedance_task_id"] == "task_found"

    def test_is_not_waited_for_without_a_receiver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with vendor(monkeypatch, BROKEN, CREATED) as server:
            operator(use_callback=False).execute(context())
            assert created(server) == 2

    def test_what_was_found_of_a_former_video_is_none_of_this_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
        here = context(StateStore())
        store: Any = here["task_state_store"]
        with vendor(monkeypatch, BROKEN):
            with pytest.raises(TaskDeferred) as deferral:
                operator().execute(here)
            former = store.receipt | {"stage": "submitted", "seedance_task_id": "task_former", "intended_at": 1.0}
            store.states[FOUND_KEY] = json.dumps(former)
            monkeypatch.setattr(defaults, "CALLBACK_PAUSES", (0.1, 0.1))
            with pytest.raises(TaskDeferred):
                operator().execute_complete(here, fire(replace_until(deferral.value.trigger)))
        assert STATE_KEY in store.states


def replace_until(trigger: Any) -> Any:
    trigger.until = time.time()
    return trigger


def test_the_tasks_of_former_videos_are_remembered_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH")
    store = StateStore()
    wanted = operator()._job(context(store)).wanted
    receipt = wanted
    for number in range(2 * defaults.FORMER_TASKS):
        receipt = wanted.after(receipt, None, called_back=True).submitted(f"task_{number}", time.time())
    former = wanted.after(receipt, "task_failed", called_back=True).former
    assert former[-2:] == ("task_19", "task_failed")
    assert len(former) == defaults.FORMER_TASKS
    assert replace(receipt, former=former).from_json(replace(receipt, former=former).to_json()).former == former
