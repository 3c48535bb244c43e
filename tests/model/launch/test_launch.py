"""Devices, limits and arguments of servers that evalkit starts; the queue that they share."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.checkpoint import Checkpoint
from evalkit.engines import Engine, engine_arguments
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.model.launch import engines
from evalkit.model.launch.engines import VLLM, ServerSpec, SGLang, free_memory_share
from evalkit.model.launch.limits import PromptLimits
from evalkit.model.launch.placement import places
from evalkit.model.launch.shared_queue import MAX_GROUP, Share, SharedQueue
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

GIB = 2**30


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight GPUs of 80 GiB, as nvidia-smi lists them."""
    lines = "\n".join(f"{number}, GPU-{number:04x}, {80 * 1024}" for number in range(8))
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{lines}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("device", "each", "weights", "heads", "expected"),
    [
        ("auto", None, 16, 28, [["0"], ["1"], ["2"], ["3"], ["4"], ["5"], ["6"], ["7"]]),
        ("auto", None, 145, 64, [["0", "1", "2", "3"], ["4", "5", "6", "7"]]),  # 72 GiB would not fit beside the rest
        ("auto", None, 100, 64, [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]),
        (
            "auto",
            None,
            145,
            6,
            [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]],
        ),  # six heads are not four times as many
        ("auto", None, 10_000, 64, [["0", "1", "2", "3", "4", "5", "6", "7"]]),  # the engine says that it does not fit
        ("cuda:*", 4, 16, 28, [["0", "1", "2", "3"], ["4", "5", "6", "7"]]),
        ("cuda:*", 3, 16, 28, [["0", "1", "2"], ["3", "4", "5"]]),
        ("cuda:5,cuda:1", None, 16, 28, [["5"], ["1"]]),
        ("cuda:0+cuda:3,cuda:1+cuda:2", None, 16, 28, [["0", "3"], ["1", "2"]]),
        ("cuda", None, 16, 28, [["0"]]),
        ("cpu", None, 16, 28, [["cpu"]]),
        ("cpu,cpu", None, 16, 28, [["cpu"], ["cpu"]]),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_as_many_servers_as_devices_hold(
    device: str, each: int | None, weights: int, heads: int, expected: list[list[str]]
) -> None:
    assert [list(place) for place in places(device, each, weights * GIB, heads)] == expected


@pytest.mark.usefixtures("gpus")
def test_visible_devices_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0006,3")
    assert places("auto", None, GIB, 28) == (("GPU-0006",), ("3",))
    assert places("cuda:1", None, GIB, 28) == (("3",),)
    assert places("auto", None, 100 * GIB, 28) == (("GPU-0006", "3"),)  # the driver's memory is known by either name


