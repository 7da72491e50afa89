"""What both transports share: the headers, the reply, the bounds, the trust, and texts of errors without secrets."""

from __future__ import annotations

import base64
import functools
import html.entities
import json
import os
import re
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import certifi
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy
from urllib3.util import parse_url

from seedance_provider import __version__, defaults
from seedance_provider.api.messages import Reply
from seedance_provider.api.records import clean_text
from seedance_provider.api.schedule import retry_after_seconds
from seedance_provider.defaults import LAST_EXCHANGE_SECONDS, MAX_REASON, MIN_SECRET
from seedance_provider.exceptions import SeedanceTransportError

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings

USER_AGENT = f"airflow-provider-seedance/{__version__}"
"""The edge refuses requests with a library's default User-Agent (contract 1)."""


class Headers(Protocol):
    """The headers of an answer, in whatever form a library gives them."""

    def get(self, name: str, /) -> str | None:
        """The value of one, whatever the case of its name."""


def request_headers() -> dict[str, str]:
    """Headers of every request; the Authorization header is added where the key is."""
    return {
        "User-Agent": USER_AGENT,
        "Accept": "application/json",
        # A few hundred bytes gain nothing by compression.
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }


def authorization(settings: SeedanceSettings) -> str:
    """The value of the Authorization header."""
    return f"Bearer {settings.api_key}"


def timeouts(settings: SeedanceSettings) -> tuple[float, float]:
    """Seconds to connect, and between two pieces of an answer: never more than every clock on the way can count."""
    return min(settings.connect_timeout, defaults.MAX_TIMEOUT), min(settings.read_timeout, defaults.MAX_TIMEOUT)


def exchange_seconds(settings: SeedanceSettings, bytes_to_send: int = 0) -> float:
    """How long a whole exchange may take, from the connection to the last byte of the body.

    :param settings: The connection.
    :param bytes_to_send: The length of the request's body. Default 0.
    :return: Seconds.
    """
    return sum(timeouts(settings)) + bytes_to_send / defaults.UPLOAD_BYTES_PER_SECOND


def bounded(seconds: float, deadline: float | None) -> float:
    """Shorten an exchange that would last far beyond the deadline of its wait.

    :param seconds: How long it may take by itself.
    :param deadline: The deadline, epoch seconds; None for none.
    :return: Seconds.
    """
    if deadline is None or seconds <= LAST_EXCHANGE_SECONDS:
        return seconds
    return min(seconds, max(deadline - time.time(), 0.0) + LAST_EXCHANGE_SECONDS)


