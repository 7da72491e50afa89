"""What a receipt remembers, what a try decides by it, and what tells one wanted video from another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceSubmitUncertainError
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import (
    Decision,
    Outcome,
    Receipt,
    Ruling,
    Stage,
    Stamp,
    decide,
    decide_shared,
    fingerprint,
)
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
WAIT, MISMATCH = Decision.WAIT, Decision.MISMATCH


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


@pytest.mark.parametrize(
    ("saved", "own", "recent", "old", "other_inputs"),
    [
        pytest.param(None, SUBMIT, SUBMIT, SUBMIT, SUBMIT, id="nothing"),
        pytest.param(REFUSED, SUBMIT, SUBMIT, SUBMIT, SUBMIT, id="a certain refusal"),
        pytest.param(INTENT, UNCERTAIN, WAIT, UNCERTAIN, MISMATCH, id="an intent without an answer"),
        pytest.param(TOLD, UNCERTAIN, UNCERTAIN, UNCERTAIN, MISMATCH, id="an unknown outcome that was said"),
        pytest.param(RUNNING, CONTINUE, CONTINUE, CONTINUE, MISMATCH, id="a running task"),
        pytest.param(ENDED, CONTINUE, CONTINUE, CONTINUE, MISMATCH, id="a success"),
        pytest.param(DELIVERED, CONTINUE, CONTINUE, CONTINUE, MISMATCH, id="a delivered success"),
        pytest.param(FAILED, SUBMIT, SUBMIT, SUBMIT, SUBMIT, id="a failed task"),
    ],
)
def test_what_a_try_decides_by_a_key_that_others_name_too(
    saved: Receipt | None, own: Decision, recent: Decision, old: Decision, other_inputs: Decision
) -> None:
    assert decide_shared(saved, RETRY, is_own=True, is_recent=True).decision is own
    assert decide_shared(saved, RETRY, is_own=False, is_recent=True).decision is recent
    assert decide_shared(saved, RETRY, is_own=False, is_recent=False).decision is old
    for is_own in (True, False):
        assert decide_shared(saved, OTHER_INPUTS, is_own=is_own, is_recent=True).decision is other_inputs


def test_a_key_whose_task_this_try_knows_to_have_failed_stands_for_nothing() -> None:
    others = {"is_own": False, "is_recent": True}
    assert decide_shared(RUNNING, RETRY, failed="task_1", **others).decision is SUBMIT
    assert decide_shared(RUNNING, RETRY, failed="task_0", **others).decision is CONTINUE
    assert decide_shared(INTENT, RETRY, failed=None, **others).decision is WAIT


def test_a_refusal_of_ones_own_by_a_key_is_no_unknown_outcome() -> None:
    assert decide_shared(INTENT, RETRY, is_own=True, is_recent=True, refused=True).decision is SUBMIT
    assert decide_shared(INTENT, RETRY, is_own=False, is_recent=False, refused=True).decision is UNCERTAIN


@pytest.mark.parametrize("unknown", [0, 1, 3])
def test_an_unknown_outcome_of_a_key_counts_against_the_next_submission(unknown: int) -> None:
    saved = replace(INTENT, unknown=unknown)
    for is_own in (True, False):
        ruling = decide_shared(saved, RETRY, is_own=is_own, is_recent=False)
        assert (ruling.decision, ruling.unknown) == (UNCERTAIN, max(unknown, 1))


@pytest.mark.parametrize(
    ("decided", "reason"),
    [
        (lambda: decide(None, WANTED), ""),
        (
            lambda: decide(None, replace(WANTED, try_number=4), remembers=False),
            (
                "Airflow began try 4 by itself, beyond max_tries=2, and nothing here remembers whether an earlier try "
                "sent createTask (its log may show 'Created task')"
            ),
        ),
        (lambda: decide(INTENT, RETRY), "Try 1 sent createTask, or was about to, and its outcome is unknown"),
        (
            lambda: decide(TOLD, CLEAR),
            "Cleared after manual review of a createTask of unknown outcome: submitting again",
        ),
        (lambda: decide(RUNNING, RETRY), "Continuing with the task of try 1; nothing is charged (task task_1)"),
        (lambda: decide(ENDED, RETRY), "The task has ended and is delivered again; nothing is charged (task task_1)"),
        (
            lambda: decide(DELIVERED, CLEAR),
            "Cleared after a success: submitting a new video (the former was task task_1)",
        ),
        (
            lambda: decide(FAILED, CLEAR),
            "Cleared after a failed generation: submitting again (the former was task task_1)",
        ),
        (
            lambda: decide(RUNNING, OTHER_INPUTS),
            (
                "The inputs have changed, so a new video is submitted. The former keeps running and will be billed; "
                "collect it with SeedanceTaskSensor(seedance_task_id='task_1')"
            ),
        ),
        (
            lambda: decide(ENDED, OTHER_INPUTS),
            (
                "The inputs have changed, so a new video is submitted. The former has ended; collect it with "
                "SeedanceTaskSensor(seedance_task_id='task_1')"
            ),
        ),
        (
            lambda: decide(replace(DELIVERED, outcome=None), OTHER_INPUTS),
            (
                "The inputs have changed, so a new video is submitted. The former has ended; collect it with "
                "SeedanceTaskSensor(seedance_task_id='task_1')"
            ),
        ),
        (
            lambda: decide_shared(RUNNING, RETRY, is_own=True, is_recent=False),
            "Continuing with the task of try 1; nothing is charged (task task_1)",
        ),
        (
            lambda: decide_shared(RUNNING, RETRY, is_own=False, is_recent=False),
            "Continuing with the task of another task; nothing is charged (task task_1)",
        ),
        (
            lambda: decide_shared(FAILED, RETRY, is_own=False, is_recent=False),
            "The former video of this key failed: submitting again (former task task_1)",
        ),
        (
            lambda: decide_shared(INTENT, RETRY, is_own=False, is_recent=False),
            "Another task sent createTask by this idempotency key, or was about to, and its outcome is unknown",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_the_log_says_why(decided: Callable[[], Ruling], reason: str) -> None:
    assert decided().reason == reason


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(replace(WANTED, try_number=1), id="a try that begins again"),
        pytest.param(replace(WANTED, try_number=3, retries=1), id="a retry after the DAG's retries were changed"),
    ],
)
def test_what_no_user_has_cleared_is_no_clear(wanted: Receipt) -> None:
    assert decide(DELIVERED, wanted).decision is CONTINUE


# What follows a submission.


@pytest.mark.parametrize(
    ("saved", "failed", "former"),
    [
        (None, None, ()),
        (None, "task_1", ("task_1",)),
        (INTENT, None, ()),
        (RUNNING, None, ("task_1",)),
        (RUNNING, "task_1", ("task_1",)),
        (replace(RUNNING, former=("task_0",)), "task_2", ("task_0", "task_1", "task_2")),
        (replace(INTENT, former=("task_0",)), None, ("task_0",)),
    ],
)
def test_a_submission_knows_the_tasks_of_those_before_it(
    saved: Receipt | None, failed: str | None, former: tuple[str, ...]
) -> None:
    for called_back in (True, False):
        assert WANTED.after(saved, failed, called_back=called_back) == replace(
            WANTED, former=former, called_back=called_back
        )


def test_only_the_newest_of_the_tasks_before_it_are_known() -> None:
    many = tuple(f"task_{number}" for number in range(2, 2 + defaults.FORMER_TASKS))
    assert WANTED.after(replace(RUNNING, former=many), None, called_back=False).former == (*many[1:], "task_1")


def test_a_later_try_takes_a_receipt_over_as_it_is() -> None:
    later = replace(RUNNING, max_tries=7, try_number=5, retries=3)
    assert RUNNING.written_by(Stamp(max_tries=7, try_number=5, retries=3)) == later


receipts = st.builds(
    Receipt,
    fingerprint=st.sampled_from("ab"),
    max_tries=st.integers(0, 3),
    try_number=st.integers(1, 4),
    retries=st.integers(0, 3),
    unknown=st.integers(0, 4),
    told=st.booleans(),
    called_back=st.booleans(),
    former=st.lists(st.sampled_from(["task_0", "task_9"]), max_size=2).map(tuple),
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


def test_a_receipt_is_written_in_the_form_that_every_release_reads() -> None:
    assert replace(FAILED, former=("task_0",), told=True).to_json() == {
        "schema": 1,
        "fingerprint": "f" * 64,
        "max_tries": 2,
        "try_number": 1,
        "retries": 2,
        "stage": "ended",
        "unknown": 0,
        "told": True,
        "seedance_task_id": "task_1",
        "submitted_at": 1.5,
        "outcome": "fail",
        "called_back": False,
        "former": ["task_0"],
    }


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({}, "^not a receipt$"),
        (WANTED.to_json() | {"max_tries": "two"}, "max_tries is 'two'"),
        (WANTED.to_json() | {"stage": "submitted"}, "stage is .*, seedance_task_id None"),
    ],
)
def test_what_cannot_be_read_says_why(payload: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Receipt.from_json(payload)


def test_a_try_beyond_max_tries_is_one_unknown_outcome_only_where_nothing_is_remembered() -> None:
    beyond = replace(WANTED, try_number=4)
    assert decide(None, beyond) == Ruling(SUBMIT)
    assert decide(None, beyond, remembers=False).unknown == 1


def test_with_its_id_no_createtask_is_unknown_any_more() -> None:
    assert replace(TOLD, unknown=2).submitted("task_1", 1.5) == replace(
        WANTED, try_number=1, stage=Stage.SUBMITTED, seedance_task_id="task_1", submitted_at=1.5
    )


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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.example/c.png?v=1&sig=aa", "http://a.example/c.png?v=2&sig=aa"),
        ("http://a.example/c.png?v=&sig=aa", "http://a.example/c.png?sig=aa"),
        ("A fox?Signature=1", "A fox?Signature=2"),
    ],
    ids=["another parameter", "one without a value", "a text that is no URL"],
)
def test_nothing_but_a_signature_is_left_out(one: str, other: str) -> None:
    assert of({"prompt": one}) != of({"prompt": other})


def test_a_signature_is_left_out_wherever_the_url_stands_and_whatever_its_scheme() -> None:
    one, other = ({"a": [(f"http://a.example/c.png?sig={sign}",)]} for sign in ("aa", "bb"))
    assert of(one) == of(other)


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


def cyclic_list() -> dict[str, Any]:
    items: list[Any] = []
    items.append(items)
    return {"prompt": items}


class Odd:
    """Whose text holds an address in memory."""

    def __repr__(self) -> str:
        return f"<odd at {id(self):#x}>"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1: "a", "prompt": "b"}, {1: "a", "prompt": "c"}),
        ({("a", "b"): 1, "prompt": "b"}, {("a", "b"): 1, "prompt": "c"}),
        ({"a": {1, 2}}, {"a": {1, 3}}),
        ({"a": frozenset("xy")}, {"a": frozenset("xz")}),
    ],
    ids=["a number among the names", "a tuple as a name", "a set", "a frozen set"],
)
def test_what_cannot_be_sent_is_told_from_other_such_inputs(one: Any, other: Any) -> None:
    assert of(one) != of(other)


def test_an_object_is_the_same_input_in_each_process() -> None:
    assert of({"a": Odd()}) == of({"a": Odd()}) == of({"a": "<odd>"})


def test_what_is_no_json_at_all_is_told_apart_by_where_it_goes() -> None:
    assert len({of(cyclic()), of(cyclic(), "seedance2-fast"), of(cyclic(), conn_id="other")}) == 3


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({1: "a", "prompt": "b"}, id="a number among the names"),
        pytest.param({("a", "b"): 1}, id="a tuple as a name"),
        pytest.param({None: 1, "a": 2}, id="no name"),
        pytest.param({"a": float("nan")}, id="NaN"),
        pytest.param({"a": {1, 2}}, id="a set"),
        pytest.param({"prompt": "\ud800"}, id="half a character"),
        pytest.param(cyclic(), id="a cycle"),
        pytest.param(cyclic_list(), id="a list in itself"),
    ],
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
