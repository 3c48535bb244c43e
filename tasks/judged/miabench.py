"""MIA-Bench: 400 layered instructions about images; a judge grades how well answers follow each component.

Paper: Qian et al., "MIA-Bench: Towards Better Instruction Following Evaluation of Multimodal LLMs", ICLR 2025 (arXiv
2407.01509).  Official data: ``instruction_benchmark_all.json`` of apple/ml-mia-bench, whose images are addresses on the
web; VLMEvalKit's ``Mia-Bench.tsv`` and lmms-lab/MIA-Bench on the hub have them.  Score: the mean of the judge's totals
in percent (``metrics/miabench.py``), and means by type of component: description, mention, grammar, length limit, ….

Protocol: the prompt is the instruction; 512 new tokens, as lmms-eval.

Deliberate choices:
- The judge's prompt is VLMEvalKit's; lmms-eval's has other words.
- The official file is not read: its images are not part of it.

Not checked against the official download: the columns of the TSV file and of the hub's data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, shown, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import official_format, text_in
from evalkit.tasks._tsv import image_cluster, row_images
from evalkit.tasks.ocr._literal import literal_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, Split

HUB_REPO = "lmms-lab/MIA-Bench"
HUB_COLUMNS = ("image", "instruction", "components", "component_weight", "component_type")
TSV = ("Mia-Bench", "MIA-Bench")
LISTS = ("components", "component_weight", "component_type")
MOST = 5


class MiaBench(Task):
    """MIA-Bench, from VLMEvalKit's TSV file or the hub."""

    name = "miabench"
    version = 1
    kind = "vqa"
    splits = {"test": Split(400, "all instructions")}
    default_splits = ("test",)
    metric = "miabench"
    decoding = Decoding(max_new_tokens=512)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    layout = ("miabench/Mia-Bench.tsv (VLMEvalKit's)",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        columns = ("question", *LISTS)
        for row in data.tsv(*tsv_places(self.name, *TSV), task=self.name, columns=columns).rows:
            images = row_images(row, data, self.name, TSV[0])
            with official_format(self.name, row.where, f"an instruction of {TSV[0]}.tsv"):
                lists = {key: literal_in(row, key) for key in LISTS}
                yield self._sample(row.index, text_in(row, "question"), lists, images, image_cluster(row))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"an instruction of {HUB_REPO}"):
                lists = {key: row[key] for key in LISTS}
                image = RowImage(name, rows, index)
                yield self._sample(str(index), text_in(row, "instruction"), lists, (image,), str(index))

    def _sample(
        self, key: str, instruction: str, lists: Mapping[str, Any], images: tuple[ImageRef, ...], cluster: str
    ) -> Sample:
        sizes = {len(found) if isinstance(found, list) else 0 for found in lists.values()}
        if len(sizes) != 1 or not 1 <= sizes.pop() <= MOST:
            raise ValueError(f"{', '.join(LISTS)} are no lists of one length from 1 to {MOST}: {shown(dict(lists))}")
        weights = lists["component_weight"]
        if not all(type(weight) is int for weight in weights):
            raise ValueError(f"component_weight is {shown(weights)}, not whole numbers")
        texts = {key: [str(one) for one in lists[key]] for key in ("components", "component_type")}
        return Sample(
            id=key,
            images=images,
            text=instruction,
            references=(),
            cluster=cluster,
            meta={**texts, "component_weight": weights},
        )


TASK = MiaBench()
