"""Reports as they are written: what is in them, that nothing in them can run, and what is said where things are gone."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shlex
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.jobs import Job, load_job
from evalkit.jsonl_task import read_jsonl_task
from evalkit.reader import Reader, failed
from evalkit.results.report.images import side_for
from evalkit.results.report.summary import breakdowns, categories, histogram
from evalkit.results.report.write import write_report
from evalkit.results.samples.join import split_of
from evalkit.results.samples.selection import subset
from evalkit.results.samples.view import RenderedPrompt, SplitContext
from evalkit.results.store.journal import appending
from evalkit.results.store.manifest import Manifest, SplitRecord
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.store.scores import write_results
from evalkit.results.tables import flat
from evalkit.scoring import score_job
from evalkit.task_names import parse_tasks
from evalkit.types import Sample

from ...run_folders import edit_json

Jobs = Sequence[tuple[Job, Mapping[str, str]]]

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script><!--",
    "\"><img src=x onerror='window.hacked = 3'>",
    "line\u2028separator\u2029 and \\\" quotes ' ` ${window.hacked = 4}",
    "שלום \u202e txet dlrow — مرحبا",
    "\x1b[31m\0 control ]]> &lt;b&gt; &amp;",
)


def scored(folder: Path, name: str, jobs: Jobs) -> Path:
    """A run in ``folder/name``: texts by sample id for each job, read by Qwen2.5-VL's rules; no text is an error."""
    run = RunFolder.create(folder, name)
    reader = Reader(registry.families.get("qwen2.5-vl"))
    results = []
    for job, texts in jobs:
        records = [
            replace(record, digests=tuple(image.digest() for image in record.images))
            if record.sample.id in texts
            else failed(record.sample, "no answer in the test")
            for record in reader.records(job, texts)
        ]
        with appending(run.journal_path(job.task.name, job.split)) as journal:
            for record in records:
                journal.append(record)
        results.append(score_job(job, records))
    write_results(run, results, {"run": name, "model": f"model {name}"})
    run.write_manifest(
        Manifest(
            settings={"data": "tiny"},
            model={"name": name},
            cwd="/",
            splits={job.name: SplitRecord(reference=job.name) for job, _ in jobs},
            command=["/usr/bin/evalkit", "score", "<b>"],
            created="2026-01-02T03:04:05+00:00",
        )
    )
    return run.path


def known(jobs: Jobs) -> dict[str, SplitContext]:
    return {job.name: SplitContext(job.task.kind, {s.id: s for s in job.samples}) for job, _ in jobs}


def job_of(name: str, limit: int = 24) -> Job:
    ((task, split),) = parse_tasks([name])
    return load_job(task, split, open_data("tiny"), limit=limit, seed=0)


def box(sample: Sample) -> str:
    """The reference as Qwen2.5-VL spells it; the bundled images are shown to it at 112 × 112 pixels or so."""
    return json.dumps([{"bbox_2d": [int(v) for v in sample.references[0]], "label": sample.text}])


def texts_of(job: Job, *, wrong: int = 4) -> dict[str, str]:
    """Answers of which every ``wrong``-th is wrong."""
    right: Callable[[Sample], str] = box if job.task.kind == "grounding" else lambda s: str(s.references[0])
    return {s.id: "none of it" if place % wrong == 0 else right(s) for place, s in enumerate(job.samples)}


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return [(job, texts_of(job)) for job in (job_of("vqav2/val"), job_of("refcoco/val"))]


@pytest.fixture
def run(tmp_path: Path, jobs: Jobs) -> Path:
    return scored(tmp_path, "A", jobs)


def index_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    return dict(json.loads(found[1]))


def samples_of(page: Path, split: int) -> list[dict[str, Any]]:
    """A split's samples as the page has them."""
    found: list[dict[str, Any]] = []
    index = index_of(page)
    for number in range(index["splits"][split]["chunks"]):
        key = f"{split}-{number}"
        if index["single"]:
            text = re.search(rf'<script type="text/plain" id="data-{key}">(.*?)</script>', page.read_text(), re.S)
            assert text is not None
            found += json.loads(text[1])
        else:
            body = (page.parent / "data" / f"{key}.js").read_text()
            head = f'evalkitReport("{key}", '
            assert body.startswith(head)
            assert body.endswith(");\n")
            found += json.loads(body[len(head) : -3])
    return found


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of those that hold no markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style"):
            self.inside.append((self.found[-1][0], data))


