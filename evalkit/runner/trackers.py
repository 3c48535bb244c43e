"""``evalkit run --log-to``: log finished runs to an experiment tracker, as ``evalkit export`` would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from evalkit.errors import RunFailed, UserError
from evalkit.installation import install_command
from evalkit.results.export.write import WRITERS, ExportJob, ExportOptions
from evalkit.results.leaderboard.trend import step_of
from evalkit.results.samples.records import chosen_splits
from evalkit.results.store.scored_run import ScoredRun

TRACKERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class Target:
    """A tracker, and its folder (TensorBoard) or project (W&B) if one is named."""

    to: str
    where: str | None = None


def targets_of(given: Sequence[str]) -> list[Target]:
    """The trackers that ``--log-to`` names.

    Raises:
        UserError: an unknown tracker, or one that is not installed.
    """
    found = []
    for text in given:
        name, _, where = text.partition(":")
        if name not in TRACKERS:
            raise UserError(f"--log-to {text}: unknown; use tensorboard[:FOLDER] or wandb[:PROJECT].")
        if find_spec(name) is None:  # better found before a long run than after it
            raise UserError(f"--log-to {name} needs {name}; install it with: {install_command(name)}.")
        found.append(Target(name, where or None))
    return found


def log_run(path: Path, targets: Sequence[Target], announce: Callable[[str], None]) -> bool:
    """Log the run in ``path`` to every target; returns whether all succeeded.

    Failures are reported through ``announce`` only: the run itself is finished.
    """
    success = True
    for target in targets:
        try:
            for place in _log(path, target, announce):
                announce(f"logged to {target.to}: {place}")
        except (UserError, RunFailed) as error:
            success = False
            announce(f"not logged: {error} 'evalkit export {path} --to {target.to}' tries again.")
    return success


def _log(path: Path, target: Target, announce: Callable[[str], None]) -> Sequence[Path | str]:
    run = ScoredRun.open(path)
    names = chosen_splits([run], ())
    if target.to == "wandb":
        options = ExportOptions("wandb", project=target.where)
        return WRITERS["wandb"](ExportJob([run], [names], path / "export", options, announce))
    out = Path(target.where) if target.where else path.parent / "tensorboard"
    # Checkpoints of one training make one curve; runs without a step get a folder each.
    place = out if step_of(run.model, run.name) is not None else out / run.name
    return WRITERS["tensorboard"](ExportJob([run], [names], place, ExportOptions("tensorboard"), announce))
