"""The machines that the kernel is fuzzed with, and how their ends are judged."""

from __future__ import annotations

import struct

import pytest

from tests.fuzz import inputs, kernel
from tests.fuzz.machine import BOOTED, TABLES, Said, initrd, kernel_image, parameters

DSDT = inputs.header(b"DSDT", b"\xa3" * 20)
GENUINE = {
    b"FACS": b"FACS\x40\0\0\0".ljust(64, b"\0"),
    b"DSDT": DSDT,
    b"FACP": inputs.header(b"FACP", bytes(208), 3),
    b"APIC": inputs.header(
        b"APIC", struct.pack("<II", 0xFEE00000, 1) + bytes([0, 8, 0, 0, 1, 0, 0, 0]), 3
    ),
    b"HPET": inputs.header(b"HPET", bytes(20)),
    b"MCFG": inputs.header(b"MCFG", bytes(24)),
}
PAGE_FAULT = "BUG: unable to handle page fault for address: 0\n#PF: supervisor {} in kernel mode\n"
EARLY = "PANIC: early exception {} IP 10:ffffffff81000000 error {} cr2 0x1000\n"


def said(text: str, *, running: bool = True) -> Said:
    return Said(text, running, 1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"Linux\n{BOOTED}\n", kernel.UNTOUCHED),
        ("Kernel panic - not syncing: ACPI may not name a register in memory, 0x8\n", kernel.ENDED),
        (
            PAGE_FAULT.format("read access"),
            kernel.FAULTED,
        ),
        (
            PAGE_FAULT.format("write access"),
            kernel.DAMAGED,
        ),
        (
            PAGE_FAULT.format("instruction fetch"),
            kernel.DAMAGED,
        ),
        (EARLY.format("0x0e", "0"), kernel.FAULTED),
        (EARLY.format("0x0e", "2"), kernel.DAMAGED),
        (
            EARLY.format("0x0e", "10"),
            kernel.DAMAGED,
        ),
        (EARLY.format("0x0d", "0"), kernel.DAMAGED),
        (f"UBSAN: array-index-out-of-bounds in f.c:1:2\n{BOOTED}\n", kernel.DAMAGED),
        (
            "list_add corruption. prev->next should be next\nkernel BUG at lib/list_debug.c:1!\n",
            kernel.DAMAGED,
        ),
        ("Linux\nthe last word\n", kernel.STUCK),
    ],
)
def test_ends(text: str, what: str) -> None:
    assert kernel.judge(said(text))[0] == what


def test_a_machine_that_is_gone_without_a_word_was_reset() -> None:
    assert kernel.judge(said("Linux\nlast\n", running=False)) == (kernel.RESET, "last")


@pytest.mark.parametrize("number", range(3 * len(inputs.KINDS)))
def test_a_case_is_the_same_each_time_and_fits(number: int) -> None:
    """Each table stays in its slot, and the boot parameters hold the list of memory."""
    kind, machine = inputs.case(GENUINE, 7, number)
    assert (kind, machine) == inputs.case(GENUINE, 7, number)
    assert inputs.case(GENUINE, 8, number) != (kind, machine)
    assert len(machine.e820) <= 128
    for address, data in machine.tables.items():
        assert address >= TABLES
        assert (address - TABLES) % inputs.SLOT + len(data) <= inputs.SLOT


def test_tables_end_with_a_page_and_have_right_sums() -> None:
    machine = inputs.plain(GENUINE)
    for address, data in machine.tables.items():
        assert data[:4] == b"FACS" or (address + len(data)) % inputs.PAGE == 0
        assert data[:4] == b"FACS" or sum(data) % 256 == 0
    named = {data[:4]: address for address, data in machine.tables.items()}
    assert struct.unpack_from("<I", machine.tables[named[b"FACP"]], 40) == (named[b"DSDT"],)
    assert machine.rsdp == named[b"RSD "]


def test_qemus_file_of_tables_is_taken_apart() -> None:
    whole = b"".join(inputs.with_checksum(table) for table in GENUINE.values())
    assert list(inputs.parse(whole + bytes(64))) == list(GENUINE)


def test_kernel_image_keeps_all_but_its_16_bit_code() -> None:
    """Documentation/arch/x86/boot.rst: a jump is at 0x200, the header behind it."""
    vmlinuz = bytearray(bytes(range(256)) * 16)
    vmlinuz[0x200:0x202] = b"\xeb\x66"
    image = kernel_image(bytes(vmlinuz))
    assert len(image) == len(vmlinuz)
    assert image[:0x268] == vmlinuz[:0x268]
    assert image[0x268] == 0xFA
    assert image[0x300:] == vmlinuz[0x300:]
    page = parameters(bytes(vmlinuz), inputs.plain(GENUINE), len(initrd()))
    assert len(page) == 4096
    assert page[0x1E8] == len(inputs.plain(GENUINE).e820)
