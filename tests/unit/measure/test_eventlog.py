"""Event log: parser, its refusals, and replay."""

from __future__ import annotations

import hashlib
import struct
import time

import pytest

from measure import eventlog
from measure.errors import FormatError, NotCryptoAgileError, NotEventLogError
from tests.support.measurement import builders

LOCALITY = b"StartupLocality\0"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_parse_and_replay() -> None:
    log = eventlog.parse(builders.log([(4, 5, b"a"), (4, 5, b"b"), (7, 0x80000001, b"c")]))
    assert log.banks == ("sha256",)
    assert [event.type_name for event in log.events] == [
        "ACTION", "ACTION", "EFI_VARIABLE_DRIVER_CONFIG",
    ]  # fmt: skip
    first = sha256(bytes(32) + sha256(b"a"))
    assert log.replay() == {
        4: sha256(first + sha256(b"b")),
        7: sha256(bytes(32) + sha256(b"c")),
    }


def test_extend_is_the_same_as_replay() -> None:
    log = eventlog.parse(builders.log([(4, 5, b"a"), (4, 5, b"b")]))
    assert eventlog.extend([sha256(b"a"), sha256(b"b")], 4) == log.replay()[4]
    assert eventlog.extend([], 8) == bytes(32)
    assert eventlog.extend([], 17) == b"\xff" * 32


def test_no_action_is_not_extended() -> None:
    log = eventlog.parse(builders.log([(4, 3, b"note"), (0xFFFFFFFF, 3, b"note")]))
    assert log.replay() == {}


def test_unknown_event_types_are_extended() -> None:
    log = eventlog.parse(builders.log([(4, 0x12345678, b"x")]))
    assert log.events[0].type_name == "0x12345678"
    assert 4 in log.replay()


def test_startup_locality_changes_the_start_of_pcr_0_only() -> None:
    log = eventlog.parse(builders.log([(0, 3, LOCALITY + b"\3"), (0, 8, b"v"), (1, 8, b"v")]))
    assert log.startup_locality == 3
    assert log.replay()[0] == sha256(bytes(31) + b"\3" + sha256(b"v"))
    assert log.replay()[1] == sha256(bytes(32) + sha256(b"v"))


H_CRTM = 0x80000010


@pytest.mark.parametrize("locality", [None, 0, 3, 4])
def test_a_measurement_by_the_hardware_starts_pcr_0_at_4(locality: int | None) -> None:
    """Whatever the firmware logs of TPM2_Startup, which came later."""
    events = [(0, H_CRTM, b"HCRTM"), (0, 8, b"v"), (1, 8, b"v")]
    if locality is not None:
        events.insert(0, (0, 3, LOCALITY + bytes([locality])))
    replay = eventlog.parse(builders.log(events)).replay()
    after_h_crtm = sha256(bytes(31) + b"\4" + sha256(b"HCRTM"))
    assert replay[0] == sha256(after_h_crtm + sha256(b"v"))
    assert replay[1] == sha256(bytes(32) + sha256(b"v"))


def test_only_a_first_measurement_by_the_hardware_was_before_startup() -> None:
    log = eventlog.parse(builders.log([(0, 8, b"v"), (0, H_CRTM, b"HCRTM")]))
    assert log.startup_locality == 0
    log = eventlog.parse(builders.log([(1, 8, b"v"), (0, H_CRTM, b"HCRTM")]))
    assert log.startup_locality == 4


@pytest.mark.parametrize(
    "events",
    [
        [(0, 3, LOCALITY + b"\1")],
        [(0, 3, LOCALITY)],
        [(0, 3, LOCALITY + b"\3\0")],
        [(1, 3, LOCALITY + b"\3")],
        [(0, 3, LOCALITY + b"\3"), (0, 3, LOCALITY + b"\3")],
        [(0, 8, b"v"), (0, 3, LOCALITY + b"\3")],
    ],
    ids=["value", "missing", "long", "register", "twice", "late"],
)
def test_bad_startup_locality(events: list[tuple[int, int, bytes]]) -> None:
    with pytest.raises(FormatError, match="StartupLocality"):
        eventlog.parse(builders.log(events))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"-----BEGIN CERTIFICATE-----\n" * 40,
        bytes(100),
    ],
    ids=["empty", "short", "picture", "text", "zeros"],
)
def test_a_foreign_file_is_said_to_be_one(data: bytes) -> None:
    """The first message is the cause, not a length that was read from it."""
    with pytest.raises(NotEventLogError, match=r"^f: not an event log; expected a 'Spec ID"):
        eventlog.parse(data, "f")


def test_a_log_that_ends_in_its_header_is_truncated() -> None:
    for size in (8, 31, 40, 60):
        with pytest.raises(FormatError, match="truncated"):
            eventlog.parse(builders.log_header()[:size])


