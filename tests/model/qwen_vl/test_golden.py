"""The native Qwen-VL against arrays that the original code computed, in fp32 on the CPU, with small random weights."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList

from evalkit.model.qwen_vl import rotary, vision
from evalkit.model.qwen_vl.modeling import QwenVLForConditionalGeneration
from evalkit.model.qwen_vl.stopping import StopSequences

EOS = PAD = 300
START, FILLER = 352, 354
SEQ_LENGTH = 512

FORWARD = (
    "text_short",
    "text_long1",
    "text_long2",
    "text_len_eq_seq_length",
    "text_len_eq_2x_seq_length",
    "image_text_1img",
    "image_text_2img",
)
PADDED = ("leftpad_text", "leftpad_image", "rightpad_text")
DECODE = ("decode_after_1img", "decode_after_2img", "decode_after_long_prefill", "decode_cross_seq_length")
GENERATE = (
    "generate_1img",
    "generate_1img_nocache",
    "generate_1img_stop_is_last_prompt_token",
    "generate_2img",
    "generate_2img_stop_pair",
    "generate_2img_stop_word",
    "generate_cross_seq_length",
    "generate_cross_seq_length_nocache",
    "generate_leftpad_image",
    "generate_leftpad_text",
    "generate_leftpad_text_stop_row0",
)
VISION = ("ln_pre", "block0_img0", "transformer", "attn_pool", "final")


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request: pytest.FixtureRequest, golden_folder: Any) -> Any:
    return load(golden_folder, request.param)


@pytest.fixture(scope="module")
def eager(golden_folder: Any) -> Any:
    return load(golden_folder, "eager")


def load(folder: Any, attention: str) -> Any:
    return QwenVLForConditionalGeneration.from_pretrained(folder, attn_implementation=attention)


def tolerance(length: int) -> float:
    """As the arrays' README suggests for logits: angles are formed in fp32 here."""
    return 1e-4 if length <= SEQ_LENGTH else 5e-4


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max())


def images(golden: SimpleNamespace, ids: torch.Tensor) -> torch.Tensor | None:
    """The images that the ids name: the original has each image's path in its span."""
    found = []
    for row in ids.tolist():
        for at in (at for at, token in enumerate(row) if token == START):
            span = row[at + 1 : at + 257]
            path = bytes(span[: span.index(FILLER)]).decode()
            found.append(golden.cases["vision"]["images"].index(path))
    return golden.arrays["vision.pixel_values"][found] if found else None


def inputs_of(golden: SimpleNamespace, case: str) -> dict[str, Any]:
    ids = golden.arrays[f"{case}.input_ids"]
    mask = golden.arrays.get(f"{case}.attention_mask")
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": images(golden, ids)}


@torch.inference_mode()
def logits_of(model: Any, golden: SimpleNamespace, case: str) -> torch.Tensor:
    positions = golden.arrays.get(f"{case}.positions")
    return model(
        **inputs_of(golden, case), use_cache=False, logits_to_keep=0 if positions is None else positions
    ).logits


# ------------------------------------------------------------------------------------------------------------ coverage


def test_every_array_is_compared(golden):
    """With what, by the tests below; pixel_values are the image processor's and an input here."""
    known = {f"vision.{name}" for name in (*VISION, "pixel_values", "pool_sincos_init", "pos_interp")}
    known |= {f"text_short.hidden.{at}" for at in range(3)} | {"train_2img.logits_last16", "eval_2img.loss"}
    known |= {f"train_2img.{part}" for part in ("input_ids", "labels", "loss")}
    parts = {
        FORWARD: ("input_ids", "logits", "positions"),
        PADDED: ("input_ids", "logits", "positions", "attention_mask", "computed_position_ids_ignored"),
        DECODE: ("cached_key_layer0_last13", "decode_ids", "logits", "prefill_ids"),
        GENERATE: ("input_ids", "generated_ids", "scores", "attention_mask"),
    }
    known |= {f"{case}.{part}" for cases, names in parts.items() for case in cases for part in names}
    assert set(golden.arrays) <= known


# -------------------------------------------------------------------------------------------------------------- vision


@torch.inference_mode()
def test_vision(model, golden):
    eye = model.model.visual
    kept: dict[str, torch.Tensor] = {}
    modules = {"ln_pre": eye.ln_pre, "transformer": eye.transformer, "attn_pool": eye.attn_pool}
    modules["block0_img0"] = eye.transformer.resblocks[0]
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out))
        for name, module in modules.items()
    ]
    kept["final"] = model.get_image_features(golden.arrays["vision.pixel_values"])
    for hook in hooks:
        hook.remove()
    kept["block0_img0"] = kept["block0_img0"][:1]
    for name in VISION:
        limit = 2e-5 if name == "final" else 5e-5
        assert distance(kept[name], golden.arrays[f"vision.{name}"]) < limit, name


