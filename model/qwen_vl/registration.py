"""Qwen-VL in transformers' Auto classes, under the checkpoint's own ``"model_type": "qwen"``."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from .configuration import QwenVLConfig
from .image_processing import QwenVLImageProcessor
from .modeling import QwenVLForConditionalGeneration, QwenVLModel
from .processing import QwenVLProcessor
from .tokenization import QWenTokenizer, QwenVLTokenizer


def register() -> None:
    """Register configuration, models, tokenizer, image processor and processor.  Idempotent.

    A ``qwen`` checkpoint that is loaded with ``trust_remote_code=True`` still runs its own code, as everywhere in
    transformers.
    """
    AutoConfig.register(QwenVLConfig.model_type, QwenVLConfig, exist_ok=True)
    AutoModel.register(QwenVLConfig, QwenVLModel, exist_ok=True)
    AutoModelForImageTextToText.register(QwenVLConfig, QwenVLForConditionalGeneration, exist_ok=True)
    tokenizers: Any = AutoTokenizer
    # The published tokenizer_config.json names QWenTokenizer; classes are found by the names they are registered with.
    tokenizers.register(QwenVLConfig, tokenizer_class=QWenTokenizer, exist_ok=True)
    tokenizers.register(QwenVLConfig, tokenizer_class=QwenVLTokenizer, exist_ok=True)
    AutoImageProcessor.register(QwenVLConfig, image_processor_classes={"pil": QwenVLImageProcessor}, exist_ok=True)
    AutoProcessor.register(QwenVLConfig, QwenVLProcessor, exist_ok=True)
