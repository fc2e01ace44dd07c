"""Model disks in memory: a verity tree made the plain way, and a machine that has such disks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from confide.protocol.model import Model

BLOCK = 4096


def verity_disk(data: bytes) -> tuple[bytes, bytes]:
    """`data` (whole blocks) with its hash tree appended, and the root hash: as veritysetup does."""
    levels = []
    level = data
    while len(level) > BLOCK:
        blocks = [level[i : i + BLOCK] for i in range(0, len(level), BLOCK)]
        hashes = b"".join(sha256(bytes(32) + block).digest() for block in blocks)
        level = hashes + bytes(-len(hashes) % BLOCK)
        levels.append(level)
    return data + b"".join(reversed(levels)), sha256(bytes(32) + level).digest()


def model_disk(name: str, *, blocks: int = 3) -> tuple[Model, bytes]:
    """A model of `blocks` blocks of its name, repeated, and its disk."""
    data = (name.encode() * BLOCK)[:BLOCK] * blocks
    disk, root = verity_disk(data)
    return Model(name, root, len(data), ("chat",), ("worker-cpu",)), disk


@dataclass
class SimulatedSystem:
    """Disks by device name; what was opened and mounted; what the kernel says."""

    disks: dict[str, bytes]
    unmountable: set[str] = field(default_factory=set)
    status: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    mounts: dict[Path, Path] = field(default_factory=dict)
    touched: bool = False

    def model_disks(self) -> Sequence[Path]:
        self.touched = True
        return [Path("/dev", name) for name in self.disks]

    def size(self, device: Path) -> int:
        return len(self.disks[device.name])

    def read(self, device: Path, offset: int, length: int) -> bytes:
        return self.disks[device.name][offset : offset + length]

    def open_verity(self, name: str, table: str) -> Path:
        assert name not in self.tables
        self.tables[name] = table
        return Path("/dev/mapper", name)

    def close_verity(self, name: str) -> None:
        del self.tables[name]

    def verity_status(self, name: str) -> str:
        lines = self.status.get(name, [])
        return lines.pop(0) if lines else "0 24 verity V"

    def mount(self, device: Path, target: Path) -> None:
        if device.name in self.unmountable:
            raise OSError(5, "Input/output error")
        self.mounts[target] = device

    def mount_small(self, target: Path) -> None:
        self.mounts[target] = Path("memory")

    def unmount(self, target: Path) -> None:
        del self.mounts[target]
