"""Every number's interval, as ``scores.json`` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from evalkit.aggregation import Aggregation, Corpus, Mean, MeanOfGroups, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric, Task
from evalkit.jobs import Job, Record
from evalkit.metric_contract import score_answers
from evalkit.results.stats.intervals import of_values, scale_of
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import sample_lines, score_row, write_results
from evalkit.scoring import Result, score_job
from evalkit.types import Answered, Box, Prediction, Response, Sample, Scores, Split


class Own(Task):
    """A task of these samples."""

    name = "own"
    version = 1
    kind = "vqa"
    splits = {"val": Split(None)}

    def __init__(self, metric: str) -> None:
        self.metric = metric


def scored(metric: str, samples: list[Sample], texts: Sequence[str | Box | None]) -> Result:
    job = Job(Own(metric), "val", samples, limited=False, all_samples=samples)
    records = [Record(s, "", Response(s.id), Prediction(t)) for s, t in zip(samples, texts, strict=True)]
    return score_job(job, records)


def question(i: int, answer: str, cluster: int, **meta: str) -> Sample:
    return Sample(str(i), (), "?", (answer,), str(cluster), meta=meta)


def chartqa(human: int, augmented: int) -> Result:
    samples = [
        question(i, "yes", i // 2, subset="human" if i < human else "augmented") for i in range(human + augmented)
    ]
    return scored("relaxed_accuracy", samples, ["yes" if i % 3 else "no" for i in range(human + augmented)])


@pytest.mark.parametrize("sizes", [(40, 40), (60, 20)])
def test_chartqa_is_mean_of_halves_and_so_is_its_interval(sizes: tuple[int, int]) -> None:
    result = chartqa(*sizes)
    found = of_values(result)
    assert {"accuracy", "accuracy[human]", "accuracy[augmented]"} <= set(found)
    halves = [found[f"accuracy[{half}]"]["stderr"] for half in ("human", "augmented")]
    # The halves share no image, so that their errors add up as independent ones do.
    assert found["accuracy"]["stderr"] == pytest.approx(np.hypot(*halves) / 2, rel=0.06)
    assert [line["stratum"] for line in sample_lines(result)] == ["human"] * sizes[0] + ["augmented"] * sizes[1]


def test_rows_have_the_comparison_keys(tmp_path: Path) -> None:
    result = chartqa(40, 40)
    row = score_row(result)
    assert row.low < row.value < row.high
    assert row.interval == "bootstrap"
    assert len(row.annotations) == 16
    assert len(row.samples) == 12
    rows, _ = write_results(RunFolder.create(tmp_path, "r"), [result], {})
    assert replace(rows[0], scores=None) == row, "and are the same every time"


def test_one_cluster_has_no_interval() -> None:
    result = scored("exact_match", [question(i, "a", 0) for i in range(5)], ["a", "b", "a", "a", "b"])
    row = score_row(result)
    assert (row.value, row.stderr, row.ci95, row.low, row.high, row.intervals) == (
        60.0, None, None, None, None, {},
    )  # fmt: skip


def test_bleu_comes_from_its_sufficient_statistics() -> None:
    """The resampled corpus's BLEU is that which pycocoevalcap computes of the resampled captions."""
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    from evalkit.metrics.cider import BLEU, bleu_of_sums
    from evalkit.metrics.text.ngrams import bleu_statistics, counts_of

    rng = np.random.default_rng(0)
    words = ["a", "dog", "runs", "over", "the", "green", "grass", "near", "some", "tall", "trees"]
    captions = [" ".join(rng.choice(words, rng.integers(3, 12))) for _ in range(60)]
    references = [
        [" ".join(w if rng.random() < 0.8 else "cat" for w in c.split()), c.replace("the", "this") + " again"]
        for c in captions
    ]
    pairs = zip(references, captions, strict=True)
    counts = np.array([bleu_statistics([*map(counts_of, refs)], counts_of(one)) for refs, one in pairs], dtype=float)
    for _ in range(20):
        chosen = rng.integers(0, 60, 60)
        expected, _ = bleu.Bleu(4).compute_score(
            {i: references[c] for i, c in enumerate(chosen)},
            {i: [captions[c]] for i, c in enumerate(chosen)},
            verbose=0,
        )
        found = bleu_of_sums(counts[chosen].sum(axis=0)[None])
        assert [float(found[name][0]) for name in BLEU] == pytest.approx([100 * value for value in expected])

    whole = {name: float(value[0]) for name, value in bleu_of_sums(counts.sum(axis=0)[None]).items()}
    ids = [str(i) for i in range(60)]
    statistics = {i: [int(v) for v in row] for i, row in zip(ids, counts, strict=True)}
    sums = OfSums(statistics, bleu_of_sums)
    scores = Scores("bleu_4", whole, {i: {"x": 0.0} for i in ids}, "s", dict.fromkeys(BLEU, sums))
    samples = [question(int(i), "x", int(i)) for i in ids]
    base = scored("exact_match", samples, ["x"] * 60)
    clusters = {i: i for i in ids}
    found = of_values(Result(base.job, scores, 60, 0, 0, 0, 0.0, clusters))
    assert set(found) == set(BLEU)
    for name, value in whole.items():
        assert found[name]["low"] < value < found[name]["high"], name
        assert (found[name]["high"] - found[name]["low"]) / 2 == pytest.approx(found[name]["ci95"], rel=0.15)
    assert sums.agrees("bleu_1", whole["bleu_1"], scores.per_sample, {})
    assert not sums.agrees("bleu_1", whole["bleu_1"] + 0.01, scores.per_sample, {})


