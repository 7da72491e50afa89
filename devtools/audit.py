"""Ask PyPI which of our dependencies have known vulnerabilities, by pip-audit: ``make audit``.

What fails is what only we can repair: the oldest version that pyproject.toml allows has a vulnerability, and a version
without it was there before the oldest Airflow of `make test-matrix`, so that whoever installs with Airflow's
constraints can have it. Then raise the floor, or add the vulnerability to ACCEPTED with the reason.

The rest is told and fails nothing: what pip installs today, Airflow and its providers, and fixes newer than that
Airflow. Whoever deploys chooses those versions; a floor above them would shut them out, and a vulnerability published
tonight in somebody else's package is no fault of the next change. Where the service does not answer, nothing was
audited, which fails with --strict only: a release asks for that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED: dict[str, str] = {}
"""Vulnerabilities of a floor that stay, by any of their ids, each with its reason."""


class Finding(NamedTuple):
    """A known vulnerability of one version.

    :param ids: All its names.
    :param fixed: The oldest newer version without it; None: there is none.
    """

    name: str
    version: str
    ids: tuple[str, ...]
    fixed: Version | None

    def __str__(self) -> str:
        return f"{self.name} {self.version}: {', '.join(self.ids)}; fixed in {self.fixed or 'no version'}"


class NotAnsweredError(Exception):
    """The service told nothing: nothing was audited."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help="fail also where the service does not answer")
    options, rest = parser.parse_known_args()
    try:
        lowest = ask(floors(), *rest)
        installed = ask(None, *rest)
        to_fix = ours(lowest, within_reach({each.name for each in lowest}) if lowest else {})
    except NotAnsweredError as error:
        print(f"Nothing was audited: {error}", file=sys.stderr)
        return int(options.strict)
    for finding in sorted({*lowest, *installed} - set(to_fix)):
        print(f"known, not ours: {finding}")
    for finding in to_fix:
        print(f"FAILED: raise the floor in pyproject.toml, or accept in {Path(__file__).name}: {finding}")
    print(f"{len(floors())} floors and the installed packages audited: {len(to_fix)} to fix")
    return int(bool(to_fix))


def floors() -> list[str]:
    """The oldest version that pyproject.toml allows of each dependency, as a pin."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    wanted = map(Requirement, [*project["dependencies"], *extras])
    return [
        f"{each.name}=={limit.version}" for each in wanted for limit in each.specifier if limit.operator in (">=", "==")
    ]


def ask(pins: Sequence[str] | None, *arguments: str) -> list[Finding]:
    """The known vulnerabilities of these versions.

    :param pins: Exact requirements; None: what is installed beside this program.
    :param arguments: Of pip-audit.
    :raises NotAnsweredError: if the service did not answer, or knew none of them.
    """
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", *arguments]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        if pins is None:
            command += ["--local", "--skip-editable"]
        else:
            file.write("\n".join(pins))
            file.flush()
            command += ["--no-deps", "--disable-pip", "--requirement", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = done.stderr.strip().rpartition("\n")[2] or f"pip-audit ended with {done.returncode}"
        raise NotAnsweredError(why) from None
    if not (known := [each for each in told if "skip_reason" not in each]):
        raise NotAnsweredError("the service knows none of our dependencies; is it a mirror without vulnerabilities?")
    return [
        Finding(each["name"], each["version"], (found["id"], *found["aliases"]), first_fix(each["version"], found))
        for each in known
        for found in each["vulns"]
    ]


def first_fix(version: str, found: dict[str, list[str]]) -> Version | None:
    """The oldest fix that is newer: a vulnerability is often fixed in several lines."""
    newer = [fix for fix in map(Version, found["fix_versions"]) if fix > Version(version)]
    return min(newer, default=None)


def within_reach(names: set[str]) -> dict[str, Version]:
    """The newest version of each on the day whose packages the oldest Airflow is tested with.

    :raises NotAnsweredError: if the package index did not tell.
    """
    from test_matrix import LINES, UV

    day = min(line.as_of for line in LINES if line.as_of)
    command = [
        str(UV),
        "pip",
        "compile",
        "-q",
        "--no-deps",
        "--no-annotate",
        "--no-header",
        "--exclude-newer",
        day,
        "-",
    ]
    asked = "\n".join(sorted(names))
    try:
        done = subprocess.run([*command, "-"], input=asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotAnsweredError(f"uv could not tell the versions of {day}: {error}") from None
    pins = map(Requirement, done.stdout.split())
    return {canonicalize_name(each.name): Version(next(iter(each.specifier)).version) for each in pins}


def ours(lowest: Sequence[Finding], reach: dict[str, Version]) -> list[Finding]:
    """Of the vulnerabilities of the floors those that fail.

    :param lowest: All of them.
    :param reach: The newest version of each package that every supported Airflow can have.
    """
    return [
        each
        for each in lowest
        if not each.name.startswith("apache-airflow")
        if each.fixed is not None and each.fixed <= reach[canonicalize_name(each.name)]
        if ACCEPTED.keys().isdisjoint(each.ids)
    ]


if __name__ == "__main__":
    sys.exit(main())
