"""What a run has answered already, and which of that still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evalkit.interfaces import Family
from evalkit.jobs import Job, Question, Record
from evalkit.results.store.journal import mend, read_journal
from evalkit.results.store.run_folder import SCHEMA, RunFolder
from evalkit.run import ImageDigests

EXAMPLES = 3


def kept_answers(
    job: Job,
    questions: Mapping[str, Question],
    family: Family,
    folder: RunFolder,
    digests: ImageDigests,
    tell: Callable[[str], None],
) -> dict[str, Record]:
    """The answers of ``job`` in its journal that need not be given again, by sample id.

    An answer counts no longer when its line is damaged, when it is an error, or when its prompt or an image of it has
    changed.  Such lines leave the journal.  An image that cannot be read now proves nothing, and its answer stays.
    """
    path = folder.journal_path(job.task.name, job.split)
    if not path.is_file():
        return {}
    answers = read_journal(path, SCHEMA)
    if answers.torn:
        tell(f"{path}: the last line had been cut off; its sample is answered again")
    for number, reason in answers.damaged[:EXAMPLES]:
        tell(f"{path}, line {number} is damaged ({reason}); its sample is answered again")
    if len(answers.damaged) > EXAMPLES:
        tell(f"{path}: {len(answers.damaged) - EXAMPLES:,} more lines are damaged")

    kept: dict[str, Record] = {}
    failed, asked, changed = set(), set(), set()
    for key, question in questions.items():
        line = answers.lines.get(key)
        if line is None:
            continue
        now = digests.of(question.request)
        if line.response.finish == "error":
            failed.add(key)
        elif line.prompt != question.digest:
            asked.add(key)
        elif _changed(line.digests, now):
            changed.add(key)
        else:
            prediction = family.parse(job.prompt_spec, line.response.text, line.response.image_sizes)
            kept[key] = question.answered(line.response, prediction, now)
    mend(path, answers, failed | asked | changed)

    for ids, why in (
        (failed, "failed before"), (asked, "are asked differently now"), (changed, "have another image now"),
    ):  # fmt: skip
        if ids:
            examples = ", ".join(sorted(ids)[:EXAMPLES]) + (", …" if len(ids) > EXAMPLES else "")
            tell(f"{job.name}: {len(ids):,} samples {why} ({examples}): answering them again")
    return kept


def _changed(before: tuple[str | None, ...], now: tuple[str | None, ...]) -> bool:
    if len(before) != len(now):
        return True
    return any(b is not None and n is not None and b != n for b, n in zip(before, now, strict=True))
