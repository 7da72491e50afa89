"""What is sent, and what is made of the answer."""

from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider import defaults
from seedance_provider.api import calls
from seedance_provider.api.messages import Reply, Request, UploadTicket
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
)
from tests.support import wild
from tests.support.play import reply

INPUTS = {"prompt": "A sunset over the ocean", "duration": 5}


class TestCreateTask:
    def test_is_a_compact_post(self) -> None:
        call = calls.create_task("seedance-20", INPUTS)
        assert call.request == Request(
            "POST",
            "/jobs/createTask",
            b'{"model":"seedance-20","inputs":{"prompt":"A sunset over the ocean","duration":5}}',
        )

    def test_has_a_callback_where_one_is_wanted(self) -> None:
        call = calls.create_task("seedance-20", INPUTS, "https://example.com/hook")
        assert json.loads(call.request.body or b"")["callBackUrl"] == "https://example.com/hook"
        assert b"callBackUrl" not in (calls.create_task("seedance-20", INPUTS).request.body or b"")

    def test_sends_a_callback_without_the_space_around_it(self) -> None:
        call = calls.create_task("seedance-20", INPUTS, " https://example.com/hook\n")
        assert json.loads(call.request.body or b"")["callBackUrl"] == "https://example.com/hook"

    def test_sends_inputs_as_they_are(self) -> None:
        inputs = {"prompt": "Ünï ☃ \ud83d\ude00", "odd": [None, True, 1.5, {"a": "b"}], "duration": "5s"}
        body = calls.create_task("m", MappingProxyType(inputs)).request.body or b""
        assert json.loads(body)["inputs"] == json.loads(json.dumps(inputs))
        assert body.isascii()

    @pytest.mark.parametrize("model", ["", " ", None, 5, ["seedance-20"]], ids=repr)
    def test_refuses_a_model_that_is_no_id(self, model: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match="model="):
            calls.create_task(model, INPUTS)

    @pytest.mark.parametrize("inputs", [None, "prompt", [("a", 1)], 5], ids=repr)
    def test_refuses_inputs_that_are_no_mapping(self, inputs: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match="inputs="):
            calls.create_task("seedance-20", inputs)

    def test_refuses_inputs_that_are_no_json_and_does_not_repeat_them_at_length(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value in (float("nan"), float("inf"), Decimal(5), {1, 2}, b"x", object(), loop, deep, {("a",): 1}):
            with pytest.raises(SeedanceInvalidRequestError, match="inputs"):
                calls.create_task("seedance-20", {"x": value})
        with pytest.raises(SeedanceInvalidRequestError) as caught:
            calls.create_task("seedance-20", "x" * 10_000)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        "url", ["", "example.com/hook", "ftp://example.com", "https://", 5, "https://a b"], ids=repr
    )
    def test_refuses_a_callback_that_is_no_url(self, url: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match="callback_url="):
            calls.create_task("seedance-20", INPUTS, url)

    @pytest.mark.parametrize(
        ("status", "body", "task_id"),
        [
            (200, {"taskId": "task_k3v9q2m8x4b7n1c6z0l5j2h8"}, "task_k3v9q2m8x4b7n1c6z0l5j2h8"),
            (200, {"code": 200, "message": "success", "data": {"taskId": "task_a", "orderId": "o"}}, "task_a"),
            (200, {"taskId": " task_a\n"}, "task_a"),
            (200, {"taskId": "a/b?c=d&e f%"}, "a/b?c=d&e f%"),
            (201, {"taskId": "demo_task_t2v_success"}, "demo_task_t2v_success"),
            (200, {"taskId": "task_a", "code": 500, "message": "x"}, "task_a"),
            (200, {"taskId": "a" * defaults.MAX_TASK_ID}, "a" * defaults.MAX_TASK_ID),
            (200, {"status": "ok", "data": {"taskId": "task_a"}}, "task_a"),
            (200, {"data": {"task": {"taskId": "task_a"}}}, "task_a"),
            (200, [{"taskId": "task_a"}], "task_a"),
            (500, {"taskId": "task_a"}, "task_a"),
            (502, {"message": "x", "data": {"taskId": "task_a"}}, "task_a"),
        ],
        ids=lambda value: repr(value)[:50],
    )
    def test_reads_the_id_from(self, status: int, body: Any, task_id: str) -> None:
        assert calls.create_task("m", INPUTS).read(reply(status, body)) == task_id

    @pytest.mark.parametrize(
        "body",
        [
            b'{"taskId":"task_a"',
            b'{"taskId":"task_a","model":"seeda',
            b'{"code":200,"data":{"orderId":"o","taskId" : "task_a","credi',
            b'{"code":200,"data":{"taskId":\n"task_a"}',
            b'{"taskId":"task_a"}{"taskId":"task_a"}',
            b'{"taskId":"task_a"}<html>',
            b'\xff\xfe{"taskId":"task_a"}',
            b'12\r\n{"taskId":"task_a"}\r\n',
        ],
    )
    @pytest.mark.parametrize("status", [200, 201, 500, 504, 520])
    def test_takes_an_id_that_stands_in_the_bytes_for_the_answer_however_they_end(
        self, status: int, body: bytes
    ) -> None:
        answer = Reply(status, "application/json", body, complete=False)
        assert calls.create_task("m", INPUTS).read(answer) == "task_a"

    @given(st.integers(0, 80))
    def test_loses_the_id_only_where_the_bytes_end_before_its_last_quote(self, end: int) -> None:
        whole = b'{"code":200,"message":"success","data":{"taskId":"task_a","orderId":"o"}}'
        answer = Reply(200, "application/json", whole[:end], complete=False)
        if end >= whole.index(b'"task_a"') + len(b'"task_a"'):
            assert calls.create_task("m", INPUTS).read(answer) == "task_a"
        else:
            with pytest.raises(SeedanceSubmitUncertainError):
                calls.create_task("m", INPUTS).read(answer)

    @pytest.mark.parametrize("status", [300, 302, 400, 401, 402, 403, 404, 409, 422, 429, 499])
    def test_of_a_refusal_has_no_id(self, status: int) -> None:
        for body in ({"taskId": "task_a"}, b'{"taskId":"task_a","x'):
            with pytest.raises(SeedanceError) as caught:
                calls.create_task("m", INPUTS).read(reply(status, body))
            assert caught.value.charged == "no"

    @pytest.mark.parametrize(
        "body",
        [
            b'{"taskId":"task_a"}{"taskId":"task_b"}',
            {"taskId": "", "former": {"taskId": "task_a"}, "other": {"taskId": "task_b"}},
            {"taskId": "a" * (defaults.MAX_TASK_ID + 1)},
            b'{"taskId":"' + b"a" * 900_000 + b'"}',
            b'{"taskId":"task_\x1b[2J"',
            '{"taskId":"task_\u202ea"'.encode(),
            {},
            [],
            None,
            "task_a",
            {"taskId": ""},
            {"taskId": " "},
            {"taskId": None},
            {"taskId": 5},
            {"taskId": ["task_a"]},
            {"taskId": "a\nb"},
            {"taskId": "a\x00b"},
            {"taskId": "\ud800"},
            {"task_id": "task_a"},
            {"id": "task_a"},
            {"data": {"id": "task_a"}},
            {"code": 200, "message": "success", "data": None},
            b"",
            b'{"taskId":"task_',
        ],
        ids=lambda body: repr(body)[:40],
    )
    def test_is_uncertain_after_a_success_that_names_no_usable_id(self, body: Any) -> None:
        with pytest.raises(SeedanceSubmitUncertainError) as caught:
            calls.create_task("m", INPUTS).read(reply(200, body))
        assert caught.value.status_code == 200
        assert caught.value.charged == "unknown"
        assert len(str(caught.value)) < 1000

    @given(st.integers(100, 999), wild.bodies)
    def test_gives_an_id_or_one_of_our_errors_for_any_answer(self, status: int, body: bytes) -> None:
        try:
            task_id = calls.create_task("m", INPUTS).read(Reply(status, "", body))
        except SeedanceError:
            return
        assert not 300 <= status < 500
        assert task_id
        assert task_id == task_id.strip()
        assert len(task_id) <= defaults.MAX_TASK_ID
        assert task_id.isprintable()
        task_id.encode()


