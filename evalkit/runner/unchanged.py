"""Complete runs in which nothing has changed: their scores are shown, and not computed again.

When a run is complete, the digests of all that its scores follow from are remembered in the user's cache folder: its
identity and settings, every sample, the software, the answers, and the files of the images, by what changes when they
are written.  The same command later compares them.  If one differs, it looks at every answer, as after an interruption.

Nothing in the run folder is trusted for this: a received folder has nothing here, so its answers are scored.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evalkit.errors import UserError
from evalkit.file_task import FileTask
from evalkit.fingerprint import stamp_of_files
from evalkit.jobs import Job, Question
from evalkit.options import RunSettings
from evalkit.progress.counters import JobProgress
from evalkit.progress.running_score import RunningScore
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import verified_scores
from evalkit.results.store.seal import digest_of_file
from evalkit.scoring import is_judged
from evalkit.software import digest_of_software
from evalkit.task_groups import MEANS
from evalkit.types import Media, Sample
from evalkit.user_cache import Remembered, digest_of_value

from .plan import Plan

CHUNK = 1 << 20
"""Bytes that are hashed at once."""


@dataclass(frozen=True)
class UnchangedRun:
    """What a complete run shows again.

    Attributes:
        rows: of ``scores.json``: those of the jobs in order, then means of them.
        progress: of each job, by name; all answers are from before.
        reasons: why nearly no answer could be parsed, by job; without those where it is not so.
    """

    rows: Sequence[ScoreRow]
    progress: Mapping[str, JobProgress]
    reasons: Mapping[str, str]


class Proof:
    """Finds out whether a run is complete and unchanged, and remembers when one is.

    Args:
        parts: the run identity; ``splits`` each split's part of it, by job.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder, settings: RunSettings, parts: Mapping[str, Any], splits: Mapping[str, Any]
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._inputs: Mapping[str, Any] = {"settings": asdict(settings), "parts": parts, "splits": splits}
        self._store = Remembered("complete")
        self._key: Mapping[str, Any] | None = None
        self._media: dict[str, Sequence[str]] = {}
        self._stamps: dict[str, str | None] = {}
        self.valid = True  # until something is announced that is found by looking at the answers

    def unchanged(self) -> UnchangedRun | None:
        """The run's scores if it is complete and nothing has changed; else None."""
        if not (self._folder.path / "scores.json").is_file() or (key := self._of_inputs()) is None:
            return None
        found = self._store.get(key)
        if found is None or (rows := scored_rows(self._folder, self._plan.jobs)) is None:
            return None
        if found["digests"] != digests_of(self._folder, self._plan.jobs, rows):
            return None
        if stamp_of_files(_unpacked(found["media"])) != found["stamp"]:
            return None
        return UnchangedRun(
            rows,
            {job.name: _progress(job, found["progress"][job.name]) for job in self._plan.jobs},
            found["reasons"],
        )

    def note_questions(self, job: Job, questions: Iterable[Question]) -> None:
        """Note the files of the images of ``job``, before they are read."""
        requests = (question.request for question in questions)
        found = {media.origin for request in requests for media in (*request.images, *request.videos)}
        if None not in found:
            paths = sorted(path for path in found if path is not None)
            self._media[job.name], self._stamps[job.name] = paths, stamp_of_files(paths)

    def remember(self, progress: Mapping[str, JobProgress], reasons: Mapping[str, str]) -> None:
        """Remember that the run is complete, if what its scores follow from is all known.

        Args:
            progress: the last state of each job, by name.
            reasons: see ``UnchangedRun``.
        """
        names = [job.name for job in self._plan.jobs]
        if not self.valid or any(self._stamps.get(name) is None or name not in progress for name in names):
            return
        media = sorted({path for name in names for path in self._media[name]})
        stamp = stamp_of_files(media)
        # Of each job, they were noted before its images were read.
        unread = any(stamp_of_files(self._media[name]) != self._stamps[name] for name in names)
        if (
            stamp is None
            or unread
            or (key := self._of_inputs()) is None
            or (rows := scored_rows(self._folder, self._plan.jobs)) is None
        ):
            return
        value = {
            "digests": digests_of(self._folder, self._plan.jobs, rows),
            "media": _packed(media),
            "stamp": stamp,
            "progress": {name: _kept(progress[name]) for name in names},
            "reasons": dict(reasons),
        }
        self._store.put(key, value)

    def _of_inputs(self) -> Mapping[str, Any] | None:
        """Everything that the scores follow from but answers and images; None if it is not all known."""
        if self._key is None:
            pools = {name: digest_of_samples(pool.samples) for name, pool in self._plan.pools.items()}
            common = None if None in pools.values() else inputs_of(self._folder, self._plan.jobs)
            if common is not None:
                self._key = {**self._inputs, **common, "pools": pools, "label": self._plan.label}
        return self._key


