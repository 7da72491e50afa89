"""Outputs become files: under which path, which of them are there already, and what their sidecars tell."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from seedance_provider import __version__, defaults
from seedance_provider.api import catalog
from seedance_provider.api.flows import collect_with, task_failed
from seedance_provider.api.records import TaskRecord, http_url_or_none, read_record
from seedance_provider.config import check_output_path, names_in_output_path
from seedance_provider.exceptions import (
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceTransferError,
    SeedanceTransferRefusedError,
)
from seedance_provider.execution.receipts import unsigned_url
from seedance_provider.hooks.media import EXTENSIONS, kind_of
from seedance_provider.hooks.output_files import Incoming, Place, open_store, repeated

if TYPE_CHECKING:
    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.hooks.seedance import SeedanceHook

SCHEMA = 1
"""Of a sidecar; a reader ignores members that it does not know."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_VALUE = 100
"""Characters of a value in a path; file systems take 255 bytes for a name."""


class StoredFile(NamedTuple):
    """An output in its place.

    :param path: Its URL or path, which ``ObjectStoragePath`` takes.
    :param bytes: Its size.
    :param sha256: Its digest, hexadecimal.
    :param source: Where it came from, without a query, which may be a signature.
    """

    path: str
    bytes: int
    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class Output:
    """A file of the vendor's that is to be stored.

    :param url: Where it is.
    :param index: Its number among the outputs, from 0.
    :param kind: ``output``, or ``last_frame`` for the last frame of that output.
    :param expected: ``image``, ``video`` or ``audio``; None if that is not known.
    :param media_type: Its MIME type as far as the record tells.
    :param values: What a path may name of it, apart from ``ext``.
    :param facts: What its sidecar tells of the task.
    """

    url: str
    index: int
    kind: Literal["output", "last_frame"] = "output"
    expected: str | None = None
    media_type: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Its URL without a query."""
        return self.url.partition("?")[0]

    @property
    def link(self) -> str:
        """Tells its URL from one that differs in the query alone, whatever the signature."""
        return hashlib.sha256(unsigned_url(self.url).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def extension(self) -> str:
        """The file name extension that it probably has: its bytes decide."""
        suffix = PurePosixPath(urlsplit(self.url).path).suffix.lstrip(".").lower()
        return EXTENSIONS.get(self.media_type or "") or (suffix if suffix in EXTENSIONS.values() else "mp4")


def outputs_of(record: TaskRecord, *, last_frame: bool = False, model: str | None = None) -> list[Output]:
    """The files of a finished task.

    :param record: Its record.
    :param last_frame: Whether the last frames are wanted too.
    :param model: The model that was asked for. Default: the one that the record names.
    :return: The outputs, then their last frames.
    """
    row = catalog.lookup(model or record.model)
    task = {
        "seedance_task_id": record.seedance_task_id,
        "model": model or record.model,
        "credits_used": None if record.credits_used is None else str(record.credits_used),
        "create_time": record.create_time,
        "complete_time": record.complete_time,
    }
    outputs, frames = [], []
    for index, output in enumerate(record.outputs):
        values = {"seedance_task_id": record.seedance_task_id, "model": task["model"], "seed": output.seed}
        facts = task | {"seed": output.seed, "width": output.width, "height": output.height}
        expected = kind_of(output.media_type) or (row and row.output)
        outputs.append(Output(output.url, index, "output", expected, output.media_type, values, facts))
        if last_frame and output.last_frame_image is not None:
            url = output.last_frame_image
            frames.append(Output(url, index, "last_frame", "image", None, values, facts))
    return outputs + frames


def outputs_at(urls: Any) -> list[Output]:
    """The files at some URLs, of which nothing else is known.

    :param urls: A URL, or a sequence of them, as a mapped task returns it also one of such sequences.
    :raises SeedanceConfigurationError: if one is no URL.
    """
    outputs: list[Output] = []
    for url in _flat(urls):
        if http_url_or_none(url) is None:
            raise SeedanceConfigurationError(
                f"urls has {str(url).partition('?')[0]!r:.100}, which is no http or https URL. A template makes a "
                "text of a list: pass it as task.output"
            )
        name = PurePosixPath(unquote(urlsplit(url).path)).stem
        outputs.append(Output(url, len(outputs), values={"seedance_task_id": name}))
    return outputs


def _flat(urls: Any) -> Iterator[Any]:
    if isinstance(urls, str) or not isinstance(urls, Iterable):
        yield urls
        return
    for url in urls:
        yield from _flat(url)


def finished(hook: SeedanceHook, log: AnyLogger, seedance_task_id: Any, record: Any) -> TaskRecord:
    """The record of a task that has succeeded.

    :param hook: The connection.
    :param log: The task's log.
    :param seedance_task_id: The task; None if the record is given.
    :param record: Its record as XCom holds it; read again if its links may have expired.
    :raises SeedanceConfigurationError: for an empty id, or what is no record.
    :raises SeedanceTaskFailedError: if the task failed.
    :raises SeedanceError: if it still runs, or any other row of the error table.
    """
    if record is None:
        if not isinstance(seedance_task_id, str) or not seedance_task_id.strip():
            raise SeedanceConfigurationError(
                f"seedance_task_id is {seedance_task_id!r:.100}: it must be the id of a task. Its template may have "
                "rendered nothing"
            )
        read = hook.get_task(seedance_task_id.strip())
    else:
        read = read_record(record)
        age = time.time() - (read.complete_time or 0) / 1000
        if age > defaults.LINK_SECONDS:
            try:
                read = hook.get_task(read.seedance_task_id)
            except SeedanceError as error:
                log.warning("The record could not be read again for new links: %s", error)
    if read.failure is not None:
        raise task_failed(read)
    if not read.outputs:
        raise SeedanceError(
            f"Task {read.seedance_task_id} has no output yet: its status is {read.raw_status!r}. Wait for it with "
            f"{collect_with(read.seedance_task_id)}",
            seedance_task_id=read.seedance_task_id,
            charged="yes",
        )
    return read


def path_of(output_path: str, output: Output, extension: str) -> str:
    """The path of an output.

    :param output_path: The template, rendered by Airflow; a folder if it ends with ``/``.
    :param output: The output.
    :param extension: What ``{ext}`` stands for.
    """
    template = f"{output_path}{{seedance_task_id}}.{{ext}}" if output_path.endswith("/") else output_path
    values = {name: _cleaned(output.values.get(name)) for name in ("seedance_task_id", "model", "seed")}
    path = str(template.format(**values, index=output.index, ext=extension))
    folder, _, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    if output.index and "index" not in names_in_output_path(template, is_rendered=True):
        stem += f"-{output.index}"
    if output.kind == "last_frame":
        stem, dot, suffix = f"{stem}-last-frame", ".", extension
    return f"{folder}/{stem}{dot}{suffix}"


def _cleaned(value: Any) -> str:
    """A value of the vendor's as a part of a file name: it opens no folder and leaves none."""
    if value is None or value == "":
        return "unknown"
    text = str(value)
    name = _UNSAFE.sub("_", text).lstrip(".")[:_MAX_VALUE]
    if name == text:
        return name
    return f"{name}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def prepare(output_path: Any, *, last_frame: bool = False, model: Any = None) -> str:
    """Check, before anything is charged, where outputs are to be stored.

    :param output_path: The template, rendered by Airflow.
    :param last_frame: Whether last frames are wanted.
    :param model: The model, if known.
    :return: The template.
    :raises SeedanceConfigurationError: if it cannot be used.
    """
    template = str(output_path)
    check_output_path(template, is_rendered=True)
    row = catalog.lookup(model)
    if last_frame and row is not None and row.output != "video":
        raise SeedanceConfigurationError(f"last_frame=True: {model} makes no video, so there is no last frame")
    try:
        open_store(path_of(template, Output("", 0), "mp4"))
    except SeedanceTransferError as error:
        raise error.retold(str(error), charged="no") from error
    return template


