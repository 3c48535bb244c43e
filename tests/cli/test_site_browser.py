"""Sites in a real browser, as ``test_report_browser`` runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .test_report_browser import axe, chrome, complaints, look, requested, until  # noqa: F401

pytestmark = pytest.mark.slow
Evalkit = Callable[..., subprocess.CompletedProcess[str]]
Chrome = Any
HOSTILE = "<img src=x onerror='window.hacked=1'>\"</script><script>window.hacked=2</script>"


def rewritten(scores: Path, model: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(scores.read_text())
    content.pop("checksum", None)
    content["model"] = model
    for row in content["results"]:
        change(row)
    scores.write_text(json.dumps(content))


@pytest.fixture
def site(evalkit: Evalkit, pair: Path) -> Path:
    """The page of a site on two runs over VQAv2 val, ``good`` and a hostile one, with reports on a few samples."""

    def hostile(row: dict[str, Any]) -> None:
        row["values"][HOSTILE] = 12.0

    rewritten(pair / "runs" / "bad" / "scores.json", HOSTILE, hostile)
    done = evalkit("leaderboard", "runs", "--site", "site", "--samples", "5", "--title", HOSTILE, cwd=pair)
    assert done.returncode == 0, done.stderr
    return pair / "site" / "index.html"


def models(chrome: Chrome) -> list[str]:  # noqa: F811
    script = "return [...document.querySelectorAll('.board tbody [data-run]')].map((one) => one.dataset.run)"
    return list(chrome.execute_script(script))


def enter(chrome: Chrome, key: str, value: str) -> None:  # noqa: F811
    chrome.execute_script(
        "const one = document.querySelector(`[data-filter=${arguments[0]}]`); one.value = arguments[1];"
        "one.dispatchEvent(new Event(one.tagName === 'SELECT' ? 'change' : 'input'))",
        key, value,
    )  # fmt: skip


def click(chrome: Chrome, selector: str) -> None:  # noqa: F811
    chrome.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_site_sorts_filters_and_shows_details(chrome: Chrome, site: Path) -> None:  # noqa: F811
    look(chrome, site)
    assert sorted(models(chrome)) == ["bad", "good"]
    click(chrome, "[data-sort='0']")
    assert models(chrome) == ["good", "bad"]
    click(chrome, "[data-sort='0']")
    assert models(chrome) == ["bad", "good"]
    assert chrome.execute_script("return document.querySelector('[aria-sort]').ariaSort") == "ascending"

    enter(chrome, "models", "GOOD")
    assert models(chrome) == ["good"]
    address = chrome.current_url
    look(chrome, site, "#" + address.split("#")[1])
    assert models(chrome) == ["good"], "the address holds the filter"
    enter(chrome, "models", "nobody")
    assert models(chrome) == []
    assert "No score fits." in chrome.execute_script("return document.getElementById('board').textContent")
    enter(chrome, "models", "")
    enter(chrome, "tasks", "no such task")
    assert models(chrome) == []
    enter(chrome, "tasks", "vqav2 accuracy")
    assert len(models(chrome)) == 2
    enter(chrome, "group", "vqa")
    assert len(models(chrome)) == 2

    click(chrome, "[data-column]")
    text = chrome.execute_script("return document.getElementById('details').textContent")
    assert "accuracy[number]" in text
    assert chrome.execute_script("return document.querySelectorAll('#details .whisker').length") == 2
    click(chrome, "[data-run='good']")
    assert "evalkit" in chrome.execute_script("return document.querySelector('#details .facts').textContent")
    assert complaints(chrome) == []


def test_hostile_names_do_nothing(chrome: Chrome, site: Path) -> None:  # noqa: F811
    look(chrome, site)
    assert chrome.title == HOSTILE
    assert chrome.execute_script("return document.querySelector(\"[data-run='bad'] span\").textContent") == HOSTILE
    click(chrome, "[data-column]")
    assert HOSTILE in chrome.execute_script("return document.querySelector('#details .values').textContent")
    click(chrome, "[data-run='bad']")
    assert chrome.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert chrome.execute_script("return window.hacked") is None
    assert {url.split(":")[0] for url in requested(chrome)} <= {"file", "about"}
    assert complaints(chrome) == []


def test_links_lead_to_reports(chrome: Chrome, site: Path) -> None:  # noqa: F811
    look(chrome, site)
    links = chrome.execute_script(
        "return [...document.querySelectorAll('a.report')].map((one) => one.getAttribute('href'))"
    )
    assert len(links) == 2
    for link in links:
        assert not link.startswith(("/", "http", "file"))
        page = site.parent / link
        look(chrome, page)
        assert chrome.execute_script("return document.querySelectorAll('.cards li').length") == 5
        assert chrome.execute_script("return window.hacked") is None


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 360)])
def test_accessible_and_without_overflow(chrome: Chrome, site: Path, axe: str, dark: bool, width: int) -> None:  # noqa: F811
    look(chrome, site, "#column=vqav2%2Fval", width=width, dark=dark)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    chrome.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})  # the page's policy lets no script in
    found = chrome.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, { preload: false }).then((r) => done([r.violations.map((v) => [v.id, v.impact,"
        "  v.nodes.map((n) => n.target.join(' '))]), r.passes.length]));"
    )
    assert found[0] == [], found[0]
    assert found[1] > 15, "that many rules applied"
