"""Video files: index, frame-exact reading, and the rules by which frames are sampled."""

from __future__ import annotations

from .file import VideoFile
from .sampling import SAMPLING_RULES, described, video_sampling

__all__ = ["SAMPLING_RULES", "VideoFile", "described", "video_sampling"]
