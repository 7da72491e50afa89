"""The ledger: receipts as write-once files, on disk and in memory, and what it tells of them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError, SeedanceSubmitUncertainError
from seedance_provider.execution import stores
from seedance_provider.execution.budgets import Budget
from seedance_provider.execution.ledger import LedgerReceipt, SeedanceLedger
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Outcome, Receipt, Stage
from seedance_provider.execution.stores import Facts, key_path
from seedance_provider.hooks.ledger_files import EntryName, Folder, latest_by_submission, part, standing
from tests.support.stores import BareStore, bare_ledger, bare_store

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = Receipt("f" * 64, max_tries=1, try_number=1, retries=1)
PRICE = CreditEstimate(Decimal(200), Decimal("312.5"), "2026-09")
RECORDED = Path(__file__).parents[2] / "recorded"


def context(task: str = "video", run: str = "manual__2026-11-24T02:00:00+00:00", map_index: int = -1) -> Any:
    return {"ti": SimpleNamespace(dag_id="promo/día", run_id=run, task_id=task, map_index=map_index, try_number=1)}


@pytest.fixture(params=["disk", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"file://{tmp_path}/ledger" if request.param == "disk" else bare_store()[0]
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", url)
    return url


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> BareStore:
    return bare_ledger(monkeypatch)


def open_receipts(key: str | None = None, **who: Any) -> Receipts:
    facts = Facts(model="seedance-20", conn_id="seedance_default", key=key)
    return Receipts.of(context(**who), durable=True, facts=facts)


def submit(receipts: Receipts, task: str, wanted: Receipt = WANTED, **facts: Any) -> Receipt:
    """What a submission leaves behind."""
    receipts.find()
    receipts.begin()
    for name, value in facts.items():
        setattr(receipts.facts, name, value)
    receipts.save(replace(wanted, unknown=1))
    submitted = wanted.submitted(task, time.time())
    receipts.save(submitted)
    return submitted


# A task instance's own receipt.


@pytest.mark.usefixtures("url")
def test_the_newest_entry_is_what_a_later_try_finds() -> None:
    assert open_receipts().find() is None
    submitted = submit(open_receipts(), "task_1")
    found = open_receipts().find()
    assert found is not None
    assert (found.receipt, found.is_own) == (submitted, True)
    assert 0 <= found.age < 60


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("who", [{"task": "other"}, {"run": "other"}, {"map_index": 0}])
def test_another_task_instance_finds_nothing_of_it(who: dict[str, Any]) -> None:
    submit(open_receipts(), "task_1")
    assert open_receipts(**who).find() is None


@pytest.mark.usefixtures("url")
def test_what_is_known_of_a_video_is_found_with_it() -> None:
    submit(open_receipts(), "task_1", estimate=PRICE, reserved={"day": "1764009600000-abababab-312.5"})
    later = open_receipts()
    later.find()
    known = Facts("seedance-20", "seedance_default", None, PRICE, {"day": "1764009600000-abababab-312.5"})
    assert replace(later.facts, intended_at=None) == known
    later.begin()
    begun = replace(later.facts, intended_at=None)
    assert begun == Facts("seedance-20", "seedance_default"), "another submission starts with nothing"


@pytest.mark.usefixtures("url")
def test_without_durable_nothing_is_remembered() -> None:
    receipts = Receipts.of(context(), durable=False)
    assert not receipts.remembers
    submit(receipts, "task_1")
    assert open_receipts().find() is None


def test_the_ledger_decides_where_airflow_has_a_store_too(url: str) -> None:
    with_store = context() | {"task_state_store": object()}
    receipts = Receipts.of(with_store, durable=True)
    assert receipts.ledger is not None
    assert str(receipts.ledger.folder).startswith(url)


def test_the_happy_path_costs_two_writes_and_one_list_up_to_the_submission(store: BareStore) -> None:
    submit(open_receipts(), "task_1")
    assert store.calls == ["list", "write", "write"]


def test_no_file_is_written_twice_and_each_holds_who_and_when_but_no_prompt(url: str) -> None:
    submit(open_receipts(), "task_1")
    root = Folder(url)
    intent, submitted = sorted(root.tree())
    assert Path(intent).parent == Path(submitted).parent
    (content,) = (json.loads(content) for _, content in root.read([submitted]))
    assert content["owner"] == {
        "dag_id": "promo/día",
        "run_id": "manual__2026-11-24T02:00:00+00:00",
        "task_id": "video",
        "map_index": -1,
    }
    assert content["seedance_task_id"] == "task_1"
    assert "prompt" not in content


# What goes wrong.


@pytest.mark.parametrize("operation", ["list", "write"])
def test_a_store_that_fails_is_a_retryable_error_that_names_the_path_and_no_secret(
    store: BareStore, operation: str
) -> None:
    store.broken = {operation}
    with pytest.raises(SeedanceError, match="memory://store") as raised:
        submit(open_receipts(), "task_1")
    assert raised.value.retryable
    assert raised.value.charged == "no"
    assert "secret" not in str(raised.value)


def test_a_store_that_fails_after_the_submission_does_not_fail_the_task(store: BareStore) -> None:
    receipts = open_receipts()
    submitted = submit(receipts, "task_1")
    store.broken = {"list", "write", "read"}
    assert not receipts.note(submitted)
    receipts.note_delivered()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe", b"[" * 1_000_000])
def test_an_entry_that_cannot_be_read_is_not_none(url: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_REREAD_SECONDS", (0.0,))
    receipts = open_receipts()
    assert receipts.ledger is not None
    name = str(EntryName(1, 1764009600000, "submitted", "ab" * 6))
    receipts.ledger.folder.write(name, content)
    with pytest.raises(SeedanceSubmitUncertainError, match=name) as raised:
        receipts.find()
    assert url.rpartition("@")[2] in str(raised.value)


def test_an_entry_that_is_being_written_is_read_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = submit(open_receipts(), "task_1")
    read = Folder.read
    torn = [b"", b"{"]

    def tearing(self: Folder, names: list[str]) -> Any:
        yield from ((name, torn.pop()) for name in names) if torn else read(self, names)

    monkeypatch.setattr(Folder, "read", tearing)
    assert url
    assert open_receipts().load() == submitted


def test_members_of_a_later_version_are_ignored(url: str) -> None:
    submitted = submit(open_receipts(), "task_1")
    assert url
    receipts = open_receipts()
    receipts.find()
    assert receipts.ledger is not None
    receipts.ledger.write(submitted.to_json() | {"mood": "good", "estimate": "much", "paths": 7}, is_open=True)
    assert open_receipts().load() == submitted


@pytest.mark.parametrize("path", ["ledger", "s3:/bucket"])
def test_a_path_that_is_no_url_is_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", path)
    with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
        open_receipts()


def test_a_url_that_airflow_has_no_file_system_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", "nowhere://x")
    with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
        open_receipts().find()


def test_a_key_needs_a_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH", raising=False)
    with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
        open_receipts(key="a")


@pytest.mark.usefixtures("url")
def test_a_key_needs_durable() -> None:
    with pytest.raises(SeedanceConfigurationError, match="durable"):
        Receipts.of(context(), durable=False, facts=Facts(key="a"))


# A key, which many share.


@pytest.mark.usefixtures("url")
def test_whoever_asks_by_the_same_key_finds_the_same_video() -> None:
    submitted = submit(open_receipts(key="promo-1"), "task_1")
    found = open_receipts(key="promo-1", run="another", map_index=7).find()
    assert found is not None
    assert (found.receipt, found.is_own) == (submitted, False)
    assert open_receipts(key="promo-2").find() is None
    assert open_receipts().find() is None


@pytest.mark.usefixtures("url")
def test_of_two_intents_at_once_each_that_was_written_before_a_list_is_seen() -> None:
    first, second = open_receipts(key="a"), open_receipts(key="a", run="another")
    assert first.find() is second.find() is None
    for receipts in (first, second):
        receipts.begin()
        receipts.save(WANTED)
    assert first.ledger is not None
    assert second.ledger is not None
    assert (first.ledger.is_contested(), second.ledger.is_contested()) == (True, True)
    second.withdraw(WANTED)
    assert not first.ledger.is_contested()
    first.save(WANTED.submitted("task_1", 1.5))
    assert second.ledger.is_contested()
    found = open_receipts(key="a").load()
    assert found is not None
    assert found.seedance_task_id == "task_1"


def test_a_video_that_is_accepted_while_its_key_is_forgotten_is_told_and_not_taken_for_the_key(url: str) -> None:
    sender = open_receipts(key="a")
    sender.find()
    sender.begin()
    sender.save(replace(WANTED, unknown=1))
    assert SeedanceLedger().forget("a")
    assert sender.note(WANTED.submitted("task_1", 1.5))
    assert [(told.status, told.seedance_task_id) for told in SeedanceLedger().receipts()] == [("submitted", "task_1")]
    assert open_receipts(key="a").find() is None


@pytest.mark.usefixtures("url")
def test_what_was_known_when_it_was_decided_is_no_contest() -> None:
    open_receipts(key="a").save(WANTED)
    later = open_receipts(key="a", run="another")
    later.find()
    later.begin()
    later.save(WANTED)
    assert later.ledger is not None
    assert not later.ledger.is_contested()


@pytest.mark.usefixtures("url")
def test_a_key_that_is_forgotten_can_be_used_again_and_its_receipt_is_still_told() -> None:
    submit(open_receipts(key="a"), "task_1")
    books = SeedanceLedger()
    assert books.forget("a")
    assert open_receipts(key="a").find() is None
    assert not books.forget("a")
    assert [receipt.seedance_task_id for receipt in books.receipts()] == ["task_1"]


# Names.


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "día: 1", "x" * 300, "~", "%"])
def test_a_name_of_airflows_is_one_part_of_a_path(name: str) -> None:
    quoted = part(name)
    assert quoted
    assert quoted.strip(".")
    assert len(quoted) <= 150
    assert not set(quoted) & set("/\\:?#")


def test_long_names_are_told_apart() -> None:
    assert part("x" * 300) != part("x" * 301)


def test_entries_sort_by_age_and_the_newest_that_counts_rules() -> None:
    a, b = "a" * 12, "b" * 12
    names = [
        str(EntryName(1, 10, "intent", a)),
        str(EntryName(2, 20, "submitted", a)),
        str(EntryName(2, 30, "intent", b)),
        "notes.txt",
    ]
    assert standing(names) == EntryName(2, 30, "intent", b)
    assert standing([*names, str(EntryName(3, 40, "withdrawn", b))]) == EntryName(2, 20, "submitted", a)
    assert latest_by_submission(reversed(names)) == {a: EntryName(2, 20, "submitted", a), b: standing(names)}
    assert standing([]) is None


# What it tells.


@pytest.fixture
def books(url: str) -> SeedanceLedger:
    """A ledger with one video of each kind."""
    submit(open_receipts(map_index=0), "task_0", estimate=PRICE, reserved={"day": "1764009600000-abababab-312.5"})
    delivered = open_receipts(map_index=1)
    submit(delivered, "task_1", estimate=PRICE)
    delivered.note_delivered("task_1", Decimal(250), ["s3://bucket/1.mp4"])
    failed = open_receipts(map_index=2)
    submitted = submit(failed, "task_2", estimate=PRICE)
    failed.facts.reason = "Blocked"
    failed.note(replace(submitted, stage=Stage.ENDED, outcome=Outcome.FAIL))
    refused = open_receipts(map_index=3)
    refused.begin()
    refused.facts.reason = "Too dear"
    refused.note(replace(WANTED, stage=Stage.REFUSED))
    open_receipts(map_index=4, run="tomorrow").save(replace(WANTED, unknown=1))
    submit(open_receipts(key="k", map_index=5, run="tomorrow"), "task_5", estimate=PRICE)
    return SeedanceLedger(url)


def by_index(receipts: list[LedgerReceipt]) -> dict[int, LedgerReceipt]:
    return {receipt.map_index: receipt for receipt in receipts}


def test_it_tells_of_each_wanted_video(books: SeedanceLedger) -> None:
    told = by_index(books.receipts())
    assert {index: receipt.status for index, receipt in told.items()} == {
        0: "submitted",
        1: "delivered",
        2: "fail",
        3: "refused",
        4: "intent",
        5: "submitted",
    }
    assert told[1].credits == 250
    assert told[1].paths == ("s3://bucket/1.mp4",)
    assert told[2].reason == "Blocked"
    assert (told[5].key, told[5].seedance_task_id, told[5].estimate) == ("k", "task_5", PRICE)
    assert told[0].submitted_at is not None
    assert abs(told[0].submitted_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_it_tells_of_those_that_are_asked_for(books: SeedanceLedger) -> None:
    assert by_index(books.receipts(run_id="tomorrow")).keys() == {4, 5}
    assert by_index(books.receipts(dag_id="promo/día", run_id="tomorrow")).keys() == {4, 5}
    assert by_index(books.receipts(dag_id="promo/día")).keys() == set(range(6))
    assert books.receipts(dag_id="promo") == []
    assert by_index(books.receipts(budget="day")).keys() == {0}
    assert len(books.receipts(since=timedelta(minutes=5))) == 6
    assert books.receipts(since=datetime.now(UTC) + timedelta(minutes=5)) == []


@pytest.mark.parametrize(("by", "group"), [("dag", "promo/día"), ("day", datetime.now(UTC).strftime("%Y-%m-%d"))])
def test_it_tells_what_was_spent_known_charges_first(books: SeedanceLedger, by: Any, group: str) -> None:
    assert books.spend(by=by) == [(group, 4, Decimal("875.0"), Decimal("625.0"))]
    assert books.spend(1, by="model")[0].group == "seedance-20"


def test_it_tells_of_charged_videos_that_nobody_collected(
    books: SeedanceLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert by_index(books.orphans()).keys() == {0, 5}
    monkeypatch.setattr("seedance_provider.defaults.INTENT_SECONDS", -1.0)
    assert by_index(books.orphans()).keys() == {0, 4, 5}


def test_a_video_that_two_runs_share_is_told_of_both_and_counted_once(url: str) -> None:
    first, second = open_receipts(key="k"), open_receipts(key="k", run="another")
    submit(first, "task_1", estimate=PRICE)
    found = second.load()
    assert found is not None
    second.note(found)
    second.note_delivered("task_1", Decimal(250))
    books = SeedanceLedger(url)
    assert [(receipt.run_id, receipt.status) for receipt in books.receipts()] == [
        ("manual__2026-11-24T02:00:00+00:00", "submitted"),
        ("another", "delivered"),
    ]
    assert books.spend(by="model") == [("seedance-20", 1, 250, 0)]
    assert books.orphans() == []


@pytest.mark.parametrize(("outcome", "is_kept"), [(Outcome.SUCCESS, True), (Outcome.FAIL, False)])
def test_pruning_keeps_a_video_that_ended_well_and_was_never_delivered(
    url: str, outcome: Outcome, is_kept: bool
) -> None:
    receipts = open_receipts()
    receipts.note(replace(submit(receipts, "task_1"), stage=Stage.ENDED, outcome=outcome))
    ledger = SeedanceLedger(url)
    ledger.prune(timedelta(seconds=-5))
    assert [receipt.seedance_task_id for receipt in ledger.orphans()] == ["task_1"] * is_kept
    assert (open_receipts().load() is not None) == is_kept


def test_a_video_with_a_time_that_no_calendar_has_is_told_of_without_it(url: str) -> None:
    receipts = open_receipts()
    receipts.note(replace(submit(receipts, "task_1"), submitted_at=9e14))
    (orphan,) = SeedanceLedger(url).orphans()
    assert (orphan.seedance_task_id, orphan.submitted_at) == ("task_1", None)


def test_pruning_deletes_what_is_old_and_closed(books: SeedanceLedger, url: str) -> None:
    Budget(Folder(url), "day").reserve("ab" * 6, PRICE, Decimal(1000), "")
    assert books.prune(timedelta(days=1)) == 0
    assert books.prune(timedelta(seconds=-5)) > 0
    assert by_index(books.receipts()).keys() == {0, 4, 5}
    assert Budget(Folder(url), "day").spent() == 0


@pytest.mark.parametrize("content", [b"{", b"[" * 1_000_000], ids=["cut", "deep"])
def test_an_entry_that_cannot_be_read_does_not_hide_the_others(books: SeedanceLedger, url: str, content: bytes) -> None:
    folder = Folder(url) / "v1/task/promo/other/video/-1"
    folder.write(str(EntryName(1, 1764009600000, "submitted", "ab" * 6)), content)
    assert len(books.receipts()) == 6


def test_without_a_ledger_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDANCE__LEDGER_PATH", raising=False)
    with pytest.raises(SeedanceConfigurationError, match="ledger_path"):
        SeedanceLedger()


# Recorded by an earlier version.


@pytest.mark.parametrize("recorded", sorted(RECORDED.glob("ledger-*.json")), ids=lambda path: path.stem)
def test_a_recorded_entry_is_still_read(url: str, recorded: Path, write: Callable[[str, bytes], None]) -> None:
    write(key_path("promo-1", "seedance_default"), recorded.read_bytes())
    (told,) = SeedanceLedger(url).receipts()
    assert (told.status, told.seedance_task_id, told.credits) == ("delivered", "task_1", Decimal("142.57"))
    assert (told.dag_id, told.map_index, told.key) == ("promo", 3, "promo-1")
    assert told.estimate == CreditEstimate(Decimal(200), Decimal("312.5"), "2026-09")
    found = open_receipts(key="promo-1").find()
    assert found is not None
    assert found.receipt.stage is Stage.DELIVERED


@pytest.fixture
def write(url: str) -> Callable[[str, bytes], None]:
    def write(folder: str, content: bytes) -> None:
        (Folder(url) / folder).write(str(EntryName(3, 1764009600000, "delivered", "ab" * 6)), content)

    return write
