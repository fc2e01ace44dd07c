"""A hostile host writes the ACPI tables. Their code and addresses reach no memory of ours.

On this platform, as on SEV-SNP, nothing measures the tables. What stops them is the kernel's own
patch (images/kernel/acpi-memory.patch): it ends the machine at the first access that is not to the
registers of HPET or TPM. Two tests boot the coordinator as it is. The others start its kernel and
initrd alone, with SeaBIOS: they show what the kernel does, in seconds.
"""

from __future__ import annotations

import re
import struct
from functools import partial
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.errors import UnavailableError
from confide.host.runner.vm import Machine
from tests.support import aml
from tests.support.kernel_machine import COMMAND_LINE, PANIC, UP, HostTables, Kernel
from tests.support.launch import launched_for

BOOT_SECONDS = 300
RAN, WENT_ON = "<code of the host runs>", "<code of the host goes on>"
HPET, HPET_END = 0xFED00000, 0xFED00400
TPM, TPM_END = 0xFED40000, 0xFED46000
MEMORY = 0x1000000  # where memory is, and most often the kernel
UNUSED = 0x8000000  # memory where nothing is put, when the kernel is not moved at random
REFUSED = "ACPI may not access memory at {:#x}"


@pytest.fixture(scope="module")
def kernel(build: Build) -> Kernel:
    return Kernel(build.tools, build.images / "coordinator")


@pytest.fixture(scope="module")
def genuine(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> HostTables:
    """The tables of a machine without attacks."""
    return kernel.tables(tmp_path_factory.mktemp("genuine"))


def added(folder: Path, table: bytes) -> list[str]:
    """QEMU's arguments for one table more."""
    (folder / "table.aml").write_bytes(table)
    return ["-acpitable", f"file={folder / 'table.aml'}"]


# --- the coordinator, as it is ------------------------------------------------------------------


def coordinator(build: Build, folder: Path, table: bytes) -> Machine:
    """A coordinator whose host has one table more."""
    return Machine(
        build.images / "coordinator",
        "coordinator",
        config=launched_for(build),
        run_dir=folder / "run",
        tools=build.tools,
        extra=added(folder, table),
    )


def test_code_that_reads_a_listed_register_is_run(build: Build, tmp_path: Path) -> None:
    """The other tests' tables are run, then: this one differs from them in the address alone."""
    with coordinator(build, tmp_path, aml.table(HPET, before=RAN, after=WENT_ON)) as booted:
        booted.wait_ready(BOOT_SECONDS)
        said = booted.console.read_text(errors="replace")
    assert RAN in said
    assert WENT_ON in said


def test_code_that_looks_for_the_kernel_ends_the_machine(build: Build, tmp_path: Path) -> None:
    """With Debian's kernel such code found it, and exchanged the program that starts first."""
    booted = coordinator(build, tmp_path, aml.search(MEMORY, before=RAN, after=WENT_ON))
    with booted, pytest.raises(UnavailableError, match="power off"):
        booted.wait_ready(BOOT_SECONDS)
    said = booted.console.read_text(errors="replace")
    assert RAN in said
    assert REFUSED.format(MEMORY) in said
    assert WENT_ON not in said


# --- byte code ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "address"),
    [("SSDT", HPET), ("SSDT", HPET_END - 4), ("PSDT", TPM), ("OSDT", TPM_END - 4)],
)
def test_code_of_each_kind_of_table_is_run(
    kernel: Kernel, tmp_path: Path, signature: str, address: int
) -> None:
    table = aml.table(address, signature=signature, before=RAN, after=WENT_ON)
    said = kernel.boot(tmp_path, *added(tmp_path, table))
    assert RAN + WENT_ON in said
    assert UP in said


