"""Model inputs of requests: prompts, their lengths, decoded images.  Needs the processor, not the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import Any

from jinja2 import TemplateError
from PIL import Image
from transformers import BatchFeature

from evalkit.chat_template import switches_of, thinking_variables
from evalkit.errors import UserError
from evalkit.model.video_frames import DecodedFrames, with_frames_as_images
from evalkit.model.videos import VideoSelector
from evalkit.types import (
    ImagePart,
    ImageRef,
    ImageSize,
    Preview,
    Request,
    Size,
    TextPart,
    VideoGeometry,
    VideoPart,
)

from .continuations import build_branches
from .formatting import first_line
from .planned import PlannedRequest, PreparedBatch, describe_error, load_once
from .prompt_text import (
    NOT_FOR_IMAGES,
    OTHER_TEMPLATE,
    chat_template,
    escaped,
    image_placeholder,
    reserved_tokens,
    video_placeholder,
)
from .videos import VideoFormat


class Inputs:
    """Builds the model's inputs of requests with a checkpoint's processor; only conversations need a chat template.

    Attributes:
        video_format: how videos are given; None if their frames are given as images.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"
        self.template = chat_template(processor)
        self.reserved = reserved_tokens(processor)
        self.video_format = VideoFormat.of(processor)
        self.videos = VideoSelector(VideoGeometry() if self.video_format is None else self.video_format.geometry)
        self._decoded = DecodedFrames()
        self.switches = () if self.template is None else switches_of(self.template)
        # Padding is a state of the tokenizer, set by each call: planning in one thread would change another's batch.
        self._tokenizing = Lock()
        self._planned: tuple[Request, list[PlannedRequest]] | None = None

    def prompt(self, request: Request) -> str:
        """The prompt with one placeholder per image and per video: from the chat template, or raw text.

        Raises:
            UserError: the checkpoint has no chat template, or it rejects such a conversation.
        """
        if request.messages[0].role == "plain":
            return "".join(self._raw(p) for m in request.messages for p in m.content)
        conversation = [
            {
                "role": m.role,
                "content": [self._content(p) for p in m.content],
            }
            for m in request.messages
        ]
        if not self.has_chat_template:
            raise UserError(
                "the checkpoint has no chat template, so it cannot take conversations; choose the --family that it "
                "belongs to, add the template to its processor (chat_template.jinja), or take that of another "
                "checkpoint with --processor."
            )
        try:
            return self.render(conversation, **self.thinking(request))
        except TemplateError as error:
            roles = ", ".join(m.role for m in request.messages)
            raise UserError(f"the checkpoint's chat template rejects this conversation ({roles}): {error}") from error
        except (TypeError, ValueError, AttributeError, LookupError) as error:  # it expects another form of content
            raise UserError(
                f"{NOT_FOR_IMAGES} ({type(error).__name__}: {first_line(error)}); {OTHER_TEMPLATE}"
            ) from error

    def _raw(self, part: TextPart | ImagePart | VideoPart) -> str:
        if isinstance(part, TextPart):
            return escaped(self.processor, part.text)
        place = image_placeholder if isinstance(part, ImagePart) else video_placeholder
        return place(self.processor)

    def _content(self, part: TextPart | ImagePart | VideoPart) -> dict[str, str]:
        if isinstance(part, TextPart):
            return {"type": "text", "text": part.text}
        return {"type": "image" if isinstance(part, ImagePart) or self.video_format is None else "video"}

    @cached_property
    def takes_videos(self) -> bool:
        """Whether videos can be given as such, and the chat template has a place for them."""
        if self.video_format is None or not self.has_chat_template:
            return self.video_format is not None
        try:
            rendered = self.render([{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "?"}]}])
        except Exception:  # a template can raise anything
            return False
        return rendered.count(self.video_format.token) == 1

    def thinking(self, request: Request) -> dict[str, Any]:
        """The variables by which the chat template is told whether the model is to think."""
        return {} if request.thinking is None else thinking_variables(self.switches, request.thinking)

    def render(
        self, conversation: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of a conversation from the chat template.  Raises whatever the template raises."""
        return str(
            self.processor.apply_chat_template(
                conversation,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **variables,
            )
        )

    def length(self, text: int, sizes: Sequence[Size]) -> int:
        """The prompt's length in tokens with all visual ones; ``text`` is its length with one token per image.

        Only the formation of batches depends on it.  It is exact for the Qwen family; if a processor does not tell the
        number of visual tokens, it is estimated from the image's area.
        """
        return text - len(sizes) + sum(self.visual(sizes)) if sizes else text

    def visual(self, sizes: Sequence[Size]) -> list[int]:
        """The number of visual tokens per image, as ``length`` counts them."""
        try:
            counts = self.processor._get_num_multimodal_tokens(image_sizes=[(h, w) for w, h in sizes])
            return [int(count) for count in counts["num_image_tokens"]]
        except Exception:  # a private method: missing, or for another image processor
            return [1 + w * h // 28**2 for w, h in sizes]

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint has a chat template."""
        return self.template is not None

    def ids(self, text: str) -> tuple[int, ...]:
        """The tokens of a text that continues a prompt."""
        with self._tokenizing:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        with self._tokenizing:
            return tuple(self.tokenizer(prompt, **self._special(prompt))["input_ids"])

    def _special(self, prompt: str) -> dict[str, bool]:
        # As in apply_chat_template: if the template writes the BOS token, the tokenizer must not add a second one.
        bos = self.tokenizer.bos_token
        return {"add_special_tokens": False} if bos and prompt.startswith(bos) else {}

    def plan(self, request: Request) -> list[PlannedRequest]:
        """The request as one or several planned ones.  Raises ``OSError`` or ``ValueError`` if it is unusable."""
        last = self._planned
        if last and not request.continuations and _same_sample(last[0], request):  # another answer to it
            return [replace(row, request=replace(request, messages=row.request.messages)) for row in last[1]]
        for message in request.messages:
            for part in message.content:
                if isinstance(part, TextPart) and (found := [t for t in self.reserved if t in part.text]):
                    raise ValueError(f"its text contains the image placeholder {found[0]}")
        videos = self.videos.of(request)
        asked, as_images = request, bool(videos) and self.video_format is None
        if as_images:
            asked = with_frames_as_images(request, videos, self._decoded)
        sizes = tuple(image.size() for image in asked.images)
        prompt = self.prompt(asked)
        extra = 0
        if videos and self.video_format is not None:
            prompt = self.video_format.with_groups(prompt, videos)
            extra = sum(video.groups * (video.tokens_per_group - 1) for video in videos)
        ids = self._prompt_ids(prompt)
        plan = PlannedRequest(
            asked, prompt, ids, sizes, self.length(len(ids), sizes) + extra, videos=videos, videos_as_images=as_images
        )
        if not request.continuations:
            self._planned = request, [plan]
            return [plan]
        rows = build_branches([self.ids(text) for text in request.continuations])
        return [replace(plan, branch=row, parts=len(rows)) for row in rows]

    def prepare(self, batch: Sequence[PlannedRequest]) -> PreparedBatch:
        """Decode the images and videos, and build the model's inputs."""
        good: list[PlannedRequest] = []
        images: list[Any] = []
        failed: list[tuple[PlannedRequest, BaseException]] = []
        decoded: dict[str, Any] = {}  # several requests of a batch can show the same image
        for planned in batch:
            try:
                loaded = [load_once(image, decoded) for image in planned.request.images]
            except (OSError, ValueError) as error:
                failed.append((planned, error))
                continue
            good.append(planned)
            images.append(loaded)
        if not good:
            return PreparedBatch(good, None, failed)
        try:
            inputs = self._processed(good, images)
        except (OSError, ValueError) as error:  # caused by one of them, for example by an image of an impossible shape
            if len(good) == 1:
                return PreparedBatch([], None, [*failed, (good[0], error)])
            return PreparedBatch([], None, failed, alone=good)
        inputs.pop("labels", None)  # PaliGemma's processor adds them for training
        return PreparedBatch(good, inputs, failed)

    def _processed(self, batch: Sequence[PlannedRequest], images: Sequence[Any]) -> Any:
        prompts, special = [p.prompt for p in batch], self._special(batch[0].prompt)
        videos = [video for planned in batch for video in planned.encoded_videos]
        if videos and self.video_format is not None:
            encoded, flat = self.video_format.encoder_inputs(videos), [image for loaded in images for image in loaded]
            with self._tokenizing:
                inputs = self.video_format.inputs(prompts, flat, videos, **special)
            return BatchFeature({**inputs, **encoded})
        with self._tokenizing:
            shown = images if any(images) else None
            return self.processor(text=prompts, images=shown, padding=True, return_tensors="pt", **special)

    def image_sizes(self, batch: Sequence[PlannedRequest], inputs: Any) -> list[tuple[ImageSize, ...]]:
        """Each image's size in the file and after resizing.

        The latter is ``image_grid_thw`` × patch size, or the processor's ``image_size``; else the original size.
        """
        found = iter(self._image_sizes([size for planned in batch for size in planned.sizes], inputs))
        return [tuple(next(found) for _ in planned.sizes) for planned in batch]

    def _image_sizes(self, originals: Sequence[Size], inputs: Any) -> list[ImageSize]:
        fixed: Size | None = getattr(self.processor, "image_size", None)
        resized: list[Size] = [fixed or size for size in originals]
        if "image_grid_thw" in inputs:
            patch = int(self.processor.image_processor.patch_size)
            resized = [(w * patch, h * patch) for _, h, w in inputs["image_grid_thw"].tolist()]
        if len(resized) != len(originals):
            raise RuntimeError(f"the processor returned {len(resized)} images for {len(originals)}")
        return [ImageSize(o, r) for o, r in zip(originals, resized, strict=True)]

    def image_size(self, size: Size) -> ImageSize:
        """As ``image_sizes``, for a single image of ``size``.  Raises ``ValueError`` if the processor refuses it."""
        image_processor: Any = getattr(self.processor, "image_processor", None)
        if getattr(self.processor, "image_size", None) is None and hasattr(image_processor, "merge_size"):
            blank = Image.new("RGB", size)
            inputs = image_processor(images=[blank], do_rescale=False, do_normalize=False, return_tensors="pt")
        else:
            inputs = {}
        return self._image_sizes([size], inputs)[0]

    def preview(self, request: Request) -> Preview:
        """The model's input for a request, decoded from its tokens; consecutive visual tokens are shown as one.

        Raises:
            UserError: an image cannot be read, or the processor refuses it.
        """
        try:
            planned = self.plan(request)[0]
            prepared = self.prepare([planned])
            for _, error in prepared.failed:
                raise error
        except (OSError, ValueError) as error:
            raise UserError(f"sample {request.id}: {describe_error(request, error)}") from error
        (ids,), (mask,) = prepared.inputs["input_ids"].tolist(), prepared.inputs["attention_mask"].tolist()
        ids = [token for token, attended in zip(ids, mask, strict=True) if attended]
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for token in self.reserved:
            text = re.sub(f"({re.escape(token)})+", r"\1", text)
        sizes = self.image_sizes([planned], prepared.inputs)[0]
        return Preview(text, len(ids), sizes, tuple(video.input for video in planned.videos))

    def pixels(self, image: ImageRef) -> Any:
        """The vision encoder's input for one image.  Raises ``OSError`` if it cannot be read."""
        try:
            return self.processor.image_processor(images=[image.load()], return_tensors="pt")
        except ValueError as error:
            raise OSError(f"{image.name}: {error}") from error


def _same_sample(one: Request, other: Request) -> bool:
    return one.messages is other.messages and one.video_sampling is other.video_sampling
