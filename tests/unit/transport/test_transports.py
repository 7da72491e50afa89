"""Both transports over real sockets: whatever the network does, both say the same, and the key goes nowhere else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import logging
import socket
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from packaging.version import Version

from seedance_provider import __version__
from seedance_provider.api import calls, flows
from seedance_provider.api.calls import Reply, Request
from seedance_provider.api.flows import Flow, Send
from seedance_provider.api.models import TaskStatus
from seedance_provider.api.policy import SubmitPolicy
from seedance_provider.connection import SeedanceSettings
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTransportError,
)
from seedance_provider.transport import MAX_BODY, aio, slow_turn
from seedance_provider.transport.pace import Pace
from seedance_provider.transport.sync import SyncTransport
from tests.unit.transport import wire
from tests.unit.transport.conftest import Drive, by_requests
from tests.unit.transport.wire import Server, answer

LOG = logging.getLogger("tests.transport")
TASK = "task_k3v9q2m8x4b7n1c6z0l5j2h8"
RECORD = json.dumps({"taskId": TASK, "status": "waiting"}, separators=(",", ":")).encode()
CREATED = json.dumps({"taskId": TASK}, separators=(",", ":")).encode()

Settings = Callable[..., SeedanceSettings]
Serve = Callable[..., Server]


def look() -> Flow[Any]:
    return flows.get(TASK, LOG, attempts=1)


def submit(submit_policy: str = "vendor") -> Flow[str]:
    return flows.submit(calls.create_task("seedance-20", {"prompt": "A sunset"}), SubmitPolicy(submit_policy), LOG)


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


@contextlib.contextmanager
def never_accepts() -> Iterator[int]:
    """A port whose queue of connections is full: a connect gets no answer."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            client = waiting.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(address)
            except TimeoutError:
                break
        yield address[1]


class TestRequest:
    def test_of_a_look_is_complete(self, drive: Drive, serve: Serve, settings: Settings, key: str) -> None:
        server = serve(answer(200, RECORD))
        assert drive(look(), settings(server.url)).status is TaskStatus.WAITING
        (request,) = server.requests
        assert (request.method, request.target) == ("GET", f"/api/v1/jobs/recordInfo?taskId={TASK}")
        assert request.header("Authorization") == [f"Bearer {key}"]
        assert request.header("User-Agent") == [f"airflow-provider-seedance/{__version__}"]
        assert request.header("Accept") == ["application/json"]
        assert request.header("Host") == [f"127.0.0.1:{server.port}"]
        assert request.body == b""

    def test_of_a_submit_is_complete(self, drive: Drive, serve: Serve, settings: Settings, key: str) -> None:
        server = serve(answer(200, CREATED))
        assert drive(submit(), settings(server.url)) == TASK
        (request,) = server.requests
        assert (request.method, request.target) == ("POST", "/api/v1/jobs/createTask")
        assert request.header("Authorization") == [f"Bearer {key}"]
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
        drive(flows.get(task_id, LOG, attempts=1), settings(server.url))
        assert server.requests[0].target == "/api/v1" + calls.get_task(task_id).request.path

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
        assert "failed" in str(error)

    def test_because_the_name_is_unknown_means_never_sent(self, drive: Drive, settings: Settings) -> None:
        error = failure_of(drive, look(), settings("http://no-such-host.invalid/api/v1"))
        assert type(error) is SeedanceTransportError
        assert error.request_sent is False
        assert "no-such-host.invalid" in str(error)

    def test_to_the_connect_in_time_means_never_sent(self, drive: Drive, settings: Settings) -> None:
        with never_accepts() as port:
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
            error = failure_of(drive, look(), settings(serve(behaviour).url))
            assert type(error) is SeedanceTransportError
            assert error.request_sent is True
            assert "failed" in str(error)

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