@dataclass
class Transfer:
    """Stores outputs.

    :param hook: The connection.
    :param log: The task's log.
    :param output_path: The template of their paths, rendered by Airflow.
    :param overwrite: Whether other files in their places are replaced. Default False.
    :param is_last_chance: Whether a retry would submit another task instead: nothing remembers this one. Then more
        attempts are made, and the end of them is final. Default False.
    """

    hook: SeedanceHook
    log: AnyLogger
    output_path: str
    overwrite: bool = False
    is_last_chance: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def store(self, outputs: Sequence[Output]) -> list[StoredFile]:
        """Store outputs, some at a time; what is complete already is neither fetched nor written again.

        :return: The files, in the order of the outputs.
        :raises SeedanceTransferError: if one of them cannot be stored; others may have been.
        """
        _ = self.hook.settings  # looked up here: a thread may not ask Airflow
        at_once = min(len(outputs), Place(path_of(self.output_path, outputs[0], "mp4")).at_once) if outputs else 0
        if at_once < 2:
            return [self._store(output) for output in outputs]
        with ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(self._store, output) for output in outputs]
            try:
                _, unfinished = wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:  # Airflow ends the task
                self._stop.set()
                unfinished = set(futures)
                raise
            finally:
                for future in unfinished:
                    future.cancel()
        for future in futures:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        return [future.result() for future in futures]

    def _store(self, output: Output) -> StoredFile:
        began = time.monotonic()

        def attempt() -> StoredFile | None:
            nonlocal output
            try:
                return self._attempt(output, began)
            except SeedanceTransferError as error:
                if error.denial:
                    output = self._renewed(output)
                raise

        attempts = defaults.LAST_TRANSFER_ATTEMPTS if self.is_last_chance else defaults.TRANSFER_ATTEMPTS
        try:
            stored = repeated(attempt, self.log, attempts)
        except SeedanceTransferError as error:
            if not (error.denial and (stored := self._found_under_another_extension(output))):
                raise self._explained(error, output) from error
        assert stored is not None  # noqa: S101 - every attempt stores it or raises
        return stored

    def _attempt(self, output: Output, began: float) -> StoredFile:
        from seedance_provider.transport.download import downloading

        place = Place(path_of(self.output_path, output, output.extension))
        stored, size = self._look(place, output)
        if stored is not None:
            return stored
        with downloading(output.url, self.hook.settings) as download:
            incoming = Incoming(download, output.expected, self._stop)
            path = path_of(self.output_path, output, EXTENSIONS[incoming.media_type])
            if path != place.url:
                place = Place(path)
                stored, size = self._look(place, output)
                if stored is not None:
                    return stored
            is_leftover = place.remove_leftovers()
            if size is None or self.overwrite or is_leftover:
                received = place.save(incoming, self.log, replaces=size is not None)
            elif download.length in (None, size):
                received = incoming.receive(lambda piece: None, self.log)
                if received != (size, place.sha256()):
                    raise self._in_the_way(place, output)
            else:
                raise self._in_the_way(place, output)
        place.note(self._sidecar(output, incoming.media_type, received._asdict()))
        seconds = time.monotonic() - began
        self.log.info("Stored %s: %s bytes in %.1f s", place, f"{received.bytes:,}", seconds)
        return StoredFile(place.url, *received, output.source)

    def _look(self, place: Place, output: Output) -> tuple[StoredFile | None, int | None]:
        """What is in a place: the output, complete; and the size of whatever there is."""
        content, size = place.sidecar(), place.size()
        if content is None or size is None:
            return None, size
        if not _is_about(content, output):
            if self.overwrite:
                return None, size
            raise self._in_the_way(place, output)
        is_known_by_task = output.facts.get("seedance_task_id") and content.get("seedance_task_id")
        if not is_known_by_task and content.get("link") != output.link:
            return None, size  # perhaps another file: its bytes decide
        if content.get("bytes") != size or not isinstance(content.get("sha256"), str):
            return None, size
        self.log.info("Already stored: %s", place)
        return StoredFile(place.url, size, content["sha256"], output.source), size

    def _found_under_another_extension(self, output: Output) -> StoredFile | None:
        """What an earlier try stored under the extension that its bytes told: a link that is gone tells none."""
        for path in dict.fromkeys(path_of(self.output_path, output, each) for each in EXTENSIONS.values()):
            with contextlib.suppress(SeedanceTransferError):  # that the link is gone is what matters
                stored, _ = self._look(Place(path), output)
                if stored is not None:
                    return stored
        return None

    def _renewed(self, output: Output) -> Output:
        """The output with the link that its task's record names by now."""
        task = output.facts.get("seedance_task_id")
        if not task:
            return output
        try:
            record = self.hook.get_task(task)
        except SeedanceError as error:
            self.log.warning("The record could not be read again for a new link: %s", error)
            return output
        for found in outputs_of(record, last_frame=True):
            if (found.index, found.kind) == (output.index, output.kind):
                return replace(output, url=found.url)
        return output

    def _explained(self, error: SeedanceTransferError, output: Output) -> SeedanceTransferError:
        task = output.facts.get("seedance_task_id")
        about = f" (task {task})" if task else ""
        details: dict[str, Any] = {
            "seedance_task_id": task,
            "path": error.path or path_of(self.output_path, output, output.extension),
        }
        if isinstance(error, SeedanceTransferRefusedError):
            return error.retold(str(error), **details)
        if error.denial and not _is_young(output):
            advice = "its record was read again" if task else "seedance_task_id=, in place of urls=, finds a new one"
            text = f"{error}. The link is gone; {advice}{about}"
        elif self.is_last_chance:
            text = (
                f"{error}. Nothing here remembers the video: a retry or a clear would submit another. Store it, free, "
                f"with SeedanceToObjectStorageOperator(seedance_task_id={task!r}, output_path=...)"
            )
        else:
            return error.retold(f"{error}. The video is charged already; a retry stores it, free{about}", **details)
        return SeedanceTransferRefusedError(
            text, url=error.url, status_code=error.status_code, message=error.message, **details
        )

    def _in_the_way(self, place: Place, output: Output) -> SeedanceTransferRefusedError:
        task = output.facts.get("seedance_task_id")
        return SeedanceTransferRefusedError(
            f"{place} is another file: it was not replaced. Give each output a path of its own, with "
            f"{{seedance_task_id}} in output_path, or set overwrite=True{f' (task {task})' if task else ''}",
            url=output.source,
            path=place.url,
        )

    def _sidecar(self, output: Output, media_type: str, received: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            **received,
            "media_type": media_type,
            "source": output.source,
            "link": output.link,
            "kind": output.kind,
            "index": output.index,
            **output.facts,
            "stored_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "stored_by": f"airflow-provider-seedance/{__version__}",
        }


