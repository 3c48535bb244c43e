"""Speed of evalkit's ``hf`` backend beside batched ``generate``, for each model family, on a RefCOCO-like mix.

    python benchmarks/families.py                                # every architecture of the families' tests
    python benchmarks/families.py --only internvl --only mllama --samples 30 --rounds 3
    python benchmarks/families.py --only gemma3 --tower 27       # a large vision encoder: what encoding once gains

Needs the checkout's tests: the models are their small random checkpoints of the real architectures
(``tests/model/families``), with layers widened (``--width``), so that most time is spent in matrix products as with
real weights and not in the program around them.  Samples are those of ``throughput.py``: seven or eight questions to an
image of 640 × 480 pixels, of which these processors make few visual tokens (tiles are of 56 pixels).

``generate`` gets the best of the fixed batches 4, 8, 16 and 32; rounds are paired, each with new images, and both
answer the same samples in turn.  All answers have 24 tokens, the mix's mean.  Medians of the rounds' ratios are
printed, and how many answers differ: from those of the batches, and of these, from those of ``generate`` with the
sample alone.  (Kosmos-2's ``generate`` numbers tokens after the padding of their batch.)  Where prefixes are not
shared, evalkit runs the model's ``generate``, too.

The vision encoders of these checkpoints take a few hundredths of the time.  In released models they take more: by their
configurations, about 70 % of the floating-point operations of a short prompt with an image in Gemma 3 4B, where 4,096
patches make 256 tokens, and about 90 % in Llama 3.2 11B.  ``--tower`` makes encoders as deep as is wanted, and as wide
as the language model's layers.  Two columns are added: the encoder's share of the time if every row's image is encoded,
and evalkit's speed beside that.  On a machine that others use, take ``--cpu-time`` and one core (``taskset``).
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _mixes import MIXES, Query, draw
from _paths import Answers, Evalkit, Generate, differing
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from evalkit import registry
from evalkit.images import PathImage
from evalkit.model.engine.encoder_sharing import image_encoder
from evalkit.model.hf.prompt_text import image_placeholder
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

sys.path.append(str(Path(__file__).resolve().parents[1]))  # after the installed package
from tests.model.families.checkpoints import OWN, built
from tests.model.hf.test_architectures import ARCHITECTURES, save

BATCHES = (4, 8, 16, 32)
MIX = next(mix for mix in MIXES if mix.name == "refcoco")
TOKENS = round(MIX.length)
WIDTHS = ("intermediate_size", "intermediate_size_mlp", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim")
Clock = Callable[[], float]
DEPTHS = ("num_hidden_layers", "depth")


@dataclass(frozen=True)
class Question(Query):
    """A question whose answer has ``TOKENS`` tokens; ``plain`` for models without a chat template."""

    plain: bool = False

    @property
    def request(self) -> Request:
        """The request for evalkit's backends."""
        content = (ImagePart(PathImage(str(self.path))), TextPart(self.text))
        turn = Message("plain" if self.plain else "user", content)
        return Request(self.id, (turn,), Decoding(TOKENS, min_new_tokens=TOKENS))


