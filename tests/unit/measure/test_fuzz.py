"""Every parser, with hostile input: it returns or raises MeasureError, and it is bounded."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from measure import (
    ccel,
    direct,
    eventcheck,
    eventlog,
    eventtext,
    explain,
    fat,
    firmware,
    gpt,
    image,
    pcr,
    pe,
    report,
    shapes,
    uki,
    verity,
)
from measure.errors import MeasureError
from measure.explain import evidence
from measure.explain.commandline import command_lines
from tests.support.measurement import builders, platforms

Parser = Callable[[bytes], object]


def parse_fat(data: bytes) -> object:
    volume = fat.Volume(data, "f", 0, len(data))
    return [volume.read(file) for file in volume.files()]


def parse_pe(data: bytes) -> object:
    parsed = pe.parse(data, "f")
    return parsed.authenticode(), [parsed.content(s) for s in parsed.sections]


def parse_uki(data: bytes) -> object:
    parsed = uki.parse(data, "f")
    return parsed.command_line, parsed.initrd, list(parsed.measured_sections())


def parse_log(data: bytes) -> object:
    log = eventlog.parse(data)
    texts = [eventtext.summary(event) for event in log.events]
    texts += [str(found) for found in eventcheck.check(log)]
    assert all(text.isprintable() and len(text) < 600 for text in texts)
    return log.rtmrs() if log.is_ccel else [log.replay(bank) for bank in log.banks]


def parse_evidence(data: bytes) -> object:
    """Also compares it: whatever is recognised has an explanation, or a clear error."""
    seen = evidence.parse(data, "f")
    found = explain.explain(seen, REPORT, "m", explain.Clues())
    return explain.render(found.differences)


QUOTE = b"\4\0\2\0\x81".ljust(800, b"\0")
SNP_REPORT = b"\3".ljust(1184, b"\0")


def evidence_of_a_role(platform: str, report: bytes, log: bytes) -> bytes:
    fields = {"platform": platform, "report": report, "endorsements": [], "event_log": log}
    return cbor2.dumps({**fields, "gpus": []}, canonical=True)


def vtpm_evidence() -> bytes:
    report = {"quote": b"q", "signature": b"s", "pcrs": {"0": bytes(32), "11": bytes(32)}}
    log = builders.log([(4, 4, bytes(4)), (11, 0x0D, b"text")])
    return evidence_of_a_role("vtpm", cbor2.dumps(report, canonical=True), log)


def tdx_evidence() -> bytes:
    log = builders.log_header([(0x0C, 48)])
    for register, text in ((1, b"hob"), (2, b"\0\0\0\0"), (3, b".linux\0")):
        log += struct.pack("<IIIH", register, 0x0D, 1, 0x0C) + bytes(48)
        log += struct.pack("<I", len(text)) + text
    return evidence_of_a_role("tdx", QUOTE, log)


def ccel_table() -> bytes:
    data = struct.pack("<4sIBB26sBBHQQ", b"CCEL", 56, 1, 0, b"OEM", 2, 0, 0, 65536, 1 << 31)
    return data[:9] + bytes([-sum(data) & 0xFF]) + data[10:]


def bzimage() -> bytes:
    data = bytearray(builders.pe([(".a", bytes(0x400))]))
    data[0x202:0x206] = b"HdrS"
    data[0x22C:0x230] = b"\xff\xff\xff\x7f"
    return bytes(data)


def parse_disk(data: bytes) -> object:
    parsed = image.parse(data, "f")
    verity.check_layers(data, parsed, "f")
    return parsed


def parse_layers(data: bytes) -> object:
    return image.parse_layers(data.decode("latin-1"), "f")


def measurements() -> bytes:
    disk, code = builders.bootable_disk(), builders.firmware()
    parsed = image.parse(disk, "d")
    prediction = pcr.Prediction(shapes.OVMF_DISK, ())
    return report.encode(
        report.build(
            "n", {"disk": disk, "firmware": code}, parsed, report.Predictions([prediction])
        )
    )


REPORT = platforms.measurements()
PARSERS: dict[str, tuple[Parser, bytes]] = {
    "pe": (parse_pe, builders.pe([(".a", b"A" * 9)], certificate=b"C" * 8)),
    "uki": (parse_uki, builders.uki()),
    "gpt": (lambda data: gpt.parse(data, "f"), builders.disk([("p", gpt.ESP_TYPE, b"1")])),
    "fat12": (parse_fat, builders.fat({"D/A": b"x" * 600, "B": b"y"}, bits=12)),
    "fat16": (parse_fat, builders.fat({"D/A": b"x" * 600, "B": b"y"}, bits=16)),
    "firmware": (lambda data: firmware.measure(data, "f"), builders.firmware()),
    "eventlog": (parse_log, builders.log([(4, 0x80000001, b"x" * 40), (9, 6, b"tag")])),
    "disk": (parse_disk, builders.bootable_disk()),
    "ccel table": (lambda data: ccel.parse_table(data, "f"), ccel_table()),
    "kernel": (lambda data: direct.rewritten_kernel(data, 1, 1 << 30, "f"), bzimage()),
    "vtpm evidence": (lambda data: evidence.parse(data, "f"), vtpm_evidence()),
    "snp report": (lambda data: evidence.parse(data, "f"), SNP_REPORT),
    "quote": (lambda data: evidence.parse(data, "f"), QUOTE),
    "tdreport": (lambda data: evidence.parse(data, "f"), b"\x81".ljust(1024, b"\0")),
    "report": (lambda data: report.parse(data, "f"), measurements()),
    "layers": (parse_layers, b"confide.layer=a," + b"ab" * 32 + b",1 quiet"),
}
PARSERS |= {
    "explained vtpm": (parse_evidence, vtpm_evidence()),
    "explained tdx": (parse_evidence, tdx_evidence()),
    "explained tdx log": (parse_evidence, cbor2.loads(tdx_evidence())["event_log"]),
    "explained sev-snp": (parse_evidence, evidence_of_a_role("sev-snp", SNP_REPORT, b"")),
}
LIMITS = settings(
    max_examples=60, deadline=5_000, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


def never_crashes(parser: Parser, data: bytes) -> None:
    try:
        parser(data)
    except MeasureError as error:
        assert str(error)


@pytest.mark.parametrize("name", PARSERS)
def test_the_unchanged_input_is_accepted(name: str) -> None:
    parser, valid = PARSERS[name]
    parser(valid)


@pytest.mark.parametrize("name", PARSERS)
def test_random_bytes(name: str) -> None:
    parser, valid = PARSERS[name]

    @LIMITS
    @given(st.binary(max_size=400), st.integers(0, 64))
    def check(data: bytes, prefix: int) -> None:
        never_crashes(parser, valid[:prefix] + data)

    check()


@pytest.mark.parametrize("name", PARSERS)
def test_changed_bytes_and_cuts(name: str) -> None:
    """Changes favour the start, where the headers are."""
    parser, valid = PARSERS[name]
    last = len(valid) - 1
    place = st.integers(0, min(last, 1500)) | st.integers(0, last)
    value = st.sampled_from([b"\0", b"\xff", b"\x01", b"\x80", b"\xff" * 4, bytes(8), b"\x7f" * 8])
    changes = st.lists(st.tuples(place, value | st.binary(min_size=1, max_size=8)), max_size=6)

    @LIMITS
    @given(changes, st.none() | st.integers(0, last))
    def check(edits: list[tuple[int, bytes]], cut: int | None) -> None:
        data = bytearray(valid)
        for offset, new in edits:
            data[offset : offset + len(new)] = new
        never_crashes(parser, bytes(data[:cut]))

    check()


@pytest.mark.parametrize("name", PARSERS)
def test_no_size_in_the_input_decides_about_memory(name: str) -> None:
    """A number near its maximum, wherever it is, makes no parser take memory for it."""
    parser, valid = PARSERS[name]
    most = 4 * len(valid) + (8 << 20)
    slow = len(valid) > 1 << 20 or name.startswith("explained")
    for offset in range(0, min(len(valid), 512), 32 if slow else 4):
        for value in (b"\xff\xff\xff\x7f", b"\0\0\0\x3f"):
            data = valid[:offset] + value + valid[offset + 4 :]
            tracemalloc.start()
            never_crashes(parser, data)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < most, (offset, peak)


@LIMITS
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["image", "files", "layers", "command_line", "platforms", "format"]),
)
def test_any_value_in_a_report(value: object, field: str) -> None:
    changed = json.loads(PARSERS["report"][1])
    changed[field] = value
    never_crashes(PARSERS["report"][0], report.encode(changed))


@LIMITS
@given(st.text(max_size=200), st.text(max_size=200))
def test_command_lines(expected: str, seen: str) -> None:
    found = command_lines("command line", expected, seen)
    assert all(line.isprintable() for line in explain.render(found).splitlines())
