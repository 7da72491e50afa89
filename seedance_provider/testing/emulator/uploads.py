"""Uploads: the announcement, the signed PUT, the confirmation, and the uploaded files as media."""

from __future__ import annotations

import mimetypes
import re
import secrets
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from seedance_provider.testing.emulator.messages import ApiError, Call, json_reply, parse_object, storage_error
from seedance_provider.testing.emulator.state import Upload

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.rules import Order
    from seedance_provider.testing.emulator.state import State

# Media that Python knows only where the system has a list of types.
_TYPES = {
    ".webp": "image/webp",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".webm": "video/webm",
}


def _content_type(name: str) -> str:
    known = _TYPES.get(PurePosixPath(name).suffix.lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


class Uploads:
    """The endpoints of uploads."""

    def __init__(self, state: State) -> None:
        self._state = state

    def announce(self, call: Call) -> web.Response:
        """POST uploads: where to PUT the bytes, and where they will be."""
        state = self._state
        state.account_of(call)
        try:
            wanted = parse_object(call.body)
        except ValueError:
            wanted = {}
        name = wanted.get("fileName")
        content_type = wanted.get("contentType", _content_type(str(name)))
        if not isinstance(name, str) or not name.strip() or not isinstance(content_type, str):
            raise ApiError(400, "Invalid request parameters")
        path = f"temp-uploads/{secrets.token_hex(8)}/{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
        origin = call.request.url.origin()
        upload = Upload(path, content_type, secrets.token_hex(16), state.clock(), f"{origin}/{path}")
        state.uploads[path] = upload
        expiry = int(state.settings.upload_expiry_seconds)
        return json_reply(
            {
                "uploadUrl": f"{origin}/signed-put/{path}?X-Amz-Expires={expiry}&X-Amz-Signature={upload.signature}",
                "url": upload.url,
                "contentType": content_type,
                "path": path,
                "method": "PUT",
                "expiresIn": expiry,
                "confirmUrl": f"/api/v1/uploads?path={quote(path, safe='')}",
                "assetTtlSeconds": int(state.settings.asset_ttl_seconds),
            }
        )

    def receive(self, call: Call) -> web.Response:
        """The signed PUT: object storage, so its refusals are XML and it wants no key."""
        state, request = self._state, call.request
        upload = state.uploads.get(request.match_info["path"])
        if "Authorization" in request.headers:
            return storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        if upload is None or request.query.get("X-Amz-Signature") != upload.signature:
            return storage_error(403, "SignatureDoesNotMatch", "The request signature does not match")
        if state.clock() - upload.announced > state.settings.upload_expiry_seconds:
            return storage_error(403, "AccessDenied", "Request has expired")
        if request.headers.get("Content-Type") != upload.content_type:
            return storage_error(403, "SignatureDoesNotMatch", "Content-Type is not the announced one")
        if "Content-Length" not in request.headers:
            return storage_error(411, "MissingContentLength", "You must provide the Content-Length HTTP header")
        upload.data, upload.uploaded = call.body, state.clock()
        return web.Response(headers={"ETag": f'"{zlib.crc32(call.body):08x}"'})

    def confirm(self, call: Call) -> web.Response:
        """GET uploads: what lies at a path."""
        self._state.account_of(call)
        upload = self._stored(call.request.query.get("path", "").removeprefix("temp-uploads/"))
        if upload is None or upload.data is None:
            raise ApiError(404, "Upload not found")
        lifetime = self._state.settings.asset_ttl_seconds
        return json_reply(
            {
                "path": upload.path,
                "url": upload.url,
                "size": len(upload.data),
                "contentType": upload.content_type,
                "uploadedAt": int(upload.uploaded * 1000),
                "expiresAt": int((upload.uploaded + lifetime) * 1000),
                "assetTtlSeconds": int(lifetime),
            }
        )

    def serve(self, call: Call) -> web.Response:
        """An uploaded file by its public URL."""
        upload = self._stored(call.request.match_info["path"])
        if upload is None:
            return web.Response(status=404, text="Not Found")
        return web.Response(body=upload.data, headers={"Content-Type": upload.content_type})

    def missing(self, call: Call, order: Order) -> tuple[str, str] | None:
        """Why a task must fail whose reference is an upload that never came; midjourney does without it."""
        prefix = f"{call.request.url.origin()}/temp-uploads/"
        for kind, urls in zip(("image", "video", "audio"), order.references, strict=True):
            for index, url in enumerate(urls, 1):
                path = url.removeprefix(prefix).partition("?")[0]
                if url.startswith(prefix) and self._stored(path) is None and order.family != "midjourney":
                    return "asset_review_failed", f"Reference {kind} {index} failed review. Please replace it."
        return None

    def _stored(self, path: str) -> Upload | None:
        upload = self._state.uploads.get(f"temp-uploads/{path}")
        if upload is None or upload.data is None:
            return None
        return upload if self._state.clock() - upload.uploaded <= self._state.settings.asset_ttl_seconds else None
