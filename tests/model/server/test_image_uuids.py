"""Images that a server is told by their uuids: a real HTTP server keeps some, drops others, or knows none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit import registry
from evalkit.endpoint import Endpoint
from evalkit.images import PathImage, RowImage
from evalkit.model.backends.server import ServerBackend
from evalkit.model.server import image_uuids, sending
from evalkit.model.server.image_uuids import ServerImages
from evalkit.model.server.images import ImageCache
from evalkit.model.server.uuid_probe import MIN_REPEATED, pays
from evalkit.types import Decoding, ImagePart, Message, Request, Response, TextPart

from ...processes import wait_for

PROBES = 3
"""Requests that find out whether a server takes uuids."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sending, "LONGEST_WAIT", 0.05)


@pytest.fixture
def images(tmp_path: Path) -> list[PathImage]:
    """Different ones of the same size."""
    found = []
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (56, 56, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        found.append(PathImage(str(tmp_path / f"{number}.png")))
    return found


@pytest.fixture
def server(http_server: Any) -> Any:
    """A vLLM that keeps all images, and whose answer depends on every byte of the question and the images."""
    http_server.models = [{"id": "one", "owned_by": "vllm", "root": "one"}]
    http_server.keeps = 1000

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        parts = body["messages"][-1]["content"]
        shown = [part["image_url"]["url"] if part.get("image_url") else part.get("text") for part in parts]
        text = hashlib.sha256(json.dumps(shown).encode()).hexdigest()
        tokens = 20 + sum(part["type"] == "image_url" and part["image_url"] is not None for part in parts)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"id": "x", "choices": [choice], "usage": {"prompt_tokens": tokens, "completion_tokens": 3}}

    http_server.answer = answer
    return http_server


def questions(images: Sequence[PathImage], each: int, start: int = 0) -> list[Request]:
    """``each`` questions about each image, one image after another."""
    return [
        Request(
            f"{start + number}",
            (Message("user", (ImagePart(image), TextPart(f"What is in it? ({number})"))),),
            Decoding(max_new_tokens=8),
        )
        for number, image in enumerate(image for image in images for _ in range(each))
    ]


def backend_of(server: Any, concurrency: int = 2) -> ServerBackend:
    return ServerBackend(registry.backends.get("server").connect(None, Endpoint(server.url, concurrency, patience=30)))


def texts(responses: Iterator[Response]) -> dict[str, str]:
    found = list(responses)
    assert not [response.error for response in found if response.error]
    return {response.id: response.text for response in found}


def without(server: Any, requests: Sequence[Request]) -> dict[str, str]:
    """The answers when every request has its images."""
    listed, server.models = server.models, [{"id": "one", "owned_by": "nobody"}]
    asked = len(server.seen)
    found = texts(backend_of(server).generate(requests))
    assert len(server.seen) - asked == len(requests)
    assert not any(server.told[asked:])
    server.models = listed
    return found


def test_answers_are_equal_and_images_are_sent_once(server: Any, images: list[PathImage]) -> None:
    requests = questions(images, 10)
    expected = without(server, requests)
    plain, asked = sum(server.lengths), len(server.seen)
    backend = backend_of(server)
    assert texts(backend.generate(requests)) == expected
    assert len(set(expected.values())) == len(requests)
    about = backend.describe()["image_uuids"]
    assert len(server.seen) - asked == len(requests) + PROBES
    # At most two requests are in flight, so that the third about an image comes after an answer about it.
    assert about["told"] == sum(server.told[asked + PROBES :]) >= 8 * len(images)
    assert (about["used"], about["problem"], about["dropped"]) == (True, None, 0)
    assert sum(server.lengths[asked:]) < plain / 3
    assert not server.mixed_up
    sent = {part["uuid"] for body in server.seen[asked + PROBES :] for part in body["messages"][0]["content"][:1]}
    assert len(sent) == len(images)


def test_dropped_images_are_sent_again(server: Any, images: list[PathImage]) -> None:
    """Each round asks about all images, and the server has room for half of them; it is not tried forever."""
    rounds = [questions(images, 8, start=1000)] + [questions(images, 1, start=100 * number) for number in range(1, 9)]
    expected = [without(server, requests) for requests in rounds]
    server.keeps = 4
    backend = backend_of(server, concurrency=1)
    assert [texts(backend.generate(requests)) for requests in rounds] == expected
    about = backend.describe()["image_uuids"]
    assert about["dropped"] == image_uuids.MAX_DROPPED + 1
    assert about["problem"] == "it drops them too soon"
    assert not server.mixed_up
    asked = len(server.seen)
    assert texts(backend.generate(rounds[0])) == expected[0]
    assert not any(server.told[asked:])
    assert len(server.seen) - asked == len(rounds[0])  # nor is it tried again


