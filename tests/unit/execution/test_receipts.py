"""What a receipt remembers, what a try decides by it, and what tells one wanted video from another."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.exceptions import SeedanceSubmitUncertainError
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Decision, Outcome, Receipt, Stage, decide, fingerprint
from seedance_provider.execution.stores import STATE_KEY, TaskStateStore
from tests.support.airflow import StateStore

WANTED = Receipt("f" * 64, max_tries=2, try_number=2, retries=2)
INTENT = replace(WANTED, try_number=1, unknown=1)
TOLD = replace(INTENT, told=True)
REFUSED = replace(INTENT, stage=Stage.REFUSED, unknown=0)
RUNNING = INTENT.submitted("task_1", 1.5)
FAILED = replace(RUNNING, stage=Stage.ENDED, outcome=Outcome.FAIL)
ENDED = replace(RUNNING, stage=Stage.ENDED, outcome=Outcome.SUCCESS)
DELIVERED = replace(ENDED, stage=Stage.DELIVERED)

RETRY = WANTED
CLEAR = replace(WANTED, max_tries=4)
CLEAR_WITH_FEWER_RETRIES = replace(WANTED, max_tries=2, try_number=2, retries=1)
OTHER_INPUTS = replace(WANTED, fingerprint="0")
SUBMIT, CONTINUE, UNCERTAIN = Decision.SUBMIT, Decision.CONTINUE, Decision.UNCERTAIN


@pytest.mark.parametrize(
    ("saved", "retry", "clear", "clear_with_fewer_retries", "other_inputs"),
    [
        pytest.param(None, SUBMIT, SUBMIT, SUBMIT, SUBMIT, id="nothing"),
        pytest.param(INTENT, UNCERTAIN, UNCERTAIN, UNCERTAIN, UNCERTAIN, id="an intent without an answer"),
        pytest.param(TOLD, UNCERTAIN, SUBMIT, SUBMIT, UNCERTAIN, id="an unknown outcome that was said"),
        pytest.param(REFUSED, SUBMIT, SUBMIT, SUBMIT, SUBMIT, id="a certain refusal"),
        pytest.param(RUNNING, CONTINUE, CONTINUE, CONTINUE, SUBMIT, id="a running task"),
        pytest.param(FAILED, CONTINUE, SUBMIT, SUBMIT, SUBMIT, id="a failed task"),
        pytest.param(ENDED, CONTINUE, CONTINUE, CONTINUE, SUBMIT, id="a success not delivered"),
        # A retry: the worker died after the delivery was stored, before Airflow 2.11 had stored the success.
        pytest.param(DELIVERED, CONTINUE, SUBMIT, SUBMIT, SUBMIT, id="a delivered success"),
    ],
)
def test_what_a_try_decides(
    saved: Receipt | None,
    retry: Decision,
    clear: Decision,
    clear_with_fewer_retries: Decision,
    other_inputs: Decision,
) -> None:
    assert decide(saved, RETRY).decision is retry
    assert decide(saved, CLEAR).decision is clear
    assert decide(saved, CLEAR_WITH_FEWER_RETRIES).decision is clear_with_fewer_retries
    assert decide(saved, OTHER_INPUTS).decision is other_inputs


def test_a_task_that_keeps_running_is_named_where_other_inputs_replace_it() -> None:
    assert "SeedanceTaskSensor(seedance_task_id='task_1')" in decide(RUNNING, OTHER_INPUTS).reason


def test_an_unknown_outcome_counts_against_the_next_submission() -> None:
    assert decide(replace(INTENT, unknown=2), RETRY).unknown == 2
    assert decide(TOLD, CLEAR).unknown == 0


def test_a_refusal_that_could_not_be_stored_is_still_one() -> None:
    assert decide(INTENT, RETRY, refused=True).decision is SUBMIT


@pytest.mark.differs(
    "`retries=0` prevents a second createTask",
    "not after a scheduler's death, see [Money](money.md#retries)",
    "the same",
    "yes; an unknown outcome is up to `submit_policy`",
)
@pytest.mark.parametrize(
    ("try_number", "max_tries", "remembers", "decision"),
    [
        (2, 0, False, UNCERTAIN),  # a scheduler's reset, as seen on 2.11 to 3.2
        (2, 1, False, SUBMIT),  # a clear
        (2, 0, True, SUBMIT),  # a receipt would be there had createTask been sent
        (1, 0, False, SUBMIT),
        (3, 2, False, SUBMIT),  # a retry
    ],
)
def test_a_try_that_airflow_began_by_itself_without_memory_is_an_unknown_outcome(
    try_number: int, max_tries: int, remembers: bool, decision: Decision
) -> None:
    wanted = replace(WANTED, try_number=try_number, max_tries=max_tries)
    assert decide(None, wanted, remembers=remembers).decision is decision


receipts = st.builds(
    Receipt,
    fingerprint=st.sampled_from("ab"),
    max_tries=st.integers(0, 3),
    try_number=st.integers(1, 4),
    retries=st.integers(0, 3),
    unknown=st.integers(0, 4),
    told=st.booleans(),
).flatmap(
    lambda receipt: st.sampled_from(
        [
            receipt,
            replace(receipt, stage=Stage.REFUSED),
            receipt.submitted("task_1", 1.5),
            *(
                replace(receipt.submitted("task_1", 1.5), stage=stage, outcome=outcome)
                for stage in (Stage.ENDED, Stage.DELIVERED)
                for outcome in Outcome
            ),
        ]
    )
)


@given(saved=receipts, wanted=receipts)
def test_a_try_never_continues_with_another_video_and_never_forgets_an_unknown_outcome(
    saved: Receipt, wanted: Receipt
) -> None:
    ruling = decide(saved, wanted)
    if ruling.decision is CONTINUE:
        assert saved.seedance_task_id is not None
        assert saved.fingerprint == wanted.fingerprint
    if saved.stage is Stage.INTENT and not saved.told:
        assert ruling.decision is UNCERTAIN
        assert ruling.unknown >= 1
    if saved.stage is Stage.SUBMITTED and saved.fingerprint == wanted.fingerprint:
        assert ruling.decision is CONTINUE


@given(receipts)
def test_a_receipt_is_read_back_as_written(receipt: Receipt) -> None:
    assert Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


def test_a_receipt_of_a_later_version_is_read_without_what_is_new() -> None:
    assert Receipt.from_json(RUNNING.to_json() | {"schema": 2, "of_a_later_version": 1}) == RUNNING


@pytest.mark.parametrize("member", RUNNING.to_json())
def test_a_receipt_that_lacks_a_member_is_read_or_refused_as_unreadable(member: str) -> None:
    payload = ENDED.to_json()
    del payload[member]
    try:
        Receipt.from_json(payload)
    except ValueError:
        return  # what counts as unknown; any other error would be one that names nothing to do


# The fingerprint.

PLACE = {"conn_id": "seedance_default", "base_url": "https://seedance2-pro.com/api/v1"}


def of(inputs: Any, model: str = "seedance-20", **place: str) -> str:
    return fingerprint(model, inputs, **PLACE | place)


def test_a_fingerprint_does_not_depend_on_the_order_of_the_inputs() -> None:
    assert of({"prompt": "a fox", "duration": 5}) == of({"duration": 5, "prompt": "a fox"})


def test_each_part_of_a_request_changes_the_fingerprint() -> None:
    prints = {
        of({"prompt": "a fox"}),
        of({"prompt": "a fox"}, "seedance2-fast"),
        of({"prompt": "a cat"}),
        of({"prompt": "a fox", "seed": 1}),
        of({"prompt": "a fox"}, conn_id="other"),
        of({"prompt": "a fox"}, base_url="https://kinovi.ai/api/v1"),
    }
    assert len(prints) == 6


def test_one_and_true_and_the_string_one_are_different_inputs() -> None:
    assert len({of({"seed": value}) for value in (1, True, "1", [1], None)}) == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "https://b.s3.amazonaws.com/cat.png?X-Amz-Algorithm=A&X-Amz-Date=1&X-Amz-Expires=9&X-Amz-Signature=aa",
            "https://b.s3.amazonaws.com/cat.png?X-Amz-Algorithm=A&X-Amz-Date=2&X-Amz-Expires=8&X-Amz-Signature=bb",
        ),
        (
            "https://b.s3.amazonaws.com/cat.png?AWSAccessKeyId=k&Signature=aa&Expires=1",
            "https://b.s3.amazonaws.com/cat.png?AWSAccessKeyId=k&Signature=bb&Expires=2",
        ),
        (
            "https://storage.googleapis.com/b/cat.png?X-Goog-Date=1&X-Goog-Signature=aa",
            "https://storage.googleapis.com/b/cat.png?X-Goog-Date=2&X-Goog-Signature=bb",
        ),
        (
            "https://a.blob.core.windows.net/b/cat.png?sv=1&st=1&se=2&sr=b&sp=r&sig=aa",
            "https://a.blob.core.windows.net/b/cat.png?sv=1&st=3&se=4&sr=b&sp=r&sig=bb",
        ),
    ],
    ids=["S3", "S3, version 2", "Google", "Azure"],
)
def test_a_url_that_is_signed_anew_is_the_same_input(one: str, other: str) -> None:
    assert of({"imageUrls": [one]}) == of({"imageUrls": [other]})
    assert of({"imageUrls": [one]}) != of({"imageUrls": [other.replace("cat", "dog")]})


def test_what_a_signed_url_says_beside_its_signature_counts() -> None:
    url = "https://b.s3.amazonaws.com/cat.png?versionId={}&X-Amz-Signature=aa"
    assert of({"imageUrls": [url.format(1)]}) != of({"imageUrls": [url.format(2)]})


def test_a_url_that_is_not_signed_counts_as_a_whole() -> None:
    assert of({"imageUrls": ["https://a.example/c.png?policy=1"]}) != of(
        {"imageUrls": ["https://a.example/c.png?policy=2"]}
    )


def test_a_path_is_the_same_input_in_each_try() -> None:
    one, two = (of({"imageUrls": [Path("/media/cat.png")]}) for _ in range(2))
    assert one == two != of({"imageUrls": [Path("/media/dog.png")]})


def cyclic() -> dict[str, Any]:
    inputs: dict[str, Any] = {"prompt": "a fox"}
    inputs["self"] = inputs
    return inputs


@pytest.mark.parametrize(
    "inputs",
    [{1: "a", "prompt": "b"}, {("a", "b"): 1}, {None: 1, "a": 2}, {"a": float("nan")}, {"a": {1, 2}}, cyclic()],
    ids=["a number among the names", "a tuple as a name", "no name", "NaN", "a set", "a cycle"],
)
def test_what_cannot_be_sent_has_a_fingerprint_all_the_same(inputs: Any) -> None:
    # Its check comes next and says what is wrong.
    assert of(inputs) == of(inputs)


# The store.


def receipts_in(store: StateStore | None) -> Receipts:
    return Receipts(None if store is None else TaskStateStore(store))


def test_what_is_stored_is_read_back() -> None:
    store = StateStore()
    assert receipts_in(store).load() is None
    receipts_in(store).save(INTENT)
    assert receipts_in(store).load() == INTENT
    assert receipts_in(store).note(RUNNING)
    assert receipts_in(store).load() == RUNNING
    receipts_in(store).note_delivered()
    assert receipts_in(store).load() == replace(RUNNING, stage=Stage.DELIVERED)


def test_an_open_receipt_never_expires() -> None:
    never = pytest.importorskip("airflow.sdk", reason="needs Airflow 3")
    if not hasattr(never, "NEVER_EXPIRE"):
        pytest.skip("the task state store is of Airflow 3.3")
    store = StateStore()
    receipts_in(store).save(INTENT)
    receipts_in(store).save(DELIVERED)
    assert store.retentions == [never.NEVER_EXPIRE, None]


def test_a_delivery_of_nothing_is_not_noted() -> None:
    for state in (None, INTENT, REFUSED):
        store = StateStore(state and state.to_json())
        receipts_in(store).note_delivered()
        assert "set" not in store.calls


def test_a_delivery_that_cannot_be_stored_fails_nothing() -> None:
    for broken in ("get", "set"):
        receipts_in(StateStore(RUNNING.to_json(), broken=broken)).note_delivered()


def test_a_receipt_is_small_and_holds_no_inputs() -> None:
    assert len(json.dumps(DELIVERED.to_json())) < 400


def test_without_a_store_nothing_is_remembered_and_nothing_fails() -> None:
    nowhere = receipts_in(None)
    assert not nowhere.remembers
    assert nowhere.load() is None
    nowhere.save(INTENT)
    assert nowhere.note(RUNNING)
    nowhere.note_delivered()


GOOD = RUNNING.to_json()


@pytest.mark.parametrize(
    "state",
    [
        "task_1",
        7,
        [],
        {},
        {"schema": 1},
        {name: value for name, value in GOOD.items() if name != "schema"},
        GOOD | {"fingerprint": None},
        GOOD | {"fingerprint": ""},
        GOOD | {"max_tries": "2"},
        GOOD | {"try_number": [1]},
        GOOD | {"stage": "bought"},
        GOOD | {"stage": "intent"},
        GOOD | {"seedance_task_id": 5},
        GOOD | {"seedance_task_id": ""},
        GOOD | {"seedance_task_id": None},
        GOOD | {"submitted_at": "yesterday"},
        GOOD | {"submitted_at": math.nan},
        GOOD | {"submitted_at": math.inf},
        GOOD | {"submitted_at": 10**400},
        GOOD | {"max_tries": 10**400},
        GOOD | {"told": "no"},
        GOOD | {"unknown": True},
        GOOD | {"outcome": "perhaps"},
    ],
    ids=str,
)
def test_a_receipt_that_cannot_be_read_is_not_no_receipt(state: Any) -> None:
    with pytest.raises(SeedanceSubmitUncertainError) as caught:
        receipts_in(StateStore(state)).load()
    assert STATE_KEY in str(caught.value)


@given(
    state=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner),
        max_leaves=8,
    )
)
def test_any_state_but_none_is_read_or_refused(state: Any) -> None:
    try:
        found = receipts_in(StateStore(state)).load()
    except SeedanceSubmitUncertainError:
        return
    assert (found is None) == (state is None)
    decide(found, WANTED)


def test_a_store_that_does_not_answer_stops_a_try() -> None:
    with pytest.raises(ConnectionError):
        receipts_in(StateStore(broken="get")).load()
    with pytest.raises(ConnectionError):
        receipts_in(StateStore(broken="set")).save(WANTED)
