"""Feed everything that reads foreign bytes with millions of broken inputs.

    python devtools/fuzz.py                                  # a million inputs, about 10 minutes: `make fuzz`
    python devtools/fuzz.py --seconds 60 --seed 7
    python devtools/fuzz.py --only answers,receipts

The inputs are samples of the tests (answers, callbacks, events, receipts), broken in random places: bytes are turned,
cut, doubled and spliced; members of JSON get values of every type, huge numbers, NaN, control characters, lone
surrogates, nesting and names twice. A reader may return or raise its own errors, and nothing else; it must be done
within a second; what it returns must fit where it goes (an event of bounded size, a text without control characters,
never the API key). Ends with 1 at the first input that breaks this, and prints it with the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import logging
import math
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
KEY = 'sk-fuzz/"<key>&+\\é'
TYPED_KEY = KEY[:-1]
"""Of a connection: others are refused at once."""
LIMIT_SECONDS = 1.0
MAX_EVENT = 4_000_000
"""Bytes of an event: what 100 outputs with URLs of the longest kind come to, and less than a database takes."""
MAX_TEXT = 20_000
"""Characters of an error."""
MAX_ID = 255
INPUT_BYTES, LARGE_BYTES = 5_000, 100_000
SHARES = {"json": 0.6, "large": 0.002}
NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    10**400,
    -(10**30),
    1e308,
    math.nan,
    math.inf,
    "",
    " ",
    "\x00\x1b[2J\r\n",
    "\u202egnp.exe",
    "\ud800",
    "a" * 3000,
    "1e999999999",
    "9" * 500,
    "javascript:alert(1)",
    "http://user:pass@169.254.169.254/latest",
    "https://[::1",
    "//host/x",
    KEY,
    [],
    {},
    [[]] * 30,
    {"": ""},
    "success",
    "fail",
    "task_1",
    200,
    "2026-11-28T00:00:00Z",
]


class Reader(NamedTuple):
    """Something that reads foreign bytes.

    :param samples: Inputs that are as they should be.
    :param read: Reads one, and checks what came of it.
    """

    samples: list[bytes]
    read: Callable[[bytes], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, help="stop after this time instead")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", help="some of the readers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__CORE__UNIT_TEST_MODE="True")
        sys.path.insert(0, str(ROOT))
        logging.disable(logging.CRITICAL)
        readers = wire_readers() | kept_readers() | stored_readers(Path(home, "files"))
        if options.only:
            readers = {name: readers[name] for name in options.only.split(",")}
        print(f"seed {options.seed}: {', '.join(readers)}", flush=True)
        return run(readers, options.inputs, options.seconds, random.Random(options.seed))


def run(readers: dict[str, Reader], inputs: int, seconds: float | None, draw: random.Random) -> int:
    """Feed the readers in turn; the exit code says whether all held."""
    began = time.monotonic()
    done, slowest = 0, (0.0, "")
    while seconds is None or time.monotonic() - began < seconds:
        for name, reader in readers.items():
            if seconds is None and done >= inputs:
                print(f"{done:,} inputs in {time.monotonic() - began:.0f} s; slowest {slowest[0]:.3f} s ({slowest[1]})")
                return 0
            data = broken(draw.choice(reader.samples), draw)
            start = time.perf_counter()
            try:
                reader.read(data)
            except Exception:  # noqa: BLE001 - that is what is looked for
                traceback.print_exc()
                return tell(name, data, "raised")
            took = time.perf_counter() - start
            if took > LIMIT_SECONDS:
                start = time.perf_counter()  # a busy machine takes its time, too
                reader.read(data)
                took = time.perf_counter() - start
                if took > LIMIT_SECONDS:
                    return tell(name, data, f"took {took:.1f} s")
            slowest = max(slowest, (took, name))
            done += 1
            if done % 100_000 == 0:
                print(f"{done:,} inputs in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{done:,} inputs in {time.monotonic() - began:.0f} s; slowest {slowest[0]:.3f} s ({slowest[1]})")
    return 0


def tell(name: str, data: bytes, what: str) -> int:
    print(f"{name} {what} for {len(data):,} bytes: {data[:500]!r}\nbase64: {base64.b64encode(data[:20_000]).decode()}")
    return 1


def broken(sample: bytes, draw: random.Random) -> bytes:
    """A sample with one to four faults."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        if draw.random() < SHARES["json"]:
            with contextlib.suppress(ValueError, RecursionError, UnicodeError):
                sample = broken_json(json.loads(sample), draw)
                continue
        sample = broken_bytes(sample, draw)
    # Few are large: what takes time to make is time in which nothing is found.
    return sample[:LARGE_BYTES] * 10 if draw.random() < SHARES["large"] else sample[:INPUT_BYTES]


