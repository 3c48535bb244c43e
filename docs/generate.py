"""Pages and parts of pages that are generated from the code.

``pages()`` returns complete pages, one per benchmark. ``parts()`` returns what replaces ``<!-- generated: NAME -->`` in
hand-written pages. ``docs/build.py`` combines them; generated text is not committed.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import reference

from evalkit import registry
from evalkit.cli.tasks import RULES, rule_lines
from evalkit.errors import UserError
from evalkit.interfaces import Family, JudgedMetric, Metric, Task
from evalkit.interfaces.task import READINGS
from evalkit.options import NEVER_FROM_FILES, OPTIONS, PROTOCOLS
from evalkit.reasoning import ANSWER, REASONING, RULES_VERSION
from evalkit.registry import module_name
from evalkit.scoring import with_reading
from evalkit.task_groups import GROUPS
from evalkit.types import ImagePart, ImageRef, Kind, PromptSpec, Sample, Size, Split

EDIT = "<!-- Generated from the code by docs/generate.py. -->\n\n"
KINDS: Sequence[tuple[Kind, str]] = (
    ("caption", "Captioning"),
    ("vqa", "Visual question answering"),
    ("document", "Documents and charts"),
    ("choice", "Multiple choice"),
    ("yes_no", "Yes or no"),
    ("grounding", "Grounding"),
    ("pointing", "Pointing"),
    ("detection", "Detection"),
    ("temporal_grounding", "Temporal grounding"),
)
LABEL = re.compile(
    r"^(Papers?|Official [a-z ]+|Scores?|Protocol|Sources?|Sizes|Deviations|Deliberate choices)(?=[:,.]| \()", re.M
)
TURNS = (
    "The user's turn (images first), or the plain-text prompt of models without chat turns. Families with the same "
    "prompt are listed together. See also [Model families](../families.md)."
)
ARXIV = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")


def pages() -> dict[str, str]:
    """The benchmark pages, as Markdown by path below ``docs/``."""
    return {benchmark_page(task): EDIT + benchmark(task) for task in registry.tasks.all()}


def parts() -> dict[str, Callable[[], str]]:
    """The functions that generate each ``<!-- generated: NAME -->``."""
    return {
        "benchmarks": benchmarks,
        "groups": groups,
        "families": families,
        "family-table": family_table,
        "markers": markers,
        "scorers": scorers,
        "letters": letters,
        "settings": settings,
        "commands": reference.commands,
        "api": reference.api,
    }


def benchmark_page(task: Task) -> str:
    return f"benchmarks/{module_name(task.name)}.md"


# ---------------------------------------------------------------------------------------------------------- benchmarks


def benchmarks() -> str:
    """The tasks by kind, with links to their pages."""
    lines = []
    for kind, heading in KINDS:
        lines += [
            f"## {heading}",
            "",
            "| task | splits with official sizes (default splits in bold) | metric |",
            "|---|---|---|",
        ]
        for task in registry.tasks.all():
            if task.kind == kind:
                sizes = " · ".join(_size(task, name, split) for name, split in task.splits.items())
                link = f"[`{task.name}`]({benchmark_page(task)})"
                lines.append(f"| {link} | {sizes} | {_metric_link(task.metric)} |")
        lines.append("")
    return "\n".join(lines)


def groups() -> str:
    """The groups that ``--tasks`` takes."""
    rows = [f"| `{name}` | {', '.join(f'`{member}`' for member in members)} |" for name, members in GROUPS.items()]
    return "\n".join(["| group | members |", "|---|---|", *rows])


def benchmark(task: Task) -> str:
    """A benchmark's page: what ``evalkit tasks NAME`` prints, with the prompts under every protocol."""
    title, about = documented(inspect.getmodule(type(task)))
    title = title if title.lower().startswith(task.name.lower()) else f"`{task.name}`: {title}"
    lines = [f"# {title}", "", about, "", "## Splits and files", ""]
    lines += ["| split | samples | content | notes |", "|---|---:|---|---|"]
    for name, split in task.splits.items():
        marks = ["run by default"] if name in task.default_splits else []
        marks += [] if split.answers else ["no public answers: writes a submission file"]
        lines.append(
            f"| `{name}` | {f'{split.size:,}' if split.size else 'varies'} | {split.about} | {', '.join(marks)} |"
        )
    lines += [
        "",
        "Files below `--data ROOT`:",
        "",
        "```text",
        *(f"or ROOT/{pattern[3:]}" if pattern.startswith("or ") else f"ROOT/{pattern}" for pattern in task.layout),
        "```",
        "",
    ]
    lines += [f"With `--data hub`: `{task.hub}`.", "", "## Commands", "", "```bash"]
    lines += [f"evalkit tasks {task.name} --data /data/vlm      # shows which files were found"]
    lines += [f"evalkit run --tasks {task.name} --model Qwen/Qwen2.5-VL-7B-Instruct --data /data/vlm", "```", ""]
    lines += ["## Score", ""]
    metric = _metric_link(task.metric, "../")
    lines += [f"Metric {metric}, task version {task.version}. Signature of a score:", ""]
    lines += ["```text", signature(task), "```", ""]
    if rules := rule_lines(task):
        lines += ["```text", RULES, *(f"  {line}" for line in rules), "```", ""]
    lines += [*_example(task), "## Prompts", ""]
    lines += [TURNS, ""]
    for protocol in PROTOCOLS:
        lines += [f"### `--protocol {protocol}`", "", *_prompts(task, protocol)]
    return "\n".join(lines).rstrip() + "\n"