def test_refused_request_fails_as_it_would_have(server: Any, images: list[PathImage]) -> None:
    """A question that the server rejects in any form is sent once more, with its image, and no other suffers."""
    requests = questions(images, 6)
    bad = requests[-1].messages[0].content[1]
    rejected: list[bool] = []

    def misbehave(number: int, body: dict[str, Any]) -> str | None:
        found = body["messages"][0]["content"][-1]["text"] == bad.text  # type: ignore[union-attr]
        if found:
            rejected.append(server.told[number] == 1)
        return "400" if found else None

    server.misbehave = misbehave
    responses = {response.id: response for response in backend_of(server, 1).generate(requests)}
    assert rejected == [True, False]
    failed = [response for response in responses.values() if response.error]
    assert [response.id for response in failed] == [requests[-1].id]
    assert "400: on purpose" in str(failed[0].error)


@pytest.mark.parametrize("status", ["401", "404", "500"])
def test_any_error_about_a_uuid_is_sent_again(server: Any, images: list[PathImage], status: str) -> None:
    requests = questions(images, 6)
    expected = without(server, requests)
    first = len(server.seen) + PROBES
    server.misbehave = lambda number, body: (
        status if number >= first and server.told[number] and number % 7 == 0 else None
    )
    backend = backend_of(server, 1)
    assert texts(backend.generate(requests)) == expected
    assert backend.describe()["image_uuids"]["dropped"] > 0
    assert backend.describe()["retries"] == {"busy": 0, "away": 0, "broken": 0}


Mischief = Callable[[Any], None]


def ignores(server: Any) -> None:
    """Other fields are nothing to it, and it leaves out an image without data."""
    server.keeps = None


def refuses(server: Any) -> None:
    """It wants an address for each image."""
    server.keeps = None
    server.misbehave = lambda number, body: "400" if server.told[number] else None


def accepts_all(server: Any) -> None:
    """It has kept an image, and answers about it whatever the uuid."""
    server.keeps = None
    server.answer = lambda body: {
        "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100},
    }


def forgets(server: Any) -> None:
    """Its cache is switched off."""
    server.keeps = 0


