"""Named groups of tasks: ``--tasks refcoco-all`` evaluates the splits of one table.

Members are names as in ``--tasks``: of a task (its default splits) or of a split.  They are resolved when used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

REFCOCO_ALL = (
    "refcoco/val", "refcoco/testA", "refcoco/testB",
    "refcoco+/val", "refcoco+/testA", "refcoco+/testB",
    "refcocog/val", "refcocog/test",
)  # fmt: skip
"""The eight splits whose scores the papers report, one by one or as their mean."""

MMMU_PRO = ("mmmu_pro/standard10", "mmmu_pro_vision/test")
"""The two versions of MMMU-Pro whose mean is its score."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "refcoco-all": REFCOCO_ALL,
    "mmmu-pro-overall": MMMU_PRO,
    "captioning": ("coco_caption", "flickr30k", "nocaps"),
    "vqa": ("vqav2", "okvqa", "vizwiz", "gqa"),
    "text-reading": ("textvqa", "docvqa", "infovqa", "chartqa", "ai2d", "ocrvqa"),
    "grounding": REFCOCO_ALL,
    # The tables of the Qwen-VL README, in their order.  It gives VQAv2, VizWiz and DocVQA on test sets without public
    # answers; a bare name is the task's default split, the public one.
    "qwen-vl-report": (
        "flickr30k", "nocaps",
        "vqav2", "okvqa", "gqa", "scienceqa_img", "vizwiz",
        "textvqa", "docvqa", "chartqa", "ai2d", "ocrvqa",
        *REFCOCO_ALL,
    ),
}  # fmt: skip

MEANS: Mapping[str, tuple[str, ...]] = {"refcoco-all": REFCOCO_ALL, "mmmu-pro-overall": MMMU_PRO}
"""Groups whose unweighted mean is reported as a number of its own (each split counts alike, whatever its size).

The mean of RefCOCO's eight splits is what Qwen3-VL's report gives.  A mean of fewer splits is not that number.  The
score of MMMU-Pro is the mean of ``standard10`` and ``vision``.
"""


def expand(names: Iterable[str]) -> list[str]:
    """``names`` with each group replaced by its members, in order, each name once; other names stay as they are."""
    expanded = (member for name in names for member in GROUPS.get(name, (name,)))
    return list(dict.fromkeys(expanded))
