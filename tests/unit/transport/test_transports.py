"""Both transports over real sockets: whatever the network does, both say the same, and the key goes nowhere else."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from seedance_provider import __version__
from seedance_provider.api import calls, flows
from seedance_provider.api.messages import Flow, Reply, Request, Send, Sleep
from seedance_provider.api.records import TaskStatus
from seedance_provider.config import SubmitPolicy
from seedance_provider.connection import SeedanceSettings
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceSubmitUncertainError,
    SeedanceTransportError,
)
from seedance_provider.transport.sync import SyncTransport
from tests.support import wire
from tests.support.wire import Server, answer
from tests.unit.transport.conftest import KEY, Drive, by_requests

LOG = logging.getLogger("tests.transport")
TASK = "task_k3v9q2m8x4b7n1c6z0l5j2h8"
RECORD = json.dumps({"taskId": TASK, "status": "waiting"}, separators=(",", ":")).encode()
CREATED = json.dumps({"taskId": TASK}, separators=(",", ":")).encode()

Settings = Callable[..., SeedanceSettings]
Serve = Callable[..., Server]


def look(task_id: str = TASK) -> Flow[Any]:
    return flows.get(task_id, LOG, jitter=lambda: 0.5, attempts=1)


def submit(submit_policy: str = "vendor") -> Flow[str]:
    call = calls.create_task("seedance-20", {"prompt": "A sunset"})
    return flows.submit(call, SubmitPolicy(submit_policy), LOG, jitter=lambda: 0.5)


def once(method: str = "GET", path: str = "/x", body: bytes | None = None) -> Flow[Reply]:
    """One request and its reply as it is."""
    return (yield Send(Request(method, path, body)))


def failure_of(drive: Drive, flow: Flow[Any], settings: SeedanceSettings, **options: Any) -> SeedanceError:
    """Run a flow that must fail, and see that no trace of its error holds the key."""
    with pytest.raises(SeedanceError) as caught:
        drive(flow, settings, **options)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert settings.api_key not in shown
    return caught.value


class TestRequest:
    def test_of_a_look_is_complete(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(200, RECORD))
        assert drive(look(), settings(server.url)).status is TaskStatus.WAITING
        (request,) = server.requests
        assert (request.method, request.target) == ("GET", f"/api/v1/jobs/recordInfo?taskId={TASK}")
        assert request.header("Authorization") == [f"Bearer {KEY}"]
        assert request.header("User-Agent") == [f"airflow-provider-seedance/{__version__}"]
        assert request.header("Accept") == ["application/json"]
        assert request.header("Host") == [f"127.0.0.1:{server.port}"]
        assert request.body == b""

    def test_of_a_submit_is_complete(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(200, CREATED))
        assert drive(submit(), settings(server.url)) == TASK
        (request,) = server.requests
        assert (request.method, request.target) == ("POST", "/api/v1/jobs/createTask")
        assert request.header("Authorization") == [f"Bearer {KEY}"]
        assert request.header("User-Agent") == [f"airflow-provider-seedance/{__version__}"]
        assert request.header("Content-Type") == ["application/json"]
        assert request.header("Content-Length") == [str(len(request.body))]
        assert request.body == b'{"model":"seedance-20","inputs":{"prompt":"A sunset"}}'

    @pytest.mark.parametrize("path", ["", "/gateway", "/a%20b"], ids=repr)
    def test_goes_below_the_base_url(self, path: str, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(200, RECORD))
        drive(look(), settings(server.url.replace("/api/v1", f"{path}/api/v1")))
        assert server.requests[0].target == f"{path}/api/v1/jobs/recordInfo?taskId={TASK}"

    @pytest.mark.parametrize(
        "task_id", ["a/b", "a b", "a&b=c", "a#b", "100%", "%2F", "..", "ä☃", "a+b", "a'b", "~._-"], ids=ascii
    )
    def test_encodes_odd_ids_alike(self, task_id: str, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(200, RECORD))
        path = calls.get_task(task_id).request.path
        drive(once(path=path), settings(server.url))
        assert server.requests[0].target == "/api/v1" + path

    def test_of_each_look_reuses_the_connection(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(*[answer(200, RECORD)] * 3)

        def looks() -> Flow[None]:
            for _ in range(3):
                yield from look()

        drive(looks(), settings(server.url))
        assert len(server.requests) == 3
        assert server.connections == 1

    def test_of_a_submit_goes_over_a_connection_of_its_own(self, serve: Serve, settings: Settings) -> None:
        """On a kept one, a close by the server at that moment would look like a createTask of unknown fate."""
        server = serve(answer(200, RECORD), answer(200, CREATED), answer(200, RECORD))

        def look_and_submit() -> Flow[str]:
            yield from look()
            task_id = yield from submit()
            yield from look()
            return task_id

        assert by_requests(look_and_submit(), settings(server.url)) == TASK
        assert [request.connection for request in server.requests] == [1, 2, 1]
        assert server.requests[1].header("Connection") == ["close"]

    def test_of_each_resend_goes_over_a_connection_of_its_own(self, serve: Serve, settings: Settings) -> None:
        server = serve(answer(500), answer(500), answer(200, CREATED))
        assert by_requests(submit(), settings(server.url)) == TASK
        assert [request.connection for request in server.requests] == [1, 2, 3]


class TestNoAnswer:
    def test_because_the_connection_is_refused_means_never_sent(self, drive: Drive, settings: Settings) -> None:
        with wire.unused_port() as port:
            error = failure_of(drive, look(), settings(f"http://127.0.0.1:{port}/api/v1"))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False
        assert error.status_code is None
        assert error.seedance_task_id == TASK
        assert f"http://127.0.0.1:{port}/api/v1" in str(error)
        assert "refused" in str(error)
        assert "'Base URL' of connection 'seedance_default'" in str(error)
        assert not re.search(r"\w+Error|0x|Errno", str(error)), "no class and no repr of a library's"

    def test_because_the_name_is_unknown_means_never_sent(self, drive: Drive, settings: Settings) -> None:
        error = failure_of(drive, look(), settings("http://no-such-host.invalid/api/v1"))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False
        assert "no-such-host.invalid" in str(error)
        assert "'Base URL' of connection 'seedance_default'" in str(error)
        assert not re.search(r"\w+Error|0x|Errno", str(error))

    def test_to_the_connect_in_time_means_never_sent(self, drive: Drive, settings: Settings) -> None:
        with wire.never_accepts() as port:
            error = failure_of(drive, look(), settings(f"http://127.0.0.1:{port}/api/v1", connect_timeout=0.2))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False
        assert "timed out" in str(error)

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    def test_because_never_sent_lets_a_submit_try_three_times(
        self, submit_policy: str, drive: Drive, settings: Settings
    ) -> None:
        with wire.unused_port() as port:
            error = failure_of(drive, submit(submit_policy), settings(f"http://127.0.0.1:{port}/api/v1"))
        assert type(error) is SeedanceTransportError

    def test_in_time_means_it_may_have_arrived(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(wire.hang)
        error = failure_of(drive, look(), settings(server.url, read_timeout=0.2))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is True
        assert "timed out" in str(error)
        assert server.url in str(error)

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(wire.reset, id="reset"),
            pytest.param(wire.hang_up, id="closed"),
            pytest.param(wire.cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), id="not-http"),
        ],
    )
    class TestToARequestThatWasRead:
        def test_means_it_may_have_arrived(
            self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings
        ) -> None:
            server = serve(behaviour)
            error = failure_of(drive, look(), settings(server.url))
            assert type(error) is SeedanceTransportError
            assert error.request_sent is True
            assert server.url in str(error)
            assert not re.search(r"Errno|0x", str(error))

        def test_is_sent_again_under_the_vendor_policy(
            self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings
        ) -> None:
            server = serve(behaviour, behaviour, answer(200, CREATED))
            assert drive(submit(), settings(server.url)) == TASK
            assert len(server.requests) == 3

        def test_is_uncertain_under_the_safe_policy(
            self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings
        ) -> None:
            server = serve(behaviour)
            error = failure_of(drive, submit("safe"), settings(server.url))
            assert type(error) is SeedanceSubmitUncertainError
            assert server.connections == 1

    @pytest.mark.parametrize("on_connect", [wire.reset, wire.hang_up], ids=["reset", "closed"])
    def test_because_the_connection_broke_before_the_request_was_read_is_a_transport_error(
        self, on_connect: Any, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        """Whether it was sent depends on who was faster, and only the client's side knows."""
        server = serve(on_connect=on_connect)
        assert type(failure_of(drive, look(), settings(server.url))) is SeedanceTransportError
        assert type(failure_of(drive, submit(), settings(server.url))) is SeedanceTransportError
        assert isinstance(
            failure_of(drive, submit("safe"), settings(server.url)),
            (SeedanceTransportError, SeedanceSubmitUncertainError),
        )
        assert not server.requests


