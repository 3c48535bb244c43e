"""The hub's ``.eval_results`` files: read back by the hub's own library, and only of scores that belong there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub._eval_results import parse_eval_result_entries

from evalkit import registry
from evalkit.results.export.eval_results import eval_result_files
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scored_run import ScoredRun


def run_of(data: str = "hub", **changes: Any) -> ScoredRun:
    row = ScoreRow.from_dict({
        "task": "vqav2", "split": "val", "metric": "accuracy", "value": 84.126, "stderr": 0.1, "ci95": 0.2, "n": 214354,
        "unparsed": 0, "errors": 0, "truncated": 0, "limited": False, "signature": "vqav2:val|v1|s|n:214354", **changes,
    })  # fmt: skip
    manifest = Manifest(settings={"data": data}, model={}, cwd="/", splits={}, finished="2026-11-29T17:00:00+00:00")
    return ScoredRun(Path("runs/r"), "tiny", {row.name: row}, manifest)


def test_entry_is_read_back_by_the_hubs_library() -> None:
    (found,), left_out = eval_result_files(run_of(), ["vqav2/val"])
    assert (found.file, left_out) == ("vqav2.val.yaml", [])
    (entry,) = parse_eval_result_entries(yaml.safe_load(found.content))
    assert entry.dataset_id == registry.tasks.get("vqav2").hub
    assert (entry.task_id, entry.value, entry.date) == ("default", 84.13, "2026-11-29")
    assert entry.notes is not None
    assert "val, accuracy 84.13 ± 0.20 (95 % interval), n=214354" in entry.notes
    assert "vqav2:val|v1|s|n:214354" in entry.notes


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        ("hub", {"limited": True, "chosen": "--where 'x == 1'"}, "only a subset was scored (--where 'x == 1')"),
        ("hub", {"errors": 3}, "3 samples failed"),
        ("hub", {"value": None}, "it has no score"),
        ("tiny", {"n": 324}, "its data is not known to be that of a data set on the hub"),
        ("hub", {"task": "no_such_task"}, "its data is not known to be that of a data set on the hub"),
        ("hub", {"task": "refcoco-all", "split": "mean of 8"}, "a mean of splits"),
    ],
)
def test_other_scores_are_left_out_with_the_reason(data: str, changes: dict[str, Any], reason: str) -> None:
    run = run_of(data, **changes)
    found, (left_out,) = eval_result_files(run, list(run.rows))
    assert found == []
    assert reason in left_out


def test_file_name_stays_in_the_folder() -> None:
    run = run_of(split="../../x")
    found, _ = eval_result_files(run, list(run.rows))
    assert all("/" not in one.file for one in found)