def broken_bytes(sample: bytes, draw: random.Random) -> bytes:
    at, length = draw.randrange(len(sample) + 1), draw.choice((1, 2, 8, 64))
    match draw.randrange(8):
        case 0:
            return sample[:at] + draw.randbytes(length) + sample[at + length :]
        case 1:
            return sample[:at]
        case 2:
            return sample[:at] + sample[at + length :]
        case 3:
            return sample[:at] + sample[:length] * draw.choice((2, 50)) + sample[at:]
        case 4:
            return sample[:at] + draw.choice((b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"[" * 3000, b'"', b"\\u"))
        case 5:
            return sample.decode("utf-8", "replace").encode(draw.choice(("utf-16", "utf-8-sig", "utf-32-le")))
        case 6:
            return draw.choice((b"<html>", b")]}',\n", b" ")) + sample
        case _:
            return b'{"data":' * (depth := draw.choice((1, 3, 900))) + sample + b"}" * depth


def broken_json(value: Any, draw: random.Random) -> bytes:
    if (found := place(value, draw)) is not None:
        parent, key = found
        match draw.randrange(5):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[draw.choice((str(key).upper(), f" {key}", "data", "result", "__class__"))] = parent.pop(key)
            case 2:
                parent[key] = [parent[key]] * draw.choice((1, 2, 300))
            case 3:
                parent[key] = str(parent[key]) if draw.random() < 0.5 else {"value": parent[key]}
            case _:
                parent[key] = draw.choice(NASTY)
    else:
        value = draw.choice(NASTY)
    return json.dumps(value, ensure_ascii=draw.random() < 0.7).encode("utf-8", "surrogatepass")


def place(value: Any, draw: random.Random) -> tuple[Any, Any] | None:
    """Some member of a value, at any depth, as its holder and its name."""
    found = None
    while isinstance(value, (dict, list)) and value and (found is None or draw.random() < 0.7):
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        found, value = (value, key), value[key]
    return found


