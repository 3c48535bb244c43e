"""Checks of a checkpoint's processor and of one forward pass of the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.model.hf.adapter import apply_adapter, read_adapter
from evalkit.model.hf.dtypes import dtype_for, quantization
from evalkit.model.hf.formatting import dtype_name, few, first_line, gigabytes, quiet
from evalkit.model.hf.loading import load_with_report
from evalkit.model.hf.preflight import check_chat_template, check_embeddings
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.hf.synthetic_image import SyntheticImage
from evalkit.types import Check, Decoding, ImagePart, Message, Request, TextPart

from .weights import Tensors

QUESTION = "What is in the image?"


def processor_check(checkpoint: Checkpoint, model: Any) -> tuple[Check, Any]:
    """Load the processor, and try its chat template and vocabulary; returns the check and the processor, or None.

    Args:
        model: the model on the meta device; None if it cannot be built.
    """
    try:
        with quiet():
            processor = load_processor(checkpoint)
            inputs = Inputs(processor)
            if inputs.has_chat_template:
                check_chat_template(inputs)
            if model is not None:
                check_embeddings(model, inputs.tokenizer)
    except UserError as error:
        return Check("processor", False, _without_prefix(error, checkpoint)), None
    except Exception as error:  # broken files raise any type of error
        return Check("processor", False, f"could not be loaded: {first_line(error)}"), None
    expected = checkpoint.config.get("image_token_id", checkpoint.config.get("image_token_index"))
    found = getattr(processor, "image_token_id", None)
    if isinstance(expected, int) and isinstance(found, int) and expected != found:
        message = f"its image token is {found}, but config.json says {expected}"
        return Check("processor", False, message), None
    template = "a chat template" if inputs.has_chat_template else "no chat template"
    summary = f"{type(processor).__name__}, {len(inputs.tokenizer):,} tokens, {template}"
    return Check("processor", True, summary), processor


def forward_check(
    checkpoint: Checkpoint, processor: Any, device: torch.device, dtype: str, tensors: Tensors, built: Any
) -> tuple[Check, Any]:
    """The model, loaded as in a run, gives finite logits that depend on the image; returns it too, or None.

    Skipped if the weights do not fit into memory.
    """
    name = "forward pass"
    began = time.monotonic()
    kind = dtype_for(checkpoint, dtype, device)
    needed = sum(tensor.nbytes for tensor in tensors.values())
    if quantization(checkpoint) is None and kind != "auto":
        needed = sum(parameter.numel() for parameter in built.parameters()) * kind.itemsize
    free = free_memory(device)
    in_dtype = "in their own dtype" if kind == "auto" else f"in {dtype_name(kind)}"
    if free is not None and needed > free:
        message = (
            f"skipped: the weights {in_dtype} take {gigabytes(needed)}, and {gigabytes(free)} of memory are free on "
            f"{device}; use another --dtype or --device"
        )
        return Check(name, None, message), None
    try:
        with quiet():
            model = _loaded(checkpoint, device, dtype)
            logits = [_logits(model, processor, rotated=rotated) for rotated in (False, True)]
    except UserError as error:
        return Check(name, False, _without_prefix(error, checkpoint)), None
    except Exception as error:  # any failure is a result of this check
        return Check(name, False, f"{type(error).__name__}: {first_line(error)}"), None
    if not all(bool(torch.isfinite(found).all()) for found in logits):
        return Check(name, False, f"the logits are not finite {in_dtype} on {device}; try another --dtype"), None
    if torch.equal(*logits):
        return Check(name, False, "the logits do not depend on the image"), None
    seconds = time.monotonic() - began
    found = f"finite logits on {device} in {dtype_name(model.dtype)}, dependent on the image ({seconds:.1f} s)"
    return Check(name, True, found), model


def _loaded(checkpoint: Checkpoint, device: torch.device, dtype: str) -> Any:
    """The model with its adapter.  Raises ``UserError`` if its tensors do not match."""
    # Pickles are read as tensors only; the check of the files says whether 'evalkit run' reads them.
    model, report = load_with_report(replace(checkpoint, allow_pickled_weights=True), device=device, dtype=dtype)
    if quantization(checkpoint) is None:
        model = model.to(device)
    if faults := mismatches(report):
        raise UserError("; ".join(faults))
    if checkpoint.adapter is not None:
        adapter = read_adapter(checkpoint.adapter, pickled=checkpoint.allow_pickled_weights)
        model = apply_adapter(model, adapter).to(model.device)
    return model.eval()


def _logits(model: Any, processor: Any, *, rotated: bool) -> torch.Tensor:
    """The logits of the first token after the prompt: (vocabulary,)."""
    inputs = Inputs(processor)
    role: Any = "user" if inputs.has_chat_template else "plain"
    message = Message(
        role, (ImagePart(SyntheticImage("a generated image", 256, 256, rotated=rotated)), TextPart(QUESTION))
    )
    prepared = inputs.prepare(inputs.plan(Request("verify", (message,), Decoding(1))))
    for _, error in prepared.failed:
        raise error
    with torch.inference_mode():
        found: torch.Tensor = model(**prepared.inputs.to(model.device, dtype=model.dtype)).logits[0, -1]
    return found.float().cpu()


def mismatches(report: Mapping[str, Any]) -> list[str]:
    """The problems in ``from_pretrained``'s loading report, one phrase each."""
    lists = (
        ("missing", sorted(report["missing_keys"])),
        ("unexpected", sorted(report["unexpected_keys"])),
        ("of a wrong shape", sorted(entry[0] for entry in report["mismatched_keys"])),
    )
    return [f"{len(names)} {what}: {few(names)}" for what, names in lists if names]


def free_memory(device: torch.device) -> int | None:
    """Free bytes on ``device``; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _without_prefix(error: UserError, checkpoint: Checkpoint) -> str:
    return str(error).removeprefix(f"--model {checkpoint.name}: ").rstrip(".")
