"""TCG2 crypto-agile event log: strict parser and replay.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10 ("Event Logging"). The log is a
list of events without a count; its first event is in the old SHA-1 format and carries the
"Spec ID Event03" header that names the digest algorithms of all later ones.

A confidential-computing log (CCEL; UEFI 2.11, section 38.4) has the same format and other
registers: 0 is MRTD, which no event extends, and 1 to 4 are RTMR 0 to 3.

The log is untrusted input: it only means something when its replay equals quoted registers.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from measure.errors import FormatError, NotCryptoAgileError, NotEventLogError
from measure.reader import Reader

MAX_LOG = 4 << 20  # bytes; the largest real logs are some 100 KiB
MAX_EVENTS = 10_000
MAX_PCR = 23
RTMRS = 4
NO_PCR = 0xFFFFFFFF  # an EV_NO_ACTION event may name no register at all

# Banks whose hash every Python has. SM3 is only in some builds of OpenSSL.
COMPUTED = ("sha1", "sha256", "sha384", "sha512")

SPEC_ID = b"Spec ID Event03\x00"
STARTUP_LOCALITY = b"StartupLocality\x00"
H_CRTM_LOCALITY = 4

_EVENT_HEADER = struct.Struct("<II20xI")  # TCG_PCR_EVENT: PCR, type, SHA-1 digest, size of the data


class EventType(IntEnum):
    """Event types that are decided on or printed by name; a log may hold others."""

    NO_ACTION = 0x00000003
    SEPARATOR = 0x00000004
    ACTION = 0x00000005
    EVENT_TAG = 0x00000006
    S_CRTM_CONTENTS = 0x00000007
    S_CRTM_VERSION = 0x00000008
    CPU_MICROCODE = 0x00000009
    PLATFORM_CONFIG_FLAGS = 0x0000000A
    TABLE_OF_DEVICES = 0x0000000B
    IPL = 0x0000000D
    NONHOST_INFO = 0x00000011
    EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EFI_VARIABLE_BOOT = 0x80000002
    EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EFI_GPT_EVENT = 0x80000006
    EFI_ACTION = 0x80000007
    EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EFI_HANDOFF_TABLES = 0x80000009
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EFI_HANDOFF_TABLES2 = 0x8000000B
    EFI_VARIABLE_BOOT2 = 0x8000000C
    EFI_HCRTM_EVENT = 0x80000010
    EFI_VARIABLE_AUTHORITY = 0x800000E0


class Algorithm(IntEnum):
    """TPM_ALG_ID of the digests a log may carry; the name is hashlib's."""

    sha1 = 0x0004
    sha256 = 0x000B
    sha384 = 0x000C
    sha512 = 0x000D
    sm3 = 0x0012

    @property
    def size(self) -> int:
        """Digest size in bytes."""
        return {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32}[self.name]


@dataclass(frozen=True)
class Event:
    """One event: `digests` by algorithm name, `data` as logged (not always what was hashed)."""

    pcr: int
    type: int
    digests: dict[str, bytes]
    data: bytes
    offset: int

    @property
    def type_name(self) -> str:
        """`EFI_GPT_EVENT` etc., or the number in hex for a type without a name here."""
        return event_type_name(self.type)


@dataclass(frozen=True)
class EventLog:
    """A parsed log.

    Attributes:
        banks: the algorithm names in header order.
        events: all events but the header, in order.
        startup_locality: the last byte of PCR 0 before its first event: 0, 3, or 4 after H-CRTM.
    """

    banks: tuple[str, ...]
    events: tuple[Event, ...]
    startup_locality: int

    @property
    def computed_banks(self) -> tuple[str, ...]:
        """The banks that can be replayed and checked here; none in a log that has only SM3."""
        return tuple(bank for bank in self.banks if bank in COMPUTED)

    @property
    def is_ccel(self) -> bool:
        """Whether the registers are RTMRs: some TPM register 0 or above 4 is in every TPM's log.

        That is the TPM's firmware version and separators; a CCEL can name only 1 to 4.
        """
        extended = {event.pcr for event in self.events if event.type != EventType.NO_ACTION}
        return self.banks == ("sha384",) and extended <= set(range(1, RTMRS + 1))

    def rtmrs(self) -> dict[int, bytes]:
        """RTMR 0 to 3 -> 48 bytes, after all events of a confidential-computing log.

        Raises:
            FormatError: it is a TPM's log.
        """
        if not self.is_ccel:
            raise FormatError(
                "not a confidential-computing event log",
                expected="bank sha384, registers 1 to 4",
                seen=f"banks {', '.join(self.banks)}, "
                f"registers {sorted({event.pcr for event in self.events})}",
            )
        replayed = self.replay("sha384")
        return {number: replayed.get(number + 1, bytes(48)) for number in range(RTMRS)}

    def replay(self, bank: str = "sha256") -> dict[int, bytes]:
        """Register values after all events, for the registers that some event names.

        Raises:
            FormatError: the log has no digests of that bank, or they cannot be computed here.
        """
        if bank not in self.computed_banks:
            raise FormatError(
                "the event log has no such bank", expected=bank, seen=", ".join(self.banks)
            )
        pcrs: dict[int, bytes] = {}
        for event in self.events:
            if event.type == EventType.NO_ACTION:
                continue
            value = pcrs.get(event.pcr) or initial_value(event.pcr, bank, self.startup_locality)
            pcrs[event.pcr] = hashlib.new(bank, value + event.digests[bank]).digest()
        return pcrs


