"""Annotation files that were corrupt at random: each is read for exactly what it says, or refused in a sentence.

The damage is the same in every run: bytes are changed at random places, or the parsed file is changed and written anew.
What a file says is worked out here once more, as simply as the formats allow.
"""

from __future__ import annotations

import json
import math
import os.path
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evalkit import registry
from evalkit.data import OfficialData
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.pickles import load_plain_pickle
from evalkit.types import Sample

from ..mutations import structure

Said = tuple[str, str, tuple[Any, ...], str, tuple[str, ...], str]
"""(id, text, references, cluster, options, the image's name) of a sample."""

KARPATHY = "coco/dataset_coco.json"


@dataclass(frozen=True)
class Format:
    """A split's files below the root, and what they say once parsed."""

    task: str
    split: str
    files: tuple[str, ...]
    says: Callable[..., Iterator[Said]]

    def __str__(self) -> str:
        return f"{self.task}/{self.split}"


def _letter(number: object) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[int(str(number))]


def _answers(cell: list[Any]) -> tuple[str, ...]:
    return tuple(entry if isinstance(entry, str) else entry["answer"] for entry in cell)


def _vqa(asked: Any, answered: Any) -> Iterator[Said]:
    answers = {str(a["question_id"]): _answers(a["answers"]) for a in answered["annotations"]}
    for q in asked["questions"]:
        image, question_id = int(q["image_id"]), str(q["question_id"])
        yield question_id, q["question"], answers[question_id], str(image), (), f"COCO_val2014_{image:012d}.jpg"


def _refer(split: str) -> Callable[[Any, Any], Iterator[Said]]:
    def says(refs: Any, instances: Any) -> Iterator[Said]:
        boxes = {int(a["id"]): a["bbox"] for a in instances["annotations"]}
        for ref in refs:
            if ref["split"] == split:
                x, y, w, h = boxes[int(ref["ann_id"])]
                image = int(ref["image_id"])
                for s in ref["sentences"]:
                    references = ((x, y, x + w, y + h),)
                    file_name = f"COCO_train2014_{image:012d}.jpg"
                    yield str(s["sent_id"]), s["sent"], references, str(image), (), file_name

    return says


def _karpathy(content: Any) -> Iterator[Said]:
    for entry in content["images"]:
        if entry["split"] == "test":
            captions = tuple(s["raw"] for s in entry["sentences"])
            if "cocoid" in entry:
                image = int(entry["cocoid"])
                yield str(image), "", captions, str(image), (), f"COCO_{entry['filepath']}_{image:012d}.jpg"
            else:
                file_name = Path(os.path.normpath(entry["filename"]))
                yield file_name.stem, "", captions, file_name.stem, (), file_name.name


def _captions(content: Any, *, named: bool = False) -> Iterator[Said]:
    for entry in content["images"]:
        image = int(entry["id"])
        captions = tuple(a["caption"] for a in content["annotations"] if int(a["image_id"]) == image)
        file_name = os.path.normpath(entry["file_name"]) if named else f"COCO_val2014_{image:012d}.jpg"
        yield str(image), "", captions, str(image), (), Path(file_name).name


def _textvqa(content: Any) -> Iterator[Said]:
    for row in content["data"]:
        image = str(row["image_id"])
        yield str(row["question_id"]), row["question"], _answers(row["answers"]), image, (), Path(f"{image}.jpg").name


def _docs(key: str) -> Callable[[Any], Iterator[Said]]:
    def says(content: Any) -> Iterator[Said]:
        for row in content["data"]:
            image = Path(os.path.normpath(row[key]))
            answers = tuple(row["answers"])
            yield str(row["questionId"]), row["question"], answers, image.stem, (), image.name

    return says


def _scienceqa(problems: Any, splits: Any) -> Iterator[Said]:
    for pid in map(str, splits["test"]):
        problem = problems[pid]
        if problem["image"]:
            hint = (problem.get("hint") or "").strip()
            text = f"Context: {hint}\n{problem['question']}" if hint else problem["question"]
            image = os.path.basename(os.path.normpath(problem["image"]))  # noqa: PTH119
            yield pid, text, (_letter(problem["answer"]),), pid, tuple(problem["choices"]), image


