"""The parts of ``evalkit run`` that differ for models on a server: nothing is loaded, and less is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import fingerprint, registry
from evalkit.checkpoint import Checkpoint, local_processor
from evalkit.endpoint import BASE_URL_VARIABLE, Endpoint, ServedModel
from evalkit.errors import UserError
from evalkit.given_prompts import GivenPrompts
from evalkit.interfaces import BackendFactory, Family
from evalkit.jobs import Job
from evalkit.options import RunSettings
from evalkit.settings import Effective
from evalkit.types import LOCATED

UNSUPPORTED_OPTIONS = {
    "batch_size": "the server forms batches itself; --concurrency N limits the concurrent requests",
    "max_batch_tokens": "the server forms batches itself; --concurrency N limits the concurrent requests",
    "exact": "this does not apply to servers; --concurrency 1 sends one request at a time",
    "device": "the server chooses it",
    "dtype": "the server chooses it",
    "adapter": "a server loads its own adapters; give the adapter's name on the server as --model",
    "trust_remote_code": "a server loads its checkpoints itself",
    "allow_pickled_weights": "a server loads its checkpoints itself",
}
"""Options that do not apply to models on a server, and why."""


def server_backend(settings: RunSettings) -> BackendFactory | None:
    """The backend if it sends requests to servers, those that it starts itself included; else None."""
    if settings.backend == RunSettings.backend:
        return None  # importing it imports torch, which is left for later
    factory: BackendFactory = registry.backends.get(settings.backend)
    return factory if factory.remote or factory.launches else None


def connect_models(
    factory: BackendFactory, effective: Effective, console: Console, given: GivenPrompts
) -> list[tuple[Checkpoint, Family]]:
    """The models of ``--model`` on the server, each with its family; without ``--model``, the server's only model.

    Raises:
        UserError: no server answers, it does not serve a model, or an option does not apply to servers.
    """
    settings, sources = effective.settings, effective.sources
    for name, why in UNSUPPORTED_OPTIONS.items():
        if sources[name] == "command line":
            raise UserError(f"--{name.replace('_', '-')}: {why}; leave out this option.")
    if given.chat_template is not None:
        raise UserError(
            "--chat-template: a server renders its prompts itself; start it with the template (vLLM: --chat-template "
            "FILE), and leave this option out."
        )
    endpoint = settings.endpoint
    if endpoint is None:
        raise UserError(
            f"--backend {settings.backend}: no server given; set --base-url http://HOST:PORT/v1 or "
            f"${BASE_URL_VARIABLE}."
        )
    named: tuple[str | None, ...] = (None,) if sources["model"] == "default" else settings.model
    models = []
    for model in named:
        checkpoint, family = connect_model(factory, model, endpoint, console, settings.family)
        checkpoint = replace(checkpoint, min_pixels=settings.min_pixels, max_pixels=settings.max_pixels)
        models.append((checkpoint, family))
    return models


def connect_model(
    factory: BackendFactory, model: str | None, endpoint: Endpoint, console: Console, wanted: str | None = None
) -> tuple[Checkpoint, Family]:
    """A model on a server with its family, ``wanted`` or found; without a name, the server's only model.

    Raises:
        UserError: no server answers, or it does not serve the model.
    """
    with console.status(f"looking for models at {endpoint.base_url}"):
        checkpoint = factory.connect(model, endpoint)
    served = checkpoint.served
    assert served is not None
    family, why = _family(checkpoint, served, wanted)
    console.print(
        f"{checkpoint.name} on {served.software} at {served.endpoint.base_url}, family {family.name} ({why})",
        soft_wrap=True,
    )  # fmt: skip
    by_name = map(family.prompt_end, (*served.lineage, checkpoint.name))
    served = replace(
        served, family=family.name, family_guessed=why.startswith("guessed"),
        prompt_end=served.prompt_end or next(filter(None, by_name), ""),
    )  # fmt: skip
    return replace(checkpoint, served=served), family


def _family(checkpoint: Checkpoint, served: ServedModel, wanted: str | None) -> tuple[Family, str]:
    """A model's family, and where that comes from.

    The checkpoint that the server says it has loaded counts more than the name under which it offers it.
    """
    if wanted is not None:
        return registry.families.get(wanted), "--family"
    by_config = registry.family_name(checkpoint.model_type, checkpoint.name)
    if by_config is not None:
        return registry.families.get(by_config), "from its config"
    for loaded in served.lineage:
        family = family_in(loaded)
        if family is not None:
            return family, f"the server has loaded {loaded}"
    by_name = family_in(checkpoint.name)
    if by_name is not None:
        return by_name, "guessed from its name; override with --family"
    return registry.families.get("generic"), "guessed: no family matches its name; set --family"


def family_in(model: str) -> Family | None:
    """The family whose name is in a model's name, the longest of them: ``Qwen/Qwen2.5-VL-7B-Instruct``."""
    fitting = [family for family in registry.families.all() if family.matches_name(model)]
    return max(fitting, key=lambda family: len(family.name), default=None)


def warn_of_guessed_family(jobs: Sequence[Job], family: Family, checkpoint: Checkpoint) -> Iterator[str]:
    """A warning for tasks whose answers are in the coordinates of a family that was guessed."""
    served = checkpoint.served
    names = [job.name for job in jobs if job.task.kind in LOCATED]
    if served is not None and served.family_guessed and names:
        yield (
            f"warning: {', '.join(names)}: the coordinates of {checkpoint.name} are parsed as {family.coordinates} "
            f"(family {family.name}), but this family was guessed from the model's name. If it is wrong, so are these "
            "scores; set --family."
        )


def warn_of_unknown_sizes(jobs: Sequence[Job], family: Family, backend: Mapping[str, Any]) -> Iterator[str]:
    """Warnings for tasks whose coordinates depend on how the server resizes images, if that is unknown."""
    # Run folders keep these keys, from when images were called pictures.
    if backend.get("pictures_known", True) or "resized" not in family.coordinates:
        return
    if any(job.task.kind in LOCATED for job in jobs):
        yield (
            f"the server does not report how it resizes images; coordinates are parsed as for "
            f"{backend['pictures_seen_by']}. If that is wrong, give --processor FOLDER, or --min-pixels "
            "and --max-pixels"
        )


def identity_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """A served model's part of the run identity.

    If the loaded checkpoint is on this machine, its content counts, as for a checkpoint loaded here.  Otherwise the
    checkpoint that the server reports counts, but not the server's address, which may change.  If it reports none, its
    address and the model's name count.
    """
    served = checkpoint.served
    assert served is not None
    entry: Mapping[str, Any] = served.says
    parts: dict[str, Any] = {"server": entry.get("owned_by")}
    if served.endpoint.processor is not None:  # boxes are parsed with it; the key is kept for earlier runs
        parts["pictures_seen_by"] = fingerprint.of_processor(Path(local_processor(served.endpoint.processor)))
    if served.same_machine and served.folder is not None:
        # Only an engine that evalkit starts is told whether it may load pickled weights, or run the checkpoint's code.
        pickled, code = checkpoint.allow_pickled_weights, checkpoint.trust_remote_code
        return {**parts, **fingerprint.of_checkpoint(Path(served.folder), pickled=pickled, code=code)}
    known = {name: entry[name] for name in ("root", "parent") if entry.get(name)}
    if "root" not in known:
        known["base_url"] = served.endpoint.base_url
    return {**parts, "served": checkpoint.location, **known}
