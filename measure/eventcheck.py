"""What an event log says against itself, and what is odd in it.

A log's digests are checked by replaying them; its words are the host's. For some event types the
digest is over the words that are logged beside it, so for these a lie shows. Everything that is
read from a log for people (and by `measure explain`) is worth what this check leaves of it.

A *contradiction* breaks a rule that the specification lays down for every firmware. A *note* is
what honest machines also log: vendors that hash something else than the text they log, firmware
that ends its events twice, a value that happens to be four zero bytes.

Sources: TCG PC Client Platform Firmware Profile 1.06, sections 10.4.1 (which types hash their own
data) and 3.3.4.3 (separators); go-attestation's event log disclosure of 2021 (an event that
extends a separator's digest under another type name hides the end of the firmware's events).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from measure.eventlog import Event, EventLog, EventType

# The specification defines the digest as that of the logged data, and no firmware known here
# deviates.
_HASHES_ITS_DATA = frozenset({
    EventType.SEPARATOR,
    EventType.ACTION,
    EventType.EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EFI_GPT_EVENT,
    EventType.EFI_ACTION,
    EventType.EFI_VARIABLE_BOOT2,
})  # fmt: skip
# Most firmware hashes the logged data. Some vendors do not: they log a version as text and hash its
# GUID, or leave it open what they hash.
_MOSTLY_HASHES_ITS_DATA = frozenset({EventType.S_CRTM_VERSION, EventType.NONHOST_INFO})
_SEPARATORS = (bytes(4), b"\xff" * 4)
_LAST_FIRMWARE_PCR = 7  # the later registers belong to the operating system
_VARIABLE_HEADER = 32  # GUID, length of the name in characters, length of the value in bytes


@dataclass(frozen=True)
class Finding:
    """One event that is not as it should be.

    Attributes:
        event: the event.
        message: what is wrong with it, one clause.
        expected, seen: the two values that disagree, short.
        is_contradiction: whether it breaks a rule for every firmware; otherwise it is a note.
    """

    event: Event
    message: str
    expected: str
    seen: str
    is_contradiction: bool

    def __str__(self) -> str:
        place = f"register {self.event.pcr}, {self.event.type_name} at {self.event.offset:#x}"
        return f"{place}: {self.message}; expected {self.expected}, seen {self.seen}"


def check(log: EventLog) -> list[Finding]:
    """Every event of `log` whose digest is not that of its data, and every odd separator.

    Only `log.computed_banks` are looked at: of a log without one of them, nothing is checked.
    """
    found: list[Finding] = []
    separated: set[int] = set()
    for event in log.events:
        if event.type == EventType.NO_ACTION:
            continue
        found += _digests(event, log.computed_banks)
        if event.type != EventType.SEPARATOR:
            found += _disguised(event, log.computed_banks)
            continue
        if event.data not in _SEPARATORS:
            message = "the firmware reports an error instead of the end of its events"
            found.append(Finding(event, message, "00000000", event.data[:8].hex(), True))
        if event.pcr in separated:
            # An RTMR takes the events of several of the TPM's registers, each with its separator.
            certain = not log.is_ccel and event.pcr <= _LAST_FIRMWARE_PCR
            message = "a second separator: the firmware's events had already ended"
            found.append(Finding(event, message, "one", "another one", certain))
        separated.add(event.pcr)
    return found


def _digests(event: Event, banks: tuple[str, ...]) -> Iterator[Finding]:
    """Compares each digest with those of what the event's type says is hashed."""
    hashed = list(_hashed(event))
    for bank in banks:
        wanted = [hashlib.new(bank, data).digest() for data in hashed]
        if wanted and event.digests[bank] not in wanted:
            yield Finding(
                event,
                f"its {bank} digest is not that of its data",
                wanted[0].hex(),
                event.digests[bank].hex(),
                event.type in _HASHES_ITS_DATA,
            )


def _hashed(event: Event) -> Iterator[bytes]:
    """What the digest may be over, most likely first; nothing for a type that says nothing."""
    if event.type in _HASHES_ITS_DATA | _MOSTLY_HASHES_ITS_DATA:
        yield event.data
    elif event.type == EventType.EFI_VARIABLE_BOOT:
        # EDK2 hashes the value alone, other firmware all of the data.
        value = _variable_value(event.data)
        if value is not None:
            yield value
        yield event.data
    elif event.type == EventType.EFI_VARIABLE_AUTHORITY:
        yield event.data
        # shim before version 15 logged one byte more than it hashed.
        yield event.data[:-1]


def _variable_value(data: bytes) -> bytes | None:
    """The value in a UEFI_VARIABLE_DATA (section 10.2.6), or None if its lengths are wrong."""
    if len(data) < _VARIABLE_HEADER:
        return None
    characters, size = struct.unpack_from("<16xQQ", data)
    value = data[_VARIABLE_HEADER + 2 * characters :]
    return value if len(value) == size else None


def _disguised(event: Event, banks: tuple[str, ...]) -> Iterator[Finding]:
    """An event with a separator's digest. It may be honest: its data may be four zero bytes."""
    for separator in _SEPARATORS:
        if any(event.digests[b] == hashlib.new(b, separator).digest() for b in banks):
            message = "it extends a separator's digest"
            yield Finding(event, message, "type SEPARATOR", event.type_name, False)
