"""Stored copies of videos: read from object storage and sent on, in part or whole, to who may read the DAG's XComs.

What a request names is a task instance and a number; where the file is says that task instance's XCom. Who can write an
XCom must not read other files of the API server by it, so a file is sent only if it is media and its sidecar, which
this provider wrote beside it, has the digest that the XCom has.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO, Annotated, Any, NamedTuple
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

from seedance_provider import defaults
from seedance_provider.exceptions import SeedanceError
from seedance_provider.execution.results import XCOM_FILES_KEY
from seedance_provider.hooks.media import EXTENSIONS, HEAD, media_type
from seedance_provider.hooks.output_files import PIECE, Place

log = logging.getLogger(__name__)
router = APIRouter()

_RANGE = re.compile(r"bytes=(?:(\d{1,15})-(\d{1,15})?|-(\d{1,15}))")
_NOT_THERE = "There is no stored copy here that can be shown"
_UNREACHABLE = "The store of this copy does not answer; see the API server's log"
_at_once = CapacityLimiter(defaults.STORED_READS_AT_ONCE)


class Copy(NamedTuple):
    """A file as the XCom ``seedance_files`` names it.

    :param path: Where it is.
    :param size: Bytes.
    :param sha256: Its digest, hexadecimal.
    """

    path: str
    size: int
    sha256: str


@router.get(
    "/stored/{dag_id}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
async def stored_copy(
    dag_id: str,
    run_id: Annotated[str, Query(max_length=250)],
    task_id: Annotated[str, Query(max_length=250)],
    map_index: Annotated[int, Query(ge=-1)] = -1,
    index: Annotated[int, Query(ge=0, le=64)] = 0,
    range_: Annotated[str, Header(alias="range")] = "",
    if_range: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """Send a stored copy.

    :param dag_id: Whose XComs the reader must be allowed to read.
    :param run_id: The run.
    :param task_id: The task that stored it.
    :param map_index: Its map index; -1 if it is not mapped.
    :param index: The number of the file in that task's XCom ``seedance_files``.
    """
    copy = await to_thread.run_sync(_find, dag_id, run_id, task_id, map_index, index, limiter=_at_once)
    if copy is None:
        raise HTTPException(404, _NOT_THERE)
    etag = f'"{copy.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if etag in if_none_match:
        return Response(status_code=304, headers=headers)
    try:
        kind = await to_thread.run_sync(_kind, copy, limiter=_at_once)
        if kind is None:
            raise HTTPException(404, _NOT_THERE)
        wanted = read_range(range_, copy.size) if if_range in ("", etag) else range(copy.size)
        if wanted is None:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{copy.size}"})
        file = await to_thread.run_sync(_open, copy, wanted.start, limiter=_at_once)
    except SeedanceError as error:
        log.warning("A stored copy cannot be shown: %s", error)
        raise HTTPException(502, _UNREACHABLE) from None
    name = PurePosixPath(copy.path).name
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(name, safe='')}"
    headers["Content-Length"] = str(len(wanted))
    is_part = len(wanted) < copy.size
    if is_part:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{copy.size}"
    return _Sent(file, len(wanted), status_code=206 if is_part else 200, media_type=kind, headers=headers)


def read_range(header: str, size: int) -> range | None:
    """Which bytes are wanted.

    :param header: The value of a ``Range`` header. Several ranges, and what is none, ask for everything.
    :param size: Bytes of the file.
    :return: The bytes; None if there are none of them.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        return range(size)
    first, last, length = (None if number is None else int(number) for number in found.groups())
    if first is None:
        start, stop = max(0, size - (length or 0)), size
    else:
        start, stop = first, size if last is None else min(size, last + 1)
        if last is not None and last < first:
            return range(size)
    return range(start, stop) if start < stop else None


def _find(dag_id: str, run_id: str, task_id: str, map_index: int, index: int) -> Copy | None:
    query = XComModel.get_many(
        run_id=run_id, key=XCOM_FILES_KEY, dag_ids=dag_id, task_ids=task_id, map_indexes=map_index
    )
    with create_session() as session:
        row = session.scalars(query).first()
        value: Any = getattr(row[0] if isinstance(row, tuple) else row, "value", None)
    try:
        files = json.loads(value) if isinstance(value, str) else value
        file = files[index]
        path, size, sha256 = file["path"], file["bytes"], file["sha256"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # an XCom can be edited, and a backend may keep it elsewhere
    is_usable = isinstance(path, str) and isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)
    if not is_usable or isinstance(size, bool) or not isinstance(size, int) or size <= 0:
        return None
    return Copy(path, size, sha256)


@lru_cache(maxsize=1024)
def _known(copy: Copy) -> str:
    """The kind of a file that is what its XCom says; an error is not remembered."""
    place = Place(copy.path)
    content = place.sidecar() or {}
    if (content.get("sha256"), content.get("bytes")) != (copy.sha256, copy.size):
        raise LookupError("no sidecar")
    with place.open() as file:
        kind = media_type(file.read(HEAD))
    if kind not in EXTENSIONS:
        raise LookupError("no media")
    return kind


def _kind(copy: Copy) -> str | None:
    try:
        return _known(copy)
    except LookupError:
        return None


def _open(copy: Copy, start: int) -> IO[bytes]:
    place = Place(copy.path)
    if place.size() != copy.size:
        raise HTTPException(404, _NOT_THERE)
    file = place.open()
    file.seek(start)
    return file


class _Sent(StreamingResponse):
    """A file on its way, read in pieces while the reader takes them, and closed when the reader goes."""

    def __init__(self, file: IO[bytes], length: int, **options: Any) -> None:
        super().__init__(self._pieces(length), **options)
        self._file = file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    async def _pieces(self, left: int) -> AsyncIterator[bytes]:
        while left:
            piece = await to_thread.run_sync(self._file.read, min(PIECE, left), limiter=_at_once)
            if not piece:
                raise EOFError("The stored copy is shorter than it was")  # the connection must not end well
            left -= len(piece)
            yield piece
