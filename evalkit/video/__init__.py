"""Video files: index, frame-exact reading, and the rules by which frames are sampled."""

from __future__ import annotations

from .check import check_videos
from .file import VideoFile
from .frame_folder import FrameFolder
from .sampling import SAMPLING_RULES, described, video_sampling

__all__ = ["SAMPLING_RULES", "FrameFolder", "VideoFile", "check_videos", "described", "video_sampling"]
