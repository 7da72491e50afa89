"""What is sent, and what is made of the answer."""

from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_provider.api import calls
from seedance_provider.exceptions import (
    SeedanceError,
    SeedanceInvalidRequestError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
)
from tests.unit.api import wild
from tests.unit.api.play import reply

INPUTS = {"prompt": "A sunset over the ocean", "duration": 5}


class TestCreateTask:
    def test_is_a_compact_post_that_spends(self) -> None:
        call = calls.create_task("seedance-20", INPUTS)
        assert call.spends
        assert call.request == calls.Request(
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
        with pytest.raises(SeedanceInvalidRequestError, match="is not a model id"):
            calls.create_task(model, INPUTS)

    @pytest.mark.parametrize("inputs", [None, "prompt", [("a", 1)], 5], ids=repr)
    def test_refuses_inputs_that_are_no_mapping(self, inputs: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match="is not a mapping"):
            calls.create_task("seedance-20", inputs)

    def test_refuses_inputs_that_are_no_json_and_does_not_repeat_them_at_length(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value in (float("nan"), float("inf"), Decimal(5), {1, 2}, b"x", object(), loop, deep, {("a",): 1}):
            with pytest.raises(SeedanceInvalidRequestError, match="cannot be written as JSON"):
                calls.create_task("seedance-20", {"x": value})
        with pytest.raises(SeedanceInvalidRequestError) as caught:
            calls.create_task("seedance-20", "x" * 10_000)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        "url", ["", "example.com/hook", "ftp://example.com", "https://", 5, "https://a b"], ids=repr
    )
    def test_refuses_a_callback_that_is_no_url(self, url: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match=r"callback_url=.* is not an http"):
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
        ],
        ids=repr,
    )
    def test_reads_the_id_from(self, status: int, body: Any, task_id: str) -> None:
        assert calls.create_task("m", INPUTS).read(reply(status, body)) == task_id

    @pytest.mark.parametrize(
        "body",
        [
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
        ids=repr,
    )
    def test_is_uncertain_after_a_success_that_names_no_usable_id(self, body: Any) -> None:
        with pytest.raises(SeedanceSubmitUncertainError, match="without a usable taskId") as caught:
            calls.create_task("m", INPUTS).read(reply(200, body))
        assert caught.value.status_code == 200

    @given(st.integers(100, 999), wild.bodies)
    def test_gives_an_id_or_one_of_our_errors_for_any_answer(self, status: int, body: bytes) -> None:
        try:
            task_id = calls.create_task("m", INPUTS).read(calls.Reply(status, "", body))
        except SeedanceError:
            return
        assert 200 <= status < 300
        assert task_id
        assert task_id == task_id.strip()
        task_id.encode()


class TestGetTask:
    def test_is_a_get_that_costs_nothing(self) -> None:
        call = calls.get_task("task_a")
        assert not call.spends
        assert call.request == calls.Request("GET", "/jobs/recordInfo?taskId=task_a")

    @pytest.mark.parametrize(
        "task_id",
        ["a/b", "a b", "a&taskId=b", "a#b", "a?b", "100%", "..", "ä☃", "a+b", "a\nb", "task_a~-._:"],
        ids=ascii,
    )
    def test_encodes_any_id(self, task_id: str) -> None:
        parts = urlsplit(calls.get_task(task_id).request.path)
        assert parts.path == "/jobs/recordInfo"
        assert parse_qs(parts.query, strict_parsing=True) == {"taskId": [task_id]}
        assert not parts.fragment

    def test_trims_the_id(self) -> None:
        assert calls.get_task(" task_a\n").request.path == "/jobs/recordInfo?taskId=task_a"

    @pytest.mark.parametrize("task_id", ["", " ", None, 5, ["task_a"], b"task_a"], ids=repr)
    def test_refuses_what_is_no_id(self, task_id: Any) -> None:
        with pytest.raises(SeedanceInvalidRequestError, match="is not a task id"):
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

    @pytest.mark.parametrize("body", [None, [], {}, "text", b"", {"ok": 1}, {"data": {}}, b"{"], ids=repr)
    def test_is_a_server_error_after_a_success_without_a_record(self, body: Any) -> None:
        with pytest.raises(SeedanceServerError, match="not a task record") as caught:
            calls.get_task("task_a").read(reply(200, body))
        assert caught.value.seedance_task_id == "task_a"
        assert caught.value.status_code == 200

    @given(st.integers(100, 999), wild.bodies)
    def test_gives_a_record_or_one_of_our_errors_for_any_answer(self, status: int, body: bytes) -> None:
        record, error = None, None
        try:
            record = calls.get_task("task_a").read(calls.Reply(status, "", body))
        except SeedanceError as caught:
            error = caught
        if error is not None:
            assert error.seedance_task_id == "task_a"
        else:
            assert record is not None
            assert 200 <= status < 300
            assert {"taskId", "status", "state"} & set(record)
