"""The list of recorded vectors, sources.json, and the folder that `make vectors` fills.

README.md beside this file says what each part of the list is for. Only Python's standard library
is imported, because `make vectors` runs before anything is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

LIST = Path(__file__).with_name("sources.json")
MAX_SIZE = 8 << 20  # bytes of one file
COMPLETE = ".complete"  # names the list that a filled folder is complete for

_HEX = {"sha256": re.compile("[0-9a-f]{64}"), "commit": re.compile("[0-9a-f]{40}")}
_REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")


class SourcesError(Exception):
    """The list is malformed; says where, what was expected and what is there."""


@dataclass(frozen=True)
class Entry:
    """A file of the folder: its path there, its size in bytes, and its SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def problem(self, data: bytes) -> str | None:
        """What is wrong with `data` as this file, None if nothing is."""
        if len(data) > self.size:
            return f"it has more than the {self.size} bytes expected"
        if len(data) < self.size:
            return f"it has {len(data)} bytes, {self.size} expected"
        if (seen := hashlib.sha256(data).hexdigest()) != self.sha256:
            return f"its SHA-256 is {seen}, {self.sha256} expected"
        return None

    def read(self, folder: Path) -> bytes:
        """The file in `folder`, at most one byte more than it should have. OSError if absent."""
        with (folder / self.path).open("rb") as file:
            return file.read(self.size + 1)

    def is_in(self, folder: Path) -> bool:
        """Whether `folder` has this file, with the right content."""
        try:
            return self.problem(self.read(folder)) is None
        except OSError:
            return False


@dataclass(frozen=True)
class Published(Entry):
    """A file that a public repository has as `origin`, at a commit.

    `license` is an SPDX identifier. `proven` is false if nobody has compared the hash with the
    repository's own record of that commit.
    """

    repository: str
    commit: str
    origin: str
    license: str
    proven: bool = True


@dataclass(frozen=True)
class Unpublished(Entry):
    """A file of ours that nobody can fetch or make, and the reason."""

    reason: str


@dataclass(frozen=True)
class Sources:
    """The four parts of the list, each in the order of paths.

    Tests read what is published, derived and unpublished. The inputs are published too, and are
    fetched only to make the derived files of them.
    """

    published: tuple[Published, ...]
    inputs: tuple[Published, ...]
    derived: tuple[Entry, ...]
    unpublished: tuple[Unpublished, ...]
    sha256: str

    def is_complete(self, folder: Path) -> bool:
        """Whether `folder` was filled from exactly this list, to the end."""
        try:
            return (folder / COMPLETE).read_text().strip() == self.sha256
        except (OSError, UnicodeDecodeError):
            return False

    def mark_complete(self, folder: Path) -> None:
        """Notes that `folder` has every published and every derived file of this list."""
        (folder / COMPLETE).write_text(f"{self.sha256}\n")


def cache() -> Path:
    """The folder that `make vectors` fills: $XDG_CACHE_HOME/confide/vectors."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "confide" / "vectors"


def read(path: Path = LIST) -> Sources:
    """The list in a file. SourcesError if it is malformed, OSError if it cannot be read."""
    text = path.read_bytes()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SourcesError(f"{path} is not JSON: {error}") from None
    parts = ("published", "inputs", "derived", "unpublished")
    if not isinstance(value, dict) or set(value) != set(parts):
        raise SourcesError(f"{path}: expected an object with {', '.join(parts)}")
    sources = Sources(
        _part(value, "published", Published),
        _part(value, "inputs", Published),
        _part(value, "derived", Entry),
        _part(value, "unpublished", Unpublished),
        hashlib.sha256(text).hexdigest(),
    )
    paths = [entry.path for part in parts for entry in getattr(sources, part)]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise SourcesError(f"{path}: {twice[0]} is listed twice")
    return sources


_AnyEntry = TypeVar("_AnyEntry", bound=Entry)


def _part(value: dict[str, Any], part: str, kind: type[_AnyEntry]) -> tuple[_AnyEntry, ...]:
    """One part of the list. SourcesError if an entry is malformed or not in order."""
    if not isinstance(value[part], list):
        raise SourcesError(f"{part}: expected a list")
    entries = []
    for number, item in enumerate(value[part]):
        where = f"{part}[{number}]"
        try:
            entry = kind(**item)
        except TypeError as error:  # also if it is not an object
            raise SourcesError(f"{where}: wrong fields: {error}") from None
        for name, field in vars(entry).items():
            _check(where, name, field)
        entries.append(entry)
    paths = [entry.path for entry in entries]
    if paths != sorted(paths):
        raise SourcesError(f"{part}: expected entries in the order of their paths")
    return tuple(entries)


def _check(where: str, name: str, value: object) -> None:
    """SourcesError unless the value is one that the field `name` can have."""
    if name == "proven":
        valid, expected = isinstance(value, bool), "true or false"
    elif name == "size":
        valid = type(value) is int and 0 <= value <= MAX_SIZE
        expected = f"a number of bytes up to {MAX_SIZE}"
    elif not isinstance(value, str) or not value:
        valid, expected = False, "text"
    elif name in _HEX:
        pattern = _HEX[name]
        valid, expected = bool(pattern.fullmatch(value)), f"hex, {pattern.pattern}"
    elif name == "repository":
        valid, expected = bool(_REPOSITORY.fullmatch(value)), "OWNER/NAME"
    elif name in ("path", "origin"):
        valid, expected = _is_safe(value), "a relative path without '..' and '\\'"
    else:
        return
    if not valid:
        raise SourcesError(f"{where}: {name} is {value!r}; expected {expected}")


def _is_safe(path: str) -> bool:
    """Whether a path stays inside the folder that it is resolved in, on any system."""
    pure = PurePosixPath(path)
    inside = not pure.is_absolute() and ".." not in pure.parts and str(pure) == path
    return inside and not any(mark in path for mark in "\\:\0")
