"""A run's answers as files for official scorers and evaluation servers."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.errors import UserError
from evalkit.results.samples.context import context_of, load_split
from evalkit.results.samples.join import split_of
from evalkit.results.store.scored_run import ScoredRun
from evalkit.types import Answered, Prediction


@dataclass(frozen=True)
class Official:
    """A split's file; ``note`` says why the official scorer would reject it, or what its user must know."""

    split: str
    file: str
    content: str
    note: str = ""


def official_of(run: ScoredRun, name: str, data: str | None) -> Official | None:
    """The file of one split; None if the official scorer reads no file of answers.

    It has all samples of the run in the official order; answers that could not be parsed are "".

    Raises:
        UserError: the data is missing, or the format cannot hold an answer.
    """
    task, samples = load_split(run, name, data)
    bare = name.rpartition("/")[2]
    if not (task.has_results or task.has_submission):
        return None
    split = split_of([run], name, context_of([run], name, data))
    answers = []
    for shown in split.samples:
        answer, sample = shown.answers[0], samples.get(shown.id)
        if sample is None:
            raise UserError(f"{name}: sample {shown.id} is no longer in the data; give --data.")
        read = None if answer is None or answer.status == "error" else answer.prediction
        answers.append(Answered(sample, Prediction(tuple(read) if isinstance(read, list) else read)))
    if not task.splits[bare].answers and task.has_submission:
        file, content = task.submission(answers)
    elif task.has_results:
        file, content = f"{task.name}.{bare}.results.json", task.results(answers)
    else:
        return None
    return Official(name, file, content, _note(len(answers), len(samples), run.rows[name].answers_each))


def _note(there: int, total: int, repeats: int) -> str:
    first = f"it has the first of the {repeats} answers to each sample. " if repeats > 1 else ""
    if there >= total:
        return first.rstrip()
    return f"{first}{there:,} of the split's {total:,} samples: most official scorers require all of them."