NO_MEMORY = 0x80000000  # behind the memory of this machine
code = partial(aml.table, before=RAN, after=WENT_ON)
CODE = {
    "reads": (code(MEMORY), REFUSED.format(MEMORY)),
    "writes": (code(MEMORY, write=True), REFUSED.format(MEMORY)),
    "reads where there is no memory": (code(NO_MEMORY), REFUSED.format(NO_MEMORY)),
    "reads what begins before HPET": (code(HPET - 2), REFUSED.format(HPET - 2)),
    "reads what ends behind HPET": (
        code(HPET_END - 2),
        REFUSED.format(HPET_END - 2),
    ),
    "reads behind HPET": (code(HPET_END), REFUSED.format(HPET_END)),
    "reads what begins before TPM": (code(TPM - 2), REFUSED.format(TPM - 2)),
    "writes what ends behind TPM": (
        code(TPM_END - 1, write=True),
        REFUSED.format(TPM_END - 1),
    ),
    "PSDT": (code(MEMORY, signature="PSDT"), REFUSED.format(MEMORY)),
    "OSDT": (code(MEMORY, signature="OSDT"), REFUSED.format(MEMORY)),
    "the board's name": (code(MEMORY, oem="BOCHS"), REFUSED.format(MEMORY)),
    "loads more code": (aml.loaded(MEMORY, before=RAN, after=WENT_ON), REFUSED.format(MEMORY)),
    "a table that is made longer": (
        aml.beyond(0x24000, before=RAN, after=WENT_ON),
        "ACPI may not access tables as memory",
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_code_that_touches_other_memory_ends_the_machine(
    kernel: Kernel, tmp_path: Path, name: str
) -> None:
    table, panic = CODE[name]
    said = kernel.boot(tmp_path, *added(tmp_path, table))
    assert RAN in said
    assert PANIC + panic + "\n" in said
    assert WENT_ON not in said


# --- addresses in tables ------------------------------------------------------------------------

FACP, APIC, FACS_AT, LONG_FACS_AT = b"FACP", b"APIC", 36, 132
# Registers of the FADT (ACPI 6.5, 5.2.9): where its address is, and where its length
REGISTERS = {
    "PM1a events": (148, 88),
    "PM1b events": (160, 88),
    "GPE0": (220, 92),
    "GPE1": (232, 93),
    "reset": (116, None),
}
POWER_OFF = {"PM1a control": (172, 89)}
WIDTH = 32
MAILBOX = 16


def register(address: int) -> bytes:
    """An address of 32 bits in memory, as the FADT has it (5.2.3.2)."""
    return struct.pack("<4BQ", aml.SYSTEM_MEMORY, WIDTH, 0, 3, address)


def with_register(tables: HostTables, name: str, address: int) -> HostTables:
    at, length_at = {**REGISTERS, **POWER_OFF}[name]
    if length_at:
        tables = tables.with_bytes(FACP, length_at, bytes([WIDTH // 8]))
    return tables.with_bytes(FACP, at, register(address))


def test_the_machine_boots_with_tables_in_place_of_the_board_s(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    said = kernel.boot(tmp_path, *genuine.arguments(tmp_path))
    assert UP in said
    assert "RSDT" in said and "FACP" in said


@pytest.mark.parametrize("name", REGISTERS)
def test_a_register_in_memory_ends_the_machine(
    kernel: Kernel, genuine: HostTables, tmp_path: Path, name: str
) -> None:
    hostile = with_register(genuine, name, MEMORY)
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert PANIC + REFUSED.format(MEMORY) + "\n" in said
    assert UP not in said


def test_a_register_in_memory_is_not_written_to_power_off(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    hostile = with_register(genuine, "PM1a control", MEMORY)
    line = f"{COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f"
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path), line=line)
    assert PANIC + REFUSED.format(MEMORY) + "\n" in said


@pytest.mark.parametrize("name", ["PM1a events", "GPE1"])
def test_a_register_in_a_listed_range_ends_no_machine(
    kernel: Kernel, genuine: HostTables, tmp_path: Path, name: str
) -> None:
    """So it is the address that the other test's machines end for."""
    hostile = with_register(genuine, name, HPET + 0x3F0)
    assert UP in kernel.boot(tmp_path, *hostile.arguments(tmp_path))


def test_a_lock_in_memory_ends_the_machine(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    """The kernel writes to the lock of a FACS. The board's own is outside of memory in use."""
    (tmp_path / "lock").write_bytes(struct.pack("<4sI", b"FACS", 64).ljust(64, b"\0"))
    hostile = genuine.without_pointer(FACP, FACS_AT)
    hostile = hostile.with_bytes(FACP, LONG_FACS_AT, struct.pack("<Q", UNUSED))
    loader = ["-device", f"loader,file={tmp_path / 'lock'},addr={UNUSED:#x},force-raw=on"]
    line = f"{COMMAND_LINE} nokaslr"
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path), *loader, line=line)
    assert f"{PANIC}ACPI may not map memory at {UNUSED:#x}\n" in said
    assert UP not in said


def test_a_mailbox_for_processors_ends_the_machine(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    start, size = genuine.place(APIC)
    interrupts = re.search(rb"(\x02\x0a.{8}){2}", genuine.tables[start : start + size], re.DOTALL)
    assert interrupts
    mailbox = struct.pack("<BBHIQ", MAILBOX, 16, 0, 0, MEMORY) + bytes([0x7F, 4, 0, 0])
    hostile = genuine.with_bytes(APIC, interrupts.start(), mailbox)
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert PANIC + "ACPI may not name a mailbox for processors\n" in said
    assert UP not in said


@pytest.mark.parametrize(
    ("signature", "at"),
    [pytest.param(b"MCFG", 44, id="MCFG"), pytest.param(b"HPET", 44, id="HPET")],
)
def test_the_address_of_a_device_in_memory_is_not_used(
    kernel: Kernel, genuine: HostTables, tmp_path: Path, signature: bytes, at: int
) -> None:
    hostile = genuine.with_bytes(signature, at, struct.pack("<Q", MEMORY))
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert UP in said
