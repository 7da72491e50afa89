"""The path that a callback is posted to: it says whom the callback is for, and only who has the API key can write it.

``<claim>.<signature>``, both base64url. The claim is encoded, not encrypted: it holds names of Airflow's, and digests
of the request and of an idempotency key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import NamedTuple

from seedance_provider import defaults
from seedance_provider.execution.stores import Owner, key_path

_VERSION = 1
_PURPOSE = b"airflow-provider-seedance/callback/1"
"""Separates this use of the API key from every other, so that a signature serves for nothing else."""
_DIGITS = 32
"""Hexadecimal digits of a fingerprint: the path is signed as a whole, they only tell one request from another."""


class Claim(NamedTuple):
    """Whom a callback is for.

    :param conn_id: The Airflow connection, whose key signs.
    :param owner: The task instance.
    :param fingerprint: The first digits of the receipt's.
    :param key: The digest of the idempotency key; empty without one.
    """

    conn_id: str
    owner: Owner
    fingerprint: str
    key: str = ""

    @classmethod
    def of(cls, conn_id: str, owner: Owner, fingerprint: str, key: str | None) -> Claim:
        """The claim of a task instance.

        :param conn_id: The Airflow connection.
        :param owner: The task instance.
        :param fingerprint: The receipt's.
        :param key: The idempotency key; None without one.
        """
        digest = "" if key is None else key_path(key, conn_id).rpartition("/")[2]
        return cls(conn_id, owner, fingerprint[:_DIGITS], digest)

    def is_about(self, fingerprint: str) -> bool:
        """Whether it is about the request of that fingerprint."""
        return fingerprint[:_DIGITS] == self.fingerprint

    @property
    def ledger_path(self) -> str:
        """The folder of its receipt below the ledger's root."""
        return f"v1/key/{self.key}" if self.key else self.owner.path


def signing_key(api_key: str) -> bytes:
    """What signs the paths of a connection; the API key cannot be told from it."""
    return hmac.digest(api_key.encode(), _PURPOSE, hashlib.sha256)


def sign(claim: Claim, key: bytes) -> str:
    """Write the path of a claim: the same each time.

    :param claim: The claim.
    :param key: From :func:`signing_key`.
    """
    members = [_VERSION, claim.conn_id, *claim.owner, claim.fingerprint, claim.key]
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    body = _encoded(text.encode("utf-8", "surrogatepass"))
    return f"{body}.{_signature(body, key)}"


def is_signed(path: str, key: bytes) -> bool:
    """Whether a path was signed by a key. Takes the same time wherever the signature differs.

    :param path: A path that :func:`read_claim` could read.
    :param key: From :func:`signing_key`.
    """
    body, _, signature = path.partition(".")
    return hmac.compare_digest(_signature(body, key), signature)


def read_claim(path: str) -> Claim | None:
    """Read a path, whoever wrote it; None if it is none of ours.

    :param path: What follows the last slash of the URL.
    """
    body, _, signature = path.partition(".")
    if len(path) > defaults.MAX_CALLBACK_URL or not path.isascii() or not signature:
        return None
    try:
        members = json.loads(_decoded(body).decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    match members:
        case [
            int(version),
            str(conn_id),
            str(dag_id),
            str(run_id),
            str(task_id),
            int(map_index),
            str(fingerprint),
            str(key),
        ] if version == _VERSION and conn_id and (key == "" or _is_digest(key)):
            return Claim(conn_id, Owner(dag_id, run_id, task_id, map_index), fingerprint, key)
    return None


def _is_digest(key: str) -> bool:
    return len(key) == 64 and set(key) <= set("0123456789abcdef")


def _signature(body: str, key: bytes) -> str:
    return _encoded(hmac.digest(key, body.encode(), hashlib.sha256))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
