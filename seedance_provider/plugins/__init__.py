"""What Airflow's API server serves of this provider, by the entry point ``airflow.plugins``.

Airflow imports this module in every process, tasks included: it imports next to nothing, and what serves requests is
imported with the first of them. Without ``[seedance] callback_base_url``, and before Airflow 3.1, nothing is served.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider import defaults


async def receive_callbacks(scope: Any, receive: Any, send: Any) -> None:
    """The callback receiver, an ASGI app: it has no documentation and no OpenAPI pages to be switched off."""
    from seedance_provider.plugins.callbacks import receiver

    await receiver(scope, receive, send)


def _is_configured() -> bool:
    # A value that cannot be used is named where it is needed, by the task: here it would cost the other plugins.
    return bool((conf.get(defaults.CONFIG_SECTION, "callback_base_url", fallback=None) or "").strip())


class SeedancePlugin(AirflowPlugin):
    """The callback receiver."""

    name = "seedance"
    fastapi_apps = (
        [{"name": "Seedance callbacks", "url_prefix": defaults.CALLBACK_PATH, "app": receive_callbacks}]
        if AIRFLOW_V_3_1_PLUS and _is_configured()
        else []
    )
