"""The page of hashes by which firmware checks the kernel, initrd and command line of a direct boot.

Source: QEMU, target/i386/sev.c (SevHashTable, with `kernel-hashes=on`); edk2,
OvmfPkg/AmdSev/BlobVerifierLibSevHashes, which refuses anything else in the guest.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass

from measure.snp.digest import PAGE_SIZE

_TABLE = uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
_COMMAND_LINE = uuid.UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD = uuid.UUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL = uuid.UUID("4de79437-abd2-427f-b835-d5b172d2045b")

_HEADER = struct.Struct("<16sH")  # GUID and length of everything, the header included
_HASH_SIZE = 32
_ENTRY_SIZE = _HEADER.size + _HASH_SIZE
_LENGTH = _HEADER.size + 3 * _ENTRY_SIZE  # 168
TABLE_SIZE = -(-_LENGTH // 16) * 16  # 176: QEMU pads it


@dataclass(frozen=True)
class KernelHashes:
    """SHA-256 (32 bytes) of each part of a direct boot.

    Attributes:
        kernel: of the file as it is: QEMU does not patch the setup header of an SEV guest.
        initrd: of the file; of nothing if there is none.
        command_line: of the text and a NUL.
    """

    kernel: bytes
    initrd: bytes
    command_line: bytes

    @classmethod
    def of(
        cls, kernel: bytes | memoryview, initrd: bytes | memoryview, command_line: bytes
    ) -> KernelHashes:
        """Hashes the parts themselves; no initrd is b"", no command line is b""."""
        return cls(
            hashlib.sha256(kernel).digest(),
            hashlib.sha256(initrd).digest(),
            hashlib.sha256(command_line + b"\0").digest(),
        )

    def page(self, offset: int) -> bytes:
        """The page (4096 bytes): zeros, and the table at `offset`, at most 4096 - 176."""
        table = _HEADER.pack(_TABLE.bytes_le, _LENGTH)
        for guid, value in (
            (_COMMAND_LINE, self.command_line),
            (_INITRD, self.initrd),
            (_KERNEL, self.kernel),
        ):
            table += _HEADER.pack(guid.bytes_le, _ENTRY_SIZE) + value
        return (bytes(offset) + table).ljust(PAGE_SIZE, b"\0")
