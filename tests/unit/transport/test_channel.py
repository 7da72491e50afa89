"""What the waiters on a connection share: one lookup, one pair of sessions, one rate limiter."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from seedance_provider.api.messages import Flow, RenewKey, Reply, Request, Send, Sleep
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceConfigurationError,
    SeedanceTransportError,
)
from seedance_provider.transport import pool
from seedance_provider.transport.pool import Channel
from tests.support import wire
from tests.support.wire import answer

if TYPE_CHECKING:
    from seedance_provider.connection import SeedanceSettings

RECORD = b'{"taskId":"task_a","status":"waiting"}'
OK = answer(200, RECORD)


def once(deadline: float | None = None) -> Flow[Reply]:
    return (yield Send(Request("GET", "/x"), deadline))


class Lookup:
    """Looks a connection up: each time the next of these, the last again and again; errors are raised."""

    def __init__(self, *outcomes: Any, seconds: float = 0.0) -> None:
        self.outcomes = list(outcomes)
        self.seconds = seconds
        self.times: list[float] = []

    async def __call__(self) -> SeedanceSettings:
        self.times.append(time.monotonic())
        await asyncio.sleep(self.seconds)
        outcome = self.outcomes[min(len(self.times), len(self.outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def use(channel: Channel, flow: Flow[Any], deadline: float | None = None) -> Any:
    async with channel:
        return await channel.drive(flow, deadline=deadline)


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(main())  # type: ignore[arg-type]


class TestLookup:
    def test_is_one_for_all_who_start_together(self, serve: Any, settings: Any) -> None:
        server = serve(*[OK] * 50)
        lookup = Lookup(settings(server.url), seconds=0.05)

        async def main() -> None:
            channel = Channel(lookup)
            await asyncio.gather(*(use(channel, once()) for _ in range(50)))

        run(main)
        assert len(lookup.times) == 1
        assert len(server.requests) == 50

    def test_serves_those_who_start_within_a_second_and_no_others(self, serve: Any, settings: Any) -> None:
        lookup = Lookup(settings(serve(*[OK] * 4).url))
        now = [100.0]

        async def main() -> None:
            channel = Channel(lookup, monotonic=lambda: now[0])
            for moment in (100.0, 100.9, 101.1, 101.2):
                now[0] = moment
                await use(channel, once())

        run(main)
        assert len(lookup.times) == 2

    def test_that_fails_is_done_again_once_for_all(self, serve: Any, settings: Any) -> None:
        server = serve(*[OK] * 60)
        lookup = Lookup(ConnectionError("no API server"), OSError("still none"), settings(server.url))

        async def main() -> list[Reply]:
            channel = Channel(lookup, jitter=lambda: 0.0)
            return await asyncio.gather(*(use(channel, once(), time.time() + 30) for _ in range(60)))

        began = time.monotonic()
        assert {reply.body for reply in run(main)} == {RECORD}
        assert len(lookup.times) == 3
        assert 2 < time.monotonic() - began < 30, "1 s and 2 s, less a quarter"

    def test_that_keeps_failing_is_given_up_at_the_deadline_of_each(self, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(pool, "LAST_LOOKUP_SECONDS", 0.1)
        lookup = Lookup(ConnectionError("no API server"))

        async def waiter(channel: Channel, deadline: float) -> tuple[float, Exception]:
            with pytest.raises(SeedanceTransportError) as caught:
                await use(channel, once(deadline), deadline)
            return time.time() - deadline, caught.value

        async def main() -> list[tuple[float, Exception]]:
            channel = Channel(lookup)
            now = time.time()
            return await asyncio.gather(*(waiter(channel, now + after) for after in (0.3, 0.6, 1.0)))

        for late, error in run(main):
            assert 0 <= late < 0.5
            assert isinstance(error, SeedanceTransportError)
            assert error.request_sent is False
            assert "no API server" in str(error)

    def test_that_keeps_failing_is_an_error_that_the_flow_may_answer(self, monkeypatch: Any) -> None:
        """The flow knows the task, and what a wait without any answer means for it."""
        monkeypatch.setattr(pool, "LAST_LOOKUP_SECONDS", 0.1)

        def flow() -> Flow[str]:
            yield Sleep(0)
            try:
                yield Send(Request("GET", "/x"), time.time())
            except SeedanceTransportError:
                return "met"
            return "missed"

        assert run(lambda: use(Channel(Lookup(OSError("no"))), flow(), time.time())) == "met"

    @pytest.mark.parametrize(
        "error",
        [
            SeedanceConfigurationError("the host is not a URL"),
            SeedanceAuthenticationError("no key"),
            AirflowNotFoundException("no such connection"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_that_no_further_one_can_help_ends_all_waits(self, error: Exception) -> None:
        lookup = Lookup(error)

        async def main() -> list[Any]:
            channel = Channel(lookup, jitter=lambda: 0.0)
            waits = (use(channel, once(), time.time() + 600) for _ in range(20))
            return await asyncio.gather(*waits, return_exceptions=True)

        errors = run(main)
        assert {type(one) for one in errors} == {type(error)}
        assert len({id(one) for one in errors}) == 20, "each waiter adds to its own"
        assert len(lookup.times) <= pool.NOT_FOUND_LOOKUPS

    def test_that_finds_no_connection_for_a_moment_is_done_again(self, serve: Any, settings: Any) -> None:
        """Airflow says the same when its API server failed."""
        lookup = Lookup(AirflowNotFoundException("not defined"), settings(serve(OK).url))
        assert run(lambda: use(Channel(lookup, jitter=lambda: 0.0), once())).body == RECORD

    def test_that_fails_does_not_stop_those_who_can_use_an_earlier_one(self, serve: Any, settings: Any) -> None:
        lookup = Lookup(settings(serve(*[OK] * 2).url), OSError("no API server"))
        now = [100.0]

        async def main() -> bytes:
            channel = Channel(lookup, monotonic=lambda: now[0])
            async with channel:
                await use(channel, once())
                now[0] = 200.0
                return (await use(channel, once())).body

        assert run(main) == RECORD
        assert len(lookup.times) == 2

    def test_that_hangs_is_done_again(self, serve: Any, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(pool, "LOOKUP_SECONDS", 0.1)
        good = settings(serve(OK).url)
        calls = []

        async def read() -> SeedanceSettings:
            calls.append(True)
            if len(calls) == 1:
                await asyncio.sleep(60)
            return good

        assert run(lambda: use(Channel(read, jitter=lambda: 0.0), once())).body == RECORD

    def test_is_not_broken_off_when_the_last_waiter_leaves(self) -> None:
        """Half a conversation with Airflow's supervisor would disturb the next one."""
        ended = []

        async def read() -> SeedanceSettings:
            await asyncio.sleep(0.1)
            ended.append(True)
            raise OSError("too late")

        async def main() -> None:
            channel = Channel(read)
            task = asyncio.create_task(use(channel, once()))
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.2)

        run(main)
        assert ended == [True]


