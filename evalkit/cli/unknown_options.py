"""Errors for unknown options, with the closest existing one, or the equivalent of another harness's option."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from evalkit.errors import UserError

SHARDING = (
    "--device cuda:0,cuda:1 puts one copy on each GPU; to spread a model over several, use --executor ray "
    "--gpus-per-worker N, or serve it and use --backend server"
)
ONE_BY_ONE = "give each setting as a separate option, for example --dtype bfloat16 --max-pixels 602112"
ELSEWHERE: Mapping[str, str] = {
    "adapter-path": "use --adapter FOLDER", "lora": "use --adapter FOLDER", "peft": "use --adapter FOLDER",
    "apply-chat-template": "chat models always get their chat template",
    "api-base": "use --backend server --base-url http://HOST:PORT/v1",
    "api-key": "set the environment variable EVALKIT_API_KEY",
    "benchmark": "use --tasks", "benchmarks": "use --tasks", "dataset": "use --tasks", "datasets": "use --tasks",
    "task": "use --tasks",
    "checkpoint": "use --model", "model-path": "use --model", "pretrained": "use --model",
    "enable-thinking": "use --thinking on, off or auto", "reasoning": "use --thinking on, off or auto",
    "gen-kwargs": ONE_BY_ONE, "model-args": ONE_BY_ONE,
    "gpus": "use --device cuda:0,cuda:1", "num-gpus": "use --device cuda:0,cuda:1", "devices": "use --device",
    "judge-model": "use --judge MODEL",
    "log-samples": "every answer is recorded in the run folder", "n-shot": "use --shots N",
    "num-fewshot": "use --shots N", "num-samples": "use --limit N", "num-repeats": "use --repeats N",
    "output": "use --out", "output-dir": "use --out", "output-path": "use --out", "work-dir": "use --out",
    "system-prompt": "use --system TEXT or --system FILE", "system-instruction": "use --system TEXT or --system FILE",
    "prompt-template": "use --prompt TASK=FILE", "post-prompt": "use --prompt TASK=FILE",
    "resume": "the same command resumes a run; --fresh starts over", "reuse": "the same command resumes a run",
    "tensor-parallel-size": SHARDING, "tp": SHARDING,
}  # fmt: skip
"""What replaces the options of other harnesses, by name."""


def check_options(args: Sequence[str], params: Sequence[Any]) -> None:
    """Check that every long option in ``args`` exists.

    Args:
        params: the command's parameters, as click describes them.

    Raises:
        UserError: an option does not exist; the message says what to use.
    """
    known = {flag for parameter in params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    with_value = {
        flag
        for parameter in params
        if parameter.param_type_name == "option" and not parameter.is_flag
        for flag in parameter.opts
    }
    is_value = False
    for argument in args:
        if argument == "--":
            return
        flag, equals, _ = argument.partition("=")
        if not is_value and flag.startswith("--") and flag not in known:
            raise UserError(f"there is no option {flag}: {_advice(flag, known)}.")
        is_value = not is_value and flag in with_value and not equals


def _advice(flag: str, known: Collection[str]) -> str:
    name = flag.removeprefix("--").replace("_", "-").lower()
    if f"--{name}" in known:
        return f"it is spelled --{name}"
    elsewhere = ELSEWHERE.get(name, "")
    named = next((word for word in elsewhere.split() if word.startswith("--")), None)
    if elsewhere and (named is None or named in known):
        return elsewhere
    # Without the dashes, which would make short names look similar.
    near = get_close_matches(name, [option.removeprefix("--") for option in known], n=2, cutoff=0.7)
    if near:
        return f"did you mean {' or '.join(f'--{option}' for option in near)}"
    return "--help lists the options"
