"""Custom tasks in VLMEvalKit's TSV format: ``--tasks ./mine.tsv``, one sample per row (``evalkit.tsv``).

A file has the columns ``index``, ``question``, ``answer``, and ``image`` or ``image_path``; the latter has names
relative to the file.  The kind is given by ``--kind``; otherwise it is

- ``choice`` if there are the columns ``A`` and ``B``: options in ``A``, ``B``, …, and ``answer`` is a letter;
- ``yes_no`` if every answer is yes or no;
- ``vqa`` otherwise: ``answer`` is a text, or a list literal of several (``['cat', 'a cat']``).

VLMEvalKit decides in the same way (``build_dataset``), except that it knows no yes/no questions among custom files.

*Prompts.*  The images come before the question, or where it says ``<image>``; an option can be ``<image>``, too.
``hint`` comes before the question, on a line of its own.  A row without an image is a question without one.  Under the
protocol ``vlmevalkit`` the prompts are VLMEvalKit's for custom files, except that it always puts the images first.

*Options.*  An option that is missing before the last one is left out of the prompt, and the others keep their letters,
as in VLMEvalKit.

*Breakdowns and intervals.*  All other columns are in ``meta``, ``l2-category`` as ``l2_category``.  All rows are one
split, whatever ``split`` says.  Rows with the same image are one cluster.

*Rotations.*  In MMBench's files a question is asked several times with its options rotated, and the indices of its rows
differ by multiples of a million.  In a file with such rows each question is one cluster, and there is the scoring rule
``circular`` (``metrics/circular_accuracy.py``); the default is the accuracy over all rows, as in VLMEvalKit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evalkit import yes_no
from evalkit.errors import UserError
from evalkit.file_task import METRICS, FileTask, checked_kind
from evalkit.garbage import garbage_collection_paused
from evalkit.letters import GRAMMAR, VLMEVALKIT
from evalkit.letters.vlmevalkit import MISSING as PANDAS_MISSING
from evalkit.paths import user_path
from evalkit.tsv import OPTIONS, TsvFile, read_tsv
from evalkit.tsv_sample import ANSWER, QUESTION, rotations_of, samples_of
from evalkit.types import Kind, PromptTemplate, Sample, ScoringRule

KINDS: Sequence[Kind] = ("choice", "yes_no", "vqa", "document", "caption")
CHOICE_PROMPT = PromptTemplate(
    "{hints}Question: {question}\nOptions:\n{options}\nPlease select the correct answer from the options above. \n",
    max_new_tokens=2048,
    no_options=PANDAS_MISSING,
)
QUESTION_PROMPT = PromptTemplate("{question}", max_new_tokens=2048)
"""VLMEvalKit's prompts for custom files (``CustomMCQDataset``, ``CustomVQADataset``)."""
VLMEVALKIT_RULES: Mapping[Kind, str] = {"choice": VLMEVALKIT, "yes_no": yes_no.VLMEVALKIT}
CIRCULAR = ScoringRule(
    GRAMMAR, "circular_accuracy", "a question is right if it is answered right with its options in every order"
)


class TsvTask(FileTask):
    """The task in a TSV file; see the module.

    Args:
        rotated: whether questions are asked with their options in several orders.
    """

    def __init__(self, path: Path, kind: Kind, digest: str, samples: Sequence[Sample], *, rotated: bool) -> None:
        super().__init__(path, kind, METRICS[kind], digest, samples)
        self.images_advice = f"image_path is a path relative to {path}"
        prompt = CHOICE_PROMPT if kind == "choice" else QUESTION_PROMPT
        self.prompts: Mapping[str, PromptTemplate] = {"vlmevalkit": prompt}
        self.rules: Mapping[str, ScoringRule] = {"circular": CIRCULAR} if rotated else {}
        self.protocol_rules: Mapping[str, str] = (
            {"vlmevalkit": VLMEVALKIT_RULES[kind]} if kind in VLMEVALKIT_RULES else {}
        )


def read_tsv_task(path: Path, kind: str | None = None) -> TsvTask:
    """The task in ``path``; ``kind`` is the value of ``--kind``.

    Raises:
        UserError: the file is missing, or a row is not as the module says; the message has the line.
    """
    path = user_path(str(path), "--tasks").absolute()
    file = read_tsv(path, columns=(QUESTION, ANSWER), images=True)
    found = _kind(file, kind)
    with garbage_collection_paused():
        rotations = rotations_of(file) if found == "choice" else {}
        samples = samples_of(file, found, rotations)
    return TsvTask(path, found, file.digest, samples, rotated=bool(rotations))


def _kind(file: TsvFile, given: str | None) -> Kind:
    """The kind given by ``--kind``, or else by the columns and answers."""
    has_options = all(letter in file.columns for letter in OPTIONS[:2])
    if given is None:
        if has_options:
            return "choice"
        found = {(row[ANSWER] or "").strip().lower() for row in file.rows}
        return "yes_no" if found <= {yes_no.YES, yes_no.NO} else "vqa"
    kind = checked_kind(given, "--kind")
    if kind not in KINDS:
        raise UserError(f"--kind {kind}: a TSV file such as {file.path} holds {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if kind == "choice" and not has_options:
        raise UserError(f"--kind {kind}: {file.path} has no columns A and B; options are in A, B, C and so on.")
    return kind
