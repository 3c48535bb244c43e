"""Replies of a server that were changed at random: asked again, a failed sample, or the answer that they give."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import pytest
from PIL import Image

from evalkit.model.server import sending

from ..mutations import Mutation, json_value, text
from .accepted import other_reply
from .harness import BOTH, Evalkit, Failures, called, share_of

QUESTIONS = 8
KEY = "sk-secret-4711"
LETTERS = "ABCD"
STATUSES = (400, 401, 404, 408, 413, 422, 429, 500, 502, 503)


def completion(answer: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer, "refusal": None, "tool_calls": []}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "stop_reason": None, "token_ids": [5, 6, 7]}
    usage = {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103}
    return {"id": "chat-1", "object": "chat.completion", "model": "one", "choices": [choice], "usage": usage}


def plain(answer: str) -> bytes:
    return json.dumps(completion(answer)).encode()


def parts(answer: str) -> bytes:
    reply = completion("")
    reply["choices"][0]["message"] |= {
        "content": [{"type": "text", "text": answer[:3]}, {"type": "text", "text": answer[3:]}],
        "reasoning_content": "It looks so.",
    }
    return json.dumps(reply).encode()


def stream(answer: str) -> bytes:
    events = []
    for delta in ({"role": "assistant"}, {"content": answer[:3]}, {"content": answer[3:]}, {}):
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop", "token_ids": [5]}
        events.append(json.dumps({"id": "chat-1", "choices": [choice], "usage": {"prompt_tokens": 100}}))
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def refusal(answer: str) -> bytes:
    error = {"message": f"{answer}: invalid value for {KEY}", "type": "invalid", "code": "bad", "param": "stop"}
    return json.dumps({"error": error}).encode()


def logprobs(answer: str) -> bytes:
    reply = completion(answer)
    tops = [
        {"token": token, "logprob": -0.5 * place, "bytes": [65]} for place, token in enumerate((answer, " B", "A"), 1)
    ]
    reply["choices"][0]["logprobs"] = {"content": [{"token": answer, "logprob": -0.5, "top_logprobs": tops}]}
    return json.dumps(reply).encode()


REPLIES: dict[str, tuple[Callable[[str], bytes], Mutation, int]] = {
    "plain": (plain, json_value, 160),
    "parts": (parts, json_value, 120),
    "stream": (stream, text, 160),
    "refusal": (refusal, json_value, 120),
    "logprobs": (logprobs, json_value, 80),
}
"""What makes an intact reply of an answer, how it is changed, and its share of 5,000."""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with questions whose answers are "answer 0" and so on, or letters.  Waits between attempts are short."""
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sending, "LONGEST_WAIT", 0.05)
    made = tmp_path / "made"
    made.mkdir()
    Image.new("RGB", (56, 56)).save(made / "0.png")
    rows: list[dict[str, Any]] = [
        {"id": str(i), "image": "0.png", "question": f"Number {i}?", "answers": [f"answer {i}"]}
        for i in range(QUESTIONS)
    ]
    (made / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for i, row in enumerate(rows):
        row.pop("answers")
        row |= {"options": ["a", "b", "c", "d"], "answer": LETTERS[i % 4]}
    (made / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def number_of(body: Any) -> int:
    """The question's number in a request."""
    content = body["messages"][-1]["content"]
    asked = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return int(asked.partition("Number ")[2].partition("?")[0])


def run(evalkit: Evalkit, folder: Path, url: str, questions: str, *more: str) -> Any:
    return called(
        evalkit, "run", "-t", questions, "--backend", "server", "--base-url", url, "--family", "generic", "--name", "R",
        "--patience", "5", "--timeout", "5", *more, cwd=folder, EVALKIT_API_KEY=KEY,
    )  # fmt: skip


def once(
    changed: Sequence[bytes], statuses: Sequence[int], right: Sequence[str], intact: Callable[[str], bytes]
) -> Callable[[int, Any], tuple[int, bytes]]:
    """Replies to each question with the changed reply once, then with the intact one."""
    lock, asked = Lock(), Counter[int]()

    def reply(_: int, body: Any) -> tuple[int, bytes]:
        number = number_of(body)
        with lock:
            asked[number] += 1
            first = asked[number] == 1
        return (statuses[number], changed[number]) if first else (200, intact(right[number]))

    return reply


@BOTH
@pytest.mark.parametrize("kind", REPLIES)
def test_changed_replies_are_asked_again_or_answers(
    evalkit: Evalkit, http_server: Any, made: Path, tmp_path: Path, kind: str, total: int
) -> None:
    make, mutation, share = REPLIES[kind]
    letters = kind == "logprobs"
    random, failures = Random(kind), Failures()
    for number in range(max(1, share_of(share, total) // QUESTIONS)):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        right = [LETTERS[i % 4] if letters else f"answer {i}" for i in range(QUESTIONS)]
        changed = [mutation(make(answer), random) for answer in right]
        statuses = [random.choice(STATUSES) if kind == "refusal" else 200 for _ in right]

        http_server.replace = once(changed, statuses, right, logprobs if letters else plain)
        with failures.collecting(f"{kind} {number}: {changed}", folder) as ended:
            more = ("--choice", "loglikelihood") if letters else ()
            ended.append(run(evalkit, folder, http_server.url, "letters.jsonl" if letters else "texts.jsonl", *more))
            other_reply(folder, right, changed, letters=letters)
            for path in folder.rglob("*"):
                assert path.is_dir() or KEY.encode() not in path.read_bytes(), f"the key is in {path}"
    failures.show()


@BOTH
def test_changed_list_of_models(evalkit: Evalkit, http_server: Any, made: Path, tmp_path: Path, total: int) -> None:
    random, failures = Random("models"), Failures()
    entries = [
        {"id": "one", "object": "model", "created": 1, "owned_by": "vllm", "root": "/models/one", "parent": None, "max_model_len": 4096},
        {"id": "two", "object": "model", "owned_by": "vllm", "root": "two", "parent": "one"},
    ]  # fmt: skip
    intact = json.dumps({"object": "list", "data": entries}).encode()
    http_server.replace = lambda _, body: (200, plain(f"answer {number_of(body)}"))
    for number in range(share_of(100, total)):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        http_server.models = (200, json_value(intact, random))
        with failures.collecting(f"models {number}: {http_server.models[1]!r}", folder) as ended:
            model = ("--model", "two") if number % 2 else ()
            ended.append(run(evalkit, folder, http_server.url, "texts.jsonl", "--limit", "1", *model))
    failures.show()
