"""The table of a hostile server's replies; see ``hostile_server.py``."""

from __future__ import annotations

import base64
import gzip
import html
import json
import zlib
from typing import Any
from urllib.parse import quote

from .hostile_server import (
    ANSWERED,
    CHUNKED,
    ENDED,
    FAILED,
    KEY,
    SENT,
    Case,
    Handler,
    Write,
    bare,
    bomb,
    chat,
    choice,
    content,
    delta,
    endless,
    error,
    hang,
    models,
    raw,
    raw_deflate,
    stream,
)

LISTED = models({"id": "m"})
GOOD = json.dumps(chat()).encode()
OK = "HTTP/1.1 200 OK\r\n"


def reply(write: Write, result: str = FAILED, **more: Any) -> Case:
    return Case(write, LISTED, result, **more)


def listed(write: Write, result: str = ENDED, **more: Any) -> Case:
    return Case(content(chat()), write, result, **more)


STATUS = {
    "100 without end": reply(endless("", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), slow=True),
    "201 with an answer": reply(content(chat(), status="201 Created")),
    "204": reply(raw(status="204 No Content")),
    "301": reply(raw(b"", "Location: http://127.0.0.1:1/x", status="301 Moved"), ENDED),
    "307 to no address": reply(raw(b"", "Location: http://[::1", status="307 Temporary Redirect"), ENDED),
    "400 as HTML": reply(raw(b"<html><h1>Bad</h1>", status="400 Bad Request")),
    "404 as HTML": reply(raw(b"<html><h1>No</h1>", status="404 Not Found"), ENDED),
    "418": reply(raw(status="418 I'm a teapot")),
    "429, retry after 10**400 s": reply(raw(b"", f"Retry-After: {'9' * 400}", status="429 No"), ENDED, slow=True),
    "429, retry after 9999": reply(raw(b"", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", status="429 No"), ENDED),
    "429, retry after -5": reply(raw(b"", "Retry-After: -5", status="429 No"), ENDED, slow=True),
    "429, retry after nonsense": reply(
        raw(b"", "Retry-After: Fri, 99 Foo 99999 25:61:61 +99999999", status="429 No"), ENDED, slow=True
    ),
    "429, milliseconds": reply(raw(b"", "Retry-After-Ms: 1e9", status="429 No"), ENDED, slow=True),
    "500 without a body": reply(raw(status="500 Internal Server Error")),
    "500 of 40 MB": reply(raw(b"x" * 40_000_000, status="500 Internal Server Error"), slow=True),
    "503 for ever": reply(raw(status="503 Unavailable"), ENDED, slow=True),
    "999": reply(raw(status="999 What")),
    "a status that is no number": reply(bare("HTTP/9.9 abc\r\n\r\n")),
    "no status": reply(bare("hello")),
}
TRANSPORT = {
    "closed at once": reply(bare("")),
    "closed after the headers": reply(bare(f"{OK}Content-Length: 10\r\n\r\n")),
    "half": reply(raw(GOOD[:40], length=len(GOOD))),
    "a length too short": reply(raw(GOOD, length=10)),
    "a negative length": reply(raw(GOOD, length=-1)),
    "two lengths": reply(raw(GOOD, "Content-Length: 3")),
    "no length": reply(bare(f"{OK}\r\n".encode() + GOOD), ANSWERED),
    "an endless body": reply(endless(CHUNKED, b"100000\r\n" + b" " * 2**20 + b"\r\n"), slow=True),
    "a slow body": reply(endless(CHUNKED, b"1\r\n \r\n", 0.1), slow=True),
    "slow headers": reply(endless(OK, b"X: y\r\n", 0.1), slow=True),
    "no reply": reply(hang, slow=True),
    "chunks without a length": reply(bare(f"{CHUNKED}zz\r\n{{}}\r\n")),
    "a chunk of 2**60": reply(bare(f"{CHUNKED}FFFFFFFFFFFFFFF\r\n{{}}")),
    "a gzip bomb": reply(raw(bomb(), "Content-Encoding: gzip"), slow=True),
    "not the gzip it says": reply(raw(GOOD, "Content-Encoding: gzip")),
    "gzip": reply(raw(gzip.compress(GOOD), "Content-Encoding: gzip"), ANSWERED),
    "half of a gzip": reply(raw(gzip.compress(GOOD)[:-20], "Content-Encoding: gzip")),
    "deflate": reply(raw(zlib.compress(GOOD), "Content-Encoding: deflate"), ANSWERED),
    "deflate without a header": reply(raw(raw_deflate(GOOD), "Content-Encoding: deflate"), ANSWERED),
    "an unknown encoding": reply(raw(GOOD, "Content-Encoding: br, gzip, br")),
    "a header of 200 kB": reply(raw(GOOD, f"X: {'y' * 200_000}")),
    "100 headers": reply(raw(GOOD, *(f"X{n}: y" for n in range(100))), ANSWERED),
    "10,000 headers": reply(raw(GOOD, *(f"X{n}: y" for n in range(10_000)))),
    "headers that are no UTF-8": reply(raw(GOOD, "X: \xff\xfe", status="503 \xff\xfe"), ENDED, slow=True),
    "a NUL in a header": reply(raw(GOOD, "X: a\0b")),
    "odd cookies": reply(raw(GOOD, "Set-Cookie: =;;; Expires=" + "9" * 500, "Set-Cookie: \xff=\xfe"), ANSWERED),
    "a content type of another kind": reply(raw(GOOD, "Content-Type: image/png"), ANSWERED),
}
JSON = {
    "an empty body": reply(raw()),
    "an HTML page": reply(raw(b"<html>an error page</html>", "Content-Type: text/html")),
    "half a JSON": reply(raw(GOOD[:60])),
    "NaN": reply(raw(GOOD[:-1] + b', "x": NaN}')),
    "10**4200": reply(raw(GOOD[:-1] + b', "usage": {"prompt_tokens": 1' + b"0" * 4200 + b"}}")),
    "10**30 tokens": reply(content(chat(usage={"prompt_tokens": 10**30})), ANSWERED),
    "-1 tokens": reply(content(chat(usage={"prompt_tokens": -1})), ANSWERED),
    "usage of other types": reply(content(chat(usage={"prompt_tokens": {"a": [True]}})), ANSWERED),
    "usage as a list": reply(content(chat(usage=[1])), ANSWERED),
    "100,000 lists": reply(raw(b"[" * 100_000)),
    "900 lists in a field": reply(raw(GOOD[:-1] + b', "x": ' + b"[" * 900 + b"]" * 900 + b"}")),
    "100 lists in a field": reply(raw(GOOD[:-1] + b', "x": ' + b"[" * 100 + b"]" * 100 + b"}")),
    "a key given twice": reply(raw(GOOD[:-1] + b', "choices": []}')),
    "UTF-16": reply(raw(GOOD.decode().encode("utf-16"))),
    "no UTF-8": reply(raw(GOOD.replace(b"red", b"r\xffd"))),
    "a byte order mark": reply(raw(b"\xef\xbb\xbf" + GOOD), ANSWERED),
    "half a surrogate pair": reply(raw(GOOD.replace(b"red", b"\\ud800"))),
    "a text": reply(content("red")),
    "a number": reply(content(5)),
    "a list": reply(content([chat()])),
    "null": reply(content(None)),
}
FIELDS = {
    **{f"choices: {value!r}": reply(content({"choices": value}))
       for value in ({}, [], None, "x", 5, [None], [[]], ["x"], {"0": chat()["choices"][0]})},
    "no choices": reply(content({"id": "x"})),
    **{f"message: {value!r}": reply(content(choice(message=value))) for value in (None, "red", ["red"], 5)},
    **{f"content: {value!r}": reply(content(chat({"content": value})))
       for value in (5, True, {"text": "red"}, [None], [5], [{"text": None}], [{"type": "text", "text": {"a": 1}}])},
    "content: null without an end": reply(content(chat({"content": None}, None))),
    "no content, no end": reply(content(chat({}, None))),
    **{f"finish_reason: {value!r}": reply(content(chat(finish=value)))
       for value in ({"type": "stop"}, ["stop"], 5, True, "weird", "content_filter", "tool_calls", "")},
    "refusal as an object": reply(content(chat({"content": "red", "refusal": {"a": 1}}))),
    "reasoning of other types": reply(content(chat({"content": "red", "reasoning": {"a": 1}, "thinking": [5]})), ANSWERED),
    "parts of unknown types": reply(content(chat([{"type": ["x"], "text": 5}, {"type": "text", "text": "red"}])), ANSWERED),
    **{f"token_ids: {str(value)[:30]}": reply(content(choice(token_ids=value)), ANSWERED)
       for value in ([10**30], [-1], ["a"], "abc", {"a": 1}, [True], [None])},
    "prompt_token_ids of texts": reply(content(chat(prompt_token_ids=["a"] * 50)), ANSWERED),
    "stop_reason as an object": reply(content(choice(stop_reason={"a": 1})), ANSWERED),
    "a fingerprint of 1 MB": reply(content(chat(system_fingerprint="f" * 1_000_000)), ANSWERED),
    "a fingerprint as an object": reply(content(chat(system_fingerprint={"a": 1})), ANSWERED),
    **{f"error: {str(value)[:40]}": reply(content({"error": value}))
       for value in (True, [5], {"message": {"a": []}}, {"code": 10**300}, {"param": ["messages", 5], "message": 7}, "x" * 9)},
    "an error of a status that is none": reply(content({"error": {"message": "no", "code": 99999}})),
    "an answer of 5 MB": reply(content(chat("red " * 1_250_000)), slow=True),
    "control characters": reply(content(chat("red\0\x1b[31m\u202e\x9b2J")), ANSWERED, text="red\0\x1b[31m\u202e\x9b2J"),
    "markup": reply(content(chat("[/bold] :smile: ```")), ANSWERED, text="[/bold] :smile: ```"),
    "null for an answer": reply(content(chat({"content": None})), ANSWERED, text=""),
}  # fmt: skip
STREAMS = {
    "a stream": reply(stream(delta(content="re"), delta("stop", content="d")), ANSWERED),
    "a stream of parts": reply(
        stream(delta(content=[{"text": "re"}]), delta("stop", content=[{"text": "d"}])), ANSWERED
    ),
    "a stream without an end": reply(stream(delta(content="red"), done=False)),
    "a stream of nothing": reply(stream()),
    "a stream of other JSON": reply(stream(5, None, "x", [1])),
    "a stream that is no JSON": reply(raw(b"data: {\n\ndata: [DONE]\n\n", "Content-Type: text/event-stream")),
    "a stream of texts and parts": reply(stream(delta(content="re"), delta("stop", content=[{"text": "d"}]))),
    "a stream of parts and texts": reply(stream(delta(content=[{"text": "d"}]), delta("stop", content="re"))),
    "a stream of numbers": reply(stream(delta(content=5), delta("stop", content=7))),
    "a stream of choices that are a number": reply(stream({"choices": 5})),
    "a stream with odd deltas": reply(
        stream({"choices": [{"delta": "x"}, {"delta": [1], "index": [0]}, None]}, delta("stop", content="red")),
        ANSWERED,
    ),
    "a stream with an odd end": reply(stream({"choices": [{"delta": {"content": "red"}, "finish_reason": [1]}]})),
    "a stream with an error": reply(stream(delta(content="r"), {"error": {"message": SENT}})),
    "an endless stream": reply(endless(f"{OK}Content-Type: text/event-stream\r\n\r\n", b": ping\n\n", 0.05), slow=True),
}


def tops(value: Any) -> Case:
    return reply(content(choice(logprobs={"content": [{"top_logprobs": value}]})), ranked=True)


def prompts(value: Any) -> Case:
    """Log probabilities of the prompt, for a server whose likeliest first tokens are no option."""
    first = {"content": [{"top_logprobs": [{"token": "The", "logprob": -1.0}]}]}

    def write(handler: Handler) -> None:
        content({**choice(logprobs=first), "prompt_logprobs": value})(handler)

    return reply(write, ranked=True)


LOGPROBS = {
    **{f"logprobs: {value!r}": reply(content(choice(logprobs=value)), ENDED, ranked=True)
       for value in (None, [], {"content": None}, {"content": []})},
    **{f"logprobs: {value!r}": reply(content(choice(logprobs=value)), ranked=True)
       for value in ({"content": {"a": 1}}, {"content": "x"}, {"content": [None]}, {"content": [5]})},
    **{f"top_logprobs: {value!r}": tops(value)
       for value in ("x", [5], [{}], [{"token": None, "logprob": -1}], [{"token": "A", "logprob": "nan"}],
                     [{"token": "A", "logprob": None}], [{"token": "A", "logprob": True}], [{"token": "A", "logprob": 3.5}])},
    **{f"prompt_logprobs: {str(value)[:40]}": prompts(value)
       for value in (5, True, "x", {"a": 1}, [5], [{"1": None}], [{"1": {"decoded_token": 5, "logprob": -1}}],
                     [{"1": {"decoded_token": "A", "logprob": "nan"}}], [{"1": {"decoded_token": "Zebra", "logprob": -1}}])},
}  # fmt: skip
LISTS = {
    "no list: HTML": listed(raw(b"<html>")),
    "no list: null": listed(content(None)),
    "no list: data is null": listed(content({"data": None})),
    "no list: a number": listed(content(5)),
    "no list: entries of other types": listed(models(5, None, ["m"], {"id": 5})),
    "no list: a redirect": listed(raw(b"", "Location: /elsewhere", status="302 Found")),
    "no list: 500": listed(raw(status="500 No")),
    "no list: closed": listed(bare("")),
    "no list: no reply": listed(hang, slow=True),
    "no list: an endless body": listed(endless(CHUNKED, b"100000\r\n" + b" " * 2**20 + b"\r\n"), slow=True),
    "no list: a slow body": listed(endless(CHUNKED, b"1\r\n \r\n", 0.1), slow=True),
    "no list: a gzip bomb": listed(raw(bomb(), "Content-Encoding: gzip"), slow=True),
    "no list: 100,000 lists": listed(raw(b"[" * 100_000)),
    "100,000 models": listed(models(*({"id": f"m{n}"} for n in range(100_000)))),
    **{f"a model called {name[:20]!r}": listed(models({"id": name}))
       for name in ("a\0b", "x" * 5000, "a\nb", "\x1b[31m", "\u202e", "")},
    **{f"a model called {name!r}": listed(models({"id": name}), ANSWERED)
       for name in ("..", "/", "a/../b", "~", "-x", "[/bold] :smile:", "x" * 300, "%s{0}")},
    **{f"root: {value[:20]!r}": listed(models({"id": "m", "root": value}), ANSWERED)
       for value in ("~nosuchuser/m", "/nul\0", "/" + "x" * 5000, "/proc/self", "/dev", "..")},
    **{f"root: {value!r}": listed(models({"id": "m", "root": value}), ANSWERED) for value in (5, ["x"], {"a": 1})},
    "its own parent": listed(models({"id": "m", "parent": "m", "root": "r"}), ANSWERED),
    "owned_by: a list": listed(models({"id": "m", "owned_by": ["vllm"]}), ANSWERED),
    "numbers beyond any": listed(models({"id": "m", "max_model_len": 10**300, "x": -(10**18)}), ANSWERED),
    "2,000 fields": listed(models({"id": "m", **{f"f{n}": "x" * 2000 for n in range(2_000)}}), ANSWERED),
    **{f"version: {str(value)[:20]}": listed(
        models({"id": "m", "owned_by": "vllm"}), ANSWERED, paths={"/version": content(value)})
       for value in ([1], 5, {"version": {"a": 1}}, {"version": "\x1b[31m"})},
    "an endless version": listed(
        models({"id": "m", "owned_by": "vllm"}), ANSWERED, slow=True,
        paths={"/version": endless(CHUNKED, b"100000\r\n" + b" " * 2**20 + b"\r\n")}),
    "an odd template": listed(
        models({"id": "m", "owned_by": "llamacpp"}), ANSWERED, paths={"/apply-template": content({"prompt": [5]})}),
}  # fmt: skip

escaped = "".join(f"\\u{ord(character):04x}" for character in SENT)
ECHOES = {
    "key in the list": listed(models({"id": "m", "owned_by": SENT, "request": SENT, KEY: KEY, "root": KEY}), ANSWERED),
    "key as the model's name": listed(models({"id": KEY}), ANSWERED),
    "key in the version": listed(
        models({"id": "m", "owned_by": "vllm"}), ANSWERED, paths={"/version": content({"version": SENT})}
    ),
    "key where the list should be": listed(raw(f"<html>{SENT}".encode())),
    "key in a redirect": listed(raw(b"", f"Location: http://127.0.0.1:1/{KEY}?k={KEY}", status="307 Go")),
    "key in the answer": reply(content(chat(f"red {SENT}")), ANSWERED, text="red Bearer ***"),
    "key escaped": reply(raw(GOOD.replace(b"red", escaped.encode())), ANSWERED, text="Bearer ***"),
    "key in an address": reply(content(chat(quote(KEY, safe=""))), ANSWERED, text="***"),
    "key in HTML": reply(content(chat(html.escape(KEY))), ANSWERED, text="***"),
    "key as base64": reply(content(chat(base64.b64encode(f":{KEY}".encode()).decode())), ANSWERED, text=None),
    "key in parts": reply(content(chat([{"text": KEY[:9]}, {"text": KEY[9:]}])), ANSWERED, text="***"),
    "key in the reasoning": reply(content(chat({"content": "red", "reasoning": SENT})), ANSWERED, text=None),
    "key in the refusal": reply(content(chat({"content": None, "refusal": SENT})), ANSWERED, text="Bearer ***"),
    "key in the fingerprint": reply(content(chat(system_fingerprint=SENT)), ANSWERED),
    "key at the end of the fingerprint": reply(content(chat(system_fingerprint="x" * 60 + KEY)), ANSWERED),
    "key as the finish reason": reply(content(chat(finish=SENT))),
    "key as a field": reply(content({KEY: {KEY: KEY}})),
    "key as the usage": reply(content(chat(usage={"prompt_tokens": KEY}, id=KEY, model=KEY)), ANSWERED),
    "key in a stream": reply(stream(delta(content=KEY[:5]), delta("stop", content=KEY[5:])), ANSWERED, text="***"),
    "key in an error": reply(error(f"Incorrect API key: {SENT}", "400 Bad Request", param=KEY, code=KEY)),
    "key in a validation error": reply(
        content({"detail": [{"loc": ["body", KEY], "msg": KEY, "input": KEY}]}, status="422 Unprocessable")
    ),
    "key in an error of the server": reply(error(SENT, "500 Internal Server Error")),
    "key in an error with status 200": reply(content({"error": {"message": SENT, "code": 400}})),
    "key in an error of every request": reply(error(f"wrong key {SENT}", "401 Unauthorized"), ENDED),
    "key in the reason phrase": reply(raw(status=f"400 {SENT}")),
    "key in an HTML page": reply(raw(f"<html>{'x' * 60}{SENT}</html>".encode())),
    "key in a bad header": reply(bare(f"{OK}{SENT}\0\r\n\r\n")),
    "key as the encoding": reply(raw(GOOD, f"Content-Encoding: {KEY}")),
    "key in the log probabilities": tops([{"token": KEY, "logprob": KEY}]),
    "key in the prompt's log probabilities": prompts([{"1": {"decoded_token": KEY, "logprob": -1}}]),
}
CASES = {**STATUS, **TRANSPORT, **JSON, **FIELDS, **STREAMS, **LOGPROBS, **LISTS, **ECHOES}
