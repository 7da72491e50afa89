"""Drives a flow with requests, on a worker."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from seedance_provider.api.flows import Put, RenewKey, Send, Sleep
from seedance_provider.exceptions import SeedanceServerError, SeedanceTransportError
from seedance_provider.transport import MAX_BODY, authorization, make_reply, request_headers, slow_turn
from seedance_provider.transport.pace import latest_turn, pace_of
from seedance_provider.uploads import SizedReader

if TYPE_CHECKING:
    from seedance_provider.api.calls import Reply, UploadTicket
    from seedance_provider.api.flows import AnyLogger, Flow
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.uploads import Media

T = TypeVar("T")
module_log = logging.getLogger(__name__)


class SyncTransport:
    """Executes flows one at a time, blocking.

    :param settings: Where and how to send.
    :param renew: Reads the connection again, for when the key was refused.
    :param log: Told of a long wait for a turn.
    """

    def __init__(
        self,
        settings: SeedanceSettings,
        renew: Callable[[], SeedanceSettings],
        log: AnyLogger = module_log,
    ) -> None:
        self._settings = settings
        self._renew = renew
        self._log = log

    def drive(self, flow: Flow[T], sleep: Callable[[Sleep], None] | None = None) -> T:
        """Run a flow to its end.

        :param flow: The flow; always closed.
        :param sleep: Carries out its pauses. Default: blocks.
        :return: The flow's result.
        :raises SeedanceError: what the flow raises.
        """
        with requests.Session() as session:
            try:
                step = next(flow)
                while True:
                    if isinstance(step, (Send, Put)):
                        try:
                            reply = (
                                self._send(session, step)
                                if isinstance(step, Send)
                                else self._put(session, step.ticket, step.media)
                            )
                        except SeedanceTransportError as error:
                            step = flow.throw(error)
                        else:
                            step = flow.send(reply)
                    elif isinstance(step, RenewKey):
                        before, self._settings = self._settings, self._renew()
                        step = flow.send(self._settings.api_key != before.api_key)
                    else:
                        if sleep is None:
                            time.sleep(step.seconds)
                        else:
                            sleep(step)
                        step = next(flow)
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                flow.close()

    def _send(self, session: requests.Session, step: Send) -> Reply:
        request = step.request
        pace = pace_of(self._settings)
        if pace.limits(now := time.monotonic()):
            delay = pace.turn(now, latest_turn(step.deadline))
            if text := slow_turn(self._settings, delay):
                self._log.info(text)
            time.sleep(delay)
        # The key is given as auth, because requests lets .netrc override a header.
        url = self._settings.base_url + request.path
        if request.method == "GET":
            reply = self._exchange(session, "GET", url, request.body, request_headers(), self._authorize)
        else:
            # On a connection kept from before, a close by the server looks like a request of unknown fate.
            headers = {**request_headers(), "Connection": "close"}
            with requests.Session() as fresh:
                reply = self._exchange(fresh, request.method, url, request.body, headers, self._authorize)
        pace.note(time.monotonic(), request.method, reply)
        return reply

    def _put(self, session: requests.Session, ticket: UploadTicket, media: Media) -> Reply:
        if ticket.upload_url.startswith("http://") and self._settings.base_url.startswith("https://"):
            raise SeedanceServerError("The API wants the file sent over http, unencrypted; that is not done")
        headers = {**request_headers(), "Content-Type": ticket.content_type}
        with media.open() as file:
            # An auth that does nothing keeps .netrc out: the URL is signed, any Authorization header would break it.
            return self._exchange(
                session, "PUT", ticket.upload_url, SizedReader(file, media.size), headers, lambda request: request
            )

    def _exchange(
        self,
        session: requests.Session,
        method: str,
        url: str,
        body: bytes | SizedReader | None,
        headers: dict[str, str],
        auth: Callable[[requests.PreparedRequest], requests.PreparedRequest],
    ) -> Reply:
        settings = self._settings
        try:
            response = session.request(
                method,
                url,
                data=body,
                headers=headers,
                auth=auth,
                timeout=(settings.connect_timeout, settings.read_timeout),
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, HTTPError, OSError) as error:
            # Without its cause, which repeats the whole URL: that of an upload is signed.
            raise _transport_error(error, url) from None
        with response:
            return make_reply(response.status_code, response.headers, _read(response), settings)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = authorization(self._settings)
        return request


def _read(response: requests.Response) -> bytes:
    """Read the body up to the limit. What was received stands even if the connection then breaks.

    An answer that has begun must not look like no answer: a createTask that was answered 200 bought a video.
    """
    body = b""
    try:
        for chunk in response.iter_content(16 * 1024):
            body += chunk
            if len(body) >= MAX_BODY:
                break
    except (requests.RequestException, HTTPError, OSError):
        pass
    return body


def _transport_error(error: Exception, url: str) -> SeedanceTransportError:
    reason = _reason(error)
    sent = not (
        isinstance(reason, (NewConnectionError, ConnectTimeoutError, ssl.SSLCertVerificationError))
        # http.client's words when a proxy refuses CONNECT. urllib3 1.26 has a ProxyError for a reset as well.
        or (isinstance(error, requests.exceptions.ProxyError) and str(reason).startswith("Tunnel connection failed"))
        # An address or a certificate bundle that cannot be used.
        or isinstance(error, ValueError)
        or not isinstance(error, (requests.RequestException, HTTPError))
    )
    kind = "timed out" if isinstance(error, requests.Timeout) or isinstance(reason, ReadTimeoutError) else "failed"
    return SeedanceTransportError(
        f"The request to {url.partition('?')[0]} {kind}: {type(reason).__name__}: {reason}", request_sent=sent
    )


def _reason(error: BaseException) -> BaseException:
    """The innermost error that urllib3 names: what requests shows is wrapped two or three times."""
    inner = getattr(error, "reason", None) or next(
        (arg for arg in getattr(error, "args", ()) if isinstance(arg, BaseException)), None
    )
    return _reason(inner) if isinstance(inner, BaseException) else error
