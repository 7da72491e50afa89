"""Credits per output second, as the vendor's newest price list has them (without temporary discounts)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from seedance_provider.testing.emulator.rules import Order


class Price(NamedTuple):
    """What a task costs: reserved when it is created, and what is settled after success."""

    reserved: Decimal
    settled: Decimal


# By resolution: without and with a reference video. Images and audio never change the price.
_PRO = {"480p": ("15", "19"), "720p": ("40", "48"), "1080p": ("90", "108"), "4k": ("200", "240")}
_FAST = {"480p": ("14", "18"), "720p": ("28", "34")}
_MINI = {"480p": ("7.5", "9.5"), "720p": ("20", "24")}
_TWO_FIVE = {"480p": ("26", "16"), "720p": ("59", "35"), "1080p": ("143.4", "85.68")}
_WAN = {"480p": ("14.26", "14.26"), "720p": ("28.51", "28.51"), "1080p": ("57.01", "57.01")}
_WAN_PRIME = {"480p": ("18.86", "18.86"), "720p": ("38.83", "38.83"), "1080p": ("77.66", "77.66")}
PER_SECOND = {
    "seedance-20": _PRO,
    "seedance2.0-pro": _PRO,
    "seedance2-fast": _FAST,
    "seedance2.0-mini": _MINI,
    "seedance2-5": _TWO_FIVE,
    "seedance2-5-edit": _TWO_FIVE,
    "seedance2-5-extend": _TWO_FIVE,
}
PER_TASK = {"gpt-image-2": "2.17", "gpt-image-2.5": "1.82", "midjourney": "12", "nanobanana2": "15"}
_OTHER = "10"  # no published price


def price(order: Order) -> Price:
    """The credits of one task. Only the 2.5 family with a reference video is settled after success."""
    if not order.family:
        flat = Decimal(next((amount for name, amount in PER_TASK.items() if order.model.startswith(name)), _OTHER))
        return Price(flat, flat)
    table = PER_SECOND.get(order.model) or (_WAN_PRIME if "prime" in order.model else _WAN)
    plain, with_video = table.get(order.resolution, table["720p"])
    rate = Decimal(with_video if order.references.videos else plain)
    duration = Decimal(order.duration)
    source = min(Decimal(str(order.video_seconds)), Decimal(30))
    if order.family == "edit":
        return Price(rate * 15, rate * 2 * source)
    if order.family in ("2.5", "extend") and order.references.videos:
        return Price(rate * duration, rate * (source + duration))
    return Price(rate * duration, rate * duration)


def number(amount: Decimal) -> int | float:
    """An amount as the vendor writes it in JSON: whole numbers without a fraction."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
