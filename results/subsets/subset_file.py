"""Subset files: which samples of which splits to run, and what an estimate of the complete splits' scores needs.

JSON with one line per unit, so that diffs are readable.  It has ids and numbers, and no content of a benchmark:

    {"checksum": …, "schema": 1, "kind": "evalkit subset", "evalkit": …, "seed": 0, "tasks": {"vqav2/val": {
     "metric": …, "scorer": …, "annotations": …, "size": 214354, "scale": 100, "unit": "sample", "cost": 100,
     "method": …, "expected": {…}, "references": [[name, score], …],
     "strata": [[units, spread, [total of each covariate]], …], "largest": …,
     "skewness": [[score, skewness], …], "units": [
      [stratum, [covariates], [[sample id, its part of the score], …]],
      …
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.data import BUNDLED, bundled_root
from evalkit.errors import UserError
from evalkit.jsonl import parse, read_file
from evalkit.results.stats.clustered import Floats, Ints
from evalkit.results.stats.designs import Strata
from evalkit.results.store.files import to_json, write_atomically
from evalkit.results.store.sample_scores import number, numbers
from evalkit.results.store.seal import CHECKSUM, check_seal, sealed

SCHEMA = 1
KIND = "evalkit subset"
LARGEST_FILE = 256 << 20
"""Bytes; a file for a million samples is below that."""
ADVICE = "make it with: evalkit subset RUNS --size 100 --out FILE"


@dataclass(frozen=True)
class Expected:
    """What cross-validation over the reference runs expects, in the unit of the score; None if it was not possible.

    Attributes:
        error: standard error of the estimate.
        random: that of a random subset of equal cost.
        detectable: the smallest loss against a complete run that ``evalkit check`` finds with 80 % power.
        misfit: the mean squared residual of left-out runs over ``spread``.
        misfit_spread: its standard deviation over them.
        folds: the number of runs that were left out in turn.
    """

    error: float | None = None
    random: float | None = None
    detectable: float | None = None
    misfit: float | None = None
    misfit_spread: float | None = None
    folds: int = 0


@dataclass(frozen=True, eq=False)
class SplitSubset:
    """The subset of one split.

    Attributes:
        metric: the name of the score.
        scorer: the part of the references' signatures that scores must share (``Signature.scorer``).
        annotations: the digest of the split's questions and references.
        size: the number of samples of the complete split.
        scale: the upper end of the score's scale; None if there is none.
        unit: ``sample`` or ``image``, what was drawn.
        cost: in samples that share no image.
        references: (name, score on the complete split).
        stratum: (units,).
        covariates: (units, covariates).
        samples: (id, part of the score) of each unit's samples.
        skewness: (score, skewness of the estimate) of each different reference, of subsets that the others chose.
    """

    metric: str
    scorer: str
    annotations: str | None
    size: int
    scale: float | None
    unit: str
    cost: float
    method: str
    expected: Expected
    references: Sequence[tuple[str, float]]
    strata: Strata
    stratum: Ints
    covariates: Floats
    samples: Sequence[Sequence[tuple[str, float]]]
    skewness: Sequence[tuple[float, float]] = ()

    @cached_property
    def ids(self) -> list[str]:
        """The ids of its samples."""
        return [sample for unit in self.samples for sample, _ in unit]

    def values(self, scores: Mapping[str, float]) -> Floats:
        """(units,), the units' parts of the score, given the scores of their samples by id."""
        return np.array([sum(part * scores[sample] for sample, part in unit) for unit in self.samples])


@dataclass(frozen=True, eq=False)
class Subset:
    """A subset file; ``digest`` identifies its content."""

    seed: int
    splits: Mapping[str, SplitSubset]

    @cached_property
    def digest(self) -> str:
        """8 hex digits."""
        return hashlib.sha256(self.text().encode(errors="surrogatepass")).hexdigest()[:8]

    def text(self) -> str:
        """The content of the file."""
        about: dict[str, Any] = {"schema": SCHEMA, "kind": KIND, "seed": self.seed}
        tasks = {name: {**_head(held), "units": _units(held)} for name, held in self.splits.items()}
        about = {CHECKSUM: sealed({**about, "tasks": tasks})[CHECKSUM], **about}
        lines = [f'{to_json(about)[:-1]}, "tasks": {{']
        for place, (name, held) in enumerate(self.splits.items()):
            lines.append(f'{to_json(name)}: {to_json(_head(held))[:-1]}, "units": [')
            lines.append(",\n".join(to_json(unit) for unit in _units(held)))
            lines.append("]}" + ("," if place < len(self.splits) - 1 else ""))
        return "\n".join([*lines, "}}"]) + "\n"

    def write(self, path: Path) -> None:
        """Write the file.  Raises ``RunFailed`` if it cannot be written."""
        write_atomically(path, self.text())


