"""The scores of a run on disk: ``scores.json``, per-sample scores, and submissions for official servers."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evalkit.aggregation import Aggregation, Mean, MeanWhere, OfSums, OfWeights, Weighted
from evalkit.errors import UserError
from evalkit.file_task import FileTask
from evalkit.reasoning import RULES_VERSION
from evalkit.results.stats.clustered import seed_of, stratified
from evalkit.results.stats.error_bars import NO_INTERVAL, interval_of
from evalkit.results.stats.intervals import headline, is_plain, of_values, scale_of, statistics
from evalkit.scoring import Result
from evalkit.task_groups import MEANS

from .files import to_json, write_atomically
from .integrity import check_rows
from .manifest import SCHEMA
from .run_folder import RunFolder, read_versioned
from .score_row import ScoreRow
from .seal import check_seal, digest_of_content, digest_of_file, sealed
from .signature import IMPORTED, Signature

Estimator = Callable[[ScoreRow, Mapping[str, float]], ScoreRow]
"""Adds an estimate to a row, given the scores of the samples by id."""


class ScoreWriter:
    """Writes the scores of a run after each split; later calls do not recompute earlier splits.

    Args:
        header: the model and so on, for ``scores.json``.
        estimator: estimates the score of the complete split, if only a subset of it was run; None for other runs.
    """

    def __init__(self, folder: RunFolder, header: Mapping[str, Any], estimator: Estimator | None = None) -> None:
        self.folder = folder
        self.header = header
        self._estimator = estimator
        self._rows: dict[str, ScoreRow] = {}
        self._submissions: dict[str, str] = {}

    def write(self, results: Sequence[Result]) -> tuple[list[ScoreRow], list[ScoreRow]]:
        """Write ``scores.json`` and the per-sample scores or submissions of ``results``.

        Rows of splits that are not among ``results`` are kept.

        Returns:
            The rows of ``results``, and all rows of the run.

        Raises:
            RunFailed: a file cannot be written.
        """
        files = submission_files(results)
        for result in results:
            if result.job.name not in self._rows:
                journal = digest_of_file(self.folder.journal_path(result.job.task.name, result.job.split))
                row = score_row(result)
                if self._estimator is not None:
                    found = headline(result)
                    row = self._estimator(row, {} if found is None else found[0])
                judged = "judge" in row.parsed_signature.fields or result.unjudged > 0
                verdicts = self.folder.verdicts_path(result.job.task.name, result.job.split)
                self._rows[result.job.name] = replace(
                    row,
                    journal=journal,
                    verdicts=digest_of_file(verdicts) if judged else None,
                    scores=self._write_samples(result),
                )
            if result.submission is not None:
                self._write_submission(result.job.name, files[result.job.name], result.submission.content)
        rows = [self._rows[result.job.name].with_submission(files.get(result.job.name)) for result in results]
        rows += mean_rows(results, rows) if self._estimator is None else []  # chosen samples have no plain mean
        every = [*_rows_before(self.folder, rows), *rows]
        content = sealed({"schema": SCHEMA, **self.header, "results": [row.to_dict() for row in every]})
        write_atomically(self.folder.path / "scores.json", to_json(content, indent=2) + "\n")
        return rows, every

    def _write_samples(self, result: Result) -> str | None:
        """Write the per-sample scores; returns the file's digest, None if there is none."""
        path = self.folder.scores_path(result.job.task.name, result.job.split)
        if result.scores is not None:
            content = bytearray()
            for line in sample_lines(result):  # not joined: millions of lines would be in memory at once
                content += to_json(line).encode(errors="surrogatepass") + b"\n"
            write_atomically(path, content)
            return digest_of_content(content)
        if result.failure is not None:
            path.unlink(missing_ok=True)  # of an earlier scoring
        return None

    def _write_submission(self, job: str, file: str, content: str) -> None:
        """Write a submission, which takes another name when a second split turns out to have the same."""
        before = self._submissions.get(job)
        if before == file:
            return
        write_atomically(self.folder.path / file, content)
        self._submissions[job] = file
        if before is not None and before not in self._submissions.values():
            (self.folder.path / before).unlink(missing_ok=True)


def write_results(
    folder: RunFolder, results: Sequence[Result], header: Mapping[str, Any]
) -> tuple[list[ScoreRow], list[ScoreRow]]:
    """``ScoreWriter.write`` for scores that are all there."""
    return ScoreWriter(folder, header).write(results)


