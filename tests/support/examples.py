"""Running an example DAG as it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tests.conftest import EXAMPLES, ROOT

OURS = (str(EXAMPLES), str(ROOT / "seedance_provider"))


class Run:
    """A finished DAG run."""

    def __init__(self, dag_run: Any) -> None:
        self.run_id = str(dag_run.run_id)
        self.state = str(dag_run.state)
        self._instances = {(ti.task_id, ti.map_index): ti for ti in dag_run.get_task_instances()}

    @property
    def states(self) -> dict[str, str]:
        """The state of each task; of a mapped one by ``task_id[map_index]``."""
        return {
            task_id if map_index < 0 else f"{task_id}[{map_index}]": str(ti.state)
            for (task_id, map_index), ti in self._instances.items()
        }

    def instance(self, task_id: str, map_index: int = -1) -> Any:
        return self._instances[task_id, map_index]

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        return self.instance(task_id, map_index).xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)


def load_examples(folder: Path = EXAMPLES) -> Any:
    """A fresh DagBag of the examples, so that a test may change a DAG."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2.11
        from airflow.models.dagbag import DagBag
    return DagBag(str(folder))


def run_example(dag: Any, conf: dict[str, Any] | None = None, **options: Any) -> Run:
    """Run it to its end by ``dag.test()``; warnings that come from our files are errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dag_run = dag.test(run_conf=conf, **options)
    assert [str(warning.message) for warning in caught if warning.filename.startswith(OURS)] == []
    return Run(dag_run)
