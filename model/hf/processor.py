"""Requests as a model's inputs: prompts, their lengths, decoded images.  Needs the processor, not the weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from evalkit.errors import UserError
from evalkit.types import ImagePart, ImageRef, ImageSize, Preview, Request, Size, TextPart

from .continuations import Branch, build_branches
from .placeholders import placeholder, quoted, reserved


@dataclass(frozen=True)
class Planned:
    """A row to come: a request to generate for, or one of the ``parts`` branches of a request with continuations.

    Attributes:
        ids: the prompt's tokens, with one for each image.
        tokens: the prompt's length, visual tokens included, as far as the processor can say it beforehand.
    """

    request: Request
    prompt: str
    ids: tuple[int, ...]
    sizes: tuple[Size, ...]
    tokens: int
    branch: Branch | None = None
    parts: int = 1

    @property
    def group(self) -> tuple[object, ...]:
        """What the rows of a batch must have in common."""
        how = self.request.decoding if self.branch is None else None
        return how, bool(self.sizes), self.request.messages[0].role == "plain"


@dataclass(frozen=True)
class Prepared:
    """A batch with the model's inputs; the rows that failed, and why; those that are to be prepared one by one."""

    batch: list[Planned]
    inputs: Any
    failed: list[tuple[Planned, BaseException]]
    alone: Sequence[Planned] = ()