@torch.inference_mode()
def test_positions_of_vision_part(eager, golden):
    table = eager.model.visual.positional_embedding
    assert distance(vision.resample(table, 32), golden.arrays["vision.pos_interp"]) < 1e-6
    assert distance(vision.sincos_2d(256, 16), golden.arrays["vision.pool_sincos_init"]) < 1e-6


# ------------------------------------------------------------------------------------------------------------ language


@pytest.mark.parametrize("case", FORWARD)
def test_logits(model, golden, case):
    length = golden.arrays[f"{case}.input_ids"].shape[1]
    assert model.config.ntk_alpha(length) == golden.cases[case]["ntk_alpha"]
    assert distance(logits_of(model, golden, case), golden.arrays[f"{case}.logits"]) < tolerance(length)


@torch.inference_mode()
def test_hidden_states(model, golden):
    out = model(golden.arrays["text_short.input_ids"], output_hidden_states=True)
    assert len(out.hidden_states) == 3
    for at, found in enumerate(out.hidden_states):
        assert distance(found, golden.arrays[f"text_short.hidden.{at}"]) < 5e-5


@pytest.mark.parametrize("case", PADDED)
def test_padded_rows_as_original_counts(model, golden, case, monkeypatch):
    """Under the switch; without it only where the padding makes no difference."""
    mask, wanted = golden.arrays[f"{case}.attention_mask"], golden.arrays[f"{case}.logits"]
    real = mask[:, golden.arrays[f"{case}.positions"]].bool()
    limit = tolerance(mask.shape[1])
    default = (logits_of(model, golden, case) - wanted)[real].abs().max()
    assert (default < limit) == (case != "leftpad_image")
    monkeypatch.setattr(model.config, "original_padding", True)
    assert (logits_of(model, golden, case) - wanted)[real].abs().max() < limit


@pytest.mark.parametrize("case", PADDED)
def test_positions_count_real_tokens(golden, case):
    """What the original prepared for ``generate`` (and then ignored) is what counts here, where there are tokens."""
    from evalkit.model.qwen_vl.modeling import positions_of

    mask = golden.arrays[f"{case}.attention_mask"]
    wanted = golden.arrays[f"{case}.computed_position_ids_ignored"]
    assert torch.equal(positions_of(mask)[mask == 1], wanted[mask == 1])


def test_padded_row_equals_single_sample(model, golden):
    """The original gives row 1 of this batch other logits than alone; here it gives the single sample's."""
    alone = golden.arrays["image_text_1img.input_ids"]
    padded = golden.arrays["leftpad_image.input_ids"]
    pad = padded.shape[1] - alone.shape[1]
    assert torch.equal(padded[1, pad:], alone[0])
    with torch.inference_mode():
        positions = golden.arrays["image_text_1img.positions"] + pad
        found = model(**inputs_of(golden, "leftpad_image"), logits_to_keep=positions).logits[1:]
    assert distance(found, golden.arrays["image_text_1img.logits"]) < 1e-4


