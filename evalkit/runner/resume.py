"""Answers of an earlier run that are still valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evalkit.collection import collection_paused
from evalkit.interfaces import Family
from evalkit.jobs import Job, Question, Record, parse_answer
from evalkit.results.store.journal import read_journal, rewrite_journal
from evalkit.results.store.manifest import SCHEMA
from evalkit.results.store.run_folder import RunFolder
from evalkit.run import ImageDigests

EXAMPLES = 3


@collection_paused()
def kept_answers(
    job: Job,
    questions: Mapping[str, Question],
    family: Family,
    folder: RunFolder,
    digests: ImageDigests,
    announce: Callable[[str], None],
    announce_each_time: Callable[[str], None],
) -> dict[str, Record]:
    """The valid answers in the journal of ``job``, by request id.

    An answer is invalid if its line is corrupt, if it is an error, or if its prompt, an image or a video of it has
    changed.  Invalid lines are removed from the journal.  If an image cannot be read now, its answer is kept.

    Args:
        announce_each_time: for what is true of the complete run too, so that later commands say it again.
    """
    path = folder.journal_path(job.task.name, job.split)
    if not path.is_file():
        return {}
    answers = read_journal(path, SCHEMA)
    if answers.truncated:
        announce(f"{path}: the last line is truncated; re-running its sample")
    for number, reason in answers.corrupt[:EXAMPLES]:
        announce(f"{path}: line {number} is corrupt ({reason}); re-running its sample")
    if len(answers.corrupt) > EXAMPLES:
        announce(f"{path}: {len(answers.corrupt) - EXAMPLES:,} more lines are corrupt")

    kept: dict[str, Record] = {}
    failed, other_prompt, other_media = set(), set(), set()
    for key, question in questions.items():
        line = answers.lines.get(key)
        if line is None:
            continue
        now = digests.of(question.request)
        if line.response.finish == "error":
            failed.add(key)
        elif line.prompt != question.digest:
            other_prompt.add(key)
        elif _changed(line.digests, now):
            other_media.add(key)
        else:
            there = line.response
            prediction = parse_answer(
                family, job.prompt_spec, question.sample, there.text, there.image_sizes, finish=there.finish
            )
            kept[key] = question.answered(there, prediction, now)
    if kept and answers.repeats > job.repeats:
        announce_each_time(
            f"{job.name}: the run has {answers.repeats} answers to a sample; the first "
            f"{'is' if job.repeats == 1 else f'{job.repeats} are'} scored (--repeats)"
        )
    rewrite_journal(path, answers, failed | other_prompt | other_media)

    what = "samples" if job.repeats == 1 else "answers"
    changed = "video changed" if job.has_videos else "image changed"
    for ids, why in ((failed, "failed before"), (other_prompt, "prompt changed"), (other_media, changed)):
        if ids:
            examples = ", ".join(sorted(ids)[:EXAMPLES]) + (", …" if len(ids) > EXAMPLES else "")
            announce(f"{job.name}: re-running {len(ids):,} {what}: {why} ({examples})")
    return kept


def _changed(before: tuple[str | None, ...], now: tuple[str | None, ...]) -> bool:
    if len(before) != len(now):
        return True
    return any(b is not None and n is not None and b != n for b, n in zip(before, now, strict=True))
