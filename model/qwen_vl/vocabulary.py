"""Qwen-VL's vocabulary: ranks of byte sequences (``qwen.tiktoken``), special tokens, and pre-tokenization.

The file has a line per rank: the token's bytes in base64, a space, the rank.  Special tokens are not in a file: their
ids follow the last rank (151643 in the published file) in a fixed order.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from evalkit.installation import install_command

VOCAB_FILE = "qwen.tiktoken"

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, IMAGE_PAD = "<img>", "</img>", "<imgpad>"
GROUNDING = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
EXTRAS = 205

SLOTS = 256
"""Tokens of an image between ``<img>`` and ``</img>``."""
SPAN = SLOTS + 2

MARK = "\ufdd0"
"""Marks that no special token begins at the following ``<``.  A noncharacter of Unicode, which occurs in no text."""

# Qwen's pre-tokenization: contractions, words, single digits, punctuation, line ends, spaces.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_UNQUOTED = re.compile("<(?!/?(?:ref|box|quad)>)")
_ANY = re.compile("<")


def quote(text: str, keep_grounding: bool = True) -> str:
    """Text with each ``<`` marked, so that no special token is recognized in it.

    For text from outside (a data set's question), once, before it becomes part of a prompt: existing marks are replaced
    by U+FFFD.

    Args:
        keep_grounding: leave ``<ref>``, ``<box>``, ``<quad>`` and their closing tokens unmarked, as Qwen-VL's chat
            format does: prompts use them, and they neither end a turn nor stand for an image.
    """
    return (_UNQUOTED if keep_grounding else _ANY).sub(f"{MARK}<", text.replace(MARK, "\ufffd"))


def special_tokens(first: int, extras: int = EXTRAS) -> dict[str, int]:
    """The ids of the special tokens by name, from ``first`` on."""
    numbered = (f"<|extra_{n}|>" for n in range(extras))
    names = (END_OF_TEXT, IM_START, IM_END, *numbered, *GROUNDING, IMAGE_START, IMAGE_END, IMAGE_PAD)
    return {name: first + n for n, name in enumerate(names)}


def spelled(names: Collection[str]) -> re.Pattern[str]:
    """A pattern of the tokens ``names`` in a text, unless they are quoted."""
    return re.compile(f"(?<!{MARK})({'|'.join(map(re.escape, names))})" if names else "(?!)")


def read_ranks(path: str | Path | None) -> dict[bytes, int]:
    """The ranks of tokens by their bytes.  Line ends may be CRLF, as in some copies.

    Raises:
        ValueError: there is no such file, or it is not a vocabulary: every single byte needs a rank, and ranks count
            from 0 without gaps.
    """
    if path is None or not Path(path).is_file():
        missing = f"{path} is not a file" if path is not None else f"the folder has no {VOCAB_FILE}"
        raise ValueError(f"Qwen-VL's tokenizer needs its vocabulary, but {missing}; copy the checkpoint's file there.")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"{path}, line {number}: not a token in base64 and its rank: {line[:40]!r}") from error
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError(
            f"{path} is incomplete or corrupt: it has {len(ranks)} tokens, but ranks must count from 0 without a "
            "gap, and each of the 256 bytes must be a token; download the checkpoint's file again."
        )
    return ranks


def write_ranks(ranks: Mapping[bytes, int], path: Path) -> None:
    """Write ranks in the format of ``read_ranks``."""
    lines = (
        base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])
    )
    path.write_bytes(b"".join(lines))


def byte_pairs(ranks: dict[bytes, int], special: dict[str, int]) -> Any:
    """tiktoken's encoder.  Raises ``ImportError`` if tiktoken is not installed."""
    try:
        import tiktoken
    except ImportError as error:
        command = install_command("qwen-vl")
        raise ImportError(f"Qwen-VL's tokenizer needs tiktoken; install it with: {command}") from error
    return tiktoken.Encoding("Qwen", pat_str=WORDS, mergeable_ranks=ranks, special_tokens=special)