def sample_lines(result: Result) -> Iterator[dict[str, Any]]:
    """One line per sample: its cluster, its stratum if the score is a mean of means, its scores, and each repeat's.

    The headline's name is in a line if the headline is a mean over this sample among others.  ``statistics`` are in it
    if the headline is a function of their sums.
    """
    assert result.scores is not None
    found = headline(result)
    counted, strata = ({}, None) if found is None else found
    sums = statistics(result)
    stratum_of = {} if strata is None else dict(zip(counted, strata, strict=True))
    name = result.scores.headline
    for sample, values in result.scores.per_sample.items():
        stratum = {"stratum": stratum_of[sample]} if sample in stratum_of else {}
        # Under the headline's name is only what it is the mean of, in the place that the metric gives it.
        own = {name: counted[sample]} if sample in counted else {}
        columns = {key: own.get(key, value) for key, value in values.items() if key != name or own}
        row: dict[str, Any] = {"id": sample, "cluster": result.clusters[sample], **stratum, **columns, **own}
        if result.repeats:
            row["repeats"] = [scores.per_sample[sample] for scores in result.repeats]
        elif sums is not None:
            row["statistics"] = list(sums[0][sample])
        yield row


def stored_name(declared: Aggregation) -> str | None:
    """``ScoreRow.aggregation``."""
    if isinstance(declared, Weighted) and not is_plain(declared):
        return "weighted"
    if isinstance(declared, MeanWhere):
        return "subset"
    if isinstance(declared, Mean):
        return None
    return "sums" if isinstance(declared, OfSums) else "weights" if isinstance(declared, OfWeights) else "corpus"


