"""What a task tells of its video to those outside: the events of its asset outlets, and what lineage is made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from seedance_provider.api.records import TaskRecord
from seedance_provider.exceptions import SeedanceError, SeedanceTaskFailedError

try:
    from airflow.sdk.definitions.asset import AssetRef
except ImportError:  # Airflow 2.11
    AssetRef = Asset  # type: ignore[misc, assignment]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.api.pricing import CreditEstimate
    from seedance_provider.execution.storage import StoredFile


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a task instance leaves behind.

    :param seedance_task_id: The task's id; None for a transfer of mere URLs.
    :param model: The model id as the DAG names it, else as the record does.
    :param record: The record of the end; None if there was none.
    :param files: What was stored.
    :param inputs: The inputs, if the task instance submitted them.
    :param estimate: What the task was expected to cost, if that is known.
    """

    seedance_task_id: str | None
    model: str | None = None
    record: TaskRecord | None = None
    files: Sequence[StoredFile] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    estimate: CreditEstimate | None = None


def deliver(delivery: Delivery, operator: BaseOperator, context: Context, task_log: AnyLogger) -> None:
    """Fill in the events of the task's outlets, which Airflow emits when the task succeeds, and keep it for lineage.

    Whatever goes wrong is logged: the video is charged by now.

    :param delivery: What they tell.
    :param operator: The task.
    :param context: Its context.
    :param task_log: The task's log.
    """
    operator.delivery = delivery
    for outlet in operator.outlets or ():
        try:
            if isinstance(outlet, AssetAlias):
                _announce_files(outlet, delivery, context, task_log)
            elif isinstance(outlet, (Asset, AssetRef)):
                context["outlet_events"][outlet].extra.update(extra_of(delivery))
        except Exception:  # noqa: BLE001 - logged
            task_log.exception(
                "The event of outlet %s could not be filled in (task %s)", outlet, delivery.seedance_task_id
            )


def fail(error: SeedanceError, operator: BaseOperator) -> None:
    """Keep for lineage what is known of a task that failed; there are no events.

    :param error: What it failed with.
    :param operator: The task.
    """
    record = error.record if isinstance(error, SeedanceTaskFailedError) else None
    known = record if isinstance(record, TaskRecord) else None
    operator.delivery = Delivery(error.seedance_task_id, getattr(operator, "model", None), known)


def extra_of(delivery: Delivery) -> dict[str, Any]:
    """What the event of an asset carries: ``seedance_task_id`` and ``model``, and after the end ``urls``, ``paths``,
    ``credits`` and ``seconds``. Plain JSON; None for what is not known.

    URLs come without their query: events are kept for long and shown to whoever may see assets, and a signature in one
    would let them in. The id leads to fresh ones.
    """
    extra: dict[str, Any] = {"seedance_task_id": delivery.seedance_task_id, "model": delivery.model}
    record = delivery.record
    if record is None and not delivery.files:
        return extra
    urls = [file.source for file in delivery.files] if record is None else record.urls
    return extra | {
        "urls": [without_query(url) for url in urls],
        "paths": [file.path for file in delivery.files],
        "credits": None if record is None else number(record.credits_used),
        "seconds": None if record is None else record.generation_seconds,
    }


def _announce_files(alias: AssetAlias, delivery: Delivery, context: Context, task_log: AnyLogger) -> None:
    """Emit an event for each stored file, of the asset that its path names: an alias has none of its own."""
    if not delivery.files:
        task_log.warning(
            "Asset alias %r gets no event from this task: an alias stands for the files that are stored, and none was. "
            "Give output_path, or an Asset as outlet (task %s)",
            alias.name,
            delivery.seedance_task_id,
        )
    for file in delivery.files:
        narrowed = {"urls": [without_query(file.source)], "paths": [file.path]}
        asset = Asset(uri=public_uri(file.path))
        context["outlet_events"][alias].add(asset, extra=extra_of(delivery) | narrowed)


def number(amount: Decimal | None) -> int | float | None:
    """An amount of credits as JSON has numbers: an integer where it has no fraction."""
    if amount is None:
        return None
    return int(amount) if amount == int(amount) else float(amount)


def without_query(url: str) -> str:
    """A URL without what may be a signature, or a password."""
    return re.sub("(?<=://)[^/]*@", "", re.split("[?#]", url, maxsplit=1)[0])


def public_uri(path: str) -> str:
    """A stored file's path as a URI: without the Airflow connection in it, and with its characters quoted."""
    scheme, authority, name = split_path(path)
    return f"{scheme}://{authority}/{quote(name.lstrip('/'), safe=_PATH_CHARACTERS)}"


_PATH_CHARACTERS = "/:@!$&'()*+,;=~"


def split_path(path: str) -> tuple[str, str, str]:
    """The scheme, the authority and the name of a path, a local one also without a scheme.

    What stands before ``@`` is Airflow's connection, or a password, and left out.
    """
    scheme, separator, rest = path.partition("://")
    if not separator:
        return "file", "", str(Path(path).absolute())
    authority, slash, name = rest.partition("/")
    return scheme.lower(), authority.rpartition("@")[2], slash + name
