"""What of a model's folder goes onto its disk: regular files, by name and content alone.

Owners, modes, times, hard links, extended attributes and empty folders do not go in. Hidden files
and folders are left out: they are what tools keep for themselves (.git, .cache with the times of a
download) and would make the bits depend on how the model got here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from confide.errors import ConfigError


@dataclass(frozen=True)
class SourceFile:
    """A file: its `path` on the disk ("a/b"), where it is read, its bytes, when it was changed."""

    path: str
    source: Path
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Source:
    """Every file in the order of the paths' UTF-8 bytes, and the hidden paths left out."""

    files: tuple[SourceFile, ...]
    left_out: tuple[str, ...]

    def folders(self) -> tuple[str, ...]:
        """Every folder that a file is in, each after the one that it is in."""
        parents = {p for file in self.files for p in PurePosixPath(file.path).parents}
        return tuple(sorted((str(p) for p in parents if p.name), key=os.fsencode))

    def require_unchanged(self) -> None:
        """Raises ConfigError if a file is no longer as it was found."""
        for file in self.files:
            try:
                now = file.source.stat()
                same = (now.st_size, now.st_mtime_ns) == (file.size, file.modified_ns)
            except OSError:
                same = False
            if not same:
                raise ConfigError(
                    "model-changed",
                    f"the file {file.path} was changed while it was being packed",
                    next="pack again when nothing writes to the folder; it starts from zero",
                )


def scan(folder: Path) -> Source:
    """Find what goes onto the disk.

    A symbolic link to a file is packed as that file, if it leads to a place inside the folder, or,
    for a snapshot in a Hugging Face cache, to the cache's own `blobs`. Raises ConfigError for any
    other link, for what is neither file nor folder, for a name that is not printable UTF-8, and if
    there is no data.
    """
    try:
        top = folder.resolve(strict=True)
        files, left_out = _scan(top, "", _link_targets(top))
    except OSError as error:
        raise ConfigError(
            "unreadable-model",
            "the model's folder cannot be read",
            expected=str(folder),
            seen=error.strerror or type(error).__name__,
        ) from error
    if not any(file.size for file in files):
        raise ConfigError(
            "empty-model",
            "the model's folder has no data",
            expected="weights and configuration",
            seen=str(folder),
        )
    files.sort(key=lambda file: file.path.encode())
    return Source(tuple(files), tuple(sorted(left_out)))


def _link_targets(top: Path) -> tuple[Path, ...]:
    """The folders that links may lead into."""
    return (top, top.parents[1] / "blobs") if top.parent.name == "snapshots" else (top,)


def _scan(
    folder: Path, prefix: str, targets: tuple[Path, ...]
) -> tuple[list[SourceFile], list[str]]:
    files: list[SourceFile] = []
    left_out: list[str] = []
    for entry in _entries(folder):
        path = prefix + entry.name
        if entry.name.startswith("."):
            left_out.append(path)
            continue
        if not entry.name.isprintable():  # undecodable bytes are lone surrogates: not printable
            raise _refused(path, "has a name that is not printable UTF-8")
        if entry.is_dir(follow_symlinks=False):
            inner_files, inner_left_out = _scan(Path(entry.path), path + "/", targets)
            files += inner_files
            left_out += inner_left_out
            continue
        source = _follow(entry, path, targets) if entry.is_symlink() else Path(entry.path)
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "is neither a file nor a folder")
        files.append(SourceFile(path, source, status.st_size, status.st_mtime_ns))
    return files, left_out


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted(entries, key=lambda entry: entry.name)


def _follow(entry: os.DirEntry[str], path: str, targets: tuple[Path, ...]) -> Path:
    """The file that a link leads to."""
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a loop is a RuntimeError before Python 3.13
        raise _refused(path, "is a symbolic link that leads nowhere") from error
    if target.is_dir():
        raise _refused(path, "is a symbolic link to a folder")
    if not any(target.is_relative_to(allowed) for allowed in targets):
        raise _refused(path, f"is a symbolic link that leads out of the folder, to {target}")
    return target


def _refused(path: str, what: str) -> ConfigError:
    return ConfigError(
        "bad-model-file",
        f"{path!a} {what}",
        expected="regular files and folders, and links to files of the model",
        next="remove it, or put a copy of what is meant in its place",
    )