def ca_bundle() -> str:
    """The file or directory of trusted certificates that requests would use: both transports trust the same."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def environment_proxy(url: str) -> str | None:
    """The proxy that requests would use for a URL: both transports use the same.

    :param url: The URL.
    :return: The proxy's URL; None for none.
    :raises SeedanceTransportError: if the URL or the proxy cannot be used. Never with the proxy's password.
    """
    try:
        proxy = select_proxy(url, get_environ_proxies(url))
        if not proxy:
            return None
        proxy = str(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
        usable = bool(parse_url(proxy).host)
    except Exception:  # noqa: BLE001 - requests raises many for an address that is none; the texts may repeat a password
        usable = False
    if not usable:
        raise SeedanceTransportError(
            f"The address or the proxy for it cannot be used: {shown_url(url)}. A proxy of the environment must be "
            "such as http://user:password@host:port, special characters percent-encoded",
            request_sent=False,
        )
    return proxy


def transport_error(
    error: BaseException, url: str, settings: SeedanceSettings, *, request_sent: bool
) -> SeedanceTransportError:
    """Turn a library's error into one of ours. To be raised without its cause, which may show what this does not.

    :param error: The library's error.
    :param url: Where the request went.
    :param settings: The connection.
    :param request_sent: False if the request certainly never reached the server.
    :return: The error; its text holds no API key, no password of a proxy, no query of a signed URL and no control
        characters.
    """
    return SeedanceTransportError(_told(list(_chain(error)), url, settings, request_sent), request_sent=request_sent)


def _told(chain: list[BaseException], url: str, settings: SeedanceSettings, request_sent: bool) -> str:
    """What went wrong, in words of the network and not of a library."""
    where = shown_url(url)
    scheme, _, rest = where.partition("://")
    authority = rest.partition("/")[0]
    is_api = url.startswith(settings.base_url)
    server = settings.base_url if is_api else f"{scheme}://{authority}"
    names = [type(error).__name__ for error in chain]
    said = _words(chain[-1], settings.api_key)
    if any("Proxy" in name for name in names):
        return f"The proxy for {server} cannot be used: {said}. Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    check = ""
    if is_api:
        check = f". Check the network, and 'Base URL' of connection {settings.conn_id!r} (Admin > Connections)"
    if any(isinstance(error, socket.gaierror) or "DNS" in type(error).__name__ for error in chain):
        return f"The host {authority} could not be looked up: {said}{check}"
    match chain[-1]:
        case ConnectionRefusedError():
            return f"Nothing listens at {server}: connection refused{check}"
        case ssl.SSLError():
            return f"The TLS connection to {server} failed: {said}{check}"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return f"The connection to {server} was closed before an answer came"
    if isinstance(chain[-1], TimeoutError) or any("timeout" in name.lower() for name in names):
        return f"The request to {where} timed out" if request_sent else f"The connection to {server} timed out{check}"
    return f"The request to {where} failed: {said}"


def _words(error: BaseException, key: str) -> str:
    """A library's own words, without secrets; its class where it has none."""
    text = str(error)
    if isinstance(error, ssl.SSLError) and error.reason:
        details = (str(error.reason).replace("_", " ").lower(), getattr(error, "verify_message", None))
        text = ": ".join(filter(None, details))
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    text = _QUERY.sub("?***", _USERINFO.sub("***@", _shown(text, key)))[:MAX_REASON]
    return text or type(error).__name__


_USERINFO = re.compile(r"(?<=//).*@")
_QUERY = re.compile(r"\?[^\s'\"<>)]*")


def _shown(text: str, key: str) -> str:
    """A text as people may see it: without the key and without control characters, 1000 characters at most."""
    return clean_text(redact(text.encode("utf-8", "replace"), key).decode("utf-8", "replace"))


