"""What the emulator knows, without a socket: settings, accounts and tasks, the fault script, uploads, the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from seedance_provider.testing.emulator import script
from seedance_provider.testing.emulator.ledger import Account, Ledger
from seedance_provider.testing.emulator.log import RequestLog
from seedance_provider.testing.emulator.messages import ApiError, as_object

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.messages import Call
    from seedance_provider.testing.emulator.settings import Settings


@dataclass
class Upload:
    """One announced upload, and its bytes once they came."""

    path: str
    content_type: str
    signature: str
    announced: float
    url: str
    data: bytes | None = None
    uploaded: float = 0.0


class State:
    """All that requests read and change.

    :param settings: how the emulator behaves.
    :param accounts: the API keys and what they may do.
    :param script: fault rules.
    :param log: takes one short line per API call, without any key; None for silence.
    :param clock: epoch seconds.
    """

    def __init__(
        self,
        settings: Settings,
        accounts: Iterable[Account],
        *,
        script: Iterable[dict[str, Any]] = (),
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.started = round(clock(), 3)
        self._initial_settings = replace(settings)
        self._initial_accounts = tuple(accounts)
        self.log = RequestLog(log, lambda: list(self.ledger.accounts))
        self._clear()
        self.add_faults(list(script))

    def _clear(self) -> None:
        self.ledger = Ledger(self._initial_accounts, self.clock)
        self.rules: list[script.Rule] = []
        self._task_rules: dict[str, list[script.Rule]] = {}
        self.uploads: dict[str, Upload] = {}
        self._prompts_seen: set[str] = set()
        self.log.clear()

    def reset(self) -> None:
        """Forget tasks, faults, uploads and logs; settings and accounts are again as at the start."""
        self.settings.update(self._initial_settings.to_json())
        self._clear()

    def request_report(self) -> dict[str, Any]:
        """Counts of calls by endpoint and outcome, the last 20,000 calls, and the callbacks sent."""
        return self.log.report()

    def add_faults(self, wanted: Any) -> dict[str, Any]:
        """Append one rule or a list of rules; all or none (ValueError)."""
        self.rules.extend([script.parse(rule) for rule in (wanted if isinstance(wanted, list) else [wanted])])
        return {"faults": len(self.rules)}

    def rules_of(self, task_id: str) -> list[script.Rule]:
        """The faults of one task's answers."""
        return self._task_rules.setdefault(task_id, [])

    def clear_faults(self) -> dict[str, Any]:
        """Forget the script; directives of tasks that exist stay with them."""
        self.rules.clear()
        return {"faults": 0}

    def add_directives(self, prompt: str) -> None:
        """Let the directives of a prompt about its own POST join the script, once."""
        if prompt not in self._prompts_seen and (wanted := script.directives(prompt).on_create):
            self._prompts_seen.add(prompt)
            self.rules.extend(wanted)

    def put_account(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Add an account or change one, found by `name` (default: `default`); what is not named stays."""
        name = as_object(wanted).get("name", "default")
        old = next((account for account in self.ledger.accounts.values() if account.name == name), None)
        account = replace(old, **wanted) if old else Account(**wanted)
        self.ledger.put_account(account, keep_balance=old is not None and "credits" not in wanted)
        return {"account": name}

    def account_of(self, call: Call) -> Account:
        """The account of a call's key; ApiError 401 or 403 unless it may use the API."""
        if not call.request.headers.get("Authorization"):
            raise ApiError(401, "Missing Authorization header")
        account = self.ledger.accounts.get(call.key)
        if account is None:
            raise ApiError(401, "Invalid API Key")
        if account.state == "no_access":
            raise ApiError(403, "API access not enabled for this account")
        if account.state != "active":
            raise ApiError(401, "API Key is inactive" if account.state == "inactive" else "API Key has expired")
        return account
