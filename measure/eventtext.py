"""What an event's data says, for people: one short printable line, never believed.

Formats: TCG PC Client Platform Firmware Profile 1.06, section 10.2.
"""

from __future__ import annotations

import struct

from measure import gpt
from measure.eventlog import Event, EventType

MAX_LENGTH = 100

_ASCII = frozenset({
    EventType.ACTION, EventType.EFI_ACTION, EventType.PLATFORM_CONFIG_FLAGS,
    EventType.EFI_HCRTM_EVENT,
})  # fmt: skip
_STRUCTURE_WITH_NAME = frozenset({
    EventType.EFI_PLATFORM_FIRMWARE_BLOB2, EventType.EFI_HANDOFF_TABLES2,
})  # fmt: skip


def summary(event: Event) -> str:
    """What an event's data says, in printable ASCII, at most 100 characters."""
    return printable(_text(event).rstrip("\0")[:MAX_LENGTH])


def printable(text: str) -> str:
    """The text with a question mark for everything that could act on a terminal."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def utf16(data: bytes) -> str:
    """Text in UTF-16LE, without NULs at the end; what is no text becomes U+FFFD."""
    return data.decode("utf-16-le", "replace").rstrip("\0")


def _text(event: Event) -> str:
    data = event.data
    if event.type == EventType.S_CRTM_VERSION:
        return utf16(data)
    if event.type == EventType.IPL:
        return _either(data)
    if event.type == EventType.EVENT_TAG:
        return _either(_tagged(data))
    if event.type in _ASCII:
        return data.decode("ascii", "replace")
    if event.type in _STRUCTURE_WITH_NAME and data:
        return data[1 : 1 + data[0]].decode("ascii", "replace")
    if event.type_name.startswith("EFI_VARIABLE_") and len(data) >= 32:
        characters, size = struct.unpack_from("<QQ", data, 16)
        return f"{utf16(data[32 : 32 + 2 * min(characters, 64)])} ({size} bytes)"
    if event.type == EventType.EFI_GPT_EVENT:
        entries = range(gpt.HEADER_SIZE + 8, len(data) - gpt.ENTRY_SIZE + 1, gpt.ENTRY_SIZE)
        return ", ".join(utf16(data[at + 56 : at + gpt.ENTRY_SIZE]) for at in entries)
    return data[:24].hex()


def _tagged(data: bytes) -> bytes:
    """Behind tag and size, 4 bytes each; some kernels leave them out in a confidential machine."""
    has_header = len(data) >= 8 and int.from_bytes(data[4:8], "little") == len(data) - 8
    return data[8:] if has_header else data


def _either(data: bytes) -> str:
    """Boot loaders log ASCII, systemd-stub UTF-16: ASCII text has no NUL in its second byte."""
    return utf16(data) if data[1:2] == b"\0" else data.decode("ascii", "replace")
