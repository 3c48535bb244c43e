"""The files of a site: what they contain, and what hostile run folders do to them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.results.leaderboard.rows import collect, run_folders
from evalkit.results.site.write import KNOWN, MARK, SiteOptions, folder_name, write_site

HOSTILE = "</script><script>alert(1)</script> \u202e \x1b[31m \u2028 ../../x"


def row(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": "vqav2", "split": "val", "metric": "accuracy", "value": 80.0, "stderr": 1.0, "ci95": 1.96, "n": 300,
        "clusters": 60, "unparsed": 2, "errors": 0, "truncated": 1, "limited": False, "signature": "vqav2:val|v1|s|n:300",
        "values": {"accuracy": 80.0, "accuracy[number]": 70.0, "parse_rate": 99.0},
        "intervals": {"accuracy[number]": {"stderr": 1.5, "ci95": 3.0}},
    }  # fmt: skip
    return {**found, **changes}


def save(root: Path, run: str, model: str, *rows: dict[str, Any]) -> None:
    (root / run).mkdir(parents=True)
    content = {"schema": 1, "run": run, "model": model, "results": list(rows)}
    (root / run / "scores.json").write_text(json.dumps(content))


def write(root: Path, out: Path, **options: Any) -> tuple[dict[str, Any], str, list[str]]:
    """The site's content, its page, and what the user is told."""
    told: list[str] = []
    page = write_site(collect([root]), run_folders([root]), out, SiteOptions(**{"samples": 0} | options), told.append)
    html = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', html, re.S)
    assert found is not None
    return json.loads(found[1]), html, told


def test_content_has_comparable_columns_with_intervals_breakdowns_and_marks(tmp_path: Path) -> None:
    save(tmp_path / "runs", "a", "tiny", row(), row(task="pope", split="test", metric="f1", value=70.0, errors=3))
    save(tmp_path / "runs", "b", "early", row(value=60.0))
    save(
        tmp_path / "runs",
        "c",
        "part",
        row(n=30, limited=True, chosen="--where 'x == 1'", signature="vqav2:val|v1|s|n:30"),
    )
    content, html, _ = write(tmp_path / "runs", tmp_path / "site")
    assert [run["model"] for run in content["runs"]] == ["tiny", "early", "part"]
    assert [column["label"] for column in content["columns"]] == ["vqav2/val (n=300)", "pope/test", "vqav2/val (n=30)"]
    a, b, c = (run["scores"] for run in content["runs"])
    assert (a["0"]["value"], a["0"]["ends"], a["0"]["best"]) == (80.0, [78.04, 81.96], True)
    assert "best" not in b["0"]
    assert a["0"]["values"]["accuracy[number]"] == [70.0, 67.0, 73.0]
    assert a["0"]["values"]["parse_rate"] == [99.0, None, None]
    assert content["columns"][0]["values"] == ["accuracy[number]", "parse_rate"]
    assert a["1"]["errors"] == 3
    assert c["2"]["part"] == content["columns"][2]["part"] == "--where 'x == 1'"
    assert "vqa" in content["groups"]
    assert "A subset (--where 'x == 1') was run" in html.replace("&#39;", "'")


def test_estimate_of_a_subset_is_shown_as_one(tmp_path: Path) -> None:
    estimate = {
        "value": 78.0, "stderr": 1.0, "low": 76.0, "high": 80.0, "ci95": 2.0, "interval": "t", "size": 5000,
        "references": 6, "subset": "0123456789abcdef", "doubt": None,
    }  # fmt: skip
    save(tmp_path / "runs", "a", "tiny", row(n=100, limited=True, estimate=estimate))
    save(tmp_path / "runs", "b", "early", row())
    content, _, _ = write(tmp_path / "runs", tmp_path / "site")
    a, b = (run["scores"] for run in content["runs"])
    assert (a["0"]["value"], a["0"]["text"], a["0"]["ends"]) == (78.0, "78.00 ± 2.00", [76.0, 80.0])
    assert a["0"]["estimate"] == "vqav2/val ≈ 78.0 ± 2.0 (100 of 5,000, from 6 reference runs)"
    assert "part" not in a["0"]
    assert "estimate" not in b["1"]


