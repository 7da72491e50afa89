"""Extra links of the task instance page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider import defaults
from seedance_provider.links.page import base_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

XCOM_RECORD_KEY = "seedance_task"
"""The XCom key that holds a finished task's normalised record."""


class SeedanceVideoLink(BaseOperatorLink):
    """Opens the first output of the finished task: its copy in object storage, else the vendor's file."""

    name = "Video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; an empty string, which hides the link, until there is one.

        :param operator: The task: on Airflow 3 the running one, on Airflow 2 its serialized form.
        :param ti_key: The task instance.
        """
        # Airflow 3 asks on the worker after every segment: reading XCom before the end would log an error there.
        url = getattr(operator, "video_url", None)
        if url is not None:
            path = getattr(operator, "stored_at", None) or ""
            return _stored_url(ti_key) if AIRFLOW_V_3_1_PLUS and _is_shared(path) else str(url)
        try:
            record: Any = XCom.get_value(key=XCOM_RECORD_KEY, ti_key=ti_key)
            return str(record["outputs"][0]["url"])
        except Exception:  # noqa: BLE001 - whatever is stored or missing, a page without the link beats an error page
            return ""


def _is_shared(path: str) -> bool:
    """Whether the API server has a file of a worker's: of a local path that is not known."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme not in ("file", "local", "memory")


def _stored_url(ti_key: TaskInstanceKey) -> str:
    key = {name: getattr(ti_key, name) for name in ("run_id", "task_id", "map_index")}
    return f"{base_path()}{defaults.PAGES_PATH}/stored/{quote(ti_key.dag_id, safe='')}?{urlencode(key)}"
