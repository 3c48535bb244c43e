"""The options of a run, each stated once: type, default, range, help, file key and environment variable.

The command line, the reader of ``evalkit.toml``, the checks and the documentation are all made from ``RunSettings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

from evalkit.endpoint import (
    BASE_URL_VARIABLE,
    CONCURRENCY,
    PATIENCE,
    PIXEL_LIMITS,
    PIXEL_LIMITS_SENT,
    TIMEOUT,
    Endpoint,
)
from evalkit.option import Option
from evalkit.option import option as _option
from evalkit.ranges import AT_LEAST_0, AT_LEAST_1, Range

if TYPE_CHECKING:  # --help must not import the types
    from evalkit.types import Batching, Cluster

AUTO = "auto"
THINKING = ("auto", "on", "off")
PROTOCOLS = ("official", "lmms-eval", "vlmevalkit")


@dataclass(frozen=True)
class RunSettings:
    """The settings of ``evalkit run``, in the order of its help.

    ``None`` means: not given, so that the default depends on the model, the protocol or the device.
    """

    # fmt: off
    tasks: tuple[str, ...] = _option(
        "list", (), "Common",
        "Benchmarks, comma-separated: refcoco,vqav2. One split: refcoco/testA. A .jsonl or .tsv file defines a custom "
        "task. 'evalkit tasks' lists them.", short="-t")
    model: tuple[str, ...] = _option(
        "list", ("tiny",), "Common",
        "Checkpoint folder or hub id; tiny and tiny-early are bundled. Several: comma-separated, or a pattern such as "
        "'out/checkpoint-*'.", short="-m")
    data: str | None = _option(
        "string", None, "Common",
        "Root folder of official downloads, hub, hub:MIRROR (a local copy in the hub's format), or tiny (bundled).",
        shown_default="tiny for a bundled model, else $EVALKIT_DATA, else hub", environment="EVALKIT_DATA")
    limit: int | str | None = _option(
        "share", None, "Common", "Samples per split, drawn with --seed: a number, or a percentage such as 5%.",
        shown_default="all", range=AT_LEAST_1, metavar="N|P%")
    shots: tuple[str, ...] = _option(
        "list", ("0",), "Common", "Number of few-shot examples, with their images. A list makes one run for each.",
        short="-k")
    batch_size: int | None = _option(
        "auto", None, "Common", "Samples per batch; auto adapts to the device.", short="-b", shown_default=AUTO,
        range=AT_LEAST_1, metavar="auto|N")
    device: str = _option(
        "string", AUTO, "Common", "auto, cpu, cuda, cuda:N or mps. Several (comma-separated, or cuda:*): one worker on "
        "each.", shown_default="auto (cuda, mps or cpu)")
    backend: str = _option(
        "string", "hf", "Common", "What generates the answers: hf (transformers, in this process), vllm or sglang "
        "(servers that evalkit starts), or server (one that runs already).")
    out: str = _option("string", "runs", "Common", "Folder of all run folders.", short="-o")

    family: str | None = _option(
        "string", None, "Model", "Model family: prompt format and answer parsing.", shown_default="from config.json")
    adapter: str | None = _option(
        "string", None, "Model", "Folder or hub id of a LoRA adapter (peft) for the checkpoint.")
    processor: str | None = _option(
        "string", None, "Model", "Folder or hub id of the processor, for a checkpoint without one. For a served model: "
        "its image processor, for image sizes.", shown_default="the checkpoint's, or a served model's released one")
    dtype: str = _option(
        "string", AUTO, "Model", "auto, float32, bfloat16 or float16.",
        shown_default="auto (the checkpoint's on a GPU, float32 on CPU)")
    min_pixels: int | None = _option(
        "integer", None, "Model", "Enlarge smaller images to this many pixels.", shown_default="the checkpoint's",
        range=AT_LEAST_1)
    max_pixels: int | None = _option(
        "integer", None, "Model", "Shrink larger images to this many pixels.", shown_default="the checkpoint's",
        range=AT_LEAST_1)
    trust_remote_code: bool = _option(
        "flag", False, "Model", "Run the code that comes with a checkpoint.", in_file=False)
    allow_pickled_weights: bool = _option(
        "flag", False, "Model", "Load pickled weights, which can execute arbitrary code.", in_file=False)

    split: tuple[str, ...] = _option(
        "list", (), "Data", "Splits of the tasks named without one, comma-separated.",
        shown_default="the task's default splits")
    kind: str | None = _option(
        "string", None, "Data",
        "Kind of a custom task (.jsonl, .tsv): caption, vqa, document, choice, yes_no, grounding, pointing or "
        "detection.",
        shown_default="from the file")
    where: str | None = _option(
        "string", None, "Data",
        "Run only the samples that fit an expression over their metadata: 'category == \"OCR\" and level >= 3'. "
        "'evalkit tasks NAME --columns' lists the columns.", shown_default="all", metavar="EXPRESSION")
    ids: str | None = _option(
        "string", None, "Data",
        "Run only the samples with these ids: a file with one per line, a JSON list, or a table with a column 'id'.",
        shown_default="all", metavar="FILE")
    subset: str | None = _option(
        "string", None, "Data", "Run the samples in a file of 'evalkit subset', and estimate the complete score.",
        shown_default="none", in_file=False, metavar="FILE")
    seed: int = _option("integer", 0, "Data", "Seed of every random draw.")
    allow_missing: bool = _option(
        "flag", False, "Data", "Continue when images are missing or unreadable; those samples fail (exit code 1).")

    protocol: str = _option(
        "string", "official", "Prompting",
        "Prompts and token limits to use: official (the model family's own), lmms-eval or vlmevalkit.",
        choices=PROTOCOLS)
    choice: str | None = _option(
        "string", None, "Prompting",
        "Multiple choice: generate (a letter), or loglikelihood (rank the options).",
        shown_default="generate; loglikelihood for Qwen-VL under official", choices=("generate", "loglikelihood"))
    shots_by: str = _option(
        "string", "random", "Prompting",
        "Selection of examples: random for each sample, fixed for all, or similar (most similar images).",
        choices=("random", "fixed", "similar"))
    shots_from: str | None = _option(
        "string", None, "Prompting", "Take the examples from a .jsonl or .tsv file (same formats as custom tasks).",
        shown_default="the training split")
    system: str | None = _option(
        "string", None, "Prompting", "System turn before each conversation: a text, or a file with it.",
        shown_default="none but the chat template's", metavar="TEXT|FILE")
    prompt: tuple[str, ...] = _option(
        "texts", (), "Prompting",
        "Text of a task's prompts, in a file with {question}, {options}, {hint} and others. Repeatable.",
        shown_default="the protocol's", metavar="TASK=FILE")
    chat_template: str | None = _option(
        "string", None, "Prompting", "File with the chat template (Jinja) to render conversations with.",
        shown_default="the checkpoint's", metavar="FILE")
    thinking: str = _option(
        "string", AUTO, "Prompting",
        "Whether the model is told to think before it answers (enable_thinking of chat templates): on, off or auto.",
        shown_default="auto (the chat template's own default)", choices=THINKING, metavar="|".join(THINKING))

    video_sampling: str | None = _option(
        "string", None, "Video",
        "Rule that chooses the frames of videos and their size: qwen2.5-report, qwen3-report, qwen-vl-utils-0.0.14, "
        "lmms-eval-32, vlmevalkit-64 or transformers.", shown_default="the family's", metavar="NAME")
    fps: float | None = _option(
        "number", None, "Video", "Frames per second of video, evenly spaced.",
        shown_default="2, with --max-frames or --max-video-tokens", range=Range(0, above_low=True))
    max_frames: int | None = _option(
        "integer", None, "Video", "Maximum number of frames of a video.",
        shown_default="768, with --fps or --max-video-tokens", range=Range(2))
    max_video_tokens: int | None = _option(
        "integer", None, "Video", "Maximum number of tokens of a video: its frames are shrunk to fit.",
        shown_default="no limit", range=AT_LEAST_1)

    preset: str | None = _option(
        "string", None, "Decoding",
        "Sampling preset of a model: sets the temperature and the options below, unless they are given. "
        "'evalkit tasks --presets' lists them.", shown_default="none (greedy)", metavar="NAME")
    max_new_tokens: int | None = _option(
        "integer", None, "Decoding", "Maximum number of generated tokens.", shown_default="the protocol's",
        range=AT_LEAST_1)
    temperature: float = _option(
        "number", 0.0, "Decoding",
        "Sampling temperature. Each sample has its own random stream, derived from --seed.",
        shown_default="0 (greedy)", range=AT_LEAST_0)
    top_p: float = _option(
        "number", 1.0, "Decoding", "Nucleus sampling: cumulative probability to keep.", shown_default="1 (all)",
        range=Range(0, 1, above_low=True))
    top_k: int = _option(
        "integer", 0, "Decoding", "Sample from the K most likely tokens.", shown_default="0 (all)", range=AT_LEAST_0)
    repeats: int = _option(
        "integer", 1, "Decoding",
        "Answers to each sample, from different random streams; needs a temperature. More continue a run.",
        range=AT_LEAST_1)
    presence_penalty: float = _option(
        "number", 0.0, "Decoding", "Subtracted from the logits of tokens that the answer already has.",
        shown_default="0 (none)", range=Range(-2, 2))
    repetition_penalty: float = _option(
        "number", 1.0, "Decoding",
        "Divides the logits of tokens that the prompt or the answer already has (multiplies negative ones).",
        shown_default="1 (none)", range=Range(0, above_low=True))
    num_beams: int = _option(
        "integer", 1, "Decoding", "Width of beam search.", shown_default="1 (no beams)", range=AT_LEAST_1)
    stop: tuple[str, ...] = _option(
        "texts", (), "Decoding", r"Stop sequence, such as '\n'. Repeatable; not split at commas.",
        shown_default="the end of the turn", metavar="TEXT")

    max_batch_tokens: int | None = _option(
        "integer", None, "Speed", "Token budget per prefill batch (text and image tokens).",
        shown_default="adapts to the device", range=AT_LEAST_1)
    exact: bool = _option(
        "flag", False, "Speed",
        "Reference mode: batch size 1, no prefix sharing, transformers' generate(). Slow.")

    base_url: str | None = _option(
        "string", None, "Server",
        "Address of the server, http://HOST:PORT/v1; --model is then a name that it serves. The API key comes from "
        "$EVALKIT_API_KEY.", shown_default=f"${BASE_URL_VARIABLE}", environment=BASE_URL_VARIABLE, in_file=False)
    concurrency: int = _option(
        "integer", CONCURRENCY, "Server", "Maximum concurrent requests; adapts to throughput below that.",
        range=AT_LEAST_1)
    timeout: int = _option("integer", TIMEOUT, "Server", "Time limit of one request, in seconds.", range=AT_LEAST_1)
    patience: int | None = _option(
        "integer", None, "Server", "How long to wait for an unresponsive server, in seconds.",
        shown_default=f"{PATIENCE}; 0 before the first response", range=AT_LEAST_0)
    pixel_limits: str = _option(
        "string", PIXEL_LIMITS_SENT, "Server",
        "Where --min-pixels and --max-pixels apply: sent with each request, or set when the server was started.",
        choices=PIXEL_LIMITS, metavar="|".join(PIXEL_LIMITS))
    engine_python: str | None = _option(
        "string", None, "Server", "vllm, sglang: the Python of the environment that has the engine.",
        shown_default="this one", metavar="PATH", in_file=False)
    engine_command: str | None = _option(
        "string", None, "Server",
        "vllm, sglang: command that starts the engine, such as a container; its arguments are appended.",
        shown_default="none", metavar="COMMAND", in_file=False)
    engine_arg: tuple[str, ...] = _option(
        "texts", (), "Server", "vllm, sglang: further argument of the engine. Repeatable.", shown_default="none",
        metavar="NAME[=VALUE]", in_file=False)

    judge: str | None = _option(
        "string", None, "Judge",
        "Model that judges answers, for benchmarks that need one: checkpoint folder, hub id, bundled name, or with "
        "--judge-base-url a name on the server. Decodes greedily.", shown_default="none")
    judge_base_url: str | None = _option(
        "string", None, "Judge",
        "Address of the judge's server, http://HOST:PORT/v1. Its API key comes from $EVALKIT_JUDGE_API_KEY, else from "
        "$EVALKIT_API_KEY unless --base-url names another server.", shown_default="none: loaded here", in_file=False)

    executor: str = _option(
        "string", "local", "Cluster", "Where workers run: local, or ray (needs the extra 'ray').",
        choices=("local", "ray"))
    address: str | None = _option(
        "string", None, "Cluster", "Ray: address of the cluster; auto: the one that this machine belongs to.",
        shown_default="$RAY_ADDRESS, else a local cluster", in_file=False)
    workers: int | None = _option(
        "integer", None, "Cluster", "Ray: number of workers.", shown_default="as many as the GPUs allow",
        range=AT_LEAST_1)
    gpus_per_worker: float | None = _option(
        "number", None, "Cluster",
        "Ray, vllm, sglang: GPUs per worker or server. >1 shards the model; 0.5 shares a GPU (Ray).",
        shown_default="Ray: 1, or 0 without GPUs; else as few as hold the model", range=AT_LEAST_0)

    name: str | None = _option(
        "string", None, "Output", "Name of the run folder in --out.", shown_default="MODEL-IDENTITY")
    fresh: bool = _option(
        "flag", False, "Output", "Start a new run and move the existing one to .replaced/, instead of resuming it.")
    max_errors: int = _option(
        "integer", 100, "Output", "Maximum number of failed samples before the run stops.", range=AT_LEAST_0)
    # fmt: on

    @property
    def endpoint(self) -> Endpoint | None:
        """The server, if one is named."""
        if self.base_url is None:
            return None
        return Endpoint(
            self.base_url, self.concurrency, self.timeout, self.patience, self.processor, self.pixel_limits
        )  # fmt: skip

    @property
    def batching(self) -> Batching:
        """How requests are batched."""
        from evalkit.types import Batching

        return Batching(self.batch_size, self.max_batch_tokens, self.exact)

    @property
    def cluster(self) -> Cluster | None:
        """The Ray cluster, with ``--executor ray``."""
        if self.executor != "ray":
            return None
        from evalkit.types import Cluster

        return Cluster(self.address, self.workers, self.gpus_per_worker)


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {f.name: Option(name=f.name, default=f.default, **f.metadata) for f in fields(RunSettings)}
)
"""Every option by its name."""

NEVER_FROM_FILES = (*(name for name, option in OPTIONS.items() if not option.in_file), "server", "api_key")
"""Keys that a settings file may not have: it can come with somebody else's repository.  The last two
are no options, but likely guesses."""
