from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.letters import Options
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.mme import COGNITION, METRIC, PERCEPTION
from evalkit.tasks.hallucination.mme import lmms_eval, official
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mme.json").read_text())


def answered(key: str, subtask: str, image: str, right: str, value: str | None) -> Answered:
    meta = {"category": subtask, "image": f"{subtask}/{image}"}
    return Answered(Sample(key, (), "?", (right,), image, meta=meta), Prediction(value))


def golden() -> list[tuple[Answered, dict[str, object]]]:
    return [
        (
            answered(
                f"{case['id']}/{place}", case["inputs"]["task"], case["id"], row["ground_truth"].lower(),
                official(row["response"], Options()).letter,
            ),
            {**case["expected"]["rows"][place], "pair": case["expected"]["pair_correct"]},
        )
        for case in GOLDEN["cases"]
        for place, row in enumerate(case["inputs"]["pair"])
    ]  # fmt: skip


def test_every_case_as_the_official_script() -> None:
    cases = golden()
    assert len(cases) == 306
    scores = score_answers(METRIC, [one for one, _ in cases])
    for one, expected in cases:
        row = scores.per_sample[one.sample.id]
        assert (one.prediction.value or "other") == expected["label"], one.sample.id
        assert row == {
            "accuracy": 100.0 * bool(expected["correct"]),
            "accuracy_plus": 100.0 * bool(expected["pair"]),
            "parse_rate": 100.0 * (expected["label"] != "other"),
        }, one.sample.id


def test_sums_as_the_official_script() -> None:
    scores = score_answers(METRIC, [one for one, _ in golden()])
    expected = GOLDEN["aggregate"]
    for part, name in (("Perception", "perception"), ("Cognition", "cognition")):
        assert scores.values[name] == pytest.approx(expected[part]["total"], rel=1e-12)
        for subtask, value in expected[part]["scores"].items():
            assert scores.values[f"score[{subtask}]"] == pytest.approx(value, rel=1e-12)
    assert scores.headline == "mme_sum"
    assert scores.values["mme_sum"] == pytest.approx(939.8232323232322 + 355.55555555555554)
    assert not scores.notes


def test_scales() -> None:
    everything = [
        answered(f"{subtask}{image}{place}", subtask, str(image), "yes", "yes")
        for subtask in (*PERCEPTION, *COGNITION)
        for image in range(2)
        for place in range(2)
    ]
    scores = score_answers(METRIC, everything)
    for name, most in (("mme_sum", 2800), ("perception", 2000), ("cognition", 800), ("score[OCR]", 200)):
        assert scores.values[name] == pytest.approx(most)
        assert scores.aggregation_of(name).maximum == most


def test_incomplete_pairs_and_missing_subtasks_are_noted() -> None:
    some = [answered(f"{n}", "count", str(n // 2), "yes", "yes" if n else "no") for n in range(3)]
    scores = score_answers(METRIC, some)
    assert scores.values["mme_sum"] == pytest.approx(100 * 2 / 3 + 50)
    assert "perception" in scores.values
    assert "cognition" not in scores.values
    assert scores.aggregation_of("mme_sum").maximum == 200
    assert scores.notes == [
        "1 of MME's 14 subtasks are there: the sums are of these only.",
        "1 of 2 images do not have two questions (a subset, or failed samples): their accuracy+ is not MME's.",
    ]


def test_no_answers() -> None:
    assert math.isnan(METRIC.score([]).values["mme_sum"])


@pytest.mark.parametrize(("subtask", "image"), [("counts", "a"), ("count", None), (None, "a")])
def test_sample_without_subtask_or_image_is_refused_before_the_run(subtask: str, image: str) -> None:
    sample = Sample("s", (), "?", ("yes",), "c", meta={"category": subtask, "image": image})
    with pytest.raises(
        UserError, match="mme/test: mme: sample 's' has the subtask .* expected one of existence, count"
    ):
        check_metric(METRIC, [sample], "yes_no", "mme/test")


@pytest.mark.parametrize(
    ("text", "first_four", "without_blanks"),
    [
        ("Yes", "yes", "yes"),
        ("No, it is not.", "no", "no"),
        ("know", "no", "no"),
        ("eyes", "yes", "yes"),
        ("  Yes", None, "yes"),
        ("\n\nYes", "yes", "yes"),
        (".yes", "yes", "yes"),
        ("...yes", None, "yes"),
        ("Y", None, "yes"),
        ("n.", None, "no"),
        ("The answer is yes", None, None),
        ("", None, None),
    ],
)
def test_readings(text: str, first_four: str | None, without_blanks: str | None) -> None:
    assert official(text, Options()).letter == first_four
    assert lmms_eval(text, Options()).letter == without_blanks