def event_type_name(number: int) -> str:
    """The name of an event type, or its number in hex if it has none here."""
    try:
        return EventType(number).name
    except ValueError:
        return f"{number:#010x}"


def initial_value(pcr: int, bank: str = "sha256", startup_locality: int = 0) -> bytes:
    """A register at start-up: zeros; PCR 0 ends in the start-up locality; 17 to 22 are ones."""
    size = hashlib.new(bank).digest_size
    if 17 <= pcr <= 22:
        return b"\xff" * size
    return bytes(size - 1) + bytes([startup_locality if pcr == 0 else 0])


def extend(digests: Iterable[bytes], pcr: int, bank: str = "sha256") -> bytes:
    """The value of register `pcr` after extending `digests` in order, start-up locality 0."""
    value = initial_value(pcr, bank)
    for digest in digests:
        value = hashlib.new(bank, value + digest).digest()
    return value


def parse(data: bytes, file: str = "event log") -> EventLog:
    """Parses a binary_bios_measurements file.

    Trailing bytes are accepted only where firmware leaves the unused part of a fixed-size log:
    all 0x00 or all 0xff to the end.

    Raises:
        NotEventLogError: the input is something else.
        NotCryptoAgileError: the log is in the SHA-1-only format.
        FormatError: everything else that is not a well-formed log.
    """
    if len(data) > MAX_LOG:
        raise FormatError(
            "the event log is too large",
            file=file,
            expected=f"at most {MAX_LOG} bytes",
            seen=f"{len(data)} bytes",
        )
    reader = Reader(data, file)
    algorithms = _header(reader)
    events: list[Event] = []
    locality: int | None = None
    unused = _unused(data)
    # A rest too short to be told from a cut-off event goes to `_event`, which refuses it.
    while reader.offset < unused or 0 < reader.remaining < 8:
        if len(events) >= MAX_EVENTS:
            raise FormatError(
                "too many events", file=file, offset=reader.offset, expected=f"<= {MAX_EVENTS}"
            )
        event = _event(reader, algorithms)
        if event.type == EventType.NO_ACTION and event.data.startswith(STARTUP_LOCALITY):
            locality = _locality(event, events, locality, file)
        events.append(event)
    if _starts_with_h_crtm(events):
        locality = H_CRTM_LOCALITY
    return EventLog(tuple(a.name for a in algorithms), tuple(events), locality or 0)


def _header(reader: Reader) -> list[Algorithm]:
    """TCG_PCR_EVENT with TCG_EfiSpecIDEvent inside (section 10.2.1, 10.4.5.1)."""
    file = reader.file
    start = reader.take(min(_EVENT_HEADER.size, reader.remaining), "header event")
    pcr, kind, size = _EVENT_HEADER.unpack(start.ljust(_EVENT_HEADER.size, b"\0"))
    # A confidential-computing log (CCEL) counts its registers from 1.
    is_header = pcr in (0, 1) and kind == EventType.NO_ACTION
    if not is_header and (pcr > MAX_PCR or not kind or size > reader.remaining):
        raise NotEventLogError(
            "not an event log",
            file=file,
            expected=f"a {SPEC_ID[:-1].decode()!r} header event at the start",
            seen=start[:16].hex() or "nothing",
        )
    reader.offset = 0
    reader.skip(_EVENT_HEADER.size, "header event")
    data = reader.take(size, "header event")
    if not is_header or not data.startswith(SPEC_ID):
        raise NotCryptoAgileError(
            "the event log is not crypto-agile, so it holds no SHA-256 digests",
            file=file,
            offset=0,
            expected=f"a {SPEC_ID[:-1].decode()!r} header event",
            seen=f"PCR {pcr}, type {event_type_name(kind)}, data {data[:16].hex()}",
        )
    header = Reader(data, file + " (Spec ID event)", len(SPEC_ID))
    header.skip(4 + 4, "platform class and version")
    count = header.u32("number of algorithms")
    if not 1 <= count <= len(Algorithm):
        raise FormatError(
            "invalid number of digest algorithms",
            file=file,
            expected=f"1 to {len(Algorithm)}",
            seen=str(count),
        )
    algorithms: list[Algorithm] = []
    for _ in range(count):
        number, size = header.u16("algorithm id"), header.u16("digest size")
        algorithm = _algorithm(number, file)
        if size != algorithm.size or algorithm in algorithms:
            raise FormatError(
                f"invalid or repeated digest algorithm {algorithm.name}",
                file=file,
                expected=f"one entry of {algorithm.size} bytes",
                seen=f"{size} bytes",
            )
        algorithms.append(algorithm)
    header.skip(header.u8("vendor info size"), "vendor info")
    if header.remaining:
        raise FormatError(
            "trailing bytes in the Spec ID event", file=file, seen=f"{header.remaining} bytes"
        )
    return algorithms


