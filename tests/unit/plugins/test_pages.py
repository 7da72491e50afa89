"""The pages' files: the same for everybody, harmless whatever they show, and true to the code in what they know."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")  # Airflow 2.11 has no pages
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow 3.1 and later have the pages", allow_module_level=True)

import requests

from seedance_provider import defaults, exceptions
from seedance_provider.api import catalog
from seedance_provider.plugins import pages as module
from seedance_provider.plugins import serve_pages
from tests.support.pages import reader
from tests.support.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def url(airflow_database: Path) -> Iterator[str]:
    """Where the pages are."""
    with serving(serve_pages, prefix=defaults.PAGES_PATH) as server:
        yield f"{server}{defaults.PAGES_PATH}"


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=30)


@pytest.mark.parametrize("view", module.VIEWS)
def test_a_page_has_a_script_and_a_style_sheet_that_are_there(url: str, view: str) -> None:
    page = get(f"{url}/{view}")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 3
    assert [get(f"{url}/{each}").status_code for each in linked] == [200] * 3


@pytest.mark.parametrize("path", ["", "nothing", "static/x/nothing.js", "static/x/..%2fpages.py", "static/%2e%2e/x"])
def test_there_is_nothing_else(url: str, path: str) -> None:
    assert get(f"{url}/{path}").status_code == 404


@pytest.mark.parametrize("path", ["video", "icon.svg", "nothing", "static/x/parts.js", "stored/dag?run_id=r&task_id=t"])
def test_every_answer_allows_nothing_but_our_own_files(url: str, path: str) -> None:
    headers = get(f"{url}/{path}").headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    for rule in ("default-src", "base-uri", "form-action"):
        assert policy[rule] == "'none'"
    for rule in ("script-src", "style-src", "connect-src", "frame-ancestors"):
        assert policy[rule] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "cache-control" in headers


def test_no_file_has_a_script_or_style_of_its_own_or_html_of_others() -> None:
    assert not re.search(r"<script(?! type=\"module\" src)|<style|style=|javascript:", module._PAGE.template)
    for name, content in module.files().contents.items():
        forbidden = rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(forbidden, content), name
        assert not re.search(rb"(?:src|href|import|url\()\W{0,3}https?:", content), name


def test_what_a_browser_may_keep_has_the_version_of_all_files_in_its_address(url: str) -> None:
    version = module.files().version
    assert "immutable" in get(f"{url}/static/{version}/airflow.js").headers["cache-control"]
    other = get(f"{url}/static/000000000000/airflow.js")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")


def test_every_module_that_a_script_imports_is_there() -> None:
    contents = module.files().contents
    for name, content in contents.items():
        if name.endswith(".js"):
            assert {each.decode() for each in re.findall(rb'from "\./([^"]+)"', content)} <= contents.keys(), name


def test_the_models_are_those_of_the_catalog() -> None:
    models = json.loads(module.files().contents["models.json"])
    assert models.keys() == catalog.KNOWN.keys()
    assert models["seedance2.0-pro"] == {"seconds": catalog.usual_seconds("seedance-20"), "output": "video"}
    assert models["gpt-image-2"]["output"] == "image"


def test_there_is_a_next_step_for_every_error_that_says_what_went_wrong() -> None:
    steps = json.loads(module.files().contents["advice.json"])["steps"]
    kinds = {name for name, kind in vars(exceptions).items() if isinstance(kind, type) and name.startswith("Seedance")}
    without = {"SeedanceError", "SeedanceSubmitUncertainError", "SeedanceTaskTimeoutError"}  # the page itself tells
    assert kinds - steps.keys() == without


# Estimates.


def estimate(url: str, asked: Any, session: requests.Session | None = None) -> requests.Response:
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return (session or reader()).post(f"{url}/estimate", data=body, timeout=30)


def test_an_estimate_is_that_of_a_submission(url: str) -> None:
    asked = {"model": "seedance-20", "inputs": {"duration": 5, "outputResolution": "720p"}}
    answer = estimate(url, asked).json()
    assert (answer["low"], answer["high"]) == ("200", "200")
    assert "200" in answer["text"]


def test_a_price_list_has_a_say(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"seedance-20": {"720p": 10}}')
    monkeypatch.setenv("AIRFLOW__SEEDANCE__PRICE_LIST", str(prices))
    assert estimate(url, {"model": "seedance-20", "inputs": {"duration": 5}}).json()["high"] == "50"
    prices.write_text("not JSON")
    assert estimate(url, {"model": "seedance-20", "inputs": {"duration": 5}}).json() is None


@pytest.mark.parametrize("model", ["unknown", None, 3, ["seedance-20"]])
def test_of_an_unknown_model_there_is_none(url: str, model: object) -> None:
    answer = estimate(url, {"model": model, "inputs": {}})
    assert (answer.status_code, answer.json()) == (200, None)


@pytest.mark.parametrize(
    "inputs", [{"duration": {}}, {"duration": [5]}, {"outputResolution": {}}, {"videoUrls": {"a": 1}}]
)
def test_odd_inputs_are_no_error_of_the_server(url: str, inputs: dict[str, Any]) -> None:
    assert estimate(url, {"model": "seedance-20", "inputs": inputs}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b'{"inputs": 3}', 400), (b"x" * (defaults.MAX_ESTIMATE_BODY + 1), 413)],
)
def test_what_is_no_question_is_refused(url: str, body: bytes, status: int) -> None:
    assert estimate(url, body).status_code == status


def test_nobody_else_gets_an_estimate(url: str) -> None:
    assert estimate(url, {"model": "seedance-20", "inputs": {}}, requests.Session()).status_code == 401