def _vizwiz(rows: Any) -> Iterator[Said]:
    for row in rows:
        name = row["image"]
        yield name, row["question"], _answers(row["answers"]), name, (), Path(os.path.normpath(name)).name


def _gqa(content: Any) -> Iterator[Said]:
    for key, row in content.items():
        if row["isBalanced"]:
            image = str(row["imageId"])
            yield key, row["question"], (row["answer"],), image, (), Path(os.path.normpath(f"{image}.jpg")).name


def _chartqa(*halves: Any) -> Iterator[Said]:
    for subset, rows in zip(("human", "augmented"), halves, strict=True):
        for place, row in enumerate(rows):
            label = row["label"]
            name = row["imgname"]
            references = tuple(label) if isinstance(label, list) else (label,)
            yield f"{subset}-{place}", row["query"], references, name, (), Path(os.path.normpath(name)).name


def _ocrvqa(books: Any) -> Iterator[Said]:
    for book, entry in books.items():
        if int(entry["split"]) == 3:
            image = Path(os.path.normpath(book + Path(entry["imageURL"]).suffix)).name
            for place, (question, answer) in enumerate(zip(entry["questions"], entry["answers"], strict=True)):
                yield f"{book}-{place}", question, (answer,), book, (), image


def _ai2d(diagram: Any, _: Any) -> Iterator[Said]:
    for text, question in diagram["questions"].items():
        right = (_letter(question["correctAnswer"]),)
        yield str(question["questionId"]), text, right, "7.png", tuple(question["answerTexts"]), "7.png"


OK = ("okvqa/OpenEnded_mscoco_val2014_questions.json", "okvqa/mscoco_val2014_annotations.json")
V2 = ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json")
BUNDLED = (
    Format("vqav2", "val", V2, _vqa),
    Format("refcoco", "testA", ("refcoco/refs(unc).p", "refcoco/instances.json"), _refer("testA")),
    Format("refcocog", "val", ("refcocog/refs(umd).p", "refcocog/instances.json"), _refer("val")),
    Format("coco_caption", "test", (KARPATHY,), _karpathy),
    Format("coco_caption", "val2014", ("coco/annotations/captions_val2014.json",), _captions),
    Format("textvqa", "val", ("textvqa/TextVQA_0.5.1_val.json",), _textvqa),
    Format("docvqa", "val", ("docvqa/val_v1.0_withQT.json",), _docs("image")),
    Format("scienceqa_img", "test", ("scienceqa/problems.json", "scienceqa/pid_splits.json"), _scienceqa),
)
SMALL = (
    Format("okvqa", "val", OK, _vqa),
    Format("vizwiz", "val", ("vizwiz/Annotations/val.json",), _vizwiz),
    Format("gqa", "testdev_balanced", ("gqa/testdev_balanced_questions.json",), _gqa),
    Format("flickr30k", "test", ("flickr30k/dataset_flickr30k.json",), _karpathy),
    Format("nocaps", "val", ("nocaps/nocaps_val_4500_captions.json",), partial(_captions, named=True)),
    Format("chartqa", "test", ("chartqa/test/test_human.json", "chartqa/test/test_augmented.json"), _chartqa),
    Format("ocrvqa", "test", ("ocrvqa/dataset.json",), _ocrvqa),
    Format("infovqa", "val", ("infovqa/infographicsVQA_val_v1.0_withQT.json",), _docs("image_local_name")),
    Format("ai2d", "test", ("ai2d/questions/7.png.json", "ai2d/annotations/7.png.json"), _ai2d),
)
FILES = [pytest.param(f, place, id=f"{f}-{place}") for f in BUNDLED + SMALL for place in range(len(f.files))]
COUNT = 110
"""So many corrupt copies of each file by either way; some 5,000 in all."""


# ------------------------------------------------------------------------------------------------------------ checking


TASKS = {form.task: registry.tasks.get(form.task) for form in BUNDLED + SMALL}  # looking one up takes a while


def _load(form: Format, root: Path) -> list[Sample]:
    return list(load_job(TASKS[form.task], form.split, OfficialData("fuzzed", root), limit=None, seed=0).samples)


