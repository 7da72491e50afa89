"""The pages: plain files that ask Airflow's own REST API from the browser, with the rights of whoever reads them.

The files hold no data, so everybody may have them. A route with data carries Airflow's own check of permissions.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from seedance_provider import defaults, exceptions
from seedance_provider.api import pricing
from seedance_provider.api.catalog import KNOWN
from seedance_provider.api.failures import TRANSIENT_TEXTS
from seedance_provider.api.flows import collect_with
from seedance_provider.api.records import load_json
from seedance_provider.exceptions import SeedanceError
from seedance_provider.hooks.prices import read_price_list
from seedance_provider.notifications.seedance import next_step
from seedance_provider.plugins import spending, stored, videos

if TYPE_CHECKING:
    from collections.abc import Mapping

VIEWS = {"video": "Video", "gallery": "Videos", "spending": "Spending on videos"}
"""Each page by the name of its script, with its title."""
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_LOOPBACK = "http://127.0.0.1:* http://localhost:*"  # the emulator's
_MEDIA = f"'self' https: {_LOOPBACK}"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        f"img-src {_MEDIA}",
        f"media-src {_MEDIA}",
        "connect-src 'self'",
        "frame-ancestors 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="static/$version/seedance.css">
<script type="module" src="static/$version/$view.js"></script>
</head>
<body>
<main id="main" aria-busy="true"><p>Loading ...</p></main>
<noscript><p>This page needs JavaScript.</p></noscript>
</body>
</html>
""")


class Files(NamedTuple):
    """The files of the pages.

    :param version: Changes with every file, so that a browser may keep them.
    :param contents: The content of each, by name.
    """

    version: str
    contents: Mapping[str, bytes]


@cache
def files() -> Files:
    """Read the files of the pages, once for each process."""
    contents = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
    contents["models.json"] = json.dumps(_models()).encode()
    contents["advice.json"] = json.dumps(_advice()).encode()
    contents["operators.json"] = json.dumps(list(defaults.OPERATORS_WITH_VIDEO)).encode()
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in contents.items()))
    return Files(digest.hexdigest()[:12], contents)


def _models() -> dict[str, Any]:
    """What pages need to know of the models, by every id that the vendor accepts."""
    return {name: {"seconds": row.seconds, "output": row.output} for name, row in KNOWN.items()}


def _advice() -> dict[str, Any]:
    """The next step after each class of error, what is in texts of failures that may pass, what collects a video."""
    classes = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, SeedanceError)]
    found = {kind.__name__: next_step(kind.__mro__) for kind in classes}
    steps = {name: text for name, text in found.items() if text}
    plain, elsewhere = collect_with("id"), collect_with("id", "connection")
    collect = {"default": defaults.DEFAULT_CONN_ID, "plain": plain, "elsewhere": elsewhere}
    return {"steps": steps, "transient": TRANSIENT_TEXTS, "collect": collect}


class Protection:
    """Gives every answer the headers that keep what it shows harmless.

    :param app: The ASGI app that answers.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""

        async def protected(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *_HEADERS]
                if b"cache-control" not in names:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self._app(scope, receive, protected)


pages = FastAPI(title="Seedance pages", docs_url=None, redoc_url=None, openapi_url=None)
pages.add_middleware(Protection)
pages.include_router(stored.router)
pages.include_router(spending.router)
pages.include_router(videos.router)


@pages.get("/static/{version}/{name}")
async def static_file(version: str, name: str) -> Response:
    """Serve a script or a style sheet."""
    current, contents = files()
    if name not in contents:
        raise HTTPException(404)
    # Of another version asks a page of another API server, while one of the two is upgraded.
    caching = "public, max-age=31536000, immutable" if version == current else "no-cache"
    return Response(contents[name], media_type=_TYPES[Path(name).suffix], headers={"Cache-Control": caching})


@pages.get("/icon.svg")
async def icon() -> Response:
    """Serve the icon of the tabs and menu entries."""
    caching = {"Cache-Control": "public, max-age=86400"}
    return Response(files().contents["icon.svg"], media_type=_TYPES[".svg"], headers=caching)


@pages.post("/estimate", dependencies=[Depends(get_user)])
async def estimate(request: Request) -> dict[str, str] | None:
    """Tell what a task will cost, as a submission does: ``{low, high, as_of, text}``; null if that is not known.

    :param request: Its body is ``{"model": ..., "inputs": {...}}``.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > defaults.MAX_ESTIMATE_BODY:
            raise HTTPException(413)
    asked = load_json(bytes(body))
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), dict):
        raise HTTPException(400, 'Send {"model": ..., "inputs": {...}}')
    try:
        found = pricing.estimate(str(asked.get("model")), asked["inputs"], await run_in_threadpool(read_price_list))
    except SeedanceError:
        return None  # the price list cannot be used: tasks say so
    if found is None:
        return None
    return {"low": str(found.low), "high": str(found.high), "as_of": found.as_of, "text": str(found)}


@pages.get("/{view}")
async def page(view: str) -> Response:
    """Serve the frame of a page; its script fills it."""
    if view not in VIEWS:
        raise HTTPException(404)
    text = _PAGE.substitute(view=view, title=VIEWS[view], version=files().version)
    return Response(text, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"})
