"""What must hold of the native Qwen-VL whatever its weights: random small models, nothing from outside."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

from evalkit.model.qwen_vl import QwenVLCache, QwenVLConfig, rotary
from evalkit.model.qwen_vl.images import images_per_row

IMG, END, FILLER, PAD = 90, 91, 92, 95
SPAN = [IMG, *[FILLER] * 16, END]
SEQ_LENGTH = 32


@pytest.fixture(scope="module")
def model(small: Any) -> Any:
    return small()


def prompt(seed: int, *, words: int, images: int = 0) -> list[int]:
    """``images`` spans, each after its share of ``words`` random tokens, and words at the end."""
    drawn = torch.randint(0, 80, (words,), generator=torch.Generator().manual_seed(seed)).tolist()
    ids: list[int] = []
    for at in range(images):
        ids += drawn[at * words // (images + 1) : (at + 1) * words // (images + 1)] + SPAN
    return ids + drawn[images * words // (images + 1) :]


def pixels(seed: int, images: int) -> torch.Tensor:
    return torch.randn(images, 3, 56, 56, generator=torch.Generator().manual_seed(seed))


def batch(rows: list[tuple[list[int], torch.Tensor]]) -> dict[str, Any]:
    """Prompts padded on the left, and all their images."""
    longest = max(len(ids) for ids, _ in rows)
    pads = [longest - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([[PAD] * pad + ids for pad, (ids, _) in zip(pads, rows, strict=True)]),
        "attention_mask": torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads]),
        "pixel_values": torch.cat([found for _, found in rows]) if any(len(found) for _, found in rows) else None,
    }


def mixed_rows() -> list[tuple[list[int], torch.Tensor]]:
    """Eight prompts of 5 to 200 tokens with 0 to 8 images, whose NTK factors are 1, 3, 7 and 15."""
    shapes = [(5, 0), (12, 1), (40, 0), (9, 2), (31, 0), (33, 1), (20, 8), (66, 0)]
    return [(prompt(at, words=w, images=k), pixels(at, k)) for at, (w, k) in enumerate(shapes)]


def tokens(model: Any, rows: list[Any], new: int = 8, **settings: Any) -> list[list[int]]:
    inputs = batch(rows)
    out = model.generate(**inputs, max_new_tokens=new, do_sample=False, **settings)
    return out[:, inputs["input_ids"].shape[1] :].tolist()


# -------------------------------------------------------------------------------------------------------------- factor


def test_ntk_factor_by_length():
    config = QwenVLConfig(seq_length=2048)
    wanted = {1: 1, 2048: 1, 2049: 3, 4096: 3, 4097: 7, 8192: 7, 8193: 15}
    assert {length: config.ntk_alpha(length) for length in wanted} == wanted
    for seq_length in (7, 32):
        config = QwenVLConfig(seq_length=seq_length)
        lengths = torch.arange(1, 500)
        found = rotary.ntk_alpha(lengths, seq_length)
        assert found.tolist() == [config.ntk_alpha(length) for length in lengths.tolist()]
        logs = (torch.log2(lengths.double() / seq_length) + 1).ceil()
        assert torch.equal(found.double(), (2**logs - 1).clamp(min=1))
    assert QwenVLConfig(use_dynamic_ntk=False).ntk_alpha(10_000) == 1


def test_logn_scale():
    found = rotary.logn_scale(torch.tensor([[0, 30, 31, 32, 1023]]), 32).flatten()
    torch.testing.assert_close(found, torch.tensor([1, 1, 1, torch.log(torch.tensor(33.0)) / 3.4657359, 2]))


# ------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_batch_of_eight_equals_single_samples(small, attention):
    model = small(attention=attention)
    rows = mixed_rows()
    assert len({model.config.ntk_alpha(len(ids)) for ids, _ in rows}) == 4
    together = tokens(model, rows)
    assert together == [tokens(model, [row])[0] for row in rows]
    assert len({tuple(row) for row in together}) == 8
    assert tokens(model, rows[::-1]) == together[::-1]


@torch.inference_mode()
def test_sdpa_equals_eager(small, model):
    inputs = batch(mixed_rows())
    other = small(attention="eager")
    real = inputs["attention_mask"].bool()
    found = [m(**inputs).logits[real] for m in (model, other)]
    torch.testing.assert_close(*found, atol=2e-4, rtol=0)
    assert found[0].std() > 0.5


def test_original_counts_padding(small):
    """The compatibility switch: padding changes a row's answer above ``seq_length``, and positions are ignored."""
    model = small(original_padding=True)
    rows = mixed_rows()
    assert tokens(model, rows) != [tokens(model, [row])[0] for row in rows]
    inputs = batch(rows)
    with torch.inference_mode():
        plain = model(**inputs).logits
        assert torch.equal(model(**inputs, position_ids=torch.zeros_like(inputs["input_ids"])).logits, plain)