def signature(task: Task) -> str:
    """A score's signature, as ``evalkit tasks NAME`` prints it."""
    metric = registry.metrics.get(task.metric).score(()).signature
    metric = with_reading(metric, task.kind, task.prompt_spec().reading if task.kind in READINGS else None)
    return f"{task.name}:SPLIT|v{task.version}|protocol:official|shots:0|parsing:{RULES_VERSION}|{metric}|n:SAMPLES"


def rendered_prompt(family: Family, spec: PromptSpec, task: Task) -> tuple[str, int] | None:
    """A family's prompt for ``task`` and its token limit; None if the protocol does not define them."""
    options = ("{option 1}", "{option 2}") if task.kind == "choice" else ()
    sample = Sample("", (NoImage(),), "{question}", (), "", options=options)
    try:
        messages = family.prompt(spec, sample)
        tokens = family.decoding(spec, task.decoding).max_new_tokens
    except UserError:
        return None
    pieces = (piece for message in messages for piece in message.content)
    return "".join("<image>" if isinstance(piece, ImagePart) else piece.text for piece in pieces), tokens


def _prompts(task: Task, protocol: str) -> Iterator[str]:
    found: dict[tuple[str, int], list[str]] = {}
    undefined = []
    for family in registry.families.all():
        prompt = rendered_prompt(family, task.prompt_spec(protocol), task)
        if prompt is None:
            undefined.append(f"`{family.name}`")
        else:
            found.setdefault(prompt, []).append(f"`{family.name}`")
    for (text, tokens), names in found.items():
        yield from (f"{', '.join(names)} (up to {tokens} new tokens)", "", "```text", *text.splitlines(), "```", "")
    if undefined:
        yield from (f"Not defined (evalkit refuses to run): {', '.join(undefined)}.", "")


def _example(task: Task) -> Iterator[str]:
    """A sample from the bundled data, if the task is part of it."""
    from evalkit.data import open_data

    try:
        sample = next(iter(task.load(open_data("tiny"), task.default_splits[0])))
    except (UserError, StopIteration, IndexError):
        return
    name = f"{module_name(task.name)}.png"
    answers = list(dict.fromkeys(map(str, sample.references)))
    yield from ("## Example from the bundled data", "")
    if sample.images:
        IMAGES[f"benchmarks/{name}"] = sample.images[0]
        yield from (f"![a synthetic image from the bundled data]({name})", "")
    yield from (f"- video: `{Path(video.name).name}`" for video in sample.videos)
    if sample.text:
        yield f"- question: {' / '.join(_plain(line) for line in sample.text.splitlines())}"
    yield from (f"- option {letter}: {_plain(text)}" for letter, text in sample.lettered_options)
    yield from (f"- references: {', '.join(f'`{answer}`' for answer in answers)}", f"- id: `{sample.id}`", "")


IMAGES: dict[str, ImageRef] = {}
"""The images of the pages generated so far, by path below ``docs/``."""


def _size(task: Task, name: str, split: Split) -> str:
    text = f"{name} {split.size:,}" if split.size else name
    return f"**{text}**" if name in task.default_splits else text


def _metric_link(name: str, up: str = "") -> str:
    return f"[`{name}`]({up}scorers.md#{name})" if name in registry.metrics.names() else f"`{name}`"


# ------------------------------------------------------------------------------------------------------------ families


class NoImage(ImageRef):
    """A placeholder image, for rendering only the text of a prompt."""

    name = "image"

    def size(self) -> Size:
        return 640, 480

    def load(self) -> Any:
        raise OSError("there is no image")

    def digest(self) -> str:
        return ""


BOX = (160.0, 120.0, 480.0, 360.0)
# The kinds of task whose prompts are the authors' where they differ from generic's; others may be ours.
OF_AUTHORS = ("caption", "vqa", "document", "yes_no", "choice", "grounding", "pointing")


def families() -> str:
    """Each family: conventions, its own prompts, and an example of a box in its format."""
    return "\n".join(line for family in registry.families.all() for line in _family(family))


