"""Tasks in TOML: what of a row becomes what of a sample, and what is said of mistakes, with their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import Data, open_data
from evalkit.described_task import DescribedTask
from evalkit.errors import UserError
from evalkit.few_shot import shot_pool
from evalkit.jobs import Job, build_requests, load_job
from evalkit.scoring import check_scorable
from evalkit.task_names import parse_tasks
from evalkit.toml_lines import TomlLines
from evalkit.types import Sample

COLUMNS = 'columns = { image = "file", question = "text", answers = "gold" }\n'
ROWS = "file,text,gold,level\na.png,What?,cat,1\nb.png,Who?,dog,2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "ab":
        Image.new("RGB", (60, 50)).save(tmp_path / f"{name}.png")
    (tmp_path / "q.csv").write_text(ROWS)
    return tmp_path


def task_in(folder: Path, text: str, name: str = "mine.toml") -> DescribedTask:
    (folder / name).write_text(text)
    ((task, split),) = parse_tasks([str(folder / name)])
    assert isinstance(task, DescribedTask)
    assert split == "own"
    return task


def job_of(folder: Path, text: str, name: str = "mine.toml", data: Data | None = None) -> Job:
    return load_job(task_in(folder, text, name), "own", data or open_data("tiny"), limit=None, seed=0)


def samples_of(folder: Path, text: str, name: str = "mine.toml") -> list[Sample]:
    return list(job_of(folder, text, name).samples)


def refusal(folder: Path, text: str, name: str = "mine.toml") -> str:
    """What is said of a mistake, with the folder left out."""
    with pytest.raises(UserError) as caught:
        check_scorable(job_of(folder, text, name))
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


# ------------------------------------------------------------------------------------------------------------ reading


def test_columns_of_csv(folder: Path) -> None:
    first, second = samples_of(folder, f'kind = "vqa"\nrows = "q.csv"\nbreakdowns = ["level"]\n{COLUMNS}')
    assert (first.id, second.id) == ("1", "2")
    assert (first.text, first.references, first.cluster) == ("What?", ("cat",), "a.png")
    assert first.images[0].name == str(folder / "a.png")
    assert dict(first.meta) == {"level": "1"}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "parquet", "rows"])
def test_forms_of_rows_give_same_samples(folder: Path, form: str) -> None:
    rows: list[dict[str, Any]] = [
        {"index": "x", "image": "a.png", "question": "What?", "answers": ["cat", "a cat"], "level": "1"},
        {"index": "y", "image": "b.png", "question": "Who?", "answers": ["dog"], "level": "2"},
    ]
    if form in ("csv", "tsv"):
        rows = [{**row, "answers": json.dumps(row["answers"])} for row in rows]
    path = folder / f"r.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form in ("csv", "tsv"):
        import pandas as pd

        table = pd.DataFrame(rows).rename(columns={"image": "image_path"})
        table.to_csv(path, index=False, sep="," if form == "csv" else "\t")
    stated = f'rows = "{path.name}"'
    if form == "rows":
        stated = "".join(
            "[[rows]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items()) for row in rows
        )
    first, second = samples_of(folder, f'kind = "vqa"\n{stated}\n')
    assert (first.id, first.text, first.references) == ("x", "What?", ("cat", "a cat"))
    assert (second.references, second.meta["level"]) == (("dog",), "2")
    assert [sample.images[0].name for sample in (first, second)] == [str(folder / "a.png"), str(folder / "b.png")]
    assert [sample.cluster for sample in (first, second)] == ["a.png", "b.png"]


def test_images_in_parquet_are_read_when_needed(folder: Path) -> None:
    cells = [{"bytes": (folder / f"{name}.png").read_bytes(), "path": f"{name}.png"} for name in "ab"]
    rows = [
        {"image": cells[0], "others": cells, "scene": "s1", "question": "What?", "answer": "cat"},
        {"image": None, "others": cells[:1], "scene": "s2", "question": "Who?", "answer": "dog"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "r.parquet")
    text = 'kind = "vqa"\nrows = "r.parquet"\ncolumns = { image = ["image", "others"], cluster = "scene" }\n'
    first, second = samples_of(folder, text)
    assert [len(first.images), len(second.images)] == [3, 1]
    assert first.images[0].load().size == (60, 50)
    assert first.images[1].digest() == first.images[0].digest()
    assert (first.cluster, second.cluster) == ("s1", "s2")
    assert "scene" not in first.meta


def test_data_set_of_hub(folder: Path) -> None:
    place = folder / "mirror/org/name/small"
    place.mkdir(parents=True)
    image = {"bytes": (folder / "a.png").read_bytes(), "path": None}
    pq.write_table(
        pa.Table.from_pylist([{"image": image, "question": "Q", "answer": "x"}]), place / "test-00000-of-00001.parquet"
    )
    text = 'kind = "vqa"\nrows = { hub = "org/name", config = "small", split = "test" }\n'
    job = job_of(folder, text, data=open_data(f"hub:{folder / 'mirror'}"))
    assert job.samples[0].images[0].load().size == (60, 50)
    assert len(job.task.digest) == 16  # type: ignore[attr-defined]
    (folder / "other").mkdir()
    with pytest.raises(UserError, match=r"mine\.toml, line 2: .*no folder .*org/name"):
        job_of(folder, text, data=open_data(f"hub:{folder / 'other'}"))


def test_values_that_are_no_columns(folder: Path) -> None:
    (folder / "r.jsonl").write_text(
        '{"l": "a.png", "r": "b.png", "n": 1, "x": [1, 2, 30, 40], "choices": ["(A) red", "B. blue"]}\n'
    )
    head = 'kind = "choice"\nrows = "r.jsonl"\n[columns]\n'
    (sample,) = samples_of(
        folder,
        f'{head}image = ["l", "r"]\nquestion = {{ text = "<image> or <image>, {{n}}?" }}\n'
        'options = { column = "choices", lettered = true }\nanswer = { column = "n", first = 0 }\n',
    )
    assert sample.text == "⟨image 1⟩ or ⟨image 2⟩, 1?"
    assert (sample.options, sample.references) == (("red", "blue"), ("B",))
    (sample,) = samples_of(
        folder,
        'kind = "grounding"\nrows = "r.jsonl"\n[columns]\nimage = "l"\nquestion = { value = "it" }\n'
        'box = { column = "x", format = "xywh" }\n',
    )
    assert sample.references == ((1.0, 2.0, 31.0, 42.0),)


def test_conversation_comes_before_question(folder: Path) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Which color?"},
    ]
    (folder / "r.jsonl").write_text(json.dumps({"messages": messages, "answers": ["red"]}))
    job = job_of(folder, 'kind = "vqa"\nrows = "r.jsonl"\n')
    (sample,) = job.samples
    assert [image.name for image in sample.all_images] == [str(folder / "a.png")]
    (question,) = build_requests(job, registry.families.get("qwen2.5-vl")).values()
    turns = [(message.role, message.text()) for message in question.request.messages]
    assert turns[:3] == [("system", "Be short."), ("user", "<image>What?"), ("assistant", "A cat.")]
    assert turns[3][0] == "user"
    assert turns[3][1].startswith("Which color?")
    with pytest.raises(UserError, match="without turns"):
        build_requests(job, registry.families.get("qwen-vl"))
    changed = [*messages[:2], {"role": "assistant", "content": "A dog."}, *messages[3:]]
    (folder / "r.jsonl").write_text(json.dumps({"messages": changed, "answers": ["red"]}))
    assert job_of(folder, 'kind = "vqa"\nrows = "r.jsonl"\n').annotations != job.annotations


def test_prompts_of_families(folder: Path) -> None:
    text = f'kind = "vqa"\nrows = "q.csv"\n{COLUMNS}[prompts]\n"qwen2.5-vl" = "{{q}} Now."\n'
    own, other = (registry.families.get(name) for name in ("qwen2.5-vl", "generic"))

    def asked(family: Any, text: str, name: str = "mine.toml") -> str:
        job = job_of(folder, text, name)
        return build_requests(job, family)["1"].request.messages[-1].text()

    assert asked(own, text) == "<image>What? Now."
    assert asked(other, text) == "<image>What?\nAnswer the question using a single word or phrase."
    assert asked(other, text + 'all = "{q} All."\n') == "<image>What? All."
    named = f'kind = "vqa"\nrows = "q.csv"\n{COLUMNS}prompts.all = "{{q}} Mine."\n'
    assert asked(registry.families.get("qwen3-vl"), named, "blink.toml") == "<image>What? Mine."


def test_decoding_shots_and_metric_options(folder: Path) -> None:
    (folder / "s.csv").write_text(ROWS)
    job = job_of(
        folder,
        f'kind = "document"\nrows = "q.csv"\nmetric = {{ name = "anls", variant = "mmf" }}\nshots.rows = "s.csv"\n'
        f"{COLUMNS}[decoding]\ntemperature = 0.5\nmax_new_tokens = 7\n",
    )
    check_scorable(job)
    assert job.decoding(registry.families.get("generic")).to_dict() == {
        "max_new_tokens": 7, "min_new_tokens": 0, "temperature": 0.5,
    }  # fmt: skip
    assert job.metric == "anls_mmf"
    assert [s.id for s in shot_pool(job.task, "own", open_data("tiny"), None).samples] == ["1", "2"]


def test_header_of_jsonl_says_the_same(folder: Path) -> None:
    described = samples_of(folder, f'kind = "vqa"\nrows = "q.csv"\n{COLUMNS}')
    columns = {"image": "file", "question": "text", "answers": "gold"}
    rows = [{"file": "a.png", "text": "What?", "gold": "cat"}, {"file": "b.png", "text": "Who?", "gold": "dog"}]
    lines = [{"evalkit": 1, "kind": "vqa", "columns": columns, "decoding": {"max_new_tokens": 3}}, *rows]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    job = job_of(folder, text, "mine.jsonl")
    assert [(s.id, s.text, s.references, s.cluster) for s in job.samples] == [
        (s.id, s.text, s.references, s.cluster) for s in described
    ]
    assert job.task.decoding.max_new_tokens == 3
    elsewhere = json.dumps({**lines[0], "rows": "q.csv"})
    assert len(samples_of(folder, elsewhere, "mine.jsonl")) == 2
    assert "line 1: rows says where the rows are" in refusal(folder, f"{elsewhere}\n{text}", "mine.jsonl")
    wrong = json.dumps({"evalkit": 1, "kind": "vqa", "colums": {}})
    assert refusal(folder, wrong, "mine.jsonl") == "mine.jsonl, line 1: unknown key 'colums'; did you mean columns?"


def test_digest_is_of_content_not_of_spelling(folder: Path) -> None:
    text = f'kind = "vqa"\nrows = "q.csv"\n{COLUMNS}'

    def digest(text: str) -> str:
        task = job_of(folder, text).task
        assert isinstance(task, DescribedTask)
        return task.digest

    first = digest(text)
    assert digest("# a comment\n" + text) == first
    assert digest(text + "decoding.max_new_tokens = 5\n") != first
    (folder / "q.csv").write_text(ROWS.replace("dog", "cow"))
    assert digest(text) != first


# ----------------------------------------------------------------------------------------------------------- mistakes

BASE = f'kind = "vqa"\nrows = "q.csv"\n{COLUMNS}'
MISTAKES = {
    'kind = "vqa"\nrows = q.csv\n': "mine.toml, line 2: it is not valid TOML: invalid value.",
    'rows = "q.csv"\n': "mine.toml: there is no kind; expected one of caption, vqa, document",
    'kind = "vqa"\n': "mine.toml: there is no rows; expected where the rows are",
    'kind = "mcq"\nrows = "q.csv"\n': "mine.toml, line 1: kind is 'mcq'; expected a kind; did you mean choice?",
    f"{BASE}colums = 1\n": "mine.toml, line 4: unknown key 'colums'; did you mean columns?",
    f"{BASE}[prompts]\nqwen25 = \"x\"\n": "mine.toml, line 5: unknown key 'qwen25' in prompts; did you mean qwen2.5-vl?",
    f'{BASE}[prompts]\nall = "{{qq}}"\n': "mine.toml, line 5: prompts.all is not a prompt: {qq} is no placeholder",
    f"{BASE}[decoding]\n\ntemperature = -1\n": "mine.toml, line 6: decoding.temperature=-1: give",
    f"{BASE}decoding = {{ top_p = 0.5 }}\n": "mine.toml, line 4: decoding.top_p=0.5: has no effect at temperature 0",
    f'{BASE}metric = "exact"\n': "mine.toml, line 4: unknown metric 'exact': did you mean exact_match?",
    f'{BASE}metric = {{ name = "anls", variant = "x" }}\n': "mine.toml, line 4: metric: variant is 'x'; expected rrc",
    f'{BASE}metric = "iou"\n': "mine/own: iou: ",
    f'{BASE}breakdowns = ["lvl"]\n': "mine.toml, line 4: breakdowns names the column 'lvl', and q.csv has none",
    f'{BASE}metric = "cider"\nbreakdowns = ["level"]\n': "",
    f"{BASE}judge = {{ scale = [5, 1] }}\n": "mine.toml, line 4: judge: scale is [5, 1]; expected two whole numbers",
    f'{BASE}judge = {{ rubric = "Good?", scale = [1, 5] }}\n': "rubric does not show the answer to the judge",
    f'{BASE}relative_to = "home"\n': "mine.toml, line 4: relative_to is 'home'; expected file or data.",
    'kind = "vqa"\nrows = "r.csv"\n': "mine.toml, line 2: there is no file r.csv; file names are relative to",
    'kind = "vqa"\nrows = "q.xlsx"\n': "mine.toml, line 2: rows is 'q.xlsx'; expected files of one format",
    'kind = "vqa"\nrows = "../q.csv"\n': "mine.toml, line 2: the file '../q.csv' is outside of",
    'kind = "vqa"\nrows = "q.csv"\n': "mine.toml: a task of the kind vqa needs question, and q.csv has no column of that "
    "name (it has 'file, text, gold, level'); name it: columns.question = \"…\".",
    'kind = "vqa"\nrows = "q.csv"\n[columns]\nquestion = "text"\nanswers = "gold"\n': "there is neither image nor video",
    'kind = "vqa"\nrows = "q.csv"\n[columns]\nimage = "img"\n': "mine.toml, line 4: columns.image names the column 'img'",
    f'kind = "choice"\nrows = "q.csv"\n{COLUMNS}': "mine.toml, line 3: columns.answers is for another kind of task",
    'kind = "vqa"\nrows = "q.csv"\n[columns]\nquestion = { text = "{x" }\n': "mine.toml, line 4: columns.question.text is",
    'kind = "vqa"\nrows = { hub = "a/../b", split = "test" }\n': "mine.toml, line 2: rows.hub is 'a/../b'",
    'kind = "vqa"\n[[rows]]\nimage = "a.png"\nquestion = "Q"\nanswers = ["x"]\n[[rows]]\nimage = "a.png"\nquestion = 5\n'
    'answers = ["x"]\n': "mine.toml, line 6: question is 5; expected a text.",
    'kind = "vqa"\n[[rows]]\nimage = "a.png"\nquestion = "Q"\nanswers = [nan]\n': "mine.toml, line 2: rows has nan",
    'kind = "vqa"\n[[rows]]\nimage = "/etc/passwd"\nquestion = "Q"\nanswers = ["x"]\n': "mine.toml, line 2: the image '/etc/passwd' is outside of",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistake_is_named_with_its_line(folder: Path, text: str) -> None:
    if not MISTAKES[text]:
        check_scorable(job_of(folder, text))
        return
    assert MISTAKES[text] in refusal(folder, text)


def test_mistake_in_row_is_named_with_its_line(folder: Path) -> None:
    text = BASE.replace("answers", "id = 'gold', answers")
    assert samples_of(folder, text)
    (folder / "q.csv").write_text('file,text,gold\n"a.png","two\nlines",cat\nb.png,Who?,cat\n')
    assert refusal(folder, text) == "q.csv, line 4: the id 'cat' is already used in q.csv, line 2."
    (folder / "q.csv").write_text("file,text,gold\na.png,Who?,cat,x\n")
    assert "q.csv, line 2: the row has 4 cells, and the header 3" in refusal(folder, text)
    (folder / "q.csv").write_bytes(b"file,text,gold\na.png,Who\xff?,cat\n")
    assert "q.csv, line 2: it is not a text in UTF-8" in refusal(folder, text)
    (folder / "q.csv").write_text("file,text,gold\n")
    assert "q.csv has no rows" in refusal(folder, text)


def test_lines_of_keys() -> None:
    text = (
        '''a = """
