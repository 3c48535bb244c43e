"""AI2D: multiple-choice questions about diagrams from school science books.

Paper: Kembhavi et al., "A Diagram Is Worth a Dozen Images", ECCV 2016 (arXiv 1603.07396).  Official data:
``ai2d-all.zip`` and, apart from it, ``ai2d_test_ids.csv`` (prior.allenai.org/projects/diagram-understanding).
Score: share of questions whose option was named (``metrics/choice_accuracy.py``); a letter is answered, 10 new tokens.

Protocol: ``questions/0.png.json`` holds one diagram's questions, keyed by their text, with ``answerTexts`` (four
options) and ``correctAnswer`` (counted from 0).  The images named in ``ai2d_test_ids.csv`` are the test set.

*Letters in the image.*  Where ``abcLabel`` is true the question speaks of letters ("What is A in the diagram?") that
covered the diagram's words when people answered it, but are not in the image file.  Here they are drawn, as big_vision
does: each word's rectangle in ``annotations/0.png.json`` is filled white and its ``replacementText`` written in it.
Where the root has a folder ``abc_images/`` (drawn for InternLM-XComposer, passed on by InternVL), that one is taken.
Others call this "with mask" (VLMEvalKit's AI2D_TEST); "without mask" (AI2D_TEST_NO_MASK) leaves the words legible, is
easier by several points, and is not this.  The hub's ``lmms-lab/ai2d`` is masked too, as lmms-eval's pull request 325
says.  The three renderings are not the same pixel for pixel.

Deliberate choices:
- Test order is the csv's, then each file's; a question's id is its ``questionId``.
- A listed image without a file of questions has none; a warning counts them.
- Qwen-VL (2023) compared the generated text with the option's text; this is the multiple-choice protocol that tables
  have reported since, so its AI2D number is not comparable.

Not checked against the official download: whether every image of the csv has a file of questions.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data import HubData, OfficialData, image_in, shown
from evalkit.errors import UserError
from evalkit.images import PathImage, RowImage
from evalkit.interfaces import Task
from evalkit.jsonl import read_bytes
from evalkit.letters import VLMEVALKIT, lmms_eval
from evalkit.tasks._files import boolean_in, id_in, is_coordinate, official_format, text_in, texts_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Size, Split

from ._choice import letter

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

log = logging.getLogger(__name__)

HUB_REPO = "lmms-lab/ai2d"
HUB_COLUMNS = ("image", "question", "options", "answer")
IDS = "ai2d_test_ids.csv"
FOLDERS = ("ai2d", "ai2d/ai2d")
EXPECTED = "ai2d-all.zip unpacked (prior.allenai.org/projects/diagram-understanding)"
HINT = f"expected {EXPECTED}"


@dataclass(frozen=True)
class LetteredImage(ImageRef):
    """A diagram whose words are covered by letters.

    ``labels`` are (x1, y1, x2, y2, letter), in pixels of the file.
    """

    path: str
    labels: tuple[tuple[float, float, float, float, str], ...]

    @property
    def name(self) -> str:
        return f"{self.path} (lettered)"

    @property
    def origin(self) -> str:
        return self.path

    def size(self) -> Size:
        return PathImage(self.path, upright=False).size()

    def load(self) -> PILImage:
        from PIL import ImageDraw, ImageFont

        image = PathImage(self.path, upright=False).load()  # the labels are in pixels as they are stored
        draw = ImageDraw.Draw(image)
        for x1, y1, x2, y2, text in self.labels:
            draw.rectangle((x1, y1, x2, y2), fill="white")
            _, _, width, height = ImageFont.load_default(100).getbbox(text)  # (0, 0) is where the text begins
            fitting = 100 * min((x2 - x1) / max(width, 1), (y2 - y1) / max(height, 1))
            font = ImageFont.load_default(max(1, int(fitting)))
            draw.text(((x1 + x2) / 2, (y1 + y2) / 2), text, fill="black", font=font, anchor="mm")
        return image

    def digest(self) -> str:
        drawn = hashlib.sha256(repr(self.labels).encode()).hexdigest()[:8]
        return f"{PathImage(self.path, upright=False).digest()}-{drawn}"


class AI2D(Task):
    """AI2D test (and the other images as train, for few-shot examples), from the official files or the hub."""

    name = "ai2d"
    version = 1
    kind = "choice"
    splits = {
        "test": Split(3_088, "test; letters drawn over the words"),
        "train": Split(12_413, "the other images: for few-shot examples"),
    }
    default_splits = ("test",)
    metric = "choice_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        "lmms-eval": PromptTemplate(
            "{q}\n{options}\nAnswer with the option's letter from the given choices directly.", max_new_tokens=16
        ),
        "vlmevalkit": PromptTemplate(
            "{hints}Question: {question}\nOptions:\n{options}\n"
            "Please select the correct answer from the options above. \n"
        ),
    }
    rules = {
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-ai2d",
            about="a capital and a point at the beginning, else the answer alone",
            read=lmms_eval.read_ai2d,
        )
    }
    protocol_rules = {"vlmevalkit": VLMEVALKIT, "lmms-eval": lmms_eval.COMMIT}
    layout = (f"ai2d/{IDS}", "ai2d/questions/*.json", "ai2d/annotations/*.json", "ai2d/images/*.png")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, diagram by diagram."""
        folder = data.find(*(f"{f}/questions" for f in FOLDERS), task=self.name).parent
        images = data.image_folder(*(f"{f}/images" for f in FOLDERS), task=self.name)
        for name in self._names(data, folder, split):
            entry = self._json(data, folder / "questions" / f"{name}.json")
            questions = entry.get("questions") if isinstance(entry, Mapping) else None
            if not isinstance(questions, Mapping):
                raise UserError(f"ai2d: {folder}/questions/{name}.json has no 'questions'; {HINT}.")
            plain = image_in(images, name, task=self.name)
            lettered: ImageRef | None = None
            for text, question in questions.items():
                where = f"{shown(text)} in {folder}/questions/{name}.json"
                with official_format(self.name, where, EXPECTED):
                    options, question_id = texts_in(question, "answerTexts"), id_in(question, "questionId")
                    right, on_letters = question["correctAnswer"], boolean_in(question, "abcLabel")
                if on_letters and lettered is None:
                    lettered = self._lettered(data, folder, images, name)
                yield Sample(
                    id=question_id,
                    images=(lettered if on_letters and lettered is not None else plain,),
                    text=text,
                    references=(letter(right, options, task=self.name, where=where),),
                    cluster=name,
                    options=options,
                    meta={"abc_label": on_letters},
                )

    def _names(self, data: OfficialData, folder: Path, split: str) -> list[str]:
        """The images of ``split`` that have questions, as ``0.png``."""
        path = data.find(f"ai2d/{IDS}", IDS, f"ai2d/ai2d/{IDS}", task=self.name)
        text = read_bytes(path, "ai2d:").decode("utf-8", errors="replace")
        ids = [line.strip().strip('"') for line in text.splitlines()]
        listed = [f"{i.removesuffix('.png')}.png" for i in ids if i]
        present = {p.name.removesuffix(".json") for p in (folder / "questions").glob("*.json")}
        test = [name for name in listed if name in present]
        if not test:
            raise UserError(f"ai2d: none of the {len(listed)} images in {path} has questions under {folder}; {HINT}.")
        if split != "test":
            return sorted(present - set(test), key=lambda name: (len(name), name))
        if len(test) < len(listed):
            missing = len(listed) - len(test)
            log.warning("ai2d: %d of the %d images in %s have no file under questions/.", missing, len(listed), path)
        return test

    def _lettered(self, data: OfficialData, folder: Path, images: Path, name: str) -> ImageRef:
        drawn = images.parent / "abc_images" / name
        if drawn.exists():
            return PathImage(str(drawn))
        path = folder / "annotations" / f"{name}.json"
        with official_format(self.name, str(path), f"the words to cover with letters, as in {EXPECTED}"):
            labels = tuple(_label(entry) for entry in self._json(data, path)["text"].values())
        return LetteredImage(image_in(images, name, task=self.name).path, labels)

    def _json(self, data: OfficialData, path: Path) -> Any:
        return data.json(str(path.relative_to(data.root)), task=self.name)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split != "test":
            raise UserError(f"ai2d: split {split} is not read from the hub ({HUB_REPO}); give --data ROOT.")
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                options, question = texts_in(row, "options"), text_in(row, "question")
            yield Sample(
                id=str(index),
                images=(RowImage(name, rows, index),),
                text=question,
                references=(letter(row["answer"], options, task=self.name, where=name),),
                cluster=str(index),  # the copy does not name the diagrams
                options=options,
            )


def _label(entry: Mapping[str, Any]) -> tuple[float, float, float, float, str]:
    (xa, ya), (xb, yb) = corners = entry["rectangle"]
    if not all(map(is_coordinate, (xa, ya, xb, yb))):
        raise ValueError(f"rectangle is {shown(corners)}, not two corners in pixels")
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb), text_in(entry, "replacementText")


TASK = AI2D()