def shown_url(url: str) -> str:
    """A URL as people may see it: without credentials, query and control characters."""
    return clean_text(_USERINFO.sub("", url.partition("?")[0]))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps: requests shows one two or three deep, urllib3 one as a mere cause."""
    yield error
    inner = getattr(error, "reason", None)
    if not isinstance(inner, BaseException):
        inner = next((arg for arg in getattr(error, "args", ()) if isinstance(arg, BaseException)), None)
    if inner is None and isinstance(error.__cause__, OSError):
        inner = error.__cause__
    if inner is not None and inner is not error:
        yield from _chain(inner)


def make_reply(
    status: int,
    headers: Headers,
    body: bytes,
    settings: SeedanceSettings,
    *,
    complete: bool,
    former: Reply | None = None,
) -> Reply:
    """Put an answer into the form that flows read, without the API key should the answer repeat it.

    :param status: The HTTP status.
    :param headers: The headers.
    :param body: The body as it arrived.
    :param settings: The connection.
    :param complete: False if the body was cut.
    :param former: An answer that was read with the same settings: given back where this one is the same. Default: none.
    """
    encoded = headers.get("Content-Encoding")
    content_type = headers.get("Content-Type") or ""
    retry_after = headers.get("Retry-After")
    if (
        former is not None
        and body == former.body  # in which no key is left, so there is none in this one
        and status == former.status
        and content_type == former.content_type
        and complete is former.complete
        and not (encoded or retry_after or former.retry_after)
    ):
        return former
    if encoded:
        body = _inflated(body)
    return Reply(
        status=status,
        content_type=content_type if content_type in _USUAL_TYPES else _shown(content_type, settings.api_key),
        body=redact(body, settings.api_key, cut=not complete),
        retry_after=retry_after_seconds(retry_after, time.time()) if retry_after else None,
        complete=complete,
        conn_id=settings.conn_id,
    )


def _inflated(body: bytes) -> bytes:
    """What a gzip or deflate body holds, as far as it arrived and fits; anything else as it is.

    Nothing is asked to be compressed: who says that it is may be wrong, and an id in plain bytes must not be lost.
    """
    try:
        return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(body, defaults.MAX_BODY) or body
    except zlib.error:
        return body


_USUAL_TYPES = frozenset({"", "application/json", "application/json; charset=utf-8"})


def redact(data: bytes, key: str, *, cut: bool = False) -> bytes:
    """Take the API key out, however it is written. Costs about 3 us for a record, at most 0.2 s for 1 MB.

    :param data: The bytes of a text in any encoding.
    :param key: The API key.
    :param cut: Whether the data may end within the key. Default False.
    :return: The bytes with ``***`` in place of each; UTF-16 and UTF-32 become UTF-8 on the way.
    """
    if len(key) < MIN_SECRET:
        return data
    spelled, forms = _patterns(key)
    if b"\0" in data:
        text = data.decode(json.detect_encoding(data), "replace")
        data = text.replace("\0", "").encode("utf-8", "replace")  # no text has one, and people would not see it
    if len(data.translate(None, _ESCAPES)) < len(data):  # many times faster than to search for them
        data = spelled.sub(b"***", data)
    for form in forms:
        if form in data:
            data = data.replace(form, b"***")
    if cut:
        plain = key.encode()
        for length in range(len(plain) - 1, MIN_SECRET - 1, -1):
            if data.endswith(plain[:length]):
                return data[:-length] + b"***"
    return data


_ESCAPES = b"\\%&"


@functools.lru_cache(maxsize=8)
def _patterns(key: str) -> tuple[re.Pattern[bytes], tuple[bytes, ...]]:
    """The key with any of its characters escaped, and the forms that a plain search finds."""
    forms = dict.fromkeys(form for form in _forms(key.encode()) if len(form) >= MIN_SECRET)
    return re.compile(b"".join(map(_spellings, key))), tuple(forms)


def _spellings(char: str) -> bytes:
    """A pattern for a character as it is, or as JSON, a URL or HTML escapes it, up to three times over.

    Each alternative begins with a fixed byte, by which the search skips most of a text; each repeat is bounded, by
    which its time is.
    """
    code, plain = f"{ord(char):02x}", re.escape(char.encode("utf-8", "replace"))
    named = b"".join(re.escape(name.rstrip(";").encode()) + b";?|" for name in _entities().get(char, ()))
    spellings = (
        rb"\\\\{0,3}(?:u00(?i:%(code)s)|x(?i:%(code)s)|%(plain)s)",
        rb"%%(?:25){0,3}(?i:%(code)s)",
        rb"&(?:amp;){0,3}(?:%(named)s#0{0,6}%(number)d;?|#[xX]0{0,6}(?i:%(code)s);?)",
        rb"%(plain)s",  # the last: it may be the first byte of an escape
    )
    values = {b"code": code.encode(), b"plain": plain, b"named": named, b"number": ord(char)}
    return b"(?:" + b"|".join(spelling % values for spelling in spellings) + b")"


@functools.cache
def _entities() -> dict[str, list[str]]:
    """HTML's names for ASCII characters."""
    names: dict[str, list[str]] = {}
    for name, char in html.entities.html5.items():
        if name.endswith(";") and char.isascii():
            names.setdefault(char, []).append(name)
    return names


def _forms(key: bytes) -> Iterator[bytes]:
    yield key
    yield key.hex().encode()
    yield key.hex().upper().encode()
    # A third of base64 each: which, depends on how many bytes come before the key. What mixes with others is left out.
    for before in range(3):
        text = base64.b64encode(bytes(before) + key)[-(-before * 8 // 6) : (before + len(key)) * 8 // 6]
        yield text
        yield text.replace(b"/", rb"\/")
        yield text.translate(bytes.maketrans(b"+/", b"-_"))
