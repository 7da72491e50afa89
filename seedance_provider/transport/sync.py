"""Drives a flow with requests, on a worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeVar

import requests

from seedance_provider.api.messages import Put, RenewKey, Send, Sleep
from seedance_provider.defaults import MAX_BODY
from seedance_provider.exceptions import SeedanceError, SeedanceServerError, SeedanceTransportError
from seedance_provider.transport.adapter import Adapter
from seedance_provider.transport.http import (
    authorization,
    bounded,
    ca_bundle,
    environment_proxy,
    exchange_seconds,
    make_reply,
    request_headers,
    timeouts,
    transport_error,
)

if TYPE_CHECKING:
    from seedance_provider.api.messages import Flow, Reply, Step
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.transport.adapter import Answer

T = TypeVar("T")
_PIECE = 64 * 1024


class SyncTransport:
    """Executes flows one at a time, blocking.

    :param settings: Where and how to send.
    :param renew: Reads the connection again, for when the key was refused.
    :param sleep: Lets time pass. Default: blocks.
    """

    def __init__(
        self,
        settings: SeedanceSettings,
        renew: Callable[[], SeedanceSettings],
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._renew = renew
        self._sleep = sleep

    def drive(self, flow: Flow[T]) -> T:
        """Run a flow to its end. Its GETs share a connection.

        :param flow: The flow; always closed.
        :return: The flow's result.
        :raises SeedanceError: what the flow raises.
        """
        with contextlib.closing(Adapter()) as kept:
            try:
                step = next(flow)
                while True:
                    try:
                        result = self._carry_out(step, kept)
                    except SeedanceError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(result)
            except StopIteration as stop:
                end: T = stop.value
                return end
            finally:
                flow.close()

    def _carry_out(self, step: Step, kept: Adapter) -> Reply | bool | None:
        match step:
            case Send():
                return self._send(step, kept)
            case Put():
                return self._put(step, kept)
            case Sleep(seconds=seconds):
                self._sleep(seconds)
                return None
            case RenewKey():
                before, self._settings = self._settings, self._renew()
                return self._settings.api_key != before.api_key
        raise TypeError(f"{type(step).__name__} is not a step")

    def _send(self, step: Send, kept: Adapter) -> Reply:
        settings = self._settings
        method, path, body = step.request.method, step.request.path, step.request.body
        headers = {**request_headers(), "Authorization": authorization(settings)}
        request = requests.Request(method, settings.base_url + path, headers, data=body)
        seconds = bounded(exchange_seconds(settings, len(body or b"")), step.deadline)
        if method == "GET":
            return _exchange(kept, request, settings, seconds)
        # On a connection kept from before, a close by the server looks like a request of unknown outcome.
        headers["Connection"] = "close"
        with contextlib.closing(Adapter()) as fresh:
            return _exchange(fresh, request, settings, seconds)

    def _put(self, step: Put, kept: Adapter) -> Reply:
        ticket, media, settings = step.ticket, step.media, self._settings
        if settings.base_url.startswith("https:") and not ticket.upload_url.lower().startswith("https:"):
            raise SeedanceServerError("The API is https but wants the file sent unencrypted. Nothing was uploaded")
        headers = {**request_headers(), "Content-Type": ticket.content_type}
        with media.open() as file:
            body: Any = SizedReader(file, media.size)
            request = requests.Request("PUT", ticket.upload_url, headers, data=body)
            return _exchange(kept, request, settings, exchange_seconds(settings, media.size))


class SizedReader:
    """A file whose length is known beforehand, so that it is streamed without being held: a signed PUT needs both.

    :param file: The open file.
    :param size: How many bytes of it to send.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(_PIECE):
            yield piece

    def read(self, size: int = -1) -> bytes:
        """Read bytes; all that is left by default.

        :raises OSError: if the file became shorter meanwhile.
        """
        piece = self._file.read(self._left if size < 0 else min(size, self._left))
        if self._left and size and not piece:
            raise OSError(f"the file ended {self._left} bytes early")
        self._left -= len(piece)
        return piece


def _exchange(adapter: Adapter, request: requests.Request, settings: SeedanceSettings, seconds: float) -> Reply:
    url = str(request.url)
    connect, read = timeouts(settings)
    progress = adapter.progress
    progress.start(seconds, read)
    response: requests.Response | None = None
    problem: SeedanceTransportError | None = None
    try:
        proxy = environment_proxy(url)
        # Straight to the adapter: a session reads the body of a redirect whole, and honours .netrc.
        response = adapter.send(
            request.prepare(),
            stream=True,
            timeout=(connect, read),
            verify=ca_bundle(),
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )
    except SeedanceTransportError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library raises, what matters is how far the request came
        problem = transport_error(error, url, settings, request_sent=progress.sent)
    # What a library has to say against an answer that did arrive does not matter.
    if progress.answer is not None:
        return _receive(progress.answer, response, settings)
    # Outside of the except clause: the cause repeats the whole URL, and that of an upload is signed.
    raise problem or SeedanceTransportError(f"No answer from {settings.base_url}")


def _receive(answer: Answer, response: requests.Response | None, settings: SeedanceSettings) -> Reply:
    """Read the body up to the limit. What was received stands, however the connection then ends."""
    body = b""
    complete = False
    try:
        while len(body) < MAX_BODY and (piece := answer.read1(min(_PIECE, MAX_BODY - len(body)))):
            body += piece
        complete = answer.is_complete()
        if response is not None and complete:
            answer.close()
            response.raw.release_conn()
    except Exception:  # noqa: BLE001 - an answer that has begun must not look like no answer
        complete = False
    if response is not None and not complete:
        with contextlib.suppress(OSError):
            response.raw.close()
    return make_reply(answer.status, answer.headers, body, settings, complete=complete)