def _head(held: SplitSubset) -> dict[str, Any]:
    strata = zip(held.strata.sizes, held.strata.spread, held.strata.totals, strict=True)
    return {
        "metric": held.metric, "scorer": held.scorer, "annotations": held.annotations, "size": held.size,
        "scale": held.scale, "unit": held.unit, "cost": held.cost, "method": held.method,
        "expected": asdict(held.expected), "references": [list(one) for one in held.references],
        "strata": [[int(size), float(spread), totals.tolist()] for size, spread, totals in strata],
        "largest": held.strata.largest, "skewness": [list(one) for one in held.skewness],
    }  # fmt: skip


def _units(held: SplitSubset) -> list[list[Any]]:
    each = zip(held.stratum, held.covariates, held.samples, strict=True)
    return [[int(stratum), own.tolist(), [list(one) for one in samples]] for stratum, own, samples in each]


def read_subset(path: Path, option: str = "--subset") -> Subset:
    """Read a subset file; ``tiny`` is the bundled one, of the bundled data.

    Args:
        option: what named the file, for messages.

    Raises:
        UserError: it cannot be read, is no subset file, was changed, or is from a newer evalkit.
    """
    if path == Path(BUNDLED):
        path = bundled_root().with_name("tiny-subset.json")
    try:
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{option} {path}: the file is too large to be a subset file; {ADVICE}.")
        content = parse(read_file(path), own=True)
    except OSError as error:
        raise UserError(f"{option} {path}: the file cannot be read ({error.strerror}); {ADVICE}.") from error
    except ValueError as error:
        raise UserError(f"{option} {path} is not valid JSON ({error}); {ADVICE}.") from error
    try:
        if content["kind"] != KIND:
            raise ValueError("it is of another kind")
        if _whole(content["schema"]) > SCHEMA:
            raise UserError(f"{option} {path} has schema {content['schema']}, and this evalkit reads up to {SCHEMA}; "
                            "upgrade evalkit.")  # fmt: skip
        if not check_seal(content, path, f"restore it, or {ADVICE}"):
            raise ValueError("it has no checksum")
        if not content["tasks"]:
            raise ValueError("it has no task")
        splits = {str(name): _split(held) for name, held in content["tasks"].items()}
        return Subset(_whole(content["seed"], least=None), splits)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{option} {path} is not a subset file that evalkit wrote ({error!r}); {ADVICE}.") from error


def _split(content: Mapping[str, Any]) -> SplitSubset:
    strata = content["strata"]
    columns = len(strata[0][2])
    sizes = np.array([_whole(one[0], least=1) for one in strata], dtype=np.float64)
    spread = np.array([_positive(one[1]) for one in strata])
    totals = np.array([numbers(one[2], columns) for one in strata], dtype=np.float64).reshape(len(strata), columns)
    largest = number(content["largest"])
    if largest < 0:
        raise ValueError("'largest' is negative")
    units = content["units"]
    numbered = [_whole(one[0]) for one in units]
    if max(numbered) >= len(strata):
        raise ValueError("a unit is of no stratum")
    stratum = np.array(numbered, dtype=np.int64)
    drawn = np.bincount(stratum, minlength=len(strata))
    if (drawn < 1).any() or (drawn > sizes).any():
        raise ValueError("its units are not those of its strata")
    covariates = np.array([numbers(one[1], columns) for one in units], dtype=np.float64).reshape(len(units), columns)
    samples = [[(_text(sample), number(part)) for sample, part in one[2]] for one in units]
    ids = [sample for unit in samples for sample, _ in unit]
    if not all(samples) or len(set(ids)) < len(ids) or len(ids) > _whole(content["size"]):
        raise ValueError("no samples, one twice, or too many")
    annotations, scale = content["annotations"], content["scale"]
    given = dict(content["expected"])
    folds = _whole(given.pop("folds"))
    expected = {key: None if value is None else number(value) for key, value in given.items()}
    return SplitSubset(
        _text(content["metric"]), _text(content["scorer"]), None if annotations is None else _text(annotations),
        _whole(content["size"]), None if scale is None else _positive(scale), _text(content["unit"]),
        number(content["cost"]), _text(content["method"]),
        Expected(**expected, folds=folds),
        [(_text(name), number(value)) for name, value in content["references"]],
        Strata(sizes, totals, spread, largest), stratum, covariates, samples,
        [(number(score), number(skewness)) for score, skewness in content["skewness"]],
    )  # fmt: skip


def _whole(value: Any, least: int | None = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise ValueError(f"{value!r} is not a count")
    return value


def _positive(value: Any) -> float:
    found = number(value)
    if found <= 0:
        raise ValueError(f"{value!r} is not above 0")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value
