"""Media: files on a local disk or in object storage, to be uploaded (contract 6), and what outputs are.

What a file is, its bytes say, not its name: inputs may come from whoever triggers a DAG, and no other file of the
worker may leave it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from seedance_provider.exceptions import SeedanceInvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = 64
"""Bytes that tell what a file is."""
_SHORTEST = 12
_BRANDS = {
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
}


def _iso(head: bytes) -> str | None:
    return _BRANDS.get(head[8:12], "video/mp4") if _is_box(head) else None


def _quicktime(head: bytes) -> str | None:
    return "video/quicktime" if _is_box(head) else None


def _is_box(head: bytes) -> bool:
    """Whether the length before the name of a box begins as one does; a text may say "The wide screen"."""
    return head[0] < 0x20


def _id3(head: bytes) -> str | None:
    return "audio/mpeg" if head[3] < 0x20 else None  # its version; a text goes on in letters


def _riff(head: bytes) -> str | None:
    return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])


def _frames(head: bytes) -> str | None:
    """Audio frames without a container: layer III of MPEG, or AAC's ADTS."""
    if head[1] & 0xE6 == 0xE2 and head[2] >> 4 != 15 and head[2] & 0x0C != 0x0C:
        return "audio/mpeg"
    return "audio/aac" if head[1] & 0xF6 == 0xF0 else None


_SIGNATURES: tuple[tuple[int, bytes, str | Callable[[bytes], str | None]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"RIFF", _riff),
    (4, b"ftyp", _iso),
    (4, b"moov", _quicktime),
    (4, b"wide", _quicktime),
    (4, b"mdat", _quicktime),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"ID3", _id3),
    (0, b"OggS\0", "audio/ogg"),
    (0, b"fLaC\0", "audio/flac"),
    (0, b"fLaC\x80", "audio/flac"),
    (0, b"\xff", _frames),
)


def media_type(head: bytes) -> str | None:
    """Tell what a file is by its first bytes.

    :param head: Its first 64 bytes, or as many as it has.
    :return: Its MIME type; None unless it is an image, a video or audio.
    """
    head = head.ljust(_SHORTEST, b"\x7f")
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind if isinstance(kind, str) else kind(head)
    return None


EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/aac": "aac",
}
"""File name extensions of all that :func:`media_type` tells."""
_KINDS = ("image", "video", "audio")


def kind_of(content_type: str | None) -> str | None:
    """``image``, ``video`` or ``audio``; None for the MIME type of anything else."""
    kind = (content_type or "").partition("/")[0].strip().lower()
    return kind if kind in _KINDS else None


def recognise(head: bytes, content_type: str, expected: str | None) -> str:
    """Tell what an output is, and refuse what it is not said to be.

    :param head: Its first 64 bytes, or as many as it has.
    :param content_type: What the server says that it is.
    :param expected: ``image``, ``video`` or ``audio``; None if that is not known.
    :return: Its MIME type.
    :raises ValueError: if it is no media, or of another kind; says so in a sentence without a subject.
    """
    found = media_type(head)
    if found is None:
        said = f" (Content-Type {content_type!r:.80})" if content_type else ""
        raise ValueError(f"is no image, video or audio{said}")
    kind = kind_of(found)
    for said_by, claimed in (("the model makes", expected), ("its Content-Type says", kind_of(content_type))):
        # The containers of video may hold sound alone.
        if claimed not in (None, kind) and not (claimed == "audio" and kind == "video"):
            raise ValueError(f"is {found}, where {said_by} {claimed}")
    return found


class MediaFile:
    """A media file to upload.

    :param path: A local path, an ``ObjectStoragePath``, or the URL of an object such as ``s3://bucket/cat.png``.
    :raises SeedanceInvalidRequestError: if there is no such file, it is empty, or it is no image, video or audio.
    """

    def __init__(self, path: str | os.PathLike[str] | ObjectStoragePath) -> None:
        self.path: Any = path
        shown = str(path)[:200]
        try:
            if isinstance(path, str) and "://" in path:
                self.path = ObjectStoragePath(path)
            elif not hasattr(path, "open"):
                self.path = Path(path)
            self.size: int = self.path.stat().st_size if self.path.is_file() else -1
            if self.size > 0:
                with self.open() as file:
                    content_type = media_type(file.read(HEAD))
        except (OSError, ValueError, ImportError) as error:
            # The last two: a storage whose provider is not installed, or a path that no file can have.
            reason = getattr(error, "strerror", None) or error
            raise SeedanceInvalidRequestError(
                f"The file cannot be read: {shown} ({reason!s:.300}). No request was sent"
            ) from error
        self.name: str = self.path.name
        if self.size < 0:
            raise SeedanceInvalidRequestError(
                f"Not a file: {shown}. Give a path that the worker can read. No request was sent"
            )
        if self.size == 0:
            raise SeedanceInvalidRequestError(f"The file is empty: {shown}. No request was sent")
        if content_type is None:
            raise SeedanceInvalidRequestError(
                f"Not an image, a video or audio by its content: {shown}. Only media are uploaded; give another file. "
                "No request was sent"
            )
        self.content_type: str = content_type

    def open(self) -> IO[bytes]:
        """Open it for reading."""
        file: IO[bytes] = self.path.open("rb")
        return file
