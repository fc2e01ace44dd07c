"""Shapes of TDX machines: direct boot and boot from disk, firmware of several releases."""

from __future__ import annotations

import dataclasses

from measure.tdx.shape import Boot, PageOrder, TdxShape

BOOT_VARIABLES = (("BootOrder", b"\2\0\1\0"), ("Boot0002", b"two"), ("Boot0001", b"one"))
DIRECT = TdxShape(
    name="test",
    memory=2 << 30,
    edk2=(2026, 8),
    page_order=PageOrder.SINGLE,
    attributes=0x10000000,
    xfam=0x602E7,
    boot=Boot.DIRECT,
)
DISK = dataclasses.replace(DIRECT, boot=Boot.DISK, boot_variables=BOOT_VARIABLES)
OLD = dataclasses.replace(DIRECT, edk2=(2025, 2))
OLDER = dataclasses.replace(DIRECT, edk2=(2024, 2))
