"""The command line: against a real emulator, a real ledger on disk, and Airflow's own parser."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow
import pytest
from packaging.version import Version

from seedance_provider.api.pricing import CreditEstimate
from seedance_provider.cli.definition import COMMANDS, make_parser
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Receipt
from seedance_provider.execution.stores import Facts
from seedance_provider.hooks.seedance import SeedanceHook
from tests.support.airflow import run_dag
from tests.support.imports import PACKAGE, imports

if TYPE_CHECKING:
    from seedance_provider.testing import Emulator

GOOD = {"prompt": "A fox", "duration": 5, "outputResolution": "720p"}
NAMES = [command.name for command in COMMANDS.subcommands]
needs_ledger = pytest.mark.parametrize(
    "arguments",
    [("spend",), ("orphans",), ("adopt", "task_1", "--key", "key"), ("forget", "key"), ("prune",)],
    ids=lambda arguments: arguments[0],
)


@dataclass
class Result:
    """What a command did."""

    code: Any
    out: str
    err: str

    @property
    def answer(self) -> Any:
        return json.loads(self.out)

    @property
    def cells(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; no API key may be in what it prints."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")

    def run(*arguments: str) -> Result:
        parsed = make_parser().parse_args(arguments)
        code: Any = 0
        capfd.readouterr()
        try:
            parsed.func(parsed)
        except SystemExit as ending:
            code = ending.code
        captured = capfd.readouterr()
        assert "emulator-key" not in captured.out + captured.err + str(code)
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[[Any], str]:
    def write(content: Any) -> str:
        path = tmp_path / "requests.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


File = Callable[[Any], str]


# check.


@pytest.mark.parametrize(
    "content", [GOOD, {"inputs": GOOD}, {"model": "seedance-20", "inputs": GOOD}, [GOOD, {"inputs": GOOD}], []]
)
def test_good_inputs_pass_in_every_form(run: Run, file: File, content: Any) -> None:
    assert run("check", file(content)).code == 0


def test_a_problem_ends_in_exit_code_1_and_names_request_and_field(run: Run, file: File) -> None:
    result = run("check", file([GOOD, GOOD | {"colour": "[/red]"}]))
    assert result.code == 1
    (line,) = (line for line in result.out.splitlines() if "colour" in line)
    assert line.split()[:2] == ["2", "seedance-20"]
    assert "[/red]" in line


def test_check_as_json_has_problems_and_warnings_of_each_request(run: Run, file: File) -> None:
    result = run("check", "-o", "json", file([GOOD | {"duration": 99}, {"model": "new-1", "inputs": GOOD}]))
    assert result.code == 1
    bad, unknown = result.answer
    assert [problem["path"] for problem in bad["problems"]] == ["duration"]
    assert (unknown["problems"], len(unknown["warnings"])) == ([], 1)


def test_what_a_template_will_render_to_is_not_judged(run: Run, file: File) -> None:
    assert run("check", file(GOOD | {"duration": "{{ params.seconds }}"})).code == 0


def test_local_media_is_a_problem_unless_it_will_be_uploaded(run: Run, file: File) -> None:
    path = file(GOOD | {"imageUrls": ["s3://bucket/fox.png"]})
    assert run("check", path).code == 1
    assert run("check", "--upload-media", path).code == 0


def test_the_model_of_inputs_that_name_none_can_be_given(run: Run, file: File) -> None:
    assert run("check", "-o", "json", "--model", "seedance-25", file(GOOD)).answer[0]["model"] == "seedance-25"


def test_requests_are_read_from_standard_input_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(GOOD | {"duration": 99})))
    assert run("check", "-").code == 1


@pytest.mark.parametrize("command", ["check", "estimate"])
@pytest.mark.parametrize("content", ["", "{", "[" * 100_000])
def test_a_file_that_is_no_json_is_named(run: Run, file: File, command: str, content: str) -> None:
    assert "requests.json" in run(command, file(content)).code


@pytest.mark.parametrize("content", ["text", 5, None, {"inputs": 5}, {"inputs": GOOD, "model": []}])
def test_other_json_is_a_problem_without_a_price(run: Run, file: File, content: Any) -> None:
    assert run("check", file(json.dumps(content))).code == 1
    assert run("estimate", "-o", "json", file(json.dumps(content))).answer["total"]["unknown"] == 1


@pytest.mark.parametrize("command", ["check", "estimate"])
def test_a_file_that_is_not_there_is_named(run: Run, command: str) -> None:
    assert "/no/such/file" in run(command, "/no/such/file").code


# estimate.


def test_an_estimate_has_each_request_and_the_total(run: Run, file: File) -> None:
    result = run("estimate", file([GOOD, GOOD | {"duration": 10}, {"model": "new-1", "inputs": GOOD}]))
    assert result.code == 0
    assert result.cells[1][:4] == ["1", "seedance-20", "200", "200"]
    assert result.cells[2][:4] == ["2", "seedance-20", "400", "400"]
    assert result.cells[4] == ["total", "600", "600"]
    assert result.out.splitlines()[-1].endswith("1")


def test_an_estimate_as_json_has_numbers(run: Run, file: File) -> None:
    answer = run("estimate", "-o", "json", file([GOOD, {"model": "new-1", "inputs": GOOD}])).answer
    assert answer["total"] == {"requests": 2, "low": 200, "high": 200, "unknown": 1}
    assert [each["high"] for each in answer["requests"]] == [200, None]


def test_an_estimate_goes_by_the_configured_price_list(
    run: Run, file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"seedance-20": {"720p": 30.5}}')
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", str(prices))
    assert run("estimate", "-o", "json", file(GOOD)).answer["total"]["high"] == 152.5


# task and wait.


def test_a_task_is_shown_with_its_outputs(run: Run, seedance_emulator: Emulator) -> None:
    seedance_task_id = SeedanceHook().create_task("seedance-20", GOOD)
    assert run("wait", seedance_task_id, "--poll-interval", "0.1").code == 0
    result = run("task", seedance_task_id)
    assert result.code == 0
    assert ["id", seedance_task_id] in result.cells
    assert ["status", "success"] in result.cells
    assert ["credits", "200"] in result.cells
    assert next(cells[1] for cells in result.cells if cells[0] == "output").startswith(seedance_emulator.url)


def test_a_failed_task_ends_a_wait_in_exit_code_1_and_is_shown_all_the_same(
    run: Run, seedance_emulator: Emulator
) -> None:
    seedance_task_id = SeedanceHook().create_task("seedance-20", GOOD | {"prompt": "A fox [[fail:2038]]"})
    waited = run("wait", seedance_task_id, "--poll-interval", "0.1")
    assert "2038" in waited.code
    assert seedance_task_id in waited.code
    shown = run("task", seedance_task_id)
    assert shown.code == 0
    assert ["code", "2038"] in shown.cells


@pytest.mark.seedance_emulator(generating_seconds=60)
def test_a_wait_ends_at_its_timeout(run: Run, seedance_emulator: Emulator) -> None:
    seedance_task_id = SeedanceHook().create_task("seedance-20", GOOD)
    started = time.monotonic()
    result = run("wait", seedance_task_id, "--timeout", "1", "--poll-interval", "0.2")
    assert seedance_task_id in result.code
    assert time.monotonic() - started < 10


def test_an_unknown_task_and_an_unknown_connection_are_named(run: Run, seedance_emulator: Emulator) -> None:
    assert "task_none" in run("task", "task_none").code
    assert "no_such_connection" in run("task", "task_none", "--conn-id", "no_such_connection").code


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e99", "soon"])
def test_a_duration_must_be_a_positive_number(run: Run, seconds: str) -> None:
    with pytest.raises(SystemExit) as ending:
        make_parser().parse_args(["wait", "task_1", "--timeout", seconds])
    assert ending.value.code == 2


# The ledger.


@needs_ledger
def test_without_a_ledger_the_option_is_named(run: Run, arguments: tuple[str, ...]) -> None:
    assert "ledger_path" in run(*arguments).code


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__SEEDANCE__LEDGER_PATH", f"file://{tmp_path}/ledger")
    return tmp_path / "ledger"


def remember(seedance_task_id: str | None, dag_id: str = "lost", map_index: int = -1, **facts: Any) -> None:
    """What a task instance leaves behind that died after its createTask; without an id, before the answer."""
    ti = SimpleNamespace(dag_id=dag_id, run_id="nightly", task_id="video", map_index=map_index, try_number=1)
    known = {"model": "seedance-20", "conn_id": "seedance_default"} | facts
    receipts = Receipts.of({"ti": ti}, durable=True, facts=Facts(**known))  # type: ignore[typeddict-item]
    receipts.find()
    receipts.begin()
    wanted = Receipt("f" * 64, max_tries=0, try_number=1, unknown=1)
    receipts.save(wanted)
    if seedance_task_id is not None:
        receipts.save(wanted.submitted(seedance_task_id, time.time()))


def test_an_empty_ledger_has_nothing_to_tell(run: Run, ledger: Path) -> None:
    assert run("spend", "-o", "json").answer["total"] == {"videos": 0, "credits": 0, "estimated": 0}
    assert run("orphans", "-o", "json").answer == []
    assert run("orphans").code == 0
    assert run("prune", "-o", "json").answer == {"deleted": 0}


TASKS = """
for number in (1, 2):
    SeedanceCreateTaskOperator(task_id=f"create_{number}", inputs={"prompt": f"fox {number}", "duration": 5})
