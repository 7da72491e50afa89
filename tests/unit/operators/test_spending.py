"""What a task may cost: said before it is submitted, held to ceilings, and corrected at its end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider import defaults
from seedance_provider.exceptions import (
    SeedanceBudgetExceededError,
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInsufficientCreditsError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
)
from seedance_provider.execution import memory, spending
from seedance_provider.execution.ledger import SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.hooks.seedance import SeedanceHook
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator, SeedanceGenerateVideoOperator
from tests.support.airflow import FakeTaskInstance, TaskLog, hurry, run_dag
from tests.support.stores import BareStore, bare_ledger
from tests.support.tries import FOX, FOX_CREDITS, Instance

if TYPE_CHECKING:
    from pathlib import Path

    from seedance_provider.execution.receipts import Receipt
    from seedance_provider.testing import Emulator


@pytest.fixture
def seedance_emulator_settings() -> dict[str, Any]:
    return {"concurrency_limit": None}


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceHook, SeedanceGenerateVideoOperator, SeedanceCreateTaskOperator, memory)


def warnings(log: TaskLog) -> list[str]:
    """Ours: Airflow warns of an operator that is run by a test."""
    return [line for line in log.warnings if "cannot be called outside" not in line]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(defaults, "BUDGET_SETTLES_SECONDS", 0.5)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    return bare_ledger(monkeypatch)


def spent(store: BareStore, name: str = "promo") -> Decimal:
    return SeedanceLedger(store.url).spent(name)


def budgeted(run: str = "monday", credits: float = 1000, **arguments: Any) -> Instance:  # noqa: A002
    return Instance(run, budget="promo", budget_credits=credits, **arguments)


def connect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    connection = json.loads(emulator.connection_json)
    connection["extra"] = json.dumps(extra)
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(connection))


# Said.


def test_the_price_is_in_the_log_before_the_submission(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    Instance().run()
    said = [line for line in task_log.lines if line.startswith(("About", "Created"))]
    assert said[0].startswith(f"About {FOX_CREDITS} credits")
    assert len(said) == 2
    assert seedance_emulator.bill()["credits_charged"] == FOX_CREDITS


def test_a_charge_that_the_price_does_not_explain_is_in_the_log(
    seedance_emulator: Emulator, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "prices.json").write_text('{"seedance-20": {"720p": 12.5}}')
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", str(tmp_path / "prices.json"))
    Instance().run()
    assert any("62.5" in line and "price_list" in line for line in task_log.lines)
    assert any("200 credits were charged" in line for line in task_log.warnings)
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.usefixtures("seedance_emulator")
def test_a_charge_as_estimated_is_no_warning(task_log: TaskLog, store: BareStore) -> None:
    budgeted().run()
    assert warnings(task_log) == []
    assert spent(store) == FOX_CREDITS


@pytest.mark.parametrize("content", ["{", '{"seedance-20": {"999p": 1}}', '{"seedance-20": {"720p": -1}}', None])
def test_a_price_list_that_cannot_be_used_is_named_and_nothing_is_sent(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", str(path))
    with pytest.raises(SeedanceConfigurationError, match=str(path)):
        Instance().run()
    assert seedance_emulator.bill()["tasks_created"] == 0


@pytest.mark.usefixtures("seedance_emulator")
def test_the_hook_estimates_without_a_request() -> None:
    hook = SeedanceHook()
    assert hook.estimate_credits("seedance-20", FOX) == (200, 200, "2026-09")
    assert hook.estimate_credits("unheard-of", FOX) is None


# A ceiling of one task.


def test_a_task_above_max_credits_is_not_submitted(seedance_emulator: Emulator) -> None:
    instance = Instance(max_credits=199, inputs=json.dumps(FOX))
    with pytest.raises(SeedanceBudgetExceededError, match=r"200 credits.*199") as raised:
        instance.run()
    assert (raised.value.limit, raised.value.estimate, raised.value.spent) == (199, (200, 200), 0)
    assert seedance_emulator.requests("createTask") == []
    assert instance.ti.xcoms["seedance_error"]["charged"] == "no"


def test_literal_inputs_above_max_credits_fail_when_the_dag_is_parsed() -> None:
    with pytest.raises(SeedanceBudgetExceededError, match=r"200 credits.*199"):
        SeedanceCreateTaskOperator(task_id="create", inputs=FOX, max_credits=199)
    SeedanceCreateTaskOperator(task_id="create", inputs=FOX, max_credits=200)


def test_what_is_rendered_later_is_not_judged_when_the_dag_is_parsed() -> None:
    SeedanceCreateTaskOperator(task_id="create", inputs=FOX | {"duration": "{{ n }}"}, max_credits=1)
    SeedanceCreateTaskOperator(task_id="create", inputs=FOX, model="{{ model }}", max_credits=1)


def test_rates_of_ones_own_are_not_read_when_the_dag_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", "s3://aws@bucket/prices.json")
    SeedanceCreateTaskOperator(task_id="create", inputs=FOX, max_credits=1)


def test_a_range_is_compared_by_its_upper_end(seedance_emulator: Emulator) -> None:
    inputs = json.dumps(FOX | {"videoUrls": ["https://example.com/a.mp4"]})
    instance = Instance(model="seedance2-5", inputs=inputs, max_credits=500, validation="warn")
    with pytest.raises(SeedanceBudgetExceededError) as raised:
        instance.run()
    assert raised.value.estimate is not None
    assert raised.value.estimate.low < 500 < raised.value.estimate.high
    assert seedance_emulator.requests("createTask") == []


def test_with_a_ceiling_a_price_that_is_not_known_is_refused(seedance_emulator: Emulator) -> None:
    with pytest.raises(SeedanceBudgetExceededError, match="price_list") as raised:
        Instance(model="unheard-of", validation="warn", max_credits=1000).run()
    assert raised.value.estimate is None
    assert seedance_emulator.requests("createTask") == []


def test_a_connection_has_a_ceiling_for_each_task(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(seedance_emulator, monkeypatch, max_credits_per_task=150)
    with pytest.raises(SeedanceBudgetExceededError, match=r"max_credits_per_task.*seedance_default"):
        Instance().run()
    connect(seedance_emulator, monkeypatch, max_credits_per_task="200")
    assert Instance().run()


def test_the_price_list_is_read_once_for_a_submission(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[None] = []
    monkeypatch.setattr("seedance_provider.hooks.seedance.read_price_list", lambda: read.append(None) or {})
    connect(seedance_emulator, monkeypatch, max_credits_per_task=200)
    assert Instance(max_credits=200, deferrable=False).run()
    assert len(read) == 1


def test_a_ceiling_that_stops_all_new_videos_lets_a_submitted_one_be_collected(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, store: BareStore
) -> None:
    begun = Instance("monday")
    video = begun.run(to_the_end=False)
    connect(seedance_emulator, monkeypatch, max_credits_per_task=1)
    with pytest.raises(SeedanceBudgetExceededError):
        Instance("tuesday").run()
    assert begun.run() == video
    assert len(seedance_emulator.requests("createTask")) == 1


@pytest.mark.usefixtures("airflow_database", "store")
@pytest.mark.parametrize("value", ["nothing()", "'{{ ti.xcom_pull(\"nothing\") }}'"], ids=["an XCom", "a template"])
@pytest.mark.parametrize("argument", ["budget_credits=1, budget", "idempotency_key"])
def test_a_name_that_renders_to_none_is_refused_before_anything_is_sent(
    seedance_emulator: Emulator, tmp_path: Path, argument: str, value: str
) -> None:
    outcome = run_dag(
        tmp_path,
        f"""
        @task
        def nothing():
            return None

        nothing() >> SeedanceCreateTaskOperator(task_id="video", inputs={FOX}, {argument}={value})
        """,
    )
    assert outcome["video"].state == "failed"
    assert seedance_emulator.requests("createTask") == []


# A ceiling of a day, and other budgets.


def test_a_day_of_a_connection_has_a_ceiling(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, store: BareStore
) -> None:
    connect(seedance_emulator, monkeypatch, max_credits_per_day=500)
    assert [bool(Instance(run).run()) for run in ("monday", "tuesday")] == [True, True]
    monkeypatch.setattr(defaults, "BUDGET_SETTLES_SECONDS", -1.0)
    with pytest.raises(SeedanceBudgetExceededError) as raised:
        Instance("wednesday").run()
    assert (raised.value.limit, raised.value.spent) == (500, 400)
    assert seedance_emulator.bill()["credits_charged"] == 400
    assert [receipt.status for receipt in SeedanceLedger().receipts()] == ["delivered", "delivered", "refused"]
    assert store.calls


def test_a_day_without_a_ledger_is_an_error_that_the_connection_test_tells_too(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(seedance_emulator, monkeypatch, max_credits_per_day=500)
    with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
        Instance().run()
    assert seedance_emulator.requests("createTask") == []
    is_usable, told = SeedanceHook().test_connection()
    assert not is_usable
    assert "ledger_path" in told


def test_of_twenty_workers_at_once_as_many_pass_as_fit(seedance_emulator: Emulator, store: BareStore) -> None:
    store.most_seconds = 0.02

    def ask(number: int) -> bool:
        try:
            return bool(budgeted(map_index=number, deferrable=False).run())
        except SeedanceBudgetExceededError:
            return False

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(ask, range(20))) == 5
    assert seedance_emulator.bill()["tasks_created"] == len(seedance_emulator.requests("createTask")) == 5
    assert spent(store) == seedance_emulator.bill()["credits_charged"] == 1000
    assert len(SeedanceLedger().receipts(budget="promo")) == 20


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ({"fault": "http", "status": 402}, SeedanceInsufficientCreditsError),
        ({"fault": "fail", "code": "2038", "message": "Blocked"}, SeedanceTaskFailedError),
    ],
    ids=["refused", "failed"],
)
def test_what_is_not_charged_is_given_back(
    seedance_emulator: Emulator, store: BareStore, fault: dict[str, Any], raised: type[SeedanceError]
) -> None:
    seedance_emulator.add_fault(**fault)
    with pytest.raises(raised):
        budgeted().run()
    assert spent(store) == 0
    (told,) = SeedanceLedger().receipts()
    assert told.reason
    assert told.counted_credits == 0


def test_a_createtask_of_unknown_outcome_keeps_what_it_reserved(seedance_emulator: Emulator, store: BareStore) -> None:
    seedance_emulator.add_fault("http", status=500, accept=True)
    with pytest.raises(SeedanceSubmitUncertainError):
        budgeted(submit_policy="safe").run()
    assert spent(store) == FOX_CREDITS


def test_a_retry_that_continues_reserves_nothing_more(seedance_emulator: Emulator, store: BareStore) -> None:
    instance = budgeted(credits=200)
    first = instance.run(to_the_end=False)
    assert instance.run() == first
    assert spent(store) == FOX_CREDITS
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_crash_between_reservation_and_intent_leaves_nothing_behind_once_it_is_tried_again(
    seedance_emulator: Emulator, store: BareStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(self: Receipts, receipt: Receipt) -> None:
        raise RuntimeError

    instance = budgeted(credits=200)
    with monkeypatch.context() as patch:
        patch.setattr(Receipts, "save", dying)
        with pytest.raises(RuntimeError):
            instance.run()
    assert instance.run()
    assert spent(store) == FOX_CREDITS
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_what_was_charged_takes_the_place_of_what_was_reserved(
    seedance_emulator: Emulator, store: BareStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "prices.json").write_text('{"seedance-20": {"720p": [100, 100]}}')
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", f"file://{tmp_path}/prices.json")
    budgeted().run()
    assert spent(store) == seedance_emulator.bill()["credits_charged"] == FOX_CREDITS


def test_a_wait_for_a_slot_reserves_nothing(seedance_emulator: Emulator, store: BareStore) -> None:
    seedance_emulator.add_fault("http", status=429)
    instance = budgeted(slot_poll_interval=0.1, deferrable=False)
    seen: list[Decimal] = []

    def looking(*_: Any) -> None:
        seen.append(spent(store))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seedance_provider.execution.slots.wait_for_slot", looking)
        assert instance.run()
    assert seen == [0]
    assert spent(store) == FOX_CREDITS


def test_a_budget_that_cannot_be_corrected_does_not_fail_the_task(
    seedance_emulator: Emulator, store: BareStore, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "prices.json").write_text('{"seedance-20": {"720p": 50}}')
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", f"file://{tmp_path}/prices.json")
    instance = budgeted()
    settle = spending.settle

    def breaking(*arguments: Any) -> None:
        store.broken = {"write"}
        settle(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spending, "settle", breaking)
        assert instance.run()
    assert any("'promo'" in line for line in task_log.lines)
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_store_that_fails_sends_nothing(seedance_emulator: Emulator, store: BareStore) -> None:
    store.broken = {"list"}
    with pytest.raises(SeedanceError) as raised:
        budgeted().run()
    assert raised.value.retryable
    assert seedance_emulator.requests("createTask") == []


@pytest.mark.parametrize("arguments", [{"budget": "promo"}, {"budget_credits": 5}, {"max_credits": 0}])
def test_a_budget_has_a_name_and_a_limit_and_a_limit_is_above_0(arguments: dict[str, Any]) -> None:
    with pytest.raises(SeedanceConfigurationError):
        SeedanceCreateTaskOperator(task_id="create", inputs=FOX, **arguments)


def test_a_budget_without_a_name_after_rendering_is_an_error(seedance_emulator: Emulator) -> None:
    with pytest.raises(SeedanceConfigurationError, match="budget"):
        Instance(budget=" ", budget_credits=5).run()
    assert seedance_emulator.requests("createTask") == []


# A ledger where Airflow remembers nothing.


def test_who_has_retries_and_no_memory_is_told_the_two_lines_that_change_it(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    Instance(retries=0, wait_for_completion=False).run()
    assert warnings(task_log) == []
    Instance(retries=1, wait_for_completion=False).run()
    operator = SeedanceCreateTaskOperator(task_id="create", inputs=FOX, retries=1)
    operator.execute({"ti": FakeTaskInstance()})  # type: ignore[typeddict-item]
    assert [line.splitlines()[1:] for line in warnings(task_log)] == 2 * [
        ["[seedance]", "ledger_path = s3://aws_default@bucket/seedance"]
    ]
    assert seedance_emulator.bill()["tasks_created"] == 3


@pytest.mark.usefixtures("seedance_emulator")
def test_a_video_costs_three_writes_two_lists_and_a_read(store: BareStore) -> None:
    Instance().run()
    assert store.calls == ["list", "write", "write", "list", "read", "write"]


@pytest.mark.usefixtures("seedance_emulator")
def test_a_budget_costs_a_write_three_lists_and_a_read(store: BareStore) -> None:
    budgeted().run()
    assert sorted(store.calls) == ["list"] * 5 + ["read"] * 2 + ["write"] * 4
