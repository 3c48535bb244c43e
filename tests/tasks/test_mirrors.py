"""Local copies of the hub's data sets: complete shards of one generation, rows by the rules of the JSON files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
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

TEN = ["stop"] * 10
# task/split: (folder of the files, their split, a row, the columns of the id and of the question)
ROWS: dict[str, tuple[str, str, dict[str, Any], str, str | None]] = {
    "vqav2/val": ("lmms-lab/VQAv2/data", "validation", {"question_id": 7, "image_id": 3, "question": "What?", "answers": TEN, "answer_type": "other"}, "question_id", "question"),
    "vqav2/testdev": ("lmms-lab/VQAv2/data", "testdev", {"question_id": 7, "image_id": 3, "question": "What?"}, "question_id", "question"),
    "okvqa/val": ("lmms-lab/OK-VQA/data", "val2014", {"question_id": 71, "question": "What?", "answers": TEN}, "question_id", "question"),
    "textvqa/val": ("lmms-lab/textvqa/data", "validation", {"question_id": 7, "image_id": "i", "question": "What?", "answers": TEN}, "question_id", "question"),
    "vizwiz/val": ("lmms-lab/VizWiz-VQA/data", "val", {"question_id": "VizWiz_val_7", "question": "What?", "answers": TEN}, "question_id", "question"),
    "docvqa/val": ("lmms-lab/DocVQA/DocVQA", "validation", {"questionId": 7, "question": "What?", "answers": ["x"]}, "questionId", "question"),
    "docvqa/test": ("lmms-lab/DocVQA/DocVQA", "test", {"questionId": 7, "question": "What?", "answers": []}, "questionId", "question"),
    "infovqa/val": ("lmms-lab/DocVQA/InfographicVQA", "validation", {"questionId": 7, "question": "What?", "answers": ["x"]}, "questionId", "question"),
    "chartqa/test": ("lmms-lab/ChartQA/data", "test", {"type": "human_test", "question": "What?", "answer": "x"}, "type", "question"),
    "coco_caption/val2014": ("lmms-lab/COCO-Caption/data", "val", {"question_id": "COCO_val2014_000000000007.jpg", "answer": ["A cat."]}, "question_id", None),
    "flickr30k/all": ("lmms-lab/flickr30k/data", "test", {"filename": "7.jpg", "caption": ["A cat."]}, "filename", None),
    "nocaps/val": ("lmms-lab/NoCaps/data", "validation", {"image_id": 7, "annotations_captions": ["A cat."]}, "image_id", None),
    "ocrvqa/test": ("howard-hou/OCR-VQA/data", "test", {"image_id": 7, "questions": ["What?"], "answers": ["x"]}, "image_id", "questions"),
    "ai2d/test": ("lmms-lab/ai2d/data", "test", {"question": "What?", "options": ["a", "b"], "answer": "1"}, "options", "question"),
    "scienceqa_img/test": ("lmms-lab/ScienceQA/ScienceQA-IMG", "test", {"question": "What?", "choices": ["a", "b"], "answer": 1, "hint": ""}, "choices", "question"),
    "mmstar/val": ("Lin-Chen/MMStar/data", "val", {"index": 7, "question": "What?\nOptions: A: a, B: b", "answer": "A", "category": "c", "l2_category": "d"}, "index", "question"),
    "mmbench_en/dev": ("lmms-lab/MMBench/en", "dev", {"index": 7, "question": "What?", "A": "a", "B": "b", "C": "nan", "D": "nan", "answer": "A"}, "index", "question"),
    "mmbench_cn/test": ("lmms-lab/MMBench/cn", "test", {"index": 7, "question": "What?", "A": "a", "B": "b", "C": "nan", "D": "nan", "answer": "nan"}, "index", "question"),
    "ccbench/test": ("lmms-lab/MMBench/cc", "test", {"index": 7, "question": "What?", "A": "a", "B": "b", "C": "c", "D": "d", "answer": "A"}, "index", "question"),
    "seedbench_img/test": ("lmms-lab/SEED-Bench/data", "test", {"question_id": 7, "question": "What?", "choice_a": "a", "choice_b": "b", "choice_c": "c", "choice_d": "d", "answer": "A", "data_type": "image", "question_type_id": 1}, "question_id", "question"),
    "seedbench2_plus/test": ("doolayer/SEED-Bench-2-Plus/data", "test", {"question_id": 7, "question": "What?", "choice_A": "a", "choice_B": "b", "choice_C": "c", "choice_D": "d", "answer": "A", "question_image_type": "chart"}, "question_id", "question"),
    "realworldqa/test": ("lmms-lab/RealWorldQA/data", "test", {"question": "What?", "answer": "Yes"}, "question", "question"),
    "hrbench4k/test": ("DreamMr/HR-Bench/hrbench_version_split", "hrbench_4k", {"index": 7, "question": "What?", "A": "a", "B": "b", "C": "c", "D": "d", "answer": "A", "category": "single", "cycle_category": "0"}, "index", "question"),
    "hrbench8k/test": ("DreamMr/HR-Bench/hrbench_version_split", "hrbench_8k", {"index": 7, "question": "What?", "A": "a", "B": "b", "C": "c", "D": "d", "answer": "A", "category": "single", "cycle_category": "0"}, "index", "question"),
    "vstar/test": ("lmms-lab/vstar-bench/data", "test", {"question_id": "7", "text": "What?\n(A) a\n(B) b\nAnswer with the option's letter from the given choices directly.", "label": "B", "category": "direct_attributes"}, "question_id", "text"),
    "ai2d_no_mask/test": ("Efficient-Large-Model/ai2d-no-mask/data", "test", {"question": "What?", "options": ["a", "b"], "answer": "1"}, "options", "question"),
    "scienceqa/test": ("lmms-lab/ScienceQA/ScienceQA-FULL", "test", {"question": "What?", "choices": ["a", "b"], "answer": 1, "hint": ""}, "choices", "question"),
    "zerobench/main": ("jonathan-roberts1/zerobench/data", "zerobench", {"question_id": 7, "question_text": "What?", "question_answer": "x", "question_images_decoded": None}, "question_id", "question_text"),
    "mmmu/val": ("lmms-lab/MMMU/data", "validation", {"id": "validation_Art_7", "question": "What?", "options": "['a', 'b']", "answer": "A", "question_type": "multiple-choice", "image_1": None}, "id", "question"),
    "mmmu_pro/standard4": ("MMMU/MMMU_Pro/standard (4 options)", "test", {"id": "test_Art_7", "question": "What?", "options": "['a', 'b']", "answer": "A", "subject": "Art", "image_1": None}, "id", "question"),
    "mmmu_pro_vision/test": ("MMMU/MMMU_Pro/vision", "test", {"id": "test_Art_7", "options": "['a', 'b']", "answer": "A", "subject": "Art"}, "id", None),
    "muirbench/test": ("MUIRBENCH/MUIRBENCH/data", "test", {"idx": 7, "task": "Counting", "question": "What?", "options": ["a", "b"], "answer": "A", "image_list": None}, "idx", "question"),
    "mathvision/test": ("MathLLMs/MathVision/data", "test", {"id": "7", "question": "What?", "options": [], "image": "images/7.jpg", "decoded_image": None, "answer": "x", "level": 1, "subject": "algebra"}, "id", "question"),
    "mathvista/testmini": ("AI4Math/MathVista/data", "testmini", {"pid": "7", "query": "What?", "image": "images/7.jpg", "decoded_image": None, "choices": None, "precision": 1.0, "answer": "1.2", "question_type": "free_form", "answer_type": "float"}, "pid", "query"),
    "countbenchqa/test": ("vikhyatk/CountBenchQA/data", "test", {"question": "What?", "number": 3}, "number", "question"),
    "pixmo_count/test": ("kcz358/pixmo-count/data", "test", {"question": "What?", "answer": "3"}, "answer", "question"),
    "screenspot/test": ("rootsautomation/ScreenSpot/data", "test", {"bbox": [0.1, 0.1, 0.5, 0.5], "instruction": "What?", "data_type": "icon", "data_source": "ios"}, "bbox", "instruction"),
    "screenspot_v2/test": ("HongxinLi/ScreenSpot_v2/data", "test", {"bbox": [0.1, 0.1, 0.5, 0.5], "instruction": "What?", "data_type": "icon", "data_source": "ios"}, "bbox", "instruction"),
    "screenspot_pro/test": ("TIGER-Lab/ScreenSpot-Pro/data", "test", {"bbox": [1, 2, 3, 4], "instruction": "What?", "ui_type": "icon", "group": "OS", "platform": "macos", "application": "x"}, "bbox", "instruction"),
    "mme/test": ("lmms-lab/MME/data", "test", {"question_id": "OCR/0001.jpg", "question": "What?", "answer": "Yes", "category": "OCR"}, "question_id", "question"),
    "pope/test": ("lmms-lab/POPE/data", "test", {"question_id": "7", "image_source": "COCO_val2014_000000000007", "question": "What?", "answer": "no", "category": "random"}, "question_id", "question"),
    "hallusionbench/image": ("lmms-lab/HallusionBench/data", "image", {"category": "VD", "subcategory": "math", "visual_input": "1", "set_id": "0", "figure_id": "1", "question_id": "2", "question": "What?", "gt_answer": "1"}, "set_id", "question"),
    "ocrbench/test": ("echo840/OCRBench/data", "test", {"dataset": "IIIT5K", "question": "What?", "question_type": "Regular Text Recognition", "answer": ["x"]}, "question_type", "question"),
    "ocrbench_v2/en": ("ling99/OCRBench_v2/data", "test", {"id": 7, "type": "math QA en", "question": "What?", "answers": ["x"], "eval": "None", "bbox": None, "bbox_list": None, "content": None}, "id", "question"),
    "mmvet/test": ("lmms-lab/MMVet/data", "test", {"question_id": "v1_7", "question": "What?", "answer": "x", "capability": "ocr,math"}, "question_id", "question"),
    "llavabench/test": ("lmms-lab/llava-bench-in-the-wild/data", "train", {"question_id": 7, "question": "What?", "category": "conv", "caption": "c", "gpt_answer": "x"}, "question_id", "question"),
    "simplevqa/test": ("m-a-p/SimpleVQA/data", "test", {"data_id": 7, "question": "What?", "answer": "x", "language": "EN"}, "data_id", "question"),
    "miabench/test": ("lmms-lab/MIA-Bench/data", "test", {"instruction": "What?", "components": ["a"], "component_weight": [10], "component_type": ["b"]}, "components", "instruction"),
    "mathverse/testmini": ("AI4Math/MathVerse/testmini", "testmini", {"sample_index": "7", "problem_index": "7", "problem_version": "Vision Only", "question": "What?", "answer": "x", "metadata": {"subject": "Plane Geometry", "subfield": "Angle"}, "query_wo": "What?", "question_for_eval": "What?"}, "sample_index", "query_wo"),
    "mtvqa/test": ("ByteDance/MTVQA/data", "test", {"id": 7, "lang": "DE", "qa_pairs": "[{'question': 'What?', 'answer': 'x'}]"}, "id", "qa_pairs"),
    "odinw13/test": ("kcz358/ODinW-13/data", "test", {"dataset_name": "Raccoon", "categories": ["What?"], "bboxes": [[1.0, 1.0, 9.0, 9.0]], "labels": ["What?"]}, "dataset_name", "categories"),
    "refcoco/testA": ("lmms-lab/RefCOCO/data", "testA", {"bbox": [1.0, 1.0, 9.0, 9.0], "answer": ["the cat"]}, "bbox", "answer"),
    "refcoco+/testA": ("lmms-lab/RefCOCOplus/data", "testA", {"bbox": [1.0, 1.0, 9.0, 9.0], "answer": ["the cat"]}, "bbox", "answer"),
    "refcocog/test": ("lmms-lab/RefCOCOg/data", "test", {"bbox": [1.0, 1.0, 9.0, 9.0], "answer": ["the cat"]}, "bbox", "answer"),
}  # fmt: skip
GQA = "lmms-lab/GQA"
GQA_ROW = {"id": 7, "imageId": 3, "question": "What?", "answer": "x", "isBalanced": True}


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def put(root: Path, folder: str, name: str, *rows: Mapping[str, Any], colour: str = "red") -> Path:
    file = root / folder / f"{name}.parquet"
    write(file, [{"image": {"bytes": png(colour), "path": None}, **row} for row in rows])
    return file


def loaded(root: Path, name: str) -> Job:
    task, _, split = name.partition("/")
    return load_job(registry.tasks.get(task), split, open_data(f"hub:{root}"), limit=None, seed=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "digests"))


# ------------------------------------------------------------------------------------------------------------- the rows


def test_every_task_of_hub_is_tried() -> None:
    # several files, or other questions
    elsewhere = {"gqa", "blink", "cc_ocr", "charxiv_descriptive", "charxiv_reasoning", "omnidocbench_v1"}
    videos = {
        task.name for task in registry.tasks.all() if "tasks.video" in type(task).__module__
    }  # in tests/tasks/video
    assert {task.name for task in registry.tasks.all() if task.hub} - videos == {
        name.split("/")[0] for name in ROWS
    } | elsewhere


@pytest.mark.parametrize("name", ROWS)
def test_ids_are_texts_and_nothing_is_made_up(tmp_path: Path, name: str) -> None:
    folder, split, row, key, question = ROWS[name]
    put(tmp_path, folder, f"{split}-00000-of-00001", row)
    (sample,) = loaded(tmp_path, name).samples
    assert isinstance(sample.id, str)
    assert isinstance(sample.cluster, str)
    assert sample.text == (
        "" if question is None else {"questions": "What?", "answer": "the cat"}.get(question, "What?")
    )
    for column in (key, question):
        if column is not None:
            put(tmp_path, folder, f"{split}-00000-of-00001", row, {**row, column: None})
            with pytest.raises(
                UserError, match=rf"{name.split('/')[0].replace('+', '.')}: .*(\[1\]|row 1).*(None|expected)"
            ):
                loaded(tmp_path, name)


def gqa(root: Path, **changes: Any) -> None:
    put(root, f"{GQA}/testdev_balanced_images", "testdev-00000-of-00001", {"id": 3})
    write(
        root / GQA / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet",
        [GQA_ROW, {**GQA_ROW, "id": 8, **changes}],
    )


def test_gqa_with_whole_numbers_for_ids(tmp_path: Path) -> None:
    gqa(tmp_path)
    assert [(s.id, s.cluster) for s in loaded(tmp_path, "gqa/testdev_balanced").samples] == [("7", "3"), ("8", "3")]


@pytest.mark.parametrize("column", ["id", "imageId", "question", "answer"])
def test_gqa_with_null(tmp_path: Path, column: str) -> None:
    gqa(tmp_path, **{column: None})
    with pytest.raises(UserError, match=r"gqa: .*\[1\].*None"):
        loaded(tmp_path, "gqa/testdev_balanced")


# ----------------------------------------------------------------------------------------------------------- the shards

FOLDER, SPLIT, ROW, *_ = ROWS["textvqa/val"]


def shards(root: Path, *names: str, folder: str = FOLDER) -> None:
    for number, name in enumerate(names):
        put(root, folder, name, {**ROW, "question_id": 100 * len(list(root.rglob("*.parquet"))) + number})


@pytest.mark.parametrize(
    "names",
    [
        ["validation"],
        ["validation-00000-of-00001"],
        ["validation-00000-of-00003", "validation-00001-of-00003", "validation-00002-of-00003"],
        ["validation-00000-of-00001-a09b74b3ef9c3b56"],
    ],
)
def test_complete_shards(tmp_path: Path, names: list[str]) -> None:
    shards(tmp_path, *names, "test-00000-of-00007", "train", "validation-extra-00000-of-00002")
    assert len(loaded(tmp_path, "textvqa/val").samples) == len(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["validation-00000-of-00004", "validation-00002-of-00004"],
            (
                r"2 of the 4 shards of split validation are missing under .*textvqa \(validation-00001-of-00004.parquet, "
                r"validation-00003-of-00004.parquet\); complete the download"
            ),
        ),
        (
            ["validation-00000-of-00001", "validation-00000-of-00002", "validation-00001-of-00002"],
            (
                "split validation in 2 generations or copies .data/validation-00000-of-00001.parquet and "
                "data/validation-00000-of-00002.parquet.; its questions would count several times. Keep the files of one"
            ),
        ),
        (["validation", "validation-00000-of-00001"], "in 2 generations or copies"),
        (["validation-00000-of-00001-a09b74b3ef9c3b56", "validation-00000-of-00001-b09b74b3ef9c3b56"], "in 2 gener"),
        (["validation-00000"], "validation-00000.parquet does not tell which shard of how many it is"),
        (["test-00000-of-00001"], "no parquet files of split validation under"),
    ],
)
def test_other_shards_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    shards(tmp_path, *names)
    with pytest.raises(UserError, match=f"textvqa: .*{message}"):
        loaded(tmp_path, "textvqa/val")


def test_copies_in_two_folders_are_refused(tmp_path: Path) -> None:
    shards(tmp_path, "validation-00000-of-00001")
    shards(tmp_path, "validation-00000-of-00001", folder=f"{FOLDER}-old")
    with pytest.raises(UserError, match="2 generations or copies .*data-old/validation"):
        loaded(tmp_path, "textvqa/val")


def test_corrupt_file(tmp_path: Path) -> None:
    put(tmp_path, FOLDER, "validation", ROW).write_bytes(b"PAR1 and nothing more")
    with pytest.raises(
        UserError, match=r"textvqa: the data set .*textvqa .* could not be loaded: .*Download its files"
    ):
        loaded(tmp_path, "textvqa/val")


@pytest.mark.parametrize("answer", ["exit", "exits"])
def test_rewritten_files_are_read_whatever_their_time(tmp_path: Path, answer: str) -> None:
    """datasets caches rows by path and time, which rsync and tar keep."""
    for text, colour in (("stop", "red"), (answer, "blue")):
        file = put(tmp_path, FOLDER, "validation-00000-of-00001", {**ROW, "answers": [text] * 10}, colour=colour)
        os.utime(file, (0, 0))
        (sample,) = loaded(tmp_path, "textvqa/val").samples
        assert sample.references == (text,) * 10
        assert sample.images[0].load().getpixel((0, 0)) == {"red": (255, 0, 0), "blue": (0, 0, 255)}[colour]
