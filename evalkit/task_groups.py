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
    "tinyvideo": ("videomme", "charades_sta"),  # the bundled data has clips in the format of these two
    "video": (
        "videomme", "videomme_subtitles", "mvbench", "mlvu", "longvideobench", "lvbench", "egoschema", "perceptiontest",
        "tempcompass_mc", "tempcompass_yes_no", "tempcompass_match", "nextqa", "videommmu", "charades_sta",
    ),
    # The tables of the Qwen-VL README, in their order.  It gives VQAv2, VizWiz and DocVQA on test sets without public
    # answers; a bare name is the task's default split, the public one.
    "qwen-vl-report": (
        "flickr30k", "nocaps",
        "vqav2", "okvqa", "gqa", "scienceqa_img", "vizwiz",
        "textvqa", "docvqa", "chartqa", "ai2d", "ocrvqa",
        *REFCOCO_ALL,
    ),
    # The rows of the reports' tables of images that evalkit can score, in their order; also of test sets, as above.
    # Qwen2-VL: README of QwenLM/Qwen2-VL (commit 00b393f).  Left out: VCR, MMT-Bench, MMVet (needs a judge).
    "qwen2-vl-report": (
        "mmmu", *MMMU_PRO, "docvqa", "infovqa", "chartqa", "textvqa", "ocrbench", "mtvqa", "realworldqa", "mme",
        "mmbench_en", "mmbench_cn", "mmbench_en_v11", "mmstar", "hallusionbench", "mathvista", "mathvision",
        *REFCOCO_ALL,
    ),
    # Qwen2.5-VL: arXiv 2502.13923, tables 3, 5, 6, 7, 9.  Left out: MegaBench, MME-RealWorld, VCR,
    # PointGrounding, and those that need a judge (MathVerse, MMVet, MM-MT-Bench, CharXiv).
    "qwen2.5-vl-report": (
        "mmmu", *MMMU_PRO, "mathvista", "mathvision",
        "mmbench_en", "mmbench_cn", "mmbench_en_v11", "mmstar", "mme", "muirbench", "blink", "crpe_relation",
        "hallusionbench", "mtvqa", "realworldqa",
        "ai2d", "textvqa", "docvqa", "infovqa", "chartqa", "seedbench2_plus", "ocrbench", "ocrbench_v2", "cc_ocr",
        "omnidocbench_v1",
        *REFCOCO_ALL,
        "countbenchqa", "odinw13", "screenspot", "screenspot_pro",
    ),
    # Qwen3-VL: arXiv 2511.21631, tables 2 to 4.  Its V* and HR-Bench scores are with a zoom tool.  Left out:
    # VlmsAreBlind, LogicVista, VisualPuzzles, We-Math, DynaMath, and those
    # that need a judge (MathVerse, CharXiv, SimpleVQA, MIA-Bench, MM-MT-Bench).
    "qwen3-vl-report": (
        "mmmu", *MMMU_PRO, "mathvista", "mathvision", "zerobench", "visulogic",
        "mmbench_en", "mmbench_cn", "realworldqa", "mmstar", "hallusionbench",
        "docvqa", "infovqa", "ai2d", "chartqa", "ocrbench", "ocrbench_v2", "cc_ocr", "omnidocbench_v1",
        *REFCOCO_ALL,
        "countbenchqa", "odinw13", "screenspot", "screenspot_pro",
        "vstar", "hrbench4k", "hrbench8k", "blink", "muirbench",
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
