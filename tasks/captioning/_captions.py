"""What the captioning tasks share: Karpathy's split files, caption files in COCO's format.

Karpathy's (``caption_datasets.zip``): ``{"images": [{"filename", "split", "sentences": [{"raw", …}], …}]}``.
COCO's: ``{"images": [{"id", "file_name", …}], "annotations": [{"image_id", "caption"}]}``, joined by image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data import OfficialData
from evalkit.errors import UserError
from evalkit.tasks._files import integer_in, list_in, official_format, required, text_in
from evalkit.types import Answered

Captioned = tuple[Mapping[str, Any], tuple[str, ...]]
"""(an image's entry as the file has it, its captions)."""


def karpathy_images(
    data: OfficialData, *places: str, task: str, parts: Sequence[str], fields: Mapping[str, Callable[[Any, str], Any]]
) -> list[Captioned]:
    """The images whose ``split`` is one of ``parts``, in the order of the file, with their captions as written.

    The file is looked for in ``places``.  Entries have ``fields``, each read as it says (``integer_in``, …), of which
    the first identifies an image.

    Raises:
        UserError: the file is missing, corrupt or in another format, or an image has no captions.
    """
    content = data.json(*places, task=task)
    name = Path(places[0]).name
    with official_format(task, f"{name} under {data.root}", f"{name} of Karpathy's caption_datasets.zip"):
        found = [
            ({key: read(image, key) for key, read in fields.items()}, [s["raw"] for s in list_in(image, "sentences")])
            for image in list_in(content, "images")
            if text_in(image, "split") in parts
        ]
    (first, *_) = fields
    return [
        (entry, required(captions, "captions", f"image {entry[first]} in {name}", task=task))
        for entry, captions in found
    ]


def caption_results(answers: Sequence[Answered], *, task: str) -> str:
    """COCO's results format, ``[{"image_id": 391895, "caption": "a man on a bike"}, …]``.

    Raises ``UserError`` for an id that is not an integer, or an answer that was parsed as a box.
    """
    return json.dumps([_result(answered, task) for answered in answers], ensure_ascii=False)


def _result(answered: Answered, task: str) -> dict[str, Any]:
    name, value = answered.sample.id, answered.prediction.value
    if not name.isascii() or not name.isdecimal():
        raise UserError(f"{task}: the official results file has integers for ids, and there is an image {name!r}.")
    if value is not None and not isinstance(value, str):
        raise UserError(f"{task}: the answer to image {name} was parsed as a box, {value!r}; a caption is a text.")
    return {"image_id": int(name), "caption": value or ""}


def coco_captions(data: OfficialData, *places: str, task: str) -> list[Captioned]:
    """The images of a caption file in COCO's format, in its order, each with its captions in theirs.

    The file is looked for in ``places``.  Entries have ``id``, ``file_name``, and whatever else the file gives them.

    Raises:
        UserError: the file is missing, corrupt or in another format, an image has no captions, or a caption no
            image.
    """
    content = data.json(*places, task=task)
    name = Path(places[0]).name
    with official_format(task, f"{name} under {data.root}", f"the official {name}"):
        entries = [
            {**image, "id": integer_in(image, "id"), "file_name": text_in(image, "file_name")}
            for image in list_in(content, "images")
        ]
        captions: dict[int, list[Any]] = {entry["id"]: [] for entry in entries}
        for annotation in list_in(content, "annotations"):
            image_id = integer_in(annotation, "image_id")
            if image_id not in captions:
                raise UserError(
                    f"{task}: {name} has a caption of image {image_id}, which is not among its images; "
                    "the file is corrupt, download it again."
                )
            captions[image_id].append(annotation["caption"])
    return [
        (entry, required(captions[entry["id"]], "captions", f"image {entry['id']} in {name}", task=task))
        for entry in entries
    ]
