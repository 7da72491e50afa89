"""A TCP proxy that misbehaves when told to: it stands between two parts of an Airflow.

    with FaultProxy(server_port) as proxy:
        connect_to(proxy.port)
        proxy.fault = "reset"    # refuse, reset, silence, drip; None: an honest proxy again
        proxy.cut()              # what is open ends now

It knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal, Self

Fault = Literal["refuse", "reset", "silence", "drip"]
_CHUNK = 65_536
_STEP = 0.05  # how often a standing or dripping connection looks whether that is over


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes on to another one, in a thread of its own.

    ``refuse``: what is open is reset, and nobody listens. ``reset``: each connection is reset at its first byte, those
    that are open at their next. ``silence``: bytes are kept until the fault ends. ``drip``: one byte a second in each
    direction.

    :param target: the port of the server on 127.0.0.1
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.resets = 0
        self._fault: Fault | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def fault(self) -> Fault | None:
        """What it does at present."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._call(self._change(fault))

    def wait_for_resets(self, count: int, timeout: float = 60) -> None:
        """Wait until so many connections have been reset by the fault ``reset``, since the beginning."""
        deadline = time.monotonic() + timeout
        while self.resets < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.resets} connections were reset in {timeout:.0f} s, expected {count}")
            time.sleep(0.1)

    def cut(self) -> None:
        """Reset every open connection."""
        self._call(self._cut())

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _change(self, fault: Fault | None) -> None:
        self._fault = fault
        if fault == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
            await self._cut()
        elif fault != "refuse" and self._server is None:
            await self._listen()

    async def _cut(self) -> None:
        for writer in [*self._open]:
            _reset(writer)

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._open.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the server itself is gone: so is what leads there
            _reset(writer)
            self._open.discard(writer)
            return
        self._open.add(there_writer)
        both = self._pass(reader, there_writer, writer), self._pass(there_reader, writer, there_writer)
        try:
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            for each in (writer, there_writer):
                self._open.discard(each)
                each.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        """Pass on one direction, until it ends."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                while data:
                    if self._fault == "reset":
                        self.resets += 1
                        _reset(writer)
                        _reset(back)
                        return
                    if self._fault == "silence":
                        await asyncio.sleep(_STEP)
                        continue
                    piece, data = (data[:1], data[1:]) if self._fault == "drip" else (data, b"")
                    writer.write(piece)
                    await writer.drain()
                    if self._fault == "drip":
                        await self._wait_for_a_drop()
            if writer.can_write_eof():
                writer.write_eof()
            return
        for each in (writer, back):  # one end is gone by a reset: so must the other be
            _reset(each)

    async def _wait_for_a_drop(self) -> None:
        for _ in range(round(1 / _STEP)):
            if self._fault != "drip":
                return
            await asyncio.sleep(_STEP)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a TCP reset."""
    endpoint = writer.get_extra_info("socket")
    if endpoint is not None:
        with suppress(OSError):
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
