"""Samples as text: on a terminal, in a file, as Markdown.

Text from models and data sets is untrusted: terminal control characters and changes of the writing direction are
replaced, and Markdown's and rich's markup is printed literally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.results.compare.tables import letter
from evalkit.results.tables import flat, safe

from .selection import change
from .values import frames_text, image_text, prediction_text, references_text, time_bars, video_text
from .view import RunAnswer, SampleView, SplitView

if TYPE_CHECKING:
    from rich.console import Console

STATUS = {"right": "right", "partly": "partly right", "wrong": "wrong", "unparsed": "unparsed", "error": "error"}
COLOURS = {"right": "green", "partly": "yellow", "wrong": "red", "unparsed": "red", "error": "red"}
NAMES = {"cider": "CIDEr", "anls": "ANLS", "iou": "IoU"}
LONGEST_LABEL = 10
FOLDED = 70
"""Characters of reasoning that are shown of its beginning and of its end."""


@dataclass(frozen=True)
class Field:
    """Labelled text.

    Attributes:
        verbatim: whether it comes from a model or a data set.
        folded: what stands for it where it is folded away; empty if it is always shown.
    """

    label: str
    text: str
    verbatim: bool = False
    folded: str = ""


def heading(split: SplitView, shown: SampleView) -> str:
    """``refcoco/val 262148000: wrong``, or with two runs ``A right, B wrong``."""
    phrases = []
    for place, answer in enumerate(shown.answers):
        status = "not answered" if answer is None else STATUS.get(answer.status, "")
        ended = "" if answer is None or not answer.truncated else f", {ending(answer)}"
        if status or ended:
            name = f"{letter(place)} " if len(shown.answers) > 1 else ""
            phrases.append(f"{name}{status}{ended}")
    return f"{split.name} {flat(shown.id)}" + (f": {', '.join(phrases)}" if phrases else "")


def ending(answer: RunAnswer) -> str:
    """How a truncated answer ended."""
    return "truncated in its reasoning" if answer.final == "" else "truncated at the token limit"


def fields_of(split: SplitView, shown: SampleView) -> Iterator[Field]:
    """The fields shown of a sample, below its heading."""
    for image in shown.images:
        yield Field("image", image_text(image), verbatim=True)
    for video in shown.videos:
        yield Field("video", video_text(video), verbatim=True)
    for strip in shown.strips:
        yield Field("frames", frames_text(strip), verbatim=True)
    prompts = [answer.prompt for answer in shown.answers if answer is not None and answer.prompt]
    if shown.question and not prompts:
        yield Field("question", shown.question, verbatim=True)
    if prompts and all(prompt == prompts[0] for prompt in prompts):
        yield _prompt("prompt", next(answer for answer in shown.answers if answer is not None and answer.prompt))
    has_pair = len(shown.answers) > 1
    for place, answer in enumerate(shown.answers):
        if answer is not None:
            name = f"{letter(place)} " if has_pair else ""
            if answer.prompt and any(prompt != prompts[0] for prompt in prompts):
                yield _prompt(f"{name}prompt", answer)
            yield from _answer_fields(split, shown, answer, name)
    if shown.references:
        yield Field("reference", references_text(shown), verbatim=True)
    if bars := time_bars(shown):
        yield Field("time", bars, verbatim=True)
    if has_pair and (moved := change(shown, split.column)):
        yield Field("B − A", f"{NAMES.get(split.column or '', split.column)} {_signed(moved, split.column)}")


def _prompt(label: str, answer: RunAnswer) -> Field:
    text = (
        answer.prompt[0][1] if len(answer.prompt) == 1 else "\n".join(f"{role}: {text}" for role, text in answer.prompt)
    )
    if answer.shots and not answer.prompt_has_shots:
        text += f"\n(without its {len(answer.shots)} few-shot examples: {', '.join(answer.shots)})"
    if answer.exact is False:
        text += "\n(today's prompt; the run used a different one)"
    return Field(label, text, verbatim=True)


def _answer_fields(split: SplitView, shown: SampleView, answer: RunAnswer, name: str) -> Iterator[Field]:
    """One run's raw answer, prediction and scores."""
    if answer.error is not None:
        yield Field(f"{name}error", answer.error, verbatim=True)
        return
    alike: dict[tuple[str, str], list[RunAnswer]] = {}
    for one in answer.each:
        alike.setdefault((one.text, repr(one.prediction)), []).append(one)
    for same in alike.values():
        yield from _text_fields(same[0], name, f"{len(same)} of {len(answer.each)}" if answer.repeats else "answer")
        yield Field(f"{name}parsed", prediction_text(shown, same[0].prediction), verbatim=True)
        if answer.repeats and same[0].scores:
            yield Field(f"{name}score", scores_text(split, same[0]), verbatim=True)
    if answer.verdicts:
        several = len(answer.verdicts) > 1
        replies = [f"{key}: {reply}" if several else reply for key, reply in answer.verdicts.items()]
        yield Field(f"{name}verdict", "\n".join(replies), verbatim=True)
    if answer.scores and answer.repeats:
        yield Field(f"{name}mean", scores_text(split, answer), verbatim=True)
    elif answer.scores:
        yield Field(f"{name}score", scores_text(split, answer), verbatim=True)


