"""Renders prompts: by a family's own templates, or by another harness's for the task.

Under the protocol ``official``, each family has a template per kind of task.  Under ``lmms-eval``
(EvolvingLMMs-Lab/lmms-eval, commit 75571cf) and ``vlmevalkit`` (open-compass/VLMEvalKit, commit e8e78f05), the template
is in the task's own file (``Task.prompts``).  A task without one is not supported under that protocol: an invented
prompt would belong to no protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from string import Formatter
from types import MappingProxyType
from typing import Any

from evalkit.errors import UserError
from evalkit.types import (
    ContentPart,
    ImagePart,
    ImageRef,
    Kind,
    Part,
    PromptSpec,
    PromptTemplate,
    Sample,
    TextPart,
    VideoPart,
    VideoRef,
)

OFFICIAL, LMMS_EVAL, VLMEVALKIT = "official", "lmms-eval", "vlmevalkit"
PROTOCOLS = (OFFICIAL, LMMS_EVAL, VLMEVALKIT)

# LLaVA-1.5's prompts (arXiv 2310.03744), which other models use, too.
SHORT = "{q}\nAnswer the question using a single word or phrase."
LETTER = "{q}\n{options}\nAnswer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
# No report prints its prompt for temporal grounding; this one is ours.
TEMPORAL = (
    "Find the event in the video that this sentence describes: {q}\nAnswer with the times in seconds when it starts "
    "and ends only, as: start - end seconds."
)
LLAVA: Mapping[Kind, str] = {"caption": CAPTION, "vqa": SHORT, "choice": LETTER, "temporal_grounding": TEMPORAL}
"""The prompts of families whose authors publish none of their own for these kinds."""
# Ours, too, for models that state boxes in thousandths and whose authors publish no prompt for detection.
DETECTION_THOUSANDTHS = (
    "Find every instance of these categories in the image: {q}\nAnswer with a JSON list only, with one object for "
    'each instance: {{"bbox_2d": [x1, y1, x2, y2], "label": "its category"}}. The numbers are the left, top, right and '
    "bottom edges of its bounding box in thousandths of the image's width and height, integers from 0 to 1000."
)

Parts = tuple[TextPart | ImagePart | VideoPart, ...]


def render(template: PromptTemplate, sample: Sample) -> Parts:
    """The prompt for ``sample``: its videos and images, then the text; those in interleaved content stay there."""
    if template.images_first:
        sample = _images_first(sample)
    parts: list[ContentPart] = [] if sample.content else [*sample.videos, *sample.images]
    text = template.text
    if not sample.options and template.without_options is not None:
        text = template.without_options
    for literal, field, _, _ in Formatter().parse(text):
        parts.append(literal)
        if field is not None:
            parts += _field(field, template, sample)
    return joined(map(_part, parts))


def _part(part: ContentPart) -> TextPart | ImagePart | VideoPart:
    if isinstance(part, str):
        return TextPart(part)
    return VideoPart(part) if isinstance(part, VideoRef) else ImagePart(part)


def _images_first(sample: Sample) -> Sample:
    """``sample`` with its images before the text, each once, and the benchmark's marks in their places."""
    by_mark = _images_by_mark(sample)
    if not by_mark:
        return sample
    marks = list(sample.meta["marks"])
    ours, theirs = iter(marks), iter(marks[len(sample.images) :])
    if any(isinstance(part, VideoRef) for part in sample.content):
        raise UserError(f"sample {sample.id}: a prompt with its images first cannot have a video within its question.")
    content = [part if isinstance(part, str) else next(ours) for part in sample.content or (sample.text,)]
    return replace(
        sample,
        images=tuple(by_mark[mark] for mark in sorted(by_mark)),
        text="".join(content),
        options=tuple(option if isinstance(option, str) else next(theirs) for option in sample.options),
        content=(),
        meta={**sample.meta, "marks": ()},
    )


def _images_by_mark(sample: Sample) -> Mapping[str, ImageRef]:
    """The images of ``sample`` by the benchmark's marks for them; none if these are not known."""
    marks, images = sample.meta.get("marks"), sample.all_images
    if not isinstance(marks, list | tuple) or len(marks) != len(images):  # in a custom task file it can be anything
        return {}
    return dict(zip(map(str, marks), images, strict=True))


def joined(parts: Iterable[TextPart | ImagePart | VideoPart]) -> Parts:
    """``parts`` with adjacent texts joined, and without empty ones."""
    found: list[TextPart | ImagePart | VideoPart] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            found[-1] = TextPart(last.text + part.text)
        elif not isinstance(part, TextPart) or part.text:
            found.append(part)
    return tuple(found)


def _field(name: str, template: PromptTemplate, sample: Sample) -> Sequence[ContentPart]:
    """The content of a template's placeholder; see ``PromptTemplate``."""
    if name in ("options", "bracketed_options"):
        return list(_options(template, sample, "{}. " if name == "options" else "({}) "))
    if name == "letters":
        return [", ".join(letter for letter, _ in sample.lettered_options)]
    if name in ("prompt", "preamble"):
        text = sample.meta.get(name)
        return [text] if isinstance(text, str) else []
    if name in ("hint", "hints"):
        hint = _text(sample, "hint")
        return [hint or "N/A"] if name == "hint" else [f"Hint: {hint}\n"] if hint else []
    question = _text(sample, "question") if name == "question" else ""
    if question:
        return [question]
    content: Sequence[ContentPart] = sample.content or (sample.text,)
    if template.without:
        content = [part.replace(template.without, "") if isinstance(part, str) else part for part in content]
    return list(_capitalized(content)) if template.capitalize and name == "q" else content


