"""Random changes to files: of bytes, lines and values, of parsed structure, and inside of containers.

Every change depends on the generator that is given, and on nothing else.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

VALUES = ("NaN", "Infinity", "1e999", "-1", "null", "true", '""', '"NaN"', "[]", "{}", "9" * 400, "[" * 5000, "0")
"""JSON values, and what is not JSON."""
ODD = (
    None, True, False, 0, -1, 3, 1.5, 1e300, math.nan, math.inf, 10**30, 10**400, "", "7", "x", "\n", "a\u2028b", "\ud800", "\0",
    "../../secret.png", "/etc/passwd", "..", "http://example.org/x.png", "é" * 200, "x" * 100_000, [], {}, [None], [1], [[]],
    ["x"], {"a": 1}, {"answer": "yes"}, [math.nan] * 4, [0, 0, 0, 0], [1, 2, 10**400, 4],
)  # fmt: skip
"""Values of parsed JSON."""


def text(content: bytes, random: Random) -> bytes:
    """One change of bits, bytes, spans, lines or values of a text file."""
    if not content:
        return random.randbytes(3)
    at, length = random.randrange(len(content)), random.randint(1, 40)
    lines = content.splitlines(keepends=True)
    kind = random.randrange(9)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + content[at + length :]
    if kind == 2:
        return content[:at] + content[at : at + length] + content[at:]
    if kind == 3:
        return content[:at]
    if kind == 4:
        return content[:at] + random.randbytes(random.randint(1, 4)) + content[at:]
    if kind == 5:
        lines.pop(random.randrange(len(lines)))
    elif kind == 6:
        lines.insert(random.randrange(len(lines)), random.choice(lines))
    elif kind == 7:
        random.shuffle(lines)
    else:  # a value
        starts = [place for place, byte in enumerate(content) if byte in b":[," and place + 1 < len(content)]
        start = random.choice(starts) + 1 if starts else at
        end = next((place for place in range(start, len(content)) if content[place] in b",}]\n"), len(content))
        return content[:start] + random.choice(VALUES).encode() + content[end:]
    return b"".join(lines)


def binary(content: bytes, random: Random) -> bytes:
    """A few changes of bits and spans; every other one is near the file's beginning or end, where its structure is."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        places = len(changed) + 1
        near = min(places, 300)
        at = random.choice((random.randrange(places), random.randrange(near), places - 1 - random.randrange(near)))
        length = random.choice((1, 2, 8, 100))
        match random.randrange(6):
            case 0 | 1:
                changed[at : at + 1] = bytes(byte ^ 1 << random.randrange(8) for byte in changed[at : at + 1])
            case 2:
                changed[at : at + length] = random.choice((random.randbytes(length), b"\0" * length, b"\xff" * length))
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case _:
                if random.random() < 0.3:
                    del changed[at:]
    return bytes(changed)


def structure(document: Any, random: Random) -> Any:
    """``document``, changed in place, at a place that is the likelier the more lies there; returns the document."""
    top = [document]
    holder: Any = top
    key: Any = 0
    while isinstance(holder[key], list | dict) and holder[key] and random.random() < 0.85:
        holder = holder[key]
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = random.choices(keys, [1 + len(v) if isinstance(v := holder[k], list | dict) else 1 for k in keys])[0]
    value = holder[key]
    how = random.choice(("odd", "odd", "odd", "without", "twice", "moved", "deeper", "text"))
    if how == "without" and holder is not top:
        del holder[key]
    elif how == "twice" and isinstance(holder, list) and holder is not top:
        holder.insert(random.randrange(len(holder)), copy.deepcopy(value))
    elif how == "moved":
        holder[random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))] = value
    elif how == "deeper":
        for _ in range(random.choice((1, 3, 300))):
            value = random.choice(([value], {"a": value}))
        holder[key] = value
    elif how in ("text", "twice") and isinstance(value, str):
        at = random.randrange(len(value) + 1)
        holder[key] = value[:at] + random.choice("aZ 7?é\n漢🙂'\"\\") + value[at:]
    else:
        holder[key] = copy.deepcopy(random.choice(ODD))
    return top[0]


def json_value(content: bytes, random: Random) -> bytes:
    """A JSON file, changed as a text or as a structure."""
    if random.random() < 0.5:
        return text(content, random)
    return json.dumps(structure(json.loads(content), random)).encode()


def json_lines(content: bytes, random: Random) -> bytes:
    """A file of JSON lines, changed as a text, or in one line's structure."""
    if random.random() < 0.5:
        return text(content, random)
    lines = content.splitlines(keepends=True)
    at = random.randrange(len(lines))
    lines[at] = json.dumps(structure(json.loads(lines[at]), random)).encode() + b"\n"
    return b"".join(lines)


def pickled(content: bytes, random: Random) -> bytes:
    """A pickle of plain data, changed in its bytes or its structure."""
    if random.random() < 0.5:
        return binary(content, random)
    return pickle.dumps(structure(pickle.loads(content), random), 2)


def zipped(content: bytes, random: Random) -> bytes:
    """A zip archive, changed in its bytes, or in one member, whose checksum is right then."""
    if random.random() < 0.3:
        return binary(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    members[name] = text(members[name], random)
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, value in members.items():
            archive.writestr(member, value)
    return changed.getvalue()


def safetensors(content: bytes, random: Random) -> bytes:
    """A safetensors file, changed in its bytes, or in its header, whose length is right then."""
    if random.random() < 0.5:
        return binary(content, random)
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    changed = json_value(header, random)
    return len(changed).to_bytes(8, "little") + changed + content[8 + length :]