@pytest.mark.parametrize(
    ("device", "each", "expected"),
    [
        ("cuda:8", None, "there are only 8 GPUs"), ("cuda:x", None, "give auto"), ("cuda:0,cpu", None, "give auto"),
        ("cuda:0,cuda:1", 3, "there are only 2 GPUs"), ("cuda:0+cuda:0", None, "named twice"),
        ("cuda:0+cuda:1", 2, "says it already"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("gpus")
def test_devices_that_cannot_be(device: str, each: int | None, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        places(device, each, GIB, 28)


def spec(tmp_path: Path, arguments: tuple[str, ...] = ()) -> ServerSpec:
    checkpoint = Checkpoint("m", str(tmp_path), {}, min_pixels=784, max_pixels=1_003_520, trust_remote_code=True)
    limits = PromptLimits(4096, 5, 1)
    return ServerSpec(
        checkpoint, "m-1", 8123, limits, ("2", "3"), 4, "bfloat16", engine_arguments(arguments), "/t.jinja"
    )


def flags(command: list[str]) -> dict[str, str]:
    """The values of arguments by name; a flag's is empty."""
    found, name = {}, ""
    for part in command:
        if part.startswith("--"):
            name = part
            found[name] = ""
        elif name:
            found[name] = part
    return found


@pytest.mark.parametrize(
    ("neighbours", "variable", "value"),
    [(1, "VLLM_CPU_NUM_OF_RESERVED_CPU", "0"), (2, "VLLM_CPU_OMP_THREADS_BIND", "nobind")],
)
def test_vllm_uses_all_cores(
    neighbours: int, variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, unless the user has chosen."""
    names = ("VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_OMP_THREADS_BIND")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    server = replace(spec(tmp_path), place=("cpu",), neighbours=neighbours)
    assert {name: text for name, text in VLLM().environment(server).items() if name in names} == {variable: value}
    assert not VLLM().environment(spec(tmp_path)).keys() & set(names)  # on GPUs
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0")
    assert VLLM().environment(server).get("VLLM_CPU_NUM_OF_RESERVED_CPU") is None


def test_vllm_shares_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, unless the user has chosen."""
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    free = free_memory_share()
    assert free is not None
    assert 0 < free < 1
    monkeypatch.setattr(engines, "free_memory_share", lambda: 0.5)

    def share(**changes: Any) -> str | None:
        return VLLM().arguments(replace(spec(tmp_path), **changes)).get("gpu-memory-utilization")

    assert share() is None  # on GPUs
    assert share(place=("cpu",), neighbours=1) == "0.450"
    assert share(place=("cpu",), neighbours=2) == "0.225"
    assert share(place=("cpu",), arguments={"kv-cache-memory-bytes": "1G"}) is None
    monkeypatch.setattr(engines, "free_memory_share", lambda: None)
    assert share(place=("cpu",)) is None
    monkeypatch.setattr(engines, "free_memory_share", lambda: 0.5)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert share(place=("cpu",)) is None


def test_start_line_of_sglang_is_the_documented_one(tmp_path: Path) -> None:
    """https://docs.sglang.io/advanced_features/server_arguments.html"""
    command = SGLang().command(
        SGLang().start("python"), spec(tmp_path, ("mem-fraction-static=0.8", "disable_radix_cache"))
    )
    assert command[:3] == ["python", "-m", "sglang.launch_server"]
    found = flags(command[3:])
    assert json.loads(found.pop("--limit-mm-data-per-request")) == {"image": 5, "video": 1}
    assert json.loads(found.pop("--mm-process-config")) == {"image": {"min_pixels": 784, "max_pixels": 1_003_520}}
    assert found == {
        "--model-path": str(tmp_path), "--host": "127.0.0.1", "--port": "8123", "--served-model-name": "m-1",
        "--context-length": "4096", "--tensor-parallel-size": "2", "--log-level-http": "warning", "--dtype": "bfloat16",
        "--load-format": "safetensors", "--trust-remote-code": "", "--chat-template": "/t.jinja",
        "--mem-fraction-static": "0.8", "--disable-radix-cache": "",
    }  # fmt: skip


def test_arguments_of_the_user_replace_those_of_evalkit(tmp_path: Path) -> None:
    kind = VLLM()
    command = kind.command(kind.start("python"), spec(tmp_path, ("max-model-len=32768", "enforce-eager")))
    assert command[:5] == ["python", "-m", "vllm.entrypoints.cli.main", "serve", str(tmp_path)]
    found = flags(command[5:])
    assert command.count("--max-model-len") == 1
    assert (found["--max-model-len"], found["--enforce-eager"]) == ("32768", "")
    assert found["--tensor-parallel-size"] == "2"
    assert kind.environment(spec(tmp_path))["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_only_arguments_that_change_answers_are_part_of_the_identity() -> None:
    arguments = engine_arguments(("gpu-memory-utilization=0.8", "quantization=fp8", "--max_num_seqs=4"))
    assert arguments == {"gpu-memory-utilization": "0.8", "quantization": "fp8", "max-num-seqs": "4"}
    engine = Engine("vLLM", "1", ("vllm",), arguments, (("cpu",),), "auto")
    assert engine.identity() == {"engine arguments": {"quantization": "fp8"}}


def requests(images: list[int]) -> list[Request]:
    return [
        Request(str(n), (Message("user", (ImagePart(PathImage(f"{image}.jpg")), TextPart("?"))),), Decoding(8))
        for n, image in enumerate(images)
    ]


@given(
    st.lists(st.integers(0, 5), max_size=200),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "answer", "lose"])), max_size=300),
)
def test_shared_queue_hands_out_each_request_until_it_is_answered(
    images: list[int], events: list[tuple[int, str]]
) -> None:
    async def play() -> None:
        every = requests(images)
        queue = SharedQueue(every)
        shares = [Share(queue) for _ in range(3)]
        held: list[list[str]] = [[], [], []]
        answered: list[str] = []
        rest = [(lane, event) for lane in range(3) for event in ("take", "answer") * (2 * len(every))]
        for lane, event in [*events, *rest]:
            if event == "take" and shares[lane]:
                held[lane].append(shares[lane].popleft().id)
            elif event == "answer" and held[lane]:
                answered.append(held[lane].pop(0))
                shares[lane].answered(answered[-1])
            elif event == "lose":
                shares[lane].give_back()
                held[lane].clear()
            assert queue.unanswered == len(every) - len(answered)
        assert sorted(answered) == sorted(one.id for one in every)

    asyncio.run(play())


def test_large_group_is_shared() -> None:
    queue = SharedQueue(requests([0] * (2 * MAX_GROUP)))
    one, other = Share(queue), Share(queue)
    assert [one.popleft().id for _ in range(3)] == ["0", "1", "2"]
    assert other.popleft().id == str(MAX_GROUP)
