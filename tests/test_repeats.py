"""Scores over several answers to each sample: pass@k, votes, means, spread and intervals."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean, stdev

import pytest

from evalkit import registry
from evalkit.aggregation import MeanOfGroups, OfSums
from evalkit.api import load_task, score
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.jobs import Job, Record, build_requests
from evalkit.metric_contract import score_answers
from evalkit.repeats import SPREAD, answer_key, normalised, pass_at, pass_sizes, vote
from evalkit.results.leaderboard.rows import truncated_text, with_error
from evalkit.results.stats.intervals import of_values
from evalkit.results.store.scores import sample_lines, score_row
from evalkit.scoring import Result, score_job
from evalkit.types import Answered, Decoding, Kind, Prediction, Response, Sample, Split

ROOT = Path(__file__).parents[1]


class Own(Task):
    """A task of made-up samples."""

    name = "own"
    version = 1
    splits = {"val": Split(None)}
    decoding = Decoding(16, temperature=1.0)

    def __init__(self, metric: str, kind: Kind = "vqa") -> None:
        self.metric = metric
        self.kind = kind


def question(number: int, answer: str, image: str = "", **meta: str) -> Sample:
    return Sample(str(number), (), "?", (answer,), image or str(number), meta=meta)


def job_of(metric: str, samples: Sequence[Sample], repeats: int, kind: Kind = "vqa") -> Job:
    return Job(Own(metric, kind), "val", samples, limited=False, all_samples=samples, repeats=repeats)


def scored(
    metric: str, samples: Sequence[Sample], answers: Sequence[Sequence[str | None]], kind: Kind = "vqa"
) -> Result:
    """The result of each sample's answers; ``ERROR`` is one that failed."""
    records = [
        Record(
            sample, "", Response(sample.id, finish="error" if text == ERROR else "stop"), Prediction(text), repeat=at
        )
        for sample, texts in zip(samples, answers, strict=True)
        for at, text in enumerate(texts, start=1)
    ]
    return score_job(job_of(metric, samples, len(answers[0]), kind), records)


ERROR = "(error)"


# -------------------------------------------------------------------------------------------------------------- pass@k


@pytest.mark.parametrize("repeats", range(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(repeats: int) -> None:
    for right, k in itertools.product(range(repeats + 1), range(1, repeats + 1)):
        subsets = list(itertools.combinations([True] * right + [False] * (repeats - right), k))
        assert pass_at(k, repeats, right) == pytest.approx(float(Fraction(sum(map(any, subsets)), len(subsets))))


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_unbiased(chance: float, k: int) -> None:
    repeats = 6
    expected = sum(
        math.comb(repeats, right) * chance**right * (1 - chance) ** (repeats - right) * pass_at(k, repeats, right)
        for right in range(repeats + 1)
    )
    assert expected == pytest.approx(1 - (1 - chance) ** k)


def test_k_are_powers_of_two_and_the_number_of_repeats() -> None:
    assert [pass_sizes(n) for n in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]
    for k, repeats, right in ((0, 4, 1), (5, 4, 1), (1, 4, 5), (1, 4, -1)):
        with pytest.raises(ValueError, match="pass@"):
            pass_at(k, repeats, right)


# --------------------------------------------------------------------------------------------------------------- votes


@pytest.mark.parametrize(
    ("one", "other"),
    [("Yes.", "yes"), (" a  cat ", "A cat"), ("1,000.0", "1000"), ("0.50", "0.5"),
     ("Ｂ", "b"), ("“red”", "red"), ("-0", "0"), ("007", "7")],
)  # fmt: skip
def test_answers_that_count_as_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("12", "12%"), ("1.000", "1,000"), ("cat", "cats"), ("1.5", "15"), ("", "x")]
)
def test_answers_that_count_as_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["a", "b", "B", "c"], "b"),
        (["b", "a", "a", "b"], "b"),  # a tie: the one given first
        ([None, None, "c"], "c"),  # unparsed answers do not vote
        ([None, None], None),
        (["10", "ten", "10.0"], "10"),
    ],
)
def test_majority_vote(answers: list[str | None], winner: str | None) -> None:
    assert vote([Prediction(answer) for answer in answers]).value == winner


# -------------------------------------------------------------------------------------------------------------- scores

SAMPLES = [question(0, "yes", "a"), question(1, "no", "a"), question(2, "red", "b"), question(3, "2", "c")]
ANSWERS = [
    ["yes", "no", "yes", "yes"],
    ["yes", "yes", "no", "no"],
    ["blue", "green", None, "blue"],
    ["2", "2", "2", "2"],
]


