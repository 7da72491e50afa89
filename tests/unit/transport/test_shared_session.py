"""One aiohttp session for all that wait on a base URL in an event loop, closed when the last one leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.transport.wire import answer

from seedance_provider.api import flows
from seedance_provider.exceptions import SeedanceTransportError
from seedance_provider.transport import aio
from seedance_provider.transport.aio import AioTransport, shared_session
from tests.unit.transport import wire

if TYPE_CHECKING:
    import aiohttp

    from seedance_provider.connection import SeedanceSettings

LOG = logging.getLogger("tests.session")
WAITING = answer(200, b'{"taskId":"task_a","status":"waiting"}')
SUCCESS = answer(200, b'{"taskId":"task_a","status":"success","output":[{"url":"https://a.example/v.mp4"}]}')


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Any:
    assert not aio._shared
    yield
    assert not aio._shared


async def _look(session: aiohttp.ClientSession, settings: SeedanceSettings) -> Any:
    async def renew() -> SeedanceSettings:
        return settings

    return await AioTransport(session, settings, renew).drive(flows.get("task_a", LOG, attempts=1))


def test_is_one_for_many_waiters_and_closed_after_the_last(serve: Any, settings: Any) -> None:
    waiters = 25
    server = serve(*[SUCCESS] * waiters)
    sessions: list[aiohttp.ClientSession] = []
    open_while_waiting: list[bool] = []

    async def waiter(number: int, all_in: asyncio.Barrier) -> None:
        async with shared_session(server.url) as session:
            sessions.append(session)
            await all_in.wait()
            await _look(session, settings(server.url))
            open_while_waiting.append(not session.closed)

    async def main() -> None:
        all_in = asyncio.Barrier(waiters)
        await asyncio.gather(*(waiter(number, all_in) for number in range(waiters)))

    asyncio.run(main())
    assert len({id(session) for session in sessions}) == 1
    assert all(open_while_waiting)
    assert sessions[0].closed
    assert len(server.requests) == waiters
    assert server.connections <= waiters


def test_keeps_its_connection_from_one_waiter_to_the_next(serve: Any, settings: Any) -> None:
    server = serve(*[SUCCESS] * 4)

    async def main() -> None:
        async with shared_session(server.url):
            for _ in range(4):
                async with shared_session(server.url) as session:
                    await _look(session, settings(server.url))

    asyncio.run(main())
    assert server.connections == 1


def test_is_opened_anew_after_the_last_one_left(serve: Any, settings: Any) -> None:
    server = serve(SUCCESS, SUCCESS)

    async def main() -> list[aiohttp.ClientSession]:
        seen = []
        for _ in range(2):
            async with shared_session(server.url) as session:
                seen.append(session)
                await _look(session, settings(server.url))
        return seen

    first, second = asyncio.run(main())
    assert first is not second
    assert first.closed
    assert second.closed


def test_is_another_one_for_another_base_url_and_another_event_loop() -> None:
    async def main() -> aiohttp.ClientSession:
        async with shared_session("http://a.invalid/api/v1") as one, shared_session("http://b.invalid/api/v1") as two:
            assert one is not two
            return one

    assert asyncio.run(main()) is not asyncio.run(main())


def test_is_released_by_a_waiter_that_is_cancelled(serve: Any, settings: Any) -> None:
    server = serve(wire.hang, SUCCESS)

    async def main() -> None:
        async with shared_session(server.url) as kept:

            async def waiter() -> None:
                async with shared_session(server.url) as session:
                    await _look(session, settings(server.url))

            task = asyncio.create_task(waiter())
            await asyncio.to_thread(server.arrived.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not kept.closed, "the others go on"
            await _look(kept, settings(server.url))

    asyncio.run(main())


def test_is_closed_when_the_only_waiter_is_cancelled(serve: Any, settings: Any) -> None:
    server = serve(wire.hang)
    seen: list[aiohttp.ClientSession] = []

    async def waiter() -> None:
        async with shared_session(server.url) as session:
            seen.append(session)
            await _look(session, settings(server.url))

    async def main() -> None:
        task = asyncio.create_task(waiter())
        await asyncio.to_thread(server.arrived.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen[0].closed


def test_a_waiter_cancelled_in_a_pause_closes_its_flow(serve: Any, settings: Any) -> None:
    server = serve(WAITING)
    closed = []

    def flow() -> flows.Flow[Any]:
        try:
            yield from flows.wait("task_a", poll_interval=600, started_at=0, deadline=10**9, clock=lambda: 0, log=LOG)
        finally:
            closed.append(True)

    async def renew() -> SeedanceSettings:
        raise AssertionError

    async def waiter() -> None:
        async with shared_session(server.url) as session:
            await AioTransport(session, settings(server.url), renew).drive(flow())

    async def main() -> None:
        task = asyncio.create_task(waiter())
        await asyncio.to_thread(server.arrived.wait, 10)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert closed == [True]


class TestWhatCannotBeOpened:
    def _gather(self, waiter: Callable[[], Awaitable[Any]]) -> list[Any]:
        async def main() -> list[Any]:
            return await asyncio.gather(*(waiter() for _ in range(5)), return_exceptions=True)

        return asyncio.run(main())

    def test_is_an_error_of_ours_for_every_waiter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/there/is/no/such.pem")

        async def waiter() -> None:
            async with shared_session("https://a.invalid/api/v1"):
                raise AssertionError

        assert [type(result) for result in self._gather(waiter)] == [SeedanceTransportError] * 5

    def test_is_tried_again_by_the_next_waiter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts = []
        really_open = aio._open_session

        async def open_at_the_second_attempt(base_url: str) -> aiohttp.ClientSession:
            attempts.append(base_url)
            await asyncio.sleep(0)
            if len(attempts) == 1:
                raise SeedanceTransportError("not yet")
            return await really_open(base_url)

        monkeypatch.setattr(aio, "_open_session", open_at_the_second_attempt)

        async def waiter() -> bool:
            async with shared_session("http://a.invalid/api/v1") as session:
                await asyncio.sleep(0)
                return session.closed

        results = self._gather(waiter)
        assert [type(result) for result in results].count(SeedanceTransportError) == 1
        assert results.count(False) == 4
        assert len(attempts) == 2


def test_sends_no_cookies_back(serve: Any, settings: Any) -> None:
    server = serve(answer(200, b'{"taskId":"task_a","status":"waiting"}', Set_Cookie="a=b; Path=/"), SUCCESS)

    async def main() -> None:
        async with shared_session(server.url) as session:
            for _ in range(2):
                await _look(session, settings(server.url))

    asyncio.run(main())
    assert server.requests[1].header("Cookie") == []