class TestKey:
    def test_that_was_refused_is_looked_up_again_once_for_all(self, serve: Any, settings: Any) -> None:
        server = serve(*[OK] * 40)
        new = settings(server.url, api_key="zimg_another-one")
        lookup = Lookup(settings(server.url), new, seconds=0.02)

        def flow() -> Flow[bool]:
            yield Send(Request("GET", "/x"))
            changed = yield RenewKey()
            yield Send(Request("GET", "/x"))
            return changed

        async def main() -> list[bool]:
            channel = Channel(lookup)
            return await asyncio.gather(*(use(channel, flow()) for _ in range(20)))

        assert run(main) == [True] * 20
        assert len(lookup.times) == 2
        keys = sorted(*zip(*(request.header("Authorization") for request in server.requests), strict=True))
        assert keys == ["Bearer zimg_another-one"] * 20 + ["Bearer zimg_s3cr3t-000001"] * 20

    def test_that_is_the_same_is_said_to_be(self, serve: Any, settings: Any) -> None:
        lookup = Lookup(settings(serve(OK).url))

        def flow() -> Flow[bool]:
            yield Send(Request("GET", "/x"))
            return (yield RenewKey())

        assert run(lambda: use(Channel(lookup), flow())) is False
        assert len(lookup.times) == 2

    def test_moves_with_its_host_and_its_budget(self, serve: Any, settings: Any) -> None:
        old, new = serve(OK), serve(OK)
        lookup = Lookup(
            settings(old.url), settings(new.url, api_key="zimg_another-one", requests_per_minute=6000, read_timeout=9)
        )

        def flow() -> Flow[None]:
            yield Send(Request("GET", "/x"))
            yield RenewKey()
            yield Send(Request("GET", "/x"))

        async def main() -> float | None:
            channel = Channel(lookup)
            await use(channel, flow())
            return channel.throttle.requests_per_minute

        assert run(main) == 6000
        assert [len(old.requests), len(new.requests)] == [1, 1]