def test_page_is_self_contained_and_relative(tmp_path: Path) -> None:
    save(tmp_path / "runs", "a", "tiny", row())
    _, html, _ = write(tmp_path / "runs", tmp_path / "site")
    assert MARK in html
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', html) == ["site.css", "site.js"]
    everything = html + (tmp_path / "site" / "site.css").read_text() + (tmp_path / "site" / "site.js").read_text()
    assert set(re.findall(r"https?://[^\"' )]+", everything)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html.replace("&#39;", "'")
    assert "80.00 ± 1.96" in html  # without scripts, the table is there all the same


def test_hostile_names_are_text(tmp_path: Path) -> None:
    bad = row(
        task=HOSTILE, metric=HOSTILE, values={HOSTILE: 1.0, "x" * 5000: 2.0}, chosen=HOSTILE, limited=True,
        signature=HOSTILE, notes=[HOSTILE], failure=None,
    )  # fmt: skip
    save(
        tmp_path / "runs", "<img src=x onerror=alert(1)>", HOSTILE, bad, row(values={f"v{n}": 1.0 for n in range(5000)})
    )
    content, html, _ = write(tmp_path / "runs", tmp_path / "site", title=HOSTILE)
    assert len(re.findall(r"<script\b", html)) == 2  # the content and the site's own
    assert "<img" not in html
    assert "\x1b" not in html
    assert "alert(1)" in content["runs"][0]["model"]
    assert max(len(name) for column in content["columns"] for name in column["values"]) <= 200
    assert len(content["columns"][1]["values"]) <= 400


@pytest.mark.parametrize("run", ["..", ".", "a/b", "../x", "", "-rf", "\u202e", "x" * 300, "CON", "a b", HOSTILE])
def test_folder_names_are_plain_and_distinct(run: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}-[0-9a-f]{8}", folder_name(run))
    assert folder_name(run) != folder_name(run + "!")


def test_run_without_readable_records_has_no_report(tmp_path: Path) -> None:
    save(tmp_path / "runs", "a", "tiny", row())
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "runs" / "a" / "report").symlink_to(outside)  # a received report is never copied
    content, _, told = write(tmp_path / "runs", tmp_path / "site", samples=10)
    assert "report" not in content["runs"][0] or content["runs"][0]["report"] is None
    assert any("a has no report in the site" in sentence for sentence in told)
    assert json.loads((tmp_path / "site" / KNOWN).read_text()) == {}


def test_other_folder_is_not_overwritten(tmp_path: Path) -> None:
    save(tmp_path / "runs", "a", "tiny", row())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="contains other files"):
        write(tmp_path / "runs", tmp_path / "mine")
    (tmp_path / "mine" / "index.html").write_text("<p>mine</p>")
    with pytest.raises(UserError, match="is not a site written by evalkit"):
        write(tmp_path / "runs", tmp_path / "mine")
    assert (tmp_path / "mine" / "index.html").read_text() == "<p>mine</p>"
    first = write(tmp_path / "runs", tmp_path / "site")[1]
    assert write(tmp_path / "runs", tmp_path / "site")[1] == first
    with pytest.raises(UserError, match="--sort nothing"):
        write(tmp_path / "runs", tmp_path / "new", sort="nothing")
    assert not (tmp_path / "new").exists()


def test_only_reports_of_evalkit_are_removed(tmp_path: Path) -> None:
    save(tmp_path / "runs", "a", "tiny", row())
    write(tmp_path / "runs", tmp_path / "site")
    mine = tmp_path / "site" / "reports" / folder_name("old")
    mine.mkdir(parents=True)
    (mine / "index.html").write_text("<p>mine</p>")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("x")
    known = {folder_name("old"): "0", "../../victim": "0", str(victim): "0"}
    (tmp_path / "site" / KNOWN).write_text(json.dumps(known))
    write(tmp_path / "runs", tmp_path / "site")
    assert (mine / "index.html").is_file()
    assert (victim / "kept").is_file()
