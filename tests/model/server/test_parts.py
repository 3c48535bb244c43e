"""Unit tests of the ``server`` backend's modules."""

from __future__ import annotations

import base64
import heapq
import io
import json
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from evalkit import registry
from evalkit.checkpoint import Checkpoint, resolve_checkpoint
from evalkit.endpoint import Endpoint, ServedModel
from evalkit.errors import UserError
from evalkit.images import PathImage, RowImage
from evalkit.model.grouping import order_by_images
from evalkit.model.server.chat_api import ChatAPI
from evalkit.model.server.concurrency import ConcurrencyLimiter
from evalkit.model.server.errors import FatalError, RequestFailed
from evalkit.model.server.http import on_this_machine
from evalkit.model.server.image_sizes import resize_rule, size_mismatch
from evalkit.model.server.images import ImageCache, encode
from evalkit.model.server.rejection import Rejection
from evalkit.types import Decoding, ImagePart, ImageSize, Message, PromptSpec, Request, TextPart

# ------------------------------------------------------------------------------------------------------------ images


def draw(mode: str, size: tuple[int, int] = (61, 47)) -> Image.Image:
    """Noise over a slope, in ``mode``."""
    noise = np.random.default_rng(0).integers(0, 60, (size[1], size[0], 3))
    slope = np.linspace(0, 190, size[0])[None, :, None]
    rgb = Image.fromarray((noise + slope).astype("uint8"))
    if mode == "RGBA":
        rgb.putalpha(Image.linear_gradient("L").resize(size))
        return rgb
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype("uint16") * 257)
    return rgb.convert(mode)


def saved(folder: Path, name: str, image: Image.Image, **options: Any) -> PathImage:
    image.save(folder / name, **options)
    return PathImage(str(folder / name))


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


CASES: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    # name: (file, mode, options of saving, sent as it is)
    "jpeg": ("a.jpg", "RGB", {"quality": 80}, True),
    "progressive jpeg": ("a.jpg", "RGB", {"progressive": True}, True),
    "grey jpeg": ("a.jpg", "L", {}, True),
    "png": ("a.png", "RGB", {}, True),
    "grey png": ("a.png", "L", {}, True),
    "a jpeg called png": ("a.png", "RGB", {"format": "JPEG"}, True),
    "rotated jpeg": ("a.jpg", "RGB", {"exif": rotated()}, False),
    "rotated png": ("a.png", "RGB", {"exif": rotated()}, False),
    "cmyk jpeg": ("a.jpg", "CMYK", {}, False),
    "palette png": ("a.png", "P", {}, False),
    "transparent png": ("a.png", "RGBA", {}, False),
    "png with a transparent colour": ("a.png", "RGB", {"transparency": (10, 20, 30)}, False),
    "16-bit png": ("a.png", "I;16", {}, False),
    "black and white png": ("a.png", "1", {}, False),
    "webp": ("a.webp", "RGB", {"lossless": True}, False),
    "gif": ("a.gif", "P", {}, False),
    "bmp": ("a.bmp", "RGB", {}, False),
    "tiff": ("a.tiff", "RGB", {}, False),
    "animated png": ("a.png", "RGB", {"save_all": True, "append_images": [draw("RGB")]}, False),
}


def decoded_by_server(content: bytes) -> Image.Image:
    """As vLLM decodes images: turned by their EXIF data, transparency laid on white, then RGB."""
    image = Image.open(io.BytesIO(content))
    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        white = Image.new("RGB", turned.size, (255, 255, 255))
        white.paste(turned, mask=turned.split()[3])
        return white
    return turned.convert("RGB")


@pytest.mark.parametrize("name", CASES)
def test_encoded_image_has_same_pixels_on_server(tmp_path: Path, name: str) -> None:
    file, mode, options, as_it_is = CASES[name]
    image = saved(tmp_path, file, draw(mode), **options)
    media, content, size = encode(image)
    seen, here = decoded_by_server(content), image.load()
    assert seen.size == here.size == size == image.size()
    assert np.array_equal(np.asarray(seen), np.asarray(here))
    assert (content == Path(image.path).read_bytes()) == as_it_is
    assert media == ("image/jpeg" if content[:2] == b"\xff\xd8" else "image/png")


