"""UEFI variables in RTMR 0: what is hashed of them.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4.8 (Secure Boot), 10.2.6
(UEFI_VARIABLE_DATA); UEFI 2.11, sections 3.1.3 (load options), 10.3 (device paths).
"""

from __future__ import annotations

import struct
import uuid

from measure.errors import FormatError, UnsupportedError
from measure.reader import Reader

# Load option attributes: active, hidden, category "application".
_HIDDEN_APPLICATION = 0x1 | 0x8 | 0x100
_MEDIA, _FIRMWARE_FILE, _FIRMWARE_VOLUME = 0x04, 0x06, 0x07
_END = bytes.fromhex("7fff0400")
_DXE_VOLUME = uuid.UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
_VARIABLE_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")
# The menus that OVMF can have in its main volume, by name.
_APPLICATIONS = {
    "UiApp": uuid.UUID("462caa21-7614-4503-836e-8ab6f4662331"),
    "BootManagerMenuApp": uuid.UUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d"),
}


def only_application(name: str) -> tuple[tuple[str, bytes], ...]:
    """BootOrder and Boot0000 where a menu inside the firmware is the only boot option."""
    return ("BootOrder", bytes(2)), ("Boot0000", application_option(name, _APPLICATIONS[name]))


def option_names(boot_order: bytes) -> list[str]:
    """Boot#### for each 16-bit number in BootOrder, an even number of bytes."""
    return [f"Boot{number:04X}" for (number,) in struct.iter_unpack("<H", boot_order)]


def application_option(description: str, file: uuid.UUID) -> bytes:
    """EFI_LOAD_OPTION of a program in OVMF's main firmware volume."""
    path = _node(_FIRMWARE_VOLUME, _DXE_VOLUME) + _node(_FIRMWARE_FILE, file) + _END
    text = (description + "\0").encode("utf-16-le")
    return struct.pack("<IH", _HIDDEN_APPLICATION, len(path)) + text + path


def _node(subtype: int, name: uuid.UUID) -> bytes:
    """A media device path node that holds one GUID."""
    return struct.pack("<BBH", _MEDIA, subtype, 20) + name.bytes_le


def require_empty_store(volume: bytes, file: str) -> None:
    """Checks that a configuration volume holds no variables, so that Secure Boot is off.

    Layout: firmware volume header, then edk2's variable store (GUID, u32 size, u8 format, u8 state,
    6 bytes), then variables up to the first erased bytes.

    Raises:
        FormatError: not a volume with a variable store.
        UnsupportedError: it has variables. Those of Secure Boot would be measured too, and with
            keys enrolled no unsigned kernel starts.
    """
    reader = Reader(volume, file)
    reader.skip(40, "volume header")
    signature = reader.take(4, "volume signature")
    reader.skip(4, "volume attributes")
    header_size = reader.u16("volume header size")
    reader = Reader(volume, file, min(header_size, len(volume)))
    store = uuid.UUID(bytes_le=reader.take(16, "variable store GUID"))
    if signature != b"_FVH" or store != _VARIABLE_STORE:
        raise FormatError(
            "no variable store in the configuration volume",
            file=file,
            expected=f"_FVH, {_VARIABLE_STORE}",
            seen=f"{signature!r}, {store}",
        )
    size = reader.u32("variable store size")
    reader.skip(8, "variable store header")
    variables = reader.take(min(max(size - 28, 0), reader.remaining), "variable store")
    if variables.strip(b"\xff"):
        raise UnsupportedError(
            "the firmware's variable store is not empty, so Secure Boot may be on",
            file=file,
            offset=reader.offset - len(variables),
            expected="a variable store without variables",
        )
