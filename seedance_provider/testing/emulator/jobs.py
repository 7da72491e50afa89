"""createTask and recordInfo: the checks in the vendor's order, and what a task answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from seedance_provider.testing.emulator import dialects, rules, script, texts
from seedance_provider.testing.emulator.faults import RecordFault, TaskFault
from seedance_provider.testing.emulator.ledger import Account, Failure, Task
from seedance_provider.testing.emulator.messages import ApiError, Call, json_reply, parse_object
from seedance_provider.testing.emulator.prices import number, price
from seedance_provider.testing.emulator.views import view_of

if TYPE_CHECKING:
    from aiohttp import web

    from seedance_provider.testing.emulator.callbacks import Callbacks
    from seedance_provider.testing.emulator.state import State
    from seedance_provider.testing.emulator.uploads import Uploads

_TASK_ID = re.compile(r"[A-Za-z0-9._:-]{1,255}")

DEMO_TASKS: dict[str, Failure | None] = {
    "demo_task_t2v_success": None,
    "demo_task_i2v_success": None,
    "demo_task_fail_text_moderation": Failure("2038", texts.FAIL_MESSAGES["2038"]),
    "demo_task_fail_face_detected": Failure("500", texts.FACE_DETECTED),
    "demo_task_fail_server_error": Failure("500", texts.FAIL_MESSAGES["500"]),
}


class _Accepted(NamedTuple):
    """A createTask request that passed the checks of its body."""

    order: rules.Order
    callback: str | None
    directives: script.Directives


class Jobs:
    """The two endpoints of tasks."""

    def __init__(self, state: State, uploads: Uploads, callbacks: Callbacks) -> None:
        self._state, self._uploads, self._callbacks = state, uploads, callbacks

    def create_task(self, call: Call) -> web.Response:
        """POST createTask."""
        state, settings = self._state, self._state.settings
        account = state.account_of(call)
        order, callback, directives = self._accept(call.body)
        cost = price(order)
        available = state.ledger.available(account)
        if cost.reserved > available:
            needed, left = number(cost.reserved), number(available)
            raise ApiError(402, "Insufficient credits", required=needed, available=left)
        limit = account.concurrency_limit
        limit = settings.concurrency_limit if limit is None else limit
        running = state.ledger.running(account)
        if limit is not None and running >= limit:
            raise ApiError(429, texts.limit_reached(limit), limit=limit, current=running)
        late = self._uploads.missing(call, order) or rules.late_failure(order)
        task = Task(
            task_id=state.ledger.new_id(),
            account=account,
            order=order,
            origin=str(call.request.url.origin()),
            created=round(state.clock(), 3),
            waiting=settings.waiting_seconds,
            generating=settings.generating_seconds,
            failure=Failure(*late) if late else None,
            reserved=cost.reserved,
            settled=cost.settled,
            settlement=settings.settlement_seconds,
            callback=callback,
            webhook_copies=settings.webhook_copies,
        )
        for rule in directives.on_task:
            if isinstance(rule.fault, TaskFault):
                rule.fault.apply(task)
            else:
                state.rules_of(task.task_id).append(rule)
        scripted = script.take(state.rules, "createTask", "task", call.facts)
        if isinstance(scripted, TaskFault):
            scripted.apply(task)
        state.ledger.add(task)
        call.facts |= {"created": task.task_id, "shown": f"{order.model} {number(cost.reserved)} credits"}
        if callback is not None:
            self._callbacks.expect(task, callback)
        return json_reply(dialects.created(settings.dialect, view_of(task, state.clock())))

    def _accept(self, body: bytes) -> _Accepted:
        try:
            request = parse_object(body)
        except ValueError:
            raise ApiError(400, "Invalid request parameters") from None
        model, inputs = request.get("model"), request.get("inputs")
        callback = request.get("callBackUrl")
        if not isinstance(model, str) or not isinstance(inputs, dict):
            raise ApiError(400, "Invalid request parameters")
        if "callBackUrl" in request and not rules.is_url(callback):  # null is no URL either
            raise ApiError(400, "Invalid request parameters")
        if model in rules.INTERNAL_MODELS:
            raise ApiError(400, f"Unsupported NewAPI workflow: {model}")
        if not rules.known(model):
            raise ApiError(400, "Unknown model")
        settings = self._state.settings
        issues = rules.check(model, inputs, settings.dialect, strict_duration=settings.strict_duration)
        if issues:
            raise ApiError(400, "Invalid inputs for model", errors=issues)
        order = rules.place(model, inputs, settings.dialect)
        try:
            directives = script.directives(order.prompt)
        except ValueError as problem:
            raise ApiError(400, f"Emulator: a directive in the prompt is wrong: {problem}") from None
        return _Accepted(order, callback, directives)

    def record_info(self, call: Call) -> web.Response:
        """GET recordInfo."""
        state, dialect = self._state, self._state.settings.dialect
        account = state.account_of(call)
        task_id = call.request.query.get("taskId")
        if not task_id:
            raise ApiError(400, "Missing taskId parameter")
        if not _TASK_ID.fullmatch(task_id):
            raise ApiError(400, "Invalid taskId")
        if task_id in DEMO_TASKS:
            demo = self._demo_task(call.request, account, task_id)
            return json_reply(dialects.record(dialect, view_of(demo, state.clock())))
        task = state.ledger.tasks.get(task_id)
        if task is None or (dialect == "envelope" and task.account.name != account.name):
            raise ApiError(404, "Task not found")
        if task.account.name != account.name:
            raise ApiError(403, "Access denied")
        view = view_of(task, state.clock(), state.settings.link_seconds)
        facts = call.facts
        facts |= {"status": view.status, "shown": view.status}
        taken = [
            script.take(rules, "recordInfo", "record", facts) for rules in (state.rules_of(task.task_id), state.rules)
        ]
        distortions = [fault for fault in taken if isinstance(fault, RecordFault)]
        for fault in distortions:
            facts["fault"] = fault.name
            fault.distort(view)
        body = dialects.record(dialect, view)
        for fault in distortions:
            fault.edit(body["data"] if dialect == "envelope" else body)
        return json_reply(body)

    def _demo_task(self, request: web.Request, account: Account, task_id: str) -> Task:
        order = rules.place("seedance-20", {"prompt": "demo", "duration": 5}, self._state.settings.dialect)
        cost = price(order)
        return Task(
            task_id=task_id,
            account=account,
            order=order,
            origin=str(request.url.origin()),
            created=self._state.started - 3600,
            waiting=1.0,
            generating=196.0,
            failure=DEMO_TASKS[task_id],
            reserved=cost.reserved,
            settled=cost.settled,
            settlement=0.0,
        )