# ------------------------------------------------------------------------------------------------------ what is in it


def test_report_has_every_sample_with_its_answer_scores_and_references(run: Path, jobs: Jobs) -> None:
    written = write_report([run], known(jobs), run / "report")
    assert written.path == run / "report" / "index.html"
    assert written.notes == []
    assert {p.name for p in (run / "report").iterdir()} == {"index.html", "report.css", "report.js", "data", "images"}
    assert not list(run.glob(".*building*"))
    index = index_of(written.path)
    assert [s["name"] for s in index["splits"]] == ["vqav2/val", "refcoco/val"]
    for place, (job, texts) in enumerate(jobs):
        shown = samples_of(written.path, place)
        assert [s["id"] for s in shown] == [s.id for s in job.samples], "the official order"
        lines = [json.loads(x) for x in (run / f"{job.name.replace('/', '.')}.scores.jsonl").read_text().splitlines()]
        scores = {line["id"]: line for line in lines}
        for one, sample in zip(shown, job.samples, strict=True):
            (answer,) = one["runs"]
            assert (answer["text"], one["question"]) == (texts[sample.id], sample.text)
            assert answer["scores"] == {
                k: round(v, 4) for k, v in scores[sample.id].items() if k not in ("id", "cluster")
            }
            if job.task.kind == "vqa":
                assert one["references"] == [[a, n] for a, n in Counter(sample.references).most_common()]
                assert answer["prediction"] == texts[sample.id]
                full = answer["scores"]["accuracy"]
                assert answer["status"] == ("right" if full == 100 else "wrong" if full == 0 else "partly")
            else:
                assert one["references"] == [[list(sample.references[0]), 1]]
                assert answer["status"] == ("unparsed" if texts[sample.id] == "none of it" else
                                          "right" if answer["scores"]["acc@0.5"] else "wrong")  # fmt: skip
    assert {answer["status"] for s in samples_of(written.path, 1) for answer in s["runs"]} >= {"unparsed", "wrong"}


def test_images_are_made_once_each_and_are_webp_of_images(run: Path, jobs: Jobs) -> None:
    written = write_report([run], known(jobs), run / "report", side=64)
    paths = {image.name for job, _ in jobs for s in job.samples for image in s.images}
    files = sorted((run / "report" / "images").iterdir())
    assert len(files) == len(paths) == written.images
    index = index_of(written.path)
    for place, (job, _) in enumerate(jobs):
        for one, sample in zip(samples_of(written.path, place), job.samples, strict=True):
            (number,) = one["images"]
            name, width, height, trouble = index["images"][number]
            assert (width, height) == sample.images[0].size()
            assert (trouble, name.split("/")[-1]) == ("", Path(sample.images[0].name).name)
            with Image.open(run / "report" / "images" / f"{number}.webp") as small:
                assert (small.format, max(small.size)) == ("WEBP", 64)


def test_page_shows_scores_without_scripts(run: Path, jobs: Jobs) -> None:
    written = write_report([run], known(jobs), run / "report")
    page = html.unescape(written.path.read_text())
    for row in json.loads((run / "scores.json").read_text())["results"]:
        assert row["signature"] in page
        assert f"{row['value']:.2f} ± {row['ci95']:.2f}" in page or f"{row['value']:.2f} [" in page
    assert "evalkit score '<b>'" in page


def test_histogram_and_breakdowns_add_up(run: Path, jobs: Jobs) -> None:
    for job, _ in jobs:
        split = split_of([ScoredRun.open(run)], job.name, known(jobs)[job.name])
        bins = histogram(split, 1)
        assert sum(one.counts[0] for one in bins) == len(job.samples)
        assert all(one.low < one.high for one in bins)
        values = {s.id: t.scores[split.metric] for s in split.samples if (t := s.answers[0]) and split.metric}
        titles = []
        for one in breakdowns(split, 1):
            titles.append(one.title)
            assert sum(means[0].n for _, means in one.rows) == len(job.samples)
            for place, (label, (mean,)) in enumerate(one.rows):
                own = [values[key] for key, rows in one.of.items() if place in rows]
                assert mean.mean == pytest.approx(fmean(own)), label
                assert mean.low is None or mean.low <= mean.mean <= mean.high
        expected = {"vqa": "answer type", "grounding": "box size"}[job.task.kind]
        areas = {(r[2] - r[0]) * (r[3] - r[1]) < 32**2 for s in job.samples if job.task.kind == "grounding"
                 for r in s.references}  # fmt: skip
        assert expected in titles or len(areas) == 1