def family_table() -> str:
    """All families: architectures, own prompts, coordinates, how they are spelled, presets, images, what is shared."""
    titles = (
        "family, sources", "`model_type`", "own prompts", "boxes and points", "spelled", "presets", "several images",
        "shared between questions",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for family in registry.families.all():
        cells = (
            f"[`{family.name}`](#{re.sub(r'[^a-z0-9-]', '', family.name)})",
            ", ".join(f"`{name}`" for name in family.model_types) or "others",
            _own_prompts(family),
            _plain(family.coordinates),
            _spelled(family),
            ", ".join(f"`{name}`" for name in family.presets) or "none",
            "yes" if family.several_images else "no",
            _shared(family),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shared(family: Family) -> str:
    """What the ``hf`` backend computes once for several questions to an image, and why not more."""
    if not family.without_sharing:
        return "prefixes"
    return f"{'encodings, not prefixes' if family.shares_encodings else 'nothing'}: {family.without_sharing}"


def _own_prompts(family: Family) -> str:
    """The kinds of task for which a family's prompt is not ``generic``'s, and how many benchmarks have their own."""
    others = getattr(registry.families.get("generic"), "official", {})
    own = getattr(family, "official", {})
    kinds = [f"`{kind}`" for kind, _ in KINDS if kind in OF_AUTHORS and own.get(kind) not in (None, others.get(kind))]
    tasks = len(getattr(family, "by_task", {}))
    counted = [f"{tasks} benchmark{'' if tasks == 1 else 's'}"] if tasks else []
    return ", ".join(kinds + counted) or "none"


def _spelled(family: Family) -> str:
    """A box, else a point, as the family's models write it, in one line."""
    sample, image_size = Sample("", (NoImage(),), "x", (BOX,), ""), family.image_size((640, 480))
    for spec in (PromptSpec("refcoco", "grounding"), PromptSpec("screenspot", "pointing")):
        try:
            answer = family.answer(spec, sample, image_size)
        except UserError:
            continue
        shown = re.sub(r"```(?:json)?|\s+", " ", answer).strip().replace("|", "\\|")
        return f"`{shown}`"
    return "none"


def _family(family: Family) -> Iterator[str]:
    title, about = documented(inspect.getmodule(type(family)))
    yield from (f"## {family.name}", "", f"*{title}*", "", about, "")
    types = (
        ", ".join(f"`{name}`" for name in family.model_types)
        or "none (chosen by other files of the checkpoint, or with `--family`)"
    )
    if family.name == "generic":
        types = "any that no other family supports"
    yield from ("| property | value |", "|---|---|", f"| `model_type` in `config.json` | {types} |")
    yield f"| box coordinates | {family.coordinates.replace('<', '&lt;').replace('>', '&gt;')} |"
    yield f"| shared between questions to an image | {_shared(family)} |"
    yield from (f"| few-shot examples (`--shots`) | {'yes' if family.several_images else 'no'} |", "")
    yield from ("Its own prompts (`--protocol official`), by kind of task:", "")
    for kind, _ in KINDS:
        task = next((task for task in registry.tasks.all() if task.kind == kind), None)
        prompt = None if task is None else rendered_prompt(family, PromptSpec(task.name, kind), task)
        if prompt is not None:
            yield from (f"`{kind}`", "", "```text", *prompt[0].splitlines(), "```", "")
    yield from _box(family)


def markers() -> str:
    """The markers of reasoning and of final answers, as tables."""
    lines = ["| reasoning opens with | and closes with |", "|---|---|"]
    lines += [f"| `{pair.opening}` | `{pair.closing}` |" for pair in REASONING]
    lines += ["", "| the answer is between | and | where |", "|---|---|---|"]
    where = {True: "anywhere, the last of several", False: "at the beginning of the answer"}
    lines += [f"| `{pair.opening}` | `{pair.closing}` | {where[pair.anywhere]} |" for pair in ANSWER]
    lines += ["| `\\boxed{` | `}` | anywhere, the last of several; `\\text{…}` in it is removed |"]
    return "\n".join(lines).replace("<|", "<\\|").replace("|>", "\\|>")


def _box(family: Family) -> Iterator[str]:
    """A box as the family formats it, and as it is parsed."""
    spec = PromptSpec("refcoco", "grounding")
    image_size = family.image_size((640, 480))
    sample = Sample("", (NoImage(),), "the red circle", (BOX,), "")
    try:
        answer = family.answer(spec, sample, image_size)
        box = family.parse(spec, answer, (image_size,)).value
    except UserError:
        return
    assert isinstance(box, tuple)
    resized = (
        ""
        if image_size.resized == image_size.original
        else f", resized to {image_size.resized[0]} × {image_size.resized[1]},"
    )
    yield f"Example: in an image of 640 × 480 pixels{resized} the family answers the box {_numbers(BOX)} as"
    yield from ("", "```text", *answer.splitlines(), "```", "", f"which is parsed as {_numbers(box)}.", "")
    pointing = PromptSpec("screenspot", "pointing")
    answer = family.answer(pointing, sample, image_size)
    point = family.parse(pointing, answer, (image_size,)).value
    assert isinstance(point, tuple)
    yield "Asked for a point in this box, it answers"
    yield from ("", "```text", *answer.splitlines(), "```", "", f"which is parsed as {_numbers(point)}.", "")


def _numbers(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}".removesuffix(".0") for value in box) + ")"


# ------------------------------------------------------------------------------------------------- scorers, settings


def scorers() -> str:
    """Each metric: its reference and its deviations."""
    return "\n".join(line for metric in registry.metrics.all() for line in _scorer(metric))


def _scorer(metric: Metric) -> Iterator[str]:
    title, about = documented(inspect.getmodule(type(metric)))
    tasks = [f"[`{t.name}`]({benchmark_page(t)})" for t in registry.tasks.all() if t.metric == metric.name]
    yield from (f"## {metric.name}", "", f"*{title}*", "", about, "")
    yield f"Used by {', '.join(tasks)}." if tasks else "No benchmark of evalkit uses it by default."
    if isinstance(metric, JudgedMetric):
        yield from ("", *(f"- judge prompt `{prompt.name}`: {prompt.source}" for prompt in metric.prompts))
    yield from ("", f"Signature: `{metric.score(()).signature}`", "")


def letters() -> str:
    """The cases of the grammar for option letters, by group."""
    path = Path(__file__).with_name("letters.json")
    groups: dict[str, list[str]] = {}
    for group in json.loads(path.read_text(encoding="utf-8")):
        options = ", ".join("an image" if option is None else option for option in group["options"]) or "not known"
        rows = groups.setdefault(group["group"], [])
        rows += [
            f"| {_code(text)} | {_plain(options)} | {letter or '–'} | {source} |"
            for text, letter, source in group["cases"]
        ]
    lines = []
    for name, rows in groups.items():
        lines += [
            f"### {name[0].upper()}{name[1:]}",
            "",
            "| answer | options | letter | by, or why not |",
            "|---|---|---|---|",
        ]
        lines += [*rows, ""]
    return "\n".join(lines)


def _code(text: str) -> str:
    """A text as code in a table's cell."""
    escaped = "".join(
        f"&#{ord(sign)};" if sign.isascii() and not sign.isalnum() and sign not in " .,:" else sign
        for sign in text.replace("\n", "⏎")
    )
    return f"<code>{escaped}</code>" if text.strip() else "(nothing)"


def settings() -> str:
    """The settings of ``evalkit.toml``, with their defaults and meaning."""
    lines = ["| setting | default | |", "|---|---|---|"]
    for option in OPTIONS.values():
        if option.in_file:
            default = ", ".join(option.default) if isinstance(option.default, tuple) else option.default
            shown = str(default).lower() if isinstance(default, bool) else default
            cell = option.shown_default or ("none" if shown in (None, "") else f"`{shown}`")
            allowed = f"; {option.range}" if option.range else ""
            lines.append(f"| `{option.name}` | {cell}{allowed} | {_plain(option.help)} |")
    never = ", ".join(f"`{name}`" for name in NEVER_FROM_FILES)
    return "\n".join(
        [*lines, "", f"Not allowed in a settings file, since it may come with somebody else's repository: {never}."]
    )


# --------------------------------------------------------------------------------------------------------------- prose


def documented(module: Any) -> tuple[str, str]:
    """A module's docstring as (title, Markdown)."""
    text = inspect.getdoc(module) or ""
    first, _, rest = text.partition("\n\n")
    return markdown(first.replace("\n", " ")).removesuffix("."), markdown(rest)


def markdown(text: str) -> str:
    """A docstring as Markdown, with links for arXiv numbers and bold labels such as ``Paper:``."""
    return "".join(_pieces(text.strip()))


def _pieces(text: str) -> Iterable[str]:
    text = LABEL.sub(r"\n**\1**", text.replace("``", "`"))
    text = re.sub(
        r":\n(?=- )", ":\n\n", re.sub(r"\n{3,}", "\n\n", text)
    ).strip()  # Markdown needs an empty line before a list
    for place, piece in enumerate(text.split("`")):
        if place % 2:
            yield f"`{piece}`"
        else:
            piece = piece.replace("<", "&lt;")
            yield ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", piece)


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_<\[\]])", r"\\\1", text)


assert {kind for kind, _ in KINDS} == set(get_args(Kind))
