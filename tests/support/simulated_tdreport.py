"""SIMULATED: /dev/tdx_guest, whose ioctl gives a TDREPORT of a machine with this MRCONFIGID."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from hashlib import sha384


def tdreport(report_data: bytes, mrconfigid: bytes, *, mrtd: bytes = b"\x11" * 48) -> bytes:
    """TDREPORT_STRUCT: REPORTMACSTRUCT (256), TEE_TCB_INFO (239) and 17 zeros, TDINFO (512)."""
    attributes_xfam = bytes(16)
    tdinfo = (attributes_xfam + mrtd + mrconfigid).ljust(512, b"\0")
    mac = b"\x81\0\1\0" + bytes(12 + 16 + 48) + sha384(tdinfo).digest() + report_data
    return mac.ljust(256, b"\0") + bytes(256) + tdinfo


@dataclass
class SimulatedTdxGuest:
    """Stands for `fcntl.ioctl`. `report_data` overrides what the report is made for."""

    mrconfigid: bytes
    error: int = 0
    report_data: bytes | None = None
    asked: list[bytes] = field(default_factory=list)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> int:
        if request != 0xC4405401 or len(argument) != 1088:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        nonce = bytes(argument[:64])
        self.asked.append(nonce)
        argument[64:] = tdreport(self.report_data or nonce, self.mrconfigid)
        return 0
