"""Whether a checkpoint does what it should: its processor loads, and the model, run once, gives numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.model.hf.formatting import dtype_name, few, first_line, gigabytes, quiet
from evalkit.model.hf.loading import dtype_for, load_processor, load_with_report, quantization
from evalkit.model.hf.processor import Inputs
from evalkit.types import Check, Decoding, ImagePart, ImageRef, Message, Request, Size, TextPart

from .weights import Tensors

QUESTION = "What is in the image?"


def processor_check(checkpoint: Checkpoint) -> tuple[Check, Any]:
    """The processor loads; with it, where it does."""
    try:
        with quiet():
            processor = load_processor(checkpoint)
            inputs = Inputs(processor)
    except UserError as error:
        return Check("processor", False, _bare(error, checkpoint)), None
    except Exception as error:  # its files can be wrong in any way
        return Check("processor", False, f"could not be loaded: {first_line(error)}"), None
    wanted = checkpoint.config.get("image_token_id", checkpoint.config.get("image_token_index"))
    given = getattr(processor, "image_token_id", None)
    if isinstance(wanted, int) and isinstance(given, int) and wanted != given:
        said = f"an image is token {given} to it, and token {wanted} to config.json"
        return Check("processor", False, said), None
    template = "a chat template" if inputs.has_chat_template else "no chat template"
    said = f"{type(processor).__name__}, {len(inputs.tokenizer):,} tokens, {template}"
    return Check("processor", True, said), processor


class _Drawn(ImageRef):
    """An image of nothing in particular, 256 × 256 pixels; ``turned`` is another one."""

    name = "a generated image"

    def __init__(self, *, turned: bool = False) -> None:
        line, circle = Image.linear_gradient("L"), Image.radial_gradient("L")
        image = Image.merge("RGB", (line, circle, line.transpose(Image.Transpose.ROTATE_90)))
        self._image = image.transpose(Image.Transpose.ROTATE_180) if turned else image

    def size(self) -> Size:
        return self._image.size

    def load(self) -> Image.Image:
        return self._image

    def digest(self) -> str:
        raise NotImplementedError


def forward_check(
    checkpoint: Checkpoint, processor: Any, device: torch.device, dtype: str, tensors: Tensors, built: Any
) -> Check:
    """The model, loaded as in a run, gives finite logits for an image and a question, and others for another image.

    It is not tried where memory does not hold the weights.
    """
    name = "forward pass"
    began = time.monotonic()
    kind = dtype_for(checkpoint, dtype, device)
    needed = sum(tensor.nbytes for tensor in tensors.values())
    if quantization(checkpoint) is None and kind != "auto":
        needed = sum(parameter.numel() for parameter in built.parameters()) * kind.itemsize
    free = free_memory(device)
    in_dtype = "as they are" if kind == "auto" else f"in {dtype_name(kind)}"
    if free is not None and needed > free:
        return Check(
            name, None,
            f"not tried: the weights {in_dtype} take {gigabytes(needed)}, and {gigabytes(free)} of memory are free "
            f"on {device}; use another --dtype or --device",
        )  # fmt: skip
    try:
        with quiet():
            # Pickles are read as tensors only; whether 'evalkit run' reads them is told with the files.
            model, report = load_with_report(
                replace(checkpoint, allow_pickled_weights=True), device=device, dtype=dtype
            )
            if quantization(checkpoint) is None:
                model = model.to(device)
            model.eval()
            faults = unfit(report)
            if faults:
                return Check(name, False, "; ".join(faults))
            logits = [_logits(model, processor, turned=turned) for turned in (False, True)]
    except UserError as error:
        return Check(name, False, _bare(error, checkpoint))
    except Exception as error:  # that it fails, however it does, is what was to be found out
        return Check(name, False, f"{type(error).__name__}: {first_line(error)}")
    if not all(bool(torch.isfinite(found).all()) for found in logits):
        return Check(name, False, f"its logits are not finite {in_dtype} on {device}; another --dtype may help")
    if torch.equal(*logits):
        return Check(name, False, "its logits do not depend on the image")
    seconds = time.monotonic() - began
    return Check(
        name,
        True,
        f"finite logits on {device} in {dtype_name(model.dtype)}, which the image changes ({seconds:.1f} s)",
    )


def _logits(model: Any, processor: Any, *, turned: bool) -> torch.Tensor:
    """What is expected after the prompt: (vocabulary,)."""
    inputs = Inputs(processor)
    role: Any = "user" if inputs.has_chat_template else "plain"
    message = Message(role, (ImagePart(_Drawn(turned=turned)), TextPart(QUESTION)))
    prepared = inputs.prepare(inputs.plan(Request("verify", (message,), Decoding(1))))
    for _, error in prepared.failed:
        raise error
    with torch.inference_mode():
        found: torch.Tensor = model(**prepared.inputs.to(model.device, dtype=model.dtype)).logits[0, -1]
    return found.float().cpu()


def unfit(report: Mapping[str, Any]) -> list[str]:
    """What of ``from_pretrained``'s report speaks against a checkpoint, a phrase each."""
    lists = (
        ("missing", sorted(report["missing_keys"])),
        ("unexpected", sorted(report["unexpected_keys"])),
        ("misshapen", sorted(entry[0] for entry in report["mismatched_keys"])),
    )
    return [f"{len(names)} {what}: {few(names)}" for what, names in lists if names]


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on ``device``; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _bare(error: UserError, checkpoint: Checkpoint) -> str:
    return str(error).removeprefix(f"--model {checkpoint.name}: ").rstrip(".")
