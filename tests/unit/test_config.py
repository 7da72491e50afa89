"""Airflow's configuration section, and what users give as numbers and durations."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import config, defaults
from seedance_provider.config import (
    SubmitPolicy,
    callback_base_url,
    callback_grace,
    default_poll_interval,
    default_submit_policy,
    default_wait_timeout,
    ledger_path,
    parse_submit_policy,
    positive_number,
    price_list_path,
    seconds_of,
)
from seedance_provider.exceptions import SeedanceConfigurationError


def test_without_any_configuration_the_documented_defaults_hold() -> None:
    assert default_wait_timeout() == defaults.DEFAULT_WAIT_TIMEOUT == 1800
    assert default_poll_interval() is None
    assert default_submit_policy() is SubmitPolicy.VENDOR


def test_the_configuration_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", "3600")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__POLL_INTERVAL", "7.5")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__SUBMIT_POLICY", "safe")
    assert default_wait_timeout() == 3600
    assert default_poll_interval() == 7.5
    assert default_submit_policy() is SubmitPolicy.SAFE


def test_an_empty_option_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in ("TIMEOUT", "POLL_INTERVAL", "SUBMIT_POLICY"):
        monkeypatch.setenv(f"AIRFLOW__SEEDANCE__{option}", "")
    assert default_wait_timeout() == 1800
    assert default_poll_interval() is None
    assert default_submit_policy() is SubmitPolicy.VENDOR


@pytest.mark.parametrize("value", ["soon", "0", "-5", "nan", "inf", "1e300", "99999999999"])
@pytest.mark.parametrize("option", ["timeout", "poll_interval"])
def test_a_bad_option_is_named_with_its_section_and_its_value(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__SEEDANCE__{option.upper()}", value)
    with pytest.raises(SeedanceConfigurationError) as caught:
        {"timeout": default_wait_timeout, "poll_interval": default_poll_interval}[option]()
    assert f"[seedance] {option}" in str(caught.value)
    assert repr(value) in str(caught.value)
    assert isinstance(caught.value, AirflowFailException), "a retry cannot help"


@pytest.mark.parametrize("path", ["s3://aws_default@bucket/seedance", "file:///data/seedance", "/data/seedance"])
@pytest.mark.parametrize("around", ["{}", " {}\n"])
def test_a_ledger_is_at_a_url_or_an_absolute_path(monkeypatch: pytest.MonkeyPatch, path: str, around: str) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", around.format(path))
    assert ledger_path() == path


@pytest.mark.parametrize("path", ["seedance", "./seedance", "s3:bucket"])
def test_a_ledger_at_a_relative_path_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Workers would each have one of their own."""
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", path)
    with pytest.raises(SeedanceConfigurationError, match=r"\[seedance\] ledger_path"):
        ledger_path()


def test_there_is_no_ledger_and_no_price_list_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ledger_path(), price_list_path()) == (None, None)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", "  ")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", " ")
    assert (ledger_path(), price_list_path()) == (None, None)
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", " /etc/prices.json ")
    assert price_list_path() == "/etc/prices.json"


@pytest.mark.parametrize(("value", "number"), [("5", 5), (5, 5), (2.5, 2.5), ("1e3", 1000), (None, None), ("", None)])
def test_a_number_may_come_as_text_or_be_missing(value: Any, number: float | None) -> None:
    assert positive_number(value, "here", at_most=1000) == number


@pytest.mark.parametrize("value", [True, [], {}, "five", 0, -1, float("nan"), 1000.5, 10**400, "1e999"], ids=repr)
def test_what_is_no_number_above_zero_or_too_large_is_refused(value: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match=r"^here is .* 1,000"):
        positive_number(value, "here", at_most=1000)


@pytest.mark.parametrize("value", ["Vendor", "none", "", None, 1, []])
def test_only_the_two_submit_policies_are_accepted(value: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match="'vendor' or 'safe'"):
        parse_submit_policy(value, "here")


class TestSecondsOf:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [(None, None), (5, 5.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (10**6, 1e6), (366 * 86400, 366 * 86400)],
        ids=repr,
    )
    def test_takes_seconds_and_timedeltas(self, value: Any, seconds: float | None) -> None:
        assert seconds_of("timeout", value) == seconds

    @pytest.mark.parametrize(
        "value",
        [0, -1, timedelta(0), math.nan, math.inf, True, False, "5", [5], {}, object, 366 * 86400 + 1, 10**400],
        ids=lambda value: repr(value)[:20],
    )
    def test_names_the_parameter_otherwise(self, value: Any) -> None:
        with pytest.raises(SeedanceConfigurationError, match="poll_interval="):
            seconds_of("poll_interval", value)

    @given(st.timedeltas() | st.floats() | st.integers())
    def test_gives_what_a_date_can_hold_or_one_of_our_errors(self, value: Any) -> None:
        try:
            seconds = seconds_of("timeout", value)
        except SeedanceConfigurationError:
            return
        timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://airflow.example.com", "https://airflow.example.com"),
        (" https://example.com/airflow/\n", "https://example.com/airflow"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("", None),
        (" ", None),
    ],
)
def test_callbacks_go_to_the_url_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str | None
) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL", value)
    assert callback_base_url() == url


@pytest.mark.parametrize(
    "value",
    ["airflow.example.com", "ftp://example.com", "https://", "https:///x", "https://a b.com", "https://e.com/?x=1"],
)
def test_a_callback_url_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL", value)
    with pytest.raises(SeedanceConfigurationError, match=r"\[seedance\] callback_base_url"):
        callback_base_url()


def test_a_password_in_the_callback_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_BASE_URL", "https://user:secret@example.com")
    with pytest.raises(SeedanceConfigurationError) as caught:
        callback_base_url()
    assert "secret" not in str(caught.value)


def test_a_callback_is_waited_for_as_long_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert callback_grace() == defaults.CALLBACK_GRACE == 1200
    monkeypatch.setenv("AIRFLOW__SEEDANCE__CALLBACK_GRACE", "60")
    assert callback_grace() == 60


@pytest.mark.parametrize(
    ("airflow", "program"),
    [
        ("2.11.2", "python -m seedance_provider"),
        ("3.1.8", "python -m seedance_provider"),
        ("3.2.0", "airflow seedance"),
    ],
)
def test_a_command_can_be_copied_from_a_message(monkeypatch: pytest.MonkeyPatch, airflow: str, program: str) -> None:
    monkeypatch.setattr(config, "airflow_version", airflow)
    assert config.command("forget", "the hero's shot", "--conn-id", "a") == (
        f"{program} forget 'the hero'\"'\"'s shot' --conn-id a"
    )
    monkeypatch.setattr(config, "airflow_version", "3.4.0b2")
    assert config.command("prune") == "airflow seedance prune"
