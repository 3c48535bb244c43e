"""The other video benchmarks: official files and the hub give the same questions; bad files are refused in a sentence."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.jobs import Job
from evalkit.types import Sample
from evalkit.video import FrameFolder, VideoFile

from .roots import clip, loaded, prompt_of, table


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# ---------------------------------------------------------------------------------------------------- roots of each task

MVBENCH_FILES = {
    task: [{"video": "v.mp4", "question": "What?", "candidates": ["red", "blue", "green"], "answer": "blue"}]
    for task in (
        "action_sequence", "action_prediction", "action_antonym", "fine_grained_action", "unexpected_action",
        "object_existence", "object_interaction", "object_shuffle", "moving_direction", "action_localization",
        "scene_transition", "action_count", "moving_count", "moving_attribute", "state_change", "fine_grained_pose",
        "character_order", "egocentric_navigation", "episodic_reasoning", "counterfactual_inference",
    )
}  # fmt: skip
MVBENCH_FILES["action_sequence"][0] |= {"start": 0.5, "end": 1.5}
MVBENCH_FILES["episodic_reasoning"][0] |= {"video": "castle_s01e01_seg01_clip_00", "start": 0.0, "end": 1.0}


def mvbench(root: Path) -> None:
    for task, entries in MVBENCH_FILES.items():
        put(root / "mvbench" / "json" / f"{task}.json", entries)
    clip(root / "mvbench" / "video" / "star" / "Charades_v1_480" / "v.mp4")
    clip(root / "mvbench" / "video" / "clevrer" / "video_validation" / "v.mp4")
    from PIL import Image

    folder = root / "mvbench" / "video" / "tvqa" / "frames_fps3_hq" / "castle_s01e01_seg01_clip_00"
    folder.mkdir(parents=True)
    for number in range(1, 10):
        Image.new("RGB", (32, 24)).save(folder / f"{number:05d}.jpg")
    for task in ("ssv2_video", "Moments_in_Time_Raw/videos", "FunQA_test/test", "perception/videos", "sta/sta_video", "scene_qa/video", "nturgbd", "vlnqa"):  # fmt: skip
        (root / "mvbench" / "video" / task).mkdir(parents=True)


def mvbench_hub(mirror: Path) -> None:
    folder = mirror / "OpenGVLab" / "MVBench"
    for task, entries in MVBENCH_FILES.items():
        table(folder / task / "train-00000-of-00001.parquet", entries)


MLVU_TASKS = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
MLVU_ENTRY = {"video": "m1.mp4", "duration": 300.0, "question": "What color?", "candidates": ["red", "blue"], "answer": "blue", "question_type": "x"}  # fmt: skip


def mlvu(root: Path) -> None:
    for task in MLVU_TASKS:
        put(root / "mlvu" / "MLVU" / "json" / f"{task}.json", [MLVU_ENTRY])
        clip(root / "mlvu" / "MLVU" / "video" / task / "m1.mp4")


def mlvu_hub(mirror: Path) -> None:
    rows = [
        {"video_name": "m1.mp4", "question": "What color?\n(A) red\n(B) blue", "answer": "B", "task_type": task[2:]}
        for task in MLVU_TASKS
    ]
    table(mirror / "sy1998" / "MLVU_dev" / "data" / "test-00000-of-00001.parquet", rows)


LVB = {
    "video_id": "abc", "id": "abc_0", "video_path": "abc.mp4", "subtitle_path": "abc_en.json", "question": "What?",
    "option0": "red", "option1": "blue", "option2": "N/A", "option3": "N/A", "option4": "N/A", "correct_choice": 1,
    "duration": 12.5, "duration_group": 15, "question_category": "S2E", "topic_category": "NP-News-Programs",
    "starting_timestamp_for_subtitles": 0,
}  # fmt: skip


def longvideobench(root: Path) -> None:
    put(root / "longvideobench" / "lvb_val.json", [LVB])
    clip(root / "longvideobench" / "videos" / "abc.mp4")


def longvideobench_hub(mirror: Path) -> None:
    table(mirror / "longvideobench" / "LongVideoBench" / "data" / "validation-00000-of-00001.parquet", [LVB])


LVBENCH = {
    "key": "vid1", "type": "sport",
    "qa": [{"uid": "7", "question": "What?\n(A) red\n(B) blue", "answer": "B", "question_type": ["reasoning", "summarization"]}],
}  # fmt: skip


def lvbench(root: Path) -> None:
    put(root / "lvbench" / "video_info.meta.jsonl", json.dumps(LVBENCH) + "\n")
    clip(root / "lvbench" / "videos" / "vid1.mp4")


def lvbench_hub(mirror: Path) -> None:
    rows = [{"video_path": "vid1.mp4", "question": "What?", "options": ["red", "blue"], "answer": "B"}]
    table(mirror / "lmms-lab" / "LVBench" / "data" / "train-00000-of-00001.parquet", rows)


EGO = {"q_uid": "q-1", "question": "What?", **{f"option {n}": f"option text {n}" for n in range(5)}}


def egoschema(root: Path) -> None:
    put(root / "egoschema" / "questions.json", [EGO, {**EGO, "q_uid": "q-2"}])
    put(root / "egoschema" / "subset_answers.json", {"q-1": 3})
    clip(root / "egoschema" / "videos" / "q-1.mp4")


def egoschema_hub(mirror: Path) -> None:
    options = [f"{letter}. option text {n}" for n, letter in enumerate("ABCDE")]
    row = {"question_idx": "q-1", "question": "What?", "video_idx": "q-1", "option": options}
    table(mirror / "lmms-lab" / "egoschema" / "Subset" / "test-00000-of-00001.parquet", [{**row, "answer": "3"}])
    table(mirror / "lmms-lab" / "egoschema" / "MC" / "test-00000-of-00001.parquet", [{**row, "answer": None}])


PERCEPTION = {"id": 4, "question": "What?", "options": ["red", "blue", "green"], "answer_id": 1, "area": "physics", "reasoning": "descriptive", "tag": ["collision", "motion"]}  # fmt: skip


def perceptiontest(root: Path) -> None:
    put(root / "perceptiontest" / "mc_question_valid.json", {"video_1": {"mc_question": [PERCEPTION]}, "video_2": {}})
    clip(root / "perceptiontest" / "videos" / "video_1.mp4")


def perceptiontest_hub(mirror: Path) -> None:
    row = {**{key: value for key, value in PERCEPTION.items() if key != "id"}, "video_name": "video_1", "question_id": "4", "answer_id": "1"}  # fmt: skip
    path = mirror / "lmms-lab" / "PerceptionTest_Val" / "mc_question_val" / "validation-00000-of-00001.parquet"
    table(path, [row])


TEMPCOMPASS = {
    "multi-choice": ("What?\nA. red\nB. blue", "B. blue"),
    "yes_no": ("Is it blue?", "yes"),
    "caption_matching": (
        "Which caption fits?\nCaption A: It is red.\nCaption B: It is blue.",
        "Caption B: It is blue.",
    ),
}


def tempcompass(root: Path) -> None:
    for config, (question, answer) in TEMPCOMPASS.items():
        entry = [{"question": question, "answer": answer}]
        put(root / "tempcompass" / "questions" / f"{config}.json", {"11": {"order": entry}})
    clip(root / "tempcompass" / "videos" / "11.mp4")


def tempcompass_hub(mirror: Path) -> None:
    for config, (question, answer) in TEMPCOMPASS.items():
        path = mirror / "lmms-lab" / "TempCompass" / config / "test-00000-of-00001.parquet"
        table(path, [{"video_id": "11", "question": question, "answer": answer, "dim": "order"}])


NEXT = {"video": "4010069381", "frame_count": 369, "width": 640, "height": 480, "question": "how do they move", "answer": 1, "qid": 6, "type": "CH", "a0": "run", "a1": "walk, slowly", "a2": "fly", "a3": "sit", "a4": "lie"}  # fmt: skip


def nextqa(root: Path) -> None:
    line = ",".join(f'"{value}"' if "," in str(value) else str(value) for value in NEXT.values())
    put(root / "nextqa" / "test.csv", f"{','.join(NEXT)}\n{line}\n")
    put(root / "nextqa" / "map_vid_vidorID.json", {"4010069381": "1164/4010069381"})
    clip(root / "nextqa" / "NExTVideo" / "1164" / "4010069381.mp4")


def nextqa_hub(mirror: Path) -> None:
    table(mirror / "lmms-lab" / "NExTQA" / "MC" / "test-00000-of-00001.parquet", [{**NEXT, "video": 4010069381}])


def mmmu_rows() -> dict[str, list[dict[str, Any]]]:
    row = {"id": "validation_Art_Theory_7", "question": "What?", "options": ["red", "blue"], "answer": "B", "question_type": "multiple-choice"}  # fmt: skip
    lettered = {**row, "options": ["A. red", "B. blue"]}
    opened = {**row, "id": "validation_Math_3", "options": [], "answer": "12", "question_type": "open"}
    return {"Perception": [lettered], "Comprehension": [row], "Adaptation": [row, opened]}


def videommmu(root: Path) -> None:
    for track, rows in mmmu_rows().items():
        table(root / "videommmu" / track / "test-00000-of-00001.parquet", rows)
    clip(root / "videommmu" / "Art" / "validation_Art_Theory_7.mp4")


def videommmu_hub(mirror: Path) -> None:
    for track, rows in mmmu_rows().items():
        table(mirror / "lmms-lab" / "VideoMMMU" / track / "test-00000-of-00001.parquet", rows)


# task: how its root is made, how its mirror is made, its prompts by protocol
Make = Callable[[Path], None]
VIDEOMMMU_BC = "What?\nA. red\nB. blue\nPlease ignore the Quiz question in last frame of the video."
BASE = "What?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
TASKS: dict[str, tuple[Make, Make, dict[str, str]]] = {
    "mvbench": (mvbench, mvbench_hub, {
        "official": "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of objects, and the action and pose of persons. Based on your observations, select the best option that accurately addresses the question.\nQuestion: What?\nOptions:\n(A) red\n(B) blue\n(C) green\nOnly give the best option.",
        "lmms-eval": "Question:What?\nOption:\n(A) red\n(B) blue\n(C) green\nOnly give the best option.\n",
    }),
    "mlvu": (mlvu, mlvu_hub, {
        "official": "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option that accurately addresses the question.\nQuestion: What color?\nOptions:\n(A) red\n(B) blue\nOnly give the best option.",
        "lmms-eval": "What color?\n(A) red\n(B) blue\nOnly give the best option.\nBest option: (",
    }),
    "longvideobench": (longvideobench, longvideobench_hub, {"official": BASE, "lmms-eval": f"{BASE}\n", "vlmevalkit": BASE}),
    "lvbench": (lvbench, lvbench_hub, {"lmms-eval": "What?\n(A) red\n(B) blue\nAnswer the question with the option letter"}),
    "egoschema": (egoschema, egoschema_hub, {
        "lmms-eval": "What?\nA. option text 0\nB. option text 1\nC. option text 2\nD. option text 3\nE. option text 4\nAnswer with the option's letter from the given choices directly.",
    }),
    "perceptiontest": (perceptiontest, perceptiontest_hub, {
        "lmms-eval": "What?\nA. red\nB. blue\nC. green\nAnswer with the option's letter from the given choices directly.",
    }),
    "tempcompass_mc": (tempcompass, tempcompass_hub, {"official": "What?\nA. red\nB. blue\nPlease directly give the best option:"}),
    "tempcompass_yes_no": (tempcompass, tempcompass_hub, {"lmms-eval": "Is it blue?\nPlease answer yes or no:"}),
    "tempcompass_match": (tempcompass, tempcompass_hub, {
        "official": "Which caption fits?\nCaption A: It is red.\nCaption B: It is blue.\nPlease directly give the best option:",
    }),
    "nextqa": (nextqa, nextqa_hub, {"lmms-eval": "how do they move\nA. run\nB. walk, slowly\nC. fly\nD. sit\nE. lie"}),
    "videommmu": (videommmu, videommmu_hub, {"official": VIDEOMMMU_BC, "lmms-eval": VIDEOMMMU_BC}),
}  # fmt: skip
PLACES = ("mvbench", "mlvu", "longvideobench", "lvbench", "egoschema", "perceptiontest", "tempcompass", "nextqa", "videommmu")  # fmt: skip


def said(sample: Sample) -> tuple[Any, ...]:
    return sample.text, sample.options, sample.references, sample.cluster, sample.kind


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    TASKS[request.param][0](tmp_path)
    return loaded(tmp_path, request.param)


@pytest.mark.parametrize("name", TASKS)
def test_files_and_hub_ask_the_same(name: str, tmp_path: Path) -> None:
    make, make_hub, _ = TASKS[name]
    make(tmp_path / "root")
    make_hub(tmp_path / "mirror")
    files, hub = loaded(tmp_path / "root", name), loaded(f"hub:{tmp_path}/mirror", name)
    assert [said(sample)[:3] for sample in hub.samples] == [said(sample)[:3] for sample in files.samples]
    if name not in ("mvbench", "mlvu"):  # the copies on the hub have other folders
        assert [said(sample) for sample in hub.samples] == [said(sample) for sample in files.samples]
    if name not in ("mlvu", "lvbench"):  # whose rows on the hub have no names
        assert [sample.id for sample in hub.samples] == [sample.id for sample in files.samples]
    assert all(len(sample.videos) == 1 for sample in (*files.samples, *hub.samples))


@pytest.mark.parametrize(("job", "prompts"), [(name, TASKS[name][2]) for name in TASKS], indirect=["job"])
def test_prompts(job: Job, prompts: dict[str, str]) -> None:
    for protocol, expected in prompts.items():
        assert prompt_of(job, job.samples[0], protocol) == expected


@pytest.mark.parametrize("job", TASKS, indirect=True)
def test_videos_are_where_the_files_say(job: Job) -> None:
    video = job.samples[0].videos[0]
    assert isinstance(video, VideoFile)
    assert video.info().frames == (5 if job.task.name == "mvbench" else 10)  # MVBench's is a segment of a second


@pytest.mark.parametrize("name", TASKS)
def test_no_videos(name: str, tmp_path: Path) -> None:
    TASKS[name][0](tmp_path)
    for path in tmp_path.rglob("*.mp4"):
        path.unlink()
    for folder in sorted(tmp_path.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if name in ("lvbench", "longvideobench", "egoschema", "perceptiontest", "tempcompass_mc", "tempcompass_yes_no", "tempcompass_match", "nextqa", "videommmu"):  # fmt: skip
        first = loaded(tmp_path, name).samples[0].videos[0]  # the folder itself may hold them
        with pytest.raises(OSError, match="has no video"):
            first.info()
        return
    with pytest.raises(UserError, match="no videos under"):
        loaded(tmp_path, name)


def refusal(root: Path, name: str) -> str:
    """The sentence that refuses a task's files; empty if they are read, or there is no question in them."""
    try:
        samples = loaded(root, name).samples
    except UserError as error:
        return str(error)
    return "" if samples else "no question"


