"""Whom the transports trust: the public authorities, or the bundle that requests is told of; both alike."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from seedance_provider.api import calls, flows
from seedance_provider.api.messages import Flow  # noqa: TC001
from seedance_provider.config import SubmitPolicy
from seedance_provider.exceptions import SeedanceTransportError
from tests.support import wire
from tests.support.certificates import make_certificate, speaking_tls
from tests.support.wire import answer

LOG = logging.getLogger("tests.tls")
RECORD = b'{"taskId":"task_a","status":"waiting"}'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(
        tmp_path_factory.mktemp("tls"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")
    )


@pytest.fixture(scope="module")
def certificate_for_another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("other"), x509.DNSName("another.example"))


def look() -> Flow[Any]:
    return flows.get("task_a", LOG, jitter=lambda: 0.5, attempts=1)


def test_a_self_signed_certificate_is_refused_before_anything_is_sent(
    drive: Callable[..., Any], serve: Any, settings: Any, certificate: Path
) -> None:
    server = serve(answer(200, RECORD), tls=speaking_tls(certificate))
    with pytest.raises(SeedanceTransportError, match="certificate verify failed") as caught:
        drive(look(), settings(server.url))
    assert caught.value.request_sent is False
    assert not server.requests


def test_a_refused_certificate_never_makes_a_submit_uncertain(
    drive: Callable[..., Any], serve: Any, settings: Any, certificate: Path
) -> None:
    server = serve(tls=speaking_tls(certificate))
    call = calls.create_task("seedance-20", {"prompt": "x"})
    with pytest.raises(SeedanceTransportError):
        drive(flows.submit(call, SubmitPolicy.SAFE, LOG, jitter=lambda: 0.5), settings(server.url))
    assert server.connections == 3
    assert not server.requests


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_of_the_bundle_is_accepted(
    name: str,
    host: str,
    drive: Callable[..., Any],
    serve: Any,
    settings: Any,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, str(certificate))
    server = serve(answer(200, RECORD), tls=speaking_tls(certificate))
    assert drive(look(), settings(server.url.replace("127.0.0.1", host))).seedance_task_id == "task_a"


def test_the_bundle_may_be_a_directory(
    drive: Callable[..., Any],
    serve: Any,
    settings: Any,
    certificate: Path,
    certificate_for_another: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenSSL finds a certificate there by a hash of its subject, so only that the directory is taken is tested."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    server = serve(answer(200, RECORD), tls=speaking_tls(certificate))
    with pytest.raises(SeedanceTransportError, match="certificate verify failed"):
        drive(look(), settings(server.url))


def test_a_certificate_for_another_host_is_refused(
    drive: Callable[..., Any],
    serve: Any,
    settings: Any,
    certificate_for_another: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate_for_another))
    server = serve(answer(200, RECORD), tls=speaking_tls(certificate_for_another))
    with pytest.raises(SeedanceTransportError) as caught:
        drive(look(), settings(server.url))
    assert caught.value.request_sent is False
    assert not server.requests


def test_a_bundle_that_is_not_there_is_an_error_of_ours_that_names_it(
    drive: Callable[..., Any], settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(SeedanceTransportError) as caught:
        drive(look(), settings("https://127.0.0.1:1/api/v1"))
    assert caught.value.request_sent is False


def test_a_server_that_speaks_no_tls_is_an_error_of_ours(drive: Callable[..., Any], serve: Any, settings: Any) -> None:
    server = serve(on_connect=wire.cut(answer(400, b"plain HTTP was expected", Connection="close")))
    with pytest.raises(SeedanceTransportError, match=r"TLS.*wrong version number"):
        drive(look(), settings(server.url.replace("http://", "https://")))
