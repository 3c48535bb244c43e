from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HOSTILE = (
    "<script>alert(1)</script> [bold]not bold[/bold] **nor this** <img src=x>",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \x00",
    "line one\rline two\n```\n# heading\n````",
    "\u202e txet dlrow \u2066 שלום",
    '=1+1,"quoted"; \u2028 separated',
    "@everyone ![x](http://example.org/x.png) | a | b |",
)
"""What a model may say."""


def journal_line(name: str, text: str, *, failed: bool) -> dict[str, object]:
    """A line of a run's journal as the first version of evalkit wrote it, without a checksum."""
    line = {
        "id": name, "prompt": "", "text": text, "answer": text, "finish": "stop", "new_tokens": 0, "prompt_tokens": 0,
        "images": [], "digests": [], "frames": [],
    }  # fmt: skip
    return line | ({"finish": "error", "text": "", "answer": None, "error": "out of memory"} if failed else {})


@pytest.fixture(scope="session")
def two_runs(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the runs ``runs/a`` and ``runs/b`` over the bundled data, read as Qwen2.5-VL's answers are.

    a has everything right but every fourth sample, whose answer is hostile; b answers in the official form of the first
    sample throughout.  a's last question of VQAv2 failed, which a journal says; both are without torch.
    """
    from evalkit.api import load_task

    folder = tmp_path_factory.mktemp("two")
    names = ("vqav2/val", "refcoco/val", "scienceqa_img/test", "docvqa/val")
    for run in "ab":
        files = []
        for name in names:
            samples = load_task(name, data="tiny")
            rows = []
            for place, sample in enumerate(samples):
                hostile = place % 4 == 3 and run == "a"
                source = samples[0] if run == "b" else sample
                right = source.references[0]
                if name.startswith("refcoco"):  # in pixels of the image as the encoder sees it
                    right = json.dumps([{"bbox_2d": [round(v) for v in right], "label": "it"}])
                rows.append({"id": sample.id, "text": HOSTILE[place // 4 % len(HOSTILE)] if hostile else right})
            if run == "a" and name == "vqav2/val":
                rows = [journal_line(row["id"], row["text"], failed=row is rows[-1]) for row in rows]
            files.append(f"{run}-{name.partition('/')[0]}.jsonl")
            (folder / files[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = evalkit(
            "score", "-t", ",".join(names), "-p", ",".join(files), "--data", "tiny", "--name", run,
            "--family", "qwen2.5-vl", cwd=folder,
        )  # fmt: skip
        assert done.returncode == (1 if run == "a" else 0), done.stderr
    return folder


def moved(made: Path, to: Path) -> None:
    """A copy of the folder ``made``, in which runs were made, in ``to``; their manifests say that they were made there.

    To make a run takes seconds, to copy it next to nothing.
    """
    shutil.copytree(made, to, dirs_exist_ok=True)
    for manifest in to.glob("runs/*/manifest.json"):
        edited = json.loads(manifest.read_text().replace(str(made), str(to)))
        edited.pop("checksum")
        manifest.write_text(json.dumps(edited, indent=2))


def scored(
    evalkit: Callable[..., subprocess.CompletedProcess[str]],
    cwd: Path,
    name: str,
    wrong: Sequence[int],
    data: str = "tiny",
) -> Path:
    """A run over VQAv2 val whose answers are right but for every so-and-so-many-th of ``wrong``."""
    from evalkit.api import load_task

    rows = [
        {"id": s.id, "text": "nothing of the kind" if i in wrong else s.references[0]}
        for i, s in enumerate(load_task("vqav2/val", data=str(cwd / data) if data != "tiny" else data))
    ]
    (cwd / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit("score", "-t", "vqav2/val", "-p", f"{name}.jsonl", "--data", data, "--name", name, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


@pytest.fixture(scope="session")
def two_scored(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ``pair`` is a copy of."""
    folder = tmp_path_factory.mktemp("pair")
    scored(evalkit, folder, "good", range(0, 324, 20))
    scored(evalkit, folder, "bad", range(0, 324, 4))
    return folder


@pytest.fixture
def pair(two_scored: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with the runs ``runs/good`` and ``runs/bad`` over VQAv2 val."""
    moved(two_scored, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def captions(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A scored run over COCO's captions, of which some are right and some are another image's."""
    from evalkit.api import load_task

    folder = tmp_path_factory.mktemp("captions")
    samples = load_task("coco_caption/val2014", data="tiny")
    rows = [{"image_id": int(s.id), "caption": samples[n // 2].references[0]} for n, s in enumerate(samples)]
    (folder / "captions.json").write_text(json.dumps(rows))
    done = evalkit(
        "score", "-t", "coco_caption/val2014", "-p", "captions.json", "--data", "tiny", "--name", "c", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "c"
