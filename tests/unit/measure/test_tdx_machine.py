"""What QEMU shows to firmware: ACPI tables, SMBIOS table, the folder of files; variables."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measure.errors import FormatError, InputError, MeasureError, UnsupportedError
from measure.tdx import acpi, machine, smbios, variables
from tests.support import qemu_acpi
from tests.support.measurement import tdx_builders as build


@pytest.fixture
def tables() -> acpi.Tables:
    return qemu_acpi.rebuild(build.acpi_tables())


# --- ACPI -------------------------------------------------------------------------------------


def test_rebuilt_commands(tables: acpi.Tables) -> None:
    kinds = [struct.unpack_from("<I", tables.loader, at)[0] for at in range(0, 4096, 128)]
    # allocate twice; DSDT; three pointers in FACP, FACP; APIC; three entries of RSDT, RSDT; RSDP
    assert kinds == [1, 1, 3, 2, 2, 2, 3, 3, 2, 2, 2, 3, 2, 3] + [0] * 18
    offset = build.acpi_tables().index(b"RSDT")
    assert tables.rsdp == b"RSD PTR \0BOCHS \0" + struct.pack("<I", offset)
    assert acpi.parse(tables.loader, tables.rsdp, tables.tables, "m") == tables


def test_more_commands_than_fit_into_a_page() -> None:
    names = [b"FACS", b"DSDT", b"FACP", *(b"SS%02d" % n for n in range(30)), b"RSDT"]
    rebuilt = qemu_acpi.rebuild(build.acpi_tables(names))
    assert len(rebuilt.loader) == 3 * 4096
    acpi.parse(rebuilt.loader, rebuilt.rsdp, rebuilt.tables, "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:-1], "the file is not from QEMU"),
        (lambda t: b"", "the file is not from QEMU"),
        (lambda t: t[:4] + struct.pack("<I", 35) + t[8:], "not an ACPI table"),
        (lambda t: t[:4] + struct.pack("<I", 0xFFFFFFFF) + t[8:], "truncated"),
        (lambda t: b"\xff" + t[1:], "not an ACPI table"),
        (lambda t: bytes(len(t)), "not ACPI tables"),
        (lambda t: t[:-1] + b"\1", "not ACPI tables"),
    ],
)
def test_bad_tables(tables: acpi.Tables, change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(FormatError, match=message):
        acpi.parse(tables.loader, tables.rsdp, change(tables.tables), "m")


@pytest.mark.parametrize("rsdp", [b"", b"RSD PTR " + bytes(11), b"RSD PTR " + bytes(13), bytes(20)])
def test_bad_rsdp(tables: acpi.Tables, rsdp: bytes) -> None:
    with pytest.raises(FormatError, match="not the pointer"):
        acpi.parse(tables.loader, rsdp, tables.tables, "m")


def name(text: bytes) -> bytes:
    return text.ljust(56, b"\0")


TABLES, RSDP = name(b"etc/acpi/tables"), name(b"etc/acpi/rsdp")


@pytest.mark.parametrize(
    "command",
    [
        struct.pack("<I", 4) + TABLES,  # a command that writes back to QEMU
        struct.pack("<I", 0xFFFFFFFF) + TABLES,
        struct.pack("<I", 1) + TABLES + struct.pack("<IB", 64, 1),  # allocated twice
        struct.pack("<I", 1) + name(b"etc/other") + struct.pack("<IB", 64, 1),
        struct.pack("<I", 2) + TABLES + TABLES + struct.pack("<IB", 0x1FFFD, 4),
        struct.pack("<I", 2) + TABLES + TABLES + struct.pack("<IB", 0, 3),
        struct.pack("<I", 2) + TABLES + name(b"etc/other") + struct.pack("<IB", 0, 4),
        struct.pack("<I", 3) + TABLES + struct.pack("<III", 9, 0, 0x20001),
        struct.pack("<I", 3) + TABLES + struct.pack("<III", 36, 0, 36),
        struct.pack("<I", 3) + RSDP + struct.pack("<III", 8, 0, 21),
        struct.pack("<I", 3) + name(b"etc/other") + struct.pack("<III", 9, 0, 36),
        struct.pack("<I", 3) + b"x" * 56 + struct.pack("<III", 9, 0, 36),
        struct.pack("<I", 3) + TABLES + struct.pack("<IIIB", 9, 0, 36, 1),  # padding
    ],
)
def test_bad_loader_command(tables: acpi.Tables, command: bytes) -> None:
    at = 14 * 128  # behind the last command
    loader = tables.loader[:at] + command.ljust(128, b"\0") + tables.loader[at + 128 :]
    with pytest.raises(FormatError, match="command"):
        acpi.parse(loader, tables.rsdp, tables.tables, "m")


def test_commands_before_the_files_are_there(tables: acpi.Tables) -> None:
    loader = tables.loader[256:] + bytes(256)
    with pytest.raises(FormatError, match="invalid command"):
        acpi.parse(loader, tables.rsdp, tables.tables, "m")
    with pytest.raises(FormatError, match="not every ACPI file is loaded"):
        acpi.parse(tables.loader[:128] + bytes(4096 - 128), tables.rsdp, tables.tables, "m")
    with pytest.raises(FormatError, match="data after the last command"):
        acpi.parse(tables.loader[:-1] + b"\1", tables.rsdp, tables.tables, "m")


def test_the_files_are_not_interchangeable(tables: acpi.Tables) -> None:
    with pytest.raises(FormatError):
        acpi.parse(tables.tables, tables.rsdp, tables.loader, "m")


@settings(max_examples=300)
@given(st.data())
def test_changed_acpi_files(data: st.DataObject) -> None:
    good = qemu_acpi.rebuild(build.acpi_tables())
    files = [bytearray(good.loader), bytearray(good.rsdp), bytearray(good.tables)]
    limits = [15 * 128, 20, 600]
    for _ in range(data.draw(st.integers(1, 4))):
        which = data.draw(st.integers(0, 2))
        at = data.draw(st.integers(0, limits[which] - 1))
        files[which][at] = data.draw(st.integers(0, 255))
    loader, rsdp, changed = (bytes(file) for file in files)
    with contextlib.suppress(MeasureError):
        acpi.parse(loader, rsdp, changed, "m")


# --- SMBIOS -----------------------------------------------------------------------------------


def test_what_differs_between_machines_is_blank() -> None:
    system = build.structure(1, b"\1\2\0\0" + bytes(16) + b"\0\0\0", b"Maker", b"Box", b"    ")
    emptied = build.structure(11, b"\0", b"secret").replace(b"secret", bytes(6))
    assert smbios.measured(build.smbios(), "dmi").startswith(system + emptied)


@pytest.mark.parametrize("kind", [11, 15, 18, 31, 33, 128, 255])
def test_types_of_which_only_the_header_counts(kind: int) -> None:
    end = build.structure(127, b"")
    one = build.structure(kind, b"\1\2\3", b"text")
    assert smbios.measured(one + end, "dmi") == one[:4] + bytes(len(one) - 4) + end


def test_other_types_are_measured_whole() -> None:
    table = build.structure(16, b"\1\2\3", b"text") + build.structure(127, b"")
    assert smbios.measured(table, "dmi") == table


def test_a_field_that_an_old_structure_does_not_have() -> None:
    """A type 4 of SMBIOS 2.0 ends before the core counts."""
    table = build.structure(4, bytes(range(1, 0x17))) + build.structure(127, b"")
    measured = smbios.measured(table, "dmi")
    assert measured[0x11] == 0 != table[0x11]
    assert measured[0x16:0x18] == bytes(2) != table[0x16:0x18]
    assert measured[4:0x11] == table[4:0x11]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "end marker"),
        (b"\x7f", "truncated"),
        (b"\x7f\4\xff\xfe\0", "has no end"),
        (b"\x7f\3\xff\0\0", "structure size"),
        (b"\x7f\x20\xff\xfe\0\0", "truncated"),
        (build.structure(16, b"\1"), "end marker"),
        (build.structure(127, b"") + b"\0", "end marker"),
        (build.structure(1, b"\0\0\0\4" + bytes(19), b"a") + build.structure(127, b""), "string 4"),
        (build.structure(1, b"\0\0\0\1" + bytes(19)) + build.structure(127, b""), "string 1"),
        (bytes(0x10000), "too large"),
    ],
)
def test_bad_smbios_table(table: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        smbios.measured(table, "dmi")


def test_what_the_table_says() -> None:
    end = build.structure(127, b"")
    expected = smbios.Statements(build.MEMORY, "2026.08+ds-2")
    assert smbios.statements(build.smbios(), "dmi") == expected
    assert smbios.statements(end, "dmi") == smbios.Statements(None, "")
    large = struct.pack("<BBBIHHQ", 1, 3, 6, 0x80000000, 0xFFFE, 1, 3 << 40)
    array = build.structure(16, large)
    assert smbios.statements(array + end, "dmi").memory == 3 << 40
    for size in (6, 11):
        with pytest.raises(FormatError, match="truncated"):
            smbios.statements(build.structure(16, large[:size]) + end, "dmi")
    with pytest.raises(FormatError, match="string 2"):
        smbios.statements(build.structure(0, b"\0\2" + bytes(20), b"x") + end, "dmi")


@settings(max_examples=300)
@given(st.data())
def test_changed_smbios_table(data: st.DataObject) -> None:
    table = bytearray(build.smbios())
    for _ in range(data.draw(st.integers(1, 4))):
        table[data.draw(st.integers(0, len(table) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MeasureError):
        assert len(smbios.measured(bytes(table), "dmi")) == len(table)
        smbios.statements(bytes(table), "dmi")


# --- the folder -------------------------------------------------------------------------------


def test_a_machines_folder(tmp_path: Path, tables: acpi.Tables) -> None:
    for file, data in build.machine_files().items():
        (tmp_path / file).write_bytes(data)
    found = machine.read(str(tmp_path))
    assert found == machine.Machine(
        tables,
        smbios.measured(build.smbios(), "dmi"),
        smbios.Statements(build.MEMORY, "2026.08+ds-2"),
        bytes(2),
        b"/rom@genroms/linuxboot_dma.bin\0",
    )
    (tmp_path / "rsdp").unlink()
    with pytest.raises(FormatError, match="not the files of a machine"):
        machine.read(str(tmp_path))
    with pytest.raises(InputError, match="cannot read"):
        machine.read(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("boot-menu", b"\0", "invalid size of boot-menu"),
        ("bootorder", b"/rom", "invalid bootorder"),
        ("bootorder", bytes(5000), "invalid bootorder"),
        ("more", b"", "not the files"),
        ("smbios", b"", "end marker"),
    ],
)
def test_bad_file_of_a_machine(file: str, data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        machine.parse({**build.machine_files(), file: data}, "m")


def test_too_large_a_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tables").open("wb") as file:
        file.truncate(machine.MAX_FILE + 1)
    with pytest.raises(FormatError, match="too large"):
        machine.read(str(tmp_path))


# --- variables --------------------------------------------------------------------------------


def test_boot_option_of_a_menu_in_the_firmware() -> None:
    """As the flake's firmware wrote it into its variables when it booted a kernel directly."""
    (order, option) = variables.only_application("BootManagerMenuApp")
    assert order == ("BootOrder", b"\0\0")
    assert option[1].hex() == (
        "090100002c0042006f006f0074004d0061006e0061006700650072004d0065006e007500410070007000"
        "000004071400c9bdb87cebf8344faaea3ee4af6516a104061400dc5bc2eef267954db1d5f81b2039d11d"
        "7fff0400"
    )


def test_empty_variable_store() -> None:
    variables.require_empty_store(build.variable_store(), "fw")
    with pytest.raises(UnsupportedError, match="not empty"):
        variables.require_empty_store(build.variable_store(b"\xaa\x55\x3f"), "fw")


def test_variable_at_the_end_of_the_store() -> None:
    with pytest.raises(UnsupportedError, match="not empty"):
        variables.require_empty_store(build.variable_store(b"\xff" * (0x800 - 29) + b"\0"), "fw")


@pytest.mark.parametrize("size", [0, 40, 71, 90, 99])
def test_truncated_store(size: int) -> None:
    with pytest.raises(FormatError):
        variables.require_empty_store(build.variable_store()[:size], "fw")


def test_other_store() -> None:
    store = build.variable_store()
    for at in (40, 72):
        with pytest.raises(FormatError, match="no variable store"):
            variables.require_empty_store(store[:at] + b"?" + store[at + 1 :], "fw")
