"""Write the table of differences in docs/compatibility.md: ``python devtools/make_compatibility.py [--check]``.

A row is the marker of the test that shows it, ``@pytest.mark.differs("what", "2.11", "3.0 to 3.2", "3.3")``, anywhere
in tests/; rows of what no test of ours shows are DOCUMENTED. A row keeps its place in the page, a new one comes
last.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
HEAD = "| | 2.11 | 3.0 to 3.2 | 3.3 |\n|:--|:--|:--|:--|\n"
DOCUMENTED = (
    (
        "object storage (`ledger_path`, `output_path`) ¹",
        "yes",
        "on 3.0 with `universal-pathlib<0.3`, as Airflow's constraints have it; later ones end in a `RecursionError`",
        "yes",
    ),
    (
        "two events in one second start what follows for both ¹",
        "the second may wait for the next event, see [Events](events.md#the-dag-that-follows)",
        "the same",
        "the same; with partition keys, both",
    ),
    ("`on_failure_callback` gets the exception ¹", "yes", "from 3.1; not in `dag.test()`", "yes"),
    ("`execution_timeout` while deferred ¹", "counts, if shorter than `timeout`", "ignored", "ignored"),
)
"""Known from Airflow's documentation, issues or source: no test of ours can fail where it changes."""


def rows() -> list[tuple[str, ...]]:
    """All rows, those of tests first.

    :raises SystemExit: if a marker is not four texts, or two tests claim one row with different words.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.differs":
                row = tuple(ast.literal_eval(each) for each in node.args)
                if len(row) != 4 or found.setdefault(row[0], row) != row:
                    raise SystemExit(f"{path.relative_to(ROOT)}:{node.lineno}: one row, said in four texts, please")
    return [*found.values(), *DOCUMENTED]


def table(page: str) -> str:
    """The page with its table as the tests say."""
    before, _, rest = page.partition(HEAD)
    lines = rest.split("\n")
    end = next(number for number, line in enumerate(lines) if not line.startswith("|"))
    places = [line[2:].partition(" | ")[0] for line in lines[:end]]
    ordered = sorted(rows(), key=lambda row: places.index(row[0]) if row[0] in places else len(places))
    return before + HEAD + "\n".join([*(f"| {' | '.join(row)} |" for row in ordered), *lines[end:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page differs")
    options = parser.parse_args()
    page = PAGE.read_text("utf-8")
    wanted = table(page)
    if options.check:
        return int(page != wanted)
    PAGE.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
