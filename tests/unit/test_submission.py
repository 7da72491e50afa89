"""What is remembered of a submission, what a later try makes of it, and what a failing store does to a submission."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import submission as module
from seedance_provider.exceptions import SeedanceInsufficientCreditsError, SeedanceSubmitUncertainError
from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.submission import STATE_KEY, Submission, SubmissionStore, Verdict, fingerprint, judge
from tests.unit.support import FakeTaskInstance, TaskLog

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

WANTED = Submission(fingerprint="f" * 64, max_tries=2, try_number=2)
INTENT = replace(WANTED, try_number=1)
DONE = replace(INTENT, seedance_task_id="task_1", submitted_at=1.5)


class Store:
    """As Airflow's task state store: keeps JSON; the methods named in `broken` fail."""

    def __init__(self, state: Any = None, broken: str = "") -> None:
        self.states = {} if state is None else {STATE_KEY: json.dumps(state)}
        self.broken = broken
        self.log: list[str] = []

    def _called(self, name: str) -> None:
        self.log.append(name)
        if self.broken == name or self.broken == f"{name} {self.log.count(name)}":
            raise ConnectionError(f"{name} does not answer")

    def get(self, key: str, default: Any = None) -> Any:
        self._called("get")
        return json.loads(self.states[key]) if key in self.states else default

    def set(self, key: str, value: Any) -> None:
        self._called("set")
        self.states[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._called("delete")
        self.states.pop(key, None)


def store_of(store: Store | None, **options: Any) -> SubmissionStore:
    context: Any = {} if store is None else {"task_state_store": store}
    return SubmissionStore(context, **options)


# The verdict.


CLEARED = replace(WANTED, max_tries=4)
CHANGED = replace(WANTED, fingerprint="0")
ENDED = replace(DONE, ended=True)


@pytest.mark.parametrize(
    ("saved", "wanted", "verdict", "said"),
    [
        (None, WANTED, Verdict.SUBMIT, ""),
        (DONE, WANTED, Verdict.CONTINUE, "Continuing with task task_1 of try 1; nothing is bought"),
        (ENDED, WANTED, Verdict.CONTINUE, "Continuing with task task_1 of try 1; nothing is bought"),
        (INTENT, WANTED, Verdict.UNCERTAIN, "Try 1 was about to send createTask and never reported its answer (look"),
        (ENDED, CLEARED, Verdict.SUBMIT, "Task task_1 belongs to a run before this task was cleared"),
        (INTENT, CLEARED, Verdict.SUBMIT, "A createTask of unknown fate belongs to a run before"),
        (DONE, CLEARED, Verdict.CONTINUE, "Task task_1 had not ended when this task was cleared: it is kept"),
        (DONE, CHANGED, Verdict.SUBMIT, "so this is a new video; the former goes on and is billed"),
        (ENDED, CHANGED, Verdict.SUBMIT, "Task task_1 was made from other inputs, so this is a new video"),
        (INTENT, CHANGED, Verdict.SUBMIT, "A createTask of unknown fate was made from other inputs"),
        (DONE, replace(CHANGED, max_tries=4), Verdict.SUBMIT, "Task task_1 was made from other inputs"),
    ],
)
def test_what_a_try_makes_of_what_it_finds(saved, wanted, verdict, said):
    found, reason = judge(saved, wanted)
    assert found is verdict
    assert said in reason
    assert bool(said) == bool(reason)


def test_a_clear_after_the_retries_of_the_dag_were_lowered_is_a_clear_too():
    # Airflow sets max_tries to the tries so far and the retries of today.
    saved = replace(ENDED, max_tries=5)
    assert judge(saved, replace(WANTED, max_tries=1))[0] is Verdict.SUBMIT


def test_of_a_video_that_ended_nothing_is_said_to_go_on():
    assert "goes on" not in judge(ENDED, CHANGED)[1]


submissions = st.builds(
    Submission,
    fingerprint=st.sampled_from("ab"),
    max_tries=st.integers(0, 3),
    try_number=st.integers(1, 4),
    seedance_task_id=st.none() | st.just("task_1"),
    ended=st.booleans(),
)


@given(saved=submissions, wanted=submissions)
def test_a_try_never_goes_on_with_another_video_and_never_forgets_an_unknown_fate(saved, wanted):
    verdict, reason = judge(saved, wanted)
    assert reason
    if verdict is Verdict.CONTINUE:
        assert saved.seedance_task_id is not None
        assert saved.fingerprint == wanted.fingerprint
    if saved.seedance_task_id is None and replace(saved, try_number=1, ended=wanted.ended) == replace(
        wanted, try_number=1, seedance_task_id=None
    ):
        assert verdict is Verdict.UNCERTAIN


# The fingerprint.


def test_a_fingerprint_does_not_depend_on_the_order_of_the_inputs():
    one = fingerprint("seedance-20", {"prompt": "a fox", "duration": 5}, None)
    assert one == fingerprint("seedance-20", {"duration": 5, "prompt": "a fox"}, None)


@pytest.mark.parametrize(
    "changed",
    [
        ("seedance2-fast", {"prompt": "a fox"}, None),
        ("seedance-20", {"prompt": "a cat"}, None),
        ("seedance-20", {"prompt": "a fox", "seed": 1}, None),
        ("seedance-20", {"prompt": "a fox"}, "https://example.com/hook"),
    ],
)
def test_each_part_of_a_request_changes_the_fingerprint(changed):
    assert fingerprint(*changed) != fingerprint("seedance-20", {"prompt": "a fox"}, None)


def test_one_and_true_and_the_text_one_are_different_inputs():
    prints = {fingerprint("m", {"seed": value}, None) for value in (1, True, "1", [1], None)}
    assert len(prints) == 5


def test_a_path_is_the_same_input_in_each_try():
    one, two = (fingerprint("m", {"imageUrls": [Path("/media/cat.png")]}, None) for _ in range(2))
    assert one == two != fingerprint("m", {"imageUrls": [Path("/media/dog.png")]}, None)


def cyclic() -> dict[str, Any]:
    inputs: dict[str, Any] = {"prompt": "a fox"}
    inputs["self"] = inputs
    return inputs


@pytest.mark.parametrize(
    "inputs",
    [{1: "a", "prompt": "b"}, {("a", "b"): 1}, {None: 1, "a": 2}, {"a": float("nan")}, {"a": {1, 2}}, cyclic()],
    ids=["a number among the names", "a tuple as a name", "no name", "NaN", "a set", "a cycle"],
)
def test_what_cannot_be_sent_has_a_fingerprint_all_the_same(inputs):
    # Its check comes next and says what is wrong.
    assert fingerprint("m", inputs, None) == fingerprint("m", inputs, None)


def test_a_number_among_the_names_hides_no_change():
    assert fingerprint("m", {1: "a", "prompt": "b"}, None) != fingerprint("m", {1: "a", "prompt": "c"}, None)


# The store.


def test_what_is_stored_is_read_back():
    store = Store()
    submissions = store_of(store)
    assert submissions.is_available
    assert submissions.load() is None
    submissions.save_intent(INTENT)
    assert store_of(store).load() == INTENT
    assert submissions.save_task(INTENT, "task_1", 1.5) == DONE
    assert store_of(store).load() == DONE
    submissions.save_end("task_1")
    assert store_of(store).load() == ENDED
    submissions.forget()
    assert store_of(store).load() is None


def test_the_end_of_another_task_ends_nothing():
    store = Store(asdict(DONE))
    store_of(store).save_end("task_2")
    assert store_of(store).load() == DONE


def test_an_end_that_cannot_be_stored_fails_nothing():
    for broken in ("get", "set"):
        store_of(Store(asdict(DONE), broken=broken)).save_end("task_1")


def test_after_a_clear_the_kept_video_belongs_to_the_new_run():
    store = Store(asdict(DONE))
    adopted = store_of(store).adopt(DONE, CLEARED)
    assert adopted == store_of(store).load() == replace(DONE, max_tries=4)
    assert judge(adopted, CLEARED)[0] is Verdict.CONTINUE
    assert store_of(store).adopt(adopted, CLEARED) is adopted


def test_the_state_is_small_and_holds_no_inputs():
    store = Store()
    store_of(store).save_task(WANTED, "task_1", 1.5)
    assert set(json.loads(store.states[STATE_KEY])) == {
        "fingerprint",
        "max_tries",
        "try_number",
        "seedance_task_id",
        "submitted_at",
        "ended",
    }
    assert len(store.states[STATE_KEY]) < 300


@pytest.mark.parametrize(("store", "durable"), [(None, True), (Store(asdict(DONE)), False)], ids=["none", "off"])
def test_without_a_store_nothing_is_remembered_and_nothing_fails(store, durable):
    submissions = store_of(store, durable=durable)
    assert not submissions.is_available
    assert submissions.load() is None
    submissions.save_intent(INTENT)
    assert submissions.save_task(INTENT, "task_1", 1.5) == DONE
    submissions.save_end("task_1")
    submissions.forget()
    assert store is None or store.log == []


GOOD = asdict(DONE)


@pytest.mark.parametrize(
    "state",
    [
        "task_1",
        7,
        [],
        {},
        {"seedance_task_id": "task_1"},
        GOOD | {"of_a_later_version": 1},
        GOOD | {"fingerprint": None},
        GOOD | {"max_tries": "2"},
        GOOD | {"max_tries": None},
        GOOD | {"try_number": [1]},
        GOOD | {"seedance_task_id": 5},
        GOOD | {"seedance_task_id": ""},
        GOOD | {"submitted_at": "yesterday"},
        GOOD | {"ended": "no"},
    ],
    ids=str,
)
def test_a_state_that_cannot_be_read_is_not_no_state(state):
    with pytest.raises(SeedanceSubmitUncertainError, match="cannot be read") as caught:
        store_of(Store(state)).load()
    assert STATE_KEY in str(caught.value)
    assert "Look at the account's task list" in str(caught.value)


@given(
    state=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner),
        max_leaves=8,
    )
)
def test_any_state_but_none_is_read_or_refused(state):
    store = store_of(Store(state))
    try:
        found = store.load()
    except SeedanceSubmitUncertainError:
        return
    assert (found is None) == (state is None)
    judge(found, WANTED)


