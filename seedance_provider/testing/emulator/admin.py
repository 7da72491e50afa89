"""The admin routes: bill, request log, fault script, settings, accounts. They need no key."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from seedance_provider.testing.emulator.messages import as_object, json_reply

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.state import State


def _route(action: Callable[[Any], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that gives an action the JSON it was sent, and answers with what the action returns."""

    async def serve(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            return json_reply(action(json.loads(body) if body else {}) or {})
        except (ValueError, TypeError) as problem:
            return json_reply({"message": str(problem)}, 400)

    return serve


def routes(state: State, reset: Callable[[], None]) -> list[web.RouteDef]:
    """The admin routes; `reset` puts everything back."""

    def change_settings(changes: Any) -> dict[str, Any]:
        state.settings.update(as_object(changes))
        return state.settings.to_json()

    return [
        web.get("/_admin/bill", _route(lambda _: state.ledger.bill())),
        web.get("/_admin/requests", _route(lambda _: state.request_report())),
        web.get("/_admin/faults", _route(lambda _: [rule.to_json() for rule in state.rules])),
        web.post("/_admin/faults", _route(state.add_faults)),
        web.delete("/_admin/faults", _route(lambda _: state.clear_faults())),
        web.post("/_admin/reset", _route(lambda _: reset())),
        web.get("/_admin/settings", _route(lambda _: state.settings.to_json())),
        web.patch("/_admin/settings", _route(change_settings)),
        web.get("/_admin/accounts", _route(lambda _: state.ledger.bill()["accounts"])),
        web.post("/_admin/accounts", _route(state.put_account)),
    ]
