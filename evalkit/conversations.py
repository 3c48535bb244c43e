"""Questions in a conversation: lists of messages in custom task files, as chat models are given them.

    [{"role": "user", "content": "<image>\\nWhat is this?"}, {"role": "assistant", "content": "A bridge."},
     {"role": "user", "content": "How long is it?"}]

A content is a text, in which ``<image>`` and ``<video>`` mark the places of the row's images and videos, or a list of
``{"type": "text", "text": …}``, ``{"type": "image", "image": PATH}`` and ``{"type": "video", "video": PATH}``.  The
last user's message is the question; if an assistant's is last, the row's question comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalkit.errors import UserError
from evalkit.file_task import MARK, VIDEO_MARK, split_at_marks, with_places
from evalkit.images import PathImage
from evalkit.types import ImagePart, ImageRef, Message, Sample, TextPart, VideoPart, VideoRef
from evalkit.values import shown

Role = Literal["system", "user", "assistant"]
FORM = 'a list of {"role": "user", "assistant" or "system", "content": a text, or a list of parts}'
MOST = 1000
"""Messages of a conversation."""


@dataclass(frozen=True)
class Conversation:
    """A list of messages.

    Attributes:
        turns: those before the question: role and text with marks.
        question: the text of the last one, with marks.
        images, videos: those that messages name themselves, in the order of their marks.
    """

    turns: Sequence[tuple[Role, str]]
    question: str
    images: Sequence[ImageRef] = field(default=())
    videos: Sequence[VideoRef] = field(default=())

    def placed(self, sample: Sample, where: str, *, located: bool) -> Sample:
        """``sample``, whose media are those of all turns, with each in the turn that marks it.

        Without marks they are at the beginning of the first user's turn.

        Args:
            where: the sample's place in the file, for messages.
            located: whether places in its image are asked for, which must be that of the question then.

        Raises:
            UserError: there are fewer or more marks than images, or than videos.
        """
        turns, question = list(self.turns), self.question
        for mark, media in ((MARK, sample.images), (VIDEO_MARK, sample.videos)):
            count = sum(text.count(mark) for _, text in (*turns, ("user", question)))
            if count == 0 and media:
                first = next((place for place, (role, _) in enumerate(turns) if role == "user"), None)
                if first is None:
                    question = mark * len(media) + question
                else:
                    turns[first] = ("user", mark * len(media) + turns[first][1])
            elif count != len(media):
                raise UserError(
                    f"{where}: the messages have {count} times {mark} for {len(media)} "
                    f"{'images' if mark == MARK else 'videos'}; mark the place of each, or of none."
                )
        images, videos = iter(sample.images), iter(sample.videos)
        before = tuple(Message(role, tuple(_parts(text, images, videos))) for role, text in turns)
        rest = replace(sample, images=tuple(images), videos=tuple(videos), text=question)
        if located and not rest.images:
            raise UserError(f"{where}: the last message must have the image, since places in it are asked for.")
        return replace(with_places(rest, where, videos=True), turns=before)


def _parts(
    text: str, images: Iterator[ImageRef], videos: Iterator[VideoRef]
) -> Iterator[TextPart | ImagePart | VideoPart]:
    for piece in split_at_marks(text, videos=True):
        if piece == MARK:
            yield ImagePart(next(images))
        elif piece == VIDEO_MARK:
            yield VideoPart(next(videos))
        elif piece:
            yield TextPart(piece)


def read_conversation(
    messages: Any, where: str, path_of: Callable[[Any, str], str], *, question: Any = None
) -> Conversation:
    """The conversation in ``messages``.

    Args:
        where: the sample's place in the file, for messages.
        path_of: gives the path of a file that a message names.
        question: the row's question, which comes after an assistant's last message; None if it has none.

    Raises:
        UserError: it is no list of messages, or has no question.
    """
    if not isinstance(messages, list) or not 0 < len(messages) <= MOST:
        raise UserError(f"{where}: messages is {shown(messages)}; expected {FORM}.")
    images: list[ImageRef] = []
    videos: list[VideoRef] = []
    turns: list[tuple[Role, str]] = []
    for number, message in enumerate(messages, start=1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "user", "assistant") or (role == "system" and number > 1):
            raise UserError(f"{where}: message {number} is {shown(message)}; expected {FORM}, the system's first.")
        content = _content(message.get("content"), f"{where}: message {number}", path_of, images, videos)
        turns.append((role, content))
    if turns[-1][0] == "user":
        if question is not None:
            raise UserError(f"{where}: the last message is a question, and there is another one in question; drop one.")
        question = turns.pop()[1]
    elif not isinstance(question, str) or not question.strip():
        raise UserError(f"{where}: the last message is no user's, and there is no question after it.")
    return Conversation(turns, question, images, videos)


def _content(
    content: Any,
    where: str,
    path_of: Callable[[Any, str], str],
    images: list[ImageRef],
    videos: list[VideoRef],
) -> str:
    """A content as a text with marks; images and videos that it names are added to the lists."""
    if isinstance(content, str) and content:
        return content
    found = []
    parts: list[Any] = content if isinstance(content, list) else [None]
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            found.append(part["text"])
        elif kind == "image":
            found.append(MARK)
            images.append(PathImage(path_of(part.get("image"), "image")))
        elif kind == "video":
            from evalkit.video import VideoFile

            found.append(VIDEO_MARK)
            videos.append(VideoFile(path_of(part.get("video"), "video")))
        else:
            raise UserError(
                f"{where} has the content {shown(content)}; expected a text, or a list of "
                '{"type": "text", "text": …}, {"type": "image", "image": PATH} and {"type": "video", "video": PATH}.'
            )
    return "".join(found)