"""


def test_spend_tells_what_a_dag_run_has_spent(
    run: Run, ledger: Path, airflow_database: Path, tmp_path: Path, seedance_emulator: Emulator
) -> None:
    outcome = run_dag(tmp_path, TASKS)
    answers = {by: run("spend", "--by", by, "-o", "json").answer for by in ("dag", "model", "day")}
    assert all(answer["total"]["videos"] == 2 for answer in answers.values())
    assert all(answer["total"]["credits"] == seedance_emulator.bill()["credits_charged"] for answer in answers.values())
    assert [group["group"] for group in answers["dag"]["groups"]] == [outcome.dag_id]
    assert [group["group"] for group in answers["model"]["groups"]] == ["seedance-20"]
    assert run("spend").cells[-1][:3] == ["total", "2", "400"]


def test_orphans_show_the_present_state_and_the_call_that_collects_each(
    run: Run, ledger: Path, seedance_emulator: Emulator
) -> None:
    seedance_task_id = SeedanceHook().create_task("seedance-20", GOOD)
    remember(seedance_task_id, map_index=3, estimate=CreditEstimate(Decimal(200), Decimal(200), "2026-09"))
    remember("task_elsewhere", dag_id="other", conn_id="second")
    SeedanceHook().wait_for_task(seedance_task_id, poll_interval=0.1)

    gone, lost = sorted(run("orphans", "-o", "json").answer, key=lambda row: row["dag_id"], reverse=True)

    assert (lost["dag_id"], lost["map_index"], lost["record"]) == ("lost", 3, "success")
    assert lost["estimate"]["high"] == 200
    assert lost["collect"] == f"SeedanceTaskSensor(seedance_task_id={seedance_task_id!r})"
    assert gone["record"] not in ("success", "unknown")
    assert gone["collect"] == "SeedanceTaskSensor(seedance_task_id='task_elsewhere', seedance_conn_id='second')"
    table = run("orphans").out
    assert "lost.video[3]" in table
    assert lost["collect"] in table


def test_an_orphan_without_an_id_is_checked_manually(run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedance_provider.defaults.INTENT_SECONDS", -1.0)
    remember(None)
    (row,) = run("orphans", "-o", "json").answer
    assert (row["seedance_task_id"], row["record"]) == (None, "unknown")
    assert row["collect"].endswith(" adopt ID --dag-id lost --run-id nightly --task-id video")


@pytest.mark.parametrize("missing", ["--dag-id", "--run-id", "--task-id"])
def test_adopt_names_what_it_needs_to_know(run: Run, ledger: Path, missing: str) -> None:
    named = {"--dag-id": "lost", "--run-id": "nightly", "--task-id": "video"}
    words = [word for flag, value in named.items() if flag != missing for word in (flag, value)]
    assert missing in run("adopt", "task_1", *words).code


def test_adopt_shows_the_record_of_what_was_adopted(run: Run, ledger: Path, seedance_emulator: Emulator) -> None:
    seedance_task_id = SeedanceHook().create_task("seedance-20", GOOD)
    remember(None, map_index=3)
    words = ["--dag-id", "lost", "--run-id", "nightly", "--task-id", "video", "--map-index"]
    wrong = run("adopt", seedance_task_id, *words, "4")
    assert "lost.video[4]" in wrong.code
    adopted = run("adopt", seedance_task_id, *words, "3", "-o", "json")
    assert (adopted.code, adopted.answer["seedance_task_id"]) == (0, seedance_task_id)
    assert [row["seedance_task_id"] for row in run("orphans", "-o", "json").answer] == [seedance_task_id]


def test_a_key_is_forgotten_once(run: Run, ledger: Path) -> None:
    remember("task_1", key="intro")
    assert run("forget", "intro", "--conn-id", "second").code == 1
    assert run("forget", "intro", "-o", "json").answer["forgotten"] is True
    again = run("forget", "intro", "-o", "json")
    assert (again.code, again.answer["forgotten"]) == (1, False)


def test_prune_keeps_what_was_not_delivered(run: Run, ledger: Path) -> None:
    remember("task_1")
    assert run("prune", "--days", "0.000001", "-o", "json").answer == {"deleted": 0}
    assert len(run("orphans", "-o", "json").answer) == 1


# As a program, and in Airflow's own command line.


def test_as_a_module_it_prints_nothing_but_json_to_standard_output(seedance_emulator: Emulator) -> None:
    seedance_task_id = SeedanceHook().create_task("seedance-20", GOOD)
    seedance_emulator.add_fault("status_word", word="generating")  # an end is told by the record alone
    command = [
        sys.executable,
        "-m",
        "seedance_provider",
        "wait",
        seedance_task_id,
        "--poll-interval",
        "0.1",
        "-o",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert (record["seedance_task_id"], record["status"]) == (seedance_task_id, "success")
    assert record["credits_used"] == 200
    assert seedance_task_id in done.stderr, "the log is not lost"


@pytest.mark.parametrize("output", ["json", "table"])
def test_a_reader_who_has_enough_is_no_error_message(file: File, output: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "seedance_provider", "estimate", "-o", output, file([GOOD] * 100)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, "BrokenPipe" in done.stderr) == (1, False)


@pytest.mark.differs("`airflow seedance` (else `python -m seedance_provider`)", "no", "from 3.2", "yes")
@pytest.mark.skipif(Version(airflow.__version__) < Version("3.2"), reason="Airflow 3.2 brought commands of providers")
def test_airflow_has_the_same_commands(run: Run, file: File) -> None:
    from airflow.cli import cli_parser

    parser = cli_parser.get_parser()
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as ending:
        parser.parse_args(["seedance", "--help"])
    assert ending.value.code == 0
    assert set(NAMES) <= set(shown.getvalue().split())
    parsed = parser.parse_args(["seedance", "check", file(GOOD | {"colour": "red"})])
    with pytest.raises(SystemExit) as ending:
        parsed.func(parsed)
    assert ending.value.code == 1


def test_every_airflow_command_loads_the_definition_so_it_imports_none_of_the_commands() -> None:
    definition = {each.imported for each in imports() if each.importer == "seedance_provider.cli.definition"}
    assert definition - set(sys.stdlib_module_names) == {
        "airflow.cli.cli_config",
        "collections.abc",
        "seedance_provider.defaults",
    }


def test_the_docs_name_every_command_and_option() -> None:
    page = (PACKAGE.parent / "docs" / "cli.md").read_text()
    flags = {arg.flags[-1] for command in COMMANDS.subcommands for arg in command.args if arg.flags[-1][0] == "-"}
    assert not [name for name in {*NAMES, *flags} if f"`{name}" not in page]


@pytest.mark.parametrize("command", ["check", "estimate"])
def test_a_file_that_is_no_text_is_said(run: Run, tmp_path: Path, command: str) -> None:
    file = tmp_path / "inputs.json"
    file.write_text("{}", encoding="utf-16")
    assert "inputs.json is not text in UTF-8" in run(command, str(file)).code
