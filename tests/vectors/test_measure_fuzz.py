"""Parsers of measure/ with real inputs, changed: they refuse with their own error, or take it.

Event logs, quotes and reports are recorded ones; the firmware and the images are the flake's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from measure import ccel, eventcheck, eventlog, explain, firmware, image, uki
from measure.errors import MeasureError
from measure.eventtext import summary
from measure.explain import evidence
from tests.support.measurement import samples

LOGS = (
    "go-eventlog/cos-101-amd-sev.bin",
    "go-eventlog/crypto_agile_eventlog",
    "go-eventlog/sb_cert_eventlog",
    "go-eventlog/CCEL_unpadded.data.bin",
    "trustee/eventlog/CCEL_AAEL_alibabacloud",
    "local-vtpm/run-sbdisk.eventlog.bin",
    "local-vtpm/run-direct252.eventlog.bin",
)
REPORTS = (
    "trustee/snp/test-vlek-report.bin",
    "virtee-sev/report_milan.bin",
    "trustee/tdx_quote_4.dat",
    "trustee/tdx_quote_5.dat",
    "guest-components/tdx_report_1.bin",
    "go-eventlog/CCEL.bin",
)
Parser = Callable[[bytes], object]


def parse_log(data: bytes) -> object:
    log = eventlog.parse(data)
    for found in eventcheck.check(log):
        assert str(found).isprintable()
    for event in log.events:
        assert summary(event).isprintable()
    if log.is_ccel:
        return log.rtmrs()
    seen = evidence.VtpmEvidence(log, None)
    return explain.explain(seen, REPORT, "m", explain.Clues())


def parse_report(data: bytes) -> object:
    return ccel.parse_table(data, "f") if data[:4] == b"CCEL" else evidence.parse(data, "f")


REPORT = samples.measurements()


def mutate(parser: Parser, valid: bytes, examples: int, region: int) -> None:
    """Changes, cuts and repetitions; most of them in the first `region` bytes."""
    last = len(valid) - 1
    place = st.integers(0, min(last, region)) | st.integers(0, last)
    value = st.sampled_from([b"\0", b"\xff", b"\x80", b"\xff" * 4, bytes(8), b"\x7f" * 8])
    change = st.tuples(place, value | st.binary(min_size=1, max_size=16))
    copy = st.tuples(place, place, st.integers(1, 400))

    @settings(
        max_examples=examples, deadline=10_000, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(st.lists(change, max_size=5), st.none() | copy, st.none() | st.integers(0, last))
    def check(
        changes: list[tuple[int, bytes]], copied: tuple[int, int, int] | None, cut: int | None
    ) -> None:
        data = bytearray(valid)
        for offset, new in changes:
            data[offset : offset + len(new)] = new
        if copied is not None:
            source, target, size = copied
            data[target:target] = data[source : source + size]
        try:
            parser(bytes(data[:cut]))
        except MeasureError as error:
            assert str(error)

    check()


@pytest.mark.parametrize("name", LOGS)
def test_event_logs(vectors: Path, name: str) -> None:
    valid = (vectors / name).read_bytes()
    parse_log(valid)
    mutate(parse_log, valid, 150, 4096)


@pytest.mark.parametrize("name", REPORTS)
def test_reports_quotes_and_tables(vectors: Path, name: str) -> None:
    valid = (vectors / name).read_bytes()
    parse_report(valid)
    mutate(parse_report, valid, 200, 700)


def test_firmware(firmware_file: bytes) -> None:
    mutate(lambda data: firmware.measure(data, "f"), firmware_file, 25, 400)


@pytest.fixture(scope="module")
def firmware_file(firmware: Path) -> bytes:
    return (firmware / "OVMF_CODE_4M.fd").read_bytes()


@pytest.fixture(scope="module")
def real_uki(images: Path) -> bytes:
    disk = (images / "coordinator/disk.raw").read_bytes()
    return image.parse(disk, "disk").uki_bytes


def test_unified_kernel_image(real_uki: bytes) -> None:
    def parse(data: bytes) -> object:
        parsed = uki.parse(data, "f")
        return parsed.initrd, parsed.image.authenticode(), list(parsed.measured_sections())

    parse(real_uki)
    mutate(parse, real_uki, 60, 1024)