def test_a_store_that_does_not_answer_stops_a_try():
    with pytest.raises(ConnectionError):
        store_of(Store(broken="get")).load()
    with pytest.raises(ConnectionError):
        store_of(Store(broken="set")).save_intent(WANTED)


# A failing store under a submission, over HTTP.


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch) -> TaskLog:
    return TaskLog(monkeypatch, SeedanceCreateTaskOperator, module)


def create(store: Store) -> str:
    operator = SeedanceCreateTaskOperator(task_id="create", inputs={"prompt": "a fox"})
    context: Any = {"ti": FakeTaskInstance(), "task_state_store": store}
    return operator.execute(context)


@pytest.mark.parametrize("broken", ["get", "set"])
def test_nothing_is_sent_while_the_store_does_not_answer(seedance_emulator: Emulator, broken: str) -> None:
    with pytest.raises(ConnectionError, match=f"{broken} does not answer"):
        create(Store(broken=broken))
    assert seedance_emulator.requests() == []


def test_nothing_is_sent_over_a_state_that_cannot_be_read(seedance_emulator: Emulator) -> None:
    store = Store({"version": 2})
    with pytest.raises(SeedanceSubmitUncertainError):
        create(store)
    assert seedance_emulator.requests() == []
    assert store.get(STATE_KEY) == {"version": 2}


