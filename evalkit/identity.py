"""Run identity: the inputs that determine a run's answers.  A command with an equal identity resumes the run.

It has two layers: the parts of the run, whose digest is in the folder's name, and the parts of each split, which are
compared for the splits that a run already has.  Not included are ``--limit``, batch size, device, number of workers,
and the locations of checkpoint and data: answers do not depend on them, except at near-ties in half precision.  The
text of prompts and the content of images are not either: ``evalkit.runner.resume`` compares their digests per sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from evalkit.few_shot import ShotPool
from evalkit.given_prompts import GivenPrompts, digest_of
from evalkit.interfaces import Family
from evalkit.jobs import Job
from evalkit.options import RunSettings
from evalkit.version import __version__

Parts = Mapping[str, Any]
"""The inputs by name; plain JSON values."""
SHOT_POOL = "exemplars"
"""The key of the digest of the few-shot examples' pool.  The name is from the first releases: run folders have it."""
LABELS = {
    SHOT_POOL: "few-shot examples",
    "chat_template": "chat template",
    "system": "system turn",
    "video_sampling": "sampling of videos",
}
"""What messages call a key whose name does not say it."""


def run_parts(
    checkpoint: Parts, family: Family, backend: Parts, settings: RunSettings, shots: int, given: GivenPrompts
) -> dict[str, Any]:
    """The parts that all splits of a run share; ``checkpoint`` and ``backend`` are their identities."""
    return {
        **checkpoint,
        **given.parts(),
        "family": family.name,
        "protocol": settings.protocol,
        **backend,
        "shots": f"{shots} {settings.shots_by}" if shots else "0",
        "choice": settings.choice,
        "min_pixels": settings.min_pixels,
        "max_pixels": settings.max_pixels,
        "seed": settings.seed,
        "evalkit": __version__,
    }


def split_parts(job: Job, family: Family, pool: ShotPool | None) -> dict[str, Any]:
    """The parts that belong to one split of a task; ``pool`` is where its few-shot examples come from."""
    shots = {} if pool is None else {SHOT_POOL: pool.digest()}
    template = job.given.templates.get(job.task.name)
    prompt = {} if template is None else {"prompt": digest_of(template)}
    sampling = {"video_sampling": job.video_sampling or family.video_sampling} if job.has_videos else {}
    return {
        **shots,
        **prompt,
        **sampling,
        "version": job.task.version,
        "kind": job.task.kind,
        "decoding": job.decoding(family).to_dict(),
        "annotations": job.annotations,
    }


def earlier_parts(job: Job, pool: ShotPool | None) -> dict[str, Any]:
    """Values in ``split_parts`` as earlier versions recorded them for custom task files."""
    found = {"annotations": job.earlier_annotations, SHOT_POOL: None if pool is None else pool.earlier_digest()}
    return {key: value for key, value in found.items() if value is not None}


def digest(parts: Parts) -> str:
    """A short name for ``parts``: 8 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def differences(old: Parts, new: Parts) -> list[str]:
    """What differs, one phrase per part: ``seed: 0 → 1``."""
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{LABELS.get(key, key)}: {_short(old.get(key))} → {_short(new.get(key))}" for key in changed]


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value if len(value) <= 24 else f"{value[:8]}…"  # a digest
    return json.dumps(value, sort_keys=True)
