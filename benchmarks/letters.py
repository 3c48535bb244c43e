"""How many real answers each rule reads: evalkit's grammar, VLMEvalKit's four revisions and lmms-eval's extraction.

    python benchmarks/letters.py PREDICTIONS [--examples 3]

``PREDICTIONS`` has the answers of models to public benchmarks, as their authors published them: ``vlmevalkit/*.xlsx``
(VLMEvalKit's result files), ``mmmu/``, ``mmmu_pro/`` and ``mathvista/`` (the benchmarks' own).  For each file and rule:
the share of answers that it parses, the accuracy (unparsed answers are wrong), and the accuracy of what is
read.  Then how often evalkit's rule and each other rule disagree, by kind.

lmms-eval's ``extract_mcq_answer`` (EvolvingLMMs-Lab/lmms-eval, ``lmms_eval/tasks/_task_utils/mcq_extract.py``, commit
75571cf) is reimplemented here from its description: of the letters found by the best of nine formats, the last.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from _xlsx import rows

from evalkit.letters import GRAMMAR, LETTERS, RULES, Options, Reading, read_letter


@dataclass(frozen=True)
class Question:
    """A multiple-choice question with a model's answer; ``answer`` is the right letter."""

    id: str
    text: str
    options: tuple[str | None, ...]
    answer: str


def vlmevalkit(path: Path) -> list[Question]:
    """The rows of a result file of VLMEvalKit; an option that its own reader lost ("None", "NA") is None."""
    found = []
    for row in rows(path):
        count = 1 + max(LETTERS.index(letter) for letter in LETTERS if letter in row)
        options = tuple(row.get(letter) for letter in LETTERS[:count])
        found.append(Question(row["index"], row.get("prediction", ""), options, row["answer"]))
    return found


def mmmu(folder: Path) -> list[Question]:
    """The multiple-choice answers of an ``output.json`` per subject."""
    return [
        Question(row["id"], row["response"], tuple(row["index2ans"].values()), row["answer"])
        for path in sorted(folder.glob("*/output.json"))
        for row in json.loads(path.read_text(encoding="utf-8"))
        if row["question_type"] == "multiple-choice"
    ]


def mmmu_pro(path: Path) -> list[Question]:
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        Question(row["id"], row["response"], tuple(map(str, ast.literal_eval(row["options"]))), row["answer"])
        for row in lines
    ]


def mathvista(path: Path) -> list[Question]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [
        Question(
            key, row["response"] or "", tuple(map(str, row["choices"])), LETTERS[row["choices"].index(row["answer"])]
        )
        for key, row in content.items()
        if row["question_type"] == "multi_choice"
    ]


SOURCES: Mapping[str, tuple[str, Callable[[Path], list[Question]]]] = {
    "MMStar, VILA-8B": ("vlmevalkit/vila_8b_MMStar.xlsx", vlmevalkit),
    "RealWorldQA, VILA-13B": ("vlmevalkit/vila_13b_RealWorldQA.xlsx", vlmevalkit),
    "SEED-Bench image, VILA-13B": ("vlmevalkit/vila_13b_SEEDBench_IMG.xlsx", vlmevalkit),
    "ScienceQA, VILA-13B": ("vlmevalkit/vila_13b_ScienceQA_TEST.xlsx", vlmevalkit),
    "CCBench, VILA-13B": ("vlmevalkit/vila_13b_CCBench.xlsx", vlmevalkit),
    "MMMU, Qwen-VL": ("mmmu/qwen_vl", mmmu),
    "MMMU-Pro, GPT-4o": ("mmmu_pro/gpt-4o_standard10_cot.jsonl", mmmu_pro),
    "MathVista, LLaVA": ("mathvista/output_llava_llama_2_13b.json", mathvista),
    "MathVista, ChatGPT": ("mathvista/output_chatgpt.json", mathvista),
}

PHRASES = re.compile(
    r"(?:answer|correct option|best option|choice) is|i (?:choose|select|pick)|옵션|정답은|답은|답:|答案是|答案为|选|"
    r"答えは",
    re.I,
)
SHAPES = (("parentheses", "({})"), ("period", "{}."), ("colon", "{}:"), ("right parenthesis", "{})"),
          ("space", "{} "), ("any", "{}"))  # fmt: skip