def test_row_images_and_unreadable_images(tmp_path: Path) -> None:
    content = Path(saved(tmp_path, "a.jpg", draw("RGB")).path).read_bytes()
    row = RowImage("row 0", [{"image": {"bytes": content, "path": None}}], 0)
    assert encode(row)[1] == content
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(content[: len(content) // 2])
    for broken in (PathImage(str(cut)), PathImage(str(tmp_path / "absent.jpg"))):
        with pytest.raises(OSError, match="truncated|No such file"):
            encode(broken)


def test_cache_keeps_last_images(tmp_path: Path) -> None:
    images = [saved(tmp_path, f"{i}.png", draw("RGB")) for i in range(6)]
    length = len(ImageCache().data_url(images[0])[0])
    cache = ImageCache(max_bytes=3 * length)
    found = [cache.data_url(image) for image in images]
    for image in images:
        Path(image.path).rename(f"{image.path}.moved")
    assert [cache.data_url(image) for image in images[3:]] == found[3:]
    assert base64.b64decode(found[4][0].partition(b",")[2]) == Path(f"{images[4].path}.moved").read_bytes()
    for image in images[:3]:
        with pytest.raises(FileNotFoundError):
            cache.data_url(image)


# -------------------------------------------------------------------------------------------------------------- sizes


def served(family: str = "qwen2.5-vl", *, processor: str | None = None, **limits: int) -> Checkpoint:
    endpoint = Endpoint("http://localhost:1/v1", processor=processor)
    return Checkpoint("m", "m", {}, served=ServedModel(endpoint, family=family), **limits)


def test_sizes_equal_processors(tiny_backend: Any, tmp_path: Path) -> None:
    found = resize_rule(served(processor=resolve_checkpoint("tiny").location))
    sizes = [(148, 155), (20, 300), (30, 31), (640, 480), (57, 56), (1000, 90)]
    for number, size in enumerate(sizes):
        image = saved(tmp_path, f"{number}.png", Image.new("RGB", size))
        request = Request("r", (Message("user", (ImagePart(image), TextPart("x"))),), Decoding(1))
        assert found.image_size(size) == tiny_backend.inputs.preview(request).image_sizes[0]
    assert found.known
    assert found.tokens((148, 155)) == 16


def test_sizes_without_processor_are_released_processors() -> None:
    released = resize_rule(served())
    assert (released.known, released.image_size((1000, 1000)).resized) == (False, (1008, 1008))
    smaller = resize_rule(served(max_pixels=100_352))
    assert smaller.image_size((1000, 1000)).resized == (308, 308)
    assert resize_rule(served("generic")).image_size((5, 7)) == ImageSize((5, 7), (5, 7))
    with pytest.raises(UserError, match="--max-pixels: how the processor of m resizes images is unknown"):
        resize_rule(served("generic", max_pixels=1000))


def test_prompt_lengths_reveal_other_sizes() -> None:
    request = Request("r", (Message("user", (ImagePart(PathImage("a")), TextPart("what?"))),), Decoding(1))
    image_sizes = [ImageSize((100, 100), (280, 280))]  # 100 tokens
    assert size_mismatch(request, image_sizes, 28, 130) is None
    assert "the images alone are 100" in str(size_mismatch(request, image_sizes, 28, 60))
    assert "but at most" in str(size_mismatch(request, image_sizes, 28, 2000))
    assert size_mismatch(request, image_sizes, None, 60) is size_mismatch(request, image_sizes, 28, 0) is None


# ---------------------------------------------------------------------------------------------------- how many at once


def simulate(
    limiter: ConcurrencyLimiter, clock: list[float], *, room: int, seconds: float = 1.0, requests: int = 3000
) -> float:
    """Answer requests as a server does that works on ``room`` of them at full speed; returns requests a second."""
    in_flight: list[float] = []
    began, left = clock[0], requests
    while left or in_flight:
        while left and len(in_flight) < limiter.limit:
            slower = max(1.0, (len(in_flight) + 1) / room)
            heapq.heappush(in_flight, clock[0] + seconds * slower)
            limiter.record_sent()
            left -= 1
        limiter.record_load(len(in_flight))
        clock[0] = heapq.heappop(in_flight)
        limiter.record_done()
        limiter.record_answer(seconds)
    return requests / (clock[0] - began)


def answer(limiter: ConcurrencyLimiter, clock: list[float], count: int, rate: Callable[[int], float]) -> list[int]:
    """Answer ``count`` requests while as many wait as there may be; the limits after each.

    Args:
        rate: the server's answers a second, by the number of requests in flight.
    """
    found = []
    for _ in range(count):
        while limiter.in_flight < limiter.limit:
            limiter.record_sent()
        limiter.record_load(limiter.in_flight)
        clock[0] += 1 / rate(limiter.in_flight)
        limiter.record_done()
        limiter.record_answer(1.0)
        found.append(limiter.limit)
    return found


def limiter_and_clock(maximum: int = 128, **options: float) -> tuple[ConcurrencyLimiter, list[float]]:
    clock = [0.0]
    return ConcurrencyLimiter(maximum, clock=lambda: clock[0], **options), clock


def test_limit_is_found_within_fifty_answers() -> None:
    limiter, clock = limiter_and_clock()
    limits = answer(limiter, clock, 50, lambda count: count / (8 + count))
    assert limits[0] > 32
    assert limits[-1] >= 96
    assert limiter.highest >= 96
    small, clock = limiter_and_clock(5)
    assert set(answer(small, clock, 50, lambda count: float(count))) == {5}


def test_slow_answers_end_the_growth_at_the_start() -> None:
    """With more in flight, each would take longer than a request may."""
    limiter, clock = limiter_and_clock(slow=0.5)
    assert set(answer(limiter, clock, 40, float)) == {32}


def test_limit_is_what_the_server_accepts() -> None:
    limiter, clock = limiter_and_clock()
    for place in range(12):
        limiter.record_sent()
        if place >= 8:  # it has room for eight
            limiter.record_done()
            limiter.record_overload(clock[0], refused=True)
    assert limiter.limit == 8
    assert not limiter.may_resend
    limiter.record_done()
    assert limiter.may_resend


@pytest.mark.parametrize(("pause", "soon"), [(0.0, True), (1.0, False)])
def test_limit_that_was_lowered_is_probed(pause: float, soon: bool) -> None:
    """A refused request costs nothing where others are answered, and a pause where the server asks for one."""
    limiter, clock = limiter_and_clock()
    for _ in range(8):
        limiter.record_sent()
    limiter.record_overload(clock[0], pause, refused=True)
    clock[0] += pause
    limits = answer(limiter, clock, 40, float)
    assert (limits[-1] > 8) is soon
    assert answer(limiter, clock, 200, float)[-1] > 8
    before, every = limiter.limit, []
    for _ in range(3):  # each time that it is raised, the server refuses
        clock[0] += 10
        limiter.record_overload(clock[0], pause, refused=True)
        clock[0] += pause
        count = 0
        while limiter.limit < before and count < 5000:
            answer(limiter, clock, 1, float)
            count += 1
        every.append(count)
    assert (every[-1] > 2 * every[0]) is not soon


@pytest.mark.parametrize("best", [8, 24, 64])
def test_server_that_gets_slower_gets_fewer_requests_in_long_run(best: int) -> None:
    limiter, clock = limiter_and_clock()
    answer(limiter, clock, 2000, lambda count: min(count, best) * (best / max(best, count)) ** 0.5)
    assert best / 2 <= limiter.limit <= 2 * best


def test_server_that_forms_batches_keeps_its_requests_in_long_run() -> None:
    limiter, clock = limiter_and_clock()
    limits = answer(limiter, clock, 5000, lambda count: count / (8 + count))
    assert statistics.median(limits[500:]) >= 96
    assert limits[-1] >= 64


@pytest.mark.parametrize("room", [1, 3, 10, 40, 200])
def test_throughput_is_that_of_server(room: int) -> None:
    limiter, clock = limiter_and_clock()
    simulate(limiter, clock, room=room)
    assert simulate(limiter, clock, room=room) >= 0.8 * min(room, 128)  # requests a second; `room` is the most


def test_failures_halve_limit_once_for_requests_in_flight() -> None:
    limiter, clock = limiter_and_clock()
    answer(limiter, clock, 50, float)
    before = limiter.limit
    began, clock[0] = clock[0], clock[0] + 1
    for _ in range(20):
        limiter.record_overload(began, pause=3.0)
    assert limiter.limit == before // 2
    assert limiter.seconds_paused() == pytest.approx(3.0)
    assert not limiter.may_resend
    clock[0] += 3
    assert limiter.seconds_paused() == 0
    limiter.record_overload(clock[0])
    assert limiter.limit == before // 4
    for _ in range(20):
        clock[0] += 1
        limiter.record_overload(clock[0])
    assert limiter.limit == 1
    limiter.in_flight = 0
    answer(limiter, clock, 2000, float)
    assert limiter.limit > 16  # and it comes back


# -------------------------------------------------------------------------------------------------------------- order


@given(st.lists(st.integers(0, 5), max_size=40))
def test_order_by_images_keeps_questions_of_image_together(images: list[int]) -> None:
    requests = [
        Request(f"{n}", (Message("user", (ImagePart(PathImage(f"{name}")),)),), Decoding(1))
        for n, name in enumerate(images)
    ]
    sent = order_by_images(requests)
    assert Counter(r.id for r in sent) == Counter(r.id for r in requests)
    names = [r.images[0].name for r in sent]
    assert [name for name, _ in groupby(names)] == list(dict.fromkeys(map(str, images)))
    for name in set(names):
        ids = [int(r.id) for r in sent if r.images[0].name == name]
        assert ids == sorted(ids)


# ----------------------------------------------------------------------------------------------------- what is written


def chat() -> ChatAPI:
    return ChatAPI(served(), lambda image: f"data:{image.name}".encode())


def reply(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "stop", **choice}]}


