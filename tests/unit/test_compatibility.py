"""The table of differences between Airflow versions is what the tests that show them say."""

from __future__ import annotations

from devtools import make_compatibility


def test_the_table_is_the_one_of_the_tests() -> None:
    page = make_compatibility.PAGE.read_text("utf-8")
    assert page == make_compatibility.table(page), "run python devtools/make_compatibility.py"


def test_no_row_is_lost_or_made_up() -> None:
    titles = {row[0] for row in make_compatibility.rows()}
    shown = make_compatibility.PAGE.read_text("utf-8").partition(make_compatibility.HEAD)[2].partition("\n\n")[0]
    assert {line[2:].partition(" | ")[0] for line in shown.split("\n")} == titles
