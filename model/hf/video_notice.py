"""Says once how a model is given videos, where that is not obvious."""

from __future__ import annotations

import logging
from typing import Any

from evalkit.model.video_frames import AS_IMAGES

from .positions import NOTE, places_videos_otherwise
from .processor import Inputs

log = logging.getLogger(__name__)


class VideoNotice:
    """Logs how the videos of requests are given to a model, at the first of them.

    Attributes:
        how: in a few words, for the record of a run.
    """

    def __init__(self, model: Any, inputs: Inputs) -> None:
        self.model = model
        self.how = AS_IMAGES if inputs.video_format is None else "as videos"
        self._told = False

    def videos(self, *, native: bool) -> None:
        """Called when there are requests with videos.

        Args:
            native: whether the engine answers them; otherwise the model's own ``generate`` does.
        """
        if self._told:
            return
        self._told = True
        name = type(self.model).__name__
        if self.how == AS_IMAGES:
            log.warning("%s is given the frames of videos as images", name)
        elif not native and places_videos_otherwise(self.model):
            log.warning("%s: %s", name, NOTE)
