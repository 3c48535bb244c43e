"""``evalkit tasks``: the benchmarks, and one of them in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.interfaces import Task
    from evalkit.types import PromptSpec

from .options import complete_task, setting


def tasks(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            help="Show this task, or this custom task file, in detail; other words search names, themes and metrics.",
            autocompletion=complete_task,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Root folder of official downloads: show which files are there.")
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="Protocol of the prompts shown: official, lmms-eval or vlmevalkit.")
    ] = "official",
    columns: Annotated[
        bool, typer.Option("--columns", help="List the columns that --where can name, with their values.")
    ] = False,
    where: Annotated[
        str | None, setting("where", rich_help_panel=None, help="Count the samples that fit an expression.")
    ] = None,
    ids: Annotated[
        str | None, setting("ids", rich_help_panel=None, help="Count the samples with the ids in a file.")
    ] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the sampling presets for --preset.")] = False,
    family: Annotated[str | None, typer.Option("--family", help="Show the prompts of this model family only.")] = None,
) -> None:
    """List the benchmarks, search them, or show one in detail.

    The details are its protocol, prompts, splits, metric, and the files that it reads. Of a task file in TOML they are
    its first samples as a model is asked them; of a folder of such files, the tasks and their groups. With --columns,
    --where or --ids, its samples are read from --data (default: $EVALKIT_DATA, else the bundled ones), and nothing else
    is shown.
    """
    from evalkit import registry
    from evalkit.console import new_console
    from evalkit.task_listing import listing

    from .task_list import list_tasks, search

    console = new_console()
    words = " ".join(name or ())
    if presets:
        from .preset_list import list_presets

        list_presets(console)
        return
    if columns or where is not None or ids is not None:
        from .choosing import show_chosen

        show_chosen(console, name or (), data, where, ids)
        return
    if not words:
        list_tasks(console, listing())
        return
    from evalkit.task_files import is_task_file
    from evalkit.task_names import parse_tasks
    from evalkit.task_suites import suite_tasks

    if is_task_file(words):
        show_task(console, parse_tasks([words])[0][0], data, protocol, family)
        return
    if (suite := suite_tasks(words)) is not None:
        if len(suite) == 1:
            show_task(console, suite[0], data, protocol, family)
        else:
            from .task_samples import list_suite

            list_suite(console, words, suite)
        return
    found = search(listing(), words)
    if found:
        list_tasks(console, found, groups=False)
    else:  # an unknown name is refused with the nearest
        show_task(console, registry.tasks.get(words.partition("/")[0]), data, protocol, family)


def show_task(console: Console, task: Task, data: str | None, protocol: str, family: str | None) -> None:
    """Print one benchmark: documentation, facts, splits, files, prompts or samples, signature."""
    import inspect

    from rich.markdown import Markdown

    from evalkit.data import open_data
    from evalkit.described_task import DescribedTask
    from evalkit.file_task import FileTask
    from evalkit.interfaces.task import READINGS
    from evalkit.reasoning import RULES_VERSION
    from evalkit.scoring import with_reading
    from evalkit.settings import default_data
    from evalkit.task_metrics import metric_of

    samples = []
    if isinstance(task, DescribedTask):
        place = data or default_data(bundled_model=False)[0]
        samples = list(task.load(open_data(place), task.default_splits[0]))
    about = (inspect.getdoc(inspect.getmodule(type(task))) or "").replace("``", "`")
    if isinstance(task, FileTask):
        console.print(f"Custom task {task.name}: {task.path}", highlight=False, soft_wrap=True)
    elif console.is_interactive:
        console.print(Markdown(about, inline_code_theme="default"))
    else:
        print(about)
    facts = {
        "kind": task.kind,
        "metric": task.metric,
        "max new tokens": task.decoding.max_new_tokens,
        "version": task.version,
    }
    pairs = [Text.assemble((name, "bold"), f" {value}") for name, value in facts.items()]
    console.print(Text("\n") + Text("   ").join(pairs))
    for name, split in task.splits.items():
        size = f"{split.size:,}" if split.size else "size varies"
        if samples and name == task.default_splits[0]:
            size = f"{len(samples):,}"
        console.print(f"  {name:8s} {size:>9s}  {split.about}", highlight=False, soft_wrap=isinstance(task, FileTask))
    if not isinstance(task, FileTask):
        show_files(console, task, data)
    spec = task.prompt_spec(protocol)
    if isinstance(task, DescribedTask):
        from .task_samples import show_samples

        show_samples(console, task, samples, protocol, family)
    else:
        show_prompts(console, spec, task, family)
    show_rules(console, task)
    signature = metric_of(task, task.metric).score(()).signature
    signature = with_reading(signature, task.kind, spec.reading if task.kind in READINGS else None)
    file = f"file:{task.digest}|" if isinstance(task, FileTask) else ""
    prompting = f"v{task.version}|{file}protocol:{protocol}|shots:0|parsing:{RULES_VERSION}"
    split_name = task.default_splits[0] if isinstance(task, FileTask) else "SPLIT"
    console.print(
        Text.assemble("\n", ("signature", "bold"), f" {task.name}:{split_name}|{prompting}|{signature}|n:SAMPLES")
    )


OR = "or "
"""Begins a place of ``Task.layout`` that can hold what those before it do."""


def show_files(console: Console, task: Task, data: str | None) -> None:
    """Print the data set on the hub and the official files, and which of them are in ``data``."""
    from evalkit.data import OfficialData, open_data

    console.print()
    if task.hub:
        console.print(Text.assemble(("--data hub", "bold"), f"   {task.hub}"))
    console.print(Text("--data ROOT", style="bold"))
    root = None
    if data is not None:
        opened = open_data(data)
        root = opened.root if isinstance(opened, OfficialData) else None
    for pattern in task.layout:
        mark = Text()
        if root is not None:
            count = sum(1 for _ in root.glob(pattern.removeprefix(OR)))
            mark = Text(f"  found ({count})", style="green") if count else Text("  missing", style="red")
        place = f"  or ROOT/{pattern.removeprefix(OR)}" if pattern.startswith(OR) else f"  ROOT/{pattern}"
        console.print(Text(place) + mark)


RULES = "scoring rules (--rule of 'evalkit score' and 'evalkit rescore'; * by default)"


def show_rules(console: Console, task: Task) -> None:
    """Print the rules by which answers can be read and scored."""
    rules = rule_lines(task)
    if rules:
        title, _, more = RULES.partition(" (")
        console.print(Text.assemble("\n", (title, "bold"), f" ({more}"))
    for line in rules:
        console.print(f"  {line}", highlight=False)


def rule_lines(task: Task) -> list[str]:
    """A line per scoring rule: its name, and whose it is."""
    default = task.rule_of("official") or task.prompt_spec().reading
    return [
        f"{name}{'*' if name == default else ''}  {rule.about}".rstrip() for name, rule in task.scoring_rules.items()
    ]


def show_prompts(console: Console, spec: PromptSpec, task: Task, only: str | None) -> None:
    """Print each family's prompt, or that of one, with ``{question}`` in place of the sample's text."""
    from evalkit import registry
    from evalkit.errors import UserError
    from evalkit.types import Sample

    options = ("{option 1}", "{option 2}") if task.kind == "choice" else ()
    sample = Sample("", (), "{question}", (), "", options=options)
    for family in registry.families.all() if only is None else [registry.families.get(only)]:
        try:
            messages = family.prompt(spec, sample)
            tokens = family.decoding(spec, task.decoding).max_new_tokens
        except UserError:
            console.print(Text.assemble("\n", ("prompt", "bold"), f" {family.name}: not defined"))
            continue
        prompt = "".join(message.text() for message in messages)
        console.print(Text.assemble("\n", ("prompt", "bold"), f" {family.name} (up to {tokens} new tokens)"))
        for line in prompt.splitlines():
            console.print(f"  {line}", highlight=False)
