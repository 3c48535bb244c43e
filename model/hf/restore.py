"""A model that is somebody else's, in the midst of its training, say: used for a while and given back as it was found.

Nothing is taken for granted about what answering does to a model.  Every attribute of every module, configuration and
processor part is noted before (a shallow note: weights are referred to, not copied) and put back after, those that came
in between taken away.  So are the random states.
"""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, PreTrainedConfig

from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.model.backends.hf import HFBackend

CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def borrowed(model: Any, processor: Any, open_: Callable[[Any], HFBackend]) -> Iterator[HFBackend]:
    """The backend that ``open_`` makes of the bare model, for as long as the context lasts; then all is as before.

    Args:
        model: a transformers model, or one inside PEFT, ``DistributedDataParallel`` or ``torch.compile``.

    Raises:
        UserError: the model cannot answer by itself (its weights are spread over processes; its adapter is a prompt).
    """
    inner = bare(model)
    put_back = noted(model, processor)
    try:
        model.eval()
        if "_original_forward" in vars(inner):  # accelerate's mixed precision; answers come in the weights' own dtype
            inner.forward = inner._original_forward
        backend = open_(inner)
        try:
            yield backend
        finally:
            backend.release()
    finally:
        put_back()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # the training's batches have other shapes


def bare(model: Any) -> Any:
    """The transformers model inside what training wraps it in; adapters' layers stay in it.

    Raises:
        UserError: it cannot answer by itself.
    """
    _whole(model)
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


def _whole(model: Any) -> None:
    sharded = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    for weight in model.parameters():
        sharded = sharded or hasattr(weight, "ds_id") or type(weight).__name__ == "DTensor"
    if sharded:
        raise UserError(
            "the model's weights are spread over processes (FSDP, DeepSpeed ZeRO-3), so that none can answer by "
            "itself; save a checkpoint and evaluate it with 'evalkit run'."
        )


# --------------------------------------------------------------------------------------------------------------- notes


def noted(model: Any, processor: Any) -> Callable[[], None]:
    """Note the state of a model, its processor and the random generators; the value puts it back."""
    parts = (processor, *(getattr(processor, name, None) for name in ("tokenizer", "image_processor")))
    things = [*model.modules(), *_configs(model), *(part for part in parts if hasattr(part, "__dict__"))]
    notes = [_Note(thing) for thing in {id(thing): thing for thing in things}.values()]
    wanting = [(weight, weight.requires_grad) for weight in model.parameters()]
    generators = _random()

    def put_back() -> None:
        for note in notes:
            note.put_back()
        for weight, wants in wanting:
            if weight.requires_grad != wants:
                weight.requires_grad_(wants)
        generators()

    return put_back


class _Note:
    """The attributes of an object, and what the containers among them hold."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.attributes = dict(vars(thing))
        self.inside = {name: copy.copy(v) for name, v in self.attributes.items() if type(v) in CONTAINERS}

    def put_back(self) -> None:
        for name, before in self.inside.items():
            container = self.attributes[name]
            if container == before if isinstance(container, (list, set)) else _same(container, before):
                continue
            container.clear()
            if isinstance(container, list):
                container.extend(before)
            else:
                container.update(before)
        now = vars(self.thing)
        if not _same(now, self.attributes):
            now.clear()
            now.update(self.attributes)


def _same(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    """Whether two dictionaries have the same keys with the very same values."""
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)


def _configs(model: Any) -> list[Any]:
    """Every configuration in a model, with those inside them, once each."""
    found: dict[int, Any] = {}

    def add(thing: Any) -> None:
        if isinstance(thing, (PreTrainedConfig, GenerationConfig)) and id(thing) not in found:
            found[id(thing)] = thing
            for value in vars(thing).values():
                add(value)

    for module in model.modules():
        for value in vars(module).values():
            add(value)
    return list(found.values())


def _random() -> Callable[[], None]:
    """Note the states of the random generators in use; the value puts them back."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    arrays = numpy.random.get_state() if numpy is not None else None
    host = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def put_back() -> None:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(arrays)
        torch.set_rng_state(host)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return put_back
