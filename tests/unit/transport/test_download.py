"""A file is fetched whole or not at all, without credentials, and from nowhere that the vendor should not know."""

from __future__ import annotations

import base64
import ipaddress
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import connection

from seedance_provider import defaults
from seedance_provider.connection import SeedanceSettings
from seedance_provider.exceptions import SeedanceTransferError
from seedance_provider.transport import download
from seedance_provider.transport.download import downloading, is_public
from tests.support.wire import Connection, Server, answer, cut, drip, flood, hang, hang_up, never_accepts, reset

Settings = Callable[..., SeedanceSettings]
Serve = Callable[..., Server]

BODY = b"\0\0\0\x18ftypmp42" + b"moving pictures" * 1000
MEDIA = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
NOT_PUBLIC = [
    "fec0::1",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "192.0.2.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
]
STATUSES = [
    (204, False, False),
    (206, False, False),
    (304, False, False),
    (400, False, False),
    (401, True, True),
    (403, True, True),
    (404, True, True),
    (410, True, True),
    (408, True, False),
    (429, True, False),
    (500, True, False),
    (503, True, False),
]
VENDOR = "https://seedance2-pro.com/api/v1"


def fetch(url: str, settings: SeedanceSettings) -> bytes:
    received = b""
    buffer = bytearray(4096)
    with downloading(url, settings) as incoming:
        while count := incoming.readinto(buffer):
            received += buffer[:count]
    return received


def refusal(url: str, settings: SeedanceSettings) -> SeedanceTransferError:
    with pytest.raises(SeedanceTransferError) as raised:
        fetch(url, settings)
    error = raised.value
    assert error.__cause__ is None or "Signature" not in str(error.__cause__)
    assert "Signature" not in str(error)
    assert error.url is not None
    assert "?" not in error.url
    assert error.charged == "yes"
    assert error.retryable
    return error


def at(server: Server, path: str = "/clip.mp4?X-Amz-Signature=abc") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def redirect(location: str, status: int = 302) -> bytes:
    return answer(status, b"elsewhere", Location=location)


# What goes out.


def test_a_download_carries_no_credentials(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    server = serve(answer(200, BODY, Content_Type="video/mp4"))
    assert fetch(at(server), settings(server.url)) == BODY
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/clip.mp4?X-Amz-Signature=abc")
    assert not request.header("Authorization") + request.header("Cookie")
    assert request.header("User-Agent")[0].startswith("airflow-provider-seedance/")
    assert request.header("Accept-Encoding") == ["identity"]


def test_a_url_with_credentials_in_it_is_not_followed(settings: Settings, serve: Serve) -> None:
    server = serve()
    error = refusal(at(server).replace("//", "//seedance2-pro.com:443@"), settings(server.url))
    assert (error.transient, server.connections) == (False, 0)
    assert "443@" not in str(error)


@pytest.mark.parametrize(
    "url", ["ftp://host/clip.mp4", "file:///etc/passwd", "http://", "clip.mp4", "https://a b/c", ""]
)
def test_what_is_no_http_url_is_refused(settings: Settings, url: str) -> None:
    assert not refusal(url, settings(VENDOR)).transient


def test_a_proxy_of_the_environment_is_used(settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(answer(200, BODY, Content_Type="video/mp4"))
    monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
    assert fetch("http://cdn.example/clip.mp4", settings(VENDOR)) == BODY
    assert proxy.requests[0].target == "http://cdn.example/clip.mp4"
    assert proxy.requests[0].header("Proxy-Authorization") == [f"Basic {base64.b64encode(b'me:pass').decode()}"]
    assert not proxy.requests[0].header("Authorization")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "169.254.169.254", "[::1]", "10.0.0.1", "x.localhost"]
)
def test_a_proxy_is_not_asked_for_an_address_that_is_not_public(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    proxy = serve()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "none.example")
    assert not refusal(f"http://{host}/clip.mp4", settings("https://198.51.100.7/api/v1")).transient
    assert not proxy.connections


def test_an_unusable_proxy_is_named_without_its_password(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:pass@[::")
    assert "pass@" not in str(refusal("http://cdn.example/clip.mp4", settings(VENDOR)))


# Where it leads.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(settings: Settings, serve: Serve, status: int) -> None:
    there = serve(answer(200, BODY, Content_Type="video/mp4"))
    here = serve(redirect("/further?a=b", status), redirect(at(there), status))
    assert fetch(at(here), settings(here.url)) == BODY
    assert [request.target for request in here.requests] == ["/clip.mp4?X-Amz-Signature=abc", "/further?a=b"]


def test_redirects_without_end_are_given_up(settings: Settings, serve: Serve) -> None:
    server = serve(*[redirect("/again")] * 20)
    assert not refusal(at(server), settings(server.url)).transient
    assert len(server.requests) == defaults.MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "http://[", "http://a b", "data:,x"])
