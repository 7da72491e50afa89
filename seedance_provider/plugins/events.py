"""Asset events that the API server registers: once for each video, however often its callback comes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select, update

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from seedance_provider.execution.stores import Owner

log = logging.getLogger(__name__)

_TAKES_CALLBACKS = "callback_sink" in inspect.signature(asset_manager.register_asset_change).parameters
"""Airflow 3.3 and later tell listeners of committed events only."""


def is_registered(owner: Owner, asset: tuple[str, str], seedance_task_id: str) -> bool:
    """Whether the event of a video is registered.

    :param owner: The task instance that wanted it.
    :param asset: Name and URI of the asset.
    :param seedance_task_id: The video's task.
    """
    with create_session() as session:
        return _is_registered(session, owner, asset, seedance_task_id)


def _is_registered(session: Session, owner: Owner, asset: tuple[str, str], seedance_task_id: str) -> bool:
    events = session.scalars(
        select(AssetEvent)
        .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        .where(
            AssetModel.name == asset[0],
            AssetModel.uri == asset[1],
            AssetEvent.source_dag_id == owner.dag_id,
            AssetEvent.source_run_id == owner.run_id,
            AssetEvent.source_task_id == owner.task_id,
            AssetEvent.source_map_index == owner.map_index,
        )
    )
    return any((event.extra or {}).get("seedance_task_id") == seedance_task_id for event in events)


def register(owner: Owner, asset: tuple[str, str], extra: dict[str, Any]) -> None:
    """Register the event of a finished video, unless that was done.

    :param owner: The task instance that wanted it.
    :param asset: Name and URI of the asset.
    :param extra: What the event says; of the same ``seedance_task_id`` there is one.
    """
    task = extra["seedance_task_id"]
    tell: list[Callable[[], None]] = []
    with create_session() as session:
        this = (
            TaskInstance.dag_id == owner.dag_id,
            TaskInstance.run_id == owner.run_id,
            TaskInstance.task_id == owner.task_id,
            TaskInstance.map_index == owner.map_index,
        )
        # An update that changes nothing locks the row in every database, SQLite too: others wait here for our commit.
        unchanged = update(TaskInstance).where(*this).values(updated_at=TaskInstance.updated_at)
        session.execute(unchanged, execution_options={"synchronize_session": False})
        ti = session.scalar(select(TaskInstance).where(*this))
        if ti is None:
            log.warning("No event for task %s: its task instance is deleted", task)
            return
        if _is_registered(session, owner, asset, task):
            return
        model = session.scalar(select(AssetModel).where(AssetModel.name == asset[0], AssetModel.uri == asset[1]))
        if model is None:  # no DAG names it; the event can be seen all the same
            model = AssetModel(name=asset[0], uri=asset[1])
            session.add(model)
            session.flush()
        options: dict[str, Any] = {"callback_sink": tell} if _TAKES_CALLBACKS else {}
        asset_manager.register_asset_change(task_instance=ti, asset=model, extra=extra, session=session, **options)
    for each in tell:
        each()
    log.info("Task %s is done: registered an event of %r", task, asset[0])
