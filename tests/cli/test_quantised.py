"""Quantised checkpoints, made by real libraries from the bundled one, which transformers loads by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, TorchAoConfig

from evalkit.checkpoint import bundled_folder

pytestmark = pytest.mark.slow

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

COMMAND = ("run", "-t", "vqav2,refcoco/val", "--data", "tiny", "--limit", "24", "--device", "cpu")


def torchao() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def bitsandbytes() -> Any:
    pytest.importorskip("bitsandbytes")  # 43 MB, and slow to import: not among what the tests need
    return BitsAndBytesConfig(load_in_8bit=True)


@pytest.fixture
def quantised(tmp_path: Path) -> Callable[[Any], Path]:
    """Make a checkpoint, called like the bundled one, whose linear layers are 8-bit integers."""

    def make(config: Any) -> Path:
        source = bundled_folder("tiny")
        model = AutoModelForImageTextToText.from_pretrained(
            source, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32
        )
        folder = tmp_path / "packed" / "tiny"
        model.save_pretrained(folder)
        AutoProcessor.from_pretrained(source).save_pretrained(folder)
        return folder

    return make


def texts(run: Path, split: str) -> dict[str, str]:
    rows = (json.loads(line) for line in (run / f"{split}.jsonl").read_text().splitlines())
    return {row["id"]: row["text"] for row in rows}


def values(run: Path) -> dict[str, float]:
    return {row["task"]: row["value"] for row in json.loads((run / "scores.json").read_text())["results"]}


@pytest.mark.parametrize("library", [torchao, bitsandbytes])
def test_quantized_checkpoint_is_a_separate_run(
    evalkit: Evalkit, tmp_path: Path, quantised: Callable[[Any], Path], library: Callable[[], Any]
) -> None:
    packed = quantised(library())
    assert (
        1.2 * (packed / "model.safetensors").stat().st_size
        < (bundled_folder("tiny") / "model.safetensors").stat().st_size
    )
    for model in ("tiny", str(packed)):
        done = evalkit(*COMMAND, "-m", model, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    found = {run: json.loads((run / "manifest.json").read_text()) for run in (tmp_path / "runs").iterdir()}
    assert [manifest["model"]["name"] for manifest in found.values()] == ["tiny", "tiny"], "they share no folder"
    runs = {manifest["parts"]["quantization"]: run for run, manifest in found.items()}
    assert set(runs) == {None, library.__name__}
    plain, packed_run = runs[None], runs[library.__name__]
    assert found[plain]["parts"]["weights"] != found[packed_run]["parts"]["weights"]

    # By either library, all of 24 short answers and 17 of 24 boxes are the very same text; of the other boxes, a number
    # is off by a pixel or two.
    same = {
        split: sum(texts(plain, split)[key] == text for key, text in texts(packed_run, split).items())
        for split in ("vqav2.val", "refcoco.val")
    }
    assert same["vqav2.val"] >= 22
    assert 12 <= same["refcoco.val"] < 24, "the weights in use are the quantised ones"
    assert values(packed_run) == pytest.approx(values(plain), abs=5)

    done = evalkit("verify", str(packed), "--json", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "int8" in checks["dtype"]["finding"]
    assert checks["names and shapes"]["finding"] == f"quantised ({library.__name__}): checked by the forward pass"
    assert checks["forward pass"]["ok"] is True


def test_missing_library_names_the_package(
    evalkit: Evalkit, tmp_path: Path, quantised: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = quantised(torchao())
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchao"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchao", None)  # type: ignore[arg-type]
    done = evalkit(*COMMAND, "-m", str(packed), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert (
        "--model tiny: its weights are quantised (torchao), which needs a library that is not installed:" in done.stderr
    )
    assert "; pip install torchao." in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is left behind by a mistake"
