"""Making a model disk: the layout, then all data and its hashes in one pass, then the tree.

An interrupted pack goes on where it was: see `Journal`. Only the standard library and
modules without dependencies are needed, so that the flake's builder is this very code.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from confide.errors import ConfigError
from confide.host.model import hashing
from confide.host.model.hashing import Segment, hash_blocks, in_order, processes, read, segments
from confide.host.model.layout import Layout, Piece, make_layout
from confide.host.model.progress import Progress
from confide.host.model.source import Source
from confide.protocol.engine_options import EngineOptions
from confide.protocol.hash_tree import BLOCK, disk_size, levels, root_hash
from measure.declare import encode

CHECKPOINT_SEGMENTS = 128
"""After so many segments, 1 GiB, all that is done is on the disk and noted."""


@dataclass(frozen=True)
class PackedDisk:
    """A finished disk: root hash and SHA-256 of the whole file (32 bytes each), sizes in bytes."""

    root_hash: bytes
    hash_offset: int
    size: int
    sha256: bytes

    def entry(
        self, name: str, tasks: Sequence[str], roles: Sequence[str], engine: EngineOptions
    ) -> dict[str, object]:
        """The disk's entry in a manifest's list of models."""
        return {
            "name": name,
            "root_hash": self.root_hash.hex(),
            "hash_offset": self.hash_offset,
            "tasks": list(tasks),
            "roles": list(roles),
            "engine": encode(engine),
        }


def write_entry(path: Path, entry: dict[str, object]) -> None:
    """Write model.json, which `confide manifest build --model` reads."""
    path.write_text(json.dumps(entry, indent=2, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Fill:
    """What a process does with a segment of `disk`: pieces of files into it, and its hashes."""

    disk: Path
    segment: Segment
    pieces: tuple[Piece, ...]


@dataclass
class Journal:
    """How much of a disk is done, beside it: {"plan": HEX, "segments": N}, and its lock.

    `plan` is the SHA-256 of which files, of which size and time, go where, and of how large a
    segment is; if that changed, the pack starts from zero. The first `segments` segments of the
    data, and their hashes, are on the disk for good. Done again after an interruption are the
    layout and the tree above the leaves (below 1 % of the time), up to CHECKPOINT_SEGMENTS
    segments, and the SHA-256 of the whole file: it depends on every byte before, so what was done
    is read, but not written, once more.
    """

    descriptor: int
    plan: str
    segments: int = 0

    def resume(self) -> bool:
        """Take over what was noted, if it is of this plan."""
        try:
            noted = json.loads(os.pread(self.descriptor, 4096, 0))
            plan, done = noted["plan"], int(noted["segments"])
        except (ValueError, KeyError, TypeError):  # new, or the machine stopped while it was noted
            return False
        if plan != self.plan or done < 0:
            return False
        self.segments = done
        return True

    def note(self, segments: int) -> None:
        """Note that so many segments are done."""
        self.segments = segments
        text = json.dumps({"plan": self.plan, "segments": segments}) + "\n"
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, text.encode())
        os.fsync(self.descriptor)


def pack(
    source: Source, output: Path, tools: Path, progress: Callable[[int], Progress]
) -> PackedDisk:
    """Make the model disk `output` of what `scan` found.

    The bits depend on paths and contents of the files, and on the version of the tools. `progress`
    gets the number of bytes of the disk, and what it returns counts them. Raises ConfigError if the
    file exists, there is no room, a tool fails, or a file changes meanwhile; OSError if it cannot
    be read or written. Until it is finished, the disk is OUTPUT.partial beside a journal.
    """
    if output.exists():
        raise ConfigError(
            "disk-exists",
            "there is a file in the place of the disk already",
            seen=str(output),
            next="remove it or choose another name; a finished disk is never written over",
        )
    partial = output.with_name(output.name + ".partial")
    journal_file = output.with_name(output.name + ".journal")
    with _locked(journal_file) as descriptor:
        with tempfile.TemporaryDirectory(prefix=output.name + ".", dir=output.parent) as scratch:
            layout = make_layout(source, tools, Path(scratch))
            journal = Journal(descriptor, _plan(layout))
            size = disk_size(layout.data_blocks)
            resumed = journal.resume() and partial.exists() and partial.stat().st_size == size
            written = partial.stat().st_blocks * 512 if resumed else 0
            if not resumed:
                partial.unlink(missing_ok=True)
            _require_space(output.parent, size - written)
            if not resumed:
                os.truncate(layout.image, size)
                layout.image.rename(partial)
                journal.note(0)
        digest = hashlib.sha256()
        count = progress(size)
        _fill(partial, layout, journal, digest.update, count)
        root = _finish_tree(partial, layout.data_blocks, digest.update, count)
        source.require_unchanged()
        _sync(partial)
        partial.rename(output)
        journal_file.unlink()
    return PackedDisk(root, layout.data_blocks * BLOCK, size, digest.digest())


def _plan(layout: Layout) -> str:
    facts = [
        [str(piece.file.source), piece.file.size, piece.file.modified_ns, piece.offset]
        for piece in layout.pieces
    ]
    plan = [hashing.SEGMENT_BLOCKS, _sparse_digest(layout), facts]
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def _sparse_digest(layout: Layout) -> str:
    """SHA-256 of all that the layout has beside the files' data: names, modes, places."""
    digest = hashlib.sha256()
    with layout.image.open("rb") as image:
        at = 0
        for piece in layout.pieces:
            image.seek(at)
            digest.update(image.read(piece.offset - at))
            at = piece.offset + piece.file.size
        image.seek(at)
        digest.update(image.read())
    return digest.hexdigest()


