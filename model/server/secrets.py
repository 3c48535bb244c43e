"""The API key in what a server sends: it is replaced where replies enter, so that nothing behind can write it down.

Servers and proxies echo requests: in error messages, in the list of models, in fingerprints, even in answers.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from typing import Any
from urllib.parse import quote, quote_plus

log = logging.getLogger(__name__)

MASKED = "***"
SHORTEST = 8
SHORTEST_WORD = 20
"""Characters.  A shorter key, or a shorter one of letters only, is a placeholder for servers without keys (``EMPTY``),
and may be a word of an answer."""


class Mask:
    """Replaces a key by ``***``, also where it is spelled as URLs, JSON, HTML or basic authentication spell it.

    Args:
        key: None for no key.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._reported = False
        self._pattern: re.Pattern[str] | None = None
        if key is not None and len(key) >= (SHORTEST_WORD if key.isalpha() else SHORTEST):
            forms = sorted(_spellings(key), key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, forms)))

    def message(self, text: str) -> str:
        """A message without the key, be it a placeholder."""
        text = self.text(text)
        return text if self._key is None else text.replace(self._key, MASKED)

    def text(self, text: str) -> str:
        """A text of a reply without the key; the first key that is found is reported."""
        if self._pattern is None:
            return text
        found, count = self._pattern.subn(MASKED, text)
        if count and not self._reported:
            self._reported = True
            log.warning("the server's replies contain the API key; it is replaced by %s", MASKED)
        return found

    def value(self, value: Any) -> Any:
        """A JSON value without the key in any of its texts and names."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if isinstance(value, dict):
            return {self.text(name): self.value(one) for name, one in value.items()}
        return value


def _spellings(key: str) -> set[str]:
    encoded = {quote(key, safe=""), quote(key), quote_plus(key)}
    basic = {base64.b64encode(text.encode()).decode().rstrip("=") for text in (key, f":{key}", f"Bearer {key}")}
    return {
        key, json.dumps(key)[1:-1], repr(key)[1:-1], html.escape(key), html.escape(key, quote=False), *basic,
        *encoded, *(re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in encoded),
    }  # fmt: skip
