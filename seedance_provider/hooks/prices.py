"""Rates of the user's own, from ``[seedance] price_list``."""

from __future__ import annotations

from seedance_provider.api.pricing import PriceList, parse_price_list
from seedance_provider.config import price_list_path
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError
from seedance_provider.hooks.paths import object_path


def read_price_list() -> PriceList:
    """Read the configured price list; empty without one.

    :raises SeedanceConfigurationError: if it has another form; names the file and the field.
    :raises SeedanceError: if it cannot be read; retryable.
    """
    path = price_list_path()
    if path is None:
        return {}
    where = f"[seedance] price_list {path}"
    try:
        text = object_path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise SeedanceConfigurationError(f"{where} cannot be read ({type(error).__name__}: {error!s:.200})") from error
    except Exception as error:
        raise SeedanceError(f"{where} cannot be read ({type(error).__name__}: {error!s:.200})", charged="no") from error
    return parse_price_list(text, where)