def test_the_intent_is_stored_before_the_request_and_the_id_after_it(seedance_emulator: Emulator) -> None:
    store = Store()
    states: list[Any] = []
    keep = store.set
    store.set = lambda key, value: (  # type: ignore[method-assign]
        states.append((value["seedance_task_id"], seedance_emulator.bill()["tasks_created"])),
        keep(key, value),
    )
    task_id = create(store)
    assert states == [(None, 0), (task_id, 1)]


def test_a_paid_task_that_cannot_be_stored_is_kept_in_the_log_and_gone_on_with(
    seedance_emulator: Emulator, task_log: TaskLog
) -> None:
    store = Store(broken="set 2")
    task_id = create(store)
    assert seedance_emulator.bill()["tasks_created"] == 1
    assert any(f"Created task {task_id}" in line for line in task_log.lines)
    assert any(f"Task {task_id} could not be stored" in line for line in task_log.warnings)
    assert store.get(STATE_KEY)["seedance_task_id"] is None  # so a retry knows that it does not know


def test_a_store_that_cannot_forget_does_not_hide_the_refusal(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    seedance_emulator.put_account(credits=1)
    store = Store(broken="delete")
    with pytest.raises(SeedanceInsufficientCreditsError, match="required 200"):
        create(store)
    assert any("could not be deleted" in line for line in task_log.warnings)
