"""From what users type into a connection form to settings, or to a sentence that says what to change."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import example, given
from hypothesis import strategies as st
from requests import Request
from yarl import URL

from seedance_provider import connection, defaults
from seedance_provider.config import SubmitPolicy
from seedance_provider.connection import SeedanceSettings
from seedance_provider.exceptions import SeedanceAuthenticationError, SeedanceConfigurationError, SeedanceError
from tests.support import wild

KEY = "zimg_n0t-a-real-key"


PIECES = [
    *("http", "https", "://", "//", "/", ":", "@", "[", "]", "::1", "localhost", "127.0.0.1", "kinovi.ai", "xn--", "é"),
    *(".", "\\", "%", "?", "#", " ", "\x00", "80", "0", "99999", "\u2100"),
]


@dataclass
class Typed:
    """What somebody typed into the form."""

    host: str | None = None
    schema: str | None = None
    password: str | None = KEY
    port: int | None = None
    login: str | None = None
    extra: str | None = None


def read(typed: Typed | None = None, **extra: Any) -> SeedanceSettings:
    form = typed or Typed()
    if extra:
        form = replace(form, extra=json.dumps(extra))
    return SeedanceSettings.from_connection("seedance_default", form)


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("host", "base_url"),
        [
            (None, "https://seedance2-pro.com/api/v1"),
            ("", "https://seedance2-pro.com/api/v1"),
            ("  ", "https://seedance2-pro.com/api/v1"),
            ("seedance2-pro.com", "https://seedance2-pro.com/api/v1"),
            ("https://seedance2-pro.com", "https://seedance2-pro.com/api/v1"),
            ("https://seedance2-pro.com/", "https://seedance2-pro.com/api/v1"),
            ("https://seedance2-pro.com/api/v1", "https://seedance2-pro.com/api/v1"),
            ("https://seedance2-pro.com/api/v1/", "https://seedance2-pro.com/api/v1"),
            ("https://seedance2-pro.com/api/v1//", "https://seedance2-pro.com/api/v1"),
            (" https://kinovi.ai \n", "https://kinovi.ai/api/v1"),
            ("kinovi.ai", "https://kinovi.ai/api/v1"),
            ("kinovi.ai/", "https://kinovi.ai/api/v1"),
            ("kinovi.ai/api/v1", "https://kinovi.ai/api/v1"),
            ("HTTPS://Kinovi.AI", "https://kinovi.ai/api/v1"),
            ("kinovi.ai:8443", "https://kinovi.ai:8443/api/v1"),
            # The usual port is left out: the same API has one name, also where a port was typed for the Test button.
            ("https://kinovi.ai:443/api/v1", "https://kinovi.ai/api/v1"),
            ("http://localhost:80", "http://localhost/api/v1"),
            ("http://localhost:443", "http://localhost:443/api/v1"),
            ("https://gateway.example/seedance", "https://gateway.example/seedance/api/v1"),
            ("https://gateway.example/seedance/api/v1/", "https://gateway.example/seedance/api/v1"),
            ("gateway.example/a%20b", "https://gateway.example/a%20b/api/v1"),
            ("gateway.example/100%", "https://gateway.example/100%25/api/v1"),
            ("https://gateway.example/ä", "https://gateway.example/%C3%A4/api/v1"),
            ("https://bücher.example", "https://xn--bcher-kva.example/api/v1"),
            ("https://kinovi.ai.", "https://kinovi.ai./api/v1"),
            ("http://localhost:8765", "http://localhost:8765/api/v1"),
            ("localhost", "http://localhost/api/v1"),
            ("localhost:8765/", "http://localhost:8765/api/v1"),
            ("seedance.localhost:8765", "http://seedance.localhost:8765/api/v1"),
            ("127.0.0.1:8765", "http://127.0.0.1:8765/api/v1"),
            ("127.8.9.10", "http://127.8.9.10/api/v1"),
            ("http://127.0.0.1:8765/api/v1", "http://127.0.0.1:8765/api/v1"),
            ("https://127.0.0.1:8765", "https://127.0.0.1:8765/api/v1"),
            ("[::1]:8765", "http://[::1]:8765/api/v1"),
            ("http://[::1]", "http://[::1]/api/v1"),
            ("::1", "http://[::1]/api/v1"),
            ("2001:db8::7", "https://[2001:db8::7]/api/v1"),
            ("https://[2001:db8::7]:8443/api/v1", "https://[2001:db8::7]:8443/api/v1"),
        ],
        ids=repr,
    )
    def test_is_read_from_the_host(self, host: str | None, base_url: str) -> None:
        assert read(Typed(host=host)).base_url == base_url

    @pytest.mark.parametrize(
        ("typed", "base_url"),
        [
            (Typed(host="kinovi.ai", port=8443), "https://kinovi.ai:8443/api/v1"),
            (Typed(host="kinovi.ai:9000", port=8443), "https://kinovi.ai:9000/api/v1"),
            (Typed(host="localhost", port=8765), "http://localhost:8765/api/v1"),
            (Typed(host="kinovi.ai", port=443), "https://kinovi.ai/api/v1"),
            (Typed(port=443), "https://seedance2-pro.com/api/v1"),
            (Typed(host="kinovi.ai", port=0), "https://kinovi.ai/api/v1"),  # what the form says for an empty port
            # As Airflow reads seedance://:KEY@[::1]:8765.
            (Typed(host="::1", schema="", port=8765), "http://[::1]:8765/api/v1"),
            (Typed(host="2001:db8::7", port=8443), "https://[2001:db8::7]:8443/api/v1"),
            (Typed(host="localhost", schema="https", port=8765), "https://localhost:8765/api/v1"),
            (Typed(host="kinovi.ai", schema="https"), "https://kinovi.ai/api/v1"),
            (Typed(host="kinovi.ai", schema=" HTTPS "), "https://kinovi.ai/api/v1"),
            (Typed(host="kinovi.ai", schema="public"), "https://kinovi.ai/api/v1"),
            (Typed(host="https://kinovi.ai", schema="http"), "https://kinovi.ai/api/v1"),
        ],
        ids=repr,
    )
    def test_takes_port_and_schema_from_their_fields_too(self, typed: Typed, base_url: str) -> None:
        assert read(typed).base_url == base_url

    @pytest.mark.parametrize(
        "typed",
        [
            Typed(host="http://kinovi.ai"),
            Typed(host="http://kinovi.ai/api/v1"),
            Typed(host="kinovi.ai", schema="http"),
            Typed(host="http://10.0.0.7:8765"),
            Typed(host="http://0.0.0.0:8765"),
            Typed(host="http://127.0.0.1.evil.example"),
            Typed(host="http://localhost.evil.example"),
            Typed(host="http://notlocalhost"),
            Typed(host="http://[2001:db8::7]"),
        ],
        ids=repr,
    )
    def test_in_plain_http_is_refused_off_this_machine_unless_allowed(self, typed: Typed) -> None:
        with pytest.raises(SeedanceConfigurationError, match="https") as caught:
            read(typed)
        assert "allow_insecure_http" in str(caught.value)
        assert read(typed, allow_insecure_http=True).base_url.startswith("http://")

    @pytest.mark.parametrize("value", [True, "true", "True", " TRUE ", "1", 1])
    def test_in_plain_http_is_allowed_by(self, value: Any) -> None:
        assert read(Typed(host="http://gateway.internal"), allow_insecure_http=value).base_url.startswith("http://")

    @pytest.mark.parametrize("value", [False, "false", "0", 0, "", None, "None"])
    def test_in_plain_http_is_not_allowed_by(self, value: Any) -> None:
        with pytest.raises(SeedanceConfigurationError, match="allow_insecure_http"):
            read(Typed(host="http://gateway.internal"), allow_insecure_http=value)

    @pytest.mark.parametrize(
        "host",
        [
            "https://",
            "https:///api/v1",
            "://kinovi.ai",
            "/api/v1",
            "https:kinovi.ai",
            "kinovi.ai:port",
            "kinovi.ai:99999",
            "https://kinovi.ai?x=1",
            "https://kinovi.ai/api/v1#top",
            "kinovi .ai",
            "kinovi.ai/.",
            "https://kinovi.ai/a/../b",
            "https://kinovi.ai/a b",
            "https://kin\tovi.ai",
            "kinovi..ai",
            ".",
            "-",
            "x" * 300,
            "::1::2",
            "[::1",
            "https://[kinovi.ai]",
            "kinovi\\.ai",
            "kin%6fvi.ai",
            "kinovi.ai\x00",
            "<script>",
            'a"b',
            "\ud800",
        ],
        ids=ascii,
    )
    def test_that_makes_no_sense_is_refused_with_an_example(self, host: str) -> None:
        with pytest.raises(SeedanceConfigurationError, match="'Base URL' of connection 'seedance_default'") as caught:
            read(Typed(host=host))
        assert defaults.DEFAULT_BASE_URL in str(caught.value)
        str(caught.value).encode()

    @pytest.mark.parametrize("scheme", ["ftp", "file", "ws", "socks5"])
    def test_of_another_scheme_is_refused(self, scheme: str) -> None:
        with pytest.raises(SeedanceConfigurationError, match=f"'{scheme}'.*https"):
            read(Typed(host=f"{scheme}://kinovi.ai"))

    @pytest.mark.parametrize("port", [-1, 65536, 10**9])
    def test_with_an_impossible_port_is_refused(self, port: int) -> None:
        with pytest.raises(SeedanceConfigurationError, match=f"port {port}"):
            read(Typed(host="kinovi.ai", port=port))

    @pytest.mark.parametrize(
        "host",
        [
            f"https://user:{KEY}@kinovi.ai",
            f"{KEY}@kinovi.ai",
            f":{KEY}@kinovi.ai",
            f"https://user:{KEY}@kinovi.ai:99999",
            f"https://user:{KEY}@kinovi.ai:port",
            f"https://user:{KEY}@exa\u2100mple.com",
            f"https://user:{KEY}@[::1",
            f"https://user:{KEY}@",
            f"https://user:{KEY}/x@kinovi.ai",
            f"ftp://user:{KEY}@kinovi.ai",
            f"http://kinovi.ai\\@{KEY}@evil.example",
            f"https://kinovi.ai?key={KEY}",
            f"https://kinovi.ai/api/v1?{KEY}",
            f"kinovi.ai?api_key={KEY}&x=a@b",
            f"https://kinovi.ai#{KEY}",
            f"https://kinovi.ai/api/v1#?{KEY}",
            f"https://kinovi.ai:port?{KEY}",
            f"ftp://kinovi.ai?{KEY}",
            f"http://kinovi.ai?{KEY}",
            f"https://[::1?{KEY}",
            f"https://user:{KEY}@kinovi.ai?{KEY}#{KEY}",
        ],
        ids=lambda host: ascii(host.replace(KEY, "KEY")),
    )
    def test_with_a_key_in_it_is_refused_without_showing_it(self, host: str) -> None:
        with pytest.raises(SeedanceConfigurationError) as caught:
            read(Typed(host=host))
        assert KEY not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @given(
        st.builds(
            Typed,
            host=st.one_of(
                st.none(),
                wild.texts,
                st.builds(
                    "".join,
                    st.lists(
                        st.sampled_from(PIECES),
                        max_size=8,
                    ),
                ),
            ),
            schema=st.one_of(st.none(), wild.texts),
            port=st.one_of(st.none(), st.integers()),
        )
    )
    @example(Typed(host="https://xn--"))
    def test_of_any_kind_is_one_that_both_transports_read_alike_or_an_error_of_ours(self, typed: Typed) -> None:
        try:
            base_url = read(typed).base_url
        except SeedanceError:
            return
        parts = urlsplit(base_url)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert base_url.isascii()
        assert base_url.isprintable()
        assert base_url.endswith("/api/v1")
        assert "@" not in parts.netloc
        path = "/jobs/recordInfo?taskId=task_a"
        by_aiohttp = URL(base_url + path, encoded=True)
        by_requests = urlsplit(Request("GET", base_url + path).prepare().url or "")
        assert by_aiohttp.raw_host == by_requests.hostname == parts.hostname
        assert by_aiohttp.raw_path == by_requests.path


class TestKey:
    @pytest.mark.parametrize(
        "typed",
        [
            KEY,
            f" {KEY}\n",
            f"Bearer {KEY}",
            f"Bearer  {KEY} ",
            f"bearer {KEY}",
            f"BEARER {KEY}",
            f" bearer {KEY}\n",
        ],
        ids=lambda text: repr(text[:8]),
    )
    def test_is_trimmed(self, typed: str) -> None:
        assert read(Typed(password=typed)).api_key == KEY

    @pytest.mark.parametrize("typed", [None, "", "  ", "\n", "Bearer", "bearer "], ids=repr)
    def test_missing_says_where_to_put_it(self, typed: str | None) -> None:
        with pytest.raises(SeedanceAuthenticationError, match="'API key'"):
            read(Typed(password=typed))

    @pytest.mark.parametrize(
        "typed",
        [
            f"{KEY}\n{KEY}",
            f"{KEY} {KEY}",
            f"{KEY}\x00",
            f"{KEY}\r\nX-Evil: 1",
            f"{KEY}é",
            f"bearer {KEY} {KEY}",
            f"{KEY}\ud800",
        ],
        ids=["two-lines", "two-words", "nul", "header", "not-ascii", "bearer-and-two-words", "surrogate"],
    )
    def test_that_no_header_can_carry_is_refused_without_showing_it(self, typed: str) -> None:
        with pytest.raises(SeedanceAuthenticationError, match="'API key'") as caught:
            read(Typed(password=typed))
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize(
        "extra", ['{"submit_policy": "%s"}', '{"read_timeout": "%s"}', '{"max_credits_per_day": ["%s"]}']
    )
    def test_in_another_field_as_well_is_not_shown_with_its_value(self, extra: str) -> None:
        with pytest.raises(SeedanceConfigurationError) as caught:
            read(Typed(extra=extra % KEY))
        assert KEY not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_is_not_shown_by_the_settings(self) -> None:
        settings = read()
        assert KEY not in repr(settings)
        assert KEY not in str(settings)
        assert KEY not in f"{settings}"

    @given(wild.texts)
    def test_of_any_kind_fits_a_header_or_is_refused(self, typed: str) -> None:
        try:
            key = read(Typed(password=typed)).api_key
        except SeedanceAuthenticationError as error:
            refusal: str | None = str(error)
        else:
            refusal = None
            assert key.isascii()
            assert key.isprintable()
            assert key.strip() == key != ""
            assert " " not in key
        assert refusal is None or "'API key'" in refusal


class TestExtra:
    def test_may_be_empty(self) -> None:
        settings = read()
        assert settings.connect_timeout == defaults.DEFAULT_CONNECT_TIMEOUT
        assert settings.read_timeout == defaults.DEFAULT_READ_TIMEOUT
        assert settings.submit_policy is SubmitPolicy.VENDOR
        assert settings.requests_per_minute is None

    def test_says_all_there_is_to_say(self) -> None:
        settings = read(
            connect_timeout=3, read_timeout="20.5", submit_policy="safe", requests_per_minute=100, something_else="x"
        )
        assert (settings.connect_timeout, settings.read_timeout) == (3.0, 20.5)
        assert settings.submit_policy is SubmitPolicy.SAFE
        assert settings.requests_per_minute == 100.0

    @pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "requests_per_minute"])
    @pytest.mark.parametrize(
        "value", ["soon", 0, "0", -1, True, "nan", "inf", float("inf"), 10**10, "1e300", [], {}, " "], ids=repr
    )
    def test_with_a_bad_number_names_the_field_the_value_and_the_fix(self, name: str, value: Any) -> None:
        with pytest.raises(SeedanceConfigurationError) as caught:
            read(**{name: value})
        text = str(caught.value)
        assert f"{name} in the extra of connection 'seedance_default' is {value!r}" in text

    @pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "requests_per_minute", "submit_policy"])
    @pytest.mark.parametrize("value", [None, ""], ids=repr)
    def test_with_an_empty_field_means_the_default(self, name: str, value: Any) -> None:
        assert read(**{name: value}) == read()

    @pytest.mark.parametrize("value", ["Safe", "never", 1, True, [], {}], ids=repr)
    def test_with_a_bad_policy_names_the_field_the_value_and_the_fix(self, value: Any) -> None:
        with pytest.raises(SeedanceConfigurationError) as caught:
            read(submit_policy=value)
        text = str(caught.value)
        assert f"submit_policy in the extra of connection 'seedance_default' is {value!r}" in text
        assert "'vendor' or 'safe'" in text

    @pytest.mark.parametrize("value", ["maybe", 2, [], {}, "yes"], ids=repr)
    def test_with_a_bad_switch_names_the_field_the_value_and_the_fix(self, value: Any) -> None:
        with pytest.raises(SeedanceConfigurationError) as caught:
            read(allow_insecure_http=value)
        text = str(caught.value)
        assert f"allow_insecure_http in the extra of connection 'seedance_default' is {value!r}" in text
        assert "true or false" in text

    @pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
    def test_takes_no_timeout_that_a_clock_on_the_way_cannot_hold(self, name: str) -> None:
        longest: dict[str, Any] = {name: defaults.MAX_TIMEOUT}
        assert getattr(read(**longest), name) == defaults.MAX_TIMEOUT
        with pytest.raises(SeedanceConfigurationError, match=f"{name}.* 3,600"):
            read(**longest | {name: 9999999999})

    @pytest.mark.parametrize("extra", [None, "", "  ", "\n", "{}", " {} "], ids=repr)
    def test_may_be_empty_in_any_way(self, extra: str | None) -> None:
        assert read(Typed(extra=extra)) == read()

    @pytest.mark.parametrize(
        "extra",
        [
            "null",
            "[]",
            '"safe"',
            "5",
            "true",
            "safe",
            "{",
            '{"submit_policy": "safe"',
            "{'submit_policy': 'safe'}",
            '{"submit_policy": "safe",}',
            "submit_policy: safe",
            '{"submit_policy": "safe", "submit_policy": "vendor"}',
            "[" * 100_000,
            "\ud800",
        ],
        ids=lambda extra: ascii(extra)[:30],
    )
    def test_that_is_no_object_is_an_error_and_never_a_default(self, extra: str) -> None:
        """It may have said ``safe``."""
        with pytest.raises(SeedanceConfigurationError, match="extra of connection 'seedance_default'"):
            read(Typed(extra=extra))

    def test_that_cannot_be_read_is_not_shown(self) -> None:
        with pytest.raises(SeedanceConfigurationError) as caught:
            read(Typed(extra=f"{{'key': '{KEY}'}}"))
        assert KEY not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @given(st.text() | st.text(alphabet='{}[]":,safe 1'))
    def test_of_any_text_gives_settings_or_an_error_of_ours(self, extra: str) -> None:
        try:
            read(Typed(extra=extra))
        except SeedanceConfigurationError:
            return
        assert not extra.strip() or isinstance(json.loads(extra), dict)

    @given(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ["submit_policy", "allow_insecure_http", "connect_timeout", "read_timeout", "requests_per_minute", "x"],
                wild.values,
            ),
        )
    )
    def test_of_any_content_gives_settings_or_an_error_of_ours(self, extra: dict[str, Any]) -> None:
        try:
            settings = read(**extra)
        except SeedanceError:
            return
        assert 0 < settings.connect_timeout <= defaults.MAX_TIMEOUT
        assert 0 < settings.read_timeout <= defaults.MAX_TIMEOUT
        assert (settings.submit_policy is SubmitPolicy.SAFE) == (extra.get("submit_policy") == "safe")


class TestLookup:
    """On a worker and in the triggerer: the same settings, and the key masked from then on."""

    @pytest.fixture
    def masked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setenv(
            "AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps({"conn_type": "seedance", "password": f" bearer {KEY}\n"})
        )
        texts: list[str] = []

        async def amask_secret(text: str) -> None:
            texts.append(text)

        monkeypatch.setattr(connection, "mask_secret", texts.append)
        monkeypatch.setattr(connection, "amask_secret", connection.amask_secret and amask_secret)
        return texts

    def test_on_a_worker(self, masked: list[str]) -> None:
        assert connection.read_settings("seedance_default").api_key == KEY
        assert KEY in masked

    def test_in_the_triggerer(self, masked: list[str]) -> None:
        assert asyncio.run(connection.read_settings_async("seedance_default")).api_key == KEY
        assert KEY in masked

    def test_gives_the_same_on_both(self, masked: list[str]) -> None:
        on_a_worker = connection.read_settings("seedance_default")
        assert asyncio.run(connection.read_settings_async("seedance_default")) == on_a_worker


@pytest.mark.parametrize("host", ["[::1]", "%5B%3A%3A1%5D"])
def test_a_connection_uri_of_airflow_may_name_an_ipv6_address(host: str) -> None:
    settings = SeedanceSettings.from_connection("x", Connection(conn_id="x", uri=f"seedance://:{KEY}@{host}:8765"))
    assert (settings.base_url, settings.api_key) == ("http://[::1]:8765/api/v1", KEY)


def test_a_connection_that_cannot_be_used_fails_the_task_at_once() -> None:
    for typed in (Typed(host="ftp://a"), Typed(password=None)):
        with pytest.raises(AirflowFailException):
            read(typed)