def test_scores_over_repeats() -> None:
    result = scored("exact_match", SAMPLES, ANSWERS)
    assert result.scores is not None
    assert (result.n, result.answers, result.unparsed, result.errors) == (4, 16, 1, 0)
    each = [scores.values["accuracy"] for scores in result.repeats]
    assert each == [50.0, 25.0, 75.0, 75.0]
    values = dict(result.scores.values)
    assert values.pop("accuracy") == fmean(each)
    assert values.pop(SPREAD) == pytest.approx(stdev(each))
    # Of 4 answers, 3, 2, 0 and 4 are right; the votes are yes, yes (the first of a tie), blue and 2.
    closed = {k: 25 * sum(1 - math.comb(4 - c, k) / math.comb(4, k) for c in (3, 2, 0, 4)) for k in (1, 2, 4)}
    assert values.pop("maj@4") == 50.0
    assert values == pytest.approx({f"pass@{k}": value for k, value in closed.items()})
    row = score_row(result)
    assert row.repeats == each
    assert row.signature.endswith("|exact_match|norm:strip+lower|v1|repeats:4|n:4")
    lines = {line["id"]: line for line in sample_lines(result)}
    assert lines["1"]["accuracy"] == lines["1"]["pass@1"] == 50.0
    assert [scores["accuracy"] for scores in lines["1"]["repeats"]] == [0, 0, 100, 100]
    assert set(row.intervals) == {"accuracy", "pass@1", "pass@2", "pass@4", "maj@4"}


def test_each_repeat_is_scored_as_a_run_of_its_own() -> None:
    result = scored("exact_match", SAMPLES, ANSWERS)
    for place, scores in enumerate(result.repeats):
        alone = [Answered(s, Prediction(texts[place])) for s, texts in zip(SAMPLES, ANSWERS, strict=True)]
        assert scores.per_sample == score_answers(registry.metrics.get("exact_match"), alone).per_sample


def test_one_answer_is_scored_as_before() -> None:
    result = scored("exact_match", SAMPLES, [texts[:1] for texts in ANSWERS])
    assert result.scores is not None
    assert set(result.scores.values) == {"accuracy"}
    assert "repeats" not in score_row(result).to_dict()
    assert "repeats" not in score_row(result).signature
    assert all(set(line) == {"id", "cluster", "accuracy"} for line in sample_lines(result))


