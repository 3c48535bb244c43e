"""MMMU and MMMU-Pro from the hub's parquet and from VLMEvalKit's TSV: images at their marks, both kinds of questions."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.types import ImagePart, ImageRef, Sample, TextPart

COLOURS = ("red", "green", "blue", "white", "black", "gray", "pink")


def png(number: int) -> bytes:
    """An image that is ``number`` pixels higher than 10."""
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10 + number), COLOURS[number - 1]).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"validation_Art_Theory_{number}", "question": "Who painted <image 1>?", "options": "['Monet', \"d'Or\"]",
        "answer": "B", "question_type": "multiple-choice", "images": 1, **changes,
    }  # fmt: skip


ROWS = (
    row(1),
    row(2, question="Is <image 2> before <image 1>, or <image 2> after?", images=2),
    row(3, question="Which one?", options="['<image 1>', ' <image 3> ', 'see <image 2>', 'none']", images=3),
    row(4, id="validation_Math_7", question="How long is it? <image 1>", options="[]", answer="['24/7', '3.429']", question_type="open"),
    row(5, id="validation_Math_8", question="How long?", options="[]", answer="24", question_type="open"),
)  # fmt: skip


def hub(root: Path, *rows: dict[str, Any], without: str = "") -> Path:
    table = []
    for one in rows:
        cells = {f"image_{n}": {"bytes": png(n), "path": None} if n <= one["images"] else None for n in range(1, 8)}
        table.append({key: value for key, value in {**one, **cells}.items() if key not in ("images", without)})
    file = root / "lmms-lab/MMMU/data/validation-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    names = list(table[0])
    schema = pa.schema([(name, image if name.startswith("image_") else pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist(table, schema), file)
    return root


def tsv(root: Path, *rows: dict[str, Any]) -> Path:
    columns = ("index", "id", "image", "question", "A", "B", "C", "D", "answer", "category", "split")
    lines = ["\t".join(columns)]
    for number, one in enumerate(rows):
        options = eval(one["options"]) if isinstance(one["options"], str) else one["options"]
        images = [base64.b64encode(png(n)).decode() for n in range(1, one["images"] + 1)]
        cells = {
            "index": str(number), "image": images[0] if len(images) == 1 else str(images), "split": "validation",
            **dict(zip("ABCD", options, strict=False)), **{k: v for k, v in one.items() if k in columns},
        }  # fmt: skip
        lines.append("\t".join(cells.get(column, "") for column in columns))
    (root / "mmmu").mkdir(parents=True, exist_ok=True)
    (root / "mmmu" / "MMMU_DEV_VAL.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "digests"))


def load(data: str, name: str = "mmmu", split: str = "val") -> list[Sample]:
    return list(registry.tasks.get(name).load(open_data(data), split))


def number_of(image: ImageRef) -> int:
    return image.size()[1] - 10


def shown(parts: Any) -> list[Any]:
    return [part if isinstance(part, str) else number_of(part) for part in parts]


def prompt(family: str, protocol: str, sample: Sample, name: str = "mmmu") -> list[Any]:
    task = registry.tasks.get(name)
    (message,) = registry.families.get(family).prompt(task.prompt_spec(protocol).of(sample), sample)
    found: list[Any] = []
    for part in message.content:
        if isinstance(part, TextPart):
            found.append(part.text)
        else:
            assert isinstance(part, ImagePart)
            found.append(number_of(part.image))
    return found


@pytest.mark.parametrize("source", ["hub", "tsv"])
def test_images_stand_at_their_marks(tmp_path: Path, source: str) -> None:
    data = f"hub:{hub(tmp_path, *ROWS)}" if source == "hub" else str(tsv(tmp_path, *ROWS))
    first, twice, options, several, plain = load(data)
    assert first.id == "validation_Art_Theory_1"
    assert shown(first.content) == ["Who painted ", 1, "?"]
    assert first.options == ("Monet", "d'Or")
    assert first.references == ("B",)
    assert (first.meta["category"], first.meta["domain"]) == ("Art_Theory", "Art and Design")
    assert shown(twice.content) == ["Is ", 2, " before ", 1, ", or ", 2, " after?"]
    assert len(twice.images) == 3
    assert shown(options.content) == ["Which one?"]
    assert shown(options.options) == [1, 3, "see <image 2>", "none"]
    assert shown(options.images) == [2]  # an option with a mark among text: the prompt has the image there
    assert (several.kind, several.references, several.options) == ("vqa", ("24/7", "3.429"), ())
    assert (plain.kind, plain.references, plain.text) == ("vqa", ("24",), "How long?")
    assert shown(plain.images) == [1]  # no mark: before the question
    assert not plain.content


def test_dev_rows_of_tsv_are_left_out(tmp_path: Path) -> None:
    tsv(tmp_path, row(1), row(2, split="dev"), row(3, split="validation"))
    assert [sample.id for sample in load(str(tmp_path))] == ["validation_Art_Theory_1", "validation_Art_Theory_3"]


def test_subject_is_the_category_where_ids_are_numbers(tmp_path: Path) -> None:
    tsv(tmp_path, row(1, id="", category="Computer Science"))
    (sample,) = load(str(tmp_path))
    assert (sample.id, sample.meta["category"]) == ("0", "Computer_Science")


def test_prompts(tmp_path: Path) -> None:
    first, twice, options, several, _ = load(f"hub:{hub(tmp_path, *ROWS)}")
    tail = "Answer with the option's letter from the given choices directly."
    assert prompt("generic", "official", first) == ["Who painted ", 1, f"?\n\n(A) Monet\n(B) d'Or\n\n{tail}"]
    assert prompt("generic", "lmms-eval", first) == ["Who painted ", 1, f"?\nA. Monet\nB. d'Or\n\n{tail}"]
    assert prompt("generic", "vlmevalkit", first) == [
        "Question: Who painted ", 1,
        "?\nOptions:\nA. Monet\nB. d'Or\nPlease select the correct answer from the options above. \n",
    ]  # fmt: skip
    assert prompt("generic", "official", several) == [
        "How long is it? ", 1, "\n\nAnswer the question using a single word or phrase.",
    ]  # fmt: skip
    assert prompt("qwen2.5-vl", "vlmevalkit", several) == ["Question: How long is it? ", 1, "\n"]
    select = "Please select the correct answer from the options above."
    assert prompt("generic", "lmms-eval", options) == [
        "Which one?\nA. ", 1, "\nB. ", 3, "\nC. see ", 2, f"\nD. none\n\n{tail}",
    ]  # fmt: skip
    # Qwen's own evaluation: every image once, before the text, which keeps the marks.
    assert prompt("qwen2.5-vl", "official", twice) == [
        1, 2,
        "Question: Is <image 2> before <image 1>, or <image 2> after?\nOptions:\nA. Monet\nB. d'Or\n" + select,
    ]  # fmt: skip
    assert prompt("qwen3-vl", "official", options) == [
        1, 2, 3,
        "Question: Which one?\nOptions:\nA. <image 1>\nB. <image 3>\nC. see <image 2>\nD. none\n" + select,
    ]  # fmt: skip
    assert prompt("qwen3-vl", "official", several) == [1, "Question: How long is it? <image 1>"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": None}, "question is None, not a text"),
        ({"id": None}, "id is None, neither an integer nor a short text"),
        ({"id": "validation_Sorcery_3"}, "'validation_Sorcery_3' is of no subject of MMMU"),
        ({"options": "['a', 3]"}, r"options is .*, not a list of texts"),
        ({"options": "__import__('os').getcwd()"}, "options is .*, not a list of texts"),
        ({"options": "[" * 5000}, "options is .*, not a list of texts"),
        ({"options": "[]"}, "a multiple-choice question has no options"),
        ({"answer": "C"}, "has 2 options but calls 'C' the right one"),
        ({"answer": None}, "has 2 options but calls None the right one"),
        ({"question": "And <image 3>?"}, "the text has the mark <image 3>, and there is no such image"),
        ({"question_type": "open", "answer": "['a', 3]"}, "answer is .*, not a list of texts"),
        ({"question_type": "open", "answer": None}, "answer is None, not a text"),
    ],
)
def test_bad_rows_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    hub(tmp_path, row(1), row(2, **changes))
    with pytest.raises(UserError, match=r"^mmmu: .*lmms-lab/MMMU/validation\[1\].*") as refused:
        load(f"hub:{tmp_path}")
    assert refused.match(message)
    assert len(str(refused.value)) < 500


def test_missing_column_is_reported(tmp_path: Path) -> None:
    hub(tmp_path, row(1), without="question_type")
    with pytest.raises(UserError, match="^mmmu: .* has no column question_type"):
        load(f"hub:{tmp_path}")


def test_tsv_with_too_few_images_is_reported(tmp_path: Path) -> None:
    tsv(tmp_path, row(1), row(2, question="And <image 2>?"))
    with pytest.raises(UserError, match=r"^mmmu: .*MMMU_DEV_VAL.tsv, line 3.*the mark <image 2>, and there is no such"):
        load(str(tmp_path))


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^mmmu: no MMMU_DEV_VAL.tsv under .*; expected mmmu/MMMU_DEV_VAL.tsv"):
        load(str(tmp_path))


# ----------------------------------------------------------------------------------------------------------- MMMU-Pro


def pro(root: Path, config: str, *rows: dict[str, Any]) -> str:
    file = root / "MMMU/MMMU_Pro" / config / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return f"hub:{root}"


PRO = {
    "id": "test_Art_9", "question": "Which <image 1>?", "options": "['one', '<image 2>', 'three']", "answer": "C",
    "subject": "Art_Theory", "image_1": {"bytes": png(1), "path": None}, "image_2": {"bytes": png(2), "path": None},
}  # fmt: skip
VISION = {
    "id": "test_Art_9", "image": {"bytes": png(3), "path": None}, "options": "['one', 'two', 'three']", "answer": "C",
    "subject": "Computer_Science",
}  # fmt: skip
LAST_LINE = (
    "The last line of your response should be of the following format: 'Answer: $LETTER' (without quotes) where LETTER "
    "is one of options. Think step by step before answering."
)


def test_mmmu_pro(tmp_path: Path) -> None:
    data = pro(tmp_path, "standard (10 options)", PRO)
    (sample,) = load(data, "mmmu_pro", "standard10")
    assert shown(sample.content) == ["Which ", 1, "?"]
    assert shown(sample.options) == ["one", 2, "three"]
    assert (sample.references, sample.meta["category"], sample.meta["domain"]) == (
        ("C",), "Art_Theory", "Art and Design",
    )  # fmt: skip
    assert prompt("generic", "official", sample, "mmmu_pro") == [
        "Which ", 1, "?\nA. one\nB. ", 2,
        f"\nC. three\nAnswer the preceding multiple choice question. {LAST_LINE}",
    ]  # fmt: skip
    assert prompt("qwen3-vl", "official", sample, "mmmu_pro") == [
        1, 2, "Which <image 1>?\nA. one\nB. <image 2>\nC. three\nPlease select the correct answer from the options.",
    ]  # fmt: skip
    assert prompt("qwen2-vl", "vlmevalkit", sample, "mmmu_pro")[:2] == ["Question: Which ", 1]
    with pytest.raises(UserError, match="mmmu_pro: it is not read from official downloads; use --data hub"):
        load(str(tmp_path), "mmmu_pro", "standard4")


def test_option_that_is_a_list_of_options(tmp_path: Path) -> None:
    """One question is so upstream: no answer to it is right."""
    data = pro(tmp_path, "standard (10 options)", {**PRO, "options": "[['A', 'B', 'Neither']]", "answer": "B"})
    (sample,) = load(data, "mmmu_pro", "standard10")
    assert (sample.options, sample.references) == (("['A', 'B', 'Neither']",), ("B",))
    letter = registry.tasks.get("mmmu_pro").prompt_spec().letter
    assert {letter(text, sample.options).letter for text in ("B", "Answer: B", "(B)", "Answer: A")} == {None, "A"}


def test_mmmu_pro_vision(tmp_path: Path) -> None:
    data = pro(tmp_path, "vision", VISION)
    (sample,) = load(data, "mmmu_pro_vision", "test")
    assert (sample.text, sample.options, sample.references) == ("", ("one", "two", "three"), ("C",))
    assert shown(sample.images) == [3]
    assert prompt("generic", "official", sample, "mmmu_pro_vision") == [
        3, f"Write out the multiple-choice question in the image and then solve it. {LAST_LINE}",
    ]  # fmt: skip
    assert prompt("qwen3-vl", "official", sample, "mmmu_pro_vision") == [
        3, "Identify the problem and solve it. Think step by step before answering.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": "Sorcery"}, "is of no subject of MMMU"),
        ({"answer": "D"}, "has 3 options but calls 'D' the right one"),
        ({"options": "one"}, "options is 'one', not a list of texts"),
    ],
)
def test_bad_rows_of_mmmu_pro_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = pro(tmp_path, "vision", VISION, {**VISION, **changes})
    with pytest.raises(UserError, match=rf"^mmmu_pro_vision: .*MMMU_Pro/vision/test\[1\].*{message}"):
        load(data, "mmmu_pro_vision", "test")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # official, lmms-eval's for vision, VLMEvalKit's
        ("B", "BBB"),
        ("Two apples.\nAnswer: B", "B-B"),
        ("Answer: $B", "B-B"),
        ("Answer: A or B\nAnswer: B.", "B-B"),
        ("So it is two.\nAnswer: two", "B-B"),
        ("I cannot say", "---"),
    ],
)
def test_rules_of_mmmu_pro(text: str, expected: str) -> None:
    task = registry.tasks.get("mmmu_pro_vision")
    rules = ("official", "lmms-eval-75571cf", "vlmevalkit-2026-07")
    found = [task.prompt_spec(rule=rule).letter(text, ("one", "two", "three")).letter or "-" for rule in rules]
    assert "".join(found) == expected
