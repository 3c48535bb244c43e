"""What single benchmarks in VLMEvalKit's format do differently: rotations, cycles, other forms of the data, own rules."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.letters import Options
from evalkit.metric_contract import score_answers
from evalkit.tasks.multiple_choice.mmbench import read_lmms_eval as read_mmbench
from evalkit.tasks.multiple_choice.mmstar import read_official, split_options
from evalkit.tasks.multiple_choice.realworldqa import split_question
from evalkit.tasks.multiple_choice.vstar import read_lmms_eval, split_text
from evalkit.types import Answered, Prediction

from .tables import FILES, IMAGES, MMBENCH, load, one, png, prompt, write

# ------------------------------------------------------------------------------------------------------------- MMBench


def rotated(count: int = 2) -> list[dict[str, str]]:
    first = {**MMBENCH, "C": "green"}
    texts = ["red", "blue", "green"]
    rows = [first]
    for turn in range(1, count):
        turned = texts[turn:] + texts[:turn]
        options = dict(zip("ABC", turned, strict=True))
        rows.append({**first, **options, "index": f"{turn}000004", "answer": "ABC"[turned.index("red")], "image": "4"})
    return rows


def test_rotations_are_one_question_and_one_cluster(tmp_path: Path) -> None:
    write(tmp_path, "MMBench_DEV_EN", [*rotated(3), {**MMBENCH, "index": "9"}, {**MMBENCH, "index": "1000009", "image": "9"}])  # fmt: skip
    samples = load(tmp_path, "mmbench_en").samples
    assert [(s.cluster, s.meta["group"], s.meta["rotation"]) for s in samples] == [
        ("4", "4", 0), ("4", "4", 1), ("4", "4", 2), ("9", "9", 0), ("9", "9", 1),
    ]  # fmt: skip
    assert [s.references[0] for s in samples[:3]] == ["A", "C", "B"]
    assert samples[0].meta["l2_category"] == "logic_reasoning"
    answers = [Answered(s, Prediction(s.references[0] if s.id != "1000009" else "B")) for s in samples]
    scores = score_answers(registry.metrics.get("circular_accuracy"), answers)
    assert scores.values["circular"] == 50
    assert scores.values["plain"] == 100
    assert scores.values["circular[ocr]"] == scores.values["l2_circular[logic_reasoning]"] == 50
    assert not scores.notes
    rule = registry.tasks.get("mmbench_en").scoring_rule("plain")
    assert (rule.reading, rule.metric) == ("evalkit-2", "circular_accuracy_plain")


def test_index_that_is_no_number_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mmbench_en: .*line 2.*the index is 'q7', not a whole number"):
        one(tmp_path, "mmbench_en", index="q7")


def test_table_for_the_server(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "answer"} for row in rotated(2)]
    write(tmp_path, "MMBench_TEST_EN", rows)
    task = registry.tasks.get("mmbench_en")
    samples = load(tmp_path, "mmbench_en", "test").samples
    assert all(sample.references == () for sample in samples)
    name, content = task.submission([Answered(s, Prediction(v)) for s, v in zip(samples, ("C", None), strict=True)])
    assert name == "mmbench_en_test.tsv"
    assert list(csv.DictReader(io.StringIO(content), delimiter="\t")) == [
        {"index": index, "question": "Which one?", "A": a, "B": b, "C": c, "D": "", "category": "ocr",
         "l2-category": "logic_reasoning", "prediction": letter}
        for index, a, b, c, letter in (("4", "red", "blue", "green", "C"), ("1000004", "blue", "green", "red", ""))
    ]  # fmt: skip
    with pytest.raises(UserError, match="parsed as a box"):
        task.submission([Answered(samples[0], Prediction((0.0, 0.0, 1.0, 1.0)))])
    with pytest.raises(UserError, match="mmbench_en_v11: split dev is not read from the hub; give --data ROOT"):
        load_job(registry.tasks.get("mmbench_en_v11"), "dev", open_data(f"hub:{tmp_path}"), limit=None, seed=0)


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("B.", "B"), ("(C)", "C"), ("A dog is here, I think", "A"), ("it is blue", "B"), ("E", None),
     ("A. or B.", "A"), (":D.", "D"), ("The answer is C", "C"), ("", None)],
)  # fmt: skip
def test_lmms_evals_rule_for_mmbench(text: str, letter: str | None) -> None:
    """Compared with lmms-eval's own code on 200,000 random answers; these are what it gives."""
    assert read_mmbench(text, Options(("red", "blue", "green", "x"))).letter == letter
    assert registry.tasks.get("mmbench_en").rule_of("lmms-eval") == "lmms-eval-75571cf"


# -------------------------------------------------------------------------------------------------------------- MMStar


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("b. blue", "B"), ("(C) x", "C"), ("( C", None), ("Option D is", "D"), ("The answer is A.", "A"),
     ("The correct answer is A", None), ("a dog", "A"), ("Both", "B"), ("", None), ("  C", "C"), ("E", None)],
)  # fmt: skip
def test_official_rule_of_mmstar(text: str, letter: str | None) -> None:
    assert read_official(text, Options(("red", "blue", "green", "x"))).letter == letter


