"""A run's scores as the hub's model cards have them: ``model-index`` in the YAML at the head of a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import registry
from evalkit.errors import UserError
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import to_markdown
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scored_run import ScoredRun
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
}
"""The hub's name of each kind of task, and a name to read."""
UNKNOWN = ("image-text-to-text", "Image-text-to-text")


def eval_results(run: ScoredRun, names: Sequence[str]) -> list[EvalResult]:
    """A result for every score of these splits, the headline first; of scores by category only the whole.

    Values are in the unit that the field prints, to two decimals.  ``metric_args`` has what a reader needs: the
    signature, the 95 % interval, the number of samples, and what was left out.
    """
    from huggingface_hub import EvalResult

    found = []
    for name in names:
        row = run.rows[name]
        if row.value is None or row.task in MEANS:
            continue
        kind, dataset = _of_task(run, name)
        task_type, task_name = TASKS.get(kind, UNKNOWN)
        columns = dict.fromkeys([row.metric, *row.values])
        for metric in [column for column in columns if "[" not in column]:
            value = row.value if metric == row.metric else row.values[metric]
            if value is None:
                continue
            found.append(
                EvalResult(
                    task_type=task_type,
                    task_name=task_name,
                    dataset_type=dataset,
                    dataset_name=name,
                    dataset_config=row.task,
                    dataset_split=row.split,
                    metric_type=metric,
                    metric_name=metric,
                    metric_value=round(float(value), 2),
                    metric_args=_args(row, metric),
                )
            )
    return found


def _of_task(run: ScoredRun, name: str) -> tuple[str, str]:
    """(kind, data set on the hub) of a split; what the manifest says where the task is not installed any more."""
    said = str(run.manifest.kind_of(name) or "")
    task = name.rpartition("/")[0]
    try:
        plugin = registry.tasks.get(task)
    except UserError:
        return said, task
    return plugin.kind, plugin.hub or task


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
        "evalkit": __version__,
    }


def new_card(run: ScoredRun, results: Sequence[EvalResult]) -> str:
    """A model card of its own: the results in its YAML, and as a table."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(model_name=run.model, eval_results=list(results), tags=["evalkit"])
    entries = [Entry(run.name, run.model, row) for row in run.rows.values()]
    return f"---\n{data.to_yaml()}\n---\n\n## Evaluation\n\n{to_markdown(entries)}"


def updated_card(path: Path, run: ScoredRun, results: Sequence[EvalResult]) -> str:
    """The model card at ``path`` with these results: those that it has of the same scores give way, all else stays.

    Raises:
        UserError: it is no model card.
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
    new = {_which(result) for result in results}
    kept = [result for result in card.data.eval_results or [] if _which(result) not in new]
    card.data.model_name = card.data.get("model_name") or run.model
    card.data.eval_results = [*kept, *results]
    return str(card)


def _which(result: EvalResult) -> tuple[Any, ...]:
    return (*result.unique_identifier, result.metric_type, result.metric_name)
