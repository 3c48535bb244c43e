"""What a changed file may change in a score: the classes of changes that make another valid input, with the reason.

Each function asserts that a command that succeeded on a changed file did what its class allows, and nothing else.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .harness import Case, digests_of, scores_of

RUN, NEW = "runs/R", "runs/N"
"""The run of the unchanged files, and the one that a command on changed files makes."""
BOM = b"\xef\xbb\xbf"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Answers = Mapping[str, str]


# ------------------------------------------------------------------------------------------------ nothing may change


def unchanged(case: Case) -> None:
    """Stored files (scores, per-sample scores, journals, manifests, baselines): no change makes another valid one.

    They have checksums or digests, so a command that succeeds prints and writes what it does on the unchanged file.
    """
    expected = json.loads((case.made / EXPECTED).read_text())[" ".join(case.command)]
    assert outputs(case.folder, case.command, case.done.stdout) == expected, "silently changed"


EXPECTED = "expected.json"
"""By command, what ``outputs`` gives on the unchanged files."""


def outputs(folder: Path, command: Sequence[str], stdout: str) -> Any:
    """What a command on a run shows of its scores, as JSON has it."""
    found: dict[str, Any] = {"stdout": stdout.replace(str(folder), "")}
    if command[0] in ("rescore", "report"):
        found["scores"] = scores_of(folder / RUN)
    if command[0] == "export":
        found["export"] = (folder / command[-1]).read_text().replace(str(folder), "")
    if command[0] == "report":
        found["summary"] = sorted(re.findall(r"\d+\.\d+", (folder / RUN / "report" / "index.html").read_text()))
    return json.loads(json.dumps(found))


# --------------------------------------------------------------------------------- another file of questions or answers


def other_questions_or_answers(case: Case) -> None:
    """Own data and predictions: another question, reference or answer is another valid one.

    The files define what is scored, so the score is computed here once more, as simply as the formats allow.
    """
    if not (case.folder / NEW).is_dir():
        assert case.target.file in ("evalkit.toml", "pyproject.toml"), "no run folder"
        return  # a changed setting "out" names another folder
    (found,) = scores_of(case.folder / NEW).values()
    results = results_once_more(case.folder, Path(case.command[case.command.index("-p") + 1]))
    assert found[1] == len(results), f"{found[1]} samples instead of {len(results)}"
    least, most = (
        100 * sum(r is True or (r is None and wild) for r in results) / len(results) for wild in (False, True)
    )
    assert least - 1e-6 <= found[0] <= most + 1e-6, f"{found} instead of {least:g} to {most:g}"


def results_once_more(folder: Path, predictions: Path) -> list[bool | None]:
    """Whether the answer to each question in ``mine.*`` is right; None if it is in no plain form.

    How odd forms are parsed is the subject of the tests of the parsers.
    """
    (path,) = folder.glob("mine.*")
    judges = {str(row["id"]): judge(row) for row in rows_of(path.read_bytes())}
    answers = dict(answers_of((folder / predictions).read_bytes(), predictions.suffix))
    return [is_right(answers[key]) for key, is_right in judges.items()]


def rows_of(content: bytes) -> list[dict[str, Any]]:
    """The objects of a JSON list, of lines, or of indented objects one after the other; without evalkit's first line."""
    content = content.removeprefix(BOM)
    if content.lstrip().startswith(b"["):
        return list(json.loads(content))
    try:
        rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    except ValueError:
        text, decoder, rows = content.decode().strip(), json.JSONDecoder(), []
        while text:
            row, end = decoder.raw_decode(text)
            rows.append(row)
            text = text[end:].strip()
    return rows[1:] if "evalkit" in rows[0] else rows


def judge(row: Mapping[str, Any]) -> Callable[[str], bool | None]:
    """Tells whether an answer to a question is right; None if its form is not plain."""
    if "options" in row:
        answer = row["answer"]
        place = row["options"].index(answer) if answer in row["options"] else LETTERS.index(answer.strip().upper())
        return lambda text: text == LETTERS[place]
    if "box" in row:
        return lambda text: overlap(text, row["box"])
    accepted = [answer.strip().lower() for answer in row["answers"]]
    return lambda text: text.strip().lower() in accepted