def wire_readers() -> dict[str, Reader]:
    """What reads answers, callbacks and URLs."""
    from seedance_provider.api import calls, records
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.events import TaskEvent
    from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError
    from seedance_provider.execution.receipts import unsigned_url
    from seedance_provider.hooks.media import recognise
    from seedance_provider.transport.download import _check_written_address
    from seedance_provider.transport.http import make_reply, shown_url

    settings = SeedanceSettings("https://seedance2-pro.com/api/v1", KEY)
    draw = random.Random(1)

    def checked(text: str) -> None:
        assert KEY not in text, "the API key is shown"
        assert text.isprintable(), "control characters are shown"
        assert len(text) < MAX_TEXT, f"{len(text):,} characters are shown"

    def answers(data: bytes) -> None:
        headers = {"Content-Type": draw.choice(("application/json", "text/html", "", "a\x1bb"))}
        if draw.random() < 0.1:
            headers |= {"Content-Encoding": "gzip", "Retry-After": data[:40].decode("latin-1")}
        status = draw.choice((200, 200, 200, 201, 302, 400, 401, 402, 403, 404, 422, 429, 500, 502))
        reply = make_reply(status, headers, data, settings, complete=draw.random() < 0.9)
        for call in (calls.get_task("task_1"), calls.create_task("seedance-20", {}), calls.request_upload("a", "b")):
            value: Any = None
            try:
                value = call.read(reply)
            except SeedanceError as error:
                value = error
            if isinstance(value, SeedanceError):
                checked(str(value))
                fit(TaskEvent("error", "task_1", error=value))
            elif isinstance(value, str):
                checked(value)
                assert len(value) <= MAX_ID, "a long id"
            elif isinstance(value, dict):
                records.read_status(value)
                record = records.parse_task(value, seedance_task_id="task_1")
                assert all(records.http_url_or_none(url) for url in record.urls), "an output that is no URL"
                is_success = record.status is records.TaskStatus.SUCCESS
                fit(TaskEvent("success", "task_1", record=record) if is_success else TaskEvent("slot", "task_1"))

    def callbacks(data: bytes) -> None:
        with contextlib.suppress(SeedanceError):
            records.parse_webhook(data)

    def urls(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        shown_url(text)
        unsigned_url(text)
        if (url := records.http_url_or_none(text)) is not None:
            assert url.isprintable(), "a URL with control characters"
            with contextlib.suppress(SeedanceError):
                _check_written_address(url, settings)

    def media(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            assert "/" in recognise(data[:64], "video/mp4", None), "no MIME type"

    ticket = {"uploadUrl": "https://a.example/put?sig=1", "url": "https://a.example/get", "contentType": "video/mp4"}
    answered: list[dict[str, Any]] = [
        {"code": 200, "data": ticket},
        {"code": 402, "message": "Insufficient credits", "required": "20.5", "available": 3},
        {"code": 422, "message": "Invalid", "errors": [{"path": ["imageUrls", 9], "message": "too many"}]},
        {"code": 429, "message": "Too many", "limit": 5, "current": 5},
    ]
    wire = [*samples("recordinfo"), *samples("createtask"), *(json.dumps(each).encode() for each in answered)]
    addresses = [
        b"https://cdn.example.com/videos/1.mp4?X-Amz-Signature=secret&x=1",
        b"http://user:secret@[::ffff:127.0.0.1]:8080/a",
        b"http://2130706433/x",
        b"https://example.com/%2e%2e/a b",
    ]
    video = (ROOT / "seedance_provider" / "testing" / "media" / "video.mp4").read_bytes()[:64]
    return {
        "answers": Reader(wire, answers),
        "callbacks": Reader(samples("webhooks"), callbacks),
        "records": Reader(wire, loaded(records.read_record, SeedanceConfigurationError)),
        "urls": Reader(addresses, urls),
        "media": Reader([video], media),
    }


def kept_readers() -> dict[str, Reader]:
    """What reads events, triggers, connections and configuration, which others may have changed."""
    from seedance_provider.api.pricing import parse_price_list
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.events import ResumeState, TaskEvent
    from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError
    from seedance_provider.execution.receipts import fingerprint
    from seedance_provider.triggers.ledger import SeedanceLedgerTrigger, SeedancePauseTrigger
    from seedance_provider.triggers.seedance import SeedanceTaskTrigger
    from seedance_provider.triggers.slots import SeedanceSlotTrigger

    def connections(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        connection: Any = SimpleNamespace(host="kinovi.ai", schema=None, port=None, password=TYPED_KEY, extra=text)
        refused = ""
        try:
            seconds = SeedanceSettings.from_connection("seedance_default", connection).read_timeout
            assert 0 < seconds < 1e9, "a timeout that is none"
        except SeedanceError as error:
            refused = str(error)
        assert TYPED_KEY not in refused, "the API key is shown"

    def hosts(value: Any) -> None:
        """The other fields of a connection, which the form and the environment bring as text."""
        members = value if isinstance(value, dict) else {}
        fields = {name: str(members[name]) for name in ("host", "schema", "password") if name in members}
        port = members.get("port")
        connection: Any = SimpleNamespace(
            host=fields.get("host"),
            schema=fields.get("schema"),
            password=fields.get("password"),
            port=port if isinstance(port, int) else None,
            extra='{"allow_insecure_http": true}' if len(members) == 2 else None,
        )
        with contextlib.suppress(SeedanceError):
            settings = SeedanceSettings.from_connection("seedance_default", connection)
            assert urlsplit(settings.base_url).hostname, "no host"
            assert settings.base_url.isprintable(), "a base URL with control characters"
            assert settings.api_key.isprintable(), "a key with control characters"

    def price_lists(data: bytes) -> None:
        with contextlib.suppress(SeedanceConfigurationError):
            for sizes in parse_price_list(data.decode("utf-8", "replace")).values():
                assert all(rate.is_finite() for rates in sizes.values() for rate in rates), "a price that is no number"

    kinds = (SeedanceTaskTrigger, SeedanceSlotTrigger, SeedanceLedgerTrigger, SeedancePauseTrigger)

    def triggers(value: Any) -> None:
        """What a row of the database starts, until it waits."""
        row = value if isinstance(value, dict) else {}
        kind = next((kind for kind in kinds if kind.__name__ in str(row.get("classpath"))), kinds[0])
        try:
            trigger = kind(**row["kwargs"])
        except (TypeError, KeyError):  # an argument is missing or none of ours; Airflow tells the task
            return
        if (odd := asyncio.run(trigger.refusal())) is not None:
            event = TaskEvent.from_json(json.loads(json.dumps(odd.payload)))
            assert event.error is not None, "no error"
            assert len(str(event.error)) < MAX_TEXT, "a long error"
            return
        for name, member in trigger.serialize()[1].items():
            if name not in ("state", "alive", "last_status") and not isinstance(member, (str, type(None))):
                assert math.isfinite(member * 1000), f"{name} is {member!r}"

    recorded = {path.stem: path.read_bytes() for path in (ROOT / "tests" / "recorded").glob("*.json")}
    events = [recorded[name] for name in recorded if name.startswith("event")]
    extras = [
        b'{"submit_policy": "safe", "submit_policy": "vendor"}',
        b'{"submit_policy": "safe", "read_timeout": 30, "max_credits_per_day": "1e3", "requests_per_minute": 60}',
    ]
    addresses = [
        b'{"host": "https://seedance2-pro.com/api/v1/", "password": "Bearer sk-1", "port": 443}',
        b'{"host": "kinovi.ai", "schema": "https", "password": "sk-1"}',
        b'{"host": "http://[::1]:8080", "password": "sk-1", "port": 8080}',
        b'{"host": "http://seedance.example", "password": "sk-1"}',
    ]
    prices = [
        b'{"seedance-20": {"720p": 24.93, "1080p": ["10", 3]}}',
        b'{"seedance-2-fast": {"480p": "8.5"}}',
        b'{"x": 1}',
    ]
    inputs = [json.dumps({"prompt": "x", "imageUrls": ["https://a/b?Signature=c"], "duration": 5}).encode()]
    return {
        "events": Reader(events, loaded(lambda value: fit(TaskEvent.from_json(value)))),
        "states": Reader(events, loaded(lambda value: json.dumps(ResumeState.from_json(value).to_json()))),
        "triggers": Reader([recorded[name] for name in recorded if name.endswith("_trigger")], loaded(triggers)),
        "connections": Reader(extras, connections),
        "hosts": Reader(addresses, loaded(hosts)),
        "prices": Reader(prices, price_lists),
        "inputs": Reader(
            inputs,
            loaded(lambda value: fingerprint("m", value if isinstance(value, dict) else {}, conn_id="c", base_url="b")),
        ),
    }


def stored_readers(home: Path) -> dict[str, Reader]:
    """What reads receipts and the other files of ours in a store.

    :param home: An empty folder.
    """
    from seedance_provider.exceptions import SeedanceSubmitUncertainError
    from seedance_provider.execution import ledger, stores
    from seedance_provider.execution.memory import Receipts
    from seedance_provider.execution.receipts import Receipt, Stamp, decide, decide_shared
    from seedance_provider.execution.signing import Claim, is_signed, read_claim, sign
    from seedance_provider.execution.stores import Facts, LedgerStore, Owner, read_pointer
    from seedance_provider.hooks.ledger_files import EntryName, Folder
    from seedance_provider.hooks.output_files import Place

    entry = EntryName(1, 1764009500000, "delivered", "abababababab")
    owner = Owner("dag", "run", "task")
    root = Folder((home / "ledger").as_uri())
    stores._REREAD_SECONDS = ()  # type: ignore[assignment]
    files = {"receipt": home / "ledger" / owner.path, "pointer": home / "ledger" / "v1" / "id" / "task_1"}
    for folder in files.values():
        folder.mkdir(parents=True)

    def receipts(data: bytes) -> None:
        told = ledger._told(data, entry, entry.written_ms)
        if told is not None:
            assert told.counted_credits.is_finite(), "credits that are no number"
            ledger.spend([told], "day")

    def memories(data: bytes) -> None:
        """What a try decides by what it finds in a ledger."""
        (files["receipt"] / str(entry)).write_bytes(data)
        receipts = Receipts(LedgerStore(root / owner.path, owner), owner)
        try:
            found = receipts.find()
        except SeedanceSubmitUncertainError:
            return
        assert found is not None, "a receipt that cannot be read is taken for none"
        assert found.age < 1e15, "no age"
        saved = found.receipt
        for most in (saved.max_tries, saved.max_tries + 1):  # a retry, and a clear
            same = saved.written_by(Stamp(most, saved.try_number + 1, saved.retries))
            for wanted in (same, replace(same, fingerprint="f" * 64)):
                for yes in (True, False):
                    decide(saved, wanted, refused=yes)
                    decide_shared(saved, wanted, is_own=yes, is_recent=found.age < 60)
        json.dumps([receipts.facts.to_json(), found.receipt.to_json()], allow_nan=False)

    def pointers(data: bytes) -> None:
        (files["pointer"] / str(entry)).write_bytes(data)
        read_pointer(root, "task_1")

    def sidecars(data: bytes) -> None:
        (home / "clip.mp4.json").write_bytes(data)
        assert isinstance(place.sidecar(), (dict, type(None))), "a sidecar that is no object"

    def claims(data: bytes) -> None:
        path = data.decode("latin-1")
        assert path == signed or read_claim(path) is None or not is_signed(path, b"k"), "a changed claim is believed"

    signed = sign(Claim("seedance_default", owner, "f" * 16, ""), b"k")
    place = Place((home / "clip.mp4").as_uri())
    recorded = {path.stem: path.read_bytes() for path in (ROOT / "tests" / "recorded").glob("*.json")}
    kept = [recorded[name] for name in recorded if name.startswith(("receipt", "ledger-"))]
    facts = Facts(
        "seedance-20", "c", "promo", limits={"team": "500"}, intended_at=1764009490.5, on_completion=("a", "s3://a")
    )
    kept.append(json.dumps(json.loads(recorded["receipt_called_back"]) | facts.to_json()).encode())
    pointed = [json.dumps({"path": "v1/task/a/b/c/-1", "reserved": {"team": "x"}}).encode()]
    beside = [json.dumps({"sha256": "a" * 64, "bytes": 5, "seedance_task_id": "task_1"}).encode()]
    return {
        "receipts": Reader(kept, receipts),
        "receipt": Reader(kept, loaded(Receipt.from_json, ValueError)),
        "facts": Reader(kept, loaded(lambda value: Facts.from_json(value) if isinstance(value, dict) else None)),
        "memories": Reader(kept, memories),
        "pointers": Reader(pointed, pointers),
        "sidecars": Reader(beside, sidecars),
        "claims": Reader([signed.encode()], claims),
    }


def fit(event: Any) -> None:
    """Check that an event fits where it goes, and reads the same again."""
    payload = json.dumps(event.to_json())
    assert len(payload) < MAX_EVENT, f"an event of {len(payload):,} bytes"
    assert KEY not in payload, "the API key is in an event"
    again = type(event).from_json(json.loads(payload))
    assert (again.status, again.record) == (event.status, event.record), "an event reads differently"


def loaded(read: Callable[[Any], Any], *allowed: type[Exception]) -> Callable[[bytes], None]:
    """A reader of JSON values."""

    def from_bytes(data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        with contextlib.suppress(*allowed):
            read(value)

    return from_bytes


def samples(folder: str) -> list[bytes]:
    """The recorded answers of the contract tests."""
    found: list[bytes] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(json.dumps(value[name]).encode() for name in ("json", "body") if name in value)
            for member in value.values():
                collect(member)
        elif isinstance(value, list):
            for member in value:
                collect(member)

    for path in sorted((ROOT / "tests" / "contract" / folder).glob("*.json")):
        collect(json.loads(path.read_text("utf-8")))
    return found


if __name__ == "__main__":
    sys.exit(main())
