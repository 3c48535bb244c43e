"""Borrow a caller's model, for example during its training, and restore it exactly afterwards.

Nothing is assumed about what inference changes in a model.  A snapshot holds every attribute of every module,
configuration and processor part, and the random states (it is shallow: weights are referenced, not copied).  Restoring
it also removes attributes that were added.
"""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedConfig

from evalkit.errors import UserError

CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def borrowed_model(model: Any, processor: Any) -> Iterator[Any]:
    """The bare transformers model in eval mode; model, processor and random states are restored at the end.

    Args:
        model: a transformers model, or one inside PEFT, ``DistributedDataParallel`` or ``torch.compile``.

    Raises:
        UserError: the model cannot answer on its own (its weights are sharded; its adapter is a prompt).
    """
    bare = unwrapped(model)
    restore = snapshot(model, processor)
    try:
        model.eval()
        if "_original_forward" in vars(bare):  # accelerate's mixed precision; inference uses the weights' dtype
            bare.forward = bare._original_forward
        yield bare
    finally:
        restore()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # training allocates blocks of other sizes


def unwrapped(model: Any) -> Any:
    """The transformers model inside the training wrappers; layers of adapters stay in it.

    Raises:
        UserError: it cannot answer on its own.
    """
    _check_not_sharded(model)
    while True:
        if isinstance(model, (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), torch.nn.Module):  # torch.compile
            model = model._orig_mod
        elif hasattr(model, "get_base_model"):  # PEFT
            if model.active_peft_config.is_prompt_learning:
                raise UserError(
                    "the model's adapter adds to the prompt; only adapters that change layers (LoRA) can be evaluated."
                )
            model = model.get_base_model()
        else:
            return model


def _check_not_sharded(model: Any) -> None:
    sharded = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    for weight in model.parameters():
        sharded = sharded or hasattr(weight, "ds_id") or type(weight).__name__ == "DTensor"
    if sharded:
        raise UserError(
            "the model's weights are sharded over processes (FSDP, DeepSpeed ZeRO-3), so no process can answer on "
            "its own; save a checkpoint and evaluate it with 'evalkit run'."
        )


# ----------------------------------------------------------------------------------------------------------- snapshot


def snapshot(model: Any, processor: Any) -> Callable[[], None]:
    """Record the state of a model, its processor and the random generators; returns a function that restores it."""
    parts = (processor, *(getattr(processor, name, None) for name in ("tokenizer", "image_processor")))
    objects = [*model.modules(), *_configs(model), *(part for part in parts if hasattr(part, "__dict__"))]
    snapshots = [_ObjectSnapshot(one) for one in {id(one): one for one in objects}.values()]
    gradients = [(weight, weight.requires_grad) for weight in model.parameters()]
    restore_random_states = _random_states()

    def restore() -> None:
        for one in snapshots:
            one.restore()
        for weight, requires_grad in gradients:
            if weight.requires_grad != requires_grad:
                weight.requires_grad_(requires_grad)
        restore_random_states()

    return restore


class _ObjectSnapshot:
    """The attributes of an object, and the contents of those that are containers."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.attributes = dict(vars(target))
        self.contents = {name: copy.copy(v) for name, v in self.attributes.items() if type(v) in CONTAINERS}

    def restore(self) -> None:
        for name, before in self.contents.items():
            container = self.attributes[name]
            if container == before if isinstance(container, (list, set)) else _same(container, before):
                continue
            container.clear()
            if isinstance(container, list):
                container.extend(before)
            else:
                container.update(before)
        now = vars(self.target)
        if not _same(now, self.attributes):
            now.clear()
            now.update(self.attributes)


def _same(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    """Whether two dictionaries have the same keys with identical values."""
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)


def _configs(model: Any) -> list[Any]:
    """Every configuration of a model, nested ones too, each once."""
    found: dict[int, Any] = {}

    def add(candidate: Any) -> None:
        if isinstance(candidate, (PreTrainedConfig, GenerationConfig)) and id(candidate) not in found:
            found[id(candidate)] = candidate
            for value in vars(candidate).values():
                add(value)

    for module in model.modules():
        for value in vars(module).values():
            add(value)
    return list(found.values())


def _random_states() -> Callable[[], None]:
    """Record the states of the random generators in use; returns a function that restores them."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    arrays = numpy.random.get_state() if numpy is not None else None
    host = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(arrays)
        torch.set_rng_state(host)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