# --------------------------------------------------------------------------------------------------------------- cache


@pytest.mark.parametrize(("words", "images"), [(10, 0), (28, 0), (50, 0), (12, 1), (20, 3)])
def test_cache_does_not_change_logits(model, words, images):
    """With the request's factor, which a fresh run of a sequence that grew beyond ``seq_length`` would not take."""
    row = (prompt(words, words=words, images=images), pixels(words, images))
    alpha = torch.tensor([model.config.ntk_alpha(len(row[0]))])
    cached = tokens(model, [row], new=12)
    assert cached == tokens(model, [row], new=12, use_cache=False, ntk_alpha=alpha)
    ids = torch.tensor([row[0] + cached[0]])
    values = row[1] if images else None
    with torch.inference_mode():
        whole = model(ids, pixel_values=values, ntk_alpha=alpha).logits
        out = model(ids[:, : len(row[0])], pixel_values=values, use_cache=True)
        found = [out.logits]
        for step in ids[:, len(row[0]) :].split([5, 1, 6], dim=1):  # several at once, too
            found.append(model(step, past_key_values=out.past_key_values, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(found, 1), whole, atol=2e-4, rtol=0)


def test_static_and_plain_caches(model):
    rows = mixed_rows()[:4]
    wanted = tokens(model, rows)
    assert tokens(model, rows, cache_implementation="static") == wanted
    assert tokens(model, rows, past_key_values=DynamicCache()) == wanted
    assert tokens(model, rows, past_key_values=StaticCache(config=model.config, max_cache_len=80)) == wanted


@torch.inference_mode()
def test_rope_factor_is_per_request(model):
    """Another prompt in between changes nothing (in the original it does)."""
    ids = torch.tensor([prompt(1, words=30)])
    step = torch.tensor([[7]])
    first = model(ids, use_cache=True).past_key_values
    wanted = model(step, past_key_values=first).logits
    second = model(ids, use_cache=True).past_key_values
    model(torch.tensor([prompt(2, words=100)]), use_cache=True)
    assert torch.equal(model(step, past_key_values=second).logits, wanted)
    assert isinstance(second, QwenVLCache)
    assert second.ntk_alpha.tolist() == [1]


@torch.inference_mode()
def test_shared_prefix(model):
    """A prefix (shorter than ``seq_length``) prefilled once, its cache repeated for prompts above it."""
    head, images = prompt(3, words=8, images=1), pixels(3, 1)
    tails = [prompt(at, words=n) for at, n in ((10, 9), (11, 20), (12, 36))]
    rows = [(head + tail, images) for tail in tails]
    assert len(head) < SEQ_LENGTH < min(len(ids) for ids, _ in rows)
    factors = [model.config.ntk_alpha(len(ids)) for ids, _ in rows]
    assert factors == [3, 3, 3]
    alpha = torch.tensor(factors[:1])

    inner = model.model
    features = model.get_image_features(images)
    assert features.shape == (1, 16, 128)
    embeds = inner.wte(torch.tensor([head]))
    embeds[:, head.index(IMG) + 1 : head.index(END)] = features
    places = torch.arange(len(head))[None]
    for cache in (QwenVLCache(), DynamicCache()):
        mask = torch.ones(1, len(head), dtype=torch.long)
        inner.language_model(
            inputs_embeds=embeds,
            position_ids=places,
            attention_mask=mask,
            past_key_values=cache,
            ntk_alpha=alpha,
            use_cache=True,
        )
        cache.batch_repeat_interleave(3)
        longest = max(map(len, tails))
        pads = [longest - len(tail) for tail in tails]
        ids = torch.tensor([[PAD] * pad + tail for pad, tail in zip(pads, tails, strict=True)])
        mask = torch.tensor([[1] * len(head) + [0] * pad + [1] * (longest - pad) for pad in pads])
        given = None if isinstance(cache, QwenVLCache) else alpha.expand(3)
        out = inner.language_model(
            inputs_embeds=inner.wte(ids), attention_mask=mask, past_key_values=cache, ntk_alpha=given, use_cache=True
        )
        assert out.past_key_values is cache
        for at, (whole, found) in enumerate(rows):
            alone = model(torch.tensor([whole]), pixel_values=found).logits[0, -1]
            torch.testing.assert_close(model.lm_head(out.last_hidden_state[at, -1]), alone, atol=2e-4, rtol=0)
        step = torch.tensor([[1], [2], [3]])
        mask = torch.cat([mask, torch.ones(3, 1, dtype=torch.long)], 1)
        after = model(step, attention_mask=mask, past_key_values=cache).logits[:, -1]
        for at, (whole, found) in enumerate(rows):
            alone = model(torch.tensor([[*whole, at + 1]]), pixel_values=found, ntk_alpha=alpha).logits[0, -1]
            torch.testing.assert_close(after[at], alone, atol=2e-4, rtol=0)


@torch.inference_mode()
def test_factors_follow_caches_rows(model):
    ids = batch([(prompt(1, words=20), pixels(0, 0)), (prompt(2, words=40), pixels(0, 0))])
    cache = model(**ids, use_cache=True).past_key_values
    assert cache.ntk_alpha.tolist() == [1, 3]
    cache.batch_repeat_interleave(2)
    assert cache.ntk_alpha.tolist() == [1, 1, 3, 3]
    cache.batch_select_indices(torch.tensor([3, 0]))
    assert cache.ntk_alpha.tolist() == [3, 1]
    cache.reorder_cache(torch.tensor([1, 0]))
    assert cache.ntk_alpha.tolist() == [1, 3]
    cache.reset()
    assert cache.ntk_alpha is None


@torch.inference_mode()
def test_unknown_rope_factors_are_refused(model):
    plain = DynamicCache()
    model(torch.tensor([prompt(1, words=40)]), past_key_values=plain)
    plain.batch_repeat_interleave(2)
    assert model(torch.tensor([[1], [2]]), past_key_values=plain).logits.shape == (2, 1, 96)  # one for both
    plain.batch_repeat_interleave(2)
    with pytest.raises(ValueError, match="NTK factors of 4 rows are needed"):
        model(torch.ones(4, 1, dtype=torch.long), past_key_values=plain)
    unknown = DynamicCache()
    for layer in range(2):
        unknown.update(torch.ones(1, 4, SEQ_LENGTH - 1, 32), torch.ones(1, 4, SEQ_LENGTH - 1, 32), layer)
    step = torch.tensor([[1]])
    assert model(step, past_key_values=unknown).logits.shape == (1, 1, 96)  # it cannot have been another than 1
    del unknown.ntk_alpha
    with pytest.raises(ValueError, match="the NTK factors of the cached keys are unknown"):
        model(step, past_key_values=unknown)


# ------------------------------------------------------------------------------------------------------------ images


@torch.inference_mode()
@pytest.mark.parametrize("images", [0, 1, 8])
def test_images_of_256_tokens(small, images):
    """A prompt with eight examples' images is above 2048 tokens."""
    model = small(visual={"n_queries": 256}, seq_length=2048)
    ids: list[int] = []
    for at in range(images):
        ids += [IMG, *[FILLER] * 256, END, at, 5]
    row = (ids + [1, 2, 3], pixels(5, images))
    assert model.config.ntk_alpha(len(row[0])) == (3 if images == 8 else 1)
    first = tokens(model, [row], new=3)
    assert first == tokens(model, [row], new=3)
    inputs = batch([row])
    logits = model(**inputs, logits_to_keep=1).logits
    assert logits.isfinite().all()
    for at in {0, images - 1} if images else ():  # the first image matters, and the last
        other = row[1].clone()
        other[at] = 0
        assert not torch.allclose(model(**(inputs | {"pixel_values": other}), logits_to_keep=1).logits, logits)


@torch.inference_mode()
def test_placeholder_content_does_not_matter(model):
    ids = torch.tensor([prompt(4, words=12, images=2)])
    wanted = model(ids, pixel_values=pixels(4, 2)).logits
    spelled = ids.clone()
    spelled[ids == FILLER] = torch.arange(32) + 40
    assert torch.equal(model(spelled, pixel_values=pixels(4, 2)).logits, wanted)
    assert not torch.allclose(model(ids, pixel_values=pixels(4, 2).flip(0)).logits, wanted)
    assert images_per_row(
        torch.tensor([prompt(1, words=12, images=2), prompt(1, words=30, images=1)]), model.config
    ) == [
        2,
        1,
    ]


@torch.inference_mode()
def test_image_and_span_counts_must_match(model):
    ids = torch.tensor([prompt(4, words=12, images=2)])
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"2 image spans, but pixel_values has {count} images"):
            model(ids, pixel_values=pixels(4, count))
    with pytest.raises(ValueError, match="2 image spans, but pixel_values has 0 images"):
        model(ids)
    with pytest.raises(ValueError, match=r"\(2, 3, 28, 28\); \(images, 3, 56, 56\) is expected"):
        model(ids, pixel_values=torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match="pixel_values need input_ids"):
        model(inputs_embeds=model.model.wte(ids), pixel_values=pixels(4, 2))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(ids, inputs_embeds=model.model.wte(ids))
    # The model itself may write <img>: a token like any other.
    cache = model(ids, pixel_values=pixels(4, 2), use_cache=True).past_key_values
    assert model(torch.tensor([[IMG]]), past_key_values=cache).logits.isfinite().all()


