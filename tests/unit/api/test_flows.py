"""Flows fed by hand: what is sent, when, how often, and how it ends."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest

from seedance_provider import exceptions
from seedance_provider.api import calls, flows, policy
from seedance_provider.api.models import TaskStatus
from seedance_provider.api.policy import SubmitPolicy
from tests.unit.api.play import Clock, play, reply

LOG = logging.getLogger("tests.flows")
TASK = "task_k3v9q2m8x4b7n1c6z0l5j2h8"
VIDEO = "https://static.example.com/videos/a.mp4"

CREATED = reply(200, {"taskId": TASK})
WAITING = reply(200, {"taskId": TASK, "model": "seedance-20", "status": "waiting", "output": None, "error": None})
GENERATING = reply(200, {"taskId": TASK, "model": "seedance-20", "status": "generating", "output": None, "error": None})
SUCCESS = reply(200, {"taskId": TASK, "status": "success", "creditsUsed": 200, "output": [{"url": VIDEO}]})
NO_OUTPUT = reply(200, {"taskId": TASK, "status": "success", "creditsUsed": 200, "output": None})
FAILED = reply(200, {"taskId": TASK, "status": "fail", "error": {"code": "1001", "message": "The input was refused"}})
UNKNOWN_WORD = reply(200, {"taskId": TASK, "status": "upscaling"})
NO_STATUS = reply(200, {"taskId": TASK, "model": "seedance-20"})

SERVER_ERROR = reply(500, {"message": "Internal error"})
BAD_GATEWAY = reply(502, "<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>")
HTML_FORBIDDEN = reply(403, "<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>")
UNAUTHORIZED = reply(401, {"message": "Invalid API Key"})
NOT_FOUND = reply(404, {"message": "Task not found"})
FULL = reply(429, {"message": "Concurrency limit reached (5).", "limit": 5, "current": 5})


def never_sent() -> exceptions.SeedanceTransportError:
    return exceptions.SeedanceTransportError("connection refused", request_sent=False)


def broke_off() -> exceptions.SeedanceTransportError:
    return exceptions.SeedanceTransportError("connection reset by peer")


@pytest.fixture(autouse=True)
def _captures_every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="tests.flows")


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random number is the middle one, at which jitter changes nothing."""
    monkeypatch.setattr(flows.random, "random", lambda: 0.5)


def submit(submit_policy: str = "vendor") -> flows.Flow[str]:
    call = calls.create_task("seedance-20", {"prompt": "A sunset over the ocean", "duration": 5})
    return flows.submit(call, SubmitPolicy(submit_policy), LOG)


def wait(clock: Clock, *, poll_interval: float | None = None, timeout: float = 1800, **options: Any) -> flows.Flow[Any]:
    return flows.wait(
        TASK,
        poll_interval=poll_interval,
        started_at=clock.now,
        deadline=clock.now + timeout,
        clock=clock,
        log=LOG,
        **options,
    )