@torch.inference_mode()
def decoded(model: Any, golden: SimpleNamespace, case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the last place of the prefill and of the steps, and the last 13 keys of layer 0."""
    ids, steps = golden.arrays[f"{case}.prefill_ids"], golden.arrays[f"{case}.decode_ids"]
    out = model(ids, pixel_values=images(golden, ids), use_cache=True, logits_to_keep=1)
    found, cache = [out.logits], out.past_key_values
    for step in steps.split(1, dim=1):
        found.append(model(step, past_key_values=cache, use_cache=True).logits)
    return torch.cat(found, 1), cache.layers[0].keys[:, :, -13:].transpose(1, 2)


@pytest.mark.parametrize("case", DECODE)
def test_decoding_after_prefill(model, golden, case):
    logits, keys = decoded(model, golden, case)
    limit = tolerance(golden.arrays[f"{case}.prefill_ids"].shape[1] + logits.shape[1] - 1)
    assert distance(logits, golden.arrays[f"{case}.logits"]) < limit
    assert distance(keys, golden.arrays[f"{case}.cached_key_layer0_last13"]) < limit


@pytest.mark.parametrize("case", GENERATE)
def test_greedy_generation(model, golden, case, monkeypatch):
    monkeypatch.setattr(model.config, "original_padding", True)
    inputs, wanted = inputs_of(golden, case), golden.arrays[f"{case}.generated_ids"]
    stops = StopSequences(golden.cases[case].get("stop_words_ids", []), EOS)
    out = model.generate(
        **inputs,
        max_new_tokens=wanted.shape[1],
        use_cache=golden.cases[case]["use_cache"],
        logits_processor=LogitsProcessorList([stops]),
        output_scores=True,
        return_dict_in_generate=True,
    )
    length = inputs["input_ids"].shape[1]
    assert torch.equal(out.sequences[:, length:], wanted)
    scores = golden.arrays.get(f"{case}.scores")
    if scores is None:
        assert case == "generate_1img_nocache"
        return
    ended = (wanted == EOS).long().cumsum(1) - (wanted == EOS).long() > 0
    found = torch.stack(out.scores, 1)
    assert (found - scores)[~ended].abs().max() < tolerance(length + wanted.shape[1])


@pytest.mark.parametrize("case", ["generate_leftpad_text", "generate_cross_seq_length"])
def test_greedy_generation_by_default(eager, golden, case):
    wanted = golden.arrays[f"{case}.generated_ids"]
    found = eager.generate(**inputs_of(golden, case), max_new_tokens=wanted.shape[1])
    assert torch.equal(found[:, -wanted.shape[1] :], wanted)


def test_training(golden_folder, golden):
    """Loss and gradients: in training there is no LogN scaling, and the NTK factor is 1."""
    model = load(golden_folder, "eager")
    ids, labels = golden.arrays["train_2img.input_ids"], golden.arrays["train_2img.labels"]
    inputs = {"input_ids": ids, "pixel_values": images(golden, ids), "labels": labels, "use_cache": False}
    with torch.no_grad():
        assert distance(model(**inputs).loss[None], golden.arrays["eval_2img.loss"]) < 1e-5
    out = model.train()(**inputs)
    assert distance(out.loss.detach()[None], golden.arrays["train_2img.loss"]) < 1e-5
    assert distance(out.logits[:, -16:].detach(), golden.arrays["train_2img.logits_last16"]) < 1e-4
    out.loss.backward()
    norms = {name: None if p.grad is None else float(p.grad.norm()) for name, p in model.named_parameters()}
    wanted = golden.cases["train_2img"]["grad_l2"]
    assert {name for name, norm in norms.items() if norm is None} == {"transformer.visual.attn_pool.pos_embed"}
    for name, norm in wanted.items():
        if norm is not None:
            assert math.isclose(norms[name], norm, rel_tol=1e-3, abs_tol=1e-6), name


# -------------------------------------------------------------------------------------- mistakes that would be noticed


def image_distance(model: Any, golden: SimpleNamespace) -> float:
    """Of the vision part's output, in units of what is tolerated."""
    with torch.inference_mode():
        found = model.get_image_features(golden.arrays["vision.pixel_values"][:1])
    return distance(found, golden.arrays["vision.final"][:1]) / 2e-5


def text_distance(case: str) -> Any:
    """Of a case's logits, in units of what is tolerated."""

    def measure(model: Any, golden: SimpleNamespace) -> float:
        limit = tolerance(golden.arrays[f"{case}.input_ids"].shape[1])
        return distance(logits_of(model, golden, case), golden.arrays[f"{case}.logits"]) / limit

    return measure


def decode_distance(model: Any, golden: SimpleNamespace) -> float:
    found, _ = decoded(model, golden, "decode_cross_seq_length")
    return distance(found, golden.arrays["decode_cross_seq_length.logits"]) / tolerance(SEQ_LENGTH + 6)


def interpolated(**how: Any) -> Any:
    def resample(table: torch.Tensor, side: int) -> torch.Tensor:
        old = math.isqrt(len(table))
        grid = table.reshape(1, old, old, -1).permute(0, 3, 1, 2)
        return torch.nn.functional.interpolate(grid, size=(side, side), **how).permute(0, 2, 3, 1).flatten(0, 2)

    return resample


def contiguous_heads(self: Any, x: torch.Tensor) -> Any:
    return (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.in_proj(x).chunk(3, -1))


def interleaved(x: torch.Tensor, by: Any) -> torch.Tensor:
    first, second = x[..., ::2], x[..., 1::2]
    return torch.stack([first * by.cos - second * by.sin, second * by.cos + first * by.sin], -1).flatten(-2)


def pooled(key_position: float, value_position: float) -> Any:
    def forward(self: Any, patches: torch.Tensor) -> torch.Tensor:
        x = self.ln_kv(self.kv_proj(patches))
        query = (self.ln_q(self.query) + self.pos_embed)[None]
        position = vision.resample(self.pos_embed, math.isqrt(x.shape[1]))
        return self.attn(query, x + key_position * position, x + value_position * position)

    return forward


Q = "evalkit.model.qwen_vl"
QUICK, TANH = (lambda x: x * torch.sigmoid(1.702 * x)), (lambda x: torch.nn.GELU("tanh")(x))
ROTATION, LOGN, SINCOS = rotary.rotation, rotary.logn_scale, vision.sincos_2d


def epsilon(kind: type, attribute: str) -> Any:
    def patch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in model.modules():
            if isinstance(module, kind):
                monkeypatch.setattr(module, attribute, 1e-5)

    return patch


def instead(where: str, wrong: Any) -> Any:
    def patch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(f"{Q}.{where}", wrong)

    return patch


def activation(function: Any) -> Any:
    return instead("vision.QwenVLVisionMLP.forward", lambda self, x: self.c_proj(function(self.c_fc(x))))


def parameter(name: str, wrong: Any) -> Any:
    def patch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        p = model.get_parameter(name)
        monkeypatch.setattr(p, "data", wrong(p.data))

    return patch


def by_length_alone(config: Any, given: Any, attention_mask: Any, position_ids: torch.Tensor, cache: Any) -> Any:
    return rotary.ntk_alpha(position_ids.amax(-1) + 1, config.seq_length)


def without_power(position_ids: torch.Tensor, alpha: torch.Tensor, *, head_dim: int, base: float) -> Any:
    return ROTATION(position_ids, alpha ** ((head_dim - 2) / head_dim), head_dim=head_dim, base=base)


SHORT, LONG = text_distance("text_short"), text_distance("text_long1")
MISTAKES = {
    "vision norms' epsilon 1e-5": (epsilon(torch.nn.LayerNorm, "eps"), image_distance),
    "GELU by tanh": (activation(TANH), image_distance),
    "quick GELU": (activation(QUICK), image_distance),
    "in_proj in three thirds": (instead("vision.QwenVLVisionAttention.heads_of", contiguous_heads), image_distance),
    "positions bilinear": (instead("vision.resample", interpolated(mode="bilinear")), image_distance),
    "positions align_corners": (
        instead("vision.resample", interpolated(mode="bicubic", align_corners=True)),
        image_distance,
    ),
    "positions antialiased": (
        instead("vision.resample", interpolated(mode="bicubic", antialias=True)),
        image_distance,
    ),
    "keys without position": (instead("vision.QwenVLAdapter.forward", pooled(0, 0)), image_distance),
    "values with position": (instead("vision.QwenVLAdapter.forward", pooled(1, 1)), image_distance),
    "pos_embed computed, not loaded": (
        parameter("transformer.visual.attn_pool.pos_embed", lambda p: SINCOS(256, 16)),
        image_distance,
    ),
    "projection transposed": (parameter("transformer.visual.proj", lambda p: p.T), image_distance),
    "images swapped": (
        instead("modeling.QwenVLModel.get_image_features", lambda self, pixels: self.visual(pixels.flip(0))),
        text_distance("image_text_2img"),
    ),
    "gate swapped": (
        instead(
            "decoder.QwenVLMLP.forward",
            lambda self, x: self.c_proj(torch.nn.functional.silu(self.w1(x)) * self.w2(x)),
        ),
        SHORT,
    ),
    "RMSNorm's epsilon 1e-5": (
        lambda model, monkeypatch: epsilon(type(model.model.ln_f), "epsilon")(model, monkeypatch),
        SHORT,
    ),
    "rotary of interleaved pairs": (instead("decoder.rotate", interleaved), SHORT),
    "LogN below seq_length": (
        instead("rotary.logn_scale", lambda p, n: ((p + 1.0).log() / math.log(n))[:, None, :, None]),
        SHORT,
    ),
    "no LogN": (instead("rotary.logn_scale", lambda p, n: torch.ones_like(LOGN(p, n))), LONG),
    "LogN off by one": (instead("rotary.logn_scale", lambda p, n: LOGN(p - 1, n)), LONG),
    "no NTK": (instead("modeling.factors", lambda *given: torch.ones(1)), LONG),
    "NTK without the power": (instead("rotary.rotation", without_power), LONG),
    "NTK recomputed at decode": (instead("modeling.factors", by_length_alone), decode_distance),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_values_fail_the_comparison(eager, golden, mistake, monkeypatch):
    """Each of these, one at a time, moves an array further than is tolerated (and without it none is moved)."""
    make, measure = MISTAKES[mistake]
    assert measure(eager, golden) < 1
    make(eager, monkeypatch)
    assert measure(eager, golden) > 1
