"""The link to the page of a video, which the API server makes; the plugin registers it for the operators by name.

Airflow compares names exactly, so a class that somebody derives from an operator brings the link itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider import defaults

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


def base_path() -> str:
    """The path of Airflow's UI, without a slash at its end: that of ``[api] base_url``."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


class SeedanceVideoPageLink(BaseOperatorLink):
    """Opens the page of a task instance's video within Airflow's frame; there from the start, also for mapped tasks."""

    name = "Video page"
    # Airflow compares names only, and importing the operators would cost every process that loads plugins.
    operators: ClassVar[list[Any]] = [
        type(name, (), {"__module__": module}) for name, module in defaults.OPERATORS_WITH_VIDEO.items()
    ]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the path of the page.

        :param operator: The task, in its serialized form.
        :param ti_key: The task instance.
        """
        key = {name: getattr(ti_key, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        page = f"{base_path()}{defaults.PAGES_PATH}/video"
        # Airflow 3.3 and later show in the frame what follows the route; the pages see to it on 3.1 and 3.2.
        return f"{base_path()}/plugin/{defaults.VIDEOS_ROUTE}{page}?{urlencode(key)}"


class HasVideoPage:
    """A base of the operators: whoever derives a class from one has the link, too.

    Such a link is made on the worker, at the end of each of a task's segments, and read from XCom by the API server.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        links = getattr(cls, "operator_extra_links", ())
        is_ours = cls.__module__ in defaults.OPERATORS_WITH_VIDEO.values()
        if not AIRFLOW_V_3_1_PLUS or is_ours or isinstance(links, property):
            return
        others = [link for link in links if link.name != SeedanceVideoPageLink.name]
        cls.operator_extra_links = (*others, SeedanceVideoPageLink())  # type: ignore[attr-defined]
