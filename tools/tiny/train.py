"""Train the tiny checkpoint: ``python tools/tiny/train.py --out DIR``

Writes ``DIR/tiny`` (the end of the training) and ``DIR/tiny-early`` (a snapshot of the same run, clearly worse).

The model is transformers' Qwen2.5-VL.  Two things make it trainable on two CPU cores: several questions share one
image's prefix behind a block mask, and several images are packed into one row of tokens.  The forward pass is written
out for this layout.  Before the first step it is compared with transformers' on the same conversation, and training
stops if they differ.  The written weights are a running average of those of the last hundred steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from batches import Batches
from checkpoint import build_config, build_processor, save, train_tokenizer
from forward import Tables, check_forward, encode_images, make_tables, text_states, to_logits
from muon import Muon
from stages import STAGES, extra_weight, learning_rate
from targets import Heads
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from turns import IGNORE


def optimizers(model: Any, heads: Heads) -> list[torch.optim.Optimizer]:
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (matrices if hidden else rest).append(parameter)
    return [
        Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.AdamW(heads.parameters(), lr=1e-2, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def mean_weights(folders: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of the weights of checkpoints of one training: it often has what each of them has learned."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    states = [Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).float().state_dict() for folder in folders]
    return {name: sum(state[name] for state in states) / len(states) for name in states[0]}


def average_gradients(parameters: Sequence[torch.nn.Parameter], processes: int) -> None:
    """Replace gradients by their means over all processes."""
    if processes == 1:
        return
    there = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([grad.flatten() for grad in there])
    torch.distributed.all_reduce(flat)
    flat /= processes
    for p, mean in zip(parameters, flat.split([grad.numel() for grad in there]), strict=True):
        p.grad = mean.view_as(p)


def train(part: int, args: argparse.Namespace) -> None:
    """Train in process number ``part`` of ``args.processes``."""
    if args.processes > 1:
        meeting = f"file://{(args.out / 'meeting').absolute()}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=part, world_size=args.processes)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    device = torch.device(args.device)
    if args.start_from is None:
        processor = build_processor(train_tokenizer(640, args.seed))
    else:
        processor = Qwen2_5_VLProcessor.from_pretrained(args.start_from[0])
    model = Qwen2_5_VLForConditionalGeneration(build_config(processor.tokenizer)).float()
    tables = make_tables(model)
    gap = check_forward(model, processor, tables, args.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; forward differs from transformers' by {gap:.1e}")
    model.to(device)
    heads = Heads(model.config.text_config.hidden_size).to(device)
    tables = Tables(*(getattr(tables, f).to(device) for f in ("order", "inverse", "cos", "sin")))

    data = Batches(processor, args.seed, args.steps, part, args.processes)
    start = 0
    steppers = optimizers(model, heads)
    base = [[g["lr"] for g in o.param_groups] for o in steppers]
    state_file = args.out / "state.pt"
    if args.start_from is not None and not state_file.exists():  # the optimizers begin anew
        model.load_state_dict(mean_weights(args.start_from))
        start = args.start_step
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    if state_file.exists():  # resume: batches are a function of the step
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        average.load_state_dict(state["average"])
        for o, s in zip(steppers, state["optimizers"], strict=True):
            o.load_state_dict(s)
        start = state["step"]
        print(f"resuming at step {start}")
    loader = DataLoader(
        torch.utils.data.Subset(data, range(start, args.steps)),
        batch_size=None, num_workers=args.workers, prefetch_factor=4 if args.workers else None,
        multiprocessing_context="fork" if args.workers else None,
    )  # fmt: skip

    def losses_of(batch: dict[str, torch.Tensor], attached: bool) -> tuple[torch.Tensor, ...]:
        visual = encode_images(model, batch["patches"], tables)
        cell_targets = {name[5:]: value for name, value in batch.items() if name.startswith("cell_")}
        cells = heads(visual if attached else visual.detach(), cell_targets)
        found = text_states(model, batch, visual)
        states = found.last
        attention = -(found.attended + 1e-4).log().sum() / max(1, len(found.attended))
        times = heads.times(found.early if attached else found.early.detach(), batch["numbers"])
        located = states[batch["places"][:, 0], batch["places"][:, 1]]
        places = heads.places(located if attached else located.detach(), batch["place_boxes"])
        logits = to_logits(model, states)[:, :-1].float()
        labels, weights = batch["labels"][:, 1:], batch["weights"][:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum(), cells, places, times, attention

    step_losses = torch.compile(losses_of) if args.compile else losses_of
    began, running = time.time(), 0.0
    for step, batch in enumerate(loader, start):
        batch = {k: v.to(device) for k, v in batch.items()}
        factor = learning_rate(step, args.steps)
        for o, lrs in zip(steppers, base, strict=True):
            for g, lr in zip(o.param_groups, lrs, strict=True):
                g["lr"] = lr * factor
        with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
            # New heads would disturb trained weights: they are trained alone at first.
            attached = args.start_from is None or step >= args.start_step + 60
            loss, cells, places, times, attention = step_losses(batch, attached)
        extra = args.cell_weight * cells + args.place_weight * (step >= args.place_from) * places
        extra = extra + args.time_weight * (times + attention)
        (loss + extra_weight(step, args.steps) * extra).backward()
        average_gradients([*model.parameters(), *heads.parameters()], args.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in steppers:
            o.step()
            o.zero_grad(set_to_none=True)
        average.update_parameters(model)
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if part == 0 and step % args.log_every == 0:
            each = (time.time() - began) / (step - start + 1)
            named = {"cells": cells, "places": places, "times": times, "attention": attention}
            extras = "  ".join(f"{name} {extra.item():.4f}" for name, extra in named.items())
            print(f"step {step:5d}  answers {running:.4f}  {extras}  {each:.2f} s/step", flush=True)
        done = step + 1
        if part == 0 and done % args.snapshot_every == 0 and done < args.steps:
            save(average.module, processor, args.out / "snapshots" / f"step-{done}")
            torch.save(
                {
                    "model": model.state_dict(),
                    "heads": heads.state_dict(),
                    "average": average.state_dict(),
                    "optimizers": [o.state_dict() for o in steppers],
                    "step": done,
                },
                state_file,
            )
        if part == 0 and done == args.early_step:
            save(average.module, processor, args.out / "tiny-early")
    if part:
        return
    save(average.module, processor, args.out / "tiny")
    (args.out / "training.json").write_text(
        json.dumps({"steps": args.steps, "seed": args.seed, "seconds": round(time.time() - began), "loss": running})
    )
    print(f"trained {args.steps - start} steps in {(time.time() - began) / 60:.1f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STAGES[-1].first + STAGES[-1].cosine)
    parser.add_argument(
        "--start-from", type=Path, nargs="+",
        help="a checkpoint of this training without its optimizers' state; of several, the mean of their weights",
    )  # fmt: skip
    parser.add_argument("--start-step", type=int, default=STAGES[-1].first, help="the step of --start-from")
    parser.add_argument("--early-step", type=int, default=3000)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--snapshot-every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cell-weight", type=float, default=0.5, help="of the auxiliary loss on visual tokens, falling to 0"
    )
    parser.add_argument("--place-weight", type=float, default=2.0, help="of the auxiliary loss on answer positions")
    parser.add_argument("--time-weight", type=float, default=1.0, help="of those for times in clips")
    parser.add_argument("--place-from", type=int, default=2500, help="first step with this loss")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="that share each batch (on a busy machine)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile the step (no gain on a CPU)")
    parser.add_argument("--half", action="store_true", help="bfloat16 (slower on CPUs without instructions for it)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "meeting").unlink(missing_ok=True)
    if args.processes == 1:
        train(0, args)
    else:
        torch.multiprocessing.spawn(train, (args,), args.processes)


if __name__ == "__main__":
    main()
