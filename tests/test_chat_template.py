"""Chat templates: the switches for thinking, and what tells that a model thinks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.chat_template import check_thinking, prompt_end, read_template, switches_of, thinking_variables, thinks
from evalkit.checkpoint import Checkpoint, bundled_folder, resolve_checkpoint
from evalkit.endpoint import Endpoint, ServedModel
from evalkit.errors import UserError
from evalkit.thinking import LIMIT, thinking_limit, token_limit
from evalkit.types import Decoding, Message, Request, TextPart

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
OFF = "{{ '<think>\\n\\n</think>\\n\\n' }}"
QWEN3 = TURNS + "{% if enable_thinking is defined and enable_thinking is false %}" + OFF + "{% endif %}"
DEEPSEEK = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}" + TURNS
    + "{% if thinking %}<think>{% else %}</think>{% endif %}"
)  # fmt: skip
NAMESPACE = (
    "{% set ns = namespace(on=enable_thinking if enable_thinking is defined else true) %}" + TURNS
    + "{% if ns.on %}<think>\n{% else %}<think></think>{% endif %}"
)  # fmt: skip
MODE = TURNS + "{% if thinking_mode == 'long' %}<think>\n{% elif thinking_mode == 'short' %}" + OFF + "{% endif %}"
PARTS = "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}<think>\n"

# template, its switches, whether it thinks by default, switched on, switched off
TEMPLATES = {
    "none": (TURNS, (), (False, False, False)),
    "Qwen3": (QWEN3, ("enable_thinking",), (True, True, False)),
    "DeepSeek": (DEEPSEEK, ("thinking",), (False, True, False)),
    "namespace": (NAMESPACE, ("enable_thinking",), (True, True, False)),
    "mode": (MODE, ("thinking_mode",), (False, True, False)),
    "always": (TURNS + "<think>\n", (), (True, True, True)),
    "parts": (PARTS, (), (True, True, True)),
    "its own variable": (
        "{% set thinking = true %}" + TURNS + "{% if thinking %}x{% endif %}",
        (),
        (False, False, False),
    ),
    "a mention": (TURNS + "{# enable_thinking #}enable_thinking", (), (False, False, False)),
    "raises": ("{{ raise_exception('no') }}<think>", (), (False, False, False)),
    "invalid": ("{% if %}", (), (False, False, False)),
}


@pytest.mark.parametrize(("template", "switches", "expected"), TEMPLATES.values(), ids=TEMPLATES)
def test_thinking_of_templates(template: str, switches: tuple[str, ...], expected: tuple[bool, ...]) -> None:
    assert switches_of(template) == switches
    assert tuple(thinks(template, {}, value) for value in (None, True, False)) == expected


def test_variables_of_switches() -> None:
    assert thinking_variables(("enable_thinking", "thinking_mode"), True) == {
        "enable_thinking": True,
        "thinking_mode": "long",
    }
    assert thinking_variables(("enable_thinking",), False) == {"enable_thinking": False}
    assert thinking_variables(("enable_thinking",), None) == {}


def request(thinking: bool | None) -> Request:
    return Request("1", (Message("user", (TextPart("x"),)),), Decoding(1), thinking=thinking)


def test_switch_without_effect_is_refused() -> None:
    for thinking in (True, False):
        with pytest.raises(UserError, match="has no switch for thinking .* so it has no effect"):
            check_thinking(request(thinking), (), "assistant\n")
        check_thinking(request(thinking), ("thinking",), "assistant\n")
    check_thinking(request(None), (), "")
    check_thinking(request(True), (), "assistant\n<think>\n")  # it thinks in any case
    with pytest.raises(UserError):
        check_thinking(request(False), (), "assistant\n<think>\n")


@pytest.mark.parametrize(
    ("own", "positions", "limit"),
    [(None, None, LIMIT), (None, 262_144, LIMIT), (None, 8192, 4096), (40_960, 262_144, 40_960), (40_960, 32_768, 16_384),
     (2048, 8192, 2048), (True, None, LIMIT), ("9", None, LIMIT), (0, None, LIMIT), (None, 1, 1)],
)  # fmt: skip
def test_token_limit(own: object, positions: int | None, limit: int) -> None:
    assert token_limit(own, positions) == limit


def test_limit_of_checkpoints(tmp_path: Path) -> None:
    family = registry.families.get("qwen3-vl")
    tiny = resolve_checkpoint("tiny")
    assert thinking_limit(tiny, family, None) is None
    config = {"model_type": "qwen3_vl", "text_config": {"max_position_embeddings": 262_144}}
    (tmp_path / "chat_template.jinja").write_text(QWEN3)
    local = Checkpoint("Qwen3-VL", str(tmp_path), config)
    assert thinking_limit(local, family, None) == LIMIT
    assert thinking_limit(local, family, False) is None
    (tmp_path / "generation_config.json").write_text(json.dumps({"max_new_tokens": 40_960}))
    assert thinking_limit(local, family, True) == 40_960
    served = Checkpoint(
        "q", "q", {}, served=ServedModel(Endpoint("http://x/v1"), {"max_model_len": 20_000}, folder=str(tmp_path))
    )
    assert thinking_limit(served, family, None) == 10_000
    unknown = Checkpoint("q", "q", {}, served=ServedModel(Endpoint("http://x/v1"), prompt_end="<think>\n"))
    assert thinking_limit(unknown, family, None) == LIMIT
    plain = Checkpoint("q", "q", {}, served=ServedModel(Endpoint("http://x/v1")))
    assert thinking_limit(plain, family, None) is None


def test_bundled_template_is_read() -> None:
    template, tokens = read_template(bundled_folder("tiny"))
    assert template is not None
    assert prompt_end(template, tokens).endswith("<|im_start|>assistant\n")
    assert read_template(Path("/nonexistent"))[0] is None
