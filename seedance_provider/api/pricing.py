"""What a task will cost, from the catalog's dated prices or a price list of the user's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from seedance_provider.api.catalog import (
    LEGACY_SIZES,
    LEGACY_UPSCALE_RATE,
    MOST_REFERENCE,
    PRICES_AS_OF,
    Model,
    Price,
    lookup,
)
from seedance_provider.api.validation import normalise
from seedance_provider.exceptions import SeedanceBudgetExceededError, SeedanceConfigurationError

PriceList: TypeAlias = dict[str, dict[str, tuple[Decimal, Decimal]]]
"""By model and size: credits without and with a reference video."""

_PRICE_LIST = "price_list"
_MOST_CREDITS = Decimal(1_000_000)
_NO_ROW = Price({})  # of a model that only a price list knows
_OTHER_SIZE = {"outputResolution": "resolution", "resolution": "outputResolution"}


class CreditEstimate(NamedTuple):
    """What a task will cost. ``str()`` says it in words.

    :param low: credits, at least.
    :param high: credits, at most; equal to ``low`` where the inputs alone fix the price.
    :param as_of: the month of the vendor's list, like ``2026-09``; ``price_list`` for a rate of the user's.
    """

    low: Decimal
    high: Decimal
    as_of: str

    def __str__(self) -> str:
        cost = amount(self.low) if self.low == self.high else f"{amount(self.low)} to {amount(self.high)}"
        source = _PRICE_LIST if self.as_of == _PRICE_LIST else f"the vendor's list of {self.as_of}"
        return f"{cost} credits by {source}"


def estimate(model: str, inputs: Mapping[str, Any] | str, prices: object = None) -> CreditEstimate | None:
    """Work out what a task will cost.

    Exact where the price depends on the inputs alone. A range where it depends on the length of reference videos, and
    where the inputs use names of earlier API versions, which the current one may ignore: ``high`` covers both.

    :param model: a model id or an alias.
    :param inputs: the request's ``inputs``; fields left out count with the vendor's defaults. A string is
        a template or a file that is not read yet, and has no estimate.
    :param prices: rates that take precedence over the vendor's list, as for ``parse_price_list``; default None.
    :return: the estimate; None for an unknown model without a rate of its own, and for inputs without a known price.
    :raises SeedanceConfigurationError: if ``prices`` cannot be used.
    """
    if isinstance(inputs, str):
        return None
    row = lookup(model)
    own = parse_price_list(prices).get(row.id if row else str(model), {})
    if not row and not own:
        return None
    price = row.price if row else _NO_ROW
    rates = {size: (Decimal(plain), Decimal(video)) for size, (plain, video) in price.rates.items()} | own
    plain = normalise(inputs)
    sizes, durations, videos = _sizes(row, price, plain), _durations(row, price, plain), _videos(row, plain)
    if not durations or not sizes or sizes[0] not in rates:
        return None
    if price.basis == "tokens" and plain.get("uploadedUrls"):
        return None
    amounts = [
        amount
        for size, duration, video in product(sizes, durations, videos)
        if size in rates
        for amount in _charges(price, rates[size], duration, video)
    ]
    if row and row.legacy and plain.get("upscaleResolution") is not None:
        amounts += [amount + Decimal(LEGACY_UPSCALE_RATE) * max(durations) for amount in amounts]
    return CreditEstimate(min(amounts), max(amounts), _PRICE_LIST if own.keys() & sizes else PRICES_AS_OF)


def check(model: str, inputs: Mapping[str, Any] | str, limit: Decimal, where: str) -> None:
    """Compare what a task will cost with a ceiling; a price that is not known is not judged.

    :param model: a model id or an alias.
    :param inputs: the request's ``inputs``.
    :param limit: the ceiling in credits.
    :param where: what sets it, for the message.
    :raises SeedanceBudgetExceededError: if it may cost more.
    """
    found = estimate(model, inputs)
    if found is not None:
        hold(found, model, limit, where)


def hold(found: CreditEstimate | None, model: str, limit: Decimal, where: str) -> None:
    """Hold what a task will cost to a ceiling of its own.

    :param found: what it will cost, if that is known.
    :param model: its model, for the message.
    :param limit: the ceiling in credits.
    :param where: what sets it, for the message.
    :raises SeedanceBudgetExceededError: if it may cost more, or if that is not known.
    """
    found = known(found, model, limit, where)
    if found.high > limit:
        raise SeedanceBudgetExceededError(
            f"The task would cost {found}, and {where} allows {amount(limit)}. No request was sent. "
            f"{raise_or_choose(where)}",
            estimate=found,
            limit=limit,
        )


def known(found: CreditEstimate | None, model: str, limit: Decimal, where: str) -> CreditEstimate:
    """Refuse a task of unknown price, of which no ceiling can be kept; the rest is as of :func:`hold`.

    :raises SeedanceBudgetExceededError: if it is not known what it will cost.
    """
    if found is None:
        raise SeedanceBudgetExceededError(
            f"The price of model {model!r} with these inputs is not known, so {where} cannot be kept. No request was "
            "sent. Add a rate to [seedance] price_list, or remove the ceiling",
            limit=limit,
        )
    return found


def raise_or_choose(where: str) -> str:
    """What to change where a task does not fit under a ceiling.

    :param where: what sets it.
    """
    return f"Raise {where}, or choose another model, size or duration"


def parse_price_list(value: object, where: str = _PRICE_LIST) -> PriceList:
    """Read rates that take precedence over the vendor's list.

    :param value: a mapping, or the same as JSON: model id to size (``"720p"``; for images as in the catalog, such as
        ``"2k"``, ``"1k low"`` or ``"task"``) to credits per second (for images per task): one amount, or two, without
        and with a reference video. None or an empty string for none.
    :param where: what to call it in an error; default ``price_list``.
    :return: the rates by model id, an alias resolved.
    :raises SeedanceConfigurationError: if it has another form, a size that the model lacks or an impossible amount.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise SeedanceConfigurationError(f"{where} is not JSON: {error}") from None
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    if not isinstance(value, Mapping):
        raise SeedanceConfigurationError(f'{where} must be a mapping, such as {{"seedance-20": {{"720p": 40}}}}')
    return dict(_read_model(name, rates, where) for name, rates in value.items())