class Inputs:
    """Turns requests into inputs, with a checkpoint's processor (a chat template is needed for turns only)."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"
        self.reserved = reserved(processor)
        # Whether a tokenizer pads is its state, set by each call: planning in one thread would unpad another's batch.
        self._tokenizing = Lock()

    def prompt(self, request: Request) -> str:
        """The request as the processor takes it, one placeholder per image: under the chat template, or plain.

        Raises:
            UserError: the checkpoint has no chat template, or one that does not take such a conversation.
        """
        if request.messages[0].role == "plain":
            return "".join(
                placeholder(self.processor) if isinstance(p, ImagePart) else quoted(self.processor, p.text)
                for m in request.messages
                for p in m.content
            )
        conversation = [
            {
                "role": m.role,
                "content": [
                    {"type": "image"} if isinstance(p, ImagePart) else {"type": "text", "text": p.text}
                    for p in m.content
                ],
            }
            for m in request.messages
        ]
        if not self.template:
            raise UserError(
                "the checkpoint has no chat template, so it cannot be asked in turns; choose the --family that it "
                "belongs to, or add the template to its processor (chat_template.jinja)."
            )
        try:
            return str(self.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            roles = ", ".join(m.role for m in request.messages)
            raise UserError(
                f"the checkpoint's chat template does not take this conversation ({roles}): {error}"
            ) from error

    def length(self, text: int, sizes: Sequence[Size]) -> int:
        """A prompt's length in tokens, visual ones included, where ``text`` has one for each image.

        Batches are cut by it; nothing else depends on it.

        Exact for the Qwen family.  Where a processor cannot say how many tokens an image will be, larger ones are
        taken for longer.
        """
        return text - len(sizes) + sum(self.visual(sizes)) if sizes else text

    def visual(self, sizes: Sequence[Size]) -> list[int]:
        """How many tokens each image becomes, as ``length`` counts them."""
        try:
            counts = self.processor._get_num_multimodal_tokens(image_sizes=[(h, w) for w, h in sizes])
            return [int(count) for count in counts["num_image_tokens"]]
        except Exception:  # a private method, absent or written for another image processor
            return [1 + w * h // 28**2 for w, h in sizes]

    @property
    def template(self) -> bool:
        """Whether there is a chat template."""
        return bool(getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None))

    def ids(self, text: str) -> tuple[int, ...]:
        """A text's tokens, as they would go on after a prompt."""
        with self._tokenizing:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        with self._tokenizing:
            return tuple(self.tokenizer(prompt, **self._special(prompt))["input_ids"])

    def _special(self, prompt: str) -> dict[str, bool]:
        # As in apply_chat_template: a template that writes the token that begins a text must not get a second one.
        begin = self.tokenizer.bos_token
        return {"add_special_tokens": False} if begin and prompt.startswith(begin) else {}

    def plan(self, request: Request) -> list[Planned]:
        """The request's rows.  Raises ``OSError`` or ``ValueError`` when it cannot be asked."""
        for message in request.messages:
            for part in message.content:
                if isinstance(part, TextPart) and (found := [t for t in self.reserved if t in part.text]):
                    raise ValueError(f"its text contains the image placeholder {found[0]}")
        sizes = tuple(image.size() for image in request.images)
        prompt = self.prompt(request)
        ids = self._prompt_ids(prompt)
        tokens = self.length(len(ids), sizes)
        if not request.continuations:
            return [Planned(request, prompt, ids, sizes, tokens)]
        rows = build_branches([self.ids(text) for text in request.continuations])
        return [Planned(request, prompt, ids, sizes, tokens, row, len(rows)) for row in rows]

    def prepare(self, batch: Sequence[Planned]) -> Prepared:
        """Decode the images and build the model's inputs."""
        good: list[Planned] = []
        images: list[Any] = []
        failed: list[tuple[Planned, BaseException]] = []
        for planned in batch:
            try:
                loaded = [image.load() for image in planned.request.images]
            except (OSError, ValueError) as error:
                failed.append((planned, error))
                continue
            good.append(planned)
            images.append(loaded)
        if not good:
            return Prepared(good, None, failed)
        try:
            with self._tokenizing:
                inputs = self.processor(
                    text=[p.prompt for p in good],
                    images=images if any(images) else None,
                    padding=True,
                    return_tensors="pt",
                    **self._special(good[0].prompt),
                )
        except ValueError as error:  # one of them, then: an image of an impossible shape, say
            if len(good) == 1:
                return Prepared([], None, [*failed, (good[0], error)])
            return Prepared([], None, failed, alone=good)
        inputs.pop("labels", None)  # PaliGemma's adds what training needs
        return Prepared(good, inputs, failed)

    def image_sizes(self, batch: Sequence[Planned], inputs: Any) -> list[tuple[ImageSize, ...]]:
        """Each image's size in the file and as the encoder saw it.

        That is ``image_grid_thw`` × patch size, or the processor's ``image_size``; else what it was.
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
            raise RuntimeError(f"the processor made {len(resized)} images of {len(originals)}")
        return [ImageSize(o, r) for o, r in zip(originals, resized, strict=True)]

    def image_size(self, size: Size) -> ImageSize:
        """As ``image_sizes``, for an image of ``size`` alone.  Raises ``ValueError`` where the processor refuses it."""
        resizes: Any = getattr(self.processor, "image_processor", None)
        if getattr(self.processor, "image_size", None) is None and hasattr(resizes, "merge_size"):
            made = resizes(images=[Image.new("RGB", size)], do_rescale=False, do_normalize=False, return_tensors="pt")
        else:
            made = {}
        return self._image_sizes([size], made)[0]

    def preview(self, request: Request) -> Preview:
        """What the model is given for a request, read back from its tokens; a run of visual tokens stands as one.

        Raises:
            UserError: an image cannot be read, or the processor does not take it.
        """
        try:
            planned = self.plan(request)[0]
            prepared = self.prepare([planned])
            for _, error in prepared.failed:
                raise error
        except (OSError, ValueError) as error:
            raise UserError(f"sample {request.id}: {explained(request, error)}") from error
        (ids,), (mask,) = prepared.inputs["input_ids"].tolist(), prepared.inputs["attention_mask"].tolist()
        ids = [token for token, there in zip(ids, mask, strict=True) if there]
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for token in self.reserved:
            text = re.sub(f"({re.escape(token)})+", r"\1", text)
        return Preview(text, len(ids), self.image_sizes([planned], prepared.inputs)[0])

    def pixels(self, image: ImageRef) -> Any:
        """One image as the vision encoder takes it.  Raises ``OSError`` when it cannot be read."""
        try:
            return self.processor.image_processor(images=[image.load()], return_tensors="pt")
        except ValueError as error:
            raise OSError(f"{image.name}: {error}") from error


def explained(request: Request, error: BaseException) -> str:
    """An error with the images of its request."""
    names = ", ".join(image.name for image in request.images)
    return f"{type(error).__name__}: {error}" + (f" ({names})" if names else "")
