"""What the user gives in place of the protocol's and the checkpoint's prompts: ``--system``, ``--prompt``,
``--chat-template``, ``--thinking``.

All of it changes answers, so its digests are part of the run identity and of the signature, and its text is recorded in
the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from string import Formatter
from typing import Any

from evalkit.errors import UserError
from evalkit.options import AUTO, THINKING
from evalkit.paths import user_path
from evalkit.types import PLACEHOLDERS, Message, TextPart

LARGEST = 1_000_000
"""Bytes of a file with a prompt; none is as long."""
FILE_LIKE = (".txt", ".md", ".jinja", ".jinja2", ".j2", ".prompt")


@dataclass(frozen=True)
class GivenPrompts:
    """The prompts that the user gives.

    Attributes:
        system: the text of a system turn before each conversation; None for none.
        templates: the text of a task's prompts, with the placeholders of ``PromptTemplate``, by the task's name.
        chat_template: the source of the chat template to render conversations with; None for the checkpoint's.
        thinking: what the chat template is told of thinking; None for nothing.
    """

    system: str | None = None
    templates: Mapping[str, str] = field(default_factory=dict, hash=False)
    chat_template: str | None = None
    thinking: bool | None = None

    def parts(self) -> dict[str, Any]:
        """The part of the run identity that all splits share; empty if nothing is given."""
        given = {"system": self.system, "chat_template": self.chat_template}
        found = {name: digest_of(text) for name, text in given.items() if text is not None}
        return found | ({} if self.thinking is None else {"thinking": "on" if self.thinking else "off"})

    def signature(self, task: str) -> list[str]:
        """The parts of a signature: ``system:1f40fc92``."""
        found = {**self.parts(), **({"prompt": digest_of(self.templates[task])} if task in self.templates else {})}
        return [f"{name}:{digest}" for name, digest in found.items()]

    def before(self, messages: Sequence[Message], family: str) -> tuple[Message, ...]:
        """The conversation with the system turn at its beginning.

        Raises:
            UserError: the family's prompts have no turns.
        """
        if self.system is None:
            return tuple(messages)
        if messages[0].role == "plain":
            raise UserError(
                f"--system: prompts of the family {family} are plain text, without turns; leave it out, or change the "
                "text with --prompt TASK=FILE."
            )
        return (Message("system", (TextPart(self.system),)), *(m for m in messages if m.role != "system"))

    def to_dict(self) -> dict[str, Any]:
        """What the manifest records."""
        found = {"system": self.system, "templates": dict(self.templates), "chat_template": self.chat_template}
        found |= {} if self.thinking is None else {"thinking": "on" if self.thinking else "off"}
        return {name: value for name, value in found.items() if value}

    @classmethod
    def from_dict(cls, content: Any) -> GivenPrompts:
        """What ``to_dict`` returned; from a file that may be corrupt, only what can be right."""
        if not isinstance(content, Mapping):
            return cls()
        templates = content.get("templates")
        pairs = templates.items() if isinstance(templates, Mapping) else ()
        return cls(
            _text_or_none(content.get("system")),
            {str(task): text for task, text in pairs if isinstance(text, str) and not problem_of(text)},
            _text_or_none(content.get("chat_template")),
            {"on": True, "off": False}.get(str(content.get("thinking"))),
        )


NOTHING_GIVEN = GivenPrompts()


def given_prompts(
    *,
    system: str | PathLike[str] | None = None,
    prompt: Sequence[str] | Mapping[str, str] = (),
    chat_template: str | PathLike[str] | None = None,
    thinking: str = AUTO,
    options: bool = True,
) -> GivenPrompts:
    """The prompts that options or arguments give.

    Args:
        system: a text, or the name of a file with it.
        prompt: ``TASK=FILE`` each; or texts by the task's name.
        chat_template: the name of a file.
        thinking: one of ``evalkit.options.THINKING``.
        options: whether messages name options (``--system``) or arguments (``system``).

    Raises:
        UserError: a file is missing, unreadable, empty, or not what it must be.
    """
    name = "--system" if options else "system"
    found_system = None if system is None else _system(system, name)
    templates: dict[str, str] = {}
    if isinstance(prompt, Mapping):
        for task, text in prompt.items():
            templates[task] = check_template(str(text), f"prompts[{task!r}]")
    else:
        for given in prompt:
            task, equals, file = given.partition("=")
            if not equals or not task.strip() or not file.strip():
                raise UserError(f"--prompt {given}: give TASK=FILE, for example --prompt vqav2=prompt.txt.")
            if task.strip() in templates:
                raise UserError(f"--prompt {given}: {task.strip()} has two prompts; give one for each task.")
            where = f"--prompt {given}"
            templates[task.strip()] = check_template(_content(user_path(file.strip(), "--prompt"), where), where)
    template = None
    if chat_template is not None:
        where = f"{'--chat-template' if options else 'chat_template='} {fspath(chat_template)}"
        template = _chat_template(user_path(fspath(chat_template), "--chat-template"), where)
    if thinking not in THINKING:
        raise UserError(f"thinking={thinking!r}: unknown; use {', '.join(THINKING[:-1])} or {THINKING[-1]}.")
    switch = None if thinking == AUTO else thinking == "on"
    return GivenPrompts(found_system, templates, template, switch)


def check_tasks(given: GivenPrompts, tasks: Sequence[str], *, required: bool) -> GivenPrompts:
    """The prompts of the tasks that are run.

    Args:
        required: whether a prompt for another task is a mistake; in a settings file it is not.

    Raises:
        UserError: a prompt is for another task.
    """
    other = [task for task in given.templates if task not in tasks]
    if other and required:
        raise UserError(
            f"--prompt {other[0]}=…: {other[0]} is not a task of this run ({', '.join(dict.fromkeys(tasks))})."
        )
    return replace(given, templates={task: text for task, text in given.templates.items() if task in tasks})


def check_template(text: str, where: str) -> str:
    """``text``, if its placeholders are known.  Raises ``UserError``; ``where`` is how the message begins."""
    if problem := problem_of(text):
        raise UserError(f"{where}: {problem}.")
    return text


def problem_of(text: str) -> str:
    """What is wrong with a prompt's template; empty if nothing is."""
    if not text.strip():
        return "it is empty"
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    braces = "braces that are not placeholders are doubled, as in \\boxed{{}}"
    try:
        fields = [(name, spec, change) for _, name, spec, change in Formatter().parse(text) if name is not None]
    except ValueError as error:
        return f"{error}; {braces}"
    for name, spec, change in fields:
        if name not in PLACEHOLDERS or spec or change:
            shown = name + (f"!{change}" if change else "") + (f":{spec}" if spec else "")
            return f"{{{shown[:40]}}} is no placeholder; there are {known}; {braces}"
    return ""


