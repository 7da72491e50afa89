from __future__ import annotations

import json
import os
import re
import sys
import threading
from datetime import timedelta
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook, redact

from seedance_provider import defaults
from seedance_provider.api.records import TaskStatus
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceBudgetExceededError,
    SeedanceConcurrencyLimitError,
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
    SeedanceTransportError,
)
from seedance_provider.get_provider_info import CONN_FIELDS
from seedance_provider.hooks.seedance import SeedanceHook

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator
    from tests.support.airflow import TaskLog

FOX = {"prompt": "a fox", "duration": 5}


@pytest.fixture(params=["seed", "current"])
def dialect(request: pytest.FixtureRequest, seedance_emulator: Emulator) -> str:
    """The emulator speaks as the seed document, then as the API of today."""
    seedance_emulator.settings.update({"dialect": request.param})
    return str(request.param)


def connect(monkeypatch: pytest.MonkeyPatch, emulator: Emulator, **changes: Any) -> None:
    """Make `seedance_default` a changed connection to the emulator."""
    connection = json.loads(emulator.connection_json) | changes
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", json.dumps(connection))


# Creating, reading, waiting.


@pytest.mark.usefixtures("dialect")
def test_a_task_is_created_and_waited_for(seedance_emulator: Emulator) -> None:
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", FOX)
    record = hook.wait_for_task(task_id, poll_interval=0.05)
    assert record.seedance_task_id == task_id
    assert record.status is TaskStatus.SUCCESS
    assert record.urls == [f"{seedance_emulator.url}/videos/{task_id}.mp4"]
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.usefixtures("dialect")
def test_a_running_task_is_read_as_it_is(seedance_emulator: Emulator) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 60.0})
    hook = SeedanceHook()
    record = hook.get_task(hook.create_task("seedance-20", FOX))
    assert record.status is TaskStatus.WAITING
    assert record.outputs == ()


def test_waiting_for_a_failed_task_raises_the_vendors_reason(seedance_emulator: Emulator, dialect: str) -> None:
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", FOX | {"prompt": "[[fail:2038]]"})
    with pytest.raises(SeedanceTaskFailedError) as caught:
        hook.wait_for_task(task_id, poll_interval=0.05)
    assert caught.value.seedance_task_id == task_id
    assert caught.value.record is not None
    assert caught.value.message == caught.value.record.failure.message  # the vendor's own words
    assert caught.value.message.rstrip(".") in str(caught.value)
    assert caught.value.code == ("2038" if dialect == "current" else None)


def test_a_record_of_a_failed_task_is_read_without_an_error(seedance_emulator: Emulator) -> None:
    record = SeedanceHook().get_task("demo_task_fail_text_moderation")
    assert record.status is TaskStatus.FAIL
    assert record.failure is not None
    assert record.failure.code == "2038"


def test_waiting_ends_at_the_timeout_and_names_the_call_to_collect_the_video(seedance_emulator: Emulator) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 60.0})
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", FOX)
    with pytest.raises(SeedanceTaskTimeoutError, match=re.escape(f"SeedanceTaskSensor(seedance_task_id={task_id!r})")):
        hook.wait_for_task(task_id, poll_interval=0.05, timeout=timedelta(seconds=0.2))


