"""Readers of the pages, known to Airflow's own authentication, and XComs as somebody may have edited them."""

from __future__ import annotations

import json
from typing import Any

import requests
from sqlalchemy import select


def reader(role: str | None = "ADMIN") -> requests.Session:
    """A browser of somebody who is signed in.

    :param role: What Airflow's simple auth manager knows of them: ``ADMIN``, ``VIEWER``; None: nothing is allowed.
    """
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    manager = create_auth_manager()
    session = requests.Session()
    session.trust_env = False
    token = manager.generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
    session.cookies.set(COOKIE_NAME_JWT_TOKEN, token)
    return session


def replace_xcom(dag_id: str, task_id: str, key: str, value: Any) -> None:
    """Edit an XCom, as the UI can."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    value = json.loads(json.dumps(value))
    with create_session() as session:
        of_task = XComModel.dag_id == dag_id, XComModel.task_id == task_id
        (run_id,) = session.scalars(select(XComModel.run_id).where(*of_task, XComModel.key == key))
        XComModel.set(key=key, value=value, dag_id=dag_id, task_id=task_id, run_id=run_id, session=session)