def _read_model(name: object, rates: object, where: str) -> tuple[str, dict[str, tuple[Decimal, Decimal]]]:
    row = lookup(name)
    if not isinstance(name, str) or not isinstance(rates, Mapping):
        raise SeedanceConfigurationError(
            f'{where}: {name!r:.60} must be a model id with a mapping of sizes to credits, such as {{"720p": 40}}'
        )
    for size in rates:
        if not isinstance(size, str) or (row and size not in row.price.rates):
            known = ", ".join(row.price.rates) if row else "strings"
            raise SeedanceConfigurationError(f"{where}: {name} has no price for {size!r:.60}: the sizes are {known}")
    return row.id if row else name, {size: _read_rate(rate, f"{where}: {name} {size}") for size, rate in rates.items()}


def _read_rate(rate: object, where: str) -> tuple[Decimal, Decimal]:
    pair = rate if isinstance(rate, (list, tuple)) else (rate, rate)
    try:
        plain, video = (Decimal(str(amount)) for amount in pair if not isinstance(amount, bool))
        # A comparison with NaN is an InvalidOperation.
        possible = 0 <= plain <= _MOST_CREDITS and 0 <= video <= _MOST_CREDITS
    except (InvalidOperation, ValueError):
        possible = False
    if not possible:
        raise SeedanceConfigurationError(
            f"{where} is {rate!r:.60}: it must be a number of credits, or a list of two, without and with a reference "
            "video"
        )
    return plain, video


def _sizes(row: Model | None, price: Price, inputs: Mapping[Any, Any]) -> list[str]:
    """Give the sizes that the inputs may mean: the documented one, then what another name asks for."""
    if not price.fields:
        return ["task"]
    values = [inputs.get(name, row.fields[name].default if row else None) for name in price.fields]
    if not all(isinstance(value, str) for value in values):
        return []
    sizes = [" ".join(map(str, values))]
    other = inputs.get(_OTHER_SIZE[price.fields[0]])
    if isinstance(other, str):
        sizes.append(" ".join([LEGACY_SIZES.get(other, (other,))[0], *map(str, values[1:])]))
    return sizes


def _durations(row: Model | None, price: Price, inputs: Mapping[Any, Any]) -> list[int]:
    """Give the seconds that ``duration`` may mean; none if it means nothing."""
    if price.basis in ("edit", "task", "tokens"):
        return [0]
    default = row.fields["duration"].default if row else None
    value = inputs.get("duration", default)
    durations = [default] if row and row.legacy and isinstance(value, str) and value.endswith("s") else []
    if isinstance(value, str):
        digits = value.removesuffix("s") if durations else value
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else None
    durations.insert(0, value)
    whole = [seconds for seconds in durations if isinstance(seconds, int) and not isinstance(seconds, bool)]
    return whole if len(whole) == len(durations) and min(whole) > 0 else []


def _videos(row: Model | None, inputs: Mapping[Any, Any]) -> list[bool]:
    """Tell whether there is a reference video; both where an old name does not tell."""
    if row and "videoUrls" in row.fields and row.fields["videoUrls"].required:
        return [True]
    if _given(inputs.get("videoUrls")):
        return [True]
    return [False, True] if row and row.legacy and _given(inputs.get("urls")) else [False]


def _given(value: object) -> bool:
    return bool(value) if isinstance(value, (list, str)) else value is not None


def _charges(price: Price, rate: tuple[Decimal, Decimal], duration: int, video: bool) -> Iterator[Decimal]:
    """Give the least and the most that a task can cost."""
    plain, with_video = rate
    match price.basis:
        case "tokens":
            yield from rate
        case "task":
            yield plain
        case "edit":
            yield with_video * 2 * price.least_reference
            yield with_video * 2 * MOST_REFERENCE
        case "reference" if video:
            yield with_video * (price.least_reference + duration)
            yield with_video * (MOST_REFERENCE + duration)
        case _:
            yield (with_video if video else plain) * duration


def amount(value: Decimal) -> str:
    """Write an amount without an exponent and trailing zeros."""
    return format(value.normalize(), "f")