REQUEST = Request("r", (Message("user", (TextPart("what?"),)),), Decoding(8, stop=("\n",)))


def test_replies_are_parsed() -> None:
    parse = chat().parse
    assert parse(REQUEST, reply()).text == "a"
    assert parse(REQUEST, reply(finish_reason="length")).finish == "length"
    assert parse(REQUEST, reply(token_ids=[5, 6, 7])).tokens == (5, 6)  # the last one ended the turn
    assert parse(REQUEST, reply(token_ids=[5, 6, 7], stop_reason="\n")).tokens == (5, 6, 7)
    assert parse(REQUEST, reply(token_ids=[5, 6, 7], finish_reason="length")).tokens == (5, 6, 7)
    assert parse(REQUEST, reply(message={"content": "one\ntwo"})).text == "one"
    assert parse(REQUEST, reply(message={"content": None})).text == ""
    thought = {"content": "B", "reasoning_content": "hm"}
    assert parse(REQUEST, reply(message=thought)).text == "<think>hm</think>B"
    unfinished = {"content": None, "reasoning": "hm"}
    assert parse(REQUEST, reply(message=unfinished, finish_reason="length")).text == "<think>hm"
    filtered = parse(REQUEST, reply(finish_reason="content_filter"))
    assert (filtered.finish, filtered.error) == ("error", "the server ended the answer with 'content_filter'")
    for nothing in ({}, {"choices": []}, [], {"choices": [{"message": None}]}, "x"):
        with pytest.raises(RequestFailed):
            parse(REQUEST, nothing)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("FINISH_REASON_STOP", "stop"), ("eos_token", "stop"), ("completed", "stop"),
        ("end_turn", "stop"), ("stop_sequence", "stop"), (None, "stop"),
        ("length", "length"), ("LENGTH", "length"), ("MAX_TOKENS", "length"), ("FINISH_REASON_MAX_TOKENS", "length"),
        ("model_length", "length"), ("max_output_tokens", "length"),
        ("content_filter", "error"), ("SAFETY", "error"), ("abort", "error"), ("error", "error"), ("tool_calls", "error"),
    ],
)  # fmt: skip
def test_finish_reasons_of_servers(reason: str | None, finish: str) -> None:
    assert chat().parse(REQUEST, reply(finish_reason=reason)).finish == finish


