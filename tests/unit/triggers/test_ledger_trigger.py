"""SeedanceLedgerTrigger: what it carries, and that it fires once, when another's createTask has an outcome."""

from __future__ import annotations

import inspect
import json
import threading
import time
from typing import Any

import pytest

from seedance_provider import defaults
from seedance_provider.events import ResumeState, TaskEvent
from seedance_provider.hooks.ledger_files import EntryName, Folder
from seedance_provider.triggers.ledger import SeedanceLedgerTrigger
from tests.support.airflow import fire
from tests.support.stores import BareStore, bare_store

OTHER, ANOTHER = "a" * 12, "b" * 12
INTENT = EntryName(1, 1764009600000, "intent", OTHER)
STATE = ResumeState(resubmitted=1, slot_since=5e8)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> tuple[str, BareStore]:
    monkeypatch.setattr(defaults, "LEDGER_POLL_INTERVAL", 0.02)
    url, store = bare_store()
    Folder(url).write(str(INTENT))
    return url, store


def make_trigger(url: str, seconds: float = 60.0) -> SeedanceLedgerTrigger:
    return SeedanceLedgerTrigger(url, str(INTENT), time.time() + seconds, STATE.to_json())


def seconds_to_fire(trigger: SeedanceLedgerTrigger) -> float:
    began = time.monotonic()
    event = TaskEvent.from_json(fire(trigger))
    assert (event.status, event.state) == ("slot", STATE)
    return time.monotonic() - began


def test_it_is_made_again_from_its_arguments() -> None:
    original = make_trigger("memory://nowhere")
    path, arguments = original.serialize()
    assert path == f"{SeedanceLedgerTrigger.__module__}.{SeedanceLedgerTrigger.__qualname__}"
    assert SeedanceLedgerTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
    assert set(arguments) == set(inspect.signature(SeedanceLedgerTrigger).parameters), "nothing is forgotten"


@pytest.mark.parametrize("stage", ["submitted", "refused", "withdrawn", "forgotten", "ended"])
def test_it_fires_when_the_other_submission_has_come_further(place: tuple[str, BareStore], stage: str) -> None:
    url, _ = place
    outcome = str(EntryName(2, 1764009601000, stage, OTHER))
    threading.Timer(0.2, Folder(url).write, [outcome]).start()
    assert 0.15 < seconds_to_fire(make_trigger(url)) < 20


def test_it_fires_when_the_key_was_pruned(place: tuple[str, BareStore]) -> None:
    url, _ = place
    Folder(url).delete([str(INTENT)])
    assert seconds_to_fire(make_trigger(url)) < 20


@pytest.mark.parametrize(
    "name",
    [str(EntryName(2, 1764009601000, "intent", OTHER)), str(EntryName(2, 1764009601000, "withdrawn", ANOTHER))],
    ids=["another attempt", "a third task that withdrew"],
)
def test_what_is_no_outcome_is_waited_over_until_the_deadline(place: tuple[str, BareStore], name: str) -> None:
    url, store = place
    Folder(url).write(name)
    assert seconds_to_fire(make_trigger(url, seconds=0.3)) >= 0.3
    assert store.calls.count("list") > 1


def test_a_store_that_fails_for_a_while_is_listed_again(place: tuple[str, BareStore]) -> None:
    url, store = place
    Folder(url).write(str(EntryName(2, 1764009601000, "submitted", OTHER)))
    store.broken = {"list"}
    threading.Timer(0.2, store.broken.clear).start()
    assert 0.15 < seconds_to_fire(make_trigger(url)) < 20


def test_after_the_deadline_it_does_not_list(place: tuple[str, BareStore]) -> None:
    url, store = place
    store.calls.clear()
    assert seconds_to_fire(make_trigger(url, seconds=-5)) < 20
    assert store.calls == []


def test_it_pauses_longer_and_longer(place: tuple[str, BareStore], monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = place
    pauses: list[float] = []

    async def sleep(seconds: float, *_: Any) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            Folder(url).write(str(EntryName(2, 1764009601000, "submitted", OTHER)))

    monkeypatch.setattr(defaults, "LEDGER_POLL_INTERVAL", 5.0)
    monkeypatch.setattr("seedance_provider.triggers.ledger.asyncio.sleep", sleep)
    fire(make_trigger(url, seconds=600))
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert pauses[-1] == defaults.LEDGER_POLL_INTERVAL_MAX
