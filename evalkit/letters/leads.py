"""The words before (or after) a reference that make it a statement: "the answer is B", "B is correct", 答案是B."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .reference import CJK, NOUN, WORD_ENDS, WORD_STARTS

_SURELY = (
    r"(?:\s*(?:(?:most\s+|very\s+)?likely|probably|therefore|thus|clearly|definitely|simply|just|indeed|actually|still|"
    r"also|obviously|certainly|then|hence|in\s+fact|best\s+(?:described|represented)\s+(?:by|as))\b)*+"
)
_IS = (
    r"(?:is|was|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be|ought\s+to\s+be|appears\s+to\s+be|"
    r"seems\s+to\s+be)"
)
_LABELS = "antwort|respuesta|r[eé]ponse|resposta|risposta|lösung|ответ|答案|答え|正解|解答|回答|정답|답|答"
_AT_START = r"(?:^|[.!?;,:\n]\s*|\b(?:so|thus|hence|therefore|then|think|believe|that|actually|guess|say)\b,?\s+)"


@dataclass(frozen=True)
class Lead:
    """Words after which a reference is a statement.

    Attributes:
        strict: whether a letter must end its clause there, because the words alone say little.
    """

    pattern: re.Pattern[str]
    strict: bool = False


def _lead(pattern: str, *, strict: bool = False) -> Lead:
    return Lead(re.compile(pattern, re.I | re.M), strict)


LEADS = (
    # the correct answer (to the question) is (therefore) …; Answer: …
    _lead(
        rf"\b(?:{NOUN}|ans|solution|selection|conclusion)\b"
        r"(?:\s+(?:to|for|of|from|among|in|that)\s[^.:?!\n]{1,80}?)?"
        rf"[\"')\]}}>*]*+\s*(?:[:=]>?|->|>|\s-\s|\b{_IS}\b){_SURELY}\s*:?"
    ),
    # the best match is …
    _lead(
        r"\b(?:correct|right|best|closest|most\s+\w{1,20})\s+(?:one|match|fit|description|representation|response)\s+"
        rf"{_IS}\b{_SURELY}"
    ),
    # … so answer B.   The answer (B) …
    _lead(rf"\b{NOUN}(?=\s+[(\[]?[A-Z][)\]]?\s*[.!]?\s*$)|\banswer(?=\s+[(\[])", strict=True),
    # a heading
    _lead(r"^\W{0,9}(?:the\s+|my\s+)?(?:final\s+|correct\s+)*(?:answer|conclusion|ans)\W{0,9}\n"),
    _lead(r"\b(?:correct|selected|response|output|prediction|assistant)\s*:", strict=True),
    _lead(r"\bans\.|[(\[]answer[)\]]", strict=True),
    # Probably B
    _lead(
        r"\A\s*(?:sure|okay|ok|well|certainly|probably|maybe|perhaps|i\s+(?:guess|think|believe)|i(?:'d|\s+would)\s+say)\b"
        r"[!,.:]?",
        strict=True,
    ),
    _lead(rf"(?:\b|(?<=[{CJK}]))(?:{_LABELS})\s*(?:[:=]|est|es|é|ist|は|은|는)"),
    _lead(r"\b(?:choose|chose|pick|select|selected|going\s+with|go\s+with|opt\s+for)\b"),
    _lead(rf"{_AT_START}(?:it|this|that)(?:'s|\s+{_IS})\b{_SURELY}", strict=True),
    _lead(r"\b(?:therefore|thus|hence|so|finally|consequently|actually|rather|instead)\b[,:]?", strict=True),
    # which is option …
    _lead(
        r"\b(?:is|matches|corresponds\s+to|corresponding\s+to|aligns\s+with|consistent\s+with|represented\s+by)"
        rf"(?=\s+(?:the\s+)?{NOUN}\b)",
        strict=True,
    ),
    _lead(r"(?:答案|选项|选择|选|项|最佳|正确的?)(?:应该|应当|应|就|可能)?(?:是|为)\s*:?"),
    _lead(r"(?:答案选?项?|正确选项)\s*:?"),
    _lead(r"(?<![不别非没勿候])选(?![项不])择?(?:的是)?\s*:?"),
    _lead(r"[应故]选项\s*:?", strict=True),
)

_CORRECT = (
    r"(?:the\s+|my\s+|our\s+)?(?:most\s+|only\s+)?(?:correct|right|best|closest|accurate|appropriate|suitable|answer)\b"
    r"(?=\s*(?:[.,;:!)\"'\n]|$|(?:answer|option|choice|one|letter|match|because|since|as|for|to|based|given|among|of)\b))"
)
CALLED = re.compile(
    rf"(?P<before>^|[\n.!;:,>(\[\"']|\b(?:option|choice|answer|letter|that|so|thus|hence|therefore|only|think|believe|"
    rf"conclude|say)|[{CJK}])(?P<open>\s*[(\[\"']*+){WORD_STARTS}(?P<letter>[A-Za-z]){WORD_ENDS}[\"')\]]*+"
    rf"(?:(?:\s+(?:option|choice|answer))?\s+(?:{_IS}\b{_SURELY}\s+{_CORRECT}|(?:fits|matches)\s+best\b)"
    r"|\s*(?:选?项)?\s*(?:是|为)?最?(?:正确|对的|答案))",
    re.I,
)
"""A letter that is called correct after it: "B is the correct answer"."""

DENIES = re.compile(
    r"\b(?:if|whether|unless|suppos\w{0,4}|assum\w{0,4}|not|never|cannot|neither|nor|inconsistent|than|incorrect|wrong|"
    r"other)\b(?: +(?:the|that|your|my|to|have|we|i|correct|right|possible|final)\b){0,4} *$|n't *$|[不别非]$",
    re.I,
)
"""What makes a statement that follows it a supposition, or its opposite."""
