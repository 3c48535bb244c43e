"""Keys and values of a batch: one tensor, rows aligned at their ends.

Keys are kept after rotation, so a row's columns may be moved: its positions are its own affair, not its columns'.  What
stands before a row's beginning, or between a prefix and what was padded after it, is masked.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True)
class Shape:
    """Of one token's keys and values."""

    layers: int
    heads: int
    width: int

    @staticmethod
    def of(config: Any) -> Shape:
        """From a language model's configuration."""
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return Shape(config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, width)

    def bytes(self, dtype: torch.dtype) -> int:
        """Of one token."""
        return 2 * self.layers * self.heads * self.width * dtype.itemsize


# Rows that are moved by one copy, for which there must be memory.
TOGETHER = 8


@dataclass(frozen=True)
class Fixed:
    """A step's shapes and places, for a recording: ``rows`` and ``columns`` used, (1,) the column that is written."""

    rows: int
    columns: int
    at: torch.Tensor


class _Layer(DynamicLayer):
    """A layer's part of the tensor."""

    def __init__(self, columns: Columns, at: int) -> None:
        super().__init__()
        # Weakly: in a circle, nothing would be freed before Python's collector comes by.
        self._columns = weakref.ref(columns)
        self.place = at
        self.is_initialized = True

    @property
    def columns(self) -> Columns:
        found = self._columns()
        assert found is not None
        return found

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        whole = self.columns
        if whole.fixed is not None:
            keys, values = whole.store[self.place, :, : whole.fixed.rows].unbind(0)
            keys.index_copy_(2, whole.fixed.at, key_states)
            values.index_copy_(2, whole.fixed.at, value_states)
            return keys[:, :, : whole.fixed.columns], values[:, :, : whole.fixed.columns]
        end = whole.at + key_states.shape[-2]
        keys, values = whole.store[self.place, :, : whole.rows].unbind(0)
        keys[:, :, whole.at : end] = key_states
        values[:, :, whole.at : end] = value_states
        return keys[:, :, :end], values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        fixed = self.columns.fixed
        return self.columns.at if fixed is None else fixed.columns - 1


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU's on the device; does not wait until the device has done what it was given before."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Columns(Cache):
    """A cache over one tensor, (layers, 2, rows, heads, columns, width).

    Attributes:
        rows: how many of the tensor's rows are in use, from the first.
        at: how many columns are filled; ``step`` moves it, a forward pass does not.
        valid: (rows, columns), which columns count.
        begins: of each row, the first column that counts, as the CPU knows it: to ask ``valid`` is to wait for a GPU.
        factors: (rows,), with which factor each row's keys were rotated (Qwen-VL's dynamic NTK; elsewhere unused).
        fixed: where a step is being recorded: what holds then instead of ``rows`` and ``at``.
    """

    def __init__(self, shape: Shape, rows: int, columns: int, *, device: torch.device, dtype: torch.dtype) -> None:
        # Zeros: what is masked is still multiplied, and what memory happens to hold may be NaN.
        self.store = torch.zeros(shape.layers, 2, rows, shape.heads, columns, shape.width, device=device, dtype=dtype)
        self.valid = torch.zeros(rows, columns, dtype=torch.bool, device=device)
        self.factors = torch.ones(rows, device=device)
        self.begins = [0] * rows
        self.rows = rows
        self.at = 0
        self.fixed: Fixed | None = None
        super().__init__(layers=[_Layer(self, layer) for layer in range(shape.layers)])

    @property
    def width(self) -> int:
        """How many columns there is room for."""
        return int(self.store.shape[4])

    def put(self, rows: range, chain: Sequence[torch.Tensor], end: int) -> None:
        """Copy a chain of prefixes (as ``last`` gives them) into some rows, so that it ends before column ``end``."""
        some = slice(rows.start, rows.stop)
        for held in reversed(chain):
            start = end - held.shape[3]
            self.store[:, :, some, :, start:end] = held[:, :, None]
            self.valid[some, start:end] = True
            end = start
        self.begins[some] = [end] * len(rows)

    def step(self, columns: int) -> None:
        """Count what a forward pass has written."""
        self.at += columns

    def last(self, row: int, columns: int) -> torch.Tensor:
        """(layers, 2, heads, columns, width): a row's last columns; a view, unless it would keep much else alive."""
        found = self.store[:, :, row, :, self.at - columns : self.at]
        return found.clone() if columns < 0.8 * self.width else found

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over others; none is both moved and written over."""
        for at in range(0, len(sources), TOGETHER):
            some, others = sources[at : at + TOGETHER], targets[at : at + TOGETHER]
            start = min(self.begins[row] for row in (*some, *others))
            come, go = sent(torch.tensor([some, others]), self.store.device).unbind()
            columns = self.store[:, :, :, :, start : self.at]
            columns.index_copy_(2, go, columns.index_select(2, come))
            self.valid.index_copy_(0, go, self.valid.index_select(0, come))
            self.factors.index_copy_(0, go, self.factors.index_select(0, come))
            for source, target in zip(some, others, strict=True):
                self.begins[target] = self.begins[source]
