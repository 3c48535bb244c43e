"""Custom tasks in TSV files: kinds, references, images in their places, breakdowns, clusters."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.few_shot import ShotPool, ShotSelector
from evalkit.file_task import FileTask
from evalkit.task_files import read_task_file
from evalkit.types import ImagePart, Sample, TextPart


def b64(color: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (90, 90), color).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


RED, BLUE, GREEN = map(b64, ("red", "blue", "green"))


def write(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "mine.tsv"
    path.write_text("".join("\t".join(line.split("|")) + "\n" for line in (header, *rows)))
    return path


def samples(task: FileTask) -> list[Sample]:
    return list(task.load(open_data("tiny"), "own"))


# -------------------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("header", "row", "kind", "metric", "references"),
    [
        ("index|image|question|A|B|answer", f"1|{RED}|?|x|y|B", "choice", "choice_accuracy", ("B",)),
        ("index|image|question|answer", f"1|{RED}|?|Yes", "yes_no", "yes_no_accuracy", ("yes",)),
        ("index|image|question|answer", f"1|{RED}|?|a cat", "vqa", "exact_match", ("a cat",)),
        ("index|image|question|answer", f"1|{RED}|?|['a', \"b\"]", "vqa", "exact_match", ("a", "b")),
        ("index|image|question|answer", f"1|{RED}|?|[1, 2]", "vqa", "exact_match", ("[1, 2]",)),
        ("index|image|question|A|answer", f"1|{RED}|?|x|nan", "vqa", "exact_match", ("nan",)),
    ],
)
def test_kind_follows_columns_and_answers(
    tmp_path: Path, header: str, row: str, kind: str, metric: str, references: tuple[str, ...]
) -> None:
    task = read_task_file(write(tmp_path, header, row))
    assert (task.name, task.kind, task.metric) == ("mine", kind, metric)
    (sample,) = samples(task)
    assert sample.references == references


def test_one_other_answer_makes_them_texts(tmp_path: Path) -> None:
    path = write(tmp_path, "index|image|question|answer", f"1|{RED}|?|Yes", f"2|{RED}|?|two")
    assert [sample.references for sample in samples(read_task_file(path))] == [("Yes",), ("two",)]
    with pytest.raises(UserError, match="mine.tsv, line 3: the answer is 'two'; expected yes or no"):
        read_task_file(path, "yes_no")
    assert read_task_file(path, "document").metric == "anls"
    with pytest.raises(UserError, match="--kind grounding: a TSV file such as .* holds choice, yes_no, vqa"):
        read_task_file(path, "grounding")
    with pytest.raises(UserError, match="--kind choice: .*mine.tsv has no columns A and B"):
        read_task_file(path, "choice")


def test_kind_overrides_options(tmp_path: Path) -> None:
    path = write(tmp_path, "index|image|question|A|B|answer", f"1|{RED}|Which?|x|y|the sum")
    (sample,) = samples(read_task_file(path, "vqa"))
    assert (sample.references, sample.options, sample.meta) == (("the sum",), (), {"A": "x", "B": "y"})


# ----------------------------------------------------------------------------------------------------- prompts and meta


HINTED = "index|image|question|hint|A|B|C|D|answer|category|l2-category|split"


def parts(task: FileTask, sample: Sample, protocol: str, family: str = "generic") -> list[str]:
    (message,) = registry.families.get(family).prompt(task.prompt_spec(protocol).of(sample), sample)
    return [part.text if isinstance(part, TextPart) else part.image.name[-5:] for part in message.content]


def test_hint_and_missing_options(tmp_path: Path) -> None:
    task = read_task_file(
        write(
            tmp_path,
            HINTED,
            f"1|{RED}|What?|Look.|red||blue|None|C|color|AR|dev",
            f"2|{BLUE}|What?||red|blue|||A|||test",
        )
    )
    first, second = samples(task)
    assert first.meta == {
        "hint": "Look.", "question": "What?", "category": "color", "l2_category": "AR", "split": "dev",
    }  # fmt: skip
    assert first.references == ("C",)
    assert second.meta == {"split": "test"}
    assert parts(task, first, "official")[1].startswith("Look.\nWhat?\nA. red\nC. blue\nD. None\n")
    assert parts(task, first, "vlmevalkit")[1] == (
        "Hint: Look.\nQuestion: What?\nOptions:\nA. red\nC. blue\nPlease select the correct answer from the options "
        "above. \n"
    )
    assert parts(task, second, "vlmevalkit")[1].startswith("Question: What?\nOptions:\nA. red\nB. blue\nPlease")
    assert list(task.splits) == ["own"]
    with pytest.raises(UserError, match="lmms-eval has no prompt for mine; use --protocol official or vlmevalkit"):
        parts(task, first, "lmms-eval")


def test_vlmevalkit_asks_other_questions_as_they_are(tmp_path: Path) -> None:
    task = read_task_file(write(tmp_path, "index|image|question|hint|answer", f"1|{RED}|What?|Look.|red"))
    assert parts(task, samples(task)[0], "vlmevalkit") == ["sv[1]", "What?"]


@pytest.mark.parametrize("protocol", ["official", "vlmevalkit"])
def test_images_stand_where_question_and_options_say(tmp_path: Path, protocol: str) -> None:
    task = read_task_file(
        write(
            tmp_path,
            "index|image|question|hint|A|B|answer",
            f"1|['{RED}', '{BLUE}', '{GREEN}']|Is <image> more like|Look.|<image>|<image>|A",
            f"2|['{RED}', '{BLUE}']|Do they differ?||yes|no|A",
        )
    )
    placed, before = samples(task)
    (message,) = registry.families.get("generic").prompt(task.prompt_spec(protocol), placed)
    kinds = ["image" if isinstance(part, ImagePart) else part.text for part in message.content]
    assert kinds.count("image") == 3
    assert kinds[0].endswith("Look.\nIs ")
    assert kinds[1:5] == ["image", kinds[2], "image", "\nB. "]
    assert len(placed.all_images) == 3
    assert parts(task, before, protocol)[:2] == ["1][0]", "1][1]"]
    assert before.images == placed.all_images[:2], "the same content is one image"
    path = write(tmp_path, "index|image|question|answer", f"1|['{RED}', '{BLUE}']|Is <image>?|red")
    with pytest.raises(UserError, match="mine.tsv, line 2: the question has 1 times <image> for 2 images"):
        read_task_file(path)


def test_categories_may_be_lists(tmp_path: Path) -> None:
    path = write(tmp_path, "index|image|question|answer|category", f"1|{RED}|?|Yes|['random', 'popular']")
    (sample,) = samples(read_task_file(path))
    assert sample.meta["category"] == ["random", "popular"]


# ------------------------------------------------------------------------------------------------------------ clusters


def test_questions_about_an_image_are_a_cluster(tmp_path: Path) -> None:
    rows = (f"1|{RED}|a|x", f"2|{RED}|b|x", "3|1|c|x", f"4|['{BLUE}', '{RED}']|d|x", f"5|{GREEN}|e|x", "6||f|x")
    task = read_task_file(write(tmp_path, "index|image|question|answer", *rows))
    assert [sample.cluster for sample in samples(task)] == ["1", "1", "1", "1", "5", "6"]
    assert task.scoring_rules == {}


def test_rotations_are_a_cluster_and_have_a_rule(tmp_path: Path) -> None:
    header = "index|image|question|A|B|answer"
    rows = (f"7|{RED}|q|x|y|A", "1000007|7|q|y|x|B", f"8|{RED}|r|x|y|A", "1000008||another|x|y|A", "3000009|7|s|x|y|B")
    task = read_task_file(write(tmp_path, header, *rows))
    found = [(s.cluster, s.meta["group"], s.meta["rotation"]) for s in samples(task)]
    assert found == [("7", "7", 0), ("7", "7", 1), ("8", "8", 0), ("1000008",) * 2 + (0,), ("3000009",) * 2 + (0,)]
    assert task.scoring_rule("circular").metric == "circular_accuracy"
    plain = read_task_file(write(tmp_path, header, *rows[2:4]))
    assert "group" not in samples(plain)[0].meta
    assert "circular" not in plain.scoring_rules
    assert "vlmevalkit-2024" in plain.scoring_rules


def test_names_of_images_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "images" / "a.png")
    header = "index|image_path|question|answer"
    task = read_task_file(write(tmp_path, header, "1|images/a.png|?|red", "2|['images/a.png', 'images/../b.png']|?|x"))
    first, second = samples(task)
    assert first.images[0].load().getpixel((0, 0)) == (255, 0, 0)
    assert [image.name for image in second.images] == [f"{tmp_path}/images/a.png", f"{tmp_path}/b.png"]
    assert {first.cluster, second.cluster} == {"images/a.png"}


def test_digest_depends_on_content_only(tmp_path: Path) -> None:
    header, row = "index|image|question|answer", f"1|{RED}|?|red"
    digest = read_task_file(write(tmp_path, header, row)).digest
    (tmp_path / "other").mkdir()
    assert read_task_file(write(tmp_path / "other", header, row)).digest == digest
    assert read_task_file(write(tmp_path, header, f"1|{BLUE}|?|red")).digest != digest


# ------------------------------------------------------------------------------------------------------ few-shot examples


def test_questions_without_images_are_no_examples_of_themselves(tmp_path: Path) -> None:
    header = "index|image|question|answer"
    pool = ShotPool("pool", samples(read_task_file(write(tmp_path, header, "1||a|x", "2||b|x", f"3|{RED}|c|x"))))
    asked = pool.samples[0]
    for seed in range(5):
        assert "1" not in {shot.id for shot in ShotSelector(pool, 2, "random", seed).select(asked)}
    with pytest.raises(UserError, match="--shots-by similar: sample 1 has no image to compare; use random or fixed"):
        ShotSelector(pool, 1, "similar", 0, lambda: pytest.fail("no model is needed")).select(asked)
