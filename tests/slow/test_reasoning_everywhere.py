"""Closed, nested, unclosed and cut-off reasoning: equal records in process, through a real vLLM server, and rescored.

The bundled checkpoint does not reason, so it is first trained to give these answers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.checkpoint import bundled_folder

pytestmark = pytest.mark.slow
LONG = "<think>" + "It may be red or blue. " * 8
# question, what the model answers, its final answer (None: unparsed), how the reasoning ended, whether it is truncated
CASES = [
    ("one", "<think>Blue? No.</think>\n\nred", "red", "opened", False),
    (
        "two",
        "<think>Blue? <think>Is it blue? I think that it is red. Yes, it is red.</think> Yes.</think>red",
        "red",
        "opened",
        False,
    ),
    ("three", "Blue? No.</think><answer>red</answer>", "red", "closed", False),
    ("four", "<think>Blue?</think><think>No.</think>red", "red", "opened", False),
    ("five", "<think>It is red", None, "unfinished", True),
    ("six", LONG + "</think>red", None, "unfinished", True),
    ("seven", "red", "red", None, False),
    ("eight", "red or blue " * 40, None, None, True),
    # One marker closes two: cut off in the outer reasoning, and after a mention.
    ("nine", "<think>Blue? <think>Is it blue? I think that it is red.</think> " + "It is red. " * 40, None, "unfinished", True),
    ("ten", "<think>Use <think> first. Is it blue? I think that it is red.</think>red", "red", "opened", False),
]  # fmt: skip
LIMIT = 80
"""New tokens: the sixth, the eighth and the ninth answer are longer."""
SYSTEM = "Which colour?"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoint, trained on the answers of ``CASES``."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tmp_path_factory.mktemp("taught") / "taught"
    processor: Any = AutoProcessor.from_pretrained(bundled_folder("tiny"))
    model: Any = AutoModelForImageTextToText.from_pretrained(bundled_folder("tiny"), dtype=torch.float32)
    image = Image.new("RGB", (64, 64), "red")
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt(question)}]}],
            tokenize=False, add_generation_prompt=True,
        )
        for question, *_ in CASES
    ]  # fmt: skip
    texts = [p + answer + "<|im_end|>" for p, (_, answer, *_) in zip(prompts, CASES, strict=True)]
    processor.tokenizer.padding_side = "right"
    inputs = processor(text=texts, images=[[image]] * len(texts), padding=True, return_tensors="pt")
    labels = inputs["input_ids"].clone()
    for row, p in enumerate(prompts):
        length = len(processor(text=[p], images=[[image]])["input_ids"][0])
        labels[row, :length] = -100
    labels[inputs["attention_mask"] == 0] = -100
    torch.manual_seed(0)
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 if step < 150 else 5e-4
        loss = model(**inputs, labels=labels).loss
        if loss < 0.008:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.05, float(loss)
    shutil.copytree(bundled_folder("tiny"), folder)
    model.save_pretrained(folder)
    return folder


def prompt(question: str) -> str:
    return f"{question}\n{SYSTEM}"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A custom task with a question per case, and a prompt file."""
    folder = tmp_path_factory.mktemp("task")
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    rows = [{"id": question, "image": "red.png", "question": question, "answers": ["red"]} for question, *_ in CASES]
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "prompt.txt").write_text(f"{{question}}\n{SYSTEM}\n")
    return folder


