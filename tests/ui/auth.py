"""An auth manager whose reader may not read one DAG; the rest is Airflow's simple one."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN_DAG = "ui_hidden"


class ReaderOfSome(SimpleAuthManager):
    def is_authorized_dag(self, *, details: Any = None, **rest: Any) -> bool:
        if details is not None and details.id == HIDDEN_DAG:
            return False
        return super().is_authorized_dag(details=details, **rest)