def test_beams_keep_each_rows_images(model):
    rows = [(prompt(1, words=9, images=2), pixels(1, 2)), (prompt(2, words=20, images=1), pixels(2, 1))]
    together = tokens(model, rows, num_beams=3)
    assert together == [tokens(model, [row], num_beams=3)[0] for row in rows]
    inputs = batch(rows)
    ids = inputs.pop("input_ids")
    expanded, kwargs = model._expand_inputs_for_generation(expand_size=2, input_ids=ids, **inputs)
    first, second = rows[0][1], rows[1][1]
    assert torch.equal(kwargs["pixel_values"], torch.cat([first, first, second, second]))
    assert torch.equal(expanded, ids.repeat_interleave(2, 0))


@torch.inference_mode()
def test_images_are_encoded_once(model):
    calls = []
    hook = model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    row = (prompt(1, words=9, images=1), pixels(1, 1))
    tokens(model, [row], new=5)
    assert len(calls) == 1
    tokens(model, [row], new=5, use_cache=False)
    assert len(calls) == 6
    hook.remove()


# --------------------------------------------------------------------------------------------------------------- dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(small, dtype):
    model = small().to(dtype)
    rows = mixed_rows()[:4]
    inputs = batch(rows)
    with torch.inference_mode():
        logits = model(**inputs).logits
        exact = small()(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert logits.dtype == dtype
    difference = (logits.float() - exact)[real].abs().mean() / exact[real].std()
    assert difference < (0.05 if dtype == torch.bfloat16 else 0.01)
    assert len(tokens(model, rows, new=3)[0]) == 3


def test_training_with_checkpointed_gradients(small):
    model = small().train()
    ids = torch.tensor([prompt(1, words=40, images=1)])
    inputs = {"input_ids": ids, "pixel_values": pixels(1, 1), "labels": ids, "use_cache": False}
    losses = []
    for checkpointed in (False, True):
        model.zero_grad()
        if checkpointed:
            model.gradient_checkpointing_enable()
        loss = model(**inputs).loss
        loss.backward()
        losses.append((loss.detach(), model.model.visual.conv1.weight.grad.clone()))
    for one, other in pairwise(losses):
        torch.testing.assert_close(one, other)