def evalkit(*arguments: str, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    done = subprocess.run(
        [sys.executable, "-c", "from evalkit.cli import main; main()", *arguments],
        cwd=cwd, env={**environment, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}, text=True, capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def lines(folder: Path) -> dict[str, dict[str, Any]]:
    (path,) = (path for path in folder.glob("*.jsonl") if not path.name.endswith(".scores.jsonl"))
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


def row(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "scores.json").read_text())["results"][0]


COMMON = ("--tasks", "cases.jsonl", "--kind", "vqa", "--max-new-tokens", str(LIMIT), "--prompt", "cases=prompt.txt")


@pytest.fixture(scope="module")
def here(checkpoint: Path, task: Path) -> Path:
    """The run in this process."""
    evalkit("run", *COMMON, "--model", str(checkpoint), "--dtype", "float32", "--name", "here", cwd=task)
    return task / "runs" / "here"


def check(folder: Path, *, tokens: bool = True) -> None:
    """Check the records and the score of a run over ``CASES``."""
    found = lines(folder)
    for question, answer, final, rule, truncated in CASES:
        line = found[question]
        assert answer.startswith(line["text"]) if line["finish"] == "length" else line["text"] == answer
        assert line["answer"] == final or (final is None and rule is None)
        assert line.get("reasoning") == rule
        if rule is not None:
            assert line["final"] == ("" if rule == "unfinished" else answer.rpartition("</think>")[2].strip())
            if tokens:
                assert 0 < line["reasoning_tokens"] <= line["new_tokens"]
                assert (line["reasoning_tokens"] == line["new_tokens"]) == (rule == "unfinished")
        assert truncated == (line["finish"] == "length" or rule == "unfinished")
    score = row(folder)
    assert (score["n"], score["truncated"]) == (len(CASES), sum(case[4] for case in CASES))
    assert score["value"] == pytest.approx(100 * 6 / 10)


def test_in_process(here: Path) -> None:
    check(here)
    assert row(here)["reasoning_tokens"] > 0


def test_scored_again(here: Path, task: Path) -> None:
    journal = next(path for path in here.glob("*.jsonl") if not path.name.endswith(".scores.jsonl"))
    evalkit(
        "score", "--tasks", "cases.jsonl", "--kind", "vqa", "--predictions", str(journal), "--name", "again", cwd=task
    )
    check(task / "runs" / "again")
    texts = [{"id": name, "text": line["text"]} for name, line in lines(here).items()]
    (task / "texts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts))
    evalkit(
        "score", "--tasks", "cases.jsonl", "--kind", "vqa", "--predictions", "texts.jsonl", "--family", "qwen2.5-vl",
        "--name", "texts", cwd=task,
    )  # fmt: skip
    first, again, plain = row(here), row(task / "runs" / "again"), row(task / "runs" / "texts")
    for key in ("value", "unparsed", "n"):
        assert first[key] == again[key]
    assert first["reasoning_tokens"] == again["reasoning_tokens"]
    # A text does not say how its answer ended: the eighth does not count as truncated, and the tenth does.
    assert (plain["n"], plain["truncated"]) == (first["n"], first["truncated"])
    assert (plain["value"], plain["unparsed"]) == (pytest.approx(100 * 5 / 10), first["unparsed"] + 1)
    assert lines(task / "runs" / "texts")["nine"]["answer"] is None


@pytest.fixture(scope="module")
def vllm(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a vLLM server with the trained checkpoint."""
    program = os.environ.get("EVALKIT_VLLM", "")
    if not Path(program).is_file():
        pytest.skip("EVALKIT_VLLM names no executable")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = [
        program, "serve", str(checkpoint), "--served-model-name", "taught", "--max-model-len", "4096", "--enforce-eager",
        "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True, cwd=log.parent
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        for _ in range(500):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{url}/models"):
                    break
            except OSError:
                time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_through_a_real_server(here: Path, task: Path, vllm: str) -> None:
    evalkit(
        "run", *COMMON, "--backend", "server", "--base-url", vllm, "--family", "qwen2.5-vl", "--name", "there", cwd=task
    )
    there = task / "runs" / "there"
    check(there)
    for name, line in lines(there).items():
        other = lines(here)[name]
        keys = ("text", "answer", "finish", "new_tokens", "reasoning", "reasoning_tokens", "final", "prompt_tokens")
        assert {key: line.get(key) for key in keys} == {key: other.get(key) for key in keys}
    for key in ("value", "unparsed", "truncated", "reasoning_tokens"):
        assert row(there)[key] == row(here)[key]
