"""Throughput of evalkit's ``hf`` backend and its alternatives, on the same samples, model and machine.

    python benchmarks/throughput.py                      # CPU: 30 million parameters, fp32; under nine minutes
    python benchmarks/throughput.py --device cuda        # a GPU: Qwen2.5-VL 7B's size, bf16; under nine minutes
    python benchmarks/throughput.py --only vqav2 --ablate
    python benchmarks/throughput.py --lmms-eval /path/to/its/python
    python benchmarks/throughput.py --vllm /path/to/its/python       # or the URL of a server with these weights
    python benchmarks/throughput.py --vllm PYTHON --vllm-as all-cores --vllm-as default-cores --vllm-as in-process

(a) ``model.generate`` one sample at a time; (b) ``model.generate`` in the best of the fixed batches 4, 8, 16 and 32,
sorted by length (``_paths.py``); (c) lmms-eval, if an environment with it is given; (d) evalkit; (e) to (g) vLLM, if an
environment with it is given, as a server asked by evalkit's ``server`` backend or in one process (``_vllm.py``).
The mixes (``_mixes.py``) have the questions per image, sizes and lengths of VQAv2, RefCOCO and DocVQA (many questions
per image), captioning and TextVQA (one), and MMMU (one to three images a question, and a letter); then four fixed
examples before each question, answers of 16 to 376 tokens, and eight answers to each question.

Fairness: weights are random, so answers would never end.  The end token's row of the output layer is scaled until
answers have the mix's mean length (``_random_qwen.py``).  Where each ends then depends on its image and question, and
is the same for all methods; all have the same limit.  Rounds are paired: within one, (a), (b) and (d) get the same
samples in turn, and each round has new images, so that no cache holds them.  Medians over rounds are printed.  (a)
gets an even subset of each round's samples, since its rate does not depend on their number.  With vLLM, all answers
have the mix's mean length, so that one server with the same weights serves all mixes.  Files are read, decoded and
resized within the measured time.  Answers are compared token by token; for those that differ, the gap between the two
best logits at the first difference shows whether it was a near-tie.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from _device import Busy, matrix_rate, peak_of, wait
from _mixes import MIXES, Mix, Query, draw, images
from _paths import FEATURES, ON_GPU, TAKES, Answers, Evalkit, Generate, differing, first_difference, lmms_eval
from _random_qwen import SIZES, count, make_model, make_processor, set_lengths
from _vllm import BLOCK, VLLM, chatting, serving

BATCHES = (4, 8, 16, 32)
NEAR = 1e-3
WAYS = {"all-cores": "e", "default-cores": "f", "in-process": "g"}
"""Ways to run vLLM, and their letters in tables."""


@dataclass
class World:
    """What all mixes share."""

    model: Any
    processor: Any
    device: torch.device
    settings: argparse.Namespace
    folder: Path
    matrix_rate: float
    vllm: dict[str, VLLM] = field(default_factory=dict)  # by the letter of the column

    @property
    def large(self) -> bool:
        """Whether to use the image sizes for a GPU."""
        return bool(self.settings.model_size == "7b")

    def draw(self, mix: Mix, samples: int, name: str) -> list[Query]:
        """Draw new samples with new images."""
        return draw(mix, samples, self.folder, seed=f"{self.settings.seed}-{name}", large=self.large)

    def seconds(self, work: Callable[[], Answers]) -> tuple[float, Answers]:
        """Return the seconds that ``work`` takes, and its result."""
        wait(self.device)
        began = time.perf_counter()
        answers = work()
        wait(self.device)
        return time.perf_counter() - began, answers


@dataclass
class Rounds:
    """Rates (samples per second) by round, and all answers, of one method."""

    rates: list[float] = field(default_factory=list)
    answers: Answers = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def times(self, other: Rounds) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(mine / its for mine, its in zip(self.rates, other.rates, strict=True))


def best_batch(world: World, mix: Mix, samples: int) -> tuple[int, dict[int, float]]:
    """Return the batch size with the highest rate on a subset, and all rates; stops once rates fall.

    On a CPU small ones come first, on a GPU large ones.
    """
    subset = world.draw(mix, min(samples, 2 * max(BATCHES)), "part")
    rates: dict[int, float] = {}
    for size in reversed(BATCHES) if world.large else BATCHES:
        some = subset[: 2 * size] if world.large else subset[: max(size, 16)]
        method = Generate(world.model, world.processor, size)
        try:
            seconds, answers = world.seconds(lambda method=method, some=some: method.run(some))  # type: ignore[misc]
        except torch.OutOfMemoryError:
            if world.large:
                continue
            break
        rates[size] = len(answers) / seconds
        if rates[size] < 0.9 * max(rates.values()) or (not world.large and size >= len(subset)):
            break
    return max(rates, key=lambda size: rates[size]), rates


def measure(world: World, mix: Mix, until: float) -> dict[str, Any]:
    """Measure all methods on one mix until about ``until``, and print its table."""
    settings, began = world.settings, time.monotonic()
    samples = settings.samples or mix.samples[world.large]
    warm = world.draw(mix, min(64 if world.large else 8, samples), "warm")
    some = world.draw(mix, 64, "lengths")[::5][:12]
    alone = Generate(world.model, world.processor, 1)
    mean = mix.length if settings.lengths == "drawn" and not mix.shortest else None
    if not world.vllm:
        set_lengths(world.model, world.processor.tokenizer, alone.placed(some), mix.limit, mean)
    batch, tried = (1, {}) if settings.without_batches else best_batch(world, mix, samples)
    methods = {"a": alone, **({} if settings.without_batches else {"b": Generate(world.model, world.processor, batch)})}
    ours = Evalkit(world.model, world.processor, settings.batch_size)
    ours.run(warm)
    alone.run(warm[:2])

    names = "".join((*methods, "d", *world.vllm))
    got = {name: Rounds() for name in names}
    few = max(8, samples // 2)
    ways = {
        name: vllm.tune([world.draw(mix, few, f"way{name}{number}") for number in range(len(vllm.settings))])
        for name, vllm in world.vllm.items()
    }
    beside = samples  # for (b); on a GPU what takes it about 15 seconds, whole batches
    if world.large:
        beside = min(samples, batch * max(3, round(15 * tried[batch] / batch)))
    every = max(settings.rounds, -(-beside // (4 if settings.without_batches else 24)))
    queries: list[Query] = []
    texts: dict[str, dict[str, str]] = {name: {} for name in world.vllm}
    busy = []
    for number in range(settings.rounds):
        begun = time.monotonic()
        fresh = world.draw(mix, samples, f"round{number}")
        queries += fresh
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]
            if name in world.vllm:
                begun_here = time.perf_counter()
                texts[name] |= (answered := world.vllm[name].run(fresh))
                got[name].rates.append(len(answered) / (time.perf_counter() - begun_here))
                continue
            if name == "d":
                with Busy(world.device) as watch:
                    seconds, answers = world.seconds(lambda fresh=fresh: ours.run(fresh))  # type: ignore[misc]
                busy += [watch.share] if watch.share is not None else []
            else:
                part = fresh[:: samples // beside][:beside]
                part = part[number % every :: every] if name == "a" else part
                seconds, answers = world.seconds(lambda method=methods[name], part=part: method.run(part))  # type: ignore[misc]
            got[name].rates.append(len(answers) / seconds)
            got[name].answers |= answers
        if time.monotonic() + 1.1 * (time.monotonic() - begun) > until:
            break

    lengths = [len(tokens) for tokens in got["d"].answers.values()]
    prompts = [length for name, length in ours.prompts.items() if name in got["d"].answers]
    size = " or ".join(f"{w} × {h}" for w, h in sorted({one.size for one in queries}))
    print(f"\n{mix.name}: {len(got['d'].rates)} × {samples} samples, {images(queries)} images of {size},")
    print(
        f"  prompts of {statistics.fmean(prompts):.0f} tokens, answers of {statistics.fmean(lengths):.1f} "
        f"({len(set(got['d'].answers.values()))} different ones, limit {mix.limit})"
    )
    if tried:
        print("  fixed batch sizes on a subset: " + ", ".join(f"{size}: {rate:.2f}/s" for size, rate in tried.items()))
    found: dict[str, Any] = {
        "mix": mix.name, "samples": samples, "rounds": len(got["d"].rates), "batch": batch, "tried": tried,
        "prompt_tokens": statistics.fmean(prompts), "answer_tokens": statistics.fmean(lengths),
        "rates": {name: rounds.rates for name, rounds in got.items()},
        **{f"times_{name}": got["d"].times(got[name]) for name in methods},
    }  # fmt: skip
    print(f"  {'':34}{'samples/s':>10}" + "".join(f"{f'× ({name})':>9}" for name in methods))
    labels = {"a": "(a) generate, batch size 1", "b": f"(b) generate, batch size {batch}", "d": "(d) evalkit"}
    for name, label in labels.items():
        if name in got:
            print(f"  {label:34}{rates_of(got, name)}")
    found["vllm"] = {name: beside_vllm(world, name, ways[name], texts[name], got) for name in world.vllm}
    found["lmms_eval"] = outside(world, queries[:samples], batch, got)
    found["differing"] = compare(alone, queries, got, 4 if world.large else 16)
    if busy:
        found["busy"] = statistics.median(busy)
        print(f"  GPU utilization in (d), by nvidia-smi: {100 * found['busy']:.0f} %")
    if settings.details:
        found["details"] = details(world, mix, samples)
    if settings.ablate:
        found["without"] = ablate(world, mix, samples)
    found["seconds"] = time.monotonic() - began
    return found


def rates_of(got: dict[str, Rounds], name: str) -> str:
    """A method's rate, and its ratios to those of (a) and (b)."""
    ratios = (f"{got[name].times(got[other]):9.2f}" for other in "ab" if other in got)
    return f"{got[name].rate:10.2f}" + "".join(ratios)


