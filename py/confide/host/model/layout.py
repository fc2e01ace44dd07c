"""Where everything is on a model disk: mkfs.erofs decides that before any data is copied.

mkfs.erofs makes the whole file system and reserves the space for data without writing it. This
takes milliseconds for any size. dump.erofs then says where the data of each file belongs. mkfs
needs two steps for this: from the headers of a tar archive it makes a file system whose files are
all holes, and from that one another with room for the data (`--clean=rvsp`). The data of each file
is in one piece and not compressed: weights do not compress, and the engine maps them.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfigError
from confide.host.model.source import Source, SourceFile
from confide.protocol.hash_tree import BLOCK

# The root hash identifies a disk. These constants only show that this program made it.
UUID = "c0f1de00-0000-4000-8000-000000000001"
TIME = 0
FILE_MODE, FOLDER_MODE = 0o644, 0o755

_UUID_OFFSET = 1024 + 48  # of struct erofs_super_block: Linux, fs/erofs/erofs_fs.h
_EXTENT = re.compile(r"^ *0: +0\.\. *\d+ \| *\d+ : *(\d+)\.\. *\d+ \| *(\d+)$", re.M)


@dataclass(frozen=True)
class Piece:
    """The data of `file` goes to byte `offset` of the disk, a multiple of BLOCK."""

    file: SourceFile
    offset: int


@dataclass(frozen=True)
class Layout:
    """The file system without data.

    Attributes:
        image: The file system, a sparse file.
        pieces: Where the data goes, by ascending offset.
        data_blocks: The size of the file system in blocks of 4096 bytes.
    """

    image: Path
    pieces: tuple[Piece, ...]
    data_blocks: int


def make_layout(source: Source, tools: Path, folder: Path) -> Layout:
    """Make the file system without data.

    The image depends on paths and sizes alone.

    Args:
        source: The model's files.
        tools: A folder with bin/mkfs.erofs and bin/dump.erofs.
        folder: An empty folder for the image.

    Raises:
        ConfigError: "no-model-tools": a tool is missing. "mkfs-failed": a tool failed, or its
            layout is not the one that this module describes.
    """
    headers, holes, image = (folder / name for name in ("headers.tar", "holes.erofs", "data.erofs"))
    headers.write_bytes(_headers(source))
    # The file after the comma gets a list of blocks. Without one, 1.8 insists on 512-byte blocks.
    _mkfs(tools, "--tar=headerball,/dev/null", str(holes), str(headers))
    _mkfs(tools, "--clean=rvsp", str(image), str(holes))
    size = image.stat().st_size
    pieces = [Piece(f, _offset(tools, image, f)) for f in source.files if f.size]
    pieces.sort(key=lambda piece: piece.offset)
    ends = [0, *(piece.offset + piece.file.size for piece in pieces)]
    starts = [*(piece.offset for piece in pieces), size]
    if size % BLOCK or any(start < end for start, end in zip(starts, ends, strict=True)):
        raise _unexpected("whole blocks, and no file on another one", f"{size} bytes")
    return Layout(image, tuple(pieces), size // BLOCK)


def is_model_disk(file: Path) -> bool:
    """Whether this program made a file as a model disk, or began to. Raises OSError."""
    with file.open("rb") as disk:
        disk.seek(_UUID_OFFSET)
        return disk.read(16) == uuid.UUID(UUID).bytes


def _headers(source: Source) -> bytes:
    """A tar archive of every folder and file, without the data of the files."""
    found = bytearray()
    for path, mode, size, kind in [
        *((path, FOLDER_MODE, 0, tarfile.DIRTYPE) for path in source.folders()),
        *((file.path, FILE_MODE, file.size, tarfile.REGTYPE) for file in source.files),
    ]:
        info = tarfile.TarInfo(path)
        info.mode, info.size, info.type, info.mtime = mode, size, kind, TIME
        found += info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    return bytes(found) + bytes(2 * tarfile.BLOCKSIZE)


def _mkfs(tools: Path, *arguments: str) -> None:
    fixed = ("--quiet", f"-b{BLOCK}", f"-T{TIME}", "--all-root", "-U", UUID)
    _run(tools, "mkfs.erofs", *fixed, *arguments)


def _offset(tools: Path, image: Path, file: SourceFile) -> int:
    """The offset of a file's data, in bytes."""
    text = _run(tools, "dump.erofs", f"--path=/{file.path}", "-e", str(image))
    extents = _EXTENT.findall(text)
    blocks = -(-file.size // BLOCK)
    if len(extents) != 1 or ": 1 extents found" not in text or int(extents[0][0]) % BLOCK:
        raise _unexpected(f"the data of {file.path} in one piece", text[-200:])
    if int(extents[0][0]) == 0 or int(extents[0][1]) != blocks * BLOCK:
        raise _unexpected(f"{blocks} blocks for {file.path}", f"{extents[0][1]} bytes")
    return int(extents[0][0])


def _run(tools: Path, program: str, *arguments: str) -> str:
    """Run a tool and return its output. Raises ConfigError, which quotes the tool's error."""
    try:
        done = subprocess.run(
            [str(tools / "bin" / program), *arguments],
            env={"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ConfigError(
            "no-model-tools",
            f"{program} cannot be started",
            expected=f"{tools}/bin/{program}",
            seen=error.strerror or type(error).__name__,
            next="run `nix build .#model-tools` and set CONFIDE_MODEL_TOOLS to its result",
        ) from error
    if done.returncode:
        raise ConfigError(
            "mkfs-failed",
            f"{program} could not lay out the disk",
            expected="exit status 0",
            seen=f"{done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}",
        )
    return done.stdout.decode(errors="replace")


def _unexpected(expected: str, seen: str) -> ConfigError:
    return ConfigError(
        "mkfs-failed",
        "mkfs.erofs made an unexpected layout",
        expected=expected,
        seen=ascii(seen),
        next="use the tools that the flake builds: `nix build .#model-tools`",
    )