def _fill(
    disk: Path,
    layout: Layout,
    journal: Journal,
    hash_file: Callable[[bytes | memoryview], None],
    count: Progress,
) -> None:
    """Write the data and the leaves of the tree; hash the file as far as the data goes."""
    data, leaves, *_ = levels(layout.data_blocks)
    every = list(segments(data, leaves))
    tasks = (Fill(disk, s, _pieces_in(layout, s)) for s in every[journal.segments :])
    with disk.open("rb") as file, processes() as pool:
        filled = in_order(pool, fill, tasks)
        for number, segment in enumerate(every):
            if number >= journal.segments:
                next(filled)
                if (number + 1) % CHECKPOINT_SEGMENTS == 0:
                    _sync(disk)
                    journal.note(number + 1)
            hash_file(read(file.fileno(), segment.offset, segment.size))
            count(segment.size)


def fill(task: Fill) -> None:
    """Copy files' data into a segment and write its hashes. Raises OSError or ConfigError."""
    segment = task.segment
    with task.disk.open("r+b", buffering=0) as disk:
        buffer = read(disk.fileno(), segment.offset, segment.size)
        for piece in task.pieces:
            start = max(piece.offset, segment.offset)
            end = min(piece.offset + piece.file.size, segment.offset + segment.size)
            into = buffer[start - segment.offset : end - segment.offset]
            _copy(piece, start - piece.offset, into)
        if task.pieces:
            _write(disk.fileno(), buffer, segment.offset)
        _write(disk.fileno(), hash_blocks(buffer), segment.hashes)


def _pieces_in(layout: Layout, segment: Segment) -> tuple[Piece, ...]:
    end = segment.offset + segment.size
    return tuple(
        piece
        for piece in layout.pieces
        if piece.offset < end and segment.offset < piece.offset + piece.file.size
    )


def _copy(piece: Piece, offset: int, into: memoryview) -> None:
    """Fill `into` from `offset` of a file on."""
    with piece.file.source.open("rb", buffering=0) as file:
        file.seek(offset)
        done = 0
        while done < len(into):
            got = file.readinto(into[done:])
            if not got:
                raise ConfigError(
                    "model-changed",
                    f"the file {piece.file.path} became shorter while it was being packed",
                    next="pack again when nothing writes to the folder",
                )
            done += got


def _write(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def _finish_tree(
    disk: Path,
    data_blocks: int,
    hash_file: Callable[[bytes | memoryview], None],
    count: Progress,
) -> bytes:
    """Write the tree above its leaves, hash the file's rest; the root hash."""
    _, *tree = levels(data_blocks)
    with disk.open("rb") as file, processes() as pool:
        for level, above in pairwise(tree):
            tasks = (Fill(disk, segment, ()) for segment in segments(level, above))
            for _ in in_order(pool, fill, tasks):
                pass
        file.seek(tree[-1].offset)
        top = file.read(BLOCK)
        file.seek(tree[-1].offset)
        while chunk := file.read(1 << 20):
            hash_file(chunk)
            count(len(chunk))
    return root_hash(top)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file to read and write, for this process alone."""
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "being-packed", "another process is making this disk", seen=str(path)
            ) from error
        try:
            yield file.fileno()
        finally:
            if os.fstat(file.fileno()).st_size == 0:  # nothing was begun
                path.unlink(missing_ok=True)


def _require_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ConfigError(
            "no-space",
            f"there is no room for the disk in {folder}",
            expected=f"{need} bytes free",
            seen=f"{free} bytes",
            next="make room or choose another place; what was done so far is kept",
        )


def _sync(path: Path) -> None:
    """Wait until all that was written to a file is on its disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
