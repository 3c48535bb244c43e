"""The judge that ``--judge`` names: found before a model is loaded, and opened when the first question is asked."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from evalkit import registry
from evalkit.checkpoint import Checkpoint, resolve_checkpoint
from evalkit.endpoint import JUDGE_KEY_VARIABLE, KEY_VARIABLE, Endpoint
from evalkit.errors import UserError
from evalkit.identity import digest
from evalkit.interfaces import Backend, BackendFactory, Family
from evalkit.jobs import Job
from evalkit.judging import Judge
from evalkit.options import RunSettings
from evalkit.scoring import is_judged
from evalkit.thinking import thinking_limit
from evalkit.types import Batching

from .active_run import identify_checkpoint
from .lazy_backend import LazyBackend
from .plan import family_of
from .remembered_backend import backend_factory
from .served_models import connect_model


@dataclass(frozen=True)
class JudgeSettings:
    """What the user says of the judge.

    Attributes:
        model: checkpoint folder, hub id, or name on the server; None for the server's only model.
        base_url: of its server; None for a checkpoint that is loaded here.
        other_server: the address of the server of the model that is judged; None if there is none.
    """

    model: str | None
    base_url: str | None = None
    other_server: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batching: Batching | None = None

    @classmethod
    def of(cls, settings: RunSettings) -> JudgeSettings | None:
        """The judge of a run; None without one."""
        if settings.judge is None and settings.judge_base_url is None:
            return None
        where = (settings.base_url, settings.device, settings.dtype, settings.batching)
        return cls(settings.judge, settings.judge_base_url, *where)

    @property
    def endpoint(self) -> Endpoint | None:
        """The judge's server.

        The key of another server is not sent there: with two servers, the judge's key has its own variable.
        """
        if self.base_url is None:
            return None
        own = self.other_server in (None, self.base_url)
        return Endpoint(self.base_url, keys=(JUDGE_KEY_VARIABLE, *((KEY_VARIABLE,) if own else ())))


class OpenedJudge:
    """A judge, its checkpoint found; its identity is computed, and its backend opened, when they are needed.

    Args:
        checkpoint: found by ``find_judge``.
    """

    def __init__(self, checkpoint: Checkpoint, family: Family, settings: JudgeSettings, console: Console) -> None:
        self.checkpoint = checkpoint
        self.family = family
        # The device, dtype and batches of the model that is judged are not those of a server.
        self._settings = settings if checkpoint.served is None else JudgeSettings(settings.model, settings.base_url)
        self._console = console
        self._judge: Judge | None = None
        self._backend: LazyBackend | None = None

    @property
    def judge(self) -> Judge:
        """The judge with its identity.

        Raises:
            UserError: its files cannot be read, or the device or dtype is not available.
        """
        if self._judge is None:
            settings = self._settings
            checkpoint, parts = identify_checkpoint(self.checkpoint, self._console)
            factory = self._factory
            identity = factory.identity(checkpoint, device=settings.device, dtype=settings.dtype)
            label = f"{_plain(self.checkpoint.name)}@{digest({**parts, **identity, 'family': self.family.name})}"
            self._backend = LazyBackend(factory.name, lambda: self._opened(factory, checkpoint))
            limit = thinking_limit(checkpoint, self.family, None)
            self._judge = Judge(label, self.family, self._backend, limit)
        return self._judge

    def to_dict(self) -> dict[str, Any]:
        """The entry in the manifest."""
        served = self.checkpoint.served
        where = {"location": self.checkpoint.location} if served is None else {"server": served.to_dict()}
        return {"judge": self.judge.label, "family": self.family.name, **where}

    def close(self) -> None:
        """Free its memory."""
        if self._backend is not None:
            self._backend.close()

    @property
    def _factory(self) -> BackendFactory:
        return backend_factory("hf" if self.checkpoint.served is None else "server")

    def _opened(self, factory: BackendFactory, checkpoint: Checkpoint) -> Backend:
        with self._console.status(f"loading the judge {checkpoint.name}"):
            settings = self._settings
            return factory.open(
                checkpoint, device=settings.device, dtype=settings.dtype, batching=settings.batching or Batching()
            )


def find_judge(
    settings: JudgeSettings | None, jobs: Sequence[Job], console: Console, *, named: bool = True
) -> OpenedJudge | None:
    """The judge for ``jobs``; None without one.

    Args:
        named: whether the command names the judge; one in a settings file is not needed by every command.

    Raises:
        UserError: there is no such model or server, or none of the jobs is judged.
    """
    if settings is None:
        return None
    option = "--judge" if settings.model is not None else "--judge-base-url"
    if not any(is_judged(job) for job in jobs):
        if not named:
            return None
        names = ", ".join(job.name for job in jobs)
        raise UserError(f"{option}: no answers of {names} are scored by a judge; leave it out.")
    try:
        endpoint = settings.endpoint
        if endpoint is not None:
            checkpoint, family = connect_model(registry.backends.get("server"), settings.model, endpoint, console)
        else:
            assert settings.model is not None
            checkpoint = resolve_checkpoint(settings.model)
            family = family_of(checkpoint, None, console)
    except UserError as error:
        message = str(error).replace("--base-url", "--judge-base-url").replace("--model", "--judge")
        raise UserError(message) from error
    return OpenedJudge(checkpoint, family, settings, console)


def release_memory() -> None:
    """Free the device memory of a model that nothing refers to any more."""
    gc.collect()
    torch = sys.modules.get("torch")  # without it, nothing is in a device's memory
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _plain(name: str) -> str:
    """A name for signatures, whose parts are separated by ``|``."""
    return os.path.basename(name.rstrip("/")).replace("|", "_").replace("@", "_") or "judge"  # noqa: PTH119
