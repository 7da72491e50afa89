"""Flows fed by hand: what is sent, when, how often, and how it ends."""

from __future__ import annotations

import copy
import io
import itertools
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seedance_provider import defaults, exceptions
from seedance_provider.api import calls, catalog, errors, flows, schedule
from seedance_provider.api.messages import Flow, Put, Reply, Request, Send, Sleep
from seedance_provider.api.records import TaskRecord, TaskStatus
from seedance_provider.config import SubmitPolicy
from tests.support.play import Clock, Play, no_jitter, play, reply

LOG = logging.getLogger("tests.flows")
TASK = "task_k3v9q2m8x4b7n1c6z0l5j2h8"
VIDEO = "https://static.example.com/videos/a.mp4"
PAGE = "<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"

CREATED = reply(200, {"taskId": TASK})
WAITING = reply(200, {"taskId": TASK, "model": "seedance-20", "status": "waiting", "output": None, "error": None})
GENERATING = reply(200, {"taskId": TASK, "model": "seedance-20", "status": "generating", "output": None, "error": None})
SUCCESS = reply(200, {"taskId": TASK, "status": "success", "creditsUsed": 200, "output": [{"url": VIDEO}]})
NO_OUTPUT = reply(200, {"taskId": TASK, "status": "success", "creditsUsed": 200, "output": None})
FAILED = reply(200, {"taskId": TASK, "status": "fail", "error": {"code": "1001", "message": "The input was refused"}})
UNKNOWN_WORD = reply(200, {"taskId": TASK, "status": "upscaling"})
NO_STATUS = reply(200, {"taskId": TASK, "model": "seedance-20"})
OF_ANOTHER_TASK = reply(200, {"taskId": "task_other", "status": "success", "output": ["https://a.example/other.mp4"]})

SERVER_ERROR = reply(500, {"message": "Internal error"})
BAD_GATEWAY = reply(502, "<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>")
HTML_FORBIDDEN = reply(403, PAGE)
UNAUTHORIZED = reply(401, {"message": "Invalid API Key"})
FORBIDDEN = reply(403, {"message": "Access denied"})
NOT_FOUND = reply(404, {"message": "Task not found"})
NO_CREDITS = reply(402, {"message": "Insufficient credits", "required": 200, "available": 10})
FULL = reply(429, {"message": "Concurrency limit reached (5).", "limit": 5, "current": 5})


def never_sent() -> exceptions.SeedanceTransportError:
    return exceptions.SeedanceTransportError("connection refused", request_sent=False)


def broke_off() -> exceptions.SeedanceTransportError:
    return exceptions.SeedanceTransportError("connection reset by peer")


def error_of(failure: Reply | exceptions.SeedanceError) -> exceptions.SeedanceError:
    return errors.error_of(failure) if isinstance(failure, Reply) else failure


def text_of(failure: Reply | exceptions.SeedanceError) -> str:
    return str(error_of(failure))


def text_of_poll(failure: Reply | exceptions.SeedanceError) -> str:
    """What a poll says of it, without the id at the end."""
    if isinstance(failure, Reply):
        with pytest.raises(exceptions.SeedanceError) as caught:
            calls.get_task(TASK).read(failure)
        failure = caught.value
    return str(failure).removesuffix(f" (task {TASK})")


@pytest.fixture(autouse=True)
def _captures_every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="tests.flows")


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@dataclass
class Intent:
    """Remembers what a submission tells it."""

    told: list[int] = field(default_factory=list)

    def __call__(self, unknown: int) -> None:
        self.told.append(unknown)


def submit(submit_policy: str = "vendor", *, jitter: Callable[[], float] = no_jitter, **options: Any) -> Flow[str]:
    call = calls.create_task("seedance-20", {"prompt": "A sunset over the ocean", "duration": 5})
    return flows.submit(call, SubmitPolicy(submit_policy), LOG, jitter=jitter, **options)


def get(**options: Any) -> Flow[TaskRecord]:
    return flows.get(TASK, LOG, jitter=no_jitter, **options)


def watch(
    clock: Clock,
    *,
    poll_interval: float | None = None,
    timeout: float = 1800,
    jitter: Callable[[], float] = no_jitter,
    **options: Any,
) -> flows.Watch:
    return flows.Watch(
        TASK,
        poll_interval,
        started_at=clock.now,
        deadline=clock.now + timeout,
        clock=clock,
        jitter=jitter,
        log=LOG,
        **options,
    )


def wait(
    replies: Iterable[Reply | Exception],
    *,
    poll_first: bool = True,
    new_keys: Iterable[bool] = (),
    clock: Clock | None = None,
    **options: Any,
) -> Play[TaskRecord]:
    """Play a wait to its end."""
    clock = clock or Clock()
    flow = flows.wait(watch(clock, **options), poll_first=poll_first)
    return play(flow, replies, clock=clock, new_keys=new_keys)


@pytest.mark.parametrize(
    ("conn_id", "call"),
    [
        ("", "SeedanceTaskSensor(seedance_task_id='task_1')"),
        ("seedance_default", "SeedanceTaskSensor(seedance_task_id='task_1')"),
        ("studio", "SeedanceTaskSensor(seedance_task_id='task_1', seedance_conn_id='studio')"),
    ],
)
def test_a_user_is_told_how_to_collect_a_video(conn_id: str, call: str) -> None:
    assert flows.collect_with("task_1", conn_id) == call


def test_a_user_who_stops_a_task_is_told_that_its_video_goes_on() -> None:
    assert flows.keeps_running("task_1") == (
        "The video cannot be cancelled and will be billed; collect it with "
        "SeedanceTaskSensor(seedance_task_id='task_1')"
    )


