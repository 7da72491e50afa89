"""What OpenLineage is told of a task: where its video comes from, where it is, and what it cost.

Imported by OpenLineage's listener alone, through the operators' method that it looks for. The listener runs in a fork
of the task's process, which must not ask Airflow for anything: it reads what the operator holds, and no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import attr
from airflow.providers.common.compat.openlineage.facet import (
    Dataset,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    RunFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage

from seedance_provider.api.validation import MEDIA_FIELDS
from seedance_provider.exceptions import SeedanceError
from seedance_provider.execution.assets import Delivery, number, split_path, without_query
from seedance_provider.execution.job import parse_inputs

RUN_FACET = "seedance_task"
_SCHEMA = "https://raw.githubusercontent.com/seedance-airflow/airflow-provider-seedance/main/docs/lineage/1-0-0/"
# What OpenLineage's rules for names call the same store otherwise than a path may.
_STORES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_NAMED_FROM_THE_ROOT = ("file", "http", "https", "hdfs")


@attr.define
class SeedanceTaskRunFacet(RunFacet):
    """The Seedance task of a task instance; ``docs/lineage`` has its JSON schema. None for what is not known.

    :param taskId: Its id.
    :param model: The model id.
    :param status: How it ended: ``success`` or ``fail``; None if it has not ended.
    :param seeds: The seeds of its outputs.
    :param generationSeconds: Seconds from creation to completion.
    :param creditsUsed: What was charged.
    :param creditsExpectedLow: What it was expected to cost, at least.
    :param creditsExpectedHigh: At most.
    :param priceList: What that was read from: the month of the vendor's list, or ``price_list``.
    :param failureCode: The vendor's code of a failure.
    """

    taskId: str | None = None  # noqa: N815 - as OpenLineage spells
    model: str | None = None
    status: str | None = None
    seeds: list[int] | None = None
    generationSeconds: float | None = None  # noqa: N815
    creditsUsed: float | None = None  # noqa: N815
    creditsExpectedLow: float | None = None  # noqa: N815
    creditsExpectedHigh: float | None = None  # noqa: N815
    priceList: str | None = None  # noqa: N815
    failureCode: str | None = None  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return f"{_SCHEMA}SeedanceTaskRunFacet.json#/$defs/SeedanceTaskRunFacet"


def of_video(operator: Any) -> OperatorLineage[Any, Any]:
    """The lineage of a task that submitted a video or waited for one, ended well or not.

    :param operator: The operator or sensor, as it is when it has run.
    :return: Inputs: the reference media. Outputs: the video where the vendor has it, and its stored copies.
    """
    delivery = _delivery(operator)
    outputs = [OutputDataset(*dataset_name(source)) for source in _sources(delivery)]
    return OperatorLineage(
        inputs=[Dataset(*dataset_name(location)) for location in references(operator, delivery)],
        outputs=[*outputs, *_copies(delivery)],
        run_facets={RUN_FACET: _run_facet(delivery)},
    )


def of_transfer(operator: Any) -> OperatorLineage[Any, Any]:
    """The lineage of a transfer, ended well or not.

    :param operator: The transfer, as it is when it has run.
    :return: Inputs: the video where the vendor has it. Outputs: its stored copies.
    """
    delivery = _delivery(operator)
    return OperatorLineage(
        inputs=[Dataset(*dataset_name(source)) for source in _sources(delivery)],
        outputs=_copies(delivery),
        run_facets={RUN_FACET: _run_facet(delivery)},
    )


def _delivery(operator: Any) -> Delivery:
    # None: the task ended before anything was known of a video, or by an error that is not ours.
    return operator.delivery or Delivery(None, getattr(operator, "model", None))


def _sources(delivery: Delivery) -> list[str]:
    urls = [] if delivery.record is None else delivery.record.urls
    return list(dict.fromkeys(map(without_query, [*urls, *(file.source for file in delivery.files)])))


def _copies(delivery: Delivery) -> list[OutputDataset]:
    return [
        OutputDataset(
            *dataset_name(file.path),
            outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(size=file.bytes, fileCount=1)},
        )
        for file in delivery.files
    ]


def references(operator: Any, delivery: Delivery) -> Iterator[str]:
    """The reference media that were sent: URLs without their query, and the files that were uploaded.

    :param operator: The operator or sensor; a sensor has none.
    :param delivery: What it left behind; without inputs, those of the operator are read, if they are plain.
    """
    try:
        inputs: Mapping[str, Any] = delivery.inputs or parse_inputs(getattr(operator, "inputs", {}))
    except SeedanceError:
        return
    items = (item for name in MEDIA_FIELDS for item in _plain(inputs.get(name)))
    for item in items:
        text = str(item).strip()
        if text.lower().startswith(("http://", "https://")):
            yield without_query(text)
        elif getattr(operator, "upload_media", False) and text and not text.lower().startswith("data:"):
            yield text


def _plain(value: Any) -> Iterator[Any]:
    # A list of another task's results loads itself when it is read; here it must not.
    if isinstance(value, (list, tuple)):
        yield from (item for item in value if isinstance(item, (str, os.PathLike)) or hasattr(item, "as_uri"))


def dataset_name(location: str) -> tuple[str, str]:
    """Name a file as OpenLineage's rules say, so that its lineage meets that of other tools.

    :param location: A URL, or a path of a file or an object; what is before an ``@`` in it is left out.
    :return: The namespace and the name.
    """
    scheme, authority, path = split_path(location)
    scheme = _STORES.get(scheme, scheme)
    name = path if scheme in _NAMED_FROM_THE_ROOT else path.lstrip("/")
    namespace = "file" if scheme == "file" and not authority else f"{scheme}://{authority}"
    return namespace, name or "/"


def _run_facet(delivery: Delivery) -> SeedanceTaskRunFacet:
    record, estimate = delivery.record, delivery.estimate
    facet = SeedanceTaskRunFacet(taskId=delivery.seedance_task_id, model=delivery.model)
    if record is not None:
        facet.status = record.status.value
        facet.seeds = [output.seed for output in record.outputs if output.seed is not None] or None
        facet.generationSeconds = record.generation_seconds
        facet.creditsUsed = number(record.credits_used)
        facet.failureCode = None if record.failure is None else record.failure.code
    if estimate is not None:
        facet.creditsExpectedLow, facet.creditsExpectedHigh = number(estimate.low), number(estimate.high)
        facet.priceList = estimate.as_of
    return facet
