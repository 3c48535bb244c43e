"""Linear layers with weights packed for oneDNN, on a CPU in float32.

torch's default library multiplies a matrix by one row at the speed of memory, but by 2 to 16 rows at a third of it: it
reorders the weights in every call.  oneDNN takes weights that were reordered once, through the operators that
``torch.compile`` uses.  Sums have another order, so that logits differ by rounding.

Weights are not held twice: while they are packed, the module's own are replaced by a single NaN with their shape, and
the memory of weights that are mapped from a file is given back.

Gated MLPs whose layers are packed let oneDNN apply the activation and multiply by the gate.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import sys
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import is_vision_block
from .forward_override import has_own_forward, override_forward, restore_forward
from .mlp import is_gated

log = logging.getLogger(__name__)

MADV_PAGEOUT = 21  # since Linux 5.4; older ones refuse it
ROWS = 16  # for which weights are packed; the layout is as good for any other number
LEAST_ROWS = 4  # fewer are filled up: oneDNN's kernels for one or two rows take longer than that for four
MIN_NUMBERS = 2**17  # of a weight; for smaller ones, the call itself takes too long
MIN_NUMBERS_FOR_IMAGES = 2**15  # of a weight in a vision encoder, which is multiplied by hundreds of rows


def install(model: nn.Module) -> int:
    """Pack the weights of a model's linear layers.  Returns how many were packed.

    A weight that several modules share, such as that of tied embeddings, is left alone.
    """
    users = Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))
    for_images = {layer for block in model.modules() if is_vision_block(block) for layer in block.modules()}
    count = 0
    for module in model.modules():
        least = MIN_NUMBERS_FOR_IMAGES if module in for_images else MIN_NUMBERS
        if not can_pack(module, least) or users[id(module.weight)] > 1:
            continue
        try:
            pack(module)
        except (AttributeError, RuntimeError) as error:  # torch was built without oneDNN, or has renamed its operators
            log.info("the weights of linear layers cannot be packed: %s", str(error).strip().partition("\n")[0])
            break
        count += 1
    for module in model.modules() if count else ():
        if is_gated(module) and _has_silu(module):
            layers = [packed_weight(layer) for layer in (module.gate_proj, module.up_proj, module.down_proj)]
            if all(layer is not None for layer in layers):
                override_forward(module, _gated, *layers)
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``; the weights are the same bits as before."""
    restore_forward(model, _gated)
    for module in model.modules():
        if (packed := packed_weight(module)) is not None:
            del module.forward
            module.weight.data = packed.to_dense()


def can_pack(module: Any, least: int) -> bool:
    """Whether it is a plain linear layer on a CPU in float32 with at least so many numbers in its weight."""
    if type(module) is not nn.Linear or not has_own_forward(module):
        return False
    weight = module.weight
    plain = type(weight) is nn.Parameter and type(weight.data) is Tensor
    return plain and weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= least


def pack(linear: Any) -> None:
    """Replace one layer's weight by a packed copy."""
    override_forward(linear, _forward, pack_weight(linear.weight.data, linear.bias))
    free_weight(linear)


def pack_weight(weight: Tensor, bias: Tensor | None) -> Tensor:
    """A packed copy of a weight, (outputs, inputs).

    Raises:
        AttributeError, RuntimeError: torch has no oneDNN, or has renamed its operators.
    """
    with torch.no_grad():
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
        multiply(torch.zeros(1, weight.shape[1]), packed, bias)
    return packed


def free_weight(linear: Any) -> None:
    """Give back the memory of a layer's weight, of which there is a packed copy."""
    _page_out(linear.weight.data)
    # Not an empty tensor: models look at the shape, device and dtype of weights.  Whoever reads its numbers gets NaN.
    linear.weight.data = torch.full((1, 1), torch.nan).expand(linear.weight.shape)


def _page_out(tensor: Tensor) -> None:
    """Let Linux drop a tensor's pages of a mapped file, which stays mapped as long as any tensor is a part of it.

    Nothing is lost: whoever reads them again gets them from the file.
    """
    size = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // size) * size
    end = (tensor.data_ptr() + tensor.nbytes) // size * size
    if sys.platform == "linux" and end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_PAGEOUT)


def packed_weight(module: Any) -> Tensor | None:
    """The packed weight of a layer, if it is packed."""
    override: Any = vars(module).get("forward")
    return override.args[1] if getattr(override, "func", None) is _forward else None


def gated_weights(mlp: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """The packed weights of a gated MLP's gate, up and down projections, if they are packed."""
    override: Any = vars(mlp).get("forward")
    return override.args[1:] if getattr(override, "func", None) is _gated else None


def _has_silu(mlp: Any) -> bool:
    x = torch.linspace(-6, 6, 25)
    with torch.no_grad():
        return bool(torch.equal(mlp.act_fn(x), F.silu(x)))


def _forward(linear: nn.Linear, packed: Tensor, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or torch.is_grad_enabled():
        return F.linear(x, packed.to_dense().to(x.dtype), linear.bias)
    return product(x, packed, linear.bias)


def product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """(…, inputs) times a packed weight, with any number of rows: (…, outputs)."""
    rows = x.numel() // x.shape[-1]
    if rows >= LEAST_ROWS:
        return multiply(x, packed, bias)
    return multiply(_filled(x, rows), packed, bias)[:rows].view(*x.shape[:-1], -1)


def _gated(mlp: Any, gate: Tensor, up: Tensor, down: Tensor, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or torch.is_grad_enabled():
        out: Tensor = type(mlp).forward(mlp, x)
        return out
    rows = x.numel() // x.shape[-1]
    filled = x if rows >= LEAST_ROWS else _filled(x, rows)
    found = multiply(gated_product(mlp, gate, up, filled), down, mlp.down_proj.bias)
    return found if filled is x else found[:rows].view(*x.shape[:-1], -1)


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    """``product`` for at least ``LEAST_ROWS`` rows; ``activation``: ``none`` or ``swish``."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, packed, bias, activation, [], "")
    return out


def gated_product(mlp: Any, gate: Tensor, up: Tensor, x: Tensor) -> Tensor:
    """The input of a gated MLP's down projection, for at least ``LEAST_ROWS`` rows."""
    activated = multiply(x, gate, mlp.gate_proj.bias, "swish")
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, activated, up, mlp.up_proj.bias, "mul")
    return out


def add_product(to: Tensor, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """``to + product(x, packed, bias)`` in one operation, for at least ``LEAST_ROWS`` rows."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, packed, bias, "add")
    return out


def _filled(x: Tensor, rows: int) -> Tensor:
    """``LEAST_ROWS`` rows, of which the first ``rows`` are those of ``x``."""
    flat = x.reshape(rows, -1)
    return flat.expand(LEAST_ROWS, -1) if rows == 1 else F.pad(flat, (0, 0, 0, LEAST_ROWS - rows))
