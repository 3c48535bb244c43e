"""``evalkit verify``: is a downloaded checkpoint whole, and does it work?"""

from __future__ import annotations

from typing import Annotated

import typer


def verify(
    checkpoint: Annotated[
        str, typer.Argument(help="As in 'evalkit run --model': a folder, a hub id, tiny or tiny-early.")
    ],
    forward: Annotated[
        bool, typer.Option("--forward/--no-forward", help="Load the model and run it once, on a generated image.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
    device: Annotated[str, typer.Option("--device", help="For the forward pass: auto, cpu, cuda, cuda:N or mps.")] = (
        "auto"
    ),
    dtype: Annotated[
        str, typer.Option("--dtype", help="For the forward pass: auto, float32, bfloat16 or float16.")
    ] = "auto",
    backend: Annotated[str, typer.Option("--backend", help="What would generate the answers.")] = "hf",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with the checkpoint.")
    ] = False,
    allow_pickled_weights: Annotated[
        bool, typer.Option("--allow-pickled-weights", help="Of a hub id, download weights that are pickles too.")
    ] = False,
) -> None:
    """Check a checkpoint of any family: its files, tensors, processor, and a forward pass.

    Weights that are pickles are looked at too, in a way that executes nothing in them (weights_only=True).

    Exit code: 0 when all is well (what was left out aside), 1 when a check fails, 2 for a mistake in the command or its
    input.
    """
    from .verifying import Wanted, execute

    wanted = Wanted(
        checkpoint, forward=forward, as_json=as_json, device=device, dtype=dtype, backend=backend,
        trust_remote_code=trust_remote_code, allow_pickled_weights=allow_pickled_weights,
    )  # fmt: skip
    raise typer.Exit(execute(wanted))
