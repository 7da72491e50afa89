from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from seedance_provider.api.policy import DEFAULT_WAIT_TIMEOUT, SubmitPolicy
from seedance_provider.config import (
    default_poll_interval,
    default_submit_policy,
    default_wait_timeout,
    parse_submit_policy,
    positive_number,
)
from seedance_provider.exceptions import SeedanceConfigurationError


def test_without_any_configuration_the_documented_defaults_hold() -> None:
    assert default_wait_timeout() == DEFAULT_WAIT_TIMEOUT == 1800
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


@pytest.mark.parametrize("value", ["soon", "0", "-5", "nan", "inf"])
def test_a_bad_option_is_named_with_its_section_and_the_fix(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", value)
    with pytest.raises(SeedanceConfigurationError) as caught:
        default_wait_timeout()
    expected = f"[seedance] timeout of Airflow's configuration is '{value}': give a number above 0, or leave it empty"
    assert str(caught.value) == expected
    assert isinstance(caught.value, AirflowFailException), "a retry cannot help"


@pytest.mark.parametrize(("value", "number"), [("5", 5), (5, 5), (2.5, 2.5), ("1e3", 1000), (None, None), ("", None)])
def test_a_number_may_come_as_text_or_be_missing(value: Any, number: float | None) -> None:
    assert positive_number(value, "here") == number


@pytest.mark.parametrize("value", [True, [], {}, "five", 0, -1, float("nan")])
def test_what_is_no_number_above_zero_is_refused(value: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match=r"^here is "):
        positive_number(value, "here")


@pytest.mark.parametrize("value", ["Vendor", "none", "", None, 1, []])
def test_only_the_two_submit_policies_are_accepted(value: Any) -> None:
    with pytest.raises(SeedanceConfigurationError, match="say 'vendor' or 'safe'"):
        parse_submit_policy(value, "here")