def test_edges_of_histograms() -> None:
    from evalkit.results.report.summary import histogram_edges

    assert histogram_edges([0.0, 0.0, 30.0, 100.0], 100.0) == [0.0, 30.0, 100.0]
    many = sorted(float(v) for v in range(0, 100, 3))
    assert histogram_edges(many, 100.0) == [5.0 * place for place in range(21)]
    tail = sorted([*(v * 1.5 for v in range(200)), 5000.0])
    edges = histogram_edges(tail, None)
    assert edges[0] == 0
    assert 250 < edges[-1] < 500, "one caption far ahead does not squeeze the others into one bin"


def test_categories_differ_from_texts_and_ids() -> None:
    assert categories(["form", "layout", "form"]) == ("form", "layout")
    assert categories(True) == ("yes",)
    assert categories(None) == categories("") == categories([]) == ("(none)",)
    assert categories("x" * 61) == categories({"a": 1}) == categories([1]) == ()


# -------------------------------------------------------------------------------------------------------- hostile text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Jobs]:
    """A run of a custom task whose ids, texts, fields and image name are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    Image.new("RGB", (40, 30), "red").save(folder / "a'\"><b>.png")
    lines = [
        {"id": text.replace("\0", ""), "image": "a'\"><b>.png", "question": text, "answers": [text, "yes"],
         "kind of it": HOSTILE[place % 2], **({text: text} if text.isprintable() else {})}
        for place, text in enumerate(HOSTILE)
    ]  # fmt: skip
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = read_jsonl_task(path, "vqa")
    job = load_job(task, task.default_splits[0], open_data("tiny"), limit=None, seed=0)
    jobs = [(job, {s.id: text for s, text in zip(job.samples, HOSTILE, strict=True)})]
    return scored(folder, "run", jobs), jobs


@pytest.mark.parametrize("single", [False, True])
def test_hostile_texts_are_data_and_never_markup(hostile: tuple[Path, Jobs], tmp_path: Path, single: bool) -> None:
    run, jobs = hostile
    asked = RenderedPrompt([("user", "⟨image⟩" + HOSTILE[1])], "0" * 16)
    facts = {name: replace(one, render_prompt=[lambda *_: asked]) for name, one in known(jobs).items()}
    out = tmp_path / ("r.html" if single else "r")
    page = write_report([run], facts, out, single=single).path
    shown = samples_of(page, 0)
    assert [s["runs"][0]["text"] for s in shown] == list(HOSTILE), "not a character is lost"
    assert [s["question"] for s in shown] == list(HOSTILE)
    assert shown[0]["runs"][0]["prompt"] == [["user", "⟨image⟩" + HOSTILE[1]]]
    assert shown[1]["meta"][HOSTILE[1]] == HOSTILE[1]
    files = [page] if single else [p for p in out.rglob("*") if p.suffix in (".html", ".js")]
    for file in files:
        content = file.read_text()
        assert "window.hacked = 1</script>" not in content
        assert "<img" not in content
        assert "\u2028" not in content
        assert "\u2029" not in content
    elements = Elements(page.read_text()).found
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    run_ones = [one for one in scripts if one.get("type") is None]
    assert len(run_ones) == 1, "the report's own"


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_page_escapes_every_value_of_run(run: Path, jobs: Jobs, tmp_path: Path, text: str, single: bool) -> None:
    """Two runs whose manifest and scores have a hostile text in every place that the page shows."""
    places = ("model", "data", "device", "version", "command", "signature", "note")
    values = {place: f"{place} {text}" for place in places}
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["checksum"]
    manifest |= {
        "settings": {"data": values["data"]},
        "backend": {"backend": values["device"], "device_name": text, "dtype": text},
        "created": text,
        "rescored": {"at": text},
        "state": text,
        "evalkit": values["version"],
        "command": [text, values["command"]],
    }
    runs = []
    for name in ("first", "second"):
        copy = tmp_path / f"{name} {text}".replace("/", "_").replace("\0", "_")
        shutil.copytree(run, copy)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        scores = json.loads((copy / "scores.json").read_text()) | {"model": values["model"]}
        del scores["checksum"]
        for row in scores["results"]:
            row["signature"] = f"{row['signature']}|{values['signature']}-{name}"
        (copy / "scores.json").write_text(json.dumps(scores))
        runs.append(copy)
    facts = {name: replace(one, note=values["note"]) for name, one in known(jobs).items()}
    page = write_report(runs, facts, tmp_path / ("r.html" if single else "r"), single=single).path
    elements = Elements(page.read_text()).found
    tags = {tag for tag, _ in elements}
    assert not tags & {"img", "iframe", "object", "base", "form", "svg"}
    assert sum(tag == "link" for tag, _ in elements) == (not single)
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert sum(tag == "script" and attributes.get("type") is None for tag, attributes in elements) == 1
    index = index_of(page)
    assert index["runs"] == [values["model"]] * 2, "the script's JSON holds the text, character by character"
    visible = html.unescape(page.read_text())
    for place, value in values.items():
        shown = shlex.quote(value) if place == "command" else value
        assert flat(shown) in visible, place


def test_only_reports_own_script_is_let_run(run: Path, jobs: Jobs, tmp_path: Path) -> None:
    single = write_report([run], known(jobs), tmp_path / "r.html", single=True).path
    folder = write_report([run], known(jobs), tmp_path / "r").path
    for page in (single, folder):
        policy = next(a["content"] or "" for t, a in Elements(page.read_text()).found if a.get("http-equiv"))
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
    parsed = Elements(single.read_text())
    policy = next(a["content"] or "" for _, a in parsed.found if a.get("http-equiv"))
    style = next(text for tag, text in parsed.inside if tag == "style")
    code = next(text for tag, text in parsed.inside if tag == "script" and text.startswith('"use strict"'))
    for kind, text in (("style-src", style), ("script-src", code)):
        assert f"{kind} 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "innerHTML" not in code
    assert "eval(" not in code


# ---------------------------------------------------------------------------------------------------------- single file


def test_single_file_report_is_self_contained(run: Path, jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    written = write_report([run], known(jobs), tmp_path / "out" / "r.html", single=True)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["r.html"]
    assert written.bytes == (tmp_path / "out" / "r.html").stat().st_size
    parsed = Elements(written.path.read_text())
    assert not [a for _, a in parsed.found if "src" in a or (a.get("href") or "#")[0] != "#"]
    folder = write_report([run], known(jobs), tmp_path / "r")
    for place in (0, 1):
        assert samples_of(written.path, place) == samples_of(folder.path, place)
    for number in range(written.images):
        found = re.search(rf'id="image-{number}">([^<]*)</script>', written.path.read_text())
        assert found is not None
        with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
            assert image.format == "WEBP"


def test_images_become_smaller_more_there_are() -> None:
    sides = [side_for(count, 95_000_000) for count in (1, 500, 5000, 10**6)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 1024
    assert sides[-1] == 224
    assert 5000 * 0.19 * sides[2] ** 2 * 3 / 4 < 95_000_000


# -------------------------------------------------------------------------------------------------------------- two runs


def test_two_runs_side_by_side(run: Path, tmp_path: Path, jobs: Jobs) -> None:
    other = [(job, texts_of(job, wrong=3)) for job, _ in jobs]
    second = scored(tmp_path, "B", other)
    written = write_report([run, second], known(jobs), tmp_path / "pair")
    page = html.unescape(written.path.read_text())
    assert "B compared with A" in page
    assert "not shown" in page, "the verdict of the paired test"
    assert index_of(written.path)["runs"] == ["model A", "model B"]
    (job, texts), *_ = jobs
    for one in samples_of(written.path, 0):
        assert [answer["text"] for answer in one["runs"]] == [texts[one["id"]], other[0][1][one["id"]]]
    (split, _) = index_of(written.path)["splits"]
    assert [sum(b["counts"][run] for b in split["bins"]) for run in (0, 1)] == [len(job.samples)] * 2


def test_runs_of_different_samples_are_not_compared(tmp_path: Path) -> None:
    small, large = job_of("vqav2/val", 10), job_of("vqav2/val", 20)
    runs = [scored(tmp_path, name, [(job, texts_of(job))]) for name, job in (("A", small), ("B", large))]
    page = write_report(runs, known([(large, {})]), tmp_path / "pair").path
    assert "Not compared: vqav2/val" in html.unescape(page.read_text())
    shown = samples_of(page, 0)
    assert len(shown) == 20
    assert sum(s["runs"][0] is None for s in shown) == 10


# --------------------------------------------------------------------------------------------------- what is not there


def test_images_from_the_journal_without_data(run: Path, jobs: Jobs) -> None:
    facts = {job.name: SplitContext(note="the data are on another machine.") for job, _ in jobs}
    written = write_report([run], facts, run / "report")
    assert written.notes == ["vqav2/val, refcoco/val: the data are on another machine."]
    assert written.notes[0] in html.unescape(written.path.read_text())
    one = samples_of(written.path, 0)[0]
    assert (one["question"], one["references"]) == ("", [])
    assert one["runs"][0]["text"]
    assert written.images == len({i.name for job, _ in jobs for s in job.samples for i in s.images})


def own_task(folder: Path, image: str) -> Path:
    """A custom task file in ``folder`` with one question about ``image``."""
    row = {"id": "0", "image": image, "question": "What colour?", "answers": ["red"]}
    (folder / "mine.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "p.jsonl").write_text('{"id": "0", "text": "red"}\n')
    return folder / "mine.jsonl"


def scored_own(evalkit: Any, folder: Path, image: str) -> Path:
    """A run of such a task, which was answered when ``image`` was there."""
    own_task(folder, image)
    done = evalkit("score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", "R", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "R"


def with_journal(run: Path, digest: str | None) -> None:
    """Let the run's journal say that its image had this digest."""
    (journal,) = run.glob("mine.own.jsonl")
    row = json.loads(journal.read_text())
    seconds = row.pop("seconds")
    row.pop("sum")
    line = json.dumps({**row, "digests": [digest]}, ensure_ascii=False)
    journal.write_text(f'{line[:-1]}, "sum": "{zlib.crc32(line.encode()):08x}", "seconds": {seconds:.6f}}}\n')

    def as_earlier_version(scores: dict[str, Any]) -> None:
        for split in scores["results"]:
            split.pop("journal", None)
            split.pop("scores", None)

    edit_json(run / "scores.json", as_earlier_version)


