"""``evalkit run --backend server`` with a real HTTP server that misbehaves on purpose."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoint import bundled_folder
from evalkit.model.server import sending

from ..processes import wait_for

Run = Callable[..., tuple[int, str]]
KEY = "sk-geheim-4711"


@pytest.fixture
def run(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], http_server: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:  # fmt: skip
    """``evalkit run`` on the server: (exit code, stderr).  Waits between attempts are short."""
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sending, "LONGEST_WAIT", 0.05)

    def call(*arguments: str, url: str | None = http_server.url, **environment: str) -> tuple[int, str]:
        where = ("--base-url", url) if url else ()
        done = evalkit(
            "run", "--backend", "server", *where, "--data", "tiny", "--family", "qwen2.5-vl", *arguments, cwd=tmp_path,
            **environment,
        )  # fmt: skip
        return done.returncode, " ".join(done.stderr.split())

    return call


def journals(folder: Path) -> dict[str, dict[str, Any]]:
    lines = [
        json.loads(line)
        for path in sorted(folder.glob("runs/*/*.jsonl"))
        if not path.name.endswith(".scores.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert not [key for key, count in Counter(line["id"] for line in lines).items() if count > 1]
    return {line["id"]: line for line in lines}


def manifest(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("runs/*/manifest.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def log(folder: Path) -> str:
    (path,) = folder.glob("runs/*/log.txt")
    return path.read_text()


def test_all_kinds_of_errors_are_retried(run: Run, http_server: Any, tmp_path: Path) -> None:
    trouble = ("429", "500", "503", "cut", "half", "garbage", "empty")
    draw = random.Random(0)
    lock = threading.Lock()
    mistreated: Counter[str] = Counter()

    def misbehave(number: int, body: Any) -> str | None:
        asked = json.dumps(body["messages"])
        with lock:
            if mistreated[asked] == 2 or draw.random() < 0.6:
                return None
            mistreated[asked] += 1
            return draw.choice(trouble)

    http_server.misbehave = misbehave
    code, said = run("--tasks", "vqav2,refcoco/val", "--limit", "100")
    assert code == 0, said
    lines = journals(tmp_path)
    assert len(lines) == 200
    assert {line["finish"] for line in lines.values()} == {"stop"}
    retries = manifest(tmp_path)["backend"]["retries"]
    assert min(retries["busy"], retries["away"], retries["broken"]) > 3
    assert len(http_server.bodies) == 200  # each was answered once


def test_timeout_is_retried(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.misbehave = lambda number, body: "hang" if number == 2 else None
    code, said = run("--tasks", "vqav2", "--limit", "12", "--timeout", "3")
    assert code == 0, said
    lines = journals(tmp_path)
    assert len(lines) == 12
    assert {line["finish"] for line in lines.values()} == {"stop"}
    assert manifest(tmp_path)["backend"]["retries"]["broken"] >= 1  # on a busy machine, others may time out too


def test_request_that_always_fails_is_one_failed_sample(run: Run, http_server: Any, tmp_path: Path) -> None:
    first: list[str] = []

    def misbehave(number: int, body: Any) -> str | None:
        text = json.dumps(body["messages"])
        first.append(text)
        return "500" if text == first[0] else None

    http_server.misbehave = misbehave
    code, said = run("--tasks", "vqav2", "--limit", "10")
    assert code == 1
    failed = [line for line in journals(tmp_path).values() if line["finish"] == "error"]
    assert len(failed) == 1
    assert failed[0]["error"] == "the server: 500: on purpose None, 5 times"
    assert first.count(first[0]) == 5

    http_server.misbehave = lambda number, body: None
    before = len(http_server.bodies)
    code, said = run("--tasks", "vqav2", "--limit", "10")
    assert (code, len(http_server.bodies) - before) == (0, 1)
    assert "re-running 1 samples: failed before" in said


def test_rejected_requests_are_not_retried(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.misbehave = lambda number, body: "400" if number % 2 else None
    code, _ = run("--tasks", "vqav2", "--limit", "10")
    assert code == 1
    assert len(http_server.seen) == 10
    assert sum(line["finish"] == "error" for line in journals(tmp_path).values()) == 5


def test_run_resumes_after_server_died(run: Run, http_server: Any, tmp_path: Path) -> None:
    stopped = threading.Event()

    def misbehave(number: int, body: Any) -> str | None:
        if number < 30:
            return None
        if number == 30:
            http_server.stop()
            stopped.set()
        stopped.wait()  # no request is cut while the server still responds to others
        return "cut"

    http_server.misbehave = misbehave
    code, said = run("--tasks", "vqav2", "--limit", "80", "--patience", "1")
    assert code == 1
    assert "no response for" in said
    assert "answers so far are saved; run the same command to resume" in said
    kept = journals(tmp_path)
    assert 20 <= len(kept) <= 30
    assert manifest(tmp_path)["state"].startswith("failed: ")

    http_server.misbehave = lambda number, body: None
    http_server.start(http_server.port)
    http_server.bodies.clear()
    code, said = run("--tasks", "vqav2", "--limit", "80")
    assert code == 0, said
    whole = journals(tmp_path)
    assert len(whole) == 80
    assert len(http_server.bodies) == 80 - len(kept)
    assert all(whole[key] == line for key, line in kept.items())


def test_restarted_server_is_waited_for(run: Run, http_server: Any, tmp_path: Path) -> None:
    stopped = threading.Event()

    def restart() -> None:
        time.sleep(1.0)
        http_server.misbehave = lambda number, body: None
        http_server.start(http_server.port)

    def misbehave(number: int, body: Any) -> str | None:
        if number < 20:
            return None
        if number == 20:
            http_server.stop()
            stopped.set()
            threading.Thread(target=restart, daemon=True).start()
        stopped.wait()  # no request is cut while the server still responds to others
        return "cut"

    http_server.misbehave = misbehave
    code, said = run("--tasks", "vqav2", "--limit", "60")
    assert code == 0, said
    assert len(journals(tmp_path)) == 60
    assert manifest(tmp_path)["backend"]["retries"]["away"] > 0


def test_retry_after_is_respected(run: Run, http_server: Any, tmp_path: Path) -> None:
    times: dict[str, list[float]] = {}

    def misbehave(number: int, body: Any) -> str | None:
        sent = times.setdefault(json.dumps(body["messages"]), [])
        sent.append(time.monotonic())
        return "429" if number < 4 and len(sent) == 1 else None

    http_server.misbehave, http_server.retry_after = misbehave, "1"
    code, said = run("--tasks", "vqav2", "--limit", "8")
    assert code == 0, said
    again = [sent[1] - sent[0] for sent in times.values() if len(sent) > 1]
    assert len(again) >= 1
    assert min(again) >= 0.95
    http_server.retry_after = "4000"
    http_server.misbehave = lambda number, body: "429"
    code, said = run("--tasks", "refcoco/val", "--limit", "8")
    assert code == 1
    assert "the server asks to retry after 4000 s, longer than --patience 300" in said


def test_concurrency_is_limited_and_connections_are_reused(run: Run, http_server: Any) -> None:
    http_server.delay = 0.005
    code, said = run("--tasks", "vqav2", "--concurrency", "3")
    assert code == 0, said
    assert http_server.most <= 3
    assert http_server.connections <= 3 + 2  # and those that asked for the list of models
    assert len(http_server.bodies) == 324


# ------------------------------------------------------------------------------------------------------------- the key


def files_below(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_key_is_sent_to_server_only(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.key = KEY
    http_server.misbehave = lambda number, body: "400" if number % 3 == 0 else "500" if number % 3 == 1 else None
    code, said = run("--tasks", "vqav2", "--limit", "9", EVALKIT_API_KEY=KEY)
    assert code == 1
    assert all(headers.get("Authorization") == f"Bearer {KEY}" for headers in http_server.headers)
    errors = [line["error"] for line in journals(tmp_path).values() if line["finish"] == "error"]
    assert "the server: 400: on purpose Bearer ***" in errors  # it repeats the key, and that is not written down
    assert KEY not in said
    assert KEY not in files_below(tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "the server needs a key: set $EVALKIT_API_KEY"),
        ("wrong-key", "the server rejects the key in $EVALKIT_API_KEY"),
    ],
)
def test_error_about_wrong_key_does_not_show_it(
    run: Run, http_server: Any, tmp_path: Path, given: str | None, expected: str
) -> None:
    http_server.key = KEY
    code, said = run("--tasks", "vqav2", **({} if given is None else {"EVALKIT_API_KEY": given}))
    assert code == 2
    assert expected in said
    assert given is None or given not in said
    assert not (tmp_path / "runs").exists()


def test_redirects_are_not_followed(run: Run, http_server: Any, tmp_path: Path) -> None:
    other = type(http_server)()
    try:
        http_server.key = KEY
        http_server.redirect = f"{other.url}/chat/completions"
        http_server.misbehave = lambda number, body: "redirect"
        code, said = run("--tasks", "vqav2", "--limit", "3", EVALKIT_API_KEY=KEY)
        assert code == 2
        assert "the server redirects to http://127.0.0.1" in said
        assert other.headers == other.seen == []
        assert not (tmp_path / "runs").exists()
    finally:
        other.stop()


def test_proxy_is_not_used_for_this_machine(run: Run, http_server: Any) -> None:
    code, said = run(
        "--tasks", "vqav2", "--limit", "3", HTTP_PROXY="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1"
    )
    assert code == 0, said


def test_key_and_address_are_not_taken_from_file(run: Run, tmp_path: Path) -> None:
    for line in ('base_url = "http://evil.example/v1"', 'api_key = "x"'):
        (tmp_path / "evalkit.toml").write_text(line)
        code, said = run("--tasks", "vqav2")
        assert code == 2
        assert "is never taken from a file" in said


def test_address_from_environment(run: Run, http_server: Any, tmp_path: Path) -> None:
    code, said = run("--tasks", "vqav2", "--limit", "2", url=None, EVALKIT_BASE_URL=http_server.url)
    assert code == 0, said
    assert manifest(tmp_path)["sources"]["base_url"] == "environment (EVALKIT_BASE_URL)"


# ---------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--base-url", "ftp://x/v1"), "give an address such as http://localhost:8000/v1"),
        (("--base-url", "http://me:pw@localhost/v1"), "the address must not contain a user or password"),
        (("--base-url", "http://localhost/v1?api_key=pw"), "the address must not contain a query"),
        (("--base-url", "http://127.0.0.1:1/v1"), "no server responds"),
        (("--device", "cpu"), "--device: the server chooses it"),
        (("--dtype", "bfloat16"), "--dtype: the server chooses it"),
        (("--batch-size", "8"), "--batch-size: the server forms batches itself"),
        (("--exact",), "--exact: this does not apply to servers"),
        (("--concurrency", "0"), "--concurrency 0: give at least 1"),
        (("--num-beams", "4"), "--num-beams: chat endpoints do not support beam search"),
        (("--family", "paligemma"), "this family's prompts are plain text"),
        (("--processor", "/nowhere"), "--processor /nowhere"),
        (("--pixel-limits", "both"), "--pixel-limits both: unknown; use sent or server"),
        (("--shots", "1", "--shots-by", "similar"), "cannot compare images"),
        (("--min-pixels", "13000000"), "--min-pixels: the minimum of 13000000 pixels is above the maximum of 12845056"),
    ],
)  # fmt: skip
def test_usage_errors(run: Run, tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    code, said = run("--tasks", "vqav2", "--limit", "2", *arguments)
    assert code == 2, said
    assert expected in said
    assert "pw" not in said
    assert not list((tmp_path / "runs").glob("*"))


def test_unknown_model(run: Run, http_server: Any) -> None:
    http_server.models = [{"id": name, "owned_by": "vllm"} for name in ("a", "b")]
    assert run("--tasks", "vqav2", "--model", "c") == (
        2,
        f"error: --model c: the server at {http_server.url} does not serve it; it serves a, b.",
    )
    code, said = run("--tasks", "vqav2")
    assert (code, "it serves a, b; name one with --model" in said) == (2, True)
    http_server.models = [{"id": "a"}]
    http_server.misbehave = lambda number, body: (
        "404"
    )  # lists may be incomplete, so this one is told by the first request
    code, said = run("--tasks", "vqav2", "--model", "c")
    assert code == 2
    assert "404: on purpose" in said


def test_unsupported_optional_fields_are_left_out(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.refused_fields = ("repetition_penalty", "return_token_ids", "skip_special_tokens")
    code, said = run("--tasks", "vqav2", "--limit", "20")
    assert code == 0, said
    answer = (
        "leaving out fields that the server does not support: repetition_penalty, return_token_ids, skip_special_tokens"
    )
    assert log(tmp_path).count(answer) == 1
    assert set(manifest(tmp_path)["backend"]["left_out"]) == set(http_server.refused_fields)
    body = http_server.bodies[-1]
    assert body["temperature"] == 0
    assert body["max_tokens"] == 10
    assert "seed" not in body


def test_repeats_are_requests_in_a_row_with_seeds_of_their_own(run: Run, http_server: Any, tmp_path: Path) -> None:
    drawn = ("--tasks", "vqav2", "--limit", "6", "--temperature", "0.8", "--concurrency", "1")
    code, said = run(*drawn, "--repeats", "4")
    assert code == 0, said
    asked = [body for body in http_server.bodies if "messages" in body]
    assert len(asked) == 24
    assert len({body["seed"] for body in asked}) == 24
    images = [[part["image_url"]["url"] for part in body["messages"][-1]["content"] if "image_url" in part]
              for body in asked]  # fmt: skip
    assert len([1 for one, next_one in pairwise(images) if one != next_one]) == len({str(one) for one in images}) - 1
    prompts = [json.dumps(body["messages"]) for body in asked]
    assert all(len(set(prompts[start : start + 4])) == 1 for start in range(0, 24, 4))
    http_server.bodies.clear()
    code, said = run(*drawn, "--repeats", "5")
    assert code == 0, said
    assert len([body for body in http_server.bodies if "messages" in body]) == 6, "only the fifth answers are asked for"


def test_unsupported_required_fields_end_run(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.refused_fields = ("mm_processor_kwargs",)
    code, said = run("--tasks", "vqav2", "--max-pixels", "50176", "--limit", "4")
    assert code == 2
    assert "so --min-pixels and --max-pixels cannot be sent" in said
    assert not list((tmp_path / "runs").glob("*"))
    code, said = run("--tasks", "vqav2", "--max-pixels", "50176", "--limit", "4", "--pixel-limits", "server")
    assert code == 0, said


def test_option_letters_are_ranked_with_log_probabilities(run: Run, http_server: Any, tmp_path: Path) -> None:
    code, said = run("--tasks", "scienceqa_img", "--choice", "loglikelihood", "--limit", "10")
    assert code == 0, said
    # C is likelier than B; where a question has no C, B is the likeliest there is; " B" is another token.
    texts = [line["text"] for line in journals(tmp_path).values()]
    assert set(texts) <= {"B", "C"}
    assert "C" in texts
    http_server.logprobs = False
    code, said = run("--tasks", "scienceqa_img", "--choice", "loglikelihood", "--limit", "10", "--fresh")
    assert code == 2
    assert (
        "the server returns no log probabilities, so multiple-choice options cannot be ranked; use --choice generate"
        in said
    )


def test_size_mismatch_is_reported_once(run: Run, http_server: Any, tmp_path: Path) -> None:
    code, said = run("--tasks", "refcoco/val", "--limit", "20", "--min-pixels", "100352")  # 128 tokens, it says 100
    assert code == 0, said
    assert log(tmp_path).count("the server resizes images differently than expected") == 1


def test_unknown_sizes_are_reported_if_boxes_depend_on_them(run: Run, http_server: Any, tmp_path: Path) -> None:
    answer = "coordinates are parsed as for the released processor of qwen2.5-vl: 3,136 to 12,845,056 pixels"
    assert answer in run("--tasks", "refcoco/val", "--limit", "2")[1]
    assert answer not in run("--tasks", "vqav2", "--limit", "2", "--out", "b")[1]
    folder = str(bundled_folder("tiny"))
    assert answer not in run("--tasks", "refcoco/val", "--limit", "2", "--processor", folder, "--out", "c")[1]
    (line, _) = (tmp_path / "c").glob("*/refcoco.val.jsonl").__next__().read_text().splitlines()
    assert json.loads(line)["frames"][0]["resized"] == [112, 112]


def test_run_identity_ignores_address_if_checkpoint_is_known(run: Run, http_server: Any, tmp_path: Path) -> None:
    ask = ("--tasks", "vqav2", "--limit", "3")
    other = type(http_server)()
    try:
        for server in (http_server, other):
            server.models = [{"id": "one", "owned_by": "vllm", "root": "ORG/one"}]
        assert run(*ask)[0] == run(*ask, url=other.url)[0] == 0
        assert len(other.bodies) == 0
        for server in (http_server, other):
            server.models = [{"id": "one", "owned_by": "nobody"}]
        assert run(*ask)[0] == run(*ask, url=other.url)[0] == 0
        assert len(other.bodies) == 3
    finally:
        other.stop()


def test_served_folder_determines_family_and_sizes(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], http_server: Any, tmp_path: Path
) -> None:
    served = tmp_path / "served"
    shutil.copytree(bundled_folder("tiny"), served)
    http_server.models = [{"id": "x", "owned_by": "vllm", "root": str(served)}]
    ask = (
        "run",
        "--backend",
        "server",
        "--base-url",
        http_server.url,
        "--data",
        "tiny",
        "--tasks",
        "refcoco/val",
        "--limit",
        "3",
    )
    done = evalkit(*ask, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "family qwen2.5-vl (from its config)" in done.stderr
    assert all(line["frames"][0]["resized"] == [112, 112] for line in journals(tmp_path).values())
    assert evalkit(*ask, cwd=tmp_path).returncode == 0
    assert len(http_server.bodies) == 3
    weights = served / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\1")
    done = evalkit(*ask, cwd=tmp_path)
    assert "weights: " in done.stderr
    assert len(http_server.bodies) == 6


def test_dry_run_shows_turns_and_sends_nothing(run: Run, http_server: Any, evalkit: Any, tmp_path: Path) -> None:
    done = evalkit(
        "run", "--backend", "server", "--base-url", http_server.url, "--data", "tiny", "--tasks", "vqav2", "--shots", "1",
        "--dry-run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "│ [user] <image>" in done.stdout
    assert "│ [assistant] " in done.stdout
    assert http_server.seen == []


def test_interrupted_run_keeps_its_answers(http_server: Any, tmp_path: Path) -> None:
    http_server.delay = 0.2  # 16 seconds in all
    command = [
        sys.executable, "-c", "from evalkit.cli import main; main()", "run", "--backend", "server", "--base-url",
        http_server.url, "--data", "tiny", "--tasks", "vqav2", "--concurrency", "4",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: len(http_server.bodies) >= 20 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    assert "Run the same command to resume." in said
    assert len(journals(tmp_path)) == len(http_server.bodies)  # those under way were waited for


# ---------------------------------------------------------------------------------------------- other people's servers


def test_rejection_that_repeats_request_fails_one_sample(run: Run, http_server: Any, tmp_path: Path) -> None:
    def body(number: int, sent: dict[str, Any]) -> tuple[int, Any] | None:
        echo = [{"type": "value_error", "loc": ("body",), "msg": "image too small", "input": {**sent, "messages": "…"}}]
        return (400, {"error": {"message": str(echo), "param": None, "code": 400}}) if number == 2 else None

    http_server.replace = body
    code, said = run("--tasks", "vqav2", "--limit", "12")
    assert code == 1, said
    errors = [line["error"] for line in journals(tmp_path).values() if line["finish"] == "error"]
    assert len(errors) == 1
    assert "image too small" in errors[0]
    assert manifest(tmp_path)["backend"]["left_out"] == {}


def test_prompt_that_is_too_long_renames_no_field(run: Run, http_server: Any, tmp_path: Path) -> None:
    sentence = (
        "'max_tokens' or 'max_completion_tokens' is too large: 10. This model's maximum context length is 128 tokens"
    )
    http_server.replace = lambda number, sent: (
        (400, {"error": {"message": sentence, "param": "max_tokens", "code": 400}}) if number == 0 else None
    )
    code, said = run("--tasks", "vqav2", "--limit", "4")
    assert code == 1, said
    assert [line["error"] for line in journals(tmp_path).values() if line["finish"] == "error"] == [
        f"the server: 400: {sentence}"
    ]
    assert all("max_tokens" in body for body in http_server.bodies)
    assert len(http_server.bodies) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_named_model_needs_no_list(run: Run, http_server: Any, tmp_path: Path, status: int) -> None:
    http_server.models = (status, {"error": {"message": "missing scope api.model.read"}})
    code, said = run("--tasks", "vqav2", "--limit", "3", "--model", "mine")
    assert code == 0, said
    assert len(journals(tmp_path)) == 3
    assert {body["model"] for body in http_server.bodies} == {"mine"}
    code, said = run("--tasks", "vqav2", "--limit", "3", "--out", "b")
    assert code == 2


@pytest.mark.parametrize("listed", [{"data": None}, {"object": "list"}, b"<html>hello</html>"])
def test_named_model_needs_no_valid_list(run: Run, http_server: Any, listed: Any) -> None:
    http_server.models = (200, listed)
    assert run("--tasks", "vqav2", "--limit", "2", "--model", "mine")[0] == 0
    assert run("--tasks", "vqav2", "--limit", "2", "--out", "b")[0] == 2


def test_endpoint_that_only_streams(run: Run, http_server: Any, tmp_path: Path) -> None:
    def stream(number: int, sent: dict[str, Any]) -> tuple[int, Any]:
        if not sent.get("stream"):
            message = "This model only support stream mode, please enable the stream parameter to access the model."
            return 400, {"error": {"message": message, "code": "invalid_parameter_error"}}
        text = http_server.answer(sent)["choices"][0]["message"]["content"]
        pieces = [{"choices": [{"delta": {"content": piece}, "index": 0}]} for piece in text]
        pieces.append({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 100}})
        return 200, b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in pieces) + b"data: [DONE]\n\n"

    http_server.replace = stream
    code, said = run("--tasks", "vqav2,refcoco/val", "--limit", "5")
    assert code == 0, said
    assert log(tmp_path).count("the server only answers with a stream of events") == 1
    assert {line["finish"] for line in journals(tmp_path).values()} == {"stop"}
    assert {line["prompt_tokens"] for line in journals(tmp_path).values()} == {100}


def test_errors_with_status_200_are_errors(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.replace = lambda number, sent: (
        (200, {"error": {"message": "upstream overloaded", "code": 502}}) if number < 3 else None
    )
    code, said = run("--tasks", "vqav2", "--limit", "6")
    assert code == 0, said
    assert manifest(tmp_path)["backend"]["retries"]["away"] == 3


@pytest.mark.parametrize(
    ("status", "code"), [(429, "insufficient_quota"), (400, "model_not_found"), (400, "invalid_api_key")]
)
def test_errors_of_every_request_end_run(run: Run, http_server: Any, status: int, code: str) -> None:
    error = {"message": "That does not work.", "type": "invalid_request_error", "code": code}
    http_server.replace = lambda number, sent: (status, {"error": error})
    ended, said = run("--tasks", "vqav2", "--limit", "6")
    assert (ended, f"{status}: That does not work." in said) == (2, True)


def test_moderated_sample_does_not_end_run(run: Run, http_server: Any, tmp_path: Path) -> None:
    error = {"message": "The input was flagged.", "code": "content_policy_violation"}
    http_server.replace = lambda number, sent: (403, {"error": error}) if number == 1 else None
    code, said = run("--tasks", "vqav2", "--limit", "6")
    assert code == 1, said
    assert [line["error"] for line in journals(tmp_path).values() if line["finish"] == "error"] == [
        "the server: 403: The input was flagged."
    ]


def answering(http_server: Any, text: str | None, finish: str, **message: Any) -> None:
    def reply(number: int, sent: dict[str, Any]) -> tuple[int, Any]:
        found = http_server.answer(sent)
        found["choices"][0] |= {"message": {"content": text, **message}, "finish_reason": finish}
        return 200, found | {"prompt_token_ids": [1, 2, 3]}

    http_server.replace = reply


def test_reasoning_that_served_template_opened_is_unparsed(run: Run, http_server: Any, tmp_path: Path) -> None:
    served = tmp_path / "served"
    shutil.copytree(bundled_folder("tiny"), served)
    template = (served / "chat_template.jinja").read_text()
    (served / "chat_template.jinja").write_text(template + "{% if add_generation_prompt %}<think>\n{% endif %}")
    http_server.models = [{"id": "x", "owned_by": "vllm", "root": str(served)}]
    answering(http_server, '[{"bbox_2d": [10, 10, 50, 50]}] is what I', "length")
    code, said = run("--tasks", "refcoco/val", "--limit", "3")
    assert code == 0, said
    lines = journals(tmp_path).values()
    assert {line["text"] for line in lines} == {'<think>\n[{"bbox_2d": [10, 10, 50, 50]}] is what I'}
    assert {line["answer"] for line in lines} == {None}
    answering(http_server, '[{"bbox_2d": [10, 10, 50, 50]}]', "stop")  # the server has removed the reasoning
    code, said = run("--tasks", "refcoco/val", "--limit", "3", "--fresh", "--name", "stopped")
    assert code == 0, said
    (path,) = tmp_path.glob("runs/stopped/refcoco.val.jsonl")
    assert all(json.loads(line)["answer"] for line in path.read_text().splitlines())


def test_prompts_that_server_decodes(run: Run, http_server: Any, tmp_path: Path) -> None:
    """vLLM's replies have the prompt's tokens, and it decodes tokens."""
    http_server.paths["/detokenize"] = lambda sent: {"prompt": f"assistant\n<think>\n{'' if sent['tokens'] else 'x'}"}
    answering(http_server, "The box may be [10, 10, 50, 50].", "length")
    code, said = run("--tasks", "refcoco/val", "--limit", "6")
    assert code == 0, said
    assert {line["text"] for line in journals(tmp_path).values()} == {"<think>\nThe box may be [10, 10, 50, 50]."}
    assert {line["answer"] for line in journals(tmp_path).values()} == {None}
    assert sum("tokens" in body for body in http_server.seen) == 1


def test_rescored_answers_are_parsed_as_in_run(
    run: Run, http_server: Any, evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    answering(http_server, "yes", "stop", reasoning_content="It may be no.")
    code, said = run("--tasks", "vqav2", "--limit", "3", "--name", "r")
    assert code == 0, said
    assert {line["answer"] for line in journals(tmp_path).values()} == {"yes"}
    done = evalkit("rescore", "runs/r", cwd=tmp_path)
    assert "vqav2/val: unchanged" in done.stderr, done.stderr


def test_family_of_loaded_checkpoint(
    evalkit: Callable[..., subprocess.CompletedProcess[str]], http_server: Any, tmp_path: Path
) -> None:
    http_server.models = [
        {"id": "vlm", "owned_by": "vllm", "root": "Qwen/Qwen2.5-VL-7B-Instruct", "parent": None},
        {"id": "my-lora", "owned_by": "vllm", "root": "/models/my-lora", "parent": "vlm"},
        {"id": "qwen3-vl-alias", "owned_by": "vllm", "root": "OpenGVLab/Other", "parent": None},
        {"id": "other", "owned_by": "vllm", "root": "OpenGVLab/Other", "parent": None},
    ]
    for model, family in [
        ("vlm", "family qwen2.5-vl (the server has loaded Qwen/Qwen2.5-VL-7B-Instruct)"),
        ("my-lora", "family qwen2.5-vl (the server has loaded Qwen/Qwen2.5-VL-7B-Instruct)"),
        ("qwen3-vl-alias", "family qwen3-vl (guessed from its name; override with --family)"),
        ("other", "family generic (guessed: no family matches its name; set --family)"),
    ]:
        done = evalkit(
            "run", "--backend", "server", "--base-url", http_server.url, "--model", model, "--data", "tiny", "--tasks",
            "refcoco/val", "--limit", "2", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stderr.split())
        assert family in said
        warning = f"warning: refcoco/val: the coordinates of {model} are parsed as"
        assert said.count(warning) == (2 if "guessed" in family else 0), "at the beginning and at the end"
