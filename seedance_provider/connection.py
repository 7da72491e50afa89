"""From an Airflow connection to settings: read by the same code on a worker and in the triggerer, the key masked."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook

from seedance_provider import defaults
from seedance_provider.config import (
    SubmitPolicy,
    default_submit_policy,
    parse_submit_policy,
    positive_credits,
    positive_number,
)
from seedance_provider.exceptions import SeedanceAuthenticationError, SeedanceConfigurationError, SeedanceError

try:
    from airflow.sdk.log import mask_secret
except ImportError:  # Airflow 2; common-compat has it from 1.22 on, later than Airflow's own constraints
    from airflow.utils.log.secrets_masker import mask_secret  # type: ignore[import-not-found,no-redef]
amask_secret: Callable[[str], Awaitable[None]] | None
try:
    from airflow.sdk.log import amask_secret
except ImportError:  # before Airflow 3.3
    amask_secret = None

if TYPE_CHECKING:
    from typing import Self

# A name or an IPv4 address, or an IPv6 address that urlsplit has looked at.
_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?|[^\s/]*:[^\s/]*")
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
_DEFAULT_SUBMIT_POLICY = SubmitPolicy(defaults.DEFAULT_SUBMIT_POLICY)
_USUAL_PORTS = {"http": 80, "https": 443}
"""Left out of the base URL, so that the same API has one name, whoever typed it and why."""
_SHORTEST_KEY = 8
_FLAGS = {"true": True, "false": False, "1": True, "0": False, "": False, "none": False}


class AirflowConnection(Protocol):
    """What is read of a connection; Airflow 2 and 3 have different classes."""

    host: str | None
    schema: str | None
    password: str | None
    port: int | None
    extra: str | None


def where_in_extra(name: str, conn_id: str) -> str:
    """Where a member of a connection's extra is set, for the middle of a sentence."""
    return f"{name} in the extra of connection {conn_id!r}"


def read_settings(conn_id: str) -> SeedanceSettings:
    """Look up a connection on a worker.

    :param conn_id: The connection's id.
    :return: Its settings; the key is masked in the task's log from now on.
    :raises SeedanceConfigurationError: if a field cannot be used; names the field, its value and the fix.
    :raises SeedanceAuthenticationError: if there is no usable API key.
    """
    settings = SeedanceSettings.from_connection(conn_id, BaseHook.get_connection(conn_id))
    mask_secret(settings.api_key)
    return settings


async def read_settings_async(conn_id: str) -> SeedanceSettings:
    """Look up a connection in the triggerer; otherwise as :func:`read_settings`."""
    settings = SeedanceSettings.from_connection(conn_id, await get_async_connection(conn_id))
    if amask_secret is not None:
        await amask_secret(settings.api_key)
    else:
        # The blocking one tells this process first; its word to the supervisor may be refused on an event loop.
        with contextlib.suppress(Exception):
            mask_secret(settings.api_key)
    return settings


@dataclass(frozen=True, slots=True)
class SeedanceSettings:
    """Where the API is, the key to it, and how to talk to it.

    :param base_url: Such as ``https://seedance2-pro.com/api/v1``.
    :param api_key: The API key; goes into the Authorization header and nowhere else.
    :param conn_id: The Airflow connection, for messages.
    :param connect_timeout: Seconds to establish a connection.
    :param read_timeout: Seconds for a whole answer.
    :param submit_policy: Whether a createTask of unknown outcome is sent again.
    :param requests_per_minute: The most requests that a process may make on this connection; None for no limit.
    :param max_credits_per_task: The most credits that one task may cost; None for no limit.
    :param max_credits_per_day: The most credits that the tasks of one day (UTC) may cost; None for no limit.
    """

    base_url: str
    api_key: str = field(repr=False)
    conn_id: str = defaults.DEFAULT_CONN_ID
    connect_timeout: float = defaults.DEFAULT_CONNECT_TIMEOUT
    read_timeout: float = defaults.DEFAULT_READ_TIMEOUT
    submit_policy: SubmitPolicy = _DEFAULT_SUBMIT_POLICY
    requests_per_minute: float | None = None
    max_credits_per_task: Decimal | None = None
    max_credits_per_day: Decimal | None = None

    @classmethod
    def from_connection(cls, conn_id: str, connection: AirflowConnection) -> Self:
        """Read an Airflow connection.

        :param conn_id: The connection's id, for messages.
        :param connection: The connection.
        :return: The settings.
        :raises SeedanceAuthenticationError: if there is no usable API key.
        :raises SeedanceConfigurationError: if a field cannot be used; names the field, its value and the fix.
        """
        try:
            return cls._read(conn_id, connection)
        except SeedanceError as error:
            # A key that was pasted into another field as well is not shown with that field's value.
            key = (connection.password or "").strip()
            if len(key) < _SHORTEST_KEY:  # it could be any word
                raise
            raise error.retold(str(error).replace(key, "***").replace(repr(key)[1:-1], "***")) from None

    @classmethod
    def _read(cls, conn_id: str, connection: AirflowConnection) -> Self:
        extra = _Extra(conn_id, connection.extra)
        submit_policy = extra.value("submit_policy")
        return cls(
            base_url=_base_url(conn_id, connection, extra.flag("allow_insecure_http")),
            api_key=_api_key(conn_id, connection.password),
            conn_id=conn_id,
            connect_timeout=extra.number("connect_timeout", defaults.MAX_TIMEOUT) or defaults.DEFAULT_CONNECT_TIMEOUT,
            read_timeout=extra.number("read_timeout", defaults.MAX_TIMEOUT) or defaults.DEFAULT_READ_TIMEOUT,
            submit_policy=(
                default_submit_policy()
                if submit_policy is None
                else parse_submit_policy(submit_policy, extra.named("submit_policy"))
            ),
            requests_per_minute=extra.number("requests_per_minute", 1e6),
            max_credits_per_task=extra.credits("max_credits_per_task"),
            max_credits_per_day=extra.credits("max_credits_per_day"),
        )


