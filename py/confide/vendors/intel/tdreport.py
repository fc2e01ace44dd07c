"""TDREPORT: what the TDX module says of a machine to that machine itself. All 1024 bytes of it.

Unlike a quote it needs no host: the module writes it into the machine's own memory. Only the same
processor can check its MAC, so it proves nothing to others.

Source: Intel TDX module ABI, TDREPORT_STRUCT, REPORTMACSTRUCT and TDINFO_STRUCT.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha384

from confide.errors import FormatError
from confide.vendors.intel.quote import TEE_TDX

TDREPORT_SIZE = 1024
_TYPE = 0
_TEE_INFO_HASH = slice(80, 128)  # SHA-384 of TDINFO_STRUCT
_REPORT_DATA = slice(128, 192)
_TDINFO = slice(512, 1024)
_MRCONFIGID = slice(576, 624)  # in TDINFO, after attributes (8), XFAM (8) and MRTD (48)


@dataclass(frozen=True)
class LocalReport:
    """What a machine asks a TDREPORT for: `report_data` (64 bytes), `mrconfigid` (48 bytes)."""

    report_data: bytes
    mrconfigid: bytes

    @classmethod
    def parse(cls, data: bytes) -> LocalReport:
        """Read 1024 bytes. Raises FormatError unless type and hash of TDINFO are right."""
        if len(data) != TDREPORT_SIZE:
            raise _malformed("the size", f"{TDREPORT_SIZE} bytes", f"{len(data)} bytes")
        if data[_TYPE] != TEE_TDX:
            raise _malformed("the type", f"{TEE_TDX:#x}", f"{data[_TYPE]:#x}")
        hashed = sha384(data[_TDINFO]).digest()
        if data[_TEE_INFO_HASH] != hashed:
            raise _malformed("the hash of TDINFO", hashed.hex(), data[_TEE_INFO_HASH].hex())
        return cls(data[_REPORT_DATA], data[_MRCONFIGID])


def _malformed(what: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-tdreport", f"{what} of the TDREPORT is wrong", expected=expected, seen=seen
    )
