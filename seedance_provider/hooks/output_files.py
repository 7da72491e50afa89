"""Outputs on their way from the vendor to a file: a local one, or one of any store that Airflow knows.

A reader never sees half a file. Stores of objects show one when its upload is complete; elsewhere it is written under a
temporary name in the same folder and moved. Beside each file a sidecar, ``<file>.json``, says that it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import random
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from seedance_provider import defaults
from seedance_provider.api import schedule
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError, SeedanceTransferError
from seedance_provider.hooks.ledger_files import Folder
from seedance_provider.hooks.media import HEAD, recognise
from seedance_provider.hooks.paths import WHAT_A_STORE_NEEDS, object_path

if TYPE_CHECKING:
    import threading

    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.transport.download import Download

T = TypeVar("T")

PIECE = 1024 * 1024
"""Bytes that are read, hashed and written at a time."""
PIECES = 4
"""Pieces that are held: the next ones are read and hashed while a store takes its time for one."""
PART = 5 * 1024 * 1024
"""Bytes of an upload that are held until they are sent; S3 takes no smaller parts."""
_SHOWN_WHEN_COMPLETE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"})
_RENAMING = frozenset({"file", "local", "sftp", "ssh", "smb", "hdfs", "webhdfs", "memory"})
_POINTLESS = (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
_POINTLESS_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EFBIG})
_QUERY = re.compile(r"\?[^\s'\"]*")


class Received(NamedTuple):
    """What came of a download.

    :param bytes: Its size.
    :param sha256: Its digest, hexadecimal.
    """

    bytes: int
    sha256: str


class Incoming:
    """A download whose first piece has been read.

    :param download: The open file.
    :param expected: ``image``, ``video`` or ``audio``; None if that is not known.
    :param stop: Ends it early once set. Default: nothing does.
    :raises SeedanceTransferError: if it is no media, or of another kind.
    """

    def __init__(self, download: Download, expected: str | None, stop: threading.Event | None = None) -> None:
        self._download = download
        self._stop = stop
        buffer = bytearray(PIECE)
        self._first = memoryview(buffer)[: download.readinto(buffer)]
        try:
            self.media_type = recognise(bytes(self._first[:HEAD]), download.content_type, expected)
        except ValueError as error:
            is_page = "html" in download.content_type  # of the edge: the next answer may be the file
            raise SeedanceTransferError(
                f"The download of {download.url} {error}", url=download.url, transient=is_page
            ) from None

    def receive(self, write: Callable[[memoryview], Any], log: AnyLogger) -> Received:
        """Read it to its end. While pieces are hashed and written, each in a thread, the next one is read.

        :param write: Takes each piece, which is not to be kept.
        :param log: Told from time to time.
        :raises SeedanceTransferError: if it does not arrive whole.
        """
        digest, progress = hashlib.sha256(), _Progress(self._download, log)
        under_way: deque[tuple[memoryview, Future[None], Future[Any]]] = deque()
        piece = self._first
        with ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(1) as writer:
            while piece:
                under_way.append((piece, hasher.submit(digest.update, piece), writer.submit(write, piece)))
                buffer = bytearray(PIECE) if len(under_way) < PIECES else _done(under_way.popleft())
                piece = memoryview(buffer)[: self._download.readinto(buffer)]
                if self._stop is not None and self._stop.is_set():
                    raise SeedanceTransferError("The transfer was stopped", url=self._download.url, transient=False)
                progress.tell()
            while under_way:
                _done(under_way.popleft())
        return Received(self._download.received, digest.hexdigest())


def _done(step: tuple[memoryview, Future[None], Future[Any]]) -> bytearray:
    """Wait until a piece is hashed and written; its buffer can then be used again."""
    piece, hashed, written = step
    hashed.result()
    written.result()
    return cast("bytearray", piece.obj)


class _Progress:
    """Lines of log about what takes long."""

    def __init__(self, download: Download, log: AnyLogger) -> None:
        self._download = download
        self._log = log
        self._told_at = self._began = time.monotonic()

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at < defaults.TRANSFER_LOG_SECONDS:
            return
        self._told_at = now
        megabytes, length = self._download.received / 1e6, self._download.length
        whole = "" if length is None else f" of {length / 1e6:,.0f}"
        speed = megabytes / (now - self._began)
        self._log.info("Storing %s: %.0f%s MB, %.1f MB/s", self._download.url, megabytes, whole, speed)


class Place:
    """Where an output is stored, with its sidecar beside it.

    :param url: What ``ObjectStoragePath`` takes, such as ``s3://aws_default@bucket/clip.mp4``, or a local path.
    :raises SeedanceConfigurationError: if Airflow has no file system for it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._path = open_store(url)
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
        self._is_local = bool(getattr(self._fs, "local_file", False))
        if self._is_local:
            self._path = str(Path(self._path).absolute())
        self._is_shown_when_complete = bool(protocols & _SHOWN_WHEN_COMPLETE)
        self._moves_at_once = bool(protocols & _RENAMING)
        self._folder, _, self._name = self._path.rpartition("/")

    def __str__(self) -> str:
        """The URL without what may be a secret in it."""
        return str(Folder(self.url))

    @property
    def at_once(self) -> int:
        """How many files may be stored in such a place at the same time: an upload holds several copies of a part."""
        return 1 if self._is_shown_when_complete else defaults.TRANSFERS_AT_ONCE

    def size(self) -> int | None:
        """Bytes of the file; None if there is none.

        :raises SeedanceTransferError: if the store cannot tell.
        """
        with self._access("read"):
            self._fs.invalidate_cache(self._folder)  # some list from memory
            try:
                found = self._fs.info(self._path)
            except FileNotFoundError:
                return None
            if found.get("type") == "directory":
                raise IsADirectoryError(f"{self._name} is a folder")
            return int(found["size"] or 0)

    def sidecar(self) -> dict[str, Any] | None:
        """The content of the sidecar; None if there is none that can be understood."""
        with self._access("read"):
            try:
                with self._fs.open(f"{self._path}.json", "rb", block_size=defaults.MAX_SIDECAR) as file:
                    content = json.loads(file.read(defaults.MAX_SIDECAR))
            except (FileNotFoundError, ValueError, RecursionError):
                return None
            return content if isinstance(content, dict) else None

    def sha256(self) -> str:
        """The digest of the file as it is, read whole."""
        digest = hashlib.sha256()
        with self._access("read"), self._fs.open(self._path, "rb", block_size=PART) as file:
            while piece := file.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def open(self) -> IO[bytes]:
        """Open the file for reading; what is read ahead fits into a few pieces.

        :raises SeedanceTransferError: if it cannot be opened.
        """
        with self._access("read"):
            return cast("IO[bytes]", self._fs.open(self._path, "rb", block_size=PIECE))

    def save(self, incoming: Incoming, log: AnyLogger, *, replaces: bool = True) -> Received:
        """Store what comes in; what was in its place is there until then, without its sidecar.

        :param incoming: The download.
        :param log: Told from time to time.
        :param replaces: Whether a file in its place is replaced. Default True. False: there was none, and one that
            another task has stored meanwhile stays.
        :raises SeedanceTransferError: if it does not arrive whole, or cannot be written. Nothing of it is left then.
        """
        target = self._path if self._is_shown_when_complete else self._hidden(self._name)
        with self._access("written"):
            file = self._create(target)
        is_open = True
        try:
            received = incoming.receive(self._guarded(file.write), log)
            if not replaces:
                self._check_free()
            with self._access("written"):
                if "sha256" in (self.sidecar() or ()):  # it must not be read as this file's
                    self._remove(f"{self._path}.json")
                if self._is_shown_when_complete:
                    self._abort_uploads(but=file)
                file.close()
                is_open = False
                if target != self._path:
                    self._move(target, self._path)
        except BaseException:
            if is_open:
                _discard(file)
            if target != self._path:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(target)
            raise
        return received

    def note(self, content: dict[str, Any]) -> None:
        """Write the sidecar: from now on the file is complete."""
        data = json.dumps(content, indent=1).encode()
        with self._access("written"):
            path = f"{self._path}.json"
            if self._is_shown_when_complete:
                self._fs.pipe_file(path, data)
                return
            hidden = self._hidden(f"{self._name}.json")
            with self._fs.open(hidden, "wb") as file:
                file.write(data)
            self._move(hidden, path)

    def remove_leftovers(self) -> bool:
        """Remove what a try that was killed has left behind.

        :return: Whether the file itself may be such a leftover: only where moving one is a copy.
        """
        if self._is_shown_when_complete:
            return False
        pattern = re.compile(rf"\.{re.escape(self._name)}(\.json)?\.[0-9a-f]{{12}}\.part")
        found = False
        with contextlib.suppress(Exception):  # a folder that is not there yet, or may not be listed
            self._fs.invalidate_cache(self._folder)
            for path in map(str, self._fs.ls(self._folder or "/", detail=False)):
                if pattern.fullmatch(path.rpartition("/")[2]):
                    found = True
                    self._remove(path)
        return found and not self._moves_at_once

    def _check_free(self) -> None:
        # A download takes minutes; between this and the move there are milliseconds.
        if self.size() is not None:
            raise SeedanceTransferError(f"{self} was stored by another task meanwhile", path=self.url)

    def _hidden(self, name: str) -> str:
        return f"{self._folder}/.{name}.{secrets.token_hex(6)}.part"

    def _create(self, path: str) -> Any:
        try:
            return self._fs.open(path, "wb", block_size=PART)
        except FileNotFoundError:
            # A disk needs its folders. A path that begins with a bucket does not, and no bucket is made by mistake.
            if not path.startswith("/"):
                raise
            self._fs.makedirs(self._folder, exist_ok=True)
            return self._fs.open(path, "wb", block_size=PART)

    def _move(self, path: str, target: str) -> None:
        if self._is_local:
            Path(path).replace(target)
        else:
            self._fs.mv(path, target)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def _abort_uploads(self, but: Any) -> None:
        """End uploads to this object that a killed try began: S3 keeps their parts, and charges for them, for ever."""
        if not hasattr(self._fs, "call_s3"):
            return
        own = (getattr(but, "mpu", None) or {}).get("UploadId")
        bucket, _, key = self._path.partition("/")
        with contextlib.suppress(Exception):  # it needs a permission of its own
            found = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
            for upload in found.get("Uploads") or ():
                if upload["Key"] == key and upload["UploadId"] != own:
                    self._fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])

    def _guarded(self, write: Callable[[memoryview], Any]) -> Callable[[memoryview], Any]:
        def guarded(piece: memoryview) -> None:
            with self._access("written"):
                write(piece)

        return guarded

    @contextlib.contextmanager
    def _access(self, verb: str) -> Iterator[None]:
        problem: SeedanceTransferError | None = None
        try:
            yield
        except SeedanceError:
            raise
        except Exception as error:  # noqa: BLE001 - each store has errors of its own
            pointless = isinstance(error, _POINTLESS) or getattr(error, "errno", None) in _POINTLESS_NUMBERS
            problem = SeedanceTransferError(
                f"{self} cannot be {verb} ({_told(error)}). Check that the store is reachable and takes the file",
                path=self.url,
                transient=not pointless,
            )
        if problem is not None:  # without its cause, whose text may hold a signed URL
            raise problem


