"""Prompts, token limits and few-shot answers of tasks under every family and protocol, byte for byte.

``tests/golden/prompts.json`` was written by the code of commit 54ec510, and has the tasks of that time; the tests of
later tasks and families have their prompts.  A prompt that differs is another protocol: what
changes here on purpose also changes the scores, and needs another ``version`` of the task or name of the protocol.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.types import ImageSize, Sample, Shot

GOLDEN = Path(__file__).parents[2] / "golden" / "prompts.json"
SIZE = ImageSize((640, 480), (644, 476))
PROTOCOLS = ("official", "lmms-eval", "vlmevalkit")
REFERENCES: dict[str, tuple[Any, ...]] = {
    "caption": ("A man on a bike.", "a man"),
    "vqa": ("yes", "no", "yes"),
    "document": ("12 May", "May 12"),
    "choice": ("B",),
    "grounding": ((12.5, 20.0, 300.25, 401.0),),
}
TEXTS = ("What is the NASA logo's {color}?", "wHO Is Left of\nthe man", "")


def samples_of(kind: str) -> Iterator[Sample]:
    """Texts with braces, capitals and line breaks; options; hints as ScienceQA has them."""
    for place, text in enumerate(TEXTS):
        options = ("red", "blue {x}", "C. green")[: 2 + place % 2] if kind == "choice" else ()
        for meta in ({}, {"hint": "Red is warm.", "question": "Which one?"}, {"hint": "", "question": text}):
            yield Sample(f"{place}", (PathImage("a.png"),), text, REFERENCES[kind], "a", options, meta)


def digests(families: set[str], tasks: set[str]) -> dict[str, str]:
    """A digest per task, family, protocol and choice mode; ``refused`` where the protocol defines no prompt."""
    found = {}
    for family in (registry.families.get(name) for name in sorted(families)):
        for task in (registry.tasks.get(name) for name in sorted(tasks)):
            for protocol in PROTOCOLS:
                for choice in ("generate", "loglikelihood") if task.kind == "choice" else ("generate",):
                    spec = task.prompt_spec(protocol, choice)
                    try:
                        rendered = [_rendered(family, task, spec, sample) for sample in samples_of(task.kind)]
                    except UserError:
                        rendered = []
                    digest = hashlib.sha256(json.dumps(rendered, ensure_ascii=False).encode()).hexdigest()[:16]
                    found[f"{family.name} {task.name} {protocol} {choice}"] = digest if rendered else "refused"
    return found


def _rendered(family: Any, task: Any, spec: Any, sample: Sample) -> list[Any]:
    answer = family.answer(spec, sample, SIZE)
    several = (0, 2) if family.several_images else (0,)
    prompts = [family.prompt(spec, sample, [Shot(sample, answer)] * count) for count in several]
    turns = [
        [[m.role, *(p.image.name if hasattr(p, "image") else [p.text] for p in m.content)] for m in p] for p in prompts
    ]
    decoding = family.decoding(spec, task.decoding)
    limits = [decoding.max_new_tokens, decoding.min_new_tokens, decoding.describe()]
    return [turns, answer, limits, list(family.continuations(spec, sample)) if task.kind == "choice" else []]


def test_prompts_are_those_of_golden_file() -> None:
    golden = json.loads(GOLDEN.read_text())
    found = digests({key.split(" ")[0] for key in golden}, {key.split(" ")[1] for key in golden})
    changed = {key for key, value in found.items() if golden.get(key) != value}
    # 54ec510 took Qwen2-VL's prompts in VLMEvalKit for those of its successors, and PaliGemma's boxes for 1024ths.
    boxes = {f"paligemma {task} official generate" for task in ("refcoco", "refcoco+", "refcocog")}
    assert {tuple(key.split(" ")[::2]) for key in changed - boxes} == {
        ("qwen2.5-vl", "vlmevalkit"),
        ("qwen3-vl", "vlmevalkit"),
    }
    assert set(golden) <= set(found)


def test_empty_option_is_left_out_and_later_ones_keep_their_letters() -> None:
    task, family = registry.tasks.get("ai2d"), registry.families.get("qwen2.5-vl")
    sample = Sample("1", (PathImage("a.png"),), "How many?", ("C",), "a", ("", "One", "None", "Two", ""))
    texts = {p: family.prompt(task.prompt_spec(p), sample)[0].content[-1].text for p in PROTOCOLS}
    assert "\nB. One\nC. None\nD. Two\n" in texts["lmms-eval"]
    assert "A. " not in texts["official"] + texts["lmms-eval"]
    assert "E. " not in texts["official"] + texts["lmms-eval"]
    assert family.continuations(task.prompt_spec("official", "loglikelihood"), sample) == ("B", "C", "D")
