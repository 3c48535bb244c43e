"""Baselines: a run's scores and answers in one small file, to commit and to check later runs against.

A baseline is JSON with one line per sample, so that diffs are readable:

    {"schema": 1, "evalkit": …, "model": …, "checksum": …, "tasks": {"refcoco/val": {
     "metric": …, "value": …, "signature": …, "annotations": …, "images": …, "samples": [
      [id, cluster, stratum or null, score or null, answer or list of answers],
      …

Where the score is a function of summed statistics, such as F1, a sample's line has these as well, and ``slopes`` of the
function stand beside ``samples``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import read_json
from evalkit.results.store.files import to_json, write_atomically
from evalkit.results.store.sample_scores import SampleScores, number, numbers
from evalkit.results.store.scored_run import ScoredRun, digest_of_images
from evalkit.results.store.seal import CHECKSUM, check_seal, sealed
from evalkit.results.subsets.subset_file import Subset
from evalkit.version import __version__

SCHEMA = 3
"""The highest: of baselines that were cut to a subset.  Files with statistics have schema 2, the others schema 1, as
earlier versions wrote them."""
KIND = "evalkit baseline"


@dataclass(frozen=True)
class BaselineSplit:
    """One split of a baseline.

    Attributes:
        answers: to each sample; several if the run asked several times.
        images: digest of the images; None if it is not known, or in older files.
        complete: the score on the complete split, if only a subset's samples are kept here.
    """

    metric: str
    value: float
    signature: str
    annotations: str | None
    sampled: SampleScores
    answers: Mapping[str, tuple[str, ...]]
    images: str | None = None
    complete: float | None = None

    @property
    def known(self) -> float:
        """The score on all the samples that the run had."""
        return self.value if self.complete is None else self.complete


@dataclass(frozen=True)
class Baseline:
    """A baseline as read from ``path``."""

    path: Path
    model: str
    tasks: Mapping[str, BaselineSplit]


def splits_of(run: ScoredRun) -> dict[str, BaselineSplit]:
    """The splits of a run.  Raises ``UserError`` if samples failed: a baseline must be complete."""
    if not run.splits:
        raise UserError(f"{run.path} has no scored task; a baseline needs one.")
    found = {}
    for name in run.splits:
        row = run.rows[name]
        if row.errors:
            raise UserError(
                f"{run.path}: {row.errors} samples of {name} failed; a baseline must be complete: "
                "run the same command again to retry them."
            )
        answers = {key: answer.texts for key, answer in run.answers(name).items()}
        sampled = run.sampled(name)
        images = digest_of_images(run.image_digests(name), sampled.ids)
        found[name] = BaselineSplit(
            row.metric, row.score, row.signature, run.annotations(name), sampled, answers, images
        )
    return found


def cut(tasks: Mapping[str, BaselineSplit], run: ScoredRun, subset: Subset) -> dict[str, BaselineSplit]:
    """The splits of a complete run with the samples of a subset only, and the complete scores.

    Raises:
        UserError: the run lacks a split or samples of the subset, or was scored otherwise than its references.
    """
    found = {}
    for name, chosen in subset.splits.items():
        held = tasks.get(name)
        if held is None:
            raise UserError(f"{run.path} has no score of {name}, which the subset has; give a run of its tasks.")
        row = run.rows[name]
        sampled = held.sampled
        if row.limited or not all(sample in sampled.place for sample in chosen.ids):
            raise UserError(f"{run.path}: only a part of {name} was run; give a complete run, or leave out --subset.")
        if row.parsed_signature.scorer.format() != chosen.scorer or held.annotations != chosen.annotations:
            raise UserError(
                f"{run.path}: {name} has other data, or was scored otherwise, than the runs that the subset was chosen "
                "from; choose again with 'evalkit subset'."
            )
        found[name] = _kept(held, run.image_digests(name), chosen.ids)
    return found


def cut_like(tasks: Mapping[str, BaselineSplit], run: ScoredRun, old: Baseline) -> dict[str, BaselineSplit]:
    """The splits of a run with the samples that ``old`` has of each, where it was cut to a subset.

    Raises:
        UserError: of a split whose complete score ``old`` has, only a part was run.
    """
    found = dict(tasks)
    for name in tasks.keys() & old.tasks.keys():
        before, row = old.tasks[name], run.rows[name]
        estimated = row.estimate is not None
        if before.complete is None and not (estimated and len(before.sampled.ids) > len(tasks[name].sampled.ids)):
            continue
        if row.limited or estimated or not all(sample in tasks[name].sampled.place for sample in before.sampled.ids):
            raise UserError(
                f"{old.path} has the complete score of {name}, of which {run.path} ran only a part; run it completely "
                "and update the baseline with that run, or give another file."
            )
        found[name] = _kept(tasks[name], run.image_digests(name), before.sampled.ids)
    return found


def _kept(held: BaselineSplit, images: Mapping[str, bytes], ids: Sequence[str]) -> BaselineSplit:
    """A complete split with some samples only, and its complete score."""
    kept = held.sampled.of(ids)
    return replace(
        held, value=kept.measured().mean, sampled=kept, complete=held.value,
        answers={sample: held.answers.get(sample, ()) for sample in ids}, images=digest_of_images(images, ids),
    )  # fmt: skip


def write_baseline(run: ScoredRun, path: Path, subset: Subset | None = None, old: Baseline | None = None) -> int:
    """Write ``path``; returns the number of samples in it.

    Args:
        subset: keep only its samples, with the complete scores.
        old: the baseline that is replaced; splits that were cut to a subset are cut to it again.

    Raises:
        UserError: samples of the run failed, it has no score, or it does not have the samples of the subset.
        RunFailed: the file cannot be written.
    """
    tasks = splits_of(run)
    if subset is not None:
        tasks = cut(tasks, run, subset)
    elif old is not None:
        tasks = cut_like(tasks, run, old)
    schema = 2 if any(held.sampled.slopes for held in tasks.values()) else 1
    if any(held.complete is not None for held in tasks.values()):
        schema = SCHEMA
    about = {"schema": schema, "kind": KIND, "evalkit": __version__, "model": run.model}
    content = {**about, "tasks": {name: {**head_of(held), "samples": rows_of(held)} for name, held in tasks.items()}}
    about[CHECKSUM] = sealed(content)[CHECKSUM]
    lines = [f'{to_json(about)[:-1]}, "tasks": {{']
    for place, (name, held) in enumerate(tasks.items()):
        lines.append(f'{to_json(name)}: {to_json(head_of(held))[:-1]}, "samples": [')
        samples = [to_json(row) for row in rows_of(held)]
        lines += [row + "," for row in samples[:-1]] + samples[-1:]
        lines.append("]}" + ("," if place < len(tasks) - 1 else ""))
    write_atomically(path, "\n".join([*lines, "}}"]) + "\n")
    return sum(len(held.sampled.ids) for held in tasks.values())


def head_of(held: BaselineSplit) -> dict[str, Any]:
    return {
        "metric": held.metric,
        "value": held.value,
        "signature": held.signature,
        "annotations": held.annotations,
        **({} if held.images is None else {"images": held.images}),
        **({} if held.complete is None else {"complete": held.complete}),
        **({"slopes": list(held.sampled.slopes)} if held.sampled.slopes else {}),
    }


def rows_of(held: BaselineSplit) -> list[list[Any]]:
    s = held.sampled
    strata: Sequence[str | None] = s.strata if s.strata is not None else [None] * len(s.ids)
    rows: list[list[Any]] = [
        [sample, cluster, stratum, value, _stored(held.answers.get(sample, ()))]
        for sample, cluster, stratum, value in zip(s.ids, s.clusters, strata, s.values, strict=True)
    ]
    if s.slopes:
        rows = [[*row, list(own)] for row, own in zip(rows, s.statistics, strict=True)]
    return rows


def _stored(answers: Sequence[str]) -> str | list[str]:
    """The answers to a sample as the file has them: one as a text, several as a list."""
    return list(answers) if len(answers) > 1 else "".join(answers)


def _read(stored: Any) -> tuple[str, ...]:
    return tuple(map(str, stored)) if isinstance(stored, list) and stored else (str(stored),)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.  Raises ``UserError`` if ``path`` is not one, is corrupt, or is from a newer evalkit."""
    advice = "make it with: evalkit baseline RUN --out FILE"
    try:
        content = read_json(path, own=True)
    except OSError as error:
        raise UserError(f"--baseline {path}: the file cannot be read ({error.strerror}); {advice}.") from error
    except ValueError as error:
        raise UserError(f"--baseline {path} is not valid JSON ({error}); {advice}.") from error
    try:
        check_seal(content, path, f"restore it, or {advice}")
        if content["kind"] != KIND:
            raise ValueError("it is of another kind")
        if content["schema"] > SCHEMA:
            raise UserError(f"--baseline {path} has schema {content['schema']}, and this evalkit reads up to {SCHEMA}; "
                            "upgrade evalkit.")  # fmt: skip
        tasks = {name: _held(held) for name, held in content["tasks"].items()}
        model = str(content["model"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"--baseline {path} is not a baseline that evalkit wrote ({error!r}); {advice}.") from error
    return Baseline(path, model, tasks)


def _held(content: Mapping[str, Any]) -> BaselineSplit:
    slopes = numbers(content.get("slopes", []), len(content.get("slopes", [])))
    corpus = all(one[3] is None for one in content["samples"])
    statistics = [numbers(one[5], len(slopes)) for one in content["samples"]] if slopes else []
    rows = [
        (str(i), str(c), s, math.nan if corpus else number(v), _read(a)) for i, c, s, v, a, *_ in content["samples"]
    ]
    if not rows or len({row[0] for row in rows}) < len(rows):
        raise ValueError("no samples, or one twice")
    strata = [row[2] for row in rows]
    digest = content["annotations"]
    sampled = SampleScores(
        [row[0] for row in rows], [row[3] for row in rows], [row[1] for row in rows],
        None if None in strata else [str(s) for s in strata], False, statistics, slopes,
    )  # fmt: skip
    return BaselineSplit(
        str(content["metric"]), number(content["value"]), str(content["signature"]),
        None if digest is None else str(digest),
        sampled.checked(number(content["value"])),
        {row[0]: row[4] for row in rows},
        None if content.get("images") is None else str(content["images"]),
        None if content.get("complete") is None else number(content["complete"]),
    )  # fmt: skip
