"""The launch digest: a hash chain over every page that the VMM gives to the guest before it starts.

ABI 8.17 (SNP_LAUNCH_UPDATE) and its table of PAGE_INFO: each page replaces the digest by the
SHA-384 of 112 bytes that hold the digest so far, the page's content hash, type and address.
"""

from __future__ import annotations

import enum
import hashlib
import struct

PAGE_SIZE = 4096
DIGEST_SIZE = 48
# Before the first page; also the content of a page whose bytes are not measured.
ZEROS = bytes(DIGEST_SIZE)

# digest, content, u16 length, u8 type, u8 IMI page, u8 x 3 permissions of VMPL 3 to 1, u8 reserved,
# u64 guest physical address
_PAGE_INFO = struct.Struct("<48s48sHBBIQ")


class PageType(enum.IntEnum):
    """PAGE_TYPE of SNP_LAUNCH_UPDATE (ABI, table of page types)."""

    NORMAL = 1
    VMSA = 2
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


def extend(state: bytes, kind: PageType, gpa: int, content: bytes = ZEROS) -> bytes:
    """The digest (48 bytes) after one more page.

    Args:
        state: the digest so far, 48 bytes.
        kind: the page's type.
        gpa: its guest physical address, a multiple of 4096.
        content: SHA-384 of the page for NORMAL and VMSA, 48 zero bytes for every other type.
    """
    info = _PAGE_INFO.pack(state, content, _PAGE_INFO.size, kind, 0, 0, gpa)
    return hashlib.sha384(info).digest()


def extend_data(state: bytes, gpa: int, data: bytes | memoryview) -> bytes:
    """The digest after the NORMAL pages of `data` (a multiple of 4096 bytes) from `gpa` on."""
    page = content = b""
    for offset in range(0, len(data), PAGE_SIZE):
        following = bytes(data[offset : offset + PAGE_SIZE])
        if following != page:  # most of a firmware image is erased flash: hash a run once
            page, content = following, hashlib.sha384(following).digest()
        state = extend(state, PageType.NORMAL, gpa + offset, content)
    return state


def extend_range(state: bytes, kind: PageType, gpa: int, size: int) -> bytes:
    """The digest after `size` bytes (a multiple of 4096) of pages whose content is not measured."""
    for address in range(gpa, gpa + size, PAGE_SIZE):
        state = extend(state, kind, address)
    return state