def _parsed(path: Path) -> Any:
    return load_plain_pickle(path) if path.suffix == ".p" else json.loads(path.read_bytes().decode("utf-8-sig"))


def _check(sample: Sample, kind: str, root: Path) -> None:
    """The sample's fields are of the types that ``Sample`` declares, and can be written down."""
    texts = [sample.id, sample.text, sample.cluster, *sample.options]
    assert all(type(text) is str for text in texts)
    assert sample.id
    assert sample.cluster
    assert sample.references
    if kind == "grounding":
        ((x1, y1, x2, y2),) = sample.references
        assert all(type(v) is float and math.isfinite(v) for v in (x1, y1, x2, y2))
        assert x1 < x2
        assert y1 < y2
    elif kind == "choice":
        (right,) = sample.references
        assert right in [_letter(k) for k in range(len(sample.options))]
    else:
        assert all(type(reference) is str for reference in sample.references)
    for name in ("answer_type", "category", "domain"):  # metrics break down by these
        if kind != "document":
            assert type(sample.meta.get(name)) in (str, type(None))
    (image,) = sample.images
    assert Path(os.path.normpath(image.path)).is_relative_to(root)
    json.dumps([texts, sample.references], ensure_ascii=False).encode()


def _said(sample: Sample) -> Said:
    image = Path(sample.images[0].path).name
    return sample.id, sample.text, sample.references, sample.cluster, sample.options, image


def _read_or_refused(form: Format, root: Path) -> bool:
    """Whether the files are read, and then for what they say; else they are refused in a sentence."""
    try:
        samples = _load(form, root)
    except UserError as error:
        sentence = str(error)
        assert len(sentence) < 600
        assert sentence.isprintable()
        assert sentence.endswith(".")
        assert form.task in sentence
        return False
    for sample in samples:
        _check(sample, TASKS[form.task].kind, root)
    assert [_said(s) for s in samples] == list(form.says(*(_parsed(root / file) for file in form.files)))
    return True


