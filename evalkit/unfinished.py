"""Whether text without markers is deliberation that was cut off, so that a box in it is no answer."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"\w[^\S\n]++[\w'’]++[\"')*]*+[.!?…]++\s|[一-鿿]{3}[。！？]")
"""The end of a sentence of at least two words: ``Sure!`` is none."""
_DELIBERATES = re.compile(
    r"\b(?:may|might|could|maybe|perhaps|probably|let me|let's|hmm|wait|or|but|however|actually|although)\b"
    r"|可能|也许|或者|让我|不过|等等",
    re.IGNORECASE,
)
_BROKEN_OFF = re.compile(r"(?:[^\W\d_]|[,;，；、])$")


def mentions_unfinished(before: str, after: str) -> bool:
    """Whether something between ``before`` and ``after`` is a mention in prose that breaks off in mid-sentence.

    ``Let me look. It may be at … or else`` is reasoning that was cut off.  Without markers, it is known by two things:
    it deliberates (a sentence precedes, or words like "maybe"), and it does not end.
    """
    if _BROKEN_OFF.search(after.rstrip()[-200:]) is None:
        return False
    return bool(_SENTENCE.search(before) or _DELIBERATES.search(before) or _DELIBERATES.search(after))