def test_refusals_are_answers_or_reason_for_error() -> None:
    refused = {"content": None, "refusal": "I cannot help."}
    assert chat().parse(REQUEST, reply(message=refused)).text == "I cannot help."
    filtered = chat().parse(REQUEST, reply(message=refused, finish_reason="content_filter"))
    assert (filtered.finish, filtered.error) == ("error", "I cannot help.")
    failed = chat().parse(REQUEST, reply(finish_reason="error", error={"message": "overloaded", "code": 502}))
    assert (failed.finish, failed.error) == ("error", "overloaded")


def test_answers_end_with_turn() -> None:
    found = chat().parse(
        REQUEST, reply(message={"content": "red<|im_end|>\n<|im_start|>user\nwhat?"}, finish_reason="length")
    )
    assert (found.text, found.finish) == ("red", "stop")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "re"}, {"type": "text", "text": "d"}]}, "red"),
        ({"content": [{"type": "output_text", "text": "red"}]}, "red"),
        ({"content": ["red"]}, "red"),
        ({"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "red"}]}, "<think>hm</think>red"),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "red"}]}, "<think>hm</think>red"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "red"}]}, "<think>hm</think>red"),
        ({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, {"text": "red"}]}, "<think>hm</think>red"),
        ({"content": [{"type": "image_url", "image_url": {}, "text": "x"}, {"type": "text", "text": "red"}]}, "red"),
        ({"content": "red", "reasoning": "hm"}, "<think>hm</think>red"),
        ({"content": "red", "reasoning_content": ""}, "red"),
        ({"content": "red", "reasoning": {"effort": "low"}}, "red"),
    ],
)  # fmt: skip
def test_reasoning_is_no_part_of_answer(message: dict[str, Any], text: str) -> None:
    found = chat().parse(REQUEST, reply(message=message))
    assert found.text == text
    for kind in ("vqa", "caption"):
        spec = PromptSpec("x", kind)  # type: ignore[arg-type]
        assert registry.families.get("generic").parse(spec, found.text, ()).value == "red"


