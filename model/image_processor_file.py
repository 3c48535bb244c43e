"""The settings of an image processor in a checkpoint's files, in the spellings of every transformers release.

Backends of loaded models and of servers read them here.  Qwen2-VL, Qwen2.5-VL and Qwen3-VL have one image processor,
whose files were written differently over time:

- in ``preprocessor_config.json``, or since transformers 5 in ``processor_config.json`` under ``image_processor``;
- with ``image_processor_type`` ``Qwen2VLImageProcessor``, with ``Fast`` or ``Pil`` behind it, or
  ``Qwen2_5_VLImageProcessor`` (Qwen2.5-VL's first weeks), or without one;
- with the limits ``min_pixels`` and ``max_pixels``; with those inside ``size`` (transformers 4.45 to 4.48); or with
  ``size`` ``{"shortest_edge", "longest_edge"}``, which are numbers of pixels too.  Those outside ``size`` override it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.jsonl import read_json

PROCESSOR, PREPROCESSOR = FILES = ("processor_config.json", "preprocessor_config.json")
"""In transformers' order."""

QWEN_IMAGE_PROCESSOR = "Qwen2VLImageProcessor"
QWEN_IMAGE_PROCESSORS = tuple(
    name + suffix
    for name in (QWEN_IMAGE_PROCESSOR, "Qwen2_5_VLImageProcessor", "Qwen3VLImageProcessor")
    for suffix in ("", "Fast", "Pil")
)
QWEN_PROCESSORS = ("Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor")
"""The ``processor_class`` of files without an ``image_processor_type``."""
DEFAULTS = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280, "patch_size": 14, "merge_size": 2}
"""transformers' defaults for keys that the file does not set."""
SPELLINGS = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}


class ProcessorFileError(ValueError):
    """An image processor's file is unreadable or not of a known spelling; the message says how."""


@dataclass(frozen=True)
class ImageProcessorFile:
    """The settings in a file, as written."""

    path: Path
    settings: Mapping[str, Any]

    @property
    def type(self) -> str | None:
        """The ``image_processor_type``."""
        found = self.settings.get("image_processor_type")
        return found if isinstance(found, str) else None

    @property
    def of_qwen(self) -> bool:
        """Whether it is the image processor of Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""
        if self.type is not None:
            return self.type in QWEN_IMAGE_PROCESSORS
        return self.settings.get("processor_class") in QWEN_PROCESSORS

    def qwen_resizing(self) -> tuple[int, int, int]:
        """(side of a visual token, minimum, maximum number of pixels) of a Qwen image processor.

        Raises:
            ProcessorFileError: another image processor, or a spelling that is none of theirs.
        """
        settings, name = self.settings, self.path.name
        if not self.of_qwen:
            found = "no image_processor_type" if self.type is None else f"the image_processor_type {self.type}"
            raise ProcessorFileError(f"{name} has {found}; expected {QWEN_IMAGE_PROCESSOR}")
        if settings.get("do_resize") is False:
            raise ProcessorFileError(f"{name} says do_resize: false, and the model needs resized images")
        size = settings.get("size") or {}
        known = {*SPELLINGS, *SPELLINGS.values()}
        if not isinstance(size, Mapping) or set(size) - known:
            raise ProcessorFileError(
                f"{name} has the size {json.dumps(size)}; expected shortest_edge and longest_edge, or min_pixels and "
                "max_pixels, in pixels"
            )
        values = {}
        for key, default in DEFAULTS.items():
            spelling = SPELLINGS.get(key)
            candidates = (
                (settings.get(spelling), size.get(key), size.get(spelling)) if spelling else (settings.get(key),)
            )
            value = next((candidate for candidate in candidates if candidate is not None), default)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ProcessorFileError(f"{name} has {spelling or key} {value!r}; expected an integer (pixels)")
            values[key] = value
        if values["shortest_edge"] > values["longest_edge"]:
            raise ProcessorFileError(
                f"{name} has a minimum of {values['shortest_edge']} pixels above the maximum of "
                f"{values['longest_edge']}"
            )
        return values["patch_size"] * values["merge_size"], values["shortest_edge"], values["longest_edge"]

    @property
    def outdated(self) -> bool:
        """Whether a Qwen image processor's spelling is one that transformers no longer reads."""
        size = self.settings.get("size") or {}
        return self.type not in (None, *QWEN_IMAGE_PROCESSORS[:3]) or (bool(size) and set(size) != set(SPELLINGS))

    def rewritten(self) -> bytes:
        """The content of the file with a Qwen image processor as transformers writes it now.

        Raises:
            ProcessorFileError: as ``qwen_resizing``.
        """
        _, low, high = self.qwen_resizing()
        settings = {key: value for key, value in self.settings.items() if key not in SPELLINGS.values()}
        settings |= {
            "image_processor_type": QWEN_IMAGE_PROCESSOR,
            "size": {"shortest_edge": low, "longest_edge": high},
        }
        if self.path.name == PROCESSOR:
            settings = {**read_json(self.path, constants=True), "image_processor": settings}
        return json.dumps(settings).encode()


def read_image_processor(folder: Path) -> ImageProcessorFile | None:
    """The image processor's settings in ``folder``; None if there are none.

    Raises:
        ProcessorFileError: a file is unreadable.
    """
    for name in FILES:
        path = folder / name
        try:
            content = read_json(path, constants=True)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ProcessorFileError(f"{name} is unreadable ({error})") from error
        if not isinstance(content, dict):
            raise ProcessorFileError(f"{name} has no JSON object")
        settings = content.get("image_processor") if name == PROCESSOR else content
        if isinstance(settings, dict):
            return ImageProcessorFile(path, {"processor_class": content.get("processor_class"), **settings})
    return None