b = 1
[no]
""" # x
"b c".d = [
  { x = 1 },
  "]",
]
[t.u]
k = 'it'''
        """'s'
[[r]]
z = 1
[[r]]
[r.s]
z = 2
"""
    )
    text = text.replace("'it's'", '"it\'s"')
    lines = TomlLines(text)
    assert lines.of(("a",)) == 1
    assert lines.of(("b",)) is None
    assert lines.of(("b c", "d", 0, "x")) == 5
    assert lines.of(("t", "u", "k")) == 10
    assert (lines.of(("r", 0, "z")), lines.of(("r", 1)), lines.of(("r", 1, "s", "z"))) == (12, 13, 15)


# -------------------------------------------------------------------------------------------------------------- suites


def test_folder_is_suite_with_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = folder / "suite"
    suite.mkdir()
    for name, groups in (("one", '["x"]'), ("two", '["x", "y"]'), ("three", "[]")):
        (suite / f"{name}.toml").write_text(f'kind = "vqa"\nrows = "q.csv"\ngroups = {groups}\n')
    (suite / "evalkit.toml").write_text("limit = 3\n")
    monkeypatch.chdir(folder)

    def names(*given: str) -> list[str]:
        return [task.name for task, _ in parse_tasks(given)]

    assert names("suite") == names("./suite/") == names(str(suite)) == ["one", "three", "two"]
    assert names("suite/x") == ["one", "two"]
    assert names("suite/y", "suite/three", "refcoco/val") == ["two", "three", "refcoco"]
    with pytest.raises(UserError, match="neither a task nor a group called z; its tasks are one, three, two, and its"):
        names("suite/z")
    (folder / "pope").mkdir()
    (folder / "pope" / "one.toml").write_text('kind = "vqa"\nrows = "q.csv"\n')
    assert names("pope") == ["pope"]
    assert names("./pope") == ["one"]
    with pytest.raises(UserError, match="would both be called one"):
        names("./pope", "suite")
    (folder / "none").mkdir()
    with pytest.raises(UserError, match=r"no \.toml file in"):
        names("./none")
