"""Video-MME: the data set's copy and the hub, prompts of every protocol, subtitles, rules, and bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.letters import lmms_eval
from evalkit.metric_contract import score_answers
from evalkit.types import Answered, Prediction

from .roots import archived, clip, loaded, prompt_of, reading, table

SUBTITLES = """1
00:00:00,100 --> 00:00:00,900
<font color="white" size=".72c">first line</font>

2
00:00:00,900 --> 00:00:01,400
<font color="white" size=".72c">second</font>
<font color="white" size=".72c">line</font>

3
00:00:01,400 --> 00:00:01,450
between frames

4
00:00:01,450 --> 00:00:01,950
<i>last</i> {\\an8}line

5
00:01:00,000 --> 00:01:10,000
after the end
"""


def row(number: int, video: str = "vid1", **changes: Any) -> dict[str, Any]:
    return {
        "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Law", "url": "x",
        "videoID": video, "question_id": f"001-{number}", "task_type": "Counting Problem", "question": "How many?",
        "options": ["A. one", "B. two.", "C. 3", "D. None"], "answer": "B", **changes,
    }  # fmt: skip


ROWS = [row(1), row(2, duration="long", domain="Film & Television", answer="D"), row(3, "vid2", answer="A")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "videomme"
    table(folder / "videomme" / "test-00000-of-00001.parquet", ROWS)
    clip(folder / "data" / "vid1.mp4")
    clip(folder / "data" / "vid2.mkv")
    (folder / "subtitle").mkdir()
    (folder / "subtitle" / "vid1.srt").write_text(SUBTITLES)
    return tmp_path


def test_official_files(root: Path) -> None:
    samples = loaded(root, "videomme").samples
    assert [sample.id for sample in samples] == ["001-1", "001-2", "001-3"]
    assert samples[0].options == ("one", "two.", "3", "None")
    assert [sample.references for sample in samples] == [("B",), ("D",), ("A",)]
    assert [sample.cluster for sample in samples] == ["vid1", "vid1", "vid2"]
    assert samples[1].meta == {
        "duration": "long", "domain": "Film & Television", "sub_category": "Law", "task_type": "Counting Problem",
    }  # fmt: skip
    assert samples[2].videos[0].name.endswith("data/vid2.mkv")
    assert samples[2].videos[0].info().frames == 10


def test_hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mirror = tmp_path / "mirror" / "lmms-lab" / "Video-MME"
    table(mirror / "videomme" / "test-00000-of-00001.parquet", ROWS)
    data = root / "videomme" / "data"
    archived(mirror / "videos_chunked_01.zip", data__vid1_DOT_mp4=(data / "vid1.mp4").read_bytes())
    archived(mirror / "videos_chunked_02.zip", data__vid2_DOT_mkv=(data / "vid2.mkv").read_bytes())
    archived(mirror / "subtitle.zip", subtitle__vid1_DOT_srt=SUBTITLES.encode())
    job = loaded(f"hub:{tmp_path}/mirror", "videomme_subtitles")
    assert [sample.references for sample in job.samples] == [("B",), ("D",), ("A",)]
    assert [sample.videos[0].info().frames for sample in job.samples] == [10, 10, 10]
    assert prompt_of(job, job.samples[0], "official").startswith("This video's subtitles are listed below:\nfirst line")


QUESTION = "How many?\nA. one\nB. two.\nC. 3\nD. None\n"
SELECT = "Select the best answer to the following multiple-choice question based on the video{}. Respond with only the letter (A, B, C, or D) of the correct option.\n"  # fmt: skip
PROMPTS = {
    "official": f"{SELECT.format('')}Question: {QUESTION}The best answer is:",
    "lmms-eval": f"{SELECT.format(' and the subtitles')}{QUESTION}\nAnswer with the option's letter from the given choices directly.",
    "vlmevalkit": f"\nThese are the frames of a video. {SELECT.format('')}Question: {QUESTION}Answer: ",
}


@pytest.mark.parametrize("protocol", PROMPTS)
def test_prompts(root: Path, protocol: str) -> None:
    job = loaded(root, "videomme")
    assert prompt_of(job, job.samples[0], protocol) == PROMPTS[protocol]


LISTED = "This video's subtitles are listed below:"
# Frames at 2 per second of the clip's 10: at 0, 0.6, 1.2 and 1.8 s; lmms-eval's 32 frames are all of them.
WITH_SUBTITLES = {
    "official": f"{LISTED}\nfirst line second line last line\n{PROMPTS['official']}",
    "lmms-eval": f"{LISTED} \nfirst line\nsecond\n{SELECT.format(' and the subtitles')}{QUESTION}The best answer is:",
    "vlmevalkit": PROMPTS["vlmevalkit"].replace(
        "a video. ", f"a video. {LISTED}\nfirst line\nsecond line\nlast line\n"
    ),
}


@pytest.mark.parametrize("protocol", WITH_SUBTITLES)
def test_subtitles(root: Path, protocol: str) -> None:
    job = loaded(root, "videomme_subtitles")
    assert prompt_of(job, job.samples[0], protocol) == WITH_SUBTITLES[protocol]


def test_a_line_that_no_frame_falls_into_is_left_out(root: Path) -> None:
    job = loaded(root, "videomme_subtitles")
    assert prompt_of(job, job.samples[0], "official", "fps=2,max_frames=2").startswith(f"{LISTED}\nlast line\n")
    sparse = prompt_of(job, job.samples[0], "official", "fps=1")
    assert "between" not in sparse
    assert "after the end" not in sparse


def test_without_subtitles(root: Path) -> None:
    job = loaded(root, "videomme_subtitles")
    assert prompt_of(job, job.samples[2], "official") == PROMPTS["official"]
    assert prompt_of(job, job.samples[2], "lmms-eval").startswith(
        f"{LISTED} \nNo subtitles available\n{SELECT.format(' and the')[:40]}"
    )


def test_a_video_that_cannot_be_read_does_not_end_the_run(root: Path) -> None:
    (root / "videomme" / "data" / "vid1.mp4").write_bytes(b"no video")
    job = loaded(root, "videomme_subtitles")
    assert prompt_of(job, job.samples[0], "official") == PROMPTS["official"]


@pytest.mark.parametrize(
    ("rule", "text", "letter"),
    [
        (lmms_eval.COMMIT, "The best answer is: B", "B"),
        (lmms_eval.COMMIT, "A man walks, so D", "A"),
        (lmms_eval.COMMIT, "Answer: B", "B"),
        ("lmms-eval-0696573", "A man walks, so D", "A"),
        ("lmms-eval-0696573", "Best answer: B", "B"),
        ("lmms-eval-0696573", "Answer: B", "A"),
        ("lmms-eval-0696573", "b", None),
        ("lmms-eval-0696573", "The option is none of the four that are listed here, sorry", None),
        ("vlmevalkit-e8e78f0", "Answer: B", "B"),
        ("official", "B. two.", "B"),
        ("official", "A man walks, so D", None),
        ("", "The answer is (C).", "C"),
    ],
)
def test_rules(root: Path, rule: str, text: str, letter: str | None) -> None:
    assert reading("videomme", rule, text, loaded(root, "videomme").samples[0]) == letter


def test_scores_by_duration_and_category(root: Path) -> None:
    job = loaded(root, "videomme")
    answers = [Answered(s, Prediction(letter)) for s, letter in zip(job.samples, ("B", None, "A"), strict=True)]
    found = score_answers(registry.metrics.get(job.metric), answers)
    assert found.headline == "accuracy"
    assert found.values["accuracy"] == pytest.approx(200 / 3)
    assert (found.values["duration[short]"], found.values["duration[long]"]) == (100, 0)
    assert found.values["domain[Film & Television]"] == 0
    assert found.values["parse_rate"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"answer": "E"}, "has 4 options but calls 'E' the right one"),
        ({"question": ""}, "there is no question"),
        ({"options": "A. one"}, "options is 'A. one', not a list"),
        ({"videoID": "../../x"}, "which is outside"),
        ({"duration": None}, "duration is None, not a text"),
    ],
)
def test_bad_rows(root: Path, changes: dict[str, Any], sentence: str) -> None:
    table(root / "videomme" / "videomme" / "test-00000-of-00001.parquet", [row(1, **changes)])
    with pytest.raises(UserError, match=sentence):
        loaded(root, "videomme")


def test_bad_files(root: Path) -> None:
    path = root / "videomme" / "videomme" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="is not a complete parquet file; download it again"):
        loaded(root, "videomme")
    table(path, [{"question": "x"}])
    with pytest.raises(UserError, match="no 'videoID' in row 1 of"):
        loaded(root, "videomme")
    path.unlink()
    with pytest.raises(UserError, match="no parquet files of split test under"):
        loaded(root, "videomme")


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\na\r\nb\r\n\r\n", [(1, 2, "a b")]),
        ("00:01.5 --> 00:02.25\na\n00:03 --> 00:04\nb", [(1.5, 2.25, "a"), (3, 4, "b")]),
        ("1\n0:00:01,000 --> 0:00:02,000\n\n\n2\n00:00:03,000 --> 00:00:04,000\n12\n", [(3, 4, "12")]),
        ("1\n00:00:01,000 --> 00:00:02,000\n12\n\n2\n00:00:03,000 --> 00:00:04,000\n<b>x</b> {\\an8}y", [(1, 2, "12"), (3, 4, "x y")]),
        ("WEBVTT\n\n00:00:01.000 --> 00:00:02.000 align:start\na", [(1, 2, "a")]),
        ("no subtitles", []),
        ("", []),
    ],
)  # fmt: skip
def test_dialects(root: Path, content: str, lines: list[tuple[float, float, str]]) -> None:
    """A frame is in the middle of each line: the texts are those that Qwen3-VL's script gets from pysubs2."""
    (root / "videomme" / "subtitle" / "vid1.srt").write_text(content, newline="")
    clip(root / "videomme" / "data" / "vid1.mp4", seconds=6, rate=10)
    job = loaded(root, "videomme_subtitles")
    expected = " ".join(text for _, _, text in lines)
    prompt = prompt_of(job, job.samples[0], "official", "fps=8")
    assert prompt == (f"{LISTED}\n{expected}\n" if expected else "") + PROMPTS["official"]
