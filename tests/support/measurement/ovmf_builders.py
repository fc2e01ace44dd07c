"""Firmware images that describe themselves as OVMF does, built from the format's description."""

from __future__ import annotations

import random
import struct
import uuid
from collections.abc import Sequence

from measure import ovmf

PAGE = 4096
FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
UNKNOWN = uuid.UUID("784fa70e-3176-4677-8a20-04b68699e374")
RESET = 0x80B004
# A layout like that of OVMF.amdsev.fd: (address, size, type).
SECTIONS = (
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 4),
    (0x811000, 0x2000, 1),
    (0x810000, 0x1000, 0x10),
)
HASH_TABLE = (0x810C00, 0x400)

Entry = tuple[uuid.UUID, bytes]


def metadata(signature: bytes, sections: Sequence[bytes], *, version: int = 1) -> bytes:
    """The header of SEV or TDX metadata, and its sections."""
    body = b"".join(sections)
    return signature + struct.pack("<III", 16 + len(body), version, len(sections)) + body


def sev_metadata(sections: Sequence[tuple[int, int, int]]) -> bytes:
    return metadata(b"ASEV", [struct.pack("<III", *section) for section in sections])


def table(entries: Sequence[Entry]) -> bytes:
    """The table with its footer, as it ends 32 bytes before the end of an image."""
    body = b"".join(
        data + struct.pack("<H", len(data) + 18) + guid.bytes_le for guid, data in entries
    )
    return body + struct.pack("<H", len(body) + 18) + FOOTER.bytes_le


def image(
    sections: Sequence[tuple[int, int, int]] | None = SECTIONS,
    *,
    hash_table: tuple[int, int] | None = HASH_TABLE,
    reset_eip: int | None = RESET,
    tdx: bytes | None = None,
    extra: Sequence[Entry] = ((UNKNOWN, b"\1\2\3\4"),),
    pages: int = 2,
    seed: int = 1,
) -> bytes:
    """An image of `pages` pages: random or erased ones, the metadata, the table, 32 more bytes.

    `tdx` is the whole TDX metadata. None leaves the part and its entry out. The order of the
    entries follows from the seed.
    """
    chance = random.Random(seed)
    entries = list(extra)
    parts = b""

    def place(guid: uuid.UUID, data: bytes) -> None:
        nonlocal parts
        parts = data + parts
        entries.append((guid, struct.pack("<I", 0x400 + len(parts))))

    if sections is not None:
        place(ovmf.SEV_METADATA, sev_metadata(sections))
    if tdx is not None:
        place(ovmf.TDX_METADATA, tdx)
    if hash_table is not None:
        entries.append((ovmf.SEV_HASH_TABLE, struct.pack("<II", *hash_table)))
    if reset_eip is not None:
        entries.append((ovmf.SEV_ES_RESET, struct.pack("<I", reset_eip)))
    chance.shuffle(entries)
    end = (table(entries) + chance.randbytes(32)).rjust(0x400, b"\xff")
    assert len(end) == 0x400
    tail = parts + end
    body = b"".join(chance.choice((chance.randbytes(PAGE), b"\xff" * PAGE)) for _ in range(pages))
    return body[: -len(tail)] + tail