class TestAnAnswer:
    """A waiter keeps the last one, so that the same need not be read again."""

    def replies(self, serve: Any, settings: Any, *answers: Any, renewed: dict[str, Any] | None = None) -> list[Reply]:
        url = serve(*answers).url
        lookup = Lookup(settings(url), settings(url, **(renewed or {})))

        def flow() -> Flow[list[Reply]]:
            replies = []
            for number, _ in enumerate(answers):
                if number and renewed is not None:
                    yield RenewKey()
                replies.append((yield Send(Request("GET", "/x"))))
            return replies

        found: list[Reply] = run(lambda: use(Channel(lookup), flow()))
        return found

    def test_that_is_the_same_byte_for_byte_is_given_out_again(self, serve: Any, settings: Any) -> None:
        first, second = self.replies(serve, settings, OK, OK)
        assert first is second

    @pytest.mark.parametrize(
        "other",
        [
            answer(200, RECORD.replace(b"waiting", b"success")),
            answer(201, RECORD),
            answer(200, RECORD, Retry_After="7"),
            answer(200, RECORD, Content_Type="text/html"),
            wire.cut(answer(200, RECORD, Content_Length=str(len(RECORD) + 1))),
            answer(200, gzip.compress(RECORD), Content_Encoding="gzip"),
        ],
        ids=["body", "status", "retry-after", "content-type", "cut", "compressed"],
    )
    def test_that_differs_in_anything_is_another(self, serve: Any, settings: Any, other: Any) -> None:
        first, second, third = self.replies(serve, settings, OK, other, OK)
        assert first is not second
        assert first == third

    def test_is_searched_for_the_new_key_after_a_rotation(self, serve: Any, settings: Any) -> None:
        shows_it = answer(200, b'{"taskId":"task_a","status":"zimg_another-one"}')
        first, second = self.replies(serve, settings, shows_it, shows_it, renewed={"api_key": "zimg_another-one"})
        assert b"zimg_another-one" in first.body
        assert b"zimg_another-one" not in second.body

    def test_that_shows_the_key_is_redacted_each_time(self, serve: Any, settings: Any) -> None:
        shows_it = answer(200, b'{"taskId":"task_a","status":"zimg_s3cr3t-000001"}')
        assert not any(b"zimg" in reply.body for reply in self.replies(serve, settings, shows_it, shows_it))

    def test_that_is_long_is_not_kept(self, serve: Any, settings: Any) -> None:
        long = answer(200, b'{"taskId":"task_a","status":"waiting","x":"' + b"x" * 4096 + b'"}')
        first, second = self.replies(serve, settings, long, long)
        assert first is not second
        assert first == second