def test_parsed_share_has_an_interval() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    samples = [Sample(str(i), (), "?", (box,), str(i // 3)) for i in range(60)]
    found = of_values(scored("iou", samples, [box if i % 4 else None for i in range(60)]))
    assert set(found) == {"acc@0.5", "mean_iou", "parse_rate"}
    assert found["parse_rate"]["ci95"] == found["acc@0.5"]["ci95"] > 5, "here all that is read is right"


def test_value_without_column_has_no_interval() -> None:
    base = scored("exact_match", [question(i, "a", i) for i in range(9)], ["a", "b", "a"] * 3)
    assert base.scores is not None
    other = Scores("odd", {"odd": 12.5, "accuracy": fmean([100, 0, 100])}, base.scores.per_sample, "s")
    found = of_values(Result(base.job, other, 9, 0, 0, 0, 0.0, base.clusters))
    assert set(found) == {"accuracy"}


def test_breakdowns_have_intervals_too() -> None:
    types = ["number", "other"]
    samples = [Sample(str(i), (), "?", ("3",) * 10, str(i // 3), meta={"answer_type": types[i % 2]}) for i in range(60)]
    result = scored("vqa_accuracy", samples, ["3" if i % 5 else "4" for i in range(60)])
    found = of_values(result)
    assert set(found) == {"accuracy", "accuracy_official_script", "accuracy[number]", "accuracy[other]"}


class Odd(Metric):
    """Accuracy, and a value that may not be the mean of its column."""

    name = "odd"

    def __init__(self, column: str, aggregation: Mapping[str, Aggregation]) -> None:
        self.column = column
        self.aggregation = aggregation

    def score(self, answers: Sequence[Answered]) -> Scores:
        rows = {a.sample.id: {"accuracy": 100.0 * (i % 2), self.column: 1.0} for i, a in enumerate(answers)}
        return Scores("accuracy", {"accuracy": 50.0, "best": 7.0}, rows, "odd|v1")


ANSWERS = [Answered(question(i, "a", i, kind="b"), Prediction("a")) for i in range(4)]


@pytest.mark.parametrize(
    ("column", "aggregation", "message"),
    [
        ("best", {}, "gives best = 7, but its samples give 1"),
        ("other", {"best": Mean()}, "a sample has no 'best'"),
        ("best", {"accuracy": MeanOfGroups(key="lost")}, "a sample has no 'lost'"),
    ],
)
def test_refuses_metric_whose_samples_do_not_give_its_value(
    column: str, aggregation: Mapping[str, Aggregation], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        score_answers(Odd(column, aggregation), ANSWERS)


def test_corpus_value_has_no_interval_and_says_why() -> None:
    scores = score_answers(Odd("best", {"best": Corpus("it is the best of all")}), ANSWERS)
    assert scores.aggregation_of("best") == Corpus("it is the best of all")
    base = scored("exact_match", [a.sample for a in ANSWERS], ["a"] * 4)
    assert set(of_values(Result(base.job, scores, 4, 0, 0, 0, 0.0, base.clusters))) == {"accuracy"}


def test_scale_of_stored_scores_comes_from_metric_in_signature() -> None:
    assert (
        scale_of("cider", "coco_caption:test|v1|protocol:official|cider|ptb:3.4.1|refs:5|n:9|idf:references|v1") is None
    )
    assert scale_of("cider[in]", "nocaps:val|v1|cider|ptb:3.4.1|v1|n:9") is None
    assert scale_of("bleu_4", "coco_caption:test|v1|cider|v1") == 100
    assert scale_of("cider", "own:val|v1|not_installed|v1") == 100
