"""The path of a callback: only who has the API key can write it, and anything else is none."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.execution.receipts import fingerprint
from seedance_provider.execution.signing import Claim, is_signed, read_claim, sign, signing_key
from seedance_provider.execution.stores import Owner, key_path

KEY = signing_key("sk-secret-7Q2xV9")
REQUEST = fingerprint("seedance-20", {"prompt": "a fox"}, conn_id="seedance_default", base_url="https://example.com")
OWNER = Owner("dag", "manual__2026-11-28T00:00:00+00:00", "task", 3)
CLAIM = Claim.of("seedance_default", OWNER, REQUEST, None)
NAMES = st.text(min_size=1, max_size=40)
CLAIMS = st.builds(
    Claim.of,
    NAMES,
    st.builds(Owner, NAMES, NAMES, NAMES, st.integers(-1, 10**6)),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.none() | NAMES,
)


@given(CLAIMS)
def test_a_claim_is_read_back_from_its_path_which_is_the_same_each_time(claim: Claim) -> None:
    path = sign(claim, KEY)
    assert read_claim(path) == claim
    assert is_signed(path, KEY)
    assert sign(claim, KEY) == path
    assert path.isascii()
    assert "/" not in path


@given(CLAIMS, st.text(min_size=1, max_size=80))
def test_another_key_signs_nothing(claim: Claim, api_key: str) -> None:
    assert not is_signed(sign(claim, KEY), signing_key(api_key))


@given(CLAIMS, st.data())
def test_a_path_that_was_changed_anywhere_is_not_signed(claim: Claim, data: st.DataObject) -> None:
    path = sign(claim, KEY)
    at = data.draw(st.integers(0, len(path) - 1))
    put = data.draw(st.sampled_from("ABCabc019-_.+/= "))
    assume(put != path[at])
    changed = path[:at] + put + path[at + 1 :]
    assert read_claim(changed) is None or not is_signed(changed, KEY)


@given(CLAIMS, CLAIMS)
def test_the_signature_of_one_claim_is_not_that_of_another(one: Claim, other: Claim) -> None:
    assume(one != other)
    mixed = f"{sign(one, KEY).partition('.')[0]}.{sign(other, KEY).partition('.')[2]}"
    assert not is_signed(mixed, KEY)


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,200}\.[A-Za-z0-9_-]{0,60}", fullmatch=True))
def test_what_is_no_path_of_ours_is_read_as_none_or_not_signed(path: str) -> None:
    claim = read_claim(path)
    assert claim is None or not is_signed(path, KEY)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists, max_leaves=12))
def test_json_of_another_shape_is_no_claim(value: Any) -> None:
    body = base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    assert read_claim(f"{body}.signature") is None


def test_an_endless_path_is_not_even_decoded() -> None:
    assert read_claim("A" * defaults.MAX_CALLBACK_URL + ".A") is None


def test_the_path_says_nothing_of_the_key_and_of_the_idempotency_key() -> None:
    path = sign(Claim.of("seedance_default", OWNER, REQUEST, "launch-of-x"), signing_key("zimg_secret"))
    body = path.partition(".")[0]
    told = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    assert "launch" not in told
    assert "zimg" not in told


def test_the_path_of_usual_names_is_short() -> None:
    assert len(sign(CLAIM, KEY)) < 300


def test_a_claim_leads_to_the_receipt_of_its_task_instance_or_of_its_key() -> None:
    assert CLAIM.ledger_path == OWNER.path
    assert Claim.of("c", OWNER, REQUEST, "k").ledger_path == key_path("k", "c")


def test_a_claim_is_about_one_request() -> None:
    assert CLAIM.is_about(REQUEST)
    assert not CLAIM.is_about(REQUEST[::-1])


def test_a_path_that_an_earlier_release_signed_is_still_read() -> None:
    path = (
        "WzEsInNlZWRhbmNlX2RlZmF1bHQiLCJkYWciLCJtYW51YWxfXzIwMjYtMTEtMjhUMDA6MDA6MDArMDA6MDAiLCJ0YXNrIiwzLCIx"
        "MjM0NTY3ODkwYWJjZGVmMTIzNDU2Nzg5MGFiY2RlZiIsIiJd"
        ".YGfiEegNS9jSCQfQBL779FnyCUcWv4T4aAxmsqvvgGg"
    )
    claim = read_claim(path)
    assert claim == Claim("seedance_default", OWNER, "1234567890abcdef1234567890abcdef")
    assert is_signed(path, KEY)