class TestReply:
    def test_comes_with_its_status_type_and_pause(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(503, b"busy", Content_Type="text/plain", Retry_After="7"))
        assert drive(once(), settings(server.url)) == Reply(503, "text/plain", b"busy", 7.0)

    def test_may_be_absent(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        assert drive(once(), settings(server.url)) == Reply(204, "", b"")
        assert drive(once(), settings(server.url)) == Reply(502, "", b"")


class TestKey:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("flow", [look, submit], ids=["look", "submit"])
    def test_does_not_follow_a_redirect(
        self, flow: Any, status: int, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        elsewhere = serve(answer(200, RECORD))
        server = serve(answer(status, b"", Location=elsewhere.url + "/jobs/recordInfo"))
        error = failure_of(drive, flow(), settings(server.url))
        assert type(error) is SeedanceInvalidRequestError
        assert error.status_code == status
        assert elsewhere.connections == 0
        assert len(server.requests) == 1

    @pytest.mark.parametrize("where", ["NETRC", "HOME"])
    def test_is_not_displaced_by_a_netrc(
        self,
        where: str,
        drive: Drive,
        serve: Serve,
        settings: Settings,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        file = tmp_path / ".netrc"
        file.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
        file.chmod(0o600)
        monkeypatch.setenv(where, str(file if where == "NETRC" else tmp_path))
        server = serve(answer(200, RECORD), answer(200, CREATED))
        drive(look(), settings(server.url))
        drive(submit(), settings(server.url))
        assert [request.header("Authorization") for request in server.requests] == [[f"Bearer {KEY}"]] * 2

    def test_that_was_rotated_is_picked_up_once(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(401, b'{"message":"API Key has expired"}'), answer(200, RECORD))
        drive(look(), settings(server.url), settings(server.url, api_key="zimg_another-one"))
        assert [request.header("Authorization") for request in server.requests] == [
            [f"Bearer {KEY}"],
            ["Bearer zimg_another-one"],
        ]

    def test_that_was_rotated_together_with_the_host_goes_to_the_new_host(
        self, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        old, new = serve(answer(401)), serve(answer(200, RECORD))
        drive(look(), settings(old.url), settings(new.url, api_key="zimg_another-one"))
        assert len(old.requests) == len(new.requests) == 1
        assert old.requests[0].header("Authorization") != new.requests[0].header("Authorization")

    def test_that_stays_refused_ends_the_look(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(401, b'{"message":"Invalid API Key"}'))
        assert type(failure_of(drive, look(), settings(server.url))) is SeedanceAuthenticationError
        assert len(server.requests) == 1

    def test_whose_successor_is_refused_too_ends_the_look(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(401), answer(401))
        error = failure_of(
            drive, look(), settings(server.url), renewed=settings(server.url, api_key="zimg_another-one")
        )
        assert type(error) is SeedanceAuthenticationError
        assert len(server.requests) == 2


class TestProxy:
    """An http proxy gets the whole URL; that is how its requests are told from direct ones."""

    ELSEWHERE = "http://seedance.invalid/api/v1"

    @pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
    @pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/", "127.0.0.1:{}"])
    def test_of_the_environment_is_used(
        self,
        name: str,
        form: str,
        drive: Drive,
        serve: Serve,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if name == "HTTP_PROXY":
            monkeypatch.delenv("REQUEST_METHOD", raising=False)
        proxy = serve(answer(200, RECORD), answer(200, CREATED))
        monkeypatch.setenv(name, form.format(proxy.port))
        assert drive(look(), settings(self.ELSEWHERE)).seedance_task_id == TASK
        assert drive(submit(), settings(self.ELSEWHERE)) == TASK
        assert [request.target for request in proxy.requests] == [
            f"{self.ELSEWHERE}/jobs/recordInfo?taskId={TASK}",
            f"{self.ELSEWHERE}/jobs/createTask",
        ]
        assert proxy.requests[0].header("Host") == ["seedance.invalid"]
        assert proxy.requests[0].header("Authorization") == [f"Bearer {KEY}"]

    def test_for_https_is_not_used_for_http(
        self, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy, server = serve(), serve(answer(200, RECORD))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        drive(look(), settings(server.url))
        assert (proxy.connections, server.requests[0].target) == (0, f"/api/v1/jobs/recordInfo?taskId={TASK}")

    @pytest.mark.parametrize(
        ("no_proxy", "direct"),
        [
            ("127.0.0.1", True),
            ("example.com, 127.0.0.1", True),
            ("127.0.0.0/8", True),
            ("*", True),
            ("example.com", False),
            ("10.0.0.0/8", False),
            ("", False),
        ],
        ids=repr,
    )
    def test_is_bypassed_as_no_proxy_says(
        self,
        no_proxy: str,
        direct: bool,
        drive: Drive,
        serve: Serve,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        proxy, server = serve(answer(200, RECORD)), serve(answer(200, RECORD))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", no_proxy)
        drive(look(), settings(server.url))
        assert (len(proxy.requests), len(server.requests)) == ((0, 1) if direct else (1, 0))

    @pytest.mark.parametrize("name", ["seedance.localhost", "localhost"])
    def test_is_bypassed_for_a_name_and_its_port(
        self, name: str, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy, server = serve(answer(200, RECORD)), serve(answer(200, RECORD))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", f"localhost:{server.port}")
        with contextlib.suppress(SeedanceTransportError):  # not every resolver knows subdomains of localhost
            drive(look(), settings(f"http://{name}:{server.port}/api/v1"))
        assert not proxy.requests

    def test_that_is_down_means_never_sent(
        self, drive: Drive, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with wire.unused_port() as port:
            monkeypatch.setenv("http_proxy", f"http://somebody:pr0xy-secret@127.0.0.1:{port}")
            error = failure_of(drive, look(), settings(self.ELSEWHERE))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False
        assert "pr0xy-secret" not in "".join(traceback.format_exception(error))

    def test_that_breaks_off_after_the_request_leaves_its_fate_unknown(
        self, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(wire.reset)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        error = failure_of(drive, submit("safe"), settings(self.ELSEWHERE))
        assert type(error) is SeedanceSubmitUncertainError
        assert len(proxy.requests) == 1

    def test_gets_its_own_credentials_and_the_api_gets_the_key(
        self, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(answer(200, RECORD))
        monkeypatch.setenv("http_proxy", f"http://somebody:pw@127.0.0.1:{proxy.port}")
        drive(look(), settings(self.ELSEWHERE))
        (request,) = proxy.requests
        assert request.header("Proxy-Authorization") == ["Basic " + base64.b64encode(b"somebody:pw").decode()]
        assert request.header("Authorization") == [f"Bearer {KEY}"]

    @pytest.mark.parametrize("status", [403, 407, 502])
    def test_that_refuses_a_tunnel_means_never_sent(
        self, status: int, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(answer(status, b"no"))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        error = failure_of(drive, look(), settings("https://seedance.invalid/api/v1"))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False
        (request,) = proxy.requests
        assert (request.method, request.target) == ("CONNECT", "seedance.invalid:443")
        assert request.header("Authorization") == [], "the proxy does not get the key"

    @pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://[::1", "http://127.0.0.1:99999"])
    def test_that_cannot_be_used_is_an_error_of_ours(
        self, proxy: str, drive: Drive, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", proxy)
        error = failure_of(drive, look(), settings(self.ELSEWHERE))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False


def test_an_address_that_no_library_takes_is_an_error_of_ours(drive: Drive, settings: Settings) -> None:
    error = failure_of(drive, look(), settings("http://127.0.0.1:99999/api/v1"))
    assert type(error) is SeedanceTransportError
    assert error.request_sent is False


def test_a_flow_is_closed_when_the_transport_is_done_with_it(drive: Drive, settings: Settings) -> None:
    closed = []

    def flow() -> Flow[None]:
        try:
            yield RenewBroken()  # type: ignore[misc]
        finally:
            closed.append(True)

    class RenewBroken:
        pass

    with pytest.raises((TypeError, AttributeError)):
        drive(flow(), settings("http://127.0.0.1:1/api/v1"))
    assert closed == [True]


def test_a_pause_is_taken_as_the_caller_says(serve: Serve, settings: Settings) -> None:
    slept: list[float] = []
    transport = SyncTransport(settings("http://127.0.0.1:1/api/v1"), Mock(), sleep=slept.append)

    def flow() -> Flow[None]:
        yield Sleep(600)

    transport.drive(flow())
    assert slept == [600]


def test_a_broken_lookup_of_the_connection_is_not_swallowed(serve: Serve, settings: Settings) -> None:
    server = serve(answer(401))
    with pytest.raises(LookupError):
        SyncTransport(settings(server.url), Mock(side_effect=LookupError("no such connection"))).drive(look())
