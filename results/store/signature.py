"""Signatures: what two scores must share to be comparable, as one line of text.

``task:split|v1|file:…|protocol:official|shots:0|parsing:3|metric|key:value|…|repeats:8|n:300``: the task and its
version, for a custom task the digest of its file, how the task was prompted, the version of the rules that parsed raw
answers (``evalkit.reasoning``), the metric's own signature, the number of answers to each sample if there are several,
and the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

PROMPTING = ("protocol", "shots", "choice", "system", "prompt", "chat_template", "decoding")
"""The parts that say how a task was prompted; unknown for answers that were scored from a file."""
STATED = ("thinking", "video")
"""What the chat template was told of thinking, and how frames were sampled: a family has its own way, as it has its own
prompts.  Both are stated, and scores that differ in them are compared all the same.
"""
IMPORTED = "imported"
"""The harness that made the answers; scores that differ in it are compared all the same."""
PARSING = "parsing"
REPEATS = "repeats"
SUBSET = "subset"
"""The digest of the subset file, if only its samples were run."""


@dataclass(frozen=True)
class Signature:
    """A signature by its parts, in order."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Signature:
        """The signature in ``text``; any text is one."""
        return cls(tuple(text.split("|")))

    @classmethod
    def of(
        cls,
        place: str,
        version: int,
        file: str | None,
        prompting: str,
        scorer: str,
        n: int,
        parsing: int | None = None,
        repeats: int = 1,
    ) -> Signature:
        """The signature of a score.

        Args:
            place: ``task:split``.
            file: the digest of a custom task's file.
            prompting: how the task was prompted, ``protocol:…|shots:…``; empty for answers from a file.
            scorer: the metric's signature, or ``submission``.
            parsing: the version of the parsing rules; None for final texts, which are not parsed.
            repeats: the number of answers to each sample.
        """
        given = [f"file:{file}"] if file else []
        how = [prompting] if prompting else []
        how += [] if parsing is None else [f"{PARSING}:{parsing}"]
        several = [f"{REPEATS}:{repeats}"] if repeats > 1 else []
        return cls.parse("|".join([place, f"v{version}", *given, *how, scorer, *several, f"n:{n}"]))

    def with_subset(self, digest: str) -> Signature:
        """The signature of a run of a subset file's samples; the part stands before the number of samples."""
        place = max((place for place, part in enumerate(self.parts) if part.startswith("n:")), default=len(self.parts))
        return Signature((*self.parts[:place], f"{SUBSET}:{digest}", *self.parts[place:]))

    def format(self) -> str:
        """The text that ``parse`` reads."""
        return "|".join(self.parts)

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The values of the parts ``key:value`` by key; the other parts by their place, ``#0``."""
        found: dict[str, str] = {}
        for place, part in enumerate(self.parts):
            key, colon, value = part.partition(":")
            # The first is task:split, and a metric may use a key of evalkit again.
            key = key if colon and place and key not in found else f"#{place}"
            found[key] = value if colon and key[0] != "#" else part
        return found

    @property
    def file(self) -> str | None:
        """The digest of a custom task's file with its questions and references; None for other tasks."""
        return self.fields.get("file")

    @property
    def prompting(self) -> dict[str, str]:
        """How the task was prompted, in the order of the signature; empty for answers from a file."""
        return {key: value for key, value in self.fields.items() if key in (*PROMPTING, *STATED)}

    @property
    def parsing(self) -> int | None:
        """The version of the rules that parsed raw answers; None for final texts, which are not parsed."""
        value = self.fields.get(PARSING, "1")  # the first version did not name itself
        return int(value) if self.prompting and value.isdecimal() else None

    @property
    def scorer(self) -> Signature:
        """Everything but how the task was prompted, how answers were parsed, and which and how many samples.

        The task, the metric and its variant remain.  The mean over repeats estimates what one answer's score does.
        """
        left_out = (*(f"{key}:" for key in (*PROMPTING, *STATED, IMPORTED, PARSING, REPEATS, SUBSET)), "n:")
        return Signature(tuple(part for part in self.parts if not part.startswith(left_out)))

    def differences(self, other: Signature) -> list[str]:
        """Why scores with these signatures are not comparable, whatever their numbers of samples; empty if they are."""
        found = []
        if self.scorer != other.scorer:
            before, after = self.scorer.parts, other.scorer.parts
            only = ("|".join(p for p in x if p not in y) or "none" for x, y in ((before, after), (after, before)))
            found.append(f"the signatures differ ({' and '.join(only)})")
        if None not in (self.parsing, other.parsing) and self.parsing != other.parsing:
            found.append(f"raw answers were parsed by different rules (versions {self.parsing} and {other.parsing})")
        mine, theirs = self.prompting, other.prompting
        keys = [key for key in PROMPTING if mine.get(key) != theirs.get(key)]
        if "shots" not in mine or "shots" not in theirs:  # answers from a file: the number of shots is not known
            keys = [key for key in keys if key != "shots"]
        if mine and theirs and keys:
            pairs = ", ".join(f"{key} {mine.get(key, 'none')} and {theirs.get(key, 'none')}" for key in keys)
            found.append(f"the protocols differ ({pairs})")
        return found


def unit_of(signatures: Iterable[Signature]) -> str:
    """What intervals are clustered by, in words: ``image``, ``video`` or ``image or video``."""
    videos = {"video" in signature.prompting for signature in signatures}
    return "image or video" if len(videos) > 1 else "video" if True in videos else "image"
