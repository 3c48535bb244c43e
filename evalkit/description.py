"""Descriptions of tasks: what a TOML file, or the first line of a ``.jsonl`` file, says of a task beside its rows.

``KEYS`` are its keys; ``docs/your-tasks.md`` explains them.  ``evalkit.described_task`` makes the task.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from evalkit import registry
from evalkit.columns import Column, read_columns
from evalkit.decoding import decoding_overrides
from evalkit.errors import UserError
from evalkit.file_task import METRICS
from evalkit.given_prompts import problem_of
from evalkit.interfaces import Metric
from evalkit.row_sources import Source, read_source
from evalkit.stated import Stated, plain_value
from evalkit.types import Kind, PromptTemplate

FORMAT = 1
KEYS = (
    "evalkit", "about", "kind", "rows", "columns", "relative_to", "metric", "judge", "prompts", "decoding", "shots",
    "breakdowns", "groups",
)  # fmt: skip
RUBRIC = "rubric"
"""The metric that ``judge`` configures."""
PROTOCOLS = ("lmms-eval", "vlmevalkit")
DECODING = (
    "max_new_tokens", "temperature", "top_p", "top_k", "presence_penalty", "repetition_penalty", "num_beams",
    "stop", "seed",
)  # fmt: skip
RELATIVE_TO = ("file", "data")
OTHER_KINDS = {
    "vqa": ("qa", "question", "open", "counting", "count", "ocr", "math"), "choice": ("multiple_choice", "mcq", "mc"),
    "yes_no": ("yesno", "binary"), "caption": ("captioning",), "grounding": ("refcoco", "rec", "bbox"),
    "pointing": ("point", "gui"), "detection": ("detect", "object_detection"), "document": ("docvqa",),
    "temporal_grounding": ("temporal", "video_grounding"),
}  # fmt: skip
"""What people call the kinds."""


@dataclass(frozen=True)
class Description:
    """What a file says of a task.

    Attributes:
        kind: None if the file does not say.
        rows: None if they follow the description in the same file.
        columns: by field of a sample.
        metric: the name of the metric; empty for that of the kind.
        configured: the metric, if the file gives options or a judge's rubric.
        decoding: the fields of ``Decoding`` that the file sets.
        shots: where few-shot examples are; None if the file does not say.
        breakdowns: columns by whose values the score is also given.
        groups: names of groups of a suite that the task is in.
        below_data: whether names of files are relative to ``--data`` in place of the file's folder.
    """

    stated: Stated
    about: str
    kind: Kind | None
    rows: Source | None
    columns: Mapping[str, Column]
    metric: str
    configured: Metric | None
    prompts: Mapping[str, PromptTemplate]
    decoding: Mapping[str, Any]
    shots: Source | None
    breakdowns: tuple[str, ...]
    groups: tuple[str, ...]
    below_data: bool

    def digest(self) -> str:
        """A digest of what the file says, whatever its spelling."""
        try:
            content = json.dumps(plain_value(self.stated.values), sort_keys=True)
        except ValueError:  # in a row, which is refused when rows are read
            content = repr(self.stated.values)
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


def read_description(stated: Stated, kind: str | None = None) -> Description:
    """The description in a file, or in the first line of one.

    Args:
        kind: the value of ``--kind``.

    Raises:
        UserError: an unknown key, or a value that is not what it should be; the message has the line.
    """
    stated.check_keys(KEYS)
    version = stated.values.get("evalkit", FORMAT)
    if type(version) is not int or version != FORMAT:
        stated.wrong("evalkit", f"{FORMAT}, the version of the format that this evalkit reads")
    found_kind = _kind(stated, kind)
    metric, configured = _metric(stated)
    return Description(
        stated=stated,
        about=stated.text("about", default=""),
        kind=found_kind,
        rows=read_source(stated, "rows") if "rows" in stated else None,
        columns=_columns(stated, found_kind),
        metric=metric,
        configured=configured,
        prompts=_prompts(stated),
        decoding=_decoding(stated),
        shots=_shots(stated),
        breakdowns=stated.names("breakdowns", "names of columns"),
        groups=_groups(stated),
        below_data=stated.one_of("relative_to", RELATIVE_TO, RELATIVE_TO[0]) == "data",
    )


def default_metric(kind: Kind) -> str:
    """The metric of a kind, unless the file names one."""
    return METRICS[kind]


def _kind(stated: Stated, given: str | None) -> Kind | None:
    kinds = get_args(Kind)
    if "kind" in stated:
        value = stated.values["kind"]
        if value not in kinds:
            plain = str(value).lower().replace("-", "_").replace(" ", "_")
            near = [kind for kind, others in OTHER_KINDS.items() if plain in others]
            near = near or difflib.get_close_matches(plain, kinds, n=1)
            hint = f"did you mean {near[0]}? There are " if near else "there are "
            stated.wrong("kind", f"a kind; {hint}{', '.join(kinds)}")
        if given is not None and given != value:
            raise UserError(f"--kind {given}: {stated.where('kind')} says that its kind is {value}; drop --kind.")
    found = stated.values.get("kind", given)
    if found is not None and found not in kinds:
        raise UserError(f"--kind: there is no kind {found!r}; there are {', '.join(kinds)}.")
    return next((kind for kind in kinds if kind == found), None)


def _columns(stated: Stated, kind: Kind | None) -> dict[str, Column]:
    if "columns" not in stated:
        return {}
    return read_columns(stated.table("columns", '{ question = "text", image = "file" }'), kind)


def _metric(stated: Stated) -> tuple[str, Metric | None]:
    """The metric's name, and the metric if it is configured."""
    if "judge" in stated:
        if "metric" in stated:
            stated.refuse("judge", "stands beside metric; give one of the two")
        return _configured(stated.table("judge", '{ rubric = "…" }'), RUBRIC)
    if "metric" not in stated:
        return "", None
    if isinstance(stated.values["metric"], Mapping):
        table = stated.table("metric", '{ name = "anls", variant = "mmf" }')
        return _configured(table, table.text("name", "the name of a metric"), "name")
    name = stated.text("metric", "the name of a metric, or a table with its name and its options")
    _registered(stated, "metric", name)
    return name, None