def _event(reader: Reader, algorithms: list[Algorithm]) -> Event:
    """TCG_PCR_EVENT2 (section 10.2.2): one digest per algorithm of the header, in any order."""
    offset, file = reader.offset, reader.file
    pcr, kind = reader.u32("PCR index"), reader.u32("event type")
    if pcr > MAX_PCR and not (pcr == NO_PCR and kind == EventType.NO_ACTION):
        raise FormatError(
            "invalid PCR index", file=file, offset=offset, expected=f"0 to {MAX_PCR}", seen=str(pcr)
        )
    count = reader.u32("digest count")
    if count != len(algorithms):
        raise FormatError(
            "an event has the wrong number of digests",
            file=file,
            offset=offset,
            expected=str(len(algorithms)),
            seen=str(count),
        )
    digests: dict[str, bytes] = {}
    for _ in range(count):
        algorithm = _algorithm(reader.u16("algorithm id"), file)
        if algorithm not in algorithms or algorithm.name in digests:
            raise FormatError(
                f"an event has an unannounced or repeated digest {algorithm.name}",
                file=file,
                offset=offset,
            )
        digests[algorithm.name] = reader.take(algorithm.size, "digest")
    data = reader.take(reader.u32("event size"), "event data")
    return Event(pcr, kind, digests, data, offset)


def _algorithm(number: int, file: str) -> Algorithm:
    try:
        return Algorithm(number)
    except ValueError:
        raise FormatError(
            "unknown digest algorithm",
            file=file,
            expected=", ".join(f"{a:#06x} ({a.name})" for a in Algorithm),
            seen=f"{number:#06x}",
        ) from None


def _locality(event: Event, before: list[Event], seen: int | None, file: str) -> int:
    """StartupLocality (section 10.4.5.3): once, before PCR 0 is first extended, 0, 3 or 4."""
    late = any(e.pcr == 0 and e.type != EventType.NO_ACTION for e in before)
    value = event.data[len(STARTUP_LOCALITY) :]
    if seen is not None or late or event.pcr != 0 or value not in (b"\x00", b"\x03", b"\x04"):
        raise FormatError(
            "invalid StartupLocality event",
            file=file,
            offset=event.offset,
            expected="one, for PCR 0, before its first extend, with locality 0, 3 or 4",
            seen=f"PCR {event.pcr}, value {value[:8].hex()}, repeated {seen is not None}, "
            f"late {late}",
        )
    return value[0]


def _starts_with_h_crtm(events: list[Event]) -> bool:
    """Whether the first event that extends PCR 0 is the measurement by the hardware (H-CRTM).

    The hardware hashes the firmware before TPM2_Startup. At the end of that hash the TPM sets PCR 0
    to 0...04 and extends it; TPM2_Startup then leaves PCR 0 as it is, from every locality (TPM 2.0
    Library, Part 1, "Hardware Core Root of Trust Measurement (H-CRTM) Event Sequence"; Part 3,
    "_TPM_Hash_End"). Not all firmware logs a StartupLocality event beside it.
    """
    for event in events:
        if event.pcr == 0 and event.type != EventType.NO_ACTION:
            return event.type == EventType.EFI_HCRTM_EVENT
    return False


def _unused(data: bytes) -> int:
    """Where the bytes begin that are zeros, or 0xff, to the end: the unused part of a fixed area.

    An event cannot start like this: PCR 0, type 0, no digests is refused by `_event`, and register
    0xffffffff is only legal with EV_NO_ACTION.
    """
    return min(len(data.rstrip(b"\0")), len(data.rstrip(b"\xff")))
