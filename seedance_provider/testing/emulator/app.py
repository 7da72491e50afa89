"""The emulator as an asyncio server: its routes, and how it starts and stops."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from aiohttp import web

from seedance_provider.testing.emulator import admin
from seedance_provider.testing.emulator.callbacks import Callbacks
from seedance_provider.testing.emulator.jobs import Jobs
from seedance_provider.testing.emulator.media import Media
from seedance_provider.testing.emulator.middleware import Handler, endpoint
from seedance_provider.testing.emulator.state import State
from seedance_provider.testing.emulator.uploads import Uploads

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.messages import Call

_MAX_BODY_BYTES = 256 * 1024 * 1024


class Server(State):
    """The emulator's state with sockets; parameters as of `State`."""

    _runner: web.AppRunner | None = None

    @cached_property
    def _callbacks(self) -> Callbacks:
        return Callbacks(self)

    def reset(self) -> None:
        """Forget tasks, callbacks, faults, uploads and logs; settings and accounts are again as at the start."""
        self._callbacks.cancel()
        super().reset()

    async def start(self, host: str, port: int) -> int:
        """Listen.

        :param host: the address.
        :param port: the TCP port; 0 for a free one.
        :return: the port.
        :raises ValueError: if the host or the port cannot be one.
        :raises OSError: if the port is taken, or the host is not an address of this machine.
        """
        _check_address(host, port)
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes([*self._api_routes(), *admin.routes(self, self.reset)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except (OSError, ValueError):
            await self.stop()
            raise
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close every socket and forget pending callbacks."""
        await self._callbacks.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _api_routes(self) -> list[web.RouteDef]:
        uploads = Uploads(self)
        jobs, media = Jobs(self, uploads, self._callbacks), Media(self)

        def route(method: str, path: str, name: str, handler: Handler) -> web.RouteDef:
            serve = endpoint(self, name, handler)
            return web.get(path, serve) if method == "GET" else web.route(method, path, serve)  # GET brings HEAD

        return [
            route("POST", "/api/v1/jobs/createTask", "createTask", jobs.create_task),
            route("GET", "/api/v1/jobs/recordInfo", "recordInfo", jobs.record_info),
            route("POST", "/api/v1/uploads", "uploads", uploads.announce),
            route("GET", "/api/v1/uploads", "uploadStatus", uploads.confirm),
            route("PUT", "/signed-put/{path:.+}", "put", uploads.receive),
            route("GET", "/temp-uploads/{path:.+}", "media", uploads.serve),
            route("GET", "/videos/{name}", "media", media.serve),
            route("*", "/{path:(?!_admin/)[^{}]*}", "elsewhere", _nowhere),
        ]


def _nowhere(_: Call) -> web.Response:
    """A path the API does not have: the site's own 404 page, as a wrong base URL gets it."""
    return web.Response(text="<!DOCTYPE html><title>404</title>\n", status=404, content_type="text/html")


def _check_address(host: object, port: object) -> None:
    if not isinstance(host, str) or not host.strip():
        raise ValueError(f"host must be an address or a name, not {host!r}")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 2**16:
        raise ValueError(f"port must be a whole number from 0 to 65535 (0: a free one), not {port!r}")