@pytest.mark.parametrize(
    ("message", "finish", "prompt_end"),
    [
        ({"content": "It may be"}, "length", "<think>\n"),  # cut off in reasoning that the prompt opened
        ({"content": "It is</think>red"}, "stop", "<think>\n"),
        ({"content": "red"}, "stop", ""),  # the server has removed the reasoning
        ({"content": "re", "reasoning": "hm"}, "length", ""),
        ({"content": "<think>It may be"}, "length", ""),
    ],
)
def test_prompts_that_open_reasoning(message: dict[str, Any], finish: str, prompt_end: str) -> None:
    one = chat()
    one.prompt_end = "<think>\n"
    assert one.parse(REQUEST, reply(message=message, finish_reason=finish)).prompt_end == prompt_end


NESTED = "<think>a <think>Is it blue? I think that it is red, because of the colour.</think> red"


@pytest.mark.parametrize(
    ("message", "reason", "finish"),
    [
        ({"content": NESTED}, "stop", "stop"),
        ({"content": NESTED}, "length", "length"),
        ({"content": NESTED}, None, "length"),  # it does not say, and the reasoning may not have ended
        ({"content": f"{NESTED}<|im_end|>"}, None, "stop"),
        ({"content": "red", "reasoning": NESTED[len("<think>") : -len("</think> red")]}, None, "length"),
        ({"content": "<think>hm</think> red"}, None, "stop"),
    ],
)
def test_replies_that_do_not_say_how_they_ended(message: dict[str, Any], reason: str | None, finish: str) -> None:
    found = chat().parse(Request("r", REQUEST.messages, Decoding(80)), reply(message=message, finish_reason=reason))
    assert found.finish == finish


def test_each_request_has_its_own_seed() -> None:
    def sent(name: str, **how: Any) -> dict[str, Any]:
        request = Request(name, REQUEST.messages, Decoding(8, **how))
        return dict(json.loads(chat().body(request)))

    greedy = sent("r")
    assert (greedy["temperature"], greedy["frequency_penalty"], greedy["repetition_penalty"]) == (0, 0, 1)
    assert not {"seed", "top_k", "min_tokens", "stop"} & set(greedy)
    one, other = (sent(name, temperature=0.7, top_k=5, seed=1) for name in "ab")
    assert one["seed"] != other["seed"]
    assert (
        one["seed"] == sent("a", temperature=0.7, top_k=5, seed=1)["seed"] != sent("a", temperature=0.7, seed=2)["seed"]
    )
    assert (one["temperature"], one["top_k"]) == (0.7, 5)
    assert sent("r", min_new_tokens=3)["min_tokens"] == 3


def test_penalties_are_sent_and_required() -> None:
    api = chat()
    request = Request("r", REQUEST.messages, Decoding(8, presence_penalty=1.5, repetition_penalty=1.05))
    body = json.loads(api.body(request))
    assert (body["presence_penalty"], body["repetition_penalty"]) == (1.5, 1.05)
    refused = rejection("Unexpected fields in the request: {'presence_penalty', 'repetition_penalty'}")
    neutral = api.body(REQUEST)
    assert api.adapt(neutral, "m", refused) is not None  # penalties that change nothing are left out
    assert not {"presence_penalty", "repetition_penalty"} & set(json.loads(api.body(REQUEST)))
    body = api.body(request)
    assert json.loads(body)["repetition_penalty"] == 1.05  # others never are
    with pytest.raises(FatalError, match="does not support presence_penalty, so leave out --presence-penalty"):
        api.adapt(body, "m", refused)
    ranked = json.loads(chat().body(Request("r", REQUEST.messages, request.decoding, ("A", "B"))))
    assert (ranked["presence_penalty"], ranked["repetition_penalty"]) == (0, 1)


