"""Qwen-VL's processor and chat format.

The placeholder of an image in a prompt is one ``<imgpad>`` (``image_token``).  It is expanded to 258 tokens: ``<img>``,
256 times ``<imgpad>``, ``</img>``; the original writes the image's path into the 256, which the model ignores.  An
``<img>`` in a prompt is an error.  Text from outside (a data set's question) can neither contain images nor end a turn
once it has been quoted (``quote``), as ``apply_chat_template`` does with all messages.

The published checkpoint has neither processor files nor a chat template.  ``generation_config.json`` distinguishes the
chat model (``"chat_format": "chatml"``) from the base model (``"raw"``), which has no chat template.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import BatchFeature
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin
from transformers.utils.hub import cached_file

from evalkit.jsonl import read_json

from .image_processing import QwenVLImageProcessor, flat
from .tokenization import QwenVLTokenizer
from .vocabulary import IMAGE_END, IMAGE_PAD, IMAGE_START, SLOTS, VOCAB_FILE, quote, spelled

CHAT_TEMPLATE = """\
{%- set seen = namespace(pictures=0, before='') -%}
{%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] not in ('system', 'user', 'assistant') -%}
        {{- raise_exception('Qwen-VL-Chat has the roles system, user and assistant, not ' + message['role']) -}}
    {%- endif -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- set seen.before = '' -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}
                {%- set seen.pictures = seen.pictures + 1 -%}
                {%- set label = 'Picture ' + seen.pictures|string + ':' -%}
                {%- if seen.before.endswith(label) or seen.before.endswith(label + ' ') -%}
                    {{- '<imgpad>' -}}
                {%- else -%}
                    {{- label + ' <imgpad>\\n' -}}
                {%- endif -%}
                {%- set seen.before = '' -%}
            {%- elif part['type'] == 'text' -%}
                {{- part['text'] -}}
                {%- set seen.before = part['text'] -%}
            {%- else -%}
                {{- raise_exception('Qwen-VL-Chat takes text and images, not ' + part['type']) -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""ChatML.  Images are numbered in the conversation, ``Picture 1: …`` on its own line as in the model's README and
fine-tuning data, unless the text before an image ends with that already.
"""

_HUB = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")
_PLACE = spelled([IMAGE_PAD])
_BY_HAND = spelled([IMAGE_START, IMAGE_END])


class QwenVLProcessorKwargs(ProcessingKwargs, total=False):
    """The options of ``QwenVLProcessor`` besides text and images: those of transformers."""

    _defaults = {}  # type: ignore[misc]  # transformers 5.10 reads it


class QwenVLProcessor(ProcessorMixin):
    """Tokenizer, image processor and chat format.

    Args:
        chat_template: Jinja; None for the base model.
        num_image_tokens: number of tokens between ``<img>`` and ``</img>``; 256 except in small test models.
    """

    def __init__(
        self,
        image_processor: QwenVLImageProcessor,
        tokenizer: QwenVLTokenizer,
        chat_template: str | None = CHAT_TEMPLATE,
        num_image_tokens: int = SLOTS,
    ) -> None:
        self.image_token = IMAGE_PAD
        self.image_token_id = tokenizer.special_ids[IMAGE_PAD]
        self.num_image_tokens = num_image_tokens
        names = (IMAGE_START, *[IMAGE_PAD] * num_image_tokens, IMAGE_END)
        self.image_ids = [tokenizer.special_ids[name] for name in names]
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels of resized images."""
        return self.image_processor.size["width"], self.image_processor.size["height"]

    @property
    def turn_stop_ids(self) -> tuple[int, ...]:
        """The tokens that end a turn; the published generation config does not have them."""
        if not self.chat_template:
            return ()
        found: list[int] = self.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
        return tuple(found)

    def quote(self, text: str, keep_grounding: bool = True) -> str:
        """Text from outside, marked so that no special token is recognized in it (see ``vocabulary.quote``)."""
        return quote(text, keep_grounding)

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with quoted messages: only ``<ref>``, ``<box>`` and ``<quad>`` in them are special
        tokens; with ``sanitize_control_tokens=True`` none is.
        """
        keep = not kwargs.pop("sanitize_control_tokens", False)
        return super().apply_chat_template(self._quoted(conversation, keep), *args, **kwargs)

    def _quoted(self, found: Any, keep: bool) -> Any:
        """A conversation, a message or an item of its content, with quoted texts."""
        if isinstance(found, (list, tuple)):
            return [self._quoted(one, keep) for one in found]
        if not isinstance(found, Mapping):
            return found
        quoted = dict(found)
        for name in ("content", "text"):
            value = quoted.get(name)
            if value is not None:
                quoted[name] = self.quote(value, keep) if isinstance(value, str) else self._quoted(value, keep)
        return quoted

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """The model's inputs.

        Args:
            images: Pillow images: a list for each text, or one list of all in order of appearance; None for none.
            text: one or several prompts, with an ``<imgpad>`` for each image.
            kwargs: ``padding``, ``return_tensors`` and so on; no special tokens are added.

        Returns:
            ``input_ids`` and ``attention_mask`` (texts, length), padded on the left if requested; and with images
            ``pixel_values`` (images, 3, 448, 448), in order of appearance.

        Raises:
            ValueError: the numbers of images and placeholders differ, a prompt contains ``<img>``, or truncation is
                requested.
        """
        kinds: Any = QwenVLProcessorKwargs  # annotated as an instance
        options = self._merge_kwargs(kinds, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        settings = options["text_kwargs"]
        if settings.get("truncation"):
            raise ValueError("Qwen-VL's prompts cannot be truncated: images would be cut; do not pass truncation")
        prompts = [text] if isinstance(text, str) else list(text or ())
        if not prompts:
            raise ValueError("no text was given; the prompt for an image without text is <imgpad>")
        tensors = settings.get("return_tensors")
        self._check(prompts, images)
        rows = [self._expanded(self.tokenizer.token_ids(prompt)) for prompt in prompts]
        padding = ("padding", "max_length", "pad_to_multiple_of", "padding_side", "return_attention_mask")
        how = {name: settings[name] for name in padding if settings.get(name) is not None}
        data = dict(self.tokenizer.pad({"input_ids": rows}, **{"padding": False, **how}))
        given = flat(images)
        if given:
            data.update(self.image_processor(images=given, return_tensors=tensors))
        return BatchFeature(data, tensor_type=tensors)

    def _check(self, prompts: Sequence[str], images: Any) -> None:
        """Raise ``ValueError`` unless there is one placeholder for each image."""
        places = [len(_PLACE.findall(prompt)) for prompt in prompts]
        for row, prompt in enumerate(prompts):
            if found := _BY_HAND.search(prompt):
                raise ValueError(
                    f"text {row + 1} contains {found[0]}: give images as images=…, with {IMAGE_PAD} in their "
                    "place; to use the characters literally, apply the processor's quote()"
                )
        nested = isinstance(images, (list, tuple)) and any(isinstance(entry, (list, tuple)) for entry in images)
        if nested and len(images) != len(prompts):
            raise ValueError(f"there are {len(images)} lists of images for {len(prompts)} texts")
        given = [len(flat(part)) for part in images] if nested else [len(flat(images))]
        wanted = places if nested else [sum(places)]
        for row, (there, needed) in enumerate(zip(given, wanted, strict=True)):
            if there != needed:
                who = f"text {row + 1} has" if nested else "the texts have"
                raise ValueError(f"{who} {needed} image placeholders ({IMAGE_PAD}), but {there} images were given")

    def _expanded(self, ids: Sequence[int]) -> list[int]:
        """The 258 tokens that replace each image's placeholder."""
        return [token for number in ids for token in (self.image_ids if number == self.image_token_id else (number,))]

    def _get_num_multimodal_tokens(self, image_sizes: Any = None, **kwargs: Any) -> MultiModalData:
        """The number of tokens of images, for transformers: 258 for every (height, width)."""
        count = len(image_sizes or ())
        return MultiModalData(num_image_tokens=[len(self.image_ids)] * count, num_image_patches=[1] * count)

    # ---------------------------------------------------------------------------------------------------------- loading

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Image processor and tokenizer; not through the Auto classes, which need files that were not published.

        Raises:
            ValueError: the vocabulary is from another model.
        """
        where = _where(kwargs)
        image_processor = QwenVLImageProcessor.from_pretrained(pretrained_model_name_or_path, **where)
        tokenizer = QwenVLTokenizer.from_pretrained(pretrained_model_name_or_path, **where)
        found = tokenizer.special_ids[IMAGE_START]
        wanted = _visual(pretrained_model_name_or_path, where).get("image_start_id", found)
        if found != wanted:
            raise ValueError(
                f"the vocabulary is from another model: in config.json, images begin with token {wanted}, but "
                f"{IMAGE_START} is token {found} after the {len(tokenizer.ranks)} in {VOCAB_FILE}"
            )
        return [image_processor, tokenizer]

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The saved settings; without saved ones, the default chat template, or None for the base model."""
        where = _where(kwargs)
        found, rest = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        saved = "processor_class" in found
        if "chat_template" not in found:
            format_ = _json(pretrained_model_name_or_path, "generation_config.json", where).get("chat_format")
            if saved or format_ == "raw":
                found["chat_template"] = None
        if not saved:
            found["num_image_tokens"] = _visual(pretrained_model_name_or_path, where).get("n_queries", SLOTS)
        return found, rest


def _where(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in _HUB if kwargs.get(name) is not None}


def _visual(location: str | os.PathLike[str], where: Mapping[str, Any]) -> Mapping[str, Any]:
    """The vision part of ``config.json``; empty if missing."""
    return _json(location, "config.json", where).get("visual") or {}


def _json(location: str | os.PathLike[str], name: str, where: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON file of a checkpoint; empty if missing."""
    path = cached_file(
        location, name, **where,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    return read_json(Path(path), constants=True) if path else {}
