"""Separates the reasoning that opens a model's answer from its final answer; plain text, no model needed.

Reasoning counts as such only where it opens the answer: at its very beginning, or in the prompt, whose end then is an
opening marker (``opened_by``).  ``<think>`` later in an answer is part of it, as in
``[{"bbox_2d": [1, 2, 3, 4], "label": "<think>bottom clock</think>"}]``.  Reasoning without its closing marker was cut
off, and no answer is searched in it.

A closing marker after ``<think>a <think>b`` may end all reasoning (the second marker was a mention) or only what is
nested.  What tells them apart is how the answer ended: a model that ended its turn had finished reasoning, one that the
token limit cut off had not (``split``).

Final answers may be marked (``<answer>``, ``\\boxed{…}``): ``unwrap`` returns their content.

Answers are untrusted: every function here takes time linear in the answer's length, and none raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from evalkit.boxed import boxed_text

QUOTES = "`\"'“”‘’„«»「」"
"""A marker between two of these is a mention."""
QUOTED_FORMAT = 40
"""The most characters between two markers that reasoning quotes, as in ``<think> reasoning here </think>``."""
RULES_VERSION = 3
"""Version of the rules by which raw answers are parsed, in signatures (``parsing:3``).

1 (not named there) knew only ``<think>`` and unwrapped no answers; 2 searched what follows nested reasoning for an
answer even if the token limit had cut it off inside the outer one.
"""


@dataclass(frozen=True)
class Markers:
    """Two texts that enclose a part of an answer.

    Attributes:
        opening: lower-case markers match in any case, others as they are.
        anywhere: for answers: whether they count after other text, too, not only at the beginning.
        nests: for reasoning: whether each opening marker has a closing one of its own.
    """

    opening: str
    closing: str
    anywhere: bool = True
    nests: bool = True

    @cached_property
    def lowered(self) -> tuple[str, str]:
        """Both in lower case."""
        return self.opening.lower(), self.closing.lower()


REASONING = (
    Markers("<think>", "</think>"),  # Qwen3-VL, GLM-4.1V, InternVL3.5, MiMo-VL, MiniCPM-V 4.5, ERNIE-4.5-VL, …
    Markers("<thinking>", "</thinking>"),
    Markers("<thought>", "</thought>"),
    Markers("<reasoning>", "</reasoning>"),
    Markers("<analysis>", "</analysis>"),  # Keye-VL
    Markers("<seed:think>", "</seed:think>"),  # Seed-OSS
    Markers("<longcat_think>", "</longcat_think>"),  # LongCat
    Markers("◁think▷", "◁/think▷"),  # Kimi-VL
    Markers("[THINK]", "[/THINK]"),  # Magistral, Ministral
    Markers("<|begin_of_thought|>", "<|end_of_thought|>"),  # LlamaV-o1, Sky-T1
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>", nests=False),  # harmony (gpt-oss)
    Markers("<|channel>thought", "<channel|>"),  # Gemma 4
    Markers("<SUMMARY>", "<CONCLUSION>", nests=False),  # LLaVA-CoT: summary, caption, reasoning, conclusion
    Markers("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", nests=False),  # Apriel
)
"""The markers of reasoning in chat templates of image-text models; a family may have others."""

ANSWER = (
    Markers("<answer>", "</answer>"),
    Markers("<final_answer>", "</final_answer>"),
    Markers("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.1V, GLM-4.5V
    Markers("<|begin_of_solution|>", "<|end_of_solution|>"),
    Markers("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    Markers("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),
    Markers("<CONCLUSION>", "</CONCLUSION>"),
    *(Markers(f"<{tag}>", f"</{tag}>", anywhere=False) for tag in ("conclusion", "response", "output", "solution")),
)
"""The markers of final answers."""


@dataclass(frozen=True)
class Parts:
    """An answer in parts.

    Attributes:
        reasoning: its text without markers; empty if there is none.
        answer: what follows; empty if the reasoning is unfinished.
        complete: whether the reasoning, if any, has ended.
        rule: how they were separated: ``none`` (no reasoning), ``opened`` (it opens the answer), ``closed`` (opened in
            the prompt, closed in the answer) or ``unfinished``.
    """

    reasoning: str
    answer: str
    complete: bool
    rule: str


def split(text: str, markers: Sequence[Markers] = REASONING, *, ended: bool | None = True) -> Parts:
    """The reasoning and the final answer of a raw answer.

    Several pieces of reasoning may follow each other.  A closing marker without an opening one closes reasoning that
    the prompt opened, unless it is inside a string of a JSON answer.

    Args:
        ended: whether the model ended its turn (``evalkit.end_of_turn.ended``).  If not, or if that is unknown (None),
            reasoning is unfinished as long as it has more opening markers than closing ones.
    """
    present = _present(text, markers)
    if not present:
        return Parts("", text, True, "none")
    tokens = _tokens(present)
    reasoning: list[str] = []
    position, rule = 0, "none"
    first, nested = 0, 0  # where reasoning begins, and how many opening markers inside it have no closing one
    while True:
        start = _LEADING.match(text, position)
        opening = tokens.match(text, start.end() if start else position)
        if opening and (pair := _pair(opening, opening=True)) is not None:
            closing, inside = _closing(text, opening.end(), pair, tokens)
            if closing is None:
                return Parts(_joined([*reasoning, text[opening.end() :]]), "", False, "unfinished")
            reasoning.append(text[opening.end() : closing.start()])
            first = first if nested else opening.end()
            nested += inside if present[pair].nests else 0
            rule = "opened"
        else:
            closing = _unopened(text, position, tokens)
            if closing is None and nested and not ended:
                return Parts(text[first:].strip(), "", False, "unfinished")
            if closing is None:
                return Parts(_joined(reasoning), text[position:], True, rule)
            nested = max(0, nested - 1)
            reasoning.append(text[position : closing.start()])
            rule = "closed" if rule == "none" else rule
        position = closing.end()


def cut_off_inside(text: str, markers: Sequence[Markers], ended: bool | None) -> bool:
    """Whether ``text`` has an answer only if its model ended its turn, and that is not so, or unknown (``split``)."""
    return not ended and split(text, markers).complete and not split(text, markers, ended=ended).complete


def opened_by(prompt: str, markers: Sequence[Markers] = REASONING) -> str:
    """The end of a rendered prompt, from the marker on, if that opens reasoning (``<think>\\n``); else empty."""
    end = prompt.rstrip()
    if not end:
        return ""
    for marker in markers:
        if _matches_end(end, marker.opening):
            return prompt[len(end) - len(marker.opening) :]
    return ""


def unwrap(answer: str, markers: Sequence[Markers] = ANSWER, *, boxed: bool = True) -> str:
    """The text between the last markers of a final answer; ``answer`` without markers.

    Without a closing marker (the limit cut it off), it is everything after the opening one.  A JSON answer is returned
    as it is: markers in it are content.

    Args:
        boxed: whether LaTeX's ``\\boxed{…}`` counts as well.
    """
    if _JSON.match(answer):
        return answer
    found = _wrapped(answer, markers)
    if boxed:
        box = boxed_text(answer if found is None else found)
        found = found if box is None else box
    return answer if found is None else found


# ------------------------------------------------------------------------------------------------------------- patterns

_LEADING = re.compile(r"(?:\s|<\|(?:im_start|start|start_header_id|end_header_id)\|>(?:assistant\b)?|<s>|<bos>)++")
"""What may precede reasoning at the beginning of a raw answer."""
_JSON = re.compile(r"\s*+(?:```\w*+\s*+)?+[\[{]\s*+[\[{\]}\"'\d-]")
_JSON_STRING_END = re.compile(r"[^\"'\n]{0,200}[\"']\s{0,8}[,}\]]")


def _present(text: str, markers: Sequence[Markers]) -> tuple[Markers, ...]:
    """The pairs of which a marker may be in ``text``; nearly always none or one, so that scanning is fast."""
    lower = text.lower()
    found = []
    for pair in markers:
        opening, closing = pair.lowered
        if opening in lower or closing in lower:
            found.append(pair)
    return tuple(found)


@lru_cache(maxsize=64)
def _tokens(markers: tuple[Markers, ...]) -> re.Pattern[str]:
    """Matches every marker; the group ``o3`` is the opening one of the fourth pair, ``c3`` the closing one."""
    either = [(f"o{number}", marker.opening) for number, marker in enumerate(markers)]
    either += [(f"c{number}", marker.closing) for number, marker in enumerate(markers)]
    return re.compile("|".join(f"(?P<{name}>{_pattern(text)})" for name, text in either))


def _pattern(marker: str) -> str:
    # In harmony's format, the turn is closed and opened again before the final channel.
    before = r"(?:<\|end\|>)?+(?:<\|start\|>assistant)?+" if marker.startswith("<|channel|>final") else ""
    exact = re.escape(marker)
    return before + (f"(?i:{exact})" if marker == marker.lower() else exact)


def _pair(match: re.Match[str], *, opening: bool) -> int | None:
    """The number of the pair whose opening (or closing) marker this is."""
    name = match.lastgroup or ""
    return int(name[1:]) if name.startswith("o" if opening else "c") else None


def _closing(text: str, position: int, pair: int, tokens: re.Pattern[str]) -> tuple[re.Match[str] | None, int]:
    """The closing marker of reasoning that begins at ``position``, and the number of opening ones inside it.

    Reasoning may quote the format that the prompt asks for (``<think> … </think>``), which closes nothing.  Opening
    markers in it, or in quotation marks, are not counted.
    """
    quoted: re.Match[str] | None = None
    inside = 0
    begun: int | None = (
        position  # the end of the opening marker, which may be repeated: in the prompt, and again in the answer
    )
    for token in tokens.finditer(text, position):
        if _pair(token, opening=True) == pair:
            repeated = begun is not None and not text[begun : token.start()].strip()
            begun = token.end() if repeated else None
            quoted = None if repeated else token
            inside += not repeated and not _in_quotes(text, token)
        elif _pair(token, opening=False) == pair:
            between = None if quoted is None else text[quoted.end() : token.start()]
            if quoted is None or between is None or len(between) > QUOTED_FORMAT or "\n" in between:
                return token, inside
            inside -= not _in_quotes(text, quoted)
            quoted = None
    return None, inside


def _in_quotes(text: str, marker: re.Match[str]) -> bool:
    before, after = text[max(0, marker.start() - 1) : marker.start()], text[marker.end() : marker.end() + 1]
    return bool(before and after) and before in QUOTES and after in QUOTES


def _unopened(text: str, position: int, tokens: re.Pattern[str]) -> re.Match[str] | None:
    """The first closing marker from ``position`` on that closes nothing opened there."""
    depths: dict[int, int] = {}
    json = _JSON.match(text, position) is not None
    quotes, counted = 0, position
    for token in tokens.finditer(text, position):
        opening, closing = _pair(token, opening=True), _pair(token, opening=False)
        if opening is not None:
            depths[opening] = depths.get(opening, 0) + 1
        elif closing is not None and depths.get(closing):
            depths[closing] -= 1
        elif json:
            quotes += text.count('"', counted, token.start())
            counted = token.start()
            if not (quotes % 2 or _JSON_STRING_END.match(text, token.end())):
                return token
        else:
            return token
    return None


def _joined(pieces: Iterable[str]) -> str:
    return "\n".join(piece.strip() for piece in pieces if piece.strip())


def _matches_end(text: str, marker: str) -> bool:
    end = text[-len(marker) :]
    return end == marker or (marker == marker.lower() and end.lower() == marker)


def _wrapped(answer: str, markers: Sequence[Markers]) -> str | None:
    """The text between the last answer markers; None without any."""
    present = _present(answer, markers)
    if not present:
        return None
    tokens = _tokens(present)
    last: re.Match[str] | None = None
    first_closing: re.Match[str] | None = None
    leading = len(answer) - len(answer.lstrip())
    for token in tokens.finditer(answer):
        opening = _pair(token, opening=True)
        if opening is None:
            first_closing = first_closing or token
        elif present[opening].anywhere or token.start() == leading:
            last = token
    if last is None:
        return None if first_closing is None else answer[: first_closing.start()]
    closing = next((t for t in tokens.finditer(answer, last.end()) if _pair(t, opening=False) is not None), None)
    return answer[last.end() : len(answer) if closing is None else closing.start()]