def _registered(stated: Stated, key: str, name: str) -> Metric:
    try:
        return registry.metrics.get(name)
    except UserError as error:
        raise UserError(f"{stated.where(key)}: {error}") from None


def _configured(table: Stated, name: str, without: str = "") -> tuple[str, Metric]:
    """The metric ``name`` with the options in ``table``."""
    metric = _registered(table, without, name) if without else registry.metrics.get(name)
    options = {key: value for key, value in table.values.items() if key != without}
    try:
        found = metric.configured(options)
    except ValueError as error:
        wrong = next((key for key in options if str(error).startswith(f"{key} ")), None)
        raise UserError(f"{table.where(*([] if wrong is None else [wrong]))}: {table.name()}: {error}.") from None
    return found.name, found


def _prompts(stated: Stated) -> dict[str, PromptTemplate]:
    """The prompts by protocol: ``all``, families' and other harnesses'."""
    if "prompts" not in stated:
        return {}
    table = stated.table("prompts", '{ all = "{q} Answer briefly." }')
    families = registry.families.names()
    table.check_keys(("all", *families, *PROTOCOLS))
    texts = {key: table.text(key, "the text of a prompt") for key in table.values}
    for key, text in texts.items():
        if problem := problem_of(text):
            table.refuse(key, f"is not a prompt: {problem}")
    found = {key: PromptTemplate(texts.pop(key)) for key in PROTOCOLS if key in texts}
    if texts:
        found["official"] = PromptTemplate(texts.pop("all", ""), families=texts)
    return found


def _decoding(stated: Stated) -> dict[str, Any]:
    if "decoding" not in stated:
        return {}
    table = stated.table("decoding", "{ max_new_tokens = 64 }")
    table.check_keys(DECODING)
    values = dict(table.values)
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    if "stop" in values and not isinstance(values["stop"], list):
        table.wrong("stop", "a text, or a list of texts")
    if "seed" in values and (type(values["seed"]) is not int or not 0 <= values["seed"] < 2**63):
        table.wrong("seed", "a whole number from 0")
    try:
        return decoding_overrides(**values)
    except UserError as error:
        key = next((key for key in table.values if str(error).startswith(f"{key}=")), None)
        raise UserError(f"{table.where(*([] if key is None else [key]))}: decoding.{error}") from None


def _shots(stated: Stated) -> Source | None:
    if "shots" not in stated:
        return None
    table = stated.table("shots", '{ rows = "train.csv" }')
    table.check_keys(("rows",))
    if "rows" not in table:
        table.missing("rows", 'where few-shot examples are, such as rows = "train.csv"')
    return read_source(table, "rows")


def _groups(stated: Stated) -> tuple[str, ...]:
    found: Sequence[str] = stated.names("groups", "names of groups")
    for name in found:
        if "/" in name or "," in name or name in (".", ".."):
            stated.wrong("groups", "names of groups, without slashes and commas")
    return tuple(found)
