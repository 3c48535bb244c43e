"""Qwen-VL-Chat (2023): prompts and answer parsing.

The model's own evaluation prompts it like the base model, with plain text (``qwen_vl.py``).  Under other harnesses'
protocols, prompts have its chat format (the system prompt is in the chat template): ``Picture 1: <img>…</img>`` and the
prompt on the next line, as in its README and fine-tuning data, where images are numbered through the conversation.

``config.json`` has the base model's ``model_type``, so a checkpoint is recognised by the ``chat_format`` of its
``generation_config.json``, by its name, or by ``--family``.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.types import ImagePart, Message, PromptSpec, Sample, Shot, TextPart, VideoPart

from ._chat import Chat
from ._prompts import OFFICIAL
from .qwen_vl import FAMILY as BASE
from .qwen_vl import QwenVL, is_chat_model


class QwenVLChat(QwenVL):
    """The family of Qwen-VL-Chat checkpoints."""

    name = "qwen-vl-chat"

    def claims(self, model_type: str, name: str, chat_format: object = None) -> bool:
        """Whether it is a Qwen-VL checkpoint and a chat model; see ``qwen_vl.py``."""
        return model_type in self.model_types and is_chat_model(name, chat_format)

    def matches_name(self, name: str) -> bool:
        """Whether ``name`` contains Qwen-VL and chat, in any order."""
        return BASE.matches_name(name) and "chat" in name.lower()

    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """Plain text under the official protocol, else turns with numbered images."""
        if spec.protocol == OFFICIAL:
            return super().prompt(spec, sample, shots)
        count = 0
        turns: list[Message] = []
        for turn in Chat.prompt(self, spec, sample, shots):
            if turn.role == "user":
                parts: list[TextPart | ImagePart | VideoPart] = []
                for part in turn.content:
                    if isinstance(part, ImagePart):
                        count += 1
                        parts += [TextPart(f"Picture {count}: "), part, TextPart("\n")]
                    else:
                        parts.append(part)
                turn = Message("user", tuple(parts))
            turns.append(turn)
        return tuple(turns)

    def continuations(self, spec: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """Those of the base model in plain text; in a chat, the assistant's turn begins with the letter."""
        found = super().continuations(spec, sample)
        return found if spec.protocol == OFFICIAL else tuple(letter.strip() for letter in found)


FAMILY = QwenVLChat()