def test_with_a_ledger_a_user_is_told_the_command_that_names_what_was_found() -> None:
    assert errors.check_manually("airflow seedance adopt ID") == (
        "Check manually: look for the video in the account's task list on the vendor's site. If it is not there, clear "
        "this task. If it is, name its ID and then clear this task, free: airflow seedance adopt ID"
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
    class TestOfUnknownOutcome:
        def test_is_sent_three_times_under_the_vendor_policy(self, failure: Any) -> None:
            played = play(submit(), [failure(), failure(), CREATED])

            assert played.result == TASK
            assert len(set(played.requests)) == 1, "the same request each time"

        def test_ends_in_its_own_class_after_the_third_under_the_vendor_policy(self, failure: Any) -> None:
            played = play(submit(), [failure(), failure(), failure()])

            assert isinstance(played.error, (exceptions.SeedanceServerError, exceptions.SeedanceTransportError))
            assert played.error.charged == "unknown"
            is_transport = isinstance(played.error, exceptions.SeedanceTransportError)
            assert hasattr(played.error, "request_sent") is is_transport
            assert str(played.error) == (
                f"A video may have been charged: createTask got no usable answer ({text_of(failure())}). The "
                f"outcome of 3 createTask(s) for this video is unknown. {errors.CHECK_MANUALLY}"
            )
            assert len(played.pauses) == 2, "no pause after the last attempt"

        def test_warns_before_each_resend_and_names_the_policy_that_would_not(
            self, failure: Any, caplog: pytest.LogCaptureFixture
        ) -> None:
            play(submit(), [failure(), failure(), CREATED])

            assert lines(caplog) == [
                f"createTask got no usable answer; sending it again in {pause} s (attempt {attempt} of 3), as the "
                "vendor advises: it may be charged twice, since its outcome is unknown. submit_policy='safe' would "
                f"stop here. The answer: {text_of(failure())}"
                for attempt, pause in ((2, "1.0"), (3, "2.0"))
            ]

        def test_is_not_sent_again_under_the_safe_policy(self, failure: Any, caplog: pytest.LogCaptureFixture) -> None:
            cause = failure()
            played = play(submit("safe"), [cause])

            assert type(played.error) is exceptions.SeedanceSubmitUncertainError
            assert played.error.status_code == getattr(cause, "status", None)
            assert played.error.message == error_of(cause).message
            assert played.error.charged == "unknown"
            assert str(played.error) == (
                f"A video may have been charged: createTask got no usable answer ({text_of(cause)}). "
                f"submit_policy='safe' does not send it again. {errors.CHECK_MANUALLY}"
            )
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
        assert lines(caplog) == [
            f"{never_sent()}. No request was sent; attempt {attempt} of 3 in {pause} s"
            for attempt, pause in ((2, "1.0"), (3, "2.0"))
        ]

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    def test_that_never_left_thrice_is_a_transport_error_of_no_charge(self, submit_policy: str) -> None:
        played = play(submit(submit_policy), [never_sent(), never_sent(), never_sent()])

        assert type(played.error) is exceptions.SeedanceTransportError
        assert played.error.request_sent is False
        assert played.error.charged == "no"
        assert str(played.error) == (
            f"{never_sent()}. No request was sent, in 3 attempts, so nothing was charged: clear this task when that is "
            "repaired"
        )

    def test_is_uncertain_under_the_safe_policy_when_a_later_attempt_got_through(self) -> None:
        played = play(submit("safe"), [never_sent(), broke_off()])

        assert type(played.error) is exceptions.SeedanceSubmitUncertainError

    def test_waits_one_and_then_two_seconds_spread_by_a_quarter(self) -> None:
        def pauses(jitter: float) -> list[float]:
            return play(submit(jitter=lambda: jitter), [SERVER_ERROR, SERVER_ERROR, CREATED]).pauses

        assert pauses(0) == [0.75, 1.5]
        assert pauses(0.5) == [1, 2]
        assert pauses(1) == [1.25, 2.5]

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            pytest.param(reply(400, {"message": "x"}), exceptions.SeedanceInvalidRequestError, id="400"),
            pytest.param(UNAUTHORIZED, exceptions.SeedanceAuthenticationError, id="401"),
            pytest.param(NO_CREDITS, exceptions.SeedanceInsufficientCreditsError, id="402"),
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
        self, submit_policy: str, answer: Reply, error: type[exceptions.SeedanceError], caplog: pytest.LogCaptureFixture
    ) -> None:
        played = play(submit(submit_policy), [answer])

        assert type(played.error) is error
        assert played.error.charged == ("unknown" if error is exceptions.SeedanceSubmitUncertainError else "no")
        assert len(played.steps) == 1
        assert not caplog.records

    @pytest.mark.parametrize(
        ("code", "requests"), [pytest.param(402, 1, id="402-once"), pytest.param(500, 3, id="500-thrice")]
    )
    def test_takes_an_error_envelope_under_200_for_the_status_it_names(self, code: int, requests: int) -> None:
        played = play(submit(), [reply(200, {"code": code, "message": "x", "data": None})] * requests)

        assert isinstance(played.error, exceptions.SeedanceError)
        assert played.error.status_code == code

    @pytest.mark.parametrize("body", [b'{"taskId":"%s","mod', b'{"taskId":"%s"}<html>'])
    @pytest.mark.parametrize("status", [200, 500])
    def test_takes_the_id_of_an_answer_that_broke_off(self, status: int, body: bytes) -> None:
        assert play(submit("safe"), [reply(status, body % TASK.encode())]).result == TASK


KEPT_UNKNOWN = [
    pytest.param(NO_CREDITS, exceptions.SeedanceInsufficientCreditsError, id="402"),
    pytest.param(FULL, exceptions.SeedanceConcurrencyLimitError, id="429"),
    pytest.param(UNAUTHORIZED, exceptions.SeedanceAuthenticationError, id="401"),
    pytest.param(FORBIDDEN, exceptions.SeedancePermissionError, id="403"),
    pytest.param(reply(400, {"message": "x"}), exceptions.SeedanceInvalidRequestError, id="400"),
]