@pytest.mark.parametrize("name", TASKS)
def test_missing_and_corrupt_files(name: str, tmp_path: Path) -> None:
    TASKS[name][0](tmp_path)
    first = next(path for path in sorted(tmp_path.rglob("*")) if path.suffix in (".json", ".jsonl", ".csv", ".parquet"))
    if name.startswith("tempcompass"):
        config = registry.tasks.get(name).layout[0].split(",")[0]
        first = tmp_path / config
    if name in ("egoschema", "nextqa"):
        first = tmp_path / name / ("questions.json" if name == "egoschema" else "test.csv")
    for content in (b"", b"[1, 2]", b"{}x", b'{"a": [1]}', first.read_bytes()[: len(first.read_bytes()) // 2]):
        first.write_bytes(content)
        message = refusal(tmp_path, name)
        assert "\n" not in message
        assert message or name == "nextqa", content  # half a table can be a table
    first.unlink()
    with pytest.raises(UserError):
        loaded(tmp_path, name)


def test_mvbench(tmp_path: Path) -> None:
    mvbench(tmp_path)
    job = loaded(tmp_path, "mvbench")
    by_task = {sample.meta["task"]: sample for sample in job.samples}
    assert len(by_task) == 20
    frames = by_task["episodic_reasoning"].videos[0]
    assert isinstance(frames, FrameFolder)
    assert (frames.fps, frames.end, frames.info().frames) == (3.0, 1.0, 4)
    entries = [{**MVBENCH_FILES["action_count"][0], "answer": "violet"}]
    put(tmp_path / "mvbench" / "json" / "action_count.json", entries)
    with pytest.raises(UserError, match="the answer is 'violet', which is none of the 3 options"):
        loaded(tmp_path, "mvbench")


def test_mvbench_frames_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mvbench(tmp_path / "root")
    above = tmp_path / "root" / "mvbench" / "video" / "tvqa"
    with zipfile.ZipFile(tmp_path / "root" / "mvbench" / "video" / "tvqa.zip", "w") as archive:
        for path in sorted(above.rglob("*.jpg")):
            archive.write(path, f"tvqa/frames_fps3_hq/{path.parent.name}/{path.name}")
        archive.writestr("tvqa/frames_fps3_hq/another_clip/00001.jpg", b"")
    shutil.rmtree(above)
    job = loaded(tmp_path / "root", "mvbench")
    (video,) = next(sample.videos for sample in job.samples if sample.meta["task"] == "episodic_reasoning")
    video.check()
    assert not (tmp_path / "cache").exists()
    assert video.info().frames == 4
    (folder,) = (tmp_path / "cache" / "evalkit" / "videos").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:05d}.jpg" for number in range(1, 10)]


def test_lvbench_abilities(tmp_path: Path) -> None:
    lvbench(tmp_path)
    (sample,) = loaded(tmp_path, "lvbench").samples
    assert sample.meta == {"domain": "sport", "ability": ["reasoning", "summarization"]}


def test_egoschema_submission(tmp_path: Path) -> None:
    from evalkit.types import Answered, Prediction

    egoschema(tmp_path)
    job = loaded(tmp_path, "egoschema", "test")
    assert [sample.references for sample in job.samples] == [(), ()]
    answers = [Answered(job.samples[0], Prediction("D")), Answered(job.samples[1], Prediction(None))]
    name, content = job.task.submission(answers)
    assert (name, json.loads(content)) == ("egoschema_test.json", {"q-1": 3, "q-2": -1})


def test_egoschema_answers_without_a_question(tmp_path: Path) -> None:
    egoschema(tmp_path)
    put(tmp_path / "egoschema" / "subset_answers.json", {"q-1": 3, "q-9": 0})
    with pytest.raises(UserError, match="there is no question q-9, which subset_answers.json answers"):
        loaded(tmp_path, "egoschema")


def test_videommmu(tmp_path: Path) -> None:
    videommmu(tmp_path)
    job = loaded(tmp_path, "videommmu")
    assert [sample.id for sample in job.samples] == [
        "perception-validation_Art_Theory_7", "comprehension-validation_Art_Theory_7",
        "adaptation-validation_Art_Theory_7", "adaptation-validation_Math_3",
    ]  # fmt: skip
    assert len({sample.cluster for sample in job.samples}) == 2
    last = job.samples[-1]
    assert (last.kind, last.references, last.meta["domain"]) == ("vqa", ("12",), "Science")
    before = "You should watch and learn the video content. Then apply what you learned to answer the following {} question. The image for this question is at the end of the video.\n"  # fmt: skip
    assert prompt_of(job, job.samples[2], "official") == before.format("multi-choice") + "What?\nA. red\nB. blue"
    assert prompt_of(job, last, "official") == before.format("open-ended") + "What?"
    from evalkit.metric_contract import score_answers
    from evalkit.types import Answered, Prediction

    texts = ("B", "A", "B", "the total is 12.0")
    answers = [Answered(sample, Prediction(text)) for sample, text in zip(job.samples, texts, strict=True)]
    found = score_answers(registry.metrics.get(job.metric), answers).values
    assert (found["accuracy"], found["accuracy[adaptation]"], found["accuracy[comprehension]"]) == (75, 100, 0)


def test_macro_mean(tmp_path: Path) -> None:
    from evalkit.metric_contract import score_answers
    from evalkit.types import Answered, Prediction

    mlvu(tmp_path)
    put(tmp_path / "mlvu" / "MLVU" / "json" / "1_plotQA.json", [MLVU_ENTRY] * 3)
    job = loaded(tmp_path, "mlvu")
    answers = [Answered(s, Prediction("B" if s.meta["task"] == "plotQA" else "A")) for s in job.samples]
    found = score_answers(registry.metrics.get(job.metric), answers)
    assert found.headline == "accuracy_macro"
    assert found.values["accuracy_macro"] == pytest.approx(100 / 7)
    assert found.values["accuracy"] == pytest.approx(300 / 9)