CUT = [
    pytest.param(
        wire.cut(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + RECORD[:20]),
        id="closed",
    ),
    pytest.param(
        wire.cut(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + RECORD[:20],
            wire.reset,
        ),
        id="reset",
    ),
    pytest.param(
        wire.cut(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n"),
        id="nothing-of-it",
    ),
    pytest.param(
        wire.cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + RECORD[:16]), id="in-a-chunk"
    ),
    pytest.param(
        wire.cut(
            b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n" + RECORD[:20],
            wire.hang,
        ),
        id="stalled",
    ),
    pytest.param(answer(200, gzip.compress(RECORD)[:-12], Content_Encoding="gzip", Connection="close"), id="in-gzip"),
    pytest.param(answer(200, b"this is not gzip at all", Content_Encoding="gzip", Connection="close"), id="not-gzip"),
]


class TestBody:
    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize("behaviour", CUT)
    def test_of_a_created_task_cut_short_is_uncertain_and_never_sent_again(
        self, behaviour: Any, submit_policy: str, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        """It was answered 200: a video was bought, and sending again would buy another."""
        server = serve(behaviour, answer(200, CREATED))
        error = failure_of(drive, submit(submit_policy), settings(server.url, read_timeout=0.5))
        assert type(error) is SeedanceSubmitUncertainError
        assert error.status_code == 200
        assert len(server.requests) == 1

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Type: appl", id="in-the-headers"),
            pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="by-a-broken-chunk"),
        ],
    )
    def test_of_a_created_task_whose_status_was_read_is_uncertain_on_a_worker(
        self, sent: bytes, submit_policy: str, serve: Serve, settings: Settings
    ) -> None:
        """aiohttp does not tell the status then; but only a worker submits."""
        server = serve(wire.cut(sent), answer(200, CREATED))
        error = failure_of(by_requests, submit(submit_policy), settings(server.url))
        assert type(error) is SeedanceSubmitUncertainError
        assert len(server.requests) == 1

    @pytest.mark.parametrize("behaviour", CUT)
    def test_of_a_look_cut_short_is_looked_for_again(
        self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        server = serve(behaviour, answer(200, RECORD))
        record = drive(flows.get(TASK, LOG), settings(server.url, read_timeout=0.5))
        assert record.status is TaskStatus.WAITING
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        ("body", "encoding"),
        [(gzip.compress(RECORD), "gzip"), (zlib.compress(RECORD), "deflate")],
        ids=["gzip", "deflate"],
    )
    def test_may_be_compressed(
        self, body: bytes, encoding: str, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        server = serve(answer(200, body, Content_Encoding=encoding))
        assert drive(look(), settings(server.url)).seedance_task_id == TASK

    def test_may_be_of_any_type(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(200, RECORD, Content_Type="text/plain; charset=latin-1"))
        assert drive(look(), settings(server.url)).seedance_task_id == TASK

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(answer(200, b" " * (3 * MAX_BODY) + RECORD, Connection="close"), id="3-MB"),
            pytest.param(
                answer(200, gzip.compress(b" " * (64 * MAX_BODY)), Content_Encoding="gzip", Connection="close"),
                id="64-MB-compressed",
            ),
            pytest.param(wire.endless, id="endless"),
        ],
    )
    def test_is_bounded(
        self, behaviour: Any, drive: Drive, serve: Serve, settings: Settings, request: pytest.FixtureRequest
    ) -> None:
        if "aiohttp-64-MB" in request.node.name and Version(aiohttp.__version__) < Version("3.13.3"):
            pytest.skip("an older aiohttp inflates a compressed answer whole; we ask for uncompressed ones")
        reply = drive(once(), settings(serve(behaviour).url))
        assert len(reply.body) < 2 * MAX_BODY
        if "compressed" not in request.node.name:  # some releases of aiohttp refuse to inflate that much at all
            assert len(reply.body) >= MAX_BODY

        assert type(failure_of(drive, look(), settings(serve(behaviour).url))) is SeedanceServerError
        server = serve(behaviour, answer(200, CREATED))
        assert type(failure_of(drive, submit(), settings(server.url))) is SeedanceSubmitUncertainError
        assert len(server.requests) == 1

    def test_comes_with_its_status_type_and_pause(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(answer(503, b"busy", Content_Type="text/plain", Retry_After="7"))
        assert drive(once(), settings(server.url)) == Reply(503, "text/plain", b"busy", 7.0)

    def test_may_be_absent(self, drive: Drive, serve: Serve, settings: Settings) -> None:
        server = serve(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        assert drive(once(), settings(server.url)) == Reply(204, "", b"")
        assert drive(once(), settings(server.url)) == Reply(502, "", b"")


class TestPace:
    def test_shares_a_budget(
        self, drive: Drive, serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turns: list[float] = []
        really = Pace.turn

        def turn(self: Pace, now: float, latest: float | None = None) -> float:
            turns.append(really(self, now, latest))
            return 0.0

        monkeypatch.setattr(Pace, "turn", turn)
        server = serve(*[answer(200, RECORD)] * 3)
        budget = settings(server.url, requests_per_minute=1.0)
        for _ in range(3):
            drive(look(), budget)
        assert turns[0] == 0
        assert 50 < turns[1] <= 60
        assert 110 < turns[2] <= 120

    def test_says_so_when_it_makes_wait_long(
        self,
        drive: Drive,
        serve: Serve,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "seedance_provider.transport")
        monkeypatch.setattr("seedance_provider.transport.SLOW_TURN", 0.0)
        server = serve(*[answer(200, RECORD)] * 2)
        budget = settings(server.url, requests_per_minute=600.0)
        for _ in range(2):  # the first of them has its turn at once
            drive(look(), budget)
        assert "requests_per_minute=600 of the connection is shared" in caplog.text

    def test_tells_a_budget_from_a_pause_of_the_vendors(self, settings: Settings) -> None:
        url = "http://a.invalid/api/v1"
        assert slow_turn(settings(url), 1.0) is None
        assert "Seedance asked for fewer requests" in (slow_turn(settings(url), 60.0) or "")
        assert "requests_per_minute=30" in (slow_turn(settings(url, requests_per_minute=30.0), 60.0) or "")

    def test_makes_no_one_wait_beyond_the_deadline_of_a_wait(
        self, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        success = b'{"taskId":"task_a","status":"success","output":["https://a.example/v"]}'
        server = serve(answer(200, RECORD), answer(200, success))
        budget = settings(server.url, requests_per_minute=0.1)
        drive(look(), budget)
        now = time.time()
        flow = flows.wait("task_a", poll_interval=1, started_at=now, deadline=now + 0.2, clock=time.time, log=LOG)
        assert drive(flow, budget).urls == ["https://a.example/v"]


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
        assert "redirect" in str(error)
        assert elsewhere.connections == 0
        assert len(server.requests) == 1

    @pytest.mark.parametrize("where", ["NETRC", "HOME"])
    def test_is_not_displaced_by_a_netrc(
        self,
        where: str,
        drive: Drive,
        serve: Serve,
        settings: Settings,
        key: str,
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
        assert [request.header("Authorization") for request in server.requests] == [[f"Bearer {key}"]] * 2

    @pytest.mark.parametrize(
        "echo",
        [
            pytest.param(
                lambda key: answer(401, json.dumps({"message": f"Invalid API Key {key}"}).encode()), id="message"
            ),
            pytest.param(lambda key: answer(502, f"<html>Bearer<b>{key}</b></html>".encode()), id="page"),
            pytest.param(
                lambda key: answer(400, json.dumps({"errors": [{"message": key, "path": [key]}]}).encode()),
                id="problems",
            ),
            pytest.param(
                lambda key: answer(200, json.dumps({"taskId": TASK, "status": "fail", "error": key}).encode()),
                id="record",
            ),
            pytest.param(lambda key: answer(200, f"{key} is not JSON".encode()), id="not-json"),
        ],
    )
    def test_is_taken_out_of_answers_that_repeat_it(
        self, echo: Any, drive: Drive, serve: Serve, settings: Settings, key: str
    ) -> None:
        server = serve(echo(key))
        flow = flows.wait(TASK, poll_interval=1, started_at=0, deadline=0, clock=lambda: 0, log=LOG)
        failure_of(drive, flow, settings(server.url))

    @pytest.mark.parametrize(
        "odd", ['zimg_"quoted"', "zimg_back\\slash", "zimg_sl/ash"], ids=["quote", "backslash", "slash"]
    )
    @pytest.mark.parametrize("escape_slash", [False, True], ids=["plain-slash", "escaped-slash"])
    def test_is_taken_out_of_json_that_spells_it_differently(
        self, odd: str, escape_slash: bool, drive: Drive, serve: Serve, settings: Settings
    ) -> None:
        body = json.dumps({"message": f"Invalid API Key {odd}"})
        server = serve(answer(401, (body.replace("/", "\\/") if escape_slash else body).encode()))
        error = failure_of(drive, look(), settings(server.url, api_key=odd))
        assert error.message == "Invalid API Key ***"

    def test_that_was_rotated_is_picked_up_once(self, drive: Drive, serve: Serve, settings: Settings, key: str) -> None:
        server = serve(answer(401, b'{"message":"API Key has expired"}'), answer(200, RECORD))
        drive(look(), settings(server.url), settings(server.url, api_key="zimg_another-one"))
        assert [request.header("Authorization") for request in server.requests] == [
            [f"Bearer {key}"],
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
        key: str,
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
        assert proxy.requests[0].header("Authorization") == [f"Bearer {key}"]

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
        self, drive: Drive, serve: Serve, settings: Settings, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(answer(200, RECORD))
        monkeypatch.setenv("http_proxy", f"http://somebody:pw@127.0.0.1:{proxy.port}")
        drive(look(), settings(self.ELSEWHERE))
        (request,) = proxy.requests
        assert request.header("Proxy-Authorization") == ["Basic " + base64.b64encode(b"somebody:pw").decode()]
        assert request.header("Authorization") == [f"Bearer {key}"]

    @pytest.mark.parametrize("status", [403, 407, 502])
    def test_that_refuses_a_tunnel_means_never_sent(
        self, status: int, drive: Drive, serve: Serve, settings: Settings, key: str, monkeypatch: pytest.MonkeyPatch
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


def test_a_pause_can_be_carried_out_by_the_caller(serve: Serve, settings: Settings) -> None:
    """That is how poke and reschedule mode wait without blocking here."""
    server = serve(answer(200, RECORD), answer(200, RECORD))
    pauses: list[flows.Sleep] = []

    class Enough(Exception):  # noqa: N818
        pass

    def sleep(pause: flows.Sleep) -> None:
        pauses.append(pause)
        if len(pauses) == 2:
            raise Enough

    flow = flows.wait(TASK, poll_interval=600, started_at=0, deadline=10**9, clock=lambda: 0, log=LOG)
    with pytest.raises(Enough):
        SyncTransport(settings(server.url), lambda: settings(server.url)).drive(flow, sleep)
    assert [(pause.seconds, pause.status) for pause in pauses] == [(600, "waiting")] * 2
    with pytest.raises(StopIteration):
        next(flow)


def test_a_broken_lookup_of_the_connection_is_not_swallowed(serve: Serve, settings: Settings) -> None:
    server = serve(answer(401), answer(401))

    def renew() -> SeedanceSettings:
        raise LookupError("no such connection")

    with pytest.raises(LookupError):
        SyncTransport(settings(server.url), renew).drive(look())

    async def renew_later() -> SeedanceSettings:
        return renew()

    async def main() -> None:
        async with aio.shared_session(server.url) as session:
            await aio.AioTransport(session, settings(server.url), renew_later).drive(look())

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert not aio._shared
