"""Benchmarks in VLMEvalKit's format: small files in the official columns, and what each benchmark does differently."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import Job, load_job
from evalkit.letters import Options
from evalkit.metric_contract import score_answers
from evalkit.tasks.multiple_choice.mmstar import read_official, split_options
from evalkit.tasks.multiple_choice.realworldqa import split_question
from evalkit.tasks.multiple_choice.vstar import read_lmms_eval, split_text
from evalkit.types import Answered, ImagePart, Prediction, Sample


def png(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (20, 10), color).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [base64.b64encode(png(color)).decode() for color in (0, 90, 180)]
MMBENCH = {
    "index": "4", "question": "Which one?", "hint": "Red is warm.", "A": "red", "B": "blue", "C": "", "D": "",
    "answer": "A", "category": "ocr", "l2-category": "logic_reasoning", "split": "dev", "image": IMAGES[0],
}  # fmt: skip
FILES: dict[str, tuple[str, dict[str, str]]] = {
    "mmstar": ("MMStar", {"index": "0", "question": "Which one?", "answer": "B", "category": "math", "l2_category": "geometry", "bench": "x", "A": "red", "B": "blue", "C": "green", "D": "None"}),
    "mmbench_en": ("MMBench_DEV_EN", MMBENCH),
    "mmbench_cn": ("MMBench_DEV_CN", MMBENCH),
    "mmbench_en_v11": ("MMBench_DEV_EN_V11", MMBENCH),
    "mmbench_cn_v11": ("MMBench_DEV_CN_V11", MMBENCH),
    "ccbench": ("CCBench", {"index": "0", "question": "图中所示建筑名称为？", "A": "天坛", "B": "故宫", "C": "黄鹤楼", "D": "少林寺", "answer": "A", "category": "scenery_building", "source": "x"}),
    "seedbench_img": ("SEEDBench_IMG", {"index": "101669", "question": "How many?", "A": "One", "B": "Two", "C": "Three", "D": "None", "answer": "A", "category": "Instances Counting"}),
    "seedbench2_plus": ("SEEDBench2_Plus", {"index": "7", "question": "Which one?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "A", "category": "Chart"}),
    "realworldqa": ("RealWorldQA", {"index": "0", "question": "Which way?", "A": "Left", "B": "Straight", "C": "Right", "D": "", "answer": "C"}),
    "vstar": ("VStarBench", {"index": "0", "question": "Which colour?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "direct_attributes"}),
    "hrbench4k": ("hr_bench_4k", {"index": "0", "question": "Which colour?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "single", "cycle_category": "0"}),
    "hrbench8k": ("HRBench8K", {"index": "0", "question": "Which colour?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "single", "cycle_category": "0"}),
    "ai2d_no_mask": ("AI2D_TEST_NO_MASK", {"index": "0", "question": "What lives?", "A": "red", "B": "blue", "C": "x", "D": "y", "answer": "B", "category": "foodWeb"}),
    "scienceqa_img": ("ScienceQA_TEST", {"index": "1", "question": "Which one?", "hint": "Red is warm.", "A": "red", "B": "blue", "C": "", "D": "", "answer": "B", "subject": "natural science", "category": "Maps"}),
}  # fmt: skip


def write(root: Path, name: str, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (root / f"{name}.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def load(root: Path, task: str, split: str = "", *, images: bool = True) -> Job:
    found = registry.tasks.get(task)
    data = open_data(str(root), images_required=images)
    return load_job(found, split or found.default_splits[0], data, limit=None, seed=0)


def one(root: Path, task: str, **changes: str) -> Sample:
    name, row = FILES[task]
    write(root, name, [{"image": IMAGES[0], **row, **changes}])
    (sample,) = load(root, task).samples
    return sample


def prompt(task: str, sample: Sample, protocol: str, family: str = "qwen2.5-vl") -> str:
    found = registry.tasks.get(task)
    (message,) = registry.families.get(family).prompt(found.prompt_spec(protocol).of(sample), sample)
    return "".join("<image>" if isinstance(part, ImagePart) else part.text for part in message.content)


SIZES = {
    "mmstar": {"val": 1_500}, "mmbench_en": {"dev": 4_329, "test": None, "dev_20230712": 4_377},
    "mmbench_cn": {"dev": 4_329, "test": None}, "mmbench_en_v11": {"dev": None, "test": None},
    "mmbench_cn_v11": {"dev": None, "test": None}, "ccbench": {"test": 2_040}, "seedbench_img": {"test": 14_232},
    "seedbench2_plus": {"test": 2_277}, "realworldqa": {"test": 765}, "vstar": {"test": 191},
    "hrbench4k": {"test": 800}, "hrbench8k": {"test": 800}, "ai2d_no_mask": {"test": 3_088},
}  # fmt: skip


@pytest.mark.parametrize("task", SIZES)
def test_official_numbers_of_rows(task: str) -> None:
    found = registry.tasks.get(task)
    assert {name: split.size for name, split in found.splits.items()} == SIZES[task]
    assert found.default_splits == (next(iter(SIZES[task])),)


@pytest.mark.parametrize("task", FILES)
def test_rows_of_vlmevalkit_become_samples(tmp_path: Path, task: str) -> None:
    _, row = FILES[task]
    sample = one(tmp_path, task)
    assert (sample.id, sample.references) == (row["index"], (row["answer"],))
    assert sample.options == tuple(row[letter] for letter in "ABCD" if row[letter])
    assert sample.images[0].load().getpixel((0, 0)) == (0, 0, 0)
    assert sample.kind is None
    scores = score_answers(
        registry.metrics.get(registry.tasks.get(task).metric), [Answered(sample, Prediction(row["answer"]))]
    )
    assert scores.values[scores.headline] == 100.0


@pytest.mark.parametrize("task", FILES)
def test_prompt_of_vlmevalkit(tmp_path: Path, task: str) -> None:
    """As ``ImageMCQDataset.build_prompt`` makes it; "None" is a missing value for pandas."""
    _, row = FILES[task]
    hint = f"Hint: {row['hint']}\n" if row.get("hint") else ""
    options = "".join(f"{letter}. {row[letter]}\n" for letter in "ABCD" if row[letter] not in ("", "None"))
    expected = (
        f"<image>{hint}Question: {row['question']}\nOptions:\n{options}"
        "Please select the correct answer from the options above. \n"
    )
    assert prompt(task, one(tmp_path, task), "vlmevalkit", "generic") == expected


def test_prompts_of_lmms_eval(tmp_path: Path) -> None:
    letter = "Answer with the option's letter from the given choices directly."
    four = "A. red\nB. blue\nC. x\nD. y\n"
    expected = {
        "mmstar": "Which one?\nOptions: A: red, B: blue, C: green, D: None\n" + letter.removesuffix("."),
        "mmbench_en": f"Red is warm. Which one? There are several options:\nA. red\nB. blue\n\n{letter}",
        "mmbench_cn": (
            "Red is warm. Which one? There are several options:\nA. red\nB. blue\n\n"
            "请直接使用所提供的选项字母作为答案回答。"
        ),
        "ccbench": (
            "图中所示建筑名称为？ There are several options:\nA. 天坛\nB. 故宫\nC. 黄鹤楼\nD. 少林寺\n\n"
            "请直接使用所提供的选项字母作为答案回答。"
        ),
        "seedbench_img": f"How many?\nA. One\nB. Two\nC. Three\nD. None\n{letter}",
        "seedbench2_plus": f"Which one?\n{four}{letter}",
        "vstar": f"Which colour?\n{four}{letter}",
        "hrbench4k": f"Which colour?\n{four}Answer the option letter directly.",
        "ai2d_no_mask": f"What lives?\n{four}{letter}",
    }
    for task, text in expected.items():
        assert prompt(task, one(tmp_path, task), "lmms-eval") == f"<image>{text}", task


@pytest.mark.parametrize("task", FILES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": ""}, "calls? None|called None"),
        ({"answer": "Maybe"}, "called 'Maybe'; expected a letter|calls 'Maybe' the right one"),
        ({"answer": "b"}, "called 'b'; expected a letter|calls 'b' the right one"),
        ({"question": ""}, "there is no question|question is None, not a text"),
        ({"A": "", "B": "", "C": "", "D": ""}, "there are no options|has 0 options"),
        ({"image": ""}, "has no image; download the file again"),
        ({"image": "8" * 20}, "the image is '8{20}', which is no image and not the index of a row"),
    ],
)  # fmt: skip
def test_bad_rows_are_one_sentence(tmp_path: Path, task: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{task}: .*line 2.*({message})") as error:
        one(tmp_path, task, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", FILES)
def test_missing_columns_are_one_sentence(tmp_path: Path, task: str) -> None:
    name, row = FILES[task]
    for column in ("question", "answer", "index"):
        write(tmp_path, name, [{k: v for k, v in {"image": IMAGES[0], **row}.items() if k != column}])
        with pytest.raises(UserError, match=f"^{task}: .*has no column {column}"):
            load(tmp_path, task)
    write(tmp_path, name, [row | {"image": IMAGES[0], "index": "x y" if "bench" in task else "1"}] * 2)
    with pytest.raises(UserError, match=f"^{task}: "):
        load(tmp_path, task)


def test_images_are_not_needed_to_score(tmp_path: Path) -> None:
    name, row = FILES["mmstar"]
    write(tmp_path, name, [row])
    assert load(tmp_path, "mmstar", images=False).samples[0].images == ()
    with pytest.raises(UserError, match="mmstar: .*has no column image"):
        load(tmp_path, "mmstar")


def test_missing_option_keeps_its_letter_free(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="evalkit"):
        sample = one(tmp_path, "seedbench_img", A="", answer="A")
    assert sample.options == ("", "Two", "Three", "None")
    assert "seedbench_img/test: in 1 rows of" in caplog.text
    assert prompt("seedbench_img", sample, "lmms-eval").startswith("<image>How many?\nB. Two\nC. Three\nD. None\n")
    assert prompt("seedbench_img", sample, "vlmevalkit", "generic").startswith(
        "<image>Question: How many?\nOptions:\nB. Two\nC. Three\nPlease"
    )


def test_several_images_and_images_of_other_rows(tmp_path: Path) -> None:
    name, row = FILES["mmstar"]
    several = json.dumps([IMAGES[0], IMAGES[1]])
    write(tmp_path, name, [{**row, "image": several}, {**row, "index": "1", "image": "0"}, {**row, "index": "2", "image": IMAGES[2]}])  # fmt: skip
    samples = load(tmp_path, "mmstar").samples
    assert [len(sample.images) for sample in samples] == [2, 2, 1]
    assert samples[0].images == samples[1].images
    assert [sample.cluster for sample in samples] == ["0", "0", "2"]
    assert prompt("mmstar", samples[1], "vlmevalkit", "generic").startswith("<image><image>Question: ")


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
    with pytest.raises(ValueError, match="no options"):
        split_options("Which one?")


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
    rows = [{"image": {"bytes": png(0), "path": None}, "question": q, "answer": a} for q, a in texts]
    file = tmp_path / "lmms-lab" / "RealWorldQA" / "data" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    found = load_job(registry.tasks.get("realworldqa"), "test", open_data(f"hub:{tmp_path}"), limit=None, seed=0)
    asked, chosen = found.samples
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


# ---------------------------------------------------------------------------------------------------------------- CRPE

TURNS = ["red", "blue", "green", "grey"]


def crpe(count: int = 8) -> list[dict[str, str]]:
    rows = []
    for number in range(count):
        texts = TURNS[number % 4 :] + TURNS[: number % 4]
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", texts, strict=True))
        text = f"Which one?\n{listed}\nAnswer with the option's letter from the given choices directly."
        right = "ABCD"[texts.index("red")]
        rows.append(
            {
                "index": str(number),
                "question": text,
                "answer": right,
                "category": "subject",
                "image": IMAGES[number // 4],
            }
        )
    return rows


def test_four_rows_of_crpe_are_one_question(tmp_path: Path) -> None:
    write(tmp_path, "CRPE_RELATION", crpe())
    samples = load(tmp_path, "crpe_relation").samples
    assert [(s.cluster, s.meta["rotation"]) for s in samples] == [(g, turn) for g in "04" for turn in range(4)]
    assert [s.references[0] for s in samples] == list("ADCBADCB")
    assert samples[1].options == ("blue", "green", "grey", "red")
    assert samples[1].text == "Which one?"
    assert prompt("crpe_relation", samples[0], "vlmevalkit", "generic") == "<image>" + crpe()[0]["question"]
    answers = [Answered(s, Prediction(s.references[0] if s.id != "7" else "A")) for s in samples]
    values = score_answers(registry.metrics.get("circular_accuracy"), answers).values
    assert (values["circular"], values["circular[subject]"], values["accuracy"]) == (50, 50, 87.5)


def test_rule_of_vlmevalkit_for_crpe_by_the_command_line(evalkit: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write(tmp_path / "root", "CRPE_RELATION", [{k: v for k, v in row.items() if k != "image"} for row in crpe()])
    texts = ["A", "D. red", "C", "B", "A", "D", "C", "I think that it is A"]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit(
        "score", "-t", "crpe_relation", "-p", "answers.jsonl", "--data", "root", "--name", "x", "--rule",
        "evalkit-2,vlmevalkit-crpe", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {
        rule: json.loads((tmp_path / "runs" / f"x-{rule}" / "scores.json").read_text())["results"][0]["value"]
        for rule in ("evalkit-2", "vlmevalkit-crpe")
    }
    assert found == {"evalkit-2": 50, "vlmevalkit-crpe": 100}  # the quirk: a reference that is a letter alone


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (crpe(7), "has 7 rows; four consecutive rows are one question"),
        (
            [*crpe(3), {**crpe(4)[3], "answer": "red"}],
            "line 20.*the answer is 'red', which does not begin with a letter",
        ),
        ([*crpe(3), {**crpe(4)[3], "question": "Which one?"}], "line 20.*there are no options"),
    ],
)
def test_bad_files_of_crpe(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    write(tmp_path, "CRPE_RELATION", rows)
    with pytest.raises(UserError, match=f"^crpe_relation: (?s:.*){message}"):
        load(tmp_path, "crpe_relation")


def test_images_beside_the_table(tmp_path: Path) -> None:
    rows = [{**row, "image": "", "image_path": "a/1.png"} for row in crpe(4)]
    write(tmp_path, "CRPE_RELATION", rows)
    with pytest.raises(UserError, match="crpe_relation: no images under .*images/CRPE_RELATION"):
        load(tmp_path, "crpe_relation")
    (tmp_path / "images" / "CRPE_RELATION" / "a").mkdir(parents=True)
    (tmp_path / "images" / "CRPE_RELATION" / "a" / "1.png").write_bytes(png(90))
    sample = load(tmp_path, "crpe_relation").samples[0]
    assert sample.images[0].load().getpixel((0, 0)) == (90, 90, 90)
    write(tmp_path, "CRPE_RELATION", [{**row, "image_path": "../x.png"} for row in rows])
    with pytest.raises(UserError, match="crpe_relation: .*outside"):
        load(tmp_path, "crpe_relation")
