"""The HTTP side: routes, checks in the vendor's order, faults, media, callbacks and the admin routes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import re
import secrets
import socket
import struct
import time
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import aiohttp
from aiohttp import web

from seedance_provider.testing.emulator import dialects, faults, rules
from seedance_provider.testing.emulator.ledger import Account, Failure, Ledger, Task, fingerprint
from seedance_provider.testing.emulator.prices import number, price

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.faults import Fault
    from seedance_provider.testing.emulator.settings import Settings

_MEDIA = Path(__file__).parent.parent / "media"
_LIBRARY_AGENTS = re.compile(r"(python|aiohttp|urllib|httpx)", re.IGNORECASE)
_TASK_ID = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_EXTENSIONS = {"video/mp4": "mp4", "video/quicktime": "mov", "image/png": "png"}
_REQUEST_LOG_SIZE = 20_000
_MAX_BODY_BYTES = 256 * 1024 * 1024
_WEBHOOK_TIMEOUT_SECONDS = 10

DEMO_TASKS: dict[str, Failure | None] = {
    "demo_task_t2v_success": None,
    "demo_task_i2v_success": None,
    "demo_task_fail_text_moderation": Failure("2038", faults.FAIL_MESSAGES["2038"]),
    "demo_task_fail_face_detected": Failure("500", "A face was detected in the input media."),
    "demo_task_fail_server_error": Failure("500", faults.FAIL_MESSAGES["500"]),
}


class ApiError(Exception):
    """An error answer of the API: HTTP status, message, further members."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.extra = status, message, extra


class _Accepted(NamedTuple):
    """A createTask request that passed every check."""

    order: rules.Order
    callback: str | None
    directives: faults.Directives


@dataclass
class _Call:
    """One request on its way: what has been read of it, and what is known by then for faults and the log."""

    request: web.Request
    endpoint: str
    body: bytes = b""
    facts: dict[str, str] = field(default_factory=dict)


_Handler = Callable[[_Call], web.StreamResponse]


@dataclass
class _Upload:
    path: str
    content_type: str
    signature: str
    announced: float
    url: str
    data: bytes | None = None
    uploaded: float = 0.0


