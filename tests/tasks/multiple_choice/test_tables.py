"""Benchmarks in VLMEvalKit's format: rows become samples, prompts are VLMEvalKit's, bad rows are one sentence."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.types import Answered, Prediction

from .tables import FILES, IMAGES, load, one, prompt, write

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
