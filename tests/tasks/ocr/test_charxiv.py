from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.metrics.charxiv import METRICS
from evalkit.tasks.ocr.charxiv import TASKS
from evalkit.types import Answered, JudgedAnswer, Prediction, Verdict

from ..rows import png

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "charxiv.json").read_text())
FILES = GOLDEN["files"]


def official(root: Path, changes: dict[str, Any] | None = None) -> Path:
    """The golden charts in the official files; ``changes`` of the first chart's entries by file and key."""
    folder = root / "charxiv"
    (folder / "data").mkdir(parents=True)
    (folder / "images").mkdir()
    contents = {"descriptive": FILES["descriptive"], "reasoning": FILES["reasoning"], "image_metadata": FILES["images"]}
    contents = json.loads(json.dumps(contents))
    for place, value in (changes or {}).items():
        name, _, key = place.partition(".")
        contents[name]["0"][key] = value
    for name, content in contents.items():
        (folder / "data" / f"{name}_val.json").write_text(json.dumps(content))
    for figure in FILES["images"]:
        (folder / "images" / f"{figure}.jpg").write_bytes(png(0))
    return root


def hub(root: Path) -> Path:
    rows = []
    for number, (figure, entry) in enumerate(FILES["descriptive"].items()):
        place, reasoning = entry["subplot_loc"], FILES["reasoning"][figure]
        grid = isinstance(place, list)
        rows.append({
            **FILES["images"][figure], "original_id": "x", "figure_path": f"images/{figure}.jpg",
            "num_subplots": entry["num_subplots"], "subplot_row": place[0] if grid else None,
            "subplot_col": place[1] if grid else None, "subplot_loc": None if grid else place,
            **{f"descriptive_q{n}": entry["qids"][n - 1] for n in (1, 2, 3, 4)},
            **{f"descriptive_a{n}": entry["answers"][n - 1] for n in (1, 2, 3, 4)},
            "reasoning_q": reasoning["query"], "reasoning_a": reasoning["answer"],
            "reasoning_a_type": reasoning["inst_category"], "reasoning_q_source": reasoning["qa_source"],
            "image": {"bytes": png(number), "path": None},
        })  # fmt: skip
    folder = root / "princeton-nlp/CharXiv"
    folder.mkdir(parents=True)
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(folder / "val.parquet")
    return root


@pytest.mark.parametrize("questions", ["descriptive", "reasoning"])
def test_questions_as_the_official_script(tmp_path: Path, questions: str) -> None:
    task = TASKS[f"charxiv_{questions}"]
    samples = list(task.load(open_data(str(official(tmp_path))), "val"))
    assert {s.id: s.text for s in samples} == GOLDEN["questions"][questions]
    METRICS[task.metric].check(samples, "vqa")
    assert task.splits["val"].size == {"descriptive": 4_000, "reasoning": 1_000}[questions]


@pytest.mark.parametrize("questions", ["descriptive", "reasoning"])
def test_score_and_breakdowns_as_the_official_script(tmp_path: Path, questions: str) -> None:
    task = TASKS[f"charxiv_{questions}"]
    samples = list(task.load(open_data(str(official(tmp_path))), "val"))
    verdicts = GOLDEN["scores"][questions]
    scores = METRICS[task.metric].score_judged(
        [JudgedAnswer(Answered(s, Prediction("x")), {"score": Verdict(float(verdicts[s.id]))}) for s in samples]
    )
    stats = GOLDEN["stats"][questions]
    assert math.isclose(scores.values["score"], stats["Overall Score"], abs_tol=5.01e-3)
    groups = {name: value for values in stats.values() if isinstance(values, dict) for name, value in values.items()}
    groups = {name: value for name, value in groups.items() if f"score[{name}]" in scores.values or value}
    for name, value in groups.items():
        assert math.isclose(scores.values[f"score[{name}]"], value, abs_tol=5.01e-3), name
    assert len(groups) == {"descriptive": 38, "reasoning": 21}[questions]


def test_meta_and_clusters(tmp_path: Path) -> None:
    data = open_data(str(official(tmp_path)))
    first = next(iter(TASKS["charxiv_descriptive"].load(data, "val")))
    assert (first.id, first.cluster, first.references) == ("0_0", "0", ("truth 1",))
    assert first.meta == {
        "subject": "Computer Science", "year": "2020", "subplots": "1 Subplot", "template": 1, "question": "Q1",
        "question_type": "Information Extraction",
    }  # fmt: skip
    assert list(TASKS["charxiv_reasoning"].load(data, "val"))[4].meta == {
        "subject": "Physics", "year": "2020", "subplots": "5+ Subplots", "type": 4, "answer_type": "Number-in-General",
        "source": "GPT-Inspired", "raw_question": "What is {value} 4?",
    }  # fmt: skip


@pytest.mark.parametrize("questions", ["descriptive", "reasoning"])
def test_hub_has_the_same_questions(tmp_path: Path, questions: str) -> None:
    task = TASKS[f"charxiv_{questions}"]
    found = list(task.load(open_data(f"hub:{hub(tmp_path / 'hub')}"), "val"))
    expected = list(task.load(open_data(str(official(tmp_path / "files"))), "val"))
    assert [(s.id, s.text, s.references, s.cluster, s.meta) for s in found] == [
        (s.id, s.text, s.references, s.cluster, s.meta) for s in expected
    ]
    assert found[0].images[0].size() == (20, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"descriptive.qids": [1, 2, 3, 20]}, "the template is 20, not one of 1 to 19"),
        ({"descriptive.qids": [1, 2, 3]}, "argument"),
        ({"descriptive.answers": [None, "a", "b", "c"]}, "answer is None, not a text"),
        ({"descriptive.subplot_loc": 7}, "subplot_loc is 7, neither row and column nor a text"),
        ({"descriptive.num_subplots": "many"}, "num_subplots is 'many', not an integer"),
        ({"image_metadata.category": "poetry"}, "category is 'poetry', not one of cs"),
    ],
)
def test_wrong_files_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = open_data(str(official(tmp_path, changes)))
    with pytest.raises(UserError, match=f"^charxiv_descriptive: .*{message}"):
        list(TASKS["charxiv_descriptive"].load(data, "val"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reasoning.inst_category": 5}, "the answer's type is 5"),
        ({"reasoning.qa_source": 0}, "the question's source 0"),
        ({"reasoning.query": None}, "question is None, not a text"),
        ({"reasoning.answer": 3}, "answer is 3, not a text"),
    ],
)
def test_wrong_reasoning_questions_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = open_data(str(official(tmp_path, changes)))
    with pytest.raises(UserError, match=f"^charxiv_reasoning: .*{message}"):
        list(TASKS["charxiv_reasoning"].load(data, "val"))
