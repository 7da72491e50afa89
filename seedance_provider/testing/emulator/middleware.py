"""What every API call goes through: the edge's check, the fault script, the handler, the request log."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from seedance_provider.testing.emulator import dialects
from seedance_provider.testing.emulator.faults import Exchange, ReplyFault
from seedance_provider.testing.emulator.messages import ApiError, Call, html_reply, json_reply, parse_object
from seedance_provider.testing.emulator.script import take

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.state import State

_LIBRARY_AGENTS = re.compile(r"(python|aiohttp|urllib|httpx)", re.IGNORECASE)

Handler = Callable[[Call], web.StreamResponse]


def endpoint(state: State, name: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of one endpoint."""

    async def serve(request: web.Request) -> web.StreamResponse:
        call = Call(request, name)
        if name != "put" and state.settings.user_agent_check and _of_a_library(request):
            response: web.StreamResponse = html_reply(403)
        else:
            call.body = await request.read()
            response = await _answer(state, call, handler)
        state.log.call(call, response.status, state.clock())
        return response

    return serve


def _of_a_library(request: web.Request) -> bool:
    agent = request.headers.get("User-Agent", "")
    return not agent or _LIBRARY_AGENTS.match(agent) is not None


async def _answer(state: State, call: Call, handler: Handler) -> web.StreamResponse:
    _learn(state, call)

    def carry_out() -> web.StreamResponse:
        try:
            return handler(call)
        except ApiError as refusal:
            body = dialects.error(state.settings.dialect, refusal.status, refusal.message, refusal.extra)
            return json_reply(body, refusal.status)

    task = state.ledger.tasks.get(call.facts.get("taskId", ""))
    fault = task and take(state.rules_of(task.task_id), call.endpoint, "reply", call.facts)
    fault = fault or take(state.rules, call.endpoint, "reply", call.facts)
    if not isinstance(fault, ReplyFault):
        return carry_out()
    call.facts["fault"] = fault.name
    return await fault.answer(Exchange(call, state.settings.dialect, carry_out))


def _learn(state: State, call: Call) -> None:
    """Find out what fault rules match on: the task and the prompt."""
    if call.endpoint == "recordInfo":
        call.facts["taskId"] = call.request.query.get("taskId", "")
        if task := state.ledger.tasks.get(call.facts["taskId"]):
            call.facts["prompt"] = task.order.prompt
    elif call.endpoint == "createTask":
        try:
            prompt = str(parse_object(call.body)["inputs"]["prompt"])
            state.add_directives(prompt)
        except (ValueError, LookupError, TypeError):  # a wrong body or directive: the handler says so
            return
        call.facts["prompt"] = prompt