def test_interval_is_that_of_the_samples_mean_scores() -> None:
    """Images are resampled with all answers to their questions, so that what repeats differ by counts once."""
    samples = [question(i, "yes", str(i // 2)) for i in range(60)]
    answers = [["yes" if (i * 7 + r * 5) % 11 < 6 else "no" for r in range(4)] for i in range(60)]
    result = scored("exact_match", samples, answers)
    assert result.scores is not None
    means = [100 * fmean(text == "yes" for text in texts) for texts in answers]
    sums = [means[i] + means[i + 1] for i in range(0, 60, 2)]
    expected = math.sqrt(30 / 29 * sum((s - 2 * fmean(means)) ** 2 for s in sums)) / 60
    row = score_row(result)
    assert row.stderr == pytest.approx(expected)
    assert row.interval == row.intervals["pass@1"]["interval"] == "hall"
    assert row.low < row.value < row.high  # type: ignore[operator]
    assert with_error(row) == f"{row.value:.2f} [{row.low:.1f}, {row.high:.1f}]"


def test_a_sample_of_which_an_answer_failed_is_not_scored() -> None:
    answers = [*ANSWERS[:3], ["2", ERROR, "2", "2"]]
    result = scored("exact_match", SAMPLES, answers)
    assert result.scores is not None
    assert (result.n, result.errors, result.complete) == (3, 1, False)
    assert all(scores.per_sample.keys() == {"0", "1", "2"} for scores in result.repeats)


def test_truncated_answers_are_a_share_of_all_answers() -> None:
    records = [
        Record(sample, "", Response(sample.id, finish="length" if at < 3 else "stop"), Prediction("yes"), repeat=at)
        for sample in SAMPLES
        for at in range(1, 5)
    ]
    row = score_row(score_job(job_of("exact_match", SAMPLES, 4), records))
    assert (row.n, row.answers) == (4, 16)
    assert truncated_text(row) == "8 (50.0 %)"


def test_metrics_of_all_samples_are_computed_per_repeat() -> None:
    """F1 is not linear: its mean over the repeats is not the F1 of all answers."""
    samples = [question(i, "yes" if i % 3 else "no", str(i // 2), category="random") for i in range(24)]
    answers = [["yes" if (i + r) % (r + 2) else "no" for r in range(3)] for i in range(24)]
    result = scored("pope_pooled", samples, answers, "yes_no")
    assert result.scores is not None
    each = [scores.values["f1_pooled"] for scores in result.repeats]
    assert len(set(each)) == 3
    assert result.scores.values["f1_pooled"] == fmean(each)
    assert isinstance(result.scores.aggregation_of("f1_pooled"), OfSums)
    intervals = of_values(result)
    assert intervals["f1_pooled"]["low"] < fmean(each) < intervals["f1_pooled"]["high"]
    assert "maj@3" in intervals
    assert "pass@2" in intervals


def test_cider_is_averaged_and_captions_do_not_vote() -> None:
    samples = [question(i, f"a red square above circle {i}", str(i)) for i in range(6)]
    answers = [[f"a red square above circle {i}", f"a blue square {i}"] for i in range(6)]
    result = scored("cider", samples, answers, "caption")
    assert result.failure is None
    assert result.scores is not None
    assert result.scores.values["cider"] == fmean(scores.values["cider"] for scores in result.repeats)
    assert not any(name.startswith(("maj@", "pass@")) for name in result.scores.values)


def test_passes_and_votes_are_aggregated_as_the_headline() -> None:
    samples = [question(i, "5", str(i), subset="human" if i < 2 else "augmented") for i in range(8)]
    answers = [["5", "9", "5"] if i < 2 else ["9", "9", "9"] for i in range(8)]
    result = scored("relaxed_accuracy", samples, answers)
    assert result.scores is not None
    assert isinstance(result.scores.aggregation_of("pass@3"), MeanOfGroups)
    assert result.scores.values["pass@3"] == result.scores.values["maj@3"] == 50.0  # of the halves, not of the samples


def test_every_metric_with_a_right_column_has_only_right_and_wrong_scores() -> None:
    declared = [metric.name for metric in registry.metrics.all() if metric.right_column]
    assert {"exact_match", "choice_accuracy", "iou", "mme", "yes_no_accuracy"} <= set(declared)
    assert not {"vqa_accuracy", "anls", "cider"} & set(declared)


def test_lists_of_answers_in_python() -> None:
    samples = load_task("scienceqa_img/test", data="tiny")
    found = score(samples, {sample.id: [str(sample.references[0]), "Z", "Z"] for sample in samples})
    assert found.values["accuracy"] == pytest.approx(100 / 3)
    assert found.values["pass@2"] == pytest.approx(200 / 3)
    assert found.values["pass@3"] == 100.0


# ------------------------------------------------------------------------------------------------------------ requests


def test_requests_of_repeats_have_ids_of_their_own_and_one_prompt() -> None:
    family = registry.families.get("generic")
    once, four = (build_requests(job_of("exact_match", SAMPLES, repeats), family) for repeats in (1, 4))
    assert list(four) == [answer_key(sample.id, repeat) for sample in SAMPLES for repeat in range(1, 5)]
    assert list(once) == [sample.id for sample in SAMPLES]
    assert all(four[key].request == once[key].request for key in once)  # the first repeat is the run without repeats
    assert four["0"].request.messages is four["0#4"].request.messages


def test_ids_that_look_like_repeats_are_refused() -> None:
    samples = [question(0, "yes"), Sample("0#2", (), "?", ("yes",), "1")]
    family = registry.families.get("generic")
    assert len(build_requests(job_of("exact_match", samples, 1), family)) == 2
    with pytest.raises(UserError, match="^own/val: --repeats needs other sample ids"):
        build_requests(job_of("exact_match", samples, 2), family)


# ---------------------------------------------------------------------------------------------------------- simulation


def test_intervals_over_repeats_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 60 evaluations; ``benchmarks/error_bars.py`` measures it with 1,000."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    import error_bars  # type: ignore[import-not-found]

    monkeypatch.setattr(error_bars, "TRUTH", 3)
    found = error_bars.repeats_coverage("yes_no_accuracy", 40, 8, 60)
    assert {"accuracy", "pass@1", "pass@8", "maj@8"} <= found.keys()
    # Of 60 intervals that cover in 95 % of cases, fewer than 50 cover with a probability of 1 in 3,000.
    assert all(found[name] >= 50 / 60 for name in ("accuracy", "pass@1", "pass@2", "pass@4", "pass@8", "maj@8")), found
