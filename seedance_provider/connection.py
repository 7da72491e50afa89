"""From an Airflow connection to settings, for the hook and the trigger alike."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from seedance_provider.api import policy
from seedance_provider.api.policy import SubmitPolicy  # noqa: TC001 - a dataclass field
from seedance_provider.config import default_submit_policy, parse_submit_policy, positive_number
from seedance_provider.exceptions import SeedanceAuthenticationError, SeedanceConfigurationError

if TYPE_CHECKING:
    from typing import Self

API_PATH = "/api/v1"
# A name or an IPv4 address, or an IPv6 address that urlsplit has looked at.
_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?|[^\s/]*:[^\s/]*")


class AirflowConnection(Protocol):
    """What is read of a connection; Airflow 2 and 3 have different classes."""

    host: str | None
    schema: str | None
    password: str | None
    port: int | None


@dataclass(frozen=True, slots=True)
class SeedanceSettings:
    """Where the API is, the key to it, and how to talk to it.

    :param base_url: Such as ``https://seedance2-pro.com/api/v1``.
    :param api_key: The API key; goes into the Authorization header and nowhere else.
    :param connect_timeout: Seconds to establish a connection.
    :param read_timeout: Seconds between two bytes of an answer.
    :param submit_policy: Whether a createTask of unknown fate is sent again.
    :param requests_per_minute: The most requests a process may make on this connection; None for no limit.
    """

    base_url: str
    api_key: str = field(repr=False)
    connect_timeout: float = policy.DEFAULT_CONNECT_TIMEOUT
    read_timeout: float = policy.DEFAULT_READ_TIMEOUT
    submit_policy: SubmitPolicy = policy.DEFAULT_SUBMIT_POLICY
    requests_per_minute: float | None = None

    @classmethod
    def from_connection(cls, conn_id: str, connection: AirflowConnection, extra: Mapping[str, Any]) -> Self:
        """Read an Airflow connection.

        :param conn_id: The connection's id, for messages.
        :param connection: The connection.
        :param extra: Its extra, parsed.
        :return: The settings.
        :raises SeedanceAuthenticationError: if there is no usable API key.
        :raises SeedanceConfigurationError: if a field cannot be used; names the field, its value and the fix.
        """
        if not isinstance(extra, Mapping):
            raise SeedanceConfigurationError(
                f"The extra of connection {conn_id!r} is not a JSON object: give one such as "
                '{"submit_policy": "safe"}, or leave it empty'
            )
        submit_policy = extra.get("submit_policy")
        return cls(
            base_url=_base_url(conn_id, connection, _flag(conn_id, extra, "allow_insecure_http")),
            api_key=_api_key(conn_id, connection.password),
            connect_timeout=_positive(conn_id, extra, "connect_timeout") or policy.DEFAULT_CONNECT_TIMEOUT,
            read_timeout=_positive(conn_id, extra, "read_timeout") or policy.DEFAULT_READ_TIMEOUT,
            submit_policy=(
                default_submit_policy()
                if submit_policy in (None, "")
                else parse_submit_policy(submit_policy, f"submit_policy in the extra of connection {conn_id!r}")
            ),
            requests_per_minute=_positive(conn_id, extra, "requests_per_minute"),
        )


def _positive(conn_id: str, extra: Mapping[str, Any], name: str) -> float | None:
    return positive_number(extra.get(name), f"{name} in the extra of connection {conn_id!r}")


def _flag(conn_id: str, extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name)
    words = {"true": True, "false": False, "1": True, "0": False, "": False, "none": False}
    flag = words.get(str(value).strip().lower())
    if flag is None:
        raise SeedanceConfigurationError(
            f"{name} in the extra of connection {conn_id!r} is {value!r}: say true or false"
        )
    return flag


def _api_key(conn_id: str, password: str | None) -> str:
    key = (password or "").strip().removeprefix("Bearer ").strip()
    if not key:
        raise SeedanceAuthenticationError(
            f"Connection {conn_id!r} has no API key: put it into the password field. Keys are made on the vendor's "
            "page /api-keys"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        # The value is not shown: it may be a key with a line break in it.
        raise SeedanceAuthenticationError(
            f"The password of connection {conn_id!r} is not an API key: it has white space or characters that no "
            "header can carry. Paste the key again"
        )
    return key


def _base_url(conn_id: str, connection: AirflowConnection, allow_insecure_http: bool) -> str:
    host = (connection.host or "").strip() or policy.DEFAULT_BASE_URL
    shown = host.rpartition("@")[2]  # never shows credentials that were put into the host
    where = f"The host of connection {conn_id!r} ({shown!r})"
    has_scheme = "://" in host
    example = f"give one such as {policy.DEFAULT_BASE_URL}"
    try:
        parts = urlsplit(host if has_scheme else f"//{host}")
        name, port = parts.hostname or "", parts.port or connection.port
        if ":" not in name:
            # As the DNS writes it, so that both transports look up the same name.
            name = name.encode("idna").decode()
    except ValueError:  # its text may repeat credentials; UnicodeError, from a label no DNS can carry, is one too
        raise SeedanceConfigurationError(f"{where} is not a URL: {example}") from None
    if parts.username is not None or parts.password is not None:
        raise SeedanceConfigurationError(f"{where} holds credentials: put the API key into the password field")
    if not _HOST_NAME.fullmatch(name) or parts.query or parts.fragment or any(char.isspace() for char in host):
        raise SeedanceConfigurationError(f"{where} is not a base URL: {example}")
    if port is not None and not 0 < port < 2**16:
        raise SeedanceConfigurationError(
            f"Connection {conn_id!r} has the port {port!r}: leave it empty for the default"
        )
    # Without a scheme: that of the schema field, as Airflow's HTTP connection has it, else what the host suggests.
    loopback = _is_loopback(name)
    schema = (connection.schema or "").strip().lower()
    scheme = parts.scheme or (schema if schema in ("http", "https") else "http" if loopback else "https")
    if scheme not in ("http", "https"):
        raise SeedanceConfigurationError(f"{where} has the scheme {scheme!r}: use https")
    if scheme == "http" and not loopback and not allow_insecure_http:
        raise SeedanceConfigurationError(
            f"{where} would send the API key unencrypted: use https, or set allow_insecure_http in the extra"
        )
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    if not path.endswith(API_PATH):
        path += API_PATH
    netloc = f"[{name}]" if ":" in name else name
    return f"{scheme}://{netloc}{f':{port}' if port else ''}{path}"


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
