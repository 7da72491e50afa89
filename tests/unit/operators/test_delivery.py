"""Delivered is what Airflow has taken for a success, not what `execute` returned: a clear before that pays nothing."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.support.airflow import DagOutcome, hurry, run_dag
from tests.unit.operators.test_generate_video import CLEAR, GENERATE, with_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seedance_provider.testing import Emulator

FAILING_ONCE = textwrap.dedent("""
    def failing(name):
        # As an XCom backend that fails on the return value, or whatever else comes after execute.
        from pathlib import Path
        flag = Path({folder!r}) / name
        def fail(context, result=None):
            if not flag.exists():
                flag.touch()
                raise RuntimeError("after execute")
        return fail
""")


@pytest.fixture
def run(airflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], DagOutcome]:
    hurry(monkeypatch)
    return lambda tasks: run_dag(tmp_path, GENERATE + FAILING_ONCE.format(folder=str(tmp_path)) + tasks)


@with_store
@pytest.mark.parametrize(
    "task",
    [
        'video = generate(retries=0, post_execute=failing("generate"))',
        'video = generate(retries=0, post_execute=failing("worker"), deferrable=False)',
        'video = SeedanceCreateTaskOperator(task_id="video", inputs={"prompt": "fox"}, post_execute=failing("create"))',
    ],
    ids=["generate", "generate on the worker", "create"],
)
def test_a_clear_of_what_failed_after_its_id_was_stored_returns_the_same_video(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, task: str
) -> None:
    done = run(f"{task}\n{CLEAR}")["video"]
    assert (done.state, done.try_number) == ("success", 2)
    assert seedance_emulator.bill()["tasks_created"] == 1
    assert done.xcoms["seedance_task_id"] == seedance_emulator.bill()["tasks"][0]["taskId"]


@with_store
def test_the_callbacks_of_the_dag_author_run_beside_ours(
    run: Callable[[str], DagOutcome], seedance_emulator: Emulator, tmp_path: Path
) -> None:
    done = run(
        textwrap.dedent(f"""
        from pathlib import Path
        first, second = (Path({str(tmp_path)!r}) / name for name in ("one", "two"))
        video = generate(on_success_callback=lambda context: first.touch())
        other = generate("other", on_success_callback=[lambda context: second.touch()])
        """)
        + CLEAR
    )
    assert (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()
    assert done["video"].try_number == 2
    assert seedance_emulator.bill()["tasks_created"] == 3, "a clear of a success makes a new video"


@with_store
def test_a_mapped_success_is_delivered_too(run: Callable[[str], DagOutcome], seedance_emulator: Emulator) -> None:
    run(
        textwrap.dedent("""
        video = SeedanceGenerateVideoOperator.partial(task_id="video", poll_interval=0.1).expand(
            inputs=[{"prompt": "a fox", "outputResolution": "720p"}]
        )
        """)
        + CLEAR
    )
    assert seedance_emulator.bill()["tasks_created"] == 2
