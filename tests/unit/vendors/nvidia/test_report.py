"""What a GPU signs: its report, and the names and firmware identity read from it, byte by byte."""

from __future__ import annotations

import pytest
from cryptography import x509

from confide.errors import FormatError
from confide.vendors.nvidia.fwid import firmware_identity
from confide.vendors.nvidia.rim import rim_ids
from confide.vendors.nvidia.spdm import MAX_REPORT, Field, Report, request
from tests.support.simulated_gpu import (
    FWID,
    NONCE,
    SimulatedGpu,
    composite_fwid,
    issue,
    tcb_info_fwids,
)


def test_a_report(gpu: SimulatedGpu) -> None:
    data = gpu.report()
    report = Report.parse(data)
    assert report.nonce == NONCE
    assert report.measurements == gpu.measurements
    assert report.opaque == gpu.opaque
    assert report.signed + report.signature == data
    assert data.startswith(request(NONCE))


def test_a_report_ends_where_its_lengths_say(gpu: SimulatedGpu) -> None:
    data = gpu.report()
    report, end = Report.parse_first(data + b"more")
    assert end == len(data)
    assert report == Report.parse(data)
    with pytest.raises(FormatError, match="bytes follow after its end"):
        Report.parse(data + b"\0")


def test_every_truncation_of_a_report(gpu: SimulatedGpu) -> None:
    data = gpu.report()
    for end in range(len(data)):
        with pytest.raises(FormatError):
            Report.parse(data[:end])


@pytest.mark.parametrize("at", [0, 1, 2, 3, 36, 37, 38, 39, 40, 41, 42, 45, 46, 47, 50])
def test_a_changed_header(gpu: SimulatedGpu, at: int) -> None:
    data = bytearray(gpu.report())
    data[at] ^= 1
    with pytest.raises(FormatError):
        Report.parse(bytes(data))


def test_blocks_out_of_order(gpu: SimulatedGpu) -> None:
    data, block = gpu.report(), 4 + 3 + 48
    first = 37 + 8
    swapped = data[first + block : first + 2 * block] + data[first : first + block]
    with pytest.raises(FormatError, match="measurements are not in order"):
        Report.parse(data[:first] + swapped + data[first + 2 * block :])


def test_an_opaque_field_twice(gpu: SimulatedGpu) -> None:
    data = gpu.report().replace(b"\x11\0\x05\x001010", b"\x12\0\x05\x001010")
    with pytest.raises(FormatError, match="an opaque field comes twice"):
        Report.parse(data)


def test_a_report_that_is_too_large() -> None:
    with pytest.raises(FormatError, match="too large"):
        Report.parse(bytes(MAX_REPORT + 1))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nonce_of_another_size(size: int) -> None:
    with pytest.raises(FormatError):
        request(bytes(size))


def opaque(gpu: SimulatedGpu, field: Field, value: bytes | None) -> Report:
    return Report.parse(gpu.with_opaque({field: value}).report())


@pytest.mark.parametrize(
    ("value", "version"),
    [
        (bytes.fromhex("009f009601000000"), "96.00.9F.00.01"),
        (bytes.fromhex("008800970f000000"), "97.00.88.00.0F"),
        (b"96.10.55.00.01", "96.10.55.00.01"),
        (b"96.00.5e.00.01\0", "96.00.5E.00.01"),
    ],
)
def test_vbios_versions(gpu: SimulatedGpu, value: bytes, version: str) -> None:
    assert opaque(gpu, Field.VBIOS_VERSION, value).vbios_version == version


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\0", b"96.10", b"96.10.55.00.01.", b"96/10", bytes(8) + b"1", b"\xff" * 8],
)
def test_vbios_versions_that_are_none(gpu: SimulatedGpu, value: bytes | None) -> None:
    with pytest.raises(FormatError):
        _ = opaque(gpu, Field.VBIOS_VERSION, value).vbios_version


@pytest.mark.parametrize(
    "value", [None, b"", b"\0\0", b"550.1\0x", b"../x", b"5" * 33, b"\xc3\xa9"]
)
def test_texts_that_are_none(gpu: SimulatedGpu, value: bytes | None) -> None:
    report = opaque(gpu, Field.DRIVER_VERSION, value)
    with pytest.raises(FormatError):
        report.text(Field.DRIVER_VERSION)
    with pytest.raises(FormatError):
        rim_ids(report, "GH100")


def test_rim_ids(gpu: SimulatedGpu) -> None:
    report = opaque(gpu, Field.PROJECT, b"g520\0")
    ids = rim_ids(report, "GH100")
    assert ids.driver == "NV_GPU_DRIVER_GH100_550.127.05"
    assert ids.vbios == "NV_GPU_VBIOS_G520_0200_882_96009F0001"
    assert rim_ids(report, "GB100").driver == "NV_GPU_CC_DRIVER_GB100_550.127.05"


def leaf(*extensions: x509.ExtensionType) -> x509.Certificate:
    return issue("leaf", None, ca=False, extensions=extensions).certificate


def test_firmware_identities() -> None:
    assert firmware_identity(leaf(composite_fwid(FWID))).used == (FWID,)
    identity = firmware_identity(leaf(tcb_info_fwids(bytes(48), FWID, bytes(48))))
    assert identity.fwids == (bytes(48), FWID, bytes(48))
    assert identity.used == (FWID,)
    assert identity.states == ()
    all_states = firmware_identity(leaf(tcb_info_fwids(FWID, flags=b"\xff\0\0\1"))).states
    assert all_states == ("not secure", "recovery", "debug")


def test_firmware_identities_that_are_none() -> None:
    good = composite_fwid(FWID)
    oid = good.oid
    for extensions in (
        [],
        [good, tcb_info_fwids(FWID)],
        [composite_fwid(FWID[:-1] + b"")],
        [x509.UnrecognizedExtension(oid, good.value + b"\0")],
        [x509.UnrecognizedExtension(oid, good.value[:-1])],
        [x509.UnrecognizedExtension(oid, FWID)],
        [x509.UnrecognizedExtension(oid, b"")],
        [
            x509.UnrecognizedExtension(
                oid, good.value.replace(b"\x03\x04\x02\x02", b"\x03\x04\x02\x01")
            )
        ],
    ):
        with pytest.raises(FormatError):
            firmware_identity(leaf(*extensions))
