"""``evalkit tasks mine.toml``: the first samples of a described task as a model is asked them; the tasks of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.described_task import DescribedTask
    from evalkit.interfaces import Family
    from evalkit.types import Media, Message, Sample

SHOWN = 3
"""Samples that are shown."""
FAMILY = "generic"
"""The family whose prompts are shown if none is named: that of any chat model."""
LABEL = 11
"""Width of the first column."""


def show_samples(
    console: Console, task: DescribedTask, samples: Sequence[Sample], protocol: str, family_name: str | None
) -> None:
    """Print where the rows of ``task`` are, and its first samples with their prompts.

    Raises:
        UserError: there is no such family, or it has no prompt for the task.
    """
    from evalkit import registry

    family = registry.families.get(family_name or FAMILY)
    bare = sum(not sample.all_images and not sample.all_videos for sample in samples)
    if bare:
        console.print(f"  {bare:,} of {len(samples):,} samples have no image or video", style="yellow", highlight=False)
    decoding = family.decoding(task.prompt_spec(protocol), task.decoding)
    more = "" if decoding.describe() == "greedy" else f", {decoding.describe()}"
    for number, sample in enumerate(samples[:SHOWN], start=1):
        title = Text.assemble((f"sample {number}", "bold"), f" of {len(samples):,}: {sample.id}")
        console.print(Text("\n") + title)
        for label, text in _lines(task, sample, family, protocol):
            for place, line in enumerate(text.splitlines() or [""]):
                console.print(Text(f"  {label if place == 0 else '':{LABEL}}") + Text(line), soft_wrap=True)
    console.print(
        Text(
            f"\nPrompts of the family {family.name}, up to {decoding.max_new_tokens} new tokens{more}"
            + ("; --family NAME shows those of another." if family_name is None else ".")
        )
    )


def _lines(task: DescribedTask, sample: Sample, family: Family, protocol: str) -> Iterator[tuple[str, str]]:
    """What is shown of a sample: a label and a text each."""
    from evalkit.given_prompts import NOTHING_GIVEN
    from evalkit.jobs import conversation
    from evalkit.values import shown

    for image in sample.all_images:
        yield "image", _described(image)
    for video in sample.all_videos:
        yield "video", _described(video)
    messages: Sequence[Message] = conversation(NOTHING_GIVEN, task.prompt_spec(protocol).of(sample), family, sample)
    for message in messages:
        yield ("prompt" if len(messages) == 1 else message.role), message.text("⟨image⟩", "⟨video⟩")
    counts: dict[str, int] = {}
    for reference in sample.references:
        text = reference if isinstance(reference, str) else _value(reference)
        counts[text] = counts.get(text, 0) + 1
    yield "references", "\n".join(text if n == 1 else f"{text} ({n} times)" for text, n in counts.items()) or "none"
    yield "cluster", sample.cluster
    for key in task.breakdown_keys:
        yield key, shown(sample.meta.get(key))
    others = [key for key in sample.meta if key not in task.breakdown_keys]
    if others:
        yield (
            "meta",
            ", ".join(f"{key} = {shown(sample.meta[key])}" for key in others[:8]) + (", …" * (len(others) > 8)),
        )


def _value(reference: Any) -> str:
    """A reference that is no text: a labelled box, a box or a span of time."""
    if isinstance(reference, dict):
        return f"{reference['label']} {_value(reference['box'])}"
    return "[" + ", ".join(f"{number:g}" for number in reference) + "]"


def _described(media: Media) -> str:
    """Where an image or a video is, and whether it can be read."""
    size = getattr(media, "size", None)
    try:
        if size is None:
            media.digest()
            return media.name
        width, height = size()
        return f"{media.name} ({width}×{height})"
    except FileNotFoundError:
        return f"{media.name} is missing"
    except (OSError, ValueError) as error:
        return f"{media.name} cannot be read ({error})"


def list_suite(console: Console, name: str, tasks: Sequence[DescribedTask]) -> None:
    """Print the tasks of a suite, a line each, and its groups."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for task in tasks:
        table.add_row("", task.name, task.kind, task.metric, task.description.about)
    console.print(f"Suite {name}: {len(tasks)} tasks", style="bold", highlight=False)
    console.print(table, highlight=False)
    groups: dict[str, list[str]] = {}
    for task in tasks:
        for group in task.groups:
            groups.setdefault(group, []).append(task.name)
    if groups:
        console.print("\nGroups", style="bold")
    for group, members in groups.items():
        console.print(f"  {name.rstrip('/')}/{group} = {', '.join(members)}", highlight=False, soft_wrap=True)
