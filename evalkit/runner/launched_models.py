"""The parts of ``evalkit run`` for models on servers that it starts itself: ``--backend vllm`` and ``sglang``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

from evalkit.checkpoint import Checkpoint, fetched
from evalkit.endpoint import Endpoint
from evalkit.errors import UserError
from evalkit.given_prompts import GivenPrompts
from evalkit.interfaces import BackendFactory, Family
from evalkit.jobs import build_requests
from evalkit.launching import EngineOptions, Launch
from evalkit.results.store.files import write_atomically
from evalkit.settings import Effective
from evalkit.types import Request

from .active_run import ActiveRun
from .lazy_backend import LazyBackend
from .plan import Plan, resolve_models
from .shots import shots_of

UNSUPPORTED_OPTIONS = {
    "base_url": "it starts its own servers; --backend server uses one that runs already",
    "batch_size": "the engine forms batches itself; --concurrency N limits the concurrent requests of each server",
    "max_batch_tokens": "the engine forms batches itself; --engine-arg max-num-batched-tokens=N limits them (vLLM)",
    "exact": "this does not apply to servers; --concurrency 1 sends one request at a time",
    "adapter": "start the engine with the adapter yourself, and use --backend server",
    "processor": "the engine loads the checkpoint's own",
    "pixel_limits": "the servers are started with what --min-pixels and --max-pixels need",
}
"""Options that do not apply, and why."""
CHAT_TEMPLATE = "chat_template.jinja"


def launched_models(
    factory: BackendFactory, effective: Effective, console: Console, given: GivenPrompts
) -> list[tuple[Checkpoint, Family]]:
    """The checkpoints of ``--model`` with their files here, each with its family; no server is started yet.

    Raises:
        UserError: the engine is not installed, or an option does not apply.
    """
    settings, sources = effective.settings, effective.sources
    for name, why in UNSUPPORTED_OPTIONS.items():
        if sources[name] == "command line":
            raise UserError(f"--{name.replace('_', '-')}: not with --backend {factory.name}: {why}.")
    if settings.shots_by == "similar":
        raise UserError(f"--shots-by similar: the backend {factory.name} cannot compare images; use random or fixed.")
    each = settings.gpus_per_worker
    if each is not None and (each < 1 or each != int(each)):
        raise UserError(f"--gpus-per-worker {each:g}: a server takes complete GPUs; give a whole number, at least 1.")
    endpoint = Endpoint("http://127.0.0.1/v1", settings.concurrency, settings.timeout, settings.patience)
    models = []
    for checkpoint, family in resolve_models(effective, console, given):
        with console.status(f"fetching {checkpoint.name}"):
            local = fetched(checkpoint)
        options = EngineOptions(
            endpoint, family.name, settings.engine_python, settings.engine_command, settings.engine_arg,
            settings.device, settings.dtype, None if each is None else int(each),
        )  # fmt: skip
        models.append((factory.launchable(local, options), family))
    return models


def launch_of(run: ActiveRun, plan: Plan, backend: LazyBackend) -> Launch:
    """What a run's servers are started for: the requests of all its jobs.

    Raises:
        RunFailed: the chat template cannot be written to the run folder.
    """

    def requests() -> Iterator[Request]:
        for job in plan.jobs:
            # An answer's repeats have the same prompt.
            once = replace(job, repeats=1)
            shots = shots_of(plan, job, run.settings, run.resizer, None)
            yield from (question.request for question in build_requests(once, plan.family, shots).values())

    template = None
    if run.checkpoint.chat_template is not None:
        template = (run.folder.path / CHAT_TEMPLATE).resolve()
        write_atomically(template, run.checkpoint.chat_template)
    return Launch(requests, plan.sizes, run.folder.path.resolve(), lambda line: None, template, backend.stop)
