"""The ACPI table that says where a machine's confidential-computing event log is.

Source: UEFI 2.11, section 38.4.1; ACPI 6.5, section 5.2.34 ("CC Event Log Table"). Linux shows it
as /sys/firmware/acpi/tables/CCEL and the log itself as /sys/firmware/acpi/tables/data/CCEL.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from measure.errors import FormatError
from measure.reader import Reader

SIGNATURE = b"CCEL"
TABLE_SIZE = 56


class Technology(IntEnum):
    """The confidential-computing technology whose registers the log is of."""

    SEV = 1
    TDX = 2


@dataclass(frozen=True)
class Table:
    """The table: technology and its subtype; size in bytes and physical address of the log."""

    technology: Technology
    subtype: int
    log_size: int
    log_address: int

    def check_log(self, log: bytes, file: str) -> None:
        """Raises FormatError if `log` is longer than the area that the table names."""
        if len(log) > self.log_size:
            raise FormatError(
                "the event log is longer than its ACPI table says",
                file=file,
                expected=f"at most {self.log_size} bytes",
                seen=f"{len(log)} bytes",
            )


def parse_table(data: bytes, file: str) -> Table:
    """Parses the 56 bytes of the table.

    Raises:
        FormatError: wrong signature, size, checksum or technology.
    """
    reader = Reader(data, file)
    signature = reader.take(4, "signature")
    size = reader.u32("table size")
    revision = reader.u8("revision")
    if signature != SIGNATURE or size != TABLE_SIZE or len(data) != TABLE_SIZE or revision != 1:
        raise FormatError(
            "not a CCEL table",
            file=file,
            offset=0,
            expected=f"{SIGNATURE!r}, {TABLE_SIZE} bytes, revision 1",
            seen=f"{signature!r}, {size} bytes in {len(data)}, revision {revision}",
        )
    if sum(data) & 0xFF:
        raise FormatError(
            "the CCEL table's checksum is wrong",
            file=file,
            offset=9,
            expected="a byte sum of 0",
            seen=f"{sum(data) & 0xFF:#x}",
        )
    reader.skip(27, "rest of the ACPI header")
    number, subtype = reader.u8("technology"), reader.u8("subtype")
    reader.skip(2, "reserved")
    try:
        technology = Technology(number)
    except ValueError:
        raise FormatError(
            "unknown confidential-computing technology",
            file=file,
            offset=36,
            expected=", ".join(f"{t.value} ({t.name})" for t in Technology),
            seen=str(number),
        ) from None
    return Table(technology, subtype, reader.u64("log size"), reader.u64("log address"))
