"""The documentation as data: the commands of its pages in order, and what comments say of them.

A comment before a fenced bash block speaks of that block:

    <!-- not run: REASON -->                why its commands are only checked, and not executed
    <!-- run with: --config.a.b=VALUE -->   what is added to its `train` commands when they run
    <!-- given: runs/b, data/pets -->       what must be there before it, made for the test;
                                            runs/b=runs/a is a copy of what the page has made
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import string
from pathlib import Path

from front_door import ROOT

PAGES = tuple(sorted((ROOT / "docs").glob("*.md"))) + (ROOT / "README.md",)

_BLOCK = re.compile(r"((?:^<!--(?:(?!-->).)*-->\s*\n)*)^```(\w*)\n(.*?)^```$", re.M | re.S)
_NOTE = re.compile(r"<!--\s*([\w ]+?):\s*(.*?)\s*-->", re.S)
_NOTES = ("not run", "run with", "given")
_INLINE = re.compile(r"`([^`\n]+)`")
_ENDS = {"&&", "||", ";", "|", "&"}


@dataclasses.dataclass(frozen=True)
class Command:
    """One simple command of a page.

    Attributes:
      words: as the shell would split it, variables of the page replaced.
      not_run: the reason why it is only checked; empty if it is to run.
      run_with: words for a `train` command that runs.
      given: paths that must exist before it.
    """

    words: tuple[str, ...]
    not_run: str = ""
    run_with: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(self.words)


def commands(page: Path) -> list[Command]:
    """Those of the page's bash blocks, in order."""
    found, variables = [], {}
    for notes, language, text in _BLOCK.findall(page.read_text()):
        if language != "bash":
            continue
        said = {name: " ".join(value.split()) for name, value in _NOTE.findall(notes)}
        unknown = said.keys() - set(_NOTES)
        assert not unknown, f"{page.name}: comment {unknown}; valid: {_NOTES}"
        for words in simple_commands(text):
            words = [string.Template(word).safe_substitute(variables) for word in words]
            if len(words) == 1 and re.fullmatch(r"\w+=.*", words[0]):
                name, _, value = words[0].partition("=")
                variables[name] = value
                continue
            found.append(
                Command(
                    tuple(words),
                    not_run=said.get("not run", ""),
                    run_with=tuple(shlex.split(said.get("run with", ""))),
                    given=tuple(re.findall(r"[^\s,]+", said.get("given", ""))),
                )
            )
    return found


def simple_commands(text: str) -> list[list[str]]:
    """The words of each simple command of shell text; comments are left out."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        reader.whitespace_split = True
        words: list[str] = []
        for word in (*reader, ";"):
            if word not in _ENDS:
                words.append(word)
            elif words:
                found.append(words)
                words = []
    return found


def other_languages(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks that are not bash."""
    blocks = _BLOCK.findall(page.read_text())
    return [(language, text) for _, language, text in blocks if language != "bash"]


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return _INLINE.findall(_BLOCK.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text()), re.M)
    bare = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in bare}


def links(page: Path) -> list[str]:
    """The targets of its links and pictures."""
    text = _BLOCK.sub("", page.read_text())
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "", text))