def beside_vllm(
    world: World, name: str, ways: dict[Any, float], texts: dict[str, str], got: dict[str, Rounds]
) -> dict[str, Any]:
    """Print vLLM's row of the table, and how many of its texts differ."""
    vllm, rate = world.vllm[name], got["d"].times(got[name])
    print(f"  {f'({name}) {vllm.version}':34}{rates_of(got, name)}")
    decode = world.processor.tokenizer.decode
    ours = {one: decode(tokens, skip_special_tokens=True) for one, tokens in got["d"].answers.items()}
    # Of random tokens, the last may be a part of a character, which vLLM leaves out.
    other = differing(*({one: text.rstrip("\ufffd") for one, text in every.items()} for every in (texts, ours)))
    print(f"      {vllm.how}; {vllm.setting}; (d) is {rate:.2f} times ({name})")
    print(f"      {len(other)} of {len(texts)} texts differ from (d)")
    return {
        "how": vllm.how, "version": vllm.version, "setting": str(vllm.setting),
        "ways": {str(way): value for way, value in ways.items()}, "times": rate, "differing": len(other),
    }  # fmt: skip


def beside(world: World, mixes: Sequence[Mix], way: str) -> AbstractContextManager[VLLM]:
    """vLLM with the model's weights, which never end an answer from here on."""
    settings = world.settings
    set_lengths(world.model, world.processor.tokenizer, None, 0, None)
    samples = max(settings.samples or mix.samples[world.large] for mix in mixes)
    blocks, kept = None, 8 * samples
    if settings.vllm_cache == "tenth":
        # Of the images of the mix with the most, of about 400 tokens each: three or four blocks. vLLM keeps one.
        shown = max((settings.samples or mix.samples[world.large]) * mix.images_each for mix in mixes)
        blocks, kept = max(settings.vllm_context // BLOCK, round(4 * shown / 10)) + 1, max(2, round(shown / 10))
    given = {"eager": settings.vllm_eager, "context": settings.vllm_context, "blocks": blocks, "images": kept}
    if way == "in-process":
        return chatting(settings.vllm, world.model, world.processor, **given)
    return serving(settings.vllm, world.model, world.processor, **given, all_cores=way == "all-cores")


def outside(world: World, queries: Sequence[Query], batch: int, got: dict[str, Rounds]) -> dict[str, Any] | str:
    """Print lmms-eval's row of the table, or why it was not measured."""
    if any(one.before for one in queries):
        print("  (c) lmms-eval: not measured: its model is asked about one image here")
        return "several images"
    if world.settings.lmms_eval is None:
        print("  (c) lmms-eval: not measured: no --lmms-eval PYTHON was given (see --help)")
        return "not given"
    try:
        done = lmms_eval(world.settings.lmms_eval, world.model, world.processor, queries, batch_sizes=(1, batch))
    except (RuntimeError, OSError) as error:
        print(f"  (c) lmms-eval: not measured: {error}")
        return str(error)
    decode = world.processor.tokenizer.decode
    ours = {name: decode(tokens, skip_special_tokens=True) for name, tokens in got["d"].answers.items()}
    other = differing(done["texts"], ours)
    for size, seconds in done["seconds"].items():
        rate = len(queries) / seconds
        label = f"(c) lmms-eval {done['version']}, batch {size}"
        ratios = "".join(f"{rate / got[name].rate:9.2f}" for name in "ab" if name in got)
        print(f"  {label:34}{rate:10.2f}{ratios}")
    print(f"      {len(other)} of {len(queries)} texts differ from (d): qwen-vl-utils resizes its images")
    return {**done, "texts": None, "differing": len(other)}


def compare(alone: Generate, queries: Sequence[Query], got: dict[str, Rounds], most: int) -> dict[str, Any]:
    """Count and print the answers that differ between methods, with the logit gap of at most ``most`` of them."""
    by_id = {one.id: one for one in queries}
    found = {}
    for one, other in (("a", "b"), ("a", "d"), ("b", "d")):
        if one not in got or other not in got:
            continue
        mine, its = got[one].answers, got[other].answers
        names = differing(mine, its)
        both = len(mine.keys() & its.keys())
        gaps = [alone.gap(by_id[name], first_difference(mine[name], its[name])) for name in names[:most]]
        gaps = [gap for gap in gaps if gap == gap]
        found[one + other] = {"samples": both, "differing": len(names), "gaps": gaps}
        label = f"  ({one}) and ({other}): {len(names)} of {both} answers differ"
        if gaps:
            label += f"; top-2 logit gap there at most {max(gaps):.2g} ({sum(g < NEAR for g in gaps)} below {NEAR})"
        print(label)
    return found


def ablate(world: World, mix: Mix, samples: int) -> dict[str, float]:
    """Measure the rate without each feature of the engine, and print what each contributes."""
    if "options" not in TAKES:
        print("  this version has no engine options to switch off")
        return {}
    features = [name for name in FEATURES if name not in ON_GPU or world.device.type == "cuda"]
    every: dict[str, dict[str, bool]] = {"all on": {}, **{f"without {name}": {name: False} for name in features}}
    every["all off"] = dict.fromkeys(features, False)
    warm = world.draw(mix, min(8, samples), "warm")
    methods = {}
    for name, options in every.items():
        methods[name] = Evalkit(world.model, world.processor, world.settings.batch_size, **options)
        methods[name].run(warm)
    rounds = {name: Rounds() for name in methods}
    for number in range(world.settings.rounds):
        fresh = world.draw(mix, samples, f"ablate{number}")
        order = list(methods) if number % 2 == 0 else list(reversed(methods))
        for name in order:
            seconds, answers = world.seconds(lambda name=name, fresh=fresh: methods[name].run(fresh))  # type: ignore[misc]
            rounds[name].rates.append(len(fresh) / seconds)
            rounds[name].answers |= answers
    complete = rounds["all on"]
    for name, method in rounds.items():
        other = len(differing(method.answers, complete.answers))
        print(
            f"  {name:34}{method.rate:10.2f}   all on is {complete.times(method):.2f} times that"
            f"{f'; {other} of {len(complete.answers)} answers differ' if name != 'all on' else ''}"
        )
    return {name: method.rate for name, method in rounds.items()}


def details(world: World, mix: Mix, samples: int) -> dict[str, Any]:
    """Measure and print the share of the matrix rate that prefill reaches, and peak memory.

    For mixes with several questions per image, also an eighth of the samples without prefix sharing, with the number of
    answers that change.
    """
    found: dict[str, Any] = {}
    given: list[Answers] = []
    every = world.draw(mix, samples, "details")
    less = every[: max(16, samples // 8)]
    methods = {"shared": (True, every), "unshared": (False, less)}
    if mix.questions == (1,):
        del methods["unshared"]
    for name, (share, queries) in methods.items():
        ours = Evalkit(world.model, world.processor, world.settings.batch_size, prefix_sharing=share)
        ours.run(world.draw(mix, min(8, samples), "warm"))
        # One token each: reading, encoding and prefill, and nothing else.
        short = [replace(one, limit=1) for one in queries]
        seconds, _ = world.seconds(lambda ours=ours, short=short: ours.run(short))  # type: ignore[misc]
        work = flops(world, short, ours.prompts, shared=share)
        reached = work / seconds / world.matrix_rate
        peak = peak_of(world.device, lambda ours=ours, queries=queries: given.append(ours.run(queries)))  # type: ignore[misc]
        found[name] = {"samples": len(queries), "seconds": seconds, "flops": work, "reached": reached, "peak": peak}
        memory = "" if peak is None else f"; {peak / 2**30:.2f} GiB peak beyond the weights"
        print(
            f"  {name}, {len(queries)} samples: prefill {work / seconds / 1e12:.3g} TFLOP/s, {100 * reached:.0f} % of "
            f"the matrix rate, including reading files{memory}"
        )
    if len(given) == 2:
        found["differing"] = len(differing(given[1], given[0]))
        print(f"  {found['differing']} of {len(less)} answers differ between shared and unshared")
    return found


def flops(world: World, queries: Sequence[Query], prompts: dict[str, int], *, shared: bool) -> float:
    """FLOPs of the matrix products for the samples' prompts; prefixes and images count once if ``shared``."""
    counts = count(world.model)
    tokenizer = world.processor.tokenizer
    seen: set[Path] = set()
    asked: set[tuple[Path, ...]] = set()
    work = 0.0
    for one in queries:
        after = len(tokenizer(f"{one.text}<|im_end|>\n<|im_start|>assistant\n")["input_ids"])
        before = prompts[one.id] - after
        paths = tuple(item.path for item in one.shown)
        unseen = [item for item in one.shown if not shared or item.path not in seen]
        visual = sum(item.size[0] // 28 * (item.size[1] // 28) for item in unseen)
        new = not (shared and paths in asked)  # the text before the last question is computed again for new images
        work += counts.flops(after + (before if new else 0), 4 * visual)
        seen |= set(paths)
        asked.add(paths)
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--model-size", choices=tuple(SIZES), help="default: small on a CPU, 7b on a GPU")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument(
        "--only", action="append", choices=[mix.name for mix in MIXES], metavar="MIX", help="repeatable"
    )
    parser.add_argument("--samples", type=int, metavar="N", help="samples in each round, instead of the mix's default")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="paired rounds (default: 3)")
    parser.add_argument("--minutes", type=float, default=7, help="no new round is started after this (default: 7)")
    parser.add_argument(
        "--lengths", choices=("drawn", "full"), default="drawn", help="full: all answers have maximum length"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="of evalkit (default: automatic)")
    parser.add_argument(
        "--without-batches", action="store_true", help="skip (b), and ask (a) for about four answers of a round"
    )
    parser.add_argument("--ablate", action="store_true", help="measure without each feature of the engine")
    parser.add_argument(
        "--details", action="store_true", help="prefill against the matrix rate, memory (a GPU: always)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there, after each mix")
    parser.add_argument(
        "--lmms-eval", metavar="PYTHON", help="an interpreter that has lmms-eval ('pip install lmms-eval decord')"
    )
    parser.add_argument("--vllm", metavar="PYTHON|URL", help="an interpreter that has vLLM, or a server that runs")
    parser.add_argument(
        "--vllm-as",
        action="append",
        choices=tuple(WAYS),
        help="repeatable: a server on all cores (default), one on its default number of cores, LLM.chat in a process",
    )
    parser.add_argument(
        "--vllm-cache", choices=("all", "tenth"), default="all", help="its caches hold all images, or a tenth"
    )
    parser.add_argument(
        "--vllm-context", type=int, default=4096, metavar="TOKENS",
        help="its longest prompt with the answer, which its KV cache always holds (default: 4096)",
    )  # fmt: skip
    parser.add_argument("--vllm-eager", action="store_true", help="without compilation (which may be faster, or not)")
    settings = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server ends, too
    began = time.monotonic()
    device = torch.device(settings.device)
    on_gpu = device.type == "cuda"
    settings.model_size = settings.model_size or ("7b" if on_gpu else "small")
    settings.details = settings.details or on_gpu
    dtype = getattr(torch, settings.dtype or ("bfloat16" if on_gpu else "float32"))
    mixes = [mix for mix in MIXES if settings.only is None or mix.name in settings.only]

    processor = make_processor()
    model = make_model(settings.model_size, processor, device, dtype, settings.seed)
    counts = count(model)
    rate = matrix_rate(device, dtype)
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"Qwen2.5-VL with {counts.all / 1e6:,.1f} million random parameters (language model's layers "
        f"{counts.text / 1e6:,.1f}), {str(dtype).removeprefix('torch.')}, on {name}; matrix rate "
        f"{rate / 1e12:.3g} TFLOP/s; torch {torch.__version__}"
    )
    found = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        world = World(model, processor, device, settings, Path(folder), rate)
        if settings.vllm is not None:
            mixes = [mix if mix.shortest else replace(mix, limit=round(mix.length)) for mix in mixes]
            for way in settings.vllm_as or ["all-cores"]:
                world.vllm[WAYS[way]] = stack.enter_context(beside(world, mixes, way))
            began = time.monotonic()
        for place, mix in enumerate(mixes):
            share = (began + 60 * settings.minutes - time.monotonic()) / (len(mixes) - place)
            found.append(measure(world, mix, time.monotonic() + share))
            if settings.json is not None:  # after each: a run takes long, and may be stopped
                figures = {
                    "parameters": counts.all, "device": name, "dtype": str(dtype), "matrix_rate": rate, "mixes": found,
                    "settings": {key: value for key, value in vars(settings).items() if key != "json"},
                }  # fmt: skip
                settings.json.write_text(json.dumps(figures, indent=1) + "\n")
    columns = (
        "".join(f"{f'× ({WAYS[way]})':>9}" for way in (settings.vllm_as or ["all-cores"])) if settings.vllm else ""
    )
    print(f"\n{'':12}{'× one at a time':>16}{'× best batch':>14}{columns}")
    for row in found:
        vllm = "".join(f"{one['times']:9.2f}" for one in row["vllm"].values())
        batches = f"{row['times_b']:14.2f}" if "times_b" in row else f"{'':14}"
        print(f"{row['mix']:12}{row['times_a']:16.2f}{batches}{vllm}")
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