def test_sha1_only_log() -> None:
    event = struct.pack("<II20sI", 0, 8, b"d" * 20, 4) + b"data"
    with pytest.raises(NotCryptoAgileError, match="not crypto-agile"):
        eventlog.parse(event * 3)


@pytest.mark.parametrize(("offset", "value"), [(0, 2), (4, 4), (32, 0x54)])
def test_header_event_needs_register_type_and_signature(offset: int, value: int) -> None:
    log = bytearray(builders.log())
    log[offset] = value
    with pytest.raises(NotCryptoAgileError):
        eventlog.parse(bytes(log))


def test_header_of_a_confidential_computing_log_names_register_1() -> None:
    log = bytearray(builders.log())
    log[0] = 1
    assert eventlog.parse(bytes(log)).events


def test_trailing_bytes_in_the_header_event() -> None:
    header = bytearray(builders.log_header() + b"\0")
    header[28] += 1
    with pytest.raises(FormatError, match="trailing bytes"):
        eventlog.parse(bytes(header))


def test_a_bank_that_hashlib_lacks_can_be_parsed_but_not_replayed() -> None:
    log = eventlog.parse(builders.log_header([(0x12, 32)]))
    assert log.banks == ("sm3",)
    with pytest.raises(FormatError, match="no such bank"):
        log.replay("sm3")


@pytest.mark.parametrize(
    ("algorithms", "message"),
    [
        ([], "number of digest algorithms"),
        ([(11, 32)] * 6, "number of digest algorithms"),
        ([(11, 32), (11, 32)], "repeated digest algorithm sha256"),
        ([(11, 20)], "invalid or repeated digest algorithm sha256"),
        ([(0x99, 32)], "unknown digest algorithm"),
    ],
)
def test_bad_header(algorithms: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        eventlog.parse(builders.log_header(algorithms))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (struct.pack("<III", 24, 8, 1) + bytes(40), "invalid PCR index"),
        (struct.pack("<III", 0xFFFFFFFF, 8, 1) + bytes(40), "invalid PCR index"),
        (struct.pack("<III", 0, 8, 0) + bytes(40), "wrong number of digests"),
        (struct.pack("<III", 0, 8, 2) + bytes(80), "wrong number of digests"),
        (struct.pack("<IIIH", 0, 8, 1, 4) + bytes(40), "unannounced"),
        (struct.pack("<IIIH", 0, 8, 1, 0x1234) + bytes(40), "unknown digest algorithm"),
        (struct.pack("<IIIH32xI", 0, 8, 1, 11, 0xFFFFFFFF) + bytes(40), "event data is truncated"),
    ],
)
def test_bad_events(event: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        eventlog.parse(builders.log_header() + event)


def test_two_banks_need_both_digests_once() -> None:
    header = builders.log_header([(4, 20), (11, 32)])
    good = struct.pack("<IIIH32xH20xI", 0, 8, 2, 11, 4, 0)
    assert eventlog.parse(header + good).banks == ("sha1", "sha256")
    twice = struct.pack("<IIIH32xH32xI", 0, 8, 2, 11, 11, 0)
    with pytest.raises(FormatError, match="repeated digest"):
        eventlog.parse(header + twice)


def test_replay_of_a_missing_bank() -> None:
    with pytest.raises(FormatError, match="no such bank"):
        eventlog.parse(builders.log()).replay("sha384")


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
def test_unused_end_of_the_log_area(padding: bytes) -> None:
    log = builders.log()
    assert eventlog.parse(log + padding * 1000).replay() == eventlog.parse(log).replay()
    with pytest.raises(FormatError):
        eventlog.parse(log + padding * 1000 + b"\1")
    with pytest.raises(FormatError):
        eventlog.parse(log + padding * 3 + b"\1" + padding * 1000)


def test_the_unused_end_is_looked_for_once() -> None:
    """Each event begins as an unused area does, and is followed by what looks like one."""
    events = [(0, 0, b"")] * 9_999 + [(0, 0, bytes(3 << 20) + b"\1")]
    log = builders.log(events)
    started = time.process_time()
    assert len(eventlog.parse(log).events) == len(events)
    assert time.process_time() - started < 2


def test_every_truncation_inside_an_event_is_refused() -> None:
    log = builders.log([(4, 5, b"some data")])
    header = len(builders.log_header())
    for size in range(len(log)):
        if size == header:
            continue  # a log without events
        with pytest.raises(FormatError):
            eventlog.parse(log[:size])


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match="too large"):
        eventlog.parse(bytes(eventlog.MAX_LOG + 1))
    monkeypatch.setattr(eventlog, "MAX_EVENTS", 1)
    with pytest.raises(FormatError, match="too many events"):
        eventlog.parse(builders.log())
