"""Fetches a file that an answer of the vendor's names: in pieces, without credentials, from public addresses only."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urljoin, urlsplit

import requests

from seedance_provider import defaults
from seedance_provider.api.records import http_url_or_none
from seedance_provider.exceptions import SeedanceTransferError, SeedanceTransportError
from seedance_provider.transport.adapter import Adapter
from seedance_provider.transport.http import (
    USER_AGENT,
    ca_bundle,
    environment_proxy,
    exchange_seconds,
    shown_url,
    timeouts,
    transport_error,
)

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings
    from seedance_provider.transport.adapter import Answer, Progress

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    # Media are compressed as they are, and the length must be that of the file.
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
LINK_REFUSED = frozenset({401, 403, 404, 410})
"""What a link answers that has expired."""
_TRANSIENT = frozenset({408, 425, 429})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10", "::/96", "::ffff:0:0:0/96")))
"""Local NAT64, site-local, and two old ways to write an IPv4 address: Python, or some releases of it, say global."""


class Download:
    """A file that is being fetched.

    :param answer: The answer, of status 200, with its body unread.
    :param url: Where it came from, in the end.
    :param progress: Of the exchange.
    :param settings: The connection.
    """

    def __init__(self, answer: Answer, url: str, progress: Progress, settings: SeedanceSettings) -> None:
        self.url = shown_url(url)
        self.content_type = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        self.length: int | None = None if answer.chunked else answer.length
        self.received = 0
        self._answer = answer
        self._progress = progress
        self._settings = settings
        self._seconds_left = exchange_seconds(settings)
        if self.length is None and not answer.chunked:
            raise self._failed("names no length, so that a part could not be told from the whole")
        self._check_size(self.length or 0)

    def readinto(self, buffer: bytearray) -> int:
        """Fill a buffer.

        Slower than ``DOWNLOAD_BYTES_PER_SECOND`` for longer than the timeouts of the connection, it ends. The time
        between two calls does not count.

        :return: How many bytes were read; fewer than fit only before the end, 0 at the end.
        :raises SeedanceTransferError: if the connection breaks, is too slow, or ends before the file does.
        """
        began = time.monotonic()
        self._progress.start(self._seconds_left, timeouts(self._settings)[1])
        problem: SeedanceTransportError | None = None
        count = 0
        try:
            count = self._answer.readinto(buffer)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the rest of the file is missing
            problem = transport_error(error, self.url, self._settings, request_sent=True)
        if problem is not None:
            raise self._failed(f"broke off after {self.received:,} bytes: {problem}")
        if count == 0 and not self._answer.is_complete():
            announced = "" if self.length is None else f" of {self.length:,}"
            raise self._failed(f"ended after {self.received:,}{announced} bytes")
        self.received += count
        self._check_size(self.received)
        earned = count / defaults.DOWNLOAD_BYTES_PER_SECOND - (time.monotonic() - began)
        self._seconds_left = min(self._seconds_left + earned, exchange_seconds(self._settings))
        return count

    def _check_size(self, size: int) -> None:
        if size > defaults.MAX_OUTPUT_BYTES:
            raise self._failed(f"is larger than {defaults.MAX_OUTPUT_BYTES:,} bytes", transient=False)

    def _failed(self, what: str, *, transient: bool = True) -> SeedanceTransferError:
        return _failed(self.url, what, transient=transient)


@contextlib.contextmanager
def downloading(url: str, settings: SeedanceSettings) -> Iterator[Download]:
    """Open a file for reading. The API key does not go with the request, nor does anything of ``.netrc``.

    :param url: An http or https URL.
    :param settings: The connection: its timeouts, and its host, which alone may be on a private network.
    :return: The file, open; a context manager.
    :raises SeedanceTransferError: if there is none to be had; ``status_code`` has the answer's status.
    """
    for _ in range(defaults.MAX_REDIRECTS + 1):
        with contextlib.closing(_open(url, settings)) as exchange:
            status = exchange.answer.status
            if status not in _REDIRECTS:
                if status != HTTPStatus.OK:
                    raise _refused(url, exchange.answer)
                yield Download(exchange.answer, url, exchange.progress, settings)
                return
            location = exchange.answer.headers.get("Location") or ""
        try:
            url = urljoin(url, location)
        except ValueError:
            raise _failed(url, "redirects to what is no URL", transient=False) from None
    raise _failed(url, f"is redirected more than {defaults.MAX_REDIRECTS} times", transient=False)


class _Exchange:
    """One request, and the answer as far as its headers."""

    def __init__(self, adapter: Adapter, response: requests.Response, answer: Answer) -> None:
        self.answer = answer
        self.progress = adapter.progress
        self._adapter = adapter
        self._response = response

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._response.raw.close()
        self._adapter.close()


def _open(url: str, settings: SeedanceSettings) -> _Exchange:
    shown = shown_url(url)
    # A name with credentials in it is made to be misread, and requests would send them.
    if http_url_or_none(url) is None or "@" in urlsplit(url).netloc:
        raise _failed(shown, "is no http or https URL that can be used", transient=False)
    proxy = _proxy(url)
    if proxy is not None:  # it looks the name up by itself; an address that is written out can be judged here
        _check_written_address(url, settings)
    adapter = Adapter(None if proxy else partial(_check_peer, url, settings))
    adapter.progress.start(exchange_seconds(settings), timeouts(settings)[1])
    problem: SeedanceTransportError | None = None
    try:
        response = adapter.send(
            requests.Request("GET", url, _HEADERS).prepare(),
            stream=True,
            timeout=timeouts(settings),
            verify=ca_bundle(),
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )
    except SeedanceTransferError:
        adapter.close()
        raise
    except Exception as error:  # noqa: BLE001 - libraries raise many; none of them is an answer
        adapter.close()
        problem = transport_error(error, url, settings, request_sent=True)
    if problem is not None:  # outside of the except clause: the cause repeats the whole URL, which may be signed
        raise _failed(shown, f"failed: {problem}")
    assert adapter.progress.answer is not None  # noqa: S101 - there is no response without one
    return _Exchange(adapter, response, adapter.progress.answer)


def _proxy(url: str) -> str | None:
    try:
        return environment_proxy(url)
    except SeedanceTransportError as error:
        raise _failed(url, f"failed: {error}", transient=False) from None


def _refused(url: str, answer: Answer) -> SeedanceTransferError:
    status = answer.status
    is_page = "html" in (answer.headers.get("Content-Type") or "").lower()
    transient = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT | LINK_REFUSED
    error = _failed(url, f"was answered with {status}{' and an HTML page' if is_page else ''}", transient=transient)
    error.status_code = status
    # The edge blocks with a page; a link that has expired is refused by the store behind it.
    error.denial = status in LINK_REFUSED and not (is_page and status == HTTPStatus.FORBIDDEN)
    return error


def _failed(url: str, what: str, *, transient: bool = True) -> SeedanceTransferError:
    shown = shown_url(url)
    return SeedanceTransferError(f"The download of {shown} {what}", url=shown, transient=transient)


# Where a download may come from. A name may stand for another address each time it is looked up, so what counts is the
# address that the connection really has.


def _check_peer(url: str, settings: SeedanceSettings, connection: socket.socket) -> None:
    """:raises SeedanceTransferError: unless the connection leads to a public address, or to the API's own host."""
    _check(connection.getpeername()[0], url, settings)


def _check_written_address(url: str, settings: SeedanceSettings) -> None:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    with contextlib.suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))  # an address can be written as one number, too
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        _check(host, url, settings)


def _check(address: str, url: str, settings: SeedanceSettings) -> None:
    if is_public(address) or address in _own_addresses(settings):
        return
    raise _failed(
        url,
        f"leads to {address}, which is no public address; only the connection's own host may be on a private network",
        transient=False,
    )


def is_public(address: str) -> bool:
    """Whether an address is reachable from everywhere: not loopback, link-local, private, reserved or multicast.

    :param address: An IPv4 or IPv6 address.
    """
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _LOCAL):
        return False
    return all(each.is_global and not each.is_multicast for each in (ip, *_embedded(ip)))


def _embedded(ip: Address) -> Iterator[Address]:
    """IPv4 addresses that an IPv6 address stands for."""
    if isinstance(ip, ipaddress.IPv6Address):
        yield from (each for each in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if each is not None)
        if ip in _NAT64:
            yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)


def _own_addresses(settings: SeedanceSettings) -> set[Any]:
    host = urlsplit(settings.base_url).hostname
    try:
        return {found[4][0] for found in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
