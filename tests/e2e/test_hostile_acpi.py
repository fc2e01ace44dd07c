"""A hostile host writes the ACPI tables. No byte code of theirs runs, and they name no memory.

On this platform, as on SEV-SNP, nothing measures the tables. What stops them is the kernel's own
byte code and patch (images/kernel/machine.asl, acpi.patch). One test boots the coordinator as it
is. The others start its kernel and initrd alone, with SeaBIOS: they show what the kernel does, in
seconds.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from tests.support import aml
from tests.support.kernel_machine import (
    COMMAND_LINE,
    MEMORY_MIB,
    PANIC,
    UP,
    HostTables,
    Kernel,
)
from tests.support.launch import launched_for

BOOT_SECONDS = 300
RAN = "<code of the host runs>"
HPET = 0xFED00000
MEMORY = 0x1000000  # where memory is, and most often the kernel
UNUSED = 0x8000000  # memory where nothing is put, when the kernel is not moved at random


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


def has_table(said: str, signature: str, oem: str) -> bool:
    """Whether the kernel had a table, or had it and put its own in the place."""
    listed = rf"ACPI: {signature} 0x\w+ \w+ \(v02 {oem} |Override \[{signature}-{oem} "
    return bool(re.search(listed, said))


# --- byte code ----------------------------------------------------------------------------------


def test_a_coordinator_starts_and_runs_none_of_it(build: Build, tmp_path: Path) -> None:
    """With Debian's kernel such code exchanged the program that starts first."""
    machine = Machine(
        build.images / "coordinator",
        "coordinator",
        config=launched_for(build),
        run_dir=tmp_path / "run",
        tools=build.tools,
        extra=added(tmp_path, aml.table(aml.speaking(RAN))),
    )
    with machine as booted:
        booted.wait_ready(BOOT_SECONDS)
        assert RAN not in booted.console.read_text(errors="replace")


@pytest.mark.parametrize(
    ("signature", "oem"),
    [
        *(("SSDT", "HOST"), ("SSDT", "BOCHS"), ("SSDT", "CONFID"), ("PSDT", "HOST")),
        *(("OSDT", "HOST"), ("DSDT", "HOST")),
    ],
)
def test_code_of_a_table_more_does_not_run(
    kernel: Kernel, tmp_path: Path, signature: str, oem: str
) -> None:
    said = kernel.boot(tmp_path, *added(tmp_path, aml.table(aml.speaking(RAN), signature, oem)))
    assert has_table(said, signature, oem)
    assert RAN not in said
    assert UP in said


def test_code_of_the_machine_s_own_table_does_not_run(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    _, size = genuine.place(DSDT)
    hostile = genuine.with_bytes(DSDT, 0, aml.table(aml.speaking(RAN), "DSDT", size=size))
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert has_table(said, "DSDT", "HOST")
    assert RAN not in said
    assert UP in said


def test_a_machine_without_such_a_table_runs_no_other(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    hostile = genuine.without_pointer(FACP, DSDT_AT).with_bytes(FACP, LONG_DSDT_AT, bytes(8))
    ssdt = added(tmp_path, aml.table(aml.speaking(RAN)))
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path), *ssdt)
    assert RAN not in said


def test_the_machine_powers_off_with_its_own_code(kernel: Kernel, tmp_path: Path) -> None:
    line = f"{COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f"
    said = kernel.boot(tmp_path, line=line)
    assert "ACPI: PM: Preparing to enter system sleep state S5" in said
    assert "reboot: Power down" in said


# --- addresses in tables ------------------------------------------------------------------------

