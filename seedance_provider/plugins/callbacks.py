"""The callback receiver: what it takes from the network, and what it answers.

Whoever has no API key learns nothing and costs next to nothing: a path is compared with its signature before its body
is read, and every other path gets the same answer. What a signed callback says is only a hint; see ``answers``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from seedance_provider import defaults
from seedance_provider.api.records import parse_webhook
from seedance_provider.exceptions import SeedanceServerError
from seedance_provider.execution.signing import Claim, is_signed, read_claim
from seedance_provider.plugins import answers
from seedance_provider.plugins.answers import Verdict

log = logging.getLogger(__name__)


class Response(NamedTuple):
    """An answer.

    :param status: The HTTP status.
    :param body: The body.
    :param retry_after: Seconds after which the same callback is welcome; None if there is no need.
    """

    status: int
    body: bytes = b""
    retry_after: int | None = None


DONE = Response(200)
NOT_FOUND = Response(404)
"""Of a wrong signature, an unknown connection and an unknown task instance alike."""
UNREADABLE = Response(400)
TOO_LARGE = Response(413)
TOO_SLOW = Response(408)
BUSY = Response(429, retry_after=5)
LATER = Response(503, retry_after=5)
_RESPONSES = {Verdict.DONE: DONE, Verdict.UNKNOWN: NOT_FOUND, Verdict.LATER: LATER}


class Bucket:
    """Limits how often something happens, in a number and a time.

    :param rate: How often per second.
    :param clock: Gives the time, seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._left = self._most = 10 * rate
        self._at = clock()

    def take(self) -> bool:
        """Whether it may happen once more now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Keys:
    """Which keys sign: of connections, looked up rarely, and remembered in bounded memory.

    A path that fits a remembered key needs no lookup, so a flood of made-up ones cannot keep it out. A key that was
    replaced is noticed when a path does not fit it.

    :param look_up: Looks a connection's signing key up, blocking; None if there is none.
    :param clock: Gives the time, seconds.
    """

    def __init__(self, look_up: Callable[[str], bytes | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._look_up = look_up
        self._clock = clock
        self._bucket = Bucket(defaults.CALLBACK_LOOKUPS, clock)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()

    async def is_signed(self, claim: Claim, path: str, run: Callable[..., Awaitable[Any]]) -> bool:
        """Whether a path is known to be signed by the key of its connection.

        Without a lookup left it is not: another answer would tell which connections are remembered, and so exist.

        :param claim: What the path says.
        :param path: The path.
        :param run: Runs a function in a thread.
        """
        key, since = self._known.get(claim.conn_id, (None, self._unknown.get(claim.conn_id)))
        if key is not None and is_signed(path, key):
            self._known.move_to_end(claim.conn_id)
            return True
        if since is not None and self._clock() - since < defaults.CALLBACK_KEY_SECONDS:
            return False
        if not self._bucket.take():
            return False
        key = await run(self._look_up, claim.conn_id)
        self._remember(claim.conn_id, key)
        return key is not None and is_signed(path, key)

    def _remember(self, conn_id: str, key: bytes | None) -> None:
        now = self._clock()
        self._known.pop(conn_id, None)
        self._unknown.pop(conn_id, None)
        if key is None:
            self._unknown[conn_id] = now
        else:
            self._known[conn_id] = key, now
        for remembered in (self._known, self._unknown):
            while len(remembered) > defaults.CALLBACK_KEYS:
                remembered.popitem(last=False)


class Receiver:
    """The ASGI app. It keeps nothing that another API server would need to know.

    :param look_up: Looks a connection's signing key up, blocking; None if there is none.
    :param take: Takes a signed callback, blocking: whom it is for, and the task that it names.
    """

    def __init__(
        self,
        look_up: Callable[[str], bytes | None] = answers.signing_key_of,
        take: Callable[[Claim, str], Verdict] = answers.take,
    ) -> None:
        self._take = take
        self._keys = Keys(look_up)
        self._bucket = Bucket(defaults.CALLBACKS_PER_SECOND, time.monotonic)
        self._waiting = 0
        self._threads = ThreadPoolExecutor(defaults.CALLBACKS_AT_ONCE, thread_name_prefix="seedance-callback")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        response = await self._respond(scope, receive)
        headers = [(b"content-length", str(len(response.body)).encode()), (b"cache-control", b"no-store")]
        if response.retry_after is not None:
            headers.append((b"retry-after", str(response.retry_after).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, scope: Any, receive: Any) -> Response:
        name = scope["path"].rpartition("/")[2]
        if scope["method"] in ("GET", "HEAD") and name == "health":
            return Response(200, b"" if scope["method"] == "HEAD" else b"ok")
        claim = read_claim(name) if scope["method"] == "POST" else None
        if claim is None:
            return NOT_FOUND
        try:
            if not await self._keys.is_signed(claim, name, self._run):
                return NOT_FOUND
            if not self._bucket.take():
                return BUSY
            body = await _read(receive)
            if isinstance(body, Response):
                return body
            seedance_task_id = parse_webhook(body).seedance_task_id
            if not seedance_task_id:
                return UNREADABLE
            verdict: Verdict = await self._run(self._take, claim, seedance_task_id)
        except SeedanceServerError:
            return UNREADABLE
        except Exception as error:  # noqa: BLE001 - the database, the ledger or the vendor's API: all may be there again
            log.warning("A Seedance callback could not be taken (%s: %.200s)", type(error).__name__, error)
            return LATER
        return _RESPONSES[verdict]

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run what blocks in a thread, when one is free."""
        if self._waiting >= defaults.CALLBACKS_AT_ONCE + defaults.CALLBACKS_WAITING:
            raise BusyError("too many callbacks at once")
        self._waiting += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))
        running.add_done_callback(self._done)
        # The thread goes on: what it finds out is used, whoever waits for it.
        return await asyncio.wait_for(asyncio.shield(running), 3 * defaults.CALLBACK_SECONDS)

    def _done(self, running: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not running.cancelled():
            running.exception()  # or asyncio complains of one that nobody waited for


class BusyError(Exception):
    """More callbacks are waiting than makes sense."""


async def _read(receive: Any) -> bytes | Response:
    """Read the body, bounded in length and in time, whatever its headers promise."""
    body = bytearray()
    try:
        async with asyncio.timeout(defaults.CALLBACK_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return UNREADABLE  # the sender is gone
                body += message.get("body", b"")
                if len(body) > defaults.MAX_CALLBACK_BODY:
                    return TOO_LARGE
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return TOO_SLOW


receiver = Receiver()
