"""The TPM 2.0 commands that provision a software TPM.

Source: TCG TPM 2.0 Library, Part 3 (Commands), rev. 1.59.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from confide.vendors.tpm.commands import (
    NV_CHUNK,
    Command,
    Exchange,
    authorised,
    plain,
    run,
)
from confide.vendors.tpm.structures import Alg, TpmReader, sized, u16, u32

RH_OWNER = 0x40000001
RH_PLATFORM = 0x4000000C
STARTUP_CLEAR = 0x0000


class ProvisioningCode(IntEnum):
    """TPM_CC, of the commands that provisioning needs."""

    NV_DEFINE_SPACE = 0x12A
    PCR_ALLOCATE = 0x12B
    NV_WRITE = 0x137
    SHUTDOWN = 0x145


class NvAttributes(IntFlag):
    """TPMA_NV (Part 2, 13.4)."""

    OWNER_WRITE = 1 << 1
    AUTH_WRITE = 1 << 2
    OWNER_READ = 1 << 17
    AUTH_READ = 1 << 18
    NO_DA = 1 << 25
    WRITTEN = 1 << 29


def shutdown() -> Command[None]:
    """TPM2_Shutdown(CLEAR)."""
    return plain(ProvisioningCode.SHUTDOWN, u16(STARTUP_CLEAR), TpmReader.end)


def pcr_allocate_sha256() -> Command[None]:
    """TPM2_PCR_Allocate: only the SHA-256 bank, from the next start on."""
    banks = [(Alg.SHA256, b"\xff\xff\xff"), (Alg.SHA1, bytes(3)), (Alg.SHA384, bytes(3))]
    banks.append((Alg.SHA512, bytes(3)))
    selection = u32(len(banks)) + b"".join(u16(alg) + b"\x03" + bits for alg, bits in banks)

    def parse(reader: TpmReader) -> None:
        reader.exact(1, 1, "allocation success")
        reader.take(12, "sizes")
        reader.end()

    return authorised(ProvisioningCode.PCR_ALLOCATE, [RH_PLATFORM], selection, parse)


def nv_define(index: int, size: int) -> Command[None]:
    """TPM2_NV_DefineSpace: the owner writes it, anyone reads it."""
    attributes = (
        NvAttributes.OWNER_WRITE
        | NvAttributes.OWNER_READ
        | NvAttributes.AUTH_READ
        | NvAttributes.NO_DA
    )
    public = u32(index) + u16(Alg.SHA256) + u32(attributes) + sized(b"") + u16(size)
    parameters = sized(b"") + sized(public)  # no password
    return authorised(ProvisioningCode.NV_DEFINE_SPACE, [RH_OWNER], parameters, TpmReader.end)


def nv_write(index: int, data: bytes, offset: int) -> Command[None]:
    """TPM2_NV_Write of at most NV_CHUNK bytes."""
    parameters = sized(data) + u16(offset)
    return authorised(ProvisioningCode.NV_WRITE, [RH_OWNER, index], parameters, TpmReader.end)


def nv_create(exchange: Exchange, index: int, data: bytes) -> None:
    """Defines an index of exactly this size and fills it."""
    run(exchange, nv_define(index, len(data)))
    for offset in range(0, len(data), NV_CHUNK):
        run(exchange, nv_write(index, data[offset : offset + NV_CHUNK], offset))
