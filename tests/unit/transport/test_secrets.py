"""The API key and a proxy's password are in nothing that is read or shown, in whatever spelling they come back."""

from __future__ import annotations

import base64
import html
import json
import time
import traceback
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.api.messages import Flow, Reply, Request, Send
from seedance_provider.connection import SeedanceSettings
from seedance_provider.defaults import MIN_SECRET
from seedance_provider.exceptions import SeedanceTransportError
from seedance_provider.transport.http import redact
from tests.support import wire
from tests.support.wire import Connection, answer
from tests.unit.transport.conftest import KEY, Drive

Settings = Callable[..., SeedanceSettings]

ODD_KEY = "zimg_S3cr3t+/=-\"quoted'\\&<back>~0123"


def each(template: str) -> Callable[[str], str]:
    """Write every character of a key by a template of its code."""
    return lambda key: "".join(template.format(ord(char)) for char in key)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda key: json.dumps(key)[1:-1],
    "json-slash": lambda key: json.dumps(key)[1:-1].replace("/", r"\/"),
    "json-unicode-lower": each("\\u{:04x}"),
    "json-unicode-upper": each("\\u{:04X}"),
    "json-unicode-some": lambda key: (
        "".join(f"\\u{ord(char):04x}" if char in "+/_-" else char for char in key)
        .replace('"', r"\"")
        .replace("\\&", r"\\&")
    ),
    "json-in-json": lambda key: json.dumps(json.dumps(key))[1:-1],
    "javascript": each("\\x{:02x}"),
    "percent": each("%{:02X}"),
    "percent-lower": each("%{:02x}"),
    "percent-some": lambda key: quote(key, safe=""),
    "percent-twice": lambda key: quote(quote(key, safe=""), safe=""),
    "html": lambda key: html.escape(key),
    "html-twice": lambda key: html.escape(html.escape(key)),
    "html-decimal": each("&#{};"),
    "html-hex": each("&#x{:X};"),
    "html-hex-long": each("&#x{:06x};"),
    "html-names": lambda key: html.escape(key).replace("+", "&plus;").replace("/", "&sol;").replace("_", "&lowbar;"),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64-of-header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64-of-basic": lambda key: base64.b64encode(f"u:{key}:and more".encode()).decode(),
    "base64-for-urls": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "hex": lambda key: key.encode().hex(),
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def shown(data: bytes) -> str:
    """What people may get to see of bytes: as text, and with everything undone that can be."""
    text = data.decode("utf-8", "replace").replace("\0", "")
    for _ in range(3):
        text += html.unescape(text) + text.replace("\\\\", "\\").replace(r"\/", "/").replace(r"\"", '"')
    return text


def once(method: str = "GET") -> Flow[Reply]:
    return (yield Send(Request(method, "/x", None if method == "GET" else b"{}")))