def _rows_before(folder: RunFolder, rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """The rows in the file that stay; means are computed again from their members."""
    path = folder.path / "scores.json"
    if not path.is_file():
        return []
    new = {(row.task, row.split) for row in rows}
    try:
        return [row for row in read_scores(path).rows if (row.task, row.split) not in new and row.task not in MEANS]
    except UserError:
        return []  # corrupt: it is written again


def submission_files(results: Sequence[Result]) -> dict[str, str]:
    """The file name of each submission by job; if several splits share a name, the split's name is put in front."""
    found = {r.job.name: (r.job.split, r.submission.file) for r in results if r.submission is not None}
    times = Counter(file for _, file in found.values())
    return {job: file if times[file] == 1 else f"{split}.{file}" for job, (split, file) in found.items()}


def score_row(result: Result) -> ScoreRow:
    """The row of a split: score, interval and counts; no value if a submission was written instead."""
    job = result.job
    return ScoreRow(
        task=job.task.name,
        split=job.split,
        **_aggregate(result),
        n=result.n,
        clusters=len(set(result.clusters.values())),
        unparsed=result.unparsed,
        errors=result.errors,
        truncated=result.truncated,
        unjudged=result.unjudged,
        reasoning_tokens=None if result.reasoning_tokens is None else round(result.reasoning_tokens, 2),
        limited=job.limited,
        chosen=job.chosen.described if job.limited else None,
        annotations=job.annotations[:16],
        samples=digest_of(sorted(result.clusters)),
        signature=signature(result).format(),
        seconds=round(result.seconds, 3),
        repeats=[scores.values[scores.headline] for scores in result.repeats],
    )


def mean_rows(results: Sequence[Result], rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """One row per group of ``evalkit.task_groups.MEANS`` whose splits all have a score; ``rows`` are those of the
    splits."""
    by_name = {result.job.name: (result, row) for result, row in zip(results, rows, strict=True)}
    found = []
    for group, members in MEANS.items():
        if any(name not in by_name or by_name[name][1].value is None for name in members):
            continue
        parts = [by_name[name][0] for name in members]
        own = [by_name[name][1] for name in members]
        total = stratified([(_headline_values(part), part.clusters) for part in parts])
        scale, repeated = scale_of(own[0].metric, own[0].signature), any(part.repeats for part in parts)
        interval = interval_of(total, scale=scale, seed=seed_of(group), repeated=repeated)
        found.append(
            ScoreRow(
                task=group,
                split=f"mean of {len(members)}",
                metric=own[0].metric,
                value=fmean(row.value for row in own if row.value is not None),
                **(NO_INTERVAL if interval is None else interval.as_row()),
                n=sum(row.n for row in own),
                clusters=len({cluster for part in parts for cluster in part.clusters.values()}),
                unparsed=sum(row.unparsed for row in own),
                errors=sum(row.errors for row in own),
                truncated=sum(row.truncated for row in own),
                reasoning_tokens=_mean_reasoning(own),
                limited=any(row.limited for row in own),
                annotations=digest_of(str(row.annotations) for row in own),
                samples=digest_of(str(row.samples) for row in own),
                # Two means differ if the signature of a split differs.
                signature=f"{group}:mean|splits:{len(members)}|{digest_of(row.signature for row in own)}",
                seconds=round(sum(row.seconds or 0.0 for row in own), 3),
            )
        )
    return found


def _mean_reasoning(rows: Sequence[ScoreRow]) -> float | None:
    """The mean over all samples of the rows; None if it is unknown for one of them."""
    known = [(row.reasoning_tokens, row.n) for row in rows if row.reasoning_tokens is not None]
    n = sum(count for _, count in known)
    return round(sum(mean * count for mean, count in known) / n, 2) if len(known) == len(rows) and n else None


def _headline_values(result: Result) -> dict[str, float]:
    found = headline(result)
    assert found is not None
    return found[0]


def _aggregate(result: Result) -> dict[str, Any]:
    scores = result.scores
    if scores is None:
        found = {"metric": result.job.metric, "value": None, **NO_INTERVAL, "values": {}, "intervals": {}}
        return {**found, "failure": result.failure}
    intervals = of_values(result)
    value = scores.values[scores.headline]
    return {
        "metric": scores.headline,
        "value": None if math.isnan(value) else value,
        **intervals.get(scores.headline, NO_INTERVAL),
        "values": dict(scores.values),
        "intervals": intervals,
        "notes": list(scores.notes),
        "aggregation": stored_name(scores.aggregation_of(scores.headline)),
        "slopes": () if result.repeats or (sums := statistics(result)) is None else sums[1],
    }


def digest_of(texts: Iterable[str]) -> str:
    """A short digest of a list of texts: 12 hex digits."""
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()[:12]


def signature(result: Result) -> Signature:
    """The signature of a result; a custom task is identified by the content of its file, not by the file's name."""
    job = result.job
    unscored = "submission" if result.failure is None else f"{job.metric}|unscored"
    scorer = unscored if result.scores is None else result.scores.signature
    file = job.task.digest if isinstance(job.task, FileTask) else None
    asked = [part for part in job.prompting.split("|") if part and not part.startswith(f"{IMPORTED}:")]
    parsing = RULES_VERSION if asked else None
    return Signature.of(
        f"{job.task.name}:{job.split}",
        job.task.version,
        file,
        job.prompting,
        scorer,
        result.n,
        parsing,
        result.job.repeats,
    )


@dataclass(frozen=True)
class ScoresFile:
    """A run's ``scores.json``.

    Attributes:
        model: its name; None if the file has none.
        sealed: whether the file has a checksum.
    """

    model: str | None
    rows: Sequence[ScoreRow]
    sealed: bool = False


def read_scores(path: Path) -> ScoresFile:
    """Read a run's ``scores.json``.

    Raises:
        UserError: it is corrupt (its checksum is wrong, for example) or from a newer evalkit.
    """
    content = read_versioned(path, "a scores file", ("results",))
    has_checksum = check_seal(content, path, f"'evalkit rescore {path.parent}' writes it again")
    if not isinstance(content["results"], list):
        raise UserError(
            f"{path} is not a scores file that evalkit wrote (no list of results); run the evaluation again."
        )
    try:
        rows = [ScoreRow.from_dict(row) for row in content["results"]]
    except ValueError as error:
        raise UserError(f"{path} is corrupt ({error}); 'evalkit rescore {path.parent}' writes it again.") from error
    model = content.get("model")
    return ScoresFile(None if model is None else str(model), rows, has_checksum)


def verified_scores(path: Path) -> ScoresFile:
    """Read a run's ``scores.json``, and check that its scores belong to the answers in the run folder.

    Raises:
        UserError: it is corrupt, from a newer evalkit, or older than the answers.
    """
    found = read_scores(path)
    check_rows(path.parent, found.rows, sealed=found.sealed)
    return found