class TestSubmit:
    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    def test_returns_the_id_of_the_first_answer_and_sends_nothing_else(self, submit_policy: str) -> None:
        played = play(submit(submit_policy), [CREATED])

        assert played.result == TASK
        assert len(played.steps) == 1
        assert played.requests[0].method == "POST"
        assert played.requests[0].path == "/jobs/createTask"

    @pytest.mark.parametrize(
        "failure",
        [
            pytest.param(lambda: SERVER_ERROR, id="500"),
            pytest.param(lambda: BAD_GATEWAY, id="502-page"),
            pytest.param(lambda: reply(503, ""), id="503-empty"),
            pytest.param(lambda: reply(524, "<html>A timeout occurred</html>"), id="524-page"),
            pytest.param(broke_off, id="reset-after-sending"),
        ],
    )
    class TestOfUnknownFate:
        def test_is_sent_three_times_under_the_vendor_policy(self, failure: Any) -> None:
            played = play(submit(), [failure(), failure(), CREATED])

            assert played.result == TASK
            assert len(set(played.requests)) == 1, "the same request each time"

        def test_ends_in_its_own_class_after_the_third_under_the_vendor_policy(self, failure: Any) -> None:
            played = play(submit(), [failure(), failure(), failure()])

            assert isinstance(played.error, (exceptions.SeedanceServerError, exceptions.SeedanceTransportError))
            assert len(played.pauses) == 2, "no pause after the last attempt"

        def test_says_before_each_resend_that_it_may_buy_a_second_video(
            self, failure: Any, caplog: pytest.LogCaptureFixture
        ) -> None:
            play(submit(), [failure(), failure(), CREATED])

            warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
            assert len(warnings) == 2
            assert all("second video" in text and "submit_policy='safe'" in text for text in warnings)
            assert "attempt 2 of 3" in warnings[0]
            assert "attempt 3 of 3" in warnings[1]

        def test_is_not_sent_again_under_the_safe_policy(self, failure: Any, caplog: pytest.LogCaptureFixture) -> None:
            cause = failure()
            played = play(submit("safe"), [cause])

            assert type(played.error) is exceptions.SeedanceSubmitUncertainError
            assert played.error.status_code == getattr(cause, "status", None)
            assert "may or may not have been bought" in str(played.error)
            assert isinstance(
                played.error.__cause__, (exceptions.SeedanceServerError, exceptions.SeedanceTransportError)
            )
            assert not played.pauses
            assert not caplog.records

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    def test_that_never_left_is_sent_again_under_both_policies(
        self, submit_policy: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        played = play(submit(submit_policy), [never_sent(), never_sent(), CREATED])

        assert played.result == TASK
        assert len(caplog.records) == 2
        assert all("nothing was bought" in record.getMessage() for record in caplog.records)

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    def test_that_never_left_thrice_is_a_transport_error_not_an_uncertain_one(self, submit_policy: str) -> None:
        played = play(submit(submit_policy), [never_sent(), never_sent(), never_sent()])

        assert type(played.error) is exceptions.SeedanceTransportError
        assert played.error.request_sent is False

    def test_is_uncertain_under_the_safe_policy_when_a_later_attempt_got_through(self) -> None:
        played = play(submit("safe"), [never_sent(), broke_off()])

        assert type(played.error) is exceptions.SeedanceSubmitUncertainError

    def test_waits_one_and_then_two_seconds_jittered_by_a_quarter(self) -> None:
        for _ in range(200):
            first, second = play(submit(), [SERVER_ERROR, SERVER_ERROR, CREATED]).pauses
            assert 0.75 <= first <= 1.25
            assert 1.5 <= second <= 2.5

    def test_jitter_differs_from_one_time_to_the_next(self) -> None:
        firsts = {play(submit(), [SERVER_ERROR, CREATED]).pauses[0] for _ in range(20)}
        assert len(firsts) > 1

    def test_pauses_belong_to_the_submit_so_that_no_one_gives_up_the_worker_in_them(self) -> None:
        played = play(submit(), [SERVER_ERROR, SERVER_ERROR, CREATED])
        assert all(sleep.brief for sleep in played.sleeps)

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            pytest.param(reply(400, {"message": "x"}), exceptions.SeedanceInvalidRequestError, id="400"),
            pytest.param(UNAUTHORIZED, exceptions.SeedanceAuthenticationError, id="401"),
            pytest.param(reply(402, {"message": "x"}), exceptions.SeedanceInsufficientCreditsError, id="402"),
            pytest.param(reply(403, {"message": "x"}), exceptions.SeedancePermissionError, id="403"),
            pytest.param(HTML_FORBIDDEN, exceptions.SeedancePermissionError, id="403-page"),
            pytest.param(reply(404, {"message": "x"}), exceptions.SeedanceTaskNotFoundError, id="404"),
            pytest.param(reply(422, {"message": "x"}), exceptions.SeedanceInvalidRequestError, id="422"),
            pytest.param(FULL, exceptions.SeedanceConcurrencyLimitError, id="429"),
            pytest.param(reply(302, ""), exceptions.SeedanceInvalidRequestError, id="302"),
            pytest.param(reply(200, {"ok": True}), exceptions.SeedanceSubmitUncertainError, id="200-no-id"),
            pytest.param(reply(200, b""), exceptions.SeedanceSubmitUncertainError, id="200-empty"),
            pytest.param(reply(200, b'{"taskId":"task_'), exceptions.SeedanceSubmitUncertainError, id="200-cut"),
            pytest.param(reply(200, "<html>"), exceptions.SeedanceSubmitUncertainError, id="200-page"),
            pytest.param(reply(202, {}), exceptions.SeedanceSubmitUncertainError, id="202-no-id"),
        ],
    )
    def test_is_never_sent_again_after(
        self, submit_policy: str, answer: calls.Reply, error: type[Exception], caplog: pytest.LogCaptureFixture
    ) -> None:
        played = play(submit(submit_policy), [answer])

        assert type(played.error) is error
        assert len(played.steps) == 1
        assert not caplog.records

    @pytest.mark.parametrize(
        ("code", "requests"), [pytest.param(402, 1, id="402-once"), pytest.param(500, 3, id="500-thrice")]
    )
    def test_takes_an_error_envelope_under_200_for_the_status_it_names(self, code: int, requests: int) -> None:
        played = play(submit(), [reply(200, {"code": code, "message": "x", "data": None})] * requests)

        assert isinstance(played.error, exceptions.SeedanceError)
        assert played.error.status_code == code

    def test_may_fail_in_another_way_on_the_second_attempt(self) -> None:
        played = play(submit(), [SERVER_ERROR, reply(402, {"message": "x", "required": 200, "available": 10})])
        assert type(played.error) is exceptions.SeedanceInsufficientCreditsError