@contextmanager
def _restored(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    try:
        yield content
    finally:
        path.write_bytes(content)


# -------------------------------------------------------------------------------------------------------------- damage


def _with_other_bytes(content: bytes, random: Random) -> bytes:
    corrupt = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        at, length = random.randrange(len(corrupt) + 1), random.choice((1, 2, 8, 100))
        match random.randrange(6):
            case 0:
                corrupt[at : at + 1] = bytes(b ^ 1 << random.randrange(8) for b in corrupt[at : at + 1])
            case 1:
                corrupt[at : at + length] = random.randbytes(length)
            case 2:
                del corrupt[at : at + length]
            case 3:
                corrupt[at:at] = random.choice(INSERTED)
            case 4:
                del corrupt[at if random.random() < 0.3 else len(corrupt) - length :]
            case _:
                corrupt[at:at] = corrupt[at : at + length]
    return bytes(corrupt)


INSERTED = (
    b'"', b"[", b"}", b",", b"0", b"-", b"e9", b"\x00", b"\n", b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"\xed\xa0\x80", b"NaN",
    b"9" * 5000, b"[" * 100_000,
)  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("form", BUNDLED + SMALL, ids=str)
def test_intact_files_are_read(official_root: Path, form: Format) -> None:
    assert _read_or_refused(form, official_root)
    assert _load(form, official_root)


@pytest.mark.parametrize(("form", "place"), FILES)
def test_corrupt_bytes(official_root: Path, form: Format, place: int) -> None:
    path = official_root / form.files[place]
    read = 0
    with _restored(path) as content:
        for seed in range(COUNT):
            corrupt = _with_other_bytes(content, Random(f"{form.files[place]} {seed}"))
            path.write_bytes(corrupt)
            read += _read_or_refused(form, official_root)
    assert 0 < read < COUNT  # among them are harmless changes, and harmful ones


@pytest.mark.parametrize(("form", "place"), FILES)
def test_corrupt_structure(official_root: Path, form: Format, place: int) -> None:
    path = official_root / form.files[place]
    read = 0
    with _restored(path) as content:
        for seed in range(COUNT):
            document = pickle.loads(content) if path.suffix == ".p" else json.loads(content)
            changed = structure(document, Random(f"{form.files[place]} {seed}"))
            path.write_bytes(pickle.dumps(changed, 2) if path.suffix == ".p" else json.dumps(changed).encode())
            read += _read_or_refused(form, official_root)
    assert 0 < read < COUNT


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
    for value in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from _entries(value)


@pytest.mark.parametrize(("form", "place"), FILES)
def test_unusual_texts_and_ids_are_read_unchanged(official_root: Path, form: Format, place: int) -> None:
    path = official_root / form.files[place]
    random = Random(0)
    with _restored(path) as content:
        document = pickle.loads(content) if path.suffix == ".p" else json.loads(content)
        for number, entry in enumerate(_entries(document)):
            for key in entry.keys() & {"question", "query", "sent", "raw", "caption"}:
                entry[key] = "".join(random.choices(" aZ?\"'\\/\n\t\0\u2028é漢🙂", k=random.randrange(12)))
            for key in entry.keys() & {"questionId", "sent_id"}:
                entry[key] = random.choice((10**9 + number, f"é {number}/x"))
        path.write_bytes(pickle.dumps(document, 2) if path.suffix == ".p" else json.dumps(document).encode())
        assert _read_or_refused(form, official_root)


CAPTIONS = "coco/annotations/captions_val2014.json"
BOXES = "refcoco/instances.json"
DOCS = "docvqa/val_v1.0_withQT.json"
TEXT = "textvqa/TextVQA_0.5.1_val.json"
PROBLEMS = "scienceqa/problems.json"


@pytest.mark.parametrize(
    ("form", "file", "place", "value", "message"),
    [
        ("vqav2/val", V2[1], ("annotations", 0, "answers"), "yes", "answers is 'yes', not a list"),
        ("vqav2/val", V2[1], ("annotations", 0, "answers"), {"answer": "yes"}, "answers is {'answer': 'yes'}, not a list"),
        ("vqav2/val", V2[1], ("annotations", 0, "answers", 3, "answer"), 7, r"has no answers to score against \(7 is not a text\)"),
        ("vqav2/val", V2[1], ("annotations", 1, "question_id"), 1000, "two different annotations of question 1000"),
        ("vqav2/val", V2[1], ("annotations", 0, "answer_type"), ["other"], "answer_type is .* not a text"),
        ("vqav2/val", V2[0], ("questions",), "", "questions is '', not a list"),
        ("vqav2/val", V2[0], ("questions", 0, "question"), None, "question is None, not a text"),
        ("vqav2/val", V2[0], ("questions", 0, "question_id"), [1], r"question_id is \[1\], neither an integer nor a short text"),
        ("vqav2/val", V2[0], ("questions", 0, "question_id"), "1\n2", r"question_id is '1\\n2', neither an integer nor a short"),
        ("vqav2/val", V2[0], ("questions", 0, "image_id"), 1.5, "image_id is 1.5, not an integer"),
        ("vqav2/val", V2[0], ("questions", 0, "image_id"), 10**300, "image_id is 1000.*, not an integer"),
        ("textvqa/val", TEXT, ("data", 0, "answers"), [1] * 10, "not the official format"),
        ("textvqa/val", TEXT, ("data", 0, "answers"), "12", "answers is '12', not a list"),
        ("docvqa/val", DOCS, ("data", 0, "answers"), [1979], r"has no answers to score against \(1979 is not a text\)"),
        ("docvqa/val", DOCS, ("data", 0, "questionId"), math.nan, "'questionId' is NaN, which is not a number"),
        ("docvqa/val", DOCS, ("data", 0, "question"), "half \ud83d", "is not valid JSON .no valid Unicode: surrogates"),
        ("docvqa/val", DOCS, ("data", 0, "questionId"), "x" * 300, "questionId is 'xxx.*xxx', neither an integer nor a short text"),
        ("refcoco/testA", BOXES, ("annotations",), {}, "annotations is {}, not a list"),
        ("coco_caption/val2014", CAPTIONS, ("annotations", 0, "caption"), None, r"no captions to score against \(None is not a text"),
        ("coco_caption/test", KARPATHY, ("images", 0, "sentences", 0, "raw"), 5, r"no captions to score against \(5 is not a text"),
        ("coco_caption/test", KARPATHY, ("images", 0, "split"), None, "split is None, not a text"),
        ("coco_caption/test", KARPATHY, ("images", 0, "filepath"), "../../x", "filepath is '../../x', neither train2014 nor val2014"),
        ("scienceqa_img/test", PROBLEMS, ("1", "answer"), True, "3 options but calls True the right one"),
        ("scienceqa_img/test", PROBLEMS, ("1", "answer"), 1.5, "3 options but calls 1.5 the right one"),
        ("scienceqa_img/test", PROBLEMS, ("1", "choices"), "abc", "choices is 'abc', not a list"),
        ("scienceqa_img/test", PROBLEMS, ("1", "choices"), ["a", "b", None], "choices has None in it, which is not a text"),
        ("scienceqa_img/test", PROBLEMS, ("1", "choices"), ["x"] * 27, "27 options; there are letters for 26"),
        ("scienceqa_img/test", PROBLEMS, ("1", "image"), 0, "image is 0, not a text"),
        ("scienceqa_img/test", PROBLEMS, ("1", "hint"), 0, "hint is 0, not a text"),
        ("scienceqa_img/test", "scienceqa/pid_splits.json", ("test",), "123", "test is '123', not a list"),
        ("gqa/testdev_balanced", "gqa/testdev_balanced_questions.json", ("201307250", "isBalanced"), None, "isBalanced is None"),
        ("ocrvqa/test", "ocrvqa/dataset.json", ("761183271", "answers"), [1, 2], "answers has 1 in it, which is not a text"),
        ("ocrvqa/test", "ocrvqa/dataset.json", ("761183271", "questions"), "No", "questions is 'No', not a list"),
        ("ocrvqa/test", "ocrvqa/dataset.json", ("761183271", "split"), 3.7, "split is 3.7, not an integer"),
        ("chartqa/test", "chartqa/test/test_human.json", (0, "query"), 5, "query is 5, not a text"),
        ("ai2d/test", "ai2d/questions/7.png.json", ("questions", "What is 2?", "answerTexts", 0), 5, "answerTexts has 5 in it"),
        ("ai2d/test", "ai2d/annotations/7.png.json", ("text", "T0", "rectangle", 0, 0), math.inf, "'rectangle' is Infinity, which is not a number"),
    ],
)  # fmt: skip
def test_other_types_are_not_read_as_texts(
    official_root: Path, form: str, file: str, place: tuple[str | int, ...], value: object, message: str
) -> None:
    path = official_root / file
    with _restored(path) as content:
        holder = document = json.loads(content)
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value
        path.write_text(json.dumps(document))
        with pytest.raises(UserError, match=message) as refused:
            _load(next(f for f in BUNDLED + SMALL if str(f) == form), official_root)
    assert form.partition("/")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, math.nan, 4], "'bbox' is NaN, which is not a number"),
        ([1, 2, 3, 10**400], "'bbox' is a number of 401 digits"),
        ([1, 2, 3], "not x, y, width and height in pixels"),
        (["1", "2", "3", "4"], "not x, y, width and height in pixels"),
        ([1, 2, 3, True], "not x, y, width and height in pixels"),
        ([1, 2, 0, 4], "which encloses nothing"),
        ([1, 2, 3, -4.5], "which encloses nothing"),
        (None, "the box of annotation .* is None, not a list"),
    ],
)
def test_invalid_boxes_are_refused(official_root: Path, box: object, message: str) -> None:
    path = official_root / BOXES
    with _restored(path) as content:
        path.write_text(json.dumps({"annotations": [{**a, "bbox": box} for a in json.loads(content)["annotations"]]}))
        with pytest.raises(UserError, match=f"^refcoco: .*{message}"):
            _load(next(f for f in BUNDLED if f.task == "refcoco"), official_root)


def test_unused_boxes_are_not_checked(official_root: Path) -> None:
    form = next(f for f in BUNDLED if f.task == "refcoco")
    path = official_root / BOXES
    with _restored(path) as content:
        instances = json.loads(content)
        instances["annotations"].append({"id": 1, "bbox": [1, 2, 0, 0]})  # COCO has a few of no width
        path.write_text(json.dumps(instances))
        assert _read_or_refused(form, official_root)