def test_options_in_the_question_of_mmstar() -> None:
    text = "Which one?\nOptions: A: The suitcase is on the book., B: Under, it, C: C: x, D: \\frac{1}{2}"
    assert split_options(text) == ("Which one?", ("The suitcase is on the book.", "Under, it", "C: x", "\\frac{1}{2}"))
    text = "Hint: Give the letter.\nQuestion: Is it (A) or not?\nChoices:\n(A) no\n(B) yes (1)"
    assert split_options(text) == ("Hint: Give the letter.\nQuestion: Is it (A) or not?", ("no", "yes (1)"))
    for text in ("Which one?", "Which one?\nChoices:\n(A) no\n(C) yes"):
        with pytest.raises(ValueError, match="no options"):
            split_options(text)


def test_question_of_mmstar_on_the_hub_is_lmms_evals_prompt(tmp_path: Path) -> None:
    texts = ["Which?\nOptions: A: red,B: blue", "Question: Is it?\nChoices:\n(A) no\n(B) yes"]
    rows = [
        {"index": n, "question": text, "answer": "B", "category": "math", "l2_category": "geometry",
         "image": {"bytes": png(0), "path": None}}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    file = tmp_path / "Lin-Chen" / "MMStar" / "val-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    samples = load_job(registry.tasks.get("mmstar"), "val", open_data(f"hub:{tmp_path}"), limit=None, seed=0).samples
    assert [sample.options for sample in samples] == [("red", "blue"), ("no", "yes")]
    tail = "\nAnswer with the option's letter from the given choices directly"
    assert [prompt("mmstar", sample, "lmms-eval") for sample in samples] == [f"<image>{text}{tail}" for text in texts]


# --------------------------------------------------------------------------------------------- RealWorldQA and V*Bench


def test_original_questions_of_realworldqa() -> None:
    text = (
        "Which way?\n\nA. Left\nB. Straight\nC. Right\n"
        "Please answer directly with only the letter of the correct option and nothing else."
    )
    assert split_question(text) == ("Which way?", ("Left", "Straight", "Right"))
    assert split_question("How many? Please answer directly with a single word or number.") == ("How many?", ())


def test_open_questions_of_realworldqa(tmp_path: Path) -> None:
    texts = [
        ("How many? Please answer directly with a single word or number.", "3"),
        ("Which?\n\nA. Left\nB. Right\nPlease answer directly with only the letter of the correct option and nothing else.", "B"),
    ]  # fmt: skip
    texts.append(("Which?\n\nA. Uphill\nB. Downhill", "Uphill"))
    rows = [{"image": {"bytes": png(0), "path": None}, "question": q, "answer": a} for q, a in texts]
    file = tmp_path / "lmms-lab" / "RealWorldQA" / "data" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    found = load_job(registry.tasks.get("realworldqa"), "test", open_data(f"hub:{tmp_path}"), limit=None, seed=0)
    asked, chosen, named = found.samples
    assert (named.kind, named.references, named.text) == ("vqa", ("Uphill",), texts[2][0])
    assert (asked.kind, asked.references, asked.text) == ("vqa", ("3",), "How many?")
    assert (chosen.kind, chosen.references, chosen.options) == (None, ("B",), ("Left", "Right"))
    for sample, (text, _) in zip(found.samples, texts, strict=True):
        assert prompt("realworldqa", sample, "lmms-eval") == f"<image>{text}"
    assert prompt("realworldqa", asked, "vlmevalkit", "generic") == "<image>Question: How many?\n"
    metric = registry.metrics.get("choice_accuracy")
    for value, right in (("3", 100.0), (" 3.", 100.0), ("three", 0.0), (None, 0.0)):
        assert score_answers(metric, [Answered(asked, Prediction(value))]).values["accuracy"] == right


def test_answer_of_realworldqa_that_is_an_options_text(tmp_path: Path) -> None:
    sample = one(tmp_path, "realworldqa", A="Uphill", B="Downhill", C="", answer="Uphill")
    assert sample.references == ("Uphill",)
    assert prompt("realworldqa", sample, "lmms-eval") == (
        "<image>Which way?\n\nA. Uphill\nB. Downhill\n"
        "Please answer directly with only the letter of the correct option and nothing else."
    )


def test_text_of_vstar() -> None:
    tail = "\nAnswer with the option's letter from the given choices directly."
    assert split_text(f"Which (large) one?\n(A) red (x)\n(B) blue\n(C) a\n(D) b{tail}") == (
        "Which (large) one?", ("red (x)", "blue", "a", "b"),
    )  # fmt: skip
    for text in ("Which one?", "Which one?\n(B) red\n(C) blue"):
        with pytest.raises(ValueError, match="no options"):
            split_text(text)


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("(C)", "C"), ("The answer is D", "D"), ("a dog", "A"), ("It is B.", "B"), ("I see (C) there", "C"),
     ("xyz", None), ("", None), ("Answer: D", "A")],
)  # fmt: skip
def test_lmms_evals_rule_for_vstar(text: str, letter: str | None) -> None:
    assert read_lmms_eval(text, Options(("a", "b", "c", "d"))).letter == letter


