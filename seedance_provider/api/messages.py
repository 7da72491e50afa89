"""Requests, answers and the steps of a flow, as data.

A flow is a generator. It yields steps; a transport carries each one out and sends back its result. The flow's return
value is its result. A failed exchange is thrown in as a :class:`~seedance_provider.exceptions.SeedanceTransportError`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import logging

    from airflow.sdk.types import Logger

    AnyLogger: TypeAlias = logging.Logger | Logger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as data.

    :param method: The HTTP method.
    :param path: Path and query below the API's base URL, such as ``/jobs/createTask``; already URL-encoded.
    :param body: JSON bytes; None for none.
    """

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as data.

    :param status: The HTTP status.
    :param content_type: The Content-Type header, possibly empty.
    :param body: The body as far as it arrived, cut at the transport's limit, with the API key replaced.
    :param retry_after: Seconds that the answer asks to wait (its Retry-After header), if any.
    :param complete: False if the connection ended before the body did, or the body was cut.
    :param conn_id: The Airflow connection that it came on, for messages; empty where it is not known.
    """

    status: int
    content_type: str
    body: bytes
    retry_after: float | None = None
    complete: bool = True
    conn_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request together with the reading of its answer.

    :param request: What to send.
    :param read: Turns the answer into a value or raises one of our errors.
    """

    request: Request
    read: Callable[[Reply], T]


class Media(Protocol):
    """A file to upload."""

    @property
    def name(self) -> str:
        """The file's name."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    @property
    def content_type(self) -> str:
        """Its MIME type."""

    def open(self) -> IO[bytes]:
        """Open it for reading."""


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """Leave to upload one file.

    :param upload_url: Where to PUT the bytes; signed, so it gets no API key and is shown nowhere.
    :param content_type: The Content-Type to send with them.
    :param url: Where the file can be fetched afterwards, for 24 hours.
    """

    upload_url: str
    content_type: str
    url: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request and give back the :class:`Reply`.

    :param request: What to send.
    :param deadline: A time, epoch seconds, beyond which it must not wait for its turn or for a free connection; None
        if there is none.
    """

    request: Request
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let this time pass.

    :param seconds: How long.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Put:
    """Send a file to the URL of its ticket, without the API key, and give back the :class:`Reply`."""

    ticket: UploadTicket
    media: Media


@dataclass(frozen=True, slots=True)
class RenewKey:
    """Read the connection again and give back whether its API key changed since the last request."""


Step: TypeAlias = Send | Sleep | RenewKey | Put
Flow: TypeAlias = Generator[Step, Any, T]