def folded(answer: RunAnswer) -> str:
    """What stands for an answer's reasoning: its length, its beginning and its end."""
    tokens = answer.reasoning_tokens
    length = (
        f"{len(answer.reasoning):,} characters" if tokens is None else f"{tokens:,} token{'' if tokens == 1 else 's'}"
    )
    text = flat(answer.reasoning)
    short = text if len(text) <= 2 * FOLDED else f"{text[:FOLDED].rstrip()} … {text[-FOLDED:].lstrip()}"
    return f"({length}; --reasoning shows all) {short}"


def _text_fields(answer: RunAnswer, name: str, label: str) -> Iterator[Field]:
    """A raw answer, its reasoning before it."""
    if answer.reasoning:
        yield Field(f"{name}reasoning", answer.reasoning, verbatim=True, folded=folded(answer))
    if answer.final == "" and answer.truncated:
        yield Field(f"{name}{label}", "(none: the reasoning does not end)")
    else:
        final = answer.text if answer.final is None else answer.final
        yield Field(f"{name}{label}", final or "(empty)", verbatim=True)


def scores_text(split: SplitView, answer: RunAnswer) -> str:
    """All scores of a sample, the most informative first."""
    first = [name for name in (split.column, split.metric) if name in answer.scores]
    names = dict.fromkeys([*first, *answer.scores])
    return " · ".join(
        f"{NAMES.get(str(name), str(name))} {_number(answer.scores[str(name)], str(name))}" for name in names
    )


def _number(value: float, column: str) -> str:
    return f"{value / 100:.3f}" if column == "iou" else f"{value:.1f}"


def _signed(value: float, column: str | None) -> str:
    return f"{value / 100:+.3f}" if column == "iou" else f"{value:+.1f}"


# --------------------------------------------------------------------------------------------------------------- forms


def as_text(split: SplitView, shown: SampleView, *, unfold: bool = False) -> str:
    """A sample as plain, unwrapped lines."""
    lines = [heading(split, shown)]
    for field in fields_of(split, shown):
        first, *rest = safe(field.text if unfold else field.folded or field.text).split("\n")
        lines.append(f"  {field.label:<{LONGEST_LABEL}}{first}".rstrip())
        lines += [f"  {'':<{LONGEST_LABEL}}{line}".rstrip() for line in rest]
    return "\n".join(lines) + "\n"


def on_terminal(console: Console, split: SplitView, shown: SampleView, *, unfold: bool = False) -> None:
    """Print a sample on a terminal, coloured by its status, with long lines folded beside their label."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    statuses = [answer.status for answer in shown.answers if answer is not None]
    colour = COLOURS.get(statuses[0] if statuses else "", "")
    console.print(Text(heading(split, shown), style=f"bold {colour}".strip()))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style="dim", width=LONGEST_LABEL - 1)
    grid.add_column(overflow="fold", ratio=1)
    for field in fields_of(split, shown):
        grid.add_row(Text(field.label), Text(safe(field.text if unfold else field.folded or field.text)))
    console.print(Padding(grid, (0, 0, 1, 2)), highlight=False)


def as_markdown(split: SplitView, shown: SampleView, *, unfold: bool = False) -> str:
    """A sample for an issue or pull request; quoted text is in code blocks that it cannot close.

    Reasoning can be unfolded by a reader, unless it is from the beginning.
    """
    from evalkit.results.tables import plain

    blocks = [f"### {plain(heading(split, shown))}\n"]
    for field in fields_of(split, shown):
        text = safe(field.text)
        if field.folded and not unfold:
            count = f"{len(text):,} characters"
            blocks.append(f"<details><summary>{field.label}, {count}</summary>\n\n{fenced(text)}\n\n</details>\n")
            continue
        blocks.append(f"{field.label}:\n\n{fenced(text)}\n" if field.verbatim else f"{field.label}: {plain(text)}\n")
    return "\n".join(blocks)


def fenced(text: str) -> str:
    """``text`` in a code block whose fence is longer than any run of backticks in it."""
    from evalkit.results.tables import longest_run

    fence = "`" * max(3, longest_run(text, "`") + 1)
    return f"{fence}text\n{text}\n{fence}"


FORMS: dict[str, Callable[..., str]] = {"text": as_text, "md": as_markdown}
