"""Error replies of servers: which field they reject, if any."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.model.server.rejection import Rejection

SENT = {"model": "m", "temperature": 0.0, "top_p": 1.0, "stop": ["x"], "max_tokens": 10, "repetition_penalty": 1.0}
ECHO = [{"type": "value_error", "loc": ["body"], "msg": "Value error, image too small", "input": SENT}]

# body, fields, renamed
CASES: list[tuple[Any, set[str], dict[str, str]]] = [
    # What names a field.
    ({"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model.", "param": "temperature", "code": "unsupported_value"}}, {"temperature"}, {}),
    ({"error": {"message": "no", "param": "top_k", "code": "unsupported_parameter"}}, {"top_k"}, {}),
    ({"error": {"message": "Request-level parameters are disabled", "param": "mm_processor_kwargs", "code": 400}}, {"mm_processor_kwargs"}, {}),
    ({"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}},
     {"max_tokens"}, {"max_tokens": "max_completion_tokens"}),
    ({"error": {"message": "Unrecognized request argument supplied: top_k"}}, {"top_k"}, {}),
    ({"error": {"message": "Unrecognized request arguments supplied: top_k, seed"}}, {"top_k", "seed"}, {}),
    ({"error": "Unrecognized request argument supplied: grammar"}, {"grammar"}, {}),
    ({"detail": "Unexpected fields in the request: {'seed', 'top_k'}"}, {"seed", "top_k"}, {}),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": 5}]}, {"top_k"}, {}),
    ({"object": "error", "message": json.dumps({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no"}]}), "code": "1000"}, {"seed"}, {}),
    ({"error": {"message": str([{"type": "extra_forbidden", "loc": ("body", "seed"), "input": SENT}])}}, {"seed"}, {}),
    ({"error": {"message": "top_k: Extra inputs are not permitted", "type": "invalid_request_error"}}, {"top_k"}, {}),
    ({"error": {"message": "Additional properties are not allowed ('top_k' was unexpected)"}}, {"top_k"}, {}),
    ({"error": {"message": "property 'seed' is unsupported"}}, {"seed"}, {}),
    ({"error": {"message": "`logprobs` is not supported with this model"}}, {"logprobs"}, {}),
    ({"error": {"message": "litellm.UnsupportedParamsError: openai does not support parameters: ['top_k'], for model=x"}}, {"top_k"}, {}),
    ({"error": {"message": 'Invalid JSON payload received. Unknown name "top_k": Cannot find field.', "code": 400}}, {"top_k"}, {}),
    ({"status": 422, "detail": "body -> seed\n  Extra inputs are not permitted (type=extra_forbidden)"}, {"seed"}, {}),
    ({"error": {"message": f"1 validation error: {{'type': 'list_type', 'loc': 'body.seed', 'msg': 'no', 'input': {SENT}}}", "param": None, "code": 400}}, {"seed"}, {}),
    # What does not, although fields' names are in it.
    ({"error": {"message": str(ECHO), "type": "Bad Request", "param": None, "code": 400}}, set(), {}),
    ({"detail": ECHO}, set(), {}),
    ({"error": {"message": f"bad request: {json.dumps(SENT)}"}}, set(), {}),
    ({"error": {"message": "the image is too large; stop, or lower the temperature"}}, set(), {}),
    ({"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 10. This model's maximum context length is 128 tokens"}}, set(), {}),
    ({"error": {"message": "This model's maximum context length is 128 tokens", "param": "messages", "code": "context_length_exceeded"}}, {"messages"}, {}),
    ({"error": {"message": "Invalid image", "param": "messages[0].content[1].image_url"}}, {"messages"}, {}),
    ("Bad Request: temperature", set(), {}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "fields", "renamed"), CASES)
def test_fields_that_reply_names(body: Any, fields: set[str], renamed: dict[str, str]) -> None:
    found = Rejection.parse((body if isinstance(body, str) else json.dumps(body)).encode())
    assert (set(found.fields), dict(found.renamed)) == (fields, renamed)


@pytest.mark.parametrize(
    ("message", "stream_only"),
    [
        ("This model only support stream mode, please enable the stream parameter to access the model.", True),
        ("The model qwq-32b only supports streaming.", True),
        ("'stream' must be true for this model", True),
        ("Non-streaming requests are not supported", True),
        ("the picture shows a stream", False),
        ("invalid: {'stream': True, 'text': 'This model only support stream mode'}", False),
    ],
)
def test_endpoints_that_only_stream(message: str, stream_only: bool) -> None:
    assert Rejection.parse(json.dumps({"error": {"message": message}}).encode()).stream_only == stream_only


def test_validation_errors_are_shown_without_their_input() -> None:
    for body in ({"detail": ECHO}, {"error": {"message": str(ECHO)}}, {"error": {"message": json.dumps(ECHO)}}):
        assert Rejection.parse(json.dumps(body).encode()).message == "body: Value error, image too small"


def test_codes_and_statuses() -> None:
    found = Rejection.parse(
        b'{"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}'
    )
    assert (found.message, found.codes, found.status) == ("pay", {"insufficient_quota"}, None)
    assert Rejection.parse(b'{"error": {"message": "overloaded", "code": 502}}').status == 502
    assert Rejection.parse(b'{"error": {"code": true}}').status is None


@given(st.one_of(st.binary(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "detail", "message", "param", "code", "type", "loc", "status"]), inner)).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_reply_is_rejection(body: bytes) -> None:
    assert isinstance(Rejection.parse(body).message, str)
