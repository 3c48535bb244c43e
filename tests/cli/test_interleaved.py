"""A benchmark of another package with interleaved questions: two images with text between, an image among the options."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Evalkit = Callable[..., "CompletedProcess[str]"]

PLUGIN = '''
"""Pairs: which image shows what, for tests."""

from evalkit.interfaces import Task
from evalkit.types import Decoding, PromptTemplate, Sample, Split


class Pairs(Task):
    name = "pairs"
    version = 1
    kind = "choice"
    splits = {"test": Split(4), "train": Split(4)}
    default_splits = ("test",)
    metric = "choice_accuracy"
    decoding = Decoding(max_new_tokens=4)
    prompts = {"lmms-eval": PromptTemplate("{q}\\n{options}\\nA letter, please.", max_new_tokens=2)}

    def from_files(self, data, split):
        images = data.coco_images("val2014", self.name)
        first = 1 if split == "test" else 7
        for n in range(4):
            one, two, three = (images[first + n + k] for k in range(3))
            yield Sample.interleaved(
                f"{split}-{n}",
                ("Compare ", one, " with ", two, ".\\nWhich shows a circle?"),
                references=("A",),
                cluster=f"{split}-{n}",
                options=("the first", three, "neither"),
            )


TASK = Pairs()
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, found on ``sys.path`` as an installed one is."""
    folder = tmp_path / "site" / "pairs-1.dist-info"
    folder.mkdir(parents=True)
    (tmp_path / "site" / "pairs_plugin.py").write_text(PLUGIN)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pairs\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[evalkit.tasks]\npairs = pairs_plugin:TASK\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    sys.modules.pop("pairs_plugin", None)


def journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "pairs.test.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("plugin")
def test_benchmark_with_several_images_from_dry_run_to_report(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit("run", "--tasks", "pairs", "--data", "tiny", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    prompt = re.sub(r"\s*│ ", "\n", done.stdout)
    assert prompt.count("image /") == 2 * 3, "every image of the two samples shown, with its size"
    image = r"<\|vision_start\|>(<\|image_pad\|>)+(… )?.*?<\|vision_end\|>"
    assert re.search(
        rf"Question: Compare {image} with {image}\.\nWhich shows a circle\?\nOptions:\nA\. the first\nB\. {image}\n"
        r"C\. neither\nPlease select the correct answer",
        prompt,
    ), prompt

    plain = tmp_path / "runs" / "r0"
    for shots, images in ((0, 3), (1, 6)):
        done = evalkit(
            "run", "--tasks", "pairs", "--data", "tiny", "--shots", f"{shots}", "--name", f"r{shots}", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        lines = journal(tmp_path / "runs" / f"r{shots}")
        assert len(lines) == 4
        for line in lines:
            assert len(line["images"]) == len(line["digests"]) == len(line["frames"]) == images
            assert line["finish"] != "error"

    done = evalkit("show", str(plain), "--id", "test-0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("COCO_val2014") == 3
    assert "Compare ⟨image⟩ with ⟨image⟩." in done.stdout
    assert "B. ⟨image 3⟩" in done.stdout

    done = evalkit("report", str(plain), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = [plain / "report" / "index.html", *(plain / "report" / "data").iterdir()]
    text = "".join(path.read_text() for path in files)
    assert "⟨image 3⟩" in text
    assert all(f"COCO_val2014_{number:012d}" in text for number in (1, 2, 3))
    assert "4 samples, 6 images" in " ".join((done.stderr + done.stdout).split())

    answers = [{"id": f"test-{n}", "text": "A" if n else "C"} for n in range(4)]
    (tmp_path / "p.json").write_text(json.dumps(answers))
    done = evalkit("score", "-t", "pairs", "-p", "p.json", "--data", "tiny", "--name", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "s" / "scores.json").read_text())["results"][0]["value"] == 75.0


@pytest.mark.usefixtures("plugin")
def test_another_harnesss_prompt_comes_from_package(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "--tasks", "pairs", "--data", "tiny", "--dry-run")
    done = evalkit(*command, "--protocol", "lmms-eval", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "A letter, please." in done.stdout
    assert "2 new tokens" in done.stdout
    done = evalkit(*command, "--protocol", "vlmevalkit", cwd=tmp_path)
    assert done.returncode == 2
    assert "vlmevalkit has no prompt for pairs; use --protocol official or lmms-eval." in " ".join(done.stderr.split())


@pytest.mark.usefixtures("plugin")
def test_family_of_one_image_refuses_several() -> None:
    from evalkit import registry
    from evalkit.data import open_data
    from evalkit.errors import UserError
    from evalkit.types import PromptSpec

    task = registry.tasks.get("pairs")
    (first, *_) = task.load(open_data("tiny"), "test")
    spec = PromptSpec("pairs", "vqa")
    with pytest.raises(
        UserError, match="sample test-0 has 3 images, but models of the family paligemma take one image"
    ):
        registry.families.get("paligemma").prompt(spec, first)
