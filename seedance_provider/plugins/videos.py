"""What the pages ask for: the task instances of a run, what they left behind, and the runs that have videos.

Airflow's REST API tells of a hundred task instances at a time, with more than a gallery shows, and of XComs one value
at a time: of a thousand videos twenty readers would have to wait for seconds. Here the readers of a gallery share one
answer, and the page of a video reads all XComs of its task instance at once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Query, Response
from sqlalchemy import exists, func, or_, select

from seedance_provider import defaults
from seedance_provider.api.records import load_json
from seedance_provider.execution.results import XCOM_ERROR_KEY, XCOM_FILES_KEY
from seedance_provider.execution.submit import XCOM_INPUTS_KEY, XCOM_TASK_ID_KEY
from seedance_provider.links.seedance import XCOM_RECORD_KEY
from seedance_provider.plugins.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter()

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif"})
_SHOWN_FIELDS = ("inputs", "model", "seedance_task_id", "urls")
"""What a tile tells of a task's rendered fields, and what tells a task that makes from one that waits or stores."""
_PROMPT = 4096
"""Characters of a prompt; Airflow cuts rendered fields there by default."""
_TEXT = 500
"""Characters of a reason: a tile shows fewer, and the page of the video has all."""


@router.get(
    "/tasks/{dag_id}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.TASK_INSTANCE))],
)
async def tasks(
    dag_id: str, run_id: Annotated[str, Query(max_length=250)], offset: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Tell of the task instances of a run that have to do with videos, named as Airflow's REST API names their fields.

    :param dag_id: Whose task instances the reader must be allowed to read.
    :param run_id: The run.
    :param offset: How many to leave out.
    """
    answer = await _tasks(dag_id, run_id, offset)
    if answer is None:
        raise HTTPException(404, "There is no such DAG run")
    return Response(answer, media_type="application/json")


@router.get(
    "/records/{dag_id}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
async def records(dag_id: str, run_id: Annotated[str, Query(max_length=250)]) -> Response:
    """Tell what the task instances of a run left behind of their videos.

    :param dag_id: Whose XComs the reader must be allowed to read.
    :param run_id: The run.
    """
    return Response(await _records(dag_id, run_id), media_type="application/json")


@router.get(
    "/xcoms/{dag_id}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
async def xcoms(
    dag_id: str,
    run_id: Annotated[str, Query(max_length=250)],
    task_id: Annotated[str, Query(max_length=250)],
    map_index: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """Tell what a task instance left behind of its video, and which other task instances may know of the same video.

    :param dag_id: Whose XComs the reader must be allowed to read.
    :param run_id: The run.
    :param task_id: The task, of which all values are told.
    :param map_index: Its map index. Of the other tasks with this map index or none the names are told.
    """
    answer = await to_thread.run_sync(_read_xcoms, dag_id, run_id, task_id, map_index)
    return Response(answer, media_type="application/json")


@router.get(
    "/runs",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.TASK_INSTANCE))],
)
async def runs(user: Annotated[Any, Depends(get_user)]) -> Response:
    """Tell which of the newest runs have videos, of the DAGs that the reader may read."""
    return Response(await _runs(await readable_dags(user)), media_type="application/json")


async def readable_dags(user: Any) -> frozenset[str]:
    """The DAGs that a reader may read."""
    return frozenset(
        await to_thread.run_sync(lambda: get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))
    )


def _has_video(*same_run: Any) -> Any:
    """Whether a task instance has to do with a video. A class derived from an operator has a name of its own."""
    has_id = exists().where(
        *same_run,
        XComModel.task_id == TaskInstance.task_id,
        XComModel.map_index == TaskInstance.map_index,
        XComModel.key == XCOM_TASK_ID_KEY,
    )
    return or_(TaskInstance.operator.in_(list(defaults.OPERATORS_WITH_VIDEO)), has_id)


def _read_tasks(dag_id: str, run_id: str, offset: int) -> bytes | None:
    wanted = (
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id == run_id,
        _has_video(XComModel.dag_id == dag_id, XComModel.run_id == run_id),
    )
    columns = {
        "id": TaskInstance.id,
        "task_id": TaskInstance.task_id,
        "map_index": TaskInstance.map_index,
        "state": TaskInstance.state,
        "operator": TaskInstance.operator,
        "start_date": TaskInstance.start_date,
        "rendered_map_index": TaskInstance.__table__.c.rendered_map_index,
        "rendered_fields": RenderedTaskInstanceFields.rendered_fields,
    }
    query = (
        select(*columns.values())
        .outerjoin(TaskInstance.rendered_task_instance_fields)
        .where(*wanted)
        .order_by(TaskInstance.map_index, TaskInstance.task_id)
        .limit(defaults.TASKS_AT_ONCE)
        .offset(offset)
    )
    with create_session() as session:
        total = session.scalar(select(func.count()).select_from(TaskInstance).where(*wanted))
        is_run = total or session.scalar(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        rows = [dict(zip(columns, row, strict=True)) for row in session.execute(query)]
    if not is_run:
        return None
    for row in rows:
        fields = row["rendered_fields"] or {}
        row["rendered_fields"] = {name: fields[name] for name in _SHOWN_FIELDS if name in fields}
        row |= {
            "dag_id": dag_id,
            "dag_run_id": run_id,
            "start_date": row["start_date"] and row["start_date"].isoformat(),
        }
    return json.dumps({"task_instances": rows, "total_entries": total}, default=str).encode()


def _read_records(dag_id: str, run_id: str) -> bytes:
    found: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
    is_whole = True
    with create_session() as session:
        for key, read in _READERS.items():
            query = (
                # Whole rows come with their DAG run each, which takes most of the time.
                select(XComModel.task_id, XComModel.map_index, XComModel.value)
                .where(XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == key)
                .limit(defaults.RECORDS_OF_RUN)
            )
            rows = session.execute(query).all()
            is_whole = is_whole and len(rows) < defaults.RECORDS_OF_RUN
            for task_id, map_index, value in rows:
                found[task_id, map_index] |= read(_value(value))
    answer = [{"task_id": task_id, "map_index": index, **facts} for (task_id, index), facts in found.items()]
    return _json({"records": answer, "is_whole": is_whole})


def _read_xcoms(dag_id: str, run_id: str, task_id: str, map_index: int) -> bytes:
    wanted = (XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key.in_(_READERS))
    own = select(XComModel.key, XComModel.timestamp, XComModel.value).where(
        *wanted, XComModel.task_id == task_id, XComModel.map_index == map_index
    )
    others = (
        select(XComModel.task_id, XComModel.map_index, XComModel.key)
        .where(*wanted, XComModel.task_id != task_id, XComModel.map_index.in_({map_index, -1}))
        .order_by(XComModel.map_index.desc(), XComModel.task_id)
        .limit(defaults.RECORDS_OF_RUN)
    )
    with create_session() as session:
        values = {
            key: {"value": _value(value), "timestamp": timestamp.isoformat()}
            for key, timestamp, value in session.execute(own)
        }
        names = [dict(zip(("task_id", "map_index", "key"), row, strict=True)) for row in session.execute(others)]
    return _json({"own": values, "others": names})


def _json(answer: Mapping[str, Any]) -> bytes:
    """Write an answer. An XCom may have a NaN, which no browser reads."""
    try:
        return json.dumps(answer, allow_nan=False).encode()
    except ValueError:
        return json.dumps(json.loads(json.dumps(answer), parse_constant=lambda _: None)).encode()


def _value(stored: Any) -> Any:
    """Read what the database has: JSON text, or for a string also the string itself, as versions of Airflow differ.

    An XCom can be edited, and a backend may keep it elsewhere: what has no form of ours is left out by who reads it.
    """
    return load_json(stored) if isinstance(stored, str) and stored[:1] in ("{", "[", '"') else stored


def _of_id(value: Any) -> dict[str, Any]:
    return {"id": value} if isinstance(value, str) else {}


def _of_inputs(inputs: Any) -> dict[str, Any]:
    """What the function of a decorated task wrote, which is in no rendered field."""
    prompt = inputs.get("prompt") if isinstance(inputs, Mapping) else None
    return {"prompt": prompt[:_PROMPT]} if isinstance(prompt, str) else {}


def _of_record(record: Any) -> dict[str, Any]:
    if not isinstance(record, Mapping):
        return {}
    outputs = record.get("outputs")
    outputs = [output for output in outputs if isinstance(output, Mapping)] if isinstance(outputs, list) else []
    first = outputs[0] if outputs else {}
    failure = record.get("failure")
    facts = {
        "id": record.get("seedance_task_id"),
        "status": record.get("status"),
        "credits": record.get("credits_used"),
        "created": record.get("create_time"),
        "completed": record.get("complete_time"),
        "outputs": len(outputs),
        "url": first.get("url"),
        "last_frame": first.get("last_frame_image"),
        "width": first.get("width"),
        "height": first.get("height"),
        "reason": _short(failure.get("message")) if isinstance(failure, Mapping) else None,
    }
    return {name: value for name, value in facts.items() if isinstance(value, (str, int, float))}


def _of_error(error: Any) -> dict[str, Any]:
    if not isinstance(error, Mapping):
        return {}
    facts = {
        "id": error.get("seedance_task_id"),
        "reason": _short(error.get("message")),
        "error": error.get("type"),
        "charged": error.get("charged"),
    }
    return {name: value for name, value in facts.items() if isinstance(value, str)}


def _of_files(files: Any) -> dict[str, Any]:
    """Which of the stored files is the first output, and which one a picture to stand for it."""
    if not isinstance(files, list):
        return {}
    paths = [file.get("path") if isinstance(file, Mapping) else None for file in files]
    kinds = [PurePosixPath(path).suffix.lower() if isinstance(path, str) else "" for path in paths]
    pictures = [index for index, kind in enumerate(kinds) if kind in _PICTURES]
    others = [index for index, kind in enumerate(kinds) if kind and kind not in _PICTURES]
    facts = {"stored": [*others, *pictures], "stored_picture": pictures}
    return {name: indexes[0] for name, indexes in facts.items() if indexes}


def _short(text: Any) -> str | None:
    return text[:_TEXT] if isinstance(text, str) else None


# In this order: what an error says goes before what the record says.
_READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    XCOM_TASK_ID_KEY: _of_id,
    XCOM_INPUTS_KEY: _of_inputs,
    XCOM_RECORD_KEY: _of_record,
    XCOM_ERROR_KEY: _of_error,
    XCOM_FILES_KEY: _of_files,
}


def _read_runs(dag_ids: frozenset[str]) -> bytes:
    newest = select(DagRun.id, DagRun.dag_id, DagRun.run_id, DagRun.run_after, DagRun.state)
    newest = newest.where(DagRun.dag_id.in_(dag_ids)).order_by(DagRun.run_after.desc()).limit(defaults.RUNS_LISTED)
    run = newest.subquery()
    query = (
        select(run.c.dag_id, run.c.run_id, run.c.run_after, run.c.state, TaskInstance.state, func.count())
        .join(TaskInstance, (TaskInstance.dag_id == run.c.dag_id) & (TaskInstance.run_id == run.c.run_id))
        .where(_has_video(XComModel.dag_run_id == run.c.id))
        .group_by(run.c.dag_id, run.c.run_id, run.c.run_after, run.c.state, TaskInstance.state)
    )
    found: dict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    with create_session() as session:
        for dag_id, run_id, run_after, run_state, state, count in session.execute(query):
            found[dag_id, run_id, run_after, run_state][str(state or "no_status")] = count
    answer = [
        {"dag_id": dag_id, "run_id": run_id, "run_after": run_after.isoformat(), "state": state, "tasks": states}
        for (dag_id, run_id, run_after, state), states in sorted(found.items(), key=_run_after, reverse=True)
    ]
    return json.dumps({"runs": answer, "looked_through": defaults.RUNS_LISTED}).encode()


def _run_after(item: Any) -> Any:
    return item[0][2]


_tasks = Shared(_read_tasks, defaults.ANSWER_SECONDS)
_records = Shared(_read_records, defaults.ANSWER_SECONDS)
_runs = Shared(_read_runs, defaults.ANSWER_SECONDS)