class TestRedact:
    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.parametrize("key", [KEY, ODD_KEY], ids=["usual", "odd"])
    def test_takes_every_spelling_out(self, key: str, spelling: str, encoding: str) -> None:
        spelled = SPELLINGS[spelling](key)
        data = redact(f'{{"message": "Invalid API key {spelled}", "code": 401}}'.encode(encoding), key)
        assert b"***" in data
        # The first or the last character of base64 mixes with others.
        assert spelled[2:-4] not in shown(data)
        assert data.endswith(b'"code": 401}')

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_takes_it_out_of_another_encoding_amid_a_page(self, encoding: str) -> None:
        data = redact(b"<html>It said: " + KEY.encode(encoding) + b"</html>", KEY)
        assert KEY not in shown(data)

    # Of a backslash before an escape nobody can tell which of the two it belongs to; no key has one.
    @given(
        st.text(
            st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"),
            min_size=MIN_SECRET,
            max_size=60,
        ),
        st.data(),
    )
    def test_takes_any_key_out_with_any_of_its_characters_escaped(self, key: str, data: st.DataObject) -> None:
        ways = [str, *map(each, ("\\u{:04x}", "\\u{:04X}", "%{:02X}", "&#{};", "&#x{:x};", "\\x{:02X}"))]
        spelled = "".join(data.draw(st.sampled_from(ways))(char) for char in key)
        assert redact(f"before {spelled} after".encode(), key) == b"before *** after"

    def test_takes_out_each_occurrence(self) -> None:
        assert redact(f"{KEY} {KEY}{KEY}".encode(), KEY) == b"*** ******"

    def test_takes_out_the_start_of_one_that_was_cut(self) -> None:
        assert redact(f"key {KEY[:-1]}".encode(), KEY, cut=True) == b"key ***"
        assert redact(f"key {KEY[:MIN_SECRET]}".encode(), KEY, cut=True) == b"key ***"
        assert redact(f"key {KEY[:3]}".encode(), KEY, cut=True) == f"key {KEY[:3]}".encode()

    def test_leaves_everything_else_as_it_is(self) -> None:
        data = json.dumps({"taskId": "task_1", "url": "https://a.example/v.mp4?a=1&b=%20", "text": 'x "\\ y'}).encode()
        assert redact(data, KEY) == data

    def test_leaves_a_key_that_is_any_word(self) -> None:
        assert redact(b"a test of tests", "test") == b"a test of tests"

    def test_keeps_utf_16_readable(self) -> None:
        assert json.loads(redact('{"taskId": "täsk"}'.encode("utf-16"), KEY)) == {"taskId": "täsk"}

    @pytest.mark.parametrize(
        "piece",
        ["\\", "%25", "%7a", "&amp;", "&#0", "\\\\\\u007a", KEY[:-1], SPELLINGS["html-hex-long"](KEY[:-1]), "\0", "z"],
        ids=ascii,
    )
    def test_takes_bounded_time(self, piece: str) -> None:
        data = (piece * (1024 * 1024 // len(piece))).encode()
        began = time.process_time()
        redact(data, KEY, cut=True)
        assert time.process_time() - began < 10, "a quarter of a second, where the worst pattern would take hours"


class TestReply:
    @pytest.mark.parametrize("spelling", ["plain", "json-unicode-upper", "percent", "html-decimal", "base64-of-header"])
    @pytest.mark.parametrize("status", [200, 302, 401, 502])
    def test_holds_no_key(self, status: int, spelling: str, drive: Drive, serve: Any, settings: Settings) -> None:
        spelled = SPELLINGS[spelling](KEY)
        server = serve(answer(status, f'{{"message":"{spelled}"}}'.encode("utf-16"), Content_Type=f"a/b; {KEY}"))
        reply = drive(once(), settings(server.url))
        assert spelled[:-4] not in shown(reply.body)
        assert KEY not in repr(reply)

    def test_holds_no_key_that_was_compressed(self, drive: Drive, serve: Any, settings: Settings) -> None:
        server = serve(answer(401, zlib.compress(KEY.encode()), Content_Encoding="deflate"))
        assert drive(once(), settings(server.url)).body == b"***"

    def test_holds_no_part_of_a_key_that_was_cut(self, drive: Drive, serve: Any, settings: Settings) -> None:
        body = f'{{"message":"{KEY[:-1]}'.encode()
        server = serve(wire.cut(wire.HEAD + b"Content-Length: 999\r\n\r\n" + body))
        assert drive(once(), settings(server.url)).body == b'{"message":"***'


def error_of(drive: Drive, flow: Flow[Any], settings: SeedanceSettings) -> str:
    """The whole of a transport error: its text, its traceback and what it holds."""
    with pytest.raises(SeedanceTransportError) as caught:
        drive(flow, settings)
    error = caught.value
    assert str(error).isprintable()
    assert error.__cause__ is None
    assert error.__context__ is None
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


class TestErrors:
    @pytest.mark.parametrize(
        "proxy",
        [
            "http://somebody:pr0xy-secret@127.0.0.1:{port}",
            "somebody:pr0xy-secret@127.0.0.1:{port}",
            "http://somebody:pr0xy-secret@no-such-proxy.invalid:{port}",
            "http://somebody:pr0xy-secret@127.0.0.1:99999",
            "http://somebody:pr0xy-secret#x@127.0.0.1:{port}",
            "http://somebody:pr0xy-secret/x@127.0.0.1:{port}",
            "http://somebody:pr0xy-secret@[::1",
            "http://somebody:pr0xy-secret@",
            "socks5://somebody:pr0xy-secret@127.0.0.1:{port}",
            "ftp://somebody:pr0xy-secret@127.0.0.1:{port}",
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_hold_no_password_of_a_proxy_that_cannot_be_used(
        self, scheme: str, proxy: str, drive: Drive, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with wire.unused_port() as port:
            monkeypatch.setenv(f"{scheme}_proxy", proxy.format(port=port))
            text = error_of(drive, once("POST"), settings(f"{scheme}://seedance.invalid/api/v1"))
        assert "pr0xy-secret" not in text
        assert "request_sent': False" in text

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(answer(403, b"no"), id="refuses"),
            pytest.param(answer(407, b"no", Proxy_Authenticate="Basic"), id="asks-for-a-password"),
            pytest.param(wire.reset, id="resets"),
            pytest.param(wire.hang, id="hangs"),
            pytest.param(wire.cut(b"HTTP/1.1 403 " + KEY.encode() + b"\x1b[31m\r\n\r\n"), id="says-the-key"),
        ],
    )
    def test_hold_no_password_of_a_proxy_that_opens_no_tunnel(
        self, behaviour: Any, drive: Drive, serve: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(behaviour)
        monkeypatch.setenv("https_proxy", f"http://somebody:pr0xy-secret@127.0.0.1:{proxy.port}")
        some = settings("https://seedance.invalid/api/v1", connect_timeout=0.3, read_timeout=0.3)
        text = error_of(drive, once("POST"), some)
        assert "pr0xy-secret" not in text
        assert KEY not in text

    @pytest.mark.parametrize(
        "line",
        [
            b"HTTP/1.1 " + KEY.encode() + b"\r\n\r\n",
            KEY.encode() + b"\r\n\r\n",
            b"HTTP/1.1 \x1b[31mred\x07\xe2\x80\xae\r\n\r\n",
            b"\x00\x01\x02\r\n\r\n",
        ],
        ids=["key-as-status", "key-alone", "control-characters", "zeros"],
    )
    def test_hold_no_key_and_no_control_characters_of_the_servers(
        self, line: bytes, drive: Drive, serve: Any, settings: Settings
    ) -> None:
        def behave(connection: Connection) -> None:
            connection.stopped.wait(0.05)
            connection.send(line)
            connection.close()

        assert KEY not in error_of(drive, once("POST"), settings(serve(*[behave] * 2).url))

    def test_hold_no_query(self, drive: Drive, settings: Settings) -> None:
        signature = "".join(["s1g", "nature"])  # the traceback shows the lines of this file as well

        def flow() -> Flow[Reply]:
            return (yield Send(Request("GET", f"/x?X-Sig={signature}")))

        with wire.unused_port() as port:
            assert signature not in error_of(drive, flow(), settings(f"http://127.0.0.1:{port}/api/v1"))
