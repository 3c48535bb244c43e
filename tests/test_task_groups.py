from __future__ import annotations

from evalkit import registry
from evalkit.data import open_data
from evalkit.jobs import load_job
from evalkit.task_groups import GROUPS, MEANS, REFCOCO_ALL, expand


def test_refcoco_all_is_every_scored_split_of_three() -> None:
    found = [f"{n}/{s}" for n in ("refcoco", "refcoco+", "refcocog") for s in registry.tasks.get(n).default_splits]
    assert list(GROUPS["refcoco-all"]) == found
    assert len(found) == len(set(found)) == 8
    assert set(GROUPS["grounding"]) == set(found)


def test_every_member_is_task_or_split_of_one() -> None:
    for group, members in GROUPS.items():
        assert members
        for member in members:
            name, slash, split = member.partition("/")
            task = registry.tasks.get(name)
            assert not slash or split in task.splits, f"{group}: {member}"


def test_no_group_hides_task() -> None:
    assert not set(GROUPS) & set(registry.tasks.names())


def test_members_of_groups() -> None:
    def kinds(group: str) -> set[str]:
        return {registry.tasks.get(m.partition("/")[0]).kind for m in GROUPS[group]}

    assert kinds("grounding") == {"grounding"}
    assert kinds("captioning") == {"caption"}
    assert kinds("vqa") == {"vqa"}
    assert kinds("text-reading") == {"vqa", "document", "choice"}
    assert kinds("qwen-vl-report") == {"caption", "vqa", "document", "choice", "grounding"}


def test_bundled_data_has_the_tiny_video_set() -> None:
    for name in expand(["tinyvideo"]):
        job = load_job(registry.tasks.get(name), "test", open_data("tiny"), limit=None, seed=0)
        assert all(video.info().size == (112, 112) for sample in job.samples for video in sample.videos)
        assert len(job.samples) == {"videomme": 108, "charades_sta": 43}[name]


def test_score_of_mmmu_pro_is_mean_of_two() -> None:
    assert MEANS["mmmu-pro-overall"] == GROUPS["mmmu-pro-overall"] == ("mmmu_pro/standard10", "mmmu_pro_vision/test")


def test_report_group_has_readmes_tables() -> None:
    assert len(expand(["qwen-vl-report"])) == 2 + 5 + 5 + 8
    assert expand(["qwen-vl-report"])[-8:] == list(REFCOCO_ALL)
    assert {"infovqa", "coco_caption"}.isdisjoint(GROUPS["qwen-vl-report"])  # not in the README


def test_report_groups_begin_as_their_tables() -> None:
    for report in ("qwen2-vl-report", "qwen2.5-vl-report", "qwen3-vl-report"):
        assert expand([report])[:3] == ["mmmu", "mmmu_pro/standard10", "mmmu_pro_vision/test"]
        assert set(REFCOCO_ALL) < set(GROUPS[report])


def test_expand_keeps_order_and_names_each_once() -> None:
    assert expand([]) == []
    assert expand(["docvqa", "nothing/known", "docvqa/test"]) == ["docvqa", "nothing/known", "docvqa/test"]
    assert expand(["gqa", "vqa", "captioning", "okvqa"]) == [
        "gqa", "vqav2", "okvqa", "vizwiz", "coco_caption", "flickr30k", "nocaps",
    ]  # fmt: skip
    assert expand(["refcoco/testA", "refcoco-all"])[:2] == ["refcoco/testA", "refcoco/val"]
    assert len(expand(["refcoco/testA", "refcoco-all", "grounding"])) == 8
    assert expand(expand(GROUPS)) == expand(GROUPS)
