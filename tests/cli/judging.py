"""A small MM-Vet in the official format, answers to it, and a judge behind the tests' chat server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from evalkit.api import load_task

CAPABILITIES = (["ocr"], ["rec"], ["ocr", "math"], ["rec", "know"])
SAMPLES = 8


def write_mmvet(root: Path, samples: int = SAMPLES) -> Path:
    """Questions whose ground truth is their number; returns ``root``."""
    folder = root / "mmvet"
    (folder / "images").mkdir(parents=True)
    rows = {}
    for number in range(samples):
        name = f"v1_{number}.png"
        Image.new("RGB", (28, 28), (number * 9 % 256, 0, 0)).save(folder / "images" / name)
        rows[f"v1_{number}"] = {
            "imagename": name,
            "question": f"Which number has object {number}?",
            "answer": f"{number}<OR>number {number}",
            "capability": CAPABILITIES[number % 4],
        }
    (folder / "mm-vet.json").write_text(json.dumps(rows))
    return root


def write_answers(folder: Path, texts: dict[str, str], name: str = "mine.jsonl") -> str:
    """A file of answers; returns its name."""
    lines = (json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items())
    (folder / name).write_text("".join(lines))
    return name


def right(number: int) -> bool:
    """Whether the answer that ``mmvet_answers`` gives to a question is right."""
    return number % 2 == 0


def mmvet_answers(samples: int = SAMPLES) -> dict[str, str]:
    """Answers of which every second is right."""
    return {f"v1_{n}": f"It is {n}." if right(n) else "It is 99." for n in range(samples)}


def prompt_of(body: dict[str, Any]) -> str:
    """The text of a request's last turn."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")


def graded(body: dict[str, Any]) -> str:
    """The grade that an honest judge gives to the last row of MM-Vet's table."""
    _, truth, answer, _ = prompt_of(body).splitlines()[-1].split(" | ")
    return "1.0" if truth.split()[0] in answer else "0.0"


def chat(text: str, finish: str = "stop") -> tuple[int, dict[str, Any]]:
    """A reply with ``text``."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {"id": "x", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}


def replying(judge: Callable[[dict[str, Any]], str]) -> Callable[[int, dict[str, Any]], tuple[int, dict[str, Any]]]:
    """What makes the chat server reply as ``judge`` says."""
    return lambda number, body: chat(judge(body))


METRIC = """
import math
from evalkit.interfaces import JudgedMetric
from evalkit.types import ImagePart, JudgePrompt, JudgeQuestion, Message, Scale, Scores, TextPart

SEES = JudgePrompt("sees-1", "ours", lambda reply: reply.strip().lower().rstrip("."), Scale(labels=("yes", "no")))


class Odd(JudgedMetric):
    name = "odd"
    prompts = (SEES,)

    def questions(self, answered, verdicts):
        parts = (*map(ImagePart, answered.sample.images), TextPart(answered.sample.text))
        return [JudgeQuestion("sees", SEES, (Message("user", parts),))]

    def score_judged(self, answers):
        rows = {}
        for one in answers:
            seen = one.verdicts["sees"].value if one.verdicts else None
            answer = one.answered.prediction.value
            rows[one.answered.sample.id] = {"agrees": 100.0 * (seen is not None and answer.lower().startswith(seen))}
        mean = sum(row["agrees"] for row in rows.values()) / len(rows) if rows else math.nan
        return Scores("agrees", {"agrees": mean}, rows, "odd|v1")


METRIC = Odd()
"""


def write_plugin(folder: Path) -> Path:
    """A custom task of yes/no questions about bundled images, scored by whether the judge sees the same.

    Returns:
        The folder, for Python's path, of a package with the metric.
    """
    site = folder / "site"
    info = site / "odd-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[evalkit.metrics]\nodd = odd_metric:METRIC\n")
    (site / "odd_metric.py").write_text(METRIC)
    rows: list[dict[str, Any]] = [{"evalkit": 1, "kind": "vqa", "metric": "odd"}]
    for sample in load_task("pope/test", data="tiny")[:12]:
        (image,) = sample.images
        question = f"{sample.text} Please answer yes or no."
        rows.append({"id": sample.id, "image": image.name, "question": question, "answers": list(sample.references)})
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return site
