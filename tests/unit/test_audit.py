"""What the audit of dependencies says of vulnerabilities: pip-audit asks a server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from packaging.version import Version

from devtools import audit
from devtools.audit import Finding, NotAnsweredError, ask, floors, ours
from tests.support.wire import Server, answer, unused_port

pytest.importorskip("pip_audit")


@pytest.fixture
def known() -> Iterator[list[str]]:
    """The arguments that let pip-audit ask a server that knows one vulnerability, of the first package."""
    versions = [{"introduced": "0"}, {"fixed": "1.26.19"}, {"introduced": "2.0"}, {"fixed": "2.2.2"}]
    affected = {
        "package": {"name": "urllib3", "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": versions}],
    }
    found = {"id": "PYSEC-1", "aliases": ["CVE-2024-1"], "summary": "x", "affected": [affected]}
    server = Server([answer(body=json.dumps({"vulns": [found]}).encode()), answer()])
    yield ["--vulnerability-service", "osv", "--osv-url", server.url]
    server.stop()


def test_a_vulnerability_is_told_with_its_first_fix_that_is_newer(known: list[str]) -> None:
    assert ask(["urllib3==2.0.0", "rich==13.6"], *known) == [
        Finding("urllib3", "2.0.0", ("PYSEC-1", "CVE-2024-1"), Version("2.2.2"))
    ]


def test_a_service_that_does_not_answer_has_audited_nothing() -> None:
    with unused_port() as port, pytest.raises(NotAnsweredError):
        ask(["urllib3==2.0.0"], "--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("name", "fixed", "fails"),
    [
        ("urllib3", "2.4.0", True),
        ("urllib3", "2.5.0", True),
        ("urllib3", "2.6.0", False),  # nobody with the constraints of the oldest Airflow could install it
        ("urllib3", None, False),
        ("apache-airflow", "2.11.1", False),
    ],
)
def test_what_fails_is_what_only_we_can_repair(name: str, fixed: str | None, fails: bool) -> None:
    found = Finding(name, "2.0", ("PYSEC-1",), fixed and Version(fixed))
    assert bool(ours([found], {"urllib3": Version("2.5"), "apache-airflow": Version("3")})) is fails


def test_what_is_accepted_by_any_of_its_names_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(audit.ACCEPTED, "CVE-2024-1", "the reason")
    found = Finding("urllib3", "2.0", ("PYSEC-1", "CVE-2024-1"), Version("2.1"))
    assert ours([found], {"urllib3": Version("2.5")}) == []


def test_each_dependency_has_a_floor_that_is_audited() -> None:
    assert {pin.partition("==")[0] for pin in floors()} >= {"apache-airflow", "aiohttp", "requests", "urllib3"}
