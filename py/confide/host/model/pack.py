"""Making a model disk: the layout, then all data and its hashes in one pass, then the tree.

An interrupted pack continues where it stopped: see `Journal`. This code needs only the standard
library and modules without dependencies, so that the flake's builder can run it too.
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
from confide.host.model.outputs import Outputs
from confide.host.model.progress import Progress
from confide.host.model.source import Source
from confide.protocol.engine_options import EngineOptions
from confide.protocol.hash_tree import BLOCK, disk_size, levels, root_hash
from confide.protocol.model import Model
from measure.declare import encode

CHECKPOINT_SEGMENTS = 128
"""After so many segments, 1 GiB, all that is done is on the disk and noted."""


@dataclass(frozen=True)
class PackedDisk:
    """A finished disk.

    Attributes:
        root_hash: The root of the hash tree, 32 bytes.
        hash_offset: Where the hash tree begins, in bytes.
        size: The size of the file in bytes.
        sha256: The SHA-256 of the whole file, 32 bytes.
    """

    root_hash: bytes
    hash_offset: int
    size: int
    sha256: bytes

    def entry(
        self, name: str, tasks: Sequence[str], roles: Sequence[str], engine: EngineOptions
    ) -> dict[str, object]:
        """The disk's entry in a manifest's list of models."""
        model = Model(name, self.root_hash, self.hash_offset, tuple(tasks), tuple(roles), engine)
        return encode(model)


@dataclass(frozen=True)
class Fill:
    """A process's task: copy pieces of files into a segment of `disk`, and write its hashes."""

    disk: Path
    segment: Segment
    pieces: tuple[Piece, ...]


@dataclass
class Journal:
    """How much of a disk is done, beside it: {"plan": HEX, "segments": N}, and its lock.

    `plan` is a SHA-256 of the files with their sizes and times, of the place of each, and of the
    size of a segment. If it changed, the pack starts from the beginning. The first `segments`
    segments of the data are on the disk, with their hashes. After an interruption, pack makes the
    layout and the tree above the leaves again (below 1 % of the time), and up to
    CHECKPOINT_SEGMENTS segments. It also reads the finished segments once more, because the SHA-256
    of the whole file depends on every byte before. It does not write them again.
    """

    descriptor: int
    plan: str
    segments: int = 0

    def resume(self) -> bool:
        """Continue after the segments that were noted, if they are of this plan."""
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
        """Note how many segments are done, and wait until the note is on the disk."""
        self.segments = segments
        text = json.dumps({"plan": self.plan, "segments": segments}) + "\n"
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, text.encode())
        os.fsync(self.descriptor)


def pack(
    source: Source, output: Path, tools: Path, progress: Callable[[int], Progress]
) -> PackedDisk:
    """Make a model disk of the files that `scan` found.

    The bits depend on the paths and contents of the files, and on the version of the tools. Until
    it is finished, the disk is OUTPUT.partial with OUTPUT.journal beside it.

    Args:
        source: The model's files.
        output: The disk to make.
        tools: A folder with bin/mkfs.erofs and bin/dump.erofs.
        progress: Gets the size of the disk in bytes, and returns a function that counts them.

    Raises:
        ConfigError: A file is in the way (outputs.py), "being-packed", "no-space",
            "no-model-tools", "mkfs-failed", or "model-changed".
        OSError: A file cannot be read or written.
    """
    outputs = Outputs(output)
    outputs.require_free(source)
    partial = outputs.partial
    with _locked(outputs.journal) as descriptor:
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
        outputs.journal.unlink()
    return PackedDisk(root, layout.data_blocks * BLOCK, size, digest.digest())


def _plan(layout: Layout) -> str:
    facts = [
        [str(piece.file.source), piece.file.size, piece.file.modified_ns, piece.offset]
        for piece in layout.pieces
    ]
    plan = [hashing.SEGMENT_BLOCKS, _sparse_digest(layout), facts]
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def _sparse_digest(layout: Layout) -> str:
    """SHA-256 of the layout without the files' data: names, modes, places."""
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
    """Write the data and the leaves of the tree, and hash the file to the end of the data."""
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
    """Fill `into` with the bytes of a file from `offset` on."""
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
    """Write the tree above its leaves, hash the rest of the file, and return the root hash."""
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
    """Open a file to read and write, and lock it against other processes."""
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "being-packed",
                "another process is making this disk",
                seen=str(path),
                next="wait until it has finished, or choose another name for the disk",
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
            f"{folder} has no space for the disk",
            expected=f"{need} bytes free",
            seen=f"{free} bytes",
            next="free some space or choose another place; the finished part of the disk is kept",
        )


def _sync(path: Path) -> None:
    """Wait until the whole content of a file is on its disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
