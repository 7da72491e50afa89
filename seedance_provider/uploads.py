"""Media on a local disk or in object storage, made reachable for the vendor by an upload (contract 6)."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from seedance_provider.api.inputs import MEDIA_FIELDS, is_local_media
from seedance_provider.exceptions import SeedanceInvalidRequestError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


class SizedReader:
    """A file whose length is known beforehand, so that it is streamed without being held: a signed PUT needs both.

    :param file: The open file.
    :param size: Its length in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._file.read(64 * 1024):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """Read bytes; all that is left by default."""
        return self._file.read(size)


class Media:
    """A file to upload.

    :param path: A local path, an ``ObjectStoragePath``, or the URL of an object such as ``s3://bucket/cat.png``.
    :raises SeedanceInvalidRequestError: if there is no such file, or it is empty.
    """

    def __init__(self, path: str | os.PathLike[str] | ObjectStoragePath) -> None:
        self.path: Any = path
        shown = str(path)[:200]
        try:
            if isinstance(path, str) and "://" in path:
                from airflow.providers.common.compat.sdk import ObjectStoragePath

                self.path = ObjectStoragePath(path)
            elif not hasattr(path, "open"):
                self.path = Path(path)
            self.size: int = self.path.stat().st_size if self.path.is_file() else -1
        except (OSError, ValueError, ImportError) as error:
            # The last two: a storage whose provider is not installed, or a path that no file can have.
            reason = getattr(error, "strerror", None) or error
            raise SeedanceInvalidRequestError(f"{shown} cannot be read: {reason!s:.300}") from error
        self.name: str = self.path.name
        self.content_type = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        if self.size < 0:
            raise SeedanceInvalidRequestError(f"{shown} is not a file: give a path that the worker can read")
        if self.size == 0:
            raise SeedanceInvalidRequestError(f"{shown} is empty: give a file with media in it")

    def open(self) -> IO[bytes]:
        """Open it for reading."""
        file: IO[bytes] = self.path.open("rb")
        return file


def replace_media(inputs: Mapping[str, Any], upload: Callable[[Any], str], uploaded: dict[str, str]) -> dict[str, Any]:
    """Put public URLs in the place of files.

    :param inputs: The inputs; not changed.
    :param upload: Uploads one file and returns its public URL.
    :param uploaded: The URLs of files uploaded before, by path; added to.
    :return: The inputs with every file of the media fields replaced.
    """

    def public_url(item: Any) -> Any:
        if not is_local_media(item):
            return item
        key = str(item)
        if key not in uploaded:
            uploaded[key] = upload(item)
        return uploaded[key]

    return {
        name: list(map(public_url, value)) if name in MEDIA_FIELDS and isinstance(value, (list, tuple)) else value
        for name, value in inputs.items()
    }