def overlap(text: str, box: list[float]) -> bool | None:
    """Whether a box that is written as a list of four numbers, ``[x1, y1, x2, y2]``, shares half of the union or more."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or [type(value) in (int, float) for value in found] != [True] * 4:
        return None
    width = max(0.0, min(found[2], box[2]) - max(found[0], box[0]))
    height = max(0.0, min(found[3], box[3]) - max(found[1], box[1]))
    shared = width * height
    return shared > 0 and shared >= 0.5 * sum((b[2] - b[0]) * (b[3] - b[1]) for b in (found, box)) - 0.5 * shared


def answers_of(content: bytes, suffix: str) -> Iterator[tuple[str, str]]:
    """(id, text) of each answer in a file; numbers are read as they are spelled."""
    if suffix == ".xlsx":
        import openpyxl

        rows = list(
            openpyxl.load_workbook(io.BytesIO(content), data_only=True).worksheets[0].iter_rows(values_only=True)
        )
        for cells in rows[1:]:
            if any(cell is not None for cell in cells):
                row = dict(zip(map(str, rows[0]), cells, strict=True))
                key = row["index"]
                yield str(int(key) if isinstance(key, float) else key), _spelled(row["prediction"])
        return
    if suffix in (".csv", ".tsv"):
        text = content.decode("utf-8-sig")
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter="," if suffix == ".csv" else "\t"):
            yield row["index"], row["prediction"]
        return
    rows = rows_of(content)
    lists = [value for value in rows[0].values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(rows) == len(lists) == 1:  # {"results": […]}
        rows = lists[0]
    for name in ("id", "question_id"):
        if name in rows[0]:
            for row in rows:
                yield str(row[name]), _spelled(row["text"])
            return
    for key, value in rows[0].items():
        yield key, _spelled(value)


def _spelled(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]  # the one repeat of an answer
    return json.dumps(value) if isinstance(value, list) else str(value)


# -------------------------------------------------------------------------------------------------- another benchmark


def other_benchmark(case: Case) -> None:
    """Official annotations and parquet mirrors: another question or reference is another benchmark.

    Nothing in these files says that they are the published ones.  A score that differs has another digest of questions
    and references in ``scores.json``, by which ``check``, ``compare`` and resuming tell the two apart.  That what is
    read is what the files say is the subject of ``tests/tasks/test_fuzz.py``.
    """
    scores = [scores_of(folder / run) for folder, run in ((case.made, RUN), (case.folder, NEW))]
    digests = [digests_of(folder / run) for folder, run in ((case.made, RUN), (case.folder, NEW))]
    assert scores[0].keys() == scores[1].keys()
    for split, before in scores[0].items():
        assert scores[1][split] == before or digests[0][split] != digests[1][split], f"{before} → {scores[1][split]}"


# ------------------------------------------------------------------------------------------------------ another answer


def other_reply(folder: Path, right: Sequence[str], changed: Sequence[bytes], *, letters: bool) -> None:
    """Servers' replies: another text in a reply is another answer.

    A journal has, for each sample, the text that the changed reply gives, the right one, which the server gives when it
    is asked again, or an error.  A message without content that ended as answers do is an empty answer.

    Args:
        right, changed: by sample, the right answer and the changed reply.
        letters: option letters are ranked: any of them may be the likeliest.
    """
    journals = list((folder / RUN).glob("*.own.jsonl"))
    for journal in journals:
        for line in map(json.loads, journal.read_text().splitlines()):
            number = int(line["id"])
            if line["finish"] == "error":
                assert line["error"]
            elif letters:
                assert line["text"] in LETTERS[:4], line
            else:
                answer = line["text"].rpartition("</think>")[2]
                assert answer in (right[number], *texts_of(changed[number])), (line, changed[number])


def ended(choice: Mapping[str, Any]) -> bool:
    """Whether a reply says that the model ended its answer."""
    return choice.get("finish_reason") == "stop"


def texts_of(reply: bytes) -> Iterator[str]:
    """The text in a reply: that of a message, of its parts, or of a stream's events."""
    events = [line[5:] for line in reply.splitlines() if line.startswith(b"data:")] or [reply]
    found = []
    for event in events:
        try:
            choice = json.loads(event)["choices"][0]
            message = choice.get("delta") or choice["message"]
            content = message.get("refusal") or message.get("content") or ("" if ended(choice) else message["content"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
        pieces = content if isinstance(content, list) else [content]
        found += [
            piece if isinstance(piece, str) else piece.get("text", "")
            for piece in pieces
            if isinstance(piece, str | dict)
        ]
    if found:
        yield "".join(piece for piece in found if isinstance(piece, str))


# ------------------------------------------------------------------------------------------------------ another image


def other_image(made: Path, folder: Path) -> None:
    """Images without checksums (JPEG, WEBP, GIF, BMP, TIFF, PPM, JPEG 2000): other pixels are another image.

    A PNG has checksums, so other pixels are none of its own.  Any other image that was decoded differently has another
    digest in the journal, by which resuming, ``compare`` and reports tell the two apart.
    """
    before, after = (journal_of(root / run) for root, run in ((made, RUN), (folder, NEW)))
    for name, line in after.items():
        if line["finish"] == "error":
            assert line["error"]
        elif line["text"] != before[name]["text"]:
            assert not name.endswith(".png"), f"{name}: other pixels"
            assert line["digests"] != before[name]["digests"], f"{name}: other pixels under the same digest"


def journal_of(run: Path) -> dict[str, Any]:
    """The lines of a run's only journal by id; none if the run did not begin."""
    (path,) = (path for path in run.glob("*.jsonl") if not path.name.endswith(".scores.jsonl"))
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


# ------------------------------------------------------------------------------------------------------- another model


def other_model(before: Path, after: Path) -> None:
    """Checkpoints: other weights, settings, templates or tokens are another model.

    A run with other prompts or answers has another identity in its manifest, so that no answer of the model before is
    reused for it.  Prompts count by sample: resuming compares them in the journal.
    """
    parts = [json.loads((run / "manifest.json").read_text())["parts"] for run in (before, after)]
    lines = [
        {name: (line["prompt"], line["text"], line["finish"]) for name, line in journal_of(run).items()}
        for run in (before, after)
    ]
    assert lines[0] == lines[1] or parts[0] != parts[1], "other answers under the same identity"