class FixedBatches(Generate):
    """``model.generate`` in batches of a fixed size, also for models without turns, and with encoders."""

    def inputs(self, batch: Sequence[Query]) -> Any:
        """The model's inputs, on the CPU."""
        if getattr(self.processor, "chat_template", None):
            texts = [self.template(one) for one in batch]
        else:
            texts = [image_placeholder(self.processor) + one.text for one in batch]
        images = [[PathImage(str(one.path)).load()] for one in batch]
        self.processor.tokenizer.padding_side = "right" if self.model.config.is_encoder_decoder else "left"
        bos = self.processor.tokenizer.bos_token  # some templates write it, and it must not be there twice
        special = {"add_special_tokens": False} if bos and texts[0].startswith(bos) else {}
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt", **special)
        inputs.pop("labels", None)
        return inputs

    def template(self, one: Query) -> str:
        """The prompt of a question, from the chat template."""
        content = [{"type": "image"}, {"type": "text", "text": one.text}]
        turn = {"role": "user", "content": content}
        return str(self.processor.apply_chat_template([turn], tokenize=False, add_generation_prompt=True))

    def tokens(self, inputs: Any, limit: int) -> list[list[int]]:
        """The new tokens of each row."""
        settings = GenerationConfig(do_sample=False, num_beams=1, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
        with torch.inference_mode():
            out = self.model.generate(**inputs, generation_config=settings)
        start = 1 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        new: list[list[int]] = out[:, start:].tolist()
        return new


def widened(model_type: str, width: int, tower: int) -> tuple[dict[str, Any], Any]:
    """The checkpoint of the tests, with wider layers in its language model; ``tower`` vision layers, if not 0."""
    config, processor = built(model_type)
    text, vision = config.get("text_config", config), config["vision_config"]
    text |= {name: width for name in WIDTHS if name in text}
    if tower:
        vision |= {name: width for name in WIDTHS if name in vision}
        vision |= {name: tower for name in DEPTHS if name in vision}
    return config, processor


def opened(model_type: str, settings: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    """A checkpoint's model and processor, as transformers loads them."""
    save(model_type, folder, partial(widened, model_type, settings.width, settings.tower))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(folder)


def timed(method: Generate | Evalkit, questions: Sequence[Question], clock: Clock) -> tuple[float, Answers]:
    """Samples per second, and the answers."""
    began = clock()
    answers = method.run(questions)
    return len(answers) / (clock() - began), answers


def encoder_share(method: Evalkit, questions: Sequence[Question], clock: Clock) -> float:
    """The vision encoder's share of the time."""
    encoder = image_encoder(method.backend.model)
    assert encoder is not None
    passed = 0.0

    def entered(*_: object) -> None:
        nonlocal passed
        passed -= clock()

    def left(*_: object) -> None:
        nonlocal passed
        passed += clock()

    handles = [encoder.register_forward_pre_hook(entered), encoder.register_forward_hook(left)]
    began = clock()
    method.run(questions)
    total = clock() - began
    for handle in handles:
        handle.remove()
    return passed / total


def measure(model_type: str, settings: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare both methods for one architecture."""
    model, processor = opened(model_type, settings, folder / "model")
    clock: Clock = time.process_time if settings.cpu_time else time.perf_counter
    plain = not getattr(processor, "chat_template", None)

    def drawn(count: int, seed: str) -> list[Question]:
        queries = draw(MIX, count, folder, seed=seed, large=False)
        return [
            Question(id=one.id, path=one.path, size=one.size, text=one.text, limit=TOKENS, plain=plain)
            for one in queries
        ]

    part = drawn(settings.samples, "part")
    sizes = [size for size in BATCHES if size <= settings.samples]
    rates = {size: timed(FixedBatches(model, processor, size), part, clock)[0] for size in sizes}
    best = max(rates, key=lambda size: rates[size])
    methods: dict[str, Generate | Evalkit] = {
        "generate": FixedBatches(model, processor, best),
        "evalkit": (ours := Evalkit(model, opened_processor(folder))),
    }
    ours.run(drawn(8, "warm"))
    # Both leave the same tokens out, so that all answers have their length: evalkit stops at the end of a turn, too.
    model.generation_config.eos_token_id = list(ours.backend.stops if plain else ours.backend.turn_stops)
    shared = ours.backend.engine is not None
    share = None
    if settings.tower and not shared:
        methods["each"] = each = Evalkit(model, opened_processor(folder), encoder_sharing=False)
        share = encoder_share(each, part, clock)
    got: dict[str, list[float]] = {name: [] for name in methods}
    asked: dict[str, Question] = {}
    answers: dict[str, Answers] = {name: {} for name in methods}
    for number in range(settings.rounds):
        fresh = drawn(settings.samples, f"round{number}")
        asked |= {one.id: one for one in fresh}
        for name in sorted(methods, reverse=number % 2 == 1):
            rate, found = timed(methods[name], fresh, clock)
            got[name].append(rate)
            answers[name] |= found
    differ = differing(answers["generate"], answers["evalkit"])
    alone = FixedBatches(model, processor, 1).run([asked[name] for name in differ]) if differ else {}
    return {
        "architecture": model_type,
        "family": registry.family_name(model_type, "") or "generic",
        "shared": shared,
        "batch": best,
        "rates": got,
        "times": ratio(got, "generate"),
        "encoder_share": share,
        "times_encoding_each": None if share is None else ratio(got, "each"),
        "differing": len(differ),
        "differing_alone": len(differing(alone, answers["evalkit"])),
        "samples": len(answers["evalkit"]),
        "prompt_tokens": statistics.fmean(ours.prompts.values()),
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }


def ratio(rates: Mapping[str, Sequence[float]], other: str) -> float:
    """The median of evalkit's speed beside another method's in the same round."""
    return statistics.median(a / b for a, b in zip(rates["evalkit"], rates[other], strict=True))


def opened_processor(folder: Path) -> Any:
    """A processor of its own for evalkit: both set the tokenizer's padding."""
    return AutoProcessor.from_pretrained(folder / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = sorted({*ARCHITECTURES, *OWN})
    parser.add_argument("--only", action="append", choices=every, metavar="ARCHITECTURE", help="repeatable")
    parser.add_argument("--samples", type=int, default=32, metavar="N", help="samples in each round (default: 32)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="paired rounds (default: 3)")
    parser.add_argument("--width", type=int, default=8192, metavar="N", help="of the layers (default: 8192)")
    parser.add_argument("--tower", type=int, default=0, metavar="N", help="layers of the vision encoder (default: 2)")
    parser.add_argument("--cpu-time", action="store_true", help="measure the process's CPU time")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there")
    settings = parser.parse_args()
    logging.getLogger("evalkit").setLevel(logging.ERROR)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {settings.rounds} × {settings.samples} samples"
    )
    columns = [f"{'architecture':16}", f"{'family':16}", "prefixes", "prompt", "generate (batch)", "evalkit", "ratio"]
    columns += ["differ", *(["encoder", "encoded once"] if settings.tower else [])]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    found = []
    for model_type in settings.only or every:
        with tempfile.TemporaryDirectory() as folder:
            found.append(row := measure(model_type, settings, Path(folder)))
        rates = {name: statistics.median(values) for name, values in row["rates"].items()}
        shared = "shared" if row["shared"] else "not"
        cells = [f"{model_type:16}", f"{row['family']:16}", f"{shared:8}", f"{row['prompt_tokens']:6.0f}"]
        cells += [
            f"{rates['generate']:9.2f}/s ({row['batch']:2})",
            f"{rates['evalkit']:5.2f}/s",
            f"{row['times']:5.2f}",
        ]
        cells += [f"{row['differing']:>2} of {row['samples']}, {row['differing_alone']} alone"]
        if row["encoder_share"] is not None:
            cells += [f"{row['encoder_share']:7.0%}", f"{row['times_encoding_each']:10.2f} ×"]
        elif settings.tower:
            cells += [" " * 7, " " * 12]
        print(f"| {' | '.join(cells)} |", flush=True)
    if settings.json is not None:
        settings.json.write_text(json.dumps({"torch": torch.__version__, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
