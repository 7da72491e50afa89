"""The request log: what was asked and how it was answered, in figures, entries and lines for the console."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seedance_provider.testing.emulator.ledger import fingerprint

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.messages import Call

_SIZE = 20_000
_HIDDEN = "***"


class RequestLog:
    """All calls by outcome, the last 20,000 calls, and the callbacks sent. No key is ever in it.

    :param say: takes one short line per call and per callback; None for silence.
    :param keys: the keys that exist now, to be hidden wherever somebody may have put one.
    """

    def __init__(self, say: Callable[[str], None] | None, keys: Callable[[], list[str]]) -> None:
        self.say = say
        self._keys = keys
        self.counts: dict[str, Counter[str]] = {}
        self.entries: deque[dict[str, Any]] = deque(maxlen=_SIZE)
        self.deliveries: list[dict[str, Any]] = []

    def clear(self) -> None:
        """Forget all of it."""
        self.counts.clear()
        self.entries.clear()
        self.deliveries.clear()

    def call(self, call: Call, status: int, now: float) -> None:
        """Note one answered call."""
        request, facts = call.request, call.facts
        outcome = "created" if facts.get("created") else str(status)
        if fault := facts.get("fault"):
            outcome = f"created+fault:{fault}" if facts.get("created") else f"fault:{fault}"
        self.counts.setdefault(call.endpoint, Counter())[outcome] += 1
        authorization = request.headers.get("Authorization")
        keys = [*self._keys(), *([call.key] if call.key else [])]

        def shown(text: str | None) -> str | None:
            for key in keys if text else ():
                text = (text or "").replace(key, _HIDDEN)
            return text

        path, task_id = shown(request.rel_url.raw_path), shown(facts.get("created") or facts.get("taskId"))
        self.entries.append(
            {
                "time": now,
                "endpoint": call.endpoint,
                "method": request.method,
                "path": path,
                "status": status,
                "outcome": outcome,
                "taskId": task_id,
                "userAgent": shown(request.headers.get("User-Agent")),
                "authorization": authorization is not None,
                "keySha256": fingerprint(authorization.removeprefix("Bearer ")) if authorization else None,
                "headers": sorted(request.headers),
            }
        )
        if self.say is not None:
            moment = time.strftime("%H:%M:%S", time.localtime(now))
            words = [moment, request.method, path, outcome, task_id, facts.get("shown")]
            line = " ".join(word for word in words if word)
            self.say("".join(letter if letter.isprintable() else "?" for letter in line))

    def delivery(self, **delivery: Any) -> None:
        """Note one attempt of a callback."""
        self.deliveries.append(delivery)
        if self.say is not None:
            status = delivery["status"] or "no answer"
            self.say(f"callback of {delivery['taskId']}: attempt {delivery['attempt']}, {status}")

    def report(self) -> dict[str, Any]:
        """Counts of calls by endpoint and outcome, the last 20,000 calls, and the callbacks sent."""
        counts = {name: dict(counter) for name, counter in self.counts.items()}
        return {"counts": counts, "requests": list(self.entries), "deliveries": list(self.deliveries)}
