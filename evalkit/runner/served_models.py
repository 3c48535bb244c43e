"""What ``evalkit run`` does otherwise where a server is asked: there is nothing to load, and less is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import fingerprint, registry
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import ADDRESS
from evalkit.errors import UserError
from evalkit.interfaces import BackendFactory, Family
from evalkit.jobs import Job
from evalkit.settings import Effective, RunSettings

ELSEWHERE = {
    "batch_size": "the server puts requests together; --concurrency N bounds how many are under way",
    "max_batch_tokens": "the server puts requests together; --concurrency N bounds how many are under way",
    "exact": "how a server answers is its own business; --concurrency 1 asks one at a time",
    "device": "the server decides that",
    "dtype": "the server decides that",
    "adapter": "a server loads its own adapters; give the name that it has there as --model",
    "trust_remote_code": "nothing is loaded here",
    "allow_pickled_weights": "nothing is loaded here",
}
"""Options that say how a checkpoint is loaded and run."""


def server_of(settings: RunSettings) -> BackendFactory | None:
    """The backend, if it asks a server."""
    if settings.backend == RunSettings.backend:
        return None  # which imports torch: that comes last
    factory: BackendFactory = registry.backends.get(settings.backend)
    return factory if factory.remote else None


def reached(factory: BackendFactory, effective: Effective, console: Console) -> list[tuple[Checkpoint, Family]]:
    """Every model that is named, as the server offers it, and how it is asked; the only one, where none is named.

    Raises:
        UserError: the server is not there or has no such model, or an option makes no sense with it.
    """
    settings, sources = effective.settings, effective.sources
    for name, why in ELSEWHERE.items():
        if sources[name] == "command line":
            raise UserError(f"--{name.replace('_', '-')}: {why}; leave it out.")
    endpoint = settings.endpoint
    if endpoint is None:
        raise UserError(
            f"--backend {settings.backend}: where is it? Give --base-url http://HOST:PORT/v1, or ${ADDRESS}."
        )
    named: tuple[str | None, ...] = (None,) if sources["model"] == "default" else settings.model
    found = []
    for model in named:
        with console.status(f"asking {endpoint.base_url} what it serves"):
            checkpoint = factory.connect(model, endpoint)
        checkpoint = replace(checkpoint, min_pixels=settings.min_pixels, max_pixels=settings.max_pixels)
        family, why = _family(checkpoint, settings.family)
        served = checkpoint.served
        assert served is not None
        console.print(
            f"{checkpoint.name} on {served.software} at {served.endpoint.base_url}, asked as {family.name} ({why})",
            soft_wrap=True, markup=False,
        )  # fmt: skip
        found.append((replace(checkpoint, served=replace(served, family=family.name)), family))
    return found


def _family(checkpoint: Checkpoint, wanted: str | None) -> tuple[Family, str]:
    """How a model is asked, and why so."""
    if wanted is not None:
        return registry.families.get(wanted), "--family"
    by_config = registry.family_name(checkpoint.model_type, checkpoint.name)
    if by_config is not None:
        return registry.families.get(by_config), "its config"
    by_name = family_in(checkpoint.name)
    if by_name is not None:
        return by_name, "by its name; --family names another"
    return registry.families.get("generic"), "its name says no family; --family names one"


def family_in(model: str) -> Family | None:
    """The family whose name is in a model's name, the longest of them: ``Qwen/Qwen2.5-VL-7B-Instruct``."""
    fitting = [family for family in registry.families.all() if family.matches_name(model)]
    return max(fitting, key=lambda family: len(family.name), default=None)


def unknown_sizes(jobs: Sequence[Job], family: Family, backend: Mapping[str, Any]) -> Iterator[str]:
    """What to say where boxes depend on how a server's processor resizes images, and that is not known."""
    if backend.get("pictures_known", True) or "resized" not in family.coordinates:
        return
    if any(job.task.kind == "grounding" for job in jobs):
        yield (
            f"the server does not say how it resizes images: boxes are read as if its processor were "
            f"{backend['pictures_seen_by']} (--processor FOLDER, or --min-pixels and --max-pixels, say otherwise)"
        )


def identity_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is known of what a server serves, for a run's identity.

    Where what it has loaded lies on this machine, its content counts, as it does for a checkpoint that is loaded here.
    Else what the server says it has loaded; its address is no part of that: it may come back at another.  Where it says
    nothing either, its address and the name are all that there is.
    """
    served = checkpoint.served
    assert served is not None
    said: Mapping[str, Any] = served.says
    parts: dict[str, Any] = {"server": said.get("owned_by")}
    if served.endpoint.processor is not None:  # boxes are read by it
        folder = Path(served.endpoint.processor).expanduser()
        parts["pictures_seen_by"] = fingerprint.of_checkpoint(folder).get("processor")
    if served.same_machine and served.folder is not None:
        return {**parts, **fingerprint.of_checkpoint(Path(served.folder))}
    known = {name: said[name] for name in ("root", "parent") if said.get(name)}
    if "root" not in known:
        known["base_url"] = served.endpoint.base_url
    return {**parts, "served": checkpoint.location, **known}