class TestGetTask:
    def test_is_a_get(self) -> None:
        assert calls.get_task("task_a").request == Request("GET", "/jobs/recordInfo?taskId=task_a")

    @pytest.mark.parametrize(
        "task_id",
        ["a/b", "a b", "a&taskId=b", "a#b", "a?b", "100%", "..", "ä☃", "a+b", "task_a~-._:"],
        ids=ascii,
    )
    def test_encodes_any_id(self, task_id: str) -> None:
        parts = urlsplit(calls.get_task(task_id).request.path)
        assert parts.path == "/jobs/recordInfo"
        assert parse_qs(parts.query, strict_parsing=True) == {"taskId": [task_id]}
        assert not parts.fragment

    def test_trims_the_id(self) -> None:
        assert calls.get_task(" task_a\n").request.path == "/jobs/recordInfo?taskId=task_a"

    @pytest.mark.parametrize(
        "task_id",
        ["", " ", None, 5, ["task_a"], b"task_a", "a\nb", "a\x00", "\ud800", "a" * (defaults.MAX_TASK_ID + 1)],
        ids=lambda task_id: ascii(task_id)[:20],
    )
    def test_refuses_what_is_no_id(self, task_id: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match="seedance_task_id="):
            calls.get_task(task_id)

    @given(wild.texts)
    def test_takes_any_text_or_says_that_it_is_no_id(self, task_id: str) -> None:
        try:
            path = calls.get_task(task_id).request.path
        except SeedanceInvalidRequestError:
            return
        assert path.isascii()
        assert path.isprintable()
        assert " " not in path

    def test_takes_the_record_out_of_its_envelope(self) -> None:
        record = {"taskId": "task_a", "state": "waiting"}
        assert calls.get_task("task_a").read(reply(200, {"code": 200, "data": record})) == record
        assert calls.get_task("task_a").read(reply(200, record)) == record

    @pytest.mark.parametrize(
        "other",
        ["task_b", "TASK_A", "task_a2", " task_b\n", "a" * 900_000, "task_\x1b[2J"],
        ids=lambda id_: ascii(id_)[:20],
    )
    def test_takes_the_record_of_another_task_for_an_answer_that_cannot_be_read(self, other: str) -> None:
        for body in ({"taskId": other, "status": "success"}, {"data": {"taskId": other, "state": "success"}}):
            with pytest.raises(SeedanceServerError) as caught:
                calls.get_task("task_a").read(reply(200, body))
            assert caught.value.seedance_task_id == "task_a"
            assert "task_a" in str(caught.value)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize("same", ["task_a", " task_a\n", "", None, 77], ids=repr)
    def test_takes_a_record_that_names_its_task_or_none(self, same: Any) -> None:
        assert calls.get_task(" task_a ").read(reply(200, {"taskId": same, "status": "waiting"}))

    @pytest.mark.parametrize("body", [None, [], {}, "text", b"", {"ok": 1}, {"data": {}}, b"{"], ids=repr)
    def test_is_a_server_error_after_a_success_without_a_record(self, body: Any) -> None:
        with pytest.raises(SeedanceServerError) as caught:
            calls.get_task("task_a").read(reply(200, body))
        assert caught.value.seedance_task_id == "task_a"
        assert caught.value.status_code == 200

    @given(st.integers(100, 999), wild.bodies)
    def test_gives_a_record_or_one_of_our_errors_for_any_answer(self, status: int, body: bytes) -> None:
        record, error = None, None
        try:
            record = calls.get_task("task_a").read(Reply(status, "", body))
        except SeedanceError as caught:
            error = caught
        if error is not None:
            assert error.seedance_task_id == "task_a"
        else:
            assert record is not None
            assert 200 <= status < 300
            assert {"taskId", "status", "state"} & set(record)


