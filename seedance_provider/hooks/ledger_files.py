"""The files of the ledger: small, written once, in folders of any file system that Airflow knows.

Nothing here overwrites, renames or locks. What is assumed of a store: a list shows what was written before it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from airflow.providers.common.compat.sdk import ObjectStoragePath

from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError
from seedance_provider.hooks.paths import WHAT_A_STORE_NEEDS

_MAX_PART = 150
"""Characters of one part of a path; file systems take 255 bytes."""
_QUERY = re.compile(r"\?[^\s'\"]*")
_ENTRY = re.compile(r"(\d{6,})-(\d{13,})-([a-z]+)-([0-9a-f]{8,})-([0-9a-f]+)\.json")
WITHDRAWN = "withdrawn"
FORGOTTEN = "forgotten"
SET_ASIDE = frozenset({WITHDRAWN, FORGOTTEN})
"""Stages of a submission that no longer counts: given up in favour of another's before its request, or forgotten."""
_RANKS = {stage: rank for rank, stage in enumerate(("submitted", "ended", "delivered", *sorted(SET_ASIDE)), 1)}


class EntryName(NamedTuple):
    """The name of one entry: ``<number>-<epoch ms>-<stage>-<submission>-<writer>.json``. Sorts by age.

    :param number: Counts the entries of a folder.
    :param written_ms: When it was written, epoch milliseconds.
    :param stage: How far the submission has come, or one of ``SET_ASIDE``.
    :param submission: Names the submission that it is about.
    :param writer: Tells those apart who write about one submission at the same moment. Default ``0``.
    """

    number: int
    written_ms: int
    stage: str
    submission: str
    writer: str = "0"

    def __str__(self) -> str:
        return f"{self.number:06d}-{self.written_ms:013d}-{self.stage}-{self.submission}-{self.writer}.json"


def read_entry_name(name: str) -> EntryName | None:
    """Read the name of a file; None if it is not an entry's."""
    match = _ENTRY.fullmatch(name)
    return match and EntryName(int(match[1]), int(match[2]), match[3], match[4], match[5])


def read_entry_names(names: Iterable[str]) -> list[EntryName]:
    """The entries among the names of files, the oldest first."""
    return sorted(entry for name in names if (entry := read_entry_name(name)) is not None)


def progress(entry: EntryName) -> tuple[int, EntryName]:
    """Sorts the entries of one submission by how far it had come, then by age.

    Whoever writes at the same moment: a submission that has a task does not go back to having none.
    """
    return _RANKS.get(entry.stage, 0), entry


def latest_by_submission(names: Iterable[str]) -> dict[str, EntryName]:
    """How far each submission in a folder has come: its newest entry of the furthest stage."""
    return {entry.submission: entry for entry in sorted(read_entry_names(names), key=progress)}


def last_number(names: Iterable[str]) -> int:
    """The highest number of an entry in a folder; 0 if there is none."""
    return max((entry.number for entry in read_entry_names(names)), default=0)


def standing(names: Iterable[str]) -> EntryName | None:
    """The entry that rules in a folder: the newest of the submissions that count; None if there is none."""
    counting = [entry for entry in latest_by_submission(names).values() if entry.stage not in SET_ASIDE]
    return max(counting, default=None)


def new_submission() -> str:
    """A name for a submission that no other has."""
    return secrets.token_hex(6)


def new_writer() -> str:
    """A name for who writes an entry, that hardly any other has."""
    return secrets.token_hex(3)


def now_ms() -> int:
    """The time, epoch milliseconds."""
    return int(time.time() * 1000)


def part(name: str) -> str:
    """One part of a path: a name of Airflow's, quoted; a long one is cut and told apart by a digest."""
    quoted = quote(name, safe="")
    if not quoted.strip("."):
        quoted = quoted.replace(".", "%2E") or "%00"
    if len(quoted) > _MAX_PART:
        return f"{quoted[:100]}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
    return quoted