def scored_rows(folder: RunFolder, jobs: Sequence[Job]) -> Sequence[ScoreRow] | None:
    """The rows of the jobs and of the means over them; None if ``scores.json`` is not that of the answers now.

    None too if a sample failed, or a split could not be scored.
    """
    path = folder.path / "scores.json"
    try:
        every = {row.name: row for row in verified_scores(path).rows} if path.is_file() else {}
    except UserError:
        return None
    names = [job.name for job in jobs]
    groups = [group for group, members in MEANS.items() if set(members) <= set(names)]
    means = [row for row in every.values() if row.task in groups]
    if any(name not in every for name in names):
        return None
    rows = [*(every[name] for name in names), *means]
    return rows if all(row.failure is None and not row.errors for row in rows) else None


def digests_of(folder: RunFolder, jobs: Sequence[Job], rows: Sequence[ScoreRow]) -> dict[str, Any]:
    """The digests of the rows, and of the files of answers, of scores and for official servers."""
    paths = [folder.journal_path(job.task.name, job.split) for job in jobs]
    paths += [folder.scores_path(row.task, row.split) for row in rows if row.scores is not None]
    paths += [folder.path / row.submission for row in rows if row.submission]
    return {
        "rows": digest_of_value([row.to_dict() for row in rows]),
        "files": {path.name: digest_of_file(path) for path in paths},
    }


def inputs_of(folder: RunFolder, jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The samples, the software, and how the answers to each job are scored; None if it is not all known."""
    if any(is_judged(job) for job in jobs):  # a judge's verdicts can be asked for again
        return None
    samples = {job.name: digest_of_samples(job.samples) for job in jobs}
    if None in samples.values():
        return None
    return {
        "folder": str(folder.path.resolve()),
        "software": digest_of_software(),
        "samples": samples,
        "jobs": {job.name: _of_job(job) for job in jobs},
    }


def _of_job(job: Job) -> dict[str, Any]:
    """What decides how answers to a job are scored, beside its samples and the identity."""
    return {
        "metric": job.metric, "rule": job.rule, "reading": job.reading, "protocol": job.protocol, "choice": job.choice,
        "version": job.task.version, "kind": job.task.kind, "prompting": job.prompting,
        "file": job.task.digest if isinstance(job.task, FileTask) else None,
        "limited": job.limited, "repeats": job.repeats, "all": len(job.all_samples),
    }  # fmt: skip


def _kept(progress: JobProgress) -> dict[str, Any]:
    """The parts of a job's last state that a later command shows."""
    score = None if progress.score is None else asdict(progress.score)
    return {"unparsed": progress.unparsed, "score": score, "unit": progress.unit}


def _progress(job: Job, kept: Mapping[str, Any]) -> JobProgress:
    """The state of a job of which every answer is from before."""
    score = None if kept["score"] is None else RunningScore(**kept["score"])
    count = job.answers
    return JobProgress(
        total=count, kept=count, done=count, unparsed=kept["unparsed"], errors=0, tokens=0, seconds=0.0, left=None,
        by_tokens=False, score=score, memory=None, unit=kept["unit"],
    )  # fmt: skip


def _packed(paths: Sequence[str]) -> list[list[Any]]:
    """Sorted paths by folder: ``[folder, [name, …]]``."""
    found: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        found.setdefault(folder + slash, []).append(name)
    return [[folder, names] for folder, names in found.items()]


def _unpacked(packed: Sequence[Sequence[Any]]) -> list[str]:
    return sorted(folder + name for folder, names in packed for name in names)


def digest_of_samples(samples: Iterable[Sample]) -> str | None:
    """A digest of everything in samples but the content of their images and videos, which are named.

    None if that is not possible: an image or a video is in no file of its own, or a value is of an unknown kind.
    """
    state = hashlib.sha256()
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 5)
    pickler.fast = True  # equal values give equal bytes, whether or not they are one object
    try:
        for sample in samples:
            pickler.dump(_plain(sample))
            if buffer.tell() > CHUNK:
                state.update(buffer.getvalue())
                buffer.seek(0)
                buffer.truncate()
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError, _Unknown):
        return None
    state.update(buffer.getvalue())
    return state.hexdigest()[:32]


class _Unknown(Exception):
    """A reference to something that is in no file of its own."""


def _plain(s: Sample) -> tuple[Any, ...]:
    images = tuple(_key(image) for image in s.images)
    content = tuple(part if isinstance(part, str) else _key(part) for part in s.content)
    options = tuple(part if isinstance(part, str) else _key(part) for part in s.options)
    videos = tuple(_key(video) for video in s.videos)
    turns = tuple((turn.role, turn.text()) for turn in s.turns)
    media = tuple(_key(medium) for medium in (*s.all_images, *s.all_videos)) if turns else ()
    return s.id, images, s.text, s.references, s.cluster, options, dict(s.meta), content, s.kind, videos, turns, media


def _key(media: Media) -> tuple[str, str]:
    if media.origin is None:
        raise _Unknown
    return media.origin, media.key