def open_store(url: str) -> tuple[Any, str]:
    """Find the file system of a path.

    :param url: What ``ObjectStoragePath`` takes, or a local path.
    :return: The file system, and the path as it takes it.
    :raises SeedanceConfigurationError: if there is none.
    :raises SeedanceTransferError: if that could not be told.
    """
    try:
        opened = object_path(url)
        return opened.fs, str(opened.path).rstrip("/")
    except (ImportError, ValueError, AirflowNotFoundException) as error:
        problem: SeedanceError = SeedanceConfigurationError(
            f"output_path {Folder(url)} cannot be used ({_told(error)}): {WHAT_A_STORE_NEEDS}"
        )
    except Exception as error:  # noqa: BLE001 - the connection could not be read this time
        problem = SeedanceTransferError(f"output_path {Folder(url)} cannot be opened ({_told(error)})", path=url)
    raise problem


def repeated(attempt: Callable[[], T], log: AnyLogger, attempts: int) -> T:
    """Try to transfer a file until it works, with pauses.

    :param attempt: The transfer.
    :param log: Told of each failure but the last.
    :param attempts: How often.
    :raises SeedanceTransferError: if the last one fails, or one that no further attempt can mend.
    """
    for failures in range(1, attempts + 1):
        try:
            return attempt()
        except SeedanceTransferError as error:
            if failures == attempts or not error.transient:
                raise
            pause = schedule.backoff(failures, random.random())
            log.warning("%s; trying again in %.0f s, attempt %d of %d", error, pause, failures + 1, attempts)
        time.sleep(pause)
    raise AssertionError("attempts must be 1 or more")


def _discard(file: Any) -> None:
    """Give up a file that is open for writing. To close it would complete its upload."""
    with contextlib.suppress(Exception):
        if hasattr(file, "buffer"):  # fsspec's buffered uploads
            file.discard()
            file.closed = True
        else:
            file.close()


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {_QUERY.sub('', str(error)):.200}"