def _options(template: PromptTemplate, sample: Sample, form: str) -> Iterator[Part]:
    shown = [(letter, option) for letter, option in sample.lettered_options if option not in template.no_options]
    for place, (letter, option) in enumerate(shown):
        yield ("\n" if place else "") + form.format(letter)
        yield from _at_marks(option, sample) if isinstance(option, str) else (option,)


def _at_marks(text: str, sample: Sample) -> Iterator[Part]:
    """An option's text, with images in the places of the benchmark's marks."""
    by_mark = _images_by_mark(sample)
    if not any(mark in text for mark in by_mark):
        yield text
        return
    for piece in re.split(f"({'|'.join(map(re.escape, by_mark))})", text):
        yield by_mark.get(piece, piece)


def _capitalized(content: Sequence[ContentPart]) -> Iterator[ContentPart]:
    """The first letter upper-cased, all others lower-cased."""
    begun = False
    for part in content:
        if isinstance(part, str):
            yield part.lower() if begun else part.capitalize()
            begun = begun or bool(part)
        else:
            yield part


def letters(sample: Sample) -> tuple[str, ...]:
    """The letters of a sample's options."""
    return tuple(letter for letter, _ in sample.lettered_options)


def _text(sample: Sample, key: str) -> str:
    value = sample.meta.get(key)  # ScienceQA keeps its hint apart; in a custom task file it can be anything
    return value.strip() if isinstance(value, str) else ""


def by_kind(templates: Mapping[Kind, str], kind: Kind) -> str | None:
    """The template for ``kind``; documents and yes/no questions have that of ``vqa`` unless they have their own."""
    return templates.get("vqa" if kind in ("document", "yes_no") and kind not in templates else kind)


def template_of(
    spec: PromptSpec,
    family: str,
    official: Mapping[Kind, str],
    vlmevalkit: Mapping[Kind, str],
    by_task: Mapping[str, PromptTemplate] = MappingProxyType({}),
    vlmevalkit_by_task: Mapping[str, str] = MappingProxyType({}),
) -> PromptTemplate:
    """The template of ``spec`` for ``family``.

    Args:
        official: the family's own templates; the benchmark's own prompt comes before them.
        by_task: the family's own templates for certain benchmarks, which come first.
        vlmevalkit: those that VLMEvalKit has for this family's models; they replace the task's.
        vlmevalkit_by_task: those that it has for them and certain benchmarks, which come first.

    Raises:
        UserError: there is no such protocol, or it defines no prompt for the task.
    """
    if spec.given:
        return _given(spec, family, official, vlmevalkit, by_task, vlmevalkit_by_task)
    if spec.protocol == OFFICIAL:
        own_prompt = by_task.get(spec.task) or _of_family(spec.prompts.get(OFFICIAL), family)
        if own_prompt is not None:
            return _of_kind(own_prompt, spec.kind)
        text = by_kind(official, spec.kind)
        if text is None:
            raise UserError(
                f"the family {family} has no prompt for {spec.task}, only for tasks of the "
                f"{'kind' if len(official) == 1 else 'kinds'} {listed(tuple(official), 'and')}; choose other tasks."
            )
        return PromptTemplate(text)
    if spec.protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {spec.protocol!r}: there are {listed(PROTOCOLS, 'and')}.")
    if spec.protocol not in spec.prompts:
        others = [p for p in PROTOCOLS if p == OFFICIAL or p in spec.prompts]
        raise UserError(f"{spec.protocol} has no prompt for {spec.task}; use --protocol {listed(others, 'or')}.")
    template = spec.prompts[spec.protocol]
    own = None
    if spec.protocol == VLMEVALKIT:
        # Its prompts for short answers are not those of yes/no questions, which it asks as the data set has them.
        general = None if spec.kind == "yes_no" or spec.kind in template.others else by_kind(vlmevalkit, spec.kind)
        own = vlmevalkit_by_task.get(spec.task, general)
    if own is not None:
        return PromptTemplate(own, no_options=template.no_options)
    return _of_kind(template, spec.kind)


def _given(spec: PromptSpec, family: str, *templates: Any) -> PromptTemplate:
    """The user's text, with the token limit of the protocol's prompt and its treatment of images, if it has one."""
    try:
        protocol = template_of(replace(spec, given=""), family, *templates)
    except UserError:
        protocol = PromptTemplate("")
    return PromptTemplate(
        spec.given, protocol.max_new_tokens, no_options=protocol.no_options, images_first=protocol.images_first
    )  # fmt: skip


def _of_family(template: PromptTemplate | None, family: str) -> PromptTemplate | None:
    """The benchmark's own template for the models of ``family``; None if these keep their own prompt."""
    if template is None:
        return None
    text = template.families.get(family, template.text)
    return replace(template, text=text) if text else None


def _of_kind(template: PromptTemplate, kind: Kind) -> PromptTemplate:
    """The template for a sample of ``kind``."""
    return replace(template, text=template.others[kind]) if kind in template.others else template


def listed(names: Sequence[str], last: str) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
