"""Charades-STA: when in a video does the described event happen?

Papers: Gao et al., "TALL: Temporal Activity Localization via Language Query", ICCV 2017 (arXiv 1705.02101); videos from
Charades (Sigurdsson et al., ECCV 2016, arXiv 1604.01753).  Official data: ``charades_sta_test.txt``, a line
``VIDEO start end##sentence.`` each, and ``Charades_v1_480/VIDEO.mp4``; on the hub lmms-lab/charades_sta.  Score: mean
IoU and R@1 at IoU 0.3, 0.5 and 0.7 of 3,720 spans (``metrics/temporal_iou.py``).

Files: ``charades_sta/charades_sta_test.txt`` (or at the root); videos in ``charades_sta/Charades_v1_480/``,
``charades_sta/videos/``, or in a zip archive in ``charades_sta/``.

Rules, beside those that read spans of time (``docs/parsing.md``):
- ``lmms-eval-75571cf``: lmms-eval's reader, with its prompt the one of ``--protocol lmms-eval``.  The misspelt "seonds"
  belongs to its prompt.

Deliberate choices:
- No report prints its prompt; each family asks in its own words, and times are read in any notation.
- The official file is the reference.  On the hub the times are half-precision numbers: 24.3 is 24.296875 there.
- Samples are named by the video and their place among its lines; a video's events are one cluster.
- lmms-eval counts equal lines (same video, sentence and times) once; here each counts.

Not checked against the official download: whether a sentence on the hub ends with a full stop; here it is removed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from evalkit import time_spans
from evalkit.data import HubData, OfficialData, shown
from evalkit.interfaces import Task
from evalkit.jsonl import read_bytes
from evalkit.letters.lmms_eval import COMMIT
from evalkit.tasks._files import list_of, name_in, official_format, text_in
from evalkit.types import Decoding, PromptTemplate, Sample, ScoringRule, Split, TimeSpan, VideoRef
from evalkit.video_source import video_source

FILE = "charades_sta_test.txt"
PLACES = ("charades_sta", "charades-sta", "Charades-STA")
FOLDERS = ("Charades_v1_480", "videos", "Charades_v1")
HUB_REPO = "lmms-lab/charades_sta"
LINE = re.compile(r"(?P<video>\S+) (?P<start>\S+) (?P<end>\S+)##(?P<sentence>.+)")
FAR = 1e6
"""Limit of times in seconds."""


class CharadesSTA(Task):
    """Charades-STA test, from the official file or the hub."""

    name = "charades_sta"
    version = 1
    kind = "temporal_grounding"
    splits = {"test": Split(3_720, "all events of the test videos")}
    default_splits = ("test",)
    metric = "temporal_iou"
    decoding = Decoding(max_new_tokens=128)
    prompts = {
        "lmms-eval": PromptTemplate(
            "Please find the visual event described by a sentence in the video, determining its starting and ending "
            "times. The format should be: 'The event happens in the start time - end time'. For example, The event "
            "'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence: "
            "{q}. Please return its start time and end time.",
            max_new_tokens=50,
        ),
    }
    rules = {COMMIT: ScoringRule(time_spans.LMMS_EVAL, about="lmms-eval's reader")}
    protocol_rules = {"lmms-eval": COMMIT}
    layout = (f"charades_sta/{FILE}", "charades_sta/Charades_v1_480/*.mp4", "or charades_sta/*.zip")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The lines of the official file, in its order."""
        path = data.find(*(f"{place}/{FILE}" for place in PLACES), FILE, task=self.name)
        source = video_source(data, self.name, FOLDERS, places=PLACES)
        seen: Counter[str] = Counter()
        lines = read_bytes(path, f"{self.name}:").decode("utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number} of {path}"
            with official_format(self.name, where, "lines 'VIDEO start end##sentence.'"):
                match = LINE.fullmatch(line.strip())
                if match is None:
                    raise ValueError(f"it is {shown(line)}")
                video = name_in(match, "video")
                span = _span([float(match["start"]), float(match["end"])])
                yield self._sample(video, source.video(f"{video}.mp4"), match["sentence"], span, seen)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=("video", "caption", "timestamp"))
        source = video_source(data, self.name, FOLDERS, hub=HUB_REPO)
        seen: Counter[str] = Counter()
        for index, row in data.iterate(rows, without=()):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"a row of {HUB_REPO}"):
                video = name_in(row, "video")
                span = _span([float(value) for value in list_of(row["timestamp"], "timestamp")])
                yield self._sample(video.removesuffix(".mp4"), source.video(video), text_in(row, "caption"), span, seen)

    def _sample(self, video: str, ref: VideoRef, sentence: str, span: TimeSpan, seen: Counter[str]) -> Sample:
        text = sentence.strip().rstrip(".").rstrip()
        if not text:
            raise ValueError("the sentence is empty")
        seen[video] += 1
        return Sample(f"{video}-{seen[video]}", (), text, (span,), cluster=video, videos=(ref,))


def _span(times: list[Any]) -> TimeSpan:
    """The span in an entry.  Raises ``ValueError`` for anything but two times in seconds."""
    if len(times) != 2 or not all(0 <= value < FAR for value in times):  # false for NaN
        raise ValueError(f"the times are {times}, not a start and an end in seconds")
    return float(times[0]), float(times[1])


TASK = CharadesSTA()