def test_a_redirect_to_what_is_no_http_url_is_refused(settings: Settings, serve: Serve, location: str) -> None:
    server = serve(redirect(location))
    assert not refusal(at(server), settings(server.url)).transient


def test_the_body_of_a_redirect_is_not_read(settings: Settings, serve: Serve) -> None:
    there = serve(answer(200, BODY, Content_Type="video/mp4"))
    head = f"HTTP/1.1 302 Found\r\nLocation: {at(there)}\r\n\r\n".encode()
    here = serve(flood(b"x", after=head))
    assert fetch(at(here), settings(here.url)) == BODY


def test_only_the_connections_own_host_may_be_on_this_machine(settings: Settings, serve: Serve) -> None:
    server = serve(answer(200, BODY, Content_Type="video/mp4"))
    error = refusal(at(server), settings("https://198.51.100.7/api/v1"))
    assert "127.0.0.1" in str(error)
    assert not error.transient
    assert not server.requests, "nothing may be sent to it"
    assert fetch(at(server), settings("http://localhost/api/v1")) == BODY


def test_a_redirect_into_the_own_network_is_refused(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = serve(answer(200, BODY, Content_Type="video/mp4"))
    outside = serve(redirect(at(inside)))
    real = download.is_public
    # Stands for a server on the internet: no other address than this machine's can be reached here.
    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.2" or real(address))
    monkeypatch.setattr(connection, "create_connection", _as_seen_from("127.0.0.2", outside.port))
    assert not refusal(at(outside), settings("https://198.51.100.7/api/v1")).transient
    assert len(outside.requests) == 1
    assert not inside.requests


def _as_seen_from(address: str, port: int) -> Any:
    connect = connection.create_connection

    class Elsewhere(socket.socket):
        def getpeername(self) -> Any:
            return (address, port)

    def create(target: Any, *args: Any, **options: Any) -> socket.socket:
        made: socket.socket = connect(target, *args, **options)
        if target[1] != port:
            return made
        return Elsewhere(made.family, made.type, made.proto, made.detach())

    return create


def test_a_name_that_leads_to_another_address_than_before_does_not_help(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answer(200, BODY, Content_Type="video/mp4"))
    real, answers = socket.getaddrinfo, iter(["198.51.100.7", "127.0.0.1"])

    def rebinding(host: Any, *args: Any, **options: Any) -> Any:
        return real(next(answers) if host == "cdn.example" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    socket.getaddrinfo("cdn.example", 80)  # whoever looks first sees a public address
    url = f"http://cdn.example:{server.port}/clip.mp4"
    assert "127.0.0.1" in str(refusal(url, settings("https://198.51.100.7/api/v1")))
    assert not server.requests


@pytest.mark.parametrize(
    "address",
    NOT_PUBLIC,
)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_a_public_address(address: str) -> None:
    assert is_public(address)


@given(st.one_of(st.ip_addresses(v=4, network="10.0.0.0/8"), st.ip_addresses(v=4, network="169.254.0.0/16")))
def test_an_address_of_the_own_network_is_none_in_whatever_form(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = (
        str(address),
        f"::ffff:{address}",
        str(ipaddress.IPv6Address((0x64FF9B << 96) + number)),
        str(ipaddress.IPv6Address((0x2002 << 112) + (number << 80))),
        f"::{address}",
        f"::ffff:0:{address}",
        f"64:ff9b:1::{address}",
    )
    assert not any(map(is_public, forms))


# What comes back.


@pytest.mark.parametrize(
    ("status", "transient", "denial"),
    STATUSES,
)
def test_any_status_but_200_is_refused(
    settings: Settings, serve: Serve, status: int, transient: bool, denial: bool
) -> None:
    server = serve(answer(status, b"" if status in (204, 304) else b"<Error/>", Content_Type="application/xml"))
    error = refusal(at(server), settings(server.url))
    assert (error.status_code, error.transient, error.denial) == (status, transient, denial)


def test_a_page_of_the_edge_is_no_word_on_the_link(settings: Settings, serve: Serve) -> None:
    server = serve(answer(403, b"<html>", Content_Type="text/html; charset=UTF-8"))
    error = refusal(at(server), settings(server.url))
    assert (error.status_code, error.transient, error.denial) == (403, True, False)


@pytest.mark.parametrize(
    "behaviour",
    [
        cut(MEDIA + b"Content-Length: 20000\r\n\r\n" + BODY),
        cut(MEDIA + b"Content-Length: 20000\r\n\r\n" + BODY, reset),
        cut(MEDIA + b"Content-Length: 20000\r\n\r\n"),
        cut(MEDIA + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + BODY),
        cut(MEDIA + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n"),
        cut(MEDIA + b"Transfer-Encoding: chunked\r\n\r\nnot a number\r\n" + BODY),
        cut(MEDIA + b"Content-Length: 15012\r\nContent-Length: 20000\r\n\r\n" + BODY),
        cut(MEDIA + b"Content-Le"),
    ],
    ids=["short", "reset", "no body", "chunk", "no last chunk", "no chunk", "two lengths", "headers"],
)
def test_a_part_is_not_taken_for_the_whole(settings: Settings, serve: Serve, behaviour: Any) -> None:
    server = serve(behaviour)
    assert refusal(at(server), settings(server.url)).transient


def test_an_answer_without_a_length_is_refused(settings: Settings, serve: Serve) -> None:
    server = serve(cut(MEDIA + b"\r\n" + BODY))
    assert "length" in str(refusal(at(server), settings(server.url)))


@pytest.mark.parametrize("behaviour", [reset, hang_up, cut(b"HTTP/9.9 what\r\n\r\n"), cut(b"SSH-2.0-OpenSSH\r\n")])
def test_no_answer_is_transient(settings: Settings, serve: Serve, behaviour: Any) -> None:
    server = serve(behaviour)
    assert refusal(at(server), settings(server.url)).transient


def test_a_chunked_file_is_read_to_its_end(settings: Settings, serve: Serve) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:100], BODY[100:], b""))
    server = serve(MEDIA + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert fetch(at(server), settings(server.url)) == BODY


def test_an_announced_size_above_the_limit_is_refused_unread(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "MAX_OUTPUT_BYTES", 10_000)
    server = serve(flood(b"x", after=MEDIA + b"Content-Length: 10001\r\n\r\n"))
    assert not refusal(at(server), settings(server.url)).transient


def test_a_file_without_end_is_given_up(settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "MAX_OUTPUT_BYTES", 1_000_000)
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    server = serve(flood(chunk, after=MEDIA + b"Transfer-Encoding: chunked\r\n\r\n"))
    assert not refusal(at(server), settings(server.url)).transient


# How long it may take.


@pytest.mark.parametrize(
    "behaviour",
    [
        hang,
        cut(MEDIA + b"Content-Length: 20000\r\n\r\n" + BODY, hang),
        drip(b"x", after=MEDIA + b"Content-Length: 20000\r\n\r\n"),
        drip(b"X-A: b\r\n", after=MEDIA),
    ],
    ids=["nothing", "standstill", "body drips", "headers drip"],
)
def test_a_server_that_is_too_slow_is_given_up(settings: Settings, serve: Serve, behaviour: Any) -> None:
    server = serve(behaviour)
    began = time.monotonic()
    assert refusal(at(server), settings(server.url, connect_timeout=0.5, read_timeout=0.5)).transient
    assert time.monotonic() - began < 5


def test_a_file_that_keeps_coming_may_take_longer_than_the_timeouts(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "DOWNLOAD_BYTES_PER_SECOND", 10_000)
    size = 30 * 1000

    def steadily(connection: Connection) -> None:
        connection.send(MEDIA + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(30):
            connection.send(b"x" * 1000)
            time.sleep(0.05)

    server = serve(steadily)
    assert len(fetch(at(server), settings(server.url, connect_timeout=0.3, read_timeout=0.4))) == size


def test_time_spent_on_writing_does_not_count(settings: Settings, serve: Serve) -> None:
    server = serve(answer(200, BODY, Content_Type="video/mp4"))
    buffer, received = bytearray(4096), 0
    with downloading(at(server), settings(server.url, connect_timeout=0.1, read_timeout=0.1)) as incoming:
        while count := incoming.readinto(buffer):
            received += count
            time.sleep(0.15)
    assert received == len(BODY)


def test_a_connect_without_an_answer_is_given_up(settings: Settings) -> None:
    with never_accepts() as port:
        url = f"http://127.0.0.1:{port}/clip.mp4"
        assert refusal(
            url, settings(f"http://127.0.0.1:{port}/api/v1", connect_timeout=0.3, read_timeout=0.3)
        ).transient


def test_the_connection_is_closed_however_it_ends(settings: Settings, serve: Serve) -> None:
    closed: list[bool] = []

    def watch(connection: Connection) -> None:
        connection.send(MEDIA + b"Content-Length: 100000000\r\n\r\n" + BODY)
        connection.socket.settimeout(5)
        try:
            closed.append(connection.socket.recv(1) == b"")
        except ConnectionResetError:
            closed.append(True)

    server = serve(watch)
    with pytest.raises(KeyError), downloading(at(server), settings(server.url)) as incoming:  # noqa: PT012
        incoming.readinto(bytearray(100))
        raise KeyError
    for _ in range(100):
        if closed:
            break
        time.sleep(0.05)
    assert closed == [True]
