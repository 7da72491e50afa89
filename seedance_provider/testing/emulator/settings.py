"""The emulator's settings, changeable while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from seedance_provider.testing.emulator.dialects import WEBHOOK_SHAPES, WebhookShape
from seedance_provider.testing.emulator.rules import DIALECTS, Dialect


@dataclass
class Settings:
    """How the emulator behaves. Times are seconds; changes of them concern tasks created afterwards."""

    dialect: Dialect = "current"  # current, seed, g2 or envelope
    waiting_seconds: float = 1.0
    generating_seconds: float = 3.0
    concurrency_limit: int | None = 5  # per account; None: no limit
    user_agent_check: bool = True  # refuse the default User-Agents of HTTP libraries, as the vendor's edge does
    strict_duration: bool = False  # refuse "5" and "5s": the documentation says integer
    settlement_seconds: float = 2.0  # from success to the settled price, where there is one
    webhook_shape: WebhookShape | None = None  # flat, state, status or envelope; None: the dialect's
    webhook_copies: int = 1  # 0: callbacks are never sent; 2: each arrives twice
    webhook_retry_seconds: tuple[float, ...] | None = None  # waits before further attempts; None: the dialect's
    upload_expiry_seconds: float = 900.0  # life of a signed upload URL
    asset_ttl_seconds: float = 86_400.0  # life of an uploaded file
    link_seconds: float | None = None  # life of a link to an output; each record has new ones. None: for ever

    def __post_init__(self) -> None:
        self._check()

    def update(self, changes: dict[str, Any]) -> None:
        """Change some settings, or none if any of them is wrong (ValueError)."""
        names = [item.name for item in fields(self)]
        if unknown := sorted(set(changes) - set(names)):
            raise ValueError(f"unknown setting {unknown[0]!r}; there are: {', '.join(names)}")
        changed = Settings(**changes)
        for name in changes:
            setattr(self, name, getattr(changed, name))

    def to_json(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)

    def _check(self) -> None:
        if self.dialect not in DIALECTS:
            raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, not {self.dialect!r}")
        if self.webhook_shape is not None and self.webhook_shape not in WEBHOOK_SHAPES:
            raise ValueError(f"webhook_shape must be one of {', '.join(WEBHOOK_SHAPES)}, not {self.webhook_shape!r}")
        for name in ("user_agent_check", "strict_duration"):
            value = getattr(self, name)
            if value is not True and value is not False:
                raise ValueError(f"{name} must be true or false, not {value!r}")
        for name in ("concurrency_limit", "webhook_copies"):
            value = getattr(self, name)
            if name == "concurrency_limit" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number from 0, not {value!r}")
        if self.webhook_retry_seconds is not None:
            self.webhook_retry_seconds = tuple(self.webhook_retry_seconds)
        seconds = ("waiting_seconds", "generating_seconds", "settlement_seconds", "upload_expiry_seconds")
        for name in (*seconds, "asset_ttl_seconds", "link_seconds"):
            value = getattr(self, name)
            if name == "link_seconds" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name} must be a number of seconds from 0, not {value!r}")
