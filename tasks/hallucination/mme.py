"""MME: yes/no questions on perception and cognition, two per image.

Paper: Fu et al., "MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models" (arXiv 2306.13394).
Official data and scorer: BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation (images on request;
``tools/eval_tool.zip`` at commit dd295090 has the questions, the answers and ``calculation.py``).
Score: 100 · accuracy + 100 · accuracy+ of each of 14 subtasks, summed (``metrics/mme.py``); 16 new tokens.

Protocol: 2,374 questions on 1,187 images: existence, count, position, color (60 each), posters (294), celebrity (340),
scene, landmark, artwork (400 each), OCR (40); commonsense_reasoning (140), numerical_calculation, text_translation,
code_reasoning (40 each).  The question is asked as it is; it ends with "Please answer yes or no."  lmms-eval replaces
that by its own instruction, and leaves a blank before it in seven questions.

Rules:
- ``official``: the answer in lower case, if it is yes or no; else whichever of them is in its first four characters,
  yes first: "know" is no, "eyes" is yes, "The answer is yes" is neither, and wrong.
- ``lmms-eval-75571cf``: the same after blanks at both ends and all periods are removed; y and n alone count.
- ``vlmevalkit-yes-no``: one of the words anywhere, without the other.

Deliberate choices:
- Line ends before an answer are dropped under the official rule: its file has one line per answer.
- The first four subtasks share COCO images: such an image is one cluster.
- Ids are ``SUBTASK/IMAGE#1`` and ``#2``, in a TSV file its ``index``.

Not checked against the official download: the order of its files, and the names on the hub.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.jsonl import read_bytes
from evalkit.letters import Options, Reading
from evalkit.tasks._files import name_in, official_format, text_in
from evalkit.tasks._tsv import has_tsv, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split
from evalkit.yes_no import NO, VLMEVALKIT, YES

from ._yes_no import TAIL, yes_no_in

HUB_REPO = "lmms-lab/MME"
HUB_COLUMNS = ("question_id", "image", "question", "answer", "category")
COLUMNS = ("question", "answer", "category", "image_path")
"""Of the TSV file."""
TSV = "MME"
SUBTASKS = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
    "commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning",
)  # fmt: skip
RESULTS = ("mme/eval_tool/Your_Results", "mme/Your_Results", "eval_tool/Your_Results")
IMAGES = ("mme/MME_Benchmark_release_version", "mme/MME_Benchmark_release_version/MME_Benchmark", "mme/MME_Benchmark")
EXPECTED = "lines 'image, question, answer' with tabs, as in eval_tool.zip"
LMMS_EVAL = "lmms-eval-75571cf"

_COCO = re.compile(r"\d{12}\.(?:jpg|png)")


def official(text: str, options: Options) -> Reading:
    """The label of ``calculation.py``."""
    return _first_four(text.lstrip("\r\n").lower())


def lmms_eval(text: str, options: Options) -> Reading:
    """The label of lmms-eval's ``mme`` (commit 75571cf)."""
    text = text.lower().strip().replace(".", "")
    if len(text) == 1:
        return Reading({"y": YES, "n": NO}.get(text), "single letter")
    return _first_four(text)


def _first_four(text: str) -> Reading:
    start = text if text in (YES, NO) else text[:4]
    return Reading(YES if YES in start else NO if NO in start else None, "first four characters")


class Mme(Task):
    """MME, from the official answer files, VLMEvalKit's TSV file or the hub."""

    name = "mme"
    version = 1
    kind = "yes_no"
    splits = {"test": Split(2_374, "14 subtasks")}
    default_splits = ("test",)
    metric = "mme"
    decoding = Decoding(max_new_tokens=16)
    prompts = {
        "official": PromptTemplate("{q}"),
        "lmms-eval": PromptTemplate("{q}\nAnswer the question using a single word or phrase.", 16, without=TAIL),
        "vlmevalkit": PromptTemplate("{q}"),
    }
    rules = {
        "official": ScoringRule("mme-first-four", about="MME's: yes or no in the first four characters", read=official),
        LMMS_EVAL: ScoringRule(
            "mme-lmms-eval", about="lmms-eval's: the same, without blanks and periods", read=lmms_eval
        ),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": LMMS_EVAL, "vlmevalkit": VLMEVALKIT}
    complete_clusters = True
    layout = ("mme/MME.tsv (VLMEvalKit's)", f"{RESULTS[0]}/*.txt (official)", f"{IMAGES[0]}/*/*.jpg (official)")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file if there is one, else of the official answer files."""
        if has_tsv(data, self.name, TSV):
            for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=COLUMNS).rows:
                with official_format(self.name, row.where, "a question of MME.tsv"):
                    name = Path(name_in(row, "image_path")).name
                    yield self._sample(row, row.index, name, row_images(row, data, self.name, TSV))
            return
        folders = [place for place in RESULTS if (data.root / place).is_dir()]
        if not folders:
            raise UserError(
                f"{self.name}: no MME.tsv and no Your_Results under {data.root}; expected "
                f"{tsv_places(self.name, TSV)[0]} or {RESULTS[0]} ('evalkit tasks {self.name}' shows the layout)."
            )
        for subtask in SUBTASKS:
            yield from self._official(data, f"{folders[0]}/{subtask}.txt", subtask)

    def _official(self, data: OfficialData, file: str, subtask: str) -> Iterator[Sample]:
        path = data.find(file, task=self.name)
        places = [f"{base}/{subtask}{inner}" for base in IMAGES for inner in ("/images", "")]
        images = data.image_folder(*places, task=self.name)
        seen: Counter[str] = Counter()
        for number, line in enumerate(read_bytes(path, f"{self.name}:").decode("utf-8", "replace").splitlines(), 1):
            if not line.strip():
                continue
            with official_format(self.name, f"{path}, line {number}", EXPECTED):
                image, question, answer = line.split("\t")[:3]
                row = {"question": question, "answer": answer, "category": subtask, "image": image}
                name = name_in(row, "image")
                seen[name] += 1
                found = (image_in(images, name, task=self.name),)
                yield self._sample(row, f"{subtask}/{name}#{seen[name]}", name, found)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        seen: Counter[str] = Counter()
        for index, row in data.iterate(rows):
            where = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, where, f"a question of {HUB_REPO}"):
                name = Path(name_in(row, "question_id")).name
                key = f"{text_in(row, 'category')}/{name}"
                seen[key] += 1
                yield self._sample(row, f"{key}#{seen[key]}", name, (RowImage(where, rows, index),))

    def _sample(self, row: Mapping[str, Any], key: str, image: str, images: tuple[ImageRef, ...]) -> Sample:
        """A row's sample; ``image`` is the name of the image's file."""
        subtask = text_in(row, "category")
        if subtask not in SUBTASKS:
            raise ValueError(f"category is {subtask!r}, not one of MME's subtasks")
        return Sample(
            id=key,
            images=images,
            text=text_in(row, "question").strip(),
            references=(yes_no_in(row, "answer"),),
            cluster=image if _COCO.fullmatch(image) else f"{subtask}/{image}",
            meta={"category": subtask, "image": f"{subtask}/{image}"},
        )


TASK = Mme()