@pytest.mark.parametrize(
    ("mischief", "problem", "probes"),
    [
        (ignores, "the prompt of an image's uuid is not that of the image", 2),
        (refuses, "it was tried, and refused: 400: on purpose None", 2),
        (accepts_all, "it answers about images that it does not have", 3),
        (forgets, "it was tried, and refused: 400: Cache miss for image at index 0 but data is not provided", 2),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_server_that_takes_no_uuids_is_sent_all_images(
    server: Any, images: list[PathImage], mischief: Mischief, problem: str, probes: int
) -> None:
    mischief(server)
    requests = questions(images, 6)
    expected = without(server, requests)
    asked = len(server.seen)
    backend = backend_of(server)
    assert texts(backend.generate(requests)) == expected
    about = backend.describe()["image_uuids"]
    assert about == {"used": False, "problem": problem, "told": 0, "dropped": 0}
    assert len(server.seen) - asked == len(requests) + probes
    assert not any(server.told[asked + probes :])
    assert not any("uuid" in part for body in server.seen[asked + probes :] for part in body["messages"][0]["content"])


def test_prompt_without_its_images_is_no_answer(server: Any, images: list[PathImage]) -> None:
    """A server that has been tried stops putting images into prompts."""
    requests = questions(images, 6)
    expected = without(server, requests)
    real = server.answer

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        found = real(body)
        found["usage"]["prompt_tokens"] += 30
        number = next(n for n, one in enumerate(server.seen) if one is body)
        if number > asked + 20 and server.told[number]:
            found["usage"]["prompt_tokens"] = 2
            found["choices"][0]["message"]["content"] = "I see no image."
        return found  # type: ignore[no-any-return]

    server.answer, asked = answer, len(server.seen)
    checkpoint = registry.backends.get("server").connect(None, Endpoint(server.url, 1, patience=30))
    assert checkpoint.served is not None
    backend = ServerBackend(replace(checkpoint, served=replace(checkpoint.served, family="qwen2.5-vl")))
    assert texts(backend.generate(requests)) == expected
    assert backend.describe()["image_uuids"]["problem"] == "a prompt has fewer tokens than its images"
    assert not any(server.told[asked + 24 :])


def test_another_server_at_the_address_is_sent_all_images(server: Any, images: list[PathImage]) -> None:
    """A server that was away may be another program afterwards, which ignores uuids."""
    requests = questions(images, 6)
    expected = without(server, requests)
    backend = backend_of(server)
    # Requests are answered whether or not responses are taken: without this, all might be before the server stops.
    last = len(server.seen) + PROBES + 24
    server.misbehave = lambda number, body: "hang" if number >= last else None
    responses = backend.generate(requests)
    found = [next(responses) for _ in range(20)]
    assert any(server.told)
    server.stop()
    wait_for(lambda: sum(backend.counts[kind] for kind in ("unavailable", "failed")) > 0, 60)
    server.misbehave = lambda number, body: None
    server.keeps, asked = None, len(server.seen)
    server.start(server.port)
    assert texts(iter([*found, *responses])) == expected
    assert not any(server.told[asked:])
    assert len(server.seen) > asked
    about = backend.describe()["image_uuids"]
    assert about["used"]
    assert about["problem"] is None  # it would be tried again


def test_is_only_tried_where_it_pays(images: list[PathImage]) -> None:
    assert not pays(questions(images, 1))
    assert not pays(questions(images, MIN_REPEATED // len(images)))
    assert pays(questions(images, MIN_REPEATED // len(images) + 1))
    content = Path(images[0].path).read_bytes()
    rows = [{"image": {"bytes": content, "path": None}} for _ in range(MIN_REPEATED + 1)]
    same = [RowImage(f"row {number}", rows, number) for number in range(len(rows))]
    assert pays(questions(same, 1))  # type: ignore[arg-type]
    assert not pays(questions(same[:-1], 1))  # type: ignore[arg-type]


def test_unknown_software_is_not_tried(server: Any, images: list[PathImage]) -> None:
    server.models = [{"id": "one", "owned_by": "somebody"}]
    backend = backend_of(server)
    texts(backend.generate(questions(images, 6)))
    assert len(server.seen) == 6 * len(images)
    assert backend.describe()["image_uuids"] == {"used": False, "problem": None, "told": 0, "dropped": 0}


def test_uuids_are_of_the_content_and_mean_nothing_elsewhere(images: list[PathImage], tmp_path: Path) -> None:
    cache = ImageCache()
    found = [cache.uuid(image) for image in images]
    assert len(set(found)) == len(images)
    assert all(len(uuid) == 32 and int(uuid, 16) >= 0 for uuid in found)
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(images[0].path).read_bytes())
    assert cache.uuid(PathImage(str(copy))) == found[0]
    copy.write_bytes(Path(images[1].path).read_bytes())
    small = ImageCache(max_bytes=1)  # keeps the last image only
    assert [small.uuid(image) == uuid for image, uuid in zip(images, found, strict=True)] == [False] * len(images)
    again = [small.uuid(image) for image in images]
    assert again == [small.uuid(image) for image in images]
    assert small._uuids.keys() == small._cached.keys() == {images[-1].key}


def test_restart_forgets_what_the_server_had(images: list[PathImage]) -> None:
    cache = ImageCache()
    there = ServerImages(cache)
    assert there.uuids(0) is None  # not tried
    there.problem = ""

    def alone(restarts: int) -> bool:
        uuids = there.uuids(restarts)
        assert uuids is not None
        return uuids.of(images[0])[1]

    first = there.uuids(0)
    assert first is not None
    assert not first.of(images[0])[1]
    assert not alone(0)  # the first is not answered
    there.answered(first)
    assert alone(0)
    late = there.uuids(0)
    assert late is not None
    late.of(images[0])
    assert not alone(1)
    there.answered(late)  # by the server that is gone
    assert not alone(1)


def test_few_images_are_remembered(images: list[PathImage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_uuids, "MAX_KNOWN", 3)
    there = ServerImages(ImageCache())
    there.problem = ""
    for image in images:
        uuids = there.uuids(0)
        assert uuids is not None
        uuids.of(image)
        there.answered(uuids)
    last = there.uuids(0)
    assert last is not None
    assert [last.of(image)[1] for image in images] == [False] * 5 + [True] * 3