class TestRequestUpload:
    MEMBERS: ClassVar = {"uploadUrl": "https://a.example/put?s=1", "url": "https://b.example/cat.png"}

    @pytest.mark.parametrize("status", [200, 201])
    @pytest.mark.parametrize(
        ("announced", "content_type"),
        [
            ("image/webp", "image/webp"),
            (None, "image/png"),
            (5, "image/png"),
            ("image/png\r\nX-Evil: 1", "image/png"),
            ("x" * 1000, "image/png"),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_takes_a_ticket_in_or_out_of_an_envelope(self, status: int, announced: Any, content_type: str) -> None:
        members = {**self.MEMBERS, "contentType": announced}
        for body in (members, {"code": 200, "message": "success", "data": members}):
            ticket = calls.request_upload("cat.png", "image/png").read(reply(status, body))
            assert ticket == UploadTicket("https://a.example/put?s=1", content_type, "https://b.example/cat.png")

    @pytest.mark.parametrize(
        "body",
        [{}, [], {"uploadUrl": "ftp://a"}, MEMBERS | {"url": None}, MEMBERS | {"uploadUrl": "https://a.example/\x00"}],
        ids=repr,
    )
    def test_shows_no_signed_url_of_a_ticket_that_cannot_be_used(self, body: Any) -> None:
        with pytest.raises(SeedanceServerError) as caught:
            calls.request_upload("cat.png", "image/png").read(reply(200, body))
        assert "a.example" not in str(caught.value)

    @given(st.integers(100, 999), wild.bodies)
    def test_gives_a_ticket_or_one_of_our_errors_for_any_answer(self, status: int, body: bytes) -> None:
        try:
            ticket = calls.request_upload("cat.png", "image/png").read(Reply(status, "", body))
        except SeedanceError:
            return
        assert ticket.upload_url.lower().startswith(("http://", "https://"))