def lmms_eval(text: str, options: Options) -> Reading:
    """lmms-eval's extraction: the last letter in the best format; its fallback takes any capital letter."""
    bare = text.strip().strip(",.!?;:'\"").strip()
    padded = f" {bare} "
    starts = bare[:1] in [*options.letters] and not bare[1:2].isalpha()
    ends = bare[-1:] in [*options.letters] and not bare[-2:-1].isalpha()
    formats: dict[str, list[tuple[int, str]]] = {
        "start": [(0, bare[0])] if starts else [],
        "end": [(0, bare[-1])] if ends else [],
        "phrase": [*_after_phrases(padded, options.letters)],
    }
    for name, shape in SHAPES:
        places = [(padded.rfind(shape.format(letter)), letter) for letter in options.letters]
        formats[name] = [(place, letter) for place, letter in places if place >= 0]
    for name, found in formats.items():
        if found:
            return Reading(max(found)[1], name)
    return Reading(None, "nothing")


def _after_phrases(text: str, letters: str) -> Iterator[tuple[int, str]]:
    for phrase in PHRASES.finditer(text):
        for letter in letters:
            place = text.find(letter, phrase.end())
            if place >= 0:
                yield place, letter


def kind_of(question: Question, ours: Reading, theirs: Reading) -> str:
    """What a disagreement comes from."""
    words = re.findall(r"\w+", question.text)
    named = {letter for letter in Options(question.options).letters if letter in words}
    if theirs.letter is None:
        if ours.source in ("text", "sentence"):
            return "the other leaves it open: evalkit reads an option's text"
        if len(named) > 1:
            return "the other leaves it open, since several letters are named: evalkit reads the one that is stated"
        return f"the other leaves it open: evalkit reads the letter ({ours.source})"
    if ours.letter is None:
        if ours.source in ("several options", "no such option", "tag without an option"):
            return f"evalkit reads none: {ours.source}"
        if theirs.source == "text":
            option = question.options[LETTERS.index(theirs.letter)] or ""
            if not option.isascii() or re.search(rf"(?<!\w){re.escape(option)}(?!\w)", question.text, re.I):
                return "evalkit reads none: an option's text is mentioned in a long answer, or denied"
            return 'evalkit reads none: an option\'s text is a part of a word, as "no" in "not"'
        if theirs.letter in "AI" and theirs.letter in words:
            return "evalkit reads none: the word A or I is no letter"
        return "evalkit reads none: a capital is mentioned (a point, a variable, a name), not stated as the answer"
    if theirs.source in ("text", "any"):
        return f"both read, the other from an option's text or any capital: evalkit from {ours.source}"
    return f"both read, the other from another letter ({theirs.source}): evalkit from {ours.source}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--examples", type=int, default=0, help="answers to print of each kind of disagreement")
    arguments = parser.parse_args()
    every: dict[str, Callable[[str, Options], Reading]] = {**RULES, "lmms-eval": lmms_eval}
    print("| answers | n | " + " | ".join(every) + " |")
    print("|---|---:|" + "---:|" * len(every))
    kinds: dict[str, Counter[str]] = {rule: Counter() for rule in every}
    examples: dict[tuple[str, str], list[str]] = {}
    for name, (place, reader) in SOURCES.items():
        questions = reader(arguments.predictions / place)
        options = [Options(question.options) for question in questions]
        ours = [read_letter(q.text, q.options) for q in questions]
        cells = []
        for rule, read in every.items():
            found = [read(q.text, one) for q, one in zip(questions, options, strict=True)]
            parsed = sum(one.letter is not None for one in found)
            right = sum(one.letter == q.answer for one, q in zip(found, questions, strict=True))
            n = len(questions)
            cells.append(f"{100 * parsed / n:.2f} / {100 * right / n:.2f} / {100 * right / max(parsed, 1):.2f}")
            for q, mine, other in zip(questions, ours, found, strict=True):
                if mine.letter != other.letter:
                    kind = kind_of(q, mine, other)
                    kinds[rule][kind] += 1
                    shown = f"{name} {q.id} (right: {q.answer}): {mine.letter} and {other.letter}: {q.text[-200:]!r}"
                    examples.setdefault((rule, kind), []).append(shown)
        print(f"| {name} | {len(questions):,} | " + " | ".join(cells) + " |", flush=True)
    print("\nparsed / accuracy / accuracy of the parsed ones, in percent\n")
    for rule, found in kinds.items():
        if rule != GRAMMAR:
            print(f"{GRAMMAR} and {rule} disagree on {sum(found.values()):,} answers:")
            for kind, count in found.most_common():
                print(f"{count:7,}  {kind}")
                for example in examples[rule, kind][: arguments.examples]:
                    print(f"           {example}")


if __name__ == "__main__":
    main()
