"""From Seedance to object storage: stores the outputs of finished tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from seedance_provider import defaults
from seedance_provider.config import check_storing, names_in_output_path
from seedance_provider.exceptions import SeedanceConfigurationError
from seedance_provider.links.page import HasVideoPage
from seedance_provider.links.seedance import SeedanceVideoLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from seedance_provider.execution.assets import Delivery


class SeedanceToObjectStorageOperator(HasVideoPage, BaseOperator):
    """Stores the outputs of a finished Seedance task, and returns the paths. Free, and a retry stores what is missing.

    The files are streamed, checked, and there as a whole or not at all; each has a sidecar, ``<file>.json``. The XCom
    key ``seedance_files`` holds ``path``, ``bytes``, ``sha256`` and ``source`` of each. Exactly one of
    ``seedance_task_id``, ``record`` and ``urls`` is given.

    :param output_path: Where: a URL such as ``s3://aws_default@bucket/{{ ds }}/{seedance_task_id}.{ext}`` or an
        absolute path; a folder if it ends with ``/``. Names in single braces: ``seedance_task_id``, ``index``,
        ``model``, ``seed``, ``ext``. (templated)
    :param seedance_task_id: The task's id. (templated)
    :param record: The task's record, as the XCom key ``seedance_task`` of the sensor and of Generate holds it.
        (templated)
    :param urls: URLs of outputs, or one; of these no ``seedance_task_id``, ``model`` and ``seed`` is known, and a link
        that has expired cannot be renewed. (templated)
    :param seedance_conn_id: The Airflow connection. Default ``seedance_default``. (templated)
    :param overwrite: Replace another file in an output's place. Default False: the task fails.
    :param last_frame: Store the last frame of each video, too, beside it. Default False.
    """

    template_fields: Sequence[str] = ("output_path", "seedance_task_id", "record", "urls", "seedance_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"record": "json", "urls": "json"}
    operator_extra_links = (SeedanceVideoLink(),)
    ui_color = "#d3e3f5"
    custom_operator_name = "SeedanceToStorage"
    video_url = ""
    """The first output, once that is known; read by the extra link."""
    delivery: Delivery | None = None
    """What the try left behind; read by OpenLineage."""

    def __init__(
        self,
        *,
        output_path: str | ObjectStoragePath,
        seedance_task_id: str | None = None,
        record: Mapping[str, Any] | None = None,
        urls: Sequence[str] | str | None = None,
        seedance_conn_id: str = defaults.DEFAULT_CONN_ID,
        overwrite: bool = False,
        last_frame: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_storing(output_path, overwrite=overwrite, last_frame=last_frame)
        sources = {"seedance_task_id": seedance_task_id, "record": record, "urls": urls}
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise SeedanceConfigurationError(
                f"{' and '.join(given) or 'Nothing'} is given: give exactly one of seedance_task_id, record and urls"
            )
        if urls is not None and last_frame:
            raise SeedanceConfigurationError("last_frame=True needs the record: give seedance_task_id or record")
        self.output_path = output_path
        self.seedance_task_id = seedance_task_id
        self.record = record
        self.urls = urls
        self.seedance_conn_id = seedance_conn_id
        self.overwrite = overwrite
        self.last_frame = last_frame
        self._given = given[0]
        if isinstance(output_path, str):
            self._check_names(output_path)

    def execute(self, context: Context) -> list[str]:
        """Store what is missing.

        :return: The paths: the outputs, then the last frames.
        :raises SeedanceTransferError: if an output cannot be stored.
        :raises SeedanceTaskFailedError: if the task ended in ``fail``.
        :raises SeedanceError: any other row of the error table.
        """
        from seedance_provider.execution import results, storage
        from seedance_provider.hooks.seedance import SeedanceHook

        with results.reporting_failures(self, context):
            output_path = storage.prepare(self.output_path)
            self._check_names(output_path, is_rendered=True)
            transfer = storage.Transfer(SeedanceHook(self.seedance_conn_id), self.log, output_path, self.overwrite)
            record = None
            if self._given == "urls":
                files = transfer.store(storage.outputs_at(self.urls))
            else:
                record = storage.finished(transfer.hook, self.log, self.seedance_task_id, self.record)
                files = storage.store(record, transfer, last_frame=self.last_frame)
            return results.finish_transfer(files, self, context, record)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage where the video came from, and its stored copies.

        :param task_instance: Of this task; not needed, since the operator is the one that ran.
        """
        from seedance_provider.execution import lineage

        return lineage.of_transfer(self)

    def _check_names(self, output_path: str, *, is_rendered: bool = False) -> None:
        if self._given != "urls":
            return
        if names := names_in_output_path(output_path, is_rendered=is_rendered) - {"index", "ext"}:
            raise SeedanceConfigurationError(
                f"output_path={output_path!r:.300} has {{{min(names)}}}, which is not known of urls: use {{index}} and "
                "{ext}, or give seedance_task_id or record"
            )