class Server:
    """The emulator as an asyncio server. `log` gets one short line per API call, without any key."""

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
        self._initial_settings = replace(settings)
        self._initial_accounts = tuple(accounts)
        self._log = log
        self._runner: web.AppRunner | None = None
        self._callback_session: aiohttp.ClientSession | None = None
        self._callbacks: set[asyncio.Task[None]] = set()
        self._clear()
        self.faults.extend(faults.parse(rule) for rule in script)

    def _clear(self) -> None:
        self.ledger = Ledger(self._initial_accounts, self.clock)
        self.faults: list[Fault] = []
        self.uploads: dict[str, _Upload] = {}
        self.requests: deque[dict[str, Any]] = deque(maxlen=_REQUEST_LOG_SIZE)
        self.counts: dict[str, Counter[str]] = {}
        self.deliveries: list[dict[str, Any]] = []
        self._prompts_seen: set[str] = set()

    def reset(self) -> None:
        """Forget tasks, faults, uploads and logs; settings and accounts are again as at the start."""
        for callback in self._callbacks:
            callback.cancel()
        self.settings.update(self._initial_settings.to_json())
        self._clear()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (useful when `port` is 0)."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes(
            [
                web.post("/api/v1/jobs/createTask", self._endpoint("createTask", self._create_task)),
                web.get("/api/v1/jobs/recordInfo", self._endpoint("recordInfo", self._record_info)),
                web.post("/api/v1/uploads", self._endpoint("uploads", self._announce_upload)),
                web.get("/api/v1/uploads", self._endpoint("uploadStatus", self._confirm_upload)),
                web.put("/signed-put/{path:.+}", self._endpoint("put", self._receive_upload)),
                web.get("/temp-uploads/{path:.+}", self._endpoint("media", self._serve_upload)),
                web.get("/videos/{name}", self._endpoint("media", self._serve_output)),
                web.route("*", "/{path:(?!_admin/)[^{}]*}", self._endpoint("elsewhere", self._nowhere)),
                web.get("/_admin/bill", self._admin(lambda _: self.ledger.bill())),
                web.get("/_admin/requests", self._admin(lambda _: self.request_report())),
                web.get("/_admin/faults", self._admin(lambda _: [fault.to_json() for fault in self.faults])),
                web.post("/_admin/faults", self._admin(self.add_faults)),
                web.post("/_admin/reset", self._admin(lambda _: self.reset())),
                web.get("/_admin/settings", self._admin(lambda _: self.settings.to_json())),
                web.patch("/_admin/settings", self._admin(self._change_settings)),
                web.get("/_admin/accounts", self._admin(lambda _: self.ledger.bill()["accounts"])),
                web.post("/_admin/accounts", self._admin(self.put_account)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self.stop()
            raise
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close every socket and forget pending callbacks."""
        for callback in self._callbacks:
            callback.cancel()
        await asyncio.gather(*self._callbacks, return_exceptions=True)
        if self._callback_session is not None:
            await self._callback_session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # One API call: edge, fault script, handler, log.

    def _endpoint(self, name: str, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            call = _Call(request, name)
            agent = request.headers.get("User-Agent", "")
            if name != "put" and self.settings.user_agent_check and (not agent or _LIBRARY_AGENTS.match(agent)):
                response: web.StreamResponse = _edge_page(403)
            else:
                call.body = await request.read()
                response = await self._answer(call, handler)
            self._record(call, response.status)
            return response

        return serve

    async def _answer(self, call: _Call, handler: _Handler) -> web.StreamResponse:
        facts = call.facts
        own: list[Fault] = []
        if call.endpoint == "recordInfo":
            facts["taskId"] = call.request.query.get("taskId", "")
            if task := self.ledger.tasks.get(facts["taskId"]):
                own, facts["prompt"] = task.faults, task.order.prompt
        elif call.endpoint == "createTask":
            facts["prompt"] = self._prompt(call.body)

        def handle() -> web.StreamResponse:
            try:
                return handler(call)
            except ApiError as refusal:
                body = dialects.error(self.settings.dialect, refusal.status, refusal.message, refusal.extra)
                return self._json(body, refusal.status)

        fault = faults.take(own, call.endpoint, "reply", facts) or faults.take(
            self.faults, call.endpoint, "reply", facts
        )
        if fault is None:
            return handle()
        facts["fault"] = fault.fault
        return await self._misbehave(call.request, fault, handle)

    def _prompt(self, body: bytes) -> str:
        """The prompt of a createTask body, if there is one; its reply directives join the script once."""
        try:
            prompt = str(_parse(body)["inputs"]["prompt"])
            wanted = faults.directives(prompt).on_create
        except (ValueError, LookupError, TypeError):
            return ""
        if wanted and prompt not in self._prompts_seen:
            self._prompts_seen.add(prompt)
            self.faults.extend(wanted)
        return prompt

    async def _misbehave(
        self, request: web.Request, fault: Fault, handle: Callable[[], web.StreamResponse]
    ) -> web.StreamResponse:
        params = fault.params
        genuine = handle() if params.get("accept") else None
        if fault.fault == "slow":
            await asyncio.sleep(params["seconds"])
            if genuine is None and (request.transport is None or request.transport.is_closing()):
                return web.Response(status=499)  # hung up before it was accepted: nothing is created
            return genuine or handle()
        if fault.fault == "reset":
            _reset(request)
            return web.Response(status=499)
        return self._bad_reply(fault, genuine)

    def _bad_reply(self, fault: Fault, genuine: web.StreamResponse | None) -> web.Response:
        params, dialect = fault.params, self.settings.dialect
        match fault.fault:
            case "http":
                body = params["json"]
                if body is None:
                    body = dialects.error(dialect, params["status"], params["message"], {})
                text = dialects.compact(body) if params["body"] is None else params["body"]
                headers = {"Content-Type": params["content_type"] or "application/json"} | params["headers"]
                return web.Response(body=text.encode(), status=params["status"], headers=headers)
            case "html":
                return _edge_page(params["status"], params["headers"])
            case "rate_limit":
                extra = {name: params[name] for name in ("limit", "current") if params[name] is not None}
                response = self._json(dialects.error(dialect, 429, _limit_text(extra.get("limit", "?")), extra), 429)
                if params["retry_after"] is not None:
                    response.headers["Retry-After"] = str(params["retry_after"])
                return response
            case "truncated":
                whole = genuine.body if isinstance(genuine, web.Response) else None
                text = whole if isinstance(whole, bytes) else b'{"taskId":"task_'
                return web.Response(body=text[: len(text) // 2], content_type="application/json")
            case "empty":
                return web.Response(status=params["status"])
            case "no_task_id":
                return self._json({"message": "ok"})
            case "envelope_error":
                return self._json({"code": params["code"], "message": params["message"], "data": None})
            case "redirect":
                return web.Response(status=params["status"], headers={"Location": params["location"]})
            case "oversize":
                return self._json({"padding": "x" * int(params["bytes"])})
            case _:
                return self._json(dialects.error(dialect, 404, "Task not found", {}), 404)

    def _record(self, call: _Call, status: int) -> None:
        request, facts, name = call.request, call.facts, call.endpoint
        outcome = "created" if facts.get("created") else str(status)
        if fault := facts.get("fault"):
            outcome = f"created+fault:{fault}" if facts.get("created") else f"fault:{fault}"
        self.counts.setdefault(name, Counter())[outcome] += 1
        authorization = request.headers.get("Authorization")
        now = self.clock()
        task_id = facts.get("created") or facts.get("taskId")
        entry = {
            "time": now,
            "endpoint": name,
            "method": request.method,
            "path": request.rel_url.raw_path,
            "status": status,
            "outcome": outcome,
            "taskId": task_id,
            "userAgent": request.headers.get("User-Agent"),
            "authorization": authorization is not None,
            "keySha256": fingerprint(authorization.removeprefix("Bearer ")) if authorization else None,
            "headers": sorted(request.headers),
        }
        self.requests.append(entry)
        if self._log is not None:
            moment = time.strftime("%H:%M:%S", time.localtime(now))
            shown = [moment, request.method, request.rel_url.raw_path, outcome, task_id, facts.get("shown")]
            line = " ".join(text for text in shown if text)
            self._log("".join(letter if letter.isprintable() else "?" for letter in line))

    def request_report(self) -> dict[str, Any]:
        """Counts of calls by endpoint and outcome, the last 20,000 calls, and the callbacks sent."""
        counts = {name: dict(counter) for name, counter in self.counts.items()}
        return {"counts": counts, "requests": list(self.requests), "deliveries": list(self.deliveries)}

    def _json(self, body: object, status: int = 200) -> web.Response:
        return web.Response(text=dialects.compact(body), status=status, content_type="application/json")

    # Jobs.

    def _account(self, request: web.Request) -> Account:
        header = request.headers.get("Authorization")
        if not header:
            raise ApiError(401, "Missing Authorization header")
        scheme, _, key = header.partition(" ")
        account = self.ledger.accounts.get(key.strip()) if scheme.lower() == "bearer" else None
        if account is None:
            raise ApiError(401, "Invalid API Key")
        if account.state == "no_access":
            raise ApiError(403, "API access not enabled for this account")
        if account.state != "active":
            raise ApiError(401, "API Key is inactive" if account.state == "inactive" else "API Key has expired")
        return account

    def _accept(self, body: bytes) -> _Accepted:
        try:
            request = _parse(body)
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
        settings = self.settings
        issues = rules.check(model, inputs, settings.dialect, strict_duration=settings.strict_duration)
        if issues:
            raise ApiError(400, "Invalid inputs for model", errors=issues)
        order = rules.place(model, inputs, settings.dialect)
        try:
            directives = faults.directives(order.prompt)
        except ValueError as problem:
            raise ApiError(400, f"Emulator: a directive in the prompt is wrong: {problem}") from None
        return _Accepted(order, callback, directives)

    def _create_task(self, call: _Call) -> web.Response:
        account = self._account(call.request)
        order, callback, directives = self._accept(call.body)
        cost = price(order)
        available = self.ledger.available(account)
        if cost.reserved > available:
            needed, left = number(cost.reserved), number(available)
            raise ApiError(402, "Insufficient credits", required=needed, available=left)
        limit = account.concurrency_limit
        limit = self.settings.concurrency_limit if limit is None else limit
        running = self.ledger.running(account)
        if limit is not None and running >= limit:
            raise ApiError(429, _limit_text(limit), limit=limit, current=running)
        late = self._missing_reference(call.request, order) or rules.late_failure(order)
        task = Task(
            task_id=self.ledger.new_id(),
            account=account,
            order=order,
            origin=str(call.request.url.origin()),
            created=self.clock(),
            waiting=self.settings.waiting_seconds,
            generating=self.settings.generating_seconds,
            failure=Failure(*late) if late else None,
            reserved=cost.reserved,
            settled=cost.settled,
            settlement=self.settings.settlement_seconds,
            callback=callback,
            webhook_copies=self.settings.webhook_copies,
        )
        for fault in directives.on_task:
            _apply(fault, task)
        if scripted := faults.take(self.faults, "createTask", "task", call.facts):
            _apply(scripted, task)
        self.ledger.add(task)
        call.facts |= {"created": task.task_id, "shown": f"{order.model} {number(cost.reserved)} credits"}
        if callback is not None:
            sending = asyncio.get_running_loop().create_task(self._call_back(task, callback))
            self._callbacks.add(sending)
            sending.add_done_callback(self._callbacks.discard)
        return self._json(dialects.created(self.settings.dialect, self._view(task)))

    def _missing_reference(self, request: web.Request, order: rules.Order) -> tuple[str, str] | None:
        """A reference to this emulator's own uploads that was never uploaded cannot be fetched."""
        prefix = f"{request.url.origin()}/temp-uploads/"
        for kind, urls in zip(("image", "video", "audio"), order.references, strict=True):
            for index, url in enumerate(urls, 1):
                path = url.removeprefix(prefix).partition("?")[0]
                if url.startswith(prefix) and self._stored(path) is None:
                    return "asset_review_failed", f"Reference {kind} {index} failed review. Please replace it."
        return None

    def _record_info(self, call: _Call) -> web.Response:
        account = self._account(call.request)
        dialect = self.settings.dialect
        task_id = call.request.query.get("taskId")
        if not task_id:
            raise ApiError(400, "Missing taskId parameter")
        if not _TASK_ID.fullmatch(task_id):
            raise ApiError(400, "Invalid taskId")
        if task_id in DEMO_TASKS:
            return self._json(dialects.record(dialect, self._view(self._demo_task(call.request, account, task_id))))
        task = self.ledger.tasks.get(task_id)
        if task is None or (dialect == "envelope" and task.account.name != account.name):
            raise ApiError(404, "Task not found")
        if task.account.name != account.name:
            raise ApiError(403, "Access denied")
        view = self._view(task)
        facts = call.facts
        facts |= {"status": view.status, "shown": view.status}
        taken = [faults.take(script, "recordInfo", "record", facts) for script in (task.faults, self.faults)]
        distortions = [fault for fault in taken if fault]
        for fault in distortions:
            facts["fault"] = fault.fault
            _distort(view, fault)
        body = dialects.record(dialect, view)
        for fault in distortions:
            _edit_members(body["data"] if dialect == "envelope" else body, fault)
        return self._json(body)

    def _demo_task(self, request: web.Request, account: Account, task_id: str) -> Task:
        order = rules.place("seedance-20", {"prompt": "demo", "duration": 5}, self.settings.dialect)
        cost = price(order)
        return Task(
            task_id=task_id,
            account=account,
            order=order,
            origin=str(request.url.origin()),
            created=self.clock() - 3600,
            waiting=1.0,
            generating=196.0,
            failure=DEMO_TASKS[task_id],
            reserved=cost.reserved,
            settled=cost.settled,
            settlement=0.0,
        )

    def _view(self, task: Task) -> dialects.View:
        now = self.clock()
        status = task.status(now)
        return dialects.View(
            task_id=task.task_id,
            model=task.order.model,
            inputs=task.order.inputs,
            status=status,
            credits=number(task.credits_used(now)),
            outputs=_outputs(task) if status == "success" else None,
            failure=task.failure if status == "fail" else None,
            created_ms=int(task.created * 1000),
            completed_ms=int(task.ends * 1000) if status in ("success", "fail") else None,
        )

    # Callbacks.

    async def _call_back(self, task: Task, url: str) -> None:
        await asyncio.sleep(max(0.0, task.ends - self.clock()))
        shape = self.settings.webhook_shape or dialects.WEBHOOK_SHAPE_OF[self.settings.dialect]
        waits = self.settings.webhook_retry_seconds
        waits = dialects.WEBHOOK_RETRIES[shape] if waits is None else waits
        body = dialects.compact(dialects.webhook(shape, self._view(task))).encode()
        for copy in range(1, task.webhook_copies + 1):
            for attempt, wait in enumerate((0.0, *waits), 1):
                await asyncio.sleep(wait)
                status = await self._post(url, body)
                delivery = {"taskId": task.task_id, "url": url, "copy": copy, "attempt": attempt, "status": status}
                self.deliveries.append(delivery)
                if self._log is not None:
                    self._log(f"callback of {task.task_id}: attempt {attempt}, {status or 'no answer'}")
                if 200 <= status < 300:
                    break

    async def _post(self, url: str, body: bytes) -> int:
        """The HTTP status of one attempt; 0 when nobody answered."""
        if self._callback_session is None:
            timeout = aiohttp.ClientTimeout(total=_WEBHOOK_TIMEOUT_SECONDS)
            self._callback_session = aiohttp.ClientSession(timeout=timeout)
        headers = {"Content-Type": "application/json", "User-Agent": "seedance-emulator"}
        try:
            async with self._callback_session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
                return reply.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    # Uploads and media.

    def _announce_upload(self, call: _Call) -> web.Response:
        self._account(call.request)
        try:
            wanted = _parse(call.body)
        except ValueError:
            wanted = {}
        name = wanted.get("fileName")
        content_type = wanted.get("contentType", mimetypes.guess_type(str(name))[0] or "application/octet-stream")
        if not isinstance(name, str) or not name.strip() or not isinstance(content_type, str):
            raise ApiError(400, "Invalid request parameters")
        path = f"temp-uploads/{secrets.token_hex(8)}/{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
        origin = call.request.url.origin()
        upload = _Upload(path, content_type, secrets.token_hex(16), self.clock(), f"{origin}/{path}")
        self.uploads[path] = upload
        expiry = int(self.settings.upload_expiry_seconds)
        return self._json(
            {
                "uploadUrl": f"{origin}/signed-put/{path}?X-Amz-Expires={expiry}&X-Amz-Signature={upload.signature}",
                "url": upload.url,
                "contentType": content_type,
                "path": path,
                "method": "PUT",
                "expiresIn": expiry,
                "confirmUrl": f"/api/v1/uploads?path={quote(path, safe='')}",
                "assetTtlSeconds": int(self.settings.asset_ttl_seconds),
            }
        )

    def _receive_upload(self, call: _Call) -> web.Response:
        """The signed PUT: object storage, so its refusals are XML and it wants no key."""
        upload = self.uploads.get(call.request.match_info["path"])
        if "Authorization" in call.request.headers:
            return _storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        if upload is None or call.request.query.get("X-Amz-Signature") != upload.signature:
            return _storage_error(403, "SignatureDoesNotMatch", "The request signature does not match")
        if self.clock() - upload.announced > self.settings.upload_expiry_seconds:
            return _storage_error(403, "AccessDenied", "Request has expired")
        if call.request.headers.get("Content-Type") != upload.content_type:
            return _storage_error(403, "SignatureDoesNotMatch", "Content-Type is not the announced one")
        if "Content-Length" not in call.request.headers:
            return _storage_error(411, "MissingContentLength", "You must provide the Content-Length HTTP header")
        upload.data, upload.uploaded = call.body, self.clock()
        return web.Response(headers={"ETag": f'"{zlib.crc32(call.body):08x}"'})

    def _stored(self, path: str) -> _Upload | None:
        upload = self.uploads.get(f"temp-uploads/{path}")
        if upload is None or upload.data is None:
            return None
        return upload if self.clock() - upload.uploaded <= self.settings.asset_ttl_seconds else None

    def _confirm_upload(self, call: _Call) -> web.Response:
        self._account(call.request)
        path = call.request.query.get("path", "")
        upload = self._stored(path.removeprefix("temp-uploads/"))
        if upload is None or upload.data is None:
            raise ApiError(404, "Upload not found")
        lifetime = self.settings.asset_ttl_seconds
        return self._json(
            {
                "path": upload.path,
                "url": upload.url,
                "size": len(upload.data),
                "contentType": upload.content_type,
                "uploadedAt": int(upload.uploaded * 1000),
                "expiresAt": int((upload.uploaded + lifetime) * 1000),
                "assetTtlSeconds": int(lifetime),
            }
        )

    def _serve_upload(self, call: _Call) -> web.Response:
        upload = self._stored(call.request.match_info["path"])
        if upload is None:
            return web.Response(status=404, text="Not Found")
        return web.Response(body=upload.data, headers={"Content-Type": upload.content_type})

    def _serve_output(self, call: _Call) -> web.StreamResponse:
        """The video or the last frame of a finished task; `FileResponse` answers range requests."""
        stem, _dot, extension = call.request.match_info["name"].rpartition(".")
        task_id = re.sub(r"-(last-frame|\d+)$", "", stem)
        task = self.ledger.tasks.get(task_id)
        finished = task_id in DEMO_TASKS if task is None else task.status(self.clock()) == "success"
        if not finished or extension not in _EXTENSIONS.values():
            return web.Response(status=404, text="Not Found")
        content_type = next(kind for kind, known in _EXTENSIONS.items() if known == extension)
        file = _MEDIA / ("last_frame.png" if extension == "png" else "video.mp4")
        return web.FileResponse(file, headers={"Content-Type": content_type})

    def _nowhere(self, _: _Call) -> web.Response:
        """A path the API does not have: the site's own 404 page, as a wrong base URL gets it."""
        return web.Response(text="<!DOCTYPE html><title>404</title>\n", status=404, content_type="text/html")

    # Admin.

    def _admin(self, action: Callable[[Any], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            body = await request.read()
            try:
                return self._json(action(json.loads(body) if body else {}) or {})
            except (ValueError, TypeError) as problem:
                return self._json({"message": str(problem)}, 400)

        return serve

    def add_faults(self, script: Any) -> dict[str, Any]:
        """Append one rule or a list of rules; all or none (ValueError)."""
        self.faults.extend([faults.parse(rule) for rule in (script if isinstance(script, list) else [script])])
        return {"faults": len(self.faults)}

    def put_account(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Add an account or change one, found by `name` (default: `default`); what is not named stays."""
        name = _object(wanted).get("name", "default")
        old = next((account for account in self.ledger.accounts.values() if account.name == name), None)
        account = replace(old, **wanted) if old else Account(**wanted)
        self.ledger.put_account(account, keep_balance=old is not None and "credits" not in wanted)
        return {"account": name}

    def _change_settings(self, changes: dict[str, Any]) -> dict[str, Any]:
        self.settings.update(_object(changes))
        return self.settings.to_json()


def _parse(body: bytes) -> dict[str, Any]:
    """A JSON object, read as strictly as the vendor's JavaScript does (no NaN)."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        value = json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _object(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of refusal for the caller
    return value


def _outputs(task: Task) -> list[dict[str, Any]]:
    """The files of a finished task: one for video, four for midjourney, two for suno."""
    order = task.order
    media_type = "image/png" if order.model in rules.IMAGE_MODELS else "video/mp4"
    model = rules.VIDEO_MODELS.get(order.model)
    if model and "output_format" in model.fields and order.inputs.get("output_format") == "mov":
        media_type = "video/quicktime"
    count = 4 if order.model.startswith("midjourney") else 2 if order.model.startswith("suno") else 1
    outputs = []
    for index in range(1, count + 1):
        stem = task.task_id if index == 1 else f"{task.task_id}-{index}"
        output: dict[str, Any] = {
            "url": f"{task.origin}/videos/{stem}.{_EXTENSIONS[media_type]}",
            "width": order.width,
            "height": order.height,
            "mediaType": media_type,
        }
        if order.family not in ("", "wan"):
            seed = order.inputs.get("seed", -1)
            output["seed"] = int(seed) if seed >= 0 else zlib.crc32(task.task_id.encode())
            signed = "" if order.family == "2.0" else "?X-Tos-Expires=86400&X-Tos-Signature=emulator"
            output["lastFrameImage"] = f"{task.origin}/videos/{task.task_id}-last-frame.png{signed}"
        outputs.append(output)
    return outputs


def _apply(fault: Fault, task: Task) -> None:
    """Let a fault decide a new task's fate, or bind it to the task's answers."""
    params = fault.params
    match fault.fault:
        case "fail":
            code = None if params["code"] is None else str(params["code"])
            message = params["message"] or faults.FAIL_MESSAGES.get(code or "", "Task execution failed")
            task.failure = Failure(code, message, params["shape"])
        case "fail_without_error":
            task.failure = Failure(None, None)
        case "settle":
            task.settled = task.reserved + 1 if params["credits"] is None else Decimal(str(params["credits"]))
            task.settlement = task.settlement if params["seconds"] is None else float(params["seconds"])
        case "webhook":
            task.webhook_copies = int(params["copies"])
        case "times":
            task.waiting = task.waiting if params["waiting"] is None else float(params["waiting"])
            task.generating = task.generating if params["generating"] is None else float(params["generating"])
        case _:
            task.faults.append(fault)


def _distort(view: dialects.View, fault: Fault) -> None:
    """Change what one recordInfo answer shows."""
    if fault.fault == "status_word":
        view.status = str(fault.params["word"])
    elif fault.fault == "credits":
        view.credits = fault.params["credits"]
    elif fault.fault == "null_output":
        view.outputs = None
    elif fault.fault == "null_sizes":
        view.outputs = [output | {"width": None, "height": None} for output in view.outputs or []]


def _edit_members(body: dict[str, Any], fault: Fault) -> None:
    """Put in or take out members of one recordInfo answer."""
    if fault.fault == "members":
        body |= fault.params["set"]
        for name in fault.params["remove"]:
            body.pop(name, None)


def _limit_text(limit: object) -> str:
    return (
        f"Concurrency limit reached ({limit}). Please wait for a running task to finish before creating a new one, "
        "or contact support to raise the limit: https://kinovi.ai/contact"
    )


def _edge_page(status: int, headers: dict[str, str] | None = None) -> web.Response:
    title = "Attention Required! | Cloudflare" if status == 403 else f"kinovi.ai | {status}: Bad gateway"
    heading = "Sorry, you have been blocked" if status == 403 else f"Error {status}"
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{heading}</h1></body></html>\n"
    return web.Response(text=page, status=status, content_type="text/html", headers=headers)


def _storage_error(status: int, code: str, message: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(text=text, status=status, content_type="application/xml")


def _reset(request: web.Request) -> None:
    """Cut the connection with a TCP reset, not an orderly end."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