def rejection(text: str) -> Rejection:
    return Rejection.parse(json.dumps({"error": {"message": text}}).encode())


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("Unexpected fields in the request: {'repetition_penalty', 'return_token_ids'}", {"repetition_penalty", "return_token_ids"}),
        ("Unrecognized request argument supplied: skip_special_tokens", {"skip_special_tokens"}),
        ('[{"type": "extra_forbidden", "loc": ["body", "return_token_ids"]}]', {"return_token_ids"}),
    ],
)  # fmt: skip
def test_unsupported_fields_are_left_out(text: str, left_out: set[str]) -> None:
    one = chat()
    body = one.body(REQUEST)
    assert one.adapt(body, text, rejection(text))
    assert set(one.left_out) == left_out
    assert one.adapt(body, text, rejection(text)) == ""  # sent before it was known
    assert not any(name.encode() in one.body(REQUEST) for name in left_out)


def test_other_rejections_change_nothing() -> None:
    one = chat()
    body = one.body(REQUEST)
    for text in ("This model's maximum context length is 4096 tokens", "stop: the image is too large", "no"):
        assert one.adapt(body, text, rejection(text)) is None
    assert one.left_out == {}
    other = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    assert "max_completion_tokens instead of max_tokens" in str(one.adapt(body, other, rejection(other)))
    assert b'"max_completion_tokens": 8' in one.body(REQUEST)
    with pytest.raises(FatalError, match="the server does not support stop, so leave out --stop"):
        one.adapt(body, "x", rejection("Unrecognized request argument supplied: 'stop'"))


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://localhost:1/v1", True), ("http://127.9.0.1/v1", True), ("http://[::1]:5/v1", True),
        ("http://example.org/v1", False), ("http://10.0.0.1/v1", False), ("http://localhost.evil.example/v1", False),
    ],
)  # fmt: skip
def test_loopback_addresses_are_local(address: str, here: bool) -> None:
    assert on_this_machine(address) is here


@pytest.mark.parametrize(
    ("switches", "thinking", "sent"),
    [
        (("enable_thinking",), True, {"enable_thinking": True}),
        (("enable_thinking",), False, {"enable_thinking": False}),
        (("thinking_mode",), False, {"thinking_mode": "short"}),
        (
            None,
            False,
            {"enable_thinking": False, "thinking": False, "thinking_mode": "short"},
        ),  # the template is not known
        (("enable_thinking",), None, None),
        ((), True, None),
    ],
)
def test_thinking_is_sent_to_the_chat_template(
    switches: tuple[str, ...] | None, thinking: bool | None, sent: dict[str, Any] | None
) -> None:
    checkpoint = served()
    checkpoint = replace(checkpoint, served=replace(checkpoint.served, switches=switches))
    body = json.loads(ChatAPI(checkpoint, lambda image: image.name.encode()).body(replace(REQUEST, thinking=thinking)))
    assert body.get("chat_template_kwargs") == sent


def test_servers_that_cannot_switch_thinking_end_the_run() -> None:
    checkpoint = replace(served(), served=replace(served().served, switches=("thinking",)))
    one = ChatAPI(checkpoint, lambda image: image.name.encode())
    body = one.body(replace(REQUEST, thinking=True))
    with pytest.raises(FatalError, match="so --thinking cannot be sent"):
        one.adapt(body, "no", Rejection("no", fields=frozenset({"chat_template_kwargs"})))


@pytest.mark.parametrize(
    ("choice", "usage", "count"),
    [
        ({"message": {"content": "red"}}, {}, 0),
        ({"message": {"content": "<think>hm</think>red"}}, {"completion_tokens": 9}, None),
        (
            {"message": {"content": "red", "reasoning": "hm"}},
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}},
            7,
        ),
        (
            {"message": {"content": "red", "reasoning": "hm"}},
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 70}},
            9,
        ),
        (
            {"message": {"content": "red", "reasoning": "hm"}},
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 0}},
            None,
        ),
        ({"message": {"content": "<think>hm"}, "finish_reason": "length"}, {"completion_tokens": 9}, 9),
        ({"message": {"content": None, "reasoning": "hm"}, "finish_reason": "length"}, {}, None),
        (
            {"message": {"content": "red", "reasoning": "hm"}},
            {"completion_tokens": "x", "completion_tokens_details": 3},
            None,
        ),
    ],
)
def test_reasoning_tokens_of_replies(choice: dict[str, Any], usage: dict[str, Any], count: int | None) -> None:
    assert chat().parse(REQUEST, {**reply(**choice), "usage": usage}).reasoning_tokens == count
