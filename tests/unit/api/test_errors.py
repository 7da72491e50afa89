"""From an answer to an error: whatever was answered, there is one, with a text that users can use."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import defaults, exceptions
from seedance_provider.api import errors
from seedance_provider.api.messages import Reply
from seedance_provider.api.records import TaskRecord
from tests.support import wild
from tests.support.play import reply


def error_of(answer: Reply, *, creates: bool = False, task_id: str | None = "task_a") -> Any:
    return errors.error_of(answer, creates=creates, seedance_task_id=None if creates else task_id)


@given(
    st.one_of(st.integers(200, 599), st.integers(100, 999)),
    st.one_of(st.just("application/json"), st.text(max_size=20)),
    wild.bodies,
    st.one_of(st.none(), st.floats(0, 300)),
    st.booleans(),
)
def test_every_answer_gives_one_of_our_errors(
    status: int, content_type: str, body: bytes, retry_after: float | None, creates: bool
) -> None:
    error = error_of(Reply(status, content_type, body, retry_after), creates=creates)

    assert isinstance(error, exceptions.SeedanceError)
    assert isinstance(error.status_code, int)
    assert error.message
    assert error.message.isprintable()
    assert str(error).isprintable(), "it is one line of log"
    assert len(str(error)) < 30_000
    assert error.charged in (("no", "unknown") if creates else ("unknown",))
    again = exceptions.error_from_json(json.loads(json.dumps(error.to_json())), TaskRecord.model_validate)
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


@given(
    st.sampled_from([400, 401, 402, 403, 404, 422, 429, 500, 502]),
    wild.errors,
    st.booleans(),
)
def test_no_member_of_an_error_body_breaks_it(status: int, members: dict[str, Any], creates: bool) -> None:
    error = error_of(Reply(status, "application/json", json.dumps(members).encode()), creates=creates)
    assert error.status_code == status, "the HTTP status decides, not the text"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 500])
@pytest.mark.parametrize("creates", [True, False], ids=["post", "get"])
def test_the_class_does_not_depend_on_the_words(status: int, creates: bool) -> None:
    texts = ["Insufficient credits", "Invalid API Key", "Task not found", "参数验证失败 - prompt", "", None, 5]
    kinds = {type(error_of(reply(status, {"message": text}), creates=creates)) for text in texts}
    assert len(kinds) == 1


@pytest.mark.parametrize(
    ("http", "code", "status"),
    [
        pytest.param(200, 402, 402, id="under-200-the-envelope-decides"),
        pytest.param(200, "404", 404, id="also-as-text"),
        pytest.param(200, 200, 200, id="unless-it-names-no-error"),
        pytest.param(200, 7, 200, id="or-no-status"),
        pytest.param(200, True, 200, id="or-no-number"),
        pytest.param(400, 500, 400, id="an-http-error-decides-itself"),
        pytest.param(502, 404, 502, id="also-one-that-may-be-tried-again"),
    ],
)
def test_status_of_an_envelope(http: int, code: Any, status: int) -> None:
    assert error_of(reply(http, {"code": code, "message": "x", "data": None})).status_code == status


def test_an_envelope_with_data_names_no_error() -> None:
    assert errors.envelope_status({"code": 404, "data": {"taskId": "task_a"}}) is None


class TestInvalidRequest:
    @pytest.mark.parametrize(
        ("item", "problem"),
        [
            ({"code": "custom", "message": "No", "path": ["videoUrls"]}, {"path": "videoUrls", "message": "No"}),
            ({"message": "No", "path": ["imageUrls", 9]}, {"path": "imageUrls[9]", "message": "No"}),
            ({"message": "No", "path": ["a", 10**9 - 1]}, {"path": "a[999999999]", "message": "No"}),
            ({"message": "No", "path": ["a", 10**9]}, {"path": "a[?]", "message": "No"}),
            (
                {"message": "No", "path": ["inputs", "images", 0, "url"]},
                {"path": "inputs.images[0].url", "message": "No"},
            ),
            ({"message": "No", "path": []}, {"path": "inputs", "message": "No"}),
            ({"message": "No", "path": "duration"}, {"path": "duration", "message": "No"}),
            ({"message": "No", "path": None}, {"path": "inputs", "message": "No"}),
            ({"message": "No", "path": [None, {}, 1.5]}, {"path": "inputs", "message": "No"}),
            ({"message": "No"}, {"path": "inputs", "message": "No"}),
            ("No", {"path": "inputs", "message": "No"}),
            ({"path": ["duration"]}, None),
            ({"message": 5}, None),
            (5, None),
            (None, None),
            ([], None),
        ],
        ids=repr,
    )
    def test_lists_each_problem_with_its_path(self, item: Any, problem: dict[str, str] | None) -> None:
        error = error_of(reply(400, {"message": "Invalid inputs for model", "errors": [item]}), creates=True)
        assert error.errors == ([problem] if problem else [])
        if problem:
            assert f"{problem['path']}: {problem['message']}" in str(error)

    @pytest.mark.parametrize("value", [None, "text", {"a": 1}, 5, []], ids=repr)
    def test_tolerates_any_other_shape_of_errors(self, value: Any) -> None:
        error = error_of(reply(400, {"message": "Invalid inputs for model", "errors": value}), creates=True)
        assert error.errors == []
        assert error.message == "Invalid inputs for model"


class TestInsufficientCredits:
    def test_tells_what_is_missing(self) -> None:
        error = error_of(
            reply(402, {"message": "Insufficient credits", "required": 142.57, "available": 10}), creates=True
        )
        assert (error.required, error.available) == (Decimal("142.57"), Decimal(10))
        for number in ("142.57", "10", "132.57"):
            assert number in str(error)

    @pytest.mark.parametrize(
        ("members", "required", "available"),
        [
            ({}, None, None),
            ({"required": 200}, Decimal(200), None),
            ({"required": "many", "available": None}, None, None),
            ({"required": "1.75", "available": "0.5"}, Decimal("1.75"), Decimal("0.5")),
            ({"required": [], "available": True}, None, None),
        ],
        ids=repr,
    )
    def test_tolerates_numbers_that_are_missing_or_odd(
        self, members: dict[str, Any], required: Decimal | None, available: Decimal | None
    ) -> None:
        error = error_of(reply(402, {"message": "Insufficient credits", **members}), creates=True)
        assert (error.required, error.available) == (required, available)

    @pytest.mark.parametrize("amount", ["1e9999999", "-1e9999999", "1e-9999999"])
    def test_survives_amounts_beyond_all_arithmetic(self, amount: str) -> None:
        error = error_of(reply(402, {"message": "x", "required": amount, "available": 1}), creates=True)
        assert type(error) is exceptions.SeedanceInsufficientCreditsError


class TestConcurrencyLimit:
    def test_tells_how_many_slots_are_in_use(self) -> None:
        error = error_of(
            reply(429, {"message": "Concurrency limit reached (5)", "limit": 5, "current": 5}), creates=True
        )
        assert (error.limit, error.current) == (5, 5)
        assert "5 of 5" in str(error)

    @pytest.mark.parametrize(
        ("members", "limit", "current"),
        [
            ({}, None, None),
            ({"limit": 3}, 3, None),
            ({"limit": "3", "current": 2.0}, 3, 2),
            ({"limit": 0, "current": 10**9 - 1}, 0, 10**9 - 1),
            ({"limit": -1, "current": 10**9}, None, None),
            ({"limit": None, "current": "all"}, None, None),
        ],
        ids=repr,
    )
    def test_tolerates_numbers_that_are_missing_or_odd(
        self, members: dict[str, Any], limit: int | None, current: int | None
    ) -> None:
        error = error_of(reply(429, {"message": "x", **members}))
        assert (error.limit, error.current) == (limit, current)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_carries_what_the_answer_asks_to_wait(self, status: int) -> None:
        assert error_of(reply(status, {"message": "x"}, retry_after=12)).retry_after == 12
        assert error_of(reply(status, {"message": "x"})).retry_after is None


class TestExcerpt:
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"", "an empty body"),
            (b" \n\t ", "an empty body"),
            (b"upstream connect error", "'upstream connect error'"),
            (b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>", "'502 Bad Gateway nginx'"),
            (b"<script>var a = '<b>';</script><STYLE>b{}</STYLE>Sorry", "'Sorry'"),
            (b"<script>never closed", "'never closed'"),
            (b"a\x00\x1b[31mb\r\nc", "'a [31mb c'"),
            (b"\xff\xfe", "'\ufffd\ufffd'"),
            (b"<" * 5000, None),
            (b"x" * 5000, "'" + "x" * 200 + "'"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_is_one_short_line_without_markup(self, body: bytes, text: str | None) -> None:
        excerpt = errors.excerpt(Reply(502, "text/html", body))
        assert text is None or excerpt == text
        assert len(excerpt) <= defaults.MAX_EXCERPT + 2

    @given(wild.bodies)
    def test_is_printable_whatever_was_answered(self, body: bytes) -> None:
        excerpt = errors.excerpt(Reply(200, "", body))
        assert excerpt.isprintable()
        assert "\n" not in excerpt


def test_a_very_long_message_is_cut() -> None:
    error = error_of(reply(400, {"message": "x" * 10_000}))
    assert len(error.message) == defaults.MAX_TEXT
    assert len(str(error)) < defaults.MAX_TEXT + 500


def test_very_many_problems_do_not_make_a_very_long_text() -> None:
    problems = [{"message": "y" * 2000, "path": ["imageUrls", number, "z" * 2000]} for number in range(300)]
    error = error_of(reply(400, {"message": "Invalid inputs for model", "errors": problems}), creates=True)
    assert len(error.errors) == defaults.MAX_PROBLEMS
    assert len(str(error)) < 2 * defaults.MAX_PROBLEMS * (defaults.MAX_TEXT + 100)
    assert "imageUrls[0]" in str(error)


@pytest.mark.parametrize("odd", ["\n", "\r", "\x1b[31m", "\x00", "\u202e", "\u2028", "\ud800"], ids=ascii)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 402, 403, 404, 429, 500])
def test_no_control_character_of_the_vendors_reaches_a_text(status: int, odd: str) -> None:
    text = f"a{odd}b"
    problem = {"message": text, "path": ["x", text]}
    for body in ({"message": text, "errors": [problem, text]}, f"<html>{text}".encode("utf-8", "surrogatepass")):
        for creates in (True, False):
            error = error_of(reply(status, body), creates=creates)
            assert str(error).isprintable()
            assert error.message.isprintable()
            for problem in getattr(error, "errors", []):
                assert problem["path"].isprintable()
                assert problem["message"].isprintable()


STATUSES = [200, 300, 301, 302, 308, 400, 401, 402, 403, 404, 405, 408, 421, 422, 425, 429, 460, 500, 503]


@pytest.mark.parametrize("page", [False, True], ids=["json", "page"])
@pytest.mark.parametrize("status", STATUSES)
class TestWhatItMeans:
    def of(self, status: int, page: bool, **options: Any) -> Any:
        return error_of(reply(status, "<html>Because</html>" if page else {"message": "Because"}), **options)

    def test_for_the_bill_of_a_task_that_was_asked_for_is_unknown(self, status: int, page: bool) -> None:
        assert self.of(status, page).charged == "unknown"

    def test_for_a_create_task_is_that_only_a_certain_refusal_is_not_charged(self, status: int, page: bool) -> None:
        assert self.of(status, page, creates=True).charged == ("no" if 300 <= status < 500 else "unknown")

    def test_is_a_denial_only_in_json(self, status: int, page: bool) -> None:
        assert self.of(status, page).denial == (status in (401, 403, 404) and not page)

    def test_is_transient_only_where_the_next_answer_may_be_better(self, status: int, page: bool) -> None:
        better = status in (200, 429) or status >= 500 or (status == 403 and page)
        assert self.of(status, page).transient == better

    def test_is_told_with_the_status_the_words_and_the_id_last(self, status: int, page: bool) -> None:
        error = self.of(status, page)
        assert error.seedance_task_id == "task_a"
        assert str(error).endswith("task_a)")
        assert str(status) in str(error)
        if not 300 <= status < 400:
            assert "Because" in str(error)


BLOCKED = (
    "Blocked before it reached the API: 403, 'Sorry'. Check that no proxy strips the User-Agent header, and that the "
    "vendor does not block this machine's address"
)
UNKNOWN_PATH = "Check 'Base URL' of the connection (Admin > Connections): this path is unknown there"


@pytest.mark.parametrize(
    ("answer", "creates", "text"),
    [
        (
            reply(402, {"message": "No"}),
            True,
            "Not enough credits (402 'No'). Nothing was charged; add credits to the account, then clear this task",
        ),
        (reply(403, "<p>Sorry"), True, f"{BLOCKED}. Nothing was charged"),
        (reply(403, "<p>Sorry"), False, f"{BLOCKED} (task task_a)"),
        (
            reply(403, {"message": "No"}),
            True,
            "Access denied: 403 'No'. Ask the vendor's support to enable API access for this account",
        ),
        (
            reply(403, {"message": "No"}),
            False,
            (
                "Access denied: 403 'No'. This task belongs to another account: use the connection that created it "
                "(task task_a)"
            ),
        ),
        (reply(404, {"message": "No"}), True, f"Not found: 404 'No'. {UNKNOWN_PATH}"),
        (
            reply(404, {"message": "No"}),
            False,
            "Not found: 404 'No'. Check the id; records are kept for 60 days (task task_a)",
        ),
        (reply(404, "<p>Sorry"), False, f"Not found: 404, 'Sorry'. {UNKNOWN_PATH} (task task_a)"),
        (
            reply(429, {"message": "No", "limit": 5, "current": 4}),
            True,
            "No free slot, 4 of 5 in use: 429 'No'. Nothing was charged; submit again when a task has ended",
        ),
        (
            reply(429, {"message": "No", "limit": 5}),
            True,
            "No free slot: 429 'No'. Nothing was charged; submit again when a task has ended",
        ),
        (
            reply(429, {"message": "No", "current": 5}),
            True,
            "No free slot: 429 'No'. Nothing was charged; submit again when a task has ended",
        ),
        (
            reply(400, {"message": "No", "errors": ["a", "b"]}),
            True,
            (
                "Request refused: 400 'No'; inputs: a; inputs: b. Nothing was charged. Change the request; a retry "
                "cannot help"
            ),
        ),
    ],
)
def test_the_text_in_full(answer: Reply, creates: bool, text: str) -> None:
    error = error_of(answer, creates=creates)
    assert str(error) == text
    assert error.status_code == answer.status


def test_the_connection_is_named_where_it_is_known() -> None:
    answer = reply(401, {"message": "No"})
    assert "Check 'API key' of the connection (" in str(error_of(answer))
    assert "Check 'API key' of connection 'seedance_eu' (" in str(error_of(replace(answer, conn_id="seedance_eu")))


def test_a_redirect_names_the_base_urls_that_exist() -> None:
    text = str(error_of(reply(302, "")))
    assert "https://seedance2-pro.com" in text
    assert "https://kinovi.ai" in text


def test_a_poll_that_is_refused_does_not_say_that_nothing_was_charged() -> None:
    assert "Nothing was charged" not in str(error_of(reply(408, {"message": "Too slow"})))
    assert "Nothing was charged" in str(error_of(reply(408, {"message": "Too slow"}), creates=True))
