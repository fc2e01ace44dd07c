"""Check a kernel's configuration: what was asked for, what must be there, what must not.

Kconfig drops a line that it does not know, or that a dependency forbids, without a word. So the
final configuration is compared with three things: the files of images/kernel that asked for it
(CONFIG_NAME=value, "n" for left out), required.list (the same form), and forbidden.list (a name a
line, "*" for any letters).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping

import tree

LINE = re.compile(r"(CONFIG_\w+)=(.+)")
# An option without a value in .config is left out; these values say the same.
ABSENT = frozenset({"n", "0", '""'})


def lines(text: str) -> list[str]:
    """The lines of a list that are neither empty nor a comment."""
    return [line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]


def parse(texts: Iterable[str]) -> dict[str, str]:
    """{option: value} of some files together.

    Raises:
        tree.BuildError: A line is not CONFIG_NAME=value, or an option stands twice.
    """
    options: dict[str, str] = {}
    for line in (line for text in texts for line in lines(text)):
        if (match := LINE.fullmatch(line)) is None:
            raise tree.BuildError(f"kernel option {line!r}: expected CONFIG_NAME=value")
        name, value = match.groups()
        if name in options:
            raise tree.BuildError(f"{name} is set twice; keep one of the lines")
        options[name] = value
    return options


def missing(final: Mapping[str, str], wanted: Mapping[str, str], what: str) -> list[str]:
    """A sentence for each wanted option that has another value in the final configuration."""
    return [
        f"{name} is {final.get(name, 'n')}, {what} {value}"
        for name, value in wanted.items()
        if final.get(name, "n") != value
    ]


def present(final: Mapping[str, str], forbidden: Iterable[str]) -> list[str]:
    """A sentence for each option of the final configuration that a forbidden name matches."""
    patterns = list(forbidden)
    return [
        f"{name} is {value}, but forbidden ({pattern})"
        for name, value in final.items()
        if value not in ABSENT
        for pattern in patterns
        if fnmatch.fnmatchcase(name, pattern)
    ]


def check(final: str, asked: Iterable[str], required: str, forbidden: str) -> None:
    """Check the text of a final .config.

    Raises:
        tree.BuildError: Something differs; the message has a line for each option.
    """
    options = parse([final])
    problems = missing(options, parse(asked), "asked for was")
    problems += missing(options, parse([required]), "required is")
    problems += present(options, lines(forbidden))
    if problems:
        raise tree.BuildError("the kernel's configuration is wrong:\n  " + "\n  ".join(problems))