def _is_about(content: dict[str, Any], output: Output) -> bool:
    task = output.facts.get("seedance_task_id")
    is_same_output = (content.get("kind"), content.get("index")) == (output.kind, output.index)
    if task and content.get("seedance_task_id"):
        return bool(content["seedance_task_id"] == task) and is_same_output
    return bool(content.get("source") == output.source)


def _is_young(output: Output) -> bool:
    completed = output.facts.get("complete_time")
    return isinstance(completed, int) and time.time() - completed / 1000 < defaults.SETTLING_SECONDS


def store(
    record: TaskRecord, transfer: Transfer, *, last_frame: bool = False, model: str | None = None
) -> list[StoredFile]:
    """Store the outputs of a finished task.

    :param record: Its record.
    :param transfer: Where and how.
    :param last_frame: Whether their last frames are stored too.
    :param model: The model that was asked for. Default: the one that the record names.
    :return: The files: the outputs, then the last frames.
    :raises SeedanceTransferError: if one of them cannot be stored.
    """
    outputs = outputs_of(record, last_frame=last_frame, model=model)
    try:
        stored = transfer.store(outputs)
    except SeedanceConfigurationError as error:  # it was there when the task was submitted
        raise error.retold(str(error), charged="yes", seedance_task_id=record.seedance_task_id) from error
    missing = sum(1 for output in record.outputs if output.last_frame_image is None)
    if last_frame and missing:
        raise SeedanceTransferRefusedError(
            f"last_frame=True, but the record names no last frame for {missing} of {len(record.outputs)} outputs. "
            f"Everything else is stored; set last_frame=False (task {record.seedance_task_id})",
            seedance_task_id=record.seedance_task_id,
        )
    return stored