class TestGet:
    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            pytest.param(WAITING, TaskStatus.WAITING, id="waiting"),
            pytest.param(SUCCESS, TaskStatus.SUCCESS, id="success"),
            pytest.param(FAILED, TaskStatus.FAIL, id="fail"),
            pytest.param(UNKNOWN_WORD, TaskStatus.UNKNOWN, id="unknown"),
        ],
    )
    def test_returns_the_record_whatever_its_status(self, answer: calls.Reply, status: TaskStatus) -> None:
        played = play(flows.get(TASK, LOG), [answer])

        assert played.result is not None
        assert played.result.status is status
        assert played.requests == [calls.Request("GET", f"/jobs/recordInfo?taskId={TASK}")]

    @pytest.mark.parametrize(
        "failure",
        [
            pytest.param(lambda: SERVER_ERROR, id="500"),
            pytest.param(lambda: BAD_GATEWAY, id="502-page"),
            pytest.param(lambda: HTML_FORBIDDEN, id="403-page"),
            pytest.param(lambda: FULL, id="429"),
            pytest.param(lambda: reply(200, b'{"taskId":"task_'), id="200-cut"),
            pytest.param(lambda: reply(200, b""), id="200-empty"),
            pytest.param(lambda: reply(200, "<html>"), id="200-page"),
            pytest.param(never_sent, id="never-sent"),
            pytest.param(broke_off, id="reset"),
        ],
    )
    def test_is_asked_three_times(self, failure: Any, caplog: pytest.LogCaptureFixture) -> None:
        played = play(flows.get(TASK, LOG), [failure(), failure(), WAITING])
        assert played.result is not None
        assert all("Asking again" in record.getMessage() for record in caplog.records)
        assert len(caplog.records) == 2

        played = play(flows.get(TASK, LOG), [failure(), failure(), failure()])
        assert isinstance(played.error, exceptions.SeedanceError)
        assert played.error.seedance_task_id == TASK

    @pytest.mark.parametrize("status", [400, 402, 403, 404, 422, 302])
    def test_asks_once_where_asking_again_cannot_help(self, status: int) -> None:
        played = play(flows.get(TASK, LOG), [reply(status, {"message": "x"})])

        assert isinstance(played.error, exceptions.SeedanceError)
        assert played.error.status_code == status
        assert played.error.seedance_task_id == TASK

    def test_asks_only_as_often_as_it_is_told(self) -> None:
        played = play(flows.get(TASK, LOG, attempts=1), [SERVER_ERROR])

        assert type(played.error) is exceptions.SeedanceServerError
        assert not played.pauses

    def test_waits_as_long_as_the_answer_asks(self, no_jitter: None) -> None:
        played = play(flows.get(TASK, LOG), [reply(503, "", retry_after=7), reply(429, {}, retry_after=0.2), WAITING])
        assert played.pauses == [7, 2]

    def test_tries_a_renewed_key_once(self) -> None:
        played = play(flows.get(TASK, LOG), [UNAUTHORIZED, WAITING], new_keys=[True])
        assert played.result is not None
        assert played.renewals == 1
        assert not played.pauses

    def test_gives_up_when_the_key_has_not_changed(self) -> None:
        played = play(flows.get(TASK, LOG), [UNAUTHORIZED], new_keys=[False])
        assert type(played.error) is exceptions.SeedanceAuthenticationError

    def test_gives_up_when_the_renewed_key_is_refused_too(self) -> None:
        played = play(flows.get(TASK, LOG), [UNAUTHORIZED, UNAUTHORIZED], new_keys=[True])
        assert type(played.error) is exceptions.SeedanceAuthenticationError


