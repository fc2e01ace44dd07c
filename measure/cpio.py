"""The small initrd archives that systemd-stub adds to the one in the UKI.

systemd-stub 257 (src/boot/cpio.c, pack_cpio_literal) packs a section as the single file
`.extra/NAME` in the "newc" cpio format: inode numbers count from 1, everything else is zero, names
and data are zero-padded to 4 bytes.
"""

from __future__ import annotations

_DIRECTORY = 0o40000
_FILE = 0o100000
# A constant in systemd-stub, with an upper-case digit that its other records do not have.
_TRAILER = (
    b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"
)


def literal(name: str, data: bytes) -> bytes:
    """The archive that holds `.extra/<name>` (mode 0444) in `.extra` (mode 0555), and a trailer."""
    return (
        _record(".extra", b"", inode=1, mode=_DIRECTORY | 0o555)
        + _record(f".extra/{name}", data, inode=2, mode=_FILE | 0o444)
        + _TRAILER
    )


def pad4(data: bytes) -> bytes:
    """`data`, zero-padded to a multiple of 4 bytes: how the stub joins initrds."""
    return data + bytes(-len(data) % 4)


def _record(name: str, data: bytes, *, inode: int, mode: int) -> bytes:
    """One entry: 110-byte header of 8-digit hex fields, name with NUL, data."""
    links = 1
    encoded = name.encode("ascii") + b"\0"
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return pad4(header + encoded) + pad4(data)
