"""A server that answers as S3 does, and a bucket on it, for any test that asks for the fixture ``bucket``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from tests.support.stores import attach

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bucket:
    """A bucket of its own, on an Airflow connection.

    :param endpoint: The server.
    :param name: The bucket.
    :param conn_id: The Airflow connection.
    """

    def __init__(self, endpoint: str, name: str, conn_id: str) -> None:
        from s3fs import S3FileSystem

        self.name = name
        self.url = f"s3://{conn_id}@{name}"
        requests.put(f"{endpoint}/{name}", timeout=10).raise_for_status()
        self.fs = S3FileSystem(key="key", secret="secret", endpoint_url=endpoint)
        attach("s3", conn_id, fs=self.fs)

    def names(self) -> list[str]:
        """All objects, as listed by the server."""
        self.fs.invalidate_cache()
        return [path.removeprefix(f"{self.name}/") for path in self.fs.find(self.name)]

    def read(self, key: str) -> bytes:
        content: bytes = self.fs.cat_file(f"{self.name}/{key}")
        return content

    def write(self, key: str, content: bytes) -> None:
        self.fs.pipe_file(f"{self.name}/{key}", content)


def serve_s3() -> Iterator[str]:
    """The endpoint of a server, for as long as the generator is not ended."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