class TestWait:
    def test_returns_the_record_of_a_success_at_the_first_look(self) -> None:
        clock = Clock()
        played = play(wait(clock), [SUCCESS], clock=clock)

        assert played.result is not None
        assert played.result.urls == [VIDEO]
        assert not played.pauses

    def test_looks_until_the_success(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=7), [WAITING, WAITING, GENERATING, SUCCESS], clock=clock)

        assert played.result is not None
        assert played.pauses == [7, 7, 7]
        assert [sleep.status for sleep in played.sleeps] == ["waiting", "waiting", "generating"]
        assert not any(sleep.brief for sleep in played.sleeps)
        assert [record.getMessage() for record in caplog.records] == [
            f"Task {TASK}: created -> waiting after 0 s",
            f"Task {TASK}: waiting -> generating after 14 s",
            f"Task {TASK}: generating -> success after 21 s",
        ]

    def test_does_not_log_a_status_that_is_already_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        play(wait(clock, last_status="generating"), [GENERATING, SUCCESS], clock=clock)
        assert [record.getMessage().split(" after")[0] for record in caplog.records] == [
            f"Task {TASK}: generating -> success"
        ]

    @pytest.mark.parametrize(
        ("body", "code", "message"),
        [
            pytest.param({"error": "Task execution failed"}, None, "Task execution failed", id="seed-text"),
            pytest.param({"error": {"code": "1001", "message": "Refused"}}, "1001", "Refused", id="object"),
            pytest.param({"error": None, "failMsg": "Processing timeout"}, None, "Processing timeout", id="failMsg"),
            pytest.param({}, None, "the vendor gave no reason", id="nothing"),
        ],
    )
    def test_raises_a_failure_with_what_the_vendor_said(self, body: Any, code: str | None, message: str) -> None:
        clock = Clock()
        played = play(wait(clock), [WAITING, reply(200, {"taskId": TASK, "status": "fail", **body})], clock=clock)

        error = played.error
        assert type(error) is exceptions.SeedanceTaskFailedError
        assert (error.code, error.message, error.seedance_task_id) == (code, message, TASK)
        assert error.record is not None
        assert error.record.status is TaskStatus.FAIL
        assert TASK in str(error)
        assert message in str(error)

    @pytest.mark.parametrize("answer", [UNKNOWN_WORD, NO_STATUS, WAITING], ids=["unknown-word", "no-status", "waiting"])
    def test_runs_on_until_the_deadline(self, answer: calls.Reply) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=60, timeout=300), itertools.repeat(answer, 6), clock=clock)

        assert type(played.error) is exceptions.SeedanceTaskTimeoutError
        assert played.sent_at == [0, 60, 120, 180, 240, 300]
        assert played.error.seedance_task_id == TASK
        assert TASK in str(played.error)
        assert "300 s" in str(played.error)

    def test_ends_well_after_an_unknown_word(self) -> None:
        clock = Clock()
        played = play(wait(clock), [UNKNOWN_WORD, NO_STATUS, SUCCESS], clock=clock)
        assert played.result is not None

    def test_takes_a_last_look_at_the_deadline_itself(self) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=60, timeout=100), [WAITING, WAITING, SUCCESS], clock=clock)

        assert played.sent_at == [0, 60, 100]
        assert played.result is not None

    def test_names_the_failure_of_the_last_look_when_the_deadline_passes(self) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=60, timeout=60), [WAITING, BAD_GATEWAY], clock=clock)

        assert type(played.error) is exceptions.SeedanceTaskTimeoutError
        assert "502" in str(played.error)
        assert isinstance(played.error.__cause__, exceptions.SeedanceServerError)

    def test_looks_once_when_the_deadline_has_already_passed(self) -> None:
        clock = Clock()
        played = play(wait(clock, timeout=-5), [SUCCESS], clock=clock)
        assert played.result is not None

        played = play(wait(clock, timeout=-5), [WAITING], clock=clock)
        assert type(played.error) is exceptions.SeedanceTaskTimeoutError

    @pytest.mark.parametrize("poll_interval", [0.5, 5, 17.25, 400])
    def test_obeys_an_explicit_interval_exactly(self, poll_interval: float) -> None:
        clock = Clock()
        played = play(
            wait(clock, poll_interval=poll_interval, timeout=10**6),
            [WAITING, *[GENERATING] * 5, SUCCESS],
            clock=clock,
        )
        assert played.pauses == [poll_interval] * 6

    def test_needs_at_most_20_looks_for_a_video_of_200_seconds(self) -> None:
        for _ in range(100):
            clock = Clock()
            looks = 0
            end = clock.now + 200
            flow = wait(clock)
            step = next(flow)
            try:
                while True:
                    if isinstance(step, flows.Send):
                        looks += 1
                        step = flow.send(SUCCESS if clock.now >= end else GENERATING)
                    else:
                        assert isinstance(step, flows.Sleep)
                        clock.now += step.seconds
                        step = next(flow)
            except StopIteration:
                pass
            assert looks <= 21, "jitter may add a look"
            assert clock.now - end <= 11, "and it is noticed within a few seconds"

    def test_needs_19_looks_for_a_video_of_200_seconds_without_jitter(self, no_jitter: None) -> None:
        clock = Clock()
        played = play(wait(clock), [*[GENERATING] * 18, SUCCESS], clock=clock)
        assert played.sent_at[-2] < 200 <= played.sent_at[-1]

    @pytest.mark.parametrize(
        "blip",
        [
            pytest.param(lambda: SERVER_ERROR, id="500"),
            pytest.param(lambda: BAD_GATEWAY, id="502-page"),
            pytest.param(lambda: HTML_FORBIDDEN, id="403-page"),
            pytest.param(lambda: FULL, id="429"),
            pytest.param(lambda: reply(200, b'{"taskId":"tas'), id="200-cut"),
            pytest.param(lambda: reply(200, b""), id="200-empty"),
            pytest.param(lambda: reply(200, b"[]"), id="200-list"),
            pytest.param(lambda: reply(200, "<html>"), id="200-page"),
            pytest.param(lambda: reply(200, {"code": 500, "message": "x", "data": None}), id="200-envelope-500"),
            pytest.param(never_sent, id="never-sent"),
            pytest.param(broke_off, id="reset"),
        ],
    )
    def test_is_not_ended_by_any_number_of_failed_looks(self, blip: Any, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        played = play(wait(clock), [WAITING, *[blip() for _ in range(12)], SUCCESS], clock=clock)

        assert played.result is not None
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 12
        assert all(TASK in record.getMessage() for record in warnings)

    def test_backs_off_while_looks_fail_and_starts_anew_afterwards(self, no_jitter: None) -> None:
        clock = Clock()
        replies = [*[SERVER_ERROR] * 6, WAITING, SERVER_ERROR, SUCCESS]
        played = play(wait(clock, poll_interval=3), replies, clock=clock)
        assert played.pauses == [3, 3, 4, 8, 16, 32, 3, 3]

    def test_waits_as_long_as_the_answer_asks_but_not_past_the_deadline(self, no_jitter: None) -> None:
        clock = Clock()
        full = reply(429, {}, retry_after=120)
        played = play(wait(clock, poll_interval=5, timeout=200), [full, full, WAITING], clock=clock)
        assert played.pauses == [120, 80]
        assert type(played.error) is exceptions.SeedanceTaskTimeoutError

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            pytest.param(reply(400, {"message": "x"}), exceptions.SeedanceInvalidRequestError, id="400"),
            pytest.param(reply(402, {"message": "x"}), exceptions.SeedanceInsufficientCreditsError, id="402"),
            pytest.param(reply(403, {"message": "x"}), exceptions.SeedancePermissionError, id="403"),
            pytest.param(reply(302, ""), exceptions.SeedanceInvalidRequestError, id="302"),
        ],
    )
    def test_is_ended_by_an_answer_that_looking_again_cannot_change(
        self, answer: calls.Reply, error: type[exceptions.SeedanceError]
    ) -> None:
        clock = Clock()
        played = play(wait(clock), [WAITING, answer], clock=clock)

        assert type(played.error) is error
        assert played.error.seedance_task_id == TASK
        assert TASK in str(played.error) or answer.status == 402

    def test_gives_a_fresh_id_half_a_minute_of_404s(self) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=10), [NOT_FOUND, NOT_FOUND, NOT_FOUND, SUCCESS], clock=clock)
        assert played.sent_at == [0, 10, 20, 30]
        assert played.result is not None

    def test_believes_a_404_after_the_grace(self) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=10), [NOT_FOUND] * 5, clock=clock)
        assert played.sent_at == [0, 10, 20, 30, 40]
        assert type(played.error) is exceptions.SeedanceTaskNotFoundError
        assert played.error.seedance_task_id == TASK

    def test_counts_the_grace_from_the_start_of_waiting_not_from_the_first_look(self) -> None:
        clock = Clock()
        flow = wait(clock)
        clock.now += 3600
        played = play(flow, [NOT_FOUND], clock=clock)
        assert type(played.error) is exceptions.SeedanceTaskNotFoundError

    def test_looks_again_briefly_at_a_success_whose_output_is_late(self) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=300), [NO_OUTPUT, NO_OUTPUT, SUCCESS], clock=clock)

        assert played.result is not None
        assert played.pauses == [policy.OUTPUT_GRACE_INTERVAL] * 2
        assert all(sleep.brief for sleep in played.sleeps)

    def test_keeps_looking_for_late_output_through_failed_looks(self) -> None:
        clock = Clock()
        played = play(wait(clock, poll_interval=5), [NO_OUTPUT, BAD_GATEWAY, broke_off(), SUCCESS], clock=clock)
        assert played.result is not None

    def test_reports_a_success_that_never_lists_output_as_its_own_failure(self) -> None:
        clock = Clock()
        looks = int(policy.OUTPUT_GRACE / policy.OUTPUT_GRACE_INTERVAL) + 1
        played = play(wait(clock, poll_interval=300), [NO_OUTPUT] * looks, clock=clock)

        error = played.error
        assert type(error) is exceptions.SeedanceOutputMissingError
        assert error.seedance_task_id == TASK
        assert error.record is not None
        assert error.record.status is TaskStatus.SUCCESS
        assert error.record.credits_used == 200
        assert "no usable URL" in str(error)

    def test_reports_a_success_without_output_as_such_when_the_deadline_comes_first(self) -> None:
        """Not as a task that still runs: that would be untrue, and would send people to wait for it."""
        clock = Clock()
        played = play(wait(clock, poll_interval=20, timeout=20), [WAITING, NO_OUTPUT], clock=clock)
        assert type(played.error) is exceptions.SeedanceOutputMissingError

    def test_counts_the_grace_for_output_right_when_the_clock_starts_at_zero(self) -> None:
        clock = Clock(0)
        looks = int(policy.OUTPUT_GRACE / policy.OUTPUT_GRACE_INTERVAL) + 1
        played = play(wait(clock), [NO_OUTPUT] * looks, clock=clock)
        assert type(played.error) is exceptions.SeedanceOutputMissingError

    def test_picks_a_rotated_key_up_and_goes_on(self) -> None:
        clock = Clock()
        played = play(wait(clock), [WAITING, UNAUTHORIZED, GENERATING, SUCCESS], clock=clock, new_keys=[True])
        assert played.result is not None
        assert played.renewals == 1
        assert len(played.pauses) == 2, "no pause for the new key"

    def test_picks_up_every_rotation_of_a_long_wait(self) -> None:
        clock = Clock()
        replies = [UNAUTHORIZED, WAITING, UNAUTHORIZED, SUCCESS]
        played = play(wait(clock), replies, clock=clock, new_keys=[True, True])
        assert played.result is not None

    @pytest.mark.parametrize("changed", [True, False], ids=["new-key-refused-too", "no-new-key"])
    def test_ends_when_the_key_stays_refused(self, changed: bool) -> None:
        clock = Clock()
        replies = [UNAUTHORIZED] * (2 if changed else 1)
        played = play(wait(clock), replies, clock=clock, new_keys=[changed])
        assert type(played.error) is exceptions.SeedanceAuthenticationError
        assert played.error.seedance_task_id == TASK

    def test_survives_a_broken_connection_right_after_a_new_key(self) -> None:
        clock = Clock()
        played = play(wait(clock), [UNAUTHORIZED, broke_off(), SUCCESS], clock=clock, new_keys=[True])
        assert played.result is not None


