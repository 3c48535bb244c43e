"""A fake GPU: shapes, dtypes and devices of everything that the engine would do on one, but no numbers.

torch's fake tensors compute nothing and know everything else.  Tensors on the device are fake here and those on the CPU
are real, so that everything that synchronizes is detected: reading a number, a result whose shape depends on numbers,
and every copy between the two that is not from pinned memory or not ``non_blocking``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)


def is_fake(tensor: Any) -> bool:
    """Whether it is a tensor on the fake device."""
    return isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda"


class FakeGPU:
    """Records what would synchronize with a GPU.

    Attributes:
        synchronizations: for each one, what was called and the lines of this project that called it.
        read: number of tensors copied to the CPU asynchronously.
    """

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.synchronizations: list[str] = []
        self.read = 0
        self._pinned: set[int] = set()

    def record(self, what: str) -> None:
        """Record a synchronization here."""
        frames = [f for f in traceback.extract_stack() if "/model/" in f.filename and "/tests/" not in f.filename]
        lines = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[-4:]]
        self.synchronizations.append(f"{what} in {' < '.join(reversed(lines))}")

    def on_device(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The fake copy of a CPU tensor."""
        with self.mode:
            return torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=DEVICE)

    @contextmanager
    def active(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Make ``cuda:0`` this device while the context lasts."""
        monkeypatch.setattr(torch.cuda, "Event", lambda *_, **__: _Event())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: None)
        with ExitStack() as stack:
            stack.enter_context(_Calls(self))
            stack.enter_context(_Operations(self))
            yield

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a tensor, and mark it as pinned."""
        found = tensor.clone()
        found.pinned = True  # type: ignore[attr-defined]
        return found


class _Event:
    def record(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Calls(TorchFunctionMode):
    """Intercepts calls for which torch would need a real device before any operation."""

    def __init__(self, gpu: FakeGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, call: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(call, "__name__", "")
        first = args[0] if args else None
        real = isinstance(first, torch.Tensor) and not is_fake(first)
        if name == "pin_memory" and real:
            return self.gpu.pin(first)
        if name in ("to", "cpu") and isinstance(first, torch.Tensor):
            device, dtype, waits = _target(first, args[1:] if name == "to" else ("cpu",), kwargs)
            if real and device.type == "cuda":
                if waits or not getattr(first, "pinned", False):
                    self.gpu.record("a copy to the device")
                return self.gpu.on_device(first, dtype)
            if not real and device.type == "cpu":
                if waits:
                    self.gpu.record("a copy from the device")
                self.gpu.read += 1
                return torch.zeros(first.shape, dtype=dtype or first.dtype)
            if not real:
                with self.gpu.mode:
                    return call(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            if kwargs.pop("pin_memory", False):
                raise AssertionError("only CPU memory can be pinned")
            if name == "tensor":
                self.gpu.record("a tensor created on the device from Python numbers")
                return self.gpu.on_device(torch.tensor(*args, dtype=kwargs.get("dtype")))
            with self.gpu.mode:
                return call(*args, **kwargs)
        if kwargs.pop("pin_memory", False):
            return self.gpu.pin(call(*args, **kwargs))
        if name in ("__getitem__", "__setitem__") and is_fake(first):
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(index, list) for index in indices):
                self.gpu.record("a list as an index")
        if name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy") and is_fake(first):
            self.gpu.record(name)
        return call(*args, **kwargs)


def _target(
    tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.device, torch.dtype | None, bool]:
    """The device and dtype that ``to`` is called with, and whether it blocks."""
    dtype = kwargs.get("dtype")
    device = kwargs.get("device")
    for one in args:
        if isinstance(one, torch.dtype):
            dtype = one
        elif isinstance(one, (str, torch.device)):
            device = one
        elif isinstance(one, torch.Tensor):
            dtype, device = one.dtype, one.device
    waits = not kwargs.get("non_blocking", False)
    return torch.device(device) if device is not None else tensor.device, dtype, waits


class _Operations(TorchDispatchMode):
    """Detects synchronizations within operations: indices and sources on the CPU."""

    def __init__(self, gpu: FakeGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        if name in ("index", "index_put", "index_put_", "_unsafe_index") and is_fake(args[0]):
            for index in args[1]:
                if index is not None and not is_fake(index):
                    self.gpu.record("an index from the CPU")
                elif index is not None and index.dtype == torch.bool:
                    self.gpu.record("an index that is a mask")
        if name == "copy_" and is_fake(args[0]) != is_fake(args[1]):
            self.gpu.record("a copy across devices")
        try:
            return operation(*args, **(kwargs or {}))
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.gpu.record(f"{name}, whose result depends on numbers,")
            raise