def digest_of(text: str) -> str:
    """A short digest of a prompt: 8 hex digits."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


# --------------------------------------------------------------------------------------------------------------- files


def _system(given: str | PathLike[str], option: str) -> str:
    text = fspath(given)
    if "\n" not in text and "\0" not in text and len(text) < 4096:
        path = user_path(text, option) if len(text) < 256 else Path(text)
        if _is_file(path):
            return _content(path, f"{option} {text}")
        one_word = len(text.split()) == 1
        if isinstance(given, PathLike) or (one_word and ("/" in text or text.lower().endswith(FILE_LIKE))):
            raise UserError(f"{option} {text}: there is no such file; give a file's name, or the text itself.")
    if not text.strip():
        raise UserError(f"{option}: it is empty; leave it out, or give a text or a file's name.")
    return text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _content(path: Path, where: str) -> str:
    """The text of a file, without the line break at its end."""
    try:
        if not path.exists():
            raise UserError(f"{where}: there is no such file.")
        if not path.is_file():
            raise UserError(f"{where}: it is not a file.")
        if path.stat().st_size > LARGEST:
            raise UserError(f"{where}: it has more than {LARGEST:,} bytes, too many for a prompt.")
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    except OSError as error:
        raise UserError(f"{where}: it cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: it is not a text in UTF-8 ({error.reason}).") from error
    if "\0" in text:
        raise UserError(f"{where}: it is not a text (it has NUL characters).")
    text = text.replace("\r\n", "\n").removesuffix("\n")
    if not text.strip():
        raise UserError(f"{where}: the file is empty.")
    return text


def _chat_template(path: Path, where: str) -> str:
    """A chat template in a file of its own, or in ``chat_template.json`` and ``tokenizer_config.json``."""
    text = _content(path, where)
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: it is not valid JSON.") from error
        found = content.get("chat_template") if isinstance(content, dict) else None
        if not isinstance(found, str) or not found.strip():
            raise UserError(f"{where}: it has no text under 'chat_template'; give the template itself.")
        text = found
    from evalkit.chat_template import syntax_error

    if why := syntax_error(text):
        raise UserError(f"{where}: it is not a chat template in Jinja ({why}).")
    return text


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