class Folder:
    """A folder of the ledger. One call is one request to the store, unless it says otherwise.

    :param url: What ``ObjectStoragePath`` takes, such as ``s3://aws_default@bucket/seedance``.
    :param path: The folder's path below the ledger's root. Default: it is the root.
    """

    def __init__(self, url: str, path: str = "") -> None:
        self.url = url.rstrip("/")
        self.path = path

    def __truediv__(self, path: str) -> Folder:
        return Folder(f"{self.url}/{path}", f"{self.path}/{path}".lstrip("/"))

    @property
    def root(self) -> Folder:
        """The ledger's root."""
        return Folder(self.url.removesuffix(self.path))

    def __str__(self) -> str:
        """The URL without what may be a secret in it."""
        scheme, separator, rest = self.url.rpartition("://")
        account, at, path = rest.partition("@")
        if at and "/" not in account:
            rest = f"{account.partition(':')[0]}@{path}"
        return f"{scheme}{separator}{rest}".partition("?")[0]

    def names(self) -> list[str]:
        """The names of its files; none if it does not exist.

        :raises SeedanceError: if they cannot be listed; retryable.
        """
        with _Access(self, "listed"):
            file_system, path = self._opened()
            file_system.invalidate_cache(path)  # some list from memory
            try:
                return [str(found).rpartition("/")[2] for found in file_system.ls(path, detail=False)]
            except FileNotFoundError:
                return []

    def tree(self) -> list[str]:
        """The paths of all files below it, relative to it. One request for about 1000 files.

        :raises SeedanceError: if they cannot be listed; retryable.
        """
        with _Access(self, "listed"):
            file_system, path = self._opened()
            file_system.invalidate_cache()
            base = f"{path.strip('/')}/"
            return [found.strip("/").removeprefix(base) for found in map(str, file_system.find(path))]

    def read(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """Read files; those that are gone are left out. One request for each, some at a time where the store can.

        :param names: Relative to the folder.
        :return: Names and contents, in the order of the names.
        :raises SeedanceError: if one cannot be read; retryable.
        """
        if not names:
            return
        with _Access(self, "read"):
            file_system, path = self._opened()
            paths = [f"{path}/{name}" for name in names]
            contents = file_system.cat(paths, on_error="return")
            by_path = {str(found).strip("/"): content for found, content in contents.items()}
            for name, path in zip(names, paths, strict=True):
                content = by_path.get(path.strip("/"))
                if isinstance(content, FileNotFoundError) or content is None:
                    continue
                if isinstance(content, BaseException):
                    raise content
                yield name, bytes(content)

    def write(self, name: str, content: bytes = b"") -> None:
        """Write a file that is not there yet.

        :raises SeedanceError: if it cannot be written; retryable.
        """
        with _Access(self, "written"):
            file_system, path = self._opened()
            try:
                file_system.pipe_file(f"{path}/{name}", content)
            except FileNotFoundError:
                # A disk needs its folders. A path that begins with a bucket does not, and no bucket is made by mistake.
                if not path.startswith("/"):
                    raise
                file_system.makedirs(path, exist_ok=True)
                file_system.pipe_file(f"{path}/{name}", content)

    def delete(self, names: list[str]) -> None:
        """Delete files, and the folders of a disk that become empty stay.

        :raises SeedanceError: if one cannot be deleted; retryable.
        """
        if not names:
            return
        with _Access(self, "deleted"):
            file_system, path = self._opened()
            file_system.rm([f"{path}/{name}" for name in names])

    def _opened(self) -> tuple[Any, str]:
        try:
            opened = ObjectStoragePath(self.url)
            return opened.fs, str(opened.path).rstrip("/")
        except (ImportError, ValueError) as error:
            raise SeedanceConfigurationError(
                f"The ledger, [seedance] ledger_path {self}, cannot be used ({_told(error)}): {WHAT_A_STORE_NEEDS}"
            ) from error


class _Access:
    """Turns what a store raises into one error of ours, without the secrets that may stand in it."""

    def __init__(self, folder: Folder, verb: str) -> None:
        self._folder = folder
        self._verb = verb

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, SeedanceError):
            raise SeedanceError(
                f"The ledger at {self._folder} cannot be {self._verb} ({_told(error)}). Check that the store is "
                "reachable and that [seedance] ledger_path names it",
                charged="no",
            ) from None  # its text may hold a signed URL


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {_QUERY.sub('', str(error)):.200}"