class TestWaitAfterAFirstLookElsewhere:
    def test_starts_with_a_pause(self) -> None:
        clock = Clock()
        played = play(wait(clock, look_first=False), [SUCCESS], clock=clock)
        assert isinstance(played.steps[0], flows.Sleep)
        assert 0 <= played.pauses[0] <= 5.5

    def test_spreads_many_waiters_over_an_explicit_interval(self) -> None:
        firsts = []
        for _ in range(50):
            clock = Clock()
            played = play(wait(clock, poll_interval=60, look_first=False), [WAITING, WAITING, SUCCESS], clock=clock)
            firsts.append(played.pauses[0])
            assert played.pauses[1:] == [60, 60]
        assert all(0 <= first <= 60 for first in firsts)
        assert max(firsts) - min(firsts) > 20

    def test_never_pauses_past_the_deadline(self, no_jitter: None) -> None:
        clock = Clock()
        played = play(wait(clock, timeout=1, look_first=False), [SUCCESS], clock=clock)
        assert played.pauses == [1]
        assert played.result is not None

    def test_looks_at_once_when_the_deadline_has_passed(self) -> None:
        clock = Clock()
        played = play(wait(clock, timeout=-10, look_first=False), [SUCCESS], clock=clock)
        assert played.pauses == [0]
        assert played.result is not None

    def test_goes_on_at_the_pace_of_the_tasks_age(self, no_jitter: None) -> None:
        clock = Clock()
        flow = wait(clock, look_first=False)
        clock.now += 700
        played = play(flow, [GENERATING, SUCCESS], clock=clock)
        assert played.pauses == [7.5, 15]


