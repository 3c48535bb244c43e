"""The values that travel through evalkit: frozen dataclasses (see ``evalkit.interfaces`` for what plugins provide).

Boxes are ``(x1, y1, x2, y2)`` in pixels of the original image everywhere; model families convert their own coordinates.
"""

from __future__ import annotations

from .answers import Answered, FinishReason, ImageSize, Prediction, Response, Scores
from .execution import Batching, Check, Cluster, Preview
from .judging import JudgedAnswer, JudgePrompt, JudgeQuestion, Scale, Verdict, VerdictValue
from .media import ImageRef, Media, Size, image_key
from .messages import ImagePart, Message, TextPart, VideoPart
from .requests import (
    PLACEHOLDERS,
    Decoding,
    PromptSpec,
    PromptTemplate,
    Request,
    SamplingPreset,
    Shot,
)
from .rules import ReadAnswer, ScoringRule
from .samples import (
    CATEGORY_SEPARATOR,
    LOCATED,
    Box,
    ContentPart,
    Kind,
    LabelledBox,
    LabelledBoxes,
    Part,
    Point,
    Sample,
    Split,
)
from .videos import FrameSelection, TimeSpan, VideoGeometry, VideoInfo, VideoInput, VideoRef, VideoSampling

__all__ = [
    "CATEGORY_SEPARATOR",
    "LOCATED",
    "PLACEHOLDERS",
    "Answered",
    "Batching",
    "Box",
    "Check",
    "Cluster",
    "ContentPart",
    "Decoding",
    "FinishReason",
    "FrameSelection",
    "ImagePart",
    "ImageRef",
    "ImageSize",
    "JudgePrompt",
    "JudgeQuestion",
    "JudgedAnswer",
    "Kind",
    "LabelledBox",
    "LabelledBoxes",
    "Media",
    "Message",
    "Part",
    "Point",
    "Prediction",
    "Preview",
    "PromptSpec",
    "PromptTemplate",
    "ReadAnswer",
    "Request",
    "Response",
    "Sample",
    "SamplingPreset",
    "Scale",
    "Scores",
    "ScoringRule",
    "Shot",
    "Size",
    "Split",
    "TextPart",
    "TimeSpan",
    "Verdict",
    "VerdictValue",
    "VideoGeometry",
    "VideoInfo",
    "VideoInput",
    "VideoPart",
    "VideoRef",
    "VideoSampling",
    "image_key",
]
