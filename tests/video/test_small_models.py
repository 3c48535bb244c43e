"""Frame sizes of checkpoints whose processors make frames smaller than qwen-vl-utils does."""

from __future__ import annotations

from evalkit.types import VideoGeometry, VideoInfo
from evalkit.video import video_sampling

CLIP = VideoInfo([number / 8 for number in range(32)], 8.0, (112, 112))


def test_limits_of_a_small_processor_hold() -> None:
    small = VideoGeometry(min_pixels=56 * 56, max_pixels=120 * 128)
    for name in ("qwen2.5-report", "fps=2"):
        assert video_sampling(name).select(CLIP, small).size == (112, 112)
        assert video_sampling(name).select(CLIP, VideoGeometry()).size == (336, 336)  # 144 tokens, of at least 128
