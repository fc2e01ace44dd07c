"""The files that packing writes. They are never its input, and they replace no other file."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfigError
from confide.host.model.layout import is_model_disk
from confide.host.model.source import Source

JOURNAL_START = b'{"plan": '


@dataclass(frozen=True)
class Outputs:
    """The files that packing the disk `disk` writes, all in one folder."""

    disk: Path

    @property
    def partial(self) -> Path:
        """The disk until it is finished."""
        return self.disk.with_name(self.disk.name + ".partial")

    @property
    def journal(self) -> Path:
        """How much of the unfinished disk is done."""
        return self.disk.with_name(self.disk.name + ".journal")

    @property
    def entry(self) -> Path:
        """The disk's entry for a manifest: model.disk has model.json."""
        return self.disk.with_name(self.disk.name.removesuffix(".disk") + ".json")

    def require_free(self, source: Source) -> None:
        """Check that packing `source` can write these files.

        Raises:
            ConfigError: "disk-in-model": they would be in the model's folder, or a model disk is
                there already. "disk-exists", "entry-exists", "file-in-the-way": one of them exists,
                and not as an earlier pack left it to be continued.
            OSError: A file cannot be read.
        """
        # Refused, and not left out: with another name for the disk, the next pack would take this
        # one as input, and the same folder would no longer give the same bits.
        if self.disk.parent.resolve().is_relative_to(source.folder):
            raise ConfigError(
                "disk-in-model",
                "the disk would be in the folder that is packed, and so become part of the model",
                expected=f"a place outside {source.folder}",
                seen=str(self.disk),
                next="choose another --output, for example ../model.disk",
            )
        for file in source.files:
            if is_model_disk(file.source):
                raise ConfigError(
                    "disk-in-model",
                    f"{file.path!a} in the model's folder is a model disk, finished or unfinished",
                    expected="only files of the model",
                    next="move it out of the folder (or remove it, with its .journal and .json)",
                )
        if os.path.lexists(self.disk):
            raise ConfigError(
                "disk-exists",
                "a file with the name of the disk exists; pack never replaces a finished disk",
                seen=str(self.disk),
                next="remove it or choose another name",
            )
        require_no_entry(self.entry)
        if self.partial.is_symlink() or (self.partial.exists() and not is_model_disk(self.partial)):
            raise _in_the_way(self.partial, "an unfinished model disk")
        if self.journal.is_symlink() or not _is_journal(self.journal):
            raise _in_the_way(self.journal, "a journal of an unfinished model disk")


def write_entry(path: Path, entry: dict[str, object]) -> None:
    """Write a disk's entry, which `confide manifest build --model` reads: whole or not at all.

    Raises:
        ConfigError: "entry-exists": the file exists.
        OSError: It cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=path.name + ".", dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        with made.open("w", encoding="ascii") as file:
            file.write(json.dumps(entry, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        require_no_entry(path)
        made.rename(path)


def require_no_entry(path: Path) -> None:
    """Check that no file is where an entry goes. Raises ConfigError "entry-exists"."""
    if os.path.lexists(path):
        raise ConfigError(
            "entry-exists",
            "a file with the name of the disk's entry exists; pack never replaces it",
            seen=str(path),
            next="move it away (or remove it, if it is the entry of an older disk), "
            "or choose another name for the disk",
        )


def _is_journal(path: Path) -> bool:
    """Whether a file is a journal, or absent. A crash may leave one empty or full of zeros."""
    try:
        with path.open("rb") as file:
            start = file.read(len(JOURNAL_START))
    except FileNotFoundError:
        return True
    return start == JOURNAL_START or not start.strip(b"\0")


def _in_the_way(path: Path, expected: str) -> ConfigError:
    return ConfigError(
        "file-in-the-way",
        "packing needs the name of a file that exists",
        expected=f"{expected}, or no file",
        seen=str(path),
        next="move it away or choose another name for the disk",
    )
