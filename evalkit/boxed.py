r"""Final answers in LaTeX's ``\boxed{…}``."""

from __future__ import annotations

import re

_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathit|mathsf|bf|rm)\s*+\{(.*)\}\Z", re.DOTALL)
_LATEX_ESCAPE = re.compile(r"\\([%$&#_{} ])")


def boxed_text(answer: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` as plain text; None without one."""
    start = answer.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    end = len(answer)
    for brace in re.finditer(r"\\.|[{}]", answer[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            end = start + brace.start()
            break
    content = answer[start:end].strip().strip("$").strip()
    for _ in range(3):
        inner = _LATEX_TEXT.match(content)
        content = content if inner is None else inner[1].strip()
    return _LATEX_ESCAPE.sub(r"\1", content)