DSDT, FACP, APIC = b"DSDT", b"FACP", b"APIC"
FACS_AT, DSDT_AT, LONG_FACS_AT, LONG_DSDT_AT = 36, 40, 132, 140
# Registers of the FADT (ACPI 6.5, 5.2.9): where its address is, and where its length
REGISTERS = {
    "PM1a events": (148, 88),
    "PM1b events": (160, 88),
    "GPE0": (220, 92),
    "GPE1": (232, 93),
    "reset": (116, None),
}
POWER_OFF = {"PM1a control": (172, 89)}
FLAGS_AT, REDUCED = 112, 1 << 20  # the FADT's flags, and the one for reduced hardware
SLEEP_AT, SLEEP_END = 244, 268  # the FADT's registers for sleep: control and status
WIDTH = 32
MAILBOX = 16
# Near the end of memory, where the firmware keeps tables.
TABLES_AT = (MEMORY_MIB << 20) - 0x10000
REFUSED = re.compile(rf"{PANIC}ACPI may not name a register in memory, (0x\w+)\n")


def refused(said: str) -> list[int]:
    """The addresses in memory for which the machine ended."""
    return [int(address, 16) for address in REFUSED.findall(said)]


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
    assert refused(said) == [MEMORY]
    assert UP not in said


def test_a_register_in_memory_is_not_written_to_power_off(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    hostile = with_register(genuine, "PM1a control", MEMORY)
    line = f"{COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f"
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path), line=line)
    assert refused(said) == [MEMORY]


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


def with_mailbox(tables: HostTables) -> HostTables:
    start, size = tables.place(APIC)
    interrupts = re.search(rb"(\x02\x0a.{8}){2}", tables.tables[start : start + size], re.DOTALL)
    assert interrupts
    mailbox = struct.pack("<BBHIQ", MAILBOX, 16, 0, 0, MEMORY) + bytes([0x7F, 4, 0, 0])
    return tables.with_bytes(APIC, interrupts.start(), mailbox)


NO_MAILBOX = PANIC + "ACPI may not name a mailbox for processors\n"


def test_a_mailbox_for_processors_ends_the_machine(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    said = kernel.boot(tmp_path, *with_mailbox(genuine).arguments(tmp_path))
    assert NO_MAILBOX in said
    assert UP not in said


def test_an_early_panic_does_not_use_the_reset_register(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    """Before the kernel reads its command line. A refused register would be a panic in the panic,
    again and again, until the stack has grown over the kernel's data.
    """
    hostile = with_register(with_mailbox(genuine), "reset", MEMORY)
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert NO_MAILBOX in said
    assert said.count(PANIC) == 1


@pytest.mark.parametrize("address", [MEMORY, TABLES_AT, HPET - 4, HPET + 4])
def test_a_timer_elsewhere_ends_the_machine(
    kernel: Kernel, genuine: HostTables, tmp_path: Path, address: int
) -> None:
    hostile = genuine.with_bytes(b"HPET", 44, struct.pack("<Q", address))
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert f"{PANIC}ACPI may not name HPET's address {address:#x}\n" in said
    assert UP not in said


def test_pci_configuration_in_memory_is_not_looked_at(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    """A kernel that has the code for it names each range of an MCFG, and more if it is in RAM."""
    hostile = genuine.with_bytes(b"MCFG", 44, struct.pack("<Q", MEMORY))
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path))
    assert UP in said
    assert "ACPI: MCFG 0x" in said
    assert "ECAM" not in said


def test_registers_for_sleep_in_memory_are_not_written(
    kernel: Kernel, genuine: HostTables, tmp_path: Path
) -> None:
    """Machines without the older registers are powered off with these (4.8.3.7)."""
    hostile = genuine.longer(FACP, SLEEP_END)
    flags, *_ = struct.unpack_from("<I", hostile.tables, hostile.place(FACP)[0] + FLAGS_AT)
    hostile = hostile.with_bytes(FACP, FLAGS_AT, struct.pack("<I", flags | REDUCED))
    hostile = hostile.with_bytes(FACP, SLEEP_AT, 2 * register(MEMORY))
    line = f"{COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f"
    said = kernel.boot(tmp_path, *hostile.arguments(tmp_path), line=line)
    assert refused(said) == [MEMORY]
