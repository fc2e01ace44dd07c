"""Where everything is on a model disk: decided by mkfs.erofs, before any data is copied.

mkfs.erofs makes the whole file system with its space for data reserved and not written, which takes
milliseconds for any size; dump.erofs then says where each file's data belongs. It takes two steps,
since that is how this program can be asked for it: from headers of a tar archive a file system
whose files are all holes, and from that one with room for them (`--clean=rvsp`). Each file has its
data in one piece, uncompressed: weights do not compress, and the engine maps them.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfigError
from confide.host.model.source import Source, SourceFile
from confide.protocol.hash_tree import BLOCK

# Any constants would do: the root hash identifies a disk, these identify nothing.
UUID = "c0f1de00-0000-4000-8000-000000000001"
TIME = 0
FILE_MODE, FOLDER_MODE = 0o644, 0o755

_EXTENT = re.compile(r"^ *0: +0\.\. *\d+ \| *\d+ : *(\d+)\.\. *\d+ \| *(\d+)$", re.M)


@dataclass(frozen=True)
class Piece:
    """The data of a file goes to byte `offset` of the disk, a multiple of BLOCK."""

    file: SourceFile
    offset: int


@dataclass(frozen=True)
class Layout:
    """The file system without data, a sparse file, and where its data goes, by ascending offset."""

    image: Path
    pieces: tuple[Piece, ...]
    data_blocks: int


def make_layout(source: Source, tools: Path, folder: Path) -> Layout:
    """Lay the files out, in an image in `folder`; `tools` has bin/mkfs.erofs and bin/dump.erofs.

    The image depends on paths and sizes alone. Raises ConfigError if a tool fails, or makes
    something else than this module describes.
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


def _headers(source: Source) -> bytes:
    """A tar archive of every folder and file without any file's data."""
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
    """Where a file's data is."""
    text = _run(tools, "dump.erofs", f"--path=/{file.path}", "-e", str(image))
    extents = _EXTENT.findall(text)
    blocks = -(-file.size // BLOCK)
    if len(extents) != 1 or ": 1 extents found" not in text or int(extents[0][0]) % BLOCK:
        raise _unexpected(f"the data of {file.path} in one piece", text[-200:])
    if int(extents[0][0]) == 0 or int(extents[0][1]) != blocks * BLOCK:
        raise _unexpected(f"{blocks} blocks for {file.path}", f"{extents[0][1]} bytes")
    return int(extents[0][0])


def _run(tools: Path, program: str, *arguments: str) -> str:
    """Run a tool; its output. Raises ConfigError with its words."""
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
        "mkfs.erofs made another layout than it should",
        expected=expected,
        seen=ascii(seen),
        next="use the tools that the flake builds: `nix build .#model-tools`",
    )
