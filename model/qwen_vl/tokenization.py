"""Qwen-VL's tokenizer: byte pairs from ``qwen.tiktoken``, special tokens, and images' spans of 258 tokens.

As in the original code: text is NFC-normalised; special tokens are recognized anywhere in a text, unless
``allowed_special`` excludes them; ``<img>path</img>`` becomes ``<img>``, the path's UTF-8 bytes (id = byte value)
padded with ``<imgpad>`` to 256 slots, and ``</img>``; decoding restores the path.

Deviations, all on purpose:

- it has a padding token, ``<|endoftext|>``, and pads on the left, as the model's own evaluation sets it up (the
  original has none);
- text is normalised after special tokens have been found, so that no combining character (U+0338 after ``>``) can
  destroy one;
- a ``<`` after ``vocabulary.MARK`` does not begin a special token, and the mark is removed: see ``quote``;
- decoding never fails: ids past the last token become U+FFFD (the model's output layer has 76 of them), and
  malformed image spans are decoded token by token (the original raises for both);
- tokens cannot be added, and there are no token type ids.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AddedToken, PreTrainedTokenizer

from . import vocabulary
from .vocabulary import END_OF_TEXT, EXTRAS, IMAGE_END, IMAGE_PAD, IMAGE_START, MARK, SLOTS, SPAN, VOCAB_FILE

Token = bytes | str


class QwenVLTokenizer(PreTrainedTokenizer):
    """The tokenizer of Qwen-VL and Qwen-VL-Chat.  Tokens are bytes, special tokens strings.

    Args:
        vocab_file: ``qwen.tiktoken``.
        errors: how decoding handles invalid UTF-8, as in ``bytes.decode``.
        extra_tokens: the number of ``<|extra_N|>`` tokens; 205 except in small test vocabularies.

    Raises:
        ValueError: the vocabulary is missing or corrupt, or Qwen-VL does not have a special token.
        ImportError: tiktoken is not installed.
    """

    vocab_files_names = {"vocab_file": VOCAB_FILE}
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "left"

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        errors: str = "replace",
        extra_tokens: int = EXTRAS,
        pad_token: str | None = END_OF_TEXT,
        eos_token: str | None = END_OF_TEXT,
        **kwargs: Any,
    ) -> None:
        self.ranks = vocabulary.read_ranks(None if vocab_file is None else Path(vocab_file))
        self.special_ids = vocabulary.special_tokens(len(self.ranks), extra_tokens)
        self.bpe = vocabulary.byte_pairs(self.ranks, self.special_ids)
        self.errors = errors
        self.extra_tokens = extra_tokens
        self._bytes = {rank: token for token, rank in self.ranks.items()}
        self._names = {number: name for name, number in self.special_ids.items()}
        self._patterns: dict[frozenset[str], Callable[[str], list[str]]] = {}
        saved = kwargs.pop("added_tokens_decoder", None) or {}
        self._check(map(str, (*saved.values(), *(kwargs.pop("extra_special_tokens", None) or ()))))
        kwargs.pop("auto_map", None)  # names the remote code that this class replaces
        self._added_tokens_decoder = {
            number: AddedToken(name, special=True, normalized=False) for name, number in self.special_ids.items()
        }
        super().__init__(
            errors=errors, extra_tokens=extra_tokens, pad_token=pad_token, eos_token=eos_token,
            extra_special_tokens=list(self.special_ids), **kwargs,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------------- the vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of tokens, including special ones; the model's embedding is slightly larger."""
        return len(self.ranks) + len(self.special_ids)

    def __len__(self) -> int:
        return self.vocab_size

    def get_vocab(self) -> dict[Any, int]:
        """Every token and its id."""
        return {**self.ranks, **self.special_ids}

    def _add_tokens(self, new_tokens: Iterable[Any], special_tokens: bool = False) -> int:
        self._check(map(str, new_tokens))
        return 0

    def _check(self, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.special_ids]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a special token of Qwen-VL, whose vocabulary cannot be extended.")

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or the ids of a list; None for unknown tokens."""
        if isinstance(tokens, Token):
            found = self.special_ids.get(tokens) if isinstance(tokens, str) else None
            plain = tokens.encode("utf-8", "replace") if isinstance(tokens, str) else tokens
            return self.ranks.get(plain) if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of a list.

        Raises:
            KeyError: an id has no token.
        """
        if isinstance(ids, int):
            return self._bytes[ids] if ids in self._bytes else self._names[ids]
        return [
            self.convert_ids_to_tokens(number)
            for number in map(int, ids)
            if not (skip_special_tokens and number in self._names)
        ]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write ``qwen.tiktoken``."""
        path = Path(save_directory, f"{filename_prefix}-{VOCAB_FILE}" if filename_prefix else VOCAB_FILE)
        vocabulary.write_ranks(self.ranks, path)
        return (str(path),)

    # --------------------------------------------------------------------------------------------------------- encoding

    def token_ids(
        self, text: str, allowed_special: str | Collection[str] = "all", disallowed_special: str | Collection[str] = ()
    ) -> list[int]:
        """The token ids of a text.

        Args:
            allowed_special: the special tokens to recognize; others are ordinary text.
            disallowed_special: special tokens that must not occur; ``"all"`` for all that are not in
                ``allowed_special``.

        Raises:
            ValueError: a disallowed token occurs, or an ``<img>`` has no ``</img>``, more than 256 bytes, or another
                special token before it.
        """
        allowed = frozenset(self.special_ids if allowed_special == "all" else allowed_special)
        if disallowed_special:
            refused = self.special_ids.keys() - allowed if disallowed_special == "all" else set(disallowed_special)
            if found := vocabulary.spelled(refused).search(text):
                raise ValueError(f"the text contains the special token {found[0]}, which disallowed_special excludes")
        return list(self._ids(text, allowed))

    def _ids(self, text: str, allowed: frozenset[str]) -> Iterator[int]:
        if allowed not in self._patterns:
            self._patterns[allowed] = vocabulary.spelled(allowed & self.special_ids.keys()).split
        plain, *others = self._patterns[allowed](text)  # text, token, text, token, …, text
        pairs = zip(others[::2], others[1::2], strict=True)
        yield from self._ordinary(plain)
        for name, after in pairs:
            yield self.special_ids[name]
            if name != IMAGE_START:
                yield from self._ordinary(after)
                continue
            end, rest = next(pairs, (None, ""))
            if end != IMAGE_END:
                what = "is not closed" if end is None else f"has {end} in it"
                raise ValueError(f"an {IMAGE_START} {what}: only a path and {IMAGE_END} may follow")
            yield from self._slots(after)
            yield self.special_ids[IMAGE_END]
            yield from self._ordinary(rest)

    def _ordinary(self, text: str) -> Iterable[int]:
        return self.bpe.encode_ordinary(_plain(text)) if text else ()

    def _slots(self, path: str) -> list[int]:
        """The 256 ids of an image, which encode its path."""
        raw = _plain(path).encode("utf-8", "replace")
        if len(raw) > SLOTS:
            raise ValueError(f"the path in {IMAGE_START}…{IMAGE_END} has {len(raw)} bytes, more than {SLOTS}")
        return [*raw, *[self.special_ids[IMAGE_PAD]] * (SLOTS - len(raw))]

    def tokenize(self, text: str, *args: Any, **kwargs: Any) -> Any:
        """The tokens of a text: bytes, or strings for special tokens.

        ``allowed_special`` and ``disallowed_special`` are those of ``token_ids``.
        """
        allowed = () if kwargs.get("split_special_tokens") else kwargs.get("allowed_special", "all")
        ids = self.token_ids(text, allowed, kwargs.get("disallowed_special", ()))
        return self.convert_ids_to_tokens(ids)

    # --------------------------------------------------------------------------------------------------------- decoding

    def convert_tokens_to_string(self, tokens: Sequence[Token]) -> str:
        """The text of tokens."""
        return b"".join(t.encode() if isinstance(t, str) else t for t in tokens).decode("utf-8", self.errors)

    def _decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        errors: str | None = None,
        **kwargs: Any,
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else [int(number) for number in token_ids]
        parts: list[bytes] = []
        start = self.special_ids[IMAGE_START]
        at = 0
        while at < len(ids):
            path = self._path(ids[at : at + SPAN]) if ids[at] == start else None
            if path is None:
                parts.append(self._piece(ids[at], skip_special_tokens))
                at += 1
                continue
            ends = (self._piece(ids[end], skip_special_tokens) for end in (at, at + SPAN - 1))
            parts.append(path.join(ends))
            at += SPAN
        return b"".join(parts).decode("utf-8", errors or self.errors)

    def _piece(self, number: int, skip_special: bool) -> bytes:
        found = self._bytes.get(number)
        if found is not None:
            return found
        # Ids without a token become a byte that is never valid UTF-8.
        return b"" if skip_special else self._names[number].encode() if number in self._names else b"\xff"

    def _path(self, span: Sequence[int]) -> bytes | None:
        """The content of an image's slots; None if ``span`` is not a well-formed image span."""
        start, end, pad = (self.special_ids[name] for name in (IMAGE_START, IMAGE_END, IMAGE_PAD))
        if len(span) < SPAN or (span[0], span[-1]) != (start, end):
            return None
        slots = span[1:-1]
        length = slots.index(pad) if pad in slots else SLOTS
        if any(slot != pad for slot in slots[length:]) or not all(0 <= slot < 256 for slot in slots[:length]):
            return None
        return bytes(slots[:length])


class QWenTokenizer(QwenVLTokenizer):
    """The name in the published ``tokenizer_config.json``; it loads ``QwenVLTokenizer``."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        return QwenVLTokenizer.from_pretrained(*args, **kwargs)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace(f"{MARK}<", "<"))
