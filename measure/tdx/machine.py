"""What QEMU shows to a machine's firmware, in the files of one folder.

| file | what |
|---|---|
| `table-loader`, `rsdp`, `tables` | fw_cfg items etc/table-loader, etc/acpi/rsdp, etc/acpi/tables |
| `smbios` | the SMBIOS structure table that the firmware publishes |
| `boot-menu` | fw_cfg item 0x000e, 2 bytes |
| `bootorder` | fw_cfg item bootorder; empty if there is none |

Beside the folder, NAME.arguments may have the arguments that QEMU was started with, one a line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from measure.errors import FormatError, InputError
from measure.tdx import acpi, smbios
from measure.tdx.smbios import Statements

FILES = ("table-loader", "rsdp", "tables", "smbios", "boot-menu", "bootorder")
ARGUMENTS = ".arguments"
MAX_FILE = acpi.MAX_TABLES
BOOT_MENU_SIZE = 2
MAX_BOOT_ORDER = 4096


@dataclass(frozen=True)
class Machine:
    """A machine's description, checked.

    Attributes:
        acpi: the three files of ACPI tables.
        smbios: the bytes of the SMBIOS table that are hashed.
        statements: what that table says in words and numbers.
        boot_menu: whether QEMU asks the firmware for its boot menu, 2 bytes.
        bootorder: the devices to boot from, as QEMU names them, each with its NUL.
        arguments: QEMU's; none if they are not known.
    """

    acpi: acpi.Tables
    smbios: bytes
    statements: Statements
    boot_menu: bytes
    bootorder: bytes
    arguments: tuple[str, ...] = ()


def parse(files: dict[str, bytes], name: str) -> Machine:
    """Checks the contents of the files of machine `name`.

    Raises:
        FormatError: files too few or too many, or one of them is malformed.
    """
    if set(files) != set(FILES):
        raise FormatError(
            "not the files of a machine",
            file=name,
            expected=", ".join(FILES),
            seen=", ".join(sorted(files))[:200] or "none",
        )
    boot_menu, bootorder = files["boot-menu"], files["bootorder"]
    if len(boot_menu) != BOOT_MENU_SIZE:
        raise FormatError(
            "invalid size of boot-menu",
            file=name,
            expected="2 bytes",
            seen=f"{len(boot_menu)} bytes",
        )
    if len(bootorder) > MAX_BOOT_ORDER or (bootorder and bootorder[-1]):
        raise FormatError(
            "invalid bootorder",
            file=name,
            expected=f"device paths, each with a NUL, in at most {MAX_BOOT_ORDER} bytes",
            seen=repr(bootorder[-20:]),
        )
    return Machine(
        acpi.parse(files["table-loader"], files["rsdp"], files["tables"], name),
        smbios.measured(files["smbios"], f"{name} (smbios)"),
        smbios.statements(files["smbios"], f"{name} (smbios)"),
        boot_menu,
        bootorder,
    )


def read(folder: str) -> Machine:
    """Reads the machine that a folder describes, and QEMU's arguments if they are beside it.

    Raises:
        InputError: a file cannot be read.
        FormatError: as `parse`.
    """
    try:
        paths = sorted(Path(folder).iterdir())[: 2 * len(FILES)]
        files = {path.name: _read(path) for path in paths}
        beside = Path(f"{Path(folder)}{ARGUMENTS}")
        arguments = _read(beside).decode("utf-8", "replace") if beside.is_file() else ""
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", file=folder) from None
    return replace(parse(files, folder), arguments=tuple(arguments.splitlines()))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise FormatError("too large", file=str(path), expected=f"at most {MAX_FILE} bytes")
    return data
