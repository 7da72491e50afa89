"""The one reading of a task: any version of the API, any kind of damage."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.api import records
from seedance_provider.api.records import TaskFailure, TaskOutput, TaskRecord, TaskStatus
from seedance_provider.exceptions import SeedanceError, SeedanceServerError
from tests.support import wild

VIDEO = "https://static.example.com/videos/a.mp4"


def parse(**members: Any) -> TaskRecord:
    return records.parse_task({"taskId": "task_a", **members})


class TestStatus:
    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("waiting", TaskStatus.WAITING),
            ("generating", TaskStatus.GENERATING),
            ("success", TaskStatus.SUCCESS),
            ("fail", TaskStatus.FAIL),
            ("failed", TaskStatus.FAIL),
            ("failure", TaskStatus.FAIL),
            ("error", TaskStatus.FAIL),
            (" SUCCESS\n", TaskStatus.SUCCESS),
            ("Fail", TaskStatus.FAIL),
            ("PROCESSING", TaskStatus.UNKNOWN),
            ("COMPLETED", TaskStatus.UNKNOWN),
            ("successful", TaskStatus.UNKNOWN),
        ],
    )
    @pytest.mark.parametrize("key", ["status", "state"])
    def test_word_is_read_trimmed_and_in_any_case_from(self, key: str, word: str, status: TaskStatus) -> None:
        record = parse(**{key: word})
        assert record.status is status
        assert record.raw_status == word.strip()

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"status": None},
            {"status": ""},
            {"status": "  "},
            {"status": 3},
            {"status": ["success"]},
            {"status": True, "state": None},
        ],
        ids=repr,
    )
    def test_missing_or_not_a_word_means_still_running(self, members: dict[str, Any]) -> None:
        record = parse(**members)
        assert record.status is TaskStatus.UNKNOWN
        assert record.raw_status is None
        assert not record.status.is_terminal

    def test_status_counts_before_state(self) -> None:
        assert parse(state="fail", status="success").status is TaskStatus.SUCCESS

    def test_state_counts_where_status_is_not_a_word(self) -> None:
        assert parse(state="success", status=200).status is TaskStatus.SUCCESS

    def test_only_success_and_fail_are_terminal(self) -> None:
        assert [status.value for status in TaskStatus if status.is_terminal] == ["success", "fail"]


class TestFailure:
    @pytest.mark.parametrize(
        ("members", "code", "message"),
        [
            pytest.param({"error": "Task execution failed"}, None, "Task execution failed", id="seed-text"),
            pytest.param({"error": {"code": "1001", "message": "No"}}, "1001", "No", id="object"),
            pytest.param({"error": {"code": 500, "message": "No"}}, "500", "No", id="numeric-code"),
            pytest.param({"error": {"message": "No"}}, None, "No", id="object-without-code"),
            pytest.param({"error": {"code": "2038"}}, "2038", "the vendor gave no reason", id="object-without-message"),
            pytest.param({"error": {}}, None, "the vendor gave no reason", id="empty-object"),
            pytest.param({"error": {"code": None, "message": 7}}, None, "7", id="numeric-message"),
            pytest.param(
                {"error": {"code": {}, "message": []}}, None, "the vendor gave no reason", id="nonsense-object"
            ),
            pytest.param({"error": None}, None, "the vendor gave no reason", id="null"),
            pytest.param({"error": ""}, None, "the vendor gave no reason", id="empty-text"),
            pytest.param({"error": ["a"]}, None, "the vendor gave no reason", id="list"),
            pytest.param({"error": False}, None, "the vendor gave no reason", id="false"),
            pytest.param({}, None, "the vendor gave no reason", id="absent"),
            pytest.param({"failMsg": "Processing timeout"}, None, "Processing timeout", id="failMsg"),
            pytest.param({"error": "", "failMsg": "Why"}, None, "Why", id="empty-text-and-failMsg"),
            pytest.param({"error": {"code": "1"}, "failMsg": "Why"}, "1", "Why", id="code-and-failMsg"),
            pytest.param({"error": "This", "failMsg": "Other"}, None, "This", id="both"),
        ],
    )
    def test_of_a_failed_task_is_read_from(self, members: dict[str, Any], code: str | None, message: str) -> None:
        assert parse(status="fail", **members).failure == TaskFailure(code=code, message=message)

    @pytest.mark.parametrize("status", ["waiting", "generating", "success", "upscaling"])
    def test_is_ignored_on_a_task_that_did_not_fail(self, status: str) -> None:
        assert parse(status=status, error="a warning", failMsg="x").failure is None

    def test_text_is_kept_short(self) -> None:
        failure = parse(status="fail", error="x" * 5000).failure
        assert failure is not None
        assert failure.message == "x" * defaults.MAX_TEXT


class TestCredits:
    @pytest.mark.parametrize(
        ("text", "amount"),
        [
            ("200", "200"),
            ("0", "0"),
            ("2.17", "2.17"),
            ("14.41", "14.41"),
            ("99.80000000000001", "99.80000000000001"),
            ('"142.57"', "142.57"),
            ('" 5 "', "5"),
            ("-3", "-3"),
            ("1e2", "100"),
        ],
    )
    def test_are_exact_decimals(self, text: str, amount: str) -> None:
        record = records.parse_task(json.loads(f'{{"taskId":"task_a","creditsUsed":{text}}}'))
        assert record.credits_used == Decimal(amount)
        assert TaskRecord.model_validate(record.model_dump(mode="json")).credits_used == Decimal(amount)

    @pytest.mark.parametrize("value", [None, "", "many", True, [], {}, float("nan"), float("inf"), "NaN"], ids=repr)
    def test_that_are_no_number_are_unknown(self, value: Any) -> None:
        assert parse(creditsUsed=value).credits_used is None

    def test_absent_are_unknown(self) -> None:
        assert parse().credits_used is None


class TestOutputs:
    def test_carry_every_documented_member(self) -> None:
        record = parse(
            status="success",
            output=[
                {
                    "url": VIDEO,
                    "width": 1280,
                    "height": 720,
                    "mediaType": "video/mp4",
                    "seed": 4294967295,
                    "lastFrameImage": "https://static.example.com/videos/a.png",
                    "new": 1,
                }
            ],
        )
        assert record.outputs == (
            TaskOutput(
                url=VIDEO,
                width=1280,
                height=720,
                media_type="video/mp4",
                seed=4294967295,
                last_frame_image="https://static.example.com/videos/a.png",
            ),
        )

    @pytest.mark.parametrize(
        ("members", "urls"),
        [
            pytest.param({"output": [{"url": VIDEO}]}, [VIDEO], id="array"),
            pytest.param({"output": {"url": VIDEO}}, [VIDEO], id="object"),
            pytest.param({"output": VIDEO}, [VIDEO], id="text"),
            pytest.param({"output": [VIDEO, {"url": VIDEO + "?2"}]}, [VIDEO, VIDEO + "?2"], id="texts-and-objects"),
            pytest.param({"output": [f" {VIDEO}\n"]}, [VIDEO], id="trimmed"),
            pytest.param({"output": None}, [], id="null"),
            pytest.param({"output": []}, [], id="empty"),
            pytest.param({"output": [None, 5, {}, {"url": None}, {"url": 5}, [VIDEO]]}, [], id="nonsense-items"),
            pytest.param({"output": 7}, [], id="number"),
            pytest.param({}, [], id="absent"),
            pytest.param({"resultJson": json.dumps({"resultUrls": [VIDEO]})}, [VIDEO], id="resultJson"),
            pytest.param({"output": None, "resultJson": {"resultUrls": [VIDEO]}}, [VIDEO], id="resultJson-object"),
            pytest.param({"resultJson": json.dumps({"resultUrls": VIDEO})}, [VIDEO], id="resultJson-one-text"),
            pytest.param({"resultJson": "{"}, [], id="resultJson-cut"),
            pytest.param({"resultJson": "[]"}, [], id="resultJson-list"),
            pytest.param({"resultJson": ""}, [], id="resultJson-empty"),
            pytest.param({"resultJson": None}, [], id="resultJson-null"),
            pytest.param(
                {"output": [VIDEO], "resultJson": '{"resultUrls":["https://b.example/"]}'}, [VIDEO], id="both"
            ),
        ],
    )
    def test_are_read_from(self, members: dict[str, Any], urls: list[str]) -> None:
        record = parse(status="success", **members)
        assert record.urls == urls
        assert [output.url for output in record.outputs] == urls

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://a.example/v.mp4",
            "file:///v.mp4",
            "javascript:alert(1)",
            "data:video/mp4;base64,AAAA",
            "//a.example/v.mp4",
            "/v.mp4",
            "v.mp4",
            "https://",
            "https:///v.mp4",
            "http://[::1",
            "https://a.example:99999/v.mp4",
            "https://a.example:port/v.mp4",
            "https://a.example/a b.mp4",
            "https://a.example/\u202egpj.exe",
            "https://a.example/\x00",
            "https://a.example/a\nb",
            "",
        ],
        ids=ascii,
    )
    def test_without_a_usable_url_are_dropped(self, url: str) -> None:
        record = parse(status="success", output=[{"url": url}, {"url": VIDEO, "lastFrameImage": url}])
        assert record.urls == [VIDEO]
        assert record.outputs[0].last_frame_image is None

    def test_may_be_on_any_host_and_in_any_case(self) -> None:
        urls = [
            "https://ark-acg.tos-cn-beijing.volces.com/a.png?X-Tos-Signature=1",
            "HTTPS://STATIC.example.com/v.mp4",
            "http://127.0.0.1:8765/v.mp4",
        ]
        assert parse(output=urls).urls == urls

    @pytest.mark.parametrize(
        ("value", "number"),
        [
            (1280, 1280),
            ("1280", 1280),
            (1280.0, 1280),
            (None, None),
            ("wide", None),
            (True, None),
            (2**70, None),
            ([], None),
        ],
        ids=repr,
    )
    def test_may_lack_a_size(self, value: Any, number: int | None) -> None:
        output = parse(output=[{"url": VIDEO, "width": value, "height": value, "seed": value}]).outputs[0]
        assert (output.width, output.height, output.seed) == (number, number, number)


class TestRecord:
    @pytest.mark.parametrize(
        "payload",
        [
            None,
            True,
            5,
            "text",
            [],
            {},
            {"message": "x"},
            {"code": 200, "data": {}},
            {"data": [1]},
            {"code": 404, "data": None},
        ],
        ids=repr,
    )
    def test_is_not_made_from(self, payload: Any) -> None:
        with pytest.raises(SeedanceServerError) as caught:
            records.parse_task(payload, seedance_task_id="task_asked")
        assert caught.value.seedance_task_id == "task_asked"

    def test_comes_out_of_an_envelope(self) -> None:
        record = records.parse_task(
            {"code": 200, "message": "success", "data": {"taskId": "task_a", "state": "success"}}
        )
        assert (record.seedance_task_id, record.status) == ("task_a", TaskStatus.SUCCESS)

    @pytest.mark.parametrize("key", ["taskId", "status", "state"])
    def test_with_a_data_member_of_its_own_is_not_an_envelope(self, key: str) -> None:
        record = records.parse_task({key: "waiting", "data": {"taskId": "task_b", "status": "fail"}})
        assert record.status is not TaskStatus.FAIL

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"taskId": None},
            {"taskId": ""},
            {"taskId": 77},
            {"taskId": "task_\x00"},
            {"taskId": "a" * (defaults.MAX_TASK_ID + 1)},
        ],
        ids=lambda members: repr(members)[:30],
    )
    def test_falls_back_on_the_id_that_was_asked_for(self, members: dict[str, Any]) -> None:
        record = records.parse_task({"status": "waiting", **members}, seedance_task_id="task_asked")
        assert record.seedance_task_id == "task_asked"

    @pytest.mark.parametrize(
        ("value", "milliseconds"),
        [(1760000000123, 1760000000123), ("1760000000123", 1760000000123), (None, None), ("soon", None), ({}, None)],
        ids=repr,
    )
    def test_has_times_in_milliseconds(self, value: Any, milliseconds: int | None) -> None:
        record = parse(createTime=value, completeTime=value)
        assert (record.create_time, record.complete_time) == (milliseconds, milliseconds)

    @pytest.mark.parametrize(
        ("created", "completed", "seconds"),
        [(1000, 198500, 197.5), (None, 1000, None), (1000, None, None), (None, None, None)],
    )
    def test_tells_how_long_the_generation_took(
        self, created: int | None, completed: int | None, seconds: float | None
    ) -> None:
        assert parse(createTime=created, completeTime=completed).generation_seconds == seconds

    def test_takes_any_model_for_information(self) -> None:
        assert parse(model="seedance20-video-generation").model == "seedance20-video-generation"
        assert parse(model=["x"]).model is None

    def test_ignores_members_it_does_not_know(self) -> None:
        assert parse(status="waiting", orderId="o", updateTime=1, param="{}", surprise={"a": [1]}) == parse(
            status="waiting"
        )

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            parse().status = TaskStatus.SUCCESS


class TestNothingWhatsoever:
    """No answer makes the reading raise anything but our errors, or give something that XCom cannot hold."""

    @given(wild.payloads)
    def test_in_a_payload_breaks_it(self, payload: Any) -> None:
        self._check(lambda: records.parse_task(payload, seedance_task_id="task_a"))

    @given(wild.records)
    def test_in_a_record_breaks_it(self, payload: dict[str, Any]) -> None:
        self._check(lambda: records.parse_task({"taskId": "task_a", "status": "fail", **payload}))

    @given(wild.bodies)
    def test_in_the_body_of_a_webhook_breaks_it(self, body: bytes) -> None:
        self._check(lambda: records.parse_webhook(body))

    def _check(self, read: Any) -> None:
        try:
            record = read()
        except SeedanceError:
            return
        assert isinstance(record, TaskRecord)
        assert record.status is TaskStatus.FAIL or record.failure is None
        assert all(url.lower().startswith(("http://", "https://")) for url in record.urls)
        written = json.dumps(record.model_dump(mode="json"), allow_nan=False)
        assert TaskRecord.model_validate(json.loads(written)) == record
        # Postgres holds neither NUL nor lone surrogates.
        assert "\\u0000" not in written
        record.model_dump_json().encode()


@pytest.mark.parametrize(
    "text",
    ["1e9999999", "-1e9999999", "1e-9999999", "9" * 5000, "1e400", "Infinity", "NaN"],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("quote", ["", '"'], ids=["number", "text"])
@pytest.mark.parametrize("member", ["creditsUsed", "createTime", "completeTime"])
def test_no_number_is_too_large_or_too_small_to_be_read(member: str, quote: str, text: str) -> None:
    payload = records.load_json(f'{{"taskId":"task_a","status":"waiting","{member}":{quote}{text}{quote}}}'.encode())
    if payload is not None:
        assert records.parse_task(payload).status is TaskStatus.WAITING


def test_a_number_of_more_digits_than_python_prints_is_unknown() -> None:
    record = records.parse_task(dict.fromkeys(("taskId", "model", "creditsUsed", "createTime"), 10**5000))
    assert (record.seedance_task_id, record.model, record.credits_used, record.create_time) == ("", None, None, None)


CONTROL_CHARACTERS = ["\ud800", "\x00", "\n", "\r", "\x1b[2J", "\x85", "\u202e", "\u2066", "\u2028", "\ufeff"]


@pytest.mark.parametrize("odd", CONTROL_CHARACTERS, ids=ascii)
class TestControlCharacters:
    """They forge lines of log, hide text from people, and fit into no database."""

    def test_are_taken_out_of_every_text(self, odd: str) -> None:
        text = f"a{odd}b"
        record = parse(model=text, status="fail", error={"code": text, "message": text})
        assert record.failure is not None
        for value in (record.model, record.failure.code, record.failure.message):
            assert value is not None
            assert value[0] + value[-1] == "ab"
            assert value.isprintable()
            value.encode()

    def test_are_taken_out_of_the_word_for_the_status(self, odd: str) -> None:
        record = parse(status=f"up{odd}scaling")
        assert record.raw_status is not None
        assert record.raw_status.isprintable()

    def test_make_an_id_none(self, odd: str) -> None:
        assert records.task_id_or_none(f"task_{odd}a") is None

    def test_make_a_url_none(self, odd: str) -> None:
        assert records.http_url_or_none(f"https://a.example/{odd}v.mp4") is None

    def test_are_taken_out_of_the_media_type(self, odd: str) -> None:
        media_type = parse(output=[{"url": VIDEO, "mediaType": f"video/{odd}mp4"}]).outputs[0].media_type
        assert media_type is not None
        assert media_type.isprintable()


class TestBounds:
    """An answer of a megabyte does not become an event of ten."""

    def test_of_an_id(self) -> None:
        longest = "a" * defaults.MAX_TASK_ID
        assert records.task_id_or_none(longest) == longest
        assert records.task_id_or_none(f"  {longest}\n") == longest
        assert records.task_id_or_none(longest + "a") is None
        assert records.task_id_or_none("a" * 900_000) is None

    def test_of_a_url(self) -> None:
        longest = "https://a.example/".ljust(defaults.MAX_URL, "a")
        assert records.http_url_or_none(longest) == longest
        assert records.http_url_or_none(longest + "a") is None

    def test_of_the_number_of_outputs(self) -> None:
        urls = [f"https://a.example/{number}.mp4" for number in range(2 * defaults.MAX_OUTPUTS)]
        assert parse(output=urls).urls == urls[: defaults.MAX_OUTPUTS]
        assert parse(resultJson=json.dumps({"resultUrls": urls})).urls == urls[: defaults.MAX_OUTPUTS]

    def test_of_every_text(self) -> None:
        text = "x" * 100_000
        record = parse(
            model=text, status="fail", error={"code": text, "message": text}, output=[{"url": VIDEO, "mediaType": text}]
        )
        assert record.failure is not None
        for value in (record.model, record.failure.code, record.failure.message, record.outputs[0].media_type):
            assert value == "x" * defaults.MAX_TEXT
        assert parse(status=text).raw_status == "x" * defaults.MAX_TEXT

    @given(wild.records, st.sampled_from([1, 1000, 100_000]))
    def test_hold_for_the_whole_record(self, payload: dict[str, Any], times: int) -> None:
        grown = {
            name: value * times
            if isinstance(value, str)
            else (value * times)[:10_000]
            if isinstance(value, list)
            else value
            for name, value in payload.items()
        }
        record = records.parse_task({"taskId": "task_a", **grown})
        assert len(record.model_dump_json()) < 16 * 12_000


def test_the_wire_cannot_pass_for_what_xcom_holds() -> None:
    record = parse(
        status="waiting",
        seedance_task_id="task_b",
        raw_status="success",
        credits_used=1,
        outputs=[VIDEO],
        failure={"message": "x"},
        create_time=1,
        complete_time=2,
    )
    assert record == parse(status="waiting")


@given(st.text(max_size=30))
def test_an_accepted_url_is_printable_and_has_a_host(text: str) -> None:
    for candidate in (text, f"https://{text}"):
        url = records.http_url_or_none(candidate)
        if url is not None:
            assert url == candidate.strip()
            assert url.isprintable()


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_amounts_written_as_text_are_read_back_exactly(amount: Decimal) -> None:
    assert records.decimal_or_none(str(amount)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "InvalidParameter - https://b.example/clip.mp4?X-Amz-Signature=s1gned duration should be at most 15s",
        '{"output":[{"url":"https://b.example/clip.mp4?X-Tos-Signature=s1gned"}]',
        '{"url":"https:\\/\\/b.example\\/clip.mp4?sig=s1gned"}',
        "HTTPS://b.example/clip.mp4?a=1&sig=s1gned",
    ],
)
def test_a_text_of_the_vendors_shows_no_signature_of_a_url(text: str) -> None:
    assert "s1gned" not in records.clean_text(text)
    assert "clip.mp4" in records.clean_text(text)
