"""A run's scores in the hub's format for model cards: ``model-index`` in the YAML header of a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import registry
from evalkit.data import BUNDLED, HUB, bundled_root
from evalkit.errors import UserError
from evalkit.results.leaderboard.published import is_complete
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import to_markdown
from evalkit.results.samples.context import located
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.tables import plain
from evalkit.task_groups import MEANS
from evalkit.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASKS = {
    "caption": ("image-to-text", "Image captioning"),
    "vqa": ("visual-question-answering", "Visual question answering"),
    "document": ("document-question-answering", "Document question answering"),
    "choice": ("visual-question-answering", "Multiple-choice question answering"),
    "grounding": ("image-text-to-text", "Referring expression comprehension"),
    "pointing": ("image-text-to-text", "Pointing"),
    "detection": ("object-detection", "Object detection"),
    "temporal_grounding": ("video-text-to-text", "Temporal grounding"),
}
"""The hub's task type of each kind of task, and its display name."""
UNKNOWN = ("image-text-to-text", "Image-text-to-text")
SYNTHETIC = "evalkit-synthetic"
"""Data set type of scores on the bundled data."""


def eval_results(run: ScoredRun, names: Sequence[str]) -> list[EvalResult]:
    """One result per score of these splits, the headline first; scores of categories are left out.

    Values are in the metric's usual unit, with two decimals.  ``metric_args`` has the signature, the 95 % interval and
    the counts of samples.
    """
    from huggingface_hub import EvalResult

    found = []
    for name in names:
        row = run.rows[name]
        if row.value is None or row.task in MEANS or row.estimate is not None:
            continue
        dataset_type, dataset_name = data_set_of(run, row)
        task_type, task_name = TASKS.get(_kind(run, name), UNKNOWN)
        columns = dict.fromkeys([row.metric, *row.values])
        for metric in [column for column in columns if "[" not in column]:
            value = row.value if metric == row.metric else row.values[metric]
            if value is None:
                continue
            found.append(
                EvalResult(
                    task_type=task_type,
                    task_name=task_name,
                    dataset_type=dataset_type,
                    dataset_name=dataset_name,
                    dataset_config=row.task,
                    dataset_split=row.split,
                    metric_type=metric,
                    metric_name=metric,
                    metric_value=round(float(value), 2),
                    metric_args=_args(row, metric),
                )
            )
    return found


def _kind(run: ScoredRun, name: str) -> str:
    """The kind of a split's task; as the manifest records it if the task is not installed."""
    try:
        return registry.tasks.get(name.rpartition("/")[0]).kind
    except UserError:
        return str(run.manifest.kind_of(name) or "")


def data_set_of(run: ScoredRun, row: ScoreRow) -> tuple[str, str]:
    """(type, name) of the data set that a split was scored on, for the card.

    The type is the hub's data set only if the data came from there, or if local files hold as many samples as the
    official split; otherwise it is the task's name, or ``SYNTHETIC`` for the bundled data.
    """
    data = str(run.manifest.settings.get("data") or "")
    if is_bundled(data, run.manifest.cwd):
        return SYNTHETIC, f"{row.name} (synthetic, bundled with evalkit)"
    try:
        hub = registry.tasks.get(row.task).hub
    except UserError:
        hub = ""  # the task is not installed
    if hub and (data.partition(":")[0] == HUB or is_complete(row)):
        return hub, row.name
    return row.task, f"{row.name} (local files)"


def is_hub_data_set(run: ScoredRun, row: ScoreRow) -> bool:
    """Whether ``data_set_of`` names a data set on the hub."""
    try:
        hub = registry.tasks.get(row.task).hub
    except UserError:
        return False
    return bool(hub) and data_set_of(run, row)[0] == hub


def is_bundled(data: str, cwd: str) -> bool:
    """Whether ``--data`` as given in the folder ``cwd`` is the bundled data."""
    return data == BUNDLED or Path(located(data, cwd)).resolve() == bundled_root().resolve()


def _args(row: ScoreRow, metric: str) -> dict[str, Any]:
    interval = row.interval_of(metric)
    low, high = interval.get("low"), interval.get("high")
    if low is None and interval.get("ci95"):
        middle = row.score if metric == row.metric else row.values[metric]
        if middle is not None:
            low, high = middle - interval["ci95"], middle + interval["ci95"]
    return {
        "signature": row.signature,
        "n": row.n,
        **({} if low is None or high is None else {"ci95": [round(float(low), 2), round(float(high), 2)]}),
        **{key: getattr(row, key) for key in ("unparsed", "errors", "truncated") if getattr(row, key)},
        **({"limited": True} if row.limited else {}),
        **({"chosen": row.chosen} if row.chosen else {}),
        "evalkit": __version__,
    }


def new_card(run: ScoredRun, results: Sequence[EvalResult]) -> str:
    """A new model card: the results in its YAML header, and as a table."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(model_name=run.model, eval_results=list(results), tags=["evalkit"])
    entries = [Entry(run.name, run.model, row) for row in run.rows.values()]
    names = {result.dataset_name: None for result in results}
    used = plain(f"Data: {', '.join(names)}.")
    return f"---\n{data.to_yaml()}\n---\n\n## Evaluation\n\n{to_markdown(entries)}\n{used}\n"


def updated_card(path: Path, run: ScoredRun, results: Sequence[EvalResult]) -> str:
    """The model card at ``path`` with these results, which replace earlier ones of the same scores.

    Raises:
        UserError: the file is not a model card.
    """
    from huggingface_hub import ModelCard, ModelCardData

    try:
        card = ModelCard(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--out {path} is not a model card that can be updated ({first}); give another file."
        ) from error
    except Exception as error:  # YAML's own
        raise UserError(f"--out {path}: cannot parse its YAML ({type(error).__name__}); fix it first.") from error
    assert isinstance(card.data, ModelCardData)
    new = {_identity(result) for result in results}
    kept = [result for result in card.data.eval_results or [] if _identity(result) not in new]
    card.data.model_name = card.data.get("model_name") or run.model
    card.data.eval_results = [*kept, *results]
    return str(card)


def _identity(result: EvalResult) -> tuple[Any, ...]:
    return (*result.unique_identifier, result.metric_type, result.metric_name)
