"""Credits per output second or per task: the vendor's list prices of 2026-09, without temporary discounts."""

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
_WAN = {"480p": ("14.257", "14.257"), "720p": ("28.514", "28.514"), "1080p": ("57.01", "57.01")}
_WAN_PRIME = {"480p": ("18.86", "18.86"), "720p": ("38.83", "38.83"), "1080p": ("77.66", "77.66")}
PER_SECOND = {
    "seedance-20": _PRO,
    "seedance2.0-pro": _PRO,
    "seedance2-fast": _FAST,
    "seedance2.0-fast": _FAST,
    "seedance2.0-mini": _MINI,
    "seedance2-5": _TWO_FIVE,
    "seedance2-5-edit": _TWO_FIVE,
    "seedance2-5-extend": _TWO_FIVE,
}
# Of one task, by resolution; of gpt-image-2 by quality and resolution.
PER_IMAGE = {
    "seedream-5.0-pro": {"1k": "14", "2k": "24"},
    "nanobanana2": {"2k": "15", "4k": "25"},
    "nanobanana-pro": {"1k": "14.41", "2k": "14.41", "4k": "25.8"},
    "midjourney-v8": {"1k": "12"},
    "midjourney-v7": {"1k": "12"},
    "midjourney-v7-niji": {"1k": "12"},
}
GPT_IMAGE_2 = {
    "low": {"1k": "2.17", "2k": "4.34", "4k": "6.52"},
    "medium": {"1k": "13.03", "2k": "21.72", "4k": "39.09"},
    "high": {"1k": "47.78", "2k": "86.87", "4k": "156.36"},
}
GPT_IMAGE_2_5 = Price(Decimal("1.75"), Decimal("1.82"))  # billed by tokens: an estimate held, then settled
_OTHER = "10"  # no published price


def _flat(order: Order) -> Price:
    """The price of a task that has no seconds."""
    if order.model.startswith("gpt-image-2.5"):
        return GPT_IMAGE_2_5
    if order.model == "gpt-image-2":
        amount = GPT_IMAGE_2[order.inputs.get("quality", "low")][order.resolution]
    else:
        amount = PER_IMAGE.get(order.model, {}).get(order.resolution, _OTHER)
    return Price(Decimal(amount), Decimal(amount))


def price(order: Order) -> Price:
    """The credits of one task. Settled after success: gpt-image-2.5, and 2.5 with a reference video."""
    if order.family in ("", "image", "midjourney"):
        return _flat(order)
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
