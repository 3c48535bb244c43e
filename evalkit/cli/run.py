"""``evalkit run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import complete_task

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", show_default="tiny",
        help="Checkpoint folder or hub id; tiny and tiny-early are bundled. "
        "Several with commas, or a pattern: 'out/checkpoint-*'.",
    ),
]  # fmt: skip
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks", "-t", autocompletion=complete_task,
        help="Benchmarks, with commas: refcoco,vqav2; refcoco/testA is one split. "
        "'evalkit tasks' lists them. A file mine.jsonl is a task of one's own.",
    ),
]  # fmt: skip
DataRoot = Annotated[
    str | None,
    typer.Option(
        "--data", show_default="tiny for a bundled model, else $EVALKIT_DATA, else hub",
        help="Root folder of official downloads, hub, hub:MIRROR (a local copy in the hub's "
        "format), or tiny (bundled).",
    ),
]  # fmt: skip
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="Splits of every task named without one, with commas.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", help="At most this many samples per split, drawn by --seed.", show_default="all"),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch-size", "-b", metavar="auto|N", help="Samples answered at one time; auto is what suits the device.",
        show_default="auto",
    ),
]  # fmt: skip
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--max-batch-tokens", help="Tokens of prompts, text and images, computed at one time.",
        show_default="what suits the device",
    ),
]  # fmt: skip
Exact = Annotated[
    bool | None,
    typer.Option(
        "--exact", help="One sample at a time, nothing shared, through the model's own generate: slow, the reference.",
        show_default=False,
    ),
]  # fmt: skip
Device = Annotated[
    str | None,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps. Several with commas, or cuda:*: a worker on each.",
        show_default="auto: cuda, mps, cpu",
    ),
]  # fmt: skip
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor", help="Where workers are: local (those of --device), or ray (a cluster's; evalkit[ray]).",
        show_default="local",
    ),
]  # fmt: skip
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="Ray: the cluster's address; auto for the one that this machine belongs to.",
        show_default="$RAY_ADDRESS, else a cluster of this machine alone",
    ),
]  # fmt: skip
Workers = Annotated[
    int | None, typer.Option("--workers", help="Ray: how many workers.", show_default="as many as the GPUs allow")
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker", help="Ray: GPUs of a worker; above 1, one model is spread over them; 0.5 is half of one.",
        show_default="1, or 0 in a cluster without",
    ),
]  # fmt: skip
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", help="auto, float32, bfloat16 or float16.",
        show_default="auto: the checkpoint's on a GPU, float32 on CPU",
    ),
]  # fmt: skip
BackendName = Annotated[
    str | None,
    typer.Option(
        "--backend", help="What generates the answers: hf in this process, or a server (vLLM, SGLang, …).",
        show_default="hf",
    ),
]  # fmt: skip
Out = Annotated[str | None, typer.Option("--out", "-o", help="Folder that holds the runs.", show_default="runs")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="The run's folder in --out.", show_default="the model's name and the run's identity"),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random draw.", show_default="0")]
KindName = Annotated[
    str | None,
    typer.Option(
        "--kind", help="What --tasks FILE.jsonl holds: caption, vqa, document, choice or grounding.",
        show_default="the file's first line, else its fields",
    ),
]  # fmt: skip
AllowMissing = Annotated[
    bool | None,
    typer.Option(
        "--allow-missing", help="Go on where images are absent or broken; those samples fail (exit code 1).",
        show_default=False,
    ),
]  # fmt: skip
MaxErrors = Annotated[
    int | None,
    typer.Option("--max-errors", help="Stop once more samples than this have failed.", show_default="100"),
]
Fresh = Annotated[
    bool | None,
    typer.Option(
        "--fresh", help="Start the run anew (the one so far is moved aside); without it, the same command continues.",
        show_default=False,
    ),
]  # fmt: skip
RemoteCode = Annotated[
    bool | None,
    typer.Option("--trust-remote-code", help="Run the code that comes with a checkpoint.", show_default=False),
]
Pickled = Annotated[
    bool | None,
    typer.Option(
        "--allow-pickled-weights", help="Load weights that are pickles, which can execute anything.",
        show_default=False,
    ),
]  # fmt: skip
FamilyName = Annotated[
    str | None,
    typer.Option("--family", help="How the model is asked and read.", show_default="the one its config belongs to"),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol", help="Whose prompts and limits: official (the model family's own), lmms-eval or vlmevalkit.",
        show_default="official",
    ),
]  # fmt: skip
ChoiceMode = Annotated[
    str | None,
    typer.Option(
        "--choice", help="Lettered questions: generate (read the letter) or loglikelihood (rank the letters).",
        show_default="generate; for Qwen-VL under official loglikelihood, as in its report",
    ),
]  # fmt: skip
ShotCounts = Annotated[
    list[str] | None,
    typer.Option(
        "--shots", "-k", help="Exemplars before each question, with their images; several numbers make several runs.",
        show_default="0",
    ),
]  # fmt: skip
ShotsBy = Annotated[
    str | None,
    typer.Option(
        "--shots-by", help="random for each sample, fixed for all, or similar: those with the most similar images.",
        show_default="random",
    ),
]  # fmt: skip
ShotsFrom = Annotated[
    str | None,
    typer.Option(
        "--shots-from", help="Take exemplars from FILE.jsonl (as --tasks FILE.jsonl).",
        show_default="the training split",
    ),
]  # fmt: skip
MinPixels = Annotated[
    int | None,
    typer.Option("--min-pixels", help="Enlarge smaller images to this many pixels.", show_default="the checkpoint's"),
]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", help="Shrink larger images to this many pixels.", show_default="the checkpoint's"),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", help="Draw tokens at random, more evenly the higher it is; each sample by a stream of --seed.",
        show_default="0: greedy",
    ),
]  # fmt: skip
TopP = Annotated[
    float | None,
    typer.Option("--top-p", help="Draw from the likeliest tokens that make up this share.", show_default="1: all"),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", help="Draw from so many of the likeliest tokens.", show_default="0: all")
]
Beams = Annotated[
    int | None, typer.Option("--num-beams", help="Beam search of this width.", show_default="1: no beams")
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT",
        help="End an answer before this text (\\n: a line's end); may be repeated, commas do not separate.",
        show_default="the end of the turn only",
    ),
]  # fmt: skip
NewTokens = Annotated[
    int | None,
    typer.Option("--max-new-tokens", help="Tokens that an answer may have.", show_default="the protocol's"),
]
Adapter = Annotated[
    str | None, typer.Option("--adapter", help="Folder of a LoRA adapter (peft) on top of the checkpoint.")
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", help="Where the server is, http://HOST:PORT/v1; --model is then a name that it serves. Its key "
        "comes from $EVALKIT_API_KEY.", show_default="$EVALKIT_BASE_URL",
    ),
]  # fmt: skip
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency", help="At most this many requests to a server at a time; how many are good is found out.",
        show_default="128",
    ),
]  # fmt: skip
Timeout = Annotated[
    int | None, typer.Option("--timeout", help="Seconds that one request to a server may take.", show_default="600")
]
Patience = Annotated[
    int | None,
    typer.Option(
        "--patience", help="Seconds for which a server that answers nothing is waited for.",
        show_default="300, and not at all for one that is not there to begin with",
    ),
]  # fmt: skip
ProcessorFolder = Annotated[
    str | None,
    typer.Option(
        "--processor", help="Folder with the processor of the model that a server has, for the sizes of its images.",
        show_default="the released one's",
    ),
]  # fmt: skip
PixelLimits = Annotated[
    str | None,
    typer.Option(
        "--pixel-limits", metavar="sent|server",
        help="--min-pixels and --max-pixels are sent with each request, or the server was started with them.",
        show_default="sent",
    ),
]  # fmt: skip
LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to", metavar="TRACKER",
        help="Log each finished run: tensorboard[:FOLDER] or wandb[:PROJECT]; may be repeated.",
    ),
]  # fmt: skip
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be asked, in full, and run nothing; no weights are loaded.")
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Tell of progress and results on stdout, one JSON object a line; all else on stderr."),
]


def run(
    tasks: Tasks = None,
    model: Models = None,
    data: DataRoot = None,
    split: Splits = None,
    limit: Limit = None,
    batch_size: Batch = None,
    max_batch_tokens: BatchTokens = None,
    exact: Exact = None,
    device: Device = None,
    executor: Executor = None,
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    dtype: Dtype = None,
    backend: BackendName = None,
    out: Out = None,
    name: Name = None,
    seed: Seed = None,
    kind: KindName = None,
    allow_missing: AllowMissing = None,
    max_errors: MaxErrors = None,
    fresh: Fresh = None,
    trust_remote_code: RemoteCode = None,
    allow_pickled_weights: Pickled = None,
    family: FamilyName = None,
    protocol: ProtocolName = None,
    choice: ChoiceMode = None,
    shots: ShotCounts = None,
    shots_by: ShotsBy = None,
    shots_from: ShotsFrom = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    adapter: Adapter = None,
    max_new_tokens: NewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    num_beams: Beams = None,
    stop: Stop = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    patience: Patience = None,
    processor: ProcessorFolder = None,
    pixel_limits: PixelLimits = None,
    log_to: LogTo = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Evaluate checkpoints on benchmarks and print the leaderboard.

    Each model makes one run, a folder with a manifest, every answer as it arrives, the scores, and leaderboard.md and
    .csv. The same command continues a run that was stopped. Settings may also stand in evalkit.toml, or in
    pyproject.toml under [tool.evalkit].

    Exit code: 0 when every sample was answered, 1 when some failed or the run was stopped, 2 for a mistake in the
    command or its input.
    """
    given = {
        "tasks": tasks, "model": model, "data": data, "split": split, "limit": limit, "batch_size": batch_size,
        "max_batch_tokens": max_batch_tokens, "exact": exact,
        "executor": executor, "address": address, "workers": workers, "gpus_per_worker": gpus_per_worker,
        "device": device, "dtype": dtype, "backend": backend, "out": out, "name": name, "seed": seed, "kind": kind,
        "allow_missing": allow_missing, "max_errors": max_errors, "fresh": fresh,
        "trust_remote_code": trust_remote_code, "allow_pickled_weights": allow_pickled_weights,
        "family": family, "protocol": protocol, "choice": choice, "shots": shots, "shots_by": shots_by,
        "shots_from": shots_from, "min_pixels": min_pixels, "max_pixels": max_pixels, "adapter": adapter,
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k,
        "num_beams": num_beams, "stop": stop, "base_url": base_url, "concurrency": concurrency, "timeout": timeout,
        "patience": patience, "processor": processor, "pixel_limits": pixel_limits,
    }  # fmt: skip
    from evalkit.errors import UserError
    from evalkit.progress.events import telling
    from evalkit.settings import effective

    with telling(json) as events:
        chosen = effective(given, Path.cwd())
        if json and dry_run:
            raise UserError("--json tells of a run, and --dry-run runs nothing: leave one of them out.")
        from evalkit.runner.execute import execute

        code = execute(chosen, dry=dry_run, events=events, log_to=log_to or ())
    raise typer.Exit(code)
