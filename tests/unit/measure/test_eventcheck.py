"""An event log against itself: each lie that its digests show, and what honest logs have too."""

from __future__ import annotations

import hashlib
import struct

import pytest

from measure import eventcheck, eventlog
from tests.support.measurement import builders

SEPARATOR, ACTION, BOOT, BOOT2, AUTHORITY, DRIVER, GPT = (
    4, 0x80000007, 0x80000002, 0x8000000C, 0x800000E0, 0x80000001, 0x80000006,
)  # fmt: skip
IPL = 0x0D


def found_in(*events: bytes) -> list[eventcheck.Finding]:
    return eventcheck.check(eventlog.parse(builders.log_header() + b"".join(events)))


def check(*events: bytes) -> list[str]:
    """The contradictions: what makes the command fail."""
    return [found.message for found in found_in(*events) if found.is_contradiction]


def notes(*events: bytes) -> list[str]:
    """What is only told. Nothing else may be found."""
    assert check(*events) == []
    return [found.message for found in found_in(*events)]


def variable(value: bytes, *, size: int | None = None) -> bytes:
    """UEFI_VARIABLE_DATA of a variable called X."""
    length = len(value) if size is None else size
    return b"G" * 16 + struct.pack("<QQ", 1, length) + b"X\0" + value


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_a_truthful_log() -> None:
    assert notes(
        builders.log_event(0, 8, b"v\0"),
        builders.log_event(0, 0x11, b"note"),
        builders.log_event(7, DRIVER, variable(b"1")),
        builders.log_event(7, SEPARATOR, bytes(4)),
        builders.log_event(7, AUTHORITY, variable(b"cert")),
        builders.log_event(5, GPT, b"table"),
        builders.log_event(4, SEPARATOR, b"\xff" * 4),
        builders.log_event(4, ACTION, b"action"),
        builders.log_event(1, BOOT, variable(b"order"), digest_of(b"order")),
        builders.log_event(1, BOOT, variable(b"order")),
        builders.log_event(1, BOOT2, variable(b"order")),
        builders.log_event(8, IPL, b"grub_cmd", bytes(32)),
    ) == []  # fmt: skip


OTHER_DIGEST = "its sha256 digest is not that of its data"


@pytest.mark.parametrize("kind", [5, ACTION, BOOT2, DRIVER, GPT])
def test_a_digest_that_is_not_that_of_the_data(kind: int) -> None:
    event = builders.log_event(1, kind, variable(b"says this"), digest_of(b"is that"))
    assert check(event) == [OTHER_DIGEST]


@pytest.mark.parametrize("kind", [8, 0x11, BOOT, AUTHORITY])
def test_vendors_that_hash_something_else_are_honest(kind: int) -> None:
    """Some log their version as text and hash its GUID, for instance."""
    event = builders.log_event(0, kind, variable(b"says this"), digest_of(b"is that"))
    assert notes(event) == [OTHER_DIGEST]


def test_the_hash_of_a_value_is_only_good_for_boot_variables() -> None:
    assert notes(builders.log_event(1, BOOT, variable(b"v"), digest_of(b"v"))) == []
    assert len(check(builders.log_event(1, DRIVER, variable(b"v"), digest_of(b"v")))) == 1
    nothing = b"G" * 16 + bytes(16)  # no name and no value
    assert notes(builders.log_event(1, BOOT, nothing, digest_of(b""))) == []
    wrong = variable(b"v", size=2)
    assert len(notes(builders.log_event(1, BOOT, wrong, digest_of(b"v")))) == 1
    assert len(notes(builders.log_event(1, BOOT, b"short", digest_of(b"v")))) == 1


def test_one_byte_too_many_is_only_good_for_shims_authorities() -> None:
    longer = variable(b"cert") + b"?"
    assert notes(builders.log_event(7, AUTHORITY, longer, digest_of(longer[:-1]))) == []
    assert len(notes(builders.log_event(7, AUTHORITY, longer, digest_of(longer[:-2])))) == 1
    assert len(check(builders.log_event(7, DRIVER, longer, digest_of(longer[:-1])))) == 1


def test_a_second_separator() -> None:
    """An end of the firmware's events that was not the end."""
    one, other = (builders.log_event(pcr, SEPARATOR, bytes(4)) for pcr in (4, 5))
    assert notes(one, other) == []
    (message,) = check(one, builders.log_event(4, ACTION, b"late"), one)
    assert message.startswith("a second separator")


def test_a_second_separator_of_the_operating_system() -> None:
    """The specification speaks of the firmware's registers only, 0 to 7."""
    one = builders.log_event(8, SEPARATOR, bytes(4))
    (message,) = notes(one, one)
    assert message.startswith("a second separator")


def test_a_second_separator_in_an_rtmr() -> None:
    """Firmware of edk2 ends the events of several of a TPM's registers in one RTMR."""
    separator = struct.pack("<IIIH", 1, SEPARATOR, 1, 0x0C)
    separator += hashlib.sha384(bytes(4)).digest() + struct.pack("<I", 4) + bytes(4)
    log = eventlog.parse(builders.log_header([(0x0C, 48)]) + separator * 2)
    assert log.is_ccel
    (found,) = eventcheck.check(log)
    assert not found.is_contradiction
    assert found.message.startswith("a second separator")


def test_a_separator_that_reports_an_error() -> None:
    (message,) = check(builders.log_event(4, SEPARATOR, b"\1\0\0\0"))
    assert "reports an error" in message


@pytest.mark.parametrize("data", [bytes(4), b"\xff" * 4])
def test_a_separator_under_another_name(data: bytes) -> None:
    (message,) = notes(builders.log_event(7, IPL, b"harmless", digest_of(data)))
    assert message == "it extends a separator's digest"


def test_data_that_happens_to_be_four_zero_bytes() -> None:
    """A boot variable that holds the number 0, in a log in which everything is true."""
    event = builders.log_event(1, BOOT, variable(bytes(4)), digest_of(bytes(4)))
    assert notes(event) == ["it extends a separator's digest"]


def test_every_bank_counts() -> None:
    header = builders.log_header([(0x0B, 32), (0x0C, 48)])
    event = struct.pack("<IIIH", 4, ACTION, 2, 0x0B) + digest_of(b"a")
    event += struct.pack("<H", 0x0C) + bytes(48) + struct.pack("<I", 1) + b"a"
    (found,) = eventcheck.check(eventlog.parse(header + event))
    assert "its sha384 digest is not" in str(found)
    assert "register 4, EFI_ACTION at 0x" in str(found)


def test_a_bank_that_hashlib_lacks_is_left_out() -> None:
    header = builders.log_header([(0x12, 32)])
    event = struct.pack("<IIIH", 4, ACTION, 1, 0x12) + bytes(32) + struct.pack("<I", 1) + b"a"
    assert eventcheck.check(eventlog.parse(header + event)) == []


def test_notes_are_not_checked() -> None:
    assert notes(builders.log_event(4, 3, b"note", bytes(32))) == []
