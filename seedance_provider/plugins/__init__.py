"""What Airflow's API server serves of this provider, by the entry point ``airflow.plugins``.

Airflow imports this module in every process, tasks included: it imports next to nothing, and what serves requests is
imported with the first of them. Before Airflow 3.1 nothing is served; the callback receiver only with ``[seedance]
callback_base_url``, the page of spending only with ``[seedance] ledger_path``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, get_base_airflow_version_tuple

from seedance_provider import defaults
from seedance_provider.links.page import SeedanceVideoPageLink

_TASK_INSTANCE = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"


async def receive_callbacks(scope: Any, receive: Any, send: Any) -> None:
    """The callback receiver, an ASGI app: it has no documentation and no OpenAPI pages to be switched off."""
    from seedance_provider.plugins.callbacks import receiver

    await receiver(scope, receive, send)


async def serve_pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages, an ASGI app."""
    from seedance_provider.plugins.pages import pages

    await pages(scope, receive, send)


def _is_set(option: str) -> bool:
    # A value that cannot be used is named where it is needed, by the task: here it would cost the other plugins.
    return bool((conf.get(defaults.CONFIG_SECTION, option, fallback=None) or "").strip())


def _has_tabs() -> bool:
    value = conf.get(defaults.CONFIG_SECTION, "video_tab", fallback=None) or ""
    return value.strip().lower() in ("true", "t", "1", "yes", "on")


def _apps() -> list[dict[str, Any]]:
    apps = [{"name": "Seedance pages", "url_prefix": defaults.PAGES_PATH, "app": serve_pages}]
    if _is_set("callback_base_url"):
        apps.append({"name": "Seedance callbacks", "url_prefix": defaults.CALLBACK_PATH, "app": receive_callbacks})
    return apps


def _view(name: str, page: str, destination: str, url_route: str, **more: Any) -> dict[str, Any]:
    # Without a slash at its beginning an address is below that of the API server, whatever its path.
    href = f"{defaults.PAGES_PATH.removeprefix('/')}/{page}"
    icon = f"{defaults.PAGES_PATH.removeprefix('/')}/icon.svg"
    return {"name": name, "href": href, "destination": destination, "url_route": url_route, "icon": icon, **more}


def _views() -> list[dict[str, Any]]:
    """Entries of the Browse menu and tabs. An address of the UI names the route, so that each has its own."""
    views = [_view("Videos", "gallery", "nav", defaults.VIDEOS_ROUTE, category="browse")]
    if _is_set("ledger_path"):
        views.append(_view("Spending on videos", "spending", "nav", "seedance-spending", category="browse"))
    video = _view("Video", f"video?{_TASK_INSTANCE}", "task_instance", "seedance-video")
    if get_base_airflow_version_tuple() >= (3, 4, 0):
        # What every class has that is derived from an operator of ours, and no operator of others.
        views.append(video | {"applies_to": {"task.template_fields": ["seedance_conn_id"]}})
    elif _has_tabs():  # on every task of every DAG
        views.append(video)
    if _has_tabs():
        views.append(_view("Videos", "gallery?dag_id={DAG_ID}&run_id={RUN_ID}", "dag_run", "seedance-run-videos"))
        views.append(_view("Videos", "gallery?dag_id={DAG_ID}", "dag", "seedance-dag-videos"))
    return views


class SeedancePlugin(AirflowPlugin):
    """The pages, the links to them, and the callback receiver."""

    name = "seedance"
    fastapi_apps = _apps() if AIRFLOW_V_3_1_PLUS else []
    external_views = _views() if AIRFLOW_V_3_1_PLUS else []
    # Made by the API server when somebody looks at a task: a link of an operator's own costs each task a request.
    operator_extra_links = [SeedanceVideoPageLink()] if AIRFLOW_V_3_1_PLUS else []
