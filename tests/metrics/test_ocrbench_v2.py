from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.metrics import ocrbench_v2
from evalkit.metrics.ocr.wordnet import wordnet
from evalkit.metrics.ocrbench_v2 import GROUP_OF, METRIC
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ocrbench_v2.json").read_text())


def sample(key: str, task: str, answers: list[Any], question: str = "?", **meta: Any) -> Sample:
    texts = [json.dumps(a, ensure_ascii=False) if isinstance(a, dict) else str(a) for a in answers]
    fields = {"category": task, "part": GROUP_OF.get(task), "eval": "", **meta}
    return Sample(key, (), question, tuple(texts), key, meta=fields)


def answered(case: dict[str, Any]) -> Answered:
    inputs = dict(case["inputs"])
    task, answers, text = inputs.pop("type"), inputs.pop("answers"), inputs.pop("predict")
    return Answered(sample(str(case["id"]), task, answers, **inputs), Prediction(text.strip() or None))


ANSWERS = [answered(case) for case in GOLDEN["cases"]]


def test_every_case_as_the_official_script() -> None:
    METRIC.check([one.sample for one in ANSWERS], "vqa")
    scores = score_answers(METRIC, ANSWERS)
    assert len(ANSWERS) > 300
    assert {one.sample.meta["category"] for one in ANSWERS} == set(GROUP_OF)
    for case in GOLDEN["cases"]:
        expected = 100 * case["expected"] if case["inputs"]["predict"].strip() else 0.0
        assert math.isclose(scores.per_sample[str(case["id"])]["score"], expected, abs_tol=1e-9), case


@pytest.mark.parametrize("language", ["en", "cn"])
def test_groups_and_score_as_the_official_script(language: str) -> None:
    empty = {
        str(c["id"]): c["expected"] for c in GOLDEN["cases"] if c["expected"] and not c["inputs"]["predict"].strip()
    }
    those = [
        one for one in ANSWERS if one.sample.meta["category"].endswith(language) and one.sample.id not in empty
    ]  # fmt: skip
    scores = score_answers(METRIC, those)
    expected = GOLDEN["aggregate"][language]
    # What the script gives to empty answers is left out on both sides.
    given: dict[str, list[float]] = {}
    for one in ANSWERS:
        if one.sample.id in empty and one.sample.meta["category"].endswith(language):
            given.setdefault(one.sample.meta["part"], []).append(empty[one.sample.id])
    groups = {}
    for group, value in expected.items():
        if group != "overall":
            found, more = scores.values[f"score[{group}]"] / 100, given.get(group, [])
            count = sum(one.sample.meta["part"] == group for one in those)
            groups[group] = (found * count + sum(more)) / (count + len(more))
            assert math.isclose(groups[group], value, abs_tol=5.01e-4), group
    assert math.isclose(sum(groups.values()) / len(groups), expected["overall"], abs_tol=5.01e-4)
    mean = sum(scores.values[f"score[{group}]"] for group in groups) / len(groups)
    assert math.isclose(scores.values["score"], mean)


def test_synonyms_of_inflected_words() -> None:
    def synonyms(word: str) -> set[str]:
        return {lemma.name() for synset in wordnet().synsets(word) for lemma in synset.lemmas()}

    assert {"automobile", "auto"} <= synonyms("Cars")
    assert "goose" in synonyms("geese")
    assert "play" not in synonyms("player")  # -er is an ending of adjectives only
    assert "big" in synonyms("larger")
    assert synonyms("qwertz") == set()


@pytest.mark.parametrize(
    ("task", "answers", "meta", "message"),
    [
        ("poems en", ["a"], {}, "has the task 'poems en'"),
        ("math QA en", ["a"], {"part": "text_spotting"}, "or not its group"),
        ("chart parsing en", ["[1]"], {}, "the chart is no dictionary"),
        ("chart parsing en", ["{"], {}, "has the reference '{'"),
        ("key information extraction cn", ["nothing"], {}, "it is no dictionary"),
        ("text grounding en", [1, 2, 3], {}, "a box has four numbers"),
        ("text grounding en", ["a", 2, 3, 4], {}, "has the reference 'a'"),
        ("text counting en", ["many"], {"eval": "regression"}, "has the reference 'many'"),
        ("math QA en", [], {}, "no answers to score against"),
    ],
)
def test_wrong_references_are_refused(task: str, answers: list[Any], meta: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^ocrbench_v2: sample 'a' has .*{message}".replace("has .*has", "has")):
        METRIC.check([sample("a", task, answers, **meta)], "vqa")


def test_missing_packages_are_reported_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(ocrbench_v2, "find_spec", lambda name: None if name in ("jieba", "lxml") else found(name))
    with pytest.raises(
        UserError, match=r"scoring needs jieba, lxml; install the extra: pip install 'evalkit-vlm\[ocr\]'"
    ):
        METRIC.check([], "vqa")


@pytest.mark.parametrize(
    ("task", "answers", "text"),
    [
        ("text spotting en", [""], "[" * 5_000),
        ("text grounding en", [1, 2, 3, 4], f"[{'9' * 5_000}, 1, 2, 3]"),
        ("key information extraction en", [{"a": ["1"]}], "a" * 50_000),
        ("key information extraction en", [{"a": ["1"]}], f"{{'a': {'9' * 5_000}}}"),
        ("key information extraction en", [{"a": ["1"]}], "{'a':" * 5_000),
        ("VQA with position en", ["x"], '{"answer": "x", "bbox": "[[[[' + "[" * 5_000 + '"}'),
        ("chart parsing en", [{"a": "1"}], "{'a': '\x00<td colspan=x>'}"),
        ("chart parsing en", [{"a": "1"}], "{'a': " + "(" * 5_000),
        ("document parsing en", ["# a\nb"], "\n".join(f"# {n}" for n in range(500))),
        ("text counting en", ["4"], "9" * 5_000),
        # Each would take minutes if the time grew with the square of the length.
        ("key information extraction en", [{"a": ["1"]}], "a```\n" * 50_000),
        ("chart parsing en", [{"a": "1"}], "a```\n" * 50_000),
        ("text grounding en", [1, 2, 3, 4], "[" + " " * 200_000),
    ],
)  # fmt: skip
def test_hostile_answers_are_wrong(task: str, answers: list[Any], text: str) -> None:
    meta = {"bbox": [[1, 1, 2, 1, 2, 2, 1, 2]] if "spotting" in task else [1, 1, 2, 2], "content": ["x"]}
    rule = {"eval": "regression"} if "counting" in task else {}
    scores = score_answers(METRIC, [Answered(sample("a", task, answers, **meta, **rule), Prediction(text))])
    assert scores.values["score"] <= 50