def test_waiting_takes_interval_and_timeout_from_the_configuration(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seedance_emulator.settings.update({"waiting_seconds": 60.0})
    monkeypatch.setenv("AIRFLOW__SEEDANCE__TIMEOUT", "0.6")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__POLL_INTERVAL", "0.1")
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", FOX)
    with pytest.raises(SeedanceTaskTimeoutError):
        hook.wait_for_task(task_id)
    # The adaptive schedule would have polled twice: at once and at the deadline.
    assert 3 <= len(seedance_emulator.requests("recordInfo")) <= 7


@pytest.mark.parametrize(
    ("argument", "value"), [("poll_interval", 0), ("poll_interval", "10"), ("timeout", -1), ("timeout", True)]
)
def test_a_bad_duration_is_named_before_anything_is_sent(
    seedance_emulator: Emulator, argument: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"{argument}={value!r}"):
        SeedanceHook().wait_for_task("task_1", **{argument: value})
    assert seedance_emulator.requests() == []


def test_polls_that_fail_do_not_lose_a_task(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", FOX)
    for fault in ("html", "reset", "empty", "truncated"):
        seedance_emulator.add_fault(fault, on="recordInfo")
    assert hook.wait_for_task(task_id, poll_interval=0.05).urls
    assert len(task_log.warnings) == 4
    assert all(line.count(task_id) == 1 for line in task_log.warnings[:3])


def test_reading_a_task_is_tried_three_times(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", times=2)
    assert SeedanceHook().get_task("demo_task_t2v_success").urls
    assert len(seedance_emulator.requests("recordInfo")) == 3
    seedance_emulator.add_fault("http", on="recordInfo", times=3)
    with pytest.raises(SeedanceServerError) as caught:
        SeedanceHook().get_task("demo_task_t2v_success")
    assert caught.value.seedance_task_id == "demo_task_t2v_success"


def test_the_callback_url_reaches_the_vendor(seedance_emulator: Emulator) -> None:
    hook = SeedanceHook()
    url = f"{seedance_emulator.url}/callback"
    task_id = hook.create_task("seedance-20", FOX, callback_url=url)
    hook.wait_for_task(task_id, poll_interval=0.05)
    for _ in range(50):
        if seedance_emulator.deliveries():
            break
        hook.get_task(task_id)
    assert seedance_emulator.deliveries()[0]["url"] == url


@pytest.mark.parametrize("model", ["seedance-20", "unheard-of"])
def test_the_ceiling_of_the_connection_holds_for_its_own_createtask(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    connect(monkeypatch, seedance_emulator, extra={"max_credits_per_task": 100})
    with pytest.raises(SeedanceBudgetExceededError, match="max_credits_per_task in the extra of connection"):
        SeedanceHook().create_task(model, {"prompt": "a fox", "duration": 5, "outputResolution": "720p"})
    assert seedance_emulator.requests() == []


def test_credits_are_decimals(seedance_emulator: Emulator) -> None:
    assert isinstance(SeedanceHook().get_task("demo_task_t2v_success").credits_used, Decimal)


@pytest.mark.parametrize("value", [None, "", "  ", ["task_1", "task_2"], 7])
def test_what_is_not_an_id_is_refused_without_a_request(seedance_emulator: Emulator, value: Any) -> None:
    with pytest.raises(SeedanceInvalidRequestError, match=re.escape(repr(value))):
        SeedanceHook().get_task(value)
    assert seedance_emulator.requests() == []


# The connection.


def test_the_connection_is_looked_up_once(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    original = BaseHook.get_connection

    def get_connection(conn_id: str) -> Any:
        looked_up.append(conn_id)
        return original(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", get_connection)
    hook = SeedanceHook()
    assert looked_up == []
    hook.wait_for_task(hook.create_task("seedance-20", FOX), poll_interval=0.02)
    hook.get_conn()
    assert looked_up == ["seedance_default"]


def test_another_connection_is_used_when_named(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STUDIO", os.environ["AIRFLOW_CONN_SEEDANCE_DEFAULT"])
    monkeypatch.delenv("AIRFLOW_CONN_SEEDANCE_DEFAULT")
    assert SeedanceHook("studio").get_task("demo_task_t2v_success").urls


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1", "/api/v1/"])
def test_the_host_may_end_with_the_path_of_the_api_or_not(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    connect(monkeypatch, seedance_emulator, host=seedance_emulator.url + suffix)
    assert SeedanceHook().get_task("demo_task_t2v_success").urls


def test_a_connection_in_the_form_of_a_uri_works(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SEEDANCE_DEFAULT", seedance_emulator.connection_uri)
    assert SeedanceHook().get_task("demo_task_t2v_success").urls


def test_plain_http_to_another_host_is_refused_before_the_key_leaves(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, seedance_emulator, host="http://videos.example.com")
    with pytest.raises(SeedanceConfigurationError, match="allow_insecure_http"):
        SeedanceHook().create_task("seedance-20", FOX)


def test_a_key_that_was_rotated_while_waiting_is_picked_up(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = SeedanceHook()
    task_id = hook.create_task("seedance-20", FOX)
    seedance_emulator.put_account(key="rotated-key")
    connect(monkeypatch, seedance_emulator, password="rotated-key")
    assert hook.wait_for_task(task_id, poll_interval=0.05).urls


def test_the_key_is_masked_in_logs(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    seedance_emulator.put_account(key="sk-masked-0123456789")
    connect(monkeypatch, seedance_emulator, password="Bearer sk-masked-0123456789")
    SeedanceHook().get_conn()
    assert "sk-masked-0123456789" not in str(redact("the key is sk-masked-0123456789"))


def test_the_settings_do_not_show_the_key(seedance_emulator: Emulator) -> None:
    assert seedance_emulator.api_key not in repr(SeedanceHook().settings)


# A createTask of unknown outcome.


def test_after_a_500_the_vendors_policy_sends_again_and_warns(seedance_emulator: Emulator, task_log: TaskLog) -> None:
    seedance_emulator.add_fault("http", status=500, accept=True)
    task_id = SeedanceHook().create_task("seedance-20", FOX)
    bill = seedance_emulator.bill()
    assert bill["tasks_created"] == 2, "the vendor may well have accepted the request that it answered with a 500"
    assert bill["tasks"][1]["taskId"] == task_id
    (warning,) = task_log.warnings
    assert "submit_policy='safe'" in warning


def test_the_vendors_policy_gives_up_after_three_requests(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", status=500, times=None)
    with pytest.raises(SeedanceServerError) as caught:
        SeedanceHook().create_task("seedance-20", FOX)
    assert (caught.value.retryable, caught.value.charged) == (True, "unknown")
    assert len(seedance_emulator.requests("createTask")) == 3


@pytest.mark.parametrize("refusal", [{"status": 402}, {"status": 401}, {"status": 403}, {"status": 429}], ids=str)
def test_a_refusal_after_an_unknown_outcome_does_not_take_it_back(
    seedance_emulator: Emulator, refusal: dict[str, int]
) -> None:
    seedance_emulator.add_fault("http", status=500, accept=True)
    seedance_emulator.add_fault("http", **refusal)
    with pytest.raises(SeedanceError) as caught:
        SeedanceHook().create_task("seedance-20", FOX)
    assert (caught.value.status_code, caught.value.charged) == (refusal["status"], "unknown")
    assert "Nothing was charged" not in str(caught.value)


def test_no_more_than_three_of_unknown_outcome_are_sent_for_one_video(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", status=500, times=None)
    counts: list[int] = []
    with pytest.raises(SeedanceServerError):
        SeedanceHook().create_task("seedance-20", FOX, unknown=1, remember=counts.append)
    assert counts == [2, 3]
    with pytest.raises(SeedanceSubmitUncertainError):
        SeedanceHook().create_task("seedance-20", FOX, unknown=3, remember=counts.append)
    assert counts == [2, 3]
    assert len(seedance_emulator.requests("createTask")) == 2


@pytest.mark.parametrize("fault", ["http", "html", "reset"])
def test_the_safe_policy_sends_once_and_fails_for_manual_review(seedance_emulator: Emulator, fault: str) -> None:
    seedance_emulator.add_fault(fault, accept=True)
    with pytest.raises(SeedanceSubmitUncertainError, match=r"SeedanceTaskSensor\(seedance_task_id=") as caught:
        SeedanceHook(submit_policy="safe").create_task("seedance-20", FOX)
    assert (caught.value.retryable, caught.value.charged) == (False, "unknown")
    assert len(seedance_emulator.requests("createTask")) == 1
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_the_safe_policy_sends_once_when_the_answer_takes_too_long(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(
        monkeypatch, seedance_emulator, extra={"read_timeout": 0.2, "connect_timeout": 0.2, "submit_policy": "safe"}
    )
    seedance_emulator.add_fault("slow", seconds=1, accept=True)
    with pytest.raises(SeedanceSubmitUncertainError):
        SeedanceHook().create_task("seedance-20", FOX)
    assert seedance_emulator.bill()["tasks_created"] == 1


@pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
@pytest.mark.parametrize("fault", ["no_task_id", "truncated", "empty"])
def test_a_200_without_a_task_id_is_never_sent_again(
    seedance_emulator: Emulator, submit_policy: str, fault: str
) -> None:
    seedance_emulator.add_fault(fault, times=None)
    with pytest.raises(SeedanceSubmitUncertainError) as caught:
        SeedanceHook(submit_policy=submit_policy).create_task("seedance-20", FOX)
    assert caught.value.charged == "unknown"
    assert len(seedance_emulator.requests("createTask")) == 1


@pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
def test_a_request_that_was_not_sent_is_sent_again_under_both_policies(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog, submit_policy: str
) -> None:
    monkeypatch.setattr(defaults, "BACKOFF_BASE", 1.0)
    monkeypatch.setattr(defaults, "BACKOFF_CAP", 1.0)
    seedance_emulator.stop()
    restart = threading.Timer(0.1, seedance_emulator.start)
    restart.start()
    assert SeedanceHook(submit_policy=submit_policy).create_task("seedance-20", FOX)
    restart.join()
    assert len(task_log.warnings) == 1
    assert seedance_emulator.bill()["tasks_created"] == 1


def test_a_request_that_is_never_sent_charges_nothing(seedance_emulator: Emulator) -> None:
    seedance_emulator.stop()
    with pytest.raises(SeedanceTransportError) as caught:
        SeedanceHook().create_task("seedance-20", FOX)
    assert (caught.value.retryable, caught.value.request_sent, caught.value.charged) == (True, False, "no")


@pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
@pytest.mark.seedance_emulator(concurrency_limit=0)
def test_no_free_slot_is_not_sent_again_by_the_hook(seedance_emulator: Emulator, submit_policy: str) -> None:
    with pytest.raises(SeedanceConcurrencyLimitError) as caught:
        SeedanceHook(submit_policy=submit_policy).create_task("seedance-20", FOX)
    assert (caught.value.limit, caught.value.current) == (0, 0)
    assert len(seedance_emulator.requests("createTask")) == 1


@pytest.mark.parametrize(
    ("argument", "in_connection", "in_config", "policy"),
    [
        (None, None, None, "vendor"),
        (None, None, "safe", "safe"),
        (None, "safe", None, "safe"),
        (None, "vendor", "safe", "vendor"),
        (None, "", "safe", "safe"),
        ("safe", "vendor", None, "safe"),
        ("safe", "vendor", "vendor", "safe"),
        ("vendor", "safe", "safe", "vendor"),
    ],
)
def test_the_submit_policy_is_the_arguments_then_the_connections_then_the_configurations(
    seedance_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    in_connection: str | None,
    in_config: str | None,
    policy: str,
) -> None:
    if in_connection is not None:
        connect(monkeypatch, seedance_emulator, extra={"submit_policy": in_connection})
    if in_config is not None:
        monkeypatch.setenv("AIRFLOW__SEEDANCE__SUBMIT_POLICY", in_config)
    seedance_emulator.add_fault("http", status=500)
    hook = SeedanceHook(submit_policy=argument)
    if policy == "safe":
        with pytest.raises(SeedanceSubmitUncertainError):
            hook.create_task("seedance-20", FOX)
    else:
        assert hook.create_task("seedance-20", FOX)


def test_a_wrong_submit_policy_is_refused_wherever_it_stands(
    seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SeedanceConfigurationError, match="submit_policy is 'never'"):
        SeedanceHook(submit_policy="never")
    monkeypatch.setenv("AIRFLOW__SEEDANCE__SUBMIT_POLICY", "sometimes")
    with pytest.raises(SeedanceConfigurationError, match=r"\[seedance\] submit_policy .* is 'sometimes'"):
        SeedanceHook().create_task("seedance-20", FOX)
    connect(monkeypatch, seedance_emulator, extra={"submit_policy": "often"})
    with pytest.raises(SeedanceConfigurationError, match="'seedance_default' is 'often'"):
        SeedanceHook().create_task("seedance-20", FOX)
    assert seedance_emulator.requests() == []


# The button "Test" of the connection form.


class Verdict:
    """Runs `test_connection` and checks what must hold of every verdict."""

    def __init__(self, emulator: Emulator, secret: str) -> None:
        self.good, self.text = SeedanceHook().test_connection()
        assert secret not in self.text
        assert "airflow-connection-test" not in self.text, "the user knows of no such task"
        assert emulator.bill()["tasks_created"] == 0
        assert emulator.requests("createTask") == []


def test_a_good_key_is_accepted(seedance_emulator: Emulator) -> None:
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert verdict.good
    assert f"{seedance_emulator.url}/api/v1" in verdict.text


@pytest.mark.seedance_emulator(dialect="envelope")
def test_a_good_key_is_accepted_by_the_ancestors_dialect(seedance_emulator: Emulator) -> None:
    assert Verdict(seedance_emulator, seedance_emulator.api_key).good


def test_a_good_key_is_accepted_even_if_the_api_finds_the_id_malformed(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("http", on="recordInfo", status=400, message="Invalid taskId")
    assert Verdict(seedance_emulator, seedance_emulator.api_key).good


def test_a_good_key_is_accepted_even_if_the_api_knows_such_a_task(seedance_emulator: Emulator) -> None:
    record = {"taskId": "airflow-connection-test", "status": "waiting"}
    seedance_emulator.add_fault("http", on="recordInfo", status=200, json=record)
    assert Verdict(seedance_emulator, seedance_emulator.api_key).good


def test_a_bad_key_is_told(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, seedance_emulator, password="sk-wrong-key")
    verdict = Verdict(seedance_emulator, "sk-wrong-key")
    assert not verdict.good
    assert "401 'Invalid API Key'" in verdict.text
    assert "'API key'" in verdict.text  # the field of the form


@pytest.mark.parametrize(("state", "words"), [("inactive", "is inactive"), ("expired", "has expired")])
def test_a_key_that_is_no_longer_good_is_told(seedance_emulator: Emulator, state: str, words: str) -> None:
    seedance_emulator.put_account(key=seedance_emulator.api_key, state=state)
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert words in verdict.text


def test_a_key_without_access_to_the_api_is_told(seedance_emulator: Emulator) -> None:
    seedance_emulator.put_account(key=seedance_emulator.api_key, state="no_access")
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "403 'API access not enabled" in verdict.text
    assert "connection that created it" not in verdict.text, "the user asked about no task"


def test_a_missing_key_is_told_without_a_request(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, seedance_emulator, password="")
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "'API key'" in verdict.text
    assert "This connection" in verdict.text, "the form tests a copy, whose id nobody knows"
    assert "seedance_default" not in verdict.text
    assert seedance_emulator.requests() == []


def test_an_unreachable_host_is_told(seedance_emulator: Emulator) -> None:
    seedance_emulator.stop()
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert seedance_emulator.url in verdict.text


def test_a_connection_that_breaks_off_is_told(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("reset", on="recordInfo")
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert seedance_emulator.url in verdict.text


def test_a_wrong_base_url_is_told(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, seedance_emulator, host=f"{seedance_emulator.url}/docs")
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert f"{seedance_emulator.url}/docs/api/v1" in verdict.text


def test_another_api_than_the_vendors_is_told(seedance_emulator: Emulator) -> None:
    """Many servers answer an unknown path in JSON, Airflow's own among them."""
    seedance_emulator.add_fault("http", on="recordInfo", status=404, json={"detail": "Not Found"})
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "404" in verdict.text
    assert "'Base URL'" in verdict.text


def test_a_host_that_only_redirects_is_told(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("redirect", on="recordInfo")
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "302" in verdict.text


def test_an_edge_that_blocks_the_request_is_told(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("html", on="recordInfo", status=403)
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "403" in verdict.text
    assert "User-Agent" in verdict.text


def test_an_api_that_is_down_is_told_after_one_request(seedance_emulator: Emulator) -> None:
    seedance_emulator.add_fault("html", on="recordInfo", status=502, times=None)
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "502" in verdict.text
    assert len(seedance_emulator.requests("recordInfo")) == 1


def test_a_field_that_cannot_be_used_is_told(seedance_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, seedance_emulator, extra={"read_timeout": "soon"})
    verdict = Verdict(seedance_emulator, seedance_emulator.api_key)
    assert not verdict.good
    assert "read_timeout" in verdict.text
    assert "'soon'" in verdict.text


def test_a_missing_connection_is_told() -> None:
    good, text = SeedanceHook("nowhere").test_connection()
    assert not good
    assert "nowhere" in text


def test_a_reply_that_repeats_the_key_does_not_show_it(seedance_emulator: Emulator) -> None:
    echo = f"no such key: {seedance_emulator.api_key}"
    seedance_emulator.add_fault("http", on="recordInfo", status=401, message=echo)
    assert "no such key: ***" in Verdict(seedance_emulator, seedance_emulator.api_key).text


# The connection form up to Airflow 3.1.


def test_the_form_has_a_field_for_each_setting_of_the_extra() -> None:
    pytest.importorskip("wtforms")
    from wtforms import Form

    widgets = SeedanceHook.get_connection_form_widgets()
    form = type("ConnectionForm", (Form,), widgets)()
    assert [field.name for field in form] == list(CONN_FIELDS)
    assert all(field.label.text and field.description for field in form)
    assert form.validate(), "every field may stay empty"


def test_the_form_of_airflow_2_offers_the_policies_as_a_list_and_keeps_what_was_saved() -> None:
    pytest.importorskip("wtforms")
    from wtforms import Form

    form_class = type("ConnectionForm", (Form,), SeedanceHook.get_connection_form_widgets())

    def drawn(value: str | None) -> str:
        return str(form_class(data={"submit_policy": value})["submit_policy"]())

    assert re.findall(r'<option value="(\w*)"', drawn(None)) == ["", "vendor", "safe"]
    assert "selected" in drawn("safe").partition('value="safe"')[2]
    # A wrong value is shown, not replaced.
    assert '<option value="&lt;b&gt;" selected>&lt;b&gt;</option>' in drawn("<b>")
    from werkzeug.datastructures import MultiDict

    assert form_class(MultiDict({"submit_policy": "safe"})).validate()
    form = form_class(MultiDict({"submit_policy": "often"}))
    assert not form.validate()
    # The script of the page finds, hides and restores fields by this class.
    assert all("form-control" in form[name]() for name in CONN_FIELDS if name != "allow_insecure_http")


def test_the_form_is_made_by_airflow_3_which_has_mocks_in_place_of_wtforms(monkeypatch: pytest.MonkeyPatch) -> None:
    service = pytest.importorskip("airflow.api_fastapi.core_api.services.ui.connections").HookMetaService
    names = ("wtforms", "wtforms.validators", "flask_appbuilder", "flask_appbuilder.fieldwidgets")
    wtforms, validators, _, widgets = modules = [ModuleType(name) for name in names]
    for kind in ("String", "Integer", "Boolean"):
        setattr(wtforms, f"{kind}Field", getattr(service, f"Mock{kind}Field"))
    validators.__dict__.update(Optional=service.MockOptional, any_of=service.MockEnum)
    widgets.__dict__["BS3TextFieldWidget"] = service.MockAnyWidget
    for name, module in zip(names, modules, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    shown = {name: widget.param.dump() for name, widget in SeedanceHook.get_connection_form_widgets().items()}
    assert shown["submit_policy"]["schema"]["title"] == "Submit policy"
    assert shown["submit_policy"]["schema"]["enum"] == ["vendor", "safe"]
    assert shown["submit_policy"]["description"] == CONN_FIELDS["submit_policy"]["description"]
    assert shown["read_timeout"]["schema"]["type"] == ["integer", "null"]
    assert shown["allow_insecure_http"]["schema"]["type"] == ["boolean", "null"]


def test_the_form_hides_what_the_api_has_no_use_for() -> None:
    behaviour = SeedanceHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert "extra" in behaviour["hidden_fields"]
    assert "port" not in behaviour["hidden_fields"], "the Test button of Airflow 3.3.1 needs one"
    assert behaviour["relabeling"] == {"host": "Base URL", "password": "API key"}


def test_the_errors_of_the_hook_are_one_family() -> None:
    for error in (SeedanceAuthenticationError, SeedanceTaskNotFoundError, SeedanceTransportError):
        assert issubclass(error, SeedanceError)