@pytest.mark.parametrize("gone", [True, False])
def test_images_of_received_run_folders_are_those_of_run(evalkit: Any, tmp_path: Path, gone: bool) -> None:
    """A run folder that was made elsewhere names an image of the reader's, outside the data."""
    private, folder = tmp_path / "private.png", tmp_path / "received"
    folder.mkdir()
    Image.new("RGB", (64, 64), (1, 200, 3)).save(private)
    run = scored_own(evalkit, folder, str(private))
    if gone:
        (folder / "mine.jsonl").unlink()
    right = PathImage(str(private)).digest()
    for digest, shown in ((None, 0), ("0" * 16, 0), (right, 1)):
        with_journal(run, digest)
        done = evalkit("report", "runs/R", "--out", "report", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert len(list((folder / "report").rglob("*.webp"))) == shown, (digest, done.stderr)
    if not gone:  # the reader says that the data is theirs
        with_journal(run, None)
        done = evalkit("report", "runs/R", "--out", "report", "--data", ".", cwd=folder)
        assert len(list((folder / "report").rglob("*.webp"))) == 1, done.stderr


@pytest.mark.parametrize("image", ["secret.txt", "../secret.txt"])
def test_data_set_embeds_images_only(evalkit: Any, tmp_path: Path, image: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for place in (folder / "secret.txt", tmp_path / "secret.txt"):
        place.write_text("SECRET-4711")
    scored_own(evalkit, folder, image)
    done = evalkit("export", "runs/R", "--to", "hub", "--images", "--out", "hub", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 images could not be read" in done.stderr
    assert not [path for path in (folder / "hub").rglob("*") if path.is_file() and b"SECRET-4711" in path.read_bytes()]


def test_missing_corrupt_and_changed_images_are_reported(tmp_path: Path) -> None:
    job = job_of("vqav2/val", 12)
    names = list(dict.fromkeys(s.images[0].name for s in job.samples))
    assert len(names) >= 4
    copies = {name: tmp_path / Path(name).name for name in names}
    for name, copy in copies.items():
        copy.write_bytes(Path(name).read_bytes())
    samples = [replace(s, images=(PathImage(str(copies[s.images[0].name])),)) for s in job.samples]
    job = replace(job, samples=samples, all_samples=samples)
    run = scored(tmp_path, "A", [(job, texts_of(job))])
    first, second, third, *_ = copies.values()
    first.unlink()
    second.write_bytes(b"no image")
    Image.new("RGB", (9, 7)).save(third)
    written = write_report([run], known([(job, {})]), tmp_path / "report")
    gone, changed = written.notes
    assert gone.startswith(f"2 of {len(names)} images cannot be shown (")
    assert changed.startswith(f"1 of {len(names)} images differ from those the run used (")
    by_name = {name.split("/")[-1]: rest for name, *rest in index_of(written.path)["images"]}
    assert by_name[first.name] == [0, 0, "the image file is missing"]
    assert "cannot be read" in by_name[second.name][2]
    assert by_name[third.name] == [9, 7, "not the image that the run used"]


def test_failed_samples_are_shown_with_their_errors(tmp_path: Path) -> None:
    job = job_of("vqav2/val", 12)
    texts = texts_of(job)
    lost = [s.id for s in job.samples][5]
    del texts[lost]
    run = scored(tmp_path, "A", [(job, texts)])
    page = write_report([run], known([(job, {})]), tmp_path / "report").path
    shown = {s["id"]: s["runs"][0] for s in samples_of(page, 0)}
    assert list(shown) == [s.id for s in job.samples]
    assert shown[lost]["status"] == "error"
    assert "no answer in the test" in shown[lost]["error"]
    assert shown[lost]["scores"] == {}


def test_prompt_is_exact_only_if_recorded(run: Path, jobs: Jobs) -> None:
    journal = run / "vqav2.val.jsonl"
    from evalkit.results.store.journal import seal

    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    for line in lines:
        line["prompt"] = "a" * 16
        del line["sum"], line["seconds"]
    lines[1]["shots"] = ["7", "8"]
    journal.write_bytes(b"".join(seal(json.dumps(line).encode(), 0.5) for line in lines))
    edit_json(
        run / "scores.json", lambda content: [row.pop("journal") for row in content["results"] if "journal" in row]
    )
    facts = known(jobs)
    first = facts["vqav2/val"]
    for digest, expected in (("a" * 16, True), ("b" * 16, False)):

        def asked(sample: Sample, shots: Sequence[str], image_sizes: object, digest: str = digest) -> RenderedPrompt:
            return RenderedPrompt([("user", "What?")], digest, has_shots=not shots)

        split = split_of([ScoredRun.open(run)], "vqav2/val", replace(first, render_prompt=[asked]))
        answer = {s.id: s.answers[0] for s in split.samples}
        assert answer[lines[0]["id"]].exact is expected
        assert answer[lines[1]["id"]].exact is None, "its few-shot examples are missing"
        assert answer[lines[1]["id"]].shots == ("7", "8")


def test_samples_of_large_split_are_drawn_by_their_ids(run: Path, jobs: Jobs, tmp_path: Path) -> None:
    split = split_of([ScoredRun.open(run)], "vqav2/val", known(jobs)["vqav2/val"])
    every = [s.id for s in split.samples]
    some, fewer = ([s.id for s in subset(split.samples, most)] for most in (12, 5))
    assert set(fewer) < set(some)
    assert some == [key for key in every if key in some]
    written = write_report([run], known(jobs), tmp_path / "r", most=12)
    assert written.samples == 24
    assert written.notes[0].startswith("vqav2/val, refcoco/val: 12 of 24 samples are in the gallery")
    assert sum(b["counts"][0] for b in index_of(written.path)["splits"][0]["bins"]) == 24


# ---------------------------------------------------------------------------------------------------- where it is written


def test_report_is_written_over_report_and_over_nothing_else(run: Path, jobs: Jobs, tmp_path: Path) -> None:
    out = tmp_path / "r"
    write_report([run], known(jobs), out)
    (out / "my notes.txt").write_text("mine")
    (out / "data" / "old.js").write_text("")
    write_report([run], known(jobs), out)
    assert (out / "my notes.txt").read_text() == "mine"
    assert not (out / "data" / "old.js").exists()

    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    (tmp_path / "page.html").write_text("<h1>mine</h1>")
    for path, single, said in (
        (other, False, "contains other files"),
        (tmp_path / "page.html", False, "is a file"),
        (tmp_path / "page.html", True, "is not a report written by evalkit"),
        (other, True, "give a file's name"),
    ):
        with pytest.raises(UserError, match=said):
            write_report([run], known(jobs), path, single=single)
    assert (other / "thesis.tex").read_text() == "mine"