def of_a_later_settled_model(credits_used: Any, status: str = "success") -> calls.Reply:
    return reply(
        200,
        {"taskId": TASK, "model": "seedance2-5-extend", "status": status, "creditsUsed": credits_used, "output": VIDEO},
    )


class TestSettlement:
    """Some models are charged by the length of a reference video, a few seconds after the success."""

    def test_reads_the_credits_once_more(self) -> None:
        clock = Clock()
        played = play(wait(clock), [of_a_later_settled_model(295), of_a_later_settled_model(525.5)], clock=clock)
        assert played.result is not None
        assert str(played.result.credits_used) == "525.5"
        assert played.result.urls == [VIDEO]
        (pause,) = played.sleeps
        assert (pause.seconds, pause.brief) == (policy.SETTLEMENT_DELAY, True)

    @pytest.mark.parametrize(
        "second",
        [
            pytest.param(lambda: SERVER_ERROR, id="500"),
            pytest.param(lambda: NOT_FOUND, id="404"),
            pytest.param(lambda: BAD_GATEWAY, id="502-page"),
            pytest.param(broke_off, id="reset"),
        ],
    )
    def test_keeps_the_video_when_that_fails(self, second: Any, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        played = play(wait(clock), [of_a_later_settled_model(295), second()], clock=clock)
        assert played.result is not None
        assert played.result.credits_used == 295
        assert "could not be read" in caplog.records[-1].getMessage()

    @pytest.mark.parametrize(
        "second", [of_a_later_settled_model(None), WAITING, FAILED], ids=["null", "waiting", "fail"]
    )
    def test_keeps_the_first_amount_where_there_is_no_second(self, second: calls.Reply) -> None:
        clock = Clock()
        played = play(wait(clock), [of_a_later_settled_model(295), second], clock=clock)
        assert played.result is not None
        assert played.result.status is TaskStatus.SUCCESS
        assert played.result.credits_used == 295

    def test_is_not_waited_for_with_other_models(self) -> None:
        clock = Clock()
        assert not play(wait(clock), [SUCCESS], clock=clock).pauses


class TestRepeat:
    @pytest.mark.parametrize(
        "body", [{}, [], {"uploadUrl": "ftp://a"}, {"uploadUrl": "https://a.example/put"}], ids=repr
    )
    def test_asks_three_times_for_a_ticket_that_cannot_be_used(self, body: Any) -> None:
        flow = flows.repeat(calls.request_upload("cat.png", "image/png"), LOG)
        played = play(flow, [reply(200, body)] * 3)
        assert type(played.error) is exceptions.SeedanceServerError
        assert "without a usable uploadUrl" in str(played.error)
        assert "a.example" not in str(played.error), "a signed URL is shown nowhere"

    def test_takes_an_error_envelope_for_the_error_it_is(self) -> None:
        flow = flows.repeat(calls.request_upload("cat.png", "image/png"), LOG)
        played = play(flow, [reply(200, {"code": 402, "message": "x", "data": None})])
        assert type(played.error) is exceptions.SeedanceInsufficientCreditsError

    @pytest.mark.parametrize("status", [200, 201])
    @pytest.mark.parametrize("announced", ["image/webp", None])
    def test_takes_a_ticket_in_or_out_of_an_envelope(self, status: int, announced: str | None) -> None:
        members = {
            "uploadUrl": "https://a.example/put?s=1",
            "url": "https://b.example/cat.png",
            "contentType": announced,
        }
        for body in (members, {"code": 200, "message": "success", "data": members}):
            flow = flows.repeat(calls.request_upload("cat.png", "image/png"), LOG)
            ticket = play(flow, [reply(status, body)]).result
            assert ticket == calls.UploadTicket(
                "https://a.example/put?s=1", announced or "image/png", "https://b.example/cat.png"
            )


def test_a_flow_can_be_closed_at_any_step() -> None:
    clock = Clock()
    for flow in (submit(), flows.get(TASK, LOG), wait(clock), wait(clock, look_first=False)):
        next(flow)
        flow.close()


@pytest.mark.parametrize("task_id", ["", "  ", None, 5, ["task_a"], {"a": 1}], ids=repr)
def test_a_wait_for_something_that_is_no_id_says_so_before_anything_is_sent(task_id: Any) -> None:
    clock = Clock()
    flow = flows.wait(task_id, poll_interval=None, started_at=0, deadline=1, clock=clock, log=LOG)
    played = play(flow, [], clock=clock)
    assert type(played.error) is exceptions.SeedanceInvalidRequestError
    assert "seedance_task_id" in str(played.error)
    assert not played.steps