def test_official_lists_of_vstar(tmp_path: Path) -> None:
    folder = tmp_path / "vstar" / "direct_attributes"
    folder.mkdir(parents=True)
    (folder / "sa_1.jpg").write_bytes(png(90))
    (folder / "sa_1.json").write_text(
        json.dumps({"question": "Which?", "options": ["red", "blue"], "target_object": []})
    )
    with pytest.raises(UserError, match="vstar: .*the first option is always the right one.*add test_questions.jsonl"):
        load(tmp_path, "vstar")
    text = "Which?\n(A) blue\n(B) red\nAnswer with the option's letter from the given choices directly."
    row: dict[str, Any] = {"image": "direct_attributes/sa_1.jpg", "text": text, "category": "direct_attributes", "label": "B", "question_id": 0}  # fmt: skip
    listed = tmp_path / "vstar" / "test_questions.jsonl"
    listed.write_text(json.dumps(row) + "\n")
    (sample,) = load(tmp_path, "vstar").samples
    assert (sample.id, sample.text, sample.options, sample.references) == ("0", "Which?", ("blue", "red"), ("B",))
    assert sample.meta["category"] == "direct_attributes"
    assert sample.images[0].load().getpixel((0, 0)) == (90, 90, 90)
    listed.write_text(json.dumps(row | {"image": "../../etc/passwd"}) + "\n")
    with pytest.raises(UserError, match="vstar: .*outside"):
        load(tmp_path, "vstar")
    listed.write_text(json.dumps(row | {"text": "Which?"}) + "\n")
    with pytest.raises(UserError, match="vstar: .*line 1.*no options"):
        load(tmp_path, "vstar")


# ------------------------------------------------------------------------------------------------------------ HR-Bench


def test_cycles_of_hrbench_are_one_cluster(tmp_path: Path) -> None:
    name, row = FILES["hrbench4k"]
    turned = {"A": "y", "B": "x", "C": "blue", "D": "red", "answer": "C", "index": "200", "cycle_category": "1"}
    other = {"question": "How many?", "index": "1", "category": "cross", "image": IMAGES[1]}
    write(tmp_path, name, [{"image": IMAGES[0], **row}, {"image": IMAGES[0], **row, **other}, {"image": IMAGES[0], **row, **turned}])  # fmt: skip
    samples = load(tmp_path, "hrbench4k").samples
    assert [sample.cluster for sample in samples] == ["0", "1", "0"]
    answers = [Answered(s, Prediction("C")) for s in samples]
    values = score_answers(registry.metrics.get("choice_accuracy"), answers).values
    assert {key: values[f"accuracy[{key}]"] for key in ("single", "cross", "0", "1")} == {
        "single": 50, "cross": 0, "0": 0, "1": 100,
    }  # fmt: skip


def test_images_of_hrbench_on_the_hub_are_base64(tmp_path: Path) -> None:
    rows = [{**FILES["hrbench4k"][1], "index": 0, "image": IMAGES[1]}]
    file = tmp_path / "DreamMr/HR-Bench/hrbench_version_split/hrbench_4k-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    (sample,) = load_job(
        registry.tasks.get("hrbench4k"), "test", open_data(f"hub:{tmp_path}"), limit=None, seed=0
    ).samples
    assert sample.images[0].load().getpixel((0, 0)) == (90, 90, 90)


def test_lists_of_images_of_seedbench_on_the_hub(tmp_path: Path) -> None:
    import datasets

    row = {
        "question_id": "7", "question": "What?", "choice_a": "a", "choice_b": "b", "choice_c": "None", "choice_d": "d",
        "answer": "C", "question_type_id": 5, "data_id": "42",
    }  # fmt: skip
    rows = [
        {**row, "data_type": "image", "image": [{"bytes": png(90), "path": None}]},
        {**row, "question_id": "8", "data_type": "video", "question_type_id": 11, "image": []},
    ]
    text = datasets.Value("string")
    features = datasets.Features(
        {
            **dict.fromkeys(rows[0], text),
            "question_type_id": datasets.Value("int64"),
            "image": datasets.List(datasets.Image()),
        }
    )
    folder = tmp_path / "lmms-lab" / "SEED-Bench" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")
    (sample,) = load_job(registry.tasks.get("seedbench_img"), "test", open_data(f"hub:{tmp_path}"), limit=None, seed=0).samples  # fmt: skip
    assert (sample.id, sample.cluster, sample.options) == ("7", "42", ("a", "b", "None", "d"))
    assert sample.meta["category"] == "Instances Counting"
    assert sample.images[0].load().getpixel((0, 0)) == (90, 90, 90)