class TestUnknownStaysUnknown:
    """Once a createTask may have been accepted, no later answer says that nothing was charged."""

    @pytest.mark.parametrize(("refusal", "error"), KEPT_UNKNOWN)
    def test_when_a_resend_is_refused(self, refusal: Reply, error: type[exceptions.SeedanceError]) -> None:
        intent = Intent()
        played = play(submit(remember=intent), [SERVER_ERROR, refusal])

        assert type(played.error) is error
        assert played.error.charged == "unknown"
        assert "SeedanceTaskSensor(seedance_task_id=" in str(played.error)
        assert "Nothing was charged" not in str(played.error)
        assert intent.told[-1] == 1

    @pytest.mark.parametrize(("refusal", "error"), KEPT_UNKNOWN)
    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    def test_when_an_earlier_try_knows_of_one(
        self, submit_policy: str, refusal: Reply, error: type[exceptions.SeedanceError]
    ) -> None:
        intent = Intent()
        played = play(submit(submit_policy, unknown=1, remember=intent), [refusal])

        assert type(played.error) is error
        assert played.error.charged == "unknown"
        assert intent.told == [2, 1]

    def test_and_a_refusal_keeps_its_numbers(self) -> None:
        error: Any = play(submit(), [SERVER_ERROR, NO_CREDITS]).error
        assert (error.required, error.available, error.status_code) == (200, 10, 402)

    def test_when_the_last_attempts_were_never_sent(self) -> None:
        intent = Intent()
        played = play(submit(remember=intent), [broke_off(), never_sent(), never_sent()])

        assert type(played.error) is exceptions.SeedanceTransportError
        assert played.error.request_sent is True
        assert played.error.charged == "unknown"
        assert intent.told == [1, 2, 1, 2, 1]

    def test_and_is_told_before_each_request(self) -> None:
        """Whatever dies during a request, its outcome was noted as unknown."""
        intent = Intent()
        flow = submit(remember=intent)
        next(flow)
        assert intent.told == [1]
        flow.send(SERVER_ERROR)
        assert intent.told == [1]
        next(flow)
        assert intent.told == [1, 2]

    def test_so_that_nothing_is_sent_where_it_cannot_be_remembered(self) -> None:
        def remember(unknown: int) -> None:
            raise OSError(f"no place for {unknown}")

        played = play(submit(remember=remember), [])
        assert isinstance(played.error, OSError)

    def test_and_three_are_the_most(self) -> None:
        for unknown in range(defaults.MAX_UNKNOWN_OUTCOMES):
            played = play(submit(unknown=unknown), [SERVER_ERROR] * (defaults.MAX_UNKNOWN_OUTCOMES - unknown))
            assert type(played.error) is exceptions.SeedanceServerError

    @pytest.mark.parametrize("submit_policy", ["vendor", "safe"])
    @pytest.mark.parametrize("unknown", [3, 4, 100])
    def test_so_that_a_fourth_is_not_sent(self, submit_policy: str, unknown: int) -> None:
        intent = Intent()
        played = play(submit(submit_policy, unknown=unknown, remember=intent), [])
        assert type(played.error) is exceptions.SeedanceSubmitUncertainError
        assert played.error.charged == "unknown"
        assert str(unknown) in str(played.error)
        assert not intent.told

    ANSWERS = ("id", "unknown", "unsent", "refused", "no id")

    def answer(self, name: str) -> Reply | Exception:
        answers: dict[str, Reply | Exception] = {
            "id": CREATED,
            "unknown": SERVER_ERROR,
            "unsent": never_sent(),
            "refused": random.choice([NO_CREDITS, FULL, UNAUTHORIZED, HTML_FORBIDDEN]),
            "no id": reply(200, {}),
        }
        return answers[name]

    @staticmethod
    def model(answers: list[str], unknown: int, safe: bool) -> tuple[int, str, int]:
        """How many requests are sent, how it ends, and how many outcomes are unknown then."""
        for sent, answer in enumerate(answers[: defaults.ATTEMPTS]):
            if unknown >= 3:
                return sent, "not sent" if sent == 0 else "unanswered", unknown
            unknown += answer in ("unknown", "no id")
            if answer in ("id", "refused", "no id"):
                return sent + 1, answer, unknown
            if answer == "unknown" and safe:
                return sent + 1, "no id", unknown
        return min(len(answers), defaults.ATTEMPTS), "unanswered", unknown

    @given(
        st.lists(st.sampled_from(ANSWERS), min_size=3, max_size=3),
        st.integers(0, 4),
        st.sampled_from(["vendor", "safe"]),
    )
    @example(["unknown", "refused", "id"], 0, "vendor")
    @example(["unknown", "unknown", "unknown"], 0, "vendor")
    @example(["unsent", "unsent", "unknown"], 2, "vendor")
    def test_in_any_order_of_answers(self, answers: list[str], unknown: int, submit_policy: str) -> None:
        sent, end, then_unknown = self.model(answers, unknown, submit_policy == "safe")
        intent = Intent()
        flow = submit(submit_policy, unknown=unknown, remember=intent)
        played = play(flow, [self.answer(name) for name in answers[:sent]])

        assert len(played.requests) == sent
        if end == "id":
            assert played.result == TASK
            return
        error = played.error
        assert isinstance(error, exceptions.SeedanceError)
        assert error.charged == ("unknown" if then_unknown else "no")
        uncertain = type(error) is exceptions.SeedanceSubmitUncertainError
        assert uncertain == (end in ("no id", "not sent"))
        if intent.told:
            assert intent.told[-1] == then_unknown

    @given(st.lists(st.sampled_from(ANSWERS), min_size=12, max_size=12), st.sampled_from(["vendor", "safe"]))
    def test_over_all_slot_rounds_and_retries_of_one_video(self, answers: list[str], submit_policy: str) -> None:
        """Each try begins with what the former told: at most three of unknown outcome are ever sent."""
        feed, of_unknown_outcome, unknown = iter(answers), 0, 0
        for _ in range(4):
            intent = Intent([unknown])
            flow = submit(submit_policy, unknown=unknown, remember=intent)
            error: exceptions.SeedanceError | None = None
            try:
                step = next(flow)
                while True:
                    if not isinstance(step, Send):
                        step = next(flow)
                        continue
                    name = next(feed)
                    of_unknown_outcome += name in ("unknown", "no id")
                    answer = self.answer(name)
                    step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
            except StopIteration:
                break
            except exceptions.SeedanceError as caught:
                error = caught
            assert (error.charged == "no") == (of_unknown_outcome == 0)
            unknown = intent.told[-1]
            assert unknown == of_unknown_outcome
        assert of_unknown_outcome <= defaults.MAX_UNKNOWN_OUTCOMES


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
    def test_returns_the_record_whatever_its_status(self, answer: Reply, status: TaskStatus) -> None:
        played = play(get(), [answer])

        assert played.result is not None
        assert played.result.status is status
        assert played.requests == [Request("GET", f"/jobs/recordInfo?taskId={TASK}")]

    def test_gives_a_record_that_names_no_task_the_id_it_was_asked_for(self) -> None:
        played = play(get(), [reply(200, {"status": "waiting"})])
        assert played.result is not None
        assert played.result.seedance_task_id == TASK

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
            pytest.param(lambda: OF_ANOTHER_TASK, id="200-of-another-task"),
            pytest.param(never_sent, id="never-sent"),
            pytest.param(broke_off, id="reset"),
        ],
    )
    def test_polls_three_times(self, failure: Any, caplog: pytest.LogCaptureFixture) -> None:
        played = play(get(), [failure(), failure(), WAITING])
        assert played.result is not None
        assert len(lines(caplog)) == 2

        played = play(get(), [failure(), failure(), failure()])
        assert isinstance(played.error, exceptions.SeedanceError)
        assert played.error.seedance_task_id == TASK

    @pytest.mark.parametrize("status", [400, 402, 403, 404, 422, 302])
    def test_polls_once_where_polling_again_cannot_help(self, status: int) -> None:
        played = play(get(), [reply(status, {"message": "x"})])

        assert isinstance(played.error, exceptions.SeedanceError)
        assert played.error.status_code == status
        assert played.error.seedance_task_id == TASK

    def test_polls_only_as_often_as_it_is_told(self) -> None:
        played = play(get(attempts=1), [SERVER_ERROR])

        assert type(played.error) is exceptions.SeedanceServerError
        assert not played.pauses

    def test_waits_as_long_as_the_answer_asks(self) -> None:
        played = play(get(), [reply(503, "", retry_after=7), reply(429, {}, retry_after=0.2), WAITING])
        assert played.pauses == [7, 2]

    def test_tries_a_renewed_key_once(self) -> None:
        played = play(get(), [UNAUTHORIZED, WAITING], new_keys=[True])
        assert played.result is not None
        assert played.renewals == 1
        assert not played.pauses

    def test_gives_up_when_the_key_has_not_changed(self) -> None:
        played = play(get(), [UNAUTHORIZED], new_keys=[False])
        assert type(played.error) is exceptions.SeedanceAuthenticationError

    def test_gives_up_when_the_renewed_key_is_refused_too(self) -> None:
        played = play(get(), [UNAUTHORIZED, UNAUTHORIZED], new_keys=[True])
        assert type(played.error) is exceptions.SeedanceAuthenticationError


