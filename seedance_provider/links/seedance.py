"""Extra links of the task instance page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

XCOM_RECORD_KEY = "seedance_task"
"""The XCom key that holds a finished task's normalised record."""


class SeedanceVideoLink(BaseOperatorLink):
    """Opens the first output of the finished task."""

    name = "Video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; an empty string, which hides the link, until there is one.

        :param operator: The task: on Airflow 3 the running one, on Airflow 2 its serialized form.
        :param ti_key: The task instance.
        """
        # Airflow 3 asks on the worker after every segment: reading XCom before the end would log an error there.
        url = getattr(operator, "video_url", None)
        if url is not None:
            return str(url)
        try:
            record: Any = XCom.get_value(key=XCOM_RECORD_KEY, ti_key=ti_key)
            return str(record["outputs"][0]["url"])
        except Exception:  # noqa: BLE001 - whatever is stored or missing, a page without the link beats an error page
            return ""
