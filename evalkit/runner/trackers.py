"""``evalkit run --log-to``: finished runs go to an experiment tracker at once, as ``evalkit export`` would log them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from evalkit.errors import RunFailed, UserError
from evalkit.installation import install_command

TRACKERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class Target:
    """A tracker, and its folder (TensorBoard) or its project (W&B), where one is named."""

    to: str
    where: str | None = None


def targets_of(given: Sequence[str]) -> list[Target]:
    """What ``--log-to`` names.  Raises ``UserError`` for an unknown tracker, or one that is not installed."""
    found = []
    for text in given:
        name, _, where = text.partition(":")
        if name not in TRACKERS:
            raise UserError(f"--log-to {text}: there are tensorboard[:FOLDER] and wandb[:PROJECT].")
        if find_spec(name) is None:  # better known before a long run than after it
            raise UserError(f"--log-to {name} needs {name}; install it with: {install_command(name)}.")
        found.append(Target(name, where or None))
    return found


def log_run(path: Path, targets: Sequence[Target], say: Callable[[str], None]) -> bool:
    """Log the run in ``path`` to every target; whether all went well.  What goes wrong is said: the run is finished."""
    good = True
    for target in targets:
        try:
            for place in _log(path, target, say):
                say(f"logged to {target.to}: {place}")
        except (UserError, RunFailed) as error:
            good = False
            say(f"not logged: {error} 'evalkit export {path} --to {target.to}' tries again.")
    return good


def _log(path: Path, target: Target, say: Callable[[str], None]) -> Sequence[Path | str]:
    from evalkit.cli.exporting import WRITERS, Job, Wanted
    from evalkit.results.leaderboard.trend import step_of
    from evalkit.results.samples.records import chosen_splits
    from evalkit.results.store.scored_run import ScoredRun

    run = ScoredRun.open(path)
    names = chosen_splits([run], ())
    if target.to == "wandb":
        return WRITERS["wandb"](Job([run], [names], path / "export", Wanted("wandb", project=target.where), say))
    out = Path(target.where) if target.where else path.parent / "tensorboard"
    # Checkpoints of one training make one curve; runs without a step have a folder each.
    place = out if step_of(run.model, run.name) is not None else out / run.name
    return WRITERS["tensorboard"](Job([run], [names], place, Wanted("tensorboard"), say))
