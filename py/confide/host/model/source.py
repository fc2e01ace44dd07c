"""Which files of a model's folder go onto its disk: regular files, by name and content alone.

Owners, modes, times, hard links, extended attributes and empty folders do not go in. Hidden files
and folders are left out. Tools keep their own state there (.git, .cache with the times of a
download), and the bits would depend on how the model was downloaded.
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
    """A file of the model.

    Attributes:
        path: Its path on the disk ("a/b").
        source: The file to read.
        size: Its size in bytes.
        modified_ns: When it was last changed, in nanoseconds since 1970.
    """

    path: str
    source: Path
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Source:
    """The files of a model.

    Attributes:
        folder: The model's folder, without symbolic links in its path.
        files: Every file, in the order of the paths' UTF-8 bytes.
        left_out: The hidden paths, which are not packed.
    """

    folder: Path
    files: tuple[SourceFile, ...]
    left_out: tuple[str, ...]

    def folders(self) -> tuple[str, ...]:
        """Every folder that has a file in it; an outer folder comes before its inner ones."""
        parents = {p for file in self.files for p in PurePosixPath(file.path).parents}
        return tuple(sorted((str(p) for p in parents if p.name), key=os.fsencode))

    def require_unchanged(self) -> None:
        """Check that each file still has the size and time that `scan` found.

        Raises:
            ConfigError: "model-changed": a file was changed or removed.
        """
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
                    next="pack again when nothing writes to the folder; that starts from zero",
                )


def scan(folder: Path) -> Source:
    """Find the files that go onto the disk.

    A symbolic link to a file is packed as that file if it leads to a place inside the folder. In a
    snapshot of a Hugging Face cache it may also lead to the `blobs` of that cache.

    Raises:
        ConfigError: "unreadable-model": the folder cannot be read. "bad-model-file": it has another
            link, or something that is neither file nor folder, or a name that is not printable
            UTF-8. "empty-model": it has no data.
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
    return Source(top, tuple(files), tuple(sorted(left_out)))


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
        next="remove it, or replace it with a copy of the file that you want",
    )
