"""The pages: plain files that ask Airflow's own REST API from the browser, with the rights of whoever reads them.

The files hold no data, so everybody may have them. A route with data carries Airflow's own check of permissions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from fastapi import FastAPI, HTTPException, Request, Response

from seedance_provider import defaults
from seedance_provider.api.catalog import KNOWN
from seedance_provider.plugins import spending, videos

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
_LOOPBACK = "http://127.0.0.1:* http://localhost:* http://[::1]:*"  # the emulator's
_MEDIA = f"'self' https: {_LOOPBACK}"
_HEADERS = {
    "Content-Security-Policy": "; ".join(
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
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
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
    contents["models.json"] = _models()
    contents["operators.json"] = json.dumps(defaults.OPERATORS_WITH_VIDEO).encode()
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in contents.items()))
    return Files(digest.hexdigest()[:12], contents)


def _models() -> bytes:
    """What pages need to know of the models, by every id that the vendor accepts."""
    models = {name: {"seconds": row.seconds, "output": row.output} for name, row in KNOWN.items()}
    return json.dumps(models).encode()


pages = FastAPI(title="Seedance pages", docs_url=None, redoc_url=None, openapi_url=None)
pages.include_router(spending.router)
pages.include_router(videos.router)


@pages.middleware("http")
async def protect(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give every answer the headers that keep what it shows harmless."""
    response = await call_next(request)
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


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


@pages.get("/{view}")
async def page(view: str) -> Response:
    """Serve the frame of a page; its script fills it."""
    if view not in VIEWS:
        raise HTTPException(404)
    text = _PAGE.substitute(view=view, title=VIEWS[view], version=files().version)
    return Response(text, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"})