class _Extra:
    """The extra of a connection. One that cannot be read is an error, never a default: it may have said ``safe``."""

    def __init__(self, conn_id: str, text: str | Mapping[str, Any] | None) -> None:
        self._conn_id = conn_id
        text = text.strip() if isinstance(text, str) else text
        members: Any = text or {}
        if isinstance(members, str):
            try:
                members = json.loads(members, object_pairs_hook=_each_once)
            except (ValueError, RecursionError):
                members = None
        if not isinstance(members, Mapping):
            # The text is not shown: a key may have been pasted there.
            raise SeedanceConfigurationError(
                f"The extra of connection {conn_id!r} is not a JSON object: it must be one such as "
                '{"submit_policy": "safe"}, or empty'
            )
        self._members = members

    def named(self, name: str) -> str:
        return f"{name} in the extra of connection {self._conn_id!r}"

    def value(self, name: str) -> Any:
        value = self._members.get(name)
        return None if value == "" else value

    def number(self, name: str, at_most: float) -> float | None:
        return positive_number(self.value(name), self.named(name), at_most=at_most)

    def credits(self, name: str) -> Decimal | None:
        return positive_credits(self.value(name), self.named(name))

    def flag(self, name: str) -> bool:
        value = self._members.get(name)
        flag = _FLAGS.get(str(value).strip().lower())
        if flag is None:
            raise SeedanceConfigurationError(f"{self.named(name)} is {value!r}: it must be true or false")
        return flag


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read an object whose names are all different: of two policies, neither must win by its place."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _api_key(conn_id: str, password: str | None) -> str:
    key = (password or "").strip()
    scheme, _, rest = key.partition(" ")
    if scheme.lower() == "bearer":
        key = rest.strip()
    if not key:
        raise SeedanceAuthenticationError(
            f"Connection {conn_id!r} has no API key: put it into 'API key' (Admin > Connections), the password field. "
            "Keys are made on the vendor's page /api-keys"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        # The value is not shown: it may be a key with a line break in it.
        raise SeedanceAuthenticationError(
            f"The API key of connection {conn_id!r} has white space or characters that no header can carry: paste it "
            "again into 'API key' (Admin > Connections)"
        )
    return key


def _base_url(conn_id: str, connection: AirflowConnection, allow_insecure_http: bool) -> str:
    host = (connection.host or "").strip() or defaults.DEFAULT_BASE_URL
    # Without what may be a secret: credentials before the host, a key after it.
    shown = re.split(r"[?#]", host.rpartition("@")[2])[0]
    where = f"'Base URL' of connection {conn_id!r} ({shown!r:.200})"
    has_scheme = "://" in host
    if _is_ipv6(host):  # Airflow takes it out of the brackets of a connection's URI
        host = f"[{host}]"
    example = f"it must be one such as {defaults.DEFAULT_BASE_URL}"
    try:
        parts = urlsplit(host if has_scheme else f"//{host}")
        # Airflow's form says 0 where no port was typed.
        name, port = parts.hostname or "", parts.port or connection.port or None
        if ":" not in name:
            # As the DNS writes it, so that both transports look up the same name.
            name = name.encode("idna").decode()
    except ValueError:  # its text may repeat credentials; UnicodeError, from a label no DNS can carry, is one too
        raise SeedanceConfigurationError(f"{where} is not a URL: {example}") from None
    if parts.username is not None or parts.password is not None:
        raise SeedanceConfigurationError(f"{where} holds credentials: put the API key into 'API key'")
    if not _HOST_NAME.fullmatch(name) or parts.query or parts.fragment or any(char.isspace() for char in host):
        raise SeedanceConfigurationError(f"{where} is not a base URL: {example}")
    if port is not None and not 0 < port < 2**16:
        raise SeedanceConfigurationError(
            f"Connection {conn_id!r} has the port {port!r}: it must be from 1 to 65535, or empty for the default"
        )
    # Without a scheme: that of the schema field, as Airflow's HTTP connection has it, else what the host suggests.
    loopback = _is_loopback(name)
    schema = (connection.schema or "").strip().lower()
    scheme = parts.scheme or (schema if schema in ("http", "https") else "http" if loopback else "https")
    if scheme not in ("http", "https"):
        raise SeedanceConfigurationError(f"{where} has the scheme {scheme!r}: it must be https")
    if scheme == "http" and not loopback and not allow_insecure_http:
        raise SeedanceConfigurationError(
            f"{where} would send the API key unencrypted: use https, or set allow_insecure_http in the extra"
        )
    if {".", ".."}.intersection(parts.path.split("/")):  # read differently by different libraries
        raise SeedanceConfigurationError(f"{where} is not a base URL: {example}")
    path = quote(_STRAY_PERCENT.sub("%25", parts.path.rstrip("/")), safe="/%:@!$&'()*+,;=~")
    if not path.endswith(defaults.API_PATH):
        path += defaults.API_PATH
    netloc = f"[{name}]" if ":" in name else name
    if port is not None and port != _USUAL_PORTS[scheme]:
        netloc += f":{port}"
    return f"{scheme}://{netloc}{path}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