class TestSessions:
    def test_keep_a_connection_from_one_waiter_to_the_next(self, serve: Any, settings: Any) -> None:
        server = serve(*[OK] * 4)

        async def main() -> None:
            channel = Channel(Lookup(settings(server.url)))
            async with channel:
                for _ in range(4):
                    await use(channel, once())

        run(main)
        assert server.connections == 1

    def test_are_closed_by_the_last_waiter_and_opened_again(self, serve: Any, settings: Any) -> None:
        server = serve(OK, OK)
        seen = []

        async def main() -> None:
            channel = Channel(Lookup(settings(server.url)))
            for _ in range(2):
                async with channel:
                    await channel.drive(once(), deadline=None)
                    assert channel.current is not None
                    sessions = channel.current.sessions
                    seen.append(sessions)
                assert sessions.kept.closed
                assert sessions.fresh.closed

        run(main)
        assert seen[0] is not seen[1]
        assert server.connections == 2

    def test_stay_open_when_one_of_several_waiters_is_cancelled(self, serve: Any, settings: Any) -> None:
        server = serve(wire.hang, OK)

        async def main() -> bytes:
            channel = Channel(Lookup(settings(server.url)))
            async with channel:
                task = asyncio.create_task(use(channel, once()))
                await asyncio.to_thread(server.arrived.wait, 10)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return (await channel.drive(once(), deadline=None)).body

        assert run(main) == RECORD

    def test_are_closed_when_the_only_waiter_is_cancelled(self, serve: Any, settings: Any) -> None:
        server = serve(wire.hang)

        async def main() -> bool:
            channel = Channel(Lookup(settings(server.url)))
            task = asyncio.create_task(use(channel, once()))
            await asyncio.to_thread(server.arrived.wait, 10)
            assert channel.current is not None
            sessions = channel.current.sessions
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return sessions.kept.closed and sessions.fresh.closed

        assert run(main)

    def test_leave_nothing_unclosed(
        self, serve: Any, settings: Any, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
    ) -> None:
        gc.collect()  # what other tests have left
        recwarn.clear()
        server = serve(OK, wire.reset, wire.endless, answer(500))

        def flow() -> Flow[None]:
            for _ in range(3):
                yield Send(Request("GET", "/x"))

        run(lambda: use(Channel(Lookup(settings(server.url))), flow()))
        gc.collect()
        assert not [record for record in caplog.records if "nclosed" in record.getMessage()]
        assert not [warning for warning in recwarn if "nclosed" in str(warning.message)]

    def test_send_no_cookies_back(self, serve: Any, settings: Any) -> None:
        server = serve(answer(200, RECORD, Set_Cookie="a=b; Path=/"), OK)

        def flow() -> Flow[None]:
            yield Send(Request("GET", "/x"))
            yield Send(Request("GET", "/x"))

        run(lambda: use(Channel(Lookup(settings(server.url))), flow()))
        assert server.requests[1].header("Cookie") == []

    def test_that_cannot_be_opened_are_an_error_of_ours_for_every_waiter(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/there/is/no/such.pem")

        async def main() -> list[Any]:
            channel = Channel(Lookup(settings("https://a.invalid/api/v1")))
            return await asyncio.gather(*(use(channel, once()) for _ in range(5)), return_exceptions=True)

        errors = run(main)
        assert [type(error) for error in errors] == [SeedanceTransportError] * 5
        assert not any(error.request_sent for error in errors)

    def test_use_a_fresh_connection_where_the_kept_ones_are_dead(self, serve: Any, settings: Any) -> None:
        """A gateway that forgot one kept connection forgot the others."""

        def flow() -> Flow[bytes]:
            yield Send(Request("GET", "/x"))
            yield Sleep(0.2)
            return (yield Send(Request("GET", "/x"))).body

        server = serve(OK, wire.reset, OK)
        assert run(lambda: use(Channel(Lookup(settings(server.url))), flow())) == RECORD
        assert len(server.requests) == 3


def test_a_waiter_cancelled_in_a_pause_closes_its_flow(settings: Any) -> None:
    closed = []

    def flow() -> Flow[None]:
        try:
            yield Sleep(600)
        finally:
            closed.append(True)

    async def main() -> None:
        task = asyncio.create_task(use(Channel(Lookup(settings("http://127.0.0.1:1/api/v1"))), flow()))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)
    assert closed == [True]


def test_the_rate_limiter_is_shared(serve: Any, settings: Any) -> None:
    lookup = Lookup(settings(serve(*[OK] * 3).url, requests_per_minute=600))

    async def main() -> None:
        channel = Channel(lookup)
        await asyncio.gather(*(use(channel, once()) for _ in range(3)))

    began = time.monotonic()
    run(main)
    assert time.monotonic() - began > 0.19


def test_the_log_of_a_waiter_tells_of_a_long_delay(serve: Any, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests.channel")
    lookup = Lookup(settings(serve(OK).url, requests_per_minute=6))

    async def main() -> None:
        async with Channel(lookup) as channel:
            await channel.drive(once(), deadline=None)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await channel.drive(once(), deadline=None, log=logging.getLogger("tests.channel"))

    run(main)
    assert "requests_per_minute=6" in caplog.text
