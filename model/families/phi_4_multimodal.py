"""Phi-4-multimodal: prompts and answer parsing; for servers, since transformers has no image-text-to-text model of it.

Sources: the report (arXiv 2503.01743) and the model card give scores of an internal benchmark platform, without
prompts; VLMEvalKit (open-compass/VLMEvalKit, commit e8e78f05, ``vlmeval/vlm/phi4_multimodal.py``) and lmms-eval
(EvolvingLMMs-Lab/lmms-eval, commit 75571cf) have none of their own for these models, only the template ``<|user|>
<|image_1|>…<|end|><|assistant|>``, with the images before the text.  Captions, questions and options are therefore
asked for in LLaVA's words, boxes, points, detection and events in videos in ours.  Not verified: that the models were
trained on any of these.

Frames of videos are given as images.  transformers has the language model with its encoders for generation, but not
among those that this program loads.
"""

from __future__ import annotations

from ._fractions import FractionChat


class Phi4Multimodal(FractionChat):
    """The family of Phi-4-multimodal checkpoints, in the authors' format and in transformers'."""

    name = "phi-4-multimodal"
    model_types = ("phi4mm", "phi4_multimodal")
    without_sharing = "it runs on servers only"
    shares_encodings = False


FAMILY = Phi4Multimodal()
