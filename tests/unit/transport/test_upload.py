"""The signed PUT of a file: on a worker, without the API key, and with nothing shown of its signature."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from seedance_provider.api import calls, flows
from seedance_provider.api.messages import Flow, Put, UploadTicket
from seedance_provider.exceptions import SeedanceError, SeedanceServerError, SeedanceTransportError
from seedance_provider.hooks.media import MediaFile
from tests.support import wire
from tests.support.wire import answer
from tests.unit.transport.conftest import by_aiohttp, by_requests

LOG = logging.getLogger("tests.upload")
SIGNATURE = "X-Sig=s1gnature"


@pytest.fixture
def media(tmp_path: Path) -> MediaFile:
    file = tmp_path / "cat.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(199_996))
    return MediaFile(file)


def put(port: int, media: MediaFile, scheme: str = "http") -> Any:
    ticket = UploadTicket(
        f"{scheme}://127.0.0.1:{port}/bucket/cat.png?{SIGNATURE}", "image/png", "https://a.example/cat.png"
    )

    def flow() -> Flow[Any]:
        return (yield Put(ticket, media))

    return flow()


def test_sends_the_whole_file_and_no_key(
    serve: Any, settings: Any, media: MediaFile, tmp_path: Path, monkeypatch: Any
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    store = serve(answer(200, b""))
    assert by_requests(put(store.port, media), settings("http://127.0.0.1:1/api/v1")).status == 200
    (request,) = store.requests
    assert (request.method, request.target) == ("PUT", f"/bucket/cat.png?{SIGNATURE}")
    assert request.header("Authorization") == []
    assert request.header("Content-Type") == ["image/png"]
    assert request.header("Content-Length") == ["200004"]
    assert request.header("Transfer-Encoding") == []
    assert request.body == Path(media.path).read_bytes()


@pytest.mark.parametrize("behaviour", ["refused", "reset", "timeout"])
def test_shows_no_signature_when_it_fails(behaviour: str, serve: Any, settings: Any, media: MediaFile) -> None:
    server = serve(wire.hang if behaviour == "timeout" else wire.reset)
    with wire.unused_port() as closed:
        port = closed if behaviour == "refused" else server.port
        with pytest.raises(SeedanceTransportError) as caught:
            by_requests(put(port, media), settings("http://127.0.0.1:1/api/v1", read_timeout=0.2))
    shown = "".join(traceback.format_exception(caught.value))
    assert SIGNATURE not in shown
    assert f"127.0.0.1:{port}" in str(caught.value)


def test_goes_over_http_only_if_the_api_does(settings: Any, media: MediaFile) -> None:
    with pytest.raises(SeedanceServerError, match="unencrypted"):
        by_requests(put(1, media), settings("https://a.invalid/api/v1"))


def test_is_done_again_with_a_new_ticket_after_a_failure(serve: Any, settings: Any, media: MediaFile) -> None:
    store = serve(wire.reset, answer(503, b"SlowDown"), answer(200, b""))
    ticket = b'{"uploadUrl":"http://127.0.0.1:%d/bucket/cat.png?%s","url":"https://a.example/cat.png"}' % (
        store.port,
        SIGNATURE.encode(),
    )
    api = serve(*[answer(200, ticket)] * 3)
    call = calls.request_upload(media.name, media.content_type)
    url = by_requests(flows.upload(call, media, LOG, jitter=lambda: 0.5), settings(api.url))
    assert url == "https://a.example/cat.png"
    assert [len(request.body) for request in store.requests] == [200_004] * 3
    assert [request.body for request in api.requests] == [b'{"fileName":"cat.png","contentType":"image/png"}'] * 3


@pytest.mark.parametrize("status", [400, 404])
def test_is_not_done_again_when_it_is_refused(status: int, serve: Any, settings: Any, media: MediaFile) -> None:
    store = serve(answer(status, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", Content_Type="application/xml"))
    ticket = b'{"uploadUrl":"http://127.0.0.1:%d/x?s","url":"https://a.example/cat.png"}' % store.port
    api = serve(*[answer(200, ticket)] * 3)
    call = calls.request_upload(media.name, media.content_type)
    with pytest.raises(SeedanceError) as caught:
        by_requests(flows.upload(call, media, LOG, jitter=lambda: 0.5), settings(api.url))
    assert caught.value.status_code == status


def test_is_not_for_the_triggerer(settings: Any, media: MediaFile) -> None:
    with pytest.raises(TypeError):
        by_aiohttp(put(1, media), settings("http://127.0.0.1:1/api/v1"))
