"""The table, the files in ``benchmarks/results`` and the plot."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness import Result, Row

PACKAGES = (
    "airflow-provider-seedance",
    "apache-airflow",
    "apache-airflow-task-sdk",
    "apache-airflow-providers-common-compat",
    "apache-airflow-providers-http",
    "apache-airflow-providers-dbt-cloud",
    "aiohttp",
    "requests",
    "pydantic",
)


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| | What | Figure | Target | |", "|:--|:--|:--|:--|:--|"]
    marks = {True: "met", False: "**missed**", None: "**not resolved**"}
    lines += [
        f"| {row.section} | {row.what} | {row.value} | {row.target or ''} | {marks[row.met] if row.target else ''} |"
        for row in rows
    ]
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Where it was measured."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(terse=True),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """What was measured."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write(results: Mapping[str, Result], folder: Path, *, minutes: float) -> list[Path]:
    """Write table, data and plot; return the files."""
    folder.mkdir(exist_ok=True)
    today = datetime.now(UTC).date().isoformat()
    files = [folder / f"{today}.md", folder / f"{today}.json"]
    load = f"{os.getloadavg()[0]:.1f}"
    facts = {"date": today, "minutes": f"{minutes:.0f}", "load after": load, **machine(), **versions()}
    rows = [row for result in results.values() for row in result.rows]
    text = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    plot = f"![plot]({today}.png)\n" if _plot(results, folder / f"{today}.png") else ""
    files[0].write_text(f"# Benchmarks, {today}\n\n{text}\n\n{table(rows)}\n\n{plot}", encoding="utf-8")
    data: dict[str, Any] = {"facts": facts, **{name: result.data for name, result in results.items()}}
    files[1].write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return [*files, *([folder / f"{today}.png"] if plot else [])]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a plain read
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _plot(results: Mapping[str, Result], path: Path) -> bool:
    """Draw what was measured of polls, schedules and the spread of polls."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(19, 5.5), constrained_layout=True)
    if polling := results.get("polling"):
        _bars(axes[0], polling.data)
    if schedule := results.get("schedule"):
        _schedules(axes[1], schedule.data)
    if waiting := results.get("waiting"):
        polls: Sequence[int] = waiting.data["spread"]["polls_per_second"]
        axes[2].fill_between(range(len(polls)), polls, color="#6b5bb5", step="mid")
        axes[2].set(title="Polls per second, 10,000 waiters started at once", xlabel="seconds", ylabel="polls")
    figure.savefig(path, dpi=80)
    return True


def _bars(axis: Any, data: Mapping[str, Any]) -> None:
    names = list(next(iter(data.values()))["contestants"])
    for offset, (waiters, measured) in enumerate(data.items()):
        values = [measured["contestants"][name]["polls_per_cpu_second"] for name in names]
        axis.barh(
            [index + offset * 0.4 for index in range(len(names))], values, height=0.38, label=f"{waiters} waiters"
        )
    axis.set_yticks([index + 0.2 for index in range(len(names))], names)
    axis.invert_yaxis()
    axis.set(title="Polls per CPU-second")
    axis.legend()


def _schedules(axis: Any, data: Mapping[str, Any]) -> None:
    for name, figures in data.items():
        chosen = name == "default"
        axis.scatter(figures["gets_200"], figures["delay_200"], s=80 if chosen else 30, marker="*" if chosen else "o")
        axis.annotate(
            name, (figures["gets_200"], figures["delay_200"]), fontsize=7, xytext=(4, 4), textcoords="offset points"
        )
    axis.axvline(20, color="grey", linewidth=0.8, linestyle=":")
    axis.axhline(5, color="grey", linewidth=0.8, linestyle=":")
    axis.set(
        title="Schedules: a video of 200 s", xlabel="GETs", ylabel="mean seconds until seen", xscale="log", yscale="log"
    )