class TestWait:
    def test_returns_the_record_of_a_success_at_the_first_poll(self) -> None:
        played = wait([SUCCESS])

        assert played.result is not None
        assert played.result.urls == [VIDEO]
        assert not played.pauses

    def test_polls_until_the_success(self) -> None:
        played = wait([WAITING, WAITING, GENERATING, SUCCESS], poll_interval=7)

        assert played.result is not None
        assert played.pauses == [7, 7, 7]

    def test_logs_each_change_of_status_once(self, caplog: pytest.LogCaptureFixture) -> None:
        wait([WAITING, WAITING, GENERATING, SUCCESS], poll_interval=7)

        # The end is told by who waited, with what it means.
        assert lines(caplog, logging.INFO) == [
            f"waiting, after 0 s of waiting (task {TASK})",
            f"generating, after 14 s of waiting (task {TASK})",
        ]

    def test_logs_a_status_once_however_often_the_rest_of_the_answer_changes(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        changing = [reply(200, {"taskId": TASK, "status": "generating", "progress": part}) for part in (10, 50, 90)]
        wait([*changing, SUCCESS])
        assert len(lines(caplog, logging.INFO)) == 1

    @pytest.mark.parametrize(
        ("created", "age"),
        [({}, "after 0 s of waiting"), ({"createTime": 1_799_999_940_000}, "60 s after its creation")],
    )
    def test_logs_that_an_answer_has_no_status(
        self, created: dict[str, Any], age: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        wait([reply(200, {"taskId": TASK, **created}), SUCCESS], last_status="generating")
        assert lines(caplog, logging.INFO) == [f"no status, {age} (task {TASK})"]

    def test_gives_a_record_that_names_no_task_the_id_it_was_asked_for(self) -> None:
        played = wait([reply(200, {"status": "success", "output": [{"url": VIDEO}]})])
        assert played.result is not None
        assert played.result.seedance_task_id == TASK

    def test_learns_the_usual_time_from_the_first_answer_that_names_the_model(self) -> None:
        slow = max(catalog.MODELS, key=lambda name: catalog.usual_seconds(name) or 0)
        named = reply(200, {"taskId": TASK, "status": "generating", "model": slow})
        unnamed = reply(200, {"taskId": TASK, "status": "waiting"})
        clock = Clock()
        watched = watch(clock)
        clock.now += 150
        watched.saw(unnamed)
        before = watched.pause
        watched.saw(named)
        stretched = watched.pause
        watched.saw(unnamed)
        assert before < stretched == watched.pause

    def test_logs_how_old_the_task_is_by_its_record(self, caplog: pytest.LogCaptureFixture) -> None:
        """Whoever waits late must not read that the video has just begun."""
        running = {"taskId": TASK, "status": "generating"}
        created = Clock().now - 60
        wait([reply(200, {**running, "createTime": created * 1000}), SUCCESS])
        assert lines(caplog, logging.INFO) == [f"generating, 60 s after its creation (task {TASK})"]

    @pytest.mark.parametrize("created", [1_900_000_000_000, "soon", None, -1], ids=repr)
    def test_logs_the_time_of_waiting_where_the_record_has_none(
        self, created: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        wait([reply(200, {"taskId": TASK, "status": "generating", "createTime": created}), SUCCESS])
        (line,) = lines(caplog, logging.INFO)
        assert "0 s of waiting" in line

    def test_does_not_log_a_status_that_is_already_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        wait([GENERATING, SUCCESS], last_status="generating")
        assert lines(caplog, logging.INFO) == []

    def test_logs_no_control_character_of_the_vendors(self, caplog: pytest.LogCaptureFixture) -> None:
        odd = "up\n\x1b[2J\r\u202escaling"
        wait([reply(200, {"taskId": TASK, "status": odd}), reply(500, {"message": odd}), reply(502, odd), SUCCESS])
        assert len(caplog.records) == 3
        assert all(record.getMessage().isprintable() for record in caplog.records)

    @pytest.mark.parametrize(
        ("body", "code", "message"),
        [
            pytest.param({"error": "Task execution failed"}, None, "Task execution failed", id="seed-text"),
            pytest.param({"error": {"code": "1001", "message": "Refused"}}, "1001", "Refused", id="object"),
            pytest.param({"error": None, "failMsg": "Processing timeout"}, None, "Processing timeout", id="failMsg"),
            pytest.param({"error": "It ended. XX."}, None, "It ended. XX.", id="full-stop"),
            pytest.param({}, None, "the vendor gave no reason", id="nothing"),
        ],
    )
    def test_raises_a_failure_with_what_the_vendor_said(self, body: Any, code: str | None, message: str) -> None:
        error = wait([WAITING, reply(200, {"taskId": TASK, "status": "fail", **body})]).error

        assert type(error) is exceptions.SeedanceTaskFailedError
        assert (error.code, error.message, error.seedance_task_id) == (code, message, TASK)
        assert error.record is not None
        assert error.charged == "no"
        said = message.removesuffix(".") if code is None else f"{message} (code {code})"
        assert str(error) == (
            f"Generation failed: {said}. The vendor refunds failed tasks; change the inputs, then submit again "
            f"(task {TASK})"
        )

    @pytest.mark.parametrize("answer", [UNKNOWN_WORD, NO_STATUS, WAITING], ids=["unknown-word", "no-status", "waiting"])
    def test_continues_until_the_deadline(self, answer: Reply) -> None:
        played = wait(itertools.repeat(answer, 6), poll_interval=60, timeout=300)

        assert type(played.error) is exceptions.SeedanceTaskTimeoutError
        assert played.sent_at == [0, 60, 120, 180, 240, 300]
        assert played.error.seedance_task_id == TASK
        assert played.error.charged == "yes"
        assert f"SeedanceTaskSensor(seedance_task_id='{TASK}')" in str(played.error)
        assert "5 min" in str(played.error)

    @pytest.mark.parametrize(
        ("answer", "state"),
        [
            (WAITING, "the status is still 'waiting'"),
            (NO_STATUS, "no answer named a status"),
        ],
        ids=["waiting", "no-status"],
    )
    def test_says_at_the_deadline_what_is_known_and_what_to_do(self, answer: Reply, state: str) -> None:
        assert str(wait(itertools.repeat(answer, 2), poll_interval=10, timeout=7.25).error) == (
            f"Not ended after 7.2 s: {state}. Clear this task to keep waiting, free; the video keeps running and will "
            f"be billed. Or collect it with SeedanceTaskSensor(seedance_task_id='{TASK}') and a longer timeout"
        )

    def test_ends_well_after_an_unknown_word(self) -> None:
        assert wait([UNKNOWN_WORD, NO_STATUS, SUCCESS]).result is not None

    def test_polls_a_last_time_at_the_deadline_itself(self) -> None:
        played = wait([WAITING, WAITING, SUCCESS], poll_interval=60, timeout=100)

        assert played.sent_at == [0, 60, 100]
        assert played.result is not None

    def test_names_the_failure_of_the_last_poll_when_the_deadline_passes(self) -> None:
        played = wait([WAITING, BAD_GATEWAY], poll_interval=60, timeout=60)

        assert type(played.error) is exceptions.SeedanceTaskTimeoutError
        assert "502" in str(played.error)
        assert isinstance(played.error.__cause__, exceptions.SeedanceServerError)

    @pytest.mark.parametrize("timeout", [0, -5, -86_400])
    @pytest.mark.parametrize("poll_first", [True, False])
    def test_polls_once_when_the_deadline_has_already_passed(self, timeout: float, poll_first: bool) -> None:
        """A triggerer that was down for long fails no video that is finished."""
        assert wait([SUCCESS], timeout=timeout, poll_first=poll_first).result is not None
        assert type(wait([FAILED], timeout=timeout).error) is exceptions.SeedanceTaskFailedError
        for answer in (WAITING, SERVER_ERROR):
            played = wait([answer], timeout=timeout, poll_first=poll_first)
            assert type(played.error) is exceptions.SeedanceTaskTimeoutError
            assert sum(played.pauses) == 0

    def test_gives_each_request_its_deadline(self) -> None:
        clock = Clock()
        played = wait([WAITING, SUCCESS], clock=clock, timeout=100)
        deadlines = {step.deadline for step in played.steps if isinstance(step, Send)}
        assert deadlines == {Clock().now + 100}

    @pytest.mark.parametrize("poll_interval", [0.5, 5, 17.25, 400])
    def test_polls_at_an_explicit_interval_exactly(self, poll_interval: float) -> None:
        played = wait(
            [WAITING, *[GENERATING] * 5, SUCCESS], poll_interval=poll_interval, timeout=10**6, jitter=lambda: 1.0
        )
        assert played.pauses == [poll_interval] * 6

    @given(st.floats(0, 1))
    def test_needs_at_most_21_polls_for_a_video_of_200_seconds(self, jitter: float) -> None:
        clock = Clock()
        end, polls = clock.now + 200, 0
        flow = flows.wait(watch(clock, jitter=lambda: jitter))
        step = next(flow)
        try:
            while True:
                if isinstance(step, Send):
                    polls += 1
                    step = flow.send(SUCCESS if clock.now >= end else GENERATING)
                else:
                    assert isinstance(step, Sleep)
                    clock.now += step.seconds
                    step = next(flow)
        except StopIteration:
            pass
        assert polls <= 21
        assert clock.now - end <= 11, "and it is noticed within a few seconds"

    def test_needs_19_polls_for_a_video_of_200_seconds_without_jitter(self) -> None:
        played = wait([*[GENERATING] * 18, SUCCESS])
        assert played.sent_at[-2] < 200 <= played.sent_at[-1]

    def test_stretches_the_schedule_to_what_the_model_usually_takes(self) -> None:
        slow = reply(200, {"taskId": TASK, "model": "seedance2-5", "status": "generating"})
        usual = catalog.usual_seconds("seedance2-5")
        assert usual is not None
        pauses = wait([*[slow] * 4, SUCCESS]).pauses
        assert pauses == pytest.approx(
            [
                schedule.poll_delay(age, None, 0.5, usual_seconds=usual)
                for age in itertools.accumulate(pauses[:-1], initial=0.0)
            ]
        )
        assert pauses[0] > wait([WAITING, SUCCESS]).pauses[0]

    @pytest.mark.parametrize("model", [None, 5, ["x"], {}, "seedance20-video-generation", "x" * 10_000])
    def test_takes_any_model_for_one_of_usual_speed(self, model: Any) -> None:
        other = reply(200, {"taskId": TASK, "model": model, "status": "generating"})
        assert wait([other, SUCCESS]).pauses == [5]

    def test_polls_more_often_while_somebody_waits_for_the_slot(self) -> None:
        wanted = [False, False]
        clock = Clock()
        flow = flows.wait(watch(clock, urgent=lambda: wanted.pop(0) if wanted else True))
        played = play(flow, [*[GENERATING] * 4, SUCCESS], clock=clock)
        assert played.pauses == [5, 5, 4, 4]

    def test_polls_at_an_explicit_interval_also_while_somebody_waits_for_the_slot(self) -> None:
        assert wait([GENERATING, SUCCESS], poll_interval=60, urgent=lambda: True).pauses == [60]


ODD_ANSWERS = [
    pytest.param(lambda: SERVER_ERROR, id="500"),
    pytest.param(lambda: BAD_GATEWAY, id="502-page"),
    pytest.param(lambda: HTML_FORBIDDEN, id="403-page"),
    pytest.param(lambda: FULL, id="429"),
    pytest.param(lambda: reply(200, b'{"taskId":"tas'), id="200-cut"),
    pytest.param(lambda: reply(200, b""), id="200-empty"),
    pytest.param(lambda: reply(200, b"[]"), id="200-list"),
    pytest.param(lambda: reply(200, "<html>"), id="200-page"),
    pytest.param(lambda: reply(200, {"code": 500, "message": "x", "data": None}), id="200-envelope-500"),
    pytest.param(
        lambda: reply(200, {"code": 503, "status": "error", "message": "x", "data": None}), id="200-envelope-and-status"
    ),
    pytest.param(lambda: reply(200, {"status": "error", "message": "x"}), id="200-error-of-no-task"),
    pytest.param(lambda: reply(200, {"taskId": None, "state": "fail", "error": "x"}), id="200-fail-of-no-task"),
    pytest.param(lambda: OF_ANOTHER_TASK, id="200-of-another-task"),
    pytest.param(lambda: reply(200, {"code": 200, "data": {"taskId": "task_b", "state": "fail"}}), id="200-other-fail"),
    pytest.param(never_sent, id="never-sent"),
    pytest.param(broke_off, id="reset"),
]
ENDS_A_WAIT_THAT_SAW_NOTHING = [
    *[pytest.param(lambda status=status: reply(status, ""), id=f"{status}") for status in (301, 302, 307, 308)],
    *[
        pytest.param(lambda status=status: reply(status, {"message": "x"}), id=f"{status}-json")
        for status in (400, 402, 405, 408, 410, 421, 422, 425, 451, 460, 499)
    ],
    *[
        pytest.param(lambda status=status: reply(status, PAGE), id=f"{status}-page")
        for status in (400, 402, 408, 421, 425, 460)
    ],
    pytest.param(lambda: reply(200, {"code": 402, "message": "x", "data": None}), id="200-envelope-402"),
]
DENIALS = [
    pytest.param(lambda: UNAUTHORIZED, exceptions.SeedanceAuthenticationError, id="401"),
    pytest.param(lambda: FORBIDDEN, exceptions.SeedancePermissionError, id="403"),
    pytest.param(lambda: NOT_FOUND, exceptions.SeedanceTaskNotFoundError, id="404"),
    pytest.param(
        lambda: reply(200, {"code": 404, "message": "x", "data": None}),
        exceptions.SeedanceTaskNotFoundError,
        id="404-envelope",
    ),
]
PAGES_IN_PLACE_OF_DENIALS = [
    pytest.param(lambda: reply(401, PAGE), id="401-page"),
    pytest.param(lambda: reply(404, PAGE), id="404-page"),
]


class TestWaitForATaskSeenAlive:
    """No single answer is the end of it, and money is at stake."""

    @pytest.mark.parametrize("odd", [*ODD_ANSWERS, *ENDS_A_WAIT_THAT_SAW_NOTHING, *PAGES_IN_PLACE_OF_DENIALS])
    def test_is_ended_by_no_number_of_odd_answers(self, odd: Any, caplog: pytest.LogCaptureFixture) -> None:
        played = wait([WAITING, *[odd() for _ in range(12)], SUCCESS], new_keys=[False] * 12)

        assert played.result is not None
        assert played.result.urls == [VIDEO]
        pauses = [f"{pause:.0f}" for pause in played.pauses[1:]]
        assert len(pauses) == 12
        said = text_of_poll(odd())
        assert lines(caplog) == [
            f"{said}. Polling again in {pause} s; the task is unaffected (task {TASK})" for pause in pauses
        ]

    @pytest.mark.parametrize(("denial", "kind"), DENIALS)
    @pytest.mark.parametrize("times", [1, 2, 5])
    def test_is_not_ended_by_a_denial_that_is_taken_back(self, denial: Any, kind: Any, times: int) -> None:
        played = wait([WAITING, *[denial() for _ in range(times)], SUCCESS], new_keys=[False] * times)
        assert played.result is not None

    @pytest.mark.parametrize(("denial", "kind"), DENIALS)
    @pytest.mark.parametrize("poll_interval", [None, 1, 60, 300])
    def test_is_ended_by_a_denial_that_persists(self, denial: Any, kind: Any, poll_interval: float | None) -> None:
        clock = Clock()
        flow = flows.wait(watch(clock, poll_interval=poll_interval, alive=True))
        step, denied_at = next(flow), []
        error: BaseException | None = None
        try:
            while True:
                if isinstance(step, Send):
                    denied_at.append(clock.now)
                    step = flow.send(denial())
                elif isinstance(step, Sleep):
                    clock.now += step.seconds
                    step = next(flow)
                else:
                    step = flow.send(False)
        except exceptions.SeedanceError as caught:
            error = caught
        assert type(error) is kind
        assert error.seedance_task_id == TASK
        assert error.charged == "yes"
        assert len(denied_at) >= defaults.DENIALS
        assert denied_at[-1] - denied_at[0] >= defaults.DENIAL_SECONDS
        before = denied_at[-2] - denied_at[0]
        assert before < defaults.DENIAL_SECONDS or len(denied_at) == defaults.DENIALS, "and not much later"

    def test_counts_denials_anew_after_any_other_answer(self) -> None:
        for between in (GENERATING, SERVER_ERROR, reply(404, PAGE), broke_off()):
            replies = [WAITING, *[NOT_FOUND] * 2, between, *[NOT_FOUND] * 2, SUCCESS]
            assert wait(replies, poll_interval=100, timeout=10_000).result is not None

    def test_counts_denials_of_different_kinds_together(self) -> None:
        played = wait([WAITING, NOT_FOUND, FORBIDDEN, NOT_FOUND], poll_interval=60, timeout=10_000)
        assert type(played.error) is exceptions.SeedanceTaskNotFoundError

    def test_asks_for_denials_no_more_often_than_it_takes_to_believe_them(self) -> None:
        played = wait([WAITING, NOT_FOUND, NOT_FOUND, SUCCESS], poll_interval=300)
        assert played.pauses == [300, 60, 60]

    def test_knows_from_the_start_that_it_was_seen(self) -> None:
        assert wait([reply(400, {"message": "x"}), SUCCESS], alive=True).result is not None

    def test_does_not_believe_a_denial_at_the_deadline_either(self) -> None:
        played = wait([WAITING, NOT_FOUND], poll_interval=60, timeout=60)
        assert type(played.error) is exceptions.SeedanceTaskTimeoutError
        assert isinstance(played.error.__cause__, exceptions.SeedanceTaskNotFoundError)

    def test_backs_off_while_polls_fail_and_starts_anew_afterwards(self) -> None:
        replies = [*[SERVER_ERROR] * 6, WAITING, SERVER_ERROR, SUCCESS]
        assert wait(replies, poll_interval=3).pauses == [3, 3, 4, 8, 16, 32, 3, 3]

    def test_waits_as_long_as_the_answer_asks_but_not_past_the_deadline(self) -> None:
        full = reply(429, {}, retry_after=120)
        played = wait([full, full, WAITING], poll_interval=5, timeout=200)
        assert played.pauses == [120, 80]
        assert type(played.error) is exceptions.SeedanceTaskTimeoutError

    @given(
        st.lists(
            st.sampled_from(
                [WAITING, GENERATING, SERVER_ERROR, NOT_FOUND, FORBIDDEN, OF_ANOTHER_TASK, reply(302, ""), BAD_GATEWAY]
            ),
            max_size=30,
        ),
        st.none() | st.floats(0.5, 500),
    )
    def test_ends_by_any_answers_only_in_success_at_the_deadline_or_by_persistent_denials(
        self, answers: list[Reply], poll_interval: float | None
    ) -> None:
        clock = Clock()
        flow = flows.wait(watch(clock, poll_interval=poll_interval, timeout=1e6, alive=True))
        replies = [*answers, SUCCESS]
        denied_at: list[float] = []
        step, record, error = next(flow), None, None
        try:
            while True:
                if isinstance(step, Send):
                    answer = replies.pop(0)
                    denied_at = [*denied_at, clock.now] if answer in (NOT_FOUND, FORBIDDEN) else []
                    step = flow.send(answer)
                else:
                    assert isinstance(step, Sleep)
                    clock.now += step.seconds
                    step = next(flow)
        except StopIteration as stop:
            record = stop.value
        except exceptions.SeedanceError as caught:
            error = caught
        persisted = len(denied_at) >= 3 and denied_at[-1] - denied_at[0] >= 120
        assert (error is not None) == persisted
        assert record is None or record.urls == [VIDEO]


class TestWaitForATaskNeverSeen:
    """Before the first record the table of errors holds."""

    @pytest.mark.parametrize("odd", ODD_ANSWERS)
    def test_is_not_ended_by_an_answer_that_may_be_better_next_time(self, odd: Any) -> None:
        assert wait([*[odd() for _ in range(12)], SUCCESS]).result is not None

    @pytest.mark.parametrize("odd", ENDS_A_WAIT_THAT_SAW_NOTHING)
    def test_is_ended_by_an_answer_that_polling_again_cannot_change(self, odd: Any) -> None:
        error = wait([odd()]).error
        assert isinstance(error, exceptions.SeedanceError)
        assert error.seedance_task_id == TASK
        assert error.charged == "unknown"
        assert str(error).endswith(f"{TASK})")

    @pytest.mark.parametrize("denial", [lambda: UNAUTHORIZED, lambda: FORBIDDEN, lambda: reply(401, PAGE)])
    def test_is_ended_by_a_denial(self, denial: Any) -> None:
        assert isinstance(wait([denial()], new_keys=[False]).error, exceptions.SeedanceError)

    @pytest.mark.parametrize("answer", [NOT_FOUND, reply(404, PAGE)], ids=["json", "page"])
    def test_gives_a_fresh_id_half_a_minute_of_404s(self, answer: Reply) -> None:
        played = wait([answer, answer, answer, SUCCESS], poll_interval=10)
        assert played.sent_at == [0, 10, 20, 30]
        assert played.result is not None

    def test_believes_a_404_after_the_grace(self) -> None:
        played = wait([NOT_FOUND] * 5, poll_interval=10)
        assert played.sent_at == [0, 10, 20, 30, 40]
        assert type(played.error) is exceptions.SeedanceTaskNotFoundError
        assert played.error.seedance_task_id == TASK

    def test_counts_the_grace_from_the_start_of_waiting_not_from_the_first_poll(self) -> None:
        clock = Clock()
        flow = flows.wait(watch(clock, timeout=10_000))
        clock.now += 3600
        assert type(play(flow, [NOT_FOUND], clock=clock).error) is exceptions.SeedanceTaskNotFoundError


class TestWaitForLateOutput:
    POLLS = int(defaults.OUTPUT_GRACE / defaults.OUTPUT_GRACE_INTERVAL) + 1

    def test_polls_soon_again(self) -> None:
        played = wait([NO_OUTPUT, NO_OUTPUT, SUCCESS], poll_interval=300)

        assert played.result is not None
        assert played.pauses == [defaults.OUTPUT_GRACE_INTERVAL] * 2

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_says_so_once(self, caplog: pytest.LogCaptureFixture, times: int) -> None:
        wait([*[NO_OUTPUT] * times, SUCCESS])
        assert lines(caplog, logging.INFO) == [f"success, but without a usable URL yet; polling again (task {TASK})"]

    def test_continues_through_failed_polls(self) -> None:
        assert wait([NO_OUTPUT, BAD_GATEWAY, broke_off(), SUCCESS], poll_interval=5).result is not None

    def test_reports_output_that_stays_missing_as_a_failure_of_its_own(self) -> None:
        error = wait([NO_OUTPUT] * self.POLLS, poll_interval=300).error

        assert type(error) is exceptions.SeedanceOutputMissingError
        assert error.seedance_task_id == TASK
        assert error.charged == "yes"
        assert error.record is not None
        assert error.record.credits_used == 200
        assert f"SeedanceTaskSensor(seedance_task_id='{TASK}')" in str(error)

    def test_reports_it_as_such_when_the_deadline_comes_first(self) -> None:
        """Not as a task that still runs: that would be untrue, and users would wait for it."""
        played = wait([WAITING, NO_OUTPUT], poll_interval=20, timeout=20)
        assert type(played.error) is exceptions.SeedanceOutputMissingError

    @pytest.mark.parametrize("last", [lambda: BAD_GATEWAY, broke_off, lambda: NOT_FOUND])
    def test_reports_it_as_such_when_the_poll_at_the_deadline_fails(self, last: Any) -> None:
        played = wait([NO_OUTPUT, last()], timeout=5, poll_interval=300)
        assert type(played.error) is exceptions.SeedanceOutputMissingError
        assert "for 5 s." in str(played.error)

    def test_counts_the_grace_right_when_the_clock_starts_at_zero(self) -> None:
        played = wait([NO_OUTPUT] * self.POLLS, clock=Clock(0))
        assert type(played.error) is exceptions.SeedanceOutputMissingError

    def test_starts_the_grace_anew_when_the_task_runs_again(self) -> None:
        replies = [*[NO_OUTPUT] * (self.POLLS - 1), GENERATING, *[NO_OUTPUT] * (self.POLLS - 1), SUCCESS]
        assert wait(replies).result is not None


class TestWaitWithARotatedKey:
    def test_picks_it_up_and_continues(self) -> None:
        played = wait([WAITING, UNAUTHORIZED, GENERATING, SUCCESS], new_keys=[True])
        assert played.result is not None
        assert played.renewals == 1
        assert len(played.pauses) == 2, "no pause for the new key"

    def test_picks_up_every_rotation(self) -> None:
        assert wait([UNAUTHORIZED, WAITING, UNAUTHORIZED, SUCCESS], new_keys=[True, True]).result is not None

    @pytest.mark.parametrize("changed", [True, False], ids=["new-key-refused-too", "no-new-key"])
    def test_ends_when_the_key_is_refused_before_the_first_record(self, changed: bool) -> None:
        played = wait([UNAUTHORIZED] * (2 if changed else 1), new_keys=[changed])
        assert type(played.error) is exceptions.SeedanceAuthenticationError
        assert played.error.seedance_task_id == TASK

    def test_survives_a_broken_connection_right_after_it(self) -> None:
        assert wait([UNAUTHORIZED, broke_off(), SUCCESS], new_keys=[True]).result is not None


class TestWaitAfterAFirstPollElsewhere:
    def test_starts_with_a_pause(self) -> None:
        played = wait([SUCCESS], poll_first=False)
        assert isinstance(played.steps[0], Sleep)

    @given(st.floats(0, 1))
    def test_spreads_many_waiters_over_an_explicit_interval(self, jitter: float) -> None:
        played = wait([WAITING, WAITING, SUCCESS], poll_interval=60, poll_first=False, jitter=lambda: jitter)
        assert played.pauses == [60 * jitter, 60, 60]

    def test_never_pauses_past_the_deadline(self) -> None:
        played = wait([SUCCESS], timeout=1, poll_first=False)
        assert played.pauses == [1]
        assert played.result is not None

    def test_continues_at_the_interval_of_the_tasks_age(self) -> None:
        clock = Clock()
        flow = flows.wait(watch(clock), poll_first=False)
        clock.now += 700
        assert play(flow, [GENERATING, SUCCESS], clock=clock).pauses == [7.5, 15]


class TestPoll:
    """One poll, for whoever gives up its worker between two."""

    def poll(self, watched: flows.Watch, replies: Iterable[Reply | Exception], clock: Clock) -> Play[TaskRecord | None]:
        return play(flows.poll(watched), replies, clock=clock)

    def test_of_a_running_task_says_when_the_next_is_due(self) -> None:
        clock = Clock()
        watched = watch(clock)
        played = self.poll(watched, [GENERATING], clock)
        assert (played.result, played.error, played.pauses) == (None, None, [])
        assert watched.pause == 5
        assert watched.alive

    def test_that_failed_says_when_the_next_is_due(self) -> None:
        clock = Clock()
        watched = watch(clock, poll_interval=7)
        played = self.poll(watched, [SERVER_ERROR], clock)
        assert (played.result, played.error, played.pauses) == (None, None, [])
        assert watched.pause == 7

    def test_says_never_to_wait_past_the_deadline(self) -> None:
        clock = Clock()
        watched = watch(clock, poll_interval=60, timeout=10)
        self.poll(watched, [GENERATING], clock)
        assert watched.pause == 10

    @pytest.mark.parametrize("first", [NO_OUTPUT, NOT_FOUND, FORBIDDEN], ids=["no-output", "404", "403"])
    def test_asks_again_by_itself_where_one_answer_is_not_enough(self, first: Reply) -> None:
        clock = Clock()
        watched = watch(clock, alive=True)
        assert watched.alive
        assert not watched.in_grace
        assert self.poll(watched, [first, first, SUCCESS], clock).result is not None

    def test_gives_the_worker_up_once_a_denial_was_taken_back(self) -> None:
        clock = Clock()
        played = self.poll(watch(clock, alive=True), [NOT_FOUND, GENERATING], clock)
        assert (played.result, played.error) == (None, None)

    def test_asks_for_the_task(self) -> None:
        step = next(flows.poll(watch(Clock())))
        assert isinstance(step, Send)
        assert (step.request.method, step.request.path) == ("GET", f"/jobs/recordInfo?taskId={TASK}")

    @pytest.mark.parametrize("between", [None, GENERATING], ids=["at once", "after a record"])
    def test_two_denials_are_too_few_however_far_apart(self, between: Reply | None) -> None:
        clock = Clock()
        watched = watch(clock, alive=True, timeout=10_000)
        denial = exceptions.SeedanceTaskNotFoundError("x")
        for _ in range(2):
            watched.failed(denial)
            clock.now += 1000
        if between is None:
            with pytest.raises(exceptions.SeedanceTaskNotFoundError):
                watched.failed(denial)
        else:
            for _ in range(2):  # the second time it is known to be the same
                watched.saw(between)
            for _ in range(2):
                watched.failed(denial)
                clock.now += 1000

    def test_at_the_deadline_is_the_last(self) -> None:
        clock = Clock()
        played = self.poll(watch(clock, timeout=0), [GENERATING], clock)
        assert type(played.error) is exceptions.SeedanceTaskTimeoutError

    @given(
        # Three denials may end the wait.
        st.lists(
            st.sampled_from([WAITING, GENERATING, UNKNOWN_WORD, NO_STATUS, SERVER_ERROR, NOT_FOUND]), max_size=9
        ).filter(lambda answers: answers.count(NOT_FOUND) < 3),
        st.sampled_from([SUCCESS, FAILED]),
    )
    def test_takes_an_answer_that_comes_again_like_a_new_one(self, answers: list[Reply], last: Reply) -> None:
        same = wait([*answers, last], alive=True)
        copies = wait([copy.copy(answer) for answer in (*answers, last)], alive=True)
        assert (same.steps, same.sent_at, same.result) == (copies.steps, copies.sent_at, copies.result)
        assert type(same.error) is type(copies.error)

    def test_is_what_a_wait_repeats(self) -> None:
        replies = [GENERATING, SERVER_ERROR, NO_OUTPUT, NO_OUTPUT, SUCCESS]
        whole = wait(replies)
        clock, steps = Clock(), []
        watched, feed = watch(clock), iter(replies)
        record = None
        while record is None:
            flow = flows.poll(watched)
            step = next(flow)
            try:
                while True:
                    steps.append(step)
                    if isinstance(step, Sleep):
                        clock.now += step.seconds
                        step = next(flow)
                    else:
                        step = flow.send(next(feed))
            except StopIteration as stop:
                record = stop.value
            if record is None:
                steps.append(Sleep(watched.pause))
                clock.now += watched.pause
        assert steps == whole.steps
        assert record == whole.result


SETTLES_LATER = next(name for name in catalog.MODELS if catalog.settles_later(name))


def of_a_later_settled_model(credits_used: Any, status: str = "success") -> Reply:
    return reply(
        200, {"taskId": TASK, "model": SETTLES_LATER, "status": status, "creditsUsed": credits_used, "output": VIDEO}
    )


class TestSettlement:
    """Some models are charged by the length of a reference video, a few seconds after the success."""

    def test_reads_the_credits_once_more(self) -> None:
        played = wait([of_a_later_settled_model(295), of_a_later_settled_model(525.5)])
        assert played.result is not None
        assert str(played.result.credits_used) == "525.5"
        assert played.result.urls == [VIDEO]
        assert played.pauses == [defaults.SETTLEMENT_DELAY]

    @pytest.mark.parametrize(
        "second",
        [
            pytest.param(lambda: SERVER_ERROR, id="500"),
            pytest.param(lambda: NOT_FOUND, id="404"),
            pytest.param(lambda: BAD_GATEWAY, id="502-page"),
            pytest.param(lambda: OF_ANOTHER_TASK, id="of-another-task"),
            pytest.param(broke_off, id="reset"),
        ],
    )
    def test_keeps_the_video_when_that_fails(self, second: Any, caplog: pytest.LogCaptureFixture) -> None:
        played = wait([of_a_later_settled_model(295), second()])
        assert played.result is not None
        assert played.result.credits_used == 295
        assert lines(caplog) == [
            f"The settled credits could not be read; the task is unaffected: {text_of_poll(second())} (task {TASK})"
        ]

    @pytest.mark.parametrize(
        "second", [of_a_later_settled_model(None), WAITING, FAILED], ids=["null", "waiting", "fail"]
    )
    def test_keeps_the_first_amount_where_there_is_no_second(self, second: Reply) -> None:
        played = wait([of_a_later_settled_model(295), second])
        assert played.result is not None
        assert played.result.status is TaskStatus.SUCCESS
        assert played.result.credits_used == 295

    def test_takes_an_answer_that_names_no_task(self) -> None:
        second = reply(200, {"model": SETTLES_LATER, "status": "success", "creditsUsed": 525, "output": VIDEO})
        played = wait([of_a_later_settled_model(295), second], timeout=defaults.SETTLEMENT_DELAY)
        assert played.result is not None
        assert played.result.credits_used == 525

    @pytest.mark.parametrize("timeout", [0, 1, defaults.SETTLEMENT_DELAY - 0.1, -100])
    def test_does_not_wait_past_the_deadline_for_it(self, timeout: float) -> None:
        played = wait([of_a_later_settled_model(295)], timeout=timeout)
        assert played.result is not None
        assert not played.pauses

    def test_gives_its_request_the_deadline_too(self) -> None:
        played = wait([of_a_later_settled_model(295), of_a_later_settled_model(525)], timeout=100)
        assert {step.deadline for step in played.steps if isinstance(step, Send)} == {Clock().now + 100}

    def test_is_not_waited_for_with_other_models(self) -> None:
        assert not wait([SUCCESS]).pauses


@dataclass
class Picture:
    """A file to upload."""

    name: str = "cat.png"
    size: int = 3
    content_type: str = "image/png"

    def open(self) -> io.BytesIO:
        return io.BytesIO(b"png")


TICKET = reply(200, {"uploadUrl": "https://a.example/put?s=1", "url": "https://b.example/cat.png"})


class TestUpload:
    def upload(self, replies: Iterable[Reply | Exception]) -> Play[str]:
        flow = flows.upload(calls.request_upload("cat.png", "image/png"), Picture(), LOG, jitter=no_jitter)
        return play(flow, replies)

    def test_asks_for_a_ticket_and_puts_the_file(self) -> None:
        played = self.upload([TICKET, reply(200, b"")])
        assert played.result == "https://b.example/cat.png"
        ask, put = played.steps
        assert isinstance(ask, Send)
        assert ask.request == calls.request_upload("cat.png", "image/png").request
        assert isinstance(put, Put)
        assert put.ticket.upload_url == "https://a.example/put?s=1"
        assert put.media == Picture()

    def test_says_that_a_signed_url_may_have_expired_and_what_comes_next(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.upload([TICKET, reply(403, "Request has expired"), TICKET, reply(200, b"")])
        (line,) = lines(caplog)
        assert line == (
            "The signed URL refused the file ('Request has expired'); it may have expired. Attempt 2 of 3 in 1.0 s"
        )

    @pytest.mark.parametrize("status", [300, 404])
    def test_takes_nothing_for_stored_that_the_store_does_not_confirm(self, status: int) -> None:
        played = self.upload([TICKET, reply(status, b"")])
        assert isinstance(played.error, exceptions.SeedanceError)
        assert "may have expired" not in str(played.error)

    @pytest.mark.parametrize(
        "failure", [lambda: reply(403, PAGE), lambda: SERVER_ERROR, broke_off, never_sent, lambda: FULL]
    )
    def test_starts_again_with_a_new_ticket(self, failure: Any) -> None:
        played = self.upload([TICKET, failure(), TICKET, reply(200, b"")])
        assert played.result == "https://b.example/cat.png"
        assert played.pauses == [1]

        played = self.upload([TICKET, failure()] * 3)
        assert isinstance(played.error, exceptions.SeedanceError)
        assert "s=1" not in str(played.error), "a signed URL is shown nowhere"

    @pytest.mark.parametrize(
        "body", [{}, [], {"uploadUrl": "ftp://a"}, {"uploadUrl": "https://a.example/put"}], ids=repr
    )
    def test_asks_three_times_for_a_ticket_that_can_be_used(self, body: Any) -> None:
        played = self.upload([reply(200, body)] * 3)
        assert type(played.error) is exceptions.SeedanceServerError
        assert "a.example" not in str(played.error), "a signed URL is shown nowhere"

    def test_takes_an_error_envelope_for_the_error_it_is(self) -> None:
        played = self.upload([reply(200, {"code": 402, "message": "x", "data": None})])
        assert type(played.error) is exceptions.SeedanceInsufficientCreditsError


def test_a_flow_can_be_closed_at_any_step() -> None:
    clock = Clock()
    for flow in (submit(), get(), flows.wait(watch(clock)), flows.wait(watch(clock), poll_first=False)):
        next(flow)
        flow.close()


@pytest.mark.parametrize("task_id", ["", "  ", None, 5, ["task_a"], {"a": 1}], ids=repr)
def test_a_wait_for_something_that_is_no_id_fails_before_anything_is_sent(task_id: Any) -> None:
    with pytest.raises(exceptions.SeedanceInvalidRequestError, match="seedance_task_id="):
        flows.Watch(task_id, None, started_at=0, deadline=1, clock=Clock(), jitter=no_jitter, log=LOG)
