"""How questions are worded: by a family's own protocol, or by that of another harness.

``official`` words by kind, and each family says how; ``lmms-eval`` (EvolvingLMMs-Lab/lmms-eval, commit 75571cf) and
``vlmevalkit`` (open-compass/VLMEvalKit, commit e8e78f05) word by benchmark, as below.  A benchmark that a table does
not have is not defined under that protocol and is refused: a prompt made up here would be nobody's protocol.

In a wording, ``{q}`` is the question or expression as the files have it (with a hint before it, where there is one),
``{question}`` the bare question, ``{hint}`` its hint or ``N/A``, ``{hints}`` a line ``Hint: …`` or nothing, and
``{options}`` one line per option, ``A. …``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalkit.errors import UserError
from evalkit.types import Kind, PromptSpec, Sample

OFFICIAL, LMMS_EVAL, VLMEVALKIT = "official", "lmms-eval", "vlmevalkit"
PROTOCOLS = (OFFICIAL, LMMS_EVAL, VLMEVALKIT)

SHORT = "{q}\nAnswer the question using a single word or phrase."
UNSURE = (
    "{q}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase."
)
LETTER = "{q}\n{options}\nAnswer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
FRACTIONS = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). "
    "All values are floating point numbers bounded between 0 and 1. "
    "Please provide the bounding box coordinate of the region this sentence describes: {q}"
)
PLAIN_CAPTION = (
    "Please describe this image in general. "
    'Directly provide the description, do not include prefix like "This image depicts". '
)
HINTED = "{hints}Question: {question}\nOptions:\n{options}\nPlease select the correct answer from the options above. \n"
REFERRED = "Please provide the bounding box coordinate of the region this sentence describes: <ref>{q}</ref>"


@dataclass(frozen=True)
class Wording:
    """A prompt's text, with the most new tokens where its protocol sets them.

    ``capitalized``: the question's first letter is upper-cased, *all others lower-cased* (``str.capitalize``).
    """

    text: str
    tokens: int | None = None
    capitalized: bool = False

    def of(self, sample: Sample) -> str:
        """The prompt for ``sample``, without its images."""
        hint, question = (_text(sample, key) for key in ("hint", "question"))
        return self.text.format(
            q=sample.text.capitalize() if self.capitalized else sample.text,
            question=question or sample.text,
            hint=hint or "N/A",
            hints=f"Hint: {hint}\n" if hint else "",
            options="\n".join(f"{a}. {option}" for a, option in zip(letters(sample), sample.options, strict=True)),
        )


def letters(sample: Sample) -> tuple[str, ...]:
    """The letters of a sample's options."""
    return tuple(chr(ord("A") + place) for place in range(len(sample.options)))


def _text(sample: Sample, key: str) -> str:
    value = sample.meta.get(key)  # ScienceQA keeps its hint apart; in a file of one's own it can be anything
    return value.strip() if isinstance(value, str) else ""


Table = Mapping[str, tuple[Kind, Wording]]


def _table(*rows: tuple[Kind, Sequence[str], Wording]) -> Table:
    return {task: (kind, wording) for kind, tasks, wording in rows for task in tasks}


CHOICES = ("ai2d", "scienceqa_img", "mmbench", "mmstar")
BOXES = ("refcoco", "refcoco+", "refcocog")

# Tokens: those of the tasks' files, or the 128 that lmms-eval's Qwen2.5-VL backend has where they say nothing.
# No number is stated for boxes.
BY_LMMS_EVAL = _table(
    ("caption", ("coco_caption", "flickr30k", "nocaps"), Wording(CAPTION, 64)),
    ("vqa", ("vqav2", "gqa"), Wording(SHORT, 16)),
    ("vqa", ("textvqa",), Wording(SHORT, 128, capitalized=True)),
    ("vqa", ("okvqa",), Wording(UNSURE, 128)),
    ("vqa", ("vizwiz",), Wording(UNSURE, 128, capitalized=True)),
    ("document", ("docvqa", "infovqa"), Wording(SHORT, 32)),
    ("document", ("chartqa",), Wording("{q}\nAnswer the question with a single word.", 16)),
    ("choice", CHOICES, Wording(LETTER, 16)),
    ("grounding", BOXES, Wording(FRACTIONS)),
)

# The data sets' own prompts, without limits: those of the tasks stand.  Some models have a wording of their own.
BY_VLMEVALKIT = _table(
    ("caption", ("coco_caption",), Wording(PLAIN_CAPTION)),
    ("vqa", ("vqav2", "gqa", "textvqa"), Wording(SHORT)),
    ("document", ("docvqa", "infovqa", "chartqa"), Wording(SHORT)),
    ("choice", CHOICES, Wording(HINTED)),
    ("grounding", BOXES, Wording(REFERRED)),
)

TABLES: Mapping[str, Table] = {LMMS_EVAL: BY_LMMS_EVAL, VLMEVALKIT: BY_VLMEVALKIT}


def by_kind(wordings: Mapping[Kind, str], kind: Kind) -> str | None:
    """What ``wordings`` has for ``kind``; a document is asked about like any image, unless it says otherwise."""
    return wordings.get("vqa" if kind == "document" and kind not in wordings else kind)


def wording(spec: PromptSpec, family: str, official: Mapping[Kind, str], vlmevalkit: Mapping[Kind, str]) -> Wording:
    """How ``spec`` is worded for ``family``, which has its ``official`` texts and those VLMEvalKit has for its models.

    Raises:
        UserError: there is no such protocol, or it does not say.
    """
    if spec.protocol == OFFICIAL:
        text = by_kind(official, spec.kind)
        if text is None:
            raise UserError(
                f"the family {family} does not say how {spec.task} is asked, only questions of the "
                f"{'kind' if len(official) == 1 else 'kinds'} {listed(tuple(official), 'and')}; choose other tasks."
            )
        return Wording(text)
    if spec.protocol not in TABLES:
        raise UserError(f"unknown protocol {spec.protocol!r}: there are {listed(PROTOCOLS, 'and')}.")
    if not _defined(spec.protocol, spec):
        others = [p for p in PROTOCOLS if p == OFFICIAL or _defined(p, spec)]
        raise UserError(
            f"{spec.protocol} does not say how {spec.task} is asked; use --protocol {listed(others, 'or')}."
        )
    own = by_kind(vlmevalkit, spec.kind) if spec.protocol == VLMEVALKIT else None
    return Wording(own) if own is not None else TABLES[spec.protocol][spec.task][1]


def _defined(protocol: str, spec: PromptSpec) -> bool:
    # The kind counts too: a file of one's own can be called like a benchmark.
    return TABLES[protocol].get(spec.task, (None,))[0] == spec.kind


def listed(names: Sequence[str], last: str) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
